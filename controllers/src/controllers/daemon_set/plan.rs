//! Which nodes get a daemon pod, which pods go, how an update rolls, and the status. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetStatus},
        core::v1::{
            Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
            Toleration,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::history::HASH;
use crate::{object, pod};

/// What was seen. `hash` is the current template's.
pub(super) struct Observed<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) nodes: &'a [Arc<Node>],
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) hash: &'a str,
    pub(super) now: Timestamp,
}

/// What to do. Failed pods are apart, with their node, since they are replaced with back-off.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes that need a pod, by name.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) failed: Vec<(String, Arc<Pod>)>,
    pub(super) status: DaemonSetStatus,
    /// Seconds until a ready pod becomes available.
    pub(super) wake: Option<u64>,
}

/// Whether a change of a node can change where daemon pods run.
pub(super) fn same_for_placement(a: &Node, b: &Node) -> bool {
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    a.metadata.labels == b.metadata.labels && taints(a) == taints(b)
}

/// Taints that a daemon pod bears with, as (key, effect).
const BORNE: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let network =
        Some(("node.kubernetes.io/network-unavailable", "NoSchedule")).filter(|_| spec.host_network == Some(true));
    for (key, effect) in BORNE.iter().copied().chain(network) {
        let wanted = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        all.retain(|held| {
            !(held.key == wanted.key && held.effect == wanted.effect && held.operator == wanted.operator)
        });
        all.push(wanted);
    }
    all
}

/// The pod of a set for a node: an affinity names the node, and the scheduler binds it.
pub(super) fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut made = pod::from_template(
        &template,
        object::namespace(&set.metadata),
        object::name(&set.metadata),
        object::controller_reference(set),
    );
    object::put(&mut made.metadata.labels, HASH, hash);
    if let Some(generation) = object::annotation(&set.metadata, "deprecated.daemonset.template.generation") {
        object::put(&mut made.metadata.labels, "pod-template-generation", generation);
    }
    let spec = made.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    let field = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity =
        spec.affinity.get_or_insert_with(Affinity::default).node_affinity.get_or_insert_with(NodeAffinity::default);
    let terms = affinity.required_during_scheduling_ignored_during_execution.take();
    let terms = terms.map(|selector| selector.node_selector_terms).filter(|terms| !terms.is_empty());
    let mut terms = terms.unwrap_or_else(|| vec![NodeSelectorTerm::default()]);
    for term in &mut terms {
        term.match_fields = Some(vec![field.clone()]);
    }
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: terms });
    made
}

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = || requirement.values.iter().flatten();
    let number = || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values().next()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values().any(|wanted| wanted == value)),
        "NotIn" => value.is_none_or(|value| values().all(|wanted| wanted != value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(|(held, wanted)| held > wanted),
        "Lt" => number().is_some_and(|(held, wanted)| held < wanted),
        _ => false,
    }
}

fn term_holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    if fields.is_empty() && labels.is_empty() {
        return false;
    }
    fields.iter().all(|one| one.key == "metadata.name" && requirement_holds(one, node.metadata.name.as_deref()))
        && labels.iter().all(|one| requirement_holds(one, object::label(&node.metadata, &one.key)))
}

/// Whether a new pod of the set should run on a node, and whether one that runs may go on.
pub(super) fn fits(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return (false, false) };
    if spec.node_name.as_ref().is_some_and(|name| !name.is_empty() && Some(name) != node.metadata.name.as_ref()) {
        return (false, false);
    }
    let selected =
        spec.node_selector.iter().flatten().all(|(name, value)| object::label(&node.metadata, name) == Some(value));
    let required = spec.affinity.as_ref().and_then(|affinity| {
        affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
    });
    let affine = required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_holds(term, node)));
    if !selected || !affine {
        return (false, false);
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let borne = tolerations(spec);
    let runs = pod::untolerated(taints, &borne, &["NoExecute", "NoSchedule"]).is_none();
    (runs, runs || pod::untolerated(taints, &borne, &["NoExecute"]).is_none())
}

/// The node a daemon pod runs on or is meant for.
fn target(one: &Pod) -> Option<&str> {
    pod::node_of(one).or_else(|| {
        let required = one
            .spec
            .as_ref()?
            .affinity
            .as_ref()?
            .node_affinity
            .as_ref()?
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        let names = fields.filter(|one| one.key == "metadata.name").flat_map(|one| one.values.iter().flatten());
        names.map(String::as_str).next()
    })
}

fn is_new(one: &Pod, hash: &str) -> bool {
    object::label(&one.metadata, HASH) == Some(hash)
}

/// A pod of the new template and one of the old.
type Pair = (Option<Arc<Pod>>, Option<Arc<Pod>>);

