//! `replicationcontrollers`: a number of equal pods, as it was before replica sets.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::kind::{Hooks, Kind, NameRule, describe};
use crate::kinds::shared::parts;
use crate::kinds::shared::{labels, names, pod_defaults, pod_gates, pod_warnings, rules, workload};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    subresources: &[parts::SCALE, parts::status("", "v1", "ReplicationController")],
    generation: true,
    orphans_dependents: true,
    columns: workload::REPLICA_COLUMNS,
    selectable: &[workload::REPLICAS],
    gated: pod_gates::WORKLOAD,
    pods: Some("spec.template.spec"),
    describe: describe::<k8s_openapi::api::core::v1::ReplicationController>,
    hooks: &ReplicationController,
    ..Kind::BASE
};

struct ReplicationController;

impl Hooks for ReplicationController {
    fn name_rule(&self) -> NameRule {
        NameRule::DeclaredSubdomain
    }

    /// What it selects and what it is labelled with are the labels of its pods, unless it says otherwise.
    fn default(&self, object: &mut Value) {
        pod_defaults::given_template(object, "spec.template");
        if let Some(own) = labels::map(object, "spec.template.metadata.labels").cloned() {
            for path in ["spec.selector", "metadata.labels"] {
                if value::get(object, path).is_none_or(rules::is_zero) && !own.is_empty() {
                    value::set(object, path, own.clone());
                }
            }
        }
        if let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) {
            value::set_default(spec, "replicas", 1);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        rules::not_negative(&mut errors, spec, "minReadySeconds", &field);
        let selector = json!({"matchLabels": spec.get("selector")});
        let selects = !labels::is_empty(Some(&selector));
        if !selects {
            errors.push(FieldError::required(&field.child("selector"), ""));
        }
        if value::int(spec, "replicas").is_none() {
            errors.push(FieldError::required(&field.child("replicas"), ""));
        }
        rules::not_negative(&mut errors, spec, "replicas", &field);
        if spec.get("template").is_none_or(Value::is_null) {
            errors.push(FieldError::required(&field.child("template"), ""));
            return errors;
        }
        let own = value::get(spec, "template.metadata.labels");
        if selects && !labels::matches(&selector, own) {
            errors.push(FieldError::invalid(
                &field.child("template.metadata.labels"),
                own.cloned().unwrap_or_default(),
                "`selector` does not match template `labels`",
            ));
        }
        workload::template(&mut errors, spec, "ReplicationController", &field);
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        workload::status(
            new,
            &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        )
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let messages = names::dns_label(meta::name(new));
        if old.is_none() && !messages.is_empty() {
            out.push(format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label \
                 is recommended: [{}]",
                messages.join(" ")
            ));
        }
        out.extend(pod_warnings::of_template(new, old, "spec"));
        out
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        workload::replica_row(object, now, labels::shown(value::get(object, "spec.selector")).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    fn sound() -> Value {
        let mut object = json!({"metadata": {"name": "w", "namespace": "n"}, "spec": {
            "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        KIND.hooks.default(&mut object);
        object
    }

    #[test]
    fn labels_of_the_pods_are_its_own() {
        let object = sound();
        assert_eq!(object["spec"]["selector"], json!({"a": "1"}));
        assert_eq!(object["metadata"]["labels"], json!({"a": "1"}));
        assert_eq!(object["spec"]["replicas"], 1);
        testing::defaults(&KIND, object.clone(), &object);
        let mut other = sound();
        value::set(&mut other, "spec.selector", json!({"b": "1"}));
        value::set(&mut other, "metadata.labels", json!({"c": "1"}));
        testing::defaults(&KIND, other.clone(), &other);
    }

    #[test]
    fn validation() {
        testing::invalid(&KIND, &sound(), &[]);
        for (path, to, sentences) in [
            (
                "spec.minReadySeconds",
                json!(-1),
                vec!["spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"],
            ),
            ("spec.selector", json!({}), vec!["spec.selector: Required value"]),
            ("spec.replicas", Value::Null, vec!["spec.replicas: Required value"]),
            ("spec.template", Value::Null, vec!["spec.template: Required value"]),
            (
                "spec.selector",
                json!({"b": "1"}),
                vec![
                    "spec.template.metadata.labels: Invalid value: {\"a\":\"1\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "spec.template.spec.restartPolicy",
                json!("Never"),
                vec!["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
            (
                "spec.template.spec.activeDeadlineSeconds",
                json!(1),
                vec![
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not \
                     Supported",
                ],
            ),
        ] {
            let mut object = sound();
            value::set(&mut object, path, to);
            testing::invalid(&KIND, &object, &sentences);
        }
        let status = json!({"status": {"replicas": 1, "readyReplicas": 2, "observedGeneration": -1}});
        assert_eq!(
            testing::shown(&KIND.hooks.validate_part("status", &status, &status)),
            [
                "status.observedGeneration: Invalid value: -1: must be greater than or equal to 0",
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            ]
        );
    }

    #[test]
    fn row_and_warnings() {
        let mut object = sound();
        value::set(&mut object, "status", json!({"replicas": 3, "readyReplicas": 2}));
        testing::row(&KIND, &object, &json!(["w", 1, 3, 2, "<unknown>", "c", "i", "a=1"]));
        assert!(KIND.hooks.warnings(&object, None).is_empty());
        value::set(&mut object, "metadata.name", "a.b");
        assert_eq!(
            KIND.hooks.warnings(&object, None),
            [
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is \
                 recommended: [must not contain dots]"
            ]
        );
        assert!(KIND.hooks.warnings(&object, Some(&object)).is_empty());
    }
}
