//! The commit thread: many transactions, one batch, one fsync.
//!
//! Never answers a transaction before the group it belongs to is on disk and visible; even a conflict is told only then, because
//! a retry would read the same picture and meet the same conflict again.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};
use tokio::sync::oneshot;

use super::{FjallView, FreeSpace, Published, VERSION_KEY};
use crate::kv::{KvError, Version};
use crate::local::apply::Group;
use crate::local::window::Window;
use crate::local::{Request, View};

/// A group takes no further transaction once it has this many.
const GROUP_JOBS: usize = 4096;
/// ... or this many bytes.
const GROUP_BYTES: usize = 16 << 20;

/// A transaction that waits for its commit.
pub(super) struct Job {
    pub(super) request: Request<FjallView>,
    pub(super) reply: oneshot::Sender<Result<Version, KvError>>,
}

/// The state of the commit thread.
pub(super) struct Committer {
    database: Database,
    keyspace: Keyspace,
    published: Arc<Published>,
    free_space: FreeSpace,
    reserve: u64,
    window: Window,
    /// Published pictures that may still be read from, oldest first.
    views: VecDeque<Weak<FjallView>>,
    last: Version,
    /// Why nothing can be written any more.
    broken: Option<KvError>,
}

impl Committer {
    pub(super) fn new(
        database: Database,
        keyspace: Keyspace,
        published: Arc<Published>,
        free_space: FreeSpace,
        reserve: u64,
    ) -> Self {
        let view = published.view.load_full();
        let last = view.version();
        Self {
            database,
            keyspace,
            free_space,
            reserve,
            window: Window::new(last),
            views: VecDeque::from([Arc::downgrade(&view)]),
            last,
            broken: None,
            published,
        }
    }

    /// Commits until nobody can send any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut answers = Vec::new();
        while let Ok(first) = jobs.recv() {
            let base = self.published.view.load_full();
            let space = self.space();
            let mut group = Group::default();
            let mut failed = None;
            let mut next = Some(first);
            while let Some(Job { request, reply }) = next {
                let result = self.admit(&base, &mut group, space, request, &mut failed);
                answers.push((reply, result));
                let go_on = failed.is_none() && answers.len() < GROUP_JOBS && group.bytes < GROUP_BYTES;
                next = if go_on { jobs.try_recv().ok() } else { None };
            }
            drop(base);
            let written = match failed {
                Some(e) => Err(e),
                None => self.write(group),
            };
            for (reply, result) in answers.drain(..) {
                let result = match (&written, result) {
                    (Err(e), Ok(_)) => Err(e.clone()),
                    (_, result) => result,
                };
                // A caller that went away is not interested.
                let _gone = reply.send(result);
            }
            self.forget();
        }
    }

    /// Decides one transaction and adds it to the group.
    fn admit(
        &mut self,
        base: &FjallView,
        group: &mut Group,
        space: Space,
        request: Request<FjallView>,
        failed: &mut Option<KvError>,
    ) -> Result<Version, KvError> {
        if let Some(e) = &self.broken {
            return Err(e.clone());
        }
        if space == Space::None || (space == Space::Reclaim && !request.reclaiming) {
            return Err(KvError::Full("the disk of the data directory is full; free some space".to_owned()));
        }
        if let Some(view) = &request.view {
            self.window.check(view.version(), &request.reads)?;
        }
        let version = Version(self.last.0 + 1);
        let mut written = match group.apply(base, version, request.mutations) {
            Ok(written) => written,
            Err(e) => {
                // The group is unusable: nobody in it commits.
                *failed = Some(e.clone());
                return Err(e);
            }
        };
        self.last = version;
        written.extend(request.write_conflicts);
        self.window.record(version, written);
        Ok(version)
    }

    /// Makes the group durable, then visible.
    fn write(&mut self, group: Group) -> Result<(), KvError> {
        if self.last == self.published.view.load().version() {
            return Ok(());
        }
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), group.values.len() + 1)
            .durability(Some(PersistMode::SyncAll));
        let keys: Vec<Bytes> = group.values.keys().cloned().collect();
        for (key, value) in group.values {
            match value {
                Some(value) => batch.insert(&self.keyspace, key, value),
                None => batch.remove(&self.keyspace, key),
            }
        }
        batch.insert(&self.keyspace, VERSION_KEY, self.last.0.to_be_bytes());
        if let Err(e) = batch.commit() {
            tracing::error!(error = %e, "a commit failed on disk; the store takes no more writes until it is opened again");
            let full = matches!(&e, fjall::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull);
            self.broken = Some(if full {
                KvError::Full("the disk became full during a commit; free some space and restart the server".to_owned())
            } else {
                KvError::Unavailable(format!("the store takes no writes after a disk error ({e}); restart the server"))
            });
            return Err(KvError::Unknown(format!("the disk failed during the commit: {e}")));
        }
        let view = Arc::new(FjallView {
            version: self.last,
            snapshot: self.database.snapshot(),
            keyspace: self.keyspace.clone(),
        });
        self.views.push_back(Arc::downgrade(&view));
        self.published.view.store(view);
        self.published.watches.notify(keys.iter());
        Ok(())
    }

    /// Forgets the writes that no running transaction can conflict with.
    fn forget(&mut self) {
        while let Some(oldest) = self.views.front() {
            match oldest.upgrade() {
                Some(view) => {
                    self.window.forget(view.version());
                    return;
                }
                None => {
                    self.views.pop_front();
                }
            }
        }
    }

    fn space(&self) -> Space {
        match (self.free_space)() {
            Ok(free) if free >= self.reserve => Space::Enough,
            Ok(free) if free >= self.reserve / 2 => Space::Reclaim,
            Ok(_) => Space::None,
            // Not knowing is no reason to stop.
            Err(_) => Space::Enough,
        }
    }
}

/// Which commits the free space allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Enough,
    Reclaim,
    None,
}
