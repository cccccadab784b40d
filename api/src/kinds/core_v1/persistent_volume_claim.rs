//! `persistentvolumeclaims`: a wish for storage, bound to a volume that grants it.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value, json};
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::volume_claims::{self, CLASS_ANNOTATION};
use crate::kinds::shared::{cells, difference, labels, names, parts, quantities, resource_names, rules};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    subresources: &[parts::status("", "v1", "PersistentVolumeClaim")],
    columns: &[
        Column::NAME,
        Column::text("Status").of("status.phase"),
        Column::text("Volume").of("spec.volumeName"),
        Column::text("Capacity").of("status.capacity"),
        Column::text("Access Modes").of("status.accessModes"),
        Column::text("StorageClass").says("StorageClass of the pvc"),
        Column::text("VolumeAttributesClass").says("VolumeAttributesClass of the pvc"),
        Column::AGE,
        Column::text("VolumeMode").wide().of("spec.volumeMode"),
    ],
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::core::v1::PersistentVolumeClaim>,
    judgement: Judgement::AS_NEW,
    hooks: &PersistentVolumeClaim,
    ..Kind::BASE
};

struct PersistentVolumeClaim;

impl Hooks for PersistentVolumeClaim {
    fn default(&self, object: &mut Value) {
        default(object);
        for list in ["status.capacity", "status.allocatedResources"] {
            quantities::round_up(object, list);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        value::set(object, "status", json!({"phase": "Pending"}));
        data_sources(object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        data_sources(new, Some(old));
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        volume_claims::validate(&mut errors, object.get("spec").unwrap_or(&Value::Null), &Path::new("spec"));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        validate_change(new, old)
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        validate_status(new)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if meta::annotation(new, CLASS_ANNOTATION).is_some() {
            let at = Path::new("metadata.annotations").key(CLASS_ANNOTATION);
            out.push(format!("{at}: {}", volume_claims::CLASS_ANNOTATION_WARNING));
        }
        out.extend(volume_claims::warnings(new.get("spec").unwrap_or(&Value::Null), &Path::new("spec")));
        out
    }

    fn warnings_of_part(&self, _part: &str, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let bound = !value::text(object, "spec.volumeName").is_empty();
        let capacity = || quantities::shown(quantities::of(object, "status.capacity", "storage"));
        let modes = || volume_claims::short_modes(value::items(object, "status.accessModes"));
        let class = meta::annotation(object, CLASS_ANNOTATION);
        vec![
            cells::name(object),
            if meta::is_deleting(object) { "Terminating".into() } else { cells::text(object, "status.phase") },
            cells::text(object, "spec.volumeName"),
            if bound { capacity().into() } else { "".into() },
            if bound { modes().into() } else { "".into() },
            class.unwrap_or_else(|| value::text(object, "spec.storageClassName")).into(),
            volume_claims::or_unset(object, "spec.volumeAttributesClassName"),
            cells::age(object, now),
            volume_claims::or_unset(object, "spec.volumeMode"),
        ]
    }
}

/// Defaults of a claim, also of one that a stateful set makes.
pub(crate) fn default(claim: &mut Value) {
    if value::text(claim, "status.phase").is_empty() {
        value::set(claim, "status.phase", "Pending");
    }
    if let Some(spec) = claim.get_mut("spec") {
        volume_claims::default(spec);
    }
}

/// `dataSource` is the older form of `dataSourceRef`; where one is given, the other follows. KEP-1495.
fn data_sources(claim: &mut Value, old: Option<&Value>) {
    let there = |claim: &Value, name: &str| value::get(claim, name).is_some_and(Value::is_object);
    const SOURCE: &str = "spec.dataSource";
    const REFERENCE: &str = "spec.dataSourceRef";
    // Sources in other namespaces are an alpha feature that is off.
    let abroad = |claim: &Value| !value::text(claim, "spec.dataSourceRef.namespace").is_empty();
    if abroad(claim) && !old.is_some_and(|old| there(old, REFERENCE)) {
        value::remove(claim, REFERENCE);
    }
    let in_use = old.is_some_and(|old| there(old, SOURCE) || there(old, REFERENCE));
    if !in_use && !there(claim, REFERENCE) {
        // What the older form could not name was ignored from the beginning.
        let text = |name: &str| value::text(claim, &format!("{SOURCE}.{name}"));
        let known = [("PersistentVolumeClaim", ""), ("VolumeSnapshot", "snapshot.storage.k8s.io")];
        if !known.contains(&(text("kind"), text("apiGroup"))) {
            value::remove(claim, SOURCE);
        }
    }
    let (from, to) = match (there(claim, SOURCE), there(claim, REFERENCE)) {
        (true, false) => (SOURCE, REFERENCE),
        (false, true) if !abroad(claim) => (REFERENCE, SOURCE),
        _ => return,
    };
    let mut copied = Map::new();
    for name in ["apiGroup", "kind", "name"] {
        if let Some(text) = value::get(claim, from).and_then(|source| source.get(name)).filter(|text| !text.is_null()) {
            copied.insert(name.to_owned(), text.clone());
        }
    }
    value::set(claim, to, copied);
}

const STORAGE: &str = "spec.resources.requests.storage";
const CLASS: &str = "spec.storageClassName";
const ATTRIBUTES: &str = "spec.volumeAttributesClassName";

fn validate_change(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (mut after, mut before) = (json!({"spec": new.get("spec")}), json!({"spec": old.get("spec")}));
    if value::text(old, "spec.volumeName").is_empty() {
        // The binder names the volume, once.
        parts::copy(&mut before, new, "spec.volumeName");
    }
    class_may_be_set(&mut errors, new, old, &mut after, &mut before);
    if value::text(new, "status.phase") == "Bound" {
        if value::get(&after, "spec.resources.requests").is_some_and(Value::is_object) {
            parts::copy(&mut after, old, STORAGE);
        }
        parts::copy(&mut after, old, ATTRIBUTES);
    }
    for list in ["spec.resources.requests", "spec.resources.limits"] {
        quantities::adopt(&mut after, &before, list);
    }
    let field = Path::new("spec");
    if after != before {
        let spec = |object: &Value| object.get("spec").cloned().unwrap_or_default();
        let difference = difference::internal("PersistentVolumeClaimSpec", &spec(&before), &spec(&after));
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n\
             {difference}"
        );
        errors.push(FieldError::forbidden(&field, detail));
    }
    let size = |object: &Value| quantities::of(object, "spec.resources.requests", "storage").unwrap_or(ZERO);
    let capacity = quantities::of(old, "status.capacity", "storage").unwrap_or(ZERO);
    // A wish that could not be met may shrink again, but not to what is there already.
    if size(new) < size(old) && size(new) <= capacity {
        let at = field.child("resources.requests.storage");
        errors.push(FieldError::forbidden(&at, "field can not be less than status.capacity"));
    }
    let mode = |object| value::get(object, "spec.volumeMode").filter(|mode| !rules::is_zero(mode));
    if mode(new) != mode(old) {
        let shown = mode(new).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&Path::new("volumeMode"), shown, rules::IMMUTABLE));
    }
    attributes_stay(&mut errors, new, old);
    errors
}

