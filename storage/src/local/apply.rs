//! Applies mutations in commit order to a picture of the keys: one group of transactions becomes one list of final values.
//!
//! Never checks for conflicts; that has happened before.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::window::Window;
use super::{Keys, Span, View};
use crate::kv::{KvError, Mutation, STAMP, Version};

/// Keys and their final values, each key once, in the order in which they were first written: `None` removes the key.
pub(crate) type Rows = Vec<(Bytes, Option<Bytes>)>;

/// What a group of transactions writes.
#[derive(Debug, Default)]
pub(crate) struct Group {
    rows: Rows,
    /// Where each key is in `rows`.
    places: Keys<usize>,
    /// What the picture underneath does not show yet.
    under: Option<Arc<Rows>>,
    /// Where each key is in `under`.
    under_places: Keys<usize>,
}

fn find<'a>(rows: &'a Rows, places: &Keys<usize>, key: &Bytes) -> Option<&'a Option<Bytes>> {
    places.get(key).and_then(|i| rows.get(*i)).map(|(_, value)| value)
}

impl Group {
    pub(crate) fn rows(self) -> Rows {
        self.rows
    }

    /// A group over this one, which is being made visible: `rows` are this one's.
    pub(crate) fn next(self) -> (Arc<Rows>, Self) {
        let rows = Arc::new(self.rows);
        let next = Self { under: Some(rows.clone()), under_places: self.places, ..Self::default() };
        (rows, next)
    }

    /// The picture underneath shows everything.
    pub(crate) fn landed(&mut self) {
        self.under = None;
        self.under_places = Keys::default();
    }

    fn current<V: View>(&self, base: &V, key: &Bytes) -> Result<Option<Bytes>, KvError> {
        let under = || self.under.as_ref().and_then(|rows| find(rows, &self.under_places, key));
        match find(&self.rows, &self.places, key).or_else(under) {
            Some(value) => Ok(value.clone()),
            None => base.get(key),
        }
    }

    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        match self.places.entry(key) {
            Entry::Occupied(place) => {
                if let Some(row) = self.rows.get_mut(*place.get()) {
                    row.1 = value;
                }
            }
            Entry::Vacant(place) => {
                self.rows.push((place.key().clone(), value));
                place.insert(self.rows.len() - 1);
            }
        }
    }

    /// Adds one transaction, whose commit has `version`, and what it wrote to `window`. On an error the group is of no use any more.
    pub(crate) fn apply<V: View>(
        &mut self,
        base: &V,
        window: &mut Window,
        version: Version,
        mutations: Vec<Mutation>,
    ) -> Result<(), KvError> {
        for mutation in mutations {
            let (key, value) = match mutation {
                Mutation::Set(key, value) => (key, Some(value)),
                Mutation::Clear(key) => (key, None),
                Mutation::ClearRange(begin, end) => {
                    self.clear(base, &begin, &end)?;
                    window.record(version, Span::Range(begin, end));
                    continue;
                }
                Mutation::Add(key, operand) => {
                    let value = add(self.current(base, &key)?.as_deref(), &operand);
                    (key, Some(value))
                }
                Mutation::Max(key, operand) => {
                    let value = max(self.current(base, &key)?.as_deref(), &operand);
                    (key, Some(value))
                }
                Mutation::StampedKey { key, offset, value } => (stamped(key, offset, version)?, Some(value)),
                Mutation::StampedValue { key, value, offset } => (key, Some(stamped(value, offset, version)?)),
            };
            window.record(version, Span::Key(key.clone()));
            self.put(key, value);
        }
        Ok(())
    }

    fn clear<V: View>(&mut self, base: &V, begin: &Bytes, end: &Bytes) -> Result<(), KvError> {
        if begin >= end {
            return Ok(());
        }
        for (_, value) in self.rows.iter_mut().filter(|(key, _)| begin <= key && key < end) {
            *value = None;
        }
        let under = self.under.clone();
        let under = under.iter().flat_map(|rows| rows.iter()).filter(|(key, _)| begin <= key && key < end);
        under.for_each(|(key, _)| self.put(key.clone(), None));
        for row in base.range(begin, end, false) {
            self.put(row?.0, None);
        }
        Ok(())
    }
}

