//! One FoundationDB transaction behind [`Transaction`].
//!
//! Limits are checked here, before the library hears of a write, so that a refused transaction names its size and nothing of it
//! leaves the process. Reads and commits end by the transaction's timeout, and watches by [`WATCH`].

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes};
use fdb::options::{ConflictRangeType, MutationType, StreamingMode};
use fdb::{FdbError, FdbResult, KeySelector, RangeOption};
use rand::Rng;

use super::{Inner, ORDER_BITS, error, network};
use crate::kv::{KvError, MAX_KEY, Mutation, RangeRead, Read, Rows, Transaction, Version, Watch, key_after};
use crate::local::writes;

/// Keys from here on are FoundationDB's own.
const RESERVED: &[u8] = &[0xff];
/// The longest wait for a watch. Should a notification ever be lost, the watcher is late by this and no more.
const WATCH: Duration = Duration::from_secs(30);
/// Bytes of rows from which on a page is not filled up further.
const PAGE: usize = 64 << 10;
/// How long a watch that failed waits before it fires: its watcher looks for itself, and not in a tight loop.
const WATCH_FAILED: Duration = Duration::from_millis(250);

/// Milliseconds to wait before a transaction runs again that a busy server has turned away.
const BUSY: std::ops::Range<u64> = 5..50;

const UNREADABLE: KvError = KvError::Misuse("a transaction cannot read a value that it stamps");

type ReadVersion = Pin<Box<dyn Future<Output = FdbResult<i64>> + Send + Sync>>;

/// A transaction.
pub(super) struct Tx {
    engine: Arc<Inner>,
    raw: Result<fdb::Transaction, FdbError>,
    /// The read version once it is known here.
    version: OnceLock<Version>,
    /// A read version asked for and not waited for; held so that the question is not withdrawn.
    asked: Option<ReadVersion>,
    /// Bytes of keys, values and conflict ranges of the writes.
    size: usize,
    /// What the commit will answer, because a write may never be taken.
    refused: Option<KvError>,
    /// Keys to be stamped. They are not seen by this transaction's reads, so the library does not hear of them before the commit, or
    /// before a range is cleared that may hold them.
    stamped: Vec<(Vec<u8>, Bytes)>,
    /// Keys whose values are stamped. Reading one is refused here: the library would fail the commit for it as well.
    unreadable: BTreeSet<Bytes>,
    writes: bool,
    watches: bool,
}

/// The parameter of a versionstamped operation: the bytes with the stamp's place behind them, little-endian.
fn stampable(bytes: &[u8], offset: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 4);
    out.put_slice(bytes);
    out.put_u32_le(u32::try_from(offset).unwrap_or(u32::MAX));
    out
}

fn readable(key: &[u8]) -> bool {
    !key.is_empty() && key < RESERVED && key.len() <= MAX_KEY
}

/// Refuses a version of FoundationDB that does not fit beside its order.
pub(super) fn check_version(version: u64) -> Result<u64, KvError> {
    let text = "the database has had more versions than ironkeel can number (2^48); move the data to a new FoundationDB cluster";
    if version >> (u64::BITS - ORDER_BITS) == 0 { Ok(version) } else { Err(KvError::Misuse(text)) }
}

/// The version that a read version of FoundationDB covers.
fn covers(version: i64) -> Result<Version, KvError> {
    let order = (1 << ORDER_BITS) - 1;
    let version = check_version(u64::try_from(version).unwrap_or(u64::MAX))?;
    Ok(Version(version << ORDER_BITS | order))
}

impl Tx {
    pub(super) fn new(engine: Arc<Inner>) -> Self {
        let raw = engine.database.create_trx();
        Self {
            engine,
            raw,
            version: OnceLock::new(),
            asked: None,
            size: 0,
            refused: None,
            stamped: Vec::new(),
            unreadable: BTreeSet::new(),
            writes: false,
            watches: false,
        }
    }

    fn raw(&self) -> Result<&fdb::Transaction, KvError> {
        self.raw.as_ref().map_err(|e| self.engine.place.read(*e))
    }

    /// The error of a read, after the wait that a busy server asks for.
    async fn failed(&self, error: FdbError) -> KvError {
        settle(error).await;
        self.engine.place.read(error)
    }

    fn known(&self, version: FdbResult<i64>) -> Result<Version, KvError> {
        let version = covers(version.map_err(|e| self.engine.place.read(e))?)?;
        network::answered();
        Ok(*self.version.get_or_init(|| version))
    }

    fn flush_stamped(&mut self) {
        let Ok(raw) = &self.raw else { return };
        for (key, value) in self.stamped.drain(..) {
            raw.atomic_op(&key, &value, MutationType::SetVersionstampedKey);
        }
    }

