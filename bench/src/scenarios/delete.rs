//! Deletes of single objects.

use anyhow::Result;
use http::Method;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::{load, objects};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "delete",
    about: "Deletes 10,000 ConfigMaps one by one over 16 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (path, count) = (core(namespace, "configmaps"), context.scaled(10_000));
    config_maps(context, &path, count).await?;
    let op = load::request(move |number| Ask::new(Method::DELETE, format!("{path}/of-{number}")));
    Ok(vec![load::all(context, 16, count, op).await?])
}

/// Makes ConfigMaps `of-0` and so on.
pub(super) async fn config_maps(context: &Context, path: &str, count: u64) -> Result<()> {
    let path = path.to_owned();
    let op = load::request(move |number| Ask::post(&path, objects::config_map(&format!("of-{number}"), number)));
    load::all(context, 16, count, op).await?;
    Ok(())
}
