//! An engine whose snapshots last for a few range reads: what takes long on any engine takes too long on this one.
//!
//! Never changes what reads see or commits do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::kv::{Kv, KvError, Mutation, RangeRead, Read, Rows, Transaction, Version, Watch};

/// The engine underneath, with shorter snapshots.
#[derive(Debug)]
pub struct Aging {
    /// The engine underneath.
    pub kv: Arc<dyn Kv>,
    /// Range reads that a transaction may make; later ones are too old.
    pub reads: usize,
}

impl Kv for Aging {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(Tx { tx: self.kv.begin(), left: AtomicUsize::new(self.reads) })
    }
}

struct Tx {
    tx: Box<dyn Transaction>,
    left: AtomicUsize,
}

#[async_trait]
impl Transaction for Tx {
    async fn read_version(&self) -> Result<Version, KvError> {
        self.tx.read_version().await
    }

    async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>, KvError> {
        self.tx.get(key, read).await
    }

    async fn get_range(&self, range: &RangeRead, read: Read) -> Result<Rows, KvError> {
        let had = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        had.map_err(|_| KvError::TooOld)?;
        self.tx.get_range(range, read).await
    }

    fn mutate(&mut self, mutation: Mutation) {
        self.tx.mutate(mutation);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.tx.add_read_conflict(begin, end);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.tx.add_write_conflict(begin, end);
    }

    fn watch(&mut self, key: &[u8]) -> Watch {
        self.tx.watch(key)
    }

    fn reclaiming(&mut self) {
        self.tx.reclaiming();
    }

    async fn commit(self: Box<Self>) -> Result<Version, KvError> {
        self.tx.commit().await
    }
}
