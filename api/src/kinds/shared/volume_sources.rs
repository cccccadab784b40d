//! What is wrong with where a volume comes from, in a pod or in a persistent volume.
//!
//! Never looks whether disks, shares or secrets exist. Sources that only pods have are in `pod_volumes`.

use super::labels::invalid;
use super::rules::required;
use super::{names, pod_volumes};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value};
use crate::value;
use std::ops::RangeInclusive;

/// Where a source stands: some rules are stricter for persistent volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home<'a> {
    /// In a pod.
    Pod,
    /// In the persistent volume of this name.
    Volume(&'a str),
}

impl Home<'_> {
    fn is_volume(self) -> bool {
        self != Home::Pod
    }
}

/// Fields that a source must set, beyond those with rules of their own.
const REQUIRED: &[(&str, &[&str])] = &[
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("nfs", &["server", "path"]),
    ("glusterfs", &["endpoints", "path"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];

/// The name under which errors below a source are reported.
#[must_use]
pub fn shown_name(name: &str) -> &str {
    if name == "gcePersistentDisk" { "persistentDisk" } else { name }
}

/// The sources of a pod's volumes in the order in which upstream looks for them: the first is the volume's.
pub const ORDER: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// The name under which a source is refused that is one too many.
#[must_use]
pub fn shown_name_of_surplus(name: &str) -> &str {
    match name {
        "cephfs" => "cephFS",
        // Upstream's spelling.
        "downwardAPI" => "downwarAPI",
        other => other,
    }
}

/// The source of this name, whose field is `field`.
pub fn validate(errors: &mut Errors, name: &str, source: &Value, field: &Path, home: Home<'_>) {
    for (_, fields) in REQUIRED.iter().filter(|(kind, _)| *kind == name) {
        for name in *fields {
            required(errors, source, name, field);
        }
    }
    match name {
        "hostPath" => host_path(errors, source, field),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            // The sentence begins with 1 although 0, for the whole disk, is allowed.
            within(errors, source, "partition", field, 0..=255, &names::range(1, 255));
        }
        "nfs" => {
            let path = value::text(source, "path");
            if !path.starts_with('/') {
                errors.push(FieldError::invalid(&field.child("path"), path, "must be an absolute path"));
            }
        }
        "glusterfs" if home.is_volume() => endpoints_namespace(errors, source, field),
        "flocker" => flocker(errors, source, field),
        "rbd" => {
            monitors(errors, source, field);
            required(errors, source, "image", field);
        }
        "cephfs" => monitors(errors, source, field),
        "quobyte" => quobyte(errors, source, field),
        "iscsi" => iscsi(errors, source, field, home),
        "cinder" => secret_name(errors, source, field, home),
        "fc" => fibre_channel(errors, source, field),
        "flexVolume" => flex_options(errors, source, field),
        "azureFile" => {
            let namespace = source.get("secretNamespace").and_then(Value::as_str).filter(|_| home.is_volume());
            if namespace == Some("") {
                errors.push(FieldError::required(&field.child("secretNamespace"), ""));
            }
        }
        "azureDisk" => azure_disk(errors, source, field),
        "local" => {
            let path = required(errors, source, "path", field);
            pod_volumes::no_backsteps(errors, path, &field.child("path"));
        }
        "storageos" => {
            let volume = required(errors, source, "volumeName", field);
            for (name, text) in [("volumeName", volume), ("volumeNamespace", value::text(source, "volumeNamespace"))] {
                if !text.is_empty() {
                    invalid(errors, &field.child(name), text, names::dns_label(text));
                }
            }
            secret_name(errors, source, field, home);
        }
        "csi" => csi(errors, source, field, home),
        _ => {}
    }
}

fn within(errors: &mut Errors, source: &Value, name: &str, field: &Path, range: RangeInclusive<i64>, detail: &str) {
    if let Some(number) = value::int(source, name).filter(|number| !range.contains(number)) {
        errors.push(FieldError::invalid(&field.child(name), number, detail));
    }
}

fn lun(errors: &mut Errors, source: &Value, field: &Path) {
    within(errors, source, "lun", field, 0..=255, &names::range(0, 255));
}

fn host_path(errors: &mut Errors, source: &Value, field: &Path) {
    const TYPES: &[&str] =
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let path = required(errors, source, "path", field);
    if !path.is_empty() {
        pod_volumes::no_backsteps(errors, path, &field.child("path"));
        super::rules::one_of(errors, source, "type", field, TYPES);
    }
}

fn endpoints_namespace(errors: &mut Errors, source: &Value, field: &Path) {
    let at = field.child("endpointsNamespace");
    match source.get("endpointsNamespace").and_then(Value::as_str) {
        None => {}
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.push(FieldError::invalid(&at, "", detail));
        }
        Some(namespace) => invalid(errors, &at, namespace, names::dns_label(namespace)),
    }
}

