//! Reads: current objects, the past.
//!
//! Every answer is one state. Nothing here conflicts with a commit.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::join_all;

use super::commit::Patience;
use super::error::StoreError;
use super::layout::{self, Place, Slot};
use super::record::{Before, Body, Current, Entry, Last};
use super::types::{Event, EventKind, Key, Revision, Versioned};
use super::{Store, tail};
use crate::kv::{KvError, RangeRead, Read, Transaction, Version, key_after};

/// Changes of a history that are read in one transaction.
const HISTORY_ROWS: usize = 500;
/// Reads that wait for the engine at the same time.
pub(super) const AT_ONCE: usize = 32;

/// How far a resource has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastChange {
    /// The last revision that changed the resource; 0 if none did.
    pub changed: Revision,
    /// The revision as of which that is so: covers everything acknowledged before the call.
    pub read: Revision,
}

/// A read failed: the transaction should run again, or the caller should hear.
#[derive(Debug)]
pub(super) enum Failed {
    Kv(KvError),
    Store(StoreError),
}

impl From<KvError> for Failed {
    fn from(e: KvError) -> Self {
        Self::Kv(e)
    }
}

impl From<StoreError> for Failed {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

/// Runs `$body`, which reads with `$tx`, until no engine error asks for another run.
macro_rules! reading {
    ($store:expr, $tx:ident => $body:expr) => {{
        let mut patience = Patience::new();
        loop {
            let $tx = $store.kv().begin();
            let result: Result<_, Failed> = async { $body }.await;
            match result {
                Ok(value) => break Ok(value),
                Err(Failed::Store(e)) => break Err(e),
                Err(Failed::Kv(e)) => patience.again(e).await?,
            }
        }
    }};
}
pub(super) use reading;

pub(super) fn damaged(key: &Key) -> StoreError {
    StoreError::Corrupt(format!("the records of {key} contradict each other; restore the store from a backup"))
}

/// The object that a record of `place` describes.
pub(super) async fn body(
    store: &Store,
    tx: &dyn Transaction,
    key: &Key,
    place: Place,
    slot: Slot,
    body: Body,
) -> Result<Bytes, Failed> {
    let stored = stored(tx, &key.resource, place, slot, body).await?;
    Ok(store.opened(key, stored).await?)
}

/// The bytes that rows keep of an object.
pub(super) async fn stored(
    tx: &dyn Transaction,
    resource: &str,
    place: Place,
    slot: Slot,
    body: Body,
) -> Result<Bytes, Failed> {
    let len = match body {
        Body::Inline(bytes) => return Ok(bytes),
        Body::Parts(len) => usize::try_from(len).unwrap_or(usize::MAX),
    };
    let mut whole = BytesMut::new();
    for (_, part) in range(tx, layout::parts(resource, place, slot)).await? {
        whole.extend_from_slice(&part);
    }
    if whole.len() != len {
        let text = format!(
            "an object of {resource} at revision {} lacks parts; restore the store from a backup",
            place.revision
        );
        return Err(StoreError::Corrupt(text).into());
    }
    Ok(whole.freeze())
}

/// All rows of a range.
pub(super) async fn range(tx: &dyn Transaction, range: std::ops::Range<Bytes>) -> Result<Vec<(Bytes, Bytes)>, KvError> {
    let mut rows = Vec::new();
    let mut read = RangeRead::new(range.start, range.end);
    loop {
        let page = tx.get_range(&read, Read::Snapshot).await?;
        rows.extend(page.rows);
        match rows.last() {
            Some((last, _)) if page.more => read.begin = key_after(last),
            _ => return Ok(rows),
        }
    }
}

/// The current object of a key as a caller sees it.
pub(super) async fn versioned(store: &Store, tx: &dyn Transaction, key: &Key, row: Bytes) -> Result<Versioned, Failed> {
    let current = Current::parse(row)?;
    let bytes = body(store, tx, key, current.place, Slot::Put, current.body).await?;
    Ok(Versioned { revision: current.place.revision, bytes })
}

/// The state before an entry.
pub(super) async fn before(
    store: &Store,
    tx: &dyn Transaction,
    key: &Key,
    before: Before,
) -> Result<Versioned, Failed> {
    let bytes = body(store, tx, key, before.place, Slot::Put, before.body).await?;
    Ok(Versioned { revision: before.place.revision, bytes })
}

/// The first update or deletion after `after`: what history rows name.
async fn next_named(tx: &dyn Transaction, key: &Key, after: Revision) -> Result<Option<Entry>, Failed> {
    let range = layout::history_after(key, after);
    let rows = tx.get_range(&RangeRead::new(range.start, range.end).limit(1), Read::Snapshot).await?.rows;
    let Some((row, value)) = rows.into_iter().next() else { return Ok(None) };
    let place = layout::parse_history(&row, &value).ok_or_else(|| damaged(key))?;
    Ok(Some(entry(tx, key, place).await?))
}

/// The first change after `after`; `None` when there is none, or when it was a creation that the log no longer holds.
async fn next_entry(tx: &dyn Transaction, key: &Key, after: Revision) -> Result<Option<Entry>, Failed> {
    let named = next_named(tx, key, after).await?;
    let born = match &named {
        Some(entry) => entry.before.as_ref().map(|b| b.place),
        None => current_place(tx, key).await?,
    };
    match born.filter(|place| place.revision > after) {
        Some(place) => born_at(tx, key, place).await,
        None => Ok(named),
    }
}

/// Every change of `key` after `after` that the log holds, oldest first.
pub(super) async fn changes_after(
    tx: &dyn Transaction,
    key: &Key,
    after: Revision,
) -> Result<Vec<(Place, Entry)>, Failed> {
    let mut changes: Vec<(Place, Entry)> = Vec::new();
    for (row, value) in range(tx, layout::history_after(key, after)).await? {
        let place = layout::parse_history(&row, &value).ok_or_else(|| damaged(key))?;
        let entry = entry(tx, key, place).await?;
        let known = changes.last().map(|(place, _)| *place);
        if let Some(born) = entry.before.as_ref().map(|b| b.place).filter(|b| b.revision > after && known != Some(*b)) {
            changes.extend(born_at(tx, key, born).await?.map(|entry| (born, entry)));
        }
        changes.push((place, entry));
    }
    let known = changes.last().map(|(place, _)| *place);
    if let Some(born) = current_place(tx, key).await?.filter(|p| p.revision > after && known != Some(*p)) {
        changes.extend(born_at(tx, key, born).await?.map(|entry| (born, entry)));
    }
    Ok(changes)
}

/// Where the current object of a key was written.
async fn current_place(tx: &dyn Transaction, key: &Key) -> Result<Option<Place>, Failed> {
    match tx.get(&layout::current(key), Read::Snapshot).await? {
        Some(row) => Ok(Some(Current::parse(row)?.place)),
        None => Ok(None),
    }
}

/// The entry of a creation, which no history row names; `None` when it was cut off.
async fn born_at(tx: &dyn Transaction, key: &Key, place: Place) -> Result<Option<Entry>, Failed> {
    // Its row may still be there.
    if floor(tx, &key.resource, Read::Snapshot).await? >= place.revision {
        return Ok(None);
    }
    let born = entry(tx, key, place).await?;
    if born.kind == EventKind::Created { Ok(Some(born)) } else { Err(damaged(key).into()) }
}

/// The log entry at a place.
async fn entry(tx: &dyn Transaction, key: &Key, place: Place) -> Result<Entry, Failed> {
    Ok(Entry::parse(log_row(tx, key, place).await?.ok_or_else(|| damaged(key))?)?)
}

async fn log_row(tx: &dyn Transaction, key: &Key, place: Place) -> Result<Option<Bytes>, KvError> {
    tx.get(&layout::log(&key.resource, place), Read::Snapshot).await
}

/// The state that the change at `place` left: what the next change replaced, or the current object.
pub(super) async fn after(store: &Store, tx: &dyn Transaction, key: &Key, place: Place) -> Result<Versioned, Failed> {
    // Most often the change is the newest one.
    let row = tx.get(&layout::current(key), Read::Snapshot).await?;
    if let Some(row) = row {
        let current = Current::parse(row)?;
        if current.place == place {
            let bytes = body(store, tx, key, current.place, Slot::Put, current.body).await?;
            return Ok(Versioned { revision: place.revision, bytes });
        }
    }
    let next = next_named(tx, key, place.revision).await?.and_then(|e| e.before).filter(|b| b.place == place);
    before(store, tx, key, next.ok_or_else(|| damaged(key))?).await
}

/// An entry as an event; `after` is the state it left, unless it is a deletion.
pub(super) async fn event(
    store: &Store,
    tx: &dyn Transaction,
    key: Key,
    place: Place,
    entry: Entry,
    known_after: Option<Bytes>,
) -> Result<Event, Failed> {
    let previous = match entry.before {
        Some(b) => match before(store, tx, &key, b).await {
            Ok(state) => Some(state.bytes),
            Err(Failed::Store(StoreError::Transform { why, .. })) if entry.kind == EventKind::Deleted => {
                let (revision, op, bytes, previous, lost) = (place.revision, entry.kind, Bytes::new(), None, Some(why));
                return Ok(Event { revision, key, op, bytes, previous, lost, who: entry.who, at: entry.at });
            }
            Err(error) => return Err(error),
        },
        None => None,
    };
    let bytes = match (entry.kind, entry.last) {
        (EventKind::Deleted, Last::Inline(bytes)) => {
            body(store, tx, &key, place, Slot::Last, Body::Inline(bytes)).await?
        }
        (EventKind::Deleted, Last::Parts(len)) => body(store, tx, &key, place, Slot::Last, Body::Parts(len)).await?,
        (EventKind::Deleted, _) => previous.clone().ok_or_else(|| damaged(&key))?,
        (EventKind::Created | EventKind::Updated, _) => match known_after {
            Some(bytes) => bytes,
            None => after(store, tx, &key, place).await?.bytes,
        },
    };
    let (revision, op) = (place.revision, entry.kind);
    Ok(Event { revision, key, op, bytes, previous, lost: None, who: entry.who, at: entry.at })
}

/// Where the log of a resource begins.
pub(super) async fn floor(tx: &dyn Transaction, resource: &str, read: Read) -> Result<Revision, Failed> {
    let row = tx.get(&layout::floor(resource), read).await?;
    stamp_row(resource, row.as_deref()).map_err(Failed::from)
}

/// The last commit of a resource.
pub(super) async fn moved(tx: &dyn Transaction, resource: &str) -> Result<Revision, Failed> {
    let row = tx.get(&layout::wake(resource), Read::Snapshot).await?;
    stamp_row(resource, row.as_deref()).map_err(Failed::from)
}

fn stamp_row(resource: &str, row: Option<&[u8]>) -> Result<Revision, StoreError> {
    match row {
        None => Ok(Revision(0)),
        Some(row) => Version::from_stamp(row)
            .map(|v| Revision(v.0))
            .ok_or_else(|| StoreError::Corrupt(format!("a bookmark of {resource} does not decode"))),
    }
}

impl Store {
    /// An upper bound of everything acknowledged before the call, and a revision that is safe to tail from after reading with it.
    pub async fn read_revision(&self) -> Result<Revision, StoreError> {
        reading!(self, tx => Ok(Revision(tx.read_version().await?.0)))
    }

