//! The pods of this node: follows the API's list, has one worker per pod, wakes it when the runtime's state moves, and
//! finds what the runtime holds of pods that the API no longer knows.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cri::Fingerprint;
use crate::node_context::SharedNode;
use crate::worker::{Desired, Worker};
use crate::{model, names, resize, static_pods};

/// How often the runtime is looked at while things change.
const RELIST: Duration = Duration::from_millis(300);
/// How often it is looked at when pods run and nothing has changed for [`QUIET`].
const CALM: Duration = Duration::from_secs(1);
/// How long after a change the runtime is watched closely.
const QUIET: Duration = Duration::from_secs(15);
/// How often it is looked at when nothing is there.
const IDLE: Duration = Duration::from_secs(3);

/// How often manifests of static pods are looked at.
const MANIFESTS: Duration = Duration::from_secs(5);

/// How often logs are looked at.
const ROTATE: Duration = Duration::from_secs(10);
/// Longest log file, bytes.
const LOG_SIZE: u64 = 10 << 20;
/// Log files kept beside the one that is written.
const LOG_FILES: usize = 4;

struct Handle {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
}

/// The workers of all pods.
pub(crate) struct Pods {
    node: SharedNode,
    handles: Mutex<HashMap<String, Handle>>,
    known: AtomicBool,
    /// Static pods by uid.
    manifests: Mutex<BTreeMap<String, Arc<core::Pod>>>,
    /// What the API server shows of static pods, by namespace and name.
    mirrors: Mutex<BTreeMap<(String, String), core::Pod>>,
    /// Tells the relist that the API's side changed.
    stirred: Notify,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Pods {
    pub(crate) fn new(node: SharedNode, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            node,
            handles: Mutex::default(),
            known: AtomicBool::new(false),
            manifests: Mutex::default(),
            mirrors: Mutex::default(),
            stirred: Notify::new(),
            stop,
            tracker: TaskTracker::new(),
        })
    }

    /// All pods of this node, as the API server last said.
    pub(crate) fn all(&self) -> Vec<Arc<core::Pod>> {
        let handles = self.handles.lock();
        let mut pods: Vec<Arc<core::Pod>> =
            handles.values().map(|handle| handle.desired.borrow().clone()).filter(|d| !d.gone).map(|d| d.pod).collect();
        pods.sort_by(|a, b| (model::namespace(a), model::name(a)).cmp(&(model::namespace(b), model::name(b))));
        pods
    }

    /// A pod by name.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<core::Pod>> {
        self.all().into_iter().find(|pod| model::namespace(pod) == namespace && model::name(pod) == name)
    }

    /// Waits until all workers have ended after a stop.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn apply(self: &Arc<Self>, pod: core::Pod) {
        if static_pods::is_mirror(&pod) {
            self.show(&pod);
            self.mirrors.lock().insert(static_pods::key(&pod), pod);
            return;
        }
        let uid = model::uid(&pod).to_owned();
        let desired = Desired { pod: Arc::new(pod), gone: false };
        self.stirred.notify_one();
        if model::is_terminal(&desired.pod) {
            self.node.release(&uid);
        }
        let mut handles = self.handles.lock();
        if let Some(handle) = handles.get(&uid) {
            handle.desired.send_replace(desired);
            return;
        }
        let refusal = self.admit(&desired.pod);
        let handle = self.spawn(uid.clone(), desired, refusal);
        handles.insert(uid, handle);
    }

    /// Tells a static pod's worker what the API server holds of it.
    fn show(&self, mirror: &core::Pod) {
        let manifests = self.manifests.lock();
        let Some((uid, pod)) = manifests.iter().find(|(_, pod)| static_pods::key(pod) == static_pods::key(mirror))
        else {
            return;
        };
        if !static_pods::shows(mirror, pod) {
            return;
        }
        let held = core::Pod { status: mirror.status.clone(), ..core::Pod::clone(pod) };
        if let Some(handle) = self.handles.lock().get(uid) {
            handle.desired.send_modify(|desired| desired.pod = Arc::new(held));
        }
    }

    /// Grants a pod that was not seen before what it asks for, or says why the node will not run it.
    fn admit(&self, pod: &Arc<core::Pod>) -> Option<(&'static str, String)> {
        if model::is_terminal(pod) {
            return None;
        }
        let mut ledger = self.node.ledger.lock();
        let began = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if began || pod.metadata.deletion_timestamp.is_some() {
            ledger.grant(resize::with(pod, &resize::granted_before(pod)));
            return None;
        }
        let others = ledger.others(model::uid(pod));
        if let Some((reason, why)) = crate::admit::refusal(pod, &others, &self.node.allocatable, &self.node.config) {
            return Some((reason, format!("Pod was rejected: {why}")));
        }
        ledger.grant(pod.clone());
        None
    }

    fn gone(&self, uid: &str) {
        if let Some(handle) = self.handles.lock().get(uid) {
            handle.desired.send_modify(|desired| desired.gone = true);
        }
        self.node.release(uid);
    }

    fn spawn(self: &Arc<Self>, uid: String, desired: Desired, refusal: Option<(&'static str, String)>) -> Handle {
        let (sender, receiver) = watch::channel(desired);
        let wake = Arc::new(Notify::new());
        let mut worker = Worker::new(self.node.clone(), receiver, wake.clone(), self.stop.clone());
        if let Some((reason, message)) = refusal {
            let about = crate::events::about_pod(&sender.borrow().pod, None);
            self.node.events.warning(about, reason, message.clone());
            worker.refuse(reason, &message);
        }
        let pods = self.clone();
        self.tracker.spawn(async move {
            worker.run().await;
            if !pods.stop.is_cancelled() {
                pods.handles.lock().remove(&uid);
            }
        });
        Handle { desired: sender, wake }
    }

    /// Starts and ends static pods as the manifests say.
    pub(crate) fn read_manifests(self: &Arc<Self>) {
        let Some(directory) = &self.node.config.static_pods else { return };
        let (fresh, old) = {
            let mut known = self.manifests.lock();
            let fresh = static_pods::read_all(directory, &self.node.config.node_name, &known);
            (fresh.clone(), std::mem::replace(&mut *known, fresh))
        };
        for uid in old.keys().filter(|uid| !fresh.contains_key(*uid)) {
            self.gone(uid);
        }
        for (uid, pod) in fresh.into_iter().filter(|(uid, _)| !old.contains_key(uid)) {
            self.node.ledger.lock().grant(pod.clone());
            let handle = self.spawn(uid.clone(), Desired { pod, gone: false }, None);
            self.handles.lock().insert(uid, handle);
        }
    }

    /// Looks at the manifests and at what the API server shows of them again and again, until stopped.
    pub(crate) async fn keep_manifests(self: Arc<Self>) {
        if self.node.config.static_pods.is_none() {
            return;
        }
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(MANIFESTS) => {}
            }
            self.read_manifests();
            if self.known.load(Ordering::Acquire)
                && let Err(error) = self.keep_mirrors().await
            {
                tracing::debug!(%error, "the mirrors of static pods are not as they should be");
            }
        }
    }

    /// Makes the mirrors that are missing, and removes those that show what is no more.
    async fn keep_mirrors(&self) -> Result<(), kube::Error> {
        let config = &self.node.config;
        let wanted: Vec<Arc<core::Pod>> = self.manifests.lock().values().cloned().collect();
        let held: Vec<core::Pod> = self.mirrors.lock().values().cloned().collect();
        let api = |pod: &core::Pod| -> Api<core::Pod> { Api::namespaced(config.client.clone(), model::namespace(pod)) };
        for mirror in &held {
            if wanted
                .iter()
                .any(|pod| static_pods::key(pod) == static_pods::key(mirror) && static_pods::shows(mirror, pod))
            {
                continue;
            }
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None }),
                ..DeleteParams::default()
            };
            match api(mirror).delete(model::name(mirror), &params).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        let mut node = None;
        for pod in &wanted {
            if held.iter().any(|mirror| static_pods::key(mirror) == static_pods::key(pod)) {
                continue;
            }
            if node.is_none() {
                let nodes: Api<core::Node> = Api::all(config.client.clone());
                node = Some(nodes.get(&config.node_name).await?);
            }
            let Some(node) = &node else { continue };
            match api(pod).create(&PostParams::default(), &static_pods::mirror(pod, node)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Follows the pods that the API server binds to this node, until stopped.
    pub(crate) async fn follow(self: Arc<Self>) {
        let api: Api<core::Pod> = Api::all(self.node.config.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node.config.node_name));
        let mut stream = Box::pin(watcher::watcher(api, config).default_backoff());
        let mut listed: HashSet<String> = HashSet::new();
        loop {
            let event = tokio::select! {
                () = self.stop.cancelled() => return,
                event = stream.try_next() => event,
            };
            match event {
                Ok(Some(Event::Init)) => {
                    listed.clear();
                    self.mirrors.lock().clear();
                }
                Ok(Some(Event::InitApply(pod))) => {
                    listed.insert(model::uid(&pod).to_owned());
                    self.apply(pod);
                }
                Ok(Some(Event::InitDone)) => {
                    let own: HashSet<String> = self.manifests.lock().keys().cloned().collect();
                    let handles = self.handles.lock();
                    let missing = handles.keys().filter(|uid| !listed.contains(*uid) && !own.contains(*uid));
                    let missing: Vec<String> = missing.cloned().collect();
                    drop(handles);
                    for uid in missing {
                        self.gone(&uid);
                    }
                    self.known.store(true, Ordering::Release);
                }
                Ok(Some(Event::Apply(pod))) => self.apply(pod),
                Ok(Some(Event::Delete(pod))) if static_pods::is_mirror(&pod) => {
                    self.mirrors.lock().remove(&static_pods::key(&pod));
                }
                Ok(Some(Event::Delete(pod))) => self.gone(model::uid(&pod)),
                Ok(None) => return,
                Err(error) => tracing::debug!(%error, "pods not watched"),
            }
        }
    }

    /// Looks at the runtime again and again and wakes whom it concerns, until stopped.
    pub(crate) async fn relist(self: Arc<Self>) {
        let mut before: HashMap<String, Vec<Fingerprint>> = HashMap::new();
        let mut moved = Instant::now();
        loop {
            let pods = !before.is_empty() || !self.handles.lock().is_empty();
            let period = match (pods, moved.elapsed() < QUIET) {
                (false, _) => IDLE,
                (true, true) => RELIST,
                (true, false) => CALM,
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.stirred.notified() => moved = Instant::now(),
                () = tokio::time::sleep(period) => {}
            }
            let now = match self.node.cri.fingerprints().await {
                Ok(now) => now,
                Err(error) => {
                    tracing::debug!(%error, "runtime not listed");
                    continue;
                }
            };
            if before != now {
                moved = Instant::now();
            }
            let uids: HashSet<&String> = before.keys().chain(now.keys()).collect();
            let mut strangers = Vec::new();
            {
                let handles = self.handles.lock();
                for uid in uids {
                    match handles.get(uid) {
                        Some(handle) if before.get(uid) != now.get(uid) => handle.wake.notify_one(),
                        None if now.contains_key(uid) => strangers.push(uid.clone()),
                        _ => {}
                    }
                }
            }
            if self.known.load(Ordering::Acquire) && !strangers.is_empty() {
                self.adopt(&strangers).await;
            }
            before = now;
        }
    }

    /// Gives workers to pods that only the runtime knows, so that they end.
    async fn adopt(self: &Arc<Self>, uids: &[String]) {
        let Ok(sandboxes) = self.node.cri.list_sandboxes(None).await else { return };
        for sandbox in sandboxes {
            let label = |name: &str| sandbox.labels.get(name).cloned();
            let Some(uid) = label(names::POD_UID).filter(|uid| uids.contains(uid)) else { continue };
            let pod = core::Pod {
                metadata: ObjectMeta {
                    name: label(names::POD_NAME),
                    namespace: label(names::POD_NAMESPACE),
                    uid: Some(uid.clone()),
                    ..ObjectMeta::default()
                },
                ..core::Pod::default()
            };
            let mut handles = self.handles.lock();
            if let Entry::Vacant(free) = handles.entry(uid.clone()) {
                tracing::info!(pod = model::full_name(&pod), "ending a pod that the API server does not know");
                free.insert(self.spawn(uid, Desired { pod: Arc::new(pod), gone: true }, None));
            }
        }
    }
}

