//! What is wrong with the volumes of a pod, and with how containers mount them.
//!
//! Never looks whether claims, secrets or config maps exist.

use super::labels::invalid;
use super::pod_validation::Context;
use super::rules::{given_one_of, required, required_one_of};
use super::volume_sources::{self, Home};
use super::{names, pod_containers, resources, volume_claims};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Text, Value};
use crate::value;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Fields of the pod that files may hold.
const FILE_FIELDS: &[&str] =
    &["metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"];

/// The names of the volumes that are fine, and what is wrong with the others.
#[must_use]
pub fn validate<'a>(spec: &'a Value, field: &Path, is_pod: bool) -> (Vec<&'a str>, Errors) {
    let mut errors = Errors::new();
    let mut fine: Vec<&str> = Vec::new();
    for (i, volume) in value::items(spec, "volumes").iter().enumerate() {
        let field = field.index(i);
        let mut own = Errors::new();
        sources(&mut own, volume, &field, is_pod);
        let name = value::text(volume, "name");
        match name {
            "" => own.push(FieldError::required(&field.child("name"), "")),
            name => invalid(&mut own, &field.child("name"), name, names::dns_label(name)),
        }
        if fine.contains(&name) {
            own.push(FieldError::duplicate(&field.child("name"), name));
        }
        if own.is_empty() {
            fine.push(name);
        }
        errors.extend(own);
    }
    (fine, errors)
}

/// Fields that a source must set, beyond those with rules of their own.
const REQUIRED: &[(&str, &[&str])] = &[
    ("gitRepo", &["repository"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("secret", &["secretName"]),
    ("configMap", &["name"]),
];

fn sources(errors: &mut Errors, volume: &Value, field: &Path, is_pod: bool) {
    let place = |name: &str| volume_sources::ORDER.iter().position(|other| *other == name);
    let mut given: Vec<(&Text, &Value)> = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, source)| *name != "name" && !source.is_null())
        .collect();
    given.sort_by_key(|(name, _)| place(name));
    if given.is_empty() {
        errors.push(FieldError::required(field, "must specify a volume type"));
    }
    for (i, (name, source)) in given.into_iter().enumerate() {
        if i > 0 {
            let field = field.child(volume_sources::shown_name_of_surplus(name));
            errors.push(FieldError::forbidden(&field, "may not specify more than 1 volume type"));
            continue;
        }
        self::source(errors, name, source, &field.child(volume_sources::shown_name(name)), is_pod);
        let (own, portal) = (value::text(volume, "name"), value::text(source, "targetPortal"));
        if name == "iscsi" && source.get("initiatorName").is_some() && own.len() + 1 + portal.len() > 64 {
            errors.push(FieldError::invalid(&field.child("name"), own, volume_sources::PORTAL_TOO_LONG));
        }
    }
}

fn source(errors: &mut Errors, name: &str, source: &Value, field: &Path, is_pod: bool) {
    for (_, fields) in REQUIRED.iter().filter(|(kind, _)| *kind == name) {
        for name in *fields {
            required(errors, source, name, field);
        }
    }
    match name {
        "emptyDir" if source.get("sizeLimit").and_then(resources::nanos).is_some_and(|size| size < 0) => {
            let detail = "SizeLimit field must be a valid resource quantity";
            errors.push(FieldError::forbidden(&field.child("sizeLimit"), detail));
        }
        "gitRepo" => descending_path(errors, value::text(source, "directory"), &field.child("directory")),
        "secret" | "configMap" => {
            mode(errors, source, "defaultMode", field);
            keys(errors, source, field);
        }
        "downwardAPI" => {
            mode(errors, source, "defaultMode", field);
            for item in value::items(source, "items") {
                downward_file(errors, item, field);
            }
        }
        "projected" => projected(errors, source, field),
        "ephemeral" => {
            let field = field.child("volumeClaimTemplate");
            match source.get("volumeClaimTemplate").filter(|template| !template.is_null()) {
                Some(template) => volume_claims::template(errors, template, &field),
                None => errors.push(FieldError::required(&field, "")),
            }
        }
        "image" => {
            if is_pod {
                required(errors, source, "reference", field);
            }
            required_one_of(errors, source, "pullPolicy", field, &["Always", "IfNotPresent", "Never"]);
        }
        _ => volume_sources::validate(errors, name, source, field, Home::Pod),
    }
}

