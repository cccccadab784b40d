//! Horizontal pod autoscalers as autoscaling/v2 has them: defaults, what is wrong with one, the row.
//!
//! Source: KEP-853 (behaviour), KEP-1610 (container resources), KEP-4951 (tolerance). Never decides a number of replicas.

use super::labels::invalid;
use super::{cells, names, quantities, references, resource_names, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::kind::Column;
use crate::{meta, value};

/// Annotations in which autoscaling/v1 carries what it has no fields for.
pub const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
/// See `METRICS`.
pub const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// See `METRICS`.
pub const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
/// See `METRICS`.
pub const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// All that are made from fields and never kept.
const ANNOTATIONS: &[&str] = &[
    METRICS,
    BEHAVIOR,
    CURRENT_METRICS,
    CONDITIONS,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

const SOURCES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
const MOST_PERIOD: i64 = 1800;
const MOST_WINDOW: i64 = 3600;

/// The columns of both versions.
pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Reference").of("spec.scaleTargetRef"),
    Column::text("Targets").of("spec.metrics"),
    Column::text("MinPods").of("spec.minReplicas"),
    Column::text("MaxPods").of("spec.maxReplicas"),
    Column::text("Replicas").of("status.currentReplicas"),
    Column::AGE,
];

/// Removes the annotations that stand for fields.
pub fn drop_annotations(object: &mut Value) {
    let Some(annotations) = value::get_mut(object, "metadata.annotations").and_then(Value::as_object_mut) else {
        return;
    };
    for key in ANNOTATIONS {
        annotations.remove(key);
    }
    if annotations.is_empty() {
        value::remove(object, "metadata.annotations");
    }
}

/// CPU at 80 per cent of what was requested: what holds when nothing else was asked for.
#[must_use]
pub fn default_metrics() -> Value {
    json!([cpu(80)])
}

/// CPU at this percentage of what was requested.
#[must_use]
pub fn cpu(utilization: impl Into<Value>) -> Value {
    let utilization: Value = utilization.into();
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": utilization}}})
}

/// Whether a metric, of a spec or a status, is the CPU of pods.
#[must_use]
pub fn is_cpu(metric: &Value) -> bool {
    value::text(metric, "type") == "Resource" && value::text(metric, "resource.name") == "cpu"
}

/// Defaults.
pub fn default(object: &mut Value) {
    drop_annotations(object);
    // In Go it is there, whatever was sent.
    value::map_mut(object, "spec");
    let Some(spec) = object.get_mut("spec") else { return };
    value::set_default(spec, "minReplicas", 1);
    if value::items(spec, "metrics").is_empty() {
        value::set(spec, "metrics", default_metrics());
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|behavior| behavior.is_object()) else { return };
    let policy = |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
    value::set_default(behavior, "scaleUp.stabilizationWindowSeconds", 0);
    for (rules, policies) in [
        ("scaleUp", json!([policy("Pods", 4), policy("Percent", 100)])),
        ("scaleDown", json!([policy("Percent", 100)])),
    ] {
        value::set_default(behavior, &format!("{rules}.selectPolicy"), "Max");
        value::set_default(behavior, &format!("{rules}.policies"), policies);
    }
}

/// What an object reference may leave out.
#[derive(Clone, Copy)]
struct Lenient {
    /// `apiVersion` is not looked at.
    version: bool,
    /// `apiVersion` may be that of core.
    group: bool,
}

/// What is wrong with one; `old` is what it was before.
#[must_use]
pub fn validate(new: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let none = Value::Null;
    let spec = new.get("spec").unwrap_or(&none);
    let before = old.and_then(|old| old.get("spec"));
    let (min, max) = (value::int(spec, "minReplicas"), value::int(spec, "maxReplicas").unwrap_or_default());
    let lowest = i64::from(before.and_then(|before| value::int(before, "minReplicas")) != Some(0));
    if let Some(min) = min.filter(|min| *min < lowest) {
        let detail = format!("must be greater than or equal to {lowest}");
        errors.push(FieldError::invalid(&field.child("minReplicas"), min, detail));
    }
    let at = field.child("maxReplicas");
    match max {
        0 => errors.push(FieldError::required(&at, "must be set and greater than 0")),
        ..0 => errors.push(FieldError::invalid(&at, max, "must be greater than or equal to 1")),
        _ => {}
    }
    if min.is_some_and(|min| max < min) {
        errors.push(FieldError::invalid(&at, max, "must be greater than or equal to `minReplicas`"));
    }
    let target = spec.get("scaleTargetRef").unwrap_or(&none);
    let same = |name: &str| {
        before.is_some_and(|before| {
            value::get(before, "scaleTargetRef").map_or("", |t| value::text(t, name)) == value::text(target, name)
        })
    };
    let lenient = Lenient {
        version: same("apiVersion") && same("kind"),
        group: value::text(target, "kind") == "ReplicationController",
    };
    reference(&mut errors, target, lenient, &field.child("scaleTargetRef"));
    metrics(&mut errors, spec, before, &field.child("metrics"));
    for name in ["scaleUp", "scaleDown"] {
        if let Some(rules) = value::get(spec, &format!("behavior.{name}")).filter(|rules| !rules.is_null()) {
            scaling_rules(&mut errors, rules, &field.child("behavior").child(name));
        }
    }
    errors
}

/// What is wrong with the status.
#[must_use]
pub fn validate_status(new: &Value) -> Errors {
    let mut errors = Errors::new();
    let status = new.get("status").unwrap_or(&Value::Null);
    for name in ["currentReplicas", "desiredReplicas"] {
        rules::not_negative(&mut errors, status, name, &Path::new("status"));
    }
    errors
}

fn api_version(text: &str, may_be_core: bool) -> Result<(), String> {
    match text.matches('/').count() {
        _ if text == "/" && may_be_core => Ok(()),
        0 | 1 => {
            let group = text.split_once('/').map_or("", |(group, _)| group);
            if group.is_empty() && !may_be_core { Err("apiVersion must specify API group".to_owned()) } else { Ok(()) }
        }
        _ => Err(format!("unexpected GroupVersion string: {text}")),
    }
}

fn reference(errors: &mut Errors, target: &Value, lenient: Lenient, field: &Path) {
    references::required_segment(errors, target, "kind", field);
    references::required_segment(errors, target, "name", field);
    let version = value::text(target, "apiVersion");
    if let (false, Err(why)) = (lenient.version, api_version(version, lenient.group)) {
        errors.push(FieldError::invalid(&field.child("apiVersion"), version, why));
    }
}

fn metrics(errors: &mut Errors, spec: &Value, before: Option<&Value>, field: &Path) {
    let list = value::items(spec, "metrics");
    // An object metric that was wrong already frees all of them.
    let was_wrong = before.is_some_and(|before| {
        value::items(before, "metrics").iter().any(|metric| {
            let object = metric.get("object").filter(|object| !object.is_null());
            value::text(metric, "type") == "Object"
                && object
                    .is_some_and(|object| api_version(value::text(object, "describedObject.apiVersion"), true).is_err())
        })
    });
    let lenient = Lenient { version: was_wrong, group: true };
    for (i, entry) in list.iter().enumerate() {
        metric(errors, entry, lenient, &field.index(i));
    }
    let wakes = |entry: &Value| matches!(value::text(entry, "type"), "Object" | "External");
    if value::int(spec, "minReplicas") == Some(0) && !list.iter().any(wakes) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(field, detail));
    }
}

