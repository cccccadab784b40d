//! What watches cost that nothing happens to.

use std::time::Instant;

use anyhow::Result;

use crate::load::{self, plural};
use crate::measure::{Case, Tally};
use crate::scenario::{Context, Scenario, core};
use crate::usage;
use crate::watching::{Clock, Watchers};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "watch_idle",
    about: "Opens 10,000 watches of a collection in which nothing happens: memory before and with them, and how many begin a second.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (count, path) = (context.scaled(10_000), core(namespace, "configmaps"));
    let mut cases = vec![load::rest(context, "before").await?];
    let (begun, begin) = (usage::begin(&context.pids)?, Instant::now());
    let query = format!("{path}?watch=true&timeoutSeconds=600");
    let watching = Watchers::start(context, usize::try_from(count)?, &query, Clock::start()).await?;
    let mut tally = Tally::default();
    let each = begin.elapsed().div_f64(count as f64);
    (0..count).for_each(|_| tally.done(each, 0));
    cases.push(tally.into_case(
        plural(usize::try_from(count)?, "watch begun"),
        "requests",
        begin.elapsed(),
        begun.map(|begun| begun.end()).transpose()?,
    ));
    cases.push(load::rest(context, "with them").await?);
    watching.end().await?;
    Ok(cases)
}
