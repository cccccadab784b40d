//! The watch cache: every stored object of a kind in memory as the bytes that clients get, and its latest events.
//!
//! Fed by the store's log alone, in the log's order, so that all API servers over one store agree. Snapshots are
//! persistent maps and cost nothing. Never writes.

mod entry;
mod follower;
mod index;
mod labels;
mod memory;
mod scan;
mod watcher;

pub use entry::{Converted, Entry, Key};
pub use follower::{Follower, Turn};
pub use index::{By, Narrow};
pub use labels::Labels;
pub(crate) use memory::Shown;
pub use memory::{Held, Memory};
pub use watcher::{Change, Watcher};

use crate::fairness::Size;
use api::kind::Kind;
use imbl::OrdMap;
use parking_lot::RwLock;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use storage::store::{EventKind, Revision, Scanned, Store, StoreError, Versioned};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Events kept for watchers that are a little behind; older ones are read from the store's log.
const RING: usize = if cfg!(test) { 64 } else { 4096 };
/// Bytes of the objects of those events, at most: many large ones are read from the log sooner.
const RING_BYTES: usize = 16 << 20;
/// Bytes of an event and its place in a ring, without objects.
const EVENT: u64 = (size_of::<Event>() + 3 * size_of::<usize>()) as u64;
/// Pieces of a scan that are read before they are wanted.
const AHEAD: usize = 2;
/// Kinds that are read at the same time at a start, at least.
const AT_ONCE: usize = 4;
/// How often a kind with an object that cannot be decrypted is read again.
const MEND_EVERY: Duration = Duration::from_secs(1);

/// What happened to one object.
#[derive(Clone)]
pub struct Event {
    /// Created, updated or deleted.
    pub kind: EventKind,
    /// The object after the event; for a deletion, as it was when it went, at the revision of the deletion.
    pub object: Arc<Entry>,
    /// The object before the event.
    pub previous: Option<Arc<Entry>>,
}

struct State {
    objects: OrdMap<Key, Arc<Entry>>,
    /// Of all objects, as clients get them.
    bytes: u64,
    revision: u64,
    ring: VecDeque<Arc<Event>>,
    /// Bytes of the objects of the ring's events.
    ring_bytes: usize,
    /// Number of the first event in the ring, counted from the start of the process.
    first: u64,
    /// Every event after this revision is in the ring.
    floor: u64,
    indexes: index::Indexes,
    held: Held,
    /// Told of everything, in order.
    followers: Vec<Arc<dyn Follower>>,
    /// Why the objects are not the store's: one of them cannot be decrypted. Who wants the whole kind hears it; single objects are
    /// read from the store.
    broken: Option<StoreError>,
}

impl State {
    /// What the cache holds, of the wanted objects alone where there is an index of them.
    fn picture(&self, narrow: Option<&Narrow>) -> Snapshot {
        let narrowed = narrow.and_then(|narrow| self.indexes.find(narrow));
        let narrow = narrowed.is_some();
        Snapshot { objects: narrowed.unwrap_or_else(|| self.objects.clone()), revision: self.revision, narrow }
    }

    /// Forgets the oldest event.
    fn forget(&mut self) {
        if let Some(gone) = self.ring.pop_front() {
            self.ring_bytes -= gone.object.json.len();
            self.held.ring -= gone.weight();
            self.first += 1;
            self.floor = gone.object.revision;
        }
    }
}

/// The cache of one stored kind. Its lock is taken once for a question: a reader that asks again while a writer waits between the two waits
/// for that writer, who waits for it.
pub struct Cache {
    kind: &'static Kind,
    resource: String,
    store: Store,
    memory: Arc<Memory>,
    state: RwLock<State>,
    moved: watch::Sender<u64>,
    /// What the kind says has changed, or it is gone: whoever watches starts anew.
    end: CancellationToken,
}

fn length(entry: &Arc<Entry>) -> u64 {
    entry.json.len() as u64
}

impl Event {
    /// Bytes that it holds beside the objects that are there: what came before, and what is gone.
    fn weight(&self) -> u64 {
        let gone = if self.kind == EventKind::Deleted { self.object.weight() } else { 0 };
        EVENT + gone + self.previous.as_ref().map_or(0, |previous| previous.weight())
    }
}

