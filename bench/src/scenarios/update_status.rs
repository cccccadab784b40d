//! Updates of the status subresource, what controllers and kubelets do most.

use anyhow::Result;
use http::Method;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, group};
use crate::{load, objects};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "update_status",
    about: "Replaces the status of one of 100 Deployments over 16 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let path = group("apps/v1", namespace, "deployments");
    deployments(context, &path).await?;
    let op = load::request(move |number| {
        let name = name(number);
        let body = objects::deployment_with_status(&name, number + 1);
        Ask::new(Method::PUT, format!("{path}/{name}/status")).body("application/json", body)
    });
    Ok(vec![load::closed(context, 16, op).await?])
}

/// How many Deployments the scenarios that change them make.
pub(super) const DEPLOYMENTS: u64 = 100;

/// The Deployment whose turn it is.
pub(super) fn name(number: u64) -> String {
    format!("of-{}", number % DEPLOYMENTS)
}

/// Makes [`DEPLOYMENTS`] of them.
pub(super) async fn deployments(context: &Context, path: &str) -> Result<()> {
    let path = path.to_owned();
    let op = load::request(move |number| Ask::post(&path, objects::deployment(&name(number), 0)));
    load::all(context, 16, DEPLOYMENTS, op).await?;
    Ok(())
}
