//! Values to wire bytes.
//!
//! A value that does not fit its shape is written as that shape's zero.

use super::MAGIC;
use super::plan::{self, Entry, Place, Plan, Target};
use crate::codec::{EncodeError, scalar};
use crate::json::{Map, Value};
use crate::schema::{Field, SchemaRef, Shape, TypeId, Types, Union};

pub(super) fn object(value: &Value, schema: SchemaRef<'_>) -> Result<Vec<u8>, EncodeError> {
    let empty = Map::new();
    let object = value.as_object().unwrap_or(&empty);
    let no_form = || EncodeError::NoProtobuf(schema.def().name.clone());
    let plan = plan::of(schema).ok_or_else(no_form)?;
    if plan.entries.is_empty() && schema.def().fields.iter().any(|field| field.number == 0 && !is_type_meta(field)) {
        return Err(no_form());
    }
    let text = |key| object.get(key).and_then(Value::as_str).unwrap_or_default();
    Ok(envelope(text("apiVersion"), text("kind"), |out| structure(out, object, plan, schema)))
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

/// The values of an object by the turns of their fields on the wire. Most fields of a type are absent, and what is there comes in the
/// order of names: a set of bits puts it in that of turns.
struct Found<'v> {
    object: &'v Map,
    /// Which are there, and those that are written although they are not.
    due: u64,
    there: u64,
    /// Where in the object.
    places: [u32; 64],
}

impl<'v> Found<'v> {
    fn of(object: &'v Map, plan: &Plan, schema: SchemaRef<'_>) -> Found<'v> {
        let mut found = Found { object, due: 0, there: 0, places: [0; 64] };
        for ((name, value), place) in object.iter().zip(0..) {
            let position = schema.types.position(schema.id, name).filter(|_| !value.is_null());
            let turn = position.and_then(|position| plan.turns.get(position)).copied().unwrap_or(u8::MAX);
            if let Some(slot) = found.places.get_mut(usize::from(turn)) {
                *slot = place;
                found.there |= 1 << turn;
            }
        }
        found.due = found.there | plan.always;
        found
    }

    #[inline]
    fn get(&self, turn: u8) -> Option<&'v Value> {
        let place = self.places.get(usize::from(turn)).filter(|_| self.there >> (turn & 63) & 1 == 1)?;
        self.object.at(*place as usize)
    }

    #[inline]
    fn is_due(&self, turn: u8) -> bool {
        turn < 64 && self.due >> (turn & 63) & 1 == 1
    }
}

fn structure(out: &mut Vec<u8>, object: &Map, plan: &Plan, schema: SchemaRef<'_>) {
    let found = Found::of(object, plan, schema);
    if !plan.flat {
        return fields(out, &found, plan, schema);
    }
    let mut due = found.due;
    while due != 0 {
        let turn = due.trailing_zeros();
        due &= due - 1;
        if let Some(Entry { target: Target::Field(place), .. }) = plan.entries.get(turn as usize) {
            one(out, place, found.get(place.turn), schema);
        }
    }
}

/// The fields of a type with messages that JSON inlines, or of one of these.
fn fields(out: &mut Vec<u8>, found: &Found<'_>, plan: &Plan, schema: SchemaRef<'_>) {
    for entry in &plan.entries {
        match &entry.target {
            Target::Inline(inner) => nested(out, entry.number, |out| fields(out, found, inner, schema)),
            Target::Field(place) if found.is_due(place.turn) => one(out, place, found.get(place.turn), schema),
            Target::Field(_) => {}
        }
    }
}

fn one(out: &mut Vec<u8>, place: &Place, value: Option<&Value>, schema: SchemaRef<'_>) {
    let SchemaRef { types, id } = schema;
    let Some(field) = schema.def().fields.get(place.index) else { return };
    if let (true, Some(Value::String(text))) = (place.text, value) {
        return bytes(out, field.number, text.as_bytes());
    }
    let special = if place.special { types.wire(id, place.index) } else { None };
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
                    structure(out, object, plan, schema);
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
    // The length goes behind first, to be as many bytes as it takes.
    let end = out.len();
    varint(out, length as u64);
    let width = out.len() - end;
    let mut prefix = [0; 10];
    if let (Some(prefix), Some(written)) = (prefix.get_mut(..width), out.get(end..)) {
        prefix.copy_from_slice(written);
    }
    out.pop();
    out.copy_within(start + 1..end, start + width);
    if let (Some(place), Some(prefix)) = (out.get_mut(start..start + width), prefix.get(..width)) {
        place.copy_from_slice(prefix);
    }
}
