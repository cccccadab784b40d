//! Values to wire bytes.
//!
//! A value that does not fit its shape is written as that shape's zero.

use super::MAGIC;
use super::plan::{self, Plan, Target};
use crate::codec::{EncodeError, scalar};
use crate::json::{Map, Value};
use crate::schema::{Field, Present, SchemaRef, Shape, TypeId, Types, Union, Wire};

pub(super) fn object(value: &Value, schema: SchemaRef<'_>) -> Result<Vec<u8>, EncodeError> {
    let empty = Map::new();
    let object = value.as_object().unwrap_or(&empty);
    let no_form = || EncodeError::NoProtobuf(schema.def().name.clone());
    let plan = plan::of(schema).ok_or_else(no_form)?;
    if plan.entries.is_empty() && schema.def().fields.iter().any(|field| field.number == 0 && !is_type_meta(field)) {
        return Err(no_form());
    }
    let text = |key| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let present = schema.present(object);
    Ok(envelope(text("apiVersion"), text("kind"), |out| fields(out, &present, plan, schema)))
}

pub(super) fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    envelope("v1", "WatchEvent", |out| {
        bytes(out, 1, event.as_bytes());
        nested(out, 2, |out| bytes(out, 1, object));
    })
}

fn envelope(api_version: &str, kind: &str, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&MAGIC);
    nested(&mut out, 1, |out| {
        bytes(out, 1, api_version.as_bytes());
        bytes(out, 2, kind.as_bytes());
    });
    nested(&mut out, 2, body);
    // Content encoding and type of what is inside: both empty.
    bytes(&mut out, 3, b"");
    bytes(&mut out, 4, b"");
    out
}

fn is_type_meta(field: &Field) -> bool {
    matches!(field.name.as_str(), "kind" | "apiVersion")
}

fn fields(out: &mut Vec<u8>, present: &Present<'_>, plan: &Plan, schema: SchemaRef<'_>) {
    let def = schema.def();
    if let Some(in_order) = &plan.in_order {
        let mut due = present.first() & in_order.all | in_order.always;
        while due != 0 {
            let index = due.trailing_zeros() as usize;
            let bit = due & due.wrapping_neg();
            due ^= bit;
            let Some(field) = def.fields.get(index) else { continue };
            let special = if in_order.special & bit == 0 { None } else { schema.types.wire(schema.id, index) };
            one(out, field, special, present.get(index), schema);
        }
        return;
    }
    for entry in &plan.entries {
        match &entry.target {
            Target::Inline(inner) => nested(out, entry.number, |out| fields(out, present, inner, schema)),
            Target::Field(index) => {
                if let Some(field) = def.fields.get(*index) {
                    let special = schema.types.wire(schema.id, *index);
                    rare(out, field, special, present.get(*index), schema);
                }
            }
        }
    }
}

/// A field of a message that is not written in order.
#[inline(never)]
fn rare(out: &mut Vec<u8>, field: &Field, special: Option<&Wire>, value: Option<&Value>, schema: SchemaRef<'_>) {
    one(out, field, special, value, schema);
}

#[inline(always)]
fn one(out: &mut Vec<u8>, field: &Field, special: Option<&Wire>, value: Option<&Value>, schema: SchemaRef<'_>) {
    let SchemaRef { types, id } = schema;
    let wrapped = special.is_some_and(|wire| wire.wrapped);
    let union = special.and_then(|wire| wire.union);
    let number = field.number;
    match (&field.shape, value) {
        (Shape::List { items, .. }, Some(Value::Array(list))) if wrapped => {
            wrapped_list(out, number, list, items, types);
        }
        (Shape::List { items, .. }, Some(Value::Array(list))) => {
            for value in list {
                single(out, number, value, items, types);
            }
        }
        (Shape::Map { values, .. }, Some(Value::Object(map))) => {
            let mut entries: Vec<_> = map.iter().collect();
            if !map.keys().is_sorted() {
                entries.sort_by_key(|(key, _)| *key);
            }
            for (key, value) in entries {
                nested(out, number, |out| {
                    bytes(out, 1, key.as_bytes());
                    match (&**values, value, union) {
                        (_, value, Some(union)) => union_message(out, 2, value, union, types, id),
                        (Shape::List { items, .. }, Value::Array(list), _) => wrapped_list(out, 2, list, items, types),
                        (Shape::List { items, .. }, _, _) => wrapped_list(out, 2, &[], items, types),
                        _ => single(out, 2, value, values, types),
                    }
                });
            }
        }
        (Shape::List { .. } | Shape::Map { .. } | Shape::Bytes, None) => {}
        (_, Some(value)) => match union {
            Some(union) => union_message(out, number, value, union, types, id),
            None => single(out, number, value, &field.shape, types),
        },
        (_, None) if field.pointer => {}
        (shape, None) => single(out, number, &Value::Null, shape, types),
    }
}

