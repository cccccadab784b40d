//! WATCH: events as they happen, with bookmarks and initial events.
//!
//! Source: upstream's API concepts on watches; KEP-956 (bookmarks), KEP-3157 (streaming lists).

mod frames;
mod hub;
#[cfg(test)]
mod tests;

use self::frames::Frames;
use self::hub::{Hub, Member, Taken, View};
use super::options::{self, WatchOptions};
use super::{Call, shown};
use crate::answer::{Answer, Failure, status, stream};
use crate::cache::{Cache, Entry, Event, Key, Watcher};
use crate::fairness::Watching;
use crate::metrics::lasting::Running;
use crate::registry::convert::Conversions;
use crate::registry::read::{self, Filter};
use crate::road::negotiated::{Encoding, Medium};
use crate::road::seated::Held;
use crate::server::Server;
use api::kind::Kind;
use api::status::Status;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use imbl::OrdMap;
use prometheus::Histogram;
use std::collections::VecDeque;
use std::ops::Bound;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(50);

/// What a 406 offers.
const STREAMS: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// Answers a watch.
///
/// # Errors
/// 400 and 422 for parameters, 410 for versions that are gone.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let begun = Instant::now();
    // YAML has no framing for streams.
    if call.medium.encoding == Encoding::Yaml {
        return Err(Status::not_acceptable(STREAMS).into());
    }
    let query = &call.received().query;
    let filter = Filter::parse(&call.target, query.get("labelSelector"), query.get("fieldSelector"))?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let WatchOptions { revision, initial, timeout } = options::of_watch(query)?;
    let timeout = timeout.map_or_else(default_timeout, Duration::from_secs);

    let cache = read::cache(server, &call.target)?;
    let with_state = initial.unwrap_or(matches!(revision, None | Some(0)));
    let mut first = Initial::None;
    let kind = call.target.kind;
    let narrow = filter.narrow(kind);
    let from = if with_state {
        let snapshot = match revision {
            Some(0) if initial.is_none() => cache.any(narrow.as_ref()).map_err(|error| call.target.failure(error))?,
            _ => cache.consistent(narrow.as_ref()).await.map_err(|error| call.target.failure(error))?,
        };
        first = if kind.by_webhook() {
            let mut all: Vec<_> =
                snapshot.objects.values().filter(|entry| filter.placed(&entry.key)).cloned().collect();
            server.conversions.all(kind, &mut all).await?;
            Initial::Converted(all.into_iter().filter(|entry| filter.matches(kind, entry)).collect())
        } else {
            Initial::Snapshot(snapshot.objects, None)
        };
        snapshot.revision
    } else {
        match revision {
            Some(revision) => revision,
            None => cache.consistent(None).await.map_err(|error| call.target.failure(error))?.revision,
        }
    };
    // Frames are lines, whoever reads them.
    let medium = Medium { pretty: false, ..call.medium };
    let frames = Frames { kind, medium, include: shown::include(call.received())? };
    let mut view = Rc::new(View { filter, frames });
    let (mut source, mut early) = source(&cache, &mut view, from);
    if let Source::Alone(watcher) = &mut source {
        // A version that is gone is refused with a status of its own rather than inside the stream.
        match tokio::time::timeout(Duration::ZERO, watcher.next()).await {
            Ok(Err(error)) => return Err(call.target.failure(error)),
            Ok(Ok(events)) => early = events,
            Err(_) => {}
        }
    }
    let end_of_initial = (initial == Some(true) && bookmarks).then_some(from);
    let listed = end_of_initial.map(|_| {
        let histogram = server.metrics.lasting.lists(&server.offer.load().served, &call.received().info);
        Box::new((histogram, begun))
    });
    let held = Some(Box::new(std::mem::take(&mut call.authorized.held)));
    let deadline = Instant::now() + timeout;
    let next_bookmark = bookmarks.then(|| Instant::now() + BOOKMARK_EVERY);
    let watch = Watch {
        view,
        source,
        first,
        early,
        end_of_initial,
        listed,
        _lasting: call.received().lasting.clone(),
        headed: false,
        alarm: Box::pin(tokio::time::sleep_until(next_bookmark.map_or(deadline, |next| next.min(deadline)))),
        deadline,
        next_bookmark,
        conversions: Arc::clone(&server.conversions),
        cache,
        clock: Arc::clone(&server.clock),
        done: false,
        held,
        _watching: None,
    };
    Ok(stream(call.medium.encoding.stream_content_type(), watch.into_stream()))
}

/// Where the events after a revision come from, and those that the watch must be told before.
/// Who wants the same shares the view as well.
fn source(cache: &Arc<Cache>, view: &mut Rc<View>, from: u64) -> (Source, Vec<Arc<Event>>) {
    // What a webhook converts, a watch waits for alone.
    let joined = if view.frames.kind.by_webhook() { None } else { Hub::of(cache).join(view, from) };
    match joined {
        Some((member, events)) => {
            *view = member.view();
            (Source::Shared(member), events)
        }
        None => (Source::Alone(Box::new(cache.watch(from))), Vec::new()),
    }
}

