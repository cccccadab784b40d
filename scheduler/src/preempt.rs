//! Which pods of lower priority have to go so that a pod fits somewhere. A pure function.
//!
//! Never looks at disruption budgets. Source: upstream's documented pod priority and preemption.

use crate::plugins::PLUGINS;
use crate::snapshot::{PodInfo, Snapshot};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::sync::Arc;

/// Nodes that are tried at most.
const TRIED: usize = 100;

/// Where room can be made, and who has to go.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// The node's name.
    pub node: String,
    /// The pods, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
}

/// `spec.priority`; 0 where admission left it out.
#[must_use]
pub fn priority(pod: &PodInfo) -> i32 {
    pod.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

fn is_ending(pod: &PodInfo) -> bool {
    pod.pod.metadata.deletion_timestamp.is_some()
}

fn started(pod: &PodInfo) -> Timestamp {
    let start = pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    start.map_or(Timestamp::MAX, |start| start.0)
}

/// Whether the pod may make others go: unless it forbids it itself, or those whom it made go before are still on their way.
#[must_use]
pub fn may(pod: &PodInfo, nominated: Option<&str>, snapshot: &Snapshot) -> bool {
    let policy = pod.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    let node = nominated.and_then(|node| snapshot.node(node));
    let waits =
        node.is_some_and(|node| node.pods.values().any(|other| is_ending(other) && priority(other) < priority(pod)));
    policy != Some("Never") && !waits
}

/// The node on which the least has to go for `pod`: no pod that is as important as it, then the least important ones,
/// the fewest, those that began last.
#[must_use]
pub fn choose(snapshot: &Snapshot, pod: &PodInfo) -> Option<Preemption> {
    let own = priority(pod);
    let lower = |other: &Arc<PodInfo>| priority(other) < own;
    let names: Vec<String> = snapshot
        .nodes()
        .filter(|node| node.pods.values().any(lower))
        .map(|node| node.name().to_owned())
        .take(TRIED)
        .collect();
    if names.is_empty() {
        return None;
    }
    let mut trial = snapshot.clone();
    let tried = names.into_iter().filter_map(|node| {
        let victims = on(&mut trial, pod, &node)?;
        Some(Preemption { node, victims })
    });
    tried.min_by_key(|one| {
        let highest = one.victims.iter().map(|victim| priority(victim)).max();
        let sum: i64 = one.victims.iter().map(|victim| i64::from(priority(victim))).sum();
        let first = one.victims.iter().filter(|victim| Some(priority(victim)) == highest).map(|victim| started(victim));
        (highest, sum, one.victims.len(), Reverse(first.min()), one.node.clone())
    })
}

/// Who has to go from this node; `None` when not even all of lower priority would do. The trial is left as it was.
fn on(trial: &mut Snapshot, pod: &PodInfo, node: &str) -> Option<Vec<Arc<PodInfo>>> {
    let own = priority(pod);
    let mut lower: Vec<_> = trial.node(node)?.pods.values().filter(|other| priority(other) < own).cloned().collect();
    // The most important one stays first; of equals the one that has run longest.
    lower.sort_by_key(|other| (Reverse(priority(other)), started(other), other.uid().to_owned()));
    for other in &lower {
        trial.remove_pod(other.uid());
    }
    let mut victims = Vec::new();
    let possible = fits(trial, pod, node);
    for other in &lower {
        trial.place(other, node);
        if possible && !fits(trial, pod, node) {
            trial.remove_pod(other.uid());
            victims.push(Arc::clone(other));
        }
    }
    for other in &victims {
        trial.place(other, node);
    }
    possible.then_some(victims).filter(|victims| !victims.is_empty())
}

fn fits(snapshot: &Snapshot, pod: &PodInfo, node: &str) -> bool {
    let Some(node) = snapshot.node(node) else { return false };
    PLUGINS.iter().filter_map(|plugin| plugin.filter(pod, snapshot)).all(|filter| filter.check(node).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    /// A pod by words: its name, its priority, the cores that it asks for; `start` in seconds after midnight.
    fn pod(name: &str, priority: i32, cpu: &str, start: u8) -> PodInfo {
        let status = json!({"startTime": format!("2026-01-01T00:00:{start:02}Z")});
        let pod = json!({"metadata": {"name": name, "uid": name, "namespace": "d"}, "status": status, "spec": {
            "priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        PodInfo::new(Arc::new(from_value(pod).unwrap()))
    }

    fn cluster(pods: &[(&str, i32, &str, u8, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for name in ["n1", "n2"] {
            let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": "10"}}});
            snapshot.set_node(Arc::new(from_value(node).unwrap()));
        }
        for (name, priority, cpu, start, node) in pods {
            snapshot.place(&Arc::new(pod(name, *priority, cpu, *start)), node);
        }
        snapshot
    }

    fn chosen(snapshot: &Snapshot, pod: &PodInfo) -> Option<(String, Vec<String>)> {
        choose(snapshot, pod).map(|one| (one.node, one.victims.iter().map(|victim| victim.uid().to_owned()).collect()))
    }

    #[test]
    fn the_least_goes() {
        let high = pod("high", 100, "2", 0);
        for (pods, expected) in [
            // The lower priority, though it is on the later node.
            (&[("a", 5, "4", 0, "n1"), ("b", 1, "4", 0, "n2")][..], Some(("n2", vec!["b"]))),
            // Nobody who is as important.
            (&[("a", 100, "4", 0, "n1"), ("b", 100, "4", 0, "n2")], None),
            // Only as many as it takes, the less important.
            (&[("a", 5, "2", 0, "n1"), ("b", 1, "2", 0, "n1"), ("c", 100, "4", 0, "n2")], Some(("n1", vec!["b"]))),
            // The fewer.
            (
                &[("a", 1, "4", 0, "n1"), ("b", 0, "2", 0, "n2"), ("c", 1, "1", 0, "n2"), ("d", 100, "1", 0, "n2")],
                Some(("n2", vec!["b"])),
            ),
            // The one that began last.
            (&[("a", 1, "4", 1, "n1"), ("b", 1, "4", 9, "n2")], Some(("n2", vec!["b"]))),
            // Not even all would do.
            (&[("a", 1, "1", 0, "n1"), ("c", 100, "3", 0, "n1"), ("b", 100, "4", 0, "n2")], None),
        ] {
            let snapshot = cluster(pods);
            let expected =
                expected.map(|(node, victims)| (node.to_owned(), victims.into_iter().map(str::to_owned).collect()));
            assert_eq!(chosen(&snapshot, &high), expected, "{pods:?}");
        }
    }

    #[test]
    fn whoever_waits_for_room_does_not_ask_for_more() {
        let mut snapshot = cluster(&[("b", 1, "4", 0, "n2")]);
        let high = pod("high", 100, "2", 0);
        assert!(may(&high, None, &snapshot) && may(&high, Some("n2"), &snapshot));
        let mut ending: Value = serde_json::to_value(&*pod("b", 1, "4", 0).pod).unwrap();
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        snapshot.place(&Arc::new(PodInfo::new(Arc::new(from_value(ending).unwrap()))), "n2");
        assert!(!may(&high, Some("n2"), &snapshot));
        let mut modest: Value = serde_json::to_value(&*high.pod).unwrap();
        modest["spec"]["preemptionPolicy"] = json!("Never");
        assert!(!may(&PodInfo::new(Arc::new(from_value(modest).unwrap())), None, &snapshot));
    }
}
