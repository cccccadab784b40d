//! Runs the pods of StatefulSets, each with a name, a place in the order and claims of its own. `plan.rs` decides about
//! pods, `claims.rs` about who owns their claims, `history.rs` keeps the ControllerRevisions. It never deletes a claim: the garbage
//! collector does, where an owner goes.

mod claims;
mod plan;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
};
use kube::{Api, api::PostParams};

use crate::{
    controller::{
        self, Context, Controller, EVENTS, Error, Next, Rule, is_already_exists, is_namespace_terminating,
        is_not_found, message,
    },
    dependents,
    events::Note,
    history::{self, HASH, Revised},
    informer::{Key, Watched},
    object, pod,
    queue::Queue,
    selector,
};
use claims::Owners;
use plan::{Observed, Revision};

impl Watched for StatefulSet {}
impl Watched for PersistentVolumeClaim {}

impl Revised for StatefulSet {
    const REVISION_HASH: &'static str = "controller.kubernetes.io/hash";

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

pub(crate) static CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    aliases: &["statefulset"],
    service_account: "statefulset-controller",
    reporter: "statefulset-controller",
    watches: &["apps/v1.StatefulSet", "v1.Pod", "apps/v1.ControllerRevision", "v1.PersistentVolumeClaim"],
    rules: &[
        Rule::new(&[""], &["pods"], &["list", "watch"]),
        Rule::new(&["apps"], &["statefulsets"], &["get", "list", "watch"]),
        Rule::new(&["apps"], &["statefulsets/status"], &["update"]),
        Rule::new(&["apps"], &["statefulsets/finalizers"], &["update"]),
        Rule::new(&[""], &["pods"], &["create", "delete", "get", "patch", "update"]),
        Rule::new(
            &["apps"],
            &["controllerrevisions"],
            &["create", "delete", "get", "list", "patch", "update", "watch"],
        ),
        Rule::new(&[""], &["persistentvolumeclaims"], &["create", "get", "list", "watch"]),
        Rule::new(&[""], &["persistentvolumeclaims"], &["delete", "update"]),
        Rule::new(&[""], &["pods/finalizers"], &["update"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let sets = context.informers.of::<StatefulSet>();
        let pods = context.informers.of::<Pod>();
        let revisions = context.informers.of::<ControllerRevision>();
        let queue: Arc<Queue<Key>> = Arc::default();
        sets.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        dependents::follow(&pods, &sets, &queue, |set: &StatefulSet| Some(set.spec.as_ref()?.selector.clone()));
        let claims = context.informers.of::<PersistentVolumeClaim>();
        let synced = [
            sets.synced(&context.stop).await,
            pods.synced(&context.stop).await,
            revisions.synced(&context.stop).await,
            claims.synced(&context.stop).await,
        ];
        if synced == [true; 4] {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// The pods of the set, once strangers are let go and orphans with its names taken in.
async fn claim(context: &Context, api: &Api<Pod>, set: &StatefulSet) -> Result<Vec<Arc<Pod>>, Error> {
    let pods = context.informers.of::<Pod>();
    let uid = object::uid(&set.metadata);
    let ending = set.metadata.deletion_timestamp.is_some();
    let Some(wanted) = set.spec.as_ref().map(|spec| &spec.selector) else { return Ok(Vec::new()) };
    let mut owned = Vec::new();
    for one in pods.owned_by(uid).into_iter().filter(|one| object::is_controlled_by(&one.metadata, uid)) {
        if ending || pod::is_terminating(&one) || selector::matches(wanted, one.metadata.labels.as_ref()) {
            owned.push(one);
        } else {
            dependents::release(api, uid, &one, None).await?;
        }
    }
    let mut checked = false;
    for one in pods.select(object::namespace(&set.metadata), wanted) {
        let free = object::controller_of(&one.metadata).is_none() && !pod::is_terminating(&one);
        if ending || !free || plan::ordinal(set, &one).is_none() {
            continue;
        }
        if !checked {
            dependents::still_itself(context, set).await?;
            checked = true;
        }
        if dependents::adopt(api, set, &one, None).await? {
            owned.push(one);
        }
    }
    Ok(owned)
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let sets = context.informers.of::<StatefulSet>();
    let Some(set) = sets.get(&key) else { return Ok(Next::Done) };
    let Some(spec) = &set.spec else { return Ok(Next::Done) };
    if selector::is_empty(&spec.selector) {
        return Ok(Next::Done);
    }
    let api = context.api::<Pod>(&key.namespace);
    let pods = claim(&context, &api, &set).await?;
    let (update, others) = history::keep(&context, &*set).await?;
    let runs = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let current = others.iter().find(|one| one.metadata.name.as_deref() == runs).map_or(&update, |one| &**one);
    let templates = [current, &update].map(|one| history::template_of(one).unwrap_or_else(|| spec.template.clone()));
    let [current_template, update_template] = &templates;
    let current = Revision { name: object::name(&current.metadata), template: current_template };
    let newest = Revision { name: object::name(&update.metadata), template: update_template };
    let now = context.now();
    let plan = plan::plan(&Observed { set: &set, pods: &pods, current, update: newest, now });

    let outcome = act(&context, &api, &set, &pods, &plan).await;
    if set.status.as_ref() != Some(&plan.status) {
        let mut written = StatefulSet::clone(&set);
        written.status = Some(plan.status);
        match context
            .api::<StatefulSet>(&key.namespace)
            .replace_status(&key.name, &PostParams::default(), &written)
            .await
        {
            Ok(written) => {
                sets.saw(&written.metadata).await;
            }
            Err(error) if is_not_found(&error) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        }
    }
    outcome?;
    let run = pods.iter().filter_map(|one| object::label(&one.metadata, HASH));
    let live: BTreeSet<_> = run.chain([current.name, newest.name]).map(ToOwned::to_owned).collect();
    let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    history::prune(&context, &*set, &others, &live, limit).await?;
    let wake = plan.wake.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(wake.map_or(Next::Done, |seconds| Next::After(Duration::from_secs(seconds))))
}

async fn act(
    context: &Context,
    api: &Api<Pod>,
    set: &StatefulSet,
    owned: &[Arc<Pod>],
    plan: &plan::Plan,
) -> Result<(), Error> {
    let pods = context.informers.of::<Pod>();
    let name = object::name(&set.metadata);
    if set.metadata.deletion_timestamp.is_none() {
        for one in owned {
            if pod::phase(one) == "Pending" && !plan::is_condemned(set, one) {
                make_claims(context, set, object::name(&one.metadata)).await?;
            }
            keep_owners(context, set, one).await?;
        }
    }
    for wanted in &plan.create {
        let pod = object::name(&wanted.metadata);
        for claim in held_claims(context, set, pod) {
            let claim_name = object::name(&claim.metadata);
            if claims::is_leaving(&claim, set, pod) {
                return Err(Error::NotYet(format!("claim {claim_name} goes with an earlier pod")));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                let reason = format!("pvc {claim_name} is being deleted");
                let text = format!("create Pod {pod} in StatefulSet {name} failed error: {reason}");
                context.events.record(set, Note::warning("FailedCreate", text));
                return Err(Error::NotYet(reason));
            }
        }
        let made = match make_claims(context, set, pod).await {
            Ok(()) => api.create(&PostParams::default(), wanted).await,
            Err(error) => Err(error),
        };
        match made {
            Ok(made) => {
                let text = format!("create Pod {pod} in StatefulSet {name} successful");
                context.events.record(set, Note::normal("SuccessfulCreate", text));
                pods.saw(&made.metadata).await;
                keep_owners(context, set, &made).await?;
            }
            Err(error) if is_namespace_terminating(&error) => return Ok(()),
            // The cache is behind, or a stranger has the name; its end wakes nobody here.
            Err(error) if is_already_exists(&error) => return Err(Error::NotYet(message(&error))),
            Err(error) => {
                let text = format!("create Pod {pod} in StatefulSet {name} failed error: {}", message(&error));
                context.events.record(set, Note::warning("FailedCreate", text));
                return Err(error.into());
            }
        }
    }
    for doomed in &plan.delete {
        let pod = object::name(&doomed.metadata);
        if pod::is_terminal(doomed) {
            let text =
                format!("StatefulSet {}/{name} is recreating failed Pod {pod}", object::namespace(&set.metadata));
            context.events.record(set, Note::warning("RecreatingFailedPod", text));
        }
        if controller::delete(api, pod, doomed.metadata.uid.as_deref()).await? {
            let text = format!("delete Pod {pod} in StatefulSet {name} successful");
            context.events.record(set, Note::normal("SuccessfulDelete", text));
        }
        pods.saw_deleted(&Key::of(&doomed.metadata), doomed.metadata.uid.as_deref()).await;
    }
    Ok(())
}

/// The claims of the pod of this name that are there.
fn held_claims(context: &Context, set: &StatefulSet, pod: &str) -> Vec<Arc<PersistentVolumeClaim>> {
    let all = context.informers.of::<PersistentVolumeClaim>();
    let held = plan::claims(set, pod).into_iter().filter_map(|claim| all.get(&Key::of(&claim.metadata)));
    held.collect()
}

/// Gives the claims of a pod the owners with whom they are to go.
async fn keep_owners(context: &Context, set: &StatefulSet, one: &Pod) -> Result<(), Error> {
    let api = context.api::<PersistentVolumeClaim>(object::namespace(&set.metadata));
    for held in held_claims(context, set, object::name(&one.metadata)) {
        let name = object::name(&held.metadata);
        let owners = match claims::owners(&held, set, one, plan::is_condemned(set, one)) {
            Owners::Kept => continue,
            Owners::Changed(owners) => owners,
            Owners::Foreign(owners) => {
                let text = format!(
                    "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging controller, \
                     the retention policy is ignored for this claim"
                );
                context.events.record(set, Note::warning("ConflictingController", text));
                owners
            }
        };
        let mut claim = PersistentVolumeClaim::clone(&held);
        claim.metadata.owner_references = Some(owners);
        let written = api.replace(name, &PostParams::default(), &claim).await?;
        context.informers.of::<PersistentVolumeClaim>().saw(&written.metadata).await;
    }
    Ok(())
}

/// Makes the claims of a pod that are not there.
async fn make_claims(context: &Context, set: &StatefulSet, pod: &str) -> Result<(), kube::Error> {
    let api = context.api::<PersistentVolumeClaim>(object::namespace(&set.metadata));
    let cached = context.informers.of::<PersistentVolumeClaim>();
    for claim in plan::claims(set, pod) {
        let name = object::name(&claim.metadata);
        if cached.get(&Key::of(&claim.metadata)).is_some() {
            continue;
        }
        match api.create(&PostParams::default(), &claim).await {
            Ok(made) => {
                cached.saw(&made.metadata).await;
                let set_name = object::name(&set.metadata);
                let text = format!("create Claim {name} Pod {pod} in StatefulSet {set_name} success");
                context.events.record(set, Note::normal("SuccessfulCreate", text));
            }
            Err(error) if is_already_exists(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