fn mode(errors: &mut Errors, source: &Value, name: &str, field: &Path) {
    if let Some(mode) = value::int(source, name).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(FieldError::invalid(&field.child(name), mode, MODE));
    }
}

fn keys(errors: &mut Errors, source: &Value, field: &Path) {
    for (i, item) in value::items(source, "items").iter().enumerate() {
        let field = field.child("items").index(i);
        required(errors, item, "key", &field);
        let path = required(errors, item, "path", &field);
        local_path(errors, path, &field.child("path"));
        mode(errors, item, "mode", &field);
    }
}

fn downward_file(errors: &mut Errors, item: &Value, field: &Path) {
    let path = required(errors, item, "path", field);
    local_path(errors, path, &field.child("path"));
    let get = |name: &str| item.get(name).filter(|reference| reference.is_object());
    match (get("fieldRef"), get("resourceFieldRef")) {
        (Some(reference), resource) => {
            pod_containers::field_ref(errors, reference, FILE_FIELDS, &field.child("fieldRef"));
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(field, "resource", detail));
            }
        }
        (None, Some(reference)) => {
            pod_containers::resource_ref(errors, reference, true, &field.child("resourceFieldRef"));
        }
        (None, None) => errors.push(FieldError::required(field, "one of fieldRef and resourceFieldRef is required")),
    }
    mode(errors, item, "mode", field);
}

/// What may be projected, in upstream's order.
const PROJECTED: &[&str] =
    &["secret", "downwardAPI", "configMap", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];

fn projected(errors: &mut Errors, projection: &Value, field: &Path) {
    mode(errors, projection, "defaultMode", field);
    let mut paths: Vec<&str> = Vec::new();
    for (i, source) in value::items(projection, "sources").iter().enumerate() {
        let at = field.child("sources").index(i);
        let mut count = 0;
        let given = PROJECTED.iter().filter_map(|name| Some((*name, source.get(*name)?)));
        for (name, source) in given.filter(|(_, source)| source.is_object()) {
            count += 1;
            let at = at.child(name);
            match name {
                "secret" | "configMap" => {
                    required(errors, source, "name", &at);
                    keys(errors, source, &at);
                }
                "downwardAPI" => {
                    for item in value::items(source, "items") {
                        downward_file(errors, item, &at);
                    }
                }
                "serviceAccountToken" => token(errors, source, field, &at),
                "clusterTrustBundle" => {
                    let path = required(errors, source, "path", &at);
                    local_path(errors, path, &at.child("path"));
                }
                _ => {}
            }
            for item in value::items(source, "items") {
                let path = value::text(item, "path");
                if !path.is_empty() && paths.contains(&path) {
                    let shown = if name == "downwardAPI" { path } else { value::text(source, "name") };
                    errors.push(FieldError::invalid(field, shown, "conflicting duplicate paths"));
                }
                paths.push(path);
            }
        }
        if count > 1 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type per source"));
        }
    }
}

fn token(errors: &mut Errors, source: &Value, projection: &Path, field: &Path) {
    let seconds = value::int(source, "expirationSeconds").unwrap_or_default();
    let at = field.child("expirationSeconds");
    if seconds < 600 {
        let detail = "may not specify a duration less than 10 minutes";
        errors.push(FieldError::invalid(&at, seconds, detail));
    }
    if seconds > 1 << 32 {
        errors.push(FieldError::invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    match value::text(source, "path") {
        "" => errors.push(FieldError::required(&projection.child("path"), "")),
        path => local_path(errors, path, &projection.child("path")),
    }
}

/// A path that nowhere goes up.
pub fn no_backsteps(errors: &mut Errors, path: &str, field: &Path) {
    if path.split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(field, path, "must not contain '..'"));
    }
}