/// Keeps container logs from growing without bound, until stopped.
pub(crate) async fn rotate_logs(node: SharedNode, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ROTATE) => {}
        }
        let Ok(containers) = node.cri.list_containers(None).await else { continue };
        let running = crate::cri::v1::ContainerState::ContainerRunning as i32;
        for container in containers.into_iter().filter(|container| container.state == running) {
            let Ok(status) = node.cri.container_status(&container.id).await else { continue };
            let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
            match crate::logs::rotate(Path::new(&status.log_path), LOG_SIZE, LOG_FILES, &stamp).await {
                Ok(true) => {
                    if let Err(error) = node.cri.reopen_log(&container.id).await {
                        tracing::warn!(%error, container = container.id, "log not reopened");
                    }
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, container = container.id, "log not rotated"),
            }
        }
    }
}

/// Follows the services of all namespaces, until stopped.
pub(crate) async fn follow_services(node: SharedNode, stop: CancellationToken) {
    let api: Api<core::Service> = Api::all(node.config.client.clone());
    let mut stream = Box::pin(watcher::watcher(api, watcher::Config::default()).default_backoff());
    let key = |service: &core::Service| {
        let metadata = &service.metadata;
        (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    };
    let mut fresh: BTreeMap<(String, String), core::Service> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = stream.try_next() => event,
        };
        match event {
            Ok(Some(Event::Init)) => fresh.clear(),
            Ok(Some(Event::InitApply(service))) => {
                fresh.insert(key(&service), service);
            }
            Ok(Some(Event::InitDone)) => {
                *node.services.lock() = std::mem::take(&mut fresh);
                node.services_known.store(true, Ordering::Release);
            }
            Ok(Some(Event::Apply(service))) => {
                node.services.lock().insert(key(&service), service);
            }
            Ok(Some(Event::Delete(service))) => {
                node.services.lock().remove(&key(&service));
            }
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "services not watched"),
        }
    }
}
