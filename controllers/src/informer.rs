//! One shared, indexed cache per kind, fed by `kube_runtime::watcher`. Every change, deletions included, reaches
//! every subscriber in order, also those that a relist reveals. It never writes to the API, and it keeps no managed fields.

use std::{
    any::{Any, TypeId},
    collections::{BTreeSet, HashMap, HashSet},
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{Api, Client, Resource, api::ListParams};
use kube_runtime::watcher;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{object, selector};

/// Names an object within its kind; the namespace of a cluster-scoped one is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace, empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What an informer can hold.
pub trait Watched: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// The field selector of those that are held; all where there is none.
    const FIELDS: Option<&'static str> = None;

    /// A further index of the kind (a Pod's node, say); `None` leaves the object out of it.
    fn group_of(&self) -> Option<&str> {
        None
    }
}

/// A change as subscribers see it.
#[derive(Debug)]
pub enum Change<'a, K> {
    /// Added (`old` is absent) or changed.
    Applied {
        /// The object before, if the cache held it.
        old: Option<&'a Arc<K>>,
        /// The object now.
        new: &'a Arc<K>,
    },
    /// Deleted; the last state known.
    Deleted(&'a Arc<K>),
}

impl<'a, K> Change<'a, K> {
    /// The object after the change, or its last state.
    #[must_use]
    pub fn object(&self) -> &'a Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(old) => old,
        }
    }
}

/// The indexed objects of one kind.
#[derive(Debug)]
pub struct Store<K> {
    objects: HashMap<Key, Arc<K>>,
    by_namespace: HashMap<String, BTreeSet<Key>>,
    by_owner: HashMap<String, HashSet<Key>>,
    by_label: HashMap<(String, String), HashSet<Key>>,
    by_group: HashMap<String, HashSet<Key>>,
    /// The highest resourceVersion seen from the server.
    seen: u64,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            by_namespace: HashMap::new(),
            by_owner: HashMap::new(),
            by_label: HashMap::new(),
            by_group: HashMap::new(),
            seen: 0,
        }
    }
}

fn drop_from<I: std::hash::Hash + Eq>(index: &mut HashMap<I, HashSet<Key>>, at: &I, key: &Key) {
    if let Some(set) = index.get_mut(at) {
        set.remove(key);
        if set.is_empty() {
            index.remove(at);
        }
    }
}

impl<K: Watched> Store<K> {
    fn unindex(&mut self, key: &Key, object: &K) {
        if let Some(set) = self.by_namespace.get_mut(&key.namespace) {
            set.remove(key);
            if set.is_empty() {
                self.by_namespace.remove(&key.namespace);
            }
        }
        for owner in object.meta().owner_references.iter().flatten() {
            drop_from(&mut self.by_owner, &owner.uid, key);
        }
        for (name, value) in object.meta().labels.iter().flatten() {
            drop_from(&mut self.by_label, &(name.clone(), value.clone()), key);
        }
        if let Some(group) = object.group_of() {
            drop_from(&mut self.by_group, &group.to_owned(), key);
        }
    }

