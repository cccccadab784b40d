//! One worker's watches of a kind, told together: who wants the same sees the same, chosen once and encoded once.
//!
//! Watches that are equal in kind, selectors and medium share a channel: a list of what they are to be told, in which each holds a
//! position. An event is offered to the channels whose bucket it falls into and to no other. One task of the worker hears that the cache
//! has moved and wakes the watches a few at a time, so that requests of the same worker go between, and a watch that waits for its turn
//! finds more to send at once. Never holds what all of a channel have been told, and nothing for one that reads too slowly: that one is
//! sent back to the store's log.

use super::frames::Frames;
use crate::cache::{Cache, Change, Entry, Event};
use crate::registry::read::Filter;
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Bytes that a watch is given at once, its last frame aside: four TLS records.
const BATCH: usize = 64 * 1024;
/// Watches woken before other work of the worker has its turn.
const TURN: usize = 16;
/// The place of one who does not wait.
const NOT: usize = usize::MAX;
/// Entries of a channel that are not worth looking at who has passed them.
const FEW: usize = 64;

/// What a watch wants to be told, and how.
#[derive(PartialEq)]
pub(super) struct View {
    /// Which objects.
    pub(super) filter: Filter,
    /// In which form.
    pub(super) frames: Frames,
}

impl View {
    /// How an event looks.
    pub(super) fn change(&self, event: &Event) -> Option<Change> {
        Change::seen(event, |entry| self.filter.matches(self.frames.kind, entry))
    }
}

thread_local! {
    static HUBS: RefCell<HashMap<*const Cache, Rc<Hub>>> = RefCell::default();
}

/// See the file.
pub(super) struct Hub {
    cache: Arc<Cache>,
    /// Number of the first event of the ring that was not offered yet.
    next: Cell<u64>,
    /// Every event up to this revision was offered.
    revision: Cell<u64>,
    hasher: RandomState,
    channels: RefCell<HashMap<u64, Vec<Rc<Channel>>>>,
    /// Channels by what their bucket looks at: what nobody looks at is not computed.
    looked_at: [Cell<usize>; BUCKETS],
    /// Who has something to read and was not woken yet.
    due: RefCell<VecDeque<Rc<Place>>>,
    /// Channels in which something was put since they were last tidied.
    touched: RefCell<Vec<Rc<Channel>>>,
    more: Notify,
    ended: Cell<bool>,
}

/// What is to be told, and how far each watch has been told it.
struct Channel {
    view: Rc<View>,
    bucket: (usize, u64),
    log: RefCell<VecDeque<Told>>,
    /// Number of the first entry of `log`.
    first: Cell<u64>,
    /// Number in the ring of the event that was offered last.
    offered: Cell<Option<u64>>,
    members: RefCell<Vec<Rc<Place>>>,
    waiting: RefCell<Vec<Rc<Place>>>,
    /// What was last written, for the next who has come as far.
    batch: RefCell<Option<Batch>>,
    /// Length of `log` at which it is looked for what can go.
    limit: Cell<usize>,
    touched: Cell<bool>,
}

struct Told {
    event: Arc<Event>,
    change: Change,
    /// Its frame, where that is more than the object's own bytes.
    frame: OnceCell<Bytes>,
}

struct Batch {
    from: u64,
    to: u64,
    bytes: Bytes,
}

/// Where a watch stands in its channel.
struct Place {
    position: Cell<u64>,
    /// Place in the channel's list of members.
    index: Cell<usize>,
    /// What the watch knew before it came here.
    seen: u64,
    waker: RefCell<Option<Waker>>,
    /// Place in the channel's list of those who wait; the last number for one who does not.
    waits: Cell<usize>,
    /// It was too slow: everything up to here was told.
    lost: Cell<Option<u64>>,
}

/// A watch in its channel.
pub(super) struct Member {
    hub: Rc<Hub>,
    channel: Rc<Channel>,
    place: Rc<Place>,
}

/// What a watch is told.
pub(super) enum Taken {
    /// Frames.
    Frames(Bytes),
    /// Nothing new.
    Nothing,
    /// It was too slow; after this revision the store's log goes on.
    Lost(u64),
    /// The cache has ended.
    Ended,
}

