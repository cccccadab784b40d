//! `runtimeclasses` of node.k8s.io: how containers are run.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, labels, names, node_labels, pod_scheduling, resources, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "node.k8s.io",
    version: "v1",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    create_on_update: true,
    unconditional_update: false,
    columns: &[Column::NAME, Column::text("Handler"), Column::AGE],
    describe: describe::<k8s_openapi::api::node::v1::RuntimeClass>,
    judgement: Judgement::NEW_THEN_CHANGE.any_finalizer(),
    hooks: &RuntimeClass,
    ..Kind::BASE
};

struct RuntimeClass;

impl Hooks for RuntimeClass {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let handler = rules::required(&mut errors, object, "handler", &Path::new(""));
        if !handler.is_empty() {
            labels::invalid(&mut errors, &Path::new("handler"), handler, names::dns_label(handler));
        }
        if let Some(fixed) = value::get(object, "overhead.podFixed").filter(|fixed| fixed.is_object()) {
            errors.extend(resources::validate(Some(&json!({ "limits": fixed })), &Path::new("overhead")));
        }
        let Some(scheduling) = object.get("scheduling").filter(|scheduling| scheduling.is_object()) else {
            return errors;
        };
        let field = Path::new("scheduling");
        errors.extend(labels::validate(scheduling.get("nodeSelector"), &field.child("nodeSelector")));
        let field = field.child("tolerations");
        errors.extend(pod_scheduling::tolerations(scheduling, &field));
        let tolerations = value::items(scheduling, "tolerations");
        let key =
            |toleration: &Value| ["key", "operator", "value", "effect"].map(|n| value::text(toleration, n).to_owned());
        for (i, toleration) in tolerations.iter().enumerate() {
            if tolerations.iter().take(i).any(|other| key(other) == key(toleration)) {
                let error = FieldError::duplicate(&field.index(i), Value::Null);
                errors.push(error.showing("Toleration", toleration));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_text(&mut errors, new, old, "handler");
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let selector = labels::map(new, "scheduling.nodeSelector").into_iter().flatten();
        selector
            .filter_map(|(key, _)| node_labels::deprecated(key))
            .map(|why| format!("scheduling.nodeSelector: {why}"))
            .collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![cells::name(object), cells::text(object, "handler"), cells::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    #[test]
    fn validation() {
        let fine = json!({"handler": "runc", "overhead": {"podFixed": {"cpu": "1", "memory": "1Mi"}},
            "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "operator": "Exists"}]}});
        testing::invalid(&KIND, &fine, &[]);
        testing::invalid(&KIND, &json!({}), &["handler: Required value"]);
        testing::invalid(
            &KIND,
            &json!({"handler": "a.b", "overhead": {"podFixed": {"cpu": "-1"}},
                "scheduling": {"tolerations": [{"key": "a", "value": "x"}, {"key": "a", "value": "x", "effect": ""}]}}),
            &[
                "handler: Invalid value: \"a.b\": must not contain dots",
                "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "scheduling.tolerations[1]: Duplicate value: {\"Key\":\"a\",\"Operator\":\"\",\"Value\":\"x\",\"Effect\":\"\",\"TolerationSeconds\":null}",
            ],
        );
        testing::invalid_update(
            &KIND,
            &json!({"handler": "b"}),
            &json!({"handler": "a"}),
            &["handler: Invalid value: \"b\": field is immutable"],
        );
    }

    #[test]
    fn old_labels_are_pointed_out() {
        let class = json!({"scheduling": {"nodeSelector": {"beta.kubernetes.io/os": "linux", "a": "b"}}});
        assert_eq!(
            KIND.hooks.warnings(&class, None),
            ["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/os\" instead"]
        );
    }

    #[test]
    fn row() {
        testing::row(&KIND, &json!({"metadata": {"name": "c"}, "handler": "runc"}), &json!(["c", "runc", "<unknown>"]));
    }
}
