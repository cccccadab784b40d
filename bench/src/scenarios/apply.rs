//! Server-side apply.

use anyhow::Result;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, group};
use crate::{fill, load, objects};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "apply",
    about: "Applies one of 100 Deployments with one value changed, over 16 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let path = group("apps/v1", namespace, "deployments");
    let op = load::request(move |number| {
        let name = fill::deployment(number);
        let path = format!("{path}/{name}?fieldManager=bench&force=true");
        Ask::patch(path, "application/apply-patch+yaml", objects::deployment(&name, number))
    });
    Ok(vec![load::closed(context, 16, op).await?])
}
