//! Applies mutations in commit order to a picture of the keys: one group of transactions becomes one map of final values.
//!
//! Never checks for conflicts; that has happened before.

use bytes::{Bytes, BytesMut};

use super::window::Window;
use super::{Keys, Span, View};
use crate::kv::{KvError, Mutation, STAMP, Version};

/// Final values of a group of transactions: `None` removes the key.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) values: Keys<Option<Bytes>>,
    pub(crate) bytes: usize,
}

impl Group {
    fn current<V: View>(&self, base: &V, key: &Bytes) -> Result<Option<Bytes>, KvError> {
        match self.values.get(key) {
            Some(value) => Ok(value.clone()),
            None => base.get(key),
        }
    }

    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.values.insert(key, value);
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
        for (_, value) in self.values.iter_mut().filter(|(key, _)| begin <= *key && *key < end) {
            *value = None;
        }
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
}
