//! Spreads like pods over zones and nodes: hard constraints refuse, soft ones and the cluster's defaults (zone and host, for
//! pods of a service or ReplicaSet that say nothing themselves) prefer.

use super::{Event, Filter, MAX_SCORE, Plugin, Reasons, Score};
use crate::matching::{Labels, namespace, node_labels, node_matches, pod_labels, selects, untolerated};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::{Node, Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{HashMap, HashSet};

pub(super) struct PodTopologySpread;
pub(super) static PLUGIN: PodTopologySpread = PodTopologySpread;

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";

/// A constraint in the form in which it is counted.
struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: i64,
    /// All must select a pod for it to count.
    selectors: Vec<LabelSelector>,
    honor_affinity: bool,
    honor_taints: bool,
}

impl Constraint {
    fn new(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selectors: Vec<_> = constraint.label_selector.iter().cloned().collect();
        let own: Labels = constraint
            .match_label_keys
            .iter()
            .flatten()
            .filter_map(|key| Some((key.clone(), labels.get(key)?.clone())))
            .collect();
        // Without a selector nothing counts, whatever the keys say.
        if !own.is_empty() && !selectors.is_empty() {
            selectors.push(LabelSelector { match_labels: Some(own), ..LabelSelector::default() });
        }
        Self {
            key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            selectors,
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    fn selects(&self, labels: &Labels) -> bool {
        !self.selectors.is_empty() && self.selectors.iter().all(|selector| selects(Some(selector), labels))
    }

    /// Whether pods on the node count.
    fn counts_on(&self, pod: &Pod, node: &Node) -> bool {
        (!self.honor_affinity || node_matches(pod, node)) && (!self.honor_taints || untolerated(pod, node).is_none())
    }

    /// How many pods of the node are alike and stay.
    fn count(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let alike = node.pods.values().filter(|other| {
            namespace(&other.pod) == namespace(pod)
                && other.pod.metadata.deletion_timestamp.is_none()
                && self.selects(pod_labels(&other.pod))
        });
        i64::try_from(alike.count()).unwrap_or(i64::MAX)
    }
}

fn constraints(pod: &PodInfo, action: &str) -> Vec<Constraint> {
    let all = pod.pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
    let labels = pod_labels(&pod.pod);
    all.filter(|constraint| constraint.when_unsatisfiable == action)
        .map(|constraint| Constraint::new(constraint, labels))
        .collect()
}

fn has_all(constraints: &[Constraint], node: &Node) -> bool {
    constraints.iter().all(|constraint| node_labels(node).contains_key(&constraint.key))
}

/// A hard constraint with the pods counted per domain.
struct Counted {
    constraint: Constraint,
    domains: HashMap<String, i64>,
    floor: i64,
    itself: i64,
}

struct Hard(Vec<Counted>);

impl Filter for Hard {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        for counted in &self.0 {
            let Some(domain) = node_labels(&node.node).get(&counted.constraint.key) else {
                return Err(vec![format!("{MISMATCH} (missing required label)")]);
            };
            let here = counted.domains.get(domain).copied().unwrap_or_default();
            if here + counted.itself - counted.floor > counted.constraint.max_skew {
                return Err(vec![MISMATCH.to_owned()]);
            }
        }
        Ok(())
    }
}

/// A soft constraint with the pods counted per domain (per node for hosts, when asked).
struct Soft<'a> {
    pod: &'a Pod,
    counted: Vec<(Constraint, HashMap<String, i64>, f64)>,
    /// Nodes that lack a key of the pod's own constraints; they get nothing.
    ignored: HashSet<String>,
    order: Vec<String>,
}