const ZERO: crate::quantity::Quantity = crate::quantity::Quantity::ZERO;

/// The class may be set where there was none, also from the annotation that held it once; the annotation stays.
fn class_may_be_set(errors: &mut Errors, new: &Value, old: &Value, after: &mut Value, before: &mut Value) {
    let class = |object| value::get(object, CLASS).and_then(Value::as_str);
    let (annotation, annotated) = (meta::annotation(new, CLASS_ANNOTATION), meta::annotation(old, CLASS_ANNOTATION));
    let moved = annotated.is_some()
        && class(old).is_none()
        && class(new) == annotated
        && (annotation.is_none() || annotation == annotated);
    if moved {
        value::remove(after, CLASS);
        value::remove(before, CLASS);
        return;
    }
    if annotation.unwrap_or_default() != annotated.unwrap_or_default() {
        let field = Path::new("metadata.annotations").child(CLASS_ANNOTATION);
        errors.push(FieldError::invalid(&field, annotation.unwrap_or_default(), rules::IMMUTABLE));
    }
    if class(new).is_some() && class(old).is_none() && (annotated.is_none() || class(new) == annotated) {
        parts::copy(after, old, CLASS);
    }
}

/// Attributes that a volume has cannot be taken from it, only replaced.
fn attributes_stay(errors: &mut Errors, new: &Value, old: &Value) {
    let class = |object| value::get(object, ATTRIBUTES).and_then(Value::as_str);
    let applied = value::get(old, "status.currentVolumeAttributesClassName").is_some_and(Value::is_string);
    if class(new) == class(old) || !applied {
        return;
    }
    let what = match class(new) {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    let detail = format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
    errors.push(FieldError::forbidden(&Path::new(ATTRIBUTES), detail));
}

const RESIZE_STATUSES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizePending",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
];

