//! From Services and EndpointSlices to what the node does with their traffic: which addresses stand for a Service's port, and who
//! answers there. Pure: knows no nftables and keeps nothing between calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort as Port};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A Service with this label belongs to the proxy that the label names.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// A Service with this label has no address to be routed.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// The Service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How long a client keeps its endpoint when the Service does not say, in seconds.
const AFFINITY: u32 = 10_800;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Its name in rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Where the plan is for.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Name of the Node.
    pub node: String,
    /// Its zone, empty when it is in none.
    pub zone: String,
}

/// One port of one Service in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// The port that clients dial at the Service's addresses.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The address that the cluster gave it.
    pub cluster_ip: IpAddr,
    /// Further addresses at which traffic comes from outside.
    pub external_ips: BTreeSet<IpAddr>,
    /// Addresses of its load balancer.
    pub load_balancer_ips: BTreeSet<IpAddr>,
    /// Who may use the load balancer's addresses; empty for everybody.
    pub source_ranges: BTreeSet<String>,
    /// The port on the node's own addresses.
    pub node_port: Option<u16>,
    /// How long a client keeps its endpoint after its last new connection, in seconds.
    pub affinity: Option<u32>,
    /// Traffic of the cluster stays on this node.
    pub internal_local: bool,
    /// Traffic from outside stays on this node and keeps its source address.
    pub external_local: bool,
    /// Who answers where traffic may go anywhere in the cluster.
    pub cluster: BTreeSet<SocketAddr>,
    /// Who answers where traffic stays on this node.
    pub local: BTreeSet<SocketAddr>,
    /// Whether anybody answers anywhere: if not, clients are told so, and else silence is kept where only this node has none.
    pub anywhere: bool,
}

impl ServicePort {
    /// Whether it can be reached otherwise than by its cluster address.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// Who answers traffic of the cluster.
    #[must_use]
    pub fn internal(&self) -> &BTreeSet<SocketAddr> {
        if self.internal_local { &self.local } else { &self.cluster }
    }

    /// Who answers traffic from outside.
    #[must_use]
    pub fn external(&self) -> &BTreeSet<SocketAddr> {
        if self.external_local { &self.local } else { &self.cluster }
    }
}

/// What is known of an endpoint at one port.
#[derive(Clone, Debug, Default)]
struct Endpoint {
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
    nodes: BTreeSet<String>,
    zones: BTreeSet<String>,
}

impl Endpoint {
    fn of(endpoint: &SliceEndpoint, place: &Place) -> Self {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let hints = endpoint.hints.clone().unwrap_or_default();
        Self {
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            local: endpoint.node_name.as_deref() == Some(place.node.as_str()),
            nodes: hints.for_nodes.into_iter().flatten().map(|hint| hint.name).collect(),
            zones: hints.for_zones.into_iter().flatten().map(|hint| hint.name).collect(),
        }
    }

    /// It is on its way out and still answers: the last resort (KEP-1669).
    fn lingers(&self) -> bool {
        self.serving && self.terminating
    }
}

type Endpoints = BTreeMap<SocketAddr, Endpoint>;

/// The plan for a node, in a fixed order.
#[must_use]
pub fn plan(services: &[impl AsRef<Service>], slices: &[impl AsRef<EndpointSlice>], place: &Place) -> Vec<ServicePort> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices.iter().map(AsRef::as_ref).filter(|slice| is_ours(&slice.metadata)) {
        if let Some(name) = label(&slice.metadata, SERVICE_NAME) {
            by_service.entry((namespace(&slice.metadata), name)).or_default().push(slice);
        }
    }
    let mut out = Vec::new();
    for service in services.iter().map(AsRef::as_ref).filter(|service| is_ours(&service.metadata)) {
        let key = (namespace(&service.metadata), service.metadata.name.as_deref().unwrap_or_default());
        let slices = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
        for address in cluster_ips(service) {
            for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
                out.extend(service_port(service, address, port, slices, place));
            }
        }
    }
    out.sort();
    out
}

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}

fn is_ours(meta: &ObjectMeta) -> bool {
    label(meta, OTHER_PROXY).is_none() && label(meta, HEADLESS).is_none()
}

/// The Service's addresses, at most one of each family; none for one without (headless, ExternalName).
fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName")) else {
        return Vec::new();
    };
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let texts = if listed.is_empty() { spec.cluster_ip.as_slice() } else { listed };
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

