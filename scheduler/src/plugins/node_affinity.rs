//! `nodeSelector` and node affinity: what a pod demands of a node's labels and what it prefers.

use super::{Event, Filter, Plugin, Reasons, Score, by_maximum};
use crate::matching::{node_matches, term_matches};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::PreferredSchedulingTerm;

pub(super) struct NodeAffinity;
pub(super) static PLUGIN: NodeAffinity = NodeAffinity;

struct Check<'a>(&'a PodInfo);

impl Filter for Check<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        if node_matches(&self.0.pod, &node.node) {
            Ok(())
        } else {
            Err(vec!["node(s) didn't match Pod's node affinity/selector".to_owned()])
        }
    }
}

struct Preferred<'a>(&'a [PreferredSchedulingTerm]);

impl Score for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let liked = self.0.iter().filter(|term| term_matches(&term.preference, &node.node));
        liked.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        by_maximum(scores, false);
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        let spec = pod.pod.spec.as_ref()?;
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let demands = spec.node_selector.is_some()
            || affinity.is_some_and(|affinity| affinity.required_during_scheduling_ignored_during_execution.is_some());
        demands.then(|| Box::new(Check(pod)) as Box<dyn Filter>)
    }

    fn score<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let affinity = pod.pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms = affinity.preferred_during_scheduling_ignored_during_execution.as_deref().unwrap_or_default();
        (!terms.is_empty()).then(|| Box::new(Preferred(terms)) as Box<dyn Score>)
    }

    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        event.node().is_some_and(|node| node_matches(&pod.pod, node))
    }
}
