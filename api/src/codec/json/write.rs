//! Writing JSON as Go's encoder would: fields in struct order, maps sorted, empty fields by Go's rules, `<`, `>` and `&`
//! escaped.
//!
//! Never fails: a value that does not fit its schema is written as it is.

use crate::codec::scalar;
use crate::schema::{Field, SchemaRef, Shape, TypeDef, TypeId, Types, Union};
use serde_json::{Map, Number, Value};
use std::io::Write;

/// Encodes an object without white space and without a final newline. Fields the schema of a native type does not know
/// are left out; required fields that are absent are written as Go's zero value.
#[must_use]
pub fn encode(value: &Value, schema: SchemaRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    match value {
        Value::Object(object) => write_struct(&mut out, object, schema.types, schema.id),
        other => write_any(&mut out, other),
    }
    out
}

/// Encodes any value in the same way, without a schema: keys sorted.
#[must_use]
pub fn encode_any(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_any(&mut out, value);
    out
}

fn write_struct(out: &mut Vec<u8>, object: &Map<String, Value>, types: &Types, id: TypeId) {
    let def = types.get(id);
    if def.free {
        return write_free(out, object, types, def);
    }
    let present = SchemaRef { types, id }.present(object);
    out.push(b'{');
    let mut first = true;
    for (index, (value, field)) in present.into_iter().zip(&def.fields).enumerate() {
        if field.omit_empty && value.is_none_or(|value| !field.pointer && scalar::is_empty(value)) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        // Names of fields need no escapes.
        out.push(b'"');
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        match (value, types.wire(id, index).and_then(|wire| wire.union)) {
            (None, _) => write_zero(out, field, types),
            (Some(value), Some(union)) => write_union(out, value, &field.shape, union, types, id),
            (Some(value), None) => write_value(out, value, &field.shape, types),
        }
    }
    out.push(b'}');
}

/// Objects of custom resources: keys sorted, nothing filled in, nothing left out.
fn write_free(out: &mut Vec<u8>, object: &Map<String, Value>, types: &Types, def: &TypeDef) {
    write_sorted(out, object, |out, key, value| match def.field(key) {
        Some(field) => write_value(out, value, &field.shape, types),
        None => write_any(out, value),
    });
}

fn write_key(out: &mut Vec<u8>, first: &mut bool, key: &str) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    write_string(out, key);
    out.push(b':');
}

fn write_zero(out: &mut Vec<u8>, field: &Field, types: &Types) {
    match &field.shape {
        _ if field.pointer => out.extend_from_slice(b"null"),
        Shape::Struct(id) => write_struct(out, &Map::new(), types, *id),
        shape => write_any(out, &scalar::zero(shape)),
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value, shape: &Shape, types: &Types) {
    match (shape, value) {
        (Shape::Struct(id), Value::Object(object)) => write_struct(out, object, types, *id),
        (Shape::List { items, .. }, Value::Array(list)) => {
            out.push(b'[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(out, value, items, types);
            }
            out.push(b']');
        }
        (Shape::Map { values, .. }, Value::Object(object)) => {
            write_sorted(out, object, |out, _, value| write_value(out, value, values, types));
        }
        _ => write_any(out, value),
    }
}

fn write_union(out: &mut Vec<u8>, value: &Value, shape: &Shape, union: Union, types: &Types, id: TypeId) {
    match (shape, value) {
        (Shape::Map { .. }, Value::Object(object)) => {
            write_sorted(out, object, |out, _, value| write_union(out, value, &Shape::Any, union, types, id));
        }
        (_, Value::Object(object)) => write_struct(out, object, types, id),
        (_, Value::Array(list)) if union == Union::Array => {
            out.push(b'[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_union(out, value, shape, union, types, id);
            }
            out.push(b']');
        }
        _ => write_any(out, value),
    }
}

fn write_sorted(out: &mut Vec<u8>, object: &Map<String, Value>, mut write: impl FnMut(&mut Vec<u8>, &str, &Value)) {
    out.push(b'{');
    let mut first = true;
    let mut emit = |out: &mut Vec<u8>, key: &str, value: &Value| {
        write_key(out, &mut first, key);
        write(out, key, value);
    };
    if object.keys().is_sorted() {
        for (key, value) in object {
            emit(out, key, value);
        }
    } else {
        let mut entries: Vec<_> = object.iter().collect();
        entries.sort_by_key(|(key, _)| *key);
        for (key, value) in entries {
            emit(out, key, value);
        }
    }
    out.push(b'}');
}

fn write_any(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(list) => {
            out.push(b'[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_any(out, value);
            }
            out.push(b']');
        }
        Value::Object(object) => write_sorted(out, object, |out, _, value| write_any(out, value)),
    }
}

/// A number in Go's form: `1` for 1.0, an exponent from 1e21 and below 1e-6.
fn write_number(out: &mut Vec<u8>, number: &Number) {
    if let Some(int) = number.as_i64() {
        out.extend_from_slice(itoa::Buffer::new().format(int).as_bytes());
    } else if let Some(int) = number.as_u64() {
        out.extend_from_slice(itoa::Buffer::new().format(int).as_bytes());
    } else if let Some(float) = number.as_f64() {
        let size = float.abs();
        let written = if float == 0.0 || (1e-6..1e21).contains(&size) {
            write!(out, "{float}")
        } else {
            let text = format!("{float:e}");
            let signed = if size >= 1.0 { text.replace('e', "e+") } else { text };
            out.write_all(signed.as_bytes())
        };
        debug_assert!(written.is_ok(), "writing to memory cannot fail");
    }
}

/// Bytes that are not written as they are, or may begin a character that is not.
static NEEDS_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    #[allow(clippy::indexing_slicing)] // In a constant: out of bounds would not compile.
    while byte < 256 {
        table[byte] = byte < 0x20 || matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
        byte += 1;
    }
    table
};

/// A string with Go's escapes, quotes included.
fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !NEEDS_ESCAPE.get(usize::from(*byte)).is_some_and(|needs| *needs) {
            continue;
        }
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            0xe2 => match bytes.get(at + 1..at + 3) {
                Some([0x80, 0xa8]) => b"\\u2028",
                Some([0x80, 0xa9]) => b"\\u2029",
                _ => continue,
            },
            0..0x20 => &[],
            _ => continue,
        };
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        if escape.is_empty() {
            out.extend_from_slice(b"\\u00");
            out.extend(HEX.get(usize::from(byte >> 4)));
            out.extend(HEX.get(usize::from(byte & 15)));
        }
        out.extend_from_slice(escape);
        from = at + if *byte == 0xe2 { 3 } else { 1 };
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    out.push(b'"');
}