/// The picture that follows where a cache is lost: its bytes go with it.
impl Drop for Cache {
    fn drop(&mut self) {
        self.memory.changed(self.state.get_mut().held, Held::default());
    }
}

/// A consistent picture of a kind.
pub struct Snapshot {
    /// By namespace and name.
    pub objects: OrdMap<Key, Arc<Entry>>,
    /// Every change up to this revision is in it, none after.
    pub revision: u64,
    /// The objects are those of a value that was asked for, no others.
    pub narrow: bool,
}

impl Cache {
    /// An empty cache that knows nothing yet; `fill` and `follow` bring it to life.
    #[must_use]
    pub fn new(kind: &'static Kind, store: Store, memory: Arc<Memory>, end: CancellationToken) -> Arc<Cache> {
        Arc::new(Cache {
            kind,
            resource: kind.group_resource(),
            store,
            memory,
            state: RwLock::new(State {
                objects: OrdMap::new(),
                bytes: 0,
                revision: 0,
                ring: VecDeque::new(),
                ring_bytes: 0,
                first: 0,
                floor: 0,
                indexes: index::Indexes::default(),
                held: Held::default(),
                followers: Vec::new(),
                broken: None,
            }),
            moved: watch::Sender::new(0),
            end,
        })
    }

    /// The stored kind.
    #[must_use]
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// Cancelled when the cache is no longer that of its kind.
    #[must_use]
    pub fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// Wakes when the cache has moved.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Reads all objects of the kind as of one revision of the store. Some are read while others are made entries, on as many threads as there
    /// are processors, so that few are there in both forms.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn fill(&self) -> Result<(), StoreError> {
        let (out, mut pieces) = mpsc::channel(AHEAD);
        let (store, resource) = (self.store.clone(), self.resource.clone());
        let reading = tokio::spawn(async move { store.scan(&resource, out).await });
        let ended = |error: tokio::task::JoinError| StoreError::Unavailable(error.to_string());
        let (mut objects, mut making, at_once) = (OrdMap::new(), VecDeque::new(), processors());
        loop {
            let piece = pieces.recv().await;
            let last = piece.is_none();
            match piece {
                Some(Scanned::Objects(some)) => making.push_back(self.entries(some)),
                Some(Scanned::Anew) => {
                    making.clear();
                    objects = OrdMap::new();
                }
                None => {}
            }
            while making.len() >= if last { 1 } else { at_once } {
                let Some(made) = making.pop_front() else { break };
                objects.extend(made.await.map_err(ended)?);
            }
            if last {
                break;
            }
        }
        let revision = reading.await.map_err(ended)??;
        let mut state = self.state.write();
        let before = state.held;
        // Watchers at the ring's end fall out as well: what happened between the two pictures is in the log alone.
        state.first += u64::try_from(state.ring.len()).unwrap_or(0) + 1;
        state.ring.clear();
        state.ring_bytes = 0;
        state.bytes = objects.values().map(length).sum();
        state.held = Held { objects: objects.values().map(|entry| entry.weight()).sum(), ..Held::default() };
        let past = std::mem::replace(&mut state.objects, objects);
        state.indexes.clear();
        state.revision = revision.0;
        state.floor = revision.0;
        state.broken = None;
        self.memory.changed(before, state.held);
        let (followers, now) = (state.followers.clone(), state.objects.clone());
        drop(state);
        if !followers.is_empty() {
            let turns = Turn::between(&past, &now);
            followers.iter().for_each(|follower| follower.turned(&turns));
        }
        self.moved.send_replace(revision.0);
        Ok(())
    }

    /// Entries of some objects, made on a thread of their own.
    fn entries(&self, objects: Vec<(storage::store::Key, Versioned)>) -> JoinHandle<Vec<(Key, Arc<Entry>)>> {
        let kind = self.kind;
        tokio::task::spawn_blocking(move || {
            let entries =
                objects.into_iter().map(|(key, object)| Entry::new(kind, &key, object.revision.0, &object.bytes));
            entries.map(|entry| (entry.key.clone(), Arc::new(entry))).collect()
        })
    }

    /// Follows the store's log until its end; fills again when the log no longer reaches back far enough.
    pub async fn follow(self: &Arc<Self>) {
        let stop = self.end.clone();
        while !stop.is_cancelled() {
            if self.state.read().broken.is_some() && !self.mended().await {
                tokio::time::sleep(MEND_EVERY).await;
                continue;
            }
            let at = self.state.read().revision;
            let mut tail = self.store.tail(&self.resource, Revision(at));
            let error = loop {
                let next = tokio::select! {
                    () = stop.cancelled() => return,
                    next = tail.next() => next,
                };
                match next {
                    Ok(events) => self.apply(events),
                    Err(error) => break error,
                }
            };
            tracing::warn!(resource = self.resource, %error, "the watch cache lost the log");
            if matches!(error, StoreError::Transform { .. }) {
                self.state.write().broken = Some(error);
                continue;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            if matches!(error, StoreError::Compacted { .. })
                && let Err(error) = self.filled_aside().await
            {
                tracing::warn!(resource = self.resource, %error, "the watch cache could not be filled");
            }
        }
    }

    /// Fills the cache again on a thread for blocking work: whoever shares the follower's goes on meanwhile.
    async fn filled_aside(self: &Arc<Self>) -> Result<(), StoreError> {
        let (cache, runtime) = (Arc::clone(self), Handle::current());
        let filled = tokio::task::spawn_blocking(move || runtime.block_on(cache.fill())).await;
        filled.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    /// Fills the cache again after an object could not be decrypted; `false` while that is so.
    async fn mended(self: &Arc<Self>) -> bool {
        match self.filled_aside().await {
            Ok(()) => true,
            Err(error) => {
                self.state.write().broken = Some(error);
                false
            }
        }
    }

    fn apply(&self, events: Vec<storage::store::Event>) {
        let Some(last) = events.last().map(|event| event.revision.0) else {
            return;
        };
        // Decoded outside the lock.
        let entries: Vec<_> = events
            .into_iter()
            .filter_map(|event| {
                let bytes = match &event.lost {
                    None => event.bytes,
                    // It cannot be read any more, but it was before, or it never was here.
                    Some(_) => self.peek(&event.key.namespace, &event.key.name)?.stored(self.kind),
                };
                Some((event.op, Arc::new(Entry::new(self.kind, &event.key, event.revision.0, &bytes))))
            })
            .collect();
        let mut state = self.state.write();
        let before = state.held;
        let followers = state.followers.clone();
        let mut turns = Vec::new();
        for (kind, entry) in entries {
            let previous = match kind {
                EventKind::Deleted => state.objects.remove(&entry.key),
                EventKind::Created | EventKind::Updated => state.objects.insert(entry.key.clone(), Arc::clone(&entry)),
            };
            let gained = if kind == EventKind::Deleted { 0 } else { length(&entry) };
            let lost = previous.as_ref().map_or(0, length);
            state.bytes = (state.bytes + gained).saturating_sub(lost);
            let event = Event { kind, object: entry, previous };
            state.indexes.apply(&event);
            if !followers.is_empty() {
                turns.push(Turn::of(&event));
            }
            state.held.objects += if kind == EventKind::Deleted { 0 } else { event.object.weight() };
            state.held.objects -= event.previous.as_ref().map_or(0, |previous| previous.weight());
            state.held.ring += event.weight();
            state.ring_bytes += event.object.json.len();
            state.ring.push_back(Arc::new(event));
        }
        while state.ring.len() > RING || state.ring_bytes > RING_BYTES && state.ring.len() > 1 {
            state.forget();
        }
        state.held.indexes = state.indexes.weight();
        state.revision = last;
        self.memory.changed(before, state.held);
        drop(state);
        followers.iter().for_each(|follower| follower.turned(&turns));
        self.moved.send_replace(last);
    }

    /// Tells this one of what there is and of all that happens from now on, each before those who wait for the cache hear of it.
    pub(crate) fn follow_with(&self, follower: Arc<dyn Follower>) {
        let mut state = self.state.write();
        follower.turned(&Turn::between(&OrdMap::new(), &state.objects));
        state.followers.push(follower);
    }

    /// What it holds, in bytes.
    #[must_use]
    pub fn held(&self) -> Held {
        self.state.read().held
    }

    /// The same, counted anew.
    #[cfg(test)]
    fn counted(&self) -> Held {
        let state = self.state.read();
        Held {
            objects: state.objects.values().map(|entry| entry.weight()).sum(),
            ring: state.ring.iter().map(|event| event.weight()).sum(),
            indexes: state.indexes.counted(),
        }
    }

    /// Forgets the older half of the ring; `false` for one that is short already. Who watches from there reads the log.
    fn halve_ring(&self) -> bool {
        let mut state = self.state.write();
        let before = state.held;
        let half = (state.ring.len() / 2).max(memory::SHORTEST);
        if state.ring.len() <= half {
            return false;
        }
        while state.ring.len() > half {
            state.forget();
        }
        self.memory.changed(before, state.held);
        true
    }

    /// Gives up all indexes; `false` where there are none. Lists look at all objects then, or make them anew where there is room.
    fn drop_indexes(&self) -> bool {
        let mut state = self.state.write();
        let before = state.held;
        state.indexes.clear();
        state.held.indexes = 0;
        self.memory.changed(before, state.held);
        before.indexes > 0
    }

    /// What the cache holds now, however old.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state.read().picture(None)
    }

    /// How many objects there are, and how long their JSON is together.
    pub(crate) fn size(&self) -> Size {
        let state = self.state.read();
        Size { objects: state.objects.len() as u64, bytes: state.bytes }
    }

    /// The same for a client: what it holds may be old, but it must have been the store's.
    ///
    /// # Errors
    /// `Transform` when the objects cannot be read.
    pub fn any(&self, narrow: Option<&Narrow>) -> Result<Snapshot, StoreError> {
        let state = self.state.read();
        match &state.broken {
            Some(error) => Err(error.clone()),
            None => Ok(state.picture(narrow)),
        }
    }

    /// Makes an index: a list has looked at many objects to find few, and the next one need not.
    pub fn index(self: &Arc<Self>, by: By) {
        let room = {
            let state = self.state.read();
            !state.indexes.has(&by) && self.memory.has_room(index::Index::weight_of(state.objects.len()))
        };
        if !room {
            return;
        }
        let cache = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let (picture, next) = {
                let state = cache.state.read();
                (state.objects.clone(), state.first + state.ring.len() as u64)
            };
            let mut made = index::Index::new(&by, picture.values());
            let mut state = cache.state.write();
            // What has happened meanwhile; where that is not known any more, the next list tries again.
            let known = next.checked_sub(state.first).and_then(|from| usize::try_from(from).ok());
            let Some(from) = known.filter(|_| !state.indexes.has(&by)) else { return };
            state.ring.iter().skip(from).for_each(|event| made.apply(&by, event));
            let before = state.held;
            state.indexes.add(by, made);
            state.held.indexes = state.indexes.weight();
            cache.memory.changed(before, state.held);
        });
    }

    /// The revision up to which the cache has followed its kind.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.moved.borrow()
    }

    /// One object as the cache holds it now.
    #[must_use]
    pub fn peek(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.state.read().objects.get(&Key::new(namespace, name)).cloned()
    }

    /// The objects are the store's, or were a moment ago: all of them can be read.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.state.read().broken.is_none()
    }

    /// One object as the cache holds it now, unless objects of the kind cannot be read.
    #[must_use]
    pub fn sound(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let state = self.state.read();
        let sound = state.broken.is_none();
        state.objects.get(&Key::new(namespace, name)).filter(|_| sound).cloned()
    }

    /// Waits until everything up to `revision` that touches this kind is in the cache.
    ///
    /// # Errors
    /// `Unavailable` when the log does not catch up in time.
    pub async fn wait_for(&self, revision: u64) -> Result<(), StoreError> {
        let mut moved = self.moved.subscribe();
        let reached = tokio::time::timeout(Duration::from_secs(3), moved.wait_for(|at| *at >= revision)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::Unavailable("the watch cache is behind the store".into())),
        }
    }

    /// A picture that holds every write acknowledged before the call; its revision is the store's. Of the wanted objects alone where there
    /// is an index of them.
    ///
    /// # Errors
    /// Those of the store, and `Unavailable` when the cache does not catch up.
    pub async fn consistent(&self, narrow: Option<&Narrow>) -> Result<Snapshot, StoreError> {
        self.state.read().broken.clone().map_or(Ok(()), Err)?;
        let last = self.store.last_change(&self.resource).await?;
        self.wait_for(last.changed.0).await?;
        let snapshot = self.state.read().picture(narrow);
        let revision = snapshot.revision.max(last.read.0);
        Ok(Snapshot { revision, ..snapshot })
    }

    /// The picture at exactly `revision`: the current one with the events since then taken back.
    ///
    /// # Errors
    /// `Future` for a revision that has not happened, `Compacted` when the ring no longer reaches back that far.
    pub async fn at(&self, revision: u64, narrow: Option<&Narrow>) -> Result<Snapshot, StoreError> {
        let current = self.consistent(None).await?;
        if revision > current.revision {
            return Err(StoreError::Future { asked: Revision(revision), latest: Revision(current.revision) });
        }
        let state = self.state.read();
        if revision < state.floor {
            return Err(StoreError::Compacted { oldest: Revision(state.floor) });
        }
        let narrowed = narrow.and_then(|narrow| Some((narrow, state.indexes.find(narrow)?)));
        let (narrow, mut objects) = match narrowed {
            Some((narrow, objects)) => (Some(narrow), objects),
            None => (None, state.objects.clone()),
        };
        let wanted = |entry: &Entry| narrow.is_none_or(|narrow| narrow.holds(entry));
        for event in state.ring.iter().rev().take_while(|event| event.object.revision > revision) {
            match &event.previous {
                Some(previous) if wanted(previous) => objects.insert(previous.key.clone(), Arc::clone(previous)),
                _ => objects.remove(&event.object.key),
            };
        }
        Ok(Snapshot { objects, revision, narrow: narrow.is_some() })
    }

    /// Events of the ring from this number on; `None` when it no longer reaches back that far.
    fn after(&self, number: u64) -> Option<Vec<Arc<Event>>> {
        let state = self.state.read();
        let offset = usize::try_from(number.checked_sub(state.first)?).unwrap_or(usize::MAX);
        Some(watcher::group(state.ring.iter().skip(offset)))
    }

    /// The number that the next event of the ring will have, and the revision up to which everything is in it.
    #[must_use]
    pub fn end_of_ring(&self) -> (u64, u64) {
        let state = self.state.read();
        (state.first + state.ring.len() as u64, state.revision)
    }

    /// Every event after this revision is in the ring.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.state.read().floor
    }

    /// All events of the ring from this number on; `None` when it no longer reaches back that far.
    #[must_use]
    pub fn from_number(&self, number: u64) -> Option<Vec<Arc<Event>>> {
        let state = self.state.read();
        let offset = usize::try_from(number.checked_sub(state.first)?).unwrap_or(usize::MAX);
        Some(state.ring.iter().skip(offset).cloned().collect())
    }

    /// The events after a revision and before the one of this number; `None` when the ring no longer reaches back that far.
    #[must_use]
    pub fn between(&self, revision: u64, number: u64) -> Option<Vec<Arc<Event>>> {
        let state = self.state.read();
        if revision < state.floor {
            return None;
        }
        let from = state.ring.partition_point(|event| event.object.revision <= revision);
        let to = usize::try_from(number.saturating_sub(state.first)).unwrap_or(usize::MAX).min(state.ring.len());
        Some(state.ring.range(from.min(to)..to).cloned().collect())
    }

    /// A watcher that sees every event after `revision`, oldest first.
    #[must_use]
    pub fn watch(self: &Arc<Self>, revision: u64) -> Watcher {
        Watcher::new(Arc::clone(self), revision)
    }

    /// A revision up to which a watcher that has seen all events in the ring has seen everything.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn progress(&self) -> Result<u64, StoreError> {
        Ok(self.consistent(None).await?.revision)
    }
}

