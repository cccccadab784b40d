//! A reader of a kind's events from a revision on: from the store's log while behind, from the ring afterwards.
//!
//! Holds a position, never a queue: a slow watcher costs no memory, and one that falls out of the ring goes back to the
//! log, or ends with `Compacted` when that is gone too.

use super::{Cache, Entry, Event};
use std::sync::Arc;
use storage::store::{EventKind, Revision, StoreError, Tail};

/// See the file.
pub struct Watcher {
    cache: Arc<Cache>,
    moved: tokio::sync::watch::Receiver<u64>,
    place: Place,
}

enum Place {
    /// Reading the store's log; everything up to here was seen.
    Log(Box<Tail>, u64),
    /// Next event of the ring, by number; everything up to the revision was seen.
    Ring(u64, u64),
    /// Not placed yet; everything up to here was seen.
    After(u64),
}

impl Watcher {
    pub(super) fn new(cache: Arc<Cache>, revision: u64) -> Watcher {
        let moved = cache.moved.subscribe();
        Watcher { cache, moved, place: Place::After(revision) }
    }

    /// The next events in order, at least one; waits for them. May be cancelled and called again.
    ///
    /// # Errors
    /// `Compacted` when the events after the position are no longer kept; others of the store.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        loop {
            self.moved.mark_unchanged();
            match &mut self.place {
                Place::After(revision) => {
                    let revision = *revision;
                    self.place = self.enter_ring(revision).unwrap_or_else(|| {
                        let tail = self.cache.store.tail(&self.cache.resource, Revision(revision));
                        Place::Log(Box::new(tail), revision)
                    });
                }
                Place::Log(tail, seen) => {
                    let (kind, mut last) = (self.cache.kind, *seen);
                    let events = tail.next().await?;
                    let events: Vec<_> = events.iter().map(|event| from_log(kind, event)).collect::<Result<_, _>>()?;
                    last = events.last().map_or(last, |event| event.object.revision);
                    *seen = last;
                    if let Some(ring) = self.enter_ring(last) {
                        self.place = ring;
                    }
                    if !events.is_empty() {
                        return Ok(events);
                    }
                }
                Place::Ring(next, seen) => match self.cache.after(*next) {
                    // Fell out: the log has the rest.
                    None => {
                        let seen = *seen;
                        self.place = Place::After(seen);
                        continue;
                    }
                    Some(events) => {
                        if let Some(last) = events.last() {
                            *next += u64::try_from(events.len()).unwrap_or(0);
                            *seen = last.object.revision;
                            return Ok(events);
                        }
                        if self.moved.changed().await.is_err() {
                            return Err(StoreError::Unavailable("the watch cache has stopped".into()));
                        }
                    }
                },
            }
        }
    }

    /// The revision up to which it has seen everything, once the ring has the rest.
    #[must_use]
    pub fn caught_up(&self) -> Option<u64> {
        match self.place {
            Place::Ring(_, seen) => Some(seen),
            Place::Log(..) | Place::After(_) => None,
        }
    }

    fn enter_ring(&self, seen: u64) -> Option<Place> {
        let state = self.cache.state.read();
        (seen >= state.floor).then(|| {
            let skip = state.ring.partition_point(|event| event.object.revision <= seen);
            Place::Ring(state.first + u64::try_from(skip).unwrap_or(0), seen)
        })
    }
}

/// The next events, about as many as fit a round, cut only between revisions: a revision is seen whole or not at all.
pub(super) fn group<'a>(events: impl Iterator<Item = &'a Arc<Event>>) -> Vec<Arc<Event>> {
    const ROUND: usize = 256;
    let mut out: Vec<Arc<Event>> = Vec::new();
    for event in events {
        let same = out.last().is_some_and(|last| last.object.revision == event.object.revision);
        if out.len() >= ROUND && !same {
            break;
        }
        out.push(Arc::clone(event));
    }
    out
}

fn from_log(kind: &'static api::kind::Kind, event: &storage::store::Event) -> Result<Arc<Event>, StoreError> {
    let event = event.shown()?;
    let entry = |bytes, revision| Arc::new(Entry::new(kind, &event.key, revision, bytes));
    let previous = event.previous.as_ref().map(|bytes| entry(bytes, event.revision.0));
    Ok(Arc::new(Event { kind: event.op, object: entry(&event.bytes, event.revision.0), previous }))
}

/// What a watcher with a selector is told about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has come into view.
    Added,
    /// It is still in view.
    Modified,
    /// It has gone out of view.
    Deleted,
}

impl Change {
    /// Name in a watch frame.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        }
    }

    /// How an event looks through a selector; `None` when it is out of view before and after.
    #[must_use]
    pub fn seen(event: &Event, matches: impl Fn(&Entry) -> bool) -> Option<Change> {
        let before = event.previous.as_deref().is_some_and(&matches);
        let after = event.kind != EventKind::Deleted && matches(&event.object);
        match (before, after) {
            (false, true) => Some(Change::Added),
            (true, true) => Some(Change::Modified),
            (true, false) => Some(Change::Deleted),
            (false, false) => None,
        }
    }
}
