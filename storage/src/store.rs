//! The versioned object store, written once over [`crate::kv`].
//!
//! Objects are bytes under keys. Every commit has one [`Revision`], all of its events carry it, and revisions only grow. `DESIGN.md`
//! states the layout and the commit protocol; `crate::laws::store` runs the laws on every engine. Never looks into an object.

pub mod backup;
pub mod check;
mod commit;
mod error;
mod layout;
mod list;
mod read;
mod record;
mod sealing;
mod tail;
mod types;
mod upkeep;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::clock::Clock;
use crate::kv::{Kv, KvError, Mutation, RangeRead, Read, Transaction};
use crate::transform::Transform;

pub use commit::{MAX_COMMIT, MAX_OBJECT, MAX_WHO};
pub use error::StoreError;
pub use list::Scanned;
pub use read::LastChange;
pub use sealing::Rewritten;
pub use tail::Tail;
pub use types::{Check, Claim, Commit, Event, EventKind, Expect, Key, Op, Page, Retention, Revision, Versioned};

/// The store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    /// Between objects and rows, if anything.
    transform: Option<Arc<dyn Transform>>,
    /// Revisions that restores skipped. They come to be only while no store is open.
    gaps: Vec<(Revision, Revision)>,
    /// With `commits`, names each commit of this handle uniquely.
    nonce: u64,
    commits: AtomicU64,
}

impl Store {
    /// Opens the store that `kv` holds, making it one if it holds nothing.
    ///
    /// # Errors
    /// `WrongFormat` when another layout version wrote it, `Invalid` when it holds something else, `Corrupt` when a restore into it was not finished; what the engine says otherwise.
    pub async fn open(kv: Arc<dyn Kv>, clock: Arc<dyn Clock>) -> Result<Store, StoreError> {
        Self::open_as(kv, clock, None).await
    }

    async fn open_as(
        kv: Arc<dyn Kv>,
        clock: Arc<dyn Clock>,
        transform: Option<Arc<dyn Transform>>,
    ) -> Result<Store, StoreError> {
        let mut patience = commit::Patience::new();
        let gaps = loop {
            let mut tx = kv.begin();
            let (found, gaps) = match found(tx.as_ref()).await {
                Ok(found) => found,
                Err(read::Failed::Store(e)) => return Err(e),
                Err(read::Failed::Kv(e)) => {
                    patience.again(e).await?;
                    continue;
                }
            };
            match found {
                Some(found) if found == layout::FORMAT.as_bytes() => break gaps,
                Some(found) => {
                    return Err(StoreError::WrongFormat {
                        found: String::from_utf8_lossy(&found).chars().take(40).collect(),
                        expected: layout::FORMAT.to_owned(),
                        place: "the store".to_owned(),
                    });
                }
                None => match foreign(tx.as_ref()).await {
                    Ok(false) => tx.mutate(Mutation::Set(layout::format(), layout::FORMAT.into())),
                    Ok(true) => {
                        let text = "the database holds keys of another program, and nothing was written; give ironkeel one of its own";
                        return Err(StoreError::Invalid(text.to_owned()));
                    }
                    Err(e) => {
                        patience.again(e).await?;
                        continue;
                    }
                },
            }
            match tx.commit().await {
                Ok(_) => break gaps,
                // Writing the same bytes twice is harmless.
                Err(KvError::Unknown(_)) => {}
                Err(e) => patience.again(e).await?,
            }
        };
        Ok(Store(Arc::new(Inner { kv, clock, transform, gaps, nonce: rand::random(), commits: AtomicU64::new(0) })))
    }

    /// Bytes of the disk that the engine's tables take, where it can tell.
    #[must_use]
    pub fn disk(&self) -> Option<u64> {
        self.kv().disk()
    }

    /// The end of the gap that a revision lies in: a restore skipped it, and what it showed then is not part of this store's past.
    fn gap(&self, revision: Revision) -> Option<Revision> {
        self.0.gaps.iter().find(|(from, to)| *from < revision && revision < *to).map(|(_, to)| *to)
    }

    fn kv(&self) -> &dyn Kv {
        self.0.kv.as_ref()
    }

    fn new_id(&self) -> [u8; 16] {
        let n = self.0.commits.fetch_add(1, Ordering::Relaxed);
        (u128::from(self.0.nonce) << 64 | u128::from(n)).to_be_bytes()
    }
}

/// The layout that a store says it has, and the revisions that restores skipped.
async fn found(tx: &dyn Transaction) -> Result<(Option<Bytes>, Vec<(Revision, Revision)>), read::Failed> {
    let format = tx.get(&layout::format(), Read::Serializable).await?;
    // A restore that begins now must not find the store opened.
    if tx.get(&layout::restoring(), Read::Serializable).await?.is_some() {
        return Err(backup::half_restored().into());
    }
    let gaps = tx.get(&layout::gaps(), Read::Serializable).await?;
    let gaps = layout::parse_gaps(gaps.as_deref().unwrap_or_default());
    Ok((format, gaps.ok_or_else(|| StoreError::Corrupt("the list of restores does not decode".to_owned()))?))
}

/// Whether a place without a format holds keys all the same.
async fn foreign(tx: &dyn Transaction) -> Result<bool, KvError> {
    let any = RangeRead::new(Bytes::from_static(&[0]), Bytes::from_static(&[0xff])).limit(1);
    Ok(!tx.get_range(&any, Read::Serializable).await?.rows.is_empty())
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.kv).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers spawn these on runtimes with many threads.
    #[test]
    fn futures_can_be_spawned() {
        fn spawnable<T: Send>(_: impl FnOnce(&'static Store, &'static mut Tail) -> T) {}
        spawnable(|s, _| s.commit(Commit::default()));
        spawnable(|s, _| s.list("pods", None, None, 0));
        spawnable(|s, _| s.get_at(Box::leak(Box::new(Key::new("a", "b", "c"))), Revision(1)));
        spawnable(|s, _| s.history(Box::leak(Box::new(Key::new("a", "b", "c")))));
        spawnable(|s, _| s.compact("pods", Retention::default()));
        spawnable(|s, _| s.expire());
        spawnable(|_, t| t.next());
        spawnable(|_, t| t.catch_up());
    }
}
