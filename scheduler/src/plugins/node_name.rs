//! A pod that names its node goes there or nowhere.

use super::{Event, Filter, Plugin, Reasons};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

pub(super) struct NodeName;
pub(super) static PLUGIN: NodeName = NodeName;

struct Check<'a>(&'a str);

impl Filter for Check<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        if node.name() == self.0 {
            Ok(())
        } else {
            Err(vec!["node(s) didn't match the requested node name".to_owned()])
        }
    }
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        let name = pod.node_name();
        (!name.is_empty()).then(|| Box::new(Check(name)) as Box<dyn Filter>)
    }

    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        event.node().is_some_and(|node| node.metadata.name.as_deref() == Some(pod.node_name()))
    }
}
