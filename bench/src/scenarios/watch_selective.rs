//! Watchers that each want little of what changes, as kubelets do.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Ask;
use crate::load::{self, plural};
use crate::measure::{Case, Tally};
use crate::scenario::{Context, Scenario, core};
use crate::watching::{Clock, Watchers};
use crate::{objects, usage};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "watch_selective",
    about: "1,000 watchers, each of one in 100 ConfigMaps by label, while 5,000 a second are created; latency counts from the request to the event.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

const GROUPS: u64 = 100;

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (watchers, rate) = (context.scaled(1_000), context.scaled(5_000) as f64);
    let (path, clock) = (core(namespace, "configmaps"), Clock::start());
    let mut watching = vec![];
    for group in 0..GROUPS.min(watchers) {
        let query = format!("{path}?watch=true&timeoutSeconds=600&labelSelector=group%3Dgroup-{group}");
        watching.push(Watchers::start(context, (watchers / GROUPS).max(1) as usize, &query, clock).await?);
    }
    for some in &watching {
        some.count();
    }
    let (begun, begin) = (usage::begin(&context.pids)?, Instant::now());
    let op = load::request(move |number| Ask::post(&path, objects::config_map(&clock.name(number), number)));
    let mut created = load::open(context, 64, rate, op).await?;
    created.name = format!("creates, {}", created.name);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (time, used) = (begin.elapsed(), begun.map(|begun| begun.end()).transpose()?);
    let mut tally = Tally::default();
    for some in watching {
        tally.add(&some.end().await?);
    }
    Ok(vec![created, tally.into_case(plural(watchers as usize, "watcher"), "events", time, used)])
}
