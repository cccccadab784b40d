//! Protobuf by schema, in the `k8s\0` envelope: a table-driven transcoder between wire bytes and values.
//!
//! Writes what gogo-proto's generated code writes: fields by number, values that are no pointers even when zero, map
//! entries by key. Never knows a single kind. Types of custom resources have no protobuf form.

mod plan;
mod read;
mod write;

use super::{DecodeError, Decoded, EncodeError, Strictness};
use crate::json::Value;
use crate::schema::SchemaRef;

/// What every encoded object begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Decodes an object in its envelope; `apiVersion` and `kind` come from there. Unknown fields are dropped in silence
/// whatever the mode, as upstream does.
///
/// # Errors
/// `Syntax` when the envelope or a message is malformed.
pub fn decode(bytes: &[u8], schema: SchemaRef<'_>, _mode: Strictness) -> Result<Decoded, DecodeError> {
    let envelope = read::envelope(bytes)?;
    let mut value = read::message(envelope.raw, schema)?;
    if let Value::Object(object) = &mut value {
        for (key, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
            if !text.is_empty() {
                object.insert(key, Value::from(text));
            }
        }
    }
    Ok(Decoded { value, warnings: Vec::new() })
}

/// The group, version and kind that an envelope states, as `apiVersion` and `kind`.
///
/// # Errors
/// `Syntax` when the envelope is malformed.
pub fn type_of(bytes: &[u8]) -> Result<(String, String), DecodeError> {
    read::envelope(bytes).map(|envelope| (envelope.api_version.into(), envelope.kind.into()))
}

/// Encodes an object in its envelope.
///
/// # Errors
/// `NoProtobuf` for types without a protobuf form.
pub fn encode(value: &Value, schema: SchemaRef<'_>) -> Result<Vec<u8>, EncodeError> {
    write::object(value, schema)
}

/// Encodes a watch frame: the envelope of a `WatchEvent` whose object is encoded itself. `event` is `ADDED` and the like.
#[must_use]
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    write::watch_frame(event, object)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
