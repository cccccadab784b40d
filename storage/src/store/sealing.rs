//! The store's use of a [`Transform`]: sealing on the way in, opening on the way out, and writing stale rows again.
//!
//! Without a transform nothing here costs more than a look at an `Option`. Rewriting never changes a revision, an event or a plain
//! byte: only the form in which rows keep objects.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use tokio::time::Instant;

use super::Store;
use super::commit::Patience;
use super::error::StoreError;
use super::layout::{self, Place, Slot};
use super::read::{self, Failed, reading};
use super::record::{Before, Body, Current, Entry, Last, PART};
use super::types::{Commit, Key, Revision};
use crate::clock::Clock;
use crate::kv::{Kv, KvError, Mutation, RangeRead, Read, Transaction, key_after};
use crate::transform::{OpenError, Opened, Transform};

/// Rows that one transaction of a rewrite looks at.
const ROWS: usize = 100;
/// Bytes of objects after which a transaction of a rewrite ends. One object more may come on top.
const BYTES: usize = 1 << 19;
/// Errors that one step of a rewrite names.
const NAMED: usize = 10;

/// What one step of a rewrite did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// Current objects that were sealed anew.
    pub objects: usize,
    /// Replaced and final states in the log that were sealed anew.
    pub past: usize,
    /// Objects and past states that do not open. They stay as they are.
    pub refused: usize,
    /// Why not, for the first few.
    pub errors: Vec<StoreError>,
    /// Where the next step begins; `None` after the last one.
    pub next: Option<Bytes>,
}

fn failed(key: &Key, why: String) -> StoreError {
    StoreError::Transform { key: key.clone(), why }
}

fn not_sealed(key: &Key, why: String) -> StoreError {
    StoreError::NotSealed { key: key.clone(), why }
}

/// Opens stored bytes, fetching what that takes.
async fn open(transform: &dyn Transform, key: &Key, stored: &Bytes) -> Result<Opened, StoreError> {
    match transform.open(key, stored) {
        Err(OpenError::Locked) => {}
        outcome => return outcome.map_err(|e| said(key, e)),
    }
    transform.unlock(key, stored).await.map_err(|why| failed(key, why))?;
    transform.open(key, stored).map_err(|e| said(key, e))
}

fn said(key: &Key, error: OpenError) -> StoreError {
    match error {
        OpenError::Failed(why) => failed(key, why),
        OpenError::Locked => failed(key, "the key that opens it was lost again; try again".to_owned()),
    }
}

impl Store {
    /// Opens the store as [`Store::open`] does, with `transform` between objects and rows.
    ///
    /// # Errors
    /// Those of [`Store::open`]. Rows that `transform` cannot open show when they are read.
    pub async fn open_sealed(
        kv: Arc<dyn Kv>,
        clock: Arc<dyn Clock>,
        transform: Arc<dyn Transform>,
    ) -> Result<Store, StoreError> {
        Self::open_as(kv, clock, Some(transform)).await
    }

    fn transform(&self) -> Option<&dyn Transform> {
        self.0.transform.as_deref()
    }

    /// The object that a row's bytes were made from.
    pub(super) async fn opened(&self, key: &Key, stored: Bytes) -> Result<Bytes, StoreError> {
        match self.transform() {
            None => Ok(stored),
            Some(transform) => Ok(open(transform, key, &stored).await?.plain),
        }
    }

    /// Whether stored bytes are known to be those of `plain`. A wrong "no" costs space and nothing else.
    pub(super) fn holds(&self, key: &Key, stored: &Bytes, plain: &Bytes) -> bool {
        match self.transform() {
            None => stored == plain,
            Some(transform) => transform.open(key, stored).is_ok_and(|opened| opened.plain == *plain),
        }
    }

    /// The bytes that rows keep for each write of a commit, in order; nothing where that is the object itself.
    pub(super) fn sealed(&self, commit: &Commit) -> Result<Vec<Bytes>, StoreError> {
        let Some(transform) = self.transform() else { return Ok(Vec::new()) };
        commit
            .ops
            .iter()
            .map(|op| match op.object() {
                Some(bytes) => transform.seal(op.key(), bytes).map_err(|why| not_sealed(op.key(), why)),
                None => Ok(Bytes::new()),
            })
            .collect()
    }

    /// Whether the object under `key` is kept in a form that a write today would not give it. A write of the same bytes is then
    /// worth a commit.
    ///
    /// # Errors
    /// Those of [`Store::get`].
    pub async fn is_stale(&self, key: &Key) -> Result<bool, StoreError> {
        let Some(transform) = self.transform().filter(|transform| transform.applies(&key.resource)) else {
            return Ok(false);
        };
        reading!(self, tx => {
            let tx = tx.as_ref();
            let Some(row) = tx.get(&layout::current(key), Read::Snapshot).await? else { return Ok(false) };
            let Current { place, body, .. } = Current::parse(row)?;
            let stored = read::stored(tx, &key.resource, place, Slot::Put, body).await?;
            Ok(open(transform, key, &stored).await?.stale)
        })
    }