/// The one pod of the new and the one of the old template on a node; `None` if there are more.
fn pair(pods: &[Arc<Pod>], hash: &str) -> Option<Pair> {
    let (mut new, mut old) = (None, None);
    for one in pods.iter().filter(|one| !pod::is_terminating(one)) {
        let slot = if is_new(one, hash) { &mut new } else { &mut old };
        if slot.replace(one.clone()).is_some() {
            return None;
        }
    }
    Some((new, old))
}

struct Rolling {
    surge: usize,
    unavailable: usize,
}

fn rolling(set: &DaemonSet, desired: usize) -> Option<Rolling> {
    let strategy = set.spec.as_ref()?.update_strategy.as_ref();
    if strategy.and_then(|one| one.type_.as_deref()).is_some_and(|type_| type_ != "RollingUpdate") {
        return None;
    }
    let limits = strategy.and_then(|one| one.rolling_update.as_ref());
    let desired = i32::try_from(desired).unwrap_or(i32::MAX);
    let count = |value: Option<&IntOrString>, default| {
        let count = value.map_or(Some(default), |value| object::scaled(value, desired, true));
        usize::try_from(count.unwrap_or(default)).unwrap_or(0)
    };
    let surge = count(limits.and_then(|one| one.max_surge.as_ref()), 0);
    let mut unavailable = count(limits.and_then(|one| one.max_unavailable.as_ref()), 1);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    Some(Rolling { surge, unavailable })
}

fn has_surge(set: &DaemonSet) -> bool {
    rolling(set, 100).is_some_and(|rolling| rolling.surge > 0)
}

/// Oldest first; pods that run before those that do not yet.
fn by_age(pods: &mut [Arc<Pod>]) {
    pods.sort_by_key(|one| (pod::node_of(one).is_none(), object::created(&one.metadata), one.metadata.name.clone()));
}

pub(super) fn plan(seen: &Observed<'_>) -> Plan {
    let min_ready = seen.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let available = |one: &Pod| pod::is_available(one, min_ready, seen.now);
    let mut on: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for one in seen.pods {
        if let Some(node) = target(one) {
            on.entry(node.to_owned()).or_default().push(one.clone());
        }
    }
    on.values_mut().for_each(|pods| by_age(pods));
    let mut plan = Plan::default();
    let mut desired = BTreeSet::new();
    for node in seen.nodes {
        let name = object::name(&node.metadata);
        let pods = on.get(name).map(Vec::as_slice).unwrap_or_default();
        let (run, go_on) = fits(seen.set, node);
        if run {
            desired.insert(name.to_owned());
        }
        manage(seen, name, pods, (run, go_on), &available, &mut plan);
    }
    // Pods bound to nodes that are gone are the pod garbage collector's; unbound ones would wait for ever.
    let known: BTreeSet<_> = seen.nodes.iter().map(|node| object::name(&node.metadata)).collect();
    let lost = on.iter().filter(|(node, _)| !known.contains(node.as_str())).flat_map(|(_, pods)| pods);
    plan.delete.extend(lost.filter(|one| pod::node_of(one).is_none() && !pod::is_terminating(one)).cloned());

    if let Some(limits) = rolling(seen.set, desired.len()) {
        roll(seen, &limits, &on, &desired, &available, &mut plan);
    }
    let mut names = BTreeSet::new();
    plan.delete.retain(|one| names.insert(one.metadata.name.clone()));
    plan.create.sort();
    plan.create.dedup();
    plan.status = status(seen, &on, &desired, &available);
    let waits = seen.pods.iter().filter_map(|one| pod::available_in(one, min_ready, seen.now));
    plan.wake = waits.filter(|seconds| *seconds > 0).min().and_then(|seconds| u64::try_from(seconds).ok());
    plan
}

/// One node by itself: too few pods, too many, ended ones.
fn manage(
    seen: &Observed<'_>,
    node: &str,
    pods: &[Arc<Pod>],
    (run, go_on): (bool, bool),
    available: &impl Fn(&Pod) -> bool,
    plan: &mut Plan,
) {
    if run && pods.is_empty() {
        plan.create.push(node.to_owned());
        return;
    }
    let present = || pods.iter().filter(|one| !pod::is_terminating(one));
    if !go_on {
        plan.delete.extend(present().cloned());
        return;
    }
    let mut running = Vec::new();
    for one in present() {
        match pod::phase(one) {
            "Failed" => plan.failed.push((node.to_owned(), one.clone())),
            "Succeeded" => plan.delete.push(one.clone()),
            _ => running.push(one.clone()),
        }
    }
    if !has_surge(seen.set) {
        plan.delete.extend(running.into_iter().skip(1));
        return;
    }
    if running.is_empty() {
        if run && plan.failed.iter().all(|(failed, _)| failed != node) {
            plan.create.push(node.to_owned());
        }
        return;
    }
    if running.len() == 1 {
        return;
    }
    let new = running.iter().find(|one| is_new(one, seen.hash)).cloned();
    let old = running.iter().find(|one| !is_new(one, seen.hash)).cloned();
    let keep_old = match (&new, &old) {
        (Some(new), Some(old)) => !available(new) && available(old),
        (None, Some(_)) => true,
        _ => false,
    };
    for one in running {
        let keeps = new.as_ref() == Some(&one) || (keep_old && old.as_ref() == Some(&one));
        if !keeps {
            plan.delete.push(one);
        }
    }
}

