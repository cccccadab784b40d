//! The rules by which nodes are chosen: one file and one line in [`PLUGINS`] each.
//!
//! A plugin looks at a pod and the snapshot and says which nodes will not do, and how good the others are. It is pure: it never
//! waits, writes or remembers. The order of the table is the order in which nodes are checked; the first refusal counts.

use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::{Node, Pod};

/// The best score a plugin gives.
pub const MAX_SCORE: i64 = 100;

/// Why a node will not do, in upstream's words; several where several resources are short.
pub type Reasons = Vec<String>;

/// A check of nodes, prepared for one pod.
pub trait Filter {
    /// Whether the node will do.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons>;
}

/// A comparison of nodes, prepared for one pod.
pub trait Score {
    /// Any number; [`Score::normalize`] brings it to 0..=100.
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all candidates, in their order, to 0..=100.
    fn normalize(&self, scores: &mut [i64]) {
        let _ = scores;
    }
}

/// A change in the cluster that may make pods schedulable.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A node came.
    NodeAdded(&'a Node),
    /// A node changed in its labels, taints, allocatable, declared features or schedulability; before and after.
    NodeChanged(&'a Node, &'a Node),
    /// A pod was bound to a node.
    PodBound(&'a Pod),
    /// A bound pod's labels or requests changed.
    PodChanged(&'a Pod),
    /// A bound pod went away or ended.
    PodGone(&'a Pod),
    /// Labels of a namespace changed.
    NamespaceChanged,
}

impl<'a> Event<'a> {
    /// Upstream's word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NodeAdded(_) => "NodeAdd",
            Self::NodeChanged(..) => "NodeUpdate",
            Self::PodBound(_) => "AssignedPodAdd",
            Self::PodChanged(_) => "AssignedPodUpdate",
            Self::PodGone(_) => "AssignedPodDelete",
            Self::NamespaceChanged => "NamespaceUpdate",
        }
    }

    /// The node as it is now, where the event is about one.
    #[must_use]
    pub fn node(&self) -> Option<&'a Node> {
        match self {
            Self::NodeAdded(node) | Self::NodeChanged(_, node) => Some(node),
            Self::PodBound(_) | Self::PodChanged(_) | Self::PodGone(_) | Self::NamespaceChanged => None,
        }
    }
}

/// A scheduling rule.
pub trait Plugin: Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// How much its score counts.
    fn weight(&self) -> i64 {
        1
    }

    /// Prepares the check of nodes for `pod`, or `None` where it has nothing to check.
    fn filter<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        let _ = (pod, snapshot);
        None
    }

    /// Prepares the comparison of the `candidates` for `pod`, or `None` where all are equal to it.
    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        candidates: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let _ = (pod, snapshot, candidates);
        None
    }

    /// Whether the event may let in a pod that this plugin refused. A wrong yes costs a try; a wrong no costs minutes.
    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let _ = (pod, event);
        true
    }
}

/// Spreads scores over 0..=100 by their maximum; `reverse` makes the smallest the best.
pub fn by_maximum(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or_default();
    for score in scores.iter_mut() {
        let share = if max == 0 { 0 } else { score.saturating_mul(MAX_SCORE) / max };
        *score = if reverse { MAX_SCORE - share } else { share };
    }
}

macro_rules! plugins {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*
        /// All plugins in the order in which they check nodes.
        pub static PLUGINS: &[&dyn Plugin] = &[$(&$name::PLUGIN),*];
    };
}

plugins! {
    node_unschedulable,
    node_name,
    taint_toleration,
    node_affinity,
    node_ports,
    node_resources_fit,
    pod_topology_spread,
    inter_pod_affinity,
    node_resources_balanced_allocation,
    image_locality,
    node_declared_features,
}