/// A path that stays below where it starts.
pub fn descending_path(errors: &mut Errors, path: &str, field: &Path) {
    if path.starts_with('/') {
        errors.push(FieldError::invalid(field, path, "must be a relative path"));
    }
    no_backsteps(errors, path, field);
}

/// A descending path that does not start like the names the kubelet uses for itself.
fn local_path(errors: &mut Errors, path: &str, field: &Path) {
    descending_path(errors, path, field);
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        errors.push(FieldError::invalid(field, path, "must not start with '..'"));
    }
}

/// The mounts and devices of a container at `field`.
pub fn mounts(errors: &mut Errors, context: &Context<'_>, container: &Value, field: &Path) {
    let at = field.child("volumeMounts");
    let mounts = value::items(container, "volumeMounts");
    let devices = value::items(container, "volumeDevices");
    let privileged = value::flag(container, "securityContext.privileged");
    for (i, mount) in mounts.iter().enumerate() {
        let field = at.index(i);
        let name = required(errors, mount, "name", &field);
        if !context.volumes.contains(&name) {
            errors.push(FieldError::not_found(&field.child("name"), name));
        }
        let path = required(errors, mount, "mountPath", &field);
        if mounts.iter().take(i).any(|other| value::text(other, "mountPath") == path) {
            errors.push(FieldError::invalid(&field.child("mountPath"), path, "must be unique"));
        }
        if devices.iter().any(|device| value::text(device, "name") == name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&field.child("name"), name, detail));
        }
        if devices.iter().any(|device| value::text(device, "devicePath") == path) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&field.child("mountPath"), path, detail));
        }
        let (sub, expression) = (value::text(mount, "subPath"), value::text(mount, "subPathExpr"));
        if !sub.is_empty() {
            descending_path(errors, sub, &at.child("subPath"));
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(FieldError::invalid(&field.child("subPathExpr"), expression, detail));
            }
            descending_path(errors, expression, &at.child("subPathExpr"));
        }
        propagation(errors, mount, privileged, &at);
    }
    let at = field.child("volumeDevices");
    for (i, device) in devices.iter().enumerate() {
        let field = at.index(i);
        let name = required(errors, device, "name", &field);
        let path = value::text(device, "devicePath");
        let is_double = |of: &str, text: &str| devices.iter().take(i).any(|other| value::text(other, of) == text);
        if !name.is_empty() && is_double("name", name) {
            errors.push(FieldError::invalid(&field.child("name"), name, "must be unique"));
        }
        let volume = value::items(context.spec, "volumes").iter().find(|v| value::text(v, "name") == name);
        let volume = volume.filter(|_| context.volumes.contains(&name));
        match volume {
            None => errors.push(FieldError::not_found(&field.child("name"), name)),
            Some(v) if v.get("persistentVolumeClaim").is_none() && v.get("ephemeral").is_none() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&field.child("name"), name, detail));
            }
            Some(_) => {}
        }
        required(errors, device, "devicePath", &field);
        if is_double("devicePath", path) {
            errors.push(FieldError::invalid(&field.child("devicePath"), path, "must be unique"));
        }
        if path.split('/').any(|step| step == "..") {
            let detail = "can not contain backsteps ('..')";
            errors.push(FieldError::invalid(&field.child("devicePath"), path, detail));
        }
        if mounts.iter().any(|mount| value::text(mount, "name") == name) {
            errors.push(FieldError::invalid(&field.child("name"), name, "must not already exist in volumeMounts"));
        }
        if mounts.iter().any(|mount| value::text(mount, "mountPath") == path) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&field.child("devicePath"), path, detail));
        }
    }
}

