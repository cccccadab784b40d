//! Which connections the kernel must forget: a datagram has no end of connection, so a flow that still goes to an endpoint that left, or
//! that began before there was one, would keep its way as long as its client sends. Pure: deletes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::plan::{Family, Protocol, ServicePort};

/// UDP flows to forget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flows {
    family: Family,
    /// The address that was dialled; any of the node's when absent.
    address: Option<IpAddr>,
    /// The port that was dialled.
    port: u16,
    /// The endpoint that they go to; any when absent.
    endpoint: Option<IpAddr>,
}

impl Flows {
    /// The arguments of `conntrack` that delete them.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let family = if self.family == Family::V4 { "ipv4" } else { "ipv6" };
        let mut out: Vec<String> = ["-D", "-f", family, "-p", "udp", "--orig-port-dst"].map(str::to_owned).to_vec();
        out.push(self.port.to_string());
        if let Some(address) = self.address {
            out.extend(["--orig-dst".to_owned(), address.to_string()]);
        }
        if let Some(endpoint) = self.endpoint {
            out.extend(["--reply-src".to_owned(), endpoint.to_string()]);
        }
        out
    }
}

fn udp(ports: &[ServicePort]) -> BTreeMap<(&str, &str, u16, Family), &ServicePort> {
    let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp);
    udp.map(|port| ((port.namespace.as_str(), port.name.as_str(), port.port, Family::of(&port.cluster_ip)), port))
        .collect()
}

/// Where clients dial it: an address, or none for the node's, and the port.
fn frontends(port: &ServicePort) -> BTreeSet<(Option<IpAddr>, u16)> {
    let addresses = [port.cluster_ip].into_iter().chain(port.external_ips.union(&port.load_balancer_ips).copied());
    addresses.map(|address| (Some(address), port.port)).chain(port.node_port.map(|number| (None, number))).collect()
}

fn endpoints(port: &ServicePort) -> BTreeSet<IpAddr> {
    port.cluster.union(&port.local).map(std::net::SocketAddr::ip).collect()
}

/// The flows that the way from one plan to the next leaves behind. From an empty plan they are all that go to Services.
#[must_use]
pub fn stale(old: &[ServicePort], new: &[ServicePort]) -> BTreeSet<Flows> {
    let (old, new) = (udp(old), udp(new));
    let mut out = BTreeSet::new();
    for (key, was) in &old {
        let left = new.get(key).map(|is| endpoints(is)).unwrap_or_default();
        for endpoint in endpoints(was).difference(&left) {
            for (address, port) in frontends(was) {
                out.insert(Flows { family: key.3, address, port, endpoint: Some(*endpoint) });
            }
        }
    }
    for (key, is) in new.iter().filter(|(_, is)| !endpoints(is).is_empty()) {
        let served: BTreeSet<_> = match old.get(key) {
            Some(was) if !endpoints(was).is_empty() => frontends(was),
            _ => BTreeSet::new(),
        };
        for (address, port) in frontends(is).difference(&served) {
            out.insert(Flows { family: key.3, address: *address, port: *port, endpoint: None });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(endpoints: &[&str], node_port: Option<u16>) -> ServicePort {
        ServicePort {
            namespace: "n".into(),
            name: "dns".into(),
            port: 53,
            protocol: Protocol::Udp,
            cluster_ip: "10.96.0.10".parse().unwrap(),
            external_ips: BTreeSet::new(),
            load_balancer_ips: BTreeSet::new(),
            source_ranges: BTreeSet::new(),
            node_port,
            affinity: None,
            internal_local: false,
            external_local: false,
            cluster: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
            local: BTreeSet::new(),
            anywhere: !endpoints.is_empty(),
        }
    }

    #[test]
    fn flows_end_with_their_endpoint_and_begin_with_the_first() {
        let check = |old: &[ServicePort], new: &[ServicePort], want: &[&str]| {
            let found: Vec<String> = stale(old, new).iter().map(|flows| flows.arguments().join(" ")).collect();
            assert_eq!(found, want);
        };
        let (none, one) = (port(&[], None), port(&["10.0.0.1:53"], None));
        let two = port(&["10.0.0.1:53", "10.0.0.2:53"], Some(30053));
        let all = "-D -f ipv4 -p udp --orig-port-dst 53 --orig-dst 10.96.0.10";
        check(&[], std::slice::from_ref(&none), &[]);
        check(&[], std::slice::from_ref(&one), &[all]);
        check(std::slice::from_ref(&none), std::slice::from_ref(&one), &[all]);
        check(std::slice::from_ref(&one), std::slice::from_ref(&one), &[]);
        // Another endpoint disturbs nobody; the node port is new.
        check(std::slice::from_ref(&one), std::slice::from_ref(&two), &["-D -f ipv4 -p udp --orig-port-dst 30053"]);
        let gone = [
            "-D -f ipv4 -p udp --orig-port-dst 30053 --reply-src 10.0.0.2",
            "-D -f ipv4 -p udp --orig-port-dst 53 --orig-dst 10.96.0.10 --reply-src 10.0.0.2",
        ];
        check(&[two], std::slice::from_ref(&one), &gone);
        check(
            std::slice::from_ref(&one),
            &[],
            &["-D -f ipv4 -p udp --orig-port-dst 53 --orig-dst 10.96.0.10 --reply-src 10.0.0.1"],
        );
        let tcp = |port: ServicePort| ServicePort { protocol: Protocol::Tcp, ..port };
        check(&[tcp(one)], &[tcp(none)], &[]);
    }
}
