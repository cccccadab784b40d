//! `resourcequotas`: what all objects of a namespace may use together.
//!
//! Never enforces it. Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Text, Value};
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, labels, parts, quantities, resource_names, resources, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    subresources: &[parts::status("", "v1", "ResourceQuota")],
    columns: &[Column::NAME, Column::text("Request").says("Request represents a minimum amount of cpu/memory that a container may consume."), Column::text("Limit").says("Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."), Column::AGE],
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::core::v1::ResourceQuota>,
    hooks: &ResourceQuota,
    ..Kind::BASE
};

struct ResourceQuota;

impl Hooks for ResourceQuota {
    fn default(&self, object: &mut Value) {
        for list in ["spec.hard", "status.hard", "status.used"] {
            quantities::round_up(object, list);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        amounts(&mut errors, object, "spec.hard");
        scopes(&mut errors, object);
        scope_selector(&mut errors, object);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        let scopes = |object| {
            let mut names: Vec<&str> = value::items(object, "spec.scopes").iter().filter_map(Value::as_str).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        if scopes(new) != scopes(old) {
            errors.push(FieldError::invalid(&Path::new(SCOPES), shown_scopes(new), rules::IMMUTABLE));
        }
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        let mut errors = Errors::new();
        amounts(&mut errors, new, "status.hard");
        amounts(&mut errors, new, "status.used");
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() { Vec::new() } else { warnings(new) }
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let mut names: Vec<&Text> = labels::map(object, "status.hard").into_iter().flat_map(Map::keys).collect();
        names.sort_unstable();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for name in names {
            let amount = |list: &str| quantities::shown(quantities::of(object, list, name));
            let shown = format!("{name}: {}/{}", amount("status.used"), amount("status.hard"));
            if name.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
        }
        vec![cells::name(object), requests.join(", ").into(), limits.join(", ").into(), cells::age(object, now)]
    }
}

const SCOPES: &str = "spec.scopes";
const PODS: &[&str] = &["pods"];
const COMPUTE_OF_PODS: &[&str] =
    &["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];

/// Scopes, the standard resources that each can count, and whether a selector can only ask if it is there.
const KNOWN_SCOPES: &[(&str, &[&str], bool)] = &[
    ("Terminating", COMPUTE_OF_PODS, true),
    ("NotTerminating", COMPUTE_OF_PODS, true),
    ("BestEffort", PODS, true),
    ("NotBestEffort", COMPUTE_OF_PODS, true),
    ("CrossNamespacePodAffinity", COMPUTE_OF_PODS, true),
    ("PriorityClass", COMPUTE_OF_PODS, false),
    ("VolumeAttributesClass", CLAIMS, false),
];

/// Scopes that leave nothing when they are together.
const CONFLICTS: &[[&str; 2]] = &[["BestEffort", "NotBestEffort"], ["NotTerminating", "Terminating"]];

fn amounts(errors: &mut Errors, quota: &Value, list: &str) {
    let field = Path::new(list);
    for (name, amount) in labels::map(quota, list).into_iter().flatten() {
        let at = field.key(name);
        resource_names::of_quota(errors, name, &at);
        resources::validate_amount(errors, name, amount, &at);
    }
}

/// The standard resources of the quota that a scope cannot count.
fn uncounted<'a>(quota: &'a Value, scope: &str) -> impl Iterator<Item = &'a Text> {
    let counted = KNOWN_SCOPES.iter().find(|(name, _, _)| *name == scope).map(|(_, counted, _)| *counted);
    let hard = labels::map(quota, "spec.hard").into_iter().flat_map(Map::keys);
    hard.filter(move |name| {
        resource_names::is_quota_standard(name) && counted.is_some_and(|counted| !counted.contains(&name.as_str()))
    })
}

fn shown_scopes(quota: &Value) -> Value {
    value::get(quota, SCOPES).cloned().unwrap_or_default()
}

fn conflicts(errors: &mut Errors, scopes: &[&str], quota: &Value, field: &Path) {
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))) {
        errors.push(FieldError::invalid(field, shown_scopes(quota), "conflicting scopes"));
    }
}

fn scopes(errors: &mut Errors, quota: &Value) {
    let field = Path::new(SCOPES);
    let scopes: Vec<&str> = value::items(quota, SCOPES).iter().filter_map(Value::as_str).collect();
    for scope in &scopes {
        if !KNOWN_SCOPES.iter().any(|(name, _, _)| name == scope) {
            errors.push(FieldError::invalid(&field, shown_scopes(quota), "unsupported scope"));
        }
        for _ in uncounted(quota, scope) {
            errors.push(FieldError::invalid(&field, shown_scopes(quota), "unsupported scope applied to resource"));
        }
    }
    conflicts(errors, &scopes, quota, &field);
}

