//! The plan as nftables rules: which tables, chains, sets and maps there are, and the script that makes them from those that were there
//! before. Pure: runs nothing.
//!
//! A packet's way: one lookup of address, protocol and port in a map leads to the chain of its Service, which picks an endpoint. Names
//! carry what they depend on, so that nothing is ever declared anew under the same name, and a set of clients with their endpoint lives
//! through every change that does not concern it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use sha2::{Digest as _, Sha256};

use crate::plan::{Family, ServicePort};

/// The mark of packets that leave with the node's address, the bit that kube-proxy uses too.
const MARK: &str = "0x4000";
const NOT_MARK: &str = "0xffffbfff";

/// What the rules depend on beside the Services.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of the table, in both families.
    pub table: String,
    /// Addresses of the node at which node ports are served.
    pub node_addresses: Vec<IpAddr>,
    /// The blocks in which this node's pods live.
    pub pod_cidrs: Vec<String>,
    /// The pods' bridge: traffic from the bridges of other clusters on this machine is theirs.
    pub bridge: Option<String>,
    /// Give all traffic to Services the node's address: for a kernel that does not show bridged replies to the firewall.
    pub masquerade_all: bool,
}

/// One nftables table as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    chains: BTreeMap<String, Chain>,
    sets: BTreeMap<String, Set>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain {
    /// Hook and priority of a base chain.
    hook: Option<&'static str>,
    rules: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    /// `set` or `map`.
    word: &'static str,
    definition: String,
    /// Key and, in a map, value.
    elements: BTreeMap<String, String>,
}

/// The first 48 bits of a SHA-256 digest, in hexadecimal: names must be short and differ.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

struct Builder<'a> {
    options: &'a Options,
    family: Family,
    table: Table,
}

/// The table of one family.
#[must_use]
pub fn table(ports: &[ServicePort], family: Family, options: &Options) -> Table {
    let mut builder = Builder { options, family, table: Table::default() };
    builder.fixed();
    for port in ports.iter().filter(|port| Family::of(&port.cluster_ip) == family) {
        builder.service(port);
    }
    builder.table
}