    fn insert(&mut self, key: Key, object: &Arc<K>) -> Option<Arc<K>> {
        let old = self.objects.insert(key.clone(), object.clone());
        if let Some(old) = &old {
            self.unindex(&key, old);
        }
        for owner in object.meta().owner_references.iter().flatten() {
            self.by_owner.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        for (name, value) in object.meta().labels.iter().flatten() {
            self.by_label.entry((name.clone(), value.clone())).or_default().insert(key.clone());
        }
        if let Some(group) = object.group_of() {
            self.by_group.entry(group.to_owned()).or_default().insert(key.clone());
        }
        self.by_namespace.entry(key.namespace.clone()).or_default().insert(key);
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        self.unindex(key, &old);
        Some(old)
    }

    fn gather<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<Arc<K>> {
        keys.filter_map(|key| self.objects.get(key).cloned()).collect()
    }
}

type Subscriber<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// The cache of one kind and those who hear of its changes.
pub struct Informer<K> {
    store: RwLock<Store<K>>,
    subscribers: Mutex<Vec<Subscriber<K>>>,
    /// Whether the first list is complete, and a count that grows with each change.
    progress: watch::Sender<(bool, u64)>,
}

impl<K> Debug for Informer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

impl<K> Default for Informer<K> {
    fn default() -> Self {
        Self {
            store: RwLock::new(Store::default()),
            subscribers: Mutex::new(Vec::new()),
            progress: watch::channel((false, 0)).0,
        }
    }
}

impl<K: Watched> Informer<K> {
    /// Hears every change from now on; objects already held come first, as additions. The closure runs on the
    /// informer's task: it must not block and must not subscribe.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        let mut subscribers = self.subscribers.lock();
        let held: Vec<_> = self.store.read().objects.values().cloned().collect();
        for new in &held {
            subscriber(&Change::Applied { old: None, new });
        }
        subscribers.push(Box::new(subscriber));
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.store.read().objects.get(key).cloned()
    }

