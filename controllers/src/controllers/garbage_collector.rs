//! Deletes what has lost all its owners, and carries out foreground and orphaning deletion. It watches the metadata of
//! everything that discovery names and asks the API itself before it deletes.

mod graph;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::PartialObjectMeta,
};
use kube_runtime::watcher;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::graph::{FOREGROUND, Graph, Node, ORPHAN, Owner, Verdict, Work, judge};
use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule, is_conflict, is_not_found},
    discovery::{self, Found},
    object,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "garbage-collector-controller",
    aliases: &["garbagecollector"],
    service_account: "generic-garbage-collector",
    reporter: "garbage-collector-controller",
    watches: &["*"],
    rules: &[Rule::new(&["*"], &["*"], &["delete", "get", "list", "patch", "update", "watch"]), EVENTS],
    start,
};

/// Reconciles at once.
const WORKERS: usize = 20;
/// Time between looks at discovery.
const DISCOVERY: Duration = Duration::from_secs(30);
/// Longest wait for the first lists; what is missing then is asked of the API one by one.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// When an owner that exists but was not seen yet is asked for again.
const UNSEEN_OWNER: Duration = Duration::from_secs(30);
/// Resources whose objects neither own nor are owned.
const IGNORED: &[&str] = &["events", "events.events.k8s.io"];

struct Collector {
    graph: Mutex<Graph>,
    queue: Arc<Queue<Work>>,
    /// Resources by group and kind.
    kinds: Mutex<HashMap<(String, String), Arc<Found>>>,
}

impl Collector {
    fn add(&self, work: Vec<Work>) {
        for one in work {
            self.queue.add(one);
        }
    }
}

struct Monitor {
    stop: CancellationToken,
    listed: watch::Receiver<bool>,
}

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let collector = Arc::new(Collector { graph: Mutex::default(), queue: Arc::default(), kinds: Mutex::default() });
        let mut monitors: HashMap<String, Monitor> = HashMap::new();
        loop {
            match refresh(&context, &collector, &mut monitors).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "no discovery yet"),
            }
            tokio::select! {
                () = context.stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
        let lists = async {
            for monitor in monitors.values_mut() {
                let _ = monitor.listed.wait_for(|listed| *listed).await;
            }
        };
        tokio::select! {
            () = context.stop.cancelled() => return,
            _ = tokio::time::timeout(FIRST_LISTS, lists) => {}
        }
        let work = collector.graph.lock().complete();
        collector.add(work);
        let discovering = {
            let (context, collector) = (context.clone(), collector.clone());
            async move {
                loop {
                    tokio::select! {
                        () = context.stop.cancelled() => return,
                        () = tokio::time::sleep(DISCOVERY) => {}
                    }
                    if let Err(error) = refresh(&context, &collector, &mut monitors).await {
                        tracing::debug!(%error, "discovery failed");
                    }
                }
            }
        };
        let reconcile = {
            let collector = collector.clone();
            move |context, work| reconcile(context, collector.clone(), work)
        };
        let running = context.work(CONTROLLER.name, collector.queue.clone(), WORKERS, reconcile);
        futures::future::join(discovering, running).await;
    }
    .boxed()
}

/// Starts a watch for each new resource and ends those of resources that are gone.
async fn refresh(
    context: &Context,
    collector: &Arc<Collector>,
    monitors: &mut HashMap<String, Monitor>,
) -> Result<(), kube::Error> {
    let discovered = discovery::discover(&context.client.0).await?;
    let failed: HashSet<_> = discovered.failures.iter().map(|(version, _)| version.clone()).collect();
    let mut present = HashSet::new();
    for found in discovered.resources {
        let found = Arc::new(found);
        let kind = (found.resource.group.clone(), found.resource.kind.clone());
        collector.kinds.lock().insert(kind, found.clone());
        let name = format!("{}/{}", found.resource.api_version, found.resource.plural);
        if !found.is_collectable() || IGNORED.contains(&found.group_resource().as_str()) {
            continue;
        }
        present.insert(name.clone());
        monitors.entry(name).or_insert_with(|| {
            let stop = context.stop.child_token();
            let (listing, listed) = watch::channel(false);
            tokio::spawn(monitor(context.clone(), collector.clone(), found, listing, stop.clone()));
            Monitor { stop, listed }
        });
    }
    monitors.retain(|name, monitor| {
        let version = name.rsplit_once('/').map_or("", |(version, _)| version);
        let stays = present.contains(name) || failed.contains(version);
        if !stays {
            monitor.stop.cancel();
        }
        stays
    });
    Ok(())
}