fn wrapped_list(out: &mut Vec<u8>, number: u32, list: &[Value], items: &Shape, types: &Types) {
    nested(out, number, |out| {
        for value in list {
            single(out, 1, value, items, types);
        }
    });
}

fn union_message(out: &mut Vec<u8>, number: u32, value: &Value, union: Union, types: &Types, schema: TypeId) {
    let schema = &Shape::Struct(schema);
    nested(out, number, |out| match (union, value) {
        (Union::Bool, Value::Object(_)) => {
            varint_field(out, 1, 1);
            single(out, 2, value, schema, types);
        }
        (Union::Bool, _) => varint_field(out, 1, u64::from(value.as_bool().unwrap_or_default())),
        (_, Value::Object(_)) => single(out, 1, value, schema, types),
        (Union::Array, Value::Array(list)) => {
            list.iter().for_each(|value| single(out, 2, value, schema, types));
        }
        (_, Value::Array(list)) => list.iter().for_each(|value| single(out, 2, value, &Shape::String, types)),
        _ => {}
    });
}

/// One value that is no list or map; null is Go's zero value.
fn single(out: &mut Vec<u8>, number: u32, value: &Value, shape: &Shape, types: &Types) {
    let text = || value.as_str().unwrap_or_default();
    match shape {
        Shape::Bool => varint_field(out, number, u64::from(value.as_bool().unwrap_or_default())),
        Shape::Int32 | Shape::Int64 => varint_field(out, number, unsigned(value.as_i64().unwrap_or_default())),
        Shape::Float64 => {
            varint(out, u64::from(number) << 3 | 1);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Shape::String => bytes(out, number, text().as_bytes()),
        Shape::Bytes => bytes(out, number, &scalar::from_base64(text())),
        Shape::Struct(id) => {
            let schema = SchemaRef { types, id: *id };
            let empty = Map::new();
            let object = value.as_object().unwrap_or(&empty);
            nested(out, number, |out| {
                if let Some(plan) = plan::of(schema) {
                    fields(out, &schema.present(object), plan, schema);
                }
            });
        }
        Shape::Quantity => nested(out, number, |out| {
            bytes(out, 1, value.as_str().unwrap_or("0").as_bytes());
        }),
        Shape::IntOrString => nested(out, number, |out| {
            varint_field(out, 1, u64::from(value.is_string()));
            varint_field(out, 2, unsigned(value.as_i64().unwrap_or_default()));
            bytes(out, 3, text().as_bytes());
        }),
        Shape::Time | Shape::MicroTime => nested(out, number, |out| {
            if let Some(time) = scalar::parse_time(text()) {
                let (mut seconds, mut nanos) = (time.as_second(), i64::from(time.subsec_nanosecond()));
                if nanos < 0 {
                    (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
                }
                let nanos = if *shape == Shape::Time { 0 } else { nanos / 1000 * 1000 };
                varint_field(out, 1, unsigned(seconds));
                varint_field(out, 2, unsigned(nanos));
            }
        }),
        Shape::Duration => nested(out, number, |out| {
            varint_field(out, 1, unsigned(scalar::parse_duration(text()).unwrap_or_default()));
        }),
        Shape::Any => nested(out, number, |out| {
            if !value.is_null() {
                nested(out, 1, |out| out.extend_from_slice(value.to_string().as_bytes()));
            }
        }),
        Shape::List { items, .. } => {
            wrapped_list(out, number, value.as_array().map_or(&[], Vec::as_slice), items, types);
        }
        Shape::Map { .. } => {}
    }
}

fn unsigned(value: i64) -> u64 {
    u64::from_ne_bytes(value.to_ne_bytes())
}

fn varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    // Most fields are short and of small numbers.
    if number < 16 && bytes.len() < 0x80 {
        out.extend_from_slice(&[(number << 3 | 2) as u8, bytes.len() as u8]);
    } else {
        varint(out, u64::from(number) << 3 | 2);
        varint(out, bytes.len() as u64);
    }
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A message whose length is known only once it is written: the length is moved in front of it.
fn nested(out: &mut Vec<u8>, number: u32, body: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(number) << 3 | 2);
    let start = out.len();
    // Nearly every message is shorter than 128 bytes or 16 KiB; one byte is reserved and more are moved in if needed.
    out.push(0);
    body(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        if let Some(slot) = out.get_mut(start) {
            *slot = length as u8;
        }
        return;
    }
    let end = out.len();
    varint(out, length as u64);
    let width = out.len() - end;
    if let Some(tail) = out.get_mut(start..) {
        // [0, body.., length..] -> [length.., body..] and the reserved byte goes.
        tail.rotate_right(width);
        tail.copy_within(width + 1.., width);
    }
    out.pop();
}
