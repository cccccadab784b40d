//! How many events a second a server hands to many watchers of one collection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::{Ask, Connection};
use crate::load::plural;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::watching::{Clock, Watchers};
use crate::{objects, usage};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "watch_fan_out",
    about: "Creates ConfigMaps over 4 connections as fast as it can while 1,000 watchers follow all of them, until all have everything.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

/// Creates that watchers may be behind: without a bound a server that creates fast would have to drop its watchers.
const AHEAD: u64 = 500;

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let watchers = context.scaled(1_000);
    let (path, clock) = (core(namespace, "configmaps"), Clock::start());
    let watching =
        Watchers::start(context, watchers as usize, &format!("{path}?watch=true&timeoutSeconds=600"), clock).await?;
    watching.count();
    let begun = usage::begin(&context.pids)?;
    let (begin, created) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let end = begin + context.time;
    let seen = watching.seen();
    let writing = Connection::open_for(&context.target, context.http, 4).await?.into_iter().map(|mut connection| {
        let (path, created, seen) = (path.clone(), Arc::clone(&created), Arc::clone(&seen));
        tokio::spawn(async move {
            while Instant::now() < end {
                if created.load(Ordering::Relaxed) > seen.load(Ordering::Relaxed) / watchers + AHEAD {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                let number = created.fetch_add(1, Ordering::Relaxed);
                let ask = Ask::post(&path, objects::config_map(&clock.name(number), number));
                connection.ask(&ask).await?.into_length().await?;
            }
            Ok::<_, anyhow::Error>(())
        })
    });
    for writer in writing.collect::<Vec<_>>() {
        writer.await??;
    }
    watching.settle(created.load(Ordering::Relaxed) * watchers, Duration::from_secs(10)).await;
    let (time, used) = (begin.elapsed(), begun.map(|begun| begun.end()).transpose()?);
    let mut case = watching.end().await?.into_case(plural(watchers as usize, "watcher"), "events", time, used);
    case.failures = (created.load(Ordering::Relaxed) * watchers).saturating_sub(case.count);
    if case.failures > 0 {
        case.failure = Some("events did not arrive".to_owned());
    }
    Ok(vec![case])
}
