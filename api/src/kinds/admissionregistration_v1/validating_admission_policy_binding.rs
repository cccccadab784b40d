//! `validatingadmissionpolicybindings` of admissionregistration.k8s.io: where a policy holds, with which parameters, and what then.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-3488.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Hooks, Kind, describe};
use crate::kinds::shared::admission_policies as policies;
use crate::kinds::shared::admission_rules::GROUP;
use crate::value;
use std::collections::BTreeSet;

/// The description.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    categories: &["api-extensions"],
    namespaced: false,
    generation: true,
    unconditional_update: false,
    columns: policies::BINDING_COLUMNS,
    describe: describe::<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>,
    judgement: Judgement::ONLY_AS_NEW.any_finalizer(),
    hooks: &ValidatingAdmissionPolicyBinding,
    ..Kind::BASE
};

struct ValidatingAdmissionPolicyBinding;

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

impl Hooks for ValidatingAdmissionPolicyBinding {
    fn default(&self, object: &mut Value) {
        policies::default_binding(object);
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = policies::binding(object, false);
        let field = Path::new("spec").child("validationActions");
        let actions = value::items(object, "spec.validationActions");
        let mut seen = BTreeSet::new();
        for (i, action) in actions.iter().filter_map(Value::as_str).enumerate() {
            if !ACTIONS.contains(&action) {
                errors.push(FieldError::not_supported(&field.index(i), action, ACTIONS));
            }
            if !seen.insert(action) {
                errors.push(FieldError::duplicate(&field.index(i), action));
            }
        }
        if seen.contains("Deny") && seen.contains("Warn") {
            let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                       response and headers serves no purpose)";
            errors.push(FieldError::invalid(&field, actions.to_vec(), why));
        }
        if seen.is_empty() {
            errors.push(FieldError::required(&field, "at least one validation action is required"));
        }
        errors
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
        let sound = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny", "Audit"],
            "paramRef": {"name": "x", "namespace": "n", "parameterNotFoundAction": "Deny"}}});
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["b", "p", "n/x", "<unknown>"]));
        testing::invalid(
            &KIND,
            &json!({"spec": {"paramRef": {}, "validationActions": ["Deny", "Warn", "Deny", "x"]}}),
            &[
                "spec.policyName: Required value",
                "spec.paramRef: Required value: one of name or selector must be specified",
                "spec.paramRef.parameterNotFoundAction: Required value",
                "spec.validationActions[2]: Duplicate value: \"Deny\"",
                "spec.validationActions[3]: Unsupported value: \"x\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\",\"x\"]: must not contain both Deny and Warn \
                 (repeating the same validation failure information in the API response and headers serves no purpose)",
            ],
        );
        testing::invalid(
            &KIND,
            &json!({"spec": {"policyName": "p", "paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "No"}}}),
            &[
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Unsupported value: \"No\": supported values: \"Deny\", \"Allow\"",
                "spec.validationActions: Required value: at least one validation action is required",
            ],
        );
    }
}
