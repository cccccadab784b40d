//! Updates of the status subresource, what controllers and kubelets do most.

use anyhow::Result;
use http::Method;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, group};
use crate::{fill, load, objects};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "update_status",
    about: "Replaces the status of one of 100 Deployments over 16 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let path = group("apps/v1", namespace, "deployments");
    fill::deployments(context, &path).await?;
    let op = load::request(move |number| {
        let name = fill::deployment(number);
        let body = objects::deployment_with_status(&name, number + 1);
        Ask::new(Method::PUT, format!("{path}/{name}/status")).body("application/json", body)
    });
    Ok(vec![load::closed(context, 16, op).await?])
}