    /// All objects, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.read().objects.values().cloned().collect()
    }

    /// The objects of a namespace, by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let store = self.store.read();
        store.by_namespace.get(namespace).map(|keys| store.gather(keys.iter())).unwrap_or_default()
    }

    /// The objects with an owner reference to this uid.
    #[must_use]
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        let store = self.store.read();
        let mut found = store.by_owner.get(uid).map(|keys| store.gather(keys.iter())).unwrap_or_default();
        drop(store);
        found.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        found
    }

    /// The objects of a namespace that a selector matches, by name. Equality terms use the label index.
    #[must_use]
    pub fn select(&self, namespace: &str, wanted: &LabelSelector) -> Vec<Arc<K>> {
        let store = self.store.read();
        let smallest = wanted
            .match_labels
            .iter()
            .flatten()
            .map(|(name, value)| store.by_label.get(&(name.clone(), value.clone())))
            .min_by_key(|set| set.map_or(0, HashSet::len));
        let mut found = match smallest {
            Some(None) => Vec::new(),
            Some(Some(keys)) => store.gather(keys.iter().filter(|key| key.namespace == namespace)),
            None => store.by_namespace.get(namespace).map(|keys| store.gather(keys.iter())).unwrap_or_default(),
        };
        drop(store);
        found.retain(|object| selector::matches(wanted, object.meta().labels.as_ref()));
        found.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        found
    }

    /// The objects of a group, see [`Watched::group_of`].
    #[must_use]
    pub fn grouped(&self, group: &str) -> Vec<Arc<K>> {
        let store = self.store.read();
        store.by_group.get(group).map(|keys| store.gather(keys.iter())).unwrap_or_default()
    }

    /// Waits for the first complete list; false if stopped before.
    pub async fn synced(&self, stop: &CancellationToken) -> bool {
        let mut progress = self.progress.subscribe();
        tokio::select! {
            () = stop.cancelled() => false,
            done = progress.wait_for(|(synced, _)| *synced) => done.is_ok(),
        }
    }

    async fn until(&self, holds: impl Fn(&Store<K>) -> bool) -> bool {
        let mut progress = self.progress.subscribe();
        let wait = async {
            loop {
                if holds(&self.store.read()) {
                    return true;
                }
                if progress.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or(false)
    }

    /// Waits until the cache has seen an own write of this object (as the server answered it); false after ten
    /// seconds, when the next plan may see an older state and must rely on conflicts.
    pub async fn saw(&self, written: &ObjectMeta) -> bool {
        let (key, revision) = (Key::of(written), object::revision(written));
        self.until(|store| {
            store.seen >= revision
                || store
                    .objects
                    .get(&key)
                    .is_some_and(|held| held.meta().uid == written.uid && object::revision(held.meta()) >= revision)
        })
        .await
    }

    /// Waits until the cache no longer holds this object, or holds it as terminating; false after ten seconds.
    pub async fn saw_deleted(&self, key: &Key, uid: Option<&str>) -> bool {
        self.until(|store| {
            store.objects.get(key).is_none_or(|held| {
                held.meta().deletion_timestamp.is_some() || (uid.is_some() && held.meta().uid.as_deref() != uid)
            })
        })
        .await
    }

    /// Puts an object in, as the watch would; tests feed caches with it.
    pub fn apply(&self, object: K) {
        let revision = object::revision(object.meta());
        self.put(object, revision);
    }

    /// Puts an object in that came with everything up to `seen`: with 0, as a list in progress, it proves nothing.
    fn put(&self, mut object: K, seen: u64) {
        object.meta_mut().managed_fields = None;
        let new = Arc::new(object);
        let subscribers = self.subscribers.lock();
        let old = {
            let mut store = self.store.write();
            store.seen = store.seen.max(seen);
            store.insert(Key::of(new.meta()), &new)
        };
        for subscriber in subscribers.iter() {
            subscriber(&Change::Applied { old: old.as_ref(), new: &new });
        }
        drop(subscribers);
        self.progress.send_modify(|(_, count)| *count += 1);
    }

    /// Takes an object out, as the watch would.
    pub fn delete(&self, last: K) {
        let last = Arc::new(last);
        let subscribers = self.subscribers.lock();
        {
            let mut store = self.store.write();
            store.remove(&Key::of(last.meta()));
            store.seen = store.seen.max(object::revision(last.meta()));
        }
        for subscriber in subscribers.iter() {
            subscriber(&Change::Deleted(&last));
        }
        drop(subscribers);
        self.progress.send_modify(|(_, count)| *count += 1);
    }

    /// Ends a (re)list: what it did not name is gone, and its subscribers hear of it.
    pub fn complete(&self, listed: &HashSet<Key>) {
        let gone: Vec<_> = {
            let store = self.store.read();
            store.objects.iter().filter(|(key, _)| !listed.contains(key)).map(|(_, object)| object.clone()).collect()
        };
        for object in gone {
            self.delete(K::clone(&object));
        }
        {
            let mut store = self.store.write();
            let newest = store.objects.values().map(|object| object::revision(object.meta())).max();
            store.seen = store.seen.max(newest.unwrap_or(0));
        }
        self.progress.send_modify(|(synced, count)| {
            *synced = true;
            *count += 1;
        });
    }

    async fn run(self: Arc<Self>, client: Client, stop: CancellationToken) {
        let config =
            K::FIELDS.map_or_else(watcher::Config::default, |fields| watcher::Config::default().fields(fields));
        let mut events = Box::pin(watcher(Api::<K>::all(client), config));
        let mut listed = HashSet::new();
        let mut failures = 0;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                None => return,
                Some(Ok(event)) => {
                    failures = 0;
                    match event {
                        watcher::Event::Init => listed.clear(),
                        watcher::Event::InitApply(object) => {
                            let key = Key::of(object.meta());
                            let known = self.get(&key);
                            listed.insert(key);
                            if known.is_none_or(|held| held.meta().resource_version != object.meta().resource_version) {
                                self.put(object, 0);
                            }
                        }
                        watcher::Event::InitDone => self.complete(&std::mem::take(&mut listed)),
                        watcher::Event::Apply(object) => self.apply(object),
                        watcher::Event::Delete(object) => self.delete(object),
                    }
                }
                Some(Err(error)) => {
                    let delay = (Duration::from_millis(100) * 2_u32.pow(failures)).min(Duration::from_secs(30));
                    failures = (failures + 1).min(10);
                    tracing::debug!(kind = %K::kind(&()), %error, ?delay, "watch interrupted");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(delay) => {}
                    }
                }
            }
        }
    }
}

/// The informers of a process, one per kind, each started when first asked for.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    stop: CancellationToken,
    started: Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>,
}

