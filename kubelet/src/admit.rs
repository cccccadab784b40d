//! Whether a pod that the scheduler or a person put on this node fits it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{Config, model, quantity};

/// What a pod asks for of a resource, in thousandths: its containers' sum, or the largest init container's.
fn request(pod: &core::Pod, name: &str) -> i64 {
    let of = |container: &core::Container| {
        let resources = container.resources.as_ref();
        resources.and_then(|resources| quantity::milli(resources.requests.as_ref()?.get(name)?)).unwrap_or(0)
    };
    let (mut beside, mut most) = (0_i64, 0_i64);
    for container in model::init_containers(pod) {
        if model::is_sidecar(container) {
            beside = beside.saturating_add(of(container));
        } else {
            most = most.max(beside.saturating_add(of(container)));
        }
    }
    let apps = model::app_containers(pod).iter().map(of).fold(beside, i64::saturating_add);
    let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get(name));
    whole.and_then(quantity::milli).unwrap_or(apps.max(most))
}

/// The ports that a pod wants of the node: number, protocol, and address if it is not for all.
fn host_ports(pod: &core::Pod) -> impl Iterator<Item = (i32, &str, Option<&str>)> {
    let sidecars = model::init_containers(pod).iter().filter(|container| model::is_sidecar(container));
    let all = model::app_containers(pod).iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    all.filter_map(|port| {
        let address = port.host_ip.as_deref().filter(|address| !matches!(*address, "" | "0.0.0.0" | "::"));
        Some((port.host_port.filter(|port| *port > 0)?, port.protocol.as_deref().unwrap_or("TCP"), address))
    })
}

/// Whether two pods want the same port of the node.
fn collide(a: &core::Pod, b: &core::Pod) -> bool {
    host_ports(a).any(|(port, protocol, address)| {
        host_ports(b).any(|(other_port, other_protocol, other)| {
            let same_place = address.is_none() || other.is_none() || address == other;
            (port, protocol) == (other_port, other_protocol) && same_place
        })
    })
}

/// Why a pod cannot run here: upstream's reason and message. `others` are the pods that already do.
pub fn refusal(
    pod: &core::Pod,
    others: &[Arc<core::Pod>],
    allocatable: &BTreeMap<String, Quantity>,
    config: &Config,
) -> Option<(&'static str, String)> {
    let most = usize::try_from(config.max_pods).unwrap_or(usize::MAX);
    if others.len() >= most {
        let text =
            format!("Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {most}", others.len());
        return Some(("OutOfpods", text));
    }
    for (name, reason) in
        [("cpu", "OutOfcpu"), ("memory", "OutOfmemory"), ("ephemeral-storage", "OutOfephemeral-storage")]
    {
        let asked = request(pod, name);
        let Some(capacity) = allocatable.get(name).and_then(quantity::milli).filter(|_| asked > 0) else { continue };
        let used = others.iter().map(|other| request(other, name)).fold(0, i64::saturating_add);
        if used.saturating_add(asked) > capacity {
            let unit = if name == "cpu" { 1 } else { 1000 };
            let text = format!(
                "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                asked / unit,
                used / unit,
                capacity / unit
            );
            return Some((reason, text));
        }
    }
    if others.iter().any(|other| collide(pod, other)) {
        let text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Some(("NodePorts", text.to_owned()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn pod(ports: impl Into<Value>) -> core::Pod {
        let ports: Value = ports.into();
        from_value(json!({"spec": {"containers": [{"name": "c", "ports": ports}]}})).unwrap()
    }

    #[test]
    fn a_port_of_the_node_is_for_one_pod() {
        let taken = pod(json!([{"containerPort": 80, "hostPort": 8080, "protocol": "TCP", "hostIP": "127.0.0.1"}]));
        for (wanted, collides) in [
            (json!([{"containerPort": 1, "hostPort": 8080}]), true),
            (json!([{"containerPort": 1, "hostPort": 8080, "hostIP": "0.0.0.0"}]), true),
            (json!([{"containerPort": 1, "hostPort": 8080, "hostIP": "127.0.0.1"}]), true),
            (json!([{"containerPort": 1, "hostPort": 8080, "hostIP": "192.0.2.1"}]), false),
            (json!([{"containerPort": 1, "hostPort": 8080, "protocol": "UDP"}]), false),
            (json!([{"containerPort": 8080}]), false),
        ] {
            assert_eq!(collide(&pod(wanted.clone()), &taken), collides, "{wanted}");
        }
    }
}
