//! `volumeattachments` of storage.k8s.io: a volume that a node shall have.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::{Check, Judgement};
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::volume_sources::{self, Home, csi_driver_name};
use crate::kinds::shared::{cells, labels, names, parts, rules, volume_claims};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    namespaced: false,
    returns_deleted: true,
    unconditional_update: false,
    subresources: &[parts::status_only("storage.k8s.io", "v1", "VolumeAttachment")],
    resets: parts::STATUS_ONLY,
    columns: &[
        Column::NAME,
        Column { format: "name", ..Column::text("Attacher").of("spec.attacher") },
        Column::text("PV").of("spec.source.persistentVolumeName"),
        Column::text("Node").of("spec.nodeName"),
        Column::boolean("Attached").of("status.attached"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::storage::v1::VolumeAttachment>,
    judgement: Judgement::ONLY_AS_NEW.of_part(&[Check::Object]),
    hooks: &VolumeAttachment,
    ..Kind::BASE
};

struct VolumeAttachment;

/// The most bytes of what a driver says about an attachment.
const LARGEST_METADATA: usize = 256 * 1024;
/// The most bytes of an error's message.
const LONGEST_MESSAGE: usize = 1024;

impl Hooks for VolumeAttachment {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        csi_driver_name(&mut errors, value::text(spec, "attacher"), &field.child("attacher"));
        source(&mut errors, spec.get("source").unwrap_or(&Value::Null), &field.child("source"));
        let node = value::text(spec, "nodeName");
        labels::invalid(&mut errors, &field.child("nodeName"), node, names::dns_subdomain(node));
        errors.extend(status(object));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "spec", "VolumeAttachmentSpec");
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        status(new)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            cells::name(object),
            cells::text(object, "spec.attacher"),
            cells::text(object, "spec.source.persistentVolumeName"),
            cells::text(object, "spec.nodeName"),
            value::flag(object, "status.attached").into(),
            cells::age(object, now),
        ]
    }
}

fn source(errors: &mut Errors, source: &Value, field: &Path) {
    let given = |name: &str| source.get(name).filter(|value| !value.is_null());
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (given("inlineVolumeSpec"), given("persistentVolumeName").and_then(Value::as_str)) {
        (None, None) => errors.push(FieldError::required(field, one)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(field, one)),
        (None, Some(name)) => {
            let field = field.child("persistentVolumeName");
            if name.is_empty() {
                errors.push(FieldError::required(&field, "must specify non empty persistentVolumeName"));
            }
            labels::invalid(errors, &field, name, names::dns_subdomain(name));
        }
        (Some(volume), None) => inline(errors, volume, &field.child("inlineVolumeSpec")),
    }
}

/// A volume that only this attachment knows: one of a CSI driver, for which nobody made a PersistentVolume.
fn inline(errors: &mut Errors, volume: &Value, field: &Path) {
    for name in ["claimRef", "capacity"] {
        if volume.get(name).is_some_and(|value| !rules::is_zero(value)) {
            errors.push(FieldError::forbidden(
                &field.child(name),
                "may not be specified in the context of inline volumes",
            ));
        }
    }
    let given = |name: &str| volume.get(name).filter(|source| !source.is_null());
    let driver = given("csi");
    if driver.is_none() {
        let detail = "has to be specified in the context of inline volumes";
        errors.push(FieldError::required(&field.child("csi"), detail));
    }
    if value::items(volume, "accessModes").is_empty() {
        errors.push(FieldError::required(&field.child("accessModes"), ""));
    }
    volume_claims::access_modes(errors, volume, field);
    let policy = value::text(volume, "persistentVolumeReclaimPolicy");
    if !matches!(policy, "" | "Retain") {
        let field = field.child("persistentVolumeReclaimPolicy");
        errors.push(FieldError::forbidden(&field, "may only be Retain in the context of inline volumes"));
    }
    for name in volume_sources::ORDER {
        if let Some(source) = given(name) {
            volume_sources::validate(errors, name, source, &field.child(name), Home::Volume(""));
        }
    }
    volume_claims::class_name(errors, volume, "storageClassName", field);
}

fn status(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("status");
    let status = object.get("status").unwrap_or(&Value::Null);
    let metadata = labels::map(status, "attachmentMetadata").into_iter().flatten();
    let size: usize = metadata.map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len()).sum();
    if size > LARGEST_METADATA {
        errors.push(FieldError::too_long(&field.child("attachmentMetadata"), LARGEST_METADATA));
    }
    for name in ["attachError", "detachError"] {
        let Some(error) = status.get(name) else { continue };
        let field = field.child(name);
        if value::text(error, "message").len() > LONGEST_MESSAGE {
            // The limit that upstream names is another field's.
            errors.push(FieldError::too_long(&field.child("message"), LARGEST_METADATA));
        }
        if let Some(code) = value::int(error, "errorCode").filter(|code| *code < 0) {
            let range = names::range(0, i64::from(i32::MAX));
            errors.push(FieldError::invalid(&field.child("errorCode"), code, range));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "a"}, "spec": {"attacher": "disk.example.com", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}});
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["a", "disk.example.com", "v", "n", false, "<unknown>"]));
        testing::invalid(
            &KIND,
            &json!({"spec": {"nodeName": "n", "source": {}}, "status": {"detachError": {"errorCode": -1}}}),
            &[
                "spec.attacher: Required value",
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                "status.detachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ],
        );
        let inline = json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"inlineVolumeSpec": {
            "capacity": {"storage": "1"}, "persistentVolumeReclaimPolicy": "Delete", "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "a", "volumeHandle": "h"}}}}});
        testing::invalid(
            &KIND,
            &inline,
            &[
                "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
                "spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of \
                 inline volumes",
            ],
        );
        let mut other = sound.clone();
        value::set(&mut other, "spec.nodeName", "m");
        let errors = testing::shown(&KIND.hooks.validate_update(&other, &sound));
        assert!(
            errors.len() == 1
                && errors[0].starts_with("spec: Invalid value: {")
                && errors[0].ends_with(": field is immutable")
        );
    }
}
