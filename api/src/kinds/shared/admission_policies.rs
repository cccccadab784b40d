//! Admission policies and their bindings: defaults, and what is wrong with them beside their expressions.
//!
//! Never evaluates. Source: KEP-3488, KEP-3962 and the validation of upstream's kinds.

use super::admission_rules as rules;
use super::{cells, labels, names};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::Column;
use crate::value;
use std::collections::BTreeSet;

/// The operations that a mutating policy may be about.
const MUTATING_OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
/// Of a policy.
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];

/// The columns of a policy; `counted` is the number of what it does.
#[must_use]
pub const fn columns(counted: Column) -> [Column; 4] {
    let parameters = "ParamKind specifies the kind of resources used to parameterize this policy";
    [Column::NAME, counted, Column::text("ParamKind").says(parameters), Column::AGE]
}

/// The columns of a binding.
pub const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("PolicyName").says("PolicyName indicates the policy definition which the policy binding binded to"),
    Column::text("ParamRef").says("ParamRef indicates the param resource which sets the configuration param"),
    Column::AGE,
];

/// The cells of a policy that does what stands in this list.
#[must_use]
pub fn row(object: &Value, list: &str, now: i64) -> Vec<Value> {
    let kind = match value::get(object, "spec.paramKind") {
        Some(kind) => format!("{}/{}", value::text(kind, "apiVersion"), value::text(kind, "kind")),
        None => "<unset>".to_owned(),
    };
    vec![cells::name(object), value::items(object, list).len().into(), kind.into(), cells::age(object, now)]
}

/// The cells of a binding.
#[must_use]
pub fn binding_row(object: &Value, now: i64) -> Vec<Value> {
    let text = |path: &str| value::text(object, path);
    let (name, namespace) = (text("spec.paramRef.name"), text("spec.paramRef.namespace"));
    let param = match (name, namespace, value::get(object, "spec.paramRef.selector")) {
        ("", _, Some(selector)) => shown(selector),
        ("", ..) => "<unset>".to_owned(),
        (name, "", _) => format!("*/{name}"),
        (name, namespace, _) => format!("{namespace}/{name}"),
    };
    vec![cells::name(object), text("spec.policyName").into(), param.into(), cells::age(object, now)]
}

/// A selector as Go prints the object.
fn shown(selector: &Value) -> String {
    let labels = labels::map(selector, "matchLabels").into_iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default())).collect();
    let wanted = value::items(selector, "matchExpressions").iter().map(|wanted| {
        let values: Vec<&str> = value::items(wanted, "values").iter().filter_map(Value::as_str).collect();
        let (key, operator) = (value::text(wanted, "key"), value::text(wanted, "operator"));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},", values.join(" "))
    });
    let wanted: String = wanted.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{wanted}}},}}"
    )
}

/// The defaults of a policy.
pub fn default_policy(object: &mut Value) {
    value::map_mut(object, "spec");
    if let Some(spec) = object.get_mut("spec") {
        value::set_default(spec, "failurePolicy", "Fail");
        default_resources(spec, "matchConstraints");
    }
}

/// The defaults of a binding.
pub fn default_binding(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) {
        default_resources(spec, "matchResources");
    }
}

fn default_resources(spec: &mut Value, name: &str) {
    let Some(resources) = spec.get_mut(name).filter(|resources| resources.is_object()) else { return };
    rules::default_selection(resources);
    rules::default_rules(resources, "resourceRules");
    rules::default_rules(resources, "excludeResourceRules");
}

fn spec(object: &Value) -> &Value {
    object.get("spec").unwrap_or(&Value::Null)
}

/// What policies have in common, up to their match conditions.
#[must_use]
pub fn policy(object: &Value, mutating: bool) -> Errors {
    let (mut errors, spec, field) = (Errors::new(), spec(object), Path::new("spec"));
    super::rules::required_one_of(&mut errors, spec, "failurePolicy", &field, FAILURE_POLICIES);
    if let Some(kind) = value::get(spec, "paramKind") {
        param_kind(&mut errors, kind, &field.child("paramKind"));
    }
    let at = field.child("matchConstraints");
    match value::get(spec, "matchConstraints") {
        None => errors.push(FieldError::required(&at, "")),
        Some(resources) => {
            match_resources(&mut errors, resources, &at);
            if value::items(resources, "resourceRules").is_empty() {
                errors.push(FieldError::required(&at.child("resourceRules"), ""));
            }
            if mutating {
                no_deletions(&mut errors, resources, &at);
            }
        }
    }
    rules::conditions(&mut errors, spec, &field);
    errors
}

/// Variables: names and presence.
pub fn variables(errors: &mut Errors, object: &Value) {
    for (i, variable) in value::items(object, "spec.variables").iter().enumerate() {
        let field = Path::new("spec").child("variables").index(i);
        let name = value::text(variable, "name");
        if name.trim().is_empty() {
            errors.push(FieldError::required(&field.child("name"), "name is not specified"));
        } else if !is_identifier(name) {
            errors.push(FieldError::invalid(&field.child("name"), name, "must be a valid CEL identifier"));
        }
        if value::text(variable, "expression").trim().is_empty() {
            errors.push(FieldError::required(&field.child("expression"), "expression is not specified"));
        }
    }
}

