//! What pods refer to by name: secrets and ConfigMaps of environments, volumes and image pulls.
//!
//! Never follows a reference: what a claim or a volume refers to is not asked.

use crate::json::Value;
use crate::value;

/// All containers of a pod's spec.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"]
        .iter()
        .flat_map(|list| value::items(pod, list))
}

/// Names that environments of containers refer to, by the field of a variable and that of a whole source.
fn in_environments<'a>(pod: &'a Value, one: &'static str, all: &'static str) -> impl Iterator<Item = &'a str> {
    containers(pod).flat_map(move |container| {
        let variables = value::items(container, "env").iter().map(move |variable| value::text(variable, one));
        variables.chain(value::items(container, "envFrom").iter().map(move |source| value::text(source, all)))
    })
}

/// Names that volumes refer to, directly or in the sources of projections.
fn in_volumes<'a>(
    pod: &'a Value,
    paths: &'static [&'static str],
    projected: &'static str,
) -> impl Iterator<Item = &'a str> {
    value::items(pod, "spec.volumes").iter().flat_map(move |volume| {
        let direct = paths.iter().map(move |path| value::text(volume, path));
        direct.chain(value::items(volume, "projected.sources").iter().map(move |source| value::text(source, projected)))
    })
}

/// Names of the secrets that a pod's node needs for it; some may be empty.
pub fn secrets(pod: &Value) -> impl Iterator<Item = &str> {
    const IN_VOLUMES: &[&str] = &[
        "secret.secretName",
        "azureFile.secretName",
        "cephfs.secretRef.name",
        "cinder.secretRef.name",
        "flexVolume.secretRef.name",
        "rbd.secretRef.name",
        "scaleIO.secretRef.name",
        "iscsi.secretRef.name",
        "storageos.secretRef.name",
        "csi.nodePublishSecretRef.name",
    ];
    let pulls = value::items(pod, "spec.imagePullSecrets").iter().map(|secret| value::text(secret, "name"));
    pulls.chain(in_environments(pod, "valueFrom.secretKeyRef.name", "secretRef.name")).chain(in_volumes(
        pod,
        IN_VOLUMES,
        "secret.name",
    ))
}

/// Names of its ConfigMaps; some may be empty.
pub fn config_maps(pod: &Value) -> impl Iterator<Item = &str> {
    in_environments(pod, "valueFrom.configMapKeyRef.name", "configMapRef.name").chain(in_volumes(
        pod,
        &["configMap.name"],
        "configMap.name",
    ))
}
