//! What ReplicaSets and ReplicationControllers share: they keep a number of equal pods. Adopts and releases by selector,
//! creates in growing batches, deletes the least useful first. It never deletes a pod that its owner does not control.

use std::{
    borrow::Cow,
    cmp::{Ordering, Reverse},
    collections::HashMap,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, api::PostParams};
use serde::Serialize;

use crate::{
    controller::{Context, Error, Next, is_not_found, message},
    dependents,
    informer::{Key, Watched},
    object, pod,
    queue::Queue,
    selector,
};

/// A kind whose objects each keep a number of equal pods.
pub(crate) trait Replicated: Watched + Resource<Scope = NamespaceResourceScope> + Serialize {
    /// Whether the kind's status says how many pods are on their way out.
    const COUNTS_TERMINATING: bool = true;

    /// The object in the words of a ReplicaSet: its own metadata, and what it asks for and last said of itself.
    fn as_set(&self) -> Cow<'_, ReplicaSet>;

    /// The same object, saying this of itself.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

/// Pods created or deleted in one reconcile at most.
const BURST: usize = 500;

/// Runs the controller `name` of the kind until its context stops.
pub(crate) async fn run<K: Replicated>(context: Context, name: &'static str) {
    let sets = context.informers.of::<K>();
    let pods = context.informers.of::<Pod>();
    let queue: Arc<Queue<Key>> = Arc::default();
    sets.subscribe({
        let queue = queue.clone();
        move |change| queue.add(Key::of(change.object().meta()))
    });
    dependents::follow(&pods, &sets, &queue, |set: &K| set.as_set().spec.as_ref().map(|spec| spec.selector.clone()));
    if sets.synced(&context.stop).await && pods.synced(&context.stop).await {
        context.work(name, queue, context.options.workers, reconcile::<K>).await;
    }
}

/// What to do about a ReplicaSet, from what was seen.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    adopt: Vec<Arc<Pod>>,
    release: Vec<Arc<Pod>>,
    create: usize,
    delete: Vec<Arc<Pod>>,
    /// The pods that the set controls once it adopted and released.
    owned: Vec<Arc<Pod>>,
}

/// `pods` are those with an owner reference to the set and those that its selector matches; `related` says how many
/// active pods of the sets with the same owner run on a node.
fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], related: &HashMap<String, usize>, now: Timestamp) -> Plan {
    let Some(spec) = &set.spec else { return Plan::default() };
    let uid = object::uid(&set.metadata);
    let ending = set.metadata.deletion_timestamp.is_some();
    let mut plan = Plan::default();
    for one in pods {
        let matched = selector::matches(&spec.selector, one.metadata.labels.as_ref());
        match object::controller_of(&one.metadata) {
            Some(owner) if owner.uid == uid => {
                if matched {
                    plan.owned.push(one.clone());
                } else if !ending && !pod::is_terminating(one) {
                    plan.release.push(one.clone());
                }
            }
            Some(_) => {}
            None if matched && !ending && pod::is_active(one) => {
                plan.adopt.push(one.clone());
                plan.owned.push(one.clone());
            }
            None => {}
        }
    }
    if ending {
        return plan;
    }
    let mut active: Vec<_> = plan.owned.iter().filter(|one| pod::is_active(one)).cloned().collect();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if active.len() < wanted {
        plan.create = (wanted - active.len()).min(BURST);
    } else {
        let surplus = (active.len() - wanted).min(BURST);
        if surplus < active.len() {
            active.sort_by(|a, b| by_usefulness(a, b, related, now));
        }
        plan.delete = active.into_iter().take(surplus).collect();
    }
    plan
}

fn deletion_cost(one: &Pod) -> i32 {
    object::annotation(&one.metadata, "controller.kubernetes.io/pod-deletion-cost")
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn restarts(one: &Pod) -> i32 {
    let statuses = one.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).max().unwrap_or(0)
}

/// Ages in powers of two, so that among pods of about one age the choice falls by uid and spreads.
fn age_class(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let seconds = since.map_or(0, |since| object::seconds_between(since, now).max(0));
    u64::try_from(seconds).unwrap_or(0).checked_ilog2().map_or(0, |log| log + 1)
}