impl Builder<'_> {
    /// How addresses are written in rules.
    fn ip(&self) -> &'static str {
        if self.family == Family::V4 { "ip" } else { "ip6" }
    }

    fn chain(&mut self, name: &str, hook: Option<&'static str>, rules: Vec<String>) {
        self.table.chains.insert(name.to_owned(), Chain { hook, rules });
    }

    fn set(&mut self, name: &str, word: &'static str, definition: String) {
        self.table.sets.insert(name.to_owned(), Set { word, definition, elements: BTreeMap::new() });
    }

    fn element(&mut self, set: &str, key: String, value: impl Into<String>) {
        if let Some(set) = self.table.sets.get_mut(set) {
            // Two Services may claim one external address and port: the first in order has it, always the same one.
            set.elements.entry(key).or_insert_with(|| value.into());
        }
    }

    /// What is there without any Service.
    fn fixed(&mut self) {
        let ip = self.ip();
        let address = if self.family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
        let frontend = format!("type {address} . inet_proto . inet_service : verdict");
        for map in ["services", "no-endpoints", "firewall"] {
            self.set(map, "map", frontend.clone());
        }
        for map in ["node-ports", "no-endpoint-node-ports"] {
            self.set(map, "map", "type inet_proto . inet_service : verdict".to_owned());
        }
        for set in ["cluster-ips", "node-ips"] {
            self.set(set, "set", format!("type {address}"));
        }
        self.set("hairpin", "set", format!("type {address} . {address}"));
        let family = self.family;
        for address in &self.options.node_addresses {
            if Family::of(address) == family {
                self.element("node-ips", address.to_string(), "");
            }
        }

        let dial = format!("{ip} daddr . meta l4proto . th dport");
        let node_dial = format!("{ip} daddr @node-ips meta l4proto . th dport");
        // Pods of another cluster on this machine have rules of their own.
        let foreign: Vec<String> =
            self.options.bridge.iter().map(|own| format!("iifname \"ik-*\" iifname != \"{own}\" return")).collect();
        let with_foreign = |rules: Vec<String>| foreign.iter().cloned().chain(rules).collect::<Vec<_>>();

        let mut services = Vec::new();
        let pods = self.pods();
        if self.options.masquerade_all {
            services.push(format!("{ip} daddr @cluster-ips {}", mark()));
        } else if let Some(pods) = pods {
            services.push(format!("{ip} daddr @cluster-ips {ip} saddr != {pods} {}", mark()));
        }
        services.push(format!("{dial} vmap @services"));
        services.push(format!("{node_dial} vmap @node-ports"));
        self.chain("services", None, services);
        self.chain("refused", None, vec!["reject".to_owned()]);

        let hook = Some("type nat hook prerouting priority -100; policy accept;");
        self.chain("prerouting", hook, with_foreign(vec!["jump services".to_owned()]));
        let hook = Some("type nat hook output priority -100; policy accept;");
        self.chain("output", hook, vec!["jump services".to_owned()]);
        let hook = Some("type nat hook postrouting priority 100; policy accept;");
        let postrouting = vec![
            format!("ct status dnat {ip} saddr . {ip} daddr @hairpin masquerade fully-random"),
            format!("meta mark and {MARK} == 0 return"),
            format!("meta mark set meta mark and {NOT_MARK} masquerade fully-random"),
        ];
        self.chain("postrouting", hook, postrouting);

        let firewall = format!("ct state new {dial} vmap @firewall");
        let hook = Some("type filter hook prerouting priority -110; policy accept;");
        self.chain("filter-prerouting", hook, with_foreign(vec![firewall.clone()]));
        let refuse = format!("ct state new {dial} vmap @no-endpoints");
        let refuse_node = format!("ct state new {node_dial} vmap @no-endpoint-node-ports");
        let stray = format!("ct state new {ip} daddr @cluster-ips reject");
        let hook = Some("type filter hook input priority -110; policy accept;");
        self.chain("filter-input", hook, with_foreign(vec![refuse.clone(), refuse_node.clone()]));
        let hook = Some("type filter hook forward priority -110; policy accept;");
        self.chain("filter-forward", hook, with_foreign(vec![refuse.clone(), stray.clone()]));
        // Behind the choice of an endpoint: what still goes to a Service's address found none.
        let hook = Some("type filter hook output priority -90; policy accept;");
        self.chain("filter-output", hook, vec![refuse, refuse_node, stray]);
    }

    /// The pods' blocks of this family as a set in braces.
    fn pods(&self) -> Option<String> {
        let v6 = self.family == Family::V6;
        let blocks: Vec<&str> =
            self.options.pod_cidrs.iter().map(String::as_str).filter(|block| block.contains(':') == v6).collect();
        (!blocks.is_empty()).then(|| format!("{{ {} }}", blocks.join(", ")))
    }

    fn service(&mut self, port: &ServicePort) {
        let ServicePort { namespace, name, .. } = port;
        let protocol = port.protocol.name();
        let id = digest(&format!("{namespace}/{name}/{protocol}/{}", port.port));
        let label: String = format!("{namespace}/{name}").chars().take(80).collect();
        let called = |kind: &str| format!("{kind}-{id}/{label}/{protocol}/{}", port.port);
        let frontend = |address: &IpAddr| format!("{address} . {protocol} . {}", port.port);
        self.element("cluster-ips", port.cluster_ip.to_string(), "");
        for endpoint in port.cluster.iter().chain(&port.local) {
            self.element("hairpin", format!("{0} . {0}", endpoint.ip()), "");
        }

        let (cluster, local) = (called("svc"), called("loc"));
        if !port.cluster.is_empty() && (!port.internal_local || port.is_external()) {
            self.endpoints(&cluster, &id, port, &port.cluster);
        }
        if !port.local.is_empty() {
            self.endpoints(&local, &id, port, &port.local);
        }
        // Nobody anywhere is said at once; nobody on this node is silence, so that clients try another node.
        let nobody = if port.anywhere { "drop" } else { "goto refused" };
        let internal = if port.internal_local { &local } else { &cluster };
        if port.internal().is_empty() {
            self.element("no-endpoints", frontend(&port.cluster_ip), nobody);
        } else {
            self.element("services", frontend(&port.cluster_ip), format!("goto {internal}"));
        }
        if !port.is_external() {
            return;
        }

        let outside: Vec<IpAddr> = port.external_ips.union(&port.load_balancer_ips).copied().collect();
        if port.external().is_empty() {
            for address in &outside {
                self.element("no-endpoints", frontend(address), nobody);
            }
            if let Some(number) = port.node_port {
                self.element("no-endpoint-node-ports", format!("{protocol} . {number}"), nobody);
            }
        }
        if port.anywhere {
            let external = called("ext");
            let rules = self.external(port, &cluster, &local);
            self.chain(&external, None, rules);
            for address in &outside {
                self.element("services", frontend(address), format!("goto {external}"));
            }
            if let Some(number) = port.node_port {
                self.element("node-ports", format!("{protocol} . {number}"), format!("goto {external}"));
            }
        }
        if !port.source_ranges.is_empty() {
            let firewall = called("fw");
            let ranges: Vec<&str> = port.source_ranges.iter().map(String::as_str).collect();
            let rule = format!("{} saddr != {{ {} }} drop", self.ip(), ranges.join(", "));
            self.chain(&firewall, None, vec![rule]);
            for address in &port.load_balancer_ips {
                self.element("firewall", frontend(address), format!("goto {firewall}"));
            }
        }
    }

    /// What becomes of traffic to addresses other than the cluster's own.
    fn external(&self, port: &ServicePort, cluster: &str, local: &str) -> Vec<String> {
        let ip = self.ip();
        if !port.external_local {
            return vec![mark().to_owned(), format!("goto {cluster}")];
        }
        let mut rules = Vec::new();
        if !port.cluster.is_empty() {
            // Pods and this machine are inside: a load balancer would have brought them to any node.
            rules.extend(self.pods().map(|pods| format!("{ip} saddr {pods} goto {cluster}")));
            rules.push(format!("fib saddr type local {}", mark()));
            rules.push(format!("fib saddr type local goto {cluster}"));
        }
        if !port.local.is_empty() {
            rules.push(format!("goto {local}"));
        }
        rules
    }

    /// The chain that picks one of the endpoints, evenly, or the one that the client had.
    fn endpoints(&mut self, chain: &str, id: &str, port: &ServicePort, endpoints: &BTreeSet<SocketAddr>) {
        let (ip, protocol) = (self.ip(), port.protocol.name());
        let many = endpoints.len();
        let numbered = |line: &dyn Fn(&SocketAddr) -> String| {
            let lines: Vec<String> = endpoints
                .iter()
                .enumerate()
                .map(|(number, endpoint)| format!("{number} : {}", line(endpoint)))
                .collect();
            lines.join(", ")
        };
        let Some(seconds) = port.affinity else {
            let to = match endpoints.first() {
                Some(only) if many == 1 => format!("dnat to {only}"),
                _ => {
                    let choices = numbered(&|endpoint| format!("{} . {}", endpoint.ip(), endpoint.port()));
                    format!("dnat {ip} to numgen random mod {many} map {{ {choices} }}")
                }
            };
            self.chain(chain, None, vec![format!("meta l4proto {protocol} {to}")]);
            return;
        };
        let named = |endpoint: &SocketAddr| digest(&format!("{id} {seconds} {endpoint}"));
        let mut rules: Vec<String> =
            endpoints.iter().map(|e| format!("{ip} saddr @client-{0} goto ep-{0}", named(e))).collect();
        let choices = numbered(&|endpoint| format!("goto ep-{}", named(endpoint)));
        rules.push(format!("numgen random mod {many} vmap {{ {choices} }}"));
        self.chain(chain, None, rules);
        let address = if self.family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
        for endpoint in endpoints {
            let name = named(endpoint);
            let client = format!("client-{name}");
            self.set(&client, "set", format!("type {address}; flags dynamic,timeout; timeout {seconds}s"));
            let rules = vec![
                format!("update @{client} {{ {ip} saddr }}"),
                format!("meta l4proto {protocol} dnat to {endpoint}"),
            ];
            self.chain(&format!("ep-{name}"), None, rules);
        }
    }
}