impl Hub {
    /// The hub of this worker for a cache. Must be called within a `LocalSet`.
    pub(super) fn of(cache: &Arc<Cache>) -> Rc<Hub> {
        let known = HUBS.with_borrow(|hubs| hubs.get(&Arc::as_ptr(cache)).cloned());
        known.unwrap_or_else(|| {
            let (next, revision) = cache.end_of_ring();
            let hub = Rc::new(Hub {
                cache: Arc::clone(cache),
                next: Cell::new(next),
                revision: Cell::new(revision),
                hasher: RandomState::new(),
                channels: RefCell::default(),
                looked_at: Default::default(),
                due: RefCell::default(),
                touched: RefCell::default(),
                more: Notify::new(),
                ended: Cell::new(false),
            });
            HUBS.with_borrow_mut(|hubs| hubs.insert(Arc::as_ptr(cache), Rc::clone(&hub)));
            tokio::task::spawn_local(run(Rc::clone(&hub)));
            hub
        })
    }

    /// A watch that has seen everything up to `seen`, and the events that it must be told first. `None` when the ring does not reach back
    /// that far.
    pub(super) fn join(self: &Rc<Self>, view: &Rc<View>, seen: u64) -> Option<(Member, Vec<Arc<Event>>)> {
        self.offer_all();
        let events = self.cache.between(seen, self.next.get())?;
        let bucket = self.bucket(view);
        let mut channels = self.channels.borrow_mut();
        let same = channels.entry(bucket.1).or_default();
        let channel = match same.iter().find(|channel| channel.view == *view) {
            Some(channel) => Rc::clone(channel),
            None => {
                let channel = Rc::new(Channel::new(Rc::clone(view), bucket));
                if let Some(channels) = self.looked_at.get(bucket.0) {
                    channels.set(channels.get() + 1);
                }
                same.push(Rc::clone(&channel));
                channel
            }
        };
        let place = Rc::new(Place {
            position: Cell::new(channel.end()),
            index: Cell::new(channel.members.borrow().len()),
            seen: seen.max(events.last().map_or(0, |event| event.object.revision)),
            waker: RefCell::default(),
            waits: Cell::new(NOT),
            lost: Cell::new(None),
        });
        channel.members.borrow_mut().push(Rc::clone(&place));
        Some((Member { hub: Rc::clone(self), channel, place }, events))
    }

    /// Offers what the cache has got since to all channels.
    pub(super) fn offer_all(&self) {
        if self.channels.borrow().is_empty() {
            self.skip_to_end();
            return;
        }
        let Some(events) = self.cache.from_number(self.next.get()) else {
            self.fall_out();
            return;
        };
        let Some(last) = events.last().map(|event| event.object.revision) else { return };
        let first = self.next.get();
        self.next.set(first + events.len() as u64);
        for (number, event) in (first..).zip(&events) {
            self.offer(number, event);
        }
        self.revision.set(last);
        if !self.due.borrow().is_empty() {
            self.more.notify_one();
        }
    }

    fn offer(&self, number: u64, event: &Arc<Event>) {
        let channels = self.channels.borrow();
        let mut due = self.due.borrow_mut();
        let mut touched = self.touched.borrow_mut();
        let mut offer = |bucket: u64| {
            for channel in channels.get(&bucket).into_iter().flatten() {
                if channel.offer(number, event, &self.cache, &mut due) && !channel.touched.replace(true) {
                    touched.push(Rc::clone(channel));
                }
            }
        };
        self.buckets(&event.object, &mut offer);
        if let Some(previous) = &event.previous {
            self.buckets(previous, &mut offer);
        }
    }

    /// The ring has gone on without us: what was not told yet is in the store's log.
    fn fall_out(&self) {
        let mut due = self.due.borrow_mut();
        for channel in self.channels.borrow().values().flatten() {
            channel.lose(channel.end(), Some(self.revision.get()), &mut due);
        }
        drop(due);
        self.skip_to_end();
        self.more.notify_one();
    }

