//! `replicasets` of apps: a number of equal pods.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, Path};
use crate::json::Value;
use crate::kind::{Hooks, Kind, describe};
use crate::kinds::shared::parts;
use crate::kinds::shared::{pod_defaults, pod_gates, pod_warnings, rules, workload};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[parts::SCALE, parts::status("apps", "v1", "ReplicaSet")],
    generation: true,
    columns: workload::REPLICA_COLUMNS,
    selectable: &[workload::REPLICAS],
    gated: pod_gates::WORKLOAD,
    pods: Some("spec.template.spec"),
    describe: describe::<k8s_openapi::api::apps::v1::ReplicaSet>,
    hooks: &ReplicaSet,
    ..Kind::BASE
};

struct ReplicaSet;

impl Hooks for ReplicaSet {
    fn default(&self, object: &mut Value) {
        pod_defaults::template(object, "spec.template");
        if let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) {
            value::set_default(spec, "replicas", 1);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        rules::not_negative(&mut errors, spec, "replicas", &field);
        rules::not_negative(&mut errors, spec, "minReadySeconds", &field);
        // "deployment" is upstream's word here too.
        workload::selector(&mut errors, spec, "deployment", &field);
        workload::template(&mut errors, spec, "ReplicaSet", &field);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "spec.selector", "*LabelSelector");
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        workload::status(
            new,
            &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
                "terminatingReplicas",
            ],
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        )
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        pod_warnings::of_template(new, old, "spec")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let [_, _, selector] = workload::wide_cells(object);
        workload::replica_row(object, now, selector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;
    fn sound() -> Value {
        let mut object = json!({"metadata": {"name": "w", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"a": "1"}},
            "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        KIND.hooks.default(&mut object);
        object
    }

    #[test]
    fn validation_and_row() {
        let mut object = sound();
        testing::defaults(&KIND, object.clone(), &object);
        testing::invalid(&KIND, &object, &[]);
        value::set(&mut object, "status", json!({"replicas": 3, "readyReplicas": 2}));
        testing::row(&KIND, &object, &json!(["w", 1, 3, 2, "<unknown>", "c", "i", "a=1"]));
        value::remove(&mut object, "spec.selector");
        value::set(&mut object, "spec.template.spec.activeDeadlineSeconds", 5);
        testing::invalid(
            &KIND,
            &object,
            &[
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"a\":\"1\"}: `selector` does not match template `labels`",
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        );
    }
}
