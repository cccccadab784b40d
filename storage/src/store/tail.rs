//! The tail of a resource's log: every later change once, in order, without gap.
//!
//! Keeps nothing but a position. Never splits a revision between two answers.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::Store;
use super::commit::Patience;
use super::error::StoreError;
use super::layout::{self, Place};
use super::read::{self, Failed};
use super::record::Entry;
use super::types::{Event, EventKind, Key, Revision};
use crate::kv::{RangeRead, Read, Transaction, Watch, key_after};

/// Rows read at once.
const ROWS: usize = 256;

/// A reader of a resource's log.
#[derive(Debug)]
pub struct Tail {
    store: Store,
    resource: Arc<str>,
    position: Revision,
}

impl Store {
    /// Follows `resource` from `after`: every event with a larger revision.
    pub fn tail(&self, resource: &str, after: Revision) -> Tail {
        Tail { store: self.clone(), resource: resource.into(), position: after }
    }
}

impl Tail {
    /// Everything of the resource up to here has been returned.
    pub fn position(&self) -> Revision {
        self.position
    }

    /// The next events: whole revisions, in order, at least one. Waits for one to happen. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Compacted` when the log no longer reaches back to the position: list again.
    pub async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        let mut patience = Patience::new();
        loop {
            match self.look(true).await {
                Ok((events, _)) if !events.is_empty() => return Ok(events),
                Ok((_, watch)) => {
                    if let Some(watch) = watch
                        && let Err(e) = watch.await
                    {
                        patience.again(e).await?;
                    }
                }
                Err(Failed::Store(e)) => return Err(e),
                Err(Failed::Kv(e)) => patience.again(e).await?,
            }
        }
    }

    /// The next events without waiting. When empty, the position has reached the revision of the moment, which covers everything
    /// acknowledged before the call.
    pub async fn catch_up(&mut self) -> Result<Vec<Event>, StoreError> {
        let mut patience = Patience::new();
        loop {
            match self.look(false).await {
                Ok((events, _)) => return Ok(events),
                Err(Failed::Store(e)) => return Err(e),
                Err(Failed::Kv(e)) => patience.again(e).await?,
            }
        }
    }

    async fn look(&mut self, watch: bool) -> Result<(Vec<Event>, Option<Watch>), Failed> {
        let mut tx = self.store.kv().begin();
        let oldest = read::floor(tx.as_ref(), &self.resource, Read::Snapshot).await?;
        if self.position < oldest {
            return Err(StoreError::Compacted { oldest }.into());
        }
        if let Some(oldest) = self.store.gap(self.position) {
            return Err(StoreError::Compacted { oldest }.into());
        }
        // Every commit of the resource writes the mark, so that nothing has happened where it is not behind the position.
        let moved = read::moved(tx.as_ref(), &self.resource).await? > self.position;
        let entries = if moved { entries(tx.as_ref(), &self.resource, self.position).await? } else { Vec::new() };
        if let Some((_, last, _)) = entries.last() {
            let last = last.revision;
            let events = events(&self.store, tx.as_ref(), entries).await?;
            self.position = last;
            return Ok((events, None));
        }
        let now = Revision(tx.read_version().await?.0);
        let watch = if watch {
            let watch = tx.watch(&layout::wake(&self.resource));
            tx.commit().await?;
            Some(watch)
        } else {
            None
        };
        self.position = self.position.max(now);
        Ok((Vec::new(), watch))
    }
}

/// Log entries after `after`: some whole revisions, none only when there are none.
pub(super) async fn entries(
    tx: &dyn Transaction,
    resource: &str,
    after: Revision,
) -> Result<Vec<(Key, Place, Entry)>, Failed> {
    let range = layout::log_after(resource, after);
    let mut rows: Vec<(Place, Bytes)> = Vec::new();
    let mut read = RangeRead::new(range.start, range.end).limit(ROWS);
    loop {
        let page = tx.get_range(&read, Read::Snapshot).await?;
        if let Some((last, _)) = page.rows.last() {
            read.begin = key_after(last);
        }
        for (key, value) in page.rows {
            let place = layout::parse_log(&key)
                .ok_or_else(|| StoreError::Corrupt(format!("a log key of {resource} does not decode")))?;
            rows.push((place, value));
        }
        if !page.more {
            break;
        }
        // The last revision may go on in the next page: leave it for the next call, unless it is all there is.
        let last = rows.last().map(|(place, _)| place.revision);
        let whole = rows.partition_point(|(place, _)| Some(place.revision) < last);
        if whole > 0 {
            rows.truncate(whole);
            break;
        }
    }
    let resource: Arc<str> = resource.into();
    let mut entries = Vec::with_capacity(rows.len());
    for (place, row) in rows {
        let entry = Entry::parse(row)?;
        let key = Key { resource: resource.clone(), namespace: entry.namespace.clone(), name: entry.name.clone() };
        entries.push((key, place, entry));
    }
    Ok(entries)
}

/// Entries in log order as events. What a change left is what the next change of the key replaced, if that is among them.
pub(super) async fn events(
    store: &Store,
    tx: &dyn Transaction,
    entries: Vec<(Key, Place, Entry)>,
) -> Result<Vec<Event>, Failed> {
    // Changes of one key beside each other, its last first.
    let mut order: Vec<usize> = (0..entries.len()).collect();
    let key = |at: usize| entries.get(at).map(|(key, ..)| key);
    order.sort_unstable_by(|&one, &other| key(one).cmp(&key(other)).then(other.cmp(&one)));
    let mut left = newest(store, tx, &entries, &order).await?;
    let mut entries: Vec<_> = entries.into_iter().map(Some).collect();
    let mut events: Vec<Option<Event>> = std::iter::repeat_with(|| None).take(entries.len()).collect();
    let mut order = order.into_iter().peekable();
    while let Some(at) = order.next() {
        let Some((key, place, entry)) = entries.get_mut(at).and_then(Option::take) else { continue };
        let known = left.get_mut(at).and_then(Option::take);
        let event = read::event(store, tx, key, place, entry, known).await?;
        if let Some(&before) = order.peek()
            && let Some(Some((key, ..))) = entries.get(before)
            && *key == event.key
            && let Some(left) = left.get_mut(before)
        {
            left.clone_from(&event.previous);
        }
        if let Some(slot) = events.get_mut(at) {
            *slot = Some(event);
        }
    }
    Ok(events.into_iter().flatten().collect())
}

/// What the last of these entries of each key left, deletions aside, each at its entry's place. `order` has the last of a key before its others.
/// Read side by side: one commit may have thousands of writes, and a snapshot does not last long.
async fn newest(
    store: &Store,
    tx: &dyn Transaction,
    entries: &[(Key, Place, Entry)],
    order: &[usize],
) -> Result<Vec<Option<Bytes>>, Failed> {
    let mut wanted: Vec<(usize, &Key, Place)> = Vec::with_capacity(entries.len());
    let mut later = None;
    for &at in order {
        let Some((key, place, entry)) = entries.get(at) else { continue };
        if later.replace(key) != Some(key) && entry.kind != EventKind::Deleted {
            wanted.push((at, key, *place));
        }
    }
    let mut left = vec![None; entries.len()];
    for some in wanted.chunks(read::AT_ONCE) {
        let states = join_all(some.iter().map(|(_, key, place)| read::after(store, tx, key, *place))).await;
        for ((at, ..), state) in some.iter().zip(states) {
            if let Some(left) = left.get_mut(*at) {
                *left = Some(state?.bytes);
            }
        }
    }
    Ok(left)
}
