//! Events in both versions: conversion, validation, the row.
//!
//! Never emits one.

use super::{cells, labels, names, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Column, Selectable};
use crate::{meta, value};

/// Names in events.k8s.io/v1 and in core/v1.
const RENAMED: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename(object: &mut Value, api_version: &str, names: impl Iterator<Item = (&'static str, &'static str)>) {
    for (from, to) in names {
        if let Some(value) = value::remove(object, from) {
            value::set(object, to, value);
        }
    }
    if object.get("apiVersion").is_some() {
        value::set(object, "apiVersion", api_version);
    }
}

/// From events.k8s.io/v1 to core/v1; leaves core/v1 as it is.
pub fn to_core(object: &mut Value) {
    rename(object, "v1", RENAMED.iter().copied());
}

/// From core/v1 to events.k8s.io/v1.
pub fn from_core(object: &mut Value) {
    rename(object, "events.k8s.io/v1", RENAMED.iter().map(|(new, core)| (*core, *new)));
}

/// A field of the object that the event is about, in either version.
#[must_use]
pub fn text(event: &Value, name: &str) -> String {
    let object = event.get("involvedObject").or_else(|| event.get("regarding")).unwrap_or(&Value::Null);
    value::text(object, name).to_owned()
}

/// Who reports, in either version.
#[must_use]
pub fn reporter(event: &Value) -> String {
    first(&[value::text(event, "reportingComponent"), value::text(event, "reportingController")])
}

/// The `source` that can be selected: the component, else the reporter.
#[must_use]
pub fn source(event: &Value) -> String {
    let component = first(&[value::text(event, "source.component"), value::text(event, "deprecatedSource.component")]);
    if component.is_empty() { reporter(event) } else { component }
}

/// A selectable field of the object that the event is about.
#[must_use]
pub const fn involved(name: &'static str, value: fn(&Value) -> String) -> Selectable {
    Selectable { name, value }
}

fn first(texts: &[&str]) -> String {
    texts.iter().find(|text| !text.is_empty()).map(|text| (*text).to_owned()).unwrap_or_default()
}

/// The columns of both versions.
pub const COLUMNS: &[Column] = &[
    Column::text("Last Seen").of("lastTimestamp"),
    Column::text("Type").of("type"),
    Column::text("Reason").of("reason"),
    Column::text("Object").of("involvedObject"),
    Column::text("Subobject").wide().of("involvedObject.fieldPath"),
    Column::text("Source").wide().of("source"),
    Column::text("Message").of("message"),
    Column::text("First Seen").wide().of("firstTimestamp"),
    Column::text("Count").wide().of("count"),
    Column { priority: 1, ..Column::NAME },
];

/// The cells of `COLUMNS` for a core/v1 event.
#[must_use]
pub fn row(event: &Value, now: i64) -> Vec<Value> {
    let since = |path: &str| meta::since(value::text(event, path), now);
    let is_set = |path: &str| !value::text(event, path).is_empty();
    let first_seen = if is_set("firstTimestamp") { since("firstTimestamp") } else { since("eventTime") };
    let mut last_seen = if is_set("lastTimestamp") { since("lastTimestamp") } else { first_seen.clone() };
    let mut count = value::int(event, "count").filter(|count| *count != 0).unwrap_or(1);
    if event.get("series").is_some_and(|series| !series.is_null()) {
        last_seen = since("series.lastObservedTime");
        count = value::int(event, "series.count").unwrap_or_default();
    }
    let kind = text(event, "kind").to_lowercase();
    let name = text(event, "name");
    let component = source(event);
    let instance = first(&[value::text(event, "source.host"), value::text(event, "reportingInstance")]);
    vec![
        last_seen.into(),
        cells::text(event, "type"),
        cells::text(event, "reason"),
        if name.is_empty() { kind.into() } else { format!("{kind}/{name}").into() },
        text(event, "fieldPath").into(),
        if instance.is_empty() { component.into() } else { format!("{component}, {instance}").into() },
        value::text(event, "message").trim().into(),
        first_seen.into(),
        count.into(),
        cells::name(event),
    ]
}

