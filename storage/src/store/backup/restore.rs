//! Fills an empty store from a backup, as of a revision in it.
//!
//! The file is read whole and checked before anything is written. What was changed after the point is taken back with the log's own entries: the state of a
//! key is what its first later change replaced, or the current object when there is none. Until the last row is written the store carries a
//! mark under which nothing opens it. Never writes over anything but a restore that was not finished.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;

use super::file::{Header, Mark, Reader};
use super::items::{Item, Items, Row};
use super::{At, BackupError, ShortLived, Summary};
use crate::clock::Clock;
use crate::kv::{Kv, KvError, Mutation, RangeRead, Read as Reading, Version, key_after};
use crate::store::commit::Patience;
use crate::store::error::StoreError;
use crate::store::layout::{self, Place};
use crate::store::record::{Before, Current};
use crate::store::types::{EventKind, Key, Revision};

/// Bytes after which a transaction ends. Well below the engine's limit, and enough for one fsync to be worth it.
const BYTES: usize = 2 << 20;
/// Rows after which a transaction ends.
const ROWS: usize = 5_000;
/// Seconds of the source's fastest pace that new revisions stay clear of, beside those that have passed since the backup.
const CLEARANCE: u64 = 3600;

/// A backup that has been read whole and found good.
pub struct Source<R> {
    input: R,
    header: Header,
    summary: Summary,
    floors: HashMap<Arc<str>, Revision>,
    /// Where the log begins in the file.
    log: Option<Mark>,
    /// The largest revision in the file.
    highest: Revision,
    short: ShortLived,
}

/// A revision that a backup can restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Everything up to here is restored.
    pub revision: Revision,
    /// The time of the last change up to here, Unix milliseconds; `None` when the log does not hold it.
    pub at: Option<u64>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Objects that are there now.
    pub objects: u64,
    /// Changes that the log holds now.
    pub changes: u64,
    /// Bytes of keys and values written.
    pub bytes: u64,
    /// New revisions are larger than this one.
    pub after: Revision,
    /// Objects of short-lived resources that were left out, because the log does not say what they were at the point.
    pub left_out: BTreeMap<Arc<str>, u64>,
}

/// What is taken back.
#[derive(Default)]
struct Undo {
    /// Keys that changed after the point.
    objects: HashSet<Key>,
    /// Allocations that did, with the first change and the value before it.
    claims: HashMap<Bytes, (Place, Bytes)>,
}

impl<R> std::fmt::Debug for Source<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl<R: Read + Seek> Source<R> {
    /// Reads a backup from its beginning to its end. Reads block.
    ///
    /// # Errors
    /// `NotABackup`, `Newer`, `Damaged`, `Read`.
    pub fn verify(mut input: R, short: ShortLived) -> Result<Self, BackupError> {
        input.seek(SeekFrom::Start(0))?;
        let (reader, header) = Reader::open(&mut input)?;
        if header.format != layout::FORMAT {
            return Err(BackupError::Newer {
                found: format!("{} of the store", header.format.chars().take(40).collect::<String>()),
                expected: layout::FORMAT.to_owned(),
            });
        }
        let mut items = Items::new(reader);
        let (mut floors, mut log, mut highest) = (HashMap::new(), None, header.revision);
        while let Some((item, ..)) = items.next()? {
            match item {
                Item::Current { current, .. } => highest = highest.max(current.place.revision),
                Item::Log { place, .. } => {
                    log.get_or_insert_with(|| items.mark());
                    highest = highest.max(place.revision);
                }
                Item::Change { place, .. } => highest = highest.max(place.revision),
                Item::Floor { resource, floor } => {
                    floors.insert(resource, floor);
                }
                Item::Claim | Item::Meta => {}
            }
        }
        let summary = items.reader().end().filter(|end| end.rows == items.reader().count());
        let summary = summary.ok_or_else(|| items.reader().damaged("the number of rows does not match"))?;
        Ok(Self { input, header, summary, floors, log, highest, short })
    }

