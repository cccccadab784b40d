//! The one task that owns the snapshot and the queue: takes in changes, places pods, and hands the writes to others.
//!
//! A placed pod stands in the snapshot before its binding is written, so that the next decision sees its claim; if the binding
//! fails it is taken off again. Until all kinds were listed once, nothing is placed.

use crate::bind::{Bound, Note, Recorder, bind, evict, nominate, patch_status, unschedulable_patch};
use crate::cycle::{Turn, place};
use crate::matching::{node_labels, pod_labels};
use crate::metrics::{Metrics, Outcome};
use crate::plugins::Event;
use crate::preempt::{self, priority};
use crate::queue::{Moment, Queue};
use crate::snapshot::{PodInfo, Snapshot};
use crate::watch::Kind;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pods placed between two looks at the inbox.
const BATCH: usize = 64;

/// Something the scheduler must know.
pub(crate) enum Change {
    Pod(Kind<Pod>),
    Node(Kind<Node>),
    Namespace(Kind<Namespace>),
    Service(Kind<Service>),
    ReplicaSet(Kind<ReplicaSet>),
    /// What became of the binding of this pod.
    Bound(Arc<PodInfo>, String, Bound),
}

/// Which kinds were listed.
#[derive(Default)]
struct Synced {
    pods: bool,
    nodes: bool,
    namespaces: bool,
    services: bool,
    replica_sets: bool,
}

pub(crate) struct State {
    client: Client,
    name: String,
    recorder: Recorder,
    changes: UnboundedSender<Change>,
    snapshot: Snapshot,
    queue: Queue,
    /// Pods whose binding is under way or whose bound form was not seen yet.
    assumed: HashSet<String>,
    /// Pods for which others were made to go, and where.
    nominated: HashMap<String, (Arc<PodInfo>, String)>,
    synced: Synced,
    began: Instant,
    start: usize,
    metrics: Metrics,
}

