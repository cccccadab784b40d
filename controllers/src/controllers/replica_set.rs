//! Keeps as many pods as a ReplicaSet asks for: adopts and releases by selector, creates in growing batches, deletes
//! the least useful first. It never deletes a pod that it does not control.

use std::{
    cmp::{Ordering, Reverse},
    collections::HashMap,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    controller::{
        self, Context, Controller, EVENTS, Error, Next, Rule, is_namespace_terminating, is_not_found, message,
    },
    events::Note,
    informer::{Change, Key, Watched},
    object, pod,
    queue::Queue,
    selector,
};

impl Watched for ReplicaSet {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    aliases: &["replicaset"],
    service_account: "replicaset-controller",
    reporter: "replicaset-controller",
    watches: &["apps/v1.ReplicaSet", "v1.Pod"],
    rules: &[
        Rule::new(&["apps", "extensions"], &["replicasets"], &["get", "list", "update", "watch"]),
        Rule::new(&["apps", "extensions"], &["replicasets/status"], &["update"]),
        Rule::new(&["apps", "extensions"], &["replicasets/finalizers"], &["update"]),
        Rule::new(&[""], &["pods"], &["create", "delete", "list", "patch", "watch"]),
        EVENTS,
    ],
    start,
};

/// Pods created or deleted in one reconcile at most.
const BURST: usize = 500;

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let sets = context.informers.of::<ReplicaSet>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<Key>> = Arc::default();
        sets.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        pods.subscribe({
            let (queue, sets) = (queue.clone(), sets.clone());
            move |change| {
                if let Change::Applied { old: Some(old), new } = change
                    && object::controller_of(&old.metadata) != object::controller_of(&new.metadata)
                {
                    wake_owner(&queue, old);
                }
                let one = change.object();
                if object::controller_of(&one.metadata).is_some() {
                    wake_owner(&queue, one);
                } else if one.metadata.deletion_timestamp.is_none() && matches!(change, Change::Applied { .. }) {
                    for set in sets.in_namespace(object::namespace(&one.metadata)) {
                        if set.spec.as_ref().is_some_and(|spec| {
                            !selector::is_empty(&spec.selector)
                                && selector::matches(&spec.selector, one.metadata.labels.as_ref())
                        }) {
                            queue.add(Key::of(&set.metadata));
                        }
                    }
                }
            }
        });
        if sets.synced(&context.stop).await && pods.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

