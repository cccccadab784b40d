//! What is wrong with the metadata of an object, whatever its kind.
//!
//! Never looks below `metadata`.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Kind, NameRule};
use crate::kinds::shared::labels::{self, invalid};
use crate::kinds::shared::{addresses, names};
use crate::value;

/// The sentence for a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// What is wrong with a name under a rule; `prefix` when it is a `generateName`, to which a suffix is added.
#[must_use]
pub fn name(rule: NameRule, name: &str, prefix: bool) -> Vec<String> {
    // A dash may end a prefix: the character before it, replaced, stands for the suffix.
    let masked = match name.strip_suffix('-') {
        Some(rest) if prefix && rest.is_ascii() && !rest.is_empty() => {
            let kept = rest.len().saturating_sub(1);
            Some(format!("{}a", rest.get(..kept).unwrap_or_default()))
        }
        _ => None,
    };
    let text = masked.as_deref().unwrap_or(name);
    match rule {
        NameRule::Subdomain => names::dns_subdomain(text),
        NameRule::DeclaredSubdomain if prefix => Vec::new(),
        NameRule::DeclaredSubdomain => names::long_name(text),
        NameRule::Label => names::dns_label(text),
        NameRule::Label1035 => names::dns_1035_label(text),
        NameRule::PathSegment => names::path_segment(name, prefix),
        NameRule::IpAddress => addresses::canonical_ip(name),
    }
}

/// What is wrong with the metadata of an object, found once and told where it is asked.
pub struct Findings {
    /// The name by the kind's own rule.
    name: Errors,
    /// Namespace and generation.
    place: Errors,
    /// Labels, annotations and owners.
    common: Errors,
    finalizers: Errors,
    managed: Errors,
    standard: Errors,
    /// What changed and may not.
    change: Errors,
}

impl Findings {
    /// Looks at a new object, or at the new state of an old one.
    #[must_use]
    pub fn of(new: &Value, old: Option<&Value>, kind: &Kind) -> Findings {
        Findings {
            name: names_of(new, kind),
            place: place(new, kind),
            common: common(new),
            finalizers: finalizers(new),
            managed: managed_fields(new),
            standard: if kind.judgement.any_finalizer { Errors::new() } else { standard_finalizers(new) },
            change: old.map(|old| moved(new, old)).unwrap_or_default(),
        }
    }

    /// The metadata as every object's.
    pub fn common(&self, errors: &mut Errors) {
        for found in [&self.place, &self.common, &self.finalizers, &self.managed] {
            errors.extend_from_slice(found);
        }
    }

    /// The change of the metadata as every object's.
    pub fn common_change(&self, errors: &mut Errors) {
        for found in [&self.change, &self.common, &self.managed] {
            errors.extend_from_slice(found);
        }
    }

    /// The metadata as the kind wants it.
    pub fn whole(&self, errors: &mut Errors) {
        errors.extend_from_slice(&self.name);
        self.common(errors);
        errors.extend_from_slice(&self.standard);
    }

    /// The change of the metadata as the kind wants it.
    pub fn change(&self, errors: &mut Errors) {
        self.common_change(errors);
        errors.extend_from_slice(&self.standard);
    }
}

fn names_of(object: &Value, kind: &Kind) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("metadata");
    let name = |name: &str, prefix| kind.hooks.name_errors(object, name, prefix);
    let generate = value::text(object, "metadata.generateName");
    if !generate.is_empty() {
        invalid(&mut errors, &field.child("generateName"), generate, name(generate, true));
    }
    match value::text(object, "metadata.name") {
        "" => errors.push(FieldError::required(&field.child("name"), "name or generateName is required")),
        given => invalid(&mut errors, &field.child("name"), given, name(given, false)),
    }
    errors
}

fn place(object: &Value, kind: &Kind) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("metadata");
    let namespace = value::text(object, "metadata.namespace");
    let at = field.child("namespace");
    match (kind.namespaced, namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required(&at, "")),
        (true, false) => invalid(&mut errors, &at, namespace, names::dns_label(namespace)),
        (false, false) => errors.push(FieldError::forbidden(&at, "not allowed on this type")),
        (false, true) => {}
    }
    if let Some(generation) = value::int(object, "metadata.generation").filter(|n| *n < 0) {
        let at = field.child("generation");
        errors.push(FieldError::invalid(&at, generation, "must be greater than or equal to 0"));
    }
    errors
}