fn scope_selector(errors: &mut Errors, quota: &Value) {
    let Some(selector) = value::get(quota, "spec.scopeSelector").filter(|selector| selector.is_object()) else {
        return;
    };
    // Upstream names no index here.
    let field = Path::new("spec.scopeSelector.matchExpressions");
    let mut scopes = Vec::new();
    for requirement in value::items(selector, "matchExpressions") {
        let scope = value::text(requirement, "scopeName");
        scopes.push(scope);
        let known = KNOWN_SCOPES.iter().find(|(name, _, _)| *name == scope);
        if known.is_none() {
            errors.push(FieldError::invalid(&field.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in uncounted(quota, scope) {
            let error = FieldError::invalid_whole(&field, "unsupported scope applied to resource");
            errors.push(error.showing("ScopeSelector", selector));
        }
        let (operator, at) = (value::text(requirement, "operator"), field.child("operator"));
        if known.is_some_and(|(_, _, only_exists)| *only_exists) && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                          ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                          ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(&at, operator, detail));
        }
        let values = value::items(requirement, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(&field.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(&field.child("values"), values.to_vec(), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(&at, other, "not a valid selector operator")),
        }
    }
    conflicts(errors, &scopes, quota, &field);
}

/// Requests above limits can never be used up.
fn warnings(quota: &Value) -> Vec<String> {
    let get = |name: &str| quantities::of(quota, "spec.hard", name);
    let mut out = Vec::new();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let (full, limit_name) = (format!("requests.{name}"), format!("limits.{name}"));
        let (request_name, request) = match get(&full) {
            None if matches!(name, "cpu" | "memory") => (name, get(name)),
            request => (full.as_str(), request),
        };
        if let (Some(request), Some(limit)) = (request, get(&limit_name))
            && request > limit
        {
            out.push(format!("ResourceQuota {request_name} ({request}) should be less than {limit_name} ({limit})"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn of(spec: &Value) -> Value {
        json!({"metadata": {"name": "q", "namespace": "n"}, "spec": spec})
    }

    #[test]
    fn validation() {
        let exists = |scope: &str| json!({"matchExpressions": [{"scopeName": scope, "operator": "Exists"}]});
        for (spec, sentences) in [
            (
                json!({"hard": {"cpu": "1", "pods": "5", "count/deployments.apps": "2", "requests.example.com/gpu": "1"}}),
                vec![],
            ),
            (json!({"hard": {"pods": "5", "requests.cpu": "1"}, "scopes": ["NotBestEffort", "Terminating"]}), vec![]),
            (
                json!({"hard": {"persistentvolumeclaims": "5"}, "scopeSelector": exists("VolumeAttributesClass")}),
                vec![],
            ),
            (
                json!({"hard": {"storage": "1", "pods": "500m", "secrets": "-1"}}),
                vec![
                    "spec.hard[pods]: Invalid value: \"500m\": must be an integer",
                    "spec.hard[secrets]: Invalid value: \"-1\": must be greater than or equal to 0",
                    "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
                ],
            ),
            (
                json!({"hard": {"services": "1"}, "scopes": ["BestEffort", "NotBestEffort", "Odd"]}),
                vec![
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: conflicting scopes",
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope",
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope applied to resource",
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope applied to resource",
                ],
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In"},
                    {"scopeName": "PriorityClass", "operator": "Exists", "values": ["x"]},
                    {"scopeName": "PriorityClass", "operator": "Near"},
                    {"scopeName": "Terminating", "operator": "DoesNotExist"}]}}),
                vec![
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"DoesNotExist\": must be 'Exists' when scope is \
                     any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                     ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Near\": not a valid selector operator",
                    "spec.scopeSelector.matchExpressions.values: Invalid value: [\"x\"]: must be no value when `operator` is \
                     'Exist' or 'DoesNotExist' for scope selector",
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is \
                     'In' or 'NotIn' for scope selector",
                ],
            ),
        ] {
            let mut found = testing::shown(&KIND.hooks.validate(&of(&spec)));
            found.sort();
            assert_eq!(found, sentences);
        }
    }

    #[test]
    fn scopes_stay() {
        let old = of(&json!({"scopes": ["BestEffort", "Terminating"]}));
        testing::invalid_update(&KIND, &of(&json!({"scopes": ["Terminating", "BestEffort"]})), &old, &[]);
        testing::invalid_update(
            &KIND,
            &of(&json!({"scopes": ["Terminating"]})),
            &old,
            &["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"],
        );
    }

    #[test]
    fn status_rows_and_warnings() {
        let mut object = of(&json!({"hard": {"cpu": "2", "limits.cpu": "1", "requests.storage": "1"}}));
        assert_eq!(KIND.hooks.warnings(&object, None), ["ResourceQuota cpu (2) should be less than limits.cpu (1)"]);
        assert!(KIND.hooks.warnings(&object, Some(&object)).is_empty());
        value::set(
            &mut object,
            "status",
            json!({"hard": {"pods": "5", "cpu": "2", "limits.cpu": "1"}, "used": {"cpu": "500m"}}),
        );
        assert_eq!(KIND.hooks.validate_part("status", &object, &object), Errors::new());
        testing::row(&KIND, &object, &json!(["q", "cpu: 500m/2, pods: 0/5", "limits.cpu: 0/1", "<unknown>"]));
        value::set(&mut object, "status.used.odd", "1");
        assert_eq!(KIND.hooks.validate_part("status", &object, &object).len(), 2);
    }
}