fn stamped(bytes: Bytes, offset: usize, version: Version) -> Result<Bytes, KvError> {
    // Takes the buffer over when nobody else holds it; copies otherwise.
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    let place = offset.checked_add(STAMP).and_then(|end| bytes.get_mut(offset..end));
    place.ok_or(KvError::Misuse("a versionstamp lies outside its key or value"))?.copy_from_slice(&version.stamp());
    Ok(bytes.freeze())
}

/// Little-endian addition that wraps at the operand's length.
pub(crate) fn add(value: Option<&[u8]>, operand: &[u8]) -> Bytes {
    let value = value.unwrap_or_default();
    let mut carry = 0u16;
    operand
        .iter()
        .enumerate()
        .map(|(i, &b)| {
            let sum = u16::from(b) + u16::from(value.get(i).copied().unwrap_or(0)) + carry;
            carry = sum >> 8;
            sum.to_le_bytes()[0]
        })
        .collect::<Vec<u8>>()
        .into()
}

/// The larger of two little-endian unsigned integers, in the operand's length.
pub(crate) fn max(value: Option<&[u8]>, operand: &[u8]) -> Bytes {
    let Some(value) = value else { return Bytes::copy_from_slice(operand) };
    let mut value = value.to_vec();
    value.resize(operand.len(), 0);
    if value.iter().rev().ge(operand.iter().rev()) { value.into() } else { Bytes::copy_from_slice(operand) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::RowIter;

    #[test]
    fn integers_are_little_endian_and_have_the_operands_length() {
        type Number = &'static [u8];
        let cases: [(Option<Number>, Number, Number, Number); 5] = [
            (None, &[1, 0], &[1, 0], &[1, 0]),
            (Some(&[255, 0]), &[1, 0], &[0, 1], &[255, 0]),
            (Some(&[255, 255]), &[1, 0], &[0, 0], &[255, 255]),
            (Some(&[1, 2, 3]), &[1, 1], &[2, 3], &[1, 2]),
            (Some(&[9]), &[0, 1], &[9, 1], &[0, 1]),
        ];
        for (value, operand, sum, larger) in cases {
            assert_eq!(add(value, operand), sum, "{value:?} + {operand:?}");
            assert_eq!(max(value, operand), larger, "{value:?} max {operand:?}");
        }
    }

    struct Nothing;

    impl View for Nothing {
        fn version(&self) -> Version {
            Version(1)
        }

        fn get(&self, _: &[u8]) -> Result<Option<Bytes>, KvError> {
            Ok(None)
        }

        fn range(&self, _: &[u8], _: &[u8], _: bool) -> RowIter<'_> {
            Box::new(std::iter::empty())
        }
    }

    #[test]
    fn a_group_sees_the_group_in_flight_until_that_is_visible() {
        let key = |k: &'static str| Bytes::from_static(k.as_bytes());
        let plus = |k| Mutation::Add(key(k), Bytes::from_static(&[1]));
        let mut window = Window::new(Version(1));
        let mut group = Group::default();
        let mut apply = |group: &mut Group, version, mutations| {
            group.apply(&Nothing, &mut window, Version(version), mutations).unwrap();
        };
        apply(&mut group, 2, vec![plus("a"), Mutation::Set(key("b"), key("x")), Mutation::Set(key("c"), key("y"))]);
        apply(&mut group, 3, vec![plus("a"), Mutation::Clear(key("c"))]);
        let (flying, mut next) = group.next();
        assert_eq!(*flying, [(key("a"), Some(vec![2].into())), (key("b"), Some(key("x"))), (key("c"), None)]);
        apply(
            &mut next,
            4,
            vec![plus("a"), Mutation::ClearRange(key("b"), key("d")), Mutation::Set(key("c"), key("z"))],
        );
        next.landed();
        // The picture underneath is to show what landed; this one shows nothing.
        apply(&mut next, 5, vec![plus("a"), plus("d")]);
        let rows = [("a", Some(vec![4].into())), ("b", None), ("c", Some(key("z"))), ("d", Some(vec![1].into()))];
        assert_eq!(next.rows(), rows.map(|(k, v)| (key(k), v)));
    }
}
