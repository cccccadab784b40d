//! The commit thread: many transactions, one batch, one fsync.
//!
//! Never answers a transaction before the group it belongs to is on disk and visible; even a conflict is told only then, because
//! a retry would read the same picture and meet the same conflict again.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{PersistMode, SeqNo};
use tokio::sync::oneshot;

use super::parts::Parts;
use super::{Files, FjallView, FreeSpace, Published, VERSION_KEY};
use crate::kv::{KvError, Version};
use crate::local::apply::Group;
use crate::local::window::Window;
use crate::local::{Request, View};

/// A group takes no further transaction once it has this many.
const GROUP_JOBS: usize = 4096;
/// ... or this many bytes.
const GROUP_BYTES: usize = 16 << 20;
/// How long the thread looks for the next transaction before it sleeps.
const LINGER: Duration = Duration::from_micros(50);
/// How long a close may wait for the table.
const CLOSE: Duration = Duration::from_secs(5);
/// How long after a failed write, or a failed attempt, the files are opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long that waits for reads of the old state.
const READERS: Duration = Duration::from_secs(5);

/// A transaction that waits for its commit.
pub(super) struct Job {
    pub(super) request: Request<FjallView>,
    pub(super) reply: oneshot::Sender<Result<Version, KvError>>,
}

/// The state of the commit thread.
pub(super) struct Committer {
    files: Files,
    /// `None` while they are being opened again.
    open: Option<Parts>,
    published: Arc<Published>,
    free_space: FreeSpace,
    reserve: u64,
    window: Window,
    /// Published pictures that may still be read from, oldest first.
    views: VecDeque<Weak<FjallView>>,
    last: Version,
    broken: Option<Broken>,
}

/// A write failed: nothing is written until the files have been opened again.
struct Broken {
    /// What writers are told.
    error: KvError,
    /// Batches of the journal from this number on are not durable.
    failed: SeqNo,
    tried: Instant,
}

