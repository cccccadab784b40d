//! What flow schemas and priority levels have in common: the objects that must be there, and the conditions of their status.
//!
//! Never decides which request goes where. Source: KEP-1040.

use super::rules;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::value;

/// The spec that the flow schema of this name must have, if it is one that every cluster has.
#[must_use]
pub fn mandatory_schema(name: &str) -> Option<Value> {
    let all = json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    });
    let groups = |names: &[&str]| {
        let mut rule = all.clone();
        let subjects = names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}}));
        value::set(&mut rule, "subjects", subjects.collect::<Vec<_>>());
        json!([rule])
    };
    match name {
        "exempt" => Some(json!({
            "priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 1, "rules": groups(&["system:masters"]),
        })),
        "catch-all" => Some(json!({
            "priorityLevelConfiguration": {"name": "catch-all"}, "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": groups(&["system:unauthenticated", "system:authenticated"]),
        })),
        _ => None,
    }
}

/// The spec that the priority level of this name must have, if it is one that every cluster has.
#[must_use]
pub fn mandatory_level(name: &str) -> Option<Value> {
    match name {
        "exempt" => Some(json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})),
        "catch-all" => Some(json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0}})),
        _ => None,
    }
}

/// Conditions have a type, and none twice.
#[must_use]
pub fn conditions(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let conditions = value::items(object, "status.conditions");
    for (i, condition) in conditions.iter().enumerate() {
        let field = Path::new("status.conditions").index(i);
        let kind = value::text(condition, "type");
        if conditions.iter().take(i).any(|other| value::text(other, "type") == kind) {
            errors.push(FieldError::duplicate(&field.child("type"), kind));
        }
        rules::required(&mut errors, condition, "type", &field);
    }
    errors
}
