//! Applies mutations in commit order to a picture of the keys: one group of transactions becomes one map of final values.
//!
//! Never checks for conflicts; that has happened before.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{Span, View};
use crate::kv::{KvError, Mutation, STAMP, Version};

/// Final values of a group of transactions: `None` removes the key.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) values: BTreeMap<Bytes, Option<Bytes>>,
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

    /// Adds one transaction, whose commit has `version`. Returns what it wrote. On an error the group is of no use any more.
    pub(crate) fn apply<V: View>(
        &mut self,
        base: &V,
        version: Version,
        mutations: Vec<Mutation>,
    ) -> Result<Vec<Span>, KvError> {
        let mut written = Vec::with_capacity(mutations.len());
        for mutation in mutations {
            match mutation {
                Mutation::Set(key, value) => {
                    written.push(Span::Key(key.clone()));
                    self.put(key, Some(value));
                }
                Mutation::Clear(key) => {
                    written.push(Span::Key(key.clone()));
                    self.put(key, None);
                }
                Mutation::ClearRange(begin, end) => {
                    if begin < end {
                        for (_, value) in self.values.range_mut(begin.clone()..end.clone()) {
                            *value = None;
                        }
                        for row in base.range(&begin, &end, false) {
                            self.put(row?.0, None);
                        }
                        written.push(Span::Range(begin, end));
                    }
                }
                Mutation::Add(key, operand) => {
                    let value = add(self.current(base, &key)?.as_deref(), &operand);
                    written.push(Span::Key(key.clone()));
                    self.put(key, Some(value));
                }
                Mutation::Max(key, operand) => {
                    let value = max(self.current(base, &key)?.as_deref(), &operand);
                    written.push(Span::Key(key.clone()));
                    self.put(key, Some(value));
                }
                Mutation::StampedKey { key, offset, value } => {
                    let key = stamped(key, offset, version)?;
                    written.push(Span::Key(key.clone()));
                    self.put(key, Some(value));
                }
                Mutation::StampedValue { key, value, offset } => {
                    let value = stamped(value, offset, version)?;
                    written.push(Span::Key(key.clone()));
                    self.put(key, Some(value));
                }
            }
        }
        Ok(written)
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
