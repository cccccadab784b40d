//! Lists: one state, however long the reading takes.
//!
//! An engine keeps a snapshot for seconds (FoundationDB: five), and a long list takes longer. So a list reads on in a new transaction
//! where its snapshot ends, and takes back what has changed since its revision: the log names every change after it, and keeps what
//! each one replaced. What the first change of a key after the revision replaced is what the key held at the revision; a key without one
//! holds it still. Never returns rows of two states, and never reads a row again that it has.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::commit::Patience;
use super::error::StoreError;
use super::layout::{self, Slot};
use super::read::{self, Failed};
use super::record::{Before, Current};
use super::types::{Key, Page, Revision, Versioned};
use super::{Store, tail};
use crate::kv::{RangeRead, Read, Transaction, key_after};

/// Rows that are read before other tasks get a turn.
const ROWS: usize = 500;
/// Rows that a scan reads first, and the bytes that it hands on at once after that, about.
const FIRST: usize = 64;
const PIECE: usize = 1 << 20;
/// How often a list begins again because the log was cut under it.
const RESTARTS: u32 = 5;

impl Store {
    /// Objects of a resource, or of one namespace of it, in key order after `after`; `limit` 0 is no limit. All of it as of one revision.
    ///
    /// # Errors
    /// `Unavailable` when the log is cut again and again while the list is read; what the engine says otherwise.
    pub async fn list(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let all = layout::current_range(resource, namespace);
        let begin = match after {
            Some(key) => key_after(&layout::current(key)).max(all.start),
            None => all.start,
        };
        if begin >= all.end {
            return Ok(Page { items: Vec::new(), revision: self.read_revision().await?, more: false });
        }
        let mut list = Listing::new(resource, begin, all.end, limit);
        let more = list.whole(self, None).await?;
        Ok(Page { items: list.items, revision: list.at, more })
    }

    /// All objects of a resource as of one revision, which is returned, some at a time: nobody holds all of them twice. Who takes them slowly
    /// slows the reading.
    ///
    /// # Errors
    /// As `list`; `Unavailable` as well when nobody takes them any more.
    pub async fn scan(&self, resource: &str, out: mpsc::Sender<Scanned>) -> Result<Revision, StoreError> {
        let all = layout::current_range(resource, None);
        let mut list = Listing { rows: FIRST, ..Listing::new(resource, all.start, all.end, 0) };
        list.whole(self, Some(&out)).await?;
        Ok(list.at)
    }
}

/// A piece of a scan.
#[derive(Debug)]
pub enum Scanned {
    /// The next objects, in key order.
    Objects(Vec<(Key, Versioned)>),
    /// All that came before is void: the scan begins again, at a later revision.
    Anew,
}

/// A list that is being read.
struct Listing<'a> {
    resource: &'a str,
    start: Bytes,
    end: Bytes,
    limit: usize,
    /// The revision that is listed; decided by the first transaction.
    at: Revision,
    /// The log is known up to here.
    seen: Revision,
    /// What keys held at `at` that were changed after it; `None` for nothing.
    held: BTreeMap<Bytes, Option<Before>>,
    /// Everything before this key is in `items`.
    next: Bytes,
    items: Vec<(Key, Versioned)>,
    restarts: u32,
    /// Rows of a page, at most.
    rows: usize,
    /// It has begun again, which is not told yet.
    anew: bool,
}

/// Where an object of the list comes from.
enum Source {
    Row(Bytes),
    Replaced(Before),
}

impl<'a> Listing<'a> {
    fn new(resource: &'a str, start: Bytes, end: Bytes, limit: usize) -> Self {
        Self {
            resource,
            next: start.clone(),
            start,
            end,
            limit,
            at: Revision(0),
            seen: Revision(0),
            held: BTreeMap::new(),
            items: Vec::new(),
            restarts: 0,
            rows: ROWS,
            anew: false,
        }
    }

    fn begin(&mut self, at: Revision) {
        self.anew = self.at != Revision(0);
        self.at = at;
        self.seen = at;
        self.held.clear();
        self.items.clear();
        self.next = self.start.clone();
    }

    /// Reads to the end, in as many transactions as it takes. Returns whether objects follow the last one.
    async fn whole(&mut self, store: &Store, out: Option<&mpsc::Sender<Scanned>>) -> Result<bool, StoreError> {
        let mut patience = Patience::new();
        loop {
            let had = self.next.clone();
            match self.read(store, out).await {
                Ok(more) => return Ok(more),
                Err(Failed::Store(e)) => return Err(e),
                Err(Failed::Kv(e)) => {
                    if self.next > had {
                        patience = Patience::new();
                    }
                    patience.again(e).await?;
                }
            }
        }
    }

