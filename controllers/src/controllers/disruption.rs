//! Keeps the status of PodDisruptionBudgets: how many pods there should be, how many are healthy, and how many may be
//! disrupted. It never evicts and never refuses an eviction: the API server does, by this status.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, OwnerReference, Time},
        util::intstr::IntOrString,
    },
};
use kube::api::PostParams;

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule, is_not_found},
    events::Note,
    informer::{Key, Watched},
    object, pod,
    queue::Queue,
    selector,
};

impl Watched for PodDisruptionBudget {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    aliases: &["disruption"],
    service_account: "disruption-controller",
    reporter: "controllermanager",
    watches: &[
        "policy/v1.PodDisruptionBudget",
        "v1.Pod",
        "apps/v1.Deployment",
        "apps/v1.ReplicaSet",
        "apps/v1.StatefulSet",
        "v1.ReplicationController",
    ],
    rules: &[
        Rule::new(&["apps", "extensions"], &["deployments"], &["get", "list", "watch"]),
        Rule::new(&["apps", "extensions"], &["replicasets"], &["get", "list", "watch"]),
        Rule::new(&[""], &["replicationcontrollers"], &["get", "list", "watch"]),
        Rule::new(&["policy"], &["poddisruptionbudgets"], &["get", "list", "watch"]),
        Rule::new(&["apps"], &["statefulsets"], &["get", "list", "watch"]),
        Rule::new(&["policy"], &["poddisruptionbudgets/status"], &["update"]),
        Rule::new(&[""], &["pods/status"], &["patch", "update"]),
        Rule::new(&["*"], &["*/scale"], &["get"]),
        EVENTS,
    ],
    start,
};

/// An evicted pod that is still there after this was not deleted after all.
const DELETION: i64 = 120;

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let budgets = context.informers.of::<PodDisruptionBudget>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<Key>> = Arc::default();
        budgets.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        pods.subscribe({
            let (queue, budgets) = (queue.clone(), budgets.clone());
            move |change| {
                let one = change.object();
                for budget in budgets.in_namespace(object::namespace(&one.metadata)) {
                    if takes(&budget, one) {
                        queue.add(Key::of(&budget.metadata));
                    }
                }
            }
        });
        // A change of scale reaches the budgets through the pods that it makes or ends.
        let owners = [
            context.informers.of::<Deployment>().synced(&context.stop).await,
            context.informers.of::<ReplicaSet>().synced(&context.stop).await,
            context.informers.of::<StatefulSet>().synced(&context.stop).await,
            context.informers.of::<ReplicationController>().synced(&context.stop).await,
        ];
        if owners == [true; 4] && budgets.synced(&context.stop).await && pods.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

fn takes(budget: &PodDisruptionBudget, one: &Pod) -> bool {
    let wanted = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| selector::matches(wanted, one.metadata.labels.as_ref()))
}

/// What the pods of a budget belong to, and how many of them there should be.
#[derive(Debug, Default)]
struct Scale {
    expected: i32,
    /// Pods that nobody controls.
    unmanaged: Vec<String>,
    /// A pod whose controller's scale is unknown.
    unknown: Option<String>,
}

/// The sum of what the pods' controllers ask for; `scale_of` says what one asks for, and its uid.
fn scale(pods: &[Arc<Pod>], scale_of: impl Fn(&Pod, &OwnerReference) -> Option<(String, i32)>) -> Scale {
    let mut scale = Scale::default();
    let mut controllers = BTreeMap::new();
    for one in pods {
        let Some(owner) = object::controller_of(&one.metadata) else {
            scale.unmanaged.push(object::name(&one.metadata).to_owned());
            continue;
        };
        match scale_of(one, owner) {
            Some((uid, replicas)) => {
                controllers.insert(uid, replicas);
            }
            None => scale.unknown = Some(format!("{} {}", owner.kind, owner.name)),
        }
    }
    scale.expected = controllers.values().sum();
    scale
}

/// How many pods are expected and how many of them have to be healthy.
fn demand(budget: &PodDisruptionBudget, pods: usize, scale: &Scale) -> (i32, i32) {
    let Some(spec) = &budget.spec else { return (0, 0) };
    let there = i32::try_from(pods).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let lost = object::scaled(most, scale.expected, true).unwrap_or(0);
            (scale.expected, (scale.expected - lost).max(0))
        }
        (None, Some(IntOrString::Int(least))) => (there, *least),
        (None, Some(share)) => (scale.expected, object::scaled(share, scale.expected, true).unwrap_or(0)),
        (None, None) => (there, 0),
    }
}

