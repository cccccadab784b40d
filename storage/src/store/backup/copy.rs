//! Reads a store into a backup, one block at a time, while others write.
//!
//! An engine that keeps a snapshot for as long as it is read gives one picture. Another takes the snapshot away after seconds: then the copy goes on with
//! a fresh one from the next row. The log is read after everything that it can undo, so a restore can take back what was written in between. A
//! large object's parts are read in the snapshot of the record that names them. Never writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::file::{Header, Writer};
use super::items::{Item, ORDER};
use super::{BackupError, ShortLived, Summary, half_restored};
use crate::clock::Clock;
use crate::kv::{Kv, KvError, RangeRead, Read, Transaction, Version, key_after};
use crate::store::Store;
use crate::store::commit::Patience;
use crate::store::error::StoreError;
use crate::store::layout;
use crate::store::types::Revision;

/// Rows read at once.
const ROWS: usize = 200;
/// Rows of the store that are not copied: they follow from the others.
const DERIVED: &[u8] = b"BHNWX";

/// A backup that is being taken. Dropped early, it leaves nothing behind.
pub struct Backup {
    kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    short: ShortLived,
    cut_every: usize,
    state: State,
}

enum State {
    New,
    Copying(Box<Copying>),
    Done,
}

struct Copying {
    tx: Box<dyn Transaction>,
    /// Rows read in this snapshot.
    rows: usize,
    writer: Writer,
    /// Tags still to be copied, and where the first of them goes on.
    tags: &'static [u8],
    next: Bytes,
    summary: Summary,
    /// Revision and time of the first change after the oldest revision that can be restored.
    first: Option<(Revision, u64)>,
    floors: BTreeMap<Arc<str>, Revision>,
    /// Where the log that was met last begins in this snapshot.
    cut: Option<(Arc<str>, Revision)>,
}

impl Store {
    /// Begins a backup of the store.
    pub fn backup(&self, short: ShortLived) -> Backup {
        Backup::new(self.0.kv.clone(), self.0.clock.clone(), short)
    }
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("kv", &self.kv).finish_non_exhaustive()
    }
}

impl Backup {
    /// Begins a backup of the store that `kv` holds.
    pub fn new(kv: Arc<dyn Kv>, clock: Arc<dyn Clock>, short: ShortLived) -> Self {
        Self { kv, clock, short, cut_every: 0, state: State::New }
    }

    /// Gives every snapshot up after this many rows, as an engine that keeps none for long makes it happen by itself.
    #[must_use]
    pub fn cut_every(mut self, rows: usize) -> Self {
        self.cut_every = rows;
        self
    }