    /// How far a resource has come: a copy that has seen `changed` shows the resource as of `read`.
    pub async fn last_change(&self, resource: &str) -> Result<LastChange, StoreError> {
        reading!(self, tx => {
            let changed = moved(tx.as_ref(), resource).await?;
            Ok(LastChange { changed, read: Revision(tx.read_version().await?.0) })
        })
    }

    /// The object under `key` now.
    pub async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let row = match self.kv().get(&layout::current(key)).await {
            Ok(None) => return Ok(None),
            Ok(Some(row)) => Some(Current::parse(row)?),
            Err(KvError::Conflict | KvError::TooOld) => None,
            Err(e) => return Err(e.into()),
        };
        if let Some(Current { place, body: Body::Inline(bytes), .. }) = row {
            return Ok(Some(Versioned { revision: place.revision, bytes: self.opened(key, bytes).await? }));
        }
        // The parts must be read in the same snapshot as the record that names them.
        reading!(self, tx => match tx.get(&layout::current(key), Read::Snapshot).await? {
            Some(row) => Ok(Some(versioned(self, tx.as_ref(), key, row).await?)),
            None => Ok(None),
        })
    }

    /// The revision of the object under `key` now, whether it can be read or not.
    pub async fn revision_of(&self, key: &Key) -> Result<Option<Revision>, StoreError> {
        reading!(self, tx => match tx.get(&layout::current(key), Read::Snapshot).await? {
            Some(row) => Ok(Some(Current::parse(row)?.place.revision)),
            None => Ok(None),
        })
    }

