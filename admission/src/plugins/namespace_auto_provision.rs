//! `NamespaceAutoProvision`: an object on its way to a namespace that is not there brings it into being.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use async_trait::async_trait;
use serde_json::Value;

/// See the file.
pub struct NamespaceAutoProvision;

pub(crate) static PLUGIN: NamespaceAutoProvision = NamespaceAutoProvision;

#[async_trait]
impl Plugin for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn by_default(&self) -> bool {
        false
    }

    async fn mutate(&self, request: &Request<'_>, _: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let own = request.kind.group.is_empty() && request.kind.plural == "namespaces";
        if request.operation != Operation::Create || request.dry_run || request.namespace.is_empty() || own {
            return Ok(());
        }
        if lookup.get("", "namespaces", "", request.namespace).await.is_some() {
            return Ok(());
        }
        lookup.provide_namespace(request.namespace).await.map_err(|why| request.forbidden(&why))
    }
}
