//! A node must have what the pod asks for; among those that have, the emptier is better (upstream's LeastAllocated).

use super::{Event, Filter, MAX_SCORE, Plugin, Reasons, Score};
use crate::resources::Resources;
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::Node;

pub(super) struct NodeResourcesFit;
pub(super) static PLUGIN: NodeResourcesFit = NodeResourcesFit;

struct Check<'a>(&'a Resources);

/// What is short for `wanted` where `used` of `allocatable` is taken.
fn missing(wanted: &Resources, used: &Resources, allocatable: &Resources) -> Reasons {
    let mut short = Vec::new();
    let mut compare = |name: &str, wanted: i64, used: i64, allocatable: i64| {
        if wanted > 0 && wanted > allocatable.saturating_sub(used) {
            short.push(format!("Insufficient {name}"));
        }
    };
    compare("cpu", wanted.cpu, used.cpu, allocatable.cpu);
    compare("memory", wanted.memory, used.memory, allocatable.memory);
    compare("ephemeral-storage", wanted.ephemeral, used.ephemeral, allocatable.ephemeral);
    for (name, amount) in &wanted.other {
        compare(name, *amount, used.other(name), allocatable.other(name));
    }
    short
}

impl Filter for Check<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        let mut short = missing(self.0, &node.requested, &node.allocatable);
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.allocatable.pods {
            short.insert(0, "Too many pods".to_owned());
        }
        if short.is_empty() { Ok(()) } else { Err(short) }
    }
}

/// The mean of the free shares of CPU and memory.
struct LeastAllocated<'a>(&'a Resources);

impl Score for LeastAllocated<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let free = |used: i64, wanted: i64, of: i64| {
            let left = of.saturating_sub(used).saturating_sub(wanted).max(0);
            (of > 0).then(|| i64::try_from(i128::from(left) * i128::from(MAX_SCORE) / i128::from(of)).unwrap_or(0))
        };
        let shares = [
            free(node.scored_requested.cpu, self.0.cpu, node.allocatable.cpu),
            free(node.scored_requested.memory, self.0.memory, node.allocatable.memory),
        ];
        let known: Vec<i64> = shares.into_iter().flatten().collect();
        known.iter().sum::<i64>() / i64::try_from(known.len().max(1)).unwrap_or(1)
    }
}

fn allocatable(node: &Node) -> Resources {
    Resources::parse(node.status.as_ref().and_then(|status| status.allocatable.as_ref()))
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        Some(Box::new(Check(&pod.requests)))
    }

    fn score<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(LeastAllocated(&pod.scored_requests)))
    }

    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let would_fit = |node: &Node| missing(&pod.requests, &Resources::default(), &allocatable(node)).is_empty();
        match event {
            Event::NodeAdded(node) => would_fit(node),
            Event::NodeChanged(old, new) => allocatable(old) != allocatable(new) && would_fit(new),
            Event::PodGone(_) | Event::PodChanged(_) => true,
            Event::PodBound(_) | Event::NamespaceChanged => false,
        }
    }
}
