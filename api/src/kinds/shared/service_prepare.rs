//! How a service's linked fields follow each other: types, addresses, ports.
//!
//! Never allocates: it says what is needed. Families are `service_families`'.

use super::parts::copy;
use super::rules::{differ, is_zero};
use crate::field_path::Path;
use crate::json::{Value, json};
use crate::kind::{Need, Pool};
use crate::value;

fn kind(service: &Value) -> &str {
    value::text(service, "spec.type")
}

/// Has addresses of its own (or explicitly none).
#[must_use]
pub fn needs_address(service: &Value) -> bool {
    kind(service) != "ExternalName"
}

/// `clusterIP: None`.
#[must_use]
pub fn is_headless(service: &Value) -> bool {
    match addresses(service).as_slice() {
        [] => value::text(service, "spec.clusterIP") == "None",
        all => *all == ["None"],
    }
}

/// `spec.clusterIPs`, empty texts for those still to come.
#[must_use]
pub fn addresses(service: &Value) -> Vec<&str> {
    value::items(service, "spec.clusterIPs").iter().map(|ip| ip.as_str().unwrap_or_default()).collect()
}

fn has_node_ports(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

/// Load balancers with local traffic are asked for their health.
#[must_use]
pub fn has_health_port(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && value::text(service, "spec.externalTrafficPolicy") == "Local"
}

/// Reached from outside, so that `externalTrafficPolicy` means something.
#[must_use]
pub fn is_external(service: &Value) -> bool {
    has_node_ports(service) || (kind(service) == "ClusterIP" && !value::items(service, "spec.externalIPs").is_empty())
}

/// Defaults that depend on other fields.
pub fn default(service: &mut Value) {
    // In Go it is there, whatever was sent.
    value::map_mut(service, "spec");
    let Some(spec) = service.get_mut("spec") else { return };
    text(spec, "sessionAffinity", "None");
    match value::text(spec, "sessionAffinity") {
        "None" => {
            value::remove(spec, "sessionAffinityConfig");
        }
        "ClientIP" if value::int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds").is_none() => {
            value::set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
        }
        _ => {}
    }
    text(spec, "type", "ClusterIP");
    for port in value::items_mut(spec, "ports") {
        text(port, "protocol", "TCP");
        if port.get("targetPort").is_none_or(|target| is_zero(target) || target.as_i64() == Some(0)) {
            let number = value::int(port, "port").unwrap_or_default();
            value::set(port, "targetPort", number);
        }
    }
    let of_type = value::text(spec, "type").to_owned();
    if matches!(of_type.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        value::set_default(spec, "internalTrafficPolicy", "Cluster");
    }
    if of_type == "LoadBalancer" {
        value::set_default(spec, "allocateLoadBalancerNodePorts", true);
    }
    if is_external(service) && value::text(service, "spec.externalTrafficPolicy").is_empty() {
        value::set(service, "spec.externalTrafficPolicy", "Cluster");
    }
    if of_type == "LoadBalancer" {
        for ingress in value::items_mut(service, "status.loadBalancer.ingress") {
            if !value::text(ingress, "ip").is_empty() {
                value::set_default(ingress, "ipMode", "VIP");
            }
        }
    }
}

fn text(object: &mut Value, name: &str, default: &str) {
    if value::text(object, name).is_empty() {
        value::set(object, name, default);
    }
}

/// A new service: the plural address follows the singular.
pub fn create(service: &mut Value) {
    let one = value::text(service, "spec.clusterIP").to_owned();
    if !one.is_empty() && addresses(service).is_empty() {
        value::set(service, "spec.clusterIPs", json!([one]));
    }
}

/// A changed service keeps what was allocated, and drops what its new type has no use for.
pub fn update(new: &mut Value, old: &Value) {
    keep_allocated(new, old);
    sync_addresses(new, old);
    drop_useless(new, old);
}

fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_address(old) && needs_address(new) {
        if value::text(new, "spec.clusterIP").is_empty() {
            copy(new, old, "spec.clusterIP");
        }
        if addresses(new).is_empty() {
            copy(new, old, "spec.clusterIPs");
        }
    }
    if has_node_ports(old) && has_node_ports(new) {
        let used: Vec<i64> = value::items(new, "spec.ports").iter().filter_map(node_port).collect();
        let before = value::items(old, "spec.ports");
        for port in value::items_mut(new, "spec.ports") {
            let name = value::text(port, "name");
            let same = before.iter().rev().find(|other| value::text(other, "name") == name).and_then(node_port);
            if let (None, Some(number)) = (node_port(port), same.filter(|number| !used.contains(number))) {
                value::set(port, "nodePort", number);
            }
        }
    }
    if has_health_port(old) && has_health_port(new) && health_port(new).is_none() {
        copy(new, old, "spec.healthCheckNodePort");
    }
}

fn node_port(port: &Value) -> Option<i64> {
    value::int(port, "nodePort").filter(|number| *number != 0)
}

fn health_port(service: &Value) -> Option<i64> {
    value::int(service, "spec.healthCheckNodePort").filter(|number| *number != 0)
}

/// Clients that know only the singular address change it; the plural follows when they left it alone.
fn sync_addresses(new: &mut Value, old: &Value) {
    let one = value::text(new, "spec.clusterIP").to_owned();
    let same = value::get(new, "spec.clusterIPs") == value::get(old, "spec.clusterIPs");
    if one != value::text(old, "spec.clusterIP") && same {
        if one.is_empty() {
            value::remove(new, "spec.clusterIPs");
        } else {
            value::set(new, "spec.clusterIPs", json!([one]));
        }
    }
}

fn drop_useless(new: &mut Value, old: &Value) {
    let same = |new: &Value, path: &str| !differ(value::get(new, path), value::get(old, path));
    let drop = |new: &mut Value, path: &str| {
        if same(new, path) {
            value::remove(new, path);
        }
    };
    if needs_address(old) && !needs_address(new) {
        if same(new, "spec.clusterIPs") && same(new, "spec.clusterIP") {
            value::remove(new, "spec.clusterIP");
            value::remove(new, "spec.clusterIPs");
        }
        drop(new, "spec.ipFamilies");
        drop(new, "spec.ipFamilyPolicy");
    }
    if has_node_ports(old) && !has_node_ports(new) {
        let ports = |service: &Value| -> Vec<Option<i64>> {
            value::items(service, "spec.ports").iter().map(|port| value::int(port, "nodePort")).collect()
        };
        if ports(new) == ports(old) {
            for port in value::items_mut(new, "spec.ports") {
                value::remove(port, "nodePort");
            }
        }
    }
    if has_health_port(old) && !has_health_port(new) {
        drop(new, "spec.healthCheckNodePort");
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        drop(new, "spec.allocateLoadBalancerNodePorts");
        drop(new, "spec.loadBalancerClass");
    }
    if is_external(old) && !is_external(new) {
        drop(new, "spec.externalTrafficPolicy");
    }
    if kind(new) != "LoadBalancer" && value::get(new, "status.loadBalancer").is_some() {
        value::set(new, "status.loadBalancer", json!({}));
    }
}

/// Addresses and ports that a service holds for itself.
#[must_use]
pub fn needs(service: &Value) -> Vec<Need> {
    let mut out = Vec::new();
    let spec = Path::new("spec");
    if needs_address(service) && !is_headless(service) {
        let addresses = addresses(service);
        for (i, family) in value::items(service, "spec.ipFamilies").iter().filter_map(Value::as_str).enumerate() {
            let mut set = vec![format!("/spec/clusterIPs/{i}")];
            if i == 0 {
                set.push("/spec/clusterIP".to_owned());
            }
            out.push(Need {
                pool: if family == "IPv6" { Pool::ClusterIpV6 } else { Pool::ClusterIpV4 },
                want: addresses.get(i).filter(|ip| !ip.is_empty()).map(|ip| (*ip).to_owned()),
                set,
                field: spec.child("clusterIPs"),
            });
        }
    }
    if has_node_ports(service) {
        out.extend(node_ports(service, &spec.child("ports")));
    }
    if has_health_port(service) {
        out.push(Need {
            pool: Pool::HealthCheckNodePort,
            want: health_port(service).map(|number| number.to_string()),
            set: vec!["/spec/healthCheckNodePort".to_owned()],
            field: spec.child("healthCheckNodePort"),
        });
    }
    out
}

