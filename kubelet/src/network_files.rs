//! What a pod sees of names: hostname, `/etc/hosts`, DNS settings. Pure.

use k8s_openapi::api::core::v1 as core;

use crate::cri::v1::DnsConfig;
use crate::model;

/// Name and DNS settings of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Addresses of the cluster's DNS service.
    pub dns: Vec<String>,
    /// Domain of the cluster.
    pub domain: String,
    /// Text of the node's `resolv.conf`.
    pub resolv_conf: String,
}

/// The hostname of a pod and the domain it stands in (empty without a subdomain).
pub fn hostname(pod: &core::Pod, cluster: &Cluster) -> (String, String) {
    let spec = pod.spec.as_ref();
    let own = spec.and_then(|spec| spec.hostname.as_deref()).filter(|text| !text.is_empty());
    let name: String = own.unwrap_or(model::name(pod)).chars().take(63).collect();
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).filter(|text| !text.is_empty());
    let domain = subdomain
        .map(|subdomain| format!("{subdomain}.{}.svc.{}", model::namespace(pod), cluster.domain))
        .unwrap_or_default();
    (name, domain)
}

/// The hostname that the pod's processes see.
pub fn kernel_hostname(pod: &core::Pod, cluster: &Cluster) -> String {
    let (name, domain) = hostname(pod, cluster);
    let fqdn = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    if fqdn && !domain.is_empty() { format!("{name}.{domain}") } else { name }
}

/// The pod's `/etc/hosts`; `node_hosts` is the node's, used with its network.
pub fn hosts_file(pod: &core::Pod, ips: &[String], cluster: &Cluster, node_hosts: &str) -> String {
    let mut text = String::new();
    if model::host_network(pod) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(node_hosts);
    } else {
        text.push_str("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n");
        text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n");
        text.push_str("fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let (name, domain) = hostname(pod, cluster);
        for ip in ips {
            if domain.is_empty() {
                text.push_str(&format!("{ip}\t{name}\n"));
            } else {
                text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n"));
            }
        }
    }
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

/// Settings of a `resolv.conf` text.
fn parse(resolv_conf: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => config.searches = words.map(str::to_owned).collect(),
            Some("options") => config.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

fn append(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// The DNS settings of a pod by its policy and its own additions.
pub fn dns_config(pod: &core::Pod, cluster: &Cluster) -> DnsConfig {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let in_cluster = match policy {
        "ClusterFirst" => !model::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let node = parse(&cluster.resolv_conf);
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else if in_cluster && !cluster.dns.is_empty() {
        let mut searches = Vec::new();
        if !cluster.domain.is_empty() {
            let domain = &cluster.domain;
            searches.push(format!("{}.svc.{domain}", model::namespace(pod)));
            searches.push(format!("svc.{domain}"));
            searches.push(domain.clone());
        }
        append(&mut searches, node.searches);
        DnsConfig { servers: cluster.dns.clone(), searches, options: vec!["ndots:5".to_owned()] }
    } else {
        node
    };
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        append(&mut config.servers, own.nameservers.clone().unwrap_or_default());
        append(&mut config.searches, own.searches.clone().unwrap_or_default());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            config.options.retain(|old| old.split(':').next() != Some(name.as_str()));
            config.options.push(match &option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> core::Pod {
        let mut value = json!({"metadata": {"name": "p", "namespace": "n"}});
        value["spec"] = spec;
        let mut pod: core::Pod = serde_json::from_value(value).unwrap();
        pod.spec.get_or_insert_default().containers.clear();
        pod
    }

    fn cluster() -> Cluster {
        Cluster {
            dns: vec!["10.96.0.10".into()],
            domain: "cluster.local".into(),
            resolv_conf: "nameserver 1.1.1.1\nsearch example.org\noptions edns0\n".into(),
        }
    }

    #[test]
    fn dns_by_policy() {
        let cases = [
            (
                json!({"containers": []}),
                "10.96.0.10",
                "n.svc.cluster.local svc.cluster.local cluster.local example.org",
                "ndots:5",
            ),
            (json!({"containers": [], "hostNetwork": true}), "1.1.1.1", "example.org", "edns0"),
            (json!({"containers": [], "dnsPolicy": "Default"}), "1.1.1.1", "example.org", "edns0"),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"],
                    "searches": ["a"], "options": [{"name": "ndots", "value": "2"}, {"name": "x"}]}}),
                "9.9.9.9",
                "a",
                "ndots:2 x",
            ),
            (
                json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}),
                "10.96.0.10",
                "n.svc.cluster.local svc.cluster.local cluster.local example.org",
                "ndots:1",
            ),
        ];
        for (spec, servers, searches, options) in cases {
            let config = dns_config(&pod(spec.clone()), &cluster());
            assert_eq!(
                (config.servers.join(" "), config.searches.join(" "), config.options.join(" ")),
                (servers.to_owned(), searches.to_owned(), options.to_owned()),
                "{spec}"
            );
        }
    }

    #[test]
    fn hosts_and_hostname() {
        let plain = pod(json!({"containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let text = hosts_file(&plain, &["10.0.0.5".into()], &cluster(), "");
        assert!(text.contains("10.0.0.5\tp\n") && text.ends_with("1.2.3.4\ta\tb\n"), "{text}");
        let named = pod(json!({"containers": [], "hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}));
        assert_eq!(kernel_hostname(&named, &cluster()), "h.s.n.svc.cluster.local");
        assert!(hosts_file(&named, &["10.0.0.5".into()], &cluster(), "").contains("\th.s.n.svc.cluster.local\th\n"));
        let host = pod(json!({"containers": [], "hostNetwork": true}));
        assert!(hosts_file(&host, &[], &cluster(), "127.0.0.1 node\n").contains("127.0.0.1 node"));
    }
}
