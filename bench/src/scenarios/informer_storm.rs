//! What happens when every client of a cluster begins at once.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::future::join_all;
use http_body_util::BodyExt as _;

use crate::client::{Ask, Connection};
use crate::load::plural;
use crate::measure::{Case, Tally};
use crate::scenario::{Context, Scenario, core};
use crate::watching::Lines;
use crate::{fill, usage};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "informer_storm",
    about: "1,000 clients at once ask for 1,000 ConfigMaps as a streaming list; latency counts to the bookmark behind the last object.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

/// What the bookmark behind the initial events carries.
const END: &[u8] = b"k8s.io/initial-events-end";

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (path, clients) = (core(namespace, "configmaps"), context.scaled(1_000) as usize);
    fill::config_maps(context, &path, 0..1_000).await?;
    let ask = list_of(&path);
    let connections = Connection::open_for(&context.target, context.http, clients).await?;
    let (begun, begin) = (usage::begin(&context.pids)?, Instant::now());
    let clients = connections.into_iter().map(|connection| tokio::spawn(list(connection, ask.clone(), begin)));
    let clients: Vec<_> = clients.collect();
    let count = clients.len();
    let mut tally = Tally::default();
    for listed in join_all(clients).await {
        match listed? {
            Ok(bytes) => tally.done(bytes.1, bytes.0),
            Err(error) => tally.failed(&error),
        }
    }
    let used = begun.map(|begun| begun.end()).transpose()?;
    Ok(vec![tally.into_case(plural(count, "client"), "lists", begin.elapsed(), used)])
}

/// A streaming list of a collection, from the beginning.
pub(super) fn list_of(path: &str) -> Ask {
    let query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=600";
    Ask::get(format!("{path}?{query}"))
}

/// Reads up to the bookmark: how many bytes came, and how long after `begin`.
async fn list(mut connection: Connection, ask: Ask, begin: Instant) -> Result<(u64, std::time::Duration)> {
    let mut body = connection.ask(&ask).await?.into_stream().await?;
    let (mut lines, mut bytes, mut ended) = (Lines::default(), 0, false);
    while !ended {
        let frame = body.frame().await.context("the stream ended before the list did")??;
        let Some(data) = frame.data_ref() else { continue };
        bytes += data.len() as u64;
        lines.push(data, |line| {
            ended |= line.starts_with(b"{\"type\":\"BOOKMARK\"") && line.windows(END.len()).any(|w| w == END);
        });
    }
    Ok((bytes, begin.elapsed()))
}
