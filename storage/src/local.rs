//! What the engines that live in this process share: a transaction that buffers its writes, the conflict window, the
//! application of mutations, and watches.
//!
//! Never decides where bytes are kept: an engine brings a [`View`] to read from and takes [`Request`]s to commit.

pub(crate) mod apply;
pub(crate) mod tx;
pub(crate) mod watches;
pub(crate) mod window;
pub(crate) mod writes;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::kv::{KvError, Mutation, Version, key_after};
use watches::Watches;

/// Something for each of some keys.
pub(crate) type Keys<T> = HashMap<Bytes, T, foldhash::fast::RandomState>;

/// Rows of a range in order, read lazily.
pub(crate) type RowIter<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), KvError>> + Send + 'a>;

/// An immutable picture of all keys as of one version.
pub(crate) trait View: Send + Sync + 'static {
    /// The version shown: the picture holds exactly the commits up to it.
    fn version(&self) -> Version;
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;
    /// Rows with `begin <= key < end`; `reverse` from the end.
    fn range(&self, begin: &[u8], end: &[u8], reverse: bool) -> RowIter<'_>;
}

/// Keys that were read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Span {
    /// One key.
    Key(Bytes),
    /// `begin <= key < end`.
    Range(Bytes, Bytes),
}

/// A transaction handed over to be committed.
pub(crate) struct Request<V> {
    /// What its reads saw. Held until the commit is decided, so that the conflict window reaches back far enough.
    pub(crate) view: Option<Arc<V>>,
    pub(crate) reads: Vec<Span>,
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) write_conflicts: Vec<Span>,
    pub(crate) reclaiming: bool,
    /// The least version that the commit may have.
    pub(crate) at_least: Version,
}

impl<V> Request<V> {
    /// One that reads and writes nothing, and that a full disk does not keep out.
    fn reclaiming() -> Self {
        Self {
            view: None,
            reads: Vec::new(),
            mutations: Vec::new(),
            write_conflicts: Vec::new(),
            reclaiming: true,
            at_least: Version(0),
        }
    }
}

/// A point where a faulty engine may interfere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Read,
    Commit,
}

/// An engine in this process.
#[async_trait]
pub(crate) trait Engine: Send + Sync + Debug + 'static {
    type View: View;
    /// The newest picture. Covers every acknowledged commit.
    fn view(&self) -> Arc<Self::View>;
    fn watches(&self) -> &Watches;
    /// Commits and answers only after the commit is durable and visible.
    async fn submit(&self, request: Request<Self::View>) -> Result<Version, KvError>;
    /// Whether [`Engine::pause`] does anything.
    fn pauses(&self) -> bool {
        false
    }
    /// Lets faults happen.
    async fn pause(&self, _at: Point) -> Result<(), KvError> {
        Ok(())
    }
}

/// Rows that [`clear`] removes in one commit.
const CLEAR: usize = 500;

/// Removes every row with `begin <= key < end`, some hundred in a commit, which others come between.
pub(crate) async fn clear<E: Engine>(engine: &E, mut begin: Bytes, end: Bytes) -> Result<(), KvError> {
    loop {
        let mut mutations = Vec::with_capacity(CLEAR);
        for row in engine.view().range(&begin, &end, false).take(CLEAR) {
            mutations.push(Mutation::Clear(row?.0));
        }
        let Some(Mutation::Clear(last)) = mutations.last() else { return Ok(()) };
        begin = key_after(last);
        engine.submit(Request { mutations, ..Request::reclaiming() }).await?;
    }
}

/// Makes the engine's next version at least `version`, by a commit that writes nothing.
pub(crate) async fn advance<E: Engine>(engine: &E, version: Version) -> Result<(), KvError> {
    if engine.view().version() >= version {
        return Ok(());
    }
    engine.submit(Request { at_least: version, ..Request::reclaiming() }).await.map(drop)
}
