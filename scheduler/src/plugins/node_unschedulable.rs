//! Cordoned nodes take only pods that tolerate `node.kubernetes.io/unschedulable`.

use super::{Event, Filter, Plugin, Reasons};
use crate::matching::tolerates;
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::{Node, Taint};

pub(super) struct NodeUnschedulable;
pub(super) static PLUGIN: NodeUnschedulable = NodeUnschedulable;

struct Check;

fn cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

impl Filter for Check {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        if cordoned(&node.node) { Err(vec!["node(s) were unschedulable".to_owned()]) } else { Ok(()) }
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let tolerations = pod.pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
        let tolerated = tolerations.into_iter().any(|toleration| tolerates(toleration, &taint));
        (!tolerated).then(|| Box::new(Check) as Box<dyn Filter>)
    }

    fn helps(&self, _: &PodInfo, event: &Event<'_>) -> bool {
        event.node().is_some_and(|node| !cordoned(node))
    }
}
