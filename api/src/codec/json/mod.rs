//! JSON by schema: what upstream's API machinery accepts and what it writes.
//!
//! Never knows a single kind.

mod scan;
mod settle;
mod walk;
mod write;

pub(super) use scan::TOO_DEEP;
pub use settle::settle;
pub use write::{encode, encode_any};
pub(crate) use write::{write_any, write_key, write_shape, write_string};

use super::{DecodeError, Decoded, Strictness};
use crate::json::Value;
use crate::schema::SchemaRef;

/// Decodes one object. Empty fields that Go would leave out are left out.
///
/// # Errors
/// `Syntax` and `Type` in Go's words; `Strict` lists every unknown and duplicate field.
pub fn decode(bytes: &[u8], schema: SchemaRef<'_>, mode: Strictness) -> Result<Decoded, DecodeError> {
    walk::decode(bytes, schema, mode, false)
}

/// The same, but keeps what the client wrote even where it is empty: apply owns such fields.
///
/// # Errors
/// As `decode`.
pub fn decode_applied(bytes: &[u8], schema: SchemaRef<'_>, mode: Strictness) -> Result<Decoded, DecodeError> {
    walk::decode(bytes, schema, mode, true)
}

/// Decodes what was made of `old`, an object of the same type: as if it had come as bytes, but fields of the object that are as they were
/// need not be read again.
///
/// # Errors
/// As `decode`.
pub fn decode_changed(
    mut new: Value,
    old: &Value,
    schema: SchemaRef<'_>,
    mode: Strictness,
) -> Result<Decoded, DecodeError> {
    let mut same = Vec::new();
    // The definition of a custom resource may be another by now, and its values are of any type.
    if let (Value::Object(fields), Value::Object(before), false) = (&mut new, old, schema.def().free) {
        let (unchanged, changed): (Vec<_>, Vec<_>) =
            std::mem::take(fields).into_iter().partition(|(name, value)| before.get(name) == Some(value));
        same = unchanged;
        fields.extend(changed);
    }
    let mut decoded = decode(&encode_any(&new), schema, mode)?;
    if let Value::Object(fields) = &mut decoded.value {
        fields.extend(same);
    }
    Ok(decoded)
}

/// Parses any JSON value; of two equal keys the last wins.
///
/// # Errors
/// `Syntax` in Go's words.
pub fn parse(bytes: &[u8]) -> Result<Value, DecodeError> {
    walk::parse(bytes, super::MAX_DEPTH)
}

/// The same, and what strict clients are told of it: `duplicate field "spec.replicas"`.
///
/// # Errors
/// As `parse`.
pub fn parse_noting(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    walk::parse_noting(bytes)
}

/// Reads an object as the server wrote it, which may be nested somewhat deeper than what clients send: its managed fields are as deep as it.
///
/// # Errors
/// `Syntax` in Go's words.
pub fn stored(bytes: &[u8]) -> Result<Value, DecodeError> {
    walk::parse(bytes, super::MAX_STORED_DEPTH)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
