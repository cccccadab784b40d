//! What the scheduler knows of the cluster: nodes with the pods on them, including those that are only about to be bound.
//!
//! Pure bookkeeping: it is told of changes and answers questions; it never reads the cluster by itself. A pod stands on at most
//! one node, so that a burst of decisions sees each other's claims.

use crate::matching::{Labels, pod_labels, selects};
use crate::resources::{Resources, is_sidecar, pod_requests};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm, Service, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A port that a pod wants of its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// `0.0.0.0` for all addresses.
    pub ip: String,
    /// `TCP` where not given.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had at once.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == "0.0.0.0" || other.ip == "0.0.0.0")
    }
}

/// A pod with what the plugins ask of it, computed once.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// The object.
    pub pod: Arc<Pod>,
    /// What it asks of a node.
    pub requests: Resources,
    /// The same with small defaults for containers that ask for nothing; for scoring.
    pub scored_requests: Resources,
    /// The node's ports it wants.
    pub ports: Vec<HostPort>,
}

impl PodInfo {
    /// Computes the facts of `pod`.
    #[must_use]
    pub fn new(pod: Arc<Pod>) -> Self {
        let Some(spec) = &pod.spec else {
            return Self {
                requests: Resources::default(),
                scored_requests: Resources::default(),
                ports: Vec::new(),
                pod,
            };
        };
        let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
        let ports = ports.filter_map(|port| {
            Some(HostPort {
                ip: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned()),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        });
        Self {
            requests: pod_requests(spec, pod.status.as_ref(), false),
            scored_requests: pod_requests(spec, pod.status.as_ref(), true),
            ports: ports.collect(),
            pod,
        }
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `spec.nodeName`, empty before it is bound.
    #[must_use]
    pub fn node_name(&self) -> &str {
        self.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
    }

    /// Required terms of pod affinity and of pod anti-affinity.
    #[must_use]
    pub fn required_terms(&self) -> (&[PodAffinityTerm], &[PodAffinityTerm]) {
        let affinity = self.pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let with = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let without = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        (
            with.and_then(|with| with.required_during_scheduling_ignored_during_execution.as_deref())
                .unwrap_or_default(),
            without
                .and_then(|not| not.required_during_scheduling_ignored_during_execution.as_deref())
                .unwrap_or_default(),
        )
    }

    /// Preferred terms of pod affinity and of pod anti-affinity.
    #[must_use]
    pub fn preferred_terms(&self) -> (&[WeightedPodAffinityTerm], &[WeightedPodAffinityTerm]) {
        let affinity = self.pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let with = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let without = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        (
            with.and_then(|with| with.preferred_during_scheduling_ignored_during_execution.as_deref())
                .unwrap_or_default(),
            without
                .and_then(|not| not.preferred_during_scheduling_ignored_during_execution.as_deref())
                .unwrap_or_default(),
        )
    }

    /// Whether it says anything about other pods.
    #[must_use]
    pub fn has_affinity(&self) -> bool {
        let affinity = self.pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        affinity.is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some())
    }
}

/// A node and the pods on it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The object.
    pub node: Arc<Node>,
    /// `status.allocatable`.
    pub allocatable: Resources,
    /// The pods on it by uid, those about to be bound included.
    pub pods: HashMap<String, Arc<PodInfo>>,
    /// What they ask together.
    pub requested: Resources,
    /// The same with defaults; for scoring.
    pub scored_requested: Resources,
}

impl NodeInfo {
    /// A node without pods.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let allocatable = Resources::parse(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
        Self {
            node,
            allocatable,
            pods: HashMap::new(),
            requested: Resources::default(),
            scored_requested: Resources::default(),
        }
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    fn add(&mut self, pod: &Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.scored_requested.add(&pod.scored_requests);
        if let Some(old) = self.pods.insert(pod.uid().to_owned(), Arc::clone(pod)) {
            self.requested.subtract(&old.requests);
            self.scored_requested.subtract(&old.scored_requests);
        }
    }

    fn remove(&mut self, uid: &str) {
        if let Some(old) = self.pods.remove(uid) {
            self.requested.subtract(&old.requests);
            self.scored_requested.subtract(&old.scored_requests);
        }
    }
}

/// The cluster as the scheduler sees it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    /// Which node each pod stands on; the node itself may not be known (yet).
    places: HashMap<String, (String, Arc<PodInfo>)>,
    /// Labels of namespaces, for `namespaceSelector`.
    pub namespaces: HashMap<String, Labels>,
    /// Services by `namespace/name`, for default spreading.
    pub services: HashMap<String, Arc<Service>>,
    /// ReplicaSets by `namespace/name`, for default spreading.
    pub replica_sets: HashMap<String, Arc<ReplicaSet>>,
}