/// The evicted pods that are about to be deleted, and in how many seconds the first of them no longer counts as such.
fn disrupted(
    held: &BTreeMap<String, Time>,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<i64>) {
    let alive: BTreeSet<&str> =
        pods.iter().filter(|one| !pod::is_terminating(one)).map(|one| object::name(&one.metadata)).collect();
    let left = |at: &Time| DELETION - object::seconds_between(at.0, now);
    let kept: BTreeMap<_, _> = held
        .iter()
        .filter(|(name, at)| alive.contains(name.as_str()) && left(at) > 0)
        .map(|(name, at)| (name.clone(), at.clone()))
        .collect();
    let wake = kept.values().map(left).min();
    (kept, wake)
}

/// The status that the pods amount to, and when to look again.
fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: &Scale,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<i64>) {
    let held = budget.status.clone().unwrap_or_default();
    let (disrupted, wake) = disrupted(&held.disrupted_pods.unwrap_or_default(), pods, now);
    let healthy = pods.iter().filter(|one| {
        !pod::is_terminating(one) && pod::is_ready(one) && !disrupted.contains_key(object::name(&one.metadata))
    });
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let (expected, desired) = demand(budget, pods.len(), scale);
    let allowed = if expected > 0 && scale.unknown.is_none() { (healthy - desired).max(0) } else { 0 };
    let mut conditions = held.conditions.unwrap_or_default();
    let (state, reason, message) = match &scale.unknown {
        Some(owner) => ("False", "SyncFailed", format!("found no scale of {owner}")),
        None if allowed > 0 => ("True", "SufficientPods", String::new()),
        None => ("False", "InsufficientPods", String::new()),
    };
    let same = |one: &&Condition| one.type_ == "DisruptionAllowed" && one.status == state;
    let since = conditions.iter().find(same).map_or_else(|| object::time(now), |one| one.last_transition_time.clone());
    conditions.retain(|one| one.type_ != "DisruptionAllowed");
    conditions.push(Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since,
    });
    let status = PodDisruptionBudgetStatus {
        conditions: Some(conditions),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: Some(disrupted).filter(|all| !all.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    };
    (status, wake)
}

