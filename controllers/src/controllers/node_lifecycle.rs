//! Watches over nodes: one that falls silent becomes Unknown, its taints follow its conditions, and its pods stop
//! counting as ready. It never evicts; `taint_eviction` does.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition, Pod, PodCondition, Taint},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule, is_not_found},
    events::Note,
    informer::{Change, Key, Watched},
    object, pod,
    queue::Queue,
};

impl Watched for Lease {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "node-lifecycle-controller",
    aliases: &["nodelifecycle"],
    service_account: "node-controller",
    reporter: "node-controller",
    watches: &["v1.Node", "coordination.k8s.io/v1.Lease", "v1.Pod"],
    rules: &[
        Rule::new(&[""], &["nodes"], &["delete", "get", "list", "patch", "update", "watch"]),
        Rule::new(&[""], &["nodes/status"], &["patch", "update"]),
        Rule::new(&[""], &["pods/status"], &["patch", "update"]),
        Rule::new(&[""], &["pods"], &["delete", "get", "list", "watch"]),
        EVENTS,
    ],
    start,
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Taints against scheduling: (condition, its status, taint).
const NO_SCHEDULE: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
/// Conditions that become Unknown with a silent node.
const HEARTBEATS: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let nodes = context.informers.of::<Node>();
        let leases = context.informers.of::<Lease>();
        let pods = context.informers.of::<Pod>();
        if !leases.synced(&context.stop).await || !pods.synced(&context.stop).await {
            return;
        }
        let queue: Arc<Queue<String>> = Arc::default();
        let health: Arc<Mutex<HashMap<String, Health>>> = Arc::default();
        nodes.subscribe({
            let (queue, events, health) = (queue.clone(), context.events.clone(), health.clone());
            move |change| {
                let node = change.object();
                let name = object::name(&node.metadata);
                match change {
                    Change::Applied { old: None, .. } => events.record(
                        &**node,
                        Note::normal(
                            "RegisteredNode",
                            format!("Node {name} event: Registered Node {name} in Controller"),
                        ),
                    ),
                    Change::Applied { old: Some(old), .. } => {
                        if pod::node_is_ready(old) && !pod::node_is_ready(node) {
                            let text = format!("Node {name} status is now: NodeNotReady");
                            events.record(&**node, Note::normal("NodeNotReady", text));
                        }
                    }
                    Change::Deleted(_) => {
                        health.lock().remove(name);
                        let text = format!("Node {name} event: Removing Node {name} from Controller");
                        events.record(&**node, Note::normal("RemovingNode", text));
                    }
                }
                queue.add(name.to_owned());
            }
        });
        // A pod that is bound to a node already not ready must not count as ready.
        pods.subscribe({
            let queue = queue.clone();
            move |change| {
                if let Change::Applied { old, new } = change
                    && let Some(node) = pod::node_of(new)
                    && old.is_none_or(|old| pod::node_of(old) != Some(node) || pod::is_ready(old) != pod::is_ready(new))
                {
                    queue.add(node.to_owned());
                }
            }
        });
        if nodes.synced(&context.stop).await {
            let reconcile = move |context, name| reconcile(context, name, health.clone());
            context.work(CONTROLLER.name, queue, 4, reconcile).await;
        }
    }
    .boxed()
}

/// What was last heard of a node and when, by our own clock: nodes' clocks are not trusted.
#[derive(Clone, Debug, PartialEq)]
struct Health {
    renewed: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
    heard: Timestamp,
}

impl Health {
    /// What is known after this look at the node and its lease.
    fn look(before: Option<&Self>, node: &Node, lease: Option<&Lease>, now: Timestamp) -> Self {
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|at| at.0));
        let heartbeat = condition(node, "Ready").and_then(|one| one.last_heartbeat_time.as_ref().map(|at| at.0));
        let heard = match before {
            Some(before) if before.renewed == renewed && before.heartbeat == heartbeat => before.heard,
            Some(_) => now,
            None if heartbeat.is_none() && renewed.is_none() => object::created(&node.metadata).min(now),
            None => now,
        };
        Self { renewed, heartbeat, heard }
    }
}

fn conditions(node: &Node) -> impl Iterator<Item = &NodeCondition> {
    node.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    conditions(node).find(|one| one.type_ == type_)
}

