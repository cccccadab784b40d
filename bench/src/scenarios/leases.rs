//! Heartbeats of nodes: each renews its Lease every ten seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use http::Method;

use crate::client::Ask;
use crate::load::{self, Op};
use crate::measure::Case;
use crate::objects;
use crate::scenario::{Context, Scenario, group};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "leases",
    about: "Renews the Leases of 1,000, 10,000 and 100,000 nodes, each once in ten seconds, over 64 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

/// Renewals a second, however few nodes there are: fewer would measure nothing.
const LEAST: f64 = 50.0;

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let path = group("coordination.k8s.io/v1", namespace, "leases");
    let mut cases = vec![];
    // The version each lease has, as a node would know it.
    let versions: Arc<Vec<AtomicU64>> = Arc::new((0..context.scaled(100_000)).map(|_| AtomicU64::new(0)).collect());
    let mut made = 0;
    for nodes in [1_000, 10_000, 100_000].map(|nodes| context.scaled(nodes)) {
        let from = made;
        let create = write(Method::POST, path.clone(), Arc::clone(&versions), move |number| (number + from, false));
        if nodes > made {
            load::all(context, 64, nodes - made, create).await?;
            made = nodes;
        }
        let renew = write(Method::PUT, path.clone(), Arc::clone(&versions), move |number| (number % nodes, true));
        let mut case = load::open(context, 64, (nodes as f64 / 10.0).max(LEAST), renew).await?;
        case.name = format!("{nodes} nodes");
        cases.push(case);
    }
    Ok(cases)
}

/// Writes the lease that `which` says, at its path or into the collection, and keeps the version that comes back.
fn write(
    method: Method,
    path: String,
    versions: Arc<Vec<AtomicU64>>,
    which: impl Fn(u64) -> (u64, bool) + Send + Sync + 'static,
) -> Op {
    Arc::new(move |connection, number| {
        let (node, named) = which(number);
        let path = if named { format!("{path}/node-{node}") } else { path.clone() };
        let (method, versions) = (method.clone(), Arc::clone(&versions));
        Box::pin(async move {
            let version = usize::try_from(node).ok().and_then(|node| versions.get(node)).context("no such node")?;
            let body = objects::lease(&format!("node-{node}"), number, version.load(Ordering::Relaxed));
            let answer =
                connection.ask(&Ask::new(method, path).body("application/json", body)).await?.into_ok().await?;
            let now = load::text_of(&answer, "resourceVersion").context("a lease has no version")?;
            version.store(now.parse()?, Ordering::Relaxed);
            Ok(answer.len() as u64)
        })
    })
}