fn wake_owner(queue: &Queue<Key>, one: &Pod) {
    if let Some(owner) = object::controller_of(&one.metadata)
        && owner.kind == "ReplicaSet"
    {
        queue.add(Key::new(object::namespace(&one.metadata), &owner.name));
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
fn by_usefulness(a: &Pod, b: &Pod, related: &HashMap<String, usize>, now: Timestamp) -> Ordering {
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

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let sets = context.informers.of::<ReplicaSet>();
    let pods = context.informers.of::<Pod>();
    let Some(set) = sets.get(&key) else { return Ok(Next::Done) };
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
    let plan = plan(&set, &seen, &crowds(&context, &set), now);
    let api = context.api::<Pod>(&key.namespace);

    let mut owned = plan.owned.clone();
    if !plan.adopt.is_empty() {
        still_itself(&context, &set).await?;
        for one in &plan.adopt {
            if !adopt(&api, &set, one).await? {
                owned.retain(|other| other.metadata.uid != one.metadata.uid);
            }
        }
    }
    for one in &plan.release {
        release(&api, &set, one).await?;
    }

    let mut failure = None;
    let mut error = None;
    if set.metadata.deletion_timestamp.is_none() {
        let outcome = if plan.create > 0 {
            failure = Some("FailedCreate");
            create(&context, &api, &set, plan.create).await
        } else {
            failure = Some("FailedDelete");
            remove(&context, &api, &set, &plan.delete).await
        };
        match outcome {
            Ok(()) => failure = None,
            Err(first) => error = Some(first),
        }
    }

    let failed = failure.map(|reason| (reason, error.as_ref().map(message).unwrap_or_default()));
    let next = status(&set, &owned, failed, now);
    let held = set.status.clone().unwrap_or_default();
    if !same(&next, &held) {
        let mut written = ReplicaSet::clone(&set);
        written.status = Some(next);
        let name = &key.name;
        match context.api::<ReplicaSet>(&key.namespace).replace_status(name, &PostParams::default(), &written).await {
            Ok(written) => {
                sets.saw(&written.metadata).await;
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

/// Active pods per node, of this set and of the sets with the same controller.
fn crowds(context: &Context, set: &ReplicaSet) -> HashMap<String, usize> {
    let sets = context.informers.of::<ReplicaSet>();
    let pods = context.informers.of::<Pod>();
    let mut uids = vec![object::uid(&set.metadata).to_owned()];
    if let Some(owner) = object::controller_of(&set.metadata) {
        uids.extend(sets.owned_by(&owner.uid).iter().filter_map(|other| other.metadata.uid.clone()));
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

/// Asks the API, not the cache, whether the set may still adopt.
async fn still_itself(context: &Context, set: &ReplicaSet) -> Result<(), Error> {
    let name = object::name(&set.metadata);
    let live = context.api::<ReplicaSet>(object::namespace(&set.metadata)).get_opt(name).await?;
    match live {
        Some(live) if live.metadata.uid == set.metadata.uid && live.metadata.deletion_timestamp.is_none() => Ok(()),
        _ => Err(Error::NotYet(format!("{name} is deleted or another now"))),
    }
}

async fn adopt(api: &Api<Pod>, set: &ReplicaSet, one: &Pod) -> Result<bool, Error> {
    let patch = json!({"metadata": {"uid": one.metadata.uid, "ownerReferences": [object::controller_reference(set)]}});
    match api.patch(object::name(&one.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn release(api: &Api<Pod>, set: &ReplicaSet, one: &Pod) -> Result<(), Error> {
    let patch = json!({"metadata": {"uid": one.metadata.uid,
        "ownerReferences": [{"$patch": "delete", "uid": set.metadata.uid}]}});
    match api.patch(object::name(&one.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(()),
        // Gone, or no longer the pod that was seen.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Creates pods in batches of 1, 2, 4, ..., so that a template that is always refused costs few requests.
async fn create(context: &Context, api: &Api<Pod>, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
    let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else { return Ok(()) };
    let name = object::name(&set.metadata);
    let prefix: String = name.chars().take(57).collect();
    let wanted =
        pod::from_template(template, object::namespace(&set.metadata), &prefix, object::controller_reference(set));
    let pods = context.informers.of::<Pod>();
    let (mut left, mut batch) = (count, 1);
    let mut made = Vec::new();
    let mut first_error = None;
    while left > 0 && first_error.is_none() {
        let size = batch.min(left);
        let params = PostParams::default();
        let answers = futures::future::join_all((0..size).map(|_| api.create(&params, &wanted))).await;
        for answer in answers {
            match answer {
                Ok(one) => {
                    let text = format!("Created pod: {}", object::name(&one.metadata));
                    context.events.record(set, Note::normal("SuccessfulCreate", text));
                    made.push(one);
                }
                // The namespace ends: nothing will succeed any more, and that is no failure of the set.
                Err(error) if is_namespace_terminating(&error) => left = 0,
                Err(error) => {
                    let text = format!("Error creating: {}", message(&error));
                    context.events.record(set, Note::warning("FailedCreate", text));
                    first_error.get_or_insert(error);
                }
            }
        }
        left = left.saturating_sub(size);
        batch *= 2;
    }
    for one in &made {
        pods.saw(&one.metadata).await;
    }
    first_error.map_or(Ok(()), Err)
}

async fn remove(context: &Context, api: &Api<Pod>, set: &ReplicaSet, doomed: &[Arc<Pod>]) -> Result<(), kube::Error> {
    let answers = futures::future::join_all(doomed.iter().map(|one| async move {
        (one, controller::delete(api, object::name(&one.metadata), one.metadata.uid.as_deref()).await)
    }))
    .await;
    let mut first_error = None;
    for (one, answer) in answers {
        match answer {
            Ok(true) => {
                let text = format!("Deleted pod: {}", object::name(&one.metadata));
                context.events.record(set, Note::normal("SuccessfulDelete", text));
            }
            Ok(false) => {}
            Err(error) => {
                let text = format!("Error deleting: {}", message(&error));
                context.events.record(set, Note::warning("FailedDelete", text));
                first_error.get_or_insert(error);
                continue;
            }
        }
        context.informers.of::<Pod>().saw_deleted(&Key::of(&one.metadata), one.metadata.uid.as_deref()).await;
    }
    first_error.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