/// Ports with one number and several protocols share a node port, as upstream hands them out.
fn node_ports(service: &Value, field: &Path) -> Vec<Need> {
    let automatic = kind(service) != "LoadBalancer"
        || value::get(service, "spec.allocateLoadBalancerNodePorts").and_then(Value::as_bool) != Some(false);
    let ports = value::items(service, "spec.ports");
    let mut out = Vec::new();
    let mut chosen: Vec<(i64, usize)> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let pointer = format!("/spec/ports/{i}/nodePort");
        let number = value::int(port, "port").unwrap_or_default();
        let wanted = node_port(port);
        if wanted.is_none() && !automatic {
            continue;
        }
        let requested = wanted
            .or_else(|| ports.iter().filter(|p| value::int(p, "port") == Some(number)).find_map(node_port))
            .map(|n| n.to_string());
        let shared = chosen.iter().find(|(other, _)| *other == number).map(|(_, at)| *at);
        if let (None, Some(need)) = (&requested, shared.and_then(|at| out.get_mut(at)))
            && let Need { want: None, set, .. } = need
        {
            set.push(pointer);
            continue;
        }
        chosen.push((number, out.len()));
        let protocol = match value::text(port, "protocol") {
            "UDP" => "UDP",
            "SCTP" => "SCTP",
            _ => "TCP",
        };
        out.push(Need {
            pool: Pool::NodePort(protocol),
            want: requested,
            set: vec![pointer],
            field: field.index(i).child("nodePort"),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::service_families;

    fn created(spec: Value) -> Value {
        let mut service = json!({});
        service["spec"] = spec;
        default(&mut service);
        create(&mut service);
        assert_eq!(service_families::settle(&mut service, None, &["IPv4"]), []);
        let once = service.clone();
        default(&mut service);
        assert_eq!(service, once, "defaults run twice");
        service
    }

    #[test]
    fn defaults_by_type() {
        let service = created(json!({"ports": [{"port": 80}]}));
        assert_eq!(
            service["spec"],
            json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]})
        );
        let service = created(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}));
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
        assert_eq!(service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
        let service = created(json!({"clusterIP": "None"}));
        assert_eq!(service["spec"]["clusterIPs"], json!(["None"]));
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        assert!(created(json!({"type": "ExternalName", "externalName": "a.b"}))["spec"].get("ipFamilies").is_none());
    }

    fn wants(service: &Value) -> Vec<(Pool, Option<String>, usize)> {
        needs(service).into_iter().map(|need| (need.pool, need.want, need.set.len())).collect()
    }

    #[test]
    fn needs_by_type() {
        assert_eq!(wants(&created(json!({"ports": [{"port": 80}]}))), [(Pool::ClusterIpV4, None, 2)]);
        assert_eq!(wants(&created(json!({"clusterIP": "None"}))), []);
        assert_eq!(wants(&created(json!({"type": "ExternalName"}))), []);
        let dns = json!({"type": "NodePort", "clusterIP": "10.0.0.10", "ports": [
            {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "nodePort": 30080}]});
        assert_eq!(
            wants(&created(dns)),
            [
                (Pool::ClusterIpV4, Some("10.0.0.10".to_owned()), 2),
                (Pool::NodePort("UDP"), None, 2),
                (Pool::NodePort("TCP"), Some("30080".to_owned()), 1),
            ]
        );
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 80}]});
        assert_eq!(wants(&created(local)), [(Pool::ClusterIpV4, None, 2), (Pool::HealthCheckNodePort, None, 1)]);
    }

    #[test]
    fn updates_keep_and_drop() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30000}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 81}]}});
        update(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30000);
        let mut new = old.clone();
        value::set(&mut new, "spec.type", "ClusterIP");
        update(&mut new, &old);
        assert_eq!(new["spec"]["ports"], json!([{"port": 80}]));
        assert!(new["spec"].get("externalTrafficPolicy").is_none());
        let mut new = old.clone();
        value::set(&mut new, "spec.type", "ExternalName");
        update(&mut new, &old);
        assert_eq!(new["spec"], json!({"type": "ExternalName", "ports": [{"port": 80}]}));
    }
}