fn mark() -> &'static str {
    "meta mark set meta mark or 0x4000"
}

impl Family {
    fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// A script for `nft -f -` that removes the table, there or not.
#[must_use]
pub fn removal(family: Family, table: &str) -> String {
    let word = family.word();
    format!("add table {word} {table}\ndelete table {word} {table}\n")
}

/// A script for `nft -f -` that makes `new` whatever there was under its name.
#[must_use]
pub fn whole(family: Family, table: &str, new: &Table) -> String {
    let mut out = removal(family, table);
    let _ = writeln!(out, "add table {} {table}", family.word());
    out + &changes(family, table, &Table::default(), new)
}

/// A script for `nft -f -` that makes `new` of `old`; empty when they are the same. One transaction.
#[must_use]
pub fn changes(family: Family, table: &str, old: &Table, new: &Table) -> String {
    let at = format!("{} {table}", family.word());
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    // Declarations first, so that whatever refers to them finds them; deletions last, when nothing does any more.
    for (name, set) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        line(format!("add {} {at} {name} {{ {}; }}", set.word, set.definition));
    }
    for (name, chain) in new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
        line(format!("add chain {at} {name}{}", chain.hook.map(|hook| format!(" {{ {hook} }}")).unwrap_or_default()));
    }
    for (name, set) in &old.sets {
        let kept = new.sets.get(name);
        if kept.is_some() || set.word == "map" {
            let gone =
                set.elements.iter().filter(|(key, value)| kept.and_then(|kept| kept.elements.get(*key)) != Some(value));
            elements("delete", &at, name, gone, &mut line);
        }
    }
    for name in old.chains.iter().filter(|(name, chain)| new.chains.get(*name) != Some(chain)).map(|(name, _)| name) {
        line(format!("flush chain {at} {name}"));
    }
    for (name, chain) in new.chains.iter().filter(|(name, chain)| old.chains.get(*name) != Some(chain)) {
        for rule in &chain.rules {
            line(format!("add rule {at} {name} {rule}"));
        }
    }
    for (name, set) in &new.sets {
        let held = old.sets.get(name);
        let came =
            set.elements.iter().filter(|(key, value)| held.and_then(|held| held.elements.get(*key)) != Some(value));
        elements("add", &at, name, came, &mut line);
    }
    for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
        line(format!("delete chain {at} {name}"));
    }
    for (name, set) in old.sets.iter().filter(|(name, _)| !new.sets.contains_key(*name)) {
        line(format!("delete {} {at} {name}", set.word));
    }
    out
}

fn elements<'a>(
    verb: &str,
    at: &str,
    set: &str,
    elements: impl Iterator<Item = (&'a String, &'a String)>,
    line: &mut impl FnMut(String),
) {
    for (key, value) in elements {
        let value = if value.is_empty() { String::new() } else { format!(" : {value}") };
        line(format!("{verb} element {at} {set} {{ {key}{value} }}"));
    }
}