/// Between 30 and 60 minutes, so that watches that began together do not end together.
fn default_timeout() -> Duration {
    use rand::Rng as _;
    Duration::from_secs(rand::rng().random_range(1800..3600))
}

struct Watch {
    view: Rc<View>,
    source: Source,
    first: Initial,
    early: Vec<Arc<Event>>,
    end_of_initial: Option<u64>,
    /// Where it is told how long that took, and since when.
    listed: Option<Box<(Histogram, Instant)>>,
    /// Counted among those that last.
    _lasting: Option<Rc<Running>>,
    headed: bool,
    deadline: Instant,
    /// When the next bookmark is due, if the client wants any.
    next_bookmark: Option<Instant>,
    /// Rings at the deadline, or before it for a bookmark.
    alarm: Pin<Box<Sleep>>,
    cache: Arc<Cache>,
    conversions: Arc<Conversions>,
    clock: Arc<dyn storage::clock::Clock>,
    done: bool,
    /// Seats until it has begun.
    held: Option<Box<Held>>,
    /// Counted as a watch from then on.
    _watching: Option<Watching>,
}

/// Where events come from.
enum Source {
    /// With all who want the same.
    Shared(Member),
    /// From the store's log, until it has caught up; to the end where objects are converted by a webhook.
    Alone(Box<Watcher>),
}

/// The objects that a watch begins with.
enum Initial {
    None,
    /// Those of a picture, behind this key.
    Snapshot(OrdMap<Key, Arc<Entry>>, Option<Key>),
    Converted(VecDeque<Arc<Entry>>),
}

/// What a watch that waited is awake for.
enum Woken {
    Shared,
    Alone(Result<Vec<Arc<Event>>, storage::store::StoreError>),
    Alarm,
    End,
}

