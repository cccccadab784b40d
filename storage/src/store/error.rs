//! Errors of the store, sorted by what the caller can do about them.

use std::sync::Arc;

use crate::kv::KvError;
use crate::store::types::{Key, Revision, Versioned};

/// Why the store did not do as asked. Except for [`StoreError::MaybeCommitted`], a failed commit left nothing behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A key does not hold what the commit expected: read again and decide again.
    #[error("{key} does not hold what was expected")]
    Expectation {
        /// Which key.
        key: Key,
        /// What it holds; without its bytes if they cannot be decrypted.
        found: Option<Versioned>,
    },
    /// Another owner has the item: choose another.
    #[error("{item} of {pool} belongs to {owner}")]
    Claimed {
        /// Which pool.
        pool: Arc<str>,
        /// Which item.
        item: Arc<str>,
        /// Who has it.
        owner: Key,
    },
    /// The log no longer reaches back that far: list again and go on from there.
    #[error("the log begins after revision {oldest}")]
    Compacted {
        /// The oldest revision from which the log is whole.
        oldest: Revision,
    },
    /// The revision lies ahead of the store: wait, or the caller is confused.
    #[error("the revision lies ahead of the store, which is at {latest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// Where the store is.
        latest: Revision,
    },
    /// The request can never be stored: make it smaller.
    #[error("{what} has {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The request breaks a rule of the store (a NUL in a name, a key written twice): fix the caller.
    #[error("{0}")]
    Invalid(String),
    /// Nothing was written and nothing is wrong with the request: try later.
    #[error("{0}")]
    Unavailable(String),
    /// No space for writes; reads go on. Make space.
    #[error("{0}")]
    Full(String),
    /// The commit may or may not have happened: read to find out.
    #[error("{0}")]
    MaybeCommitted(String),
    /// An object cannot be encrypted: wait for the key service, or mend the encryption configuration. Nothing was written.
    #[error("unable to transform key \"/registry/{key}\": {why}")]
    NotSealed {
        /// Which object.
        key: Key,
        /// What the transform said.
        why: String,
    },
    /// An object cannot be decrypted: mend the encryption configuration, or its key service; or discard the object.
    #[error("unable to transform key \"/registry/{key}\": {why}")]
    Transform {
        /// Which object.
        key: Key,
        /// What the transform said.
        why: String,
    },
    /// The log tells of a deletion, and what was deleted cannot be decrypted: list again and go on from there.
    #[error(
        "saw a DELETED event, but object data is corrupt - data from the storage is not transformable revision=0: {why}"
    )]
    Lost {
        /// Which object.
        key: Key,
        /// What the transform said.
        why: String,
    },
    /// Stored bytes do not decode: restore from a backup.
    #[error("{0}")]
    Corrupt(String),
    /// The data are of another format version: use the version of Ironkeel that wrote them.
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

impl From<KvError> for StoreError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Conflict | KvError::TooOld => Self::Unavailable(error.to_string()),
            KvError::Unknown(m) => Self::MaybeCommitted(m),
            KvError::Unavailable(m) => Self::Unavailable(m),
            KvError::Full(m) => Self::Full(m),
            KvError::TooLarge { what, size, limit } => Self::TooLarge { what, size, limit },
            KvError::Misuse(m) => Self::Invalid(m.to_owned()),
            KvError::Corrupt(m) => Self::Corrupt(m),
            KvError::WrongFormat { found, expected, place } => Self::WrongFormat { found, expected, place },
            KvError::Locked(m) => Self::Locked(m),
        }
    }
}
