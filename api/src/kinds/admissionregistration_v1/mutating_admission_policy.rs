//! `mutatingadmissionpolicies` of admissionregistration.k8s.io: how writes are changed, as expressions.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-3962.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, StoredAs, describe};
use crate::kinds::admissionregistration_v1beta1::mutating_admission_policy as v1beta1;
use crate::kinds::shared::admission_rules::{self, GROUP};
use crate::kinds::shared::{admission_expressions as expressions, admission_policies as policies};
use crate::value;

/// How many there are.
const MUTATIONS: Column =
    Column::integer("Mutations").says("Mutation indicates the number of mutations rules defined in this configuration");

/// The description.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    categories: &["api-extensions"],
    namespaced: false,
    generation: true,
    unconditional_update: false,
    stored_as: Some(StoredAs::same(&v1beta1::KIND)),
    columns: const { &policies::columns(MUTATIONS) as &[Column] },
    describe: describe::<k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy>,
    judgement: Judgement::ONLY_AS_NEW.any_finalizer(),
    hooks: &MutatingAdmissionPolicy,
    ..Kind::BASE
};

struct MutatingAdmissionPolicy;

const PATCH_TYPES: &[&str] = &["ApplyConfiguration", "JSONPatch"];

impl Hooks for MutatingAdmissionPolicy {
    fn default(&self, object: &mut Value) {
        policies::default_policy(object);
    }

    fn validate(&self, object: &Value) -> Errors {
        errors(object, &Value::Null)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        errors(new, old)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        policies::row(object, "spec.mutations", now)
    }
}

fn errors(object: &Value, old: &Value) -> Errors {
    let mut errors = policies::policy(object, true);
    policies::variables(&mut errors, object);
    let field = Path::new("spec");
    let mutations = value::items(object, "spec.mutations");
    if mutations.is_empty() {
        let why = "mutations must contain at least one item";
        errors.push(FieldError::required(&field.child("mutations"), why));
    }
    for (i, one) in mutations.iter().enumerate() {
        mutation(&mut errors, one, &field.child("mutations").index(i));
    }
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if value::text(spec, "reinvocationPolicy").is_empty() {
        errors.push(FieldError::required(&field.child("reinvocationPolicy"), ""));
    } else {
        admission_rules::reinvocation_policy(&mut errors, spec, &field);
    }
    errors.extend(expressions::of_policy(object, old));
    errors
}

fn mutation(errors: &mut Errors, one: &Value, field: &Path) {
    let (kind, own, other) = match value::text(one, "patchType") {
        "" => return errors.push(FieldError::required(&field.child("patchType"), "")),
        kind @ "JSONPatch" => (kind, "jsonPatch", "applyConfiguration"),
        kind @ "ApplyConfiguration" => (kind, "applyConfiguration", "jsonPatch"),
        kind => return errors.push(FieldError::not_supported(&field.child("patchType"), kind, PATCH_TYPES)),
    };
    match value::get(one, own) {
        None => {
            let why = format!("must be specified when patchType is {kind}");
            errors.push(FieldError::required(&field.child(own), why));
        }
        Some(patch) if value::text(patch, "expression").trim().is_empty() => {
            errors.push(FieldError::required(&field.child(own).child("expression"), ""));
        }
        Some(_) => {}
    }
    if value::get(one, other).is_some() {
        let why = format!("must not be specified when patchType is {kind}");
        errors.push(FieldError::invalid(&field.child(other), format!("{{{other}}}"), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": {"matchPolicy": "Equivalent",
            "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"],
            "apiVersions": ["v1"], "resources": ["deployments"], "scope": "*"}]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: \"add\", path: \"/a\", value: \"b\"}]"}}]}});
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["p", 1, "v1/ConfigMap", "<unknown>"]));
        let mut wrong = sound;
        wrong["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["DELETE"]);
        wrong["spec"]["reinvocationPolicy"] = json!("");
        wrong["spec"]["mutations"] = json!([{"patchType": ""}, {"patchType": "x"}, {"patchType": "JSONPatch"},
            {"patchType": "ApplyConfiguration", "jsonPatch": {}, "applyConfiguration": {"expression": ""}}]);
        testing::invalid(
            &KIND,
            &wrong,
            &[
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
                 \"CONNECT\", \"CREATE\", \"UPDATE\"",
                "spec.mutations[0].patchType: Required value",
                "spec.mutations[1].patchType: Unsupported value: \"x\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
                "spec.mutations[2].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                "spec.mutations[3].applyConfiguration.expression: Required value",
                "spec.mutations[3].jsonPatch: Invalid value: \"{jsonPatch}\": must not be specified when patchType is \
                 ApplyConfiguration",
                "spec.reinvocationPolicy: Required value",
            ],
        );
    }
}