impl Score for Soft<'_> {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "counts of pods")]
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.ignored.contains(node.name()) {
            return 0;
        }
        let mut score = 0.0;
        for (constraint, domains, weight) in &self.counted {
            if let Some(domain) = node_labels(&node.node).get(&constraint.key) {
                let count = if constraint.key == HOST {
                    constraint.count(self.pod, node)
                } else {
                    domains.get(domain).copied().unwrap_or_default()
                };
                score += count as f64 * weight + (constraint.max_skew - 1) as f64;
            }
        }
        f64::round(score) as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let known = || self.order.iter().zip(scores.iter()).filter(|(name, _)| !self.ignored.contains(*name));
        let max = known().map(|(_, score)| *score).max().unwrap_or_default();
        let min = known().map(|(_, score)| *score).min().unwrap_or_default();
        for (name, score) in self.order.iter().zip(scores.iter_mut()) {
            *score = match max {
                _ if self.ignored.contains(name) => 0,
                0 => MAX_SCORE,
                max => MAX_SCORE * (max + min - *score) / max,
            };
        }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn filter<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        let hard = constraints(pod, "DoNotSchedule");
        if hard.is_empty() {
            return None;
        }
        let mut domains: Vec<HashMap<String, i64>> = hard.iter().map(|_| HashMap::new()).collect();
        for node in snapshot.nodes().filter(|node| has_all(&hard, &node.node)) {
            for (constraint, domains) in hard.iter().zip(&mut domains) {
                if let Some(domain) = node_labels(&node.node).get(&constraint.key)
                    && constraint.counts_on(&pod.pod, &node.node)
                {
                    *domains.entry(domain.clone()).or_default() += constraint.count(&pod.pod, node);
                }
            }
        }
        let counted = hard.into_iter().zip(domains).map(|(constraint, domains)| {
            // No domain at all means that no node can be too full.
            let known = i64::try_from(domains.len()).unwrap_or(i64::MAX);
            let least = domains.values().copied().min().unwrap_or(i64::from(i32::MAX));
            let floor = if known < constraint.min_domains { 0 } else { least };
            let itself = i64::from(constraint.selects(pod_labels(&pod.pod)));
            Counted { constraint, domains, floor, itself }
        });
        Some(Box::new(Hard(counted.collect())))
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        candidates: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        if candidates.len() < 2 {
            return None;
        }
        let says = pod.pod.spec.as_ref()?.topology_spread_constraints.as_ref().is_some_and(|own| !own.is_empty());
        let soft = if says {
            constraints(pod, "ScheduleAnyway")
        } else {
            let selectors = snapshot.default_selectors(&pod.pod);
            let default = |key: &str, max_skew: i64| Constraint {
                key: key.to_owned(),
                max_skew,
                min_domains: 1,
                selectors: selectors.clone(),
                honor_affinity: true,
                honor_taints: false,
            };
            if selectors.is_empty() { Vec::new() } else { vec![default(HOST, 3), default(ZONE, 5)] }
        };
        if soft.is_empty() {
            return None;
        }
        let ignored: HashSet<String> = candidates
            .iter()
            .filter(|node| says && !has_all(&soft, &node.node))
            .map(|node| node.name().to_owned())
            .collect();
        let counted = soft.into_iter().map(|constraint| {
            let key = constraint.key.clone();
            let mut domains: HashMap<String, i64> = HashMap::new();
            let weighed = candidates.iter().filter(|node| !ignored.contains(node.name()));
            if key == HOST {
                let size = weighed.count();
                return (constraint, domains, weight(size));
            }
            // A node without the key counts as one more domain, as upstream.
            let mut size = HashSet::new();
            for node in weighed {
                size.insert(node_labels(&node.node).get(&key));
                domains.extend(node_labels(&node.node).get(&key).map(|domain| (domain.clone(), 0)));
            }
            for node in snapshot.nodes().filter(|node| constraint.counts_on(&pod.pod, &node.node)) {
                if let Some(count) = node_labels(&node.node).get(&key).and_then(|domain| domains.get_mut(domain)) {
                    *count += constraint.count(&pod.pod, node);
                }
            }
            (constraint, domains, weight(size.len()))
        });
        Some(Box::new(Soft {
            pod: &pod.pod,
            counted: counted.collect(),
            ignored,
            order: candidates.iter().map(|node| node.name().to_owned()).collect(),
        }))
    }

    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let hard = constraints(pod, "DoNotSchedule");
        match event {
            Event::NodeAdded(node) | Event::NodeChanged(_, node) => has_all(&hard, node),
            Event::PodBound(other) | Event::PodChanged(other) | Event::PodGone(other) => {
                namespace(other) == namespace(&pod.pod)
            }
            Event::NamespaceChanged => false,
        }
    }
}

/// The more domains, the more a single pod in one counts.
#[allow(clippy::cast_precision_loss, reason = "a number of nodes")]
fn weight(domains: usize) -> f64 {
    f64::ln(domains as f64 + 2.0)
}
