//! What clients that stop reading do to the others.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::{Ask, Connection};
use crate::load::{self, plural};
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::watching::{Clock, Watchers};
use crate::{objects, usage};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "watch_stalled",
    about: "100 watchers see 500 creates a second, first alone, then beside 500 that never read what they are sent.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (readers, rate) = (context.scaled(100), context.scaled(500).max(50) as f64);
    let mut cases = vec![];
    for stalled in [0, context.scaled(500)] {
        let (path, clock) = (core(namespace, "configmaps"), Clock::start());
        let query = format!("{path}?watch=true&timeoutSeconds=600");
        let watching = Watchers::start(context, usize::try_from(readers)?, &query, clock).await?;
        let mut stuck = vec![];
        for mut connection in Connection::open_for(&context.target, context.http, usize::try_from(stalled)?).await? {
            let answer = connection.ask(&Ask::get(&query)).await?.into_stream().await?;
            stuck.push((connection, answer));
        }
        watching.count();
        let (begun, begin) = (usage::begin(&context.pids)?, Instant::now());
        let op = {
            let path = path.clone();
            load::request(move |number| Ask::post(&path, objects::config_map(&clock.name(number), number)))
        };
        load::open(context, 16, rate, op).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (time, used) = (begin.elapsed(), begun.map(|begun| begun.end()).transpose()?);
        let name = format!("{}, {} stalled", plural(usize::try_from(readers)?, "watcher"), stuck.len());
        cases.push(watching.end().await?.into_case(name, "events", time, used));
        drop(stuck);
    }
    Ok(cases)
}
