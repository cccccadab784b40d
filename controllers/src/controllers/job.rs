//! Runs a Job's pods to their end: creates what is missing, counts what ended once, and says when the job is over.
//! It never deletes a pod that it does not control.

mod indexes;
mod plan;
mod policy;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, Resource, api::PostParams};
use parking_lot::Mutex;

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule, is_not_found},
    dependents,
    informer::{Change, Informer, Key, Watched},
    object, pod,
    queue::Queue,
    selector,
};
use plan::{FINALIZER, Failures, Observed, is_finished, is_tracked};

impl Watched for Job {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "job-controller",
    aliases: &["job"],
    service_account: "job-controller",
    reporter: "job-controller",
    watches: &["batch/v1.Job", "v1.Pod"],
    rules: &[
        Rule::new(&["batch"], &["jobs"], &["get", "list", "patch", "update", "watch"]),
        Rule::new(&["batch"], &["jobs/status"], &["update"]),
        Rule::new(&["batch"], &["jobs/finalizers"], &["update"]),
        Rule::new(&[""], &["pods"], &["create", "delete", "list", "patch", "watch"]),
        EVENTS,
    ],
    start,
};

/// Who alone manages jobs that name nobody.
const MANAGER: &str = "kubernetes.io/job-controller";

/// Failures of each job since its last success, by uid. Lost at a restart, at the cost of a wait.
type Memory = Arc<Mutex<HashMap<String, Failures>>>;

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let jobs = context.informers.of::<Job>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<Key>> = Arc::default();
        let strays: Arc<Queue<Key>> = Arc::default();
        let memory = Memory::default();
        jobs.subscribe({
            let (queue, strays, memory, pods) = (queue.clone(), strays.clone(), memory.clone(), pods.clone());
            move |change| {
                let job = change.object();
                if matches!(change, Change::Deleted(_)) || is_over(job) {
                    memory.lock().remove(object::uid(&job.metadata));
                    for one in pods.owned_by(object::uid(&job.metadata)).iter().filter(|one| is_tracked(one)) {
                        strays.add(Key::of(&one.metadata));
                    }
                }
                queue.add(Key::of(&job.metadata));
            }
        });
        dependents::follow(&pods, &jobs, &queue, |job: &Job| job.spec.as_ref()?.selector.clone());
        pods.subscribe({
            let (strays, jobs) = (strays.clone(), jobs.clone());
            move |change| {
                if matches!(change, Change::Applied { new, .. } if is_stray(new, &jobs)) {
                    strays.add(Key::of(&change.object().metadata));
                }
            }
        });
        if jobs.synced(&context.stop).await && pods.synced(&context.stop).await {
            let reconcile = move |context, key| reconcile(context, key, memory.clone());
            futures::join!(
                context.work(CONTROLLER.name, queue, context.options.workers, reconcile),
                context.work(CONTROLLER.name, strays, 1, forsake),
            );
        }
    }
    .boxed()
}

fn is_over(job: &Job) -> bool {
    job.status.as_ref().is_some_and(is_finished)
}

/// Whether a pod waits to be counted by a job that will not do it: it is gone, or over.
fn is_stray(one: &Pod, jobs: &Informer<Job>) -> bool {
    let Some(owner) = object::controller_of(&one.metadata).filter(|owner| owner.kind == Job::kind(&())) else {
        return false;
    };
    let job = || jobs.get(&Key::new(object::namespace(&one.metadata), &owner.name));
    is_tracked(one) && job().is_none_or(|job| object::uid(&job.metadata) != owner.uid || is_over(&job))
}

/// Takes the finalizer off a stray pod.
async fn forsake(context: Context, key: Key) -> Result<Next, Error> {
    let Some(one) = context.informers.of::<Pod>().get(&key) else { return Ok(Next::Done) };
    if !is_stray(&one, &context.informers.of::<Job>()) {
        return Ok(Next::Done);
    }
    if let Some(owner) = object::controller_of(&one.metadata) {
        // The cache may be behind: a job that was just made is not gone.
        let live = context.api::<Job>(&key.namespace).get_opt(&owner.name).await?;
        if live.is_some_and(|live| object::uid(&live.metadata) == owner.uid && !is_over(&live)) {
            return Err(Error::NotYet(format!("the job of {key} is not seen")));
        }
    }
    strip(&context, &context.api(&key.namespace), &[one]).await?;
    Ok(Next::Done)
}

