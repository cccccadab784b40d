//! The ranges that addresses of Services come from: those of the configuration, and of ServiceCIDRs that are ready.
//!
//! Never claims an address; `allocate` does.

use crate::server::Server;
use admission::Lookup as _;
use api::json::Value;
use api::{meta, value};
use ipnet::IpNet;
use rand::Rng as _;
use std::net::IpAddr;

/// The families of the addresses that Services have here, the default first. Those that other ServiceCIDRs bring do not count.
pub fn families(server: &Server) -> Vec<&'static str> {
    let mut out = Vec::new();
    for net in &server.config.service_cidrs {
        let family = family(net.addr());
        if !out.contains(&family) {
            out.push(family);
        }
    }
    if out.is_empty() { vec!["IPv4"] } else { out }
}

/// `IPv4` or `IPv6`.
pub fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Ranges from which addresses are given out, the configured ones first.
pub struct Ranges(Vec<IpNet>);

impl Ranges {
    /// Those of now, as far as the cache knows. Who deletes a ServiceCIDR waits until everybody has heard of it.
    pub async fn known(server: &Server) -> Ranges {
        let objects = server.list("networking.k8s.io", "servicecidrs", "").await;
        Ranges::of(&server.config.service_cidrs, &objects)
    }

    /// A configured range counts although no object has it: the object may be on its way.
    fn of(configured: &[IpNet], objects: &[Value]) -> Ranges {
        let has = |object: &&Value, net: &IpNet| ranges_of(object).any(|other| other == *net);
        let mut out: Vec<IpNet> = Vec::new();
        for net in configured.iter().copied().chain(objects.iter().flat_map(ranges_of)) {
            let holders = || objects.iter().filter(|object| has(object, &net));
            let counts = holders().any(is_ready) || holders().next().is_none();
            if counts && !out.contains(&net) {
                out.push(net);
            }
        }
        Ranges(out)
    }

    /// Whether one of them gives out this address.
    pub fn give(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|net| {
            span(net)
                .is_some_and(|(first, last)| family(net.addr()) == family(ip) && (first..=last).contains(&number(ip)))
        })
    }

    /// A free address of a family: a random one, or else the first one in order.
    pub fn choose(&self, four: bool, free: impl Fn(&str) -> bool) -> Option<String> {
        let nets = self.0.iter().filter(|net| net.addr().is_ipv4() == four);
        nets.filter_map(span).find_map(|span| choose_in(four, span, &free))
    }
}

fn ranges_of(object: &Value) -> impl Iterator<Item = IpNet> {
    value::items(object, "spec.cidrs").iter().filter_map(Value::as_str).filter_map(|text| text.parse().ok())
}

/// One of which nobody has said anything yet is ready: there may be nobody who does.
fn is_ready(object: &Value) -> bool {
    let conditions = value::items(object, "status.conditions");
    let said = conditions.iter().find(|condition| value::text(condition, "type") == "Ready");
    !meta::is_deleting(object) && said.is_none_or(|condition| value::text(condition, "status") == "True")
}

/// The addresses of a range that are given out, as numbers: all but the network's own and, of IPv4, that of all its members.
fn span(net: &IpNet) -> Option<(u128, u128)> {
    let (first, last) = (number(net.network()), number(net.broadcast()));
    let (first, last) = (first.checked_add(1)?, last.checked_sub(u128::from(net.addr().is_ipv4()))?);
    (first <= last).then_some((first, last))
}

/// The low end is for addresses that people choose (KEP-3070): it is used up last.
fn choose_in(four: bool, (first, last): (u128, u128), free: impl Fn(&str) -> bool) -> Option<String> {
    const TRIES: usize = 64;
    const SEARCHED: u128 = 1 << 20;
    let size = last - first + 1 + if four { 2 } else { 1 };
    let kept = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
    let at = |number: u128| address(four, number).to_string();
    let middle = first + kept;
    let mut random = rand::rng();
    let mut search = |low: u128, high: u128| {
        if low > high {
            return None;
        }
        let drawn = (0..TRIES).map(|_| at(random.random_range(low..=high))).find(|item| free(item));
        drawn.or_else(|| (low..=high.min(low + SEARCHED)).map(at).find(|item| free(item)))
    };
    search(middle, last).or_else(|| search(first, middle.saturating_sub(1)))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(four: bool, number: u128) -> IpAddr {
    if four {
        IpAddr::from(u32::try_from(number).unwrap_or_default().to_be_bytes())
    } else {
        IpAddr::from(number.to_be_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use api::json::json;
    use std::collections::HashSet;

    fn of(configured: &[&str], objects: &[Value]) -> Ranges {
        let configured: Vec<IpNet> = configured.iter().map(|net| net.parse().unwrap()).collect();
        Ranges::of(&configured, objects)
    }

    #[test]
    fn ready_ranges_count() {
        let object = |cidr: &str, ready: Option<&str>, deleted: bool| {
            let conditions: Vec<Value> =
                ready.iter().map(|status| json!({"type": "Ready", "status": status})).collect();
            let time = if deleted { json!("2026-01-01T00:00:00Z") } else { Value::Null };
            json!({"metadata": {"deletionTimestamp": time}, "spec": {"cidrs": [cidr]}, "status": {"conditions": conditions}})
        };
        const OWN: &str = "10.96.0.0/24";
        const MORE: &str = "10.97.0.0/24";
        for (objects, wanted) in [
            (vec![], &[OWN][..]),
            (vec![object(OWN, None, false), object(MORE, None, false)], &[OWN, MORE]),
            (vec![object(MORE, Some("True"), false)], &[OWN, MORE]),
            (vec![object(MORE, Some("False"), false)], &[OWN]),
            (vec![object(MORE, Some("True"), true)], &[OWN]),
            (vec![object(OWN, Some("True"), true), object(MORE, None, false)], &[MORE]),
            (vec![object(MORE, Some("True"), true), object(MORE, None, false)], &[OWN, MORE]),
        ] {
            let found: Vec<String> = of(&[OWN], &objects).0.iter().map(ToString::to_string).collect();
            assert_eq!(found, wanted, "{objects:?}");
        }
    }

    #[test]
    fn addresses_of_hosts_are_given() {
        let ranges = of(&["10.0.0.0/30", "fd00::/126"], &[]);
        for (ip, given) in [
            ("10.0.0.0", false),
            ("10.0.0.1", true),
            ("10.0.0.2", true),
            ("10.0.0.3", false),
            ("fd00::", false),
            ("fd00::1", true),
            ("fd00::3", true),
            ("::1", false),
        ] {
            assert_eq!(ranges.give(ip.parse().unwrap()), given, "{ip}");
        }
        for (net, count) in
            [("10.0.0.0/30", 2), ("10.0.0.0/31", 0), ("10.0.0.0/32", 0), ("10.0.0.0/26", 62), ("fd00::/126", 3)]
        {
            let ranges = of(&[net], &[]);
            let mut taken = HashSet::new();
            while let Some(ip) = ranges.choose(!net.contains(':'), |item| !taken.contains(item)) {
                assert!(ranges.give(ip.parse().unwrap()), "{ip} of {net}");
                assert!(taken.insert(ip));
            }
            assert_eq!(taken.len(), count, "{net}");
        }
    }

    #[test]
    fn people_choose_from_the_low_end() {
        let ranges = of(&["10.0.0.0/24"], &[]);
        for _ in 0..1000 {
            let ip: IpAddr = ranges.choose(true, |_| true).unwrap().parse().unwrap();
            assert!(number(ip) & 0xff > 16, "{ip}");
        }
    }
}