/// What the pod's controller asks for; a ReplicaSet's own controller speaks for it.
fn scale_of(context: &Context, one: &Pod, owner: &OwnerReference) -> Option<(String, i32)> {
    let namespace = object::namespace(&one.metadata);
    let key = |name: &str| Key::new(namespace, name);
    let found = |uid: &Option<String>, replicas: Option<i32>| {
        uid.as_ref().filter(|uid| **uid == owner.uid).map(|uid| (uid.clone(), replicas.unwrap_or(1)))
    };
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let set = context.informers.of::<ReplicaSet>().get(&key(&owner.name))?;
            if let Some(above) = object::controller_of(&set.metadata).filter(|above| above.kind == "Deployment") {
                let deployment = context.informers.of::<Deployment>().get(&key(&above.name))?;
                return Some((above.uid.clone(), deployment.spec.as_ref()?.replicas.unwrap_or(1)));
            }
            found(&set.metadata.uid, set.spec.as_ref()?.replicas)
        }
        "StatefulSet" => {
            let set = context.informers.of::<StatefulSet>().get(&key(&owner.name))?;
            found(&set.metadata.uid, set.spec.as_ref()?.replicas)
        }
        "ReplicationController" => {
            let one = context.informers.of::<ReplicationController>().get(&key(&owner.name))?;
            found(&one.metadata.uid, one.spec.as_ref()?.replicas)
        }
        _ => None,
    }
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let budgets = context.informers.of::<PodDisruptionBudget>();
    let Some(budget) = budgets.get(&key) else { return Ok(Next::Done) };
    let mut pods = context.informers.of::<Pod>().in_namespace(&key.namespace);
    pods.retain(|one| takes(&budget, one));
    if pods.is_empty() && budget.status.as_ref().and_then(|status| status.observed_generation).is_none() {
        context.events.record(&*budget, Note::normal("NoPods", "No matching pods found".to_owned()));
    }
    let by_count = budget.spec.as_ref().is_some_and(|spec| {
        spec.max_unavailable.is_none() && matches!(spec.min_available, Some(IntOrString::Int(_)) | None)
    });
    // A plain number of pods asks nobody how many there should be.
    let scale = if by_count { Scale::default() } else { scale(&pods, |one, owner| scale_of(&context, one, owner)) };
    if !scale.unmanaged.is_empty() {
        let text = format!(
            "Pods that this PodDisruptionBudget selects were found to be unmanaged. As a result, the status of the PDB \
             cannot be calculated correctly, which may result in undefined behavior. To account for these pods please \
             set \".spec.minAvailable\" field of the PDB to an integer value: {}",
            object::join(scale.unmanaged.iter().map(String::as_str), ", ")
        );
        context.events.record(&*budget, Note::warning("UnmanagedPods", text));
    }
    let (next, wake) = status(&budget, &pods, &scale, context.now());
    if budget.status.as_ref() != Some(&next) {
        let mut written = PodDisruptionBudget::clone(&budget);
        written.status = Some(next);
        let api = context.api::<PodDisruptionBudget>(&key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &written).await {
            Ok(written) => {
                budgets.saw(&written.metadata).await;
            }
            Err(error) if is_not_found(&error) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        }
    }
    let wake = wake.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(wake.map_or(Next::Done, |seconds| Next::After(Duration::from_secs(seconds))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn budget(spec: impl Into<Value>, status: impl Into<Value>) -> PodDisruptionBudget {
        let (spec, status): (Value, Value) = (spec.into(), status.into());
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status}))
            .unwrap()
    }

    /// Pods by word: `ready`, `not`, `ending`, each with the controller `set`, or without one after a dash.
    fn pods(words: &str) -> Vec<Arc<Pod>> {
        let one = |(at, word): (usize, &str)| {
            let (state, free) = word.strip_prefix('-').map_or((word, false), |word| (word, true));
            let mut one = json!({"metadata": {"name": format!("p{at}")}, "status": {"conditions": [
                {"type": "Ready", "status": if state == "not" { "False" } else { "True" }}]}});
            if state == "ending" {
                one["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            if !free {
                one["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "name": "set", "uid": "set", "controller": true}]);
            }
            Arc::new(serde_json::from_value(one).unwrap())
        };
        words.split_whitespace().enumerate().map(one).collect()
    }

    #[test]
    fn demands_by_number_and_by_share() {
        for (spec, words, replicas, expected) in [
            (json!({"minAvailable": 2}), "ready ready ready", 9, (3, 3, 2, 1)),
            (json!({"minAvailable": 2}), "ready ready not", 9, (3, 2, 2, 0)),
            (json!({"minAvailable": 2}), "ready ready ending", 9, (3, 2, 2, 0)),
            (json!({"minAvailable": "50%"}), "ready ready ready", 3, (3, 3, 2, 1)),
            (json!({"maxUnavailable": 1}), "ready ready ready", 3, (3, 3, 2, 1)),
            (json!({"maxUnavailable": "10%"}), "ready ready ready", 3, (3, 3, 2, 1)),
            (json!({"maxUnavailable": 5}), "ready", 3, (3, 1, 0, 1)),
            (json!({"maxUnavailable": 1}), "-ready -ready", 3, (0, 2, 0, 0)),
            (json!({"minAvailable": 0}), "", 3, (0, 0, 0, 0)),
        ] {
            let pods = pods(words);
            let scale = scale(&pods, |_, owner| Some((owner.uid.clone(), replicas)));
            let (next, _) = status(&budget(spec.clone(), json!({})), &pods, &scale, now());
            let found = (next.expected_pods, next.current_healthy, next.desired_healthy, next.disruptions_allowed);
            let (a, b, c, d) = expected;
            assert_eq!(found, (Some(a), Some(b), Some(c), Some(d)), "{spec} {words}");
            let reason = if d > 0 { "SufficientPods" } else { "InsufficientPods" };
            assert_eq!(next.conditions.unwrap()[0].reason, reason, "{spec} {words}");
        }
    }

    #[test]
    fn evicted_pods_do_not_count_until_they_are_given_up() {
        let held = json!({"disruptedPods": {"p0": "2026-01-01T00:09:30Z", "p1": "2026-01-01T00:07:00Z", "gone": "2026-01-01T00:09:00Z"}});
        let pods = pods("ready ready ready");
        let (next, wake) = status(&budget(json!({"minAvailable": 1}), held), &pods, &Scale::default(), now());
        assert_eq!(next.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["p0"]);
        assert_eq!((next.current_healthy, next.disruptions_allowed, wake), (Some(2), Some(1), Some(90)));
    }

    #[test]
    fn without_the_scale_nothing_is_allowed() {
        let pods = pods("ready ready");
        let scale = scale(&pods, |_, _| None);
        let (next, _) = status(&budget(json!({"maxUnavailable": 1}), json!({})), &pods, &scale, now());
        assert_eq!((next.disruptions_allowed, next.conditions.unwrap()[0].reason.as_str()), (Some(0), "SyncFailed"));
    }
}