async fn reconcile(context: Context, key: Key, memory: Memory) -> Result<Next, Error> {
    let jobs = context.informers.of::<Job>();
    let api = context.api::<Pod>(&key.namespace);
    let Some(job) = jobs.get(&key) else { return Ok(Next::Done) };
    let Some(spec) = &job.spec else { return Ok(Next::Done) };
    if spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) || is_over(&job) {
        return Ok(Next::Done);
    }
    let owned = claim(&context, &api, &job).await?;
    let uid = object::uid(&job.metadata).to_owned();
    let failures = memory.lock().get(&uid).copied().unwrap_or_default();
    let now = context.now();
    let mut plan = plan::plan(&Observed { job: &job, pods: &owned, failures, now });

    let outcome = if plan.delete.is_empty() {
        dependents::create(&context, &api, &*job, std::mem::take(&mut plan.create)).await
    } else {
        dependents::remove(&context, &api, &*job, &plan.delete).await
    };
    if outcome.is_err() {
        // As many as there are, not as there would be.
        let there = context.informers.of::<Pod>().owned_by(&uid);
        let active = there.iter().filter(|one| pod::is_active(one)).count();
        plan.status.active = i32::try_from(active).ok().filter(|count| *count > 0);
    }
    if Some(&plan.status) != job.status.as_ref() {
        let mut written = Job::clone(&job);
        written.status = Some(plan.status);
        let api = context.api::<Job>(&key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &written).await {
            // What comes next relies on it.
            Ok(written) if !jobs.saw(&written.metadata).await => {
                return Err(Error::NotYet(format!("the status of {key} is not seen")));
            }
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        }
        memory.lock().insert(uid, plan.failures);
    }
    for note in plan.notes {
        context.events.record(&*job, note);
    }
    strip(&context, &api, &plan.strip).await?;
    outcome?;
    Ok(plan.wake.map_or(Next::Done, |wake| Next::After(wake.max(Duration::from_millis(10)))))
}

/// The pods of the job, once strangers are let go and orphans taken in.
async fn claim(context: &Context, api: &Api<Pod>, job: &Job) -> Result<Vec<Arc<Pod>>, Error> {
    let pods = context.informers.of::<Pod>();
    let uid = object::uid(&job.metadata);
    let ending = job.metadata.deletion_timestamp.is_some();
    let Some(wanted) = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return Ok(Vec::new()) };
    let mut owned = Vec::new();
    for one in pods.owned_by(uid) {
        if !object::is_controlled_by(&one.metadata, uid) {
            continue;
        }
        if ending || pod::is_terminating(&one) || selector::matches(wanted, one.metadata.labels.as_ref()) {
            owned.push(one);
        } else {
            dependents::release(api, uid, &one, Some(FINALIZER)).await?;
        }
    }
    let mut checked = false;
    for one in pods.select(object::namespace(&job.metadata), wanted) {
        let free = object::controller_of(&one.metadata).is_none() && !pod::is_terminating(&one);
        if ending || !free || selector::is_empty(wanted) {
            continue;
        }
        if !checked {
            dependents::still_itself(context, job).await?;
            checked = true;
        }
        if dependents::adopt(api, job, &one, Some(FINALIZER)).await? {
            let mut adopted = Pod::clone(&one);
            adopted.metadata.owner_references = Some(vec![object::controller_reference(job)]);
            adopted.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            owned.push(Arc::new(adopted));
        }
    }
    Ok(owned)
}

async fn strip(context: &Context, api: &Api<Pod>, all: &[Arc<Pod>]) -> Result<(), Error> {
    let pods = context.informers.of::<Pod>();
    let answers = all.iter().map(|one| dependents::strip(api, one, FINALIZER));
    for answer in futures::future::join_all(answers).await {
        if let Some(patched) = answer? {
            pods.saw(&patched.metadata).await;
        }
    }
    Ok(())
}