    /// What the backup holds.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    fn log(&mut self) -> Result<Option<Items<&mut R>>, BackupError> {
        let Some(mark) = self.log.clone() else { return Ok(None) };
        self.input.seek(SeekFrom::Start(mark.at))?;
        Ok(Some(Items::new(Reader::resume(&mut self.input, mark))))
    }

    /// Calls `each` with every record from the log on.
    fn walk_log(&mut self, mut each: impl FnMut(Item)) -> Result<(), BackupError> {
        let Some(mut items) = self.log()? else { return Ok(()) };
        let mut next = items.skip_to_log()?;
        while let Some((item, ..)) = next {
            each(item);
            next = items.next()?;
        }
        Ok(())
    }

    /// The revision that `at` means.
    ///
    /// # Errors
    /// `OutOfRange` for a point that the backup cannot restore; those of reading.
    pub fn point(&mut self, at: At) -> Result<Point, BackupError> {
        let known = self.summary;
        let outside = |wanted: String| BackupError::OutOfRange { wanted, known };
        let revision = match at {
            At::Latest => known.latest,
            At::Revision(revision) if revision < known.oldest || revision > known.latest || revision.0 == 0 => {
                return Err(outside(format!("revision {revision}")));
            }
            At::Revision(revision) => revision,
            At::Time(millis) => {
                let refused = || outside("the time".to_owned());
                if millis < known.oldest_at || millis > known.latest_at {
                    return Err(refused());
                }
                let mut later = None::<Revision>;
                self.walk_log(|item| {
                    if let Item::Log { place, entry, .. } = item
                        && entry.at > millis
                        && place.revision <= known.latest
                        && later.is_none_or(|first| place.revision < first)
                    {
                        later = Some(place.revision);
                    }
                })?;
                let revision = later.map_or(known.latest, |first| Revision(first.0.saturating_sub(1)));
                if revision < known.oldest || revision.0 == 0 {
                    return Err(refused());
                }
                revision
            }
        };
        let mut last = None::<(Place, u64)>;
        self.walk_log(|item| {
            if let Item::Log { place, entry, .. } = item
                && place.revision <= revision
                && last.is_none_or(|(newest, _)| newest < place)
            {
                last = Some((place, entry.at));
            }
        })?;
        Ok(Point { revision, at: last.map(|(_, at)| at) })
    }

    /// Where the log of a resource begins.
    fn floor(&self, resource: &str) -> Revision {
        self.floors.get(resource).copied().unwrap_or_default()
    }

    fn undo(&mut self, point: Revision) -> Result<Undo, BackupError> {
        let floors = self.floors.clone();
        // The log cannot take back what is not in it any more: that concerns short-lived resources only, and `keeps` deals with it.
        let later = |resource: &str, place: Place| {
            place.revision > point.max(floors.get(resource).copied().unwrap_or_default())
        };
        let mut undo = Undo::default();
        self.walk_log(|item| match item {
            Item::Log { key, place, .. } if later(&key.resource, place) => {
                undo.objects.insert(key);
            }
            Item::Change { resource, place, claim, before } if later(&resource, place) => {
                let first = undo.claims.entry(claim).or_insert_with(|| (place, before.clone()));
                if place < first.0 {
                    *first = (place, before);
                }
            }
            _ => {}
        })?;
        Ok(undo)
    }

    /// Writes the state at `point` into the store that `kv` holds. `progress` is told how many of the backup's rows have been worked through.
    ///
    /// # Errors
    /// `NotEmpty`, and nothing was written; those of reading and of the store, and then a restore is begun and not finished: the store refuses to open
    /// until a restore into it has ended well.
    pub async fn restore(
        &mut self,
        kv: &dyn Kv,
        clock: &dyn Clock,
        point: Point,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Restored, BackupError>
    where
        R: Send,
    {
        let undo = self.undo(point.revision)?;
        let mut target = Target::prepare(kv).await?;
        let mut filter = Filter {
            point: point.revision,
            undo,
            done: HashSet::new(),
            logs: BTreeMap::new(),
            gaps: Bytes::new(),
            restored: Restored { objects: 0, changes: 0, bytes: 0, after: Revision(0), left_out: BTreeMap::new() },
        };
        self.input.seek(SeekFrom::Start(0))?;
        let (floors, short) = (self.floors.clone(), self.short);
        let (reader, _) = Reader::open(&mut self.input)?;
        let mut items = Items::new(reader);
        while let Some((item, row, parts)) = items.next()? {
            let floor = match &item {
                Item::Current { key, .. } | Item::Log { key, .. } => floors.get(&key.resource),
                Item::Change { resource, .. } | Item::Floor { resource, .. } => floors.get(resource),
                Item::Claim | Item::Meta => None,
            };
            filter.take(item, row, parts, floor.copied().unwrap_or_default(), short, &mut target)?;
            if target.is_full() {
                target.flush().await?;
                progress(items.reader().count());
            }
        }
        for (claim, (_, before)) in filter.undo.claims.drain() {
            if !before.is_empty() {
                target.put(claim, before);
            }
        }
        let mut resources: BTreeMap<Arc<str>, (u64, Revision)> = filter.logs;
        for resource in floors.keys() {
            resources.entry(resource.clone()).or_default();
        }
        for (resource, (count, last)) in resources {
            let floor = self.floor(&resource).min(point.revision);
            let stamp = |revision: Revision| Bytes::copy_from_slice(&Version(revision.0).stamp());
            if floor > Revision(0) {
                target.put(layout::floor(&resource), stamp(floor));
            }
            target.put(layout::count(&resource), Bytes::copy_from_slice(&count.to_le_bytes()));
            target.put(layout::wake(&resource), stamp(last.max(floor)));
        }
        target.flush().await?;
        progress(self.summary.rows);

        let passed = clock.unix_millis().saturating_sub(self.header.at) / 1000;
        let clear = self.header.pace.saturating_mul(passed.saturating_add(CLEARANCE));
        let after = self.highest.max(self.header.revision).0.saturating_add(clear);
        advance(kv, Version(after)).await?;
        target.finish(&filter.gaps, point.revision, Revision(after)).await?;
        Ok(Restored { bytes: target.written, after: Revision(after), ..filter.restored })
    }
}

