//! `ironkeel proxy`: the service proxy from upstream's flags and a KubeProxyConfiguration.

use super::connection::{self, Connection};
use super::delegated::Guard;
use super::listen::Secured;
use super::settings::Settings;
use super::table::Component;
use super::trust::{Given, Trust};
use super::{host_name, listen};
use crate::cluster::{self, outward_address};
use crate::pki::self_signed;
use anyhow::Context as _;
use apiserver::transport::TlsOptions;
use http::StatusCode;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kubelet::delegated::Reviews;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const COMPONENT: Component = Component {
    name: "proxy",
    upstream: "kube-proxy",
    table: include_str!("../../flags/proxy.txt"),
    document: Some((&["kubeproxy.config.k8s.io/v1alpha1"], "KubeProxyConfiguration")),
    file_alone: true,
};

const AGENT: &str = "kube-proxy/v1.36";
/// The nftables table of a proxy that is not part of `up`.
const TABLE: &str = "ironkeel_proxy";
/// How long the Node may stay unregistered before the proxy goes on without it.
const PATIENCE: Duration = Duration::from_secs(30);

struct Wanted {
    node: String,
    kubeconfig: PathBuf,
    master: String,
    bind: Option<IpAddr>,
    pod_cidrs: Vec<String>,
    masquerade_all: bool,
    healthz: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    cleanup: bool,
}

fn wanted(settings: &Settings) -> anyhow::Result<Wanted> {
    let socket = |key: &str| -> anyhow::Result<Option<SocketAddr>> {
        let text = settings.text(key);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).with_context(|| format!("--{key}: {text:?} is not address:port"))
    };
    let bind = settings.ip("bind-address")?.filter(|address| !address.is_unspecified());
    let local = settings.text("detect-local-mode");
    let cluster = settings.text("cluster-cidr");
    let pod_cidrs = match local.as_str() {
        "" | "ClusterCIDR" => cluster.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect(),
        // The Node says it.
        "NodeCIDR" => Vec::new(),
        other => anyhow::bail!("--detect-local-mode: {other:?} is not ClusterCIDR or NodeCIDR"),
    };
    Ok(Wanted {
        node: host_name(&settings.text("hostname-override")),
        kubeconfig: settings
            .path("kubeconfig")
            .context("--kubeconfig is missing, or clientConnection.kubeconfig in --config")?,
        master: settings.text("master"),
        bind,
        pod_cidrs,
        masquerade_all: settings.bool("masquerade-all") || settings.bool("nftables.masqueradeAll"),
        healthz: socket("healthz-bind-address")?,
        metrics: socket("metrics-bind-address")?,
        cleanup: settings.bool("cleanup"),
    })
}

/// The node's zone, addresses and pod ranges, as the API has them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    zone: String,
    addresses: Vec<IpAddr>,
    pod_cidrs: Vec<String>,
}

fn seen(node: Node) -> Seen {
    let spec = node.spec.unwrap_or_default();
    let one = spec.pod_cidr.into_iter().collect();
    let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
    let of = |kind: &str| -> Vec<IpAddr> {
        addresses.iter().filter(|item| item.type_ == kind).filter_map(|item| item.address.parse().ok()).collect()
    };
    let mut all = of("InternalIP");
    all.extend(of("ExternalIP"));
    Seen {
        zone: node.metadata.labels.unwrap_or_default().remove("topology.kubernetes.io/zone").unwrap_or_default(),
        addresses: all,
        pod_cidrs: spec.pod_cidrs.filter(|list| !list.is_empty()).unwrap_or(one),
    }
}

/// Waits a while for the Node: a kubelet may be registering it just now.
async fn look_up(client: kube::Client, name: &str) -> Seen {
    let api: Api<Node> = Api::all(client);
    let found = async {
        loop {
            match api.get(name).await {
                Ok(node) => return seen(node),
                Err(error) => tracing::debug!(%error, "the Node is not there yet"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| {
        tracing::warn!(node = name, "the Node was not found: its zone, addresses and pod ranges are unknown");
        Seen::default()
    })
}

/// How numbers are served: in plain text to the machine itself, elsewhere over TLS to whom the cluster lets.
fn secured(address: SocketAddr, connection: &Connection) -> anyhow::Result<Option<Secured>> {
    if address.ip().is_loopback() {
        return Ok(None);
    }
    let pair = self_signed("localhost", &["localhost".to_owned(), address.ip().to_string()])?;
    let open = ["/healthz", "/proxyMode"].map(str::to_owned).to_vec();
    let reviews = Reviews::new(connection.client(), connection.client());
    let guard = Guard::new(reviews, Arc::new(Trust::new(Given::default())?), open);
    Secured::new(&cluster::identity(pair), TlsOptions::default(), guard).map(Some)
}

/// Runs a service proxy until `stop`; the rules stay.
///
/// # Errors
/// When the settings cannot be, or an address is taken.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let wanted = wanted(&settings)?;
    if wanted.cleanup {
        return proxy::nft::remove(TABLE).await.context("the rules of Services could not be removed");
    }
    let connection = Connection::open(&wanted.kubeconfig, &wanted.master, AGENT).await?;
    let mut tasks = JoinSet::new();
    if let Some(address) = wanted.healthz {
        listen::serve(&mut tasks, address, listen::health(), None, stop.clone()).await?;
    }
    let metrics = proxy::metrics::Metrics::default();
    connection::show_requests(metrics.registry());
    if let Some(address) = wanted.metrics {
        let registry = metrics.registry().clone();
        let routes = listen::Routes::new(move |path| match path {
            "/healthz" => Some((StatusCode::OK, "ok".to_owned())),
            "/proxyMode" => Some((StatusCode::OK, "nftables".to_owned())),
            "/metrics" => Some((StatusCode::OK, apiserver::metrics::text(&registry))),
            _ => None,
        });
        listen::serve(&mut tasks, address, routes, secured(address, &connection)?, stop.clone()).await?;
    }
    let found = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        found = look_up(connection.client(), &wanted.node) => found,
    };
    let mut addresses: Vec<IpAddr> = wanted.bind.into_iter().chain(found.addresses).collect();
    addresses.dedup();
    if addresses.is_empty() {
        addresses.push(outward_address());
    }
    let config = proxy::Config {
        client: connection.client(),
        place: proxy::plan::Place { node: wanted.node, zone: found.zone },
        options: proxy::rules::Options {
            table: TABLE.to_owned(),
            node_addresses: addresses,
            pod_cidrs: if wanted.pod_cidrs.is_empty() { found.pod_cidrs } else { wanted.pod_cidrs },
            bridge: None,
            masquerade_all: wanted.masquerade_all,
        },
        metrics,
    };
    proxy::run(config, stop).await;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
pub(crate) fn read_all(settings: &Settings) -> anyhow::Result<()> {
    wanted(settings).map(|_| ())
}
