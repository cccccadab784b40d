//! The FoundationDB engine: `--storage=foundationdb:CLUSTER-FILE`, API 7.3, cargo feature `foundationdb`.
//!
//! A thin edge: FoundationDB keeps the laws of [`crate::kv`] itself. What is done here is naming versions (`version << 16 | order`),
//! sorting its error codes by what a caller can do, checking limits before the client library does, and never waiting without an
//! end. Never runs a transaction again by itself; the store does, and knows when it may.

#![allow(clippy::disallowed_types, reason = "the one place that may hold a raw FoundationDB transaction")]

mod advance;
mod cluster_file;
mod error;
mod network;
mod options;
mod tx;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use fdb::options::DatabaseOption;

use crate::kv::{Kv, KvError, Transaction, Version};

pub use options::{OPTIONS, Options};

/// Bits of a version that order the transactions of one commit batch.
const ORDER_BITS: u32 = 16;

/// The engine, connected through a cluster file. Clones share the connection; dropping the last one closes it.
#[derive(Clone)]
pub struct FoundationDb(Arc<Inner>);

struct Inner {
    database: fdb::Database,
    /// What its errors name.
    place: error::Place,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Most often the process ends next.
        network::leave_early();
    }
}

impl FoundationDb {
    /// Opens the database whose coordinators `cluster_file` names. Sends nothing yet: that servers answer shows at the first read.
    ///
    /// # Errors
    /// `Unavailable` with what to do when the file is missing or is no cluster file, when a TLS file cannot be read, when the client
    /// library is too old or refuses an option, and when the process has opened a database with other options of the client.
    pub fn open(cluster_file: impl AsRef<Path>, options: &Options) -> Result<Self, KvError> {
        let cluster_file = cluster_file.as_ref();
        let coordinators = cluster_file::read(cluster_file)?;
        options.check(&coordinators)?;
        network::start(&options.network)?;
        let place = error::Place { cluster_file: cluster_file.to_owned(), timeout: options.timeout };
        let path = cluster_file.to_str().ok_or(KvError::Misuse("the path of a cluster file is UTF-8"))?;
        if path.contains('\0') {
            return Err(KvError::Misuse("the path of a cluster file holds no NUL"));
        }
        let opened = || {
            let database = fdb::Database::new(Some(path))?;
            let timeout = i32::try_from(options.timeout.as_millis()).unwrap_or(i32::MAX);
            database.set_option(DatabaseOption::TransactionTimeout(timeout))?;
            let limit = i32::try_from(crate::kv::MAX_TRANSACTION).unwrap_or(i32::MAX);
            database.set_option(DatabaseOption::TransactionSizeLimit(limit))?;
            Ok(database)
        };
        let database = opened().map_err(|e: fdb::FdbError| place.opening(e))?;
        Ok(Self(Arc::new(Inner { database, place })))
    }
}

impl fmt::Debug for FoundationDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundationDb").field("cluster_file", &self.0.place.cluster_file).finish_non_exhaustive()
    }
}

#[async_trait]
impl Kv for FoundationDb {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(tx::Tx::new(self.0.clone()))
    }

    async fn advance_to(&self, version: Version) -> Result<(), KvError> {
        advance::to(&self.0, version).await
    }

    fn pace(&self) -> u64 {
        1_000_000 << ORDER_BITS
    }
}
