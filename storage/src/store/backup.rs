//! Backup and restore: the store as one file, and a store from that file, as of any revision that its log reaches back to.
//!
//! `copy` reads a store, `file` is the format, `items` reads a file record by record, `restore` writes a store. `DESIGN.md` says why a copy whose parts are
//! read at different versions is still one consistent state. Object bytes are copied as they are stored and never looked at.

mod copy;
mod file;
pub(super) mod items;
mod restore;

use super::error::StoreError;
use super::types::Revision;
use crate::kv::KvError;

pub use copy::Backup;
pub use file::SUMMARY;
pub use restore::{Point, Restored, Source};

/// Tells the resources whose past may be incomplete, like Events: their log is cut after minutes. A point in time may lie before what their log
/// knows; a restore then keeps those of their objects that are known to have been so, and leaves out the rest.
pub type ShortLived = fn(resource: &str) -> bool;

/// What a backup holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Current objects.
    pub objects: u64,
    /// Changes in the log.
    pub changes: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values, uncompressed.
    pub bytes: u64,
    /// The oldest revision that can be restored.
    pub oldest: Revision,
    /// The time of the first change after it, Unix milliseconds; that of the backup if there is none.
    pub oldest_at: u64,
    /// The revision of the backup.
    pub latest: Revision,
    /// The time of the backup, Unix milliseconds.
    pub latest_at: u64,
}

/// What to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The state at the time of the backup.
    Latest,
    /// The state that this revision left.
    Revision(Revision),
    /// The state at this time, Unix milliseconds: before the first change that was made later by its writer's clock.
    Time(u64),
}

/// Why a backup or a restore was not done, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is none: give another.
    #[error("this is no backup of a cluster ({0}); give a file that `ironkeel backup` wrote")]
    NotABackup(&'static str),
    /// A later program wrote it: use that one.
    #[error(
        "the backup has format {found}, and this version of ironkeel reads format {expected}; restore it with the version that wrote it"
    )]
    Newer {
        /// Its format.
        found: String,
        /// What is read here.
        expected: String,
    },
    /// Bytes are missing or wrong: take another copy.
    #[error("the backup is damaged or cut short at byte {at} ({what}); use another copy of it, or an older backup")]
    Damaged {
        /// Where in the file.
        at: u64,
        /// What is wrong there.
        what: String,
    },
    /// The file cannot be read.
    #[error("the backup cannot be read")]
    Read(#[from] std::io::Error),
    /// The backup does not reach there: name another point.
    #[error("{wanted} is outside of what the backup can restore: revisions {} to {}", known.oldest, known.latest)]
    OutOfRange {
        /// The point that was asked for.
        wanted: String,
        /// What there is.
        known: Summary,
    },
    /// The store holds something: give an empty one.
    #[error("the store holds data already, and a restore overwrites nothing; name an empty place for it")]
    NotEmpty,
    /// The log was cut while it was copied: keep more of it, or try again.
    #[error("the log of {0} was cut during the backup; try again, or let the server keep more history")]
    Outrun(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<KvError> for BackupError {
    fn from(error: KvError) -> Self {
        Self::Store(error.into())
    }
}

/// A sentence for a store whose restore was not finished.
pub(super) fn half_restored() -> StoreError {
    StoreError::Corrupt("a restore into this store was not finished; run `ironkeel restore` into it again".to_owned())
}
