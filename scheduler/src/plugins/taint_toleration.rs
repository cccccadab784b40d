//! Taints keep pods away that do not tolerate them; `PreferNoSchedule` only makes a node less liked.

use super::{Event, Filter, Plugin, Reasons, Score, by_maximum};
use crate::matching::{tolerates, untolerated};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::Toleration;

pub(super) struct TaintToleration;
pub(super) static PLUGIN: TaintToleration = TaintToleration;

struct Check<'a>(&'a PodInfo);

impl Filter for Check<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        match untolerated(&self.0.pod, &node.node) {
            Some(_) => Err(vec!["node(s) had untolerated taint(s)".to_owned()]),
            None => Ok(()),
        }
    }
}

/// Counts the soft taints that the pod does not tolerate.
struct Soft<'a>(Vec<&'a Toleration>);

impl Score for Soft<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let taints = node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let disliked = taints
            .filter(|taint| taint.effect == "PreferNoSchedule")
            .filter(|taint| !self.0.iter().any(|toleration| tolerates(toleration, taint)));
        i64::try_from(disliked.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        by_maximum(scores, true);
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn weight(&self) -> i64 {
        3
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        Some(Box::new(Check(pod)))
    }

    fn score<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let tolerations = pod.pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
        let soft = |toleration: &&Toleration| {
            matches!(toleration.effect.as_deref().unwrap_or_default(), "" | "PreferNoSchedule")
        };
        Some(Box::new(Soft(tolerations.filter(soft).collect())))
    }

    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        event.node().is_some_and(|node| untolerated(&pod.pod, node).is_none())
    }
}
