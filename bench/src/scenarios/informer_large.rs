//! What a server needs in memory while very many clients read very much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use http_body_util::BodyExt as _;

use super::informer_storm::list_of;
use crate::client::Connection;
use crate::load::{self, plural};
use crate::measure::{Case, Tally};
use crate::scenario::{Context, Scenario, core};
use crate::{fill, usage};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "informer_large",
    about: "1,024 clients at once begin streaming lists of 40,000 ConfigMaps of 10 KiB: memory with the set alone, and while they read it.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let path = core(namespace, "configmaps");
    let set = context.scaled(40_000);
    fill::large_config_maps(context, &path, 0..set).await?;
    let mut cases = vec![load::rest(context, &format!("{set} objects, nobody reads")).await?];
    let clients = context.scaled(1_024) as usize;
    let connections = Connection::open_for(&context.target, context.http, clients).await?;
    let (begun, begin, end) = (usage::begin(&context.pids)?, Instant::now(), Instant::now() + context.time);
    let read = Arc::new(AtomicU64::new(0));
    let clients = connections.into_iter().map(|mut connection| {
        let (ask, read) = (list_of(&path), Arc::clone(&read));
        tokio::spawn(async move {
            let began = Instant::now();
            let mut body = connection.ask(&ask).await?.into_stream().await?;
            let first = began.elapsed();
            while let Ok(Some(frame)) = tokio::time::timeout_at(end.into(), body.frame()).await {
                read.fetch_add(frame?.data_ref().map_or(0, |data| data.len() as u64), Ordering::Relaxed);
            }
            anyhow::Ok(first)
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut tally = Tally::default();
    let name = plural(clients.len(), "client");
    for client in clients {
        match client.await? {
            Ok(first) => tally.done(first, 0),
            Err(error) => tally.failed(&error),
        }
    }
    let used = begun.map(|begun| begun.end()).transpose()?;
    tally.bytes(read.load(Ordering::Relaxed));
    cases.push(tally.into_case(name, "lists begun", begin.elapsed(), used));
    Ok(cases)
}
