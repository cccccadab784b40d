//! Reads ConfigMaps of 1 KiB, one at a time.

use anyhow::Result;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::{fill, load};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "get",
    about: "Reads one of 1,000 ConfigMaps over 1 and 16 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (path, count, media_type) =
        (core(namespace, "configmaps"), context.scaled(1_000), context.encoding.media_type());
    fill::config_maps(context, &path, 0..count).await?;
    let mut cases = vec![];
    for workers in [1, 16] {
        let path = path.clone();
        let op = load::request(move |number| Ask::get(format!("{path}/of-{}", number % count)).accept(media_type));
        cases.push(load::closed(context, workers, op).await?);
    }
    Ok(cases)
}
