//! A transaction's buffered writes, and what a read of the same transaction must see of them.
//!
//! Never touches an engine: the caller supplies the value or rows underneath.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::RowIter;
use super::apply::{add, max};
use crate::kv::{KvError, MAX_KEY, MAX_TRANSACTION, MAX_VALUE, Mutation, STAMP};

/// Mutations in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Writes(pub(crate) Vec<Mutation>);

impl Writes {
    /// The value of `key` when `base` lies underneath.
    pub(crate) fn over(&self, key: &[u8], base: Option<Bytes>) -> Result<Option<Bytes>, KvError> {
        let mut value = base;
        for mutation in &self.0 {
            match mutation {
                Mutation::Set(k, v) if k == key => value = Some(v.clone()),
                Mutation::Clear(k) if k == key => value = None,
                Mutation::ClearRange(begin, end) if begin.as_ref() <= key && key < end.as_ref() => value = None,
                Mutation::Add(k, operand) if k == key => value = Some(add(value.as_deref(), operand)),
                Mutation::Max(k, operand) if k == key => value = Some(max(value.as_deref(), operand)),
                Mutation::StampedValue { key: k, .. } if k == key => {
                    return Err(KvError::Misuse("a transaction cannot read a value that it stamps"));
                }
                _ => {}
            }
        }
        Ok(value)
    }

    /// The rows of `begin..end` when `base` lies underneath, in the same order as `base`.
    pub(crate) fn over_range<'a>(&'a self, begin: &[u8], end: &[u8], reverse: bool, base: RowIter<'a>) -> RowIter<'a> {
        if self.0.is_empty() {
            return base;
        }
        let mut touched = BTreeSet::new();
        for mutation in &self.0 {
            if let Mutation::Set(k, _)
            | Mutation::Clear(k)
            | Mutation::Add(k, _)
            | Mutation::Max(k, _)
            | Mutation::StampedValue { key: k, .. } = mutation
                && begin <= k.as_ref()
                && k.as_ref() < end
            {
                touched.insert(k.clone());
            }
        }
        let touched: Vec<Bytes> =
            if reverse { touched.into_iter().rev().collect() } else { touched.into_iter().collect() };
        let mut touched = touched.into_iter().peekable();
        let mut base = base.peekable();
        Box::new(std::iter::from_fn(move || {
            loop {
                let from_base = match (base.peek(), touched.peek()) {
                    (None, None) => return None,
                    (Some(Err(_)), _) => return base.next(),
                    (Some(Ok(_)), None) => true,
                    (None, Some(_)) => false,
                    (Some(Ok((k, _))), Some(t)) => {
                        if reverse {
                            k >= t
                        } else {
                            k <= t
                        }
                    }
                };
                let (key, under) = if from_base {
                    let (key, value) = match base.next()? {
                        Ok(row) => row,
                        Err(e) => return Some(Err(e)),
                    };
                    touched.next_if(|t| *t == key);
                    (key, Some(value))
                } else {
                    (touched.next()?, None)
                };
                match self.over(&key, under) {
                    Ok(Some(value)) => return Some(Ok((key, value))),
                    Ok(None) => {}
                    Err(e) => return Some(Err(e)),
                }
            }
        }))
    }

    /// Refuses what no engine may accept.
    pub(crate) fn check(&self, extra: usize) -> Result<(), KvError> {
        let mut total = extra;
        for mutation in &self.0 {
            total += check(mutation)?;
        }
        check_total(total)
    }
}

/// Refuses a mutation that no engine may accept; returns the bytes of its keys and value.
pub(crate) fn check(mutation: &Mutation) -> Result<usize, KvError> {
    let (key, value) = match mutation {
        Mutation::Set(k, v) | Mutation::Add(k, v) | Mutation::Max(k, v) => (k, v.len()),
        Mutation::Clear(k) => (k, 0),
        Mutation::ClearRange(begin, end) => {
            if begin > end {
                return Err(KvError::Misuse("a range begins after its end"));
            }
            check_key(end.len())?;
            if end.as_ref() > [0xff].as_slice() {
                return Err(KvError::Misuse("keys from 0xff on belong to the engine"));
            }
            return Ok(end.len() + begin.len());
        }
        Mutation::StampedKey { key, offset, value } => {
            check_stamp(key, *offset)?;
            (key, value.len())
        }
        Mutation::StampedValue { key, value, offset } => {
            check_stamp(value, *offset)?;
            (key, value.len())
        }
    };
    check_key(key.len())?;
    match key.first() {
        None => return Err(KvError::Misuse("a key may not be empty")),
        Some(0xff) => return Err(KvError::Misuse("keys from 0xff on belong to the engine")),
        Some(_) => {}
    }
    if value > MAX_VALUE {
        return Err(KvError::TooLarge { what: "a value", size: value, limit: MAX_VALUE });
    }
    Ok(key.len() + value)
}

/// Refuses a transaction with too many bytes.
pub(crate) fn check_total(size: usize) -> Result<(), KvError> {
    if size > MAX_TRANSACTION {
        return Err(KvError::TooLarge { what: "a transaction", size, limit: MAX_TRANSACTION });
    }
    Ok(())
}

fn check_key(len: usize) -> Result<(), KvError> {
    if len > MAX_KEY { Err(KvError::TooLarge { what: "a key", size: len, limit: MAX_KEY }) } else { Ok(()) }
}

fn check_stamp(bytes: &[u8], offset: usize) -> Result<(), KvError> {
    match offset.checked_add(STAMP) {
        Some(end) if end <= bytes.len() => Ok(()),
        _ => Err(KvError::Misuse("a versionstamp lies outside its key or value")),
    }
}
