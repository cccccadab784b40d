//! Runs a pod of each DaemonSet on every node that fits it: `plan.rs` decides about pods, `history.rs` keeps the
//! ControllerRevisions. Binding is the scheduler's; a node affinity names the node.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod, PodTemplateSpec},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::{Observed, Plan};
use crate::{
    controller::{
        self, Context, Controller, EVENTS, Error, Next, Rule, is_namespace_terminating, is_not_found, message,
    },
    events::Note,
    history::{self, Revised},
    informer::{Change, Key, Watched},
    object, pod,
    queue::Queue,
    selector,
};

impl Watched for DaemonSet {}

impl Revised for DaemonSet {
    const REVISION_HASH: &'static str = history::HASH;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref()?.collision_count
    }

    fn collided(&self) -> Self {
        let mut moved = self.clone();
        let status = moved.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        moved
    }
}

impl Watched for Node {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "daemonset-controller",
    aliases: &["daemonset"],
    service_account: "daemon-set-controller",
    reporter: "daemonset-controller",
    watches: &["apps/v1.DaemonSet", "apps/v1.ControllerRevision", "v1.Pod", "v1.Node"],
    rules: &[
        Rule::new(&["apps", "extensions"], &["daemonsets"], &["get", "list", "watch"]),
        Rule::new(&["apps", "extensions"], &["daemonsets/status"], &["update"]),
        Rule::new(&["apps", "extensions"], &["daemonsets/finalizers"], &["update"]),
        Rule::new(&[""], &["nodes"], &["list", "watch"]),
        Rule::new(&[""], &["pods"], &["create", "delete", "list", "patch", "watch"]),
        Rule::new(&[""], &["pods/binding"], &["create"]),
        Rule::new(
            &["apps"],
            &["controllerrevisions"],
            &["create", "delete", "get", "list", "patch", "update", "watch"],
        ),
        EVENTS,
    ],
    start,
};

/// Pods created or deleted in one reconcile at most.
const BURST: usize = 250;
/// First and longest wait before a failed daemon pod is replaced.
const FAILED_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let sets = context.informers.of::<DaemonSet>();
        let revisions = context.informers.of::<ControllerRevision>();
        let pods = context.informers.of::<Pod>();
        let nodes = context.informers.of::<Node>();
        let queue: Arc<Queue<Key>> = Arc::default();
        sets.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        revisions.subscribe({
            let queue = queue.clone();
            move |change| {
                wake_owner(&queue, &change.object().metadata);
            }
        });
        pods.subscribe({
            let (queue, sets) = (queue.clone(), sets.clone());
            move |change| {
                if let Change::Applied { old: Some(old), .. } = change {
                    wake_owner(&queue, &old.metadata);
                }
                let one = change.object();
                if !wake_owner(&queue, &one.metadata) && matches!(change, Change::Applied { .. }) {
                    for set in sets.in_namespace(object::namespace(&one.metadata)) {
                        if set
                            .spec
                            .as_ref()
                            .is_some_and(|spec| selector::matches(&spec.selector, one.metadata.labels.as_ref()))
                        {
                            queue.add(Key::of(&set.metadata));
                        }
                    }
                }
            }
        });
        nodes.subscribe({
            let (queue, sets) = (queue.clone(), sets.clone());
            move |change| {
                if let Change::Applied { old: Some(old), new } = change
                    && plan::same_for_placement(old, new)
                {
                    return;
                }
                for set in sets.all() {
                    queue.add(Key::of(&set.metadata));
                }
            }
        });
        let synced = sets.synced(&context.stop).await
            && revisions.synced(&context.stop).await
            && pods.synced(&context.stop).await
            && nodes.synced(&context.stop).await;
        if synced {
            let failures: Arc<Failures> = Arc::default();
            let reconcile = move |context, key| reconcile(context, key, failures.clone());
            context.work(CONTROLLER.name, queue, 2, reconcile).await;
        }
    }
    .boxed()
}

