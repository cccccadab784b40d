//! Where everything lies: the bytes of every key.
//!
//! ```text
//! A pool 00 item                          allocation          -> owner: resource 00 namespace 00 name
//! B resource 00 stamp ordinal slot part   part of a large object
//! C resource 00 namespace 00 name         current object
//! F resource                              floor: the log begins after this stamp
//! G resource 00 stamp ordinal             change of an allocation -> pool, item, owner before; resource is the owner's
//! H resource 00 namespace 00 name 00 stamp    history         -> ordinal
//! L resource 00 stamp ordinal             log
//! M format                                layout version, text
//! M gaps                                  revisions that a restore skipped -> { from(8) to(8) }...
//! M restoring                             a restore is not finished -> its name
//! N resource                              number of log entries, u64 little-endian
//! W resource                              stamp of the resource's last commit; tails watch it
//! X seconds resource 00 namespace 00 name expiry              -> nothing
//! ```
//!
//! A stamp has 10 bytes, an ordinal (the place of a write in its commit) 2, a slot 1, a part 2, seconds 8; all big-endian.
//! Texts hold no NUL, so byte order is the order of (resource, namespace, name). Never reads or writes a value.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::types::{Key, Revision};
use crate::kv::{STAMP, Version};

/// The layout that this code reads and writes.
pub(super) const FORMAT: &str = "2";

/// Bytes of a stamp and an ordinal.
pub(super) const PLACE: usize = STAMP + 2;

/// Where in the log a write is: its commit's revision and its ordinal in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) revision: Revision,
    pub(super) ordinal: u16,
}

impl Place {
    pub(super) fn bytes(self) -> [u8; PLACE] {
        let mut bytes = [0; PLACE];
        let (stamp, ordinal) = bytes.split_at_mut(STAMP);
        stamp.copy_from_slice(&Version(self.revision.0).stamp());
        ordinal.copy_from_slice(&self.ordinal.to_be_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (stamp, ordinal) = bytes.split_at_checked(STAMP)?;
        Some(Self {
            revision: Revision(Version::from_stamp(stamp)?.0),
            ordinal: u16::from_be_bytes(ordinal.try_into().ok()?),
        })
    }
}

/// A key that the commit's stamp completes, and where the stamp goes.
pub(super) struct Stamped {
    pub(super) key: Bytes,
    pub(super) offset: usize,
}

/// Which of a write's two objects a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The object put.
    Put = 0,
    /// The final bytes of a deletion.
    Last = 1,
}

const UNSTAMPED: [u8; STAMP] = [0; STAMP];

fn put_key(to: &mut Vec<u8>, key: &Key) {
    to.put_slice(key.resource.as_bytes());
    to.put_u8(0);
    to.put_slice(key.namespace.as_bytes());
    to.put_u8(0);
    to.put_slice(key.name.as_bytes());
}

fn tagged(tag: u8, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity + 1);
    bytes.push(tag);
    bytes
}

fn of_resource(tag: u8, resource: &str) -> Vec<u8> {
    let mut bytes = tagged(tag, resource.len() + 1 + PLACE + 3);
    bytes.put_slice(resource.as_bytes());
    bytes
}

fn key_len(key: &Key) -> usize {
    key.resource.len() + key.namespace.len() + key.name.len() + 2
}

/// The current object of `key`.
pub(super) fn current(key: &Key) -> Bytes {
    let mut bytes = tagged(b'C', key_len(key));
    put_key(&mut bytes, key);
    bytes.into()
}

/// All current objects of a resource, or of one of its namespaces.
pub(super) fn current_range(resource: &str, namespace: Option<&str>) -> Range<Bytes> {
    let mut begin = of_resource(b'C', resource);
    begin.put_u8(0);
    if let Some(namespace) = namespace {
        begin.put_slice(namespace.as_bytes());
        begin.put_u8(0);
    }
    range(begin)
}

/// Every key that starts with `prefix`, whose last byte is below 0xff.
fn range(prefix: Vec<u8>) -> Range<Bytes> {
    let mut end = prefix.clone();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    prefix.into()..end.into()
}

/// The text fields after the tag of a current key. `like` lends its texts where they are equal.
pub(super) fn parse_current(bytes: &[u8], like: Option<&Key>) -> Option<Key> {
    parse_key(bytes.strip_prefix(b"C")?, like)
}