fn service_port(
    service: &Service,
    cluster_ip: IpAddr,
    port: &Port,
    slices: &[&EndpointSlice],
    place: &Place,
) -> Option<ServicePort> {
    let spec = service.spec.as_ref()?;
    let family = Family::of(&cluster_ip);
    let protocol = Protocol::parse(port.protocol.as_deref())?;
    let same_family = |text: &String| text.parse::<IpAddr>().ok().filter(|address| Family::of(address) == family);
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let node_port = port.node_port.and_then(port_number).filter(|_| matches!(kind, "NodePort" | "LoadBalancer"));
    let mut out = ServicePort {
        namespace: namespace(&service.metadata).to_owned(),
        name: service.metadata.name.clone()?,
        port: port_number(port.port)?,
        protocol,
        cluster_ip,
        external_ips: spec.external_ips.iter().flatten().filter_map(same_family).collect(),
        // With `Proxy` the load balancer delivers to the node ports, and its address stays its own.
        load_balancer_ips: ingress
            .iter()
            .filter(|ingress| kind == "LoadBalancer" && ingress.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|ingress| same_family(ingress.ip.as_ref()?))
            .collect(),
        source_ranges: spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .map(|range| range.trim())
            .filter(|range| range.contains(':') == (family == Family::V6))
            .map(str::to_owned)
            .collect(),
        node_port,
        affinity: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            config.and_then(|config| config.timeout_seconds).and_then(|s| u32::try_from(s).ok()).unwrap_or(AFFINITY)
        }),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: false,
        cluster: BTreeSet::new(),
        local: BTreeSet::new(),
        anywhere: false,
    };
    out.external_local = out.is_external() && spec.external_traffic_policy.as_deref() == Some("Local");
    let endpoints = endpoints(slices, port.name.as_deref().unwrap_or_default(), protocol, family, place);
    // Who comes from a pod or from this machine uses the whole cluster's endpoints also where outside traffic stays local.
    let uses_cluster = !out.internal_local || out.is_external();
    if uses_cluster {
        out.cluster = anywhere(&endpoints, place);
        out.anywhere = !out.cluster.is_empty();
    }
    if out.internal_local || out.external_local {
        out.local = usable(&endpoints, |endpoint| endpoint.local);
        out.anywhere |= endpoints.values().any(|endpoint| endpoint.ready || endpoint.lingers());
    }
    Some(out)
}

/// The endpoints behind one port of a Service. What several slices hold counts as the one that is ready.
fn endpoints(slices: &[&EndpointSlice], name: &str, protocol: Protocol, family: Family, place: &Place) -> Endpoints {
    let wanted = if family == Family::V4 { "IPv4" } else { "IPv6" };
    let mut out = Endpoints::new();
    for slice in slices.iter().filter(|slice| slice.address_type == wanted) {
        for port in slice.ports.iter().flatten() {
            let fits = port.name.as_deref().unwrap_or_default() == name
                && Protocol::parse(port.protocol.as_deref()) == Some(protocol);
            let Some(number) = port.port.and_then(port_number).filter(|_| fits) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                let Some(address) = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok()) else {
                    continue;
                };
                let held = out.entry(SocketAddr::new(address, number)).or_default();
                if !held.ready {
                    *held = Endpoint::of(endpoint, place);
                }
            }
        }
    }
    out
}

/// Those that are ready, or else those that still answer on their way out.
fn usable(endpoints: &Endpoints, fits: impl Fn(&Endpoint) -> bool) -> BTreeSet<SocketAddr> {
    let select = |state: fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
        endpoints.iter().filter(|(_, e)| state(e) && fits(e)).map(|(address, _)| *address).collect()
    };
    let ready = select(|endpoint| endpoint.ready);
    if ready.is_empty() { select(Endpoint::lingers) } else { ready }
}

/// The endpoints of the cluster for clients of this node, near ones only where every ready one says whom it is near to.
fn anywhere(endpoints: &Endpoints, place: &Place) -> BTreeSet<SocketAddr> {
    let ready: Vec<&Endpoint> = endpoints.values().filter(|endpoint| endpoint.ready).collect();
    let hinted = |hints: fn(&Endpoint) -> &BTreeSet<String>, here: &String| {
        ready.iter().all(|endpoint| !hints(endpoint).is_empty()) && ready.iter().any(|e| hints(e).contains(here))
    };
    if ready.is_empty() {
        usable(endpoints, |_| true)
    } else if hinted(|endpoint| &endpoint.nodes, &place.node) {
        usable(endpoints, |endpoint| endpoint.nodes.contains(&place.node))
    } else if hinted(|endpoint| &endpoint.zones, &place.zone) {
        usable(endpoints, |endpoint| endpoint.zones.contains(&place.zone))
    } else {
        usable(endpoints, |_| true)
    }
}