fn flocker(errors: &mut Errors, source: &Value, field: &Path) {
    let (name, uuid) = (value::text(source, "datasetName"), value::text(source, "datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => errors.push(FieldError::required(field, "one of datasetName and datasetUUID is required")),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(FieldError::invalid(field, "resource", detail));
        }
        _ => {}
    }
    if name.contains('/') {
        errors.push(FieldError::invalid(&field.child("datasetName"), name, "must not contain '/'"));
    }
}

fn monitors(errors: &mut Errors, source: &Value, field: &Path) {
    if value::items(source, "monitors").is_empty() {
        errors.push(FieldError::required(&field.child("monitors"), ""));
    }
}

fn quobyte(errors: &mut Errors, source: &Value, field: &Path) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, at) = (value::text(source, "registry"), field.child("registry"));
    if registry.is_empty() {
        errors.push(FieldError::required(&at, PAIRS));
    } else if value::text(source, "tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(&field.child("tenant"), detail));
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_port(pair)) {
            errors.push(FieldError::invalid(&at, registry, PAIRS));
        }
    }
    required(errors, source, "volume", field);
}

/// `host:port` or `[host]:port`; either may be empty, as Go's `net.SplitHostPort` has it.
fn is_host_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once("]:") {
            Some(parts) => parts,
            None => return false,
        },
        None => match text.split_once(':') {
            Some(parts) => parts,
            None => return false,
        },
    };
    !host.contains(['[', ']']) && !port.contains([':', '[', ']'])
}

fn iscsi(errors: &mut Errors, source: &Value, field: &Path, home: Home<'_>) {
    let portal = required(errors, source, "targetPortal", field);
    let initiator = source.get("initiatorName").and_then(Value::as_str);
    if let (Home::Volume(name), Some(_)) = (home, initiator)
        && name.len() + 1 + portal.len() > 64
    {
        errors.push(FieldError::invalid(&field.child("targetportal"), portal, PORTAL_TOO_LONG));
    }
    let iqn = required(errors, source, "iqn", field);
    if !iqn.is_empty() {
        iscsi_name(errors, iqn, &field.child("iqn"), home);
    }
    lun(errors, source, field);
    let secret = source.get("secretRef").filter(|secret| !secret.is_null());
    let authenticates = value::flag(source, "chapAuthDiscovery") || value::flag(source, "chapAuthSession");
    if authenticates && secret.is_none() {
        errors.push(FieldError::required(&field.child("secretRef"), ""));
    }
    if let (true, Some(secret)) = (home.is_volume(), secret) {
        required(errors, secret, "name", &field.child("secretRef"));
    }
    if let Some(initiator) = initiator {
        iscsi_name(errors, initiator, &field.child("initiatorname"), home);
    }
}

/// The sentence for an initiator whose volume and portal have long names.
pub const PORTAL_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                                   iscsi.initiatorName is specified.";

/// An iSCSI name in one of its three formats: `iqn.2001-04.com.example:disk`, `eui.` and 16 letters, `naa.` and 32.
fn iscsi_name(errors: &mut Errors, text: &str, field: &Path, home: Home<'_>) {
    let letters = |text: &str, count: usize| {
        let mut rest = text.chars().skip(3);
        rest.next().is_some() && rest.clone().count() == count && rest.all(|c| c.is_ascii_alphanumeric())
    };
    let fine = match text.get(..3) {
        Some("iqn") => is_qualified(text),
        Some("eui") => letters(text, 16),
        Some("naa") => letters(text, 32),
        _ if home == Home::Pod => {
            errors.push(FieldError::invalid(field, text, "must be valid format starting with iqn, eui, or naa"));
            return;
        }
        _ => false,
    };
    if !fine {
        errors.push(FieldError::invalid(field, text, "must be valid format"));
    }
}

fn is_qualified(text: &str) -> bool {
    let Some((authority, name)) = text.strip_prefix("iqn.").and_then(|rest| rest.split_once(':')) else { return false };
    let Some((date, authority)) = authority.split_once('.') else { return false };
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2))
        && !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !name.is_empty()
        && !name.chars().any(|c| c.is_ascii_whitespace() || ",;*&$|".contains(c))
}

