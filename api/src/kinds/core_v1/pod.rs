//! `pods`: containers that run together.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::Errors;
use crate::json::{Value, json};
use crate::judgement::Judgement;
use crate::kind::{Gvk, Hooks, Kind, Part, Selectable, Subresource, Verb, describe};
use crate::kinds::shared::parts;
use crate::kinds::shared::{
    names, pod_defaults, pod_gates, pod_profiles, pod_resize, pod_row, pod_status, pod_update, pod_validation,
    pod_warnings, resources,
};
use crate::{meta, value};

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
        Subresource {
            name: "resize",
            gvk: core("Pod"),
            verbs: Verb::PART,
            part: Part::View { merge: pod_resize::merge },
        },
        Subresource { name: "status", gvk: core("Pod"), verbs: Verb::PART, part: Part::View { merge: with_status } },
    ],
    generation: true,
    columns: pod_row::COLUMNS,
    returns_deleted: true,
    selectable: &[
        Selectable { name: "spec.nodeName", value: |pod| text(pod, "spec.nodeName") },
        Selectable { name: "spec.restartPolicy", value: |pod| text(pod, "spec.restartPolicy") },
        Selectable { name: "spec.schedulerName", value: |pod| text(pod, "spec.schedulerName") },
        Selectable { name: "spec.serviceAccountName", value: |pod| text(pod, "spec.serviceAccountName") },
        Selectable { name: "spec.hostNetwork", value: |pod| value::flag(pod, "spec.hostNetwork").to_string() },
        Selectable { name: "status.phase", value: |pod| text(pod, "status.phase") },
        Selectable { name: "status.podIP", value: first_address },
        Selectable { name: "status.podIPs", value: first_address },
        Selectable { name: "status.nominatedNodeName", value: |pod| text(pod, "status.nominatedNodeName") },
    ],
    selected_as: &[("spec.host", "spec.nodeName")],
    gated: pod_gates::POD,
    pods: Some("spec"),
    describe: describe::<k8s_openapi::api::core::v1::Pod>,
    judgement: Judgement::AS_NEW,
    hooks: &Pod,
    ..Kind::BASE
};

struct Pod;

impl Hooks for Pod {
    fn default(&self, object: &mut Value) {
        pod_defaults::pod(object);
        first_of_all(object, "status.podIP", "status.podIPs");
    }

    fn prepare_create(&self, object: &mut Value) {
        let mut status = json!({"phase": "Pending", "qosClass": resources::qos_class(object)});
        if !value::items(object, "spec.schedulingGates").is_empty() {
            value::set(
                &mut status,
                "conditions",
                json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates"}]),
            );
        }
        value::set(object, "status", status);
        merge_label_keys(object);
        pod_profiles::from_annotations(object);
    }

    fn warnings_of_given(&self, object: &Value) -> Vec<String> {
        pod_profiles::doubts(object)
    }

    fn validate(&self, object: &Value) -> Errors {
        pod_validation::pod(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        pod_update::validate(new, old)
    }

    fn validate_part(&self, part: &str, new: &Value, old: &Value) -> Errors {
        pod_update::validate_part(part, new, old)
    }

    /// Who has a node waits for its kubelet; who has none, or has ended, goes at once.
    fn grace_period(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let period = requested.or_else(|| value::int(object, "spec.terminationGracePeriodSeconds")).unwrap_or_default();
        let ended = matches!(value::text(object, "status.phase"), "Failed" | "Succeeded");
        if value::text(object, "spec.nodeName").is_empty() || ended {
            return Some(0);
        }
        Some(if period < 0 { 1 } else { period })
    }

    /// Changes of pods come from machines.
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let mut out = Vec::new();
        let messages = names::dns_label(meta::name(new));
        if !messages.is_empty() {
            out.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
                 recommended: [{}]",
                messages.join(" ")
            ));
        }
        out.extend(pod_warnings::of_pod(new));
        out
    }

    fn warnings_of_part(&self, part: &str, new: &Value, _old: &Value) -> Vec<String> {
        if part == "status" { pod_status::warnings(new) } else { Vec::new() }
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        pod_row::row(object, now)
    }
}

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
    pod_status::keep_observed(&mut pod, old);
    pod
}

/// `pods/ephemeralcontainers`: nothing else changes.
#[allow(clippy::needless_pass_by_value)] // the shape of every `merge`
fn with_ephemeral_containers(new: Value, old: &Value) -> Value {
    let mut pod = old.clone();
    parts::copy(&mut pod, &new, "spec.ephemeralContainers");
    parts::copy(&mut pod, &new, "metadata.resourceVersion");
    pod
}

fn text(pod: &Value, path: &str) -> String {
    value::text(pod, path).to_owned()
}