    fn skip_to_end(&self) {
        let (next, revision) = self.cache.end_of_ring();
        self.next.set(next);
        self.revision.set(revision);
    }

    /// What a filter looks at first, and the hash of what it wants to see there.
    fn bucket(&self, view: &View) -> (usize, u64) {
        let (filter, kind) = (&view.filter, view.frames.kind);
        let name = if filter.name.is_empty() { filter.fields.required("metadata.name") } else { Some(&*filter.name) };
        if let Some(name) = name {
            return (NAME, self.hash(NAME, "", name));
        }
        // Fields of another served version are not beside the cached object.
        if kind.stored_as.is_none() {
            let wanted = kind.selectable_names().enumerate();
            let mut wanted = wanted.filter_map(|(at, field)| Some((at, filter.fields.required(field)?)));
            if let Some((at, value)) = wanted.next() {
                return (FIELD, self.hash(FIELD, &at, value));
            }
        }
        let mut labels = filter.labels.requirements().iter().map(|requirement| requirement.key.as_str());
        if let Some((key, value)) = labels.find_map(|key| Some((key, filter.labels.exact(key)?))) {
            return (LABEL, self.hash(LABEL, key, value));
        }
        let namespace = &*filter.namespace;
        let namespace =
            if namespace.is_empty() { filter.fields.required("metadata.namespace") } else { Some(namespace) };
        match namespace {
            Some(namespace) => (NAMESPACE, self.hash(NAMESPACE, "", namespace)),
            None => (ALL, self.hash(ALL, "", "")),
        }
    }

    /// The buckets of an object in which somebody may be.
    fn buckets(&self, entry: &Entry, mut each: impl FnMut(u64)) {
        let looked_at = |what: usize| self.looked_at.get(what).is_some_and(|channels| channels.get() > 0);
        if looked_at(ALL) {
            each(self.hash(ALL, "", ""));
        }
        if looked_at(NAMESPACE) {
            each(self.hash(NAMESPACE, "", &entry.key.namespace));
        }
        if looked_at(NAME) {
            each(self.hash(NAME, "", &entry.key.name));
        }
        if looked_at(FIELD) {
            entry.fields.iter().enumerate().for_each(|(at, value)| each(self.hash(FIELD, &at, value)));
        }
        if looked_at(LABEL) {
            entry.labels.iter().for_each(|(key, value)| each(self.hash(LABEL, key, value)));
        }
    }

    fn hash(&self, what: usize, which: &(impl Hash + ?Sized), value: &str) -> u64 {
        self.hasher.hash_one((what, which, value))
    }

    /// Wakes some of those who have something to read; `false` when there are none.
    fn wake_some(&self) -> bool {
        let some: Vec<Rc<Place>> = {
            let mut due = self.due.borrow_mut();
            let count = TURN.min(due.len());
            due.drain(..count).collect()
        };
        for place in &some {
            if let Some(waker) = place.waker.borrow_mut().take() {
                waker.wake();
            }
        }
        !some.is_empty()
    }

    fn end(&self) {
        self.ended.set(true);
        for channel in self.channels.borrow().values().flatten() {
            for place in channel.members.borrow().iter() {
                if let Some(waker) = place.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        }
    }
}

/// Hears the cache move, until it ends.
async fn run(hub: Rc<Hub>) {
    let (mut moved, end) = (hub.cache.moves(), hub.cache.end().clone());
    loop {
        moved.mark_unchanged();
        hub.offer_all();
        while hub.wake_some() {
            // Requests that have come meanwhile go first; what they wrote may be there by then.
            tokio::task::yield_now().await;
            hub.offer_all();
        }
        let touched = std::mem::take(&mut *hub.touched.borrow_mut());
        for channel in touched {
            channel.touched.set(false);
            channel.tidy(&hub.cache, &mut hub.due.borrow_mut());
        }
        if !hub.due.borrow().is_empty() {
            continue;
        }
        tokio::select! {
            () = end.cancelled() => break,
            changed = moved.changed() => if changed.is_err() { break },
            () = hub.more.notified() => {}
        }
    }
    hub.end();
    HUBS.with_borrow_mut(|hubs| hubs.remove(&Arc::as_ptr(&hub.cache)));
}

/// What buckets look at.
const BUCKETS: usize = 5;
const ALL: usize = 0;
const NAMESPACE: usize = 1;
const NAME: usize = 2;
const FIELD: usize = 3;
const LABEL: usize = 4;

impl Channel {
    fn new(view: Rc<View>, bucket: (usize, u64)) -> Channel {
        Channel {
            view,
            bucket,
            log: RefCell::default(),
            first: Cell::new(0),
            offered: Cell::new(None),
            members: RefCell::default(),
            waiting: RefCell::default(),
            batch: RefCell::default(),
            limit: Cell::new(FEW),
            touched: Cell::new(false),
        }
    }