fn fibre_channel(errors: &mut Errors, source: &Value, field: &Path) {
    let (targets, ids) = (value::items(source, "targetWWNs"), value::items(source, "wwids"));
    let at = field.child("targetWWNs");
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => {
            errors.push(FieldError::required(&at, "must specify either targetWWNs or wwids, but not both"));
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(FieldError::invalid(&at, targets.to_vec(), detail));
        }
        _ => {}
    }
    if !targets.is_empty() {
        if value::int(source, "lun").is_none() {
            let detail = "lun is required if targetWWNs is specified";
            errors.push(FieldError::required(&field.child("lun"), detail));
        }
        lun(errors, source, field);
    }
}

fn flex_options(errors: &mut Errors, source: &Value, field: &Path) {
    for key in source.get("options").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let at = field.child("options").key(key);
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&at, key.as_str(), detail));
        }
    }
}

fn azure_disk(errors: &mut Errors, source: &Value, field: &Path) {
    for (name, supported) in
        [("cachingMode", ["None", "ReadOnly", "ReadWrite"]), ("kind", ["Dedicated", "Managed", "Shared"])]
    {
        if let Some(text) = source.get(name).and_then(Value::as_str)
            && !supported.contains(&text)
        {
            errors.push(FieldError::not_supported(&field.child(name), text, &supported));
        }
    }
    let uri = value::text(source, "diskURI");
    let (start, form) = match source.get("kind").and_then(Value::as_str) {
        None => return,
        Some("Managed") => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        Some(_) => ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"),
    };
    if !uri.starts_with(start) {
        errors.push(FieldError::not_supported(&field.child("diskURI"), uri, &[form]));
    }
}

/// A secret that is named must have a name; that of a persistent volume also a namespace.
fn secret_name(errors: &mut Errors, source: &Value, field: &Path, home: Home<'_>) {
    if let Some(secret) = source.get("secretRef").filter(|secret| !secret.is_null()) {
        let at = field.child("secretRef");
        required(errors, secret, "name", &at);
        if home.is_volume() {
            required(errors, secret, "namespace", &at);
        }
    }
}

/// The name of a CSI driver.
pub fn csi_driver_name(errors: &mut Errors, name: &str, field: &Path) {
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(field, 63));
    }
    invalid(errors, field, name, names::dns_subdomain(&name.to_lowercase()));
}

