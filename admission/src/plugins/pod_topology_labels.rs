//! `PodTopologyLabels`: a pod on a node carries the labels of the region and the zone where the node is (KEP-4742).

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct PodTopologyLabels;

pub(crate) static PLUGIN: PodTopologyLabels = PodTopologyLabels;

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let name = value::text(pod, "spec.nodeName").to_owned();
        let placed = match (request.operation, request.subresource) {
            (Operation::Create, "") => true,
            (_, "binding") => value::text(request.old, "spec.nodeName").is_empty(),
            _ => false,
        };
        let is_pod = request.kind.group.is_empty() && request.kind.plural == "pods";
        if !is_pod || !placed || name.is_empty() {
            return Ok(());
        }
        if let Some(node) = lookup.peek("", "nodes", "", &name).await {
            copy(&node, pod);
        }
        Ok(())
    }
}

fn copy(node: &Value, pod: &mut Value) {
    for key in ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"] {
        if let Some(label) = api::meta::label(node, key) {
            value::map_mut(pod, "metadata.labels").insert(key.to_owned(), label.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn region_and_zone_alone() {
        let node = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z", "kubernetes.io/hostname": "h"}}});
        let mut pod = json!({"metadata": {"labels": {"app": "a", "topology.kubernetes.io/zone": "other"}}});
        copy(&node, &mut pod);
        assert_eq!(pod["metadata"]["labels"], json!({"app": "a", "topology.kubernetes.io/zone": "z"}));
        let mut bare = json!({"metadata": {}});
        copy(&json!({}), &mut bare);
        assert_eq!(bare, json!({"metadata": {}}));
    }
}