/// The rolling update: without surge old pods make way; with surge new ones come first.
fn roll(
    seen: &Observed<'_>,
    limits: &Rolling,
    on: &BTreeMap<String, Vec<Arc<Pod>>>,
    desired: &BTreeSet<String>,
    available: &impl Fn(&Pod) -> bool,
    plan: &mut Plan,
) {
    let none = Vec::new();
    let nodes: BTreeSet<_> = on.keys().chain(desired).collect();
    let (mut unavailable, mut surging) = (0, 0);
    let (mut replace, mut candidates) = (Vec::new(), Vec::new());
    let (mut create, mut surge_candidates) = (Vec::new(), Vec::new());
    for node in nodes {
        let pods: Vec<_> = on.get(node).unwrap_or(&none).iter().filter(|one| !pod::is_terminal(one)).cloned().collect();
        let Some((new, old)) = pair(&pods, seen.hash) else {
            unavailable += 1;
            surging += 1;
            continue;
        };
        if limits.surge == 0 {
            match (new, old) {
                (None, None) | (Some(_), Some(_)) => unavailable += 1,
                (Some(new), None) => unavailable += usize::from(!available(&new)),
                (None, Some(old)) if !available(&old) => {
                    unavailable += 1;
                    replace.push(old);
                }
                (None, Some(old)) => candidates.push(old),
            }
            continue;
        }
        match (new, old) {
            (_, None) => {}
            (None, Some(old)) if !desired.contains(node) => replace.push(old),
            (None, Some(old)) if available(&old) => surge_candidates.push(node.clone()),
            (None, Some(_)) => create.push(node.clone()),
            (Some(new), Some(old)) if available(&new) || !available(&old) => replace.push(old),
            (Some(_), Some(_)) => surging += 1,
        }
    }
    if limits.surge == 0 {
        plan.delete.extend(replace);
        plan.delete.extend(candidates.into_iter().take(limits.unavailable.saturating_sub(unavailable)));
    } else {
        plan.delete.extend(replace);
        plan.create.extend(create);
        plan.create.extend(surge_candidates.into_iter().take(limits.surge.saturating_sub(surging)));
    }
}