impl State {
    pub(crate) fn new(
        client: Client,
        name: String,
        recorder: Recorder,
        changes: UnboundedSender<Change>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            name,
            recorder,
            changes,
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            assumed: HashSet::new(),
            nominated: HashMap::new(),
            synced: Synced::default(),
            began: Instant::now(),
            start: 0,
            metrics,
        }
    }

    /// Tells who waits where.
    fn tell(&mut self) {
        self.metrics.pending(self.queue.waiting());
        self.metrics.unschedulable(&self.name, self.queue.refusals());
        for ((event, place), pods) in self.queue.take_incoming() {
            self.metrics.incoming(event, place, pods);
        }
    }

    /// A try has ended.
    fn tried(&self, uid: &str, outcome: Outcome) {
        if let Some(tried) = self.queue.tried(uid) {
            self.metrics.tried(&self.name, outcome, self.now().saturating_sub(tried.last));
            if outcome == Outcome::Scheduled {
                self.metrics.bound(tried.tries, self.now().saturating_sub(tried.first));
            }
        }
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    pub(crate) async fn run(mut self, mut inbox: UnboundedReceiver<Change>, stop: &CancellationToken) {
        loop {
            let wake = self.queue.next_wake().map(|at| self.began + at);
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                change = inbox.recv() => match change {
                    Some(change) => self.take_in(change),
                    None => return,
                },
                () = timer => {}
            }
            loop {
                while let Ok(change) = inbox.try_recv() {
                    self.take_in(change);
                }
                let more = self.place_some();
                self.tell();
                if !more || stop.is_cancelled() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// Places up to a batch of pods; whether more may wait.
    fn place_some(&mut self) -> bool {
        let Synced { pods, nodes, namespaces, services, replica_sets } = self.synced;
        if !(pods && nodes && namespaces && services && replica_sets) {
            return false;
        }
        for _ in 0..BATCH {
            let now = self.now();
            let Some(pod) = self.queue.take(now) else { return false };
            if pod.pod.metadata.deletion_timestamp.is_some() {
                self.queue.remove(pod.uid());
                continue;
            }
            self.place_one(&pod);
        }
        true
    }

    fn place_one(&mut self, pod: &Arc<PodInfo>) {
        let turn = Turn { start: self.start, pick: rand::random_range(0..usize::MAX) };
        // Room that was made for others is theirs, unless this one is more important.
        let reserved: Vec<_> = self
            .nominated
            .values()
            .filter(|(other, _)| other.uid() != pod.uid() && priority(other) >= priority(pod))
            .cloned()
            .collect();
        for (other, node) in &reserved {
            self.snapshot.place(other, node);
        }
        let placed = place(&self.snapshot, pod, turn);
        let preemption = match &placed {
            Err(_)
                if preempt::may(pod, self.nominated.get(pod.uid()).map(|(_, node)| node.as_str()), &self.snapshot) =>
            {
                preempt::choose(&self.snapshot, pod)
            }
            _ => None,
        };
        for (other, _) in &reserved {
            self.snapshot.remove_pod(other.uid());
        }
        match placed {
            Ok(placement) => {
                self.nominated.remove(pod.uid());
                self.start = self.start.wrapping_add(placement.looked_at);
                self.assumed.insert(pod.uid().to_owned());
                self.snapshot.place(pod, &placement.node);
                let (client, pod, changes) = (self.client.clone(), Arc::clone(pod), self.changes.clone());
                tokio::spawn(async move {
                    let bound = bind(client, &pod, &placement.node).await;
                    let _ = changes.send(Change::Bound(pod, placement.node, bound));
                });
            }
            Err(unfit) => {
                let message = unfit.to_string();
                self.tried(pod.uid(), Outcome::Unschedulable);
                self.queue.refuse(pod.uid(), unfit.refused_by, self.now());
                self.tell_failure(pod, message);
                if let Some(preemption) = preemption {
                    self.make_room(pod, preemption);
                }
            }
        }
    }

    /// Lets the victims go; when they are gone, the pod is tried again.
    fn make_room(&mut self, pod: &Arc<PodInfo>, preemption: preempt::Preemption) {
        self.metrics.preempted(preemption.victims.len());
        self.nominated.insert(pod.uid().to_owned(), (Arc::clone(pod), preemption.node.clone()));
        for victim in &preemption.victims {
            let note = format!("Preempted by pod {} on node {}", pod.uid(), preemption.node);
            self.recorder
                .record(&victim.pod, Note { type_: "Normal", reason: "Preempted", action: "Preempting", note });
        }
        let (client, pod) = (self.client.clone(), Arc::clone(pod));
        tokio::spawn(async move {
            for victim in &preemption.victims {
                if let Err(error) = evict(client.clone(), &victim.pod, Timestamp::now()).await {
                    tracing::warn!(%error, pod = victim.uid(), "a pod of lower priority is not deleted");
                }
            }
            nominate(client, &pod.pod, &preemption.node).await;
        });
    }

    fn tell_failure(&self, pod: &Arc<PodInfo>, message: String) {
        if let Some(patch) = unschedulable_patch(&pod.pod, "Unschedulable", &message, Timestamp::now()) {
            let (client, pod) = (self.client.clone(), Arc::clone(pod));
            tokio::spawn(async move { patch_status(client, &pod.pod, patch).await });
        }
        let note = Note { type_: "Warning", reason: "FailedScheduling", action: "Scheduling", note: message };
        self.recorder.record(&pod.pod, note);
    }

    fn bound(&mut self, pod: &Arc<PodInfo>, node: &str, bound: Bound) {
        let uid = pod.uid();
        match bound {
            Bound::Done => {
                self.tried(uid, Outcome::Scheduled);
                self.queue.remove(uid);
                let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
                let namespace = crate::matching::namespace(&pod.pod);
                let note = format!("Successfully assigned {namespace}/{name} to {node}");
                self.recorder.record(&pod.pod, Note { type_: "Normal", reason: "Scheduled", action: "Binding", note });
            }
            Bound::Moot | Bound::Failed(_) => {
                // Unless the watch has told by now where it really is.
                if self.assumed.remove(uid) {
                    self.snapshot.remove_pod(uid);
                    self.queue.happened(&Event::PodGone(&pod.pod), self.now());
                }
                match bound {
                    Bound::Failed(why) if self.queue.contains(uid) => {
                        self.tried(uid, Outcome::Error);
                        self.queue.retry(uid, self.now());
                        self.tell_failure(pod, format!("binding rejected: {why}"));
                    }
                    // Gone, or bound by somebody else: the watch tells. A retry finds out where it does not.
                    _ => self.queue.retry(uid, self.now()),
                }
            }
        }
    }

    fn take_in(&mut self, change: Change) {
        match change {
            Change::Pod(Kind::Set(pod)) => self.set_pod(pod),
            Change::Pod(Kind::Gone(pod)) => self.pod_gone(pod.metadata.uid.as_deref().unwrap_or_default()),
            Change::Pod(Kind::All(pods)) => {
                let listed: HashSet<String> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
                let known = self.snapshot.pods().chain(self.queue.uids());
                let gone: Vec<String> = known.filter(|uid| !listed.contains(*uid)).map(str::to_owned).collect();
                gone.iter().for_each(|uid| self.pod_gone(uid));
                pods.into_iter().for_each(|pod| self.set_pod(pod));
                self.synced.pods = true;
            }
            Change::Node(Kind::Set(node)) => self.set_node(node),
            Change::Node(Kind::Gone(node)) => {
                self.snapshot.remove_node(node.metadata.name.as_deref().unwrap_or_default());
            }
            Change::Node(Kind::All(nodes)) => {
                let listed: HashSet<&str> = nodes.iter().filter_map(|node| node.metadata.name.as_deref()).collect();
                let known = self.snapshot.nodes().map(|node| node.name().to_owned());
                let gone: Vec<String> = known.filter(|name| !listed.contains(name.as_str())).collect();
                gone.iter().for_each(|name| self.snapshot.remove_node(name));
                nodes.into_iter().for_each(|node| self.set_node(node));
                self.synced.nodes = true;
            }
            Change::Namespace(change) => {
                self.synced.namespaces |= matches!(change, Kind::All(_));
                let label = |namespace: Namespace| namespace.metadata.labels.unwrap_or_default();
                let before = self.snapshot.namespaces.clone();
                keep(&mut self.snapshot.namespaces, change, |namespace| &namespace.metadata, label);
                if before != self.snapshot.namespaces {
                    self.queue.happened(&Event::NamespaceChanged, self.now());
                }
            }
            Change::Service(change) => {
                self.synced.services |= matches!(change, Kind::All(_));
                keep(&mut self.snapshot.services, change, |service| &service.metadata, Arc::new);
            }
            Change::ReplicaSet(change) => {
                self.synced.replica_sets |= matches!(change, Kind::All(_));
                keep(&mut self.snapshot.replica_sets, change, |set| &set.metadata, Arc::new);
            }
            Change::Bound(pod, node, bound) => self.bound(&pod, &node, bound),
        }
    }

    fn set_pod(&mut self, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            self.pod_gone(&uid);
            return;
        }
        let pod = Arc::new(PodInfo::new(Arc::new(pod)));
        let node = pod.node_name().to_owned();
        if node.is_empty() {
            let scheduler = pod.pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
            let ours = scheduler.unwrap_or("default-scheduler") == self.name;
            // Once bound, what a late message says of the time before does not count.
            if ours && (!self.assumed.contains(&uid) || self.queue.contains(&uid)) {
                self.queue.offer(pod);
            }
            return;
        }
        self.queue.remove(&uid);
        self.assumed.remove(&uid);
        self.nominated.remove(&uid);
        let old = self.snapshot.place(&pod, &node);
        let now = self.now();
        match old {
            None => self.queue.happened(&Event::PodBound(&pod.pod), now),
            // The claim was seen when it was made; affinity of others may hang on the label.
            Some(old) if old.node_name().is_empty() => self.queue.happened(&Event::PodBound(&pod.pod), now),
            Some(old) => {
                if pod_labels(&old.pod) != pod_labels(&pod.pod) || old.requests != pod.requests {
                    self.queue.happened(&Event::PodChanged(&pod.pod), now);
                }
            }
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.assumed.remove(uid);
        self.nominated.remove(uid);
        if let Some(old) = self.snapshot.remove_pod(uid) {
            self.queue.happened(&Event::PodGone(&old.pod), self.now());
        }
    }

    fn set_node(&mut self, node: Node) {
        let node = Arc::new(node);
        let old = self.snapshot.set_node(Arc::clone(&node));
        let now = self.now();
        match old {
            None => self.queue.happened(&Event::NodeAdded(&node), now),
            Some(old) => {
                let rules = |node: &Node| {
                    let spec = node.spec.clone().unwrap_or_default();
                    (spec.taints, spec.unschedulable.unwrap_or_default())
                };
                let room = |node: &Node| {
                    let status = node.status.as_ref();
                    status.map(|status| (status.allocatable.clone(), status.declared_features.clone()))
                };
                if node_labels(&old) != node_labels(&node) || rules(&old) != rules(&node) || room(&old) != room(&node) {
                    self.queue.happened(&Event::NodeChanged(&old, &node), now);
                }
            }
        }
    }
}

/// Keeps a map by `namespace/name` (or name alone) in step with a watch.
fn keep<K, V>(map: &mut HashMap<String, V>, change: Kind<K>, metadata: fn(&K) -> &ObjectMeta, value: impl Fn(K) -> V) {
    let key = |object: &K| {
        let metadata = metadata(object);
        let name = metadata.name.clone().unwrap_or_default();
        metadata.namespace.as_ref().map_or(name.clone(), |namespace| format!("{namespace}/{name}"))
    };
    match change {
        Kind::Set(object) => {
            map.insert(key(&object), value(object));
        }
        Kind::Gone(object) => {
            map.remove(&key(&object));
        }
        Kind::All(objects) => {
            map.clear();
            map.extend(objects.into_iter().map(|object| (key(&object), value(object))));
        }
    }
}