    /// The next bytes of the file; `None` after the last ones. A file without them is no backup and is refused.
    ///
    /// # Errors
    /// `Outrun` when the log was cut faster than it was copied; those of the store. The backup is of no use then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => Ok(None),
            State::New => {
                let (copying, first) = self.begin().await?;
                self.state = State::Copying(Box::new(copying));
                Ok(Some(first))
            }
            State::Copying(mut copying) => match self.go_on(&mut copying).await? {
                Some(bytes) => {
                    self.state = State::Copying(copying);
                    Ok(Some(bytes))
                }
                None => self.end(*copying).map(Some),
            },
        }
    }

    async fn begin(&self) -> Result<(Copying, Bytes), BackupError> {
        let mut patience = Patience::new();
        loop {
            match self.try_begin().await {
                Ok(begun) => return Ok(begun),
                Err(Again::Kv(e)) => patience.again(e).await?,
                Err(Again::Backup(e)) => return Err(e),
            }
        }
    }

    async fn try_begin(&self) -> Result<(Copying, Bytes), Again> {
        let tx = self.kv.begin();
        // Before anything else is read: every row is then at least as new as this revision.
        let revision = Revision(tx.read_version().await?.0);
        let at = self.clock.unix_millis();
        if tx.get(&layout::restoring(), Read::Snapshot).await?.is_some() {
            return Err(half_restored().into());
        }
        match tx.get(&layout::format(), Read::Snapshot).await? {
            Some(found) if found == layout::FORMAT.as_bytes() => {}
            Some(found) => {
                return Err(StoreError::WrongFormat {
                    found: String::from_utf8_lossy(&found).chars().take(40).collect(),
                    expected: layout::FORMAT.to_owned(),
                    place: "the store".to_owned(),
                }
                .into());
            }
            None => {
                return Err(
                    StoreError::Invalid("there is no store to back up: it was never written to".to_owned()).into()
                );
            }
        }
        self.only_known(tx.as_ref()).await?;
        let floors = floors(tx.as_ref()).await?;
        let header = Header { format: layout::FORMAT.to_owned(), revision, at, pace: self.kv.pace() };
        let (writer, first) = Writer::begin(&header);
        let summary = Summary { oldest: self.oldest(&floors), latest: revision, latest_at: at, ..Summary::default() };
        let next = ORDER.get(..1).map(Bytes::from_static).unwrap_or_default();
        Ok((Copying { tx, rows: 0, writer, tags: ORDER, next, summary, first: None, floors, cut: None }, first))
    }

    /// The oldest revision that the logs reach back to, short ones left aside.
    fn oldest(&self, floors: &BTreeMap<Arc<str>, Revision>) -> Revision {
        floors.iter().filter(|(resource, _)| !(self.short)(resource)).map(|(_, floor)| *floor).max().unwrap_or_default()
    }

    /// A row of a kind that this code does not know would be missing in the backup.
    async fn only_known(&self, tx: &dyn Transaction) -> Result<(), Again> {
        let mut tags: Vec<u8> = ORDER.iter().chain(DERIVED).copied().collect();
        tags.sort_unstable();
        let mut begin = 0;
        for tag in tags.into_iter().chain([0xff]) {
            if begin < tag {
                let gap = RangeRead::new(vec![begin], vec![tag]).limit(1);
                if let Some((key, _)) = tx.get_range(&gap, Read::Snapshot).await?.rows.first() {
                    let text = format!(
                        "the store holds the row {}, which is of no known kind; use the version of ironkeel that wrote it",
                        key.escape_ascii()
                    );
                    return Err(StoreError::Corrupt(text).into());
                }
            }
            begin = tag.saturating_add(1);
        }
        Ok(())
    }

    /// The next block; `None` when every row is copied.
    async fn go_on(&self, copying: &mut Copying) -> Result<Option<Bytes>, BackupError> {
        let mut patience = Patience::new();
        while let Some(tag) = copying.tags.first().copied() {
            let before = copying.next.clone();
            match self.page(copying, tag).await {
                Ok(Some(block)) => return Ok(Some(block)),
                Ok(None) => patience = Patience::new(),
                Err(Again::Backup(e)) => return Err(e),
                Err(Again::Kv(e)) => {
                    if copying.next != before {
                        patience = Patience::new();
                    }
                    patience.again(e).await?;
                    copying.fresh(&self.kv);
                }
            }
        }
        Ok(None)
    }

    /// Copies some rows; ends early when a block is full.
    async fn page(&self, copying: &mut Copying, tag: u8) -> Result<Option<Bytes>, Again> {
        if self.cut_every != 0 && copying.rows >= self.cut_every {
            copying.fresh(&self.kv);
        }
        let limit = if self.cut_every == 0 { ROWS } else { self.cut_every.min(ROWS) };
        let read = RangeRead::new(copying.next.clone(), vec![tag + 1]).limit(limit);
        let page = copying.tx.get_range(&read, Read::Snapshot).await?;
        copying.rows += page.rows.len().max(1);
        let mut blocks = Vec::new();
        for (key, value) in &page.rows {
            let item = Item::parse(key, value).ok_or_else(|| {
                let text = format!("the row {} does not decode; `ironkeel check` says more", key.escape_ascii());
                Again::from(StoreError::Corrupt(text))
            })?;
            if let Item::Log { key: of, place, .. } = &item
                && place.revision <= copying.floor(&of.resource).await?
            {
                // Cut off, and not yet removed; its parts may be gone.
                copying.next = key_after(key);
                continue;
            }
            let mut parts = Vec::new();
            for (range, length) in item.parts() {
                let rows = crate::store::read::range(copying.tx.as_ref(), range).await?;
                if rows.iter().map(|(_, part)| part.len()).sum::<usize>() != length {
                    let text =
                        format!("the object of the row {} lacks parts; `ironkeel check` says more", key.escape_ascii());
                    return Err(StoreError::Corrupt(text).into());
                }
                parts.extend(rows);
            }
            // From here on nothing fails that could be tried again, so no row is copied twice.
            copying.next = key_after(key);
            for (key, value) in std::iter::once((key, value)).chain(parts.iter().map(|(key, value)| (key, value))) {
                copying.summary.rows += 1;
                copying.summary.bytes += u64::try_from(key.len() + value.len()).unwrap_or(0);
                blocks.extend(copying.writer.row(key, value).map_err(Again::Backup)?);
            }
            self.note(copying, item);
            if !blocks.is_empty() {
                return Ok(Some(blocks.concat().into()));
            }
        }
        if !page.more {
            copying.tags = copying.tags.get(1..).unwrap_or_default();
            copying.next = copying.tags.get(..1).map(Bytes::from_static).unwrap_or_default();
        }
        Ok(None)
    }

    fn note(&self, copying: &mut Copying, item: Item) {
        match item {
            Item::Current { .. } => copying.summary.objects += 1,
            Item::Log { key, place, entry } => {
                copying.summary.changes += 1;
                let place = place.revision;
                if place > copying.summary.oldest
                    && place <= copying.summary.latest
                    && copying.first.is_none_or(|(first, _)| place < first)
                    && !(self.short)(&key.resource)
                {
                    copying.first = Some((place, entry.at));
                }
            }
            Item::Floor { resource, floor } => {
                copying.floors.insert(resource, floor);
            }
            Item::Claim | Item::Meta | Item::Change { .. } => {}
        }
    }

    fn end(&self, copying: Copying) -> Result<Bytes, BackupError> {
        let Copying { writer, mut summary, first, floors, .. } = copying;
        summary.oldest = self.oldest(&floors);
        if summary.oldest > summary.latest {
            let cut = floors.iter().find(|(resource, floor)| **floor > summary.latest && !(self.short)(resource));
            return Err(BackupError::Outrun(cut.map_or_else(String::new, |(resource, _)| resource.to_string())));
        }
        summary.oldest_at = first.map_or(summary.latest_at, |(_, at)| at);
        writer.end(summary)
    }
}

