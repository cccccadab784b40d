//! `NodeRestriction`: a kubelet changes only its own Node and Lease, and the pods bound to it.
//!
//! Authorization says which kinds a node may touch; this plugin says which objects.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::kinds::certificates_v1::certificate_signing_request;
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
            ("certificates.k8s.io", "certificatesigningrequests") => certificate(request, object, node),
            _ => Ok(()),
        }
    }
}

/// As a kubelet a node asks for its own certificates alone; what else they must be their signer checks.
fn certificate(request: &Request<'_>, object: &Value, node: &str) -> Result<(), Refusal> {
    const OF_KUBELETS: &[&str] = &["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
    let signer = value::text(object, "spec.signerName");
    if request.operation != Operation::Create || !request.subresource.is_empty() || !OF_KUBELETS.contains(&signer) {
        return Ok(());
    }
    let wanted = certificate_signing_request::request(object)
        .map_err(|why| request.forbidden(&format!("unable to parse csr: {why}")))?;
    if wanted.common_name().strip_prefix("system:node:") != Some(node) {
        let why = format!("can only create a node CSR with CN=system:node:{node}");
        return Err(request.forbidden(&why));
    }
    Ok(())
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
