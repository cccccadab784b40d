//! The integrity check: walks every row of a store and holds the kinds of rows against each other.
//!
//! One picture, or the answer that somebody wrote meanwhile. Never changes a row and never looks into an object.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::backup;
use super::backup::items::{Item, placed};
use super::commit::Patience;
use super::error::StoreError;
use super::layout::{self, Place};
use super::read::{self, Failed};
use super::record::Current;
use super::types::{EventKind, Key, Revision};
use crate::kv::{Kv, KvError, RangeRead, Read, Transaction, Version, key_after};

/// Rows read at once.
const ROWS: usize = 200;
/// Findings that a report names; of the others it tells the number.
pub const NAMED: usize = 100;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The row's key, escaped.
    pub row: String,
    /// What is wrong with it.
    pub meaning: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.row, self.meaning)
    }
}

/// What a check saw.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, at most [`NAMED`] of it.
    pub findings: Vec<Finding>,
    /// How many more findings there are.
    pub more: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Current objects.
    pub objects: u64,
    /// Changes in the log.
    pub changes: u64,
    /// The revision of the picture.
    pub revision: Revision,
}

impl Report {
    fn find(&mut self, row: &[u8], meaning: impl Into<String>) {
        if self.findings.len() < NAMED {
            self.findings.push(Finding { row: row.escape_ascii().to_string(), meaning: meaning.into() });
        } else {
            self.more += 1;
        }
    }
}

/// What the log of a resource shows.
#[derive(Debug, Default)]
struct Log {
    entries: u64,
    last: Revision,
}

/// Checks the store that `kv` holds.
///
/// # Errors
/// `Unavailable` when somebody writes to it and the engine keeps no picture for long enough; those of reading. Damage is no error: the report tells of it.
pub async fn check(kv: &dyn Kv) -> Result<Report, StoreError> {
    let mut walk = Walk {
        kv,
        tx: kv.begin(),
        patience: Patience::new(),
        fresh: false,
        report: Report::default(),
        logs: HashMap::new(),
        floors: HashMap::new(),
        newest: HashMap::new(),
        parts: HashMap::new(),
    };
    walk.run().await?;
    Ok(walk.report)
}

/// Runs `$body` with the walk's transaction until no engine error asks for another run.
macro_rules! with {
    ($walk:expr, $tx:ident => $body:expr) => {
        loop {
            let result: Result<_, Failed> = {
                let $tx = $walk.tx.as_ref();
                async { Ok($body) }.await
            };
            match result {
                Ok(value) => break value,
                Err(Failed::Store(e)) => return Err(e),
                Err(Failed::Kv(e)) => $walk.renew(e).await?,
            }
        }
    };
}

struct Walk<'a> {
    kv: &'a dyn Kv,
    tx: Box<dyn Transaction>,
    patience: Patience,
    /// The first picture was taken away.
    fresh: bool,
    report: Report,
    logs: HashMap<Arc<str>, Log>,
    floors: HashMap<Arc<str>, Revision>,
    /// The newest change of each key that the log holds.
    newest: HashMap<Key, (Place, EventKind)>,
    /// Parts that a record names: the prefix, with their length.
    parts: HashMap<Bytes, usize>,
}

