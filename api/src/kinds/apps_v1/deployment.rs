//! `deployments` of apps: replicated pods with rolling updates.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Column, Gvk, Hooks, Kind, Part, Subresource, Verb, describe};
use crate::kinds::shared::parts;
use crate::kinds::shared::{cells, pod_defaults, pod_gates, pod_warnings, rules, workload};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[
        parts::SCALE,
        Subresource {
            name: "status",
            gvk: Gvk { group: "apps", version: "v1", kind: "Deployment" },
            verbs: Verb::PART,
            part: Part::View { merge: with_status },
        },
    ],
    generation: true,
    generation_metadata: &["annotations"],
    columns: &[
        Column::NAME,
        Column::text("Ready").says("Number of the pod with ready state"),
        Column::text("Up-to-date").of("status.updatedReplicas"),
        Column::text("Available").of("status.availableReplicas"),
        Column::AGE,
        cells::CONTAINERS,
        cells::IMAGES,
        cells::SELECTOR,
    ],
    gated: pod_gates::WORKLOAD,
    pods: Some("spec.template.spec"),
    describe: describe::<k8s_openapi::api::apps::v1::Deployment>,
    hooks: &Deployment,
    ..Kind::BASE
};

struct Deployment;

impl Hooks for Deployment {
    fn default(&self, object: &mut Value) {
        pod_defaults::template(object, "spec.template");
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        value::set_default(spec, "replicas", 1);
        if value::text(spec, "strategy.type").is_empty() {
            value::set(spec, "strategy.type", "RollingUpdate");
        }
        if value::text(spec, "strategy.type") == "RollingUpdate" {
            value::set_default(spec, "strategy.rollingUpdate.maxUnavailable", "25%");
            value::set_default(spec, "strategy.rollingUpdate.maxSurge", "25%");
        }
        value::set_default(spec, "revisionHistoryLimit", 10);
        value::set_default(spec, "progressDeadlineSeconds", 600);
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        rules::not_negative(&mut errors, spec, "replicas", &field);
        if workload::selector(&mut errors, spec, "deployment", &field) {
            workload::template(&mut errors, spec, "ReplicaSet", &field);
        }
        validate_strategy(&mut errors, spec.get("strategy").unwrap_or(&Value::Null), &field.child("strategy"));
        rules::not_negative(&mut errors, spec, "minReadySeconds", &field);
        rules::not_negative(&mut errors, spec, "revisionHistoryLimit", &field);
        rules::not_negative(&mut errors, spec, "progressDeadlineSeconds", &field);
        if let Some(deadline) = value::int(spec, "progressDeadlineSeconds")
            && deadline <= value::int(spec, "minReadySeconds").unwrap_or_default()
        {
            let at = field.child("progressDeadlineSeconds");
            errors.push(FieldError::invalid(&at, deadline, "must be greater than minReadySeconds"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "spec.selector", "*LabelSelector");
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        let mut errors = workload::status(
            new,
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
            &["updatedReplicas", "readyReplicas", "availableReplicas"],
        );
        rules::not_decremented(&mut errors, new, old, "status.collisionCount");
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        pod_warnings::of_template(new, old, "spec")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let ready = value::int(object, "status.readyReplicas").unwrap_or_default();
        let wanted = value::int(object, "spec.replicas").unwrap_or_default();
        let [containers, images, selector] = workload::wide_cells(object);
        vec![
            cells::name(object),
            format!("{ready}/{wanted}").into(),
            cells::count(object, "status.updatedReplicas"),
            cells::count(object, "status.availableReplicas"),
            cells::age(object, now),
            containers,
            images,
            selector,
        ]
    }
}

/// `deployments/status`: labels stay.
fn with_status(new: Value, old: &Value) -> Value {
    let mut deployment = parts::status_of_new(new, old);
    parts::copy(&mut deployment, old, "metadata.labels");
    deployment
}

fn validate_strategy(errors: &mut Errors, strategy: &Value, field: &Path) {
    let rolling = strategy.get("rollingUpdate").filter(|update| update.is_object());
    let at = field.child("rollingUpdate");
    match (value::text(strategy, "type"), rolling) {
        ("Recreate", Some(_)) => {
            errors.push(FieldError::forbidden(&at, "may not be specified when strategy `type` is 'Recreate'"));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.push(FieldError::required(&at, "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(update)) => {
            workload::rolling_update(errors, update, &at);
            if workload::amount(update, "maxUnavailable") == 0 && workload::amount(update, "maxSurge") == 0 {
                let shown = update.get("maxUnavailable").cloned().unwrap_or_default();
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(&at.child("maxUnavailable"), shown, detail));
            }
            rules::at_most_all(errors, update, "maxUnavailable", &at);
        }
        _ => {
            let error = FieldError::not_supported(field, Value::Null, &["Recreate", "RollingUpdate"]);
            errors.push(error.showing("DeploymentStrategy", strategy));
        }
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
    fn defaults() {
        let object = sound();
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(
            object["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(object["spec"]["progressDeadlineSeconds"], 600);
        testing::defaults(&KIND, object.clone(), &object);
    }

    #[test]
    fn validation() {
        testing::invalid(&KIND, &sound(), &[]);
        for (path, to, sentences) in [
            ("spec.replicas", json!(-1), vec!["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
            (
                "spec.selector",
                json!({}),
                vec!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                "spec.selector.matchLabels",
                json!({"b": "2"}),
                vec![
                    "spec.template.metadata.labels: Invalid value: {\"a\":\"1\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "spec.strategy.rollingUpdate",
                json!({"maxUnavailable": 0, "maxSurge": "0%"}),
                vec!["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
            ),
            (
                "spec.strategy.type",
                json!("Recreate"),
                vec!["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
            ),
            (
                "spec.minReadySeconds",
                json!(600),
                vec!["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
            ),
            (
                "spec.template.spec.restartPolicy",
                json!("Never"),
                vec!["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
        ] {
            let mut object = sound();
            value::set(&mut object, path, to);
            testing::invalid(&KIND, &object, &sentences);
        }
        let mut new = sound();
        value::set(&mut new, "spec.selector.matchLabels", json!({"b": "1"}));
        let sentence = "spec.selector: Invalid value: {\"matchLabels\":{\"b\":\"1\"}}: field is immutable";
        testing::invalid_update(&KIND, &new, &sound(), &[sentence]);
        let status = json!({"status": {"replicas": 1, "readyReplicas": 2}});
        assert_eq!(
            testing::shown(&KIND.hooks.validate_part("status", &status, &json!({"status": {"collisionCount": 1}}))),
            [
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.collisionCount: Invalid value: 0: cannot be decremented",
            ]
        );
    }

    #[test]
    fn row() {
        let mut object = sound();
        value::set(&mut object, "status", json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}));
        testing::row(&KIND, &object, &json!(["w", "1/1", 2, 1, "<unknown>", "c", "i", "a=1"]));
    }
}