fn metric(errors: &mut Errors, metric: &Value, lenient: Lenient, field: &Path) {
    let kind = value::text(metric, "type");
    if kind.is_empty() {
        errors.push(FieldError::required(&field.child("type"), "must specify a metric source type"));
    }
    if !SOURCES.contains(&kind) {
        // Upstream looks twice.
        let error = FieldError::not_supported(&field.child("type"), kind, SOURCES);
        errors.extend([error.clone(), error]);
    }
    let is_set = |name: &&&str| metric.get(**name).is_some_and(|source| !source.is_null());
    let mut present: Vec<&str> =
        ["object", "external", "pods", "resource", "containerResource"].iter().filter(is_set).copied().collect();
    // Of several sources the first one alone is looked at more closely.
    if let Some((name, source)) = present.first().and_then(|name| Some((*name, metric.get(*name)?))) {
        self::source(errors, name, source, lenient, &field.child(name));
    }
    let expected = match kind {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => "",
    };
    if !expected.is_empty() && !present.contains(&expected) {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(&field.child(expected), detail));
    }
    if present.len() != 1 {
        present.retain(|name| *name != expected);
        for name in present {
            errors.push(FieldError::forbidden(&field.child(name), "must populate the given metric source only"));
        }
    }
}

fn source(errors: &mut Errors, name: &str, source: &Value, lenient: Lenient, field: &Path) {
    let none = Value::Null;
    let get = |path| value::get(source, path).unwrap_or(&none);
    let target = field.child("target");
    let has = |name: &str| source.get("target").and_then(|t| t.get(name)).is_some_and(|amount| !amount.is_null());
    match name {
        "object" => reference(errors, get("describedObject"), lenient, &field.child("describedObject")),
        "resource" | "containerResource" => resource(errors, name, source, field),
        _ => {}
    }
    if matches!(name, "object" | "external" | "pods") {
        let at = field.child("metric.name");
        match value::text(source, "metric.name") {
            "" => errors.push(FieldError::required(&at, "must specify a metric name")),
            given => invalid(errors, &at, given, names::path_segment(given, false)),
        }
    }
    metric_target(errors, get("target"), &target);
    let required = |errors: &mut Errors, name: &str, detail: &str| {
        errors.push(FieldError::required(&target.child(name), detail));
    };
    match name {
        "object" if !has("value") && !has("averageValue") => {
            required(errors, "averageValue", "must set either a target value or averageValue");
        }
        "external" if !has("value") && !has("averageValue") => {
            required(errors, "averageValue", "must set either a target value for metric or a per-pod target");
        }
        "external" if has("value") && has("averageValue") => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&target.child("value"), detail));
        }
        "pods" if !has("averageValue") => {
            required(errors, "averageValue", "must specify a positive target averageValue");
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => {
                required(errors, "averageUtilization", "must set either a target raw value or a target utilization");
            }
            (true, true) => {
                let detail = "may not set both a target raw value and a target utilization";
                errors.push(FieldError::forbidden(&target.child("averageValue"), detail));
            }
            _ => {}
        },
        _ => {}
    }
}