/// What the expression language takes as a name.
fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && letters.all(|c| c == '_' || c.is_ascii_alphanumeric())
        && !crate::cel::RESERVED.contains(&name)
}

fn param_kind(errors: &mut Errors, kind: &Value, field: &Path) {
    let (version, at) = (value::text(kind, "apiVersion"), field.child("apiVersion"));
    if version.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(&at, version, why));
    } else {
        let (group, own) = version.split_once('/').unwrap_or(("", version));
        let wrong = if group.is_empty() { Vec::new() } else { names::dns_subdomain(group) };
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at, group, wrong.join(",")));
        }
        let wrong = names::dns_1035_label(own);
        if own.is_empty() {
            errors.push(FieldError::invalid(&at, version, "version must be specified"));
        } else if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at, own, wrong.join(",")));
        }
    }
    let (name, at) = (value::text(kind, "kind"), field.child("kind"));
    let wrong = names::dns_1035_label(&name.to_lowercase());
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.push(FieldError::invalid(&at, name, why));
    }
}

fn match_resources(errors: &mut Errors, resources: &Value, field: &Path) {
    if value::get(resources, "matchPolicy").is_none() {
        errors.push(FieldError::required(&field.child("matchPolicy"), ""));
    }
    rules::match_policy(errors, resources, field);
    for name in ["namespaceSelector", "objectSelector"] {
        match value::get(resources, name) {
            None => errors.push(FieldError::required(&field.child(name), "")),
            Some(selector) => errors.extend(labels::validate_selector(Some(selector), &field.child(name))),
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for (i, rule) in value::items(resources, list).iter().enumerate() {
            let field = field.child(list).index(i);
            let mut seen = BTreeSet::new();
            for (j, name) in value::items(rule, "resourceNames").iter().filter_map(Value::as_str).enumerate() {
                let at = field.child("resourceNames").index(j);
                labels::invalid(errors, &at, name, names::path_segment(name, false));
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(&at, name));
                }
            }
            rules::rule(errors, rule, &field);
        }
    }
}

/// There is nothing to change in what goes.
fn no_deletions(errors: &mut Errors, resources: &Value, field: &Path) {
    let at = field.child("resourceRules").child("operations");
    let rules = value::items(resources, "resourceRules").iter();
    for operation in rules.flat_map(|rule| value::items(rule, "operations")).filter_map(Value::as_str) {
        if !MUTATING_OPERATIONS.contains(&operation) {
            errors.push(FieldError::not_supported(&at, operation, MUTATING_OPERATIONS));
        }
    }
}

/// What bindings have in common.
#[must_use]
pub fn binding(object: &Value, mutating: bool) -> Errors {
    let (mut errors, spec, field) = (Errors::new(), spec(object), Path::new("spec"));
    let policy = super::rules::required(&mut errors, spec, "policyName", &field);
    if !policy.is_empty() {
        labels::invalid(&mut errors, &field.child("policyName"), policy, names::dns_subdomain(policy));
    }
    if let Some(param) = value::get(spec, "paramRef") {
        param_ref(&mut errors, param, &field.child("paramRef"));
    }
    if let Some(resources) = value::get(spec, "matchResources") {
        let at = field.child("matchResources");
        match_resources(&mut errors, resources, &at);
        if mutating {
            no_deletions(&mut errors, resources, &at);
        }
    }
    errors
}

fn param_ref(errors: &mut Errors, param: &Value, field: &Path) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (value::text(param, "name"), value::get(param, "selector"));
    if !name.is_empty() {
        labels::invalid(errors, &field.child("name"), name, names::path_segment(name, false));
        if selector.is_some() {
            errors.push(FieldError::forbidden(&field.child("name"), EXCLUSIVE));
        }
    }
    if selector.is_some() {
        errors.extend(labels::validate_selector(selector, &field.child("selector")));
        if !name.is_empty() {
            errors.push(FieldError::forbidden(&field.child("selector"), EXCLUSIVE));
        }
    }
    if name.is_empty() && selector.is_none() {
        errors.push(FieldError::required(field, "one of name or selector must be specified"));
    }
    let action = value::text(param, "parameterNotFoundAction");
    let at = field.child("parameterNotFoundAction");
    match action {
        "" => errors.push(FieldError::required(&at, "")),
        "Allow" | "Deny" => {}
        _ => errors.push(FieldError::not_supported_as_listed(&at, action, &["Deny", "Allow"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn identifiers() {
        for (name, wanted) in [("a", true), ("_a1", true), ("1a", false), ("a-b", false), ("in", false), ("", false)] {
            assert_eq!(is_identifier(name), wanted, "{name}");
        }
    }

    #[test]
    fn selectors_look_as_in_go() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]});
        assert_eq!(
            shown(&selector),
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{\
             LabelSelectorRequirement{Key:c,Operator:In,Values:[d e],},},}"
        );
    }
}
