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

/// Creates that watchers may be behind: beyond about a hundred upstream's server ends its watches, and much that waits in sockets measures how
/// fast memory is.
const AHEAD: u64 = 32;

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let watchers = context.scaled(1_000);
    let (path, clock) = (core(namespace, "configmaps"), Clock::start());
    let watching =
        Watchers::start(context, watchers as usize, &format!("{path}?watch=true&timeoutSeconds=600"), clock).await?;
    watching.count();
    let begun = usage::begin(&context.pids)?;
    let (begin, created) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let end = begin + context.time;
    let creates = Creates { path, clock, end, watchers, created: Arc::clone(&created), seen: watching.seen() };
    let (target, http) = (context.target.clone(), context.http);
    // On a thread of their own: behind a thousand readers of the same runtime, creates would wait for the load and not for the server.
    let writing = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let writers = Connection::open_for(&target, http, 4).await?.into_iter();
            futures::future::try_join_all(writers.map(|connection| creates.run(connection))).await.map(drop)
        })
    });
    writing.await??;
    watching.settle(created.load(Ordering::Relaxed) * watchers, Duration::from_secs(10)).await;
    let (time, used) = (begin.elapsed(), begun.map(|begun| begun.end()).transpose()?);
    let mut case = watching.end().await?.into_case(plural(watchers as usize, "watcher"), "events", time, used);
    case.failures = (created.load(Ordering::Relaxed) * watchers).saturating_sub(case.count);
    if case.failures > 0 {
        case.failure = Some("events did not arrive".to_owned());
    }
    Ok(vec![case])
}

/// What creates, and for how long.
struct Creates {
    path: String,
    clock: Clock,
    end: Instant,
    watchers: u64,
    created: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
}

impl Creates {
    async fn run(&self, mut connection: Connection) -> Result<()> {
        while Instant::now() < self.end {
            if self.created.load(Ordering::Relaxed) > self.seen.load(Ordering::Relaxed) / self.watchers + AHEAD {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            let number = self.created.fetch_add(1, Ordering::Relaxed);
            let ask = Ask::post(&self.path, objects::config_map(&self.clock.name(number), number));
            connection.ask(&ask).await?.into_length().await?;
        }
        Ok(())
    }
}