fn resource(errors: &mut Errors, source: &str, given: &Value, field: &Path) {
    let of_container = source == "containerResource";
    let at = field.child("name");
    match value::text(given, "name") {
        "" => errors.push(FieldError::required(&at, "must specify a resource name")),
        name if of_container => resource_names::of_container(errors, name, &at),
        _ => {}
    }
    if of_container {
        let at = field.child("container");
        match value::text(given, "container") {
            "" => errors.push(FieldError::required(&at, "must specify a container")),
            name => invalid(errors, &at, name, names::dns_label(name)),
        }
    }
}

fn metric_target(errors: &mut Errors, target: &Value, field: &Path) {
    let kind = value::text(target, "type");
    let at = field.child("type");
    if kind.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.push(FieldError::invalid(&at, kind, "must be either Utilization, Value, or AverageValue"));
    }
    for name in ["value", "averageValue"] {
        if let Some(amount) = target.get(name)
            && quantities::read(amount).is_some_and(|amount| amount.signum() < 1)
        {
            errors.push(FieldError::invalid(&field.child(name), amount.clone(), "must be positive"));
        }
    }
    if let Some(percent) = value::int(target, "averageUtilization").filter(|percent| *percent < 1) {
        errors.push(FieldError::invalid(&field.child("averageUtilization"), percent, "must be greater than 0"));
    }
}