impl Debug for Informers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informers").field("started", &self.started.lock().len()).finish_non_exhaustive()
    }
}

impl Informers {
    /// Informers that read with this client until `stop`.
    #[must_use]
    pub fn new(client: Client, stop: CancellationToken) -> Self {
        Self { client, stop, started: Arc::default() }
    }

    /// The shared informer of a kind.
    ///
    /// # Panics
    /// Never: the map is keyed by the type it holds.
    #[must_use]
    pub fn of<K: Watched>(&self) -> Arc<Informer<K>> {
        let mut started = self.started.lock();
        let any = started.entry(TypeId::of::<K>()).or_insert_with(|| {
            let informer = Arc::new(Informer::<K>::default());
            tokio::spawn(informer.clone().run(self.client.clone(), self.stop.clone()));
            informer
        });
        any.clone().downcast::<Informer<K>>().expect("keyed by the type it holds")
    }

    /// Objects as they are now, read once in the component's name: for what is asked so seldom that keeping them all would cost more.
    ///
    /// # Errors
    /// What the API answers.
    pub async fn list<K>(&self, params: &ListParams) -> Result<Vec<K>, kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        Ok(Api::all(self.client.clone()).list(params).await?.items)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, revision: u64, app: &str, node: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": revision.to_string(),
                         "labels": {"app": app}, "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": app}]},
            "spec": {"containers": [], "nodeName": node},
        }))
        .unwrap()
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn indexes_follow_changes() {
        let informer = Informer::<Pod>::default();
        informer.apply(pod("p1", 1, "web", "n1"));
        informer.apply(pod("p2", 2, "web", "n2"));
        let web = LabelSelector { match_labels: Some([("app".into(), "web".into())].into()), ..Default::default() };
        assert_eq!(names(&informer.select("a", &web)), ["p1", "p2"]);
        assert_eq!(names(&informer.owned_by("web")), ["p1", "p2"]);
        informer.apply(pod("p1", 3, "db", "n2"));
        assert_eq!(names(&informer.select("a", &web)), ["p2"]);
        assert_eq!(names(&informer.owned_by("db")), ["p1"]);
        assert_eq!(names(&informer.grouped("n1")), Vec::<&str>::new());
        assert_eq!(informer.grouped("n2").len(), 2);
        assert!(informer.select("b", &web).is_empty());
        assert_eq!(names(&informer.in_namespace("a")), ["p1", "p2"]);
    }

    #[test]
    fn a_relist_reveals_deletions_to_every_subscriber() {
        let informer = Informer::<Pod>::default();
        let gone = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..2 {
            let gone = gone.clone();
            informer.subscribe(move |change| {
                if let Change::Deleted(pod) = change {
                    gone.lock().push(pod.metadata.name.clone().unwrap());
                }
            });
        }
        informer.apply(pod("stays", 1, "web", "n"));
        informer.apply(pod("goes", 2, "web", "n"));
        informer.complete(&HashSet::from([Key::new("a", "stays")]));
        assert_eq!(*gone.lock(), ["goes", "goes"]);
        assert_eq!(names(&informer.all()), ["stays"]);
    }

    #[tokio::test(start_paused = true)]
    async fn own_writes_are_awaited() {
        let informer = Arc::new(Informer::<Pod>::default());
        informer.apply(pod("p", 5, "web", "n"));
        let waiting = tokio::spawn({
            let informer = informer.clone();
            async move { informer.saw(&pod("p", 7, "web", "n").metadata).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        informer.apply(pod("p", 7, "web", "n"));
        assert!(waiting.await.unwrap());
        assert!(!informer.saw(&pod("p", 9, "web", "n").metadata).await, "gives up in the end");
        assert!(!informer.saw_deleted(&Key::new("a", "p"), Some("p")).await);
        informer.delete(pod("p", 9, "web", "n"));
        assert!(informer.saw_deleted(&Key::new("a", "p"), Some("p")).await);
    }
}
