//! The embedded engine: fjall on the local disk with group commit.
//!
//! Callers check conflicts in memory, one after the other, and give each transaction its version; one thread writes all that have gathered
//! as one fjall batch with one fsync. While it syncs, the next group gathers; nobody waits on a timer. Readers use the picture
//! published after each group and take no lock. Reads run on the caller's thread and may touch the disk.
//!
//! Never acknowledges before the fsync has returned, never shows a commit before it is durable, and never goes on writing after a
//! failed write or fsync: what was not durable is cut off and the files are opened again first.

mod commit;
mod dir;
mod journal;
mod parts;
mod queue;
mod release;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use fjall::SeqNo;
use parking_lot::Mutex;

use crate::kv::{Kv, KvError, Transaction, Version};
use crate::local::tx::Tx;
use crate::local::watches::Watches;
use crate::local::{self, Engine, Request, RowIter, View};
use commit::Committer;
use parts::{Parts, Picture};
use queue::{Admitted, Queue};

/// Keys from here on belong to the engine.
const RESERVED: u8 = 0xff;
/// Holds the last version as 8 big-endian bytes; part of every batch.
const VERSION_KEY: &[u8] = b"\xff/version";

/// Tells how many bytes are free on the disk.
pub type FreeSpace = Arc<dyn Fn() -> std::io::Result<u64> + Send + Sync>;

/// How the engine runs.
#[derive(Clone)]
pub struct Options {
    /// Writes are refused below this many free bytes, so that flushes and compactions never meet a full disk; commits that free
    /// space go on down to half of it.
    pub reserve: u64,
    /// Bytes of block cache.
    pub cache: u64,
    /// Bytes of objects that are gathered in memory before they go into a table of their own; fixed when the store is made. As much
    /// again is gathered of the log.
    pub memtable: u64,
    /// How free space is found; `None` asks the file system.
    pub free_space: Option<FreeSpace>,
}

impl Default for Options {
    fn default() -> Self {
        Self { reserve: 256 << 20, cache: 64 << 20, memtable: 16 << 20, free_space: None }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("reserve", &self.reserve)
            .field("cache", &self.cache)
            .field("memtable", &self.memtable)
            .finish_non_exhaustive()
    }
}

/// The engine, open on a directory. Dropping it waits for running commits and closes the directory.
#[derive(Debug, Clone)]
pub struct Embedded(Arc<Inner>);

/// What readers and the committer share.
struct Published {
    view: ArcSwap<FjallView>,
    watches: Watches,
    groups: AtomicU64,
}

struct Inner {
    path: PathBuf,
    published: Arc<Published>,
    queue: Arc<Queue>,
    committer: Arc<Mutex<Committer>>,
    thread: Option<JoinHandle<()>>,
    // Last, so that the directory is unlocked after everything in it is closed.
    lock: File,
}

impl Embedded {
    /// Opens `path`, creating the directory and an empty store if there is none.
    ///
    /// # Errors
    /// `Locked` when another process has it open, `WrongFormat` for data of another version, `Corrupt` for damaged data or a
    /// directory that holds something else, `Unavailable` when the operating system refuses. Nothing is overwritten.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, KvError> {
        let path = path.as_ref().to_owned();
        let lock = dir::lock(&path)?;
        let data = dir::prepare(&path, |new| open_parts(new, options).map(drop))?;
        let files = Files { data, options: options.clone() };
        let (open, view) = files.open(None)?;
        let published =
            Published { view: ArcSwap::from_pointee(view), watches: Watches::default(), groups: AtomicU64::new(0) };
        let published = Arc::new(published);
        let free_space = options.free_space.clone().unwrap_or_else(|| dir::free_space(path.clone()));
        let queue = Arc::new(Queue::new(published.clone(), free_space, options.reserve));
        let committer = Committer::new(files, open, published.clone(), queue.clone());
        let committer = Arc::new(Mutex::new(committer));
        let thread = std::thread::Builder::new()
            .name("storage-commit".to_owned())
            .spawn({
                let (committer, queue) = (committer.clone(), queue.clone());
                move || commit::run(&committer, &queue)
            })
            .map_err(|e| KvError::Unavailable(format!("no thread for commits: {e}")))?;
        Ok(Self(Arc::new(Inner { path, published, queue, committer, thread: Some(thread), lock })))
    }

    /// How many groups of transactions have been made durable since the open, each with one fsync.
    pub fn groups(&self) -> u64 {
        self.0.published.groups.load(Ordering::Relaxed)
    }
}

/// The files, and how to open them again.
struct Files {
    data: PathBuf,
    options: Options,
}

impl Files {
    /// Whether the disk takes a write again.
    fn probe(&self) -> std::io::Result<()> {
        dir::probe(self.data.parent().unwrap_or(&self.data))
    }

    /// Empties the journals. All that is in them must be in tables.
    fn empty_journals(&self) -> std::io::Result<()> {
        journal::empty(&self.data)
    }