    /// The objects of a resource that do not open: at most `limit`, and as many as are found within about `time`. The second value
    /// says that not all of the resource was looked at.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn unreadable(
        &self,
        resource: &str,
        limit: usize,
        time: Duration,
    ) -> Result<(Vec<StoreError>, bool), StoreError> {
        let mut found = Vec::new();
        let Some(transform) = self.transform() else { return Ok((found, false)) };
        let (begun, mut range) = (Instant::now(), layout::current_range(resource, None));
        loop {
            let page: Vec<(Key, Bytes)> = reading!(self, tx => {
                let tx = tx.as_ref();
                let read = RangeRead::new(range.start.clone(), range.end.clone()).limit(ROWS);
                let mut page = Vec::new();
                for (row_key, row) in tx.get_range(&read, Read::Snapshot).await?.rows {
                    let key = layout::parse_current(&row_key, None)
                        .ok_or_else(|| StoreError::Corrupt("a key does not decode".to_owned()))?;
                    let Current { place, body, .. } = Current::parse(row)?;
                    page.push((key, read::stored(tx, resource, place, Slot::Put, body).await?));
                }
                Ok(page)
            })?;
            let Some((last, _)) = page.last() else { return Ok((found, false)) };
            range.start = key_after(&layout::current(last));
            for (key, stored) in &page {
                if found.len() >= limit || begun.elapsed() >= time {
                    return Ok((found, true));
                }
                found.extend(open(transform, key, stored).await.err());
            }
        }
    }

    /// Seals some rows of a resource anew: first current objects, then what the log keeps, stale ones only. Begins at `from`, which is
    /// an earlier step's `next`. Each step is one transaction that any other may run beside. A whole pass that finds nothing to
    /// write leaves nothing under a form other than today's; what a step found cannot be undone by the commits of this store handle.
    ///
    /// # Errors
    /// Those of the engine, and `NotSealed`. What is done stays done.
    pub async fn rewrite(&self, resource: &str, from: Option<Bytes>) -> Result<Rewritten, StoreError> {
        let Some(transform) = self.transform() else { return Ok(Rewritten::default()) };
        let mut patience = Patience::new();
        loop {
            match self.rewrite_some(transform, resource, from.as_ref()).await {
                Ok(done) => return Ok(done),
                Err(Failed::Store(e)) => return Err(e),
                // Whether it happened shows at the next look.
                Err(Failed::Kv(KvError::Unknown(_))) => patience.again(KvError::Conflict).await?,
                Err(Failed::Kv(e)) => patience.again(e).await?,
            }
        }
    }

    async fn rewrite_some(
        &self,
        transform: &dyn Transform,
        resource: &str,
        from: Option<&Bytes>,
    ) -> Result<Rewritten, Failed> {
        let mut tx = self.kv().begin();
        let current = layout::current_range(resource, None);
        let log = layout::log_after(resource, Revision(0));
        let (range, in_log) = match from {
            Some(from) if *from >= log.start => {
                let floor = read::floor(tx.as_ref(), resource, Read::Snapshot).await?;
                let first = layout::log_after(resource, floor).start;
                (from.clone().clamp(first.min(log.end.clone()), log.end.clone())..log.end.clone(), true)
            }
            from => (from.unwrap_or(&current.start).clone().max(current.start)..current.end, false),
        };
        let page = tx.get_range(&RangeRead::new(range.start, range.end).limit(ROWS), Read::Snapshot).await?;
        let mut work = Work { transform, tx: tx.as_mut(), done: Rewritten::default(), bytes: 0 };
        let mut stopped = None;
        for (row_key, row) in &page.rows {
            let finished = if in_log {
                work.log_row(resource, row_key, row.clone()).await?
            } else {
                work.current_row(row_key, row.clone()).await?
            };
            if !finished {
                stopped = Some(row_key.clone());
                break;
            }
            if work.bytes >= BYTES {
                stopped = Some(key_after(row_key));
                break;
            }
        }
        let (mut done, wrote) = (work.done, work.bytes > 0);
        done.next = match (stopped, page.rows.last()) {
            (Some(next), _) => Some(next),
            (None, Some((last, _))) if page.more => Some(key_after(last)),
            _ if in_log => None,
            _ => Some(log.start),
        };
        if wrote {
            if in_log {
                // A compaction that has read these entries before must not go by what it read.
                let floor = layout::floor(resource);
                let end = key_after(&floor);
                tx.add_write_conflict(floor, end);
            }
            tx.commit().await?;
        }
        Ok(done)
    }
}

/// A transaction of a rewrite.
struct Work<'a> {
    transform: &'a dyn Transform,
    tx: &'a mut dyn Transaction,
    done: Rewritten,
    /// Of sealed objects written.
    bytes: usize,
}