/// `resource 00 namespace 00 name`.
pub(super) fn parse_key(bytes: &[u8], like: Option<&Key>) -> Option<Key> {
    let mut fields = std::str::from_utf8(bytes).ok()?.splitn(3, '\0');
    let (resource, namespace, name) = (fields.next()?, fields.next()?, fields.next()?);
    let share = |text: &str, known: Option<&Arc<str>>| match known {
        Some(known) if known.as_ref() == text => known.clone(),
        _ => Arc::from(text),
    };
    Some(Key {
        resource: share(resource, like.map(|k| &k.resource)),
        namespace: share(namespace, like.map(|k| &k.namespace)),
        name: Arc::from(name),
    })
}

/// A log entry that is being written.
pub(super) fn new_log(resource: &str, ordinal: u16) -> Stamped {
    let mut bytes = of_resource(b'L', resource);
    bytes.put_u8(0);
    let offset = bytes.len();
    bytes.put_slice(&UNSTAMPED);
    bytes.put_u16(ordinal);
    Stamped { key: bytes.into(), offset }
}

/// A log entry.
pub(super) fn log(resource: &str, place: Place) -> Bytes {
    let mut bytes = of_resource(b'L', resource);
    bytes.put_u8(0);
    bytes.put_slice(&place.bytes());
    bytes.into()
}

/// The log of a resource after `after`.
pub(super) fn log_after(resource: &str, after: Revision) -> Range<Bytes> {
    let mut prefix = of_resource(b'L', resource);
    prefix.put_u8(0);
    let all = range(prefix.clone());
    match after.0.checked_add(1) {
        Some(first) => {
            prefix.put_slice(&Version(first).stamp());
            prefix.into()..all.end
        }
        None => all.end.clone()..all.end,
    }
}

/// The log of a resource up to `until`.
pub(super) fn log_until(resource: &str, until: Revision) -> Range<Bytes> {
    let mut prefix = of_resource(b'L', resource);
    prefix.put_u8(0);
    prefix.clone().into()..log_after(resource, until).start
}

/// The place that a log key names.
pub(super) fn parse_log(bytes: &[u8]) -> Option<Place> {
    Place::parse(bytes.get(bytes.len().checked_sub(PLACE)?..)?)
}

fn history_prefix(key: &Key) -> Vec<u8> {
    let mut bytes = tagged(b'H', key_len(key) + 1 + STAMP);
    put_key(&mut bytes, key);
    bytes.put_u8(0);
    bytes
}

/// A history entry that is being written.
pub(super) fn new_history(key: &Key) -> Stamped {
    let mut bytes = history_prefix(key);
    let offset = bytes.len();
    bytes.put_slice(&UNSTAMPED);
    Stamped { key: bytes.into(), offset }
}

/// A history entry.
pub(super) fn history(key: &Key, revision: Revision) -> Bytes {
    let mut bytes = history_prefix(key);
    bytes.put_slice(&Version(revision.0).stamp());
    bytes.into()
}

/// The history of `key` after `after`.
pub(super) fn history_after(key: &Key, after: Revision) -> Range<Bytes> {
    let prefix = history_prefix(key);
    let all = range(prefix);
    match after.0.checked_add(1) {
        Some(first) => history(key, Revision(first))..all.end,
        None => all.end.clone()..all.end,
    }
}

/// The place that a history row names.
pub(super) fn parse_history(key: &[u8], value: &[u8]) -> Option<Place> {
    let stamp = key.get(key.len().checked_sub(STAMP)?..)?;
    Some(Place {
        revision: Revision(Version::from_stamp(stamp)?.0),
        ordinal: u16::from_be_bytes(value.try_into().ok()?),
    })
}

fn part_prefix(resource: &str, place: [u8; PLACE], slot: Slot) -> Vec<u8> {
    let mut bytes = of_resource(b'B', resource);
    bytes.put_u8(0);
    bytes.put_slice(&place);
    bytes.put_u8(slot as u8);
    bytes
}

/// A part that is being written.
pub(super) fn new_part(resource: &str, ordinal: u16, slot: Slot, part: u16) -> Stamped {
    let place = Place { revision: Revision(0), ordinal };
    let mut bytes = part_prefix(resource, place.bytes(), slot);
    bytes.put_u16(part);
    Stamped { key: bytes.into(), offset: 1 + resource.len() + 1 }
}

/// All parts of a large object.
pub(super) fn parts(resource: &str, place: Place, slot: Slot) -> Range<Bytes> {
    range(part_prefix(resource, place.bytes(), slot))
}

/// Where the log of a resource begins.
pub(super) fn floor(resource: &str) -> Bytes {
    of_resource(b'F', resource).into()
}

