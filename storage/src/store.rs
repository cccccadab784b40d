//! The versioned object store, written once over [`crate::kv`].
//!
//! Objects are bytes under keys. Every commit has one [`Revision`], all of its events carry it, and revisions only grow. `DESIGN.md`
//! states the layout and the commit protocol; `crate::laws::store` runs the laws on every engine. Never looks into an object.

mod commit;
mod error;
mod layout;
mod read;
mod record;
mod tail;
mod types;
mod upkeep;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::kv::{Kv, KvError, Mutation, Read};

pub use commit::{MAX_COMMIT, MAX_OBJECT, MAX_WHO};
pub use error::StoreError;
pub use read::LastChange;
pub use tail::Tail;
pub use types::{Check, Claim, Commit, Event, EventKind, Expect, Key, Op, Page, Retention, Revision, Versioned};

/// The store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    /// With `commits`, names each commit of this handle uniquely.
    nonce: u64,
    commits: AtomicU64,
}

impl Store {
    /// Opens the store that `kv` holds, making it one if it holds nothing.
    ///
    /// # Errors
    /// `WrongFormat` when another layout version wrote it; what the engine says otherwise.
    pub async fn open(kv: Arc<dyn Kv>, clock: Arc<dyn Clock>) -> Result<Store, StoreError> {
        let mut patience = commit::Patience::new();
        loop {
            let mut tx = kv.begin();
            let found = match tx.get(&layout::format(), Read::Serializable).await {
                Ok(found) => found,
                Err(e) => {
                    patience.again(e).await?;
                    continue;
                }
            };
            match found {
                Some(found) if found == layout::FORMAT.as_bytes() => break,
                Some(found) => {
                    return Err(StoreError::WrongFormat {
                        found: String::from_utf8_lossy(&found).chars().take(40).collect(),
                        expected: layout::FORMAT.to_owned(),
                        place: "the store".to_owned(),
                    });
                }
                None => tx.mutate(Mutation::Set(layout::format(), layout::FORMAT.into())),
            }
            match tx.commit().await {
                Ok(_) => break,
                // Writing the same bytes twice is harmless.
                Err(KvError::Unknown(_)) => {}
                Err(e) => patience.again(e).await?,
            }
        }
        Ok(Store(Arc::new(Inner { kv, clock, nonce: rand::random(), commits: AtomicU64::new(0) })))
    }

    fn kv(&self) -> &dyn Kv {
        self.0.kv.as_ref()
    }

    fn new_id(&self) -> [u8; 16] {
        let n = self.0.commits.fetch_add(1, Ordering::Relaxed);
        (u128::from(self.0.nonce) << 64 | u128::from(n)).to_be_bytes()
    }
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