fn scaling_rules(errors: &mut Errors, rules: &Value, field: &Path) {
    let at = field.child("stabilizationWindowSeconds");
    match value::int(rules, "stabilizationWindowSeconds") {
        Some(seconds @ ..0) => {
            errors.push(FieldError::invalid(&at, seconds, "must be greater than or equal to zero"));
        }
        Some(seconds) if seconds > MOST_WINDOW => {
            errors.push(FieldError::invalid(&at, seconds, format!("must be less than or equal to {MOST_WINDOW}")));
        }
        _ => {}
    }
    if let Some(policy) = rules.get("selectPolicy").and_then(Value::as_str) {
        let supported = &["Disabled", "Max", "Min"];
        if !supported.contains(&policy) {
            errors.push(FieldError::not_supported(&field.child("selectPolicy"), policy, supported));
        }
    }
    let at = field.child("policies");
    let policies = value::items(rules, "policies");
    if policies.is_empty() {
        errors.push(FieldError::required(&at, "must specify at least one Policy"));
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = at.index(i);
        let kind = value::text(policy, "type");
        if !matches!(kind, "Pods" | "Percent") {
            errors.push(FieldError::not_supported(&at.child("type"), kind, &["Percent", "Pods"]));
        }
        for name in ["value", "periodSeconds"] {
            let number = value::int(policy, name).unwrap_or_default();
            if number <= 0 {
                errors.push(FieldError::invalid(&at.child(name), number, "must be greater than zero"));
            }
            if name == "periodSeconds" && number > MOST_PERIOD {
                let detail = format!("must be less than or equal to {MOST_PERIOD}");
                errors.push(FieldError::invalid(&at.child(name), number, detail));
            }
        }
    }
    if let Some(tolerance) = rules.get("tolerance").filter(|tolerance| !tolerance.is_null()) {
        quantities::not_negative(errors, tolerance, &field.child("tolerance"));
    }
}

/// The cells of `COLUMNS`.
#[must_use]
pub fn row(object: &Value, now: i64) -> Vec<Value> {
    let target = format!(
        "{}/{}",
        value::text(object, "spec.scaleTargetRef.kind"),
        value::text(object, "spec.scaleTargetRef.name")
    );
    let min = value::int(object, "spec.minReplicas").map_or_else(|| "<unset>".to_owned(), |min| min.to_string());
    vec![
        meta::name(object).into(),
        target.into(),
        targets(value::items(object, "spec.metrics"), value::items(object, "status.currentMetrics")).into(),
        min.into(),
        cells::count(object, "spec.maxReplicas"),
        cells::count(object, "status.currentReplicas"),
        cells::age(object, now),
    ]
}

/// What is aimed at and what there is: the first two metrics.
fn targets(specs: &[Value], statuses: &[Value]) -> String {
    const SHOWN: usize = 2;
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let none = Value::Null;
    let shown: Vec<String> =
        specs.iter().enumerate().take(SHOWN).map(|(i, spec)| target(spec, statuses.get(i).unwrap_or(&none))).collect();
    let list = shown.join(", ");
    if specs.len() > SHOWN { format!("{list} + {} more...", specs.len() - SHOWN) } else { list }
}