/// Orders pods: those that should go first come first.
pub(crate) fn by_usefulness(a: &Pod, b: &Pod, related: &HashMap<String, usize>, now: Timestamp) -> Ordering {
    let phase_rank = |one: &Pod| match pod::phase(one) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let crowd = |one: &Pod| pod::node_of(one).and_then(|node| related.get(node)).copied().unwrap_or(0);
    let ready_class = |one: &Pod| if pod::is_ready(one) { age_class(pod::ready_since(one), now) } else { 0 };
    let created_class = |one: &Pod| age_class(one.metadata.creation_timestamp.as_ref().map(|at| at.0), now);
    let rank = |one: &Pod| {
        (
            (pod::node_of(one).is_some(), phase_rank(one), pod::is_ready(one), deletion_cost(one)),
            (Reverse(crowd(one)), ready_class(one), Reverse(restarts(one)), created_class(one)),
        )
    };
    rank(a).cmp(&rank(b)).then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

/// The status that the pods amount to. `failure` is the reason and message of what went wrong in this reconcile.
fn status(set: &ReplicaSet, owned: &[Arc<Pod>], failure: Option<(&str, String)>, now: Timestamp) -> ReplicaSetStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let template_labels =
        spec.template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let count =
        |holds: &dyn Fn(&Pod) -> bool| i32::try_from(owned.iter().filter(|one| holds(one)).count()).unwrap_or(i32::MAX);
    let labelled = |one: &Pod| {
        template_labels.iter().all(|(name, value)| object::label(&one.metadata, name) == Some(value.as_str()))
    };
    let held = set.status.clone().unwrap_or_default();
    let mut conditions = held.conditions.unwrap_or_default();
    match failure {
        Some((reason, message)) => {
            if !conditions.iter().any(|one| one.type_ == "ReplicaFailure") {
                conditions.push(ReplicaSetCondition {
                    type_: "ReplicaFailure".to_owned(),
                    status: "True".to_owned(),
                    reason: Some(reason.to_owned()),
                    message: Some(message),
                    last_transition_time: Some(object::time(now)),
                });
            }
        }
        None => conditions.retain(|one| one.type_ != "ReplicaFailure"),
    }
    let shown = |number: i32| Some(number).filter(|number| *number != 0);
    ReplicaSetStatus {
        replicas: count(&pod::is_active),
        fully_labeled_replicas: shown(count(&|one| pod::is_active(one) && labelled(one))),
        ready_replicas: shown(count(&|one| pod::is_active(one) && pod::is_ready(one))),
        available_replicas: shown(count(&|one| pod::is_active(one) && pod::is_available(one, min_ready, now))),
        terminating_replicas: Some(count(&|one| pod::is_terminating(one) && !pod::is_terminal(one))),
        observed_generation: set.metadata.generation,
        conditions: Some(conditions).filter(|all| !all.is_empty()),
    }
}

/// Statuses that say the same, whatever is absent and whatever is zero.
fn same(a: &ReplicaSetStatus, b: &ReplicaSetStatus) -> bool {
    let normal = |one: &ReplicaSetStatus| {
        let mut one = one.clone();
        for number in [&mut one.fully_labeled_replicas, &mut one.ready_replicas, &mut one.available_replicas] {
            *number = number.filter(|number| *number != 0);
        }
        one.conditions = one.conditions.filter(|all| !all.is_empty());
        one
    };
    normal(a) == normal(b)
}

/// Seconds until the next ready pod becomes available.
fn wakes_in(set: &ReplicaSet, owned: &[Arc<Pod>], now: Timestamp) -> Option<u64> {
    let min_ready = set.spec.as_ref()?.min_ready_seconds.unwrap_or(0);
    let waits = owned.iter().filter(|one| pod::is_active(one)).filter_map(|one| pod::available_in(one, min_ready, now));
    waits.filter(|seconds| *seconds > 0).min().and_then(|seconds| u64::try_from(seconds).ok())
}

