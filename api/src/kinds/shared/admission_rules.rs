//! Which requests an admission webhook or policy is about: rules, selectors, conditions; what is wrong with them and their defaults.
//!
//! Never matches a request. Source: upstream's `admissionregistration.k8s.io` types and their validation.

use super::{labels, names};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::value;
use std::collections::BTreeSet;

/// Every group.
pub const GROUP: &str = "admissionregistration.k8s.io";

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
/// The most conditions that one webhook or policy has.
const MOST_CONDITIONS: usize = 64;

/// The defaults of `matchPolicy` and both selectors.
pub fn default_selection(object: &mut Value) {
    value::set_default(object, "matchPolicy", "Equivalent");
    for name in ["namespaceSelector", "objectSelector"] {
        value::set_default(object, name, json!({}));
    }
}

/// The default scope of rules.
pub fn default_rules(object: &mut Value, list: &str) {
    for rule in value::items_mut(object, list) {
        value::set_default(rule, "scope", "*");
    }
}

/// An optional text is among the supported ones; an empty one is not.
fn optional_one_of(errors: &mut Errors, object: &Value, name: &str, field: &Path, supported: &[&str]) {
    if let Some(text) = object.get(name).and_then(Value::as_str).filter(|text| !supported.contains(text)) {
        errors.push(FieldError::not_supported(&field.child(name), text, supported));
    }
}

/// `failurePolicy`.
pub fn failure_policy(errors: &mut Errors, object: &Value, field: &Path) {
    optional_one_of(errors, object, "failurePolicy", field, FAILURE_POLICIES);
}

/// `matchPolicy`.
pub fn match_policy(errors: &mut Errors, object: &Value, field: &Path) {
    optional_one_of(errors, object, "matchPolicy", field, MATCH_POLICIES);
}

/// `reinvocationPolicy`.
pub fn reinvocation_policy(errors: &mut Errors, object: &Value, field: &Path) {
    optional_one_of(errors, object, "reinvocationPolicy", field, REINVOCATION_POLICIES);
}

/// A rule: operations, groups, versions, resources and scope.
pub fn rule(errors: &mut Errors, rule: &Value, field: &Path) {
    let operations = value::items(rule, "operations");
    required_list(errors, operations, &field.child("operations"));
    alone(errors, operations, "operations", &field.child("operations"));
    for (i, operation) in operations.iter().filter_map(Value::as_str).enumerate() {
        if !OPERATIONS.contains(&operation) {
            errors.push(FieldError::not_supported(&field.child("operations").index(i), operation, OPERATIONS));
        }
    }
    for (name, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = value::items(rule, name);
        required_list(errors, list, &field.child(name));
        alone(errors, list, what, &field.child(name));
    }
    for (i, version) in value::items(rule, "apiVersions").iter().enumerate() {
        if version == "" {
            errors.push(FieldError::required(&field.child("apiVersions").index(i), ""));
        }
    }
    resources(errors, value::items(rule, "resources"), &field.child("resources"));
    optional_one_of(errors, rule, "scope", field, SCOPES);
}

fn required_list(errors: &mut Errors, list: &[Value], field: &Path) {
    if list.is_empty() {
        errors.push(FieldError::required(field, ""));
    }
}

/// A wildcard stands alone.
fn alone(errors: &mut Errors, list: &[Value], what: &str, field: &Path) {
    if list.len() > 1 && list.iter().any(|one| one == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(field, list.to_vec(), why));
    }
}

/// Resources with their subresources: a wildcard leaves nothing beside it that it covers.
fn resources(errors: &mut Errors, list: &[Value], field: &Path) {
    required_list(errors, list, field);
    let (mut whole, mut parts) = (BTreeSet::new(), BTreeSet::new());
    let mut without_part = false;
    for (i, given) in list.iter().filter_map(Value::as_str).enumerate() {
        let field = field.index(i);
        if given.is_empty() {
            errors.push(FieldError::required(&field, ""));
            continue;
        }
        let Some((resource, part)) = given.split_once('/') else {
            // The last one decides, as upstream has it.
            without_part = given != "*";
            continue;
        };
        if whole.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {given}");
            errors.push(FieldError::invalid(&field, given, why));
        }
        if parts.contains(part) {
            let why = format!("if '*/{part}' is present, must not specify {given}");
            errors.push(FieldError::invalid(&field, given, why));
        }
        if part == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            parts.insert(part);
        }
    }
    if list.len() > 1 && list.iter().any(|one| one == "*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(field, list.to_vec(), why));
    }
    if without_part && list.iter().any(|one| one == "*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(field, list.to_vec(), why));
    }
}

/// The conditions but for what their expressions mean: count, names, presence.
pub fn conditions(errors: &mut Errors, object: &Value, field: &Path) {
    let field = field.child("matchConditions");
    let list = value::items(object, "matchConditions");
    if list.len() > MOST_CONDITIONS {
        errors.push(FieldError::too_many(&field, list.len(), MOST_CONDITIONS));
    }
    let mut seen = BTreeSet::new();
    for (i, condition) in list.iter().enumerate() {
        let field = field.index(i);
        if value::text(condition, "expression").trim().is_empty() {
            errors.push(FieldError::required(&field.child("expression"), ""));
        }
        let name = value::text(condition, "name");
        let at = field.child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            labels::invalid(errors, &at, name, names::qualified_name(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at, name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let check = |given: Value, sentences: &[&str]| {
            let mut sound = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods"], "scope": "*"});
            for (name, value) in given.as_object().unwrap() {
                sound[name] = value.clone();
            }
            let mut errors = Errors::new();
            rule(&mut errors, &sound, &Path::new("r"));
            assert_eq!(testing::shown(&errors), sentences, "{given}");
        };
        check(json!({}), &[]);
        check(json!({"resources": ["*/*"]}), &[]);
        check(json!({"resources": ["*", "*/status"]}), &[]);
        check(
            json!({"operations": [], "apiGroups": [], "apiVersions": [], "resources": []}),
            &[
                "r.operations: Required value",
                "r.apiGroups: Required value",
                "r.apiVersions: Required value",
                "r.resources: Required value",
            ],
        );
        check(
            json!({"operations": ["*", "BAD"], "apiGroups": ["*", "a"], "apiVersions": ["*", ""], "scope": "All"}),
            &[
                "r.operations: Invalid value: [\"*\",\"BAD\"]: if '*' is present, must not specify other operations",
                "r.operations[1]: Unsupported value: \"BAD\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \
                 \"UPDATE\"",
                "r.apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups",
                "r.apiVersions: Invalid value: [\"*\",\"\"]: if '*' is present, must not specify other API versions",
                "r.apiVersions[1]: Required value",
                "r.scope: Unsupported value: \"All\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ],
        );
        check(
            json!({"resources": ["a/*", "a/x", "*/y", "b/y", ""]}),
            &[
                "r.resources[1]: Invalid value: \"a/x\": if 'a/*' is present, must not specify a/x",
                "r.resources[3]: Invalid value: \"b/y\": if '*/y' is present, must not specify b/y",
                "r.resources[4]: Required value",
            ],
        );
        check(
            json!({"resources": ["*/*", "a/b"]}),
            &["r.resources: Invalid value: [\"*/*\",\"a/b\"]: if '*/*' is present, must not specify other resources"],
        );
        check(
            json!({"resources": ["*", "a"]}),
            &[
                "r.resources: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other resources without \
               subresources",
            ],
        );
    }
}