async fn advance(kv: &dyn Kv, version: Version) -> Result<(), BackupError> {
    let mut patience = Patience::new();
    loop {
        match kv.advance_to(version).await {
            Ok(()) => return Ok(()),
            // Whether it happened shows at the next call.
            Err(KvError::Unknown(_)) => patience.again(KvError::Conflict).await?,
            Err(e) => patience.again(e).await?,
        }
    }
}

/// Decides record by record what belongs to the state at the point.
struct Filter {
    point: Revision,
    undo: Undo,
    /// Keys whose first later change has been met.
    done: HashSet<Key>,
    /// Entries and last revision of each resource's log.
    logs: BTreeMap<Arc<str>, (u64, Revision)>,
    gaps: Bytes,
    restored: Restored,
}

impl Filter {
    fn take(
        &mut self,
        item: Item,
        (row, value): Row,
        parts: Vec<Row>,
        floor: Revision,
        short: ShortLived,
        target: &mut Target<'_>,
    ) -> Result<(), BackupError> {
        match item {
            Item::Current { key, current } => {
                if !self.undo.objects.contains(&key) && self.keeps(&key, current.place, floor, short)? {
                    self.object(target, &key, &current, value, parts);
                }
            }
            Item::Claim => {
                if !self.undo.claims.contains_key(&row) {
                    target.put(row, value);
                }
            }
            Item::Meta if row == layout::gaps() => self.gaps = value,
            Item::Meta if row == layout::format() || row == layout::restoring() => {}
            Item::Meta => target.put(row, value),
            // A compaction removed it while the log was copied.
            Item::Log { place, .. } | Item::Change { place, .. } if place.revision <= floor => {}
            Item::Log { key, place, entry } if place.revision <= self.point => {
                let log = self.logs.entry(key.resource.clone()).or_default();
                *log = (log.0 + 1, log.1.max(place.revision));
                self.restored.changes += 1;
                if entry.kind != EventKind::Created {
                    let ordinal = Bytes::copy_from_slice(&place.ordinal.to_be_bytes());
                    target.put(layout::history(&key, place.revision), ordinal);
                }
                target.put(row, value);
                parts.into_iter().for_each(|(key, value)| target.put(key, value));
            }
            Item::Log { key, entry, .. } => {
                if self.done.insert(key.clone())
                    && let Some(Before { place, body }) = entry.before
                    && self.keeps(&key, place, floor, short)?
                {
                    let own = layout::parts(&key.resource, place, layout::Slot::Put);
                    let parts = parts.into_iter().filter(|(part, _)| own.contains(part)).collect();
                    let current = Current { place, expires: entry.expires, body };
                    let value = current.bytes();
                    self.object(target, &key, &current, value, parts);
                }
            }
            Item::Change { place, .. } if place.revision <= self.point => target.put(row, value),
            Item::Change { .. } | Item::Floor { .. } => {}
        }
        Ok(())
    }

    /// Whether a state belongs to the point. One that is younger shows that the log was cut; only short-lived resources may.
    fn keeps(&mut self, key: &Key, place: Place, floor: Revision, short: ShortLived) -> Result<bool, BackupError> {
        if place.revision <= self.point {
            return Ok(true);
        }
        if floor <= self.point || !short(&key.resource) {
            let what = format!("the records of {key} contradict each other");
            return Err(BackupError::Damaged { at: 0, what });
        }
        *self.restored.left_out.entry(key.resource.clone()).or_default() += 1;
        Ok(false)
    }

    fn object(&mut self, target: &mut Target<'_>, key: &Key, current: &Current, value: Bytes, parts: Vec<Row>) {
        self.restored.objects += 1;
        if current.expires != 0 {
            target.put(layout::expiry(current.expires, key), Bytes::new());
        }
        target.put(layout::current(key), value);
        parts.into_iter().for_each(|(key, value)| target.put(key, value));
    }
}

/// A store that is being filled.
struct Target<'a> {
    kv: &'a dyn Kv,
    /// This restore's name: a store is filled by one at a time.
    mark: Bytes,
    rows: Vec<Mutation>,
    bytes: usize,
    written: u64,
}

