//! The ordered transactional key-value trait that every engine offers, with FoundationDB's semantics.
//!
//! Keys and values are bytes; keys are ordered bytewise. A key has 1 to 10,000 bytes and begins below 0xff; keys from 0xff on belong
//! to the engine. Never knows what the bytes mean.
//!
//! # Laws (`crate::laws::kv` runs them on every engine)
//!
//! 1. **Total order.** Each commit that writes has a [`Version`] of its own, larger than that of every commit acknowledged
//!    before it began to commit.
//! 2. **Snapshot.** All reads of a transaction see exactly the commits up to its read version, plus its own writes. A read
//!    version covers every commit acknowledged before it was taken.
//! 3. **Serializable.** A transaction with writes commits only if nothing it read with [`Read::Serializable`] was written
//!    by a commit between its read version and its own version; otherwise [`KvError::Conflict`], and nothing happened.
//! 4. **Snapshot reads** ([`Read::Snapshot`]) see the same data and conflict with nothing.
//! 5. **Atomic.** All mutations of a transaction become visible at its version at once, or none ever.
//! 6. **Durable.** What was acknowledged survives the death of the process and of the machine (engines that keep data at all).
//! 7. **Unknown.** [`KvError::Unknown`] from commit: it happened, did not, or (distributed engines) may still happen for a
//!    short while. Every other error: it did not happen and never will.
//! 8. **Blind writes** (`set`, `clear`, `atomic`, versionstamped ones) never conflict with each other.
//! 9. **Watch.** A watch fires after the key's value differs from what the watching transaction saw. It may fire without a
//!    change, and never misses one that lasts.

use std::fmt;
use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

/// The most bytes a key may have (FoundationDB's limit).
pub const MAX_KEY: usize = 10_000;
/// The most bytes a value may have (FoundationDB's limit).
pub const MAX_VALUE: usize = 100_000;
/// The most bytes a transaction's keys, values and conflict ranges may have together (FoundationDB's limit is 10,000,000).
pub const MAX_TRANSACTION: usize = 10_000_000;
/// Bytes of a versionstamp in a key or value.
pub const STAMP: usize = 10;

/// A commit's place in the total order. With FoundationDB: commit version << 16 | order within its batch; its read version v
/// is (v << 16) | 0xffff. An embedded engine counts commits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The 10 bytes that a versionstamped key or value receives: the version as an 80-bit big-endian integer. FoundationDB's own
    /// versionstamp has this form while its commit versions stay below 2^48 (nine years at a million per second).
    pub fn stamp(self) -> [u8; STAMP] {
        let mut stamp = [0; STAMP];
        for (to, from) in stamp.iter_mut().skip(2).zip(self.0.to_be_bytes()) {
            *to = from;
        }
        stamp
    }

    /// Reads a stamp back; `None` when it is not 10 bytes or exceeds 64 bits.
    pub fn from_stamp(stamp: &[u8]) -> Option<Self> {
        let (high, low) = stamp.split_first_chunk::<2>()?;
        (*high == [0, 0]).then_some(())?;
        Some(Self(u64::from_be_bytes(low.try_into().ok()?)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why an engine did not do as asked, by what the caller can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Not committed: something read was written meanwhile. Run the transaction again from its start.
    #[error("the transaction conflicts with another one")]
    Conflict,
    /// The snapshot is no longer kept. Nothing was committed; run again from the start.
    #[error("the transaction's read version is too old")]
    TooOld,
    /// The commit may have happened. Read back to find out.
    #[error("{0}")]
    Unknown(String),
    /// Nothing was committed; try later.
    #[error("{0}")]
    Unavailable(String),
    /// Nothing was committed, for want of space; reads go on.
    #[error("{0}")]
    Full(String),
    /// Never possible: over a limit.
    #[error("{what} has {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The caller broke a rule of the trait.
    #[error("{0}")]
    Misuse(&'static str),
    /// Stored bytes are damaged.
    #[error("{0}")]
    Corrupt(String),
    /// The data are of another format.
    #[error("{place} holds storage format {found}, and this version of ironkeel reads format {expected}")]
    WrongFormat {
        /// The format found.
        found: String,
        /// The format this code reads.
        expected: String,
        /// Where.
        place: String,
    },
    /// Another process has the data open.
    #[error("{0} is in use by another process")]
    Locked(String),
}

/// Whether a read takes part in conflict detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A later write to what was read makes the commit fail.
    Serializable,
    /// No conflict is recorded.
    Snapshot,
}

/// A half-open range of keys to read: `begin <= key < end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRead {
    /// First key of the range.
    pub begin: Bytes,
    /// The key after its last.
    pub end: Bytes,
    /// The most rows to return; 0 is no limit. An engine may return fewer and say `more`.
    pub limit: usize,
    /// From the end backwards.
    pub reverse: bool,
}

impl RangeRead {
    /// The range `begin..end`, forwards, without a limit.
    pub fn new(begin: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { begin: begin.into(), end: end.into(), limit: 0, reverse: false }
    }

    /// At most `limit` rows.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// From the end backwards.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }
}

/// Rows of a range in the order asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Keys with their values.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether the range may hold rows beyond the last one returned.
    pub more: bool,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Writes a value.
    Set(Bytes, Bytes),
    /// Removes a key.
    Clear(Bytes),
    /// Removes the keys `begin <= key < end`. With `begin == end` it is no write.
    ClearRange(Bytes, Bytes),
    /// Adds a little-endian integer, wrapping, to the value (absent: 0). Result and operand have the operand's length.
    Add(Bytes, Bytes),
    /// Keeps the larger of two little-endian unsigned integers (absent: the operand).
    Max(Bytes, Bytes),
    /// Writes a value under a key whose 10 bytes at `offset` become the commit's stamp.
    StampedKey {
        /// The key with 10 bytes to be replaced.
        key: Bytes,
        /// Where they are.
        offset: usize,
        /// The value.
        value: Bytes,
    },
    /// Writes a value whose 10 bytes at `offset` become the commit's stamp.
    StampedValue {
        /// The key.
        key: Bytes,
        /// The value with 10 bytes to be replaced.
        value: Bytes,
        /// Where they are.
        offset: usize,
    },
}

