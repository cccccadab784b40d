//! `pods`: containers that run together.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Gvk, Hooks, Kind, Part, Subresource, Verb};
use crate::kinds::shared::parts;
use crate::value;
use serde_json::Value;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        node("attach", "PodAttachOptions", STREAM),
        Subresource { name: "binding", gvk: core("Binding"), verbs: Verb::CREATE, part: Part::Binding },
        Subresource {
            name: "ephemeralcontainers",
            gvk: core("Pod"),
            verbs: Verb::PART,
            part: Part::View { merge: with_ephemeral_containers },
        },
        Subresource {
            name: "eviction",
            gvk: Gvk { group: "policy", version: "v1", kind: "Eviction" },
            verbs: Verb::CREATE,
            part: Part::Eviction,
        },
        node("exec", "PodExecOptions", STREAM),
        node("log", "Pod", &[Verb::Get]),
        node("portforward", "PodPortForwardOptions", STREAM),
        parts::proxy("PodProxyOptions"),
        Subresource { name: "resize", gvk: core("Pod"), verbs: Verb::PART, part: Part::View { merge: with_resources } },
        Subresource { name: "status", gvk: core("Pod"), verbs: Verb::PART, part: Part::View { merge: with_status } },
    ],
    generation: true,
    hooks: &Pod,
    ..Kind::BASE
};

struct Pod;

impl Hooks for Pod {}

const STREAM: &[Verb] = &[Verb::Create, Verb::Get];

const fn core(kind: &'static str) -> Gvk {
    Gvk { group: "", version: "v1", kind }
}

const fn node(name: &'static str, kind: &'static str, verbs: &'static [Verb]) -> Subresource {
    Subresource { name, gvk: core(kind), verbs, part: Part::Node }
}

/// `pods/status`: owners and the quality of service stay as they are, and so does deletion.
fn with_status(new: Value, old: &Value) -> Value {
    let mut pod = parts::status_of_new(new, old);
    parts::copy(&mut pod, old, "metadata.ownerReferences");
    if value::text(&pod, "status.qosClass").is_empty() {
        parts::copy(&mut pod, old, "status.qosClass");
    }
    pod
}

/// `pods/ephemeralcontainers`: nothing else changes.
fn with_ephemeral_containers(new: Value, old: &Value) -> Value {
    let mut pod = old.clone();
    parts::copy(&mut pod, &new, "spec.ephemeralContainers");
    parts::copy(&mut pod, &new, "metadata.resourceVersion");
    pod
}

/// `pods/resize`: resources and resize policy of containers and of sidecars, matched by name.
fn with_resources(new: Value, old: &Value) -> Value {
    let mut pod = old.clone();
    parts::copy(&mut pod, &new, "metadata.resourceVersion");
    parts::copy(&mut pod, &new, "spec.resources");
    for list in ["spec.containers", "spec.initContainers"] {
        for container in value::items_mut(&mut pod, list) {
            let sidecar = value::text(container, "restartPolicy") == "Always";
            let wanted = value::items(&new, list).iter().find(|c| c.get("name") == container.get("name"));
            if let (Some(wanted), true) = (wanted, sidecar || list == "spec.containers") {
                parts::copy(container, wanted, "resources");
                parts::copy(container, wanted, "resizePolicy");
            }
        }
    }
    pod
}