/// How many entries the log of a resource has.
pub(super) fn count(resource: &str) -> Bytes {
    of_resource(b'N', resource).into()
}

/// The last commit that wrote to a resource.
pub(super) fn wake(resource: &str) -> Bytes {
    of_resource(b'W', resource).into()
}

/// The layout version.
pub(super) fn format() -> Bytes {
    Bytes::from_static(b"Mformat")
}

/// Revisions that a restore skipped.
pub(super) fn gaps() -> Bytes {
    Bytes::from_static(b"Mgaps")
}

/// Says that a restore is not finished.
pub(super) fn restoring() -> Bytes {
    Bytes::from_static(b"Mrestoring")
}

/// `gaps` with one more.
pub(super) fn with_gap(gaps: &[u8], from: Revision, to: Revision) -> Bytes {
    let mut bytes = Vec::with_capacity(gaps.len() + 16);
    bytes.put_slice(gaps);
    bytes.put_u64(from.0);
    bytes.put_u64(to.0);
    bytes.into()
}

/// The gaps that a value names; `None` when it does not decode.
pub(super) fn parse_gaps(mut value: &[u8]) -> Option<Vec<(Revision, Revision)>> {
    let mut gaps = Vec::with_capacity(value.len() / 16);
    while !value.is_empty() {
        gaps.push((Revision(value.try_get_u64().ok()?), Revision(value.try_get_u64().ok()?)));
    }
    Some(gaps)
}

/// An allocation.
pub(super) fn claim(pool: &str, item: &str) -> Bytes {
    let mut bytes = tagged(b'A', pool.len() + item.len() + 1);
    bytes.put_slice(pool.as_bytes());
    bytes.put_u8(0);
    bytes.put_slice(item.as_bytes());
    bytes.into()
}

/// All allocations of a pool.
pub(super) fn claims(pool: &str) -> Range<Bytes> {
    let mut prefix = tagged(b'A', pool.len() + 1);
    prefix.put_slice(pool.as_bytes());
    prefix.put_u8(0);
    range(prefix)
}

/// The item that an allocation's key names.
pub(super) fn parse_claim(pool: &str, key: &[u8]) -> Option<Arc<str>> {
    let item = key.get(1 + pool.len() + 1..)?;
    Some(Arc::from(std::str::from_utf8(item).ok()?))
}

/// A change of an allocation that is being written. `resource` is the owner's.
pub(super) fn new_claim_change(resource: &str, ordinal: u16) -> Stamped {
    let mut bytes = of_resource(b'G', resource);
    bytes.put_u8(0);
    let offset = bytes.len();
    bytes.put_slice(&UNSTAMPED);
    bytes.put_u16(ordinal);
    Stamped { key: bytes.into(), offset }
}

/// What a change of an allocation replaced: `before` is the owner's value, empty when the item was free.
pub(super) fn claim_change(pool: &str, item: &str, before: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(pool.len() + item.len() + before.len() + 2);
    bytes.put_slice(pool.as_bytes());
    bytes.put_u8(0);
    bytes.put_slice(item.as_bytes());
    bytes.put_u8(0);
    bytes.put_slice(before);
    bytes.into()
}

/// All changes of allocations of a resource's objects up to and including a revision.
pub(super) fn claim_changes_until(resource: &str, until: Revision) -> Range<Bytes> {
    let mut begin = of_resource(b'G', resource);
    begin.put_u8(0);
    let all = range(begin.clone());
    match until.0.checked_add(1) {
        Some(next) => {
            begin.put_slice(&Version(next).stamp());
            all.start..begin.into()
        }
        None => all,
    }
}

/// The owner as an allocation's value.
pub(super) fn owner(key: &Key) -> Bytes {
    let mut bytes = Vec::with_capacity(key_len(key));
    put_key(&mut bytes, key);
    bytes.into()
}

/// An object that expires.
pub(super) fn expiry(seconds: u64, key: &Key) -> Bytes {
    let mut bytes = tagged(b'X', 8 + key_len(key));
    bytes.put_u64(seconds);
    put_key(&mut bytes, key);
    bytes.into()
}

/// Everything that is due at `now` or before.
pub(super) fn expiry_until(now: u64) -> Range<Bytes> {
    let mut end = tagged(b'X', 8);
    end.put_u64(now.saturating_add(1));
    Bytes::from_static(b"X")..end.into()
}

/// The object that an expiry row names.
pub(super) fn parse_expiry(bytes: &[u8]) -> Option<Key> {
    parse_key(bytes.get(9..)?, None)
}
