//! A cluster's pods: what they cost in memory, and to list.

use std::time::Duration;

use anyhow::Result;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::{fill, load};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "pods",
    about: "Creates 10,000 pods of 4.5 KB on 100 nodes that nobody runs, and lists them: all, and those of one node.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (path, count) = (core(namespace, "pods"), context.scaled(10_000));
    let mut cases = vec![load::rest(context, "before").await?];
    let mut made = load::all(context, 16, count, fill::pod(&path)).await?;
    made.name = format!("create {count}");
    cases.push(made);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (what, query) in [("list all", ""), ("list one node's", "?fieldSelector=spec.nodeName%3Dnode-7")] {
        let (path, media_type) = (format!("{path}{query}"), context.encoding.media_type());
        let op = load::request(move |_| Ask::get(&path).accept(media_type));
        let mut case = load::closed(context, 1, op).await?;
        what.clone_into(&mut case.name);
        cases.push(case);
    }
    Ok(cases)
}