    /// The object under `key` as of revision `at`; `None` when it held none then.
    ///
    /// # Errors
    /// `Compacted` when the log no longer says, `Future` when `at` lies ahead.
    pub async fn get_at(&self, key: &Key, at: Revision) -> Result<Option<Versioned>, StoreError> {
        reading!(self, tx => {
            let tx = tx.as_ref();
            let latest = Revision(tx.read_version().await?.0);
            if at > latest {
                return Err(StoreError::Future { asked: at, latest }.into());
            }
            if let Some(oldest) = self.gap(at) {
                return Err(StoreError::Compacted { oldest }.into());
            }
            let state = match next_entry(tx, key, at).await? {
                Some(Entry { before: Some(b), .. }) => Some(before(self, tx, key, b).await?),
                Some(Entry { before: None, .. }) => None,
                None => match tx.get(&layout::current(key), Read::Snapshot).await? {
                    Some(row) => Some(versioned(self, tx, key, row).await?),
                    None => None,
                },
            };
            match state {
                // Nothing lies between `at` and the change that replaced this, or this would not be what it replaced.
                Some(state) if state.revision <= at => Ok(Some(state)),
                state => {
                    let oldest = floor(tx, &key.resource, Read::Snapshot).await?;
                    if at < oldest {
                        return Err(StoreError::Compacted { oldest }.into());
                    }
                    // With the log whole, a younger state cannot be the first after `at`.
                    if state.is_some() { Err(damaged(key).into()) } else { Ok(None) }
                }
            }
        })
    }