impl Walk<'_> {
    async fn renew(&mut self, error: KvError) -> Result<(), StoreError> {
        self.patience.again(error).await?;
        self.tx = self.kv.begin();
        self.fresh = true;
        Ok(())
    }

    async fn run(&mut self) -> Result<(), StoreError> {
        self.report.revision = Revision(with!(self, tx => tx.read_version().await?.0));
        let before = self.bookmarks().await?;
        self.format().await?;
        // The log first: what is current is held against it.
        for tag in b"FLGHCBANWX" {
            self.tag(*tag).await?;
        }
        self.unnamed().await?;
        self.lost_objects().await?;
        self.totals().await?;
        if self.fresh && self.bookmarks().await? != before {
            return Err(StoreError::Unavailable(
                "the store was written to during the check; stop the API servers first, and check again".to_owned(),
            ));
        }
        Ok(())
    }

    /// Where every resource stands: equal before and after, nothing was written between.
    async fn bookmarks(&mut self) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut marks = with!(self, tx => read::range(tx, Bytes::from_static(b"W")..Bytes::from_static(b"X")).await?);
        marks.extend(with!(self, tx => read::range(tx, Bytes::from_static(b"F")..Bytes::from_static(b"G")).await?));
        Ok(marks)
    }

    async fn format(&mut self) -> Result<(), StoreError> {
        let rows = with!(self, tx => read::range(tx, Bytes::from_static(b"M")..Bytes::from_static(b"N")).await?);
        let mut formatted = false;
        for (key, value) in &rows {
            self.report.rows += 1;
            self.report.bytes += u64::try_from(key.len() + value.len()).unwrap_or(0);
            match key {
                key if *key == layout::format() => {
                    formatted = true;
                    if *value != layout::FORMAT.as_bytes() {
                        let found = value.escape_ascii().to_string();
                        self.report.find(
                            key,
                            format!("the store has format {found:.40}, and this version reads {}", layout::FORMAT),
                        );
                    }
                }
                key if *key == layout::restoring() => self.report.find(key, backup::half_restored().to_string()),
                key if *key == layout::gaps() && layout::parse_gaps(value).is_none() => {
                    self.report.find(key, "the list of restores does not decode");
                }
                _ => {}
            }
        }
        if !formatted && !rows.iter().any(|(key, _)| *key == layout::restoring()) {
            self.report.find(&layout::format(), "the store does not say its format");
        }
        Ok(())
    }

    /// Goes through all rows of a tag.
    async fn tag(&mut self, tag: u8) -> Result<(), StoreError> {
        let mut next = Bytes::copy_from_slice(&[tag]);
        loop {
            let range = RangeRead::new(next.clone(), vec![tag + 1]).limit(ROWS);
            let page = with!(self, tx => tx.get_range(&range, Read::Snapshot).await?);
            for (key, value) in &page.rows {
                self.report.rows += 1;
                self.report.bytes += u64::try_from(key.len() + value.len()).unwrap_or(0);
                match tag {
                    b'H' => self.history(key, value).await?,
                    b'B' => self.part(key, value),
                    b'N' | b'W' => self.counted(key, value),
                    b'X' => self.expiry(key).await?,
                    _ => self.record(key, value).await?,
                }
            }
            self.patience = Patience::new();
            match page.rows.last() {
                Some((last, _)) if page.more => next = key_after(last),
                _ => return Ok(()),
            }
        }
    }

    async fn record(&mut self, row: &Bytes, value: &Bytes) -> Result<(), StoreError> {
        let Some(item) = Item::parse(row, value) else {
            self.report.find(row, "the record does not decode");
            return Ok(());
        };
        if let Item::Log { key, place, .. } = &item
            && place.revision <= self.floors.get(&key.resource).copied().unwrap_or_default()
        {
            // Cut off, and not yet removed.
            return Ok(());
        }
        for (range, length) in item.parts() {
            self.parts.insert(range.start, length);
        }
        match item {
            Item::Current { key, current } => self.current(row, &key, &current).await?,
            Item::Log { key, place, entry } => {
                self.report.changes += 1;
                let log = self.logs.entry(key.resource.clone()).or_default();
                log.entries += 1;
                log.last = place.revision;
                let history = layout::history(&key, place.revision);
                let found = with!(self, tx => tx.get(&history, Read::Snapshot).await?);
                let ordinal = place.ordinal.to_be_bytes();
                let named = (entry.kind != EventKind::Created).then_some(ordinal.as_slice());
                if found.as_deref() != named {
                    self.report.find(row, format!("the history of {key} does not go with this change"));
                }
                let before = entry.before.as_ref().map(|before| before.place);
                let wanted = match self.newest.get(&key) {
                    Some((_, EventKind::Deleted)) => before.is_none(),
                    Some((place, _)) => before == Some(*place),
                    // Older changes were cut off, or there is none.
                    None => before.is_none_or(|before| before < place),
                };
                if !wanted || before.is_none() != (entry.kind == EventKind::Created) {
                    self.report.find(row, format!("the change of {key} did not replace what was there"));
                }
                self.newest.insert(key, (place, entry.kind));
            }
            Item::Change { resource, place, .. } => {
                if place.revision <= self.floors.get(&resource).copied().unwrap_or_default() {
                    self.report.find(row, "the change of an allocation lies below the floor of its log");
                }
            }
            Item::Floor { resource, floor } => {
                self.floors.insert(resource, floor);
            }
            Item::Claim => {
                let Some(owner) = layout::parse_key(value, None) else { return Ok(()) };
                let current = layout::current(&owner);
                if with!(self, tx => tx.get(&current, Read::Snapshot).await?).is_none() {
                    self.report.find(row, format!("it is allocated to {owner}, which is not there"));
                }
            }
            Item::Meta => {}
        }
        Ok(())
    }

    async fn current(&mut self, row: &Bytes, key: &Key, current: &Current) -> Result<(), StoreError> {
        self.report.objects += 1;
        match self.newest.remove(key) {
            Some((place, EventKind::Created | EventKind::Updated)) if place == current.place => {}
            None if current.place.revision <= self.floors.get(&key.resource).copied().unwrap_or_default() => {}
            _ => self.report.find(row, "the newest change in the log did not write this object"),
        }
        if current.expires != 0 {
            let expiry = layout::expiry(current.expires, key);
            if with!(self, tx => tx.get(&expiry, Read::Snapshot).await?).is_none() {
                self.report.find(row, "the object is to expire, and nothing says when it is due");
            }
        }
        Ok(())
    }

    async fn history(&mut self, row: &Bytes, value: &Bytes) -> Result<(), StoreError> {
        let parsed = layout::parse_history(row, value).and_then(|place| {
            let key = layout::parse_key(row.get(1..row.len().checked_sub(crate::kv::STAMP + 1)?)?, None)?;
            Some((key, place))
        });
        let Some((key, place)) = parsed else {
            self.report.find(row, "the record does not decode");
            return Ok(());
        };
        let entry = layout::log(&key.resource, place);
        let found = with!(self, tx => tx.get(&entry, Read::Snapshot).await?);
        let same = found.is_some_and(|found| match Item::parse(&entry, &found) {
            Some(Item::Log { key: logged, .. }) => logged == key,
            // It is told of where the log is gone through.
            _ => true,
        });
        if !same {
            self.report.find(row, format!("the log lacks this change of {key}"));
        }
        Ok(())
    }

    fn part(&mut self, row: &Bytes, value: &Bytes) {
        // Behind the prefix comes the part's number.
        let prefix = row.slice(..row.len().saturating_sub(2));
        match self.parts.get_mut(&prefix) {
            Some(left) if *left >= value.len() => *left -= value.len(),
            Some(_) => self.report.find(row, "the object is shorter than its parts"),
            None => self.report.find(row, "no record names this part of an object"),
        }
    }

    async fn expiry(&mut self, row: &Bytes) -> Result<(), StoreError> {
        let Some(key) = layout::parse_expiry(row) else {
            self.report.find(row, "the record does not decode");
            return Ok(());
        };
        let current = layout::current(&key);
        let found = with!(self, tx => tx.get(&current, Read::Snapshot).await?);
        let expires = found.and_then(|row| Current::parse(row).ok()).map_or(0, |current| current.expires);
        if expires == 0 || layout::expiry(expires, &key) != row {
            self.report.find(row, format!("{key} is not to expire then"));
        }
        Ok(())
    }

    fn counted(&mut self, row: &Bytes, value: &Bytes) {
        let resource = row.get(1..).and_then(|name| std::str::from_utf8(name).ok());
        let Some(resource) = resource else {
            self.report.find(row, "the record does not decode");
            return;
        };
        let log = self.logs.get(resource);
        if row.first() == Some(&b'N') {
            let entries = log.map_or(0, |log| log.entries);
            match <[u8; 8]>::try_from(value.as_ref()).map(u64::from_le_bytes) {
                Ok(count) if count == entries => {}
                Ok(count) => {
                    self.report.find(row, format!("it counts {count} changes in the log, and there are {entries}"));
                }
                Err(_) => self.report.find(row, "the record does not decode"),
            }
            return;
        }
        let floor = self.floors.get(resource).copied().unwrap_or_default();
        let last = log.map_or(floor, |log| log.last.max(floor));
        match Version::from_stamp(value) {
            Some(Version(stamp)) if stamp == last.0 => {}
            Some(stamp) => self.report.find(row, format!("it names {stamp} as the last change, which was {last}")),
            None => self.report.find(row, "the record does not decode"),
        }
    }

    /// Parts that a record names and that are not all there.
    async fn unnamed(&mut self) -> Result<(), StoreError> {
        let mut lacking: Vec<_> = self.parts.drain().filter(|(_, left)| *left != 0).collect();
        lacking.sort_unstable();
        for (prefix, left) in lacking {
            let what = match placed(prefix.get(..prefix.len().saturating_sub(1)).unwrap_or_default()) {
                Some((resource, place)) => {
                    format!("an object of {resource} at revision {} lacks {left} bytes of its parts", place.revision)
                }
                None => format!("an object lacks {left} bytes of its parts"),
            };
            self.report.find(&prefix, what);
        }
        self.strangers().await
    }

    /// Rows of a kind that this code does not know.
    async fn strangers(&mut self) -> Result<(), StoreError> {
        let mut begin = 0;
        for tag in b"ABCFGHLMNWX".iter().copied().chain([0xff]) {
            if begin < tag {
                let gap = RangeRead::new(vec![begin], vec![tag]).limit(ROWS);
                for (key, _) in with!(self, tx => tx.get_range(&gap, Read::Snapshot).await?).rows {
                    self.report.find(&key, "the row is of no known kind");
                }
            }
            begin = tag.saturating_add(1);
        }
        Ok(())
    }

    /// Objects that the log left there and that are not there.
    async fn lost_objects(&mut self) -> Result<(), StoreError> {
        let mut lost: Vec<Key> =
            self.newest.drain().filter(|(_, (_, kind))| *kind != EventKind::Deleted).map(|(key, _)| key).collect();
        lost.sort_unstable();
        for key in lost {
            let row = layout::current(&key);
            // One that is there and does not decode was told of already.
            if with!(self, tx => tx.get(&row, Read::Snapshot).await?).is_none() {
                self.report.find(&row, format!("the log says that {key} is there, and it is not"));
            }
        }
        Ok(())
    }

    /// A resource with a log that nothing counts, or that wakes nobody.
    async fn totals(&mut self) -> Result<(), StoreError> {
        let mut resources: Vec<Arc<str>> = self.logs.keys().cloned().collect();
        resources.sort_unstable();
        for resource in resources {
            for (row, meaning) in [
                (layout::count(&resource), "nothing counts the changes in the log"),
                (layout::wake(&resource), "nothing names the last change"),
            ] {
                if with!(self, tx => tx.get(&row, Read::Snapshot).await?).is_none() {
                    self.report.find(&row, meaning);
                }
            }
        }
        Ok(())
    }
}