/// The conditions of a node that has been silent for too long; `None` if they stand so already.
fn silence(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut all: Vec<_> = conditions(node).cloned().collect();
    let mut changed = false;
    for type_ in HEARTBEATS {
        match all.iter_mut().find(|one| one.type_ == *type_) {
            Some(one) if one.status == "Unknown" => {}
            Some(one) => {
                one.status = "Unknown".to_owned();
                one.reason = Some("NodeStatusUnknown".to_owned());
                one.message = Some("Kubelet stopped posting node status.".to_owned());
                one.last_transition_time = Some(object::time(now));
                changed = true;
            }
            None => {
                all.push(NodeCondition {
                    type_: (*type_).to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(object::time(now)),
                });
                changed = true;
            }
        }
    }
    changed.then_some(all)
}

/// The taints a node should have; `None` if it has them. Taints of others stay.
fn taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let held: Vec<Taint> = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).cloned().collect();
    let holds = |type_: &str, status: &str| condition(node, type_).is_some_and(|one| one.status == status);
    let unschedulable = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    let mut wanted: Vec<(&str, &str)> = NO_SCHEDULE
        .iter()
        .filter(|(type_, status, _)| holds(type_, status))
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    if holds("Ready", "False") {
        wanted.push((NOT_READY, "NoExecute"));
    } else if holds("Ready", "Unknown") {
        wanted.push((UNREACHABLE, "NoExecute"));
    }
    // Without any Ready condition nothing is known yet: the taint the node was registered with stays.
    let silent = condition(node, "Ready").is_none();
    let ours = |taint: &Taint| {
        let no_schedule = NO_SCHEDULE.iter().any(|(type_, _, key)| *key == taint.key && !(silent && *type_ == "Ready"))
            || taint.key == UNSCHEDULABLE;
        (taint.effect == "NoSchedule" && no_schedule)
            || (taint.effect == "NoExecute" && !silent && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()))
    };
    let mut next: Vec<Taint> = held
        .iter()
        .filter(|taint| !ours(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !next.iter().any(|taint| taint.key == key && taint.effect == effect) {
            next.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(object::time(now)),
            });
        }
    }
    (next != held).then_some(next)
}

/// Labels that older clients select by, from the current ones.
fn legacy_labels(node: &Node) -> Vec<(&'static str, String)> {
    let pairs = [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];
    pairs
        .into_iter()
        .filter_map(|(from, to)| {
            let value = object::label(&node.metadata, from)?;
            (object::label(&node.metadata, to) != Some(value)).then(|| (to, value.to_owned()))
        })
        .collect()
}

async fn reconcile(context: Context, name: String, health: Arc<Mutex<HashMap<String, Health>>>) -> Result<Next, Error> {
    let nodes = context.informers.of::<Node>();
    let Some(node) = nodes.get(&Key::new("", &name)) else { return Ok(Next::Done) };
    let lease = context.informers.of::<Lease>().get(&Key::new("kube-node-lease", &name));
    let now = context.now();
    let known = {
        let mut held = health.lock();
        let next = Health::look(held.get(&name), &node, lease.as_deref(), now);
        held.insert(name.clone(), next.clone());
        next
    };
    let api: Api<Node> = context.cluster_api();
    let mut node = Node::clone(&node);
    let never = known.renewed.is_none() && known.heartbeat.is_none();
    let grace =
        if never { context.options.node_startup_grace_period } else { context.options.node_monitor_grace_period };
    let quiet = object::seconds_between(known.heard, now);
    if quiet > i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)
        && let Some(conditions) = silence(&node, now)
    {
        node.status.get_or_insert_default().conditions = Some(conditions);
        node = match api.replace_status(&name, &PostParams::default(), &node).await {
            Ok(node) => node,
            Err(error) if is_not_found(&error) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        };
        nodes.saw(&node.metadata).await;
    }
    if let Some(next) = taints(&node, now) {
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": next}});
        node = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        nodes.saw(&node.metadata).await;
    }
    let labels = legacy_labels(&node);
    if !labels.is_empty() {
        let labels: serde_json::Map<_, _> =
            labels.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let patch = json!({"metadata": {"labels": labels}});
        let written = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        nodes.saw(&written.metadata).await;
    }
    let ready = condition(&node, "Ready").map(|one| one.status.clone());
    if matches!(ready.as_deref(), Some("False" | "Unknown")) {
        unready_pods(&context, &node, now).await?;
    }
    Ok(Next::After(context.options.node_monitor_period.max(Duration::from_millis(100))))
}

