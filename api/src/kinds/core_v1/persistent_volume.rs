//! `persistentvolumes`: pieces of storage that claims are bound to.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Text, Value, json};
use crate::judgement::{Check, Judgement};
use crate::kind::{Column, Hooks, Kind, Occasion, describe};
use crate::kinds::shared::volume_sources::{self, Home};
use crate::kinds::shared::{cells, difference, labels, names, node_labels, parts, pod_scheduling, rules};
use crate::kinds::shared::{quantities, volume_claims};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    subresources: &[parts::status("", "v1", "PersistentVolume")],
    columns: &[
        Column::NAME,
        Column::text("Capacity").of("spec.capacity"),
        Column::text("Access Modes").of("spec.accessModes"),
        Column::text("Reclaim Policy").of("spec.persistentVolumeReclaimPolicy"),
        Column::text("Status").of("status.phase"),
        Column::text("Claim").of("spec.claimRef"),
        Column::text("StorageClass").says("StorageClass of the pv"),
        Column::text("VolumeAttributesClass").says("VolumeAttributesClass of the pv"),
        Column::text("Reason").of("status.reason"),
        Column::AGE,
        Column::text("VolumeMode").wide().of("spec.volumeMode"),
    ],
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::core::v1::PersistentVolume>,
    judgement: Judgement {
        // Upstream asks both a new volume's questions and then those of a change, which ask the former again.
        update: &[Check::Metadata, Check::Object, Check::Metadata, Check::Object, Check::Change],
        ..Judgement::USUAL
    },
    hooks: &PersistentVolume,
    ..Kind::BASE
};

struct PersistentVolume;

