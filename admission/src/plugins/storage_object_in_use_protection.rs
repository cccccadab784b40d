//! `StorageObjectInUseProtection`: volumes and claims get the finalizer that keeps them while somebody uses them.
//!
//! Never takes it away again: that is for the controllers of the same names.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct StorageObjectInUseProtection;

pub(crate) static PLUGIN: StorageObjectInUseProtection = StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["persistentvolumeclaims", "persistentvolumes", "volumeattributesclasses"]
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.subresource.is_empty() {
            return Ok(());
        }
        let finalizer = match (request.kind.group, request.kind.plural) {
            ("", "persistentvolumes") => "kubernetes.io/pv-protection",
            ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
            ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
            _ => return Ok(()),
        };
        let mut finalizers = value::items(object, "metadata.finalizers").to_vec();
        if !finalizers.iter().any(|own| own == finalizer) {
            finalizers.push(finalizer.into());
            value::set(object, "metadata.finalizers", finalizers);
        }
        Ok(())
    }
}