impl Work<'_> {
    /// The bytes to keep instead, if these are stale.
    async fn anew(&mut self, key: &Key, stored: &Bytes) -> Result<Option<Bytes>, Failed> {
        match open(self.transform, key, stored).await {
            Ok(Opened { stale: false, .. }) => Ok(None),
            Ok(Opened { plain, .. }) => Ok(Some(self.transform.seal(key, &plain).map_err(|why| not_sealed(key, why))?)),
            Err(error) => {
                self.done.refused += 1;
                if self.done.errors.len() < NAMED {
                    self.done.errors.push(error);
                }
                Ok(None)
            }
        }
    }

    /// Keeps `sealed` where a row has `beside` bytes of objects already: in the row if it fits, else in parts, in place of the parts
    /// that were there.
    fn keep(&mut self, resource: &str, place: Place, slot: Slot, old: &Body, sealed: Bytes, beside: usize) -> Body {
        let parts = layout::parts(resource, place, slot);
        if let Body::Parts(_) = old {
            self.tx.mutate(Mutation::ClearRange(parts.start.clone(), parts.end));
        }
        self.bytes += sealed.len().max(1);
        if sealed.len() + beside <= PART {
            return Body::Inline(sealed);
        }
        let len = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        let mut rest = sealed;
        for part in 0u16.. {
            if rest.is_empty() {
                break;
            }
            let mut key = Vec::with_capacity(parts.start.len() + 2);
            key.put_slice(&parts.start);
            key.put_u16(part);
            self.tx.mutate(Mutation::Set(key.into(), rest.split_to(rest.len().min(PART))));
        }
        Body::Parts(len)
    }

    /// Rewrites one current object; always finishes.
    async fn current_row(&mut self, row_key: &Bytes, row: Bytes) -> Result<bool, Failed> {
        let key = layout::parse_current(row_key, None)
            .ok_or_else(|| StoreError::Corrupt("a key does not decode".to_owned()))?;
        let mut current = Current::parse(row)?;
        let stored = read::stored(self.tx, &key.resource, current.place, Slot::Put, current.body.clone()).await?;
        if let Some(sealed) = self.anew(&key, &stored).await? {
            current.body = self.keep(&key.resource, current.place, Slot::Put, &current.body, sealed, 0);
            self.tx.add_read_conflict(row_key.clone(), key_after(row_key));
            self.tx.mutate(Mutation::Set(row_key.clone(), current.bytes()));
            self.done.objects += 1;
        }
        Ok(true)
    }

    /// Rewrites what one log entry keeps; false when its other half is left for another transaction.
    async fn log_row(&mut self, resource: &str, row_key: &Bytes, row: Bytes) -> Result<bool, Failed> {
        let place = layout::parse_log(row_key)
            .ok_or_else(|| StoreError::Corrupt(format!("a log key of {resource} does not decode")))?;
        let mut entry = Entry::parse(row)?;
        let key = Key::new(resource, &entry.namespace, &entry.name);
        let earlier = self.bytes;
        let mut changed = false;
        if let Some(Before { place, body }) = &mut entry.before {
            let stored = read::stored(self.tx, resource, *place, Slot::Put, body.clone()).await?;
            if let Some(sealed) = self.anew(&key, &stored).await? {
                *body = self.keep(resource, *place, Slot::Put, body, sealed, 0);
                self.done.past += 1;
                changed = true;
            }
        }
        let old = match &entry.last {
            Last::None | Last::SameAsBefore => None,
            Last::Inline(bytes) => Some(Body::Inline(bytes.clone())),
            Last::Parts(len) => Some(Body::Parts(*len)),
        };
        // Both halves of one entry may be too large for one transaction.
        let halved = changed && self.bytes - earlier >= BYTES && old.is_some();
        if let (Some(old), false) = (old, halved) {
            let stored = read::stored(self.tx, resource, place, Slot::Last, old.clone()).await?;
            let beside = match &entry.before {
                Some(Before { body: Body::Inline(before), .. }) => before.len(),
                _ => 0,
            };
            let sealed = self.anew(&key, &stored).await?;
            // What grows beside it may push fresh bytes out of the row as well.
            let too_long = matches!(&old, Body::Inline(bytes) if changed && bytes.len() + beside > PART);
            if let Some(sealed) = sealed.or_else(|| too_long.then_some(stored)) {
                entry.last = match self.keep(resource, place, Slot::Last, &old, sealed, beside) {
                    Body::Inline(bytes) => Last::Inline(bytes),
                    Body::Parts(len) => Last::Parts(len),
                };
                self.done.past += 1;
                changed = true;
            }
        }
        if changed {
            self.tx.add_read_conflict(row_key.clone(), key_after(row_key));
            self.tx.mutate(Mutation::Set(row_key.clone(), entry.bytes()));
        }
        Ok(!halved)
    }
}