impl Hooks for PersistentVolume {
    fn default(&self, object: &mut Value) {
        if value::text(object, "status.phase").is_empty() {
            value::set(object, "status.phase", "Pending");
        }
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        if value::text(spec, "persistentVolumeReclaimPolicy").is_empty() {
            value::set(spec, "persistentVolumeReclaimPolicy", "Retain");
        }
        value::set_default(spec, "volumeMode", "Filesystem");
        quantities::round_up(spec, "capacity");
        if let Some(path) = spec.get_mut("hostPath").filter(|path| path.is_object()) {
            value::set_default(path, "type", "");
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        value::set(object, "status", json!({"phase": "Pending"}));
    }

    fn stamp(&self, part: &str, new: &mut Value, old: Option<&Value>, Occasion { now, .. }: &Occasion<'_>) {
        let phase = |object: &Value| value::text(object, "status.phase").to_owned();
        let time = |object: &Value| value::text(object, TRANSITION).to_owned();
        match (part, old) {
            ("", None) => value::set(new, TRANSITION, *now),
            ("status", Some(old)) if phase(new) == phase(old) && time(new).is_empty() => {
                parts::copy(new, old, TRANSITION);
            }
            ("status", Some(old)) if phase(new) != phase(old) && (time(new).is_empty() || time(new) == time(old)) => {
                value::set(new, TRANSITION, *now);
            }
            _ => {}
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = validate_spec(object.get("spec").unwrap_or(&Value::Null), meta::name(object));
        if meta::annotation(object, MOUNT_OPTIONS).is_some()
            && !sources(object).any(|(name, _)| MOUNTABLE.contains(&name.as_str()))
        {
            let field = Path::new("metadata.annotations").child(MOUNT_OPTIONS);
            errors.push(FieldError::forbidden(&field, "may not specify mount options for this volume type"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        let all = |object| sources(object).map(|(name, source)| (name.clone(), source.clone())).collect::<Map>();
        let (mut after, before) = (Value::from(all(new)), Value::from(all(old)));
        // The one secret that may be named later.
        if value::get(&before, "csi").is_some() && value::get(&before, EXPAND_SECRET).is_none_or(Value::is_null) {
            value::remove(&mut after, EXPAND_SECRET);
        }
        if after != before {
            let field = Path::new("spec.persistentvolumesource");
            let difference = difference::internal("PersistentVolumeSource", &before, &after);
            let detail = format!("spec.persistentvolumesource is immutable after creation\n{difference}");
            errors.push(FieldError::forbidden(&field, detail));
        }
        let mode = |object| value::get(object, "spec.volumeMode").filter(|mode| !rules::is_zero(mode));
        if mode(new) != mode(old) {
            let shown = mode(new).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&Path::new("volumeMode"), shown, rules::IMMUTABLE));
        }
        affinity_stays(&mut errors, new, old);
        let class = |object| value::get(object, "spec.volumeAttributesClassName").and_then(Value::as_str);
        if class(old).is_some() && class(new).is_none() {
            let field = Path::new("spec.volumeAttributesClassName");
            errors.push(FieldError::forbidden(&field, "update from non-nil value to nil is forbidden"));
        }
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(new)
    }

    fn warnings_of_part(&self, _part: &str, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let claim = value::get(object, "spec.claimRef").filter(|claim| claim.is_object());
        let claim = claim.map(|claim| format!("{}/{}", value::text(claim, "namespace"), value::text(claim, "name")));
        let class = meta::annotation(object, volume_claims::CLASS_ANNOTATION);
        vec![
            cells::name(object),
            quantities::shown(quantities::of(object, "spec.capacity", "storage")).into(),
            volume_claims::short_modes(value::items(object, "spec.accessModes")).into(),
            cells::text(object, "spec.persistentVolumeReclaimPolicy"),
            if meta::is_deleting(object) { "Terminating".into() } else { cells::text(object, "status.phase") },
            claim.unwrap_or_default().into(),
            class.unwrap_or_else(|| value::text(object, "spec.storageClassName")).into(),
            volume_claims::or_unset(object, "spec.volumeAttributesClassName"),
            cells::text(object, "status.reason"),
            cells::age(object, now),
            volume_claims::or_unset(object, "spec.volumeMode"),
        ]
    }
}

/// When the phase became what it is.
const TRANSITION: &str = "status.lastPhaseTransitionTime";
const EXPAND_SECRET: &str = "csi.controllerExpandSecretRef";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// Fields of the spec that are sources, in the order in which surplus ones are found.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Sources for which the annotation with mount options means something.
const MOUNTABLE: &[&str] = &[
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

/// The sources that are set.
fn sources(object: &Value) -> impl Iterator<Item = (&Text, &Value)> {
    let spec = object.get("spec").and_then(Value::as_object);
    spec.into_iter().flatten().filter(|(name, source)| SOURCES.contains(&name.as_str()) && !source.is_null())
}

fn validate_spec(spec: &Value, name: &str) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    if value::items(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(&field.child("accessModes"), ""));
    }
    volume_claims::access_modes(&mut errors, spec, &field);
    capacity(&mut errors, spec, &field.child("capacity"));
    let policies = &["Delete", "Recycle", "Retain"];
    rules::one_of(&mut errors, spec, "persistentVolumeReclaimPolicy", &field, policies);
    let affinity = spec.get("nodeAffinity").filter(|affinity| !affinity.is_null());
    if let Some(affinity) = affinity {
        let at = field.child("nodeAffinity.required");
        match affinity.get("required").filter(|selector| !selector.is_null()) {
            Some(selector) => pod_scheduling::node_selector(&mut errors, selector, &at),
            None => errors.push(FieldError::required(&at, "must specify required node constraints")),
        }
    }
    one_source(&mut errors, spec, name, &field);
    let host_path = value::get(spec, "hostPath.path").and_then(Value::as_str);
    let root = |path: &str| path.starts_with('/') && path.split('/').all(|step| matches!(step, "" | "."));
    if host_path.is_some_and(root) && value::text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let at = field.child("persistentVolumeReclaimPolicy");
        errors.push(FieldError::forbidden(&at, "may not be 'recycle' for a hostPath mount of '/'"));
    }
    volume_claims::class_name(&mut errors, spec, "storageClassName", &field);
    rules::given_one_of(&mut errors, spec, "volumeMode", &field, volume_claims::VOLUME_MODES);
    if let Some(class) = spec.get("volumeAttributesClassName").and_then(Value::as_str) {
        let at = field.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(FieldError::required(&at, "an empty string is disallowed"));
        } else {
            labels::invalid(&mut errors, &at, class, names::dns_subdomain(class));
        }
        if spec.get("csi").is_none_or(Value::is_null) {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(&field.child("csi"), detail));
        }
    }
    errors
}

