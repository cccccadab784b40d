//! YAML by schema: turned into JSON as upstream does, with the meanings that YAML 1.1 gives to plain scalars (`yes`,
//! `0777`, `0b11`), and written with upstream's layout and quoting.
//!
//! Only the first document of a stream counts. Never knows a single kind.

mod block;
mod line;
mod plain;
mod read;
mod resolve;
mod said;
mod write;

use super::{DecodeError, Decoded, Strictness, json};
use crate::json::Value;
use crate::schema::SchemaRef;

/// Decodes one object.
///
/// # Errors
/// `Syntax` for what is not YAML; `Strict` lists keys set twice, unknown and duplicate fields; `Type` as for JSON.
pub fn decode(bytes: &[u8], schema: SchemaRef<'_>, mode: Strictness) -> Result<Decoded, DecodeError> {
    through_json(bytes, mode, |text, mode| json::decode(text, schema, mode))
}

/// The same, but keeps what the client wrote even where it is empty: apply owns such fields.
///
/// # Errors
/// As `decode`.
pub fn decode_applied(bytes: &[u8], schema: SchemaRef<'_>, mode: Strictness) -> Result<Decoded, DecodeError> {
    through_json(bytes, mode, |text, mode| json::decode_applied(text, schema, mode))
}

/// Parses any YAML value; of two equal keys the last wins.
///
/// # Errors
/// `Syntax` for what is not YAML.
pub fn parse(bytes: &[u8]) -> Result<Value, DecodeError> {
    read::first_document(bytes).map(|document| document.value)
}

fn through_json(
    bytes: &[u8],
    mode: Strictness,
    decode: impl Fn(&[u8], Strictness) -> Result<Decoded, DecodeError>,
) -> Result<Decoded, DecodeError> {
    if let Some(decoded) = as_json(bytes, mode, &decode) {
        return Ok(decoded);
    }
    // Most documents mean what they say without anchors and tags: they become JSON as they are read.
    let text = block::json_of(bytes).or_else(|| plain::json_of(bytes));
    if let Some(text) = &text {
        if let Some(decoded) = sound(text, mode, &decode) {
            return Ok(decoded);
        }
        // What is nested too deep to be kept is that as JSON.
        if let Err(DecodeError::Syntax(why)) = decode(text, Strictness::Ignore)
            && why.ends_with(json::TOO_DEEP)
        {
            return Err(DecodeError::Syntax(why));
        }
    }
    let document = match (read::first_document(bytes), &text) {
        (Ok(document), _) => document,
        // It is sound, and too deep for that reader alone.
        (Err(_), Some(text)) => return decode(text, mode),
        (Err(why), None) => return Err(why),
    };
    let text = json::encode_any(&document.value);
    let gentle = if mode == Strictness::Strict { Strictness::Warn } else { mode };
    let mut decoded = decode(&text, gentle)?;
    if mode != Strictness::Ignore && !document.twice.is_empty() {
        if mode == Strictness::Strict {
            let lines = document.twice.join("\n  ");
            decoded.warnings.insert(0, format!("yaml: unmarshal errors:\n  {lines}"));
        } else {
            decoded.warnings.splice(0..0, document.twice);
        }
    }
    if mode == Strictness::Strict && !decoded.warnings.is_empty() {
        return Err(DecodeError::Strict(decoded.warnings));
    }
    Ok(decoded)
}

/// JSON is YAML, most clients send it as such, and reading it as JSON is ten times faster. Only for what nothing is wrong with:
/// YAML has sentences of its own.
fn as_json(
    bytes: &[u8],
    mode: Strictness,
    decode: &impl Fn(&[u8], Strictness) -> Result<Decoded, DecodeError>,
) -> Option<Decoded> {
    let begins = bytes.trim_ascii_start().starts_with(b"{") && std::str::from_utf8(bytes).is_ok();
    begins.then(|| sound(bytes, mode, decode)).flatten()
}

/// What nothing is wrong with.
fn sound(
    json: &[u8],
    mode: Strictness,
    decode: &impl Fn(&[u8], Strictness) -> Result<Decoded, DecodeError>,
) -> Option<Decoded> {
    let gentle = if mode == Strictness::Strict { Strictness::Warn } else { mode };
    let decoded = decode(json, gentle).ok()?;
    (mode == Strictness::Ignore || decoded.warnings.is_empty()).then_some(decoded)
}

/// Encodes an object: what its JSON encoding says, keys sorted.
#[must_use]
pub fn encode(value: &Value, schema: SchemaRef<'_>) -> Vec<u8> {
    let text = json::encode(value, schema);
    json::parse(&text).map(|value| write::document(&value)).unwrap_or_default()
}

/// Whether the reader of blocks understands a document, which it must as the parser of all of YAML does.
///
/// # Panics
/// When it does not.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn is_in_blocks(bytes: &[u8]) -> bool {
    let Some(text) = block::json_of(bytes) else { return false };
    let whole = plain::json_of(bytes).unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&whole), "{:?}", String::from_utf8_lossy(bytes));
    true
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
