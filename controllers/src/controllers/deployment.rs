//! Rolls ReplicaSets out for Deployments: `plan.rs` decides, this shell reads the caches and writes. Pods are never
//! touched here; they are the ReplicaSets'.

mod plan;
mod progress;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use self::plan::{Observed, Write};
use crate::{
    controller::{self, Context, Controller, EVENTS, Error, Next, Rule, is_already_exists, is_not_found, message},
    events::Note,
    informer::{Change, Key, Watched},
    object, pod,
    queue::Queue,
    selector,
};

impl Watched for Deployment {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    aliases: &["deployment"],
    service_account: "deployment-controller",
    reporter: "deployment-controller",
    watches: &["apps/v1.Deployment", "apps/v1.ReplicaSet", "v1.Pod"],
    rules: &[
        Rule::new(&["apps", "extensions"], &["deployments"], &["get", "list", "update", "watch"]),
        Rule::new(&["apps", "extensions"], &["deployments/status"], &["update"]),
        Rule::new(&["apps", "extensions"], &["deployments/finalizers"], &["update"]),
        Rule::new(
            &["apps", "extensions"],
            &["replicasets"],
            &["create", "delete", "get", "list", "patch", "update", "watch"],
        ),
        Rule::new(&[""], &["pods"], &["get", "list", "update", "watch"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let deployments = context.informers.of::<Deployment>();
        let sets = context.informers.of::<ReplicaSet>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<Key>> = Arc::default();
        deployments.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        sets.subscribe({
            let (queue, deployments) = (queue.clone(), deployments.clone());
            move |change| {
                if let Change::Applied { old: Some(old), .. } = change {
                    wake_owner(&queue, old);
                }
                let set = change.object();
                if !wake_owner(&queue, set) && matches!(change, Change::Applied { .. }) {
                    for one in deployments.in_namespace(object::namespace(&set.metadata)) {
                        if one.spec.as_ref().is_some_and(|spec| {
                            !selector::is_empty(&spec.selector)
                                && selector::matches(&spec.selector, set.metadata.labels.as_ref())
                        }) {
                            queue.add(Key::of(&one.metadata));
                        }
                    }
                }
            }
        });
        // A Recreate rollout waits for the last old pod, which no ReplicaSet status reveals in time.
        pods.subscribe({
            let (queue, sets) = (queue.clone(), sets.clone());
            move |change| {
                let one = change.object();
                let ended = matches!(change, Change::Deleted(_)) || pod::is_terminal(one);
                if let Some(owner) = object::controller_of(&one.metadata).filter(|_| ended)
                    && let Some(set) = sets.get(&Key::new(object::namespace(&one.metadata), &owner.name))
                {
                    wake_owner(&queue, &set);
                }
            }
        });
        if deployments.synced(&context.stop).await
            && sets.synced(&context.stop).await
            && pods.synced(&context.stop).await
        {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

fn wake_owner(queue: &Queue<Key>, set: &ReplicaSet) -> bool {
    match object::controller_of(&set.metadata) {
        Some(owner) if owner.kind == "Deployment" => {
            queue.add(Key::new(object::namespace(&set.metadata), &owner.name));
            true
        }
        Some(_) => true,
        None => false,
    }
}

/// The ReplicaSets that the Deployment controls, after it adopted and released by selector.
async fn claim(context: &Context, deployment: &Deployment, key: &Key) -> Result<Vec<ReplicaSet>, Error> {
    let Some(spec) = &deployment.spec else { return Ok(Vec::new()) };
    let sets = context.informers.of::<ReplicaSet>();
    let api = context.api::<ReplicaSet>(&key.namespace);
    let uid = object::uid(&deployment.metadata);
    let ending = deployment.metadata.deletion_timestamp.is_some();
    let mut owned = Vec::new();
    let mut checked = false;
    for set in sets.owned_by(uid) {
        if !object::is_controlled_by(&set.metadata, uid) {
            continue;
        }
        if ending || selector::matches(&spec.selector, set.metadata.labels.as_ref()) {
            owned.push(ReplicaSet::clone(&set));
        } else if set.metadata.deletion_timestamp.is_none() {
            let patch = json!({"metadata": {"uid": set.metadata.uid,
                "ownerReferences": [{"$patch": "delete", "uid": uid}]}});
            patch_owner(&api, &set, patch).await?;
        }
    }
    for set in sets.select(&key.namespace, &spec.selector) {
        let orphan = object::controller_of(&set.metadata).is_none() && set.metadata.deletion_timestamp.is_none();
        if !orphan || ending {
            continue;
        }
        if !checked {
            let live = context.api::<Deployment>(&key.namespace).get_opt(&key.name).await?;
            if live.is_none_or(|live| {
                live.metadata.uid != deployment.metadata.uid || live.metadata.deletion_timestamp.is_some()
            }) {
                return Err(Error::NotYet(format!("{key} is deleted or another now")));
            }
            checked = true;
        }
        let owner = object::controller_reference(deployment);
        let patch = json!({"metadata": {"uid": set.metadata.uid, "ownerReferences": [owner]}});
        if let Some(adopted) = patch_owner(&api, &set, patch).await? {
            sets.saw(&adopted.metadata).await;
            owned.push(adopted);
        }
    }
    Ok(owned)
}

async fn patch_owner(
    api: &Api<ReplicaSet>,
    set: &ReplicaSet,
    patch: serde_json::Value,
) -> Result<Option<ReplicaSet>, Error> {
    match api.patch(object::name(&set.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(set) => Ok(Some(set)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let Some(deployment) = context.informers.of::<Deployment>().get(&key) else { return Ok(Next::Done) };
    let Some(spec) = &deployment.spec else { return Ok(Next::Done) };
    if selector::is_empty(&spec.selector) {
        let text = "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
        context.events.record(&*deployment, Note::warning("SelectingAll", text));
        return Ok(Next::Done);
    }
    let sets = claim(&context, &deployment, &key).await?;
    let pods = context.informers.of::<Pod>();
    let mut running = HashMap::new();
    for set in &sets {
        let uid = object::uid(&set.metadata);
        let alive = pods.owned_by(uid).iter().filter(|one| !pod::is_terminal(one)).count();
        running.insert(uid.to_owned(), alive);
    }
    let observed = Observed { deployment: &deployment, sets: &sets, running: &running, now: context.now() };
    let plan = plan::plan(&observed);
    for write in plan.writes {
        act(&context, &key, &deployment, write).await?;
    }
    Ok(plan.wake.map_or(Next::Done, |seconds| Next::After(Duration::from_secs(seconds))))
}

async fn act(context: &Context, key: &Key, deployment: &Deployment, write: Write) -> Result<(), Error> {
    let sets = context.informers.of::<ReplicaSet>();
    let deployments = context.informers.of::<Deployment>();
    let set_api = context.api::<ReplicaSet>(&key.namespace);
    let api = context.api::<Deployment>(&key.namespace);
    match write {
        Write::Create(set) => match set_api.create(&PostParams::default(), &set).await {
            Ok(made) => {
                sets.saw(&made.metadata).await;
            }
            Err(error) if is_already_exists(&error) => return collided(context, key, deployment, &set).await,
            Err(error) => {
                let text =
                    format!("Failed to create new replica set {:?}: {}", object::name(&set.metadata), message(&error));
                context.events.record(deployment, Note::warning("ReplicaSetCreateError", text.clone()));
                if let Some(failed) = plan::creation_failed(deployment, &message(&error), context.now()) {
                    let _ = api.replace_status(&key.name, &PostParams::default(), &failed).await;
                }
                return Err(error.into());
            }
        },
        Write::Update(set) => {
            let written = set_api.replace(object::name(&set.metadata), &PostParams::default(), &set).await?;
            sets.saw(&written.metadata).await;
        }
        Write::Delete { name, uid } => {
            controller::delete(&set_api, &name, Some(&uid)).await?;
            sets.saw_deleted(&Key::new(&key.namespace, &name), Some(&uid)).await;
        }
        Write::Status(deployment) => match api.replace_status(&key.name, &PostParams::default(), &deployment).await {
            Ok(written) => {
                deployments.saw(&written.metadata).await;
            }
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error.into()),
        },
        Write::Event(note) => context.events.record(deployment, note),
    }
    Ok(())
}

/// The name that the template's hash gives is taken: by ourselves a moment ago, or by a set with another template, in
/// which case the collision count must move the hash.
async fn collided(context: &Context, key: &Key, deployment: &Deployment, wanted: &ReplicaSet) -> Result<(), Error> {
    let name = object::name(&wanted.metadata);
    let Some(live) = context.api::<ReplicaSet>(&key.namespace).get_opt(name).await? else {
        return Err(Error::NotYet(format!("{name} was just deleted")));
    };
    if object::is_controlled_by(&live.metadata, object::uid(&deployment.metadata))
        && plan::same_template(&live, deployment)
    {
        context.informers.of::<ReplicaSet>().saw(&live.metadata).await;
        return Err(Error::NotYet(format!("{name} was just created")));
    }
    let mut moved = deployment.clone();
    let status = moved.status.get_or_insert_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
    let api = context.api::<Deployment>(&key.namespace);
    let written = api.replace_status(&key.name, &PostParams::default(), &moved).await?;
    context.informers.of::<Deployment>().saw(&written.metadata).await;
    Err(Error::NotYet(format!("{name} collided")))
}
