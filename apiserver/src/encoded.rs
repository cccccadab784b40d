//! Values as bytes in the form that a client accepts.
//!
//! Never decides which form that is.

use crate::answer::Failure;
use crate::road::negotiated::{Encoding, Medium};
use crate::road::timed::{Work, during};
use api::codec;
use api::json::Value;
use api::schema::SchemaRef;
use api::status::Status;
use bytes::Bytes;

/// A value as a whole body: JSON that is not indented ends with its line, as Go's encoder writes it.
///
/// # Errors
/// 500 when it does not fit its schema.
pub fn encode(medium: Medium, value: &Value, schema: SchemaRef<'_>) -> Result<Bytes, Failure> {
    let mut bytes = during(Work::Serialize, || bare(medium.encoding, value, schema))?;
    if medium.encoding == Encoding::Json {
        match medium.pretty {
            true => bytes = pretty(&bytes),
            false => bytes.push(b'\n'),
        }
    }
    Ok(bytes.into())
}

/// A value as part of something larger.
///
/// # Errors
/// As for `encode`.
pub fn bare(encoding: Encoding, value: &Value, schema: SchemaRef<'_>) -> Result<Vec<u8>, Failure> {
    Ok(match encoding {
        Encoding::Json => codec::json::encode(value, schema),
        Encoding::Yaml => codec::yaml::encode(value, schema),
        Encoding::Protobuf => codec::protobuf::encode(value, schema).map_err(Status::internal)?,
    })
}

/// Indents JSON without touching the order of its fields. White space behind it goes.
#[must_use]
pub fn pretty(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let newline = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    let mut bytes = compact.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if quoted {
            out.push(byte);
            quoted = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => {
                quoted = true;
                escaped = false;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                if matches!(bytes.peek(), Some(b'}' | b']')) {
                    out.extend(bytes.next());
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                newline(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'\n' => {}
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indentation_keeps_order_and_strings() {
        let compact = br#"{"b":[1,{"a":"x,{\"y\":1}"}],"a":{},"c":[]}
"#;
        let shown = String::from_utf8(pretty(compact)).unwrap();
        assert_eq!(
            shown,
            "{\n  \"b\": [\n    1,\n    {\n      \"a\": \"x,{\\\"y\\\":1}\"\n    }\n  ],\n  \"a\": {},\n  \"c\": []\n}"
        );
    }
}