/// Resolves after a watched key has changed. Errors mean: read again, and watch again if need be.
pub type Watch = BoxFuture<'static, Result<(), KvError>>;

/// One transaction. Dropped without commit, it did nothing. Reads take `&self`, so that several may run at once.
#[async_trait]
pub trait Transaction: Send + Sync {
    /// The version that reads see.
    async fn read_version(&self) -> Result<Version, KvError>;

    /// The value of `key`, this transaction's writes included. Reading a key or value this transaction stamps is
    /// [`KvError::Misuse`] for values; stamped keys are simply not seen.
    async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>, KvError>;

    /// The rows of a range, this transaction's writes included. With [`Read::Serializable`] the part of the range up to the
    /// last row returned (all of it when no more) is protected against phantoms.
    async fn get_range(&self, range: &RangeRead, read: Read) -> Result<Rows, KvError>;

    /// Adds a write. Limits and offsets are checked at commit.
    fn mutate(&mut self, mutation: Mutation);

    /// Treats `begin <= key < end` as read.
    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes);

    /// Treats `begin <= key < end` as written.
    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes);

    /// Watches `key` for a value other than the one this transaction sees. With FoundationDB a watch begins to count when the
    /// transaction commits, so commit it (a read-only commit is enough) before waiting.
    fn watch(&mut self, key: &[u8]) -> Watch;

    /// Says that this commit frees space: an engine that refuses writes for want of space may still take it.
    fn reclaiming(&mut self) {}

    /// Commits. A transaction without writes or write conflicts always succeeds and returns its read version.
    async fn commit(self: Box<Self>) -> Result<Version, KvError>;
}

/// An engine: a place that keeps keys and values and runs transactions. Dropping the last handle closes it.
#[async_trait]
pub trait Kv: Send + Sync + Debug + 'static {
    /// A new transaction. Its read version is taken now or at its first read.
    fn begin(&self) -> Box<dyn Transaction>;

    /// The value of one key at a fresh read version.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.begin().get(key, Read::Snapshot).await
    }

    /// Returns when every read version taken and every commit begun from now on is at least `version`. A restore needs it: rows
    /// that another engine stamped must not lie ahead of this one's versions. An engine that is there already has nothing to do,
    /// which is all this default can tell.
    ///
    /// With FoundationDB: write `version >> 16`, rounded up, as 8 little-endian bytes to `\xff/minRequiredCommitVersion` in a transaction
    /// with `ACCESS_SYSTEM_KEYS` (what its own `fdbrestore` and `fdbdr` do; the cluster recovers once and goes on from there).
    ///
    /// # Errors
    /// `Unavailable` from an engine that cannot; whatever a commit says from one that can. Doing it again does no harm.
    async fn advance_to(&self, version: Version) -> Result<(), KvError> {
        let now = self.begin().read_version().await?;
        if now >= version {
            return Ok(());
        }
        Err(KvError::Unavailable(format!(
            "this storage engine is at version {now} and cannot be moved on to {version}"
        )))
    }

    /// Removes every row with `begin <= key < end`, piece by piece: only for rows that nobody reads or writes any more. An engine that can
    /// do so without reading or marking them, does. What a process that died in between has left, goes at the next call.
    ///
    /// # Errors
    /// Whatever a commit says. Doing it again does no harm.
    async fn discard(&self, begin: Bytes, end: Bytes) -> Result<(), KvError> {
        let mut tx = self.begin();
        tx.reclaiming();
        tx.mutate(Mutation::ClearRange(begin, end));
        tx.commit().await.map(drop)
    }

    /// The most versions that this engine uses up in a second, by which a restore stays clear of revisions that were given out
    /// after the backup. The default is far above what an engine that counts commits reaches; FoundationDB's is 1,000,000 << 16.
    fn pace(&self) -> u64 {
        1_000_000
    }

    /// Bytes of the disk that its tables take, where this process can tell.
    fn disk(&self) -> Option<u64> {
        None
    }
}

/// The first key after every key that starts with `prefix`; `None` when there is none (all bytes 0xff).
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end.into())
}

/// The key that follows `key` directly.
pub fn key_after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