fn propagation(errors: &mut Errors, mount: &Value, privileged: bool, field: &Path) {
    let mode = value::text(mount, "mountPropagation");
    given_one_of(errors, mount, "mountPropagation", field, &["Bidirectional", "HostToContainer", "None"]);
    if mode == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(&field.child("mountPropagation"), detail));
    }
    let at = field.child("recursiveReadOnly");
    match mount.get("recursiveReadOnly").and_then(Value::as_str).unwrap_or("Disabled") {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !value::flag(mount, "readOnly") {
                errors.push(FieldError::forbidden(&at, "may only be specified when readOnly is true"));
            }
            if !matches!(mode, "" | "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(&at, detail));
            }
        }
        other => errors.push(FieldError::not_supported(&at, other, &["Disabled", "Enabled", "IfPossible"])),
    }
}

#[cfg(test)]
mod tests {
    use crate::json::{Value, json};
    use crate::kinds::shared::testing::shown;
    use crate::kinds::shared::{pod_defaults, pod_validation};

    fn check(volumes: Value, mounts: Value, sentences: &[&str]) {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "s",
            "containers": [{"name": "a", "image": "i"}]}});
        pod["spec"]["volumes"] = volumes;
        pod["spec"]["containers"][0]["volumeMounts"] = mounts;
        pod_defaults::pod(&mut pod);
        assert_eq!(shown(&pod_validation::pod(&pod)), sentences, "{pod}");
    }

    #[test]
    fn volumes() {
        check(json!([{"name": "a"}, {"name": "b", "hostPath": {"path": "/x"}}]), json!([]), &[]);
        check(
            json!([{"name": "a"}, {"name": "a"}, {"name": "b", "secret": {"defaultMode": 512}},
                {"name": "c", "configMap": {"name": "x", "items": [{"key": "k", "path": "../y"}]}},
                {"name": "d", "hostPath": {"path": "/.."}}]),
            json!([]),
            &[
                "spec.volumes[1].name: Duplicate value: \"a\"",
                "spec.volumes[2].secret.secretName: Required value",
                "spec.volumes[2].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "spec.volumes[3].configMap.items[0].path: Invalid value: \"../y\": must not contain '..'",
                "spec.volumes[4].hostPath.path: Invalid value: \"/..\": must not contain '..'",
            ],
        );
        check(
            json!([{"name": "a", "gitRepo": {"repository": "r", "directory": "/x"}},
                {"name": "b".repeat(60), "iscsi": {"targetPortal": "p:12", "iqn": "eui.0123456789abcdef", "initiatorName": "x"}},
                {"name": "c", "gcePersistentDisk": {"pdName": "d", "partition": -1}},
                {"name": "d", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}},
                {"name": "e", "nfs": {"server": "s", "path": "/"}, "cephfs": {"monitors": ["m"]}}]),
            json!([]),
            &[
                "spec.volumes[0].gitRepo.directory: Invalid value: \"/x\": must be a relative path",
                "spec.volumes[1].iscsi.initiatorname: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa",
                "spec.volumes[1].name: Invalid value: \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\": Total length \
                 of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
                "spec.volumes[2].persistentDisk.partition: Invalid value: -1: must be between 1 and 255, inclusive",
                "spec.volumes[3].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
                "spec.volumes[4].cephFS: Forbidden: may not specify more than 1 volume type",
            ],
        );
        check(
            json!([{"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}]}}]),
            json!([]),
            &[
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a \
               duration less than 10 minutes",
            ],
        );
    }

    #[test]
    fn mounts() {
        check(
            json!([{"name": "a"}]),
            json!([{"name": "a", "mountPath": "/x"}, {"name": "b", "mountPath": "/x", "subPath": "/y"},
                {"name": "a", "mountPath": "/z", "mountPropagation": "Bidirectional"}]),
            &[
                "spec.containers[0].volumeMounts[1].name: Not found: \"b\"",
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"/y\": must be a relative path",
                "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only \
                 to privileged containers",
            ],
        );
    }
}