    /// Hands on what was read.
    async fn hand(&mut self, out: Option<&mpsc::Sender<Scanned>>) -> Result<(), StoreError> {
        let Some(out) = out else { return Ok(()) };
        let gone = |_| StoreError::Unavailable("nobody takes the objects of a scan".into());
        if std::mem::take(&mut self.anew) {
            out.send(Scanned::Anew).await.map_err(gone)?;
        }
        if self.items.is_empty() {
            return Ok(());
        }
        let bytes: usize = self.items.iter().map(|(_, object)| object.bytes.len()).sum();
        self.rows = (PIECE * self.items.len() / bytes.max(1)).clamp(1, ROWS);
        out.send(Scanned::Objects(std::mem::take(&mut self.items))).await.map_err(gone)
    }

    /// Reads on in one transaction, to the end or until the engine refuses. Returns whether objects follow the last one.
    async fn read(&mut self, store: &Store, out: Option<&mpsc::Sender<Scanned>>) -> Result<bool, Failed> {
        let tx = store.kv().begin();
        let tx = tx.as_ref();
        let now = Revision(tx.read_version().await?.0);
        if self.next == self.start {
            self.begin(now);
        } else if read::floor(tx, self.resource, Read::Snapshot).await? > self.at {
            self.restarts += 1;
            if self.restarts > RESTARTS {
                let text = format!(
                    "the log of {} is cut faster than a list of it can be read; keep more history, or try again",
                    self.resource
                );
                return Err(StoreError::Unavailable(text).into());
            }
            self.begin(now);
        } else {
            self.catch_up(tx).await?;
        }
        loop {
            let end = self.page(store, tx).await?;
            self.hand(out).await?;
            if let Some(more) = end {
                return Ok(more);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Learns of the changes that were made since the log was last read.
    async fn catch_up(&mut self, tx: &dyn Transaction) -> Result<(), Failed> {
        loop {
            let entries = tail::entries(tx, self.resource, self.seen).await?;
            let Some((_, last, _)) = entries.last() else { return Ok(()) };
            self.seen = last.revision;
            for (key, _, entry) in entries {
                self.held.entry(layout::current(&key)).or_insert(entry.before);
            }
        }
    }

    /// Reads some rows; `Some` at the end, with whether objects follow the last one.
    async fn page(&mut self, store: &Store, tx: &dyn Transaction) -> Result<Option<bool>, Failed> {
        let left = if self.limit == 0 { self.rows } else { self.limit.saturating_sub(self.items.len()) };
        // A page that was cut short may have filled the limit: one row more tells whether there is more.
        let range = RangeRead::new(self.next.clone(), self.end.clone()).limit(left.clamp(1, ROWS));
        let page = tx.get_range(&range, Read::Snapshot).await?;
        let covered = match page.rows.last() {
            Some((last, _)) if page.more => key_after(last),
            Some(_) | None => self.end.clone(),
        };
        let mut rows: Vec<(Bytes, Source)> = page.rows.into_iter().map(|(k, row)| (k, Source::Row(row))).collect();
        let mut changed = self.held.range(self.next.clone()..covered.clone()).peekable();
        if changed.peek().is_some() {
            let mut merged: BTreeMap<Bytes, Source> = rows.into_iter().collect();
            for (key, before) in changed {
                match before {
                    Some(before) => merged.insert(key.clone(), Source::Replaced(before.clone())),
                    None => merged.remove(key),
                };
            }
            rows = merged.into_iter().collect();
        }
        for (row_key, source) in rows {
            let key = layout::parse_current(&row_key, self.items.last().map(|(k, _)| k));
            let key = key.ok_or_else(|| StoreError::Corrupt("a key does not decode".to_owned()))?;
            let (place, body) = match source {
                Source::Row(row) => {
                    let current = Current::parse(row)?;
                    (current.place, current.body)
                }
                Source::Replaced(before) => (before.place, before.body),
            };
            let bytes = read::body(store, tx, &key, place, Slot::Put, body).await?;
            self.items.push((key, Versioned { revision: place.revision, bytes }));
            // A page of large objects may outlive the snapshot as well: what was read of it stays read.
            self.next = key_after(&row_key);
        }
        self.next = covered;
        let cut = self.limit != 0 && self.items.len() > self.limit;
        if cut {
            self.items.truncate(self.limit);
        }
        if cut || !page.more || (self.limit != 0 && self.items.len() >= self.limit) {
            return Ok(Some(cut || page.more));
        }
        Ok(None)
    }
}
