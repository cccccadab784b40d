//! What scenarios send: objects of known sizes. Never reads one back.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Value, json};

/// A ConfigMap of about 1 KiB as JSON, with a label that 100 of 10,000 share.
pub(crate) fn config_map(name: &str, number: u64) -> Bytes {
    config_map_with(name, number, 700)
}

/// The same with so many letters of text.
pub(crate) fn config_map_with(name: &str, number: u64, letters: usize) -> Bytes {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels(number)},
        "data": {"number": number.to_string(), "text": text(letters)},
    });
    bytes(&object)
}

/// The same ConfigMap in protobuf.
pub(crate) fn config_map_protobuf(name: &str, namespace: &str, number: u64) -> Bytes {
    let mut meta = vec![];
    field(&mut meta, 1, name.as_bytes());
    field(&mut meta, 3, namespace.as_bytes());
    for (key, value) in [("bench", "yes".to_owned()), ("group", group(number))] {
        field(&mut meta, 11, &pair(key, &value));
    }
    let mut object = vec![];
    field(&mut object, 1, &meta);
    for (key, value) in [("number", &*number.to_string()), ("text", text(700))] {
        field(&mut object, 2, &pair(key, value));
    }
    let mut what = vec![];
    field(&mut what, 1, b"v1");
    field(&mut what, 2, b"ConfigMap");
    let mut all = b"k8s\0".to_vec();
    field(&mut all, 1, &what);
    field(&mut all, 2, &object);
    all.into()
}

/// A Pod of about 4.5 KB as servers keep it, bound to one of 100 nodes.
pub(crate) fn pod(name: &str, number: u64) -> Bytes {
    let variable = |at: u64| json!({"name": format!("SETTING_{at}"), "value": text(60)});
    let container = |at: u64| {
        json!({
            "name": format!("container-{at}"), "image": "example.test/application:1.0",
            "command": ["/bin/application", "--listen=:8080", "--verbose"],
            "env": (0..8).map(variable).collect::<Vec<_>>(),
            "ports": [{"containerPort": 8080 + at, "name": format!("http-{at}")}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080 + at}, "periodSeconds": 5},
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        })
    };
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": labels(number), "annotations": {"example.test/note": text(200)}},
        "spec": {
            "nodeName": format!("node-{}", number % 100),
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": (0..2).map(container).collect::<Vec<_>>(),
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "tolerations": [{"operator": "Exists"}],
        },
    });
    bytes(&object)
}

/// A Deployment without pods, whose `text` annotation is `number`.
pub(crate) fn deployment(name: &str, number: u64) -> Bytes {
    bytes(&deployment_value(name, number))
}

/// The same with a status that says `generation`.
pub(crate) fn deployment_with_status(name: &str, generation: u64) -> Bytes {
    let mut object = deployment_value(name, 0);
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".to_owned(), json!({"observedGeneration": generation}));
    }
    bytes(&object)
}

fn deployment_value(name: &str, number: u64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": labels(0), "annotations": {"number": number.to_string()}},
        "spec": {
            "replicas": 0, "paused": true,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "main", "image": "example.test/application:1.0",
                    "env": [{"name": "NUMBER", "value": number.to_string()}, {"name": "TEXT", "value": text(300)}],
                    "ports": [{"containerPort": 8080}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                }]},
            },
        },
    })
}

/// The heartbeat of a node, renewed `number` times, of a version that was seen before (0: none).
pub(crate) fn lease(name: &str, number: u64, version: u64) -> Bytes {
    let (minutes, seconds) = (number / 60 % 60, number % 60);
    let mut meta = json!({"name": name});
    if let Some(fields) = meta.as_object_mut().filter(|_| version > 0) {
        fields.insert("resourceVersion".to_owned(), version.to_string().into());
    }
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": meta,
        "spec": {
            "holderIdentity": name, "leaseDurationSeconds": 40,
            "renewTime": format!("2026-01-01T00:{minutes:02}:{seconds:02}.{:06}Z", number % 1_000_000),
        },
    });
    bytes(&object)
}

/// A CustomResourceDefinition of one structural version.
pub(crate) fn definition(number: u64) -> Bytes {
    let plural = format!("widgets{number}");
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.bench.example.test")},
        "spec": {
            "group": "bench.example.test", "scope": "Namespaced",
            "names": {"plural": plural, "singular": format!("widget{number}"), "kind": format!("Widget{number}")},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "minimum": 0},
                        "colour": {"type": "string", "maxLength": 32},
                    }},
                }}},
            }],
        },
    });
    bytes(&object)
}

fn labels(number: u64) -> Value {
    json!({"bench": "yes", "group": group(number)})
}

/// The value of the label `group`: 100 of them.
fn group(number: u64) -> String {
    format!("group-{}", number % 100)
}

/// Letters of the longest text.
const LONGEST: usize = 9_900;

/// As many letters that a compressor cannot shorten to nothing.
fn text(length: usize) -> &'static str {
    // Made once: what the load costs itself is taken from the server.
    static LETTERS: LazyLock<String> = LazyLock::new(|| letters(LONGEST));
    LETTERS.get(..length).unwrap_or(&LETTERS)
}

fn letters(length: usize) -> String {
    let mut x = 88_172_645_463_325_252_u64;
    let letter = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        char::from(b'a' + (x % 26) as u8)
    };
    (0..length).map(letter).collect()
}

fn bytes(object: &Value) -> Bytes {
    serde_json::to_vec(object).unwrap_or_default().into()
}

/// One entry of a map of strings.
fn pair(key: &str, value: &str) -> Vec<u8> {
    let mut entry = vec![];
    field(&mut entry, 1, key.as_bytes());
    field(&mut entry, 2, value.as_bytes());
    entry
}

/// Adds a field of bytes.
fn field(to: &mut Vec<u8>, number: u8, value: &[u8]) {
    to.push(number << 3 | 2);
    let mut left = value.len();
    while left > 0x7f {
        to.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
    to.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_scenarios_say() {
        assert!((800..1200).contains(&config_map("name", 1).len()), "{}", config_map("name", 1).len());
        assert!((800..1200).contains(&config_map_protobuf("name", "namespace", 1).len()));
        assert!((2500..4500).contains(&pod("name", 1).len()), "{}", pod("name", 1).len());
    }

    #[test]
    fn lengths_over_seven_bits_are_written_low_part_first() {
        let mut to = vec![];
        field(&mut to, 2, &[7; 300]);
        assert_eq!(to.get(..4), Some([0x12, 0xac, 0x02, 7].as_slice()));
        assert_eq!(to.len(), 303);
    }
}