    /// Every retained change of `key`, oldest first, deletions included.
    pub async fn history(&self, key: &Key) -> Result<Vec<Event>, StoreError> {
        let places = reading!(self, tx => {
            let mut places = Vec::new();
            for (row, value) in range(tx.as_ref(), layout::history_after(key, Revision(0))).await? {
                places.push(layout::parse_history(&row, &value).ok_or_else(|| damaged(key))?);
            }
            places.extend(current_place(tx.as_ref(), key).await?.filter(|place| places.last() != Some(place)));
            Ok(places)
        })?;
        // Changes never change, so that each part of a long history may be read in a snapshot of its own.
        let mut events: Vec<Event> = Vec::with_capacity(places.len());
        let mut known = None;
        for some in places.chunks(HISTORY_ROWS) {
            let (cut, mut read) = reading!(self, tx => self.history_of(tx.as_ref(), key, known, some).await)?;
            known = some.last().copied();
            if cut {
                // Compaction has come by, and what it left begins after it.
                events.clear();
            }
            events.append(&mut read);
        }
        Ok(events)
    }

    /// The changes of `key` at `places` with the creations between them, and whether some of them have been cut off. `known` is the place before.
    async fn history_of(
        &self,
        tx: &dyn Transaction,
        key: &Key,
        mut known: Option<Place>,
        places: &[Place],
    ) -> Result<(bool, Vec<Event>), Failed> {
        let mut entries = Vec::with_capacity(places.len() + 1);
        let mut cut = false;
        let floor = floor(tx, &key.resource, Read::Snapshot).await?;
        for some in places.chunks(AT_ONCE) {
            let rows = some.iter().map(|place| log_row(tx, key, *place));
            for (place, row) in some.iter().zip(join_all(rows).await) {
                if place.revision <= floor {
                    cut = true;
                    entries.clear();
                    continue;
                }
                let entry = Entry::parse(row?.ok_or_else(|| damaged(key))?)?;
                if let Some(born) = entry.before.as_ref().map(|b| b.place).filter(|b| known != Some(*b)) {
                    match born_at(tx, key, born).await? {
                        Some(entry) => entries.push((key.clone(), born, entry)),
                        None => {
                            cut = true;
                            entries.clear();
                        }
                    }
                }
                known = Some(*place);
                entries.push((key.clone(), *place, entry));
            }
        }
        Ok((cut, tail::events(self, tx, entries).await?))
    }

    /// The items of a pool that are taken, with their owners, in item order.
    pub async fn claims(&self, pool: &str) -> Result<Vec<(Arc<str>, Key)>, StoreError> {
        reading!(self, tx => {
            let mut claims = Vec::new();
            for (key, owner) in range(tx.as_ref(), layout::claims(pool)).await? {
                let claim = layout::parse_claim(pool, &key).zip(layout::parse_key(&owner, None));
                claims.push(claim.ok_or_else(|| StoreError::Corrupt(format!("a claim of {pool} does not decode")))?);
            }
            Ok(claims)
        })
    }
}
