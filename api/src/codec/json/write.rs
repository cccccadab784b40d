//! Writing JSON as Go's encoder would: fields in struct order, maps sorted, empty fields by Go's rules, `<`, `>` and `&`
//! escaped.
//!
//! Never fails: a value that does not fit its schema is written as it is.

use super::settle;
use crate::codec::scalar;
use crate::json::{Map, Number, Value};
use crate::schema::{Field, SchemaRef, Shape, TypeDef, TypeId, Types, Union};
use std::io::Write;

/// Encodes an object without white space and without a final newline. Fields the schema of a native type does not know
/// are left out; required fields that are absent are written as Go's zero value.
#[must_use]
pub fn encode(value: &Value, schema: SchemaRef<'_>) -> Vec<u8> {
    let mut writer = Writer { out: Vec::with_capacity(1024), types: schema.types };
    match value {
        Value::Object(object) => writer.structure(object, schema.id),
        other => write_any(&mut writer.out, other),
    }
    writer.out
}

/// Encodes any value in the same way, without a schema: keys sorted.
#[must_use]
pub fn encode_any(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_any(&mut out, value);
    out
}

/// Writes what is in the place of a shape, as `encode` does.
pub(crate) fn write_shape(out: &mut Vec<u8>, value: &Value, shape: &Shape, types: &Types) {
    let mut writer = Writer { out: std::mem::take(out), types };
    writer.value(value, shape);
    *out = writer.out;
}

static EMPTY: Map = Map::new();

struct Writer<'v> {
    out: Vec<u8>,
    types: &'v Types,
}

impl<'v> Writer<'v> {
    fn structure(&mut self, object: &'v Map, id: TypeId) {
        let types = self.types;
        let def = types.get(id);
        if def.free {
            return self.free(object, def);
        }
        let present = SchemaRef { types, id }.present(object);
        self.out.push(b'{');
        let mut first = true;
        let mut due = present.first() | types.always_first(id);
        while due != 0 {
            let position = due.trailing_zeros() as usize;
            due &= due - 1;
            self.field(def, id, position, present.get(position), &mut first);
        }
        for position in 64..def.fields.len() {
            self.field(def, id, position, present.get(position), &mut first);
        }
        self.out.push(b'}');
    }

    fn field(&mut self, def: &'v TypeDef, id: TypeId, position: usize, value: Option<&'v Value>, first: &mut bool) {
        let Some(field) = def.fields.get(position) else { return };
        if field.omit_empty && value.is_none_or(|value| !field.pointer && scalar::is_empty(value)) {
            return;
        }
        self.name(id, position, field, first);
        let Some(value) = value else { return self.zero(field) };
        match self.types.wire(id, position).and_then(|wire| wire.union) {
            Some(union) => self.union(value, &field.shape, union, id),
            None => self.value(value, &field.shape),
        }
    }

    /// The name of a field, which needs no escapes.
    fn name(&mut self, id: TypeId, position: usize, field: &Field, first: &mut bool) {
        let first = std::mem::take(first);
        match self.types.head(id, position) {
            Some(head) => self.out.extend_from_slice(head.get(usize::from(first)..).unwrap_or_default().as_bytes()),
            None => {
                let text = format!(",\"{}\":", field.name);
                self.out.extend_from_slice(text.get(usize::from(first)..).unwrap_or_default().as_bytes());
            }
        }
    }

    /// Objects of custom resources: keys sorted, nothing filled in, nothing left out.
    fn free(&mut self, object: &'v Map, def: &'v TypeDef) {
        self.entries(object, |writer, key, value| match def.field(key) {
            Some(field) => writer.sorted(value, &field.shape),
            None => write_any(&mut writer.out, value),
        });
    }