    fn conflict(&mut self, begin: &[u8], end: &[u8], kind: ConflictRangeType) {
        let end = end.min(RESERVED);
        if begin >= end {
            return;
        }
        if begin.len() > MAX_KEY + 1 || end.len() > MAX_KEY + 1 {
            self.refused.get_or_insert(KvError::Misuse("a conflict range is longer than a key can be"));
            return;
        }
        self.size += begin.len() + end.len();
        let added = match &self.raw {
            Ok(raw) => raw.add_conflict_range(begin, end, kind),
            Err(e) => Err(*e),
        };
        if let Err(e) = added {
            self.refused.get_or_insert(self.engine.place.read(e));
        }
    }
}

async fn settle(error: FdbError) {
    if error::busy(error) {
        let wait = rand::rng().random_range(BUSY);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

#[async_trait]
impl Transaction for Tx {
    async fn read_version(&self) -> Result<Version, KvError> {
        if let Some(version) = self.version.get() {
            return Ok(*version);
        }
        match self.raw()?.get_read_version().await {
            Err(e) => Err(self.failed(e).await),
            version => self.known(version),
        }
    }

    async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>, KvError> {
        if !readable(key) {
            return Ok(None);
        }
        if self.unreadable.contains(key) {
            return Err(UNREADABLE);
        }
        let raw = self.raw()?;
        let value = raw.get(key, read == Read::Snapshot);
        // A transaction that reads with conflicts will write, and then its read version is wanted: it comes along.
        let value = if read == Read::Serializable && self.version.get().is_none() {
            let (version, value) = futures::join!(raw.get_read_version(), value);
            if version.is_ok() {
                self.known(version)?;
            }
            value
        } else {
            value.await
        };
        match value {
            Ok(value) => Ok(value.map(|v| Bytes::copy_from_slice(&v))),
            Err(e) => Err(self.failed(e).await),
        }
    }

    async fn get_range(&self, range: &RangeRead, read: Read) -> Result<Rows, KvError> {
        if range.begin > range.end {
            return Err(KvError::Misuse("a range begins after its end"));
        }
        let end: &[u8] = range.end.as_ref().min(RESERVED);
        if range.begin.as_ref() >= end {
            return Ok(Rows::default());
        }
        let all: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(range.begin.as_ref()), Bound::Excluded(end));
        if self.unreadable.range::<[u8], _>(all).next().is_some() {
            return Err(UNREADABLE);
        }
        let raw = self.raw()?;
        // One more than asked for tells whether there is more. Read without conflicts, which would cover it; they are added below.
        let wanted = if range.limit == 0 { usize::MAX } else { range.limit.saturating_add(1) };
        let (mut first, mut last) = (range.begin.clone(), Bytes::copy_from_slice(end));
        let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
        let mut bytes = 0;
        let mut more = true;
        // The library answers in pieces where a part of the range was read before, or written by this transaction.
        while more && rows.len() < wanted && bytes < PAGE {
            let mut option = RangeOption::from((
                KeySelector::first_greater_or_equal(first.as_ref()),
                KeySelector::first_greater_or_equal(last.as_ref()),
            ));
            option.mode = StreamingMode::WantAll;
            option.reverse = range.reverse;
            option.limit = (range.limit != 0).then(|| wanted - rows.len());
            let found = match raw.get_range(&option, 1, true).await {
                Ok(found) => found,
                Err(e) => return Err(self.failed(e).await),
            };
            more = found.more();
            for row in &found {
                bytes += row.key().len() + row.value().len();
                rows.push((Bytes::copy_from_slice(row.key()), Bytes::copy_from_slice(row.value())));
            }
            match rows.last() {
                Some((key, _)) if range.reverse => last = key.clone(),
                Some((key, _)) => first = key_after(key),
                None => {}
            }
        }
        let cut = range.limit != 0 && rows.len() > range.limit;
        if cut {
            rows.truncate(range.limit);
        }
        let rows = Rows { rows, more: cut || more };
        if read == Read::Serializable {
            let (begin, end) = match rows.rows.last() {
                Some((last, _)) if rows.more && range.reverse => (last.clone(), Bytes::copy_from_slice(end)),
                Some((last, _)) if rows.more => (range.begin.clone(), key_after(last)),
                _ => (range.begin.clone(), Bytes::copy_from_slice(end)),
            };
            let added = raw.add_conflict_range(&begin, &end, ConflictRangeType::Read);
            added.map_err(|e| self.engine.place.read(e))?;
        }
        Ok(rows)
    }

    fn mutate(&mut self, mutation: Mutation) {
        // For the library it is no write, and a transaction without one has no commit version.
        let nothing = matches!(&mutation, Mutation::ClearRange(begin, end) if begin == end);
        self.writes |= !nothing;
        let bytes = match writes::check(&mutation) {
            Ok(bytes) => bytes,
            Err(e) => {
                self.refused.get_or_insert(e);
                return;
            }
        };
        self.size += bytes;
        if self.size > crate::kv::MAX_TRANSACTION {
            // The commit refuses it; the library need not hold it until then.
            return;
        }
        match &mutation {
            Mutation::ClearRange(begin, end) => {
                self.flush_stamped();
                self.unreadable.retain(|key| key < begin || end <= key);
            }
            Mutation::Set(key, _) | Mutation::Clear(key) => {
                self.unreadable.remove(key);
            }
            Mutation::StampedValue { key, .. } => {
                self.unreadable.insert(key.clone());
            }
            Mutation::Add(..) | Mutation::Max(..) | Mutation::StampedKey { .. } => {}
        }
        let Ok(raw) = &self.raw else { return };
        match mutation {
            Mutation::Set(key, value) => raw.set(&key, &value),
            Mutation::Clear(key) => raw.clear(&key),
            Mutation::ClearRange(begin, end) => raw.clear_range(&begin, &end),
            Mutation::Add(key, operand) => raw.atomic_op(&key, &operand, MutationType::Add),
            Mutation::Max(key, operand) => raw.atomic_op(&key, &operand, MutationType::Max),
            Mutation::StampedKey { key, offset, value } => self.stamped.push((stampable(&key, offset), value)),
            Mutation::StampedValue { key, value, offset } => {
                raw.atomic_op(&key, &stampable(&value, offset), MutationType::SetVersionstampedValue);
            }
        }
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        // The range counts as read at this transaction's snapshot, which therefore is taken now at the latest.
        if self.version.get().is_none()
            && self.asked.is_none()
            && let Ok(raw) = &self.raw
        {
            self.asked = Some(Box::pin(raw.get_read_version()));
        }
        self.conflict(&begin, &end, ConflictRangeType::Read);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.writes = true;
        self.conflict(&begin, &end, ConflictRangeType::Write);
    }

    fn watch(&mut self, key: &[u8]) -> Watch {
        if !readable(key) {
            return Box::pin(async { Err(KvError::Misuse("a watched key is one that can be written")) });
        }
        if self.unreadable.contains(key) {
            // A value that cannot be known counts as changed.
            return Box::pin(async { Ok(()) });
        }
        self.watches = true;
        let raw = self.raw.as_ref().map(|raw| raw.watch(key)).map_err(|e| self.engine.place.read(*e));
        // Held so that the connection outlives the wait.
        let engine = self.engine.clone();
        Box::pin(async move {
            match tokio::time::timeout(WATCH, raw?).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(e)) => {
                    tracing::debug!(code = e.code(), error = e.message(), "a watch failed");
                    tokio::time::sleep(WATCH_FAILED).await;
                }
            }
            drop(engine);
            Ok(())
        })
    }

    async fn commit(mut self: Box<Self>) -> Result<Version, KvError> {
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        if !self.writes {
            let version = self.read_version().await?;
            if !self.watches {
                return Ok(version);
            }
            // Watches begin to count with a commit.
            let place = &self.engine.place;
            return match self.raw {
                Ok(raw) => raw.commit().await.map(|_| version).map_err(|e| place.read(e.into())),
                Err(e) => Err(place.read(e)),
            };
        }
        writes::check_total(self.size)?;
        self.flush_stamped();
        let this = *self;
        let place = &this.engine.place;
        let raw = this.raw.map_err(|e| place.read(e))?;
        let stamp = raw.get_versionstamp();
        if let Err(e) = raw.commit().await {
            let e = FdbError::from(e);
            settle(e).await;
            return Err(match place.commit(e) {
                KvError::TooLarge { what, size, limit } => KvError::TooLarge { what, size: size.max(this.size), limit },
                other => other,
            });
        }
        // It happened. Only its version may not come to be known.
        let lost = |why: &str| KvError::Unknown(format!("a commit happened and its version is not known: {why}"));
        let stamp = stamp.await.map_err(|e| lost(e.message()))?;
        Version::from_stamp(&stamp).ok_or_else(|| lost("the database has had more than 2^48 versions"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_batches_and_fit() {
        assert_eq!(covers(7), Ok(Version(7 << 16 | 0xffff)));
        let mut stamp = [0u8; 10];
        stamp.iter_mut().skip(2).zip([0, 0, 0, 0, 0, 7, 0, 3]).for_each(|(to, from)| *to = from);
        let committed = Version::from_stamp(&stamp).unwrap();
        assert_eq!(committed, Version(7 << 16 | 3));
        assert!(committed < covers(7).unwrap() && covers(6).unwrap() < committed);
        covers((1 << 48) - 1).unwrap();
        covers(1 << 48).unwrap_err();
        covers(-1).unwrap_err();
    }
}
