//! Host ports: two pods of one node never share one.

use super::{Event, Filter, Plugin, Reasons};
use crate::snapshot::{HostPort, NodeInfo, PodInfo, Snapshot};

pub(super) struct NodePorts;
pub(super) static PLUGIN: NodePorts = NodePorts;

struct Check<'a>(&'a [HostPort]);

fn clash(ours: &[HostPort], theirs: &[HostPort]) -> bool {
    theirs.iter().any(|used| ours.iter().any(|wanted| wanted.conflicts(used)))
}

impl Filter for Check<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        if node.pods.values().any(|pod| clash(self.0, &pod.ports)) {
            Err(vec!["node(s) didn't have free ports for the requested pod ports".to_owned()])
        } else {
            Ok(())
        }
    }
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        (!pod.ports.is_empty()).then(|| Box::new(Check(&pod.ports)) as Box<dyn Filter>)
    }

    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::PodGone(gone) => clash(&pod.ports, &PodInfo::new((*gone).clone().into()).ports),
            Event::NodeChanged(..) | Event::PodBound(_) | Event::PodChanged(_) | Event::NamespaceChanged => false,
        }
    }
}