fn target(spec: &Value, status: &Value) -> String {
    let kind = value::text(spec, "type");
    let name = match kind {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let aim = |amount: &str| {
        value::get(spec, name).and_then(|source| source.get("target")?.get(amount)).filter(|v| !v.is_null())
    };
    let source = status.get(name).filter(|source| !source.is_null());
    let current = |amount: &str| source.and_then(|source| source.get("current")?.get(amount)).filter(|v| !v.is_null());
    let text = |amount: Option<&Value>| match amount {
        Some(Value::String(text)) => text.into(),
        Some(other) => other.to_string(),
        None => "<nil>".to_owned(),
    };
    let percent = |amount: Option<&Value>| amount.and_then(Value::as_i64).map(|n| format!("{n}%"));
    // What is reported without the amount that is looked for reads `<nil>`, what is not reported is unknown.
    let reported = |amount: &str| source.map_or_else(|| "<unknown>".to_owned(), |_| text(current(amount)));
    let known = |amount: &str| current(amount).map_or_else(|| "<unknown>".to_owned(), |amount| text(Some(amount)));
    let resource = value::get(spec, name).map_or("", |source| value::text(source, "name"));
    match (kind, aim("averageValue")) {
        ("Pods", aim) => format!("{}/{}", reported("averageValue"), text(aim)),
        ("External" | "Object", Some(aim)) => format!("{}/{} (avg)", known("averageValue"), text(Some(aim))),
        ("External" | "Object", None) => format!("{}/{}", reported("value"), text(aim("value"))),
        (_, Some(aim)) => format!("{resource}: {}/{}", reported("averageValue"), text(Some(aim))),
        (_, None) => format!(
            "{resource}: {}/{}",
            percent(current("averageUtilization")).unwrap_or_else(|| "<unknown>".to_owned()),
            percent(aim("averageUtilization")).unwrap_or_else(|| "<auto>".to_owned()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing::shown;

    fn with(changes: &Value) -> Value {
        let mut object = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
        for (path, to) in changes.as_object().unwrap() {
            value::set(&mut object, path, to.clone());
        }
        default(&mut object);
        object
    }

    fn check(changes: &Value, sentences: &[&str]) {
        assert_eq!(shown(&validate(&with(changes), None)), sentences, "{changes}");
    }

    #[test]
    fn defaults() {
        let object = with(&json!({"spec.behavior": {"scaleDown": {"selectPolicy": "Disabled"}},
            "metadata.annotations": {METRICS: "x"}}));
        assert_eq!(object["metadata"], json!({"name": "h"}));
        assert_eq!(object["spec"]["minReplicas"], 1);
        assert_eq!(object["spec"]["metrics"], default_metrics());
        assert_eq!(
            object["spec"]["behavior"],
            json!({"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
                    {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]},
                "scaleDown": {"selectPolicy": "Disabled", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}})
        );
        let mut again = object.clone();
        default(&mut again);
        assert_eq!(again, object);
        assert_eq!(shown(&validate(&object, None)), [""; 0]);
    }

    #[test]
    fn replicas_and_targets() {
        check(
            &json!({"spec.minReplicas": 0, "spec.maxReplicas": 0}),
            &[
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.maxReplicas: Required value: must be set and greater than 0",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        );
        check(
            &json!({"spec.minReplicas": 5, "spec.maxReplicas": 3}),
            &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
        );
        check(
            &json!({"spec.maxReplicas": -1}),
            &[
                "spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1",
                "spec.maxReplicas: Invalid value: -1: must be greater than or equal to `minReplicas`",
            ],
        );
        check(
            &json!({"spec.scaleTargetRef": {"kind": "a/b", "apiVersion": "v1"}}),
            &[
                "spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'",
                "spec.scaleTargetRef.name: Required value",
                "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            ],
        );
        check(&json!({"spec.scaleTargetRef": {"kind": "ReplicationController", "name": "a", "apiVersion": "v1"}}), &[]);
        check(
            &json!({"spec.scaleTargetRef.apiVersion": "a/b/c"}),
            &["spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"],
        );
        let old = with(
            &json!({"spec.minReplicas": 0, "spec.scaleTargetRef.apiVersion": "v1", "spec.metrics": [{"type": "External",
            "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]}),
        );
        assert_eq!(shown(&validate(&old, Some(&old))), [""; 0]);
        assert_eq!(validate(&old, None).len(), 2);
        assert_eq!(
            shown(&validate_status(&json!({"status": {"currentReplicas": -1}}))),
            ["status.currentReplicas: Invalid value: -1: must be greater than or equal to 0"]
        );
    }

    #[test]
    fn metrics_have_one_source_of_their_type() {
        let metrics = |metrics: Value, sentences: &[&str]| check(&json!({"spec.metrics": metrics}), sentences);
        metrics(
            json!([{}, {"type": "Pods"}]),
            &[
                "spec.metrics[0].type: Required value: must specify a metric source type",
                "spec.metrics[0].type: Unsupported value: \"\": supported values: \"ContainerResource\", \"External\", \"Object\", \
                 \"Pods\", \"Resource\"",
                "spec.metrics[0].type: Unsupported value: \"\": supported values: \"ContainerResource\", \"External\", \"Object\", \
                 \"Pods\", \"Resource\"",
                "spec.metrics[1].pods: Required value: must populate information for the given metric source",
            ],
        );
        metrics(
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}},
                "pods": {"metric": {"name": "a"}, "target": {"type": "AverageValue", "averageValue": "1"}}}]),
            &["spec.metrics[0].pods: Forbidden: must populate the given metric source only"],
        );
        metrics(
            json!([
                {"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"}, "metric": {}, "target": {"type": "Value"}}},
                {"type": "External", "external": {"metric": {"name": "a/b"}, "target": {"type": "Value", "value": "1", "averageValue": "0"}}},
                {"type": "ContainerResource", "containerResource": {"name": "odd", "target": {"type": "x", "averageUtilization": 0, "averageValue": "1"}}},
                {"type": "Resource", "resource": {"target": {}}}]),
            &[
                "spec.metrics[0].object.metric.name: Required value: must specify a metric name",
                "spec.metrics[0].object.target.averageValue: Required value: must set either a target value or averageValue",
                "spec.metrics[1].external.metric.name: Invalid value: \"a/b\": may not contain '/'",
                "spec.metrics[1].external.target.averageValue: Invalid value: \"0\": must be positive",
                "spec.metrics[1].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target",
                "spec.metrics[2].containerResource.name: Invalid value: \"odd\": must be a standard resource type or fully qualified",
                "spec.metrics[2].containerResource.name: Invalid value: \"odd\": must be a standard resource for containers",
                "spec.metrics[2].containerResource.container: Required value: must specify a container",
                "spec.metrics[2].containerResource.target.type: Invalid value: \"x\": must be either Utilization, Value, or \
                 AverageValue",
                "spec.metrics[2].containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                "spec.metrics[2].containerResource.target.averageValue: Forbidden: may not set both a target raw value and a target \
                 utilization",
                "spec.metrics[3].resource.name: Required value: must specify a resource name",
                "spec.metrics[3].resource.target.type: Required value: must specify a metric target type",
                "spec.metrics[3].resource.target.type: Invalid value: \"\": must be either Utilization, Value, or AverageValue",
                "spec.metrics[3].resource.target.averageUtilization: Required value: must set either a target raw value or a target \
                 utilization",
            ],
        );
    }

    #[test]
    fn behaviour() {
        check(
            &json!({"spec.behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601, "selectPolicy": "Odd", "policies": [],
                    "tolerance": "-1m"},
                "scaleDown": {"stabilizationWindowSeconds": -1, "policies": [{"type": "Odd", "value": 0, "periodSeconds": 1801}]}}}),
            &[
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Odd\": supported values: \"Disabled\", \"Max\", \"Min\"",
                "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
                "spec.behavior.scaleUp.tolerance: Invalid value: \"-1m\": must be greater than or equal to 0",
                "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
                "spec.behavior.scaleDown.policies[0].type: Unsupported value: \"Odd\": supported values: \"Percent\", \"Pods\"",
                "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ],
        );
    }

    #[test]
    fn targets_as_text() {
        for (spec, status, text) in [
            (cpu(json!(80)), json!({}), "cpu: <unknown>/80%"),
            (cpu(json!(80)), json!({"resource": {"current": {"averageUtilization": 5}}}), "cpu: 5%/80%"),
            (cpu(json!(null)), json!({}), "cpu: <unknown>/<auto>"),
            (
                json!({"type": "ContainerResource", "containerResource": {"name": "memory", "target": {"averageValue": "1Gi"}}}),
                json!({"containerResource": {"current": {"averageValue": "1Mi"}}}),
                "memory: 1Mi/1Gi",
            ),
            (json!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}}), json!({}), "<unknown>/10"),
            (
                json!({"type": "External", "external": {"target": {"averageValue": "10"}}}),
                json!({"external": {"current": {"averageValue": "3", "value": "9"}}}),
                "3/10 (avg)",
            ),
            (
                json!({"type": "Object", "object": {"target": {"value": "10"}}}),
                json!({"object": {"current": {}}}),
                "<nil>/10",
            ),
            (json!({"type": "Odd"}), json!({}), "<unknown type>"),
        ] {
            assert_eq!(target(&spec, &status), text);
        }
        let three = vec![cpu(json!(1)); 3];
        assert_eq!(targets(&three, &[]), "cpu: <unknown>/1%, cpu: <unknown>/1% + 1 more...");
        assert_eq!(targets(&[], &[]), "<none>");
    }
}
