//! The bytes of values: the current object and the log entry.
//!
//! ```text
//! current    stamp(10) ordinal(2) expires(8) form
//! form       00 bytes...          the object itself, up to 90,000 bytes
//!            01 length(4)         in parts, under the record's own stamp and ordinal
//! log        id(16) at(8) kind(1) who(2+n) namespace(2+n) name(2+n) before last
//! kind       00 created | 01 updated | 02 deleted; with bit 10 set, 8 bytes follow: when the object before was to expire
//! before     00                   nothing: the change created the object
//!            01 stamp ordinal length(4) bytes       the object before
//!            02 stamp ordinal length(4)             the object before, in parts under that stamp
//! last       00                   no deletion
//!            01 length(4) bytes   final bytes
//!            02 length(4)         final bytes, in parts under the entry's own stamp, slot 1
//!            03                   the same as before
//! ```
//!
//! Integers are big-endian. The log keeps what a change replaced, not what it wrote: the state after a change is what the next change
//! of the key replaced, or the current object. So an object that never changed is stored once, and cutting off the old end of the
//! log never takes away what a later entry needs. Never touches an engine.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::error::StoreError;
use super::layout::{PLACE, Place};
use super::types::EventKind;
use crate::kv::STAMP;

/// The most bytes that a row holds of one object; larger ones are split.
pub(super) const PART: usize = 90_000;

/// Bit of an entry's kind: when the object before was to expire follows.
const EXPIRED: u8 = 0x10;

/// An object's bytes, or where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Inline(Bytes),
    /// In parts, with this many bytes in all.
    Parts(u32),
}

/// The current object of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) place: Place,
    /// Unix seconds; 0 for never.
    pub(super) expires: u64,
    pub(super) body: Body,
}

/// What a change replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) place: Place,
    pub(super) body: Body,
}

/// The final bytes of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Last {
    None,
    Inline(Bytes),
    Parts(u32),
    SameAsBefore,
}

/// A log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Names the commit attempt, to recognise it after an unknown outcome.
    pub(super) id: [u8; 16],
    /// Unix milliseconds.
    pub(super) at: u64,
    pub(super) kind: EventKind,
    pub(super) who: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    /// When the object before was to expire, Unix seconds; 0 for never.
    pub(super) expires: u64,
    pub(super) before: Option<Before>,
    pub(super) last: Last,
}

fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(format!("a {what} record does not decode; restore the store from a backup"))
}

/// A current record; its first 10 bytes await the stamp.
pub(super) fn new_current(ordinal: u16, expires: u64, body: &Body) -> Bytes {
    let len = if let Body::Inline(bytes) = body { bytes.len() } else { 4 };
    let mut out = Vec::with_capacity(PLACE + 9 + len);
    out.put_slice(&[0; STAMP]);
    out.put_u16(ordinal);
    out.put_u64(expires);
    match body {
        Body::Inline(bytes) => {
            out.put_u8(0);
            out.put_slice(bytes);
        }
        Body::Parts(len) => {
            out.put_u8(1);
            out.put_u32(*len);
        }
    }
    out.into()
}

impl Current {
    /// The record's bytes, its own place included.
    pub(super) fn bytes(&self) -> Bytes {
        let unstamped = new_current(self.place.ordinal, self.expires, &self.body);
        let mut out = Vec::with_capacity(unstamped.len());
        out.put_slice(&self.place.bytes());
        out.put_slice(unstamped.get(PLACE..).unwrap_or_default());
        out.into()
    }

    /// Reads a current record. Its bytes share the row's buffer.
    pub(super) fn parse(mut row: Bytes) -> Result<Self, StoreError> {
        let parse = |row: &mut Bytes| {
            let place = Place::parse(take(row, PLACE)?.as_ref())?;
            let expires = row.try_get_u64().ok()?;
            let body = match row.try_get_u8().ok()? {
                0 => Body::Inline(std::mem::take(row)),
                1 => Body::Parts(row.try_get_u32().ok()?),
                _ => return None,
            };
            row.is_empty().then_some(Self { place, expires, body })
        };
        parse(&mut row).ok_or_else(|| damaged("current object"))
    }
}

fn take(row: &mut Bytes, len: usize) -> Option<Bytes> {
    (row.len() >= len).then(|| row.split_to(len))
}

fn take_text(row: &mut Bytes) -> Option<Arc<str>> {
    let len = row.try_get_u16().ok()?;
    let text = take(row, usize::from(len))?;
    Some(Arc::from(std::str::from_utf8(&text).ok()?))
}

fn take_sized(row: &mut Bytes) -> Option<Bytes> {
    let len = row.try_get_u32().ok()?;
    take(row, usize::try_from(len).ok()?)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // Lengths were checked when the commit was accepted.
    out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes());
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

