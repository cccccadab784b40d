//! The transaction of in-process engines: reads from a picture, buffers writes, hands both over at commit.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::writes::Writes;
use super::{Engine, Point, Request, Span, View};
use crate::kv::{KvError, Mutation, RangeRead, Read, Rows, Transaction, Version, Watch, key_after};

/// A transaction on engine `E`.
pub(crate) struct Tx<E: Engine> {
    engine: Arc<E>,
    view: OnceLock<Arc<E::View>>,
    reads: Mutex<Vec<Span>>,
    writes: Writes,
    write_conflicts: Vec<Span>,
    reclaiming: bool,
}

impl<E: Engine> Tx<E> {
    pub(crate) fn new(engine: Arc<E>) -> Self {
        Self {
            engine,
            view: OnceLock::new(),
            reads: Mutex::default(),
            writes: Writes::default(),
            write_conflicts: Vec::new(),
            reclaiming: false,
        }
    }

    fn view(&self) -> &Arc<E::View> {
        self.view.get_or_init(|| self.engine.view())
    }

    fn get_now(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let base = self.view().get(key)?;
        if self.writes.0.is_empty() { Ok(base) } else { self.writes.over(key, base) }
    }

    fn range_now(&self, range: &RangeRead, read: Read) -> Result<Rows, KvError> {
        if range.begin > range.end {
            return Err(KvError::Misuse("a range begins after its end"));
        }
        let base = self.view().range(&range.begin, &range.end, range.reverse);
        let mut iter = self.writes.over_range(&range.begin, &range.end, range.reverse, base);
        let mut rows = Vec::new();
        let mut more = false;
        for row in iter.by_ref() {
            if range.limit != 0 && rows.len() == range.limit {
                row?;
                more = true;
                break;
            }
            rows.push(row?);
        }
        if read == Read::Serializable {
            let span = match rows.last() {
                Some((last, _)) if more && range.reverse => Span::Range(last.clone(), range.end.clone()),
                Some((last, _)) if more => Span::Range(range.begin.clone(), key_after(last)),
                _ => Span::Range(range.begin.clone(), range.end.clone()),
            };
            self.reads.lock().push(span);
        }
        Ok(Rows { rows, more })
    }
}

#[async_trait]
impl<E: Engine> Transaction for Tx<E> {
    async fn read_version(&self) -> Result<Version, KvError> {
        if self.engine.pauses() {
            self.engine.pause(Point::Read).await?;
        }
        Ok(self.view().version())
    }

    async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>, KvError> {
        if self.engine.pauses() {
            self.engine.pause(Point::Read).await?;
        }
        if read == Read::Serializable {
            self.reads.lock().push(Span::Key(Bytes::copy_from_slice(key)));
        }
        self.get_now(key)
    }

    async fn get_range(&self, range: &RangeRead, read: Read) -> Result<Rows, KvError> {
        if self.engine.pauses() {
            self.engine.pause(Point::Read).await?;
        }
        self.range_now(range, read)
    }

    fn mutate(&mut self, mutation: Mutation) {
        self.writes.0.push(mutation);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        // The range counts as read at this transaction's snapshot, which therefore must exist.
        self.view();
        self.reads.get_mut().push(Span::Range(begin, end));
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.write_conflicts.push(Span::Range(begin, end));
    }

    fn watch(&mut self, key: &[u8]) -> Watch {
        // Subscribed before the comparison: a change is either seen by the comparison or wakes the receiver.
        let mut changes = self.engine.watches().subscribe(key);
        let seen = self.get_now(key);
        let engine = self.engine.clone();
        let key = Bytes::copy_from_slice(key);
        Box::pin(async move {
            // A value that cannot be known (stamped by this transaction) counts as changed.
            let Ok(seen) = seen else { return Ok(()) };
            while engine.view().get(&key)? == seen {
                if changes.changed().await.is_err() {
                    return Err(KvError::Unavailable("the engine is closed".to_owned()));
                }
            }
            Ok(())
        })
    }

    fn reclaiming(&mut self) {
        self.reclaiming = true;
    }

    async fn commit(self: Box<Self>) -> Result<Version, KvError> {
        let this = *self;
        if this.writes.0.is_empty() && this.write_conflicts.is_empty() {
            return Ok(this.view().version());
        }
        let reads = this.reads.into_inner();
        let spans = reads.iter().chain(&this.write_conflicts);
        this.writes.check(spans.map(span_len).sum())?;
        if this.engine.pauses() {
            this.engine.pause(Point::Commit).await?;
        }
        this.engine
            .submit(Request {
                view: this.view.into_inner(),
                reads,
                mutations: this.writes.0,
                write_conflicts: this.write_conflicts,
                reclaiming: this.reclaiming,
                at_least: Version(0),
            })
            .await
    }
}

fn span_len(span: &Span) -> usize {
    match span {
        Span::Key(k) => k.len(),
        Span::Range(a, b) => a.len() + b.len(),
    }
}
