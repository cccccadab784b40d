//! How fast a list comes, beside a document of the same size that the server only has to send.

use anyhow::{Result, ensure};

use crate::client::Ask;
use crate::fill;
use crate::load::{self, plural};
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "list_bandwidth",
    about: "Reads the OpenAPI document of every version and lists of ConfigMaps of the same size in turn, over 1 and 4 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

/// The largest document that every server has ready as bytes.
const DOCUMENT: &str = "/openapi/v2";
/// ConfigMaps by which the size of one in a list is estimated.
const SAMPLE: u64 = 100;

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let path = core(namespace, "configmaps");
    let document = length(context, &Ask::get(DOCUMENT)).await?;
    fill::config_maps(context, &path, 0..SAMPLE).await?;
    let list = Ask::get(&path).accept(context.encoding.media_type());
    let count = document * SAMPLE / length(context, &list).await?.max(1);
    fill::config_maps(context, &path, SAMPLE..count).await?;
    let listed = length(context, &list).await?;
    ensure!(listed.abs_diff(document) < document / 10, "a list of {listed} bytes is not like {document}");
    let mut cases = vec![];
    for connections in [1, 4] {
        for (what, ask) in [("document", Ask::get(DOCUMENT)), ("list", list.clone())] {
            let mut case = load::closed(context, connections, load::request(move |_| ask.clone())).await?;
            case.name = format!("{what} of {} KiB, {}", document / 1024, plural(connections, "connection"));
            cases.push(case);
        }
    }
    Ok(cases)
}

async fn length(context: &Context, ask: &Ask) -> Result<u64> {
    context.connect().await?.ask(ask).await?.into_length().await
}