    /// The number that the next entry will have.
    fn end(&self) -> u64 {
        self.first.get() + self.log.borrow().len() as u64
    }

    /// Takes an event that its watches are to be told; `false` for others and for one that it has.
    fn offer(&self, number: u64, event: &Arc<Event>, cache: &Cache, due: &mut VecDeque<Rc<Place>>) -> bool {
        if self.offered.replace(Some(number)) == Some(number) {
            return false;
        }
        let Some(change) = self.view.change(event) else { return false };
        self.log.borrow_mut().push_back(Told { event: Arc::clone(event), change, frame: OnceCell::new() });
        for place in self.waiting.borrow_mut().drain(..) {
            place.waits.set(NOT);
            due.push_back(place);
        }
        if self.log.borrow().len() > self.limit.get() {
            self.tidy(cache, due);
        }
        true
    }

    /// Forgets what everybody was told, and who is further behind than the cache keeps events.
    fn tidy(&self, cache: &Cache, due: &mut VecDeque<Rc<Place>>) {
        *self.batch.borrow_mut() = None;
        let floor = cache.floor();
        let old = self.log.borrow().partition_point(|told| told.event.object.revision <= floor);
        if old > 0 {
            self.lose(self.first.get() + old as u64, None, due);
        }
        let members = self.members.borrow();
        let told = members.iter().filter(|place| place.lost.get().is_none());
        let passed = told.map(|place| place.position.get()).min().unwrap_or_else(|| self.end());
        let mut log = self.log.borrow_mut();
        let count = usize::try_from(passed.saturating_sub(self.first.get())).unwrap_or(0).min(log.len());
        log.drain(..count);
        if log.is_empty() {
            log.shrink_to_fit();
        }
        self.first.set(self.first.get() + count as u64);
        self.limit.set(FEW.max(log.len() * 2));
    }

    /// Those who stand before `number` go back to the store's log; with a revision, those too who have been told everything up to it.
    fn lose(&self, number: u64, told: Option<u64>, due: &mut VecDeque<Rc<Place>>) {
        let log = self.log.borrow();
        for place in self.members.borrow().iter().filter(|place| place.lost.get().is_none()) {
            let position = place.position.get();
            let next = position.checked_sub(self.first.get()).and_then(|at| log.get(usize::try_from(at).ok()?));
            // What stands behind the last that it was told is told again by the store.
            let after = match next {
                Some(next) if position < number => next.event.object.revision.saturating_sub(1),
                Some(_) => continue,
                None => match told {
                    Some(told) => told,
                    None => continue,
                },
            };
            place.lost.set(Some(after.max(place.seen)));
            self.stop_waiting(place);
            due.push_back(Rc::clone(place));
        }
    }

