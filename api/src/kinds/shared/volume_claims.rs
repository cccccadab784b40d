//! Specs of persistent volume claims, wherever they stand: on their own, in stateful sets, in ephemeral volumes of pods.
//! Access modes, which persistent volumes have too.
//!
//! Never looks at an older version; `core_v1/persistent_volume_claim` does.

use super::labels::{self, invalid};
use super::rules::{self, given_one_of, required};
use super::{names, quantities};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::value;

/// The annotation that once held the class of a claim or volume.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// What is said about it.
pub const CLASS_ANNOTATION_WARNING: &str = "deprecated since v1.8; use \"storageClassName\" attribute instead";

/// How a volume is seen by a container.
pub const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// Access modes with their short forms, in the order in which tables show them.
const ACCESS_MODES: &[(&str, &str)] =
    &[("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];

/// Fills what a claim's spec leaves open.
pub fn default(spec: &mut Value) {
    if spec.is_object() {
        value::set_default(spec, "volumeMode", "Filesystem");
        quantities::round_up(spec, "resources.limits");
        quantities::round_up(spec, "resources.requests");
    }
}

/// The modes in short, without repetition.
#[must_use]
pub fn short_modes(modes: &[Value]) -> String {
    let there = |name: &str| modes.iter().any(|mode| mode == name);
    let shown: Vec<&str> = ACCESS_MODES.iter().filter(|(name, _)| there(name)).map(|(_, short)| *short).collect();
    shown.join(",")
}

/// A cell: the text at a path, `<unset>` where there is none.
#[must_use]
pub fn or_unset(object: &Value, path: &str) -> Value {
    value::get(object, path).and_then(Value::as_str).unwrap_or("<unset>").into()
}

/// Each access mode is known, and the one for a single pod stands alone.
pub fn access_modes(errors: &mut Errors, spec: &Value, field: &Path) {
    let at = field.child("accessModes");
    let names: Vec<&str> = ACCESS_MODES.iter().map(|(name, _)| *name).collect();
    let (mut alone, mut shared) = (false, false);
    for mode in value::items(spec, "accessModes").iter().filter_map(Value::as_str) {
        if !names.contains(&mode) {
            errors.push(FieldError::not_supported(&at, mode, &names));
        } else if mode == "ReadWriteOncePod" {
            alone = true;
        } else {
            shared = true;
        }
    }
    if alone && shared {
        errors.push(FieldError::forbidden(&at, "may not use ReadWriteOncePod with other access modes"));
    }
}

/// The spec of a claim at `field`.
pub fn validate(errors: &mut Errors, spec: &Value, field: &Path) {
    if value::items(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(&field.child("accessModes"), "at least 1 access mode is required"));
    }
    errors.extend(labels::validate_selector(spec.get("selector"), &field.child("selector")));
    access_modes(errors, spec, field);
    let storage = field.child("resources").key("storage");
    match value::get(spec, "resources.requests.storage") {
        Some(amount) => quantities::positive(errors, amount, &storage),
        None => errors.push(FieldError::required(&storage, "")),
    }
    class_name(errors, spec, "storageClassName", field);
    given_one_of(errors, spec, "volumeMode", field, VOLUME_MODES);
    data_sources(errors, spec, field);
    class_name(errors, spec, "volumeAttributesClassName", field);
}

/// The name of a class, if there is one.
pub fn class_name(errors: &mut Errors, spec: &Value, name: &str, field: &Path) {
    let class = value::text(spec, name);
    if !class.is_empty() {
        invalid(errors, &field.child(name), class, names::dns_subdomain(class));
    }
}

fn data_sources(errors: &mut Errors, spec: &Value, field: &Path) {
    let get = |name: &str| spec.get(name).filter(|source| source.is_object());
    for name in ["dataSource", "dataSourceRef"] {
        let Some(source) = get(name) else { continue };
        let at = field.child(name);
        required(errors, source, "name", &at);
        required(errors, source, "kind", &at);
        let (group, kind) = (value::text(source, "apiGroup"), value::text(source, "kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&at, kind, detail));
        }
        if !group.is_empty() {
            invalid(errors, &at.child("apiGroup"), group, names::dns_subdomain(group));
        }
        let namespace = value::text(source, "namespace");
        if name == "dataSourceRef" && !namespace.is_empty() {
            invalid(errors, &at.child("namespace"), namespace, names::dns_label(namespace));
        }
    }
    let (Some(source), Some(reference)) = (get("dataSource"), get("dataSourceRef")) else { return };
    let same = |name: &str| source.get(name).filter(|v| !v.is_null()) == reference.get(name).filter(|v| !v.is_null());
    // The value shown is upstream's: a path without exported fields.
    if !value::text(reference, "namespace").is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(FieldError::invalid(field, json!({}), detail));
    } else if !["apiGroup", "kind", "name"].iter().all(|name| same(name)) {
        errors.push(FieldError::invalid(field, json!({}), "must match dataSourceRef"));
    }
}

/// Metadata that templates do not have, in upstream's order.
const NOT_IN_TEMPLATES: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// A `PersistentVolumeClaimTemplate`: of its metadata only labels and annotations count.
pub fn template(errors: &mut Errors, template: &Value, field: &Path) {
    let at = field.child("metadata");
    errors.extend(labels::validate_annotations(value::get(template, "metadata.annotations"), &at.child("annotations")));
    errors.extend(labels::validate(value::get(template, "metadata.labels"), &at.child("labels")));
    for name in NOT_IN_TEMPLATES {
        let given = template.get("metadata").and_then(|metadata| metadata.get(*name));
        if given.is_some_and(|given| !rules::is_zero(given)) {
            let shown = if *name == "uid" { "uID" } else { name };
            errors.push(FieldError::forbidden(&at.child(shown), "cannot be set"));
        }
    }
    validate(errors, template.get("spec").unwrap_or(&Value::Null), &field.child("spec"));
}

/// Amounts of storage that are no whole number of bytes.
#[must_use]
pub fn warnings(spec: &Value, field: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for side in ["requests", "limits"] {
        let amount = quantities::of(spec, &format!("resources.{side}"), "storage");
        if let Some(amount) = amount.filter(|amount| !quantities::is_whole(*amount)) {
            let at = field.child("resources").child(side).key("storage");
            out.push(format!("{at}: fractional byte value \"{amount}\" is invalid, must be an integer"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing::shown;

    fn check(path: &str, to: Value, sentences: &[&str]) {
        let mut object =
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        value::set(&mut object, path, to);
        let mut errors = Errors::new();
        template(&mut errors, &object, &Path::new("t"));
        assert_eq!(shown(&errors), sentences, "{object}");
    }

    #[test]
    fn specs() {
        check("spec.volumeMode", json!("Block"), &[]);
        check(
            "spec.accessModes",
            json!([]),
            &["t.spec.accessModes: Required value: at least 1 access mode is required"],
        );
        check(
            "spec.accessModes",
            json!(["ReadWriteOncePod", "ReadWriteMany", "Odd"]),
            &[
                "t.spec.accessModes: Unsupported value: \"Odd\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
                 \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "t.spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ],
        );
        check("spec.resources", json!({}), &["t.spec.resources[storage]: Required value"]);
        check(
            "spec.resources.requests.storage",
            json!("0"),
            &["t.spec.resources[storage]: Invalid value: \"0\": must be greater than zero"],
        );
        check(
            "spec.volumeMode",
            json!("Odd"),
            &["t.spec.volumeMode: Unsupported value: \"Odd\": supported values: \"Block\", \"Filesystem\""],
        );
        check(
            "spec.dataSource",
            json!({"kind": "Odd"}),
            &[
                "t.spec.dataSource.name: Required value",
                "t.spec.dataSource: Invalid value: \"Odd\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ],
        );
        check("metadata", json!({"labels": {"a": "b"}, "name": "x"}), &["t.metadata.name: Forbidden: cannot be set"]);
    }

    #[test]
    fn two_data_sources_say_the_same() {
        let source = json!({"kind": "PersistentVolumeClaim", "name": "a"});
        let mut spec = json!({"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1"}},
            "dataSource": source, "dataSourceRef": source});
        let said = |spec: &Value| {
            let mut errors = Errors::new();
            validate(&mut errors, spec, &Path::new("spec"));
            shown(&errors).join("; ")
        };
        assert_eq!(said(&spec), "");
        value::set(&mut spec, "dataSourceRef.name", "b");
        assert_eq!(said(&spec), "spec: Invalid value: {}: must match dataSourceRef");
        value::set(&mut spec, "dataSourceRef.namespace", "n");
        assert_eq!(
            said(&spec),
            "spec: Invalid value: {}: may not be specified when dataSourceRef.namespace is specified"
        );
    }

    #[test]
    fn cells_and_warnings() {
        assert_eq!(short_modes(&[json!("ReadWriteMany"), json!("ReadWriteOnce"), json!("ReadWriteOnce")]), "RWO,RWX");
        assert_eq!(
            warnings(&json!({"resources": {"requests": {"storage": "500m"}}}), &Path::new("spec")),
            ["spec.resources.requests[storage]: fractional byte value \"500m\" is invalid, must be an integer"]
        );
    }
}