/// Feeds the graph from the metadata of one resource.
async fn monitor(
    context: Context,
    collector: Arc<Collector>,
    found: Arc<Found>,
    listing: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(context.client.0.clone(), &found.resource);
    let mut events = Box::pin(watcher(api, watcher::Config::default()));
    let mut held: HashSet<String> = HashSet::new();
    let mut listed: HashSet<String> = HashSet::new();
    let mut failures = 0;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            event = events.next() => event,
        };
        let Some(event) = event else { break };
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                let delay = (Duration::from_millis(100) * 2_u32.pow(failures)).min(Duration::from_secs(30));
                failures = (failures + 1).min(10);
                tracing::debug!(resource = found.group_resource(), %error, ?delay, "watch interrupted");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(delay) => continue,
                }
            }
        };
        failures = 0;
        let work = match event {
            watcher::Event::Init => {
                listed.clear();
                Vec::new()
            }
            watcher::Event::InitApply(one) => {
                listed.insert(object::uid(one.meta()).to_owned());
                see(&collector, &found, &mut held, one.meta())
            }
            watcher::Event::Apply(one) => see(&collector, &found, &mut held, one.meta()),
            watcher::Event::Delete(one) => {
                held.remove(object::uid(one.meta()));
                collector.graph.lock().remove(object::uid(one.meta()))
            }
            watcher::Event::InitDone => {
                let gone: Vec<_> = held.difference(&listed).cloned().collect();
                held.retain(|uid| listed.contains(uid));
                listing.send_replace(true);
                let mut graph = collector.graph.lock();
                gone.iter().flat_map(|uid| graph.remove(uid)).collect()
            }
        };
        collector.add(work);
    }
    if !context.stop.is_cancelled() {
        let mut graph = collector.graph.lock();
        let work: Vec<_> = held.iter().flat_map(|uid| graph.remove(uid)).collect();
        drop(graph);
        collector.add(work);
    }
}

fn see(collector: &Collector, found: &Arc<Found>, held: &mut HashSet<String>, meta: &ObjectMeta) -> Vec<Work> {
    let uid = object::uid(meta);
    if uid.is_empty() {
        return Vec::new();
    }
    held.insert(uid.to_owned());
    collector.graph.lock().apply(uid, &Node::new(found.clone(), meta))
}

fn api_of(context: &Context, found: &Found, namespace: &str) -> Api<DynamicObject> {
    if found.namespaced {
        Api::namespaced_with(context.client.0.clone(), namespace, &found.resource)
    } else {
        Api::all_with(context.client.0.clone(), &found.resource)
    }
}

/// The object as it is now; `None` if it is gone or its name is another's.
async fn live(api: &Api<DynamicObject>, name: &str, uid: &str) -> Result<Option<ObjectMeta>, kube::Error> {
    let found = api.get_metadata_opt(name).await?;
    Ok(found.map(|one| one.metadata).filter(|meta| meta.uid.as_deref() == Some(uid)))
}

async fn reconcile(context: Context, collector: Arc<Collector>, work: Work) -> Result<Next, Error> {
    match work {
        Work::Look(uid) => look(&context, &collector, &uid).await,
        Work::Orphan(uid) => orphan(&context, &collector, &uid).await,
    }
}

async fn look(context: &Context, collector: &Collector, uid: &str) -> Result<Next, Error> {
    let Some(node) = collector.graph.lock().get(uid).cloned() else { return Ok(Next::Done) };
    if node.deleting && !node.foreground {
        return Ok(Next::Done);
    }
    let api = api_of(context, &node.resource, &node.namespace);
    let Some(meta) = live(&api, &node.name, uid).await? else { return Ok(Next::Done) };
    let now = Node::new(node.resource.clone(), &meta);
    if now.waits() {
        let blocking = collector.graph.lock().blocking(uid);
        if blocking.is_empty() {
            remove_finalizer(&api, &meta, FOREGROUND).await?;
        } else {
            let graph = collector.graph.lock();
            let idle = blocking.into_iter().filter(|one| graph.get(one).is_some_and(|node| !node.deleting));
            let work: Vec<_> = idle.map(Work::Look).collect();
            drop(graph);
            collector.add(work);
        }
        return Ok(Next::Done);
    }
    if now.deleting {
        return Ok(Next::Done);
    }
    let mut owners = Vec::new();
    let mut unseen = false;
    for owner in &now.owners {
        let state = owner_state(context, collector, &node, owner).await?;
        unseen |= state == Owner::Solid && collector.graph.lock().get(&owner.uid).is_none();
        owners.push((owner.uid.clone(), state));
    }
    let dependents = collector.graph.lock().dependents(uid);
    let circle = {
        let graph = collector.graph.lock();
        dependents.iter().any(|one| graph.get(one).is_some_and(|node| node.foreground))
    };
    match judge(&owners, dependents.len()) {
        Verdict::Keep if unseen => return Ok(Next::After(UNSEEN_OWNER)),
        Verdict::Keep => {}
        Verdict::Release(gone) => release(&api, &meta, &gone).await?,
        // An owner that waits for it may be its own dependent's dependent: nobody waits for it any more then.
        Verdict::Foreground if circle && unblock(&api, &meta).await? => {
            return Ok(Next::After(Duration::from_millis(1)));
        }
        Verdict::Foreground => delete(&api, &meta, PropagationPolicy::Foreground).await?,
        Verdict::Delete => {
            let policy = match () {
                () if now.orphan => PropagationPolicy::Orphan,
                () if now.foreground => PropagationPolicy::Foreground,
                () => PropagationPolicy::Background,
            };
            delete(&api, &meta, policy).await?;
        }
    }
    Ok(Next::Done)
}

