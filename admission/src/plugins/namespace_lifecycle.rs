//! `NamespaceLifecycle`: nothing is created in a namespace that is absent or terminating; system namespaces stay.
//!
//! The store checks the namespace again in the transaction of the write; this plugin gives the early answer.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::status::{ResourceName, Status};
use api::{meta, value};
use async_trait::async_trait;

/// See the file.
pub struct NamespaceLifecycle;

pub(crate) static PLUGIN: NamespaceLifecycle = NamespaceLifecycle;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn validate(&self, request: &Request<'_>, _object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation == Operation::Delete && request.is("namespaces", "") && IMMORTAL.contains(&request.name) {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        if request.operation != Operation::Create || request.namespace.is_empty() || request.is("namespaces", "") {
            return Ok(());
        }
        // Reviews are answered, not stored: upstream lets them through in any namespace.
        if !request.kind.is_stored() || !request.dry_run && lookup.takes_objects(request.namespace) {
            return Ok(());
        }
        let Some(namespace) = lookup.get("", "namespaces", "", request.namespace).await else {
            let resource = ResourceName { group: "", plural: "namespaces" };
            return Err(Refusal(Status::not_found(resource, request.namespace)));
        };
        if meta::is_deleting(&namespace) || value::text(&namespace, "status.phase") == "Terminating" {
            return Err(terminating(request));
        }
        Ok(())
    }
}

/// The 403 that clients recognise by its `NamespaceTerminating` cause.
fn terminating(request: &Request<'_>) -> Refusal {
    let why = format!("unable to create new content in namespace {} because it is being terminated", request.namespace);
    let Refusal(mut status) = request.forbidden(&why);
    value::set(
        &mut status.details,
        "causes",
        json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {} is being terminated", request.namespace),
            "field": "metadata.namespace",
        }]),
    );
    Refusal(status)
}