impl Committer {
    pub(super) fn new(
        files: Files,
        open: Parts,
        published: Arc<Published>,
        free_space: FreeSpace,
        reserve: u64,
    ) -> Self {
        let view = published.view.load_full();
        let last = view.version();
        Self {
            files,
            open: Some(open),
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
        while let Some(first) = self.next(jobs) {
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
        self.close();
    }

    /// The next transaction; `None` when nobody can send any more. Opens the files again meanwhile if a write has failed.
    fn next(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        loop {
            let Some(broken) = &self.broken else { return wait(jobs) };
            let wait = AGAIN.saturating_sub(broken.tried.elapsed());
            if wait.is_zero() {
                self.mend(jobs);
                continue;
            }
            match jobs.recv_timeout(wait) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Opens the files again after a failed write, if that is likely to help. Reads fail meanwhile: a picture of the old state must be gone
    /// before the new one begins, because it owns files that the new one may give other contents.
    fn mend(&mut self, jobs: &Receiver<Job>) {
        // Reads go on from the old state for as long as the disk takes no writes.
        let likely = self.space() == Space::Enough && self.files.probe().is_ok();
        let Some(broken) = &mut self.broken else { return };
        broken.tried = Instant::now();
        let (error, failed) = (broken.error.clone(), broken.failed);
        if !likely {
            return;
        }
        let version = self.published.view.load().version();
        self.published.view.store(Arc::new(FjallView { version, state: None }));
        let end = Instant::now() + READERS;
        loop {
            self.views.retain(|view| view.strong_count() > 0);
            if self.views.is_empty() {
                break;
            }
            if Instant::now() > end {
                tracing::warn!("the store cannot be opened again while old reads go on");
                return;
            }
            // Transactions on their way here hold pictures, too.
            if let Ok(job) = jobs.recv_timeout(Duration::from_millis(1)) {
                let _gone = job.reply.send(Err(error.clone()));
            }
        }
        self.open = None;
        match self.files.open(Some(failed)) {
            Ok((open, view)) if view.version() == version => {
                tracing::info!(%version, "the store is open again after a disk error");
                let view = Arc::new(view);
                self.open = Some(open);
                self.views.push_back(Arc::downgrade(&view));
                self.window = Window::new(version);
                self.last = version;
                self.broken = None;
                self.published.view.store(view);
            }
            Ok((_, view)) => {
                let text = "the store lost acknowledged writes in a disk error; restore it from a backup";
                tracing::error!(expected = %version, found = %view.version(), text);
                self.fail(KvError::Corrupt(text.to_owned()));
            }
            Err(e) => {
                tracing::error!(error = %e, "the store cannot be opened again after a disk error");
                self.fail(e);
            }
        }
    }

    fn fail(&mut self, error: KvError) {
        if let Some(broken) = &mut self.broken {
            broken.error = error;
        }
    }

    /// Writes what is only in the journal into a table and empties the journal, so that the next open need not read it. Durability does
    /// not depend on it.
    fn close(mut self) {
        let Some(open) = self.open.take().filter(|_| self.broken.is_none()) else { return };
        if let Err(e) = open.flush() {
            tracing::warn!(error = %e, "the last writes did not get into a table; the next open reads the journal");
            return;
        }
        let end = Instant::now() + CLOSE;
        while !open.flushed() {
            if Instant::now() > end {
                tracing::warn!("the last writes did not get into a table in time; the next open reads the journal");
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if !open.clean() {
            return;
        }
        // Ends fjall's threads: nobody writes any more.
        drop(open);
        if let Err(e) = self.files.empty_journals() {
            tracing::warn!(error = %e, "the next open reads the journal");
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
        if let Some(broken) = &self.broken {
            return Err(broken.error.clone());
        }
        if space == Space::None || (space == Space::Reclaim && !request.reclaiming) {
            return Err(KvError::Full("the disk of the data directory is full; free some space".to_owned()));
        }
        if let Some(view) = &request.view {
            self.window.check(view.version(), &request.reads)?;
        }
        let version = Version(self.last.0 + 1).max(request.at_least);
        if let Err(e) = group.apply(base, &mut self.window, version, request.mutations) {
            // The group is unusable: nobody in it commits.
            *failed = Some(e.clone());
            return Err(e);
        }
        self.last = version;
        request.write_conflicts.into_iter().for_each(|span| self.window.record(version, span));
        Ok(version)
    }

    /// Makes the group durable, then visible.
    fn write(&mut self, group: Group) -> Result<(), KvError> {
        // While nothing can be written, nothing was admitted.
        if self.broken.is_some() || self.last == self.published.view.load().version() {
            return Ok(());
        }
        let Some(open) = &self.open else {
            return Err(KvError::Unavailable(
                "the store is being opened again after a disk error; try again".to_owned(),
            ));
        };
        let mut batch = open.batch(group.values.len() + 1).durability(Some(PersistMode::SyncAll));
        let keys: Vec<Bytes> = group.values.keys().cloned().collect();
        for (key, value) in group.values {
            open.put(&mut batch, key, value);
        }
        let version = Bytes::copy_from_slice(&self.last.0.to_be_bytes());
        open.put(&mut batch, Bytes::from_static(VERSION_KEY), Some(version));
        if let Err(e) = batch.commit() {
            tracing::error!(error = %e, "a commit failed on disk; the store takes no writes until it has been opened again");
            let full = matches!(&e, fjall::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull);
            let error = if full {
                KvError::Full("the disk of the data directory is full; free some space".to_owned())
            } else {
                KvError::Unavailable(format!(
                    "the disk failed a write ({e}); the store opens its files again; try again"
                ))
            };
            // Every durable batch has a smaller number than the picture that shows it, and this one has no smaller one.
            let failed = self.published.view.load().seqno();
            self.broken = Some(Broken { error, failed, tried: Instant::now() });
            return Err(KvError::Unknown(format!("the disk failed during the commit: {e}")));
        }
        let view = Arc::new(FjallView { version: self.last, state: Some(open.snapshot()) });
        self.views.push_back(Arc::downgrade(&view));
        self.published.view.store(view);
        self.published.groups.fetch_add(1, Ordering::Relaxed);
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

/// The next transaction. A writer that was just answered often comes back at once: looking for it a moment longer spares both sides the
/// kernel's wake-up, which takes longer than the disk on a fast one.
fn wait(jobs: &Receiver<Job>) -> Option<Job> {
    let end = Instant::now() + LINGER;
    while Instant::now() < end {
        match jobs.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
        }
    }
    jobs.recv().ok()
}

/// Which commits the free space allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Enough,
    Reclaim,
    None,
}
