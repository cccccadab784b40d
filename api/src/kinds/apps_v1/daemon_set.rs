//! `daemonsets` of apps: one pod on every matching node.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::parts;
use crate::kinds::shared::{cells, labels, pod_defaults, pod_gates, pod_warnings, rules, workload};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[parts::status("apps", "v1", "DaemonSet")],
    generation: true,
    columns: &[
        Column::NAME,
        Column::integer("Desired").of("status.desiredNumberScheduled"),
        Column::integer("Current").of("status.currentNumberScheduled"),
        Column::integer("Ready").of("status.numberReady"),
        Column::integer("Up-to-date").of("status.updatedNumberScheduled"),
        Column::integer("Available").of("status.numberAvailable"),
        Column::text("Node Selector").of("spec.template.spec.nodeSelector"),
        Column::AGE,
        cells::CONTAINERS,
        cells::IMAGES,
        cells::SELECTOR,
    ],
    gated: pod_gates::WORKLOAD,
    pods: Some("spec.template.spec"),
    describe: describe::<k8s_openapi::api::apps::v1::DaemonSet>,
    judgement: Judgement::CHANGED_OBJECT,
    hooks: &DaemonSet,
    ..Kind::BASE
};

struct DaemonSet;

impl Hooks for DaemonSet {
    fn default(&self, object: &mut Value) {
        pod_defaults::template(object, "spec.template");
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        if value::text(spec, "updateStrategy.type").is_empty() {
            value::set(spec, "updateStrategy.type", "RollingUpdate");
        }
        if value::text(spec, "updateStrategy.type") == "RollingUpdate" {
            value::set_default(spec, "updateStrategy.rollingUpdate.maxUnavailable", 1);
            value::set_default(spec, "updateStrategy.rollingUpdate.maxSurge", 0);
        }
        value::set_default(spec, "revisionHistoryLimit", 10);
        // Upstream's own form has a number there, and each object that it shows an annotation.
        set_template_generation(object, template_generation(object));
    }

    fn prepare_create(&self, object: &mut Value) {
        if template_generation(object) < 1 {
            set_template_generation(object, 1);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let changed = value::get(new, "spec.template") != value::get(old, "spec.template");
        set_template_generation(new, template_generation(old) + i64::from(changed));
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        if workload::selector(&mut errors, spec, "daemonset", &field) {
            workload::template(&mut errors, spec, "DaemonSet", &field);
        }
        rules::not_negative(&mut errors, spec, "minReadySeconds", &field);
        let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
        validate_strategy(&mut errors, strategy, &field.child("updateStrategy"));
        rules::not_negative(&mut errors, spec, "revisionHistoryLimit", &field);
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
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ],
            &[],
        );
        rules::not_decremented(&mut errors, new, old, "status.collisionCount");
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        pod_warnings::of_template(new, old, "spec.template")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let [containers, images, selector] = workload::wide_cells(object);
        vec![
            cells::name(object),
            cells::count(object, "status.desiredNumberScheduled"),
            cells::count(object, "status.currentNumberScheduled"),
            cells::count(object, "status.numberReady"),
            cells::count(object, "status.updatedNumberScheduled"),
            cells::count(object, "status.numberAvailable"),
            labels::shown(value::get(object, "spec.template.spec.nodeSelector")).into(),
            cells::age(object, now),
            containers,
            images,
            selector,
        ]
    }
}

/// Counts changes of the template; an annotation in apps/v1.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Value) -> i64 {
    meta::annotation(object, TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn set_template_generation(object: &mut Value, generation: i64) {
    value::map_mut(object, "metadata.annotations").insert(TEMPLATE_GENERATION, generation.to_string().into());
}

fn validate_strategy(errors: &mut Errors, strategy: &Value, field: &Path) {
    let at = field.child("rollingUpdate");
    match (value::text(strategy, "type"), strategy.get("rollingUpdate").filter(|update| update.is_object())) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(FieldError::required(&at, "")),
        ("RollingUpdate", Some(update)) => {
            workload::rolling_update(errors, update, &at);
            rules::at_most_all(errors, update, "maxUnavailable", &at);
            rules::at_most_all(errors, update, "maxSurge", &at);
            match (workload::amount(update, "maxUnavailable") != 0, workload::amount(update, "maxSurge") != 0) {
                (true, true) => {
                    let shown = update.get("maxSurge").cloned().unwrap_or_default();
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(FieldError::invalid(&at.child("maxSurge"), shown, detail));
                }
                (false, false) => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    errors.push(FieldError::required(&at.child("maxUnavailable"), detail));
                }
                _ => {}
            }
        }
        _ => {
            let error = FieldError::not_supported_as_listed(field, Value::Null, &["RollingUpdate", "OnDelete"]);
            errors.push(error.showing("DaemonSetUpdateStrategy", strategy));
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
    fn template_generation_counts() {
        let mut old = sound();
        KIND.hooks.prepare_create(&mut old);
        assert_eq!(meta::annotation(&old, TEMPLATE_GENERATION), Some("1"));
        let mut new = old.clone();
        value::set(&mut new, "spec.template.spec.nodeName", "x");
        KIND.hooks.prepare_update(&mut new, &old);
        assert_eq!(meta::annotation(&new, TEMPLATE_GENERATION), Some("2"));
    }

    #[test]
    fn validation_and_row() {
        let mut object = sound();
        testing::defaults(&KIND, object.clone(), &object);
        testing::invalid(&KIND, &object, &[]);
        assert_eq!(object["spec"]["updateStrategy"]["rollingUpdate"], json!({"maxUnavailable": 1, "maxSurge": 0}));
        value::set(&mut object, "status", json!({"desiredNumberScheduled": 2}));
        value::set(&mut object, "spec.template.spec.nodeSelector", json!({"x": "y"}));
        testing::row(&KIND, &object, &json!(["w", 2, 0, 0, 0, 0, "x=y", "<unknown>", "c", "i", "a=1"]));
        value::set(&mut object, "spec.updateStrategy.rollingUpdate.maxSurge", "101%");
        testing::invalid(
            &KIND,
            &object,
            &[
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"101%\": must not be greater than 100%",
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"101%\": may not be set when maxUnavailable is non-zero",
            ],
        );
    }
}
