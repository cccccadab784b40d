//! The cluster's names: Services and EndpointSlices give the records of Kubernetes' DNS specification 1.1.0. Pure: asks nobody.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// How long an answer may be kept, in seconds: pods come and go.
const TTL: u32 = 5;
/// The Service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All names of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// Lower case, without the last dot.
    domain: String,
    /// Names in lower case without the last dot, and what stands there.
    records: HashMap<String, Vec<RData>>,
    /// Names below which others are.
    branches: HashSet<String>,
}

/// What there is for a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The name is not this cluster's: somebody else may know.
    Elsewhere,
    /// No such name.
    Nothing,
    /// The name is there; these records of the type asked for, perhaps none, or the alias that it is.
    Records(Vec<Record>),
}

impl Zone {
    /// The names that these objects give a cluster of this domain.
    #[must_use]
    pub fn new(domain: &str, services: &[impl AsRef<Service>], slices: &[impl AsRef<EndpointSlice>]) -> Self {
        let mut zone = Self { domain: domain.trim_end_matches('.').to_ascii_lowercase(), ..Self::default() };
        zone.add(format!("dns-version.{}", zone.domain), RData::TXT(TXT::new(vec!["1.1.0".to_owned()])));
        zone.branch(&format!("svc.{}", zone.domain));
        zone.branch(&format!("pod.{}", zone.domain));
        let mut by_service: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
        for slice in slices.iter().map(AsRef::as_ref) {
            let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
            if let Some(name) = name {
                by_service.entry((namespace(&slice.metadata), name)).or_default().push(slice);
            }
        }
        for service in services.iter().map(AsRef::as_ref) {
            let key = (namespace(&service.metadata), service.metadata.name.as_deref().unwrap_or_default());
            zone.service(key, service, by_service.get(&key).map(Vec::as_slice).unwrap_or_default());
        }
        zone
    }

    fn add(&mut self, name: String, data: RData) {
        self.branch(&name);
        let held = self.records.entry(name).or_default();
        if !held.contains(&data) {
            held.push(data);
        }
    }

    /// Makes a name and those above it exist.
    fn branch(&mut self, name: &str) {
        let mut rest = name;
        while self.branches.insert(rest.to_owned()) {
            match rest.split_once('.') {
                Some((_, above)) if rest != self.domain => rest = above,
                _ => return,
            }
        }
    }

    fn service(&mut self, (namespace, name): (&str, &str), service: &Service, slices: &[&EndpointSlice]) {
        let Some(spec) = &service.spec else { return };
        let own = format!("{name}.{namespace}.svc.{}", self.domain).to_ascii_lowercase();
        if spec.type_.as_deref() == Some("ExternalName") {
            if let Some(target) = spec.external_name.as_deref().and_then(absolute) {
                self.add(own, RData::CNAME(CNAME(target)));
            }
            return;
        }
        let listed = spec.cluster_ips.as_deref().unwrap_or_default();
        let texts = if listed.is_empty() { spec.cluster_ip.as_slice() } else { listed };
        let addresses: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        let Some(target) = absolute(&own) else { return };
        if addresses.is_empty() {
            self.headless(&own, slices);
            return;
        }
        for address in addresses {
            self.add(own.clone(), address_data(address));
            self.add(reverse(address), RData::PTR(PTR(target.clone())));
        }
        for port in spec.ports.iter().flatten() {
            let (Some(label), Ok(number)) = (port.name.as_deref(), u16::try_from(port.port)) else { continue };
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            self.add(port_name(label, protocol, &own), RData::SRV(SRV::new(0, 100, number, target.clone())));
        }
    }

    /// A Service without an address is its endpoints.
    fn headless(&mut self, own: &str, slices: &[&EndpointSlice]) {
        // The name is there as long as the Service is, also while nobody answers.
        self.branch(own);
        for slice in slices {
            for endpoint in slice.endpoints.iter().flatten() {
                if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
                    continue;
                }
                for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                    let hostname = endpoint.hostname.as_deref().filter(|text| !text.is_empty());
                    let host = hostname.map_or_else(|| dashed(address), str::to_ascii_lowercase);
                    let full = format!("{host}.{own}");
                    let Some(target) = absolute(&full) else { continue };
                    self.add(own.to_owned(), address_data(address));
                    self.add(full, address_data(address));
                    if hostname.is_some() {
                        self.add(reverse(address), RData::PTR(PTR(target.clone())));
                    }
                    for port in slice.ports.iter().flatten() {
                        let label = port.name.as_deref().filter(|text| !text.is_empty());
                        let number = port.port.and_then(|port| u16::try_from(port).ok());
                        if let (Some(label), Some(number)) = (label, number) {
                            let at = port_name(label, port.protocol.as_deref().unwrap_or("TCP"), own);
                            self.add(at, RData::SRV(SRV::new(0, 100, number, target.clone())));
                        }
                    }
                }
            }
        }
    }

    /// The answer to a question.
    #[must_use]
    pub fn find(&self, name: &Name, kind: RecordType) -> Found {
        let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let inside = text == self.domain || text.strip_suffix(&self.domain).is_some_and(|rest| rest.ends_with('.'));
        if let Some(data) = self.records.get(&text) {
            let fits = |data: &&RData| {
                kind == RecordType::ANY || matches!(data, RData::CNAME(_)) || data.record_type() == kind
            };
            let records = data.iter().filter(fits);
            return Found::Records(records.map(|data| Record::from_rdata(name.clone(), TTL, data.clone())).collect());
        }
        if !inside {
            return Found::Elsewhere;
        }
        if text == self.domain && kind == RecordType::SOA {
            return Found::Records(vec![self.authority()]);
        }
        if let Some(address) = self.pod_address(&text) {
            let data = address_data(address);
            let fits = kind == RecordType::ANY || data.record_type() == kind;
            return Found::Records(fits.then(|| Record::from_rdata(name.clone(), TTL, data)).into_iter().collect());
        }
        if self.branches.contains(&text) { Found::Records(Vec::new()) } else { Found::Nothing }
    }

    /// `10-244-0-5.NAMESPACE.pod.DOMAIN` is the address that it says.
    fn pod_address(&self, text: &str) -> Option<IpAddr> {
        let rest = text.strip_suffix(&self.domain)?.strip_suffix(".pod.")?;
        let (host, _namespace) = rest.split_once('.').filter(|(_, namespace)| !namespace.contains('.'))?;
        let v4 = host.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
        v4.or_else(|_| host.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from)).ok()
    }

    /// The record that says who answers for the domain, and for how long nothing may be believed to be there.
    #[must_use]
    pub fn authority(&self) -> Record {
        let name = |text: &str| absolute(text).unwrap_or_else(Name::root);
        let (server, person) = (name(&format!("ns.dns.{}", self.domain)), name(&format!("hostmaster.{}", self.domain)));
        let data = RData::SOA(SOA::new(server, person, 1, 7200, 1800, 86_400, TTL));
        Record::from_rdata(name(&self.domain), TTL, data)
    }

    /// How many names there are.
    #[must_use]
    pub fn names(&self) -> usize {
        self.records.keys().collect::<BTreeSet<_>>().len()
    }
}

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

fn absolute(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).ok()
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn port_name(label: &str, protocol: &str, own: &str) -> String {
    format!("_{label}._{protocol}.{own}").to_ascii_lowercase()
}

/// An address as one label.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The name under which an address is asked for its name.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = address.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            let labels: Vec<String> = digits.map(|digit| format!("{digit:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}