async fn reconcile<K: Replicated>(context: Context, key: Key) -> Result<Next, Error> {
    let sets = context.informers.of::<K>();
    let pods = context.informers.of::<Pod>();
    let Some(owner) = sets.get(&key) else { return Ok(Next::Done) };
    let set = owner.as_set();
    let Some(spec) = &set.spec else { return Ok(Next::Done) };
    if selector::is_empty(&spec.selector) {
        return Ok(Next::Done);
    }
    let mut seen = pods.owned_by(object::uid(&set.metadata));
    for one in pods.select(&key.namespace, &spec.selector) {
        if object::controller_of(&one.metadata).is_none() {
            seen.push(one);
        }
    }
    let now = context.now();
    let plan = plan(&set, &seen, &crowds::<K>(&context, owner.meta()), now);
    let api = context.api::<Pod>(&key.namespace);

    let mut owned = plan.owned.clone();
    if !plan.adopt.is_empty() {
        dependents::still_itself(&context, &*owner).await?;
        for one in &plan.adopt {
            if !dependents::adopt(&api, &*owner, one, None).await? {
                owned.retain(|other| other.metadata.uid != one.metadata.uid);
            }
        }
    }
    for one in &plan.release {
        dependents::release(&api, object::uid(&set.metadata), one, None).await?;
    }

    let mut failure = None;
    let mut error = None;
    if set.metadata.deletion_timestamp.is_none() {
        let outcome = if plan.create > 0 {
            failure = Some("FailedCreate");
            dependents::create(&context, &api, &*owner, wanted_pods(&set, &*owner, plan.create)).await
        } else {
            failure = Some("FailedDelete");
            dependents::remove(&context, &api, &*owner, &plan.delete).await
        };
        match outcome {
            Ok(()) => failure = None,
            Err(first) => error = Some(first),
        }
    }

    let failed = failure.map(|reason| (reason, error.as_ref().map(message).unwrap_or_default()));
    let mut next = status(&set, &owned, failed, now);
    if !K::COUNTS_TERMINATING {
        next.terminating_replicas = None;
    }
    let held = set.status.clone().unwrap_or_default();
    if !same(&next, &held) {
        let (name, written) = (&key.name, owner.with_status(next));
        match context.api::<K>(&key.namespace).replace_status(name, &PostParams::default(), &written).await {
            Ok(written) => {
                sets.saw(written.meta()).await;
            }
            Err(gone) if is_not_found(&gone) => return Ok(Next::Done),
            Err(failed) => return Err(failed.into()),
        }
    }
    if let Some(error) = error {
        return Err(error.into());
    }
    Ok(wakes_in(&set, &owned, now).map_or(Next::Done, |seconds| Next::After(Duration::from_secs(seconds))))
}

/// So many pods of the set's template.
fn wanted_pods<K: Replicated>(set: &ReplicaSet, owner: &K, count: usize) -> Vec<Pod> {
    let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else { return Vec::new() };
    let prefix: String = object::name(&set.metadata).chars().take(57).collect();
    let reference = object::controller_reference(owner);
    vec![pod::from_template(template, object::namespace(&set.metadata), &prefix, reference); count]
}