impl Copying {
    /// Where a log begins in the snapshot.
    async fn floor(&mut self, resource: &Arc<str>) -> Result<Revision, Again> {
        if self.cut.as_ref().is_none_or(|(of, _)| of != resource) {
            let floor = self.tx.get(&layout::floor(resource), Read::Snapshot).await?;
            let floor = floor.as_deref().and_then(Version::from_stamp).map_or(Revision(0), |v| Revision(v.0));
            self.cut = Some((resource.clone(), floor));
        }
        Ok(self.cut.as_ref().map_or(Revision(0), |(_, floor)| *floor))
    }

    fn fresh(&mut self, kv: &Arc<dyn Kv>) {
        self.tx = kv.begin();
        self.cut = None;
        self.rows = 0;
    }
}

async fn floors(tx: &dyn Transaction) -> Result<BTreeMap<Arc<str>, Revision>, Again> {
    let mut floors = BTreeMap::new();
    for (key, value) in crate::store::read::range(tx, Bytes::from_static(b"F")..Bytes::from_static(b"G")).await? {
        if let Some(Item::Floor { resource, floor }) = Item::parse(&key, &value) {
            floors.insert(resource, floor);
        }
    }
    Ok(floors)
}

/// A step failed: run it again on a fresh snapshot, or give up.
enum Again {
    Kv(KvError),
    Backup(BackupError),
}

impl From<KvError> for Again {
    fn from(e: KvError) -> Self {
        Self::Kv(e)
    }
}

impl From<StoreError> for Again {
    fn from(e: StoreError) -> Self {
        Self::Backup(e.into())
    }
}
