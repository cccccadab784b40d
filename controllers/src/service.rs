//! Which pods stand behind a Service and on which ports, for both kinds of endpoints; and what wakes their
//! controllers. Never writes.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, Node, ObjectReference, Pod, Service, ServicePort},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use crate::{
    informer::{Change, Informer, Key, Watched},
    object, pod,
    queue::Queue,
    selector,
};

impl Watched for Service {}

/// The label of what belongs to a Service without a cluster IP.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// A port of a pod that a Service leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The Service port's name, empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: String,
    /// The number on the pod.
    pub port: i32,
    /// The application protocol.
    pub app_protocol: Option<String>,
}

/// A pod behind a Service, in one address family.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// The pod's address.
    pub address: String,
    /// Its ports, sorted.
    pub ports: Vec<Port>,
    /// Whether traffic should go there.
    pub ready: bool,
    /// Whether it would serve, even while it ends.
    pub serving: bool,
    /// Whether it ends.
    pub terminating: bool,
    /// The pod's node.
    pub node: Option<String>,
    /// The node's zone.
    pub zone: Option<String>,
    /// The pod's own name within a headless Service.
    pub hostname: Option<String>,
    /// The pod.
    pub target: ObjectReference,
}

/// Whether the Service has no cluster IP of its own.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The selector of a Service whose endpoints are kept by a controller; `None` if others keep them.
#[must_use]
pub fn selector_of(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let labels = spec.selector.clone().filter(|labels| !labels.is_empty())?;
    Some(LabelSelector { match_labels: Some(labels), match_expressions: None })
}

/// The address families of a Service, `IPv4` or `IPv6`, the primary first.
#[must_use]
pub fn families(service: &Service) -> Vec<String> {
    let spec = service.spec.clone().unwrap_or_default();
    if let Some(families) = spec.ip_families.filter(|all| !all.is_empty()) {
        return families;
    }
    let ip = spec.cluster_ip.and_then(|ip| ip.parse::<IpAddr>().ok());
    vec![if ip.is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" }.to_owned()]
}

fn containers(one: &Pod) -> impl Iterator<Item = &Container> {
    let spec = one.spec.as_ref();
    let sidecars = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.into_iter().flat_map(|spec| &spec.containers).chain(sidecars.collect::<Vec<_>>())
}

/// The number of a Service's port on a pod; `None` if the pod does not have the named port.
#[must_use]
pub fn port_on(one: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(if *number == 0 { port.port } else { *number }),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => containers(one)
            .flat_map(|container| container.ports.iter().flatten())
            .find(|held| held.name.as_ref() == Some(name) && held.protocol.as_deref().unwrap_or("TCP") == protocol)
            .map(|held| held.container_port),
    }
}

/// The pods behind a Service in one family. Ended pods and those without an address are left out.
#[must_use]
pub fn backends(
    service: &Service,
    pods: &[Arc<Pod>],
    family: &str,
    zone_of: impl Fn(&str) -> Option<String>,
) -> Vec<Backend> {
    let spec = service.spec.clone().unwrap_or_default();
    let mut found = Vec::new();
    for one in pods.iter().filter(|one| !pod::is_terminal(one)) {
        let Some(address) = address(one, family) else { continue };
        let mut ports: Vec<_> = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                Some(Port {
                    name: port.name.clone().unwrap_or_default(),
                    protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    port: port_on(one, port)?,
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        if ports.is_empty() && spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            continue;
        }
        ports.sort();
        let serving = pod::is_ready(one);
        let terminating = pod::is_terminating(one);
        let pod_spec = one.spec.clone().unwrap_or_default();
        let named = pod_spec.subdomain == service.metadata.name && one.metadata.namespace == service.metadata.namespace;
        let node = pod::node_of(one).map(str::to_owned);
        found.push(Backend {
            address,
            ports,
            ready: spec.publish_not_ready_addresses == Some(true) || (serving && !terminating),
            serving,
            terminating,
            zone: node.as_deref().and_then(&zone_of),
            node,
            hostname: pod_spec.hostname.filter(|name| named && !name.is_empty()),
            target: ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: one.metadata.namespace.clone(),
                name: one.metadata.name.clone(),
                uid: one.metadata.uid.clone(),
                ..ObjectReference::default()
            },
        });
    }
    found.sort_by(|a, b| a.target.name.cmp(&b.target.name));
    found
}

fn address(one: &Pod, family: &str) -> Option<String> {
    let status = one.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
    let fits = |ip: &&String| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6"));
    all.into_iter().find(fits).cloned()
}

/// The zone of a node, from its label.
#[must_use]
pub fn zone_of(nodes: &Informer<Node>, name: &str) -> Option<String> {
    let node = nodes.get(&Key::new("", name))?;
    object::label(&node.metadata, "topology.kubernetes.io/zone").map(str::to_owned)
}

/// Puts a Service into `queue` when it changes, and when a pod changes that it selects or selected in anything that
/// endpoints show.
pub fn wake_by(services: &Arc<Informer<Service>>, pods: &Arc<Informer<Pod>>, queue: &Arc<Queue<Key>>) {
    services.subscribe({
        let queue = queue.clone();
        move |change| queue.add(Key::of(&change.object().metadata))
    });
    let (queue, services) = (queue.clone(), services.clone());
    let wake = move |one: &Pod| {
        for service in selecting(&services, object::namespace(&one.metadata), one.metadata.labels.as_ref()) {
            queue.add(Key::of(&service.metadata));
        }
    };
    pods.subscribe(move |change| {
        if let Change::Applied { old: Some(old), new } = change {
            if same_for_endpoints(old, new) {
                return;
            }
            if old.metadata.labels != new.metadata.labels {
                wake(old);
            }
        }
        wake(change.object());
    });
}

/// The Services whose selector takes in these labels.
#[must_use]
pub fn selecting(
    services: &Informer<Service>,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> Vec<Arc<Service>> {
    let mut all = services.in_namespace(namespace);
    all.retain(|service| selector_of(service).is_some_and(|wanted| selector::matches(&wanted, labels)));
    all
}

/// Whether a change of a pod can change what stands behind a Service.
#[must_use]
pub fn same_for_endpoints(a: &Pod, b: &Pod) -> bool {
    let face = |one: &Pod| {
        let status = one.status.clone().unwrap_or_default();
        (
            (one.metadata.labels.clone(), pod::is_ready(one), pod::is_terminating(one), pod::is_terminal(one)),
            (status.pod_ip, status.pod_ips, pod::node_of(one).map(str::to_owned)),
        )
    };
    face(a) == face(b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let one: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "c", "ports": [{"name": "web", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
            "initContainers": [{"name": "s", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 9}]}]}}))
        .unwrap();
        for (port, expected) in [
            (json!({"port": 80}), Some(80)),
            (json!({"port": 80, "targetPort": 81}), Some(81)),
            (json!({"port": 80, "targetPort": "web"}), Some(8080)),
            (json!({"port": 80, "targetPort": "dns"}), None),
            (json!({"port": 80, "protocol": "UDP", "targetPort": "dns"}), Some(53)),
            (json!({"port": 80, "targetPort": "side"}), Some(9)),
            (json!({"port": 80, "targetPort": "none"}), None),
        ] {
            assert_eq!(port_on(&one, &serde_json::from_value(port.clone()).unwrap()), expected, "{port}");
        }
    }
}
