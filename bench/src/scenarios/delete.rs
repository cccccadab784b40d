//! Deletes of single objects.

use anyhow::Result;
use http::Method;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::{fill, load};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "delete",
    about: "Deletes 10,000 ConfigMaps one by one over 16 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (path, count) = (core(namespace, "configmaps"), context.scaled(10_000));
    fill::config_maps(context, &path, 0..count).await?;
    let op = load::request(move |number| Ask::new(Method::DELETE, format!("{path}/of-{number}")));
    Ok(vec![load::all(context, 16, count, op).await?])
}