fn csi(errors: &mut Errors, source: &Value, field: &Path, home: Home<'_>) {
    csi_driver_name(errors, value::text(source, "driver"), &field.child("driver"));
    let secret = |name: &str| source.get(name).filter(|secret| !secret.is_null());
    if home == Home::Pod {
        if let Some(secret) = secret("nodePublishSecretRef") {
            let name = required(errors, secret, "name", &field.child("nodePublishSecretRef"));
            if !name.is_empty() {
                invalid(errors, &field.child("name"), name, names::dns_subdomain(name));
            }
        }
        return;
    }
    required(errors, source, "volumeHandle", field);
    for name in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let Some(secret) = secret(name) else { continue };
        let at = field.child(name);
        for part in ["name", "namespace"] {
            let text = required(errors, secret, part, &at);
            if !text.is_empty() {
                let messages = if part == "name" { names::dns_subdomain(text) } else { names::dns_label(text) };
                invalid(errors, &at.child(part), text, messages);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    fn check(home: Home<'_>, name: &str, source: &Value, sentences: &[&str]) {
        let mut errors = Errors::new();
        validate(&mut errors, name, source, &Path::new(shown_name(name)), home);
        assert_eq!(shown(&errors), sentences, "{home:?} {name} {source}");
    }

    #[test]
    fn fine_sources() {
        for (name, source) in [
            ("hostPath", json!({"path": "/x", "type": ""})),
            ("gcePersistentDisk", json!({"pdName": "d", "partition": 0})),
            ("nfs", json!({"server": "s", "path": "/"})),
            ("glusterfs", json!({"endpoints": "e", "path": "p", "endpointsNamespace": "n"})),
            ("flocker", json!({"datasetName": "d"})),
            ("quobyte", json!({"registry": "a:1,[::1]:2", "volume": "v"})),
            ("iscsi", json!({"targetPortal": "p", "iqn": "iqn.2001-04.com.example:storage.disk1", "lun": 0})),
            ("iscsi", json!({"targetPortal": "p", "iqn": "eui.0123456789abcdef"})),
            ("fc", json!({"wwids": ["w"]})),
            (
                "azureDisk",
                json!({"diskName": "d", "diskURI": "https://a.blob", "kind": "Shared", "cachingMode": "None"}),
            ),
            ("storageos", json!({"volumeName": "v"})),
            ("csi", json!({"driver": "Example.com", "volumeHandle": "h"})),
        ] {
            check(Home::Volume("v"), name, &source, &[]);
            check(Home::Pod, name, &source, &[]);
        }
    }

    #[test]
    fn broken_sources() {
        let volume = Home::Volume("v");
        for (home, name, source, sentences) in [
            (volume, "hostPath", json!({"type": "Odd"}), vec!["hostPath.path: Required value"]),
            (
                volume,
                "gcePersistentDisk",
                json!({"partition": 256}),
                vec![
                    "persistentDisk.pdName: Required value",
                    "persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
                ],
            ),
            (
                volume,
                "nfs",
                json!({"server": "s", "path": "x"}),
                vec!["nfs.path: Invalid value: \"x\": must be an absolute path"],
            ),
            (
                volume,
                "flocker",
                json!({"datasetName": "a/b", "datasetUUID": "u"}),
                vec![
                    "flocker: Invalid value: \"resource\": datasetName and datasetUUID can not be specified simultaneously",
                    "flocker.datasetName: Invalid value: \"a/b\": must not contain '/'",
                ],
            ),
            (volume, "rbd", json!({}), vec!["rbd.monitors: Required value", "rbd.image: Required value"]),
            (
                volume,
                "quobyte",
                json!({"registry": "a:1:2", "volume": "v"}),
                vec![
                    "quobyte.registry: Invalid value: \"a:1:2\": must be a host:port pair or multiple pairs separated by commas",
                ],
            ),
            (
                volume,
                "iscsi",
                json!({"targetPortal": "p".repeat(63), "iqn": "iqn.x", "lun": 256, "chapAuthSession": true, "initiatorName": "x"}),
                vec![
                    "iscsi.targetportal: Invalid value: \"ppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp\": Total \
                     length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
                    "iscsi.iqn: Invalid value: \"iqn.x\": must be valid format",
                    "iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                    "iscsi.secretRef: Required value",
                    "iscsi.initiatorname: Invalid value: \"x\": must be valid format",
                ],
            ),
            (
                Home::Pod,
                "iscsi",
                json!({"targetPortal": "p", "iqn": "x", "secretRef": {}}),
                vec!["iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa"],
            ),
            (
                volume,
                "fc",
                json!({"targetWWNs": ["t"], "wwids": ["w"]}),
                vec![
                    "fc.targetWWNs: Invalid value: [\"t\"]: targetWWNs and wwids can not be specified simultaneously",
                    "fc.lun: Required value: lun is required if targetWWNs is specified",
                ],
            ),
            (
                volume,
                "flexVolume",
                json!({"driver": "d", "options": {"a.k8s.io/x": ""}}),
                vec![
                    "flexVolume.options[a.k8s.io/x]: Invalid value: \"a.k8s.io/x\": kubernetes.io and k8s.io namespaces are reserved",
                ],
            ),
            (
                volume,
                "azureDisk",
                json!({"diskName": "d", "diskURI": "x", "kind": "Managed", "cachingMode": "Odd"}),
                vec![
                    "azureDisk.cachingMode: Unsupported value: \"Odd\": supported values: \"None\", \"ReadOnly\", \"ReadWrite\"",
                    "azureDisk.diskURI: Unsupported value: \"x\": supported values: \
                     \"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}\"",
                ],
            ),
            (
                volume,
                "local",
                json!({"path": "/a/.."}),
                vec!["local.path: Invalid value: \"/a/..\": must not contain '..'"],
            ),
            (
                volume,
                "csi",
                json!({"driver": "d", "nodePublishSecretRef": {"name": "s"}}),
                vec!["csi.volumeHandle: Required value", "csi.nodePublishSecretRef.namespace: Required value"],
            ),
            (
                volume,
                "cinder",
                json!({"volumeID": "v", "secretRef": {"name": "s"}}),
                vec!["cinder.secretRef.namespace: Required value"],
            ),
            (Home::Pod, "cinder", json!({"volumeID": "v", "secretRef": {"name": "s"}}), vec![]),
        ] {
            check(home, name, &source, &sentences);
        }
    }
}