fn status(
    seen: &Observed<'_>,
    on: &BTreeMap<String, Vec<Arc<Pod>>>,
    desired: &BTreeSet<String>,
    available: &impl Fn(&Pod) -> bool,
) -> DaemonSetStatus {
    let held = seen.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        desired_number_scheduled: i32::try_from(desired.len()).unwrap_or(i32::MAX),
        observed_generation: seen.set.metadata.generation,
        collision_count: held.collision_count,
        conditions: held.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut serving) = (0, 0);
    for node in seen.nodes {
        let name = object::name(&node.metadata);
        let gone = |one: &Pod| pod::is_terminating(one) && pod::is_terminal(one);
        let Some(first) = on.get(name).and_then(|pods| pods.iter().find(|one| !gone(one))) else { continue };
        if !desired.contains(name) {
            status.number_misscheduled += 1;
            continue;
        }
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pod::is_ready(first));
        serving += i32::from(available(first));
        updated += i32::from(is_new(first, seen.hash));
    }
    let shown = |count: i32| Some(count).filter(|count| *count != 0);
    status.updated_number_scheduled = shown(updated);
    status.number_available = shown(serving);
    status.number_unavailable = shown(status.desired_number_scheduled - serving);
    status
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn set(strategy: &Value) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": {"name": "agent", "namespace": "a", "uid": "ds", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "updateStrategy": strategy, "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"containers": [], "nodeSelector": {"os": "linux"}}}},
        }))
        .unwrap()
    }

    fn node(name: &str, taint: &str) -> Arc<Node> {
        let taints = match taint.split_once(':') {
            Some((key, effect)) => json!([{"key": key, "effect": effect}]),
            None => json!([]),
        };
        let os = if taint == "windows" { "windows" } else { "linux" };
        let value = json!({"metadata": {"name": name, "labels": {"os": os}}, "spec": {"taints": taints}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    /// A pod `name` on `node` from words: `new` or `old`, `ready`, `failed`, `deleted`.
    fn pod_on(name: &str, node: &str, words: &str) -> Arc<Pod> {
        let has = |word| words.split_whitespace().any(|one| one == word);
        let mut value = json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": "x", HASH: if has("new") { "new" } else { "old" }}},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": if has("failed") { "Failed" } else { "Running" }, "conditions": []},
        });
        if has("ready") {
            value["status"]["conditions"] =
                json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:30:00Z"}]);
        }
        if has("deleted") {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:50:00Z");
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn decide(strategy: &Value, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> (Vec<String>, Vec<String>, Plan) {
        let plan = plan(&Observed { set: &set(strategy), nodes, pods, hash: "new", now: now() });
        let gone = plan.delete.iter().map(|one| object::name(&one.metadata).to_owned()).collect();
        (plan.create.clone(), gone, plan)
    }

    #[test]
    fn nodes_that_fit_get_one_pod() {
        let nodes = [
            node("bare", ""),
            node("has", ""),
            node("cordoned", "node.kubernetes.io/unschedulable:NoSchedule"),
            node("tainted", "mine:NoSchedule"),
            node("evicting", "mine:NoExecute"),
            node("windows", "windows"),
        ];
        let pods = [
            pod_on("p1", "has", "new ready"),
            pod_on("p2", "has", "new"),
            pod_on("p3", "tainted", "new ready"),
            pod_on("p4", "evicting", "new ready"),
            pod_on("p5", "windows", "new ready"),
        ];
        let (create, delete, plan) = decide(&json!({"type": "OnDelete"}), &nodes, &pods);
        assert_eq!(create, ["bare", "cordoned"]);
        assert_eq!(delete, ["p2", "p4", "p5"]);
        assert_eq!(
            serde_json::to_value(&plan.status).unwrap(),
            json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 1, "numberReady": 1, "numberAvailable": 1,
                "numberUnavailable": 2, "numberMisscheduled": 3, "updatedNumberScheduled": 1, "observedGeneration": 1})
        );
    }

    #[test]
    fn updates_keep_within_their_limits() {
        let nodes = [node("n1", ""), node("n2", ""), node("n3", "")];
        let old = |name: &str, on: &str| pod_on(name, on, "old ready");
        let plain = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}});
        let two = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}});
        let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
        for (strategy, pods, create, delete) in [
            (&plain, vec![old("a", "n1"), old("b", "n2"), old("c", "n3")], vec![], vec!["a"]),
            (&two, vec![old("a", "n1"), old("b", "n2"), old("c", "n3")], vec![], vec!["a", "b"]),
            (&plain, vec![pod_on("a", "n1", "new"), old("b", "n2"), old("c", "n3")], vec![], vec![]),
            (&plain, vec![pod_on("a", "n1", "new ready"), old("b", "n2"), old("c", "n3")], vec![], vec!["b"]),
            (&plain, vec![old("a", "n1"), pod_on("b", "n2", "old"), old("c", "n3")], vec![], vec!["b"]),
            (&plain, vec![pod_on("a", "n1", "old ready deleted"), old("b", "n2"), old("c", "n3")], vec![], vec![]),
            (&surge, vec![old("a", "n1"), old("b", "n2"), old("c", "n3")], vec!["n1"], vec![]),
            (&surge, vec![old("a", "n1"), pod_on("a2", "n1", "new"), old("b", "n2"), old("c", "n3")], vec![], vec![]),
            (
                &surge,
                vec![old("a", "n1"), pod_on("a2", "n1", "new ready"), old("b", "n2"), old("c", "n3")],
                vec!["n2"],
                vec!["a"],
            ),
        ] {
            let (created, deleted, _) = decide(strategy, &nodes, &pods);
            assert_eq!(
                (created, deleted),
                (create.iter().map(ToString::to_string).collect(), delete.iter().map(ToString::to_string).collect()),
                "{strategy} {:?}",
                pods.iter().map(|one| object::name(&one.metadata)).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_failed_pod_is_reported_apart() {
        let (create, delete, plan) = decide(&json!({}), &[node("n1", "")], &[pod_on("a", "n1", "new failed")]);
        assert_eq!((create.len(), delete.len(), plan.failed.len()), (0, 0, 1));
    }

    #[test]
    fn a_pod_names_its_node_and_bears_with_pressure() {
        let mut set = set(&json!({}));
        set.spec.as_mut().unwrap().template.spec.as_mut().unwrap().affinity =
            serde_json::from_value(json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}]}}}))
            .unwrap();
        let made = pod_for(&set, "n1", "new");
        assert_eq!(target(&made), Some("n1"));
        let spec = serde_json::to_value(made.spec.unwrap()).unwrap();
        assert_eq!(
            spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"],
            json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}],
                "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])
        );
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 6);
    }
}