    /// What is within an object of a custom resource: Go has it as maps, so that the fields of metadata too come by their names.
    fn sorted(&mut self, value: &'v Value, shape: &'v Shape) {
        match (shape, value) {
            (Shape::Struct(id), Value::Object(object)) => {
                let def = self.types.get(*id);
                if def.free {
                    return self.free(object, def);
                }
                if self.types.always(*id).any(|(_, field)| object.get(&field.name).is_none_or(Value::is_null)) {
                    let mut whole = value.clone();
                    settle(&mut whole, SchemaRef { types: self.types, id: *id });
                    return write_any(&mut self.out, &whole);
                }
                self.out.push(b'{');
                let mut first = true;
                for (name, value) in object {
                    let position = self.types.position(*id, name).filter(|_| !value.is_null());
                    let Some((position, field)) = position.and_then(|at| Some((at, def.fields.get(at)?))) else {
                        continue;
                    };
                    if !field.omit_empty || field.pointer || !scalar::is_empty(value) {
                        self.name(*id, position, field, &mut first);
                        self.sorted(value, &field.shape);
                    }
                }
                self.out.push(b'}');
            }
            (Shape::List { items, .. }, Value::Array(list)) => {
                self.list(list, |writer, value| writer.sorted(value, items));
            }
            (Shape::Map { values, .. }, Value::Object(object)) => {
                self.entries(object, |writer, _, value| writer.sorted(value, values));
            }
            _ => write_any(&mut self.out, value),
        }
    }

    fn zero(&mut self, field: &'v Field) {
        match &field.shape {
            _ if field.pointer => self.out.extend_from_slice(b"null"),
            Shape::Struct(id) => self.structure(&EMPTY, *id),
            shape => write_any(&mut self.out, &scalar::zero(shape)),
        }
    }

    fn value(&mut self, value: &'v Value, shape: &'v Shape) {
        match (shape, value) {
            (Shape::Struct(id), Value::Object(object)) => self.structure(object, *id),
            (Shape::List { items, .. }, Value::Array(list)) => {
                self.list(list, |writer, value| writer.value(value, items));
            }
            (Shape::Map { values, .. }, Value::Object(object)) => {
                self.entries(object, |writer, _, value| writer.value(value, values));
            }
            _ => write_any(&mut self.out, value),
        }
    }

    fn union(&mut self, value: &'v Value, shape: &'v Shape, union: Union, id: TypeId) {
        match (shape, value) {
            (Shape::Map { .. }, Value::Object(object)) => {
                self.entries(object, |writer, _, value| writer.union(value, &Shape::Any, union, id));
            }
            (_, Value::Object(object)) => self.structure(object, id),
            (_, Value::Array(list)) if union == Union::Array => {
                self.list(list, |writer, value| writer.union(value, shape, union, id));
            }
            _ => write_any(&mut self.out, value),
        }
    }

    fn list(&mut self, list: &'v [Value], mut write: impl FnMut(&mut Self, &'v Value)) {
        self.out.push(b'[');
        for (index, value) in list.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(self, value);
        }
        self.out.push(b']');
    }

    fn entries(&mut self, object: &'v Map, mut write: impl FnMut(&mut Self, &'v str, &'v Value)) {
        self.out.push(b'{');
        let mut first = true;
        for (key, value) in object {
            write_key(&mut self.out, &mut first, key);
            write(self, key, value);
        }
        self.out.push(b'}');
    }
}

/// Writes a name and its colon, behind a comma unless it is the first.
pub(crate) fn write_key(out: &mut Vec<u8>, first: &mut bool, key: &str) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    write_string(out, key);
    out.push(b':');
}

pub(crate) fn write_any(out: &mut Vec<u8>, value: &Value) {
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
        Value::Object(object) => {
            out.push(b'{');
            let mut first = true;
            for (key, value) in object {
                write_key(out, &mut first, key);
                write_any(out, value);
            }
            out.push(b'}');
        }
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

/// Whether all bytes are ASCII and written as they are. Eight at once; a mark above the lowest one of a word may be a borrow's, which does
/// not matter here.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let marks = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let is = |word: u64, byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
        // A quote and an ampersand differ in one bit, and so do `<` and `>`.
        let escaped = is(word | (ONES * 4), b'&') | is(word | (ONES * 2), b'>') | is(word, b'\\');
        (escaped | word.wrapping_sub(ONES * 0x20) | word) & (ONES << 7)
    };
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().fold(marks(last), |all, word| all | marks(word)) == 0,
        None => {
            bytes.iter().all(|byte| *byte < 0x80 && !NEEDS_ESCAPE.get(usize::from(*byte)).is_some_and(|needs| *needs))
        }
    }
}

/// A string with Go's escapes, quotes included.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        write_escaped(out, text);
    }
}

/// What follows the opening quote.
fn write_escaped(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
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