fn capacity(errors: &mut Errors, spec: &Value, field: &Path) {
    let empty = Map::new();
    let capacity = spec.get("capacity").and_then(Value::as_object).unwrap_or(&empty);
    if capacity.is_empty() {
        errors.push(FieldError::required(field, ""));
    }
    if capacity.len() > 1 || !capacity.contains_key("storage") {
        let shown = if capacity.is_empty() { Value::Null } else { capacity.clone().into() };
        errors.push(FieldError::not_supported(field, shown, &["storage"]));
    }
    for (name, amount) in capacity {
        let at = field.key(name);
        quantities::basic(errors, amount, &at);
        quantities::positive(errors, amount, &at);
    }
}

fn one_source(errors: &mut Errors, spec: &Value, volume: &str, field: &Path) {
    let mut found = false;
    for name in SOURCES {
        let Some(source) = spec.get(*name).filter(|source| !source.is_null()) else { continue };
        // Upstream never minds a flexVolume beside another source.
        if found && *name != "flexVolume" {
            let at = field.child(volume_sources::shown_name_of_surplus(name));
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        let at = field.child(volume_sources::shown_name(name));
        volume_sources::validate(errors, name, source, &at, Home::Volume(volume));
        if *name == "local" && spec.get("nodeAffinity").is_none_or(Value::is_null) {
            let at = field.child("nodeAffinity");
            errors.push(FieldError::required(&at, "Local volume requires node affinity"));
        }
    }
    if !found {
        errors.push(FieldError::required(field, "must specify a volume type"));
    }
}

/// Where a volume can be reached stays, but for beta labels that take their stable name.
fn affinity_stays(errors: &mut Errors, new: &Value, old: &Value) {
    const AFFINITY: &str = "spec.nodeAffinity";
    const TERMS: &str = "required.nodeSelectorTerms";
    let get = |object| value::get(object, AFFINITY).filter(|affinity: &&Value| !affinity.is_null());
    let Some(before) = get(old) else { return };
    let after = get(new);
    let mut allowed = before.clone();
    let terms = after.map_or(&[][..], |after| value::items(after, TERMS));
    for (term, wanted) in value::items_mut(&mut allowed, TERMS).iter_mut().zip(terms) {
        for list in ["matchExpressions", "matchFields"] {
            let wanted = value::items(wanted, list);
            for (expression, wanted) in value::items_mut(term, list).iter_mut().zip(wanted) {
                let key = value::text(wanted, "key");
                if node_labels::stable(value::text(expression, "key")) == Some(key) {
                    value::set(expression, "key", key);
                }
            }
        }
    }
    if after != Some(&allowed) {
        let shown = after.cloned().unwrap_or_default();
        let detail = format!("{}, except for updating from beta label to GA", rules::IMMUTABLE);
        errors.push(FieldError::invalid(&Path::new("nodeAffinity"), shown, detail));
    }
}

/// Sources that nothing mounts any more, and the name under which upstream warns of them.
const IDLE_SOURCES: &[(&str, &str, &str)] = &[
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn warnings(volume: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let annotations = [
        (volume_claims::CLASS_ANNOTATION, volume_claims::CLASS_ANNOTATION_WARNING),
        (MOUNT_OPTIONS, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
    ];
    for (key, why) in annotations {
        if meta::annotation(volume, key).is_some() {
            out.push(format!("{}: {why}", Path::new("metadata.annotations").key(key)));
        }
    }
    let field = Path::new("spec");
    if value::text(volume, "spec.persistentVolumeReclaimPolicy") == "Recycle" {
        let at = field.child("persistentVolumeReclaimPolicy");
        out.push(format!(
            "{at}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
        ));
    }
    let terms = "nodeAffinity.required.nodeSelectorTerms";
    for (i, term) in value::items(volume, &format!("spec.{terms}")).iter().enumerate() {
        out.extend(node_labels::warnings_of_term(term, &field.child(terms).index(i)));
    }
    for (name, shown, why) in IDLE_SOURCES {
        if sources(volume).any(|(source, _)| source == name) {
            out.push(format!("{}: {why}", field.child(shown)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    fn sound() -> Value {
        json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem", "hostPath": {"path": "/x", "type": ""}},
            "status": {"phase": "Pending"}})
    }

    #[test]
    fn defaults_and_phases() {
        let mut object = json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}});
        testing::defaults(&KIND, object.clone(), &sound());
        value::set(&mut object, "status", json!({"phase": "Bound", "message": "m"}));
        KIND.hooks.prepare_create(&mut object);
        KIND.hooks.stamp("", &mut object, None, &testing::occasion("1"));
        assert_eq!(object["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": "1"}));
        // Phase and time as sent, and the time that is kept.
        for (phase, sent, kept) in [("Pending", "", "1"), ("Bound", "", "2"), ("Bound", "1", "2"), ("Bound", "7", "7")]
        {
            let mut new = object.clone();
            value::set(&mut new, "status", json!({"phase": phase}));
            if !sent.is_empty() {
                value::set(&mut new, TRANSITION, sent);
            }
            KIND.hooks.stamp("status", &mut new, Some(&object), &testing::occasion("2"));
            assert_eq!(value::text(&new, TRANSITION), kept, "{phase} {sent}");
        }
    }

    #[test]
    fn validation() {
        testing::invalid(&KIND, &sound(), &[]);
        let term = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]}});
        for (path, to, sentences) in [
            ("spec.accessModes", json!([]), vec!["spec.accessModes: Required value"]),
            (
                "spec.capacity",
                json!({}),
                vec![
                    "spec.capacity: Required value",
                    "spec.capacity: Unsupported value: null: supported values: \"storage\"",
                ],
            ),
            (
                "spec.capacity",
                json!({"storage": "-1", "cpu": "1"}),
                vec![
                    "spec.capacity: Unsupported value: {\"cpu\":\"1\",\"storage\":\"-1\"}: supported values: \"storage\"",
                    "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                    "spec.capacity[storage]: Invalid value: \"-1\": must be greater than zero",
                ],
            ),
            (
                "spec.persistentVolumeReclaimPolicy",
                json!("Odd"),
                vec![
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Odd\": supported values: \"Delete\", \
                     \"Recycle\", \"Retain\"",
                ],
            ),
            (
                "spec.nodeAffinity",
                json!({}),
                vec!["spec.nodeAffinity.required: Required value: must specify required node constraints"],
            ),
            (
                "spec.nodeAffinity",
                term,
                vec![
                    "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be \
                     specified when `operator` is 'In' or 'NotIn'",
                ],
            ),
            ("spec.hostPath", Value::Null, vec!["spec: Required value: must specify a volume type"]),
            (
                "spec.cephfs",
                json!({"monitors": ["m"]}),
                vec!["spec.cephFS: Forbidden: may not specify more than 1 volume type"],
            ),
            ("spec.flexVolume", json!({}), vec!["spec.flexVolume.driver: Required value"]),
            (
                "spec.volumeAttributesClassName",
                json!(""),
                vec![
                    "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                    "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
                ],
            ),
            (
                "metadata.annotations",
                json!({MOUNT_OPTIONS: "ro"}),
                vec![
                    "metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options \
                     for this volume type",
                ],
            ),
        ] {
            let mut object = sound();
            value::set(&mut object, path, to);
            testing::invalid(&KIND, &object, &sentences);
        }
        let mut object = sound();
        value::set(&mut object, "spec.hostPath.path", "/./");
        value::set(&mut object, "spec.persistentVolumeReclaimPolicy", "Recycle");
        testing::invalid(
            &KIND,
            &object,
            &["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"],
        );
        value::remove(&mut object, "spec.hostPath");
        value::set(&mut object, "spec.local.path", "/x");
        testing::invalid(&KIND, &object, &["spec.nodeAffinity: Required value: Local volume requires node affinity"]);
    }

    #[test]
    fn what_stays() {
        let affinity = |key: &str| json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "Exists"}]}]}});
        let mut old = sound();
        value::remove(&mut old, "spec.hostPath");
        value::set(&mut old, "spec.csi", json!({"driver": "d", "volumeHandle": "h"}));
        value::set(&mut old, "spec.nodeAffinity", affinity("failure-domain.beta.kubernetes.io/zone"));
        value::set(&mut old, "spec.volumeAttributesClassName", "gold");
        let mut new = old.clone();
        value::set(&mut new, "spec.csi.controllerExpandSecretRef", json!({"name": "s", "namespace": "n"}));
        value::set(&mut new, "spec.nodeAffinity", affinity("topology.kubernetes.io/zone"));
        value::set(&mut new, "spec.capacity.storage", "2Gi");
        testing::invalid_update(&KIND, &new, &old, &[]);
        value::set(&mut new, "spec.csi.volumeHandle", "i");
        value::set(&mut new, "spec.volumeMode", "Block");
        value::set(&mut new, "spec.nodeAffinity", Value::Null);
        value::remove(&mut new, "spec.volumeAttributesClassName");
        testing::invalid_update(
            &KIND,
            &new,
            &old,
            &[
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n\
                 @@ -22,7 +22,7 @@\n  \"StorageOS\": null,\n  \"CSI\": {\n   \"Driver\": \"d\",\n-  \"VolumeHandle\": \"h\",\n+  \
                 \"VolumeHandle\": \"i\",\n   \"ReadOnly\": false,\n   \"FSType\": \"\",\n   \"VolumeAttributes\": null,\n",
                "volumeMode: Invalid value: \"Block\": field is immutable",
                "nodeAffinity: Invalid value: null: field is immutable, except for updating from beta label to GA",
                "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden",
            ],
        );
    }

    #[test]
    fn warnings_name_what_is_out_of_date() {
        let mut object = sound();
        value::set(&mut object, "metadata.annotations", json!({MOUNT_OPTIONS: "ro"}));
        value::set(&mut object, "spec.persistentVolumeReclaimPolicy", "Recycle");
        value::set(&mut object, "spec.rbd", json!({}));
        value::set(
            &mut object,
            "spec.nodeAffinity.required.nodeSelectorTerms",
            json!([{"matchExpressions": [{"key": "beta.kubernetes.io/os"}]}]),
        );
        assert_eq!(
            KIND.hooks.warnings(&object, None),
            [
                "metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use \"mountOptions\" \
                 attribute instead",
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
                 approach is to use dynamic provisioning.",
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated \
                 since v1.14; use \"kubernetes.io/os\" instead",
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ]
        );
        assert!(KIND.hooks.warnings_of_part("status", &object, &object).is_empty());
    }

    #[test]
    fn row() {
        let mut object = sound();
        testing::row(
            &KIND,
            &object,
            &json!(["v", "1Gi", "RWO", "Retain", "Pending", "", "", "<unset>", "", "<unknown>", "Filesystem"]),
        );
        value::set(&mut object, "spec.claimRef", json!({"namespace": "n", "name": "c"}));
        value::set(&mut object, "spec.storageClassName", "fast");
        value::set(&mut object, "metadata.deletionTimestamp", "2026-01-01T00:00:00Z");
        testing::row(
            &KIND,
            &object,
            &json!([
                "v",
                "1Gi",
                "RWO",
                "Retain",
                "Terminating",
                "n/c",
                "fast",
                "<unset>",
                "",
                "<unknown>",
                "Filesystem"
            ]),
        );
    }
}
