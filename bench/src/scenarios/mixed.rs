//! The traffic of a cluster whose nodes do nothing else: heartbeats, pod status, reads, lists of one node, pods that come and go.

use std::time::Duration;

use anyhow::Result;
use http::Method;

use crate::client::Ask;
use crate::load::{self, Op};
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core, group};
use crate::watching::{Clock, Watchers};
use crate::{fill, objects};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "mixed",
    about: "500 requests a second of a hundred nodes that watch their pods: heartbeats, status, reads, lists, pods created and deleted.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

const NODES: u64 = 100;
const PODS: u64 = 1_000;

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (pods, leases) = (core(namespace, "pods"), group("coordination.k8s.io/v1", namespace, "leases"));
    load::all(context, 16, PODS, fill::pod(&pods)).await?;
    fill::leases(context, &leases, 0..NODES).await?;
    let (clock, mut watching) = (Clock::start(), vec![]);
    for node in 0..NODES {
        let query = format!("{pods}?watch=true&timeoutSeconds=600&fieldSelector=spec.nodeName%3Dnode-{node}");
        watching.push(Watchers::start(context, 1, &query, clock).await?);
    }
    let case = load::open(context, 32, 500.0, traffic(pods, leases)).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for watcher in watching {
        watcher.end().await?;
    }
    Ok(vec![case])
}

/// Of twenty requests: eight heartbeats, four of status, three reads, one list, four pods that come and go.
fn traffic(pods: String, leases: String) -> Op {
    const MERGE: &str = "application/merge-patch+json";
    std::sync::Arc::new(move |connection, number| {
        let (pods, leases) = (pods.clone(), leases.clone());
        Box::pin(async move {
            let pod = format!("{pods}/of-{}", number % PODS);
            let ask = match number % 20 {
                0..8 => {
                    let body =
                        format!(r#"{{"spec":{{"renewTime":"2026-01-01T00:00:00.{:06}Z"}}}}"#, number % 1_000_000);
                    Ask::patch(format!("{leases}/node-{}", number % NODES), MERGE, body)
                }
                8..12 => {
                    Ask::patch(format!("{pod}/status"), MERGE, format!(r#"{{"status":{{"message":"turn {number}"}}}}"#))
                }
                12..15 => Ask::get(pod),
                15 => Ask::get(format!("{pods}?fieldSelector=spec.nodeName%3Dnode-{}", number % NODES)),
                _ => {
                    let name = format!("short-{number}");
                    let made =
                        connection.ask(&Ask::post(&pods, objects::pod(&name, number))).await?.into_length().await?;
                    let gone = Ask::new(Method::DELETE, format!("{pods}/{name}?gracePeriodSeconds=0"));
                    return Ok(made + connection.ask(&gone).await?.into_length().await?);
                }
            };
            connection.ask(&ask).await?.into_length().await
        })
    })
}