impl Snapshot {
    /// All nodes in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    /// A pod that stands on some node.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.places.get(uid).map(|(_, pod)| pod)
    }

    /// Uids of all pods that stand on some node.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Adds a node or takes its new state; returns the old one.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let name = node.metadata.name.clone().unwrap_or_default();
        if let Some(info) = self.nodes.get_mut(&name) {
            info.allocatable = Resources::parse(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
            return Some(std::mem::replace(&mut info.node, node));
        }
        let mut info = NodeInfo::new(node);
        for (_, pod) in self.places.values().filter(|(place, _)| *place == name) {
            info.add(pod);
        }
        self.nodes.insert(name, info);
        None
    }

    /// Forgets a node; its pods are remembered in case it returns.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Puts a pod on a node, wherever it stood before; returns its former state.
    pub fn place(&mut self, pod: &Arc<PodInfo>, node: &str) -> Option<Arc<PodInfo>> {
        let uid = pod.uid().to_owned();
        let old = self.places.insert(uid.clone(), (node.to_owned(), Arc::clone(pod)));
        if let Some((place, _)) = &old
            && place != node
            && let Some(info) = self.nodes.get_mut(place)
        {
            info.remove(&uid);
        }
        if let Some(info) = self.nodes.get_mut(node) {
            info.add(pod);
        }
        old.map(|(_, pod)| pod)
    }

    /// Takes a pod off its node; returns it if it stood on one.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let (place, pod) = self.places.remove(uid)?;
        if let Some(info) = self.nodes.get_mut(&place) {
            info.remove(uid);
        }
        Some(pod)
    }

    /// The selectors by which pods like this one are spread when it says nothing itself: those of the services that select it
    /// and of the ReplicaSet that owns it.
    #[must_use]
    pub fn default_selectors(&self, pod: &Pod) -> Vec<LabelSelector> {
        let namespace = crate::matching::namespace(pod);
        let labels = pod_labels(pod);
        let mut selectors: Vec<LabelSelector> = self
            .services
            .values()
            .filter(|service| service.metadata.namespace.as_deref() == Some(namespace))
            .filter_map(|service| service.spec.as_ref()?.selector.clone())
            .filter(|selector| !selector.is_empty())
            .map(|selector| LabelSelector { match_labels: Some(selector), ..LabelSelector::default() })
            .filter(|selector| selects(Some(selector), labels))
            .collect();
        let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        if let Some(owner) = owner.filter(|owner| owner.kind == "ReplicaSet")
            && let Some(set) = self.replica_sets.get(&format!("{namespace}/{}", owner.name))
            && let Some(spec) = &set.spec
        {
            selectors.push(spec.selector.clone());
        }
        selectors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn pod(uid: &str, cpu: &str) -> Arc<PodInfo> {
        let pod = from_value(json!({
            "metadata": {"name": uid, "uid": uid, "namespace": "d"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}, "ports": [{"containerPort": 1, "hostPort": 80}]}]},
        }));
        Arc::new(PodInfo::new(Arc::new(pod.unwrap())))
    }

    fn node(name: &str) -> Arc<Node> {
        Arc::new(from_value(json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4"}}})).unwrap())
    }

    #[test]
    fn sums_follow_every_move() {
        let mut snapshot = Snapshot::default();
        let cpu = |snapshot: &Snapshot, node: &str| snapshot.node(node).map(|node| node.requested.cpu);
        // A pod on a node that is not known yet.
        snapshot.place(&pod("a", "1"), "n1");
        assert_eq!(cpu(&snapshot, "n1"), None);
        snapshot.set_node(node("n1"));
        snapshot.set_node(node("n2"));
        assert_eq!(cpu(&snapshot, "n1"), Some(1000));
        snapshot.place(&pod("a", "2"), "n1");
        assert_eq!(cpu(&snapshot, "n1"), Some(2000));
        snapshot.place(&pod("a", "2"), "n2");
        assert_eq!((cpu(&snapshot, "n1"), cpu(&snapshot, "n2")), (Some(0), Some(2000)));
        snapshot.remove_node("n2");
        snapshot.set_node(node("n2"));
        assert_eq!(cpu(&snapshot, "n2"), Some(2000));
        assert!(snapshot.remove_pod("a").is_some() && snapshot.remove_pod("a").is_none());
        assert_eq!(cpu(&snapshot, "n2"), Some(0));
    }

    #[test]
    fn ports() {
        assert_eq!(pod("a", "1").ports.len(), 1);
        let port = |ip: &str, protocol: &str| HostPort { ip: ip.to_owned(), protocol: protocol.to_owned(), port: 80 };
        assert!(port("0.0.0.0", "TCP").conflicts(&port("127.0.0.1", "TCP")));
        assert!(!port("127.0.0.2", "TCP").conflicts(&port("127.0.0.1", "TCP")));
        assert!(!port("0.0.0.0", "TCP").conflicts(&port("0.0.0.0", "UDP")));
    }
}
