//! A backup record by record: each row decoded, with the parts that it names behind it.
//!
//! Rows come in this order: current objects (`C`), allocations (`A`), the store's own (`M`), the log (`L`), changes of allocations (`G`), floors (`F`); in each by key.
//! History, counts, wake-ups and expiries are not in the file: they follow from these. Never says what is to be kept.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::BackupError;
use super::file::{Mark, Reader};
use crate::kv::Version;
use crate::store::layout::{self, PLACE, Place, Slot};
use crate::store::record::{Body, Current, Entry, Last};
use crate::store::types::{Key, Revision};

/// The tags of a backup, in file order.
pub(super) const ORDER: &[u8] = b"CAMLGF";

/// A key and its value.
pub(super) type Row = (Bytes, Bytes);

/// A record.
#[derive(Debug)]
pub(in crate::store) enum Item {
    /// The current object of a key.
    Current { key: Key, current: Current },
    /// An allocation.
    Claim,
    /// Something of the store itself.
    Meta,
    /// A log entry.
    Log { key: Key, place: Place, entry: Entry },
    /// A change of an allocation: the allocation's key, and its value before, empty when it was free.
    Change { resource: Arc<str>, place: Place, claim: Bytes, before: Bytes },
    /// Where the log of a resource begins.
    Floor { resource: Arc<str>, floor: Revision },
}

/// A resource's name and a place behind a tag.
pub(in crate::store) fn placed(key: &[u8]) -> Option<(Arc<str>, Place)> {
    let (resource, place) = key.get(1..)?.split_at_checked(key.len().checked_sub(1 + PLACE)?)?;
    let resource = std::str::from_utf8(resource.strip_suffix(b"\0")?).ok()?;
    Some((resource.into(), Place::parse(place)?))
}

/// What a change of an allocation was about: the allocation's key and its value before.
pub(in crate::store) fn change(value: &Bytes) -> Option<(Bytes, Bytes)> {
    let mut ends = value.iter().zip(0usize..).filter(|(byte, _)| **byte == 0).map(|(_, at)| at);
    let (pool, item) = (ends.next()?, ends.next()?);
    let claim = layout::claim(
        std::str::from_utf8(value.get(..pool)?).ok()?,
        std::str::from_utf8(value.get(pool + 1..item)?).ok()?,
    );
    let before = value.slice(item + 1..);
    (before.is_empty() || layout::parse_key(&before, None).is_some()).then_some((claim, before))
}

impl Item {
    /// Decodes a row; `None` when it does not.
    pub(in crate::store) fn parse(key: &Bytes, value: &Bytes) -> Option<Self> {
        Some(match key.first()? {
            b'C' => {
                Self::Current { key: layout::parse_current(key, None)?, current: Current::parse(value.clone()).ok()? }
            }
            b'A' => {
                layout::parse_key(value, None)?;
                Self::Claim
            }
            b'M' => Self::Meta,
            b'L' => {
                let (resource, place) = placed(key)?;
                let entry = Entry::parse(value.clone()).ok()?;
                let key = Key { resource, namespace: entry.namespace.clone(), name: entry.name.clone() };
                Self::Log { key, place, entry }
            }
            b'G' => {
                let (resource, place) = placed(key)?;
                let (claim, before) = change(value)?;
                Self::Change { resource, place, claim, before }
            }
            b'F' => {
                let resource = std::str::from_utf8(key.get(1..)?).ok()?.into();
                Self::Floor { resource, floor: Revision(Version::from_stamp(value)?.0) }
            }
            _ => return None,
        })
    }

    /// The parts that the record names, with their length in all.
    pub(in crate::store) fn parts(&self) -> Vec<(Range<Bytes>, usize)> {
        let length = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        match self {
            Self::Current { key, current: Current { place, body: Body::Parts(n), .. } } => {
                vec![(layout::parts(&key.resource, *place, Slot::Put), length(*n))]
            }
            Self::Log { key, place, entry } => {
                let mut parts = Vec::new();
                if let Some(before) = &entry.before
                    && let Body::Parts(n) = before.body
                {
                    parts.push((layout::parts(&key.resource, before.place, Slot::Put), length(n)));
                }
                if let Last::Parts(n) = entry.last {
                    parts.push((layout::parts(&key.resource, *place, Slot::Last), length(n)));
                }
                parts
            }
            _ => Vec::new(),
        }
    }
}

/// Reads records.
pub(super) struct Items<R> {
    /// Where the block begins that holds the last record's own row; its parts may lie in later ones.
    mark: Mark,
    reader: Reader<R>,
    last: Bytes,
}

impl<R: Read> Items<R> {
    pub(super) fn new(reader: Reader<R>) -> Self {
        Self { mark: reader.mark(), reader, last: Bytes::new() }
    }

    /// Where a reader must resume to meet the last record again.
    pub(super) fn mark(&self) -> Mark {
        self.mark.clone()
    }

    pub(super) fn reader(&self) -> &Reader<R> {
        &self.reader
    }

    /// The next record, its row and the rows of its parts.
    ///
    /// # Errors
    /// `Damaged` for what no backup holds, `Read`.
    pub(super) fn next(&mut self) -> Result<Option<(Item, Row, Vec<Row>)>, BackupError> {
        let Some((key, value)) = self.reader.next()? else { return Ok(None) };
        self.mark = self.reader.mark();
        let rank = |key: &Bytes| key.first().and_then(|tag| ORDER.iter().position(|known| known == tag));
        let ordered = match (rank(&self.last), rank(&key)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(last), Some(now)) => last < now || last == now && self.last < key,
        };
        if !ordered {
            return Err(self.reader.damaged("a row is out of its place"));
        }
        let item = Item::parse(&key, &value).ok_or_else(|| self.reader.damaged("a record does not decode"))?;
        let mut parts = Vec::new();
        for (range, length) in item.parts() {
            let mut found = 0;
            let mut begin = range.start;
            while found < length {
                match self.reader.next()? {
                    Some((key, value)) if begin <= key && key < range.end && !value.is_empty() => {
                        found += value.len();
                        begin = crate::kv::key_after(&key);
                        parts.push((key, value));
                    }
                    _ => return Err(self.reader.damaged("an object lacks parts")),
                }
            }
            if found != length {
                return Err(self.reader.damaged("an object has more parts than it should"));
            }
        }
        self.last = key.clone();
        Ok(Some((item, (key, value), parts)))
    }

    /// Leaves out what comes before the log. After [`Reader::resume`], whose block may begin in the middle of something else.
    pub(super) fn skip_to_log(&mut self) -> Result<Option<(Item, Row, Vec<Row>)>, BackupError> {
        loop {
            let row = self.reader.peek()?;
            match row {
                None => return Ok(None),
                Some(b'L') => return self.next(),
                Some(_) => drop(self.reader.next()?),
            }
        }
    }
}