/// Metadata of an object within another one.
#[must_use]
pub fn validate_embedded(metadata: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let object = crate::json::json!({"metadata": metadata});
    let text = |name: &str| value::text(metadata, name);
    for (name, prefix) in [("generateName", true), ("name", false)] {
        if !text(name).is_empty() {
            invalid(&mut errors, &field.child(name), text(name), names::path_segment(text(name), prefix));
        }
    }
    if !text("namespace").is_empty() {
        invalid(&mut errors, &field.child("namespace"), text("namespace"), names::dns_label(text("namespace")));
    }
    let below = common(&object).into_iter().chain(finalizers(&object));
    errors.extend(below.map(|error| {
        let path = error.field.to_string();
        let path = path.strip_prefix("metadata").unwrap_or(&path).trim_start_matches('.').to_owned();
        FieldError { field: field.child(&path), ..error }
    }));
    errors
}

fn moved(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("metadata");
    if crate::meta::is_deleting(old) {
        let had = crate::meta::finalizers(old);
        let mut added: Vec<&str> =
            crate::meta::finalizers(new).into_iter().filter(|finalizer| !had.contains(finalizer)).collect();
        if !added.is_empty() {
            added.sort_unstable();
            let list: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
            errors.push(FieldError::forbidden(
                &field.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    list.join(", ")
                ),
            ));
        }
    }
    if value::text(new, "metadata.resourceVersion").is_empty() {
        errors.push(FieldError::invalid(&field.child("resourceVersion"), "", "must be specified for an update"));
    }
    let (generation, before) = (crate::meta::generation(new), crate::meta::generation(old));
    if generation < before {
        errors.push(FieldError::invalid(&field.child("generation"), generation, "must not be decremented"));
    }
    for name in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let get = |object| present(value::get(object, "metadata").and_then(|m: &Value| m.get(name)));
        let value = get(new);
        if value != get(old) {
            errors.push(FieldError::invalid(
                &field.child(name),
                value.cloned().unwrap_or_else(|| absent(name)),
                IMMUTABLE,
            ));
        }
    }
    errors
}

/// An empty text, null and an absent field are the same.
fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|v| !v.is_null() && v.as_str() != Some(""))
}

fn absent(name: &str) -> Value {
    if matches!(name, "name" | "namespace" | "uid") { "".into() } else { Value::Null }
}

fn common(object: &Value) -> Errors {
    let field = Path::new("metadata");
    let mut errors = labels::validate(value::get(object, "metadata.labels"), &field.child("labels"));
    let annotations = value::get(object, "metadata.annotations");
    errors.extend(labels::validate_annotations(annotations, &field.child("annotations")));
    errors.extend(owners(object));
    errors
}

fn owners(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("metadata.ownerReferences");
    let references = value::items(object, "metadata.ownerReferences");
    let mut controller: Option<String> = None;
    for reference in references {
        let version = value::text(reference, "apiVersion");
        if version.rsplit('/').next().is_none_or(str::is_empty) {
            errors.push(FieldError::invalid(&field.child("apiVersion"), version, "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if value::text(reference, name).is_empty() {
                errors.push(FieldError::invalid(&field.child(name), "", "must not be empty"));
            }
        }
        if version == "v1" && value::text(reference, "kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(&field, reference.clone(), detail));
        }
        if value::flag(reference, "controller") {
            let this = format!("{}/{}", value::text(reference, "kind"), value::text(reference, "name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => errors.push(FieldError::invalid(
                    &field,
                    references.to_vec(),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                )),
            }
        }
    }
    errors
}

fn finalizers(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("metadata.finalizers");
    let list = crate::meta::finalizers(object);
    for finalizer in &list {
        invalid(&mut errors, &field, finalizer, names::qualified_name(finalizer));
    }
    if list.contains(&"orphan") && list.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(&field, list.iter().map(|f| Value::from(*f)).collect::<Vec<_>>(), detail));
    }
    errors
}