fn wake_owner(queue: &Queue<Key>, meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> bool {
    match object::controller_of(meta) {
        Some(owner) if owner.kind == "DaemonSet" => {
            queue.add(Key::new(object::namespace(meta), &owner.name));
            true
        }
        Some(_) => true,
        None => false,
    }
}

/// How often the pods of a set failed on a node in a row, and when the last was replaced.
#[derive(Default)]
struct Failures(Mutex<BTreeMap<(String, String), (u32, tokio::time::Instant)>>);

impl Failures {
    /// Zero if a failed pod may be replaced now, which counts as one more failure; else how long to wait.
    fn wait(&self, set: &str, node: &str) -> Duration {
        let now = tokio::time::Instant::now();
        let mut held = self.0.lock();
        let slot = held.entry((set.to_owned(), node.to_owned())).or_insert((0, now));
        let (count, last) = *slot;
        if count > 0 {
            let delay = FAILED_BACKOFF.0.saturating_mul(1 << (count - 1).min(20)).min(FAILED_BACKOFF.1);
            if now < last + delay {
                return last + delay - now;
            }
            if now > last + 2 * FAILED_BACKOFF.1 {
                *slot = (0, now);
            }
        }
        *slot = (slot.0.saturating_add(1), now);
        Duration::ZERO
    }
}

/// Pods the set controls once it adopted and released, by selector.
async fn claim(context: &Context, set: &DaemonSet, key: &Key) -> Result<Vec<Arc<Pod>>, Error> {
    let Some(spec) = &set.spec else { return Ok(Vec::new()) };
    let pods = context.informers.of::<Pod>();
    let api = context.api::<Pod>(&key.namespace);
    let uid = object::uid(&set.metadata);
    let ending = set.metadata.deletion_timestamp.is_some();
    let mut owned = Vec::new();
    for one in pods.owned_by(uid) {
        if !object::is_controlled_by(&one.metadata, uid) {
            continue;
        }
        if ending || selector::matches(&spec.selector, one.metadata.labels.as_ref()) {
            owned.push(one);
        } else if !pod::is_terminating(&one) {
            let patch =
                json!({"metadata": {"uid": one.metadata.uid, "ownerReferences": [{"$patch": "delete", "uid": uid}]}});
            ignore_absent(
                api.patch(object::name(&one.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await,
            )?;
        }
    }
    let mut checked = false;
    for one in pods.select(&key.namespace, &spec.selector) {
        if ending || object::controller_of(&one.metadata).is_some() || !pod::is_active(&one) {
            continue;
        }
        if !checked {
            let live = context.api::<DaemonSet>(&key.namespace).get_opt(&key.name).await?;
            if live
                .is_none_or(|live| live.metadata.uid != set.metadata.uid || live.metadata.deletion_timestamp.is_some())
            {
                return Err(Error::NotYet(format!("{key} is deleted or another now")));
            }
            checked = true;
        }
        let patch =
            json!({"metadata": {"uid": one.metadata.uid, "ownerReferences": [object::controller_reference(set)]}});
        let answer = api.patch(object::name(&one.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await;
        if let Some(adopted) = ignore_absent(answer)? {
            pods.saw(&adopted.metadata).await;
            owned.push(Arc::new(adopted));
        }
    }
    Ok(owned)
}

fn ignore_absent<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn reconcile(context: Context, key: Key, failures: Arc<Failures>) -> Result<Next, Error> {
    let sets = context.informers.of::<DaemonSet>();
    let Some(set) = sets.get(&key) else { return Ok(Next::Done) };
    let Some(spec) = &set.spec else { return Ok(Next::Done) };
    if selector::is_empty(&spec.selector) {
        let text = "This daemon set is selecting all pods. A non-empty selector is required.".to_owned();
        context.events.record(&*set, Note::warning("SelectingAll", text));
        return Ok(Next::Done);
    }
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Done);
    }
    let pods = claim(&context, &set, &key).await?;
    let (revision, old_revisions) = history::keep(&context, &*set).await?;
    let hash = object::label(&revision.metadata, history::HASH).unwrap_or_default().to_owned();
    let nodes = context.informers.of::<Node>().all();
    let now = context.now();
    let observed = Observed { set: &set, nodes: &nodes, pods: &pods, hash: &hash, now };
    let mut plan = plan::plan(&observed);
    let mut wait: Option<Duration> = plan.wake.map(Duration::from_secs);
    plan.failed.retain(|(node, one)| {
        let delay = failures.wait(object::uid(&set.metadata), node);
        if delay.is_zero() {
            let text = format!(
                "Found failed daemon pod {}/{} on node {node}, will try to kill it",
                key.namespace,
                object::name(&one.metadata)
            );
            context.events.record(&*set, Note::warning("FailedDaemonPod", text));
            return true;
        }
        wait = Some(wait.map_or(delay, |held| held.min(delay)));
        false
    });
    let outcome = act(&context, &key, &set, &hash, &plan).await;

    let held = set.status.clone().unwrap_or_default();
    if plan.status != held {
        let mut written = DaemonSet::clone(&set);
        written.status = Some(plan.status.clone());
        let api = context.api::<DaemonSet>(&key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &written).await {
            Ok(written) => {
                sets.saw(&written.metadata).await;
            }
            Err(error) if is_not_found(&error) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        }
    }
    outcome?;
    let run: BTreeSet<_> = pods
        .iter()
        .filter(|one| !pod::is_terminal(one))
        .filter_map(|one| object::label(&one.metadata, history::HASH))
        .collect();
    let live: BTreeSet<_> = old_revisions
        .iter()
        .filter(|one| object::label(&one.metadata, history::HASH).is_some_and(|hash| run.contains(hash)))
        .map(|one| object::name(&one.metadata).to_owned())
        .collect();
    // Revisions that run count towards the limit.
    let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0).saturating_sub(live.len());
    history::prune(&context, &*set, &old_revisions, &live, limit).await?;
    Ok(wait.map_or(Next::Done, Next::After))
}

async fn act(context: &Context, key: &Key, set: &DaemonSet, hash: &str, plan: &Plan) -> Result<(), Error> {
    let api: Api<Pod> = context.api(&key.namespace);
    let pods = context.informers.of::<Pod>();
    let mut first_error = None;
    let mut made = Vec::new();
    let mut batch = 1;
    let mut waiting = plan.create.iter().take(BURST).peekable();
    while waiting.peek().is_some() && first_error.is_none() {
        let wanted: Vec<_> = waiting.by_ref().take(batch).map(|node| plan::pod_for(set, node, hash)).collect();
        batch *= 2;
        let params = PostParams::default();
        for answer in futures::future::join_all(wanted.iter().map(|one| api.create(&params, one))).await {
            match answer {
                Ok(one) => {
                    let text = format!("Created pod: {}", object::name(&one.metadata));
                    context.events.record(set, Note::normal("SuccessfulCreate", text));
                    made.push(one);
                }
                Err(error) if is_namespace_terminating(&error) => return Ok(()),
                Err(error) => {
                    let text = format!("Error creating: {}", message(&error));
                    context.events.record(set, Note::warning("FailedCreate", text));
                    first_error.get_or_insert(error);
                }
            }
        }
    }
    for one in &made {
        pods.saw(&one.metadata).await;
    }
    for one in plan.delete.iter().chain(plan.failed.iter().map(|(_, one)| one)).take(BURST) {
        match controller::delete(&api, object::name(&one.metadata), one.metadata.uid.as_deref()).await {
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
        pods.saw_deleted(&Key::of(&one.metadata), one.metadata.uid.as_deref()).await;
    }
    first_error.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failed_pods_are_replaced_ever_more_slowly() {
        let failures = Failures::default();
        assert!(failures.wait("s", "n").is_zero());
        assert_eq!(failures.wait("s", "n"), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(failures.wait("s", "n").is_zero());
        assert_eq!(failures.wait("s", "n"), Duration::from_secs(2));
        assert!(failures.wait("s", "other").is_zero());
    }
}
