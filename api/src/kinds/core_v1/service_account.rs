//! `serviceaccounts`: identities of pods.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Gvk, Hooks, Kind, Part, Subresource, Verb, describe};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        gvk: Gvk { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" },
        verbs: Verb::CREATE,
        part: Part::Token,
    }],
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::core::v1::ServiceAccount>,
    judgement: Judgement::AS_NEW,
    hooks: &ServiceAccount,
    ..Kind::BASE
};

struct ServiceAccount;

impl Hooks for ServiceAccount {
    fn prepare_create(&self, object: &mut Value) {
        names_of_secrets(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        names_of_secrets(new);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let told = |object| meta::annotation(object, ENFORCED).is_some();
        let why = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
        let fresh = told(new) && !old.is_some_and(told);
        fresh.then(|| format!("metadata.annotations[{ENFORCED}]: {why}")).into_iter().collect()
    }
}

const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";

/// Secrets are those of its own namespace: nothing but their names counts.
fn names_of_secrets(object: &mut Value) {
    for secret in value::items_mut(object, "secrets") {
        if let Some(reference) = secret.as_object_mut() {
            reference.retain(|field, _| field == "name");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn secrets_are_names() {
        let mut account =
            json!({"secrets": [{"name": "a", "kind": "Secret", "namespace": "other"}, {"apiVersion": "v1"}]});
        KIND.hooks.prepare_create(&mut account);
        assert_eq!(account, json!({"secrets": [{"name": "a"}, {}]}));
        let told = json!({"metadata": {"annotations": {(ENFORCED): "true"}}});
        assert_eq!(KIND.hooks.warnings(&told, None).len(), 1);
        assert_eq!(KIND.hooks.warnings(&told, Some(&told)), [""; 0]);
    }
}