impl<'a> Target<'a> {
    /// Marks an empty store, or takes over one that is marked and empties it.
    async fn prepare(kv: &'a dyn Kv) -> Result<Self, BackupError> {
        let mark = Bytes::copy_from_slice(&rand::random::<u128>().to_be_bytes());
        let mut patience = Patience::new();
        loop {
            match claim(kv, &mark).await {
                Ok(true) => break,
                Ok(false) => return Err(BackupError::NotEmpty),
                Err(KvError::Unknown(_)) => patience.again(KvError::Conflict).await?,
                Err(e) => patience.again(e).await?,
            }
        }
        let mut this = Self { kv, mark, rows: Vec::new(), bytes: 0, written: 0 };
        let marked = layout::restoring();
        for (mut begin, end) in
            [(Bytes::from_static(&[0]), marked.clone()), (key_after(&marked), Bytes::from_static(&[0xff]))]
        {
            loop {
                let read = RangeRead::new(begin.clone(), end.clone()).limit(ROWS);
                let page = match kv.begin().get_range(&read, Reading::Snapshot).await {
                    Ok(page) => page,
                    Err(e) => {
                        patience.again(e).await?;
                        continue;
                    }
                };
                let Some((last, _)) = page.rows.last() else { break };
                let next = key_after(last);
                this.rows.push(Mutation::ClearRange(begin, next.clone()));
                this.flush().await?;
                begin = next;
            }
        }
        Ok(this)
    }

    fn put(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.written += u64::try_from(key.len() + value.len()).unwrap_or(0);
        self.rows.push(Mutation::Set(key, value));
    }

    fn is_full(&self) -> bool {
        self.bytes >= BYTES || self.rows.len() >= ROWS
    }

    /// Writes what has gathered, in transactions of bounded size.
    async fn flush(&mut self) -> Result<(), BackupError> {
        let mut rows = std::mem::take(&mut self.rows).into_iter().peekable();
        self.bytes = 0;
        while rows.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while bytes < BYTES
                && some.len() < ROWS
                && let Some(row) = rows.next()
            {
                if let Mutation::Set(key, value) = &row {
                    bytes += key.len() + value.len();
                }
                some.push(row);
            }
            self.commit(&some, false).await?;
        }
        Ok(())
    }

    /// Makes the store one that opens.
    async fn finish(&self, gaps: &Bytes, point: Revision, after: Revision) -> Result<(), BackupError> {
        let gaps = layout::with_gap(gaps, point, after);
        let last = [
            Mutation::Set(layout::format(), layout::FORMAT.into()),
            Mutation::Set(layout::gaps(), gaps),
            Mutation::Clear(layout::restoring()),
        ];
        self.commit(&last, true).await
    }

    /// Commits plain writes, again where the outcome is unknown: a second time changes nothing. Each attempt reads and writes the mark, so
    /// one that is still on its way when a later one has landed, and could empty what was filled since, conflicts and never lands.
    async fn commit(&self, rows: &[Mutation], last: bool) -> Result<(), BackupError> {
        let mut patience = Patience::new();
        let mut doubt = false;
        loop {
            let mut tx = self.kv.begin();
            let error = match tx.get(&layout::restoring(), Reading::Serializable).await {
                Ok(Some(mark)) if mark == self.mark => {
                    tx.mutate(Mutation::Set(layout::restoring(), mark));
                    rows.iter().for_each(|row| tx.mutate(row.clone()));
                    match tx.commit().await {
                        Ok(_) => return Ok(()),
                        Err(KvError::Unknown(_)) => {
                            doubt = true;
                            KvError::Conflict
                        }
                        Err(e) => e,
                    }
                }
                Ok(None) if doubt && last => return Ok(()),
                Ok(_) => {
                    let text = "another restore into this store has begun meanwhile";
                    return Err(StoreError::Unavailable(text.to_owned()).into());
                }
                Err(e) => e,
            };
            patience.again(error).await?;
        }
    }
}

/// Puts the mark into a store that is empty or marked; false for any other.
async fn claim(kv: &dyn Kv, mark: &Bytes) -> Result<bool, KvError> {
    let mut tx = kv.begin();
    let marked = tx.get(&layout::restoring(), Reading::Serializable).await?;
    if marked.is_none() {
        let all = RangeRead::new(vec![0], vec![0xff]).limit(2);
        let rows = tx.get_range(&all, Reading::Serializable).await?.rows;
        // A store that was opened and never written to holds its format.
        if rows.iter().any(|(key, _)| *key != layout::format()) {
            return Ok(false);
        }
    }
    tx.mutate(Mutation::Set(layout::restoring(), mark.clone()));
    tx.mutate(Mutation::Clear(layout::format()));
    tx.commit().await?;
    Ok(true)
}
