//! `mutatingadmissionpolicybindings` of admissionregistration.k8s.io: where a mutating policy holds, and with which parameters.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-3962.

use crate::field_path::Errors;
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Hooks, Kind, StoredAs, describe};
use crate::kinds::admissionregistration_v1beta1::mutating_admission_policy_binding as v1beta1;
use crate::kinds::shared::admission_policies as policies;
use crate::kinds::shared::admission_rules::GROUP;

/// The description.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    categories: &["api-extensions"],
    namespaced: false,
    generation: true,
    unconditional_update: false,
    stored_as: Some(StoredAs::same(&v1beta1::KIND)),
    columns: policies::BINDING_COLUMNS,
    describe: describe::<k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding>,
    judgement: Judgement::ONLY_AS_NEW.any_finalizer(),
    hooks: &MutatingAdmissionPolicyBinding,
    ..Kind::BASE
};

/// Behaviour of the kind in all its versions.
pub(crate) struct MutatingAdmissionPolicyBinding;

impl Hooks for MutatingAdmissionPolicyBinding {
    fn default(&self, object: &mut Value) {
        policies::default_binding(object);
    }

    fn validate(&self, object: &Value) -> Errors {
        policies::binding(object, true)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        policies::binding_row(object, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "matchResources": {
            "resourceRules": [{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]}}});
        let mut full = sound.clone();
        full["spec"]["matchResources"] = json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
            "resourceRules": [{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "*"}]});
        testing::defaults(&KIND, sound, &full);
        testing::invalid(&KIND, &full, &[]);
        testing::row(&KIND, &full, &json!(["b", "p", "<unset>", "<unknown>"]));
        full["spec"]["matchResources"]["resourceRules"][0]["operations"] = json!(["DELETE"]);
        testing::invalid(
            &KIND,
            &full,
            &["spec.matchResources.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
               \"CONNECT\", \"CREATE\", \"UPDATE\""],
        );
    }
}