/// Asks the API about an owner; only a uid that was once gone is not asked for again.
async fn owner_state(
    context: &Context,
    collector: &Collector,
    node: &Node,
    owner: &OwnerReference,
) -> Result<Owner, Error> {
    if collector.graph.lock().is_absent(&owner.uid) {
        return Ok(Owner::Absent);
    }
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = (group.to_owned(), owner.kind.clone());
    let Some(found) = collector.kinds.lock().get(&kind).cloned() else {
        return Err(Error::NotYet(format!("the owner's kind {}.{} is unknown", owner.kind, owner.api_version)));
    };
    if found.namespaced && node.namespace.is_empty() {
        // An object without a namespace cannot have an owner in one; nothing is known of that owner, so it stays.
        tracing::warn!(object = node.name, owner = owner.name, "the owner of a cluster-scoped object is namespaced");
        return Ok(Owner::Solid);
    }
    let api = api_of(context, &found, &node.namespace);
    let Some(meta) = live(&api, &owner.name, &owner.uid).await? else {
        collector.graph.lock().note_absent(&owner.uid);
        return Ok(Owner::Absent);
    };
    Ok(if Node::new(found, &meta).waits() { Owner::Waiting } else { Owner::Solid })
}

async fn delete(api: &Api<DynamicObject>, meta: &ObjectMeta, policy: PropagationPolicy) -> Result<(), Error> {
    let params = DeleteParams {
        propagation_policy: Some(policy),
        // The owners were judged as they stood at this version.
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() }),
        ..DeleteParams::default()
    };
    match api.delete(object::name(meta), &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn patch(api: &Api<DynamicObject>, meta: &ObjectMeta, change: serde_json::Value) -> Result<(), Error> {
    let mut body = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}});
    if let (Some(into), serde_json::Value::Object(change)) =
        (body.pointer_mut("/metadata").and_then(serde_json::Value::as_object_mut), change)
    {
        into.extend(change);
    }
    match api.patch_metadata(object::name(meta), &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn remove_finalizer(api: &Api<DynamicObject>, meta: &ObjectMeta, finalizer: &str) -> Result<(), Error> {
    let mut left = meta.finalizers.clone().unwrap_or_default();
    left.retain(|one| one != finalizer);
    patch(api, meta, json!({"finalizers": left})).await
}

/// Takes the references to these owners out of an object.
async fn release(api: &Api<DynamicObject>, meta: &ObjectMeta, owners: &[String]) -> Result<(), Error> {
    let mut left = meta.owner_references.clone().unwrap_or_default();
    let before = left.len();
    left.retain(|one| !owners.contains(&one.uid));
    if left.len() == before {
        return Ok(());
    }
    patch(api, meta, json!({"ownerReferences": left})).await
}

/// Lets no owner of the object wait for its end; whether one did.
async fn unblock(api: &Api<DynamicObject>, meta: &ObjectMeta) -> Result<bool, Error> {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    let blocking = owners.iter_mut().filter(|one| one.block_owner_deletion == Some(true));
    let count = blocking.map(|one| one.block_owner_deletion = Some(false)).count();
    if count > 0 {
        patch(api, meta, json!({"ownerReferences": owners})).await?;
    }
    Ok(count > 0)
}

async fn orphan(context: &Context, collector: &Collector, uid: &str) -> Result<Next, Error> {
    let Some(node) = collector.graph.lock().get(uid).cloned() else { return Ok(Next::Done) };
    let api = api_of(context, &node.resource, &node.namespace);
    let Some(meta) = live(&api, &node.name, uid).await? else { return Ok(Next::Done) };
    let now = Node::new(node.resource.clone(), &meta);
    if !now.deleting || !now.orphan {
        return Ok(Next::Done);
    }
    let dependents = collector.graph.lock().dependents(uid);
    for one in dependents {
        let Some(dependent) = collector.graph.lock().get(&one).cloned() else { continue };
        let api = api_of(context, &dependent.resource, &dependent.namespace);
        for attempt in 0.. {
            let Some(meta) = live(&api, &dependent.name, &one).await? else { break };
            match release(&api, &meta, &[uid.to_owned()]).await {
                Ok(()) => break,
                Err(Error::Api(error)) if is_conflict(&error) && attempt < 5 => {}
                Err(error) => return Err(error),
            }
        }
    }
    remove_finalizer(&api, &meta, ORPHAN).await?;
    Ok(Next::Done)
}