    /// Opens fjall. Batches of the journal from number `failed` on are cut off first: they follow a failed write, and nobody was told of them.
    fn open(&self, failed: Option<SeqNo>) -> Result<(Parts, FjallView), KvError> {
        journal::check(&self.data, failed)?;
        let parts = open_parts(&self.data, &self.options)?;
        let picture = parts.snapshot();
        let record = picture.get(VERSION_KEY)?;
        let version = match record {
            None => Version(0),
            Some(bytes) => match bytes.as_ref().try_into() {
                Ok(bytes) => Version(u64::from_be_bytes(bytes)),
                Err(_) => {
                    let text =
                        format!("{}: the version record is damaged; restore it from a backup", self.data.display());
                    return Err(KvError::Corrupt(text));
                }
            },
        };
        Ok((parts, FjallView { version, state: Some(picture) }))
    }
}

fn open_parts(path: &Path, options: &Options) -> Result<Parts, KvError> {
    // fjall panics on some kinds of damage.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Parts::open(path, options))) {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(fjall::Error::Locked)) => Err(KvError::Locked(path.display().to_string())),
        Ok(Err(fjall::Error::Io(e))) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(KvError::Unavailable(format!("cannot open {}: {e}", path.display())))
        }
        Ok(Err(fjall::Error::InvalidVersion(found))) => Err(KvError::WrongFormat {
            found: found.map_or("of an unknown engine".to_owned(), |v| format!("of engine {v:?}")),
            expected: format!("of engine {:?}", fjall::FormatVersion::V3),
            place: path.display().to_string(),
        }),
        Ok(Err(e)) => Err(KvError::Corrupt(format!("{} is damaged ({e}); restore it from a backup", path.display()))),
        Err(_) => Err(KvError::Corrupt(format!("{} is damaged; restore it from a backup", path.display()))),
    }
}

fn read_error(e: &fjall::Error) -> KvError {
    match e {
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => {
            KvError::Unavailable(format!("the disk failed a read: {e}"))
        }
        e => KvError::Corrupt(format!("the data on disk are damaged: {e}")),
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The committer ends after what was already admitted.
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the commit thread had panicked");
        }
        if let Err(e) = self.lock.unlock() {
            tracing::warn!(path = %self.path.display(), error = %e, "the data directory stays locked until the process ends");
        }
    }
}

/// All keys as of one version.
pub(crate) struct FjallView {
    version: Version,
    /// `None` while the files are being opened again.
    state: Option<Picture>,
}

impl FjallView {
    fn state(&self) -> Result<&Picture, KvError> {
        let closed =
            || KvError::Unavailable("the store is being opened again after a disk error; try again".to_owned());
        self.state.as_ref().ok_or_else(closed)
    }

    /// Every batch that it shows has a smaller number.
    fn seqno(&self) -> SeqNo {
        self.state.as_ref().map_or(SeqNo::MAX, Picture::seqno)
    }
}

impl View for FjallView {
    fn version(&self) -> Version {
        self.version
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        if key.is_empty() || key.first() == Some(&RESERVED) {
            return Ok(None);
        }
        self.state()?.get(key)
    }

    fn range(&self, begin: &[u8], end: &[u8], reverse: bool) -> RowIter<'_> {
        let end = end.min([RESERVED].as_slice());
        if begin >= end {
            return Box::new(std::iter::empty());
        }
        match self.state() {
            Ok(picture) => picture.range(begin, end, reverse),
            Err(e) => Box::new(std::iter::once(Err(e))),
        }
    }
}

#[async_trait]
impl Engine for Inner {
    type View = FjallView;

    fn view(&self) -> Arc<FjallView> {
        self.published.view.load_full()
    }

    fn watches(&self) -> &Watches {
        &self.published.watches
    }

    async fn submit(&self, request: Request<FjallView>) -> Result<Version, KvError> {
        let Admitted { answer, lead } = self.queue.submit(request)?;
        if lead {
            commit::lead(&self.committer, &self.queue);
        }
        // A sender dropped without an answer: the thread died with the group in hand.
        answer.await.unwrap_or_else(|_| Err(KvError::Unknown("the commit thread died during the commit".to_owned())))
    }
}

#[async_trait]
impl Kv for Embedded {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(Tx::new(self.0.clone()))
    }

    async fn advance_to(&self, version: Version) -> Result<(), KvError> {
        local::advance(self.0.as_ref(), version).await
    }

    async fn discard(&self, begin: Bytes, end: Bytes) -> Result<(), KvError> {
        let empty = || Ok::<_, KvError>(self.0.view().range(&begin, &end, false).next().transpose()?.is_none());
        if empty()? {
            return Ok(());
        }
        let (view, range) = (self.0.view(), (begin.clone(), end.clone()));
        let dropped = tokio::task::spawn_blocking(move || view.state()?.drop_tables(&range.0, &range.1));
        dropped.await.unwrap_or_else(|e| Err(KvError::Unavailable(format!("tables were not dropped: {e}"))))?;
        // Rows that share a table with others.
        local::clear(self.0.as_ref(), begin, end).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.0.published.view.load().get(key)
    }

    fn disk(&self) -> Option<u64> {
        self.0.published.view.load().state().ok().map(Picture::disk)
    }
}
