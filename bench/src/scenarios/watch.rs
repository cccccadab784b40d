//! How long after a create its event arrives, at a rate that keeps nobody busy.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::Ask;
use crate::load::plural;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::watching::{Clock, Watchers};
use crate::{objects, usage};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "watch",
    about: "Creates a ConfigMap now and then, seen by 1, 100, 1,000 and 10,000 watchers; latency counts from the request to the event.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

/// Creates, and the pause between them for each thousand watchers. One in a hundred is one create, so p99 is the latency of the slowest: what the disk makes of it is in it.
const CREATES: u64 = 100;
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_PER_THOUSAND: Duration = Duration::from_millis(100);

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let mut cases = vec![];
    for watchers in [1, 100, 1_000, 10_000].map(|count| context.scaled(count)) {
        let path = core(namespace, "configmaps");
        let clock = Clock::start();
        let watching =
            Watchers::start(context, watchers as usize, &format!("{path}?watch=true&timeoutSeconds=600"), clock)
                .await?;
        watching.count();
        let begun = usage::begin(&context.pids)?;
        let (begin, mut connection) = (Instant::now(), context.connect().await?);
        for number in 0..CREATES {
            let ask = Ask::post(&path, objects::config_map(&clock.name(number), number));
            connection.ask(&ask).await?.into_length().await?;
            tokio::time::sleep(PAUSE + PAUSE_PER_THOUSAND.mul_f64(watchers as f64 / 1000.0)).await;
        }
        watching.settle(CREATES * watchers, Duration::from_secs(5)).await;
        let (time, used) = (begin.elapsed(), begun.map(|begun| begun.end()).transpose()?);
        let tally = watching.end().await?;
        let seen = tally.count();
        ensure!(seen == CREATES * watchers, "{seen} of {} events arrived", CREATES * watchers);
        cases.push(tally.into_case(plural(watchers as usize, "watcher"), "events", time, used));
    }
    Ok(cases)
}