/// The singular address is the first of the plural ones; where they disagree, the singular wins.
fn first_of_all(pod: &mut Value, one: &str, all: &str) {
    let single = text(pod, one);
    let first = value::items(pod, all).first().map(|address| text(address, "ip")).unwrap_or_default();
    if single.is_empty() && !first.is_empty() {
        value::set(pod, one, first);
    } else if single != first {
        value::set(pod, all, json!([{ "ip": single }]));
    }
}

fn first_address(pod: &Value) -> String {
    let first = value::items(pod, "status.podIPs").first().map(|address| value::text(address, "ip"));
    first.unwrap_or_else(|| value::text(pod, "status.podIP")).to_owned()
}

/// `matchLabelKeys` and `mismatchLabelKeys` become requirements with the pod's own labels, fixed at creation.
fn merge_label_keys(pod: &mut Value) {
    let Some(Value::Object(labels)) = value::get(pod, "metadata.labels").cloned() else { return };
    let merge = |term: &mut Value| {
        if term.get("labelSelector").is_none_or(Value::is_null) {
            return;
        }
        for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys: Vec<String> =
                value::items(term, keys).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            for key in keys {
                if let Some(label) = labels.get(&key) {
                    let requirement = json!({"key": key, "operator": operator, "values": [label]});
                    let all =
                        value::map_mut(term, "labelSelector").entry("matchExpressions").or_insert_with(|| json!([]));
                    if let Some(all) = all.as_array_mut() {
                        all.push(requirement);
                    }
                }
            }
        }
    };
    for side in ["podAffinity", "podAntiAffinity"] {
        let path = format!("spec.affinity.{side}.requiredDuringSchedulingIgnoredDuringExecution");
        value::items_mut(pod, &path).iter_mut().for_each(merge);
        let path = format!("spec.affinity.{side}.preferredDuringSchedulingIgnoredDuringExecution");
        value::items_mut(pod, &path).iter_mut().filter_map(|term| term.get_mut("podAffinityTerm")).for_each(merge);
    }
    value::items_mut(pod, "spec.topologySpreadConstraints").iter_mut().for_each(merge);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn born_pending_with_its_class() {
        let mut pod = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"schedulingGates": [{"name": "g"}], "containers": [{}],
            "topologySpreadConstraints": [{"matchLabelKeys": ["a", "b"], "labelSelector": {"matchLabels": {"x": "y"}}}]}});
        KIND.hooks.prepare_create(&mut pod);
        assert_eq!(pod["status"]["phase"], "Pending");
        assert_eq!(pod["status"]["qosClass"], "BestEffort");
        assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
        assert_eq!(
            pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
            json!([{"key": "a", "operator": "In", "values": ["1"]}])
        );
    }

    #[test]
    fn addresses_agree() {
        let mut pod = json!({"status": {"podIP": "10.0.0.1", "hostIP": "10.0.1.1"}});
        KIND.hooks.default(&mut pod);
        assert_eq!(pod["status"], json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.0.1.1"}));
    }

    #[test]
    fn grace() {
        let scheduled =
            json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        let ended = json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}});
        for (pod, requested, period) in [
            (&scheduled, None, 30),
            (&scheduled, Some(5), 5),
            (&scheduled, Some(-1), 1),
            (&ended, Some(5), 0),
            (&json!({"spec": {}}), Some(5), 0),
        ] {
            assert_eq!(KIND.hooks.grace_period(pod, requested), Some(period));
        }
    }

    #[test]
    fn parts_touch_only_their_fields() {
        let old = json!({"metadata": {"ownerReferences": [{"uid": "1"}], "labels": {}}, "status": {"qosClass": "Burstable"},
            "spec": {"containers": [{"name": "a", "image": "x", "resources": {}}], "initContainers": [{"name": "i"}]}});
        let mut new = old.clone();
        value::set(&mut new, "spec.nodeName", "n");
        value::set(&mut new, "metadata.ownerReferences", json!([]));
        value::set(&mut new, "status", json!({"phase": "Running"}));
        let pod = with_status(new.clone(), &old);
        assert_eq!(pod["status"], json!({"phase": "Running", "qosClass": "Burstable"}));
        assert_eq!((&pod["spec"], &pod["metadata"]), (&old["spec"], &old["metadata"]));

        value::set(
            &mut new,
            "spec.containers",
            json!([{"name": "a", "image": "y", "resources": {"limits": {"cpu": "1"}}}]),
        );
        let pod = pod_resize::merge(new.clone(), &old);
        assert_eq!(
            pod["spec"]["containers"][0],
            json!({"name": "a", "image": "x", "resources": {"limits": {"cpu": "1"}}})
        );
        assert_eq!(pod["spec"]["initContainers"], old["spec"]["initContainers"]);

        value::set(&mut new, "spec.ephemeralContainers", json!([{"name": "e"}]));
        let pod = with_ephemeral_containers(new, &old);
        assert_eq!(pod["spec"]["ephemeralContainers"], json!([{"name": "e"}]));
        assert_eq!(pod["spec"]["containers"], old["spec"]["containers"]);
    }
}
