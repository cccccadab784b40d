//! `DefaultStorageClass`: a claim that names no class gets the default one; of several the newest.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct DefaultStorageClass;

pub(crate) static PLUGIN: DefaultStorageClass = DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["persistentvolumeclaims"]
    }

    async fn mutate(&self, request: &Request<'_>, claim: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let named = |claim: &Value| {
            api::meta::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some()
                || claim.pointer("/spec/storageClassName").is_some_and(|name| !name.is_null())
        };
        if request.operation != Operation::Create || !request.is("persistentvolumeclaims", "") || named(claim) {
            return Ok(());
        }
        let classes = lookup.list("storage.k8s.io", "storageclasses", "").await;
        if let Some(name) = default(&classes) {
            value::set(claim, "spec.storageClassName", name);
        }
        Ok(())
    }
}

/// The newest of those that say they are the default; of one age the first by name.
fn default(classes: &[Value]) -> Option<String> {
    let says = |class: &&Value| {
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|key| api::meta::annotation(class, key) == Some("true"))
    };
    let age = |class: &&Value| {
        (
            std::cmp::Reverse(value::text(class, "metadata.creationTimestamp").to_owned()),
            api::meta::name(class).to_owned(),
        )
    };
    classes.iter().filter(says).min_by_key(age).map(|class| api::meta::name(class).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn the_newest_default() {
        let class = |name: &str, time: &str, says: &str| {
            json!({"metadata": {"name": name, "creationTimestamp": time,
                "annotations": {"storageclass.kubernetes.io/is-default-class": says}}})
        };
        assert_eq!(default(&[]), None);
        assert_eq!(default(&[class("a", "2026-01-01T00:00:00Z", "false")]), None);
        let all = [
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("a", "2026-01-02T00:00:00Z", "true"),
            class("no", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(default(&all).as_deref(), Some("a"));
    }
}