impl Entry {
    /// The entry's bytes.
    pub(super) fn bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(128 + self.who.len() + self.namespace.len() + self.name.len());
        out.put_slice(&self.id);
        out.put_u64(self.at);
        let kind = match self.kind {
            EventKind::Created => 0,
            EventKind::Updated => 1,
            EventKind::Deleted => 2,
        };
        if self.expires == 0 {
            out.put_u8(kind);
        } else {
            out.put_u8(kind | EXPIRED);
            out.put_u64(self.expires);
        }
        put_text(&mut out, &self.who);
        put_text(&mut out, &self.namespace);
        put_text(&mut out, &self.name);
        match &self.before {
            None => out.put_u8(0),
            Some(Before { place, body }) => {
                out.put_u8(if matches!(body, Body::Inline(_)) { 1 } else { 2 });
                out.put_slice(&place.bytes());
                match body {
                    Body::Inline(bytes) => put_sized(&mut out, bytes),
                    Body::Parts(len) => out.put_u32(*len),
                }
            }
        }
        match &self.last {
            Last::None => out.put_u8(0),
            Last::Inline(bytes) => {
                out.put_u8(1);
                put_sized(&mut out, bytes);
            }
            Last::Parts(len) => {
                out.put_u8(2);
                out.put_u32(*len);
            }
            Last::SameAsBefore => out.put_u8(3),
        }
        out.into()
    }

    /// Reads an entry. Its bytes share the row's buffer.
    pub(super) fn parse(mut row: Bytes) -> Result<Self, StoreError> {
        let parse = |row: &mut Bytes| {
            let id = take(row, 16)?.as_ref().try_into().ok()?;
            let at = row.try_get_u64().ok()?;
            let kind = row.try_get_u8().ok()?;
            let expires = if kind & EXPIRED == 0 { 0 } else { row.try_get_u64().ok()? };
            let kind = match kind & !EXPIRED {
                0 => EventKind::Created,
                1 => EventKind::Updated,
                2 => EventKind::Deleted,
                _ => return None,
            };
            let (who, namespace, name) = (take_text(row)?, take_text(row)?, take_text(row)?);
            let before = match row.try_get_u8().ok()? {
                0 => None,
                form @ (1 | 2) => {
                    let place = Place::parse(take(row, PLACE)?.as_ref())?;
                    let body =
                        if form == 1 { Body::Inline(take_sized(row)?) } else { Body::Parts(row.try_get_u32().ok()?) };
                    Some(Before { place, body })
                }
                _ => return None,
            };
            let last = match row.try_get_u8().ok()? {
                0 => Last::None,
                1 => Last::Inline(take_sized(row)?),
                2 => Last::Parts(row.try_get_u32().ok()?),
                3 => Last::SameAsBefore,
                _ => return None,
            };
            row.is_empty().then_some(Self { id, at, kind, who, namespace, name, expires, before, last })
        };
        parse(&mut row).ok_or_else(|| damaged("log"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::types::Revision;

    fn place() -> impl Strategy<Value = Place> {
        (any::<u64>(), any::<u16>()).prop_map(|(r, ordinal)| Place { revision: Revision(r), ordinal })
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn body() -> impl Strategy<Value = Body> {
        prop_oneof![bytes().prop_map(Body::Inline), any::<u32>().prop_map(Body::Parts)]
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let last = prop_oneof![
            Just(Last::None),
            Just(Last::SameAsBefore),
            bytes().prop_map(Last::Inline),
            any::<u32>().prop_map(Last::Parts)
        ];
        let kind = prop_oneof![Just(EventKind::Created), Just(EventKind::Updated), Just(EventKind::Deleted)];
        let before = proptest::option::of((place(), body()).prop_map(|(place, body)| Before { place, body }));
        let expires = prop_oneof![Just(0), any::<u64>()];
        (any::<[u8; 16]>(), any::<u64>(), kind, "[a-z]{0,9}", "[a-z]{0,9}", "[a-z]{0,9}", expires, before, last)
            .prop_map(|(id, at, kind, who, namespace, name, expires, before, last)| Entry {
                id,
                at,
                kind,
                who: who.into(),
                namespace: namespace.into(),
                name: name.into(),
                expires,
                before,
                last,
            })
    }

    proptest! {
        #[test]
        fn records_read_back_and_damage_is_an_error(entry in entry(), expires in any::<u64>(), body in body(), entry_place in place(), cut in 0usize..64) {
            let row = entry.bytes();
            prop_assert_eq!(Entry::parse(row.clone()).unwrap(), entry);
            let shorter = row.slice(..row.len().saturating_sub(1 + cut));
            prop_assert!(Entry::parse(shorter).is_err());

            let row = new_current(7, expires, &body);
            let current = Current::parse(row).unwrap();
            prop_assert_eq!(current.place, Place { revision: Revision(0), ordinal: 7 });
            prop_assert_eq!((current.expires, &current.body), (expires, &body));
            let moved = Current { place: entry_place, ..current };
            prop_assert_eq!(Current::parse(moved.bytes()).unwrap(), moved);
            prop_assert!(Current::parse(Bytes::from_static(b"short")).is_err());
        }
    }
}