/// The status of a pod on a node that is not ready; `None` if it is not ready anyway.
fn unready(one: &Pod, now: Timestamp) -> Option<Vec<PodCondition>> {
    let mut all = one.status.as_ref()?.conditions.clone()?;
    let ready = all.iter_mut().find(|one| one.type_ == "Ready" && one.status == "True")?;
    ready.status = "False".to_owned();
    ready.last_transition_time = Some(object::time(now));
    Some(all)
}

async fn unready_pods(context: &Context, node: &Node, now: Timestamp) -> Result<(), Error> {
    let pods = context.informers.of::<Pod>();
    for one in pods.grouped(object::name(&node.metadata)) {
        let Some(conditions) = unready(&one, now) else { continue };
        let api: Api<Pod> = context.api(object::namespace(&one.metadata));
        let mut written = Pod::clone(&one);
        written.status.get_or_insert_default().conditions = Some(conditions);
        match api.replace_status(object::name(&one.metadata), &PostParams::default(), &written).await {
            Ok(written) => {
                context.events.record(&written, Note::warning("NodeNotReady", "Node is not ready".to_owned()));
                pods.saw(&written.metadata).await;
            }
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn node(conditions: &Value, taints: &Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": {"taints": taints}, "status": {"conditions": conditions}}),
        )
        .unwrap()
    }

    #[test]
    fn taints_follow_conditions() {
        let ready = |status: &str| json!([{"type": "Ready", "status": status}]);
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
        let mine = taint("mine", "NoSchedule");
        let all = |key: &str| json!([taint("mine", "NoSchedule"), taint(key, "NoSchedule"), taint(key, "NoExecute")]);
        for (conditions, held, expected) in [
            (ready("True"), json!([mine]), vec![]),
            (ready("True"), all(NOT_READY), vec!["mine:NoSchedule"]),
            (
                ready("False"),
                json!([mine]),
                vec![
                    "mine:NoSchedule",
                    "node.kubernetes.io/not-ready:NoSchedule",
                    "node.kubernetes.io/not-ready:NoExecute",
                ],
            ),
            (ready("False"), all(NOT_READY), vec![]),
            (
                ready("Unknown"),
                all(NOT_READY),
                vec![
                    "mine:NoSchedule",
                    "node.kubernetes.io/unreachable:NoSchedule",
                    "node.kubernetes.io/unreachable:NoExecute",
                ],
            ),
            (json!([]), json!([taint(NOT_READY, "NoSchedule")]), vec![]),
            (
                json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]),
                json!([]),
                vec!["node.kubernetes.io/disk-pressure:NoSchedule"],
            ),
        ] {
            let next = taints(&node(&conditions, &held), now());
            let words: Vec<_> = next.iter().flatten().map(|one| format!("{}:{}", one.key, one.effect)).collect();
            assert_eq!(words, expected, "{conditions} {held}");
        }
        let mut cordoned = node(&ready("True"), &json!([]));
        cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
        assert_eq!(taints(&cordoned, now()).unwrap()[0].key, UNSCHEDULABLE);
    }

    #[test]
    fn a_silent_node_becomes_unknown_once() {
        let mut one = node(&json!([{"type": "Ready", "status": "True"}]), &json!([]));
        let next = silence(&one, now()).unwrap();
        assert_eq!(next.iter().filter(|one| one.status == "Unknown").count(), 4);
        one.status.as_mut().unwrap().conditions = Some(next);
        assert_eq!(silence(&one, now()), None);
    }

    #[test]
    fn silence_is_measured_by_our_own_clock() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let lease =
            |renewed: &str| -> Lease { serde_json::from_value(json!({"spec": {"renewTime": renewed}})).unwrap() };
        let one = node(
            &json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "2020-01-01T00:00:00Z"}]),
            &json!([]),
        );
        let first = Health::look(None, &one, Some(&lease("2020-01-01T00:00:00.000000Z")), now());
        assert_eq!(first.heard, now());
        let later = at("2026-01-01T01:00:30Z");
        let same = Health::look(Some(&first), &one, Some(&lease("2020-01-01T00:00:00.000000Z")), later);
        assert_eq!(same.heard, now());
        let renewed = Health::look(Some(&same), &one, Some(&lease("2020-01-01T00:00:10.000000Z")), later);
        assert_eq!(renewed.heard, later);
    }

    #[test]
    fn ready_pods_of_a_lost_node_stop_being_ready() {
        let one: Pod =
            serde_json::from_value(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})).unwrap();
        assert_eq!(unready(&one, now()).unwrap()[0].status, "False");
        assert_eq!(unready(&Pod::default(), now()), None);
    }
}