impl Watch {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        // In a box: the stream has a place for what it waits with beside the one for what waits.
        futures::stream::unfold(Box::new(self), |mut watch| async move {
            let chunk = watch.chunk().await?;
            Some((Ok(chunk), watch))
        })
    }

    fn now(&self) -> i64 {
        i64::try_from(self.clock.unix_seconds()).unwrap_or(i64::MAX)
    }

    /// The next frames, several at once where several are ready; `None` at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = BytesMut::new();
        if !self.initial(&mut out) {
            return Some(out.freeze());
        }
        if let Some(revision) = self.end_of_initial.take() {
            self.view.frames.bookmark(&mut out, revision, true);
            if let Some(listed) = self.listed.take() {
                listed.0.observe(listed.1.elapsed().as_secs_f64());
            }
        }
        if let Some(held) = self.held.take() {
            self._watching = held.begun();
        }
        // What is seldom needed lies in boxes: most watches wait, and there are many.
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            Box::pin(self.events(&mut out, early)).await;
        }
        loop {
            if self.done {
                return Some(out.freeze());
            }
            let now = self.now();
            if let Source::Shared(member) = &self.source {
                match member.take(now, &mut self.headed) {
                    Taken::Frames(bytes) if out.is_empty() => return Some(bytes),
                    Taken::Frames(bytes) => out.extend_from_slice(&bytes),
                    Taken::Nothing => {}
                    Taken::Lost(after) => {
                        self.source = Source::Alone(Box::new(self.cache.watch(after)));
                    }
                    Taken::Ended => return (!out.is_empty()).then(|| out.freeze()),
                }
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
            match self.woken().await {
                Woken::Shared => {}
                Woken::End => return None,
                Woken::Alarm if Instant::now() >= self.deadline => return None,
                Woken::Alarm => Box::pin(self.bookmark(&mut out)).await,
                Woken::Alone(Ok(events)) => {
                    Box::pin(self.events(&mut out, events)).await;
                    Box::pin(self.rejoin(&mut out)).await;
                }
                Woken::Alone(Err(error)) => self.broken(&mut out, error),
            }
        }
    }

    /// Waits for something to tell.
    async fn woken(&mut self) -> Woken {
        let alarm = &mut self.alarm;
        match &mut self.source {
            Source::Shared(member) => {
                let member = &*member;
                std::future::poll_fn(|cx| match (member.poll(cx), alarm.as_mut().poll(cx)) {
                    (Poll::Ready(()), _) => Poll::Ready(Woken::Shared),
                    (Poll::Pending, Poll::Ready(())) => Poll::Ready(Woken::Alarm),
                    (Poll::Pending, Poll::Pending) => Poll::Pending,
                })
                .await
            }
            Source::Alone(watcher) => tokio::select! {
                () = self.cache.end().cancelled() => Woken::End,
                () = alarm.as_mut() => Woken::Alarm,
                events = Box::pin(watcher.next()) => Woken::Alone(events),
            },
        }
    }

    /// Writes the objects that the watch begins with, as many as fit; `false` when there are more.
    fn initial(&mut self, out: &mut BytesMut) -> bool {
        // A TLS record. Over HTTP/1.1 sixteen pieces are made ahead of a reader that is slower, for each of perhaps a thousand.
        const ENOUGH: usize = 16 * 1024;
        let (now, View { filter, frames }) = (self.now(), &*self.view);
        let headed = &mut self.headed;
        let mut write = |entry: &Entry| {
            if out.capacity() == 0 {
                out.reserve(ENOUGH + 4096);
            }
            frames.object(out, "ADDED", entry, entry.revision, now, headed);
            out.len() >= ENOUGH
        };
        match &mut self.first {
            Initial::None => {}
            Initial::Converted(entries) => {
                while let Some(entry) = entries.pop_front() {
                    if write(&entry) {
                        return false;
                    }
                }
            }
            Initial::Snapshot(objects, at) => {
                let (begin, end) = filter.range();
                let begin = at.take().map_or(begin, Bound::Excluded);
                for (key, entry) in objects.range((begin, end)) {
                    if filter.matches(frames.kind, entry) && write(entry) {
                        *at = Some(key.clone());
                        return false;
                    }
                }
            }
        }
        self.first = Initial::None;
        true
    }

    /// Goes on with the others once everything that the store's log had was told.
    async fn rejoin(&mut self, out: &mut BytesMut) {
        let Source::Alone(watcher) = &self.source else { return };
        let Some(seen) = watcher.caught_up().filter(|_| !self.done) else { return };
        let (joined, events) = source(&self.cache, &mut self.view, seen);
        if let Source::Shared(member) = joined {
            self.events(out, events).await;
            self.source = Source::Shared(member);
        }
    }

    fn broken(&mut self, out: &mut BytesMut, error: storage::store::StoreError) {
        let kind = self.view.frames.kind;
        let failure =
            Failure::Store { error: Box::new(error), resource: (kind.group, kind.plural), name: String::new() };
        self.view.frames.error(out, &status(failure));
        self.done = true;
    }

    /// Writes events; an object that cannot be had in the version of the watch ends it.
    async fn events(&mut self, out: &mut BytesMut, events: Vec<Arc<Event>>) {
        let View { filter, frames } = &*self.view;
        match converted(&self.conversions, frames.kind, filter, events).await {
            Ok(events) => {
                let now = self.now();
                for event in &events {
                    if let Some(change) = self.view.change(event) {
                        let (object, revision) = (&event.object, event.object.revision);
                        self.view.frames.object(out, change.name(), object, revision, now, &mut self.headed);
                    }
                }
            }
            Err(failure) => {
                self.view.frames.error(out, &status(failure));
                self.done = true;
            }
        }
    }

    /// Everything up to the bookmark's version was sent: the cache is asked first, then the events it has are drained.
    async fn bookmark(&mut self, out: &mut BytesMut) {
        let next = Instant::now() + BOOKMARK_EVERY;
        self.next_bookmark = self.next_bookmark.map(|_| next);
        self.alarm.as_mut().reset(next.min(self.deadline));
        let Ok(revision) = self.cache.progress().await else {
            return;
        };
        loop {
            let now = self.now();
            match &mut self.source {
                Source::Shared(member) => {
                    member.catch_up();
                    match member.take(now, &mut self.headed) {
                        Taken::Frames(bytes) => out.extend_from_slice(&bytes),
                        Taken::Nothing => break,
                        // Too slow to be told a version: what it missed comes first.
                        Taken::Lost(_) | Taken::Ended => return,
                    }
                }
                Source::Alone(watcher) => match tokio::time::timeout(Duration::ZERO, watcher.next()).await {
                    Ok(Ok(events)) => {
                        self.events(out, events).await;
                        if self.done {
                            return;
                        }
                    }
                    _ => break,
                },
            }
        }
        self.view.frames.bookmark(out, revision, false);
    }
}

/// Events with their objects in the version of the watch, without those at places that nobody watches.
async fn converted(
    conversions: &Conversions,
    kind: &'static Kind,
    filter: &Filter,
    events: Vec<Arc<Event>>,
) -> Result<Vec<Arc<Event>>, Failure> {
    if !kind.by_webhook() {
        return Ok(events);
    }
    let wanted: Vec<Arc<Event>> = events.into_iter().filter(|event| filter.placed(&event.object.key)).collect();
    // What an object was before counts for selectors alone.
    let before = |event: &Event| event.previous.clone().filter(|_| !filter.is_place());
    let mut entries: Vec<Arc<Entry>> =
        wanted.iter().flat_map(|event| [Some(Arc::clone(&event.object)), before(event)]).flatten().collect();
    conversions.all(kind, &mut entries).await?;
    let mut entries = entries.into_iter();
    let events = wanted.into_iter().map(|event| {
        let object = entries.next().unwrap_or_else(|| Arc::clone(&event.object));
        let previous = if before(&event).is_some() { entries.next() } else { event.previous.clone() };
        Arc::new(Event { kind: event.kind, object, previous })
    });
    Ok(events.collect())
}
