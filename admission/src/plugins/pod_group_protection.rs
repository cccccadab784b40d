//! `PodGroupProtection`: pod groups get the finalizer that keeps them while pods refer to them (KEP-4671).
//!
//! Never takes it away again: that is for the controller of the same name. The gate is that of the kind itself.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

/// See the file.
pub struct PodGroupProtection;

pub(crate) static PLUGIN: PodGroupProtection = PodGroupProtection;

#[async_trait]
impl Plugin for PodGroupProtection {
    fn name(&self) -> &'static str {
        "PodGroupProtection"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["podgroups"]
    }

    async fn mutate(&self, request: &Request<'_>, group: &mut Value, _: &dyn Lookup) -> Result<(), Refusal> {
        let is_new = request.operation == Operation::Create && request.subresource.is_empty();
        if is_new && (request.kind.group, request.kind.plural) == ("scheduling.k8s.io", "podgroups") {
            protect(group);
        }
        Ok(())
    }
}

fn protect(group: &mut Value) {
    let mut finalizers = value::items(group, "metadata.finalizers").to_vec();
    if !finalizers.iter().any(|own| own == FINALIZER) {
        finalizers.push(FINALIZER.into());
        value::set(group, "metadata.finalizers", finalizers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn the_finalizer_is_put_once_behind_others() {
        for (before, after) in [
            (Value::Null, json!([FINALIZER])),
            (json!(["a/b"]), json!(["a/b", FINALIZER])),
            (json!([FINALIZER, "a/b"]), json!([FINALIZER, "a/b"])),
        ] {
            let mut group = json!({"metadata": {"name": "g", "finalizers": before}});
            protect(&mut group);
            assert_eq!(group["metadata"]["finalizers"], after);
        }
    }
}
