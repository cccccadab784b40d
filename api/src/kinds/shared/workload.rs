//! What deployments, replica sets, replication controllers and daemon sets have in common: selectors, templates, cells.
//!
//! Never creates pods.

use super::rules::{self, int_or_percent, not_negative};
use super::{cells, labels, pod_validation};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Column, Selectable};
use crate::selector::LabelSelector;
use crate::value;

/// The columns of what keeps a number of pods; `replica_row` gives the cells.
pub const REPLICA_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired").of("spec.replicas"),
    Column::integer("Current").of("status.replicas"),
    Column::integer("Ready").of("status.readyReplicas"),
    Column::AGE,
    cells::CONTAINERS,
    cells::IMAGES,
    cells::SELECTOR,
];

/// The number of pods that there are, for field selectors.
pub const REPLICAS: Selectable = Selectable {
    name: "status.replicas",
    value: |object| value::int(object, "status.replicas").unwrap_or_default().to_string(),
};

/// The cells of `REPLICA_COLUMNS`; the kinds write their selectors differently.
#[must_use]
pub fn replica_row(object: &Value, now: i64, selector: Value) -> Vec<Value> {
    let [containers, images, _] = wide_cells(object);
    vec![
        cells::name(object),
        cells::count(object, "spec.replicas"),
        cells::count(object, "status.replicas"),
        cells::count(object, "status.readyReplicas"),
        cells::age(object, now),
        containers,
        images,
        selector,
    ]
}

/// The selector selects the template's labels, and something at all; `what` names the kind in the sentence. Answers whether it is one
/// that can select: the template of another is not looked at by upstream, but for daemon sets.
pub fn selector(errors: &mut Errors, spec: &Value, what: &str, field: &Path) -> bool {
    let at = field.child("selector");
    let Some(selector) = spec.get("selector").filter(|selector| !selector.is_null()) else {
        errors.push(FieldError::required(&at, ""));
        if what != "daemonset" {
            errors.push(mismatched(spec, field));
        }
        return true;
    };
    errors.extend(labels::validate_selector(Some(selector), &at));
    if labels::is_empty(Some(selector)) {
        let error = FieldError::invalid_whole(&at, format!("empty selector is invalid for {what}"));
        errors.push(error.showing("LabelSelector", selector));
    }
    if LabelSelector::from_value(selector).is_err() {
        let detail = match what {
            "daemonset" => return true,
            "statefulset" => "",
            _ => "invalid label selector",
        };
        errors.push(FieldError::invalid_whole(&at, detail).showing("LabelSelector", selector));
        return false;
    }
    let own = value::get(spec, "template.metadata.labels");
    if !labels::is_empty(Some(selector)) && !labels::matches(selector, own) {
        errors.push(mismatched(spec, field));
    }
    true
}

/// A selector that is not there selects nothing, and so not the template either.
fn mismatched(spec: &Value, field: &Path) -> FieldError {
    let own = value::get(spec, "template.metadata.labels").cloned().unwrap_or_default();
    let detail = "`selector` does not match template `labels`";
    FieldError::invalid(&field.child("template.metadata.labels"), own, detail)
}

/// The template runs for ever; `what` names the kind in the sentence.
pub fn template(errors: &mut Errors, spec: &Value, what: &str, field: &Path) {
    let field = field.child("template");
    let template = spec.get("template").unwrap_or(&Value::Null);
    errors.extend(pod_validation::template(template, &field));
    let policy = value::text(template, "spec.restartPolicy");
    if policy != "Always" {
        errors.push(FieldError::not_supported(&field.child("spec.restartPolicy"), policy, &["Always"]));
    }
    if value::int(template, "spec.activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {what} is not Supported");
        errors.push(FieldError::forbidden(&field.child("spec.activeDeadlineSeconds"), detail));
    }
}

/// `maxUnavailable` and `maxSurge` are numbers or percentages.
pub fn rolling_update(errors: &mut Errors, update: &Value, field: &Path) {
    int_or_percent(errors, update, "maxUnavailable", field);
    int_or_percent(errors, update, "maxSurge", field);
}

/// The number in `maxUnavailable` or `maxSurge`, without its unit.
#[must_use]
pub fn amount(update: &Value, name: &str) -> i64 {
    update.get(name).and_then(rules::IntOrPercent::read).map_or(0, rules::IntOrPercent::number)
}

/// Counts in a status are not negative, those listed second are not above `status.replicas`, nor is what is available
/// above what is ready.
#[must_use]
pub fn status(object: &Value, counts: &[&str], within: &[&str]) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("status");
    let status = object.get("status").unwrap_or(&Value::Null);
    for name in counts {
        not_negative(&mut errors, status, name, &field);
    }
    let count = |name: &str| value::int(status, name).unwrap_or_default();
    for name in within {
        if count(name) > count("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&field.child(name), count(name), detail));
        }
    }
    if !within.is_empty() && count("availableReplicas") > count("readyReplicas") {
        let at = field.child("availableReplicas");
        errors.push(FieldError::invalid(&at, count("availableReplicas"), "cannot be greater than readyReplicas"));
    }
    errors
}

/// Containers, images and selector of a workload.
#[must_use]
pub fn wide_cells(object: &Value) -> [Value; 3] {
    let containers = value::items(object, "spec.template.spec.containers");
    [
        cells::joined(containers, "name").into(),
        cells::joined(containers, "image").into(),
        labels::selector_text(value::get(object, "spec.selector")).into(),
    ]
}