    fn stop_waiting(&self, place: &Place) {
        let index = place.waits.replace(NOT);
        if index == NOT {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if index < waiting.len() {
            waiting.swap_remove(index);
        }
        if let Some(moved) = waiting.get(index) {
            moved.waits.set(index);
        }
    }

    /// The frames from a position on, as many as fit, and the position behind them.
    fn batch(&self, from: u64, headed: bool, now: i64) -> Option<(Bytes, u64)> {
        let log = self.log.borrow();
        let end = self.first.get() + log.len() as u64;
        if headed
            && let Some(batch) = self.batch.borrow().as_ref()
            && batch.from == from
            && (batch.to == end || batch.bytes.len() >= BATCH)
        {
            return Some((batch.bytes.clone(), batch.to));
        }
        let at = usize::try_from(from.checked_sub(self.first.get())?).ok()?;
        let frames = &self.view.frames;
        let (mut out, mut to) = (BytesMut::new(), from);
        let shared = self.members.borrow().len() > 1;
        let mut revision = 0;
        for told in log.range(at.min(log.len())..) {
            let object = &told.event.object;
            // A revision is told whole or not at all: a watch may begin anew behind it.
            if out.len() >= BATCH && object.revision != revision {
                break;
            }
            revision = object.revision;
            if let Some(json) = frames.as_it_is(object) {
                if out.capacity() == 0 {
                    out.reserve(Frames::room(log.range(at..).map(|told| told.event.object.json.len()), BATCH));
                }
                Frames::json(&mut out, told.change.name(), json);
            } else {
                let mut headed = headed || to > from;
                if shared && headed {
                    let frame = told.frame.get_or_init(|| {
                        let mut out = BytesMut::new();
                        frames.object(&mut out, told.change.name(), object, revision, now, &mut headed);
                        out.freeze()
                    });
                    out.extend_from_slice(frame);
                } else {
                    frames.object(&mut out, told.change.name(), object, revision, now, &mut headed);
                }
            }
            to += 1;
        }
        if to == from {
            return None;
        }
        let bytes = out.freeze();
        if headed && shared {
            *self.batch.borrow_mut() = Some(Batch { from, to, bytes: bytes.clone() });
        }
        Some((bytes, to))
    }
}

impl Member {
    /// What all of its channel want to be told.
    pub(super) fn view(&self) -> Rc<View> {
        Rc::clone(&self.channel.view)
    }

    /// What there is to tell. `headed` says whether a table has told its columns.
    pub(super) fn take(&self, now: i64, headed: &mut bool) -> Taken {
        if self.hub.ended.get() {
            return Taken::Ended;
        }
        if let Some(after) = self.place.lost.get() {
            return Taken::Lost(after);
        }
        self.skip();
        *headed |= !self.channel.view.frames.has_heads();
        match self.channel.batch(self.place.position.get(), *headed, now) {
            None => Taken::Nothing,
            Some((bytes, to)) => {
                *headed = true;
                self.place.position.set(to);
                Taken::Frames(bytes)
            }
        }
    }

    /// Passes what the watch knew before.
    fn skip(&self) {
        let log = self.channel.log.borrow();
        let at = self.place.position.get().saturating_sub(self.channel.first.get());
        let rest = log.range(usize::try_from(at).unwrap_or(usize::MAX).min(log.len())..);
        let known = rest.take_while(|told| told.event.object.revision <= self.place.seen).count();
        self.place.position.set(self.place.position.get() + known as u64);
    }

    /// Ready when `take` has something to say.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (place, channel) = (&self.place, &self.channel);
        if self.hub.ended.get() || place.lost.get().is_some() || place.position.get() < channel.end() {
            return Poll::Ready(());
        }
        let mut waker = place.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if place.waits.get() == NOT {
            let mut waiting = channel.waiting.borrow_mut();
            place.waits.set(waiting.len());
            waiting.push(Rc::clone(place));
        }
        Poll::Pending
    }

    /// Brings what the cache has by now into reach.
    pub(super) fn catch_up(&self) {
        self.hub.offer_all();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let channel = &self.channel;
        let mut members = channel.members.borrow_mut();
        let index = self.place.index.get();
        if index < members.len() {
            members.swap_remove(index);
        }
        if let Some(moved) = members.get(index) {
            moved.index.set(index);
        }
        channel.stop_waiting(&self.place);
        if !members.is_empty() {
            return;
        }
        let mut channels = self.hub.channels.borrow_mut();
        if let Some(same) = channels.get_mut(&channel.bucket.1) {
            same.retain(|other| !Rc::ptr_eq(other, channel));
            if same.is_empty() {
                channels.remove(&channel.bucket.1);
            }
        }
        if let Some(channels) = self.hub.looked_at.get(channel.bucket.0) {
            channels.set(channels.get().saturating_sub(1));
        }
    }
}