/// What both versions demand of a core/v1 object; `reporter` is the field name of the version that was sent.
#[must_use]
pub fn validate(event: &Value, reporter: &str) -> Errors {
    let mut errors = Errors::new();
    let whole = Path::new("");
    let namespace = meta::namespace(event);
    let about = value::text(event, "involvedObject.namespace");
    let at = Path::new("involvedObject.namespace");
    const MISMATCH: &str = "does not match event.namespace";
    if value::text(event, "eventTime").is_empty() {
        let agrees = if about.is_empty() { matches!(namespace, "" | "default") } else { namespace == about };
        if !agrees {
            errors.push(FieldError::invalid(&at, about, MISMATCH));
        }
    } else {
        if about.is_empty() && !matches!(namespace, "default" | "kube-system") {
            errors.push(FieldError::invalid(&at, about, MISMATCH));
        }
        let who = value::text(event, "reportingComponent");
        if who.is_empty() {
            errors.push(FieldError::required(&Path::new(reporter), ""));
        }
        labels::invalid(&mut errors, &Path::new(reporter), who, names::qualified_name(who));
        for name in ["reportingInstance", "action", "reason"] {
            let text = rules::required(&mut errors, event, name, &whole);
            at_most(&mut errors, text, name, 128);
        }
        at_most(&mut errors, value::text(event, "message"), "message", 1024);
    }
    labels::invalid(&mut errors, &Path::new("namespace"), namespace, names::dns_subdomain(namespace));
    errors
}

fn at_most(errors: &mut Errors, text: &str, name: &str, max: usize) {
    if text.len() > max {
        errors.push(FieldError::invalid(&Path::new(name), "", format!("can have at most {max} characters")));
    }
}

/// What events.k8s.io/v1 demands of a new event, given as core/v1.
#[must_use]
pub fn validate_strict(event: &Value) -> Errors {
    let mut errors = validate(event, "reportingController");
    errors.extend(series(event));
    if value::text(event, "eventTime").is_empty() {
        errors.push(FieldError::required(&Path::new("eventTime"), ""));
    }
    let kind = value::text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid(&Path::new("type"), "", format!("has invalid value: {kind}")));
    }
    let source = event.get("source").and_then(Value::as_object).into_iter().flatten();
    let deprecated = [
        ("firstTimestamp", !value::text(event, "firstTimestamp").is_empty()),
        ("lastTimestamp", !value::text(event, "lastTimestamp").is_empty()),
        ("count", value::int(event, "count").unwrap_or_default() != 0),
        ("source", source.into_iter().any(|(_, part)| !rules::is_zero(part))),
    ];
    for (name, _) in deprecated.iter().filter(|(_, set)| *set) {
        errors.push(FieldError::invalid(&Path::new(name), "", "needs to be unset"));
    }
    errors
}

fn series(event: &Value) -> Errors {
    let mut errors = Errors::new();
    if event.get("series").is_some_and(|series| !series.is_null()) {
        if value::int(event, "series.count").unwrap_or_default() < 2 {
            errors.push(FieldError::invalid(&Path::new("series.count"), "", "should be at least 2"));
        }
        if value::text(event, "series.lastObservedTime").is_empty() {
            errors.push(FieldError::required(&Path::new("series.lastObservedTime"), ""));
        }
    }
    errors
}

/// What events.k8s.io/v1 lets change: the series alone. The order, and `reason` twice, are upstream's.
#[must_use]
pub fn validate_strict_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    if rules::differ(new.get("series"), old.get("series")) {
        errors.extend(series(new));
    }
    for name in ["involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "reason"]
    {
        match name {
            "reason" | "message" => rules::unchanged_text(&mut errors, new, old, name),
            "involvedObject" => rules::unchanged_struct(&mut errors, new, old, name, "ObjectReference"),
            "source" => rules::unchanged_struct(&mut errors, new, old, name, "EventSource"),
            _ => rules::unchanged(&mut errors, new, old, name),
        }
    }
    rules::unchanged_text(&mut errors, new, old, "type");
    rules::unchanged(&mut errors, new, old, "eventTime");
    rules::unchanged_text(&mut errors, new, old, "action");
    let related = |event: &Value| event.get("related").filter(|other| !other.is_null()).cloned();
    if related(new) != related(old) {
        let error = FieldError::invalid_whole(&Path::new("related"), rules::IMMUTABLE);
        errors.push(error.showing("*ObjectReference", &related(new).unwrap_or_default()));
    }
    if rules::differ(new.get("reportingComponent"), old.get("reportingComponent")) {
        let who = value::text(new, "reportingComponent");
        errors.push(FieldError::invalid(&Path::new("reportingController"), who, rules::IMMUTABLE));
    }
    rules::unchanged_text(&mut errors, new, old, "reportingInstance");
    errors
}
