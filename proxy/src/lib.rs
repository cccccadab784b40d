//! The service proxy of one node: brings what goes to the addresses and ports of Services to their endpoints, by nftables.
//!
//! [`plan`] and [`rules`] are pure; around them two watches and one loop. It talks to the API and to the kernel only, carries no packet
//! itself, and may stop at any time: rules and connections stay.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube_runtime::reflector::Store;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub mod flows;
pub mod follow;
pub mod metrics;
pub mod nft;
pub mod plan;
pub mod rules;

use follow::follow;
use metrics::{Changes, Metrics};
use plan::{Family, Place, ServicePort};
use rules::{Options, Table};

/// Settings of a proxy.
#[derive(Clone)]
pub struct Config {
    /// Client of the API server as `system:kube-proxy`.
    pub client: Client,
    /// Which endpoints are near.
    pub place: Place,
    /// Table, addresses and blocks.
    pub options: Options,
    /// What is told of the work.
    pub metrics: Metrics,
}

/// Least time between two changes of the rules.
const INTERVAL: Duration = Duration::from_millis(200);
/// Between two looks whether the rules are still there: others flush what is not theirs.
const LOOK: Duration = Duration::from_secs(30);
/// Longest wait after a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the kernel was last told.
#[derive(Default)]
struct Told {
    ports: Vec<ServicePort>,
    /// Absent when what is there is not known.
    v4: Option<Table>,
    v6: Option<Table>,
}

/// Keeps the rules as the Services ask until `stop`.
pub async fn run(mut config: Config, stop: CancellationToken) {
    if !nft::show_bridged().await {
        config.options.masquerade_all = true;
    }
    let changed = Arc::new(Notify::new());
    let mut tasks = tokio::task::JoinSet::new();
    let services: Store<Service> = follow(&mut tasks, &config.client, &changed, &stop);
    let slices: Store<EndpointSlice> = follow(&mut tasks, &config.client, &changed, &stop);
    let listed = async { services.wait_until_ready().await.is_ok() && slices.wait_until_ready().await.is_ok() };
    let listed = tokio::select! {
        () = stop.cancelled() => false,
        listed = listed => listed,
    };
    let mut told = Told::default();
    let mut changes = Changes::new(jiff::Timestamp::now());
    let mut failures = 0_u32;
    while listed && !stop.is_cancelled() {
        let begun = Instant::now();
        let slices = slices.state();
        let ports = plan::plan(&services.state(), &slices, &config.place);
        let wait = match sync(&mut told, ports, &config).await {
            Ok(()) => {
                changes.done(&slices, jiff::Timestamp::now(), &config.metrics);
                failures = 0;
                INTERVAL
            }
            Err(error) => {
                let wait = (INTERVAL * 2_u32.pow(failures)).min(PATIENCE);
                failures = (failures + 1).min(10);
                tracing::warn!(%error, ?wait, "the rules of Services are not in place");
                changed.notify_one();
                wait
            }
        };
        let next = async {
            tokio::time::sleep_until(begun + wait).await;
            if timeout(LOOK, changed.notified()).await.is_err() {
                look(&mut told, &config.options.table).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = next => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Brings the kernel from what it was told to this plan.
async fn sync(told: &mut Told, ports: Vec<ServicePort>, config: &Config) -> Result<(), nft::Error> {
    let Config { options, metrics, .. } = config;
    let table = &options.table;
    for family in [Family::V4, Family::V6] {
        let held = if family == Family::V4 { &mut told.v4 } else { &mut told.v6 };
        // Without a Service of the family there need be no table: the kernel may lack the family.
        let wanted = family == Family::V4 || ports.iter().any(|port| Family::of(&port.cluster_ip) == family);
        if !wanted && held.is_none() {
            continue;
        }
        let begun = Instant::now();
        let new = rules::table(&ports, family, options);
        let old = held.take();
        let script = match &old {
            Some(old) => rules::changes(family, table, old, &new),
            None => rules::whole(family, table, &new),
        };
        let applied = nft::apply(&script).await;
        metrics.synced(family, old.is_none(), begun.elapsed(), applied.is_ok());
        applied?;
        metrics.in_place(&ports, family);
        *held = Some(new);
    }
    nft::forget(flows::stale(&told.ports, &ports)).await;
    told.ports = ports;
    Ok(())
}

/// Forgets what the kernel was told when it is no longer there.
async fn look(told: &mut Told, table: &str) {
    for (family, held) in [(Family::V4, &mut told.v4), (Family::V6, &mut told.v6)] {
        if held.is_some() && !nft::is_there(family, table).await {
            tracing::warn!(table, "somebody removed the rules of Services; they are made again");
            *held = None;
        }
    }
}
