//! `NodeRestriction`: a kubelet changes only its own Node and Lease, and the pods bound to it.
//!
//! Authorization says which kinds a node may touch; this plugin says which objects.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::{meta, value};
use async_trait::async_trait;
use serde_json::Value;

/// See the file.
pub struct NodeRestriction;

pub(crate) static PLUGIN: NodeRestriction = NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
        let Some(node) = request.user.strip_prefix("system:node:") else {
            return Ok(());
        };
        if !request.groups.iter().any(|group| group == "system:nodes") {
            return Ok(());
        }
        match (request.kind.group, request.kind.plural) {
            ("", "nodes") if request.name != node => {
                Err(request.forbidden(&format!("node {node:?} is not allowed to modify node {:?}", request.name)))
            }
            ("coordination.k8s.io", "leases") => {
                if request.namespace != "kube-node-lease" {
                    return Err(request.forbidden("can only access leases in the \"kube-node-lease\" system namespace"));
                }
                if request.name != node {
                    return Err(
                        request.forbidden("can only access node lease with the same name as the requesting node")
                    );
                }
                Ok(())
            }
            ("", "pods") => pod(request, object, node),
            _ => Ok(()),
        }
    }
}

fn pod(request: &Request<'_>, object: &Value, node: &str) -> Result<(), Refusal> {
    let bound_to = value::text(object, "spec.nodeName");
    match (request.operation, request.subresource) {
        (Operation::Create, "") => {
            if meta::annotation(object, "kubernetes.io/config.mirror").is_none() {
                let why = format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                );
                return Err(request.forbidden(&why));
            }
            if bound_to != node {
                return Err(
                    request.forbidden(&format!("node {node:?} can only create pods with spec.nodeName set to itself"))
                );
            }
            Ok(())
        }
        (Operation::Update, "status") | (Operation::Delete, "") if bound_to != node => {
            Err(request.forbidden(&format!(
                "node {node:?} can only {} pods with spec.nodeName set to itself",
                if request.operation == Operation::Delete { "delete" } else { "update pod status for" }
            )))
        }
        _ => Ok(()),
    }
}