/// Most native kinds allow names without a domain to Kubernetes' own finalizers alone.
fn standard_finalizers(object: &Value) -> Errors {
    let mut errors = Errors::new();
    for (i, finalizer) in crate::meta::finalizers(object).into_iter().enumerate() {
        if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
            let field = Path::new("metadata.finalizers").index(i);
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&field, finalizer, detail));
        }
    }
    errors
}

fn managed_fields(object: &Value) -> Errors {
    let mut errors = Errors::new();
    for (i, entry) in value::items(object, "metadata.managedFields").iter().enumerate() {
        let field = Path::new("metadata.managedFields").index(i);
        let operation = value::text(entry, "operation");
        if !matches!(operation, "Apply" | "Update") {
            errors.push(FieldError::invalid(&field.child("operation"), operation, "must be `Apply` or `Update`"));
        }
        let kind = value::text(entry, "fieldsType");
        if !matches!(kind, "" | "FieldsV1") {
            errors.push(FieldError::invalid(&field.child("fieldsType"), kind, "must be `FieldsV1`"));
        }
        let manager = value::text(entry, "manager");
        if manager.len() > 128 {
            errors.push(FieldError::too_long(&field.child("manager"), 128));
        }
        if value::text(entry, "subresource").len() > 256 {
            errors.push(FieldError::too_long(&field.child("subresource"), 256));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::by_resource;

    fn sentences(errors: &Errors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creation() {
        let long = format!("metadata.name: Invalid value: \"{}\": must be no more than 253 bytes", "x".repeat(254));
        let cases = [
            ("configmaps", json!({"name": "a", "namespace": "b"}), ""),
            (
                "configmaps",
                json!({"namespace": "b"}),
                "metadata.name: Required value: name or generateName is required",
            ),
            ("configmaps", json!({"name": "a"}), "metadata.namespace: Required value"),
            (
                "nodes",
                json!({"name": "a", "namespace": "b"}),
                "metadata.namespace: Forbidden: not allowed on this type",
            ),
            ("configmaps", json!({"name": "a-xyz", "generateName": "a-", "namespace": "b"}), ""),
            // What a name is made of is not judged where names are declared.
            ("replicationcontrollers", json!({"name": "a", "generateName": "B!", "namespace": "b"}), ""),
            ("replicationcontrollers", json!({"name": "x".repeat(254), "namespace": "b"}), &long),
            ("namespaces", json!({"name": "a.b"}), "metadata.name: Invalid value: \"a.b\": must not contain dots"),
            (
                "configmaps",
                json!({"name": "a", "namespace": "b", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
            ),
            (
                "configmaps",
                json!({"name": "a", "namespace": "b", "finalizers": ["orphan", "mine"]}),
                "metadata.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully \
                 qualified",
            ),
            (
                "configmaps",
                json!({"name": "a", "namespace": "b", "annotations": {"big": "x".repeat(256 * 1024)}}),
                "metadata.annotations: Too long: may not be more than 262144 bytes",
            ),
        ];
        for (plural, metadata, expected) in cases {
            let kind = by_resource("", "v1", plural).unwrap();
            let mut errors = Errors::new();
            Findings::of(&json!({ "metadata": metadata }), None, kind).whole(&mut errors);
            assert_eq!(sentences(&errors).join("; "), expected);
        }
    }

    #[test]
    fn identity_does_not_change() {
        let kind = by_resource("", "v1", "configmaps").unwrap();
        let old = json!({"metadata": {"name": "a", "namespace": "b", "uid": "1", "resourceVersion": "1",
            "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}});
        let mut new = old.clone();
        let changed = |new: &Value| {
            let mut errors = Errors::new();
            Findings::of(new, Some(&old), kind).change(&mut errors);
            sentences(&errors)
        };
        assert!(changed(&new).is_empty());
        value::set(&mut new, "metadata.uid", "2");
        value::set(&mut new, "metadata.resourceVersion", "");
        value::set(&mut new, "metadata.finalizers", json!(["x/y", "x/z"]));
        assert_eq!(
            changed(&new),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{\"x/z\"}",
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }
}
