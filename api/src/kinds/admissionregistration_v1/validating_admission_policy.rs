//! `validatingadmissionpolicies` of admissionregistration.k8s.io: what must hold for a write, as expressions.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-3488.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::{Check, Judgement};
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::admission_rules::GROUP;
use crate::kinds::shared::{
    admission_expressions as expressions, admission_policies as policies, conditions, labels, names, parts,
};
use crate::{meta, value};
use std::collections::BTreeSet;

/// How many there are.
const VALIDATIONS: Column = Column::integer("Validations")
    .says("Validations indicates the number of validation rules defined in this configuration");

/// The description.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    categories: &["api-extensions"],
    namespaced: false,
    generation: true,
    unconditional_update: false,
    subresources: &[parts::status_only(GROUP, "v1", "ValidatingAdmissionPolicy")],
    resets: parts::STATUS_ONLY,
    columns: const { &policies::columns(VALIDATIONS) as &[Column] },
    describe: describe::<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy>,
    judgement: Judgement::ONLY_AS_NEW.any_finalizer().of_part(&[Check::Object]),
    hooks: &ValidatingAdmissionPolicy,
    ..Kind::BASE
};

struct ValidatingAdmissionPolicy;

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// The most audit annotations of a policy.
const MOST_ANNOTATIONS: usize = 20;
/// The most bytes of an expression that gives the value of one.
const LONGEST_ANNOTATION: usize = 5 * 1024;

impl Hooks for ValidatingAdmissionPolicy {
    fn default(&self, object: &mut Value) {
        policies::default_policy(object);
    }

    fn validate(&self, object: &Value) -> Errors {
        errors(object, &Value::Null)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        errors(new, old)
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        status(new)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        policies::row(object, "spec.validations", now)
    }
}

fn errors(object: &Value, old: &Value) -> Errors {
    let mut errors = policies::policy(object, false);
    policies::variables(&mut errors, object);
    let field = Path::new("spec");
    let validations = value::items(object, "spec.validations");
    let annotations = value::items(object, "spec.auditAnnotations");
    if validations.is_empty() && annotations.is_empty() {
        for name in ["validations", "auditAnnotations"] {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(FieldError::required(&field.child(name), why));
        }
    }
    for (i, one) in validations.iter().enumerate() {
        validation(&mut errors, one, &field.child("validations").index(i));
    }
    let at = field.child("auditAnnotations");
    if annotations.len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(&at, annotations.to_vec(), why));
    }
    let mut seen = BTreeSet::new();
    for (i, one) in annotations.iter().enumerate() {
        let at = at.index(i);
        annotation(&mut errors, meta::name(object), one, &at);
        let key = value::text(one, "key");
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&at.child("key"), key));
        }
    }
    errors.extend(expressions::of_policy(object, old));
    errors
}

fn validation(errors: &mut Errors, one: &Value, field: &Path) {
    let text = |name: &str| value::text(one, name);
    if text("expression").trim().is_empty() {
        errors.push(FieldError::required(&field.child("expression"), "expression is not specified"));
    }
    for name in ["messageExpression", "message"] {
        let given = text(name);
        if !given.is_empty() && given.trim().is_empty() {
            errors.push(FieldError::invalid(&field.child(name), given, "must be non-empty if specified"));
        }
    }
    if text("message").trim().contains(['\n', '\r']) {
        let why = "must not contain line breaks";
        errors.push(FieldError::invalid(&field.child("message"), text("message"), why));
    }
    if let Some(reason) = one.get("reason").and_then(Value::as_str).filter(|reason| !REASONS.contains(reason)) {
        errors.push(FieldError::not_supported(&field.child("reason"), reason, REASONS));
    }
}

fn annotation(errors: &mut Errors, policy: &str, one: &Value, field: &Path) {
    let (key, at) = (value::text(one, "key"), field.child("key"));
    if policy.is_empty() {
        errors.push(FieldError::invalid(&at, key, "requires metadata.name be non-empty"));
    } else {
        let whole = format!("{policy}/{key}");
        labels::invalid(errors, &at, &whole, names::qualified_name(&whole));
    }
    let (expression, at) = (value::text(one, "valueExpression").trim(), field.child("valueExpression"));
    if expression.is_empty() {
        errors.push(FieldError::required(&at, "valueExpression is not specified"));
    } else if expression.len() > LONGEST_ANNOTATION {
        let why = format!("must not exceed {LONGEST_ANNOTATION} bytes in length");
        errors.push(FieldError::required(&at, why));
    }
}

fn status(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("status").child("typeChecking").child("expressionWarnings");
    for (i, warning) in value::items(object, "status.typeChecking.expressionWarnings").iter().enumerate() {
        for name in ["warning", "fieldRef"] {
            if value::text(warning, name).trim().is_empty() {
                errors.push(FieldError::required(&field.index(i).child(name), ""));
            }
        }
    }
    let conditions = value::items(object, "status.conditions");
    errors.extend(conditions::validate(conditions, &Path::new("status").child("conditions")));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn sound() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail", "matchConstraints": {"matchPolicy": "Equivalent",
            "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"],
            "apiVersions": ["v1"], "resources": ["deployments"], "scope": "*"}]},
            "validations": [{"expression": "object.spec.replicas <= 5"}]}})
    }

    #[test]
    fn defaults_of_a_short_one() {
        let mut short = sound();
        value::remove(&mut short, "spec.failurePolicy");
        for name in ["matchPolicy", "namespaceSelector", "objectSelector"] {
            value::remove(&mut short, &format!("spec.matchConstraints.{name}"));
        }
        short["spec"]["matchConstraints"]["resourceRules"][0].as_object_mut().unwrap().remove("scope");
        testing::defaults(&KIND, short, &sound());
    }

    #[test]
    fn rules() {
        testing::invalid(&KIND, &sound(), &[]);
        testing::row(&KIND, &sound(), &json!(["p", 1, "<unset>", "<unknown>"]));
        let mut wrong = sound();
        wrong["spec"]["failurePolicy"] = json!("Maybe");
        wrong["spec"]["paramKind"] = json!({"apiVersion": "a/b/c", "kind": "-"});
        wrong["spec"]["matchConstraints"]["resourceRules"] = json!([]);
        wrong["spec"]["validations"] =
            json!([{"expression": " ", "message": "a\nb", "messageExpression": " ", "reason": "No"}]);
        wrong["spec"]["variables"] = json!([{"name": "in", "expression": ""}]);
        let errors = testing::shown(&KIND.hooks.validate(&wrong));
        for sentence in [
            "spec.failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
            "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            "spec.matchConstraints.resourceRules: Required value",
            "spec.variables[0].name: Invalid value: \"in\": must be a valid CEL identifier",
            "spec.variables[0].expression: Required value: expression is not specified",
            "spec.validations[0].expression: Required value: expression is not specified",
            "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
            "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
            "spec.validations[0].reason: Unsupported value: \"No\": supported values: \"Forbidden\", \"Invalid\", \
             \"RequestEntityTooLarge\"",
        ] {
            assert!(errors.iter().any(|error| error == sentence), "no {sentence} in {errors:#?}");
        }
        let mut empty = sound();
        value::remove(&mut empty, "spec.validations");
        testing::invalid(
            &KIND,
            &empty,
            &[
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        );
    }
}
