//! Reads: current objects, lists, the past.
//!
//! Every answer is one snapshot. Nothing here conflicts with a commit.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::commit::Patience;
use super::error::StoreError;
use super::layout::{self, Place, Slot};
use super::record::{Before, Body, Current, Entry, Last};
use super::types::{Event, EventKind, Key, Page, Revision, Versioned};
use super::{Store, tail};
use crate::kv::{KvError, RangeRead, Read, Transaction, Version, key_after};

/// Rows of a list that are read before other tasks get a turn.
const LIST_ROWS: usize = 500;

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

/// The bytes of an object that a record of `place` describes.
pub(super) async fn body(
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
pub(super) async fn versioned(tx: &dyn Transaction, key: &Key, row: Bytes) -> Result<Versioned, Failed> {
    let current = Current::parse(row)?;
    let bytes = body(tx, &key.resource, current.place, Slot::Put, current.body).await?;
    Ok(Versioned { revision: current.place.revision, bytes })
}

/// The state before an entry.
pub(super) async fn before(tx: &dyn Transaction, resource: &str, before: Before) -> Result<Versioned, Failed> {
    let bytes = body(tx, resource, before.place, Slot::Put, before.body).await?;
    Ok(Versioned { revision: before.place.revision, bytes })
}

/// The entry that is named by the first history row after `after`.
async fn next_entry(tx: &dyn Transaction, key: &Key, after: Revision) -> Result<Option<Entry>, Failed> {
    let range = layout::history_after(key, after);
    let rows = tx.get_range(&RangeRead::new(range.start, range.end).limit(1), Read::Snapshot).await?.rows;
    let Some((row, value)) = rows.into_iter().next() else { return Ok(None) };
    let place = layout::parse_history(&row, &value).ok_or_else(|| damaged(key))?;
    Ok(Some(entry(tx, key, place).await?))
}

/// The log entry at a place.
pub(super) async fn entry(tx: &dyn Transaction, key: &Key, place: Place) -> Result<Entry, Failed> {
    let row = tx.get(&layout::log(&key.resource, place), Read::Snapshot).await?;
    Ok(Entry::parse(row.ok_or_else(|| damaged(key))?)?)
}

/// The state that the change at `place` left: what the next change replaced, or the current object.
pub(super) async fn after(tx: &dyn Transaction, key: &Key, place: Place) -> Result<Versioned, Failed> {
    // Most often the change is the newest one.
    let row = tx.get(&layout::current(key), Read::Snapshot).await?;
    if let Some(row) = row {
        let current = Current::parse(row)?;
        if current.place == place {
            let bytes = body(tx, &key.resource, current.place, Slot::Put, current.body).await?;
            return Ok(Versioned { revision: place.revision, bytes });
        }
    }
    let next = next_entry(tx, key, place.revision).await?.and_then(|e| e.before).filter(|b| b.place == place);
    before(tx, &key.resource, next.ok_or_else(|| damaged(key))?).await
}

/// An entry as an event; `after` is the state it left, unless it is a deletion.
pub(super) async fn event(
    tx: &dyn Transaction,
    key: Key,
    place: Place,
    entry: Entry,
    known_after: Option<Bytes>,
) -> Result<Event, Failed> {
    let previous = match entry.before {
        Some(b) => Some(before(tx, &key.resource, b).await?.bytes),
        None => None,
    };
    let bytes = match (entry.kind, entry.last) {
        (EventKind::Deleted, Last::Inline(bytes)) => bytes,
        (EventKind::Deleted, Last::Parts(len)) => body(tx, &key.resource, place, Slot::Last, Body::Parts(len)).await?,
        (EventKind::Deleted, _) => previous.clone().ok_or_else(|| damaged(&key))?,
        (EventKind::Created | EventKind::Updated, _) => match known_after {
            Some(bytes) => bytes,
            None => after(tx, &key, place).await?.bytes,
        },
    };
    Ok(Event { revision: place.revision, key, op: entry.kind, bytes, previous, who: entry.who, at: entry.at })
}

/// Where the log of a resource begins.
pub(super) async fn floor(tx: &dyn Transaction, resource: &str, read: Read) -> Result<Revision, Failed> {
    let row = tx.get(&layout::floor(resource), read).await?;
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
        let key = layout::wake(resource);
        reading!(self, tx => {
            let row = tx.get(&key, Read::Snapshot).await?;
            let changed = stamp_row(resource, row.as_deref())?;
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
            return Ok(Some(Versioned { revision: place.revision, bytes }));
        }
        // The parts must be read in the same snapshot as the record that names them.
        reading!(self, tx => match tx.get(&layout::current(key), Read::Snapshot).await? {
            Some(row) => Ok(Some(versioned(tx.as_ref(), key, row).await?)),
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
                return Err(StoreError::Future { latest }.into());
            }
            let state = match next_entry(tx, key, at).await? {
                Some(Entry { before: Some(b), .. }) => Some(before(tx, &key.resource, b).await?),
                Some(Entry { before: None, .. }) => None,
                None => match tx.get(&layout::current(key), Read::Snapshot).await? {
                    Some(row) => Some(versioned(tx, key, row).await?),
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

    /// Objects of a resource, or of one namespace of it, in key order after `after`; `limit` 0 is no limit. One snapshot.
    pub async fn list(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let all = layout::current_range(resource, namespace);
        let begin = match after {
            Some(key) => key_after(&layout::current(key)).max(all.start),
            None => all.start,
        };
        if begin >= all.end {
            return Ok(Page { items: Vec::new(), revision: self.read_revision().await?, more: false });
        }
        reading!(self, tx => {
            let tx = tx.as_ref();
            let mut read = RangeRead::new(begin.clone(), all.end.clone());
            let mut items: Vec<(Key, Versioned)> = Vec::new();
            let more = loop {
                let left = if limit == 0 { LIST_ROWS } else { limit.saturating_sub(items.len()) };
                read.limit = left.min(LIST_ROWS);
                let page = tx.get_range(&read, Read::Snapshot).await?;
                if let Some((last, _)) = page.rows.last() {
                    read.begin = key_after(last);
                }
                for (row_key, row) in page.rows {
                    let key = layout::parse_current(&row_key, items.last().map(|(k, _)| k));
                    let key = key.ok_or_else(|| StoreError::Corrupt("a key does not decode".to_owned()))?;
                    let object = versioned(tx, &key, row).await?;
                    items.push((key, object));
                }
                if !page.more || (limit != 0 && items.len() >= limit) {
                    break page.more;
                }
                tokio::task::yield_now().await;
            };
            Ok(Page { items, revision: Revision(tx.read_version().await?.0), more })
        })
    }

    /// Every retained change of `key`, oldest first, deletions included.
    pub async fn history(&self, key: &Key) -> Result<Vec<Event>, StoreError> {
        reading!(self, tx => {
            let tx = tx.as_ref();
            let mut entries = Vec::new();
            for (row, value) in range(tx, layout::history_after(key, Revision(0))).await? {
                let place = layout::parse_history(&row, &value).ok_or_else(|| damaged(key))?;
                entries.push((key.clone(), place, entry(tx, key, place).await?));
            }
            tail::events(tx, entries).await
        })
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
