//! Writing: one group of transactions, one batch, one fsync, by the commit thread or by a caller who is alone.
//!
//! Never answers a transaction before the group it belongs to is on disk and visible; even a conflict is told only then, because
//! a retry would read the same picture and meet the same conflict again.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{PersistMode, SeqNo};
use parking_lot::Mutex;

use super::parts::Parts;
use super::queue::{Answer, Flight, Next, Queue, Space};
use super::{Files, FjallView, Published, VERSION_KEY};
use crate::kv::{KvError, Version};
use crate::local::View;
use crate::local::apply::Rows;

/// How long a close may wait for the table.
const CLOSE: Duration = Duration::from_secs(5);
/// How long after a failed write, or a failed attempt, the files are opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long that waits for reads of the old state.
const READERS: Duration = Duration::from_secs(5);

/// Who writes holds it.
pub(super) struct Committer {
    files: Files,
    /// `None` while they are being opened again.
    open: Option<Parts>,
    published: Arc<Published>,
    queue: Arc<Queue>,
    /// Published pictures that may still be read from, oldest first.
    views: VecDeque<Weak<FjallView>>,
    broken: Option<Broken>,
}

/// A write failed: nothing is written until the files have been opened again.
struct Broken {
    /// Batches of the journal from this number on are not durable.
    failed: SeqNo,
    tried: Instant,
}

impl Committer {
    pub(super) fn new(files: Files, open: Parts, published: Arc<Published>, queue: Arc<Queue>) -> Self {
        let views = VecDeque::from([Arc::downgrade(&published.view.load_full())]);
        Self { files, open: Some(open), published, queue, views, broken: None }
    }

    /// Writes the open group, if somebody waits for it.
    pub(super) fn turn(&mut self) {
        if let Some(flight) = self.queue.take() {
            self.fly(flight);
        }
    }

    /// How long to wait for the next attempt to open the files again.
    fn patience(&self) -> Option<Duration> {
        self.broken.as_ref().map(|b| AGAIN.saturating_sub(b.tried.elapsed()))
    }

    /// Makes a group durable, then visible, then tells those who wait for it.
    fn fly(&mut self, Flight { rows, version, answers }: Flight) {
        let begun = Instant::now();
        let (rows, unusable) = match rows {
            Ok(rows) => (rows, None),
            // Its versions are spent and its writes remembered: without a commit at the last of them, those who read what it would have
            // written conflict with it for ever.
            Err(error) => (Arc::default(), Some(error)),
        };
        let failed = unusable.or(self.write(&rows, version).err());
        if self.broken.is_none() {
            let oldest = self.oldest();
            self.queue.landed(answers.len(), begun.elapsed(), oldest);
        }
        tell(answers, failed.as_ref());
    }

    /// Opens the files again after a failed write, if that is likely to help. Reads fail meanwhile: a picture of the old state must be gone
    /// before the new one begins, because it owns files that the new one may give other contents.
    fn mend(&mut self) {
        // Reads go on from the old state for as long as the disk takes no writes.
        let likely = self.queue.space() == Space::Enough && self.files.probe().is_ok();
        let Some(broken) = &mut self.broken else { return };
        broken.tried = Instant::now();
        let failed = broken.failed;
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
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.open = None;
        match self.files.open(Some(failed)) {
            Ok((open, view)) if view.version() == version => {
                tracing::info!(%version, "the store is open again after a disk error");
                let view = Arc::new(view);
                self.open = Some(open);
                self.views.push_back(Arc::downgrade(&view));
                self.broken = None;
                self.published.view.store(view);
                self.queue.mended(version);
            }
            Ok((_, view)) => {
                let text = "the store lost acknowledged writes in a disk error; restore it from a backup";
                tracing::error!(expected = %version, found = %view.version(), text);
                self.refuse(&KvError::Corrupt(text.to_owned()));
            }
            Err(e) => {
                tracing::error!(error = %e, "the store cannot be opened again after a disk error");
                self.refuse(&e);
            }
        }
    }

    /// Tells writers `error` from now on.
    fn refuse(&self, error: &KvError) {
        tell(self.queue.broke(error), Some(error));
    }

    /// Writes what is only in the journal into a table and empties the journal, so that the next open need not read it. Durability does
    /// not depend on it.
    fn close(&mut self) {
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

    /// Makes rows durable, then visible as `version`.
    fn write(&mut self, rows: &Rows, version: Version) -> Result<(), KvError> {
        // Conflicts alone leave nothing to write.
        if version == self.published.view.load().version() {
            return Ok(());
        }
        let again = || KvError::Unavailable("the store is being opened again after a disk error; try again".to_owned());
        let open = self.open.as_mut().ok_or_else(again)?;
        open.look();
        let mut batch = open.batch(rows.len() + 1).durability(Some(PersistMode::SyncAll));
        for (key, value) in rows {
            open.put(&mut batch, key.clone(), value.clone());
        }
        let record = Bytes::copy_from_slice(&version.0.to_be_bytes());
        open.put(&mut batch, Bytes::from_static(VERSION_KEY), Some(record));
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
            self.broken = Some(Broken { failed, tried: Instant::now() });
            self.refuse(&error);
            return Err(KvError::Unknown(format!("the disk failed during the commit: {e}")));
        }
        let view = Arc::new(FjallView { version, state: Some(open.snapshot()) });
        self.views.push_back(Arc::downgrade(&view));
        self.published.view.store(view);
        self.published.groups.fetch_add(1, Ordering::Relaxed);
        self.published.watches.notify(rows.iter().map(|(key, _)| key));
        Ok(())
    }

    /// The version of the oldest picture that may still be read from.
    fn oldest(&mut self) -> Option<Version> {
        while let Some(oldest) = self.views.front() {
            if let Some(view) = oldest.upgrade() {
                return Some(view.version());
            }
            self.views.pop_front();
        }
        None
    }
}

/// Tells everybody what was decided, or that the whole group failed.
fn tell(answers: Vec<Answer>, failed: Option<&KvError>) {
    for (reply, outcome) in answers {
        let outcome = match (failed, outcome) {
            (Some(error), Ok(_)) => Err(error.clone()),
            (_, outcome) => outcome,
        };
        // A caller that went away is not interested.
        let _gone = reply.send(outcome);
    }
}

/// The commit thread: writes until nobody can submit any more.
pub(super) fn run(committer: &Mutex<Committer>, queue: &Queue) {
    let abandon = Abandon(queue);
    loop {
        let patience = committer.lock().patience();
        match queue.wait(patience) {
            Next::Take => committer.lock().turn(),
            Next::Look => committer.lock().mend(),
            Next::Close => break,
        }
    }
    committer.lock().close();
    std::mem::forget(abandon);
}

/// A caller writes its own group.
pub(super) fn lead(committer: &Mutex<Committer>, queue: &Queue) {
    let abandon = Abandon(queue);
    committer.lock().turn();
    std::mem::forget(abandon);
    queue.led();
}

/// After a panic nobody waits any longer.
struct Abandon<'a>(&'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