fn validate_status(claim: &Value) -> Errors {
    let mut errors = Errors::new();
    if value::items(claim, "spec.accessModes").is_empty() {
        errors.push(FieldError::required(&Path::new("Spec.accessModes"), ""));
    }
    let field = Path::new("status");
    let entries = |name: &str| labels::map(claim, &format!("status.{name}")).into_iter().flatten();
    for (name, amount) in entries("capacity") {
        quantities::basic(&mut errors, amount, &field.child("capacity").key(name));
    }
    let at = field.child("allocatedResourceStatuses");
    for (name, status) in entries("allocatedResourceStatuses") {
        resource_key(&mut errors, name, &at);
        if !status.as_str().is_some_and(|status| RESIZE_STATUSES.contains(&status)) {
            errors.push(FieldError::not_supported(&at, name.as_str(), RESIZE_STATUSES));
        }
    }
    let at = field.child("allocatedResources");
    for (name, amount) in entries("allocatedResources") {
        if resource_key(&mut errors, name, &at) {
            let before = errors.len();
            quantities::basic(&mut errors, amount, &at.key(name));
            if errors.len() == before {
                quantities::not_negative(&mut errors, amount, &at.key(name));
            }
        }
    }
    errors
}

/// Of Kubernetes' own resources a claim allocates storage alone; answers whether the name is fine.
fn resource_key(errors: &mut Errors, name: &str, field: &Path) -> bool {
    let messages = names::qualified_name(name);
    let foreign = resource_names::is_native(name) && name != "storage";
    if messages.is_empty() && foreign {
        errors.push(FieldError::not_supported(field, name, &["storage"]));
    }
    let fine = messages.is_empty() && !foreign;
    labels::invalid(errors, field, name, messages);
    fine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    fn sound() -> Value {
        json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}})
    }

    fn bound() -> Value {
        let mut claim = sound();
        value::set(&mut claim, "spec.volumeName", "v");
        value::set(&mut claim, "spec.storageClassName", "fast");
        let status = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
        value::set(&mut claim, "status", status);
        claim
    }

    #[test]
    fn defaults() {
        let mut object = sound();
        value::remove(&mut object, "spec.volumeMode");
        value::remove(&mut object, "status");
        testing::defaults(&KIND, object, &sound());
    }

    /// The older and the newer field of a claim, as sent and as kept.
    #[test]
    fn data_sources_follow_each_other() {
        let claim = json!({"kind": "PersistentVolumeClaim", "name": "a"});
        let snapshot = json!({"kind": "VolumeSnapshot", "name": "a", "apiGroup": "snapshot.storage.k8s.io"});
        let other = json!({"kind": "Odd", "name": "a", "apiGroup": "x.io"});
        let abroad = json!({"kind": "PersistentVolumeClaim", "name": "a", "namespace": "m"});
        let none = Value::Null;
        for (old, sent, kept) in [
            ((&none, &none), (&claim, &none), (&claim, &claim)),
            ((&none, &none), (&none, &snapshot), (&snapshot, &snapshot)),
            ((&none, &none), (&other, &none), (&none, &none)),
            ((&none, &none), (&none, &other), (&other, &other)),
            ((&none, &none), (&none, &abroad), (&none, &none)),
            ((&other, &other), (&other, &none), (&other, &other)),
            ((&none, &none), (&claim, &snapshot), (&claim, &snapshot)),
        ] {
            let made = |(source, reference): (&Value, &Value)| {
                let mut claim = sound();
                for (name, value) in [("dataSource", source), ("dataSourceRef", reference)] {
                    if !value.is_null() {
                        claim["spec"][name] = value.clone();
                    }
                }
                claim
            };
            let mut new = made(sent);
            if old.0.is_null() {
                KIND.hooks.prepare_create(&mut new);
                assert_eq!(new, made(kept), "{sent:?}");
                new = made(sent);
            }
            KIND.hooks.prepare_update(&mut new, &made(old));
            assert_eq!(new, made(kept), "{sent:?}");
        }
    }

    #[test]
    fn validation() {
        testing::invalid(&KIND, &sound(), &[]);
        let mut object = sound();
        value::set(&mut object, "spec.storageClassName", "A");
        value::set(&mut object, "spec.accessModes", json!([]));
        testing::invalid(
            &KIND,
            &object,
            &[
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.storageClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        );
    }

    #[test]
    fn the_spec_stays_with_few_exceptions() {
        const SPEC: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                            volumeAttributesClassName for bound claims";
        let annotated = |mut claim: Value| {
            value::remove(&mut claim, CLASS);
            claim["metadata"]["annotations"] = json!({CLASS_ANNOTATION: "slow"});
            claim
        };
        let mut grown = bound();
        value::set(&mut grown, STORAGE, "4Gi");
        let mut gilded = bound();
        value::set(&mut gilded, ATTRIBUTES, "gold");
        value::set(&mut gilded, "status.currentVolumeAttributesClassName", "gold");
        let cases: Vec<(Value, &str, Value, Vec<&str>)> = vec![
            (sound(), "spec.volumeName", json!("v"), vec![]),
            (bound(), "spec.volumeName", json!("w"), vec![SPEC]),
            (sound(), STORAGE, json!("1024Mi"), vec![]),
            (sound(), STORAGE, json!("2Gi"), vec![SPEC]),
            (bound(), STORAGE, json!("2Gi"), vec![]),
            (grown.clone(), STORAGE, json!("2Gi"), vec![]),
            (
                grown,
                STORAGE,
                json!("1Gi"),
                vec!["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
            ),
            (sound(), CLASS, json!("fast"), vec![]),
            (bound(), CLASS, json!("slow"), vec![SPEC]),
            (annotated(bound()), CLASS, json!("slow"), vec![]),
            (annotated(bound()), CLASS, json!("fast"), vec![SPEC]),
            (
                annotated(bound()),
                "metadata.annotations",
                json!({}),
                vec![
                    "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"\": field is immutable",
                ],
            ),
            (sound(), ATTRIBUTES, json!("gold"), vec![SPEC]),
            (bound(), ATTRIBUTES, json!("gold"), vec![]),
            (gilded.clone(), ATTRIBUTES, json!("silver"), vec![]),
            (
                gilded.clone(),
                ATTRIBUTES,
                json!(""),
                vec![
                    "spec.volumeAttributesClassName: Forbidden: update to empty string is forbidden when \
                     status.currentVolumeAttributesClassName is not nil",
                ],
            ),
            (
                gilded,
                ATTRIBUTES,
                Value::Null,
                vec![
                    "spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when \
                     status.currentVolumeAttributesClassName is not nil",
                ],
            ),
            (
                bound(),
                "spec.volumeMode",
                json!("Block"),
                vec![SPEC, "volumeMode: Invalid value: \"Block\": field is immutable"],
            ),
        ];
        for (old, path, to, sentences) in cases {
            let mut new = old.clone();
            value::set(&mut new, path, to.clone());
            // Without the difference, which has a test of its own.
            let found: Vec<String> = testing::shown(&KIND.hooks.validate_update(&new, &old))
                .iter()
                .map(|sentence| sentence.lines().next().unwrap_or_default().to_owned())
                .collect();
            assert_eq!(found, sentences, "{path} {to}");
        }
    }

    #[test]
    fn status() {
        let mut object = bound();
        assert_eq!(KIND.hooks.validate_part("status", &object, &object), Errors::new());
        value::set(&mut object, "status.capacity.storage", "-1");
        value::set(
            &mut object,
            "status.allocatedResourceStatuses",
            json!({"storage": "Odd", "cpu": "NodeResizePending"}),
        );
        value::set(&mut object, "status.allocatedResources", json!({"storage": "-1", "example.com/x": "1"}));
        let mut shown = testing::shown(&KIND.hooks.validate_part("status", &object, &object));
        shown.sort();
        assert_eq!(
            shown,
            [
                "status.allocatedResourceStatuses: Unsupported value: \"cpu\": supported values: \"storage\"",
                "status.allocatedResourceStatuses: Unsupported value: \"storage\": supported values: \
                 \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \
                 \"NodeResizeInfeasible\", \"NodeResizePending\"",
                "status.allocatedResources[storage]: Invalid value: -1: must be a valid resource quantity",
                "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
            ]
        );
    }

    #[test]
    fn rows_and_warnings() {
        testing::row(&KIND, &sound(), &json!(["c", "Pending", "", "", "", "", "<unset>", "<unknown>", "Filesystem"]));
        let mut object = bound();
        testing::row(
            &KIND,
            &object,
            &json!(["c", "Bound", "v", "1Gi", "RWO", "fast", "<unset>", "<unknown>", "Filesystem"]),
        );
        object["metadata"]["annotations"] = json!({CLASS_ANNOTATION: "slow"});
        value::set(&mut object, STORAGE, "1500m");
        assert_eq!(
            KIND.hooks.warnings(&object, None),
            [
                "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \
                 \"storageClassName\" attribute instead",
                "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer",
            ]
        );
    }
}