/// Active pods per node, of this set and of the sets with the same controller.
fn crowds<K: Replicated>(context: &Context, set: &ObjectMeta) -> HashMap<String, usize> {
    let sets = context.informers.of::<K>();
    let pods = context.informers.of::<Pod>();
    let mut uids = vec![object::uid(set).to_owned()];
    if let Some(owner) = object::controller_of(set) {
        uids.extend(sets.owned_by(&owner.uid).iter().filter_map(|other| other.meta().uid.clone()));
        uids.sort();
        uids.dedup();
    }
    let mut crowds = HashMap::new();
    for uid in uids {
        for one in pods.owned_by(&uid).iter().filter(|one| pod::is_active(one)) {
            if let Some(node) = pod::node_of(one) {
                *crowds.entry(node.to_owned()).or_default() += 1;
            }
        }
    }
    crowds
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "rs", "generation": 2},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web", "extra": "1"}}, "spec": {"containers": []}}},
        }))
        .unwrap()
    }

    /// A pod from words: `ready`, `pending`, `node=`, `owner=`, `app=`, `cost=`, `deleted`, `failed`, `restarts=`, `age=`.
    fn pod_of(name: &str, words: &str) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}, "annotations": {},
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}]},
            "spec": {"containers": [], "nodeName": "n1"},
            "status": {"phase": "Running", "conditions": []},
        });
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("ready", _) => {
                    value["status"]["conditions"] =
                        json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:30:00Z"}]);
                }
                ("fresh", _) => {
                    value["status"]["conditions"] =
                        json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:59:55Z"}]);
                }
                ("pending", _) => value["status"]["phase"] = json!("Pending"),
                ("failed", _) => value["status"]["phase"] = json!("Failed"),
                ("deleted", _) => value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:50:00Z"),
                ("orphan", _) => value["metadata"]["ownerReferences"] = Value::Null,
                ("owner", uid) => value["metadata"]["ownerReferences"][0]["uid"] = json!(uid),
                ("app", app) => value["metadata"]["labels"]["app"] = json!(app),
                ("node", node) => value["spec"]["nodeName"] = json!(node),
                ("cost", cost) => {
                    value["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = json!(cost);
                }
                ("restarts", count) => {
                    value["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": true,
                        "restartCount": count.parse::<i32>().unwrap()}]);
                }
                ("extra", _) => value["metadata"]["labels"]["extra"] = json!("1"),
                (other, _) => panic!("{other}"),
            }
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|one| object::name(&one.metadata)).collect()
    }

    #[test]
    fn counts_decide_what_is_created_and_deleted() {
        for (replicas, pods, create, delete) in [
            (3, vec![], 3, vec![]),
            (3, vec![("a", "ready")], 2, vec![]),
            (1, vec![("a", "failed"), ("b", "deleted")], 1, vec![]),
            (0, vec![("a", "ready"), ("b", "ready")], 0, vec!["a", "b"]),
            (1, vec![("a", "ready"), ("b", "pending")], 0, vec!["b"]),
            (1, vec![("a", "ready"), ("b", "owner=other"), ("c", "ready app=db")], 0, vec![]),
        ] {
            let pods: Vec<_> = pods.into_iter().map(|(name, words)| pod_of(name, words)).collect();
            let plan = plan(&set(replicas), &pods, &HashMap::new(), now());
            assert_eq!((plan.create, names(&plan.delete)), (create, delete), "{replicas} {:?}", names(&pods));
        }
    }

    #[test]
    fn orphans_are_adopted_and_strangers_released() {
        let pods = [pod_of("mine", "ready"), pod_of("orphan", "ready orphan"), pod_of("stray", "app=db")];
        let plan = plan(&set(3), &pods, &HashMap::new(), now());
        assert_eq!((names(&plan.adopt), names(&plan.release)), (vec!["orphan"], vec!["stray"]));
        assert_eq!((names(&plan.owned), plan.create), (vec!["mine", "orphan"], 1));
        let mut ending = set(3);
        ending.metadata.deletion_timestamp = Some(object::time(now()));
        let plan = super::plan(&ending, &pods, &HashMap::new(), now());
        assert_eq!((plan.adopt.len(), plan.release.len(), plan.create), (0, 0, 0));
    }

    #[test]
    fn the_least_useful_goes_first() {
        let crowds = HashMap::from([("n1".to_owned(), 1), ("n2".to_owned(), 3)]);
        for (first, second) in [
            ("node=", "node=n1"),
            ("pending", "ready"),
            ("", "ready"),
            ("ready cost=-1", "ready"),
            ("ready", "ready cost=5"),
            ("ready node=n2", "ready node=n1"),
            ("fresh", "ready"),
            ("ready restarts=4", "ready restarts=1"),
        ] {
            for (a, b) in [("a", "b"), ("b", "a")] {
                let (first_pod, second_pod) = (pod_of(a, first), pod_of(b, second));
                assert_eq!(
                    by_usefulness(&first_pod, &second_pod, &crowds, now()),
                    Ordering::Less,
                    "{first} before {second}"
                );
            }
        }
    }

    #[test]
    fn status_counts_and_keeps_quiet_when_nothing_changed() {
        let pods = [pod_of("a", "ready extra"), pod_of("b", "fresh"), pod_of("c", "deleted"), pod_of("d", "failed")];
        let mut set = set(3);
        set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
        let next = status(&set, &pods, None, now());
        assert_eq!(
            serde_json::to_value(&next).unwrap(),
            json!({"replicas": 2, "fullyLabeledReplicas": 1, "readyReplicas": 2, "availableReplicas": 1,
                "terminatingReplicas": 1, "observedGeneration": 2})
        );
        assert_eq!(wakes_in(&set, &pods, now()), Some(5));
        set.status = Some(next.clone());
        assert!(same(&status(&set, &pods, None, now()), &next));
        let failed = status(&set, &pods, Some(("FailedCreate", "no".to_owned())), now());
        assert_eq!(failed.conditions.as_ref().unwrap()[0].type_, "ReplicaFailure");
        set.status = Some(failed);
        assert!(status(&set, &pods, None, now()).conditions.is_none());
    }
}
