//! Cluster DNS of `up`: its Service and where it listens, put together from flags. Never answers a question; the dns crate does.

use crate::cluster::ControlPlane;
use crate::flags::Up;
use crate::node;
use anyhow::Context as _;
use apiserver::authn::User;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The cluster's domain.
pub(crate) const DOMAIN: &str = "cluster.local";

/// Who writes the Service.
const MANAGER: &str = "ironkeel-dns";

/// A DNS server that pods can be told of.
pub(crate) struct Dns {
    /// Where pods ask.
    pub(crate) address: IpAddr,
    /// The server, when it is ours.
    pub(crate) server: Option<JoinHandle<()>>,
}

/// The tenth address of the first range, by custom.
fn cluster_address(flags: &Up) -> Option<IpAddr> {
    let range: IpNet = flags.service_cluster_ip_range.first()?.parse().ok()?;
    let tenth = match range.network() {
        IpAddr::V4(address) => IpAddr::from(u32::from(address).checked_add(10)?.to_be_bytes()),
        // Pods have IPv4 addresses.
        IpAddr::V6(_) => return None,
    };
    range.contains(&tenth).then_some(tenth)
}

/// Starts the server at the pods' gateway and points the Service `kube-dns` at it. One that selects pods is left alone: then they are the
/// cluster's DNS.
pub(crate) async fn start(flags: &Up, plane: &ControlPlane, stop: &CancellationToken) -> anyhow::Result<Dns> {
    let client = plane.api.client(User::new("kubernetes-admin", &["system:masters"]), "ironkeel");
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    if let Some(spec) = services.get_opt("kube-dns").await?.and_then(|service| service.spec)
        && spec.selector.is_some_and(|selector| !selector.is_empty())
    {
        let address = spec.cluster_ip.and_then(|text| text.parse().ok()).context("its Service has no address")?;
        return Ok(Dns { address, server: None });
    }
    let address = cluster_address(flags).context("the range of Services has no address for it")?;
    let gateway = node::gateway(flags)?;
    let sockets = dns::Sockets::bind(gateway).await.with_context(|| format!("cannot listen on {gateway}"))?;
    let listens = sockets.address()?;
    publish(&client, &services, address, listens).await.context("its Service cannot be written")?;
    let resolv_conf = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let own = [Some(gateway), Some(plane.advertise).filter(|own| !own.is_loopback())];
    let pods = std::iter::once(crate::fleet::cluster_block(flags)?.to_string().parse::<IpNet>()?);
    let config = dns::Config {
        client: plane.api.client(User::new("system:kube-proxy", &[]), "ironkeel-dns"),
        domain: DOMAIN.to_owned(),
        clients: pods.chain(own.into_iter().flatten().map(IpNet::from)).collect(),
        upstreams: dns::forward::servers(&resolv_conf, &[address, gateway]),
    };
    let server = tokio::spawn(dns::run(config, sockets, stop.clone()));
    Ok(Dns { address, server: Some(server) })
}

async fn publish(
    client: &kube::Client,
    services: &Api<Service>,
    address: IpAddr,
    listens: SocketAddr,
) -> Result<(), kube::Error> {
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")];
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"clusterIP": address, "ports": ports.map(|(name, protocol)| json!({"name": name, "port": 53, "protocol": protocol}))},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns-node", "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": MANAGER}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [listens.ip()], "conditions": {"ready": true}}],
        "ports": ports.map(|(name, protocol)| json!({"name": name, "port": listens.port(), "protocol": protocol})),
    });
    let how = PatchParams::apply(MANAGER).force();
    services.patch("kube-dns", &how, &Patch::Apply(service)).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    slices.patch("kube-dns-node", &how, &Patch::Apply(slice)).await?;
    Ok(())
}
