//! Static pods: those that the node runs from manifests in a directory, with or without an API server. What the API server shows of
//! one is its mirror, a pod that no kubelet runs. Reading and comparing are pure; never starts a container.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::codec::{Strictness, yaml};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::model;

/// Annotation: where a pod comes from; `file` for a static one.
const SOURCE: &str = "kubernetes.io/config.source";
/// Annotation: digest of a static pod's manifest.
const HASH: &str = "kubernetes.io/config.hash";
/// Annotation: when its manifest was first seen.
const SEEN: &str = "kubernetes.io/config.seen";
/// Annotation of a mirror: digest of the manifest that it shows.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Bytes of a digest that serve as a uid.
const BYTES: usize = 16;

fn annotation<'a>(pod: &'a core::Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether a pod comes from a manifest of this node.
pub fn is_static(pod: &core::Pod) -> bool {
    annotation(pod, SOURCE) == Some("file") && !is_mirror(pod)
}

/// Whether a pod only shows a static one.
pub fn is_mirror(pod: &core::Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// Whether a mirror shows this static pod as it is.
pub fn shows(mirror: &core::Pod, pod: &core::Pod) -> bool {
    mirror.metadata.deletion_timestamp.is_none() && annotation(mirror, MIRROR) == annotation(pod, HASH)
}

/// Namespace and name.
pub fn key(pod: &core::Pod) -> (String, String) {
    (model::namespace(pod).to_owned(), model::name(pod).to_owned())
}

/// The pod of one manifest. Its name ends in the node's, and its uid changes with the manifest.
///
/// # Errors
/// One sentence: not YAML or JSON, not a Pod, or without a name.
pub fn read(text: &[u8], file: &str, node: &str, seen: Timestamp) -> Result<core::Pod, String> {
    let kind = api::kinds::by_gvk("", "v1", "Pod").ok_or("there are no pods")?;
    let mut value = yaml::decode(text, kind.schema(), Strictness::Ignore).map_err(|error| error.to_string())?.value;
    if value.get("kind").and_then(api::json::Value::as_str) != Some("Pod") {
        return Err("it is not a Pod".to_owned());
    }
    api::schema::defaults::apply(&mut value, kind.schema());
    kind.hooks.default(&mut value);
    kind.hooks.prepare_create(&mut value);
    let mut pod: core::Pod = api::json::from_value(value).map_err(|error| error.to_string())?;
    let name = pod.metadata.name.take().filter(|name| !name.is_empty()).ok_or("it has no name")?;
    let mut digest = Sha256::new();
    for part in [node.as_bytes(), file.as_bytes(), text] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    let uid: String = digest.finalize().iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect();
    let metadata = &mut pod.metadata;
    metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    metadata.namespace = Some(metadata.namespace.take().unwrap_or_else(|| "default".to_owned()));
    metadata.uid = Some(uid.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(HASH.to_owned(), uid);
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(SEEN.to_owned(), seen.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    // Nobody can take it off its node.
    let all = core::Toleration {
        effect: Some("NoExecute".to_owned()),
        operator: Some("Exists".to_owned()),
        ..core::Toleration::default()
    };
    spec.tolerations.get_or_insert_default().push(all);
    Ok(pod)
}

/// The pods of all manifests in a directory, by uid; those that were there before keep the time they were seen.
pub fn read_all(
    directory: &Path,
    node: &str,
    known: &BTreeMap<String, Arc<core::Pod>>,
) -> BTreeMap<String, Arc<core::Pod>> {
    let mut files: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    let mut pods = BTreeMap::new();
    for file in files {
        let hidden = file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden || !file.is_file() {
            continue;
        }
        let shown = file.display().to_string();
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(%error, file = shown, "manifest not read");
                continue;
            }
        };
        match read(&text, &shown, node, Timestamp::now()) {
            Ok(pod) => {
                let uid = model::uid(&pod).to_owned();
                let pod = known.get(&uid).cloned().unwrap_or_else(|| Arc::new(pod));
                pods.insert(uid, pod);
            }
            Err(error) => tracing::warn!(error, file = shown, "manifest left out"),
        }
    }
    pods
}

/// The mirror of a static pod, owned by its node.
pub fn mirror(pod: &core::Pod, node: &core::Node) -> core::Pod {
    let mut mirror = pod.clone();
    mirror.metadata.uid = None;
    mirror.status = None;
    let hash = annotation(pod, HASH).unwrap_or_default().to_owned();
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: c, image: i}\n";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_manifest_is_a_pod_of_this_node() {
        let pod = read(MANIFEST.as_bytes(), "/m/web.yaml", "Node-1", at(0)).unwrap();
        assert_eq!(key(&pod), ("default".to_owned(), "web-node-1".to_owned()));
        assert!(is_static(&pod) && !is_mirror(&pod));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!((spec.node_name.as_deref(), spec.restart_policy.as_deref()), (Some("Node-1"), Some("Always")));
        assert_eq!(spec.tolerations.as_ref().unwrap().last().unwrap().operator.as_deref(), Some("Exists"));
        assert_eq!(pod.status.as_ref().unwrap().qos_class.as_deref(), Some("BestEffort"));
        let uid = |text: &str, file: &str, node: &str| {
            model::uid(&read(text.as_bytes(), file, node, at(9)).unwrap()).to_owned()
        };
        assert_eq!(uid(MANIFEST, "/m/web.yaml", "Node-1"), model::uid(&pod), "whenever it is read");
        let changed = MANIFEST.replace("image: i", "image: j");
        let others = [
            uid(&changed, "/m/web.yaml", "Node-1"),
            uid(MANIFEST, "/m/a.yaml", "Node-1"),
            uid(MANIFEST, "/m/web.yaml", "b"),
        ];
        assert!(others.iter().all(|other| other != model::uid(&pod)), "{others:?}");
        for (text, why) in [
            ("a: [", ""),
            ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}", "it is not a Pod"),
            ("apiVersion: v1\nkind: Pod\nspec: {containers: []}", "it has no name"),
        ] {
            let error = read(text.as_bytes(), "f", "n", at(0)).unwrap_err();
            assert!(why.is_empty() || error == why, "{text}: {error}");
        }
    }

    #[test]
    fn a_mirror_shows_one_state_of_a_manifest() {
        let pod = read(MANIFEST.as_bytes(), "f", "n", at(0)).unwrap();
        let node: core::Node =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "n", "uid": "u"}})).unwrap();
        let mut mirror = mirror(&pod, &node);
        assert!(is_mirror(&mirror) && !is_static(&mirror) && shows(&mirror, &pod));
        assert!(
            mirror.metadata.uid.is_none()
                && mirror.metadata.owner_references.as_ref().unwrap()[0].controller == Some(true)
        );
        let changed = read(MANIFEST.replace("image: i", "image: j").as_bytes(), "f", "n", at(0)).unwrap();
        assert!(!shows(&mirror, &changed));
        mirror.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
        assert!(!shows(&mirror, &pod));
    }

    #[test]
    fn a_directory_is_read_whole_and_what_is_no_pod_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("a.yaml", MANIFEST);
        write(
            "b.json",
            r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b", "namespace": "x"}, "spec": {"containers": []}}"#,
        );
        write(".hidden.yaml", MANIFEST);
        write("c.yaml", "no pod");
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let first = read_all(dir.path(), "n", &BTreeMap::new());
        let names: std::collections::BTreeSet<_> = first.values().map(|pod| key(pod)).collect();
        let want = [("default", "web-n"), ("x", "b-n")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(names, want.into());
        let again = read_all(dir.path(), "n", &first);
        assert!(again.iter().all(|(uid, pod)| Arc::ptr_eq(pod, &first[uid])), "unchanged");
        assert!(read_all(&dir.path().join("none"), "n", &first).is_empty());
    }
}