/// Processors of the machine.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// The thread on which all caches follow the log, until `stop`. One of its own: a runtime of several threads wakes two of them for a task that was
/// woken from outside, and every commit wakes a follower.
fn followers(stop: &CancellationToken) -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (handle, stop) = (runtime.handle().clone(), stop.clone());
    std::thread::Builder::new().name("caches".to_owned()).spawn(move || runtime.block_on(stop.cancelled()))?;
    Ok(handle)
}

/// All caches, by `group_resource` of the stored kind. Clones share them.
#[derive(Clone)]
pub struct Caches {
    all: Arc<RwLock<HashMap<String, Arc<Cache>>>>,
    followers: Handle,
    memory: Arc<Memory>,
    store: Store,
    stop: CancellationToken,
}

impl Caches {
    /// Fills a cache for each of the stored kinds, several at a time, then follows the log in the background. They hold so many bytes, or as
    /// many as it takes.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn start(
        kinds: impl Iterator<Item = &'static Kind>,
        store: &Store,
        limit: Option<u64>,
        stop: &CancellationToken,
    ) -> Result<Caches, StoreError> {
        let followers = followers(stop).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let memory = Memory::new(limit);
        let caches = Caches { all: Arc::default(), followers, memory, store: store.clone(), stop: stop.clone() };
        let at_once = processors().max(AT_ONCE);
        let mut waiting = kinds.collect::<Vec<_>>().into_iter();
        let mut filling = JoinSet::new();
        loop {
            for kind in waiting.by_ref().take(at_once - filling.len()) {
                let caches = caches.clone();
                filling.spawn(async move { caches.add(kind).await });
            }
            match filling.join_next().await {
                Some(filled) => filled.map_err(|error| StoreError::Unavailable(error.to_string()))??,
                None => break,
            }
        }
        caches.followers.spawn(caches.clone().keep_within(stop.clone()));
        Ok(caches)
    }

    /// What they hold together.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Fills a cache for a stored kind and follows the log for it. One that was there under its name ends.
    ///
    /// # Errors
    /// Those of the store; the one that was there stays then.
    pub async fn add(&self, kind: &'static Kind) -> Result<(), StoreError> {
        let cache = Cache::new(kind, self.store.clone(), Arc::clone(&self.memory), self.stop.child_token());
        match cache.fill().await {
            Ok(()) => {}
            // A key service may come later; what does not need it is served meanwhile.
            Err(error @ StoreError::Transform { .. }) => {
                tracing::error!(resource = cache.resource, %error, "objects of a kind cannot be read");
                cache.state.write().broken = Some(error);
            }
            Err(error) => return Err(error),
        }
        let before = self.all.write().insert(kind.group_resource(), Arc::clone(&cache));
        self.followers.spawn(async move { cache.follow().await });
        if let Some(before) = before {
            before.end.cancel();
        }
        Ok(())
    }

    /// Ends the cache of a resource.
    pub fn remove(&self, group_resource: &str) {
        let gone = self.all.write().remove(group_resource);
        if let Some(gone) = gone {
            gone.end.cancel();
        }
    }

    /// The cache in which a kind's objects are.
    #[must_use]
    pub fn of(&self, kind: &'static Kind) -> Option<Arc<Cache>> {
        self.named(&kind.stored().group_resource())
    }

    /// The kinds that are stored.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static Kind> {
        self.all.read().values().map(|cache| cache.kind()).collect()
    }

    /// The cache of a resource, `pods` or `deployments.apps`.
    #[must_use]
    pub fn named(&self, group_resource: &str) -> Option<Arc<Cache>> {
        self.all.read().get(group_resource).cloned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::testing::World;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn questions_and_a_writer_do_not_wait_for_each_other() {
        let kind = api::kinds::by_gvk("", "v1", "ConfigMap").unwrap();
        let cache = Cache::new(kind, World::store().await, Memory::new(None), CancellationToken::new());
        let done = Arc::new(AtomicBool::new(false));
        let (told, ended) = std::sync::mpsc::channel();
        for writes in [true, false, false] {
            let (cache, done, told) = (Arc::clone(&cache), Arc::clone(&done), told.clone());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    if writes {
                        cache.state.write().revision += 1;
                    } else {
                        assert!(cache.any(None).unwrap().revision >= cache.floor());
                        assert!(cache.is_sound() && cache.sound("default", "a").is_none());
                        assert_eq!(cache.end_of_ring().0, 0);
                    }
                }
                told.send(()).unwrap();
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        done.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            ended.recv_timeout(Duration::from_secs(10)).expect("somebody waits for ever");
        }
    }
}
