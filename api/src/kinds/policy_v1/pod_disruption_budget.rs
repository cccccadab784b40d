//! `poddisruptionbudgets` of policy: how many pods may be evicted at once.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, NameRule, describe};
use crate::kinds::shared::{cells, conditions, labels, parts, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "policy",
    version: "v1",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    subresources: &[parts::status("policy", "v1", "PodDisruptionBudget")],
    generation: true,
    unconditional_update: false,
    columns: &[
        Column::NAME,
        Column::text("Min Available").says("The minimum number of pods that must be available."),
        Column::text("Max Unavailable").says("The maximum number of pods that may be unavailable."),
        Column::integer("Allowed Disruptions").says("Calculated number of pods that may be disrupted at this time."),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::policy::v1::PodDisruptionBudget>,
    judgement: Judgement::OBJECT_ALONE,
    hooks: &PodDisruptionBudget,
    ..Kind::BASE
};

struct PodDisruptionBudget;

impl Hooks for PodDisruptionBudget {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let is_set = |name| spec.get(name).is_some_and(|amount| !amount.is_null());
        if is_set("minAvailable") && is_set("maxUnavailable") {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid_whole(&field, detail).showing("PodDisruptionBudgetSpec", spec));
        }
        for name in ["minAvailable", "maxUnavailable"] {
            if is_set(name) {
                rules::int_or_percent(&mut errors, spec, name, &field);
                rules::at_most_all(&mut errors, spec, name, &field);
            }
        }
        errors.extend(labels::validate_selector(spec.get("selector"), &field.child("selector")));
        if let Some(policy) = spec.get("unhealthyPodEvictionPolicy").and_then(Value::as_str)
            && !POLICIES.contains(&policy)
        {
            errors.push(FieldError::not_supported(&field.child("unhealthyPodEvictionPolicy"), policy, POLICIES));
        }
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        let field = Path::new("status");
        let mut errors = conditions::validate(value::items(new, "status.conditions"), &field.child("conditions"));
        let status = new.get("status").unwrap_or(&Value::Null);
        for name in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            rules::not_negative(&mut errors, status, name, &field);
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let amount = |path| match value::get(object, path) {
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text.into(),
            _ => "N/A".to_owned(),
        };
        vec![
            cells::name(object),
            amount("spec.minAvailable").into(),
            amount("spec.maxUnavailable").into(),
            cells::count(object, "status.disruptionsAllowed"),
            cells::age(object, now),
        ]
    }
}

/// When pods that are not ready may go.
const POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn validation() {
        for spec in [json!({}), json!({"minAvailable": "50%", "selector": {}}), json!({"maxUnavailable": 0})] {
            testing::invalid(&KIND, &json!({ "spec": spec }), &[]);
        }
        testing::invalid(
            &KIND,
            &json!({"spec": {"minAvailable": "101%", "maxUnavailable": -1, "unhealthyPodEvictionPolicy": "Odd",
                "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}),
            &[
                "spec: Invalid value: {\"MinAvailable\":\"101%\",\"Selector\":{\"matchExpressions\":\
                 [{\"key\":\"a\",\"operator\":\"In\"}]},\"MaxUnavailable\":-1,\"UnhealthyPodEvictionPolicy\":\"Odd\"}: minAvailable and \
                 maxUnavailable cannot be both set",
                "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
                "spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Odd\": supported values: \"AlwaysAllow\", \
                 \"IfHealthyBudget\"",
            ],
        );
        let status = json!({"status": {"disruptionsAllowed": -1, "currentHealthy": 1, "conditions": [
            {"type": "A", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "A", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        assert_eq!(
            testing::shown(&KIND.hooks.validate_part("status", &status, &json!({}))),
            [
                "status.conditions[1].type: Duplicate value: \"A\"",
                "status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }

    #[test]
    fn selectors_are_replaced_by_patches_and_conditions_merge() {
        let old = json!({"spec": {"selector": {"matchLabels": {"a": "1"}}}, "status": {"conditions": [{"type": "A", "status": "True"}]}});
        let patch =
            json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}, "status": {"conditions": [{"type": "B"}]}});
        let new = crate::patch::strategic::apply(&old, &patch, KIND.schema()).unwrap();
        assert_eq!(new["spec"]["selector"], json!({"matchLabels": {"b": "2"}}));
        assert_eq!(new["status"]["conditions"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn row() {
        let budget =
            json!({"metadata": {"name": "b"}, "spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}});
        testing::row(&KIND, &budget, &json!(["b", "50%", "N/A", 2, "<unknown>"]));
        let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1}});
        testing::row(&KIND, &budget, &json!(["b", "N/A", "1", 0, "<unknown>"]));
    }
}
