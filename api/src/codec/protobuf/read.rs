//! Wire bytes to values.
//!
//! Never panics on bad bytes; nesting is bounded.

use super::MAGIC;
use super::plan::{self, Place, Plan, Target};
use crate::codec::{DecodeError, MAX_DEPTH, cut, json, scalar};
use crate::json::{Map, Number, Text, Value};
use crate::schema::{Field, SchemaRef, Shape, TypeId, Types, Union};

pub(super) struct Envelope<'a> {
    pub(super) api_version: Text,
    pub(super) kind: Text,
    pub(super) raw: &'a [u8],
}

type Read<T> = Result<T, DecodeError>;

pub(super) fn envelope(bytes: &[u8]) -> Read<Envelope<'_>> {
    let Some(body) = bytes.strip_prefix(&MAGIC) else {
        return Err(DecodeError::Syntax(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".to_owned(),
        ));
    };
    let mut out = Envelope { api_version: Text::default(), kind: Text::default(), raw: &[] };
    let mut wire = Wire { bytes: body };
    while let Some((number, payload)) = wire.field()? {
        match (number, payload) {
            (1, Payload::Bytes(meta)) => {
                let mut wire = Wire { bytes: meta };
                while let Some((number, payload)) = wire.field()? {
                    match (number, payload) {
                        (1, Payload::Bytes(text)) => out.api_version = utf8(text),
                        (2, Payload::Bytes(text)) => out.kind = utf8(text),
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(raw)) => out.raw = raw,
            _ => {}
        }
    }
    Ok(out)
}

pub(super) fn message(bytes: &[u8], schema: SchemaRef<'_>) -> Read<Value> {
    let mut reader = Reader { types: schema.types, entries: Vec::new() };
    filled(|out| reader.structure(bytes, schema.id, 0, out))
}

/// What `fill` puts into its value.
fn filled<T>(fill: impl FnOnce(&mut Value) -> Read<T>) -> Read<Value> {
    let mut value = Value::Null;
    fill(&mut value).map(|_| value)
}

/// A message that is open.
struct Open {
    id: TypeId,
    /// Where its fields begin among the entries.
    begin: usize,
    /// Which fields it has, as a set of their ranks (`Types::rank`).
    kept: u64,
    /// Which of them are maps whose entries came in another order than that of their names.
    unsorted: u64,
    depth: usize,
}

impl Open {
    /// Where the field of this rank is, or where it belongs.
    fn at(&self, rank: u64) -> Result<usize, usize> {
        let at = self.begin + (self.kept & (rank - 1)).count_ones() as usize;
        if self.kept & rank == 0 { Err(at) } else { Ok(at) }
    }
}

struct Reader<'t> {
    types: &'t Types,
    /// What the messages that are open have so far, each after those around it, in the order of names.
    entries: Vec<(Text, Value)>,
}

impl<'t> Reader<'t> {
    /// Puts a message into `out`. Values are written where they belong, here and below, instead of being moved through results.
    fn structure(&mut self, bytes: &[u8], id: TypeId, depth: usize, out: &mut Value) -> Read<()> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::Syntax("exceeded max depth".to_owned()));
        }
        let schema = SchemaRef { types: self.types, id };
        let plan = plan::of(schema).filter(|_| self.types.is_ranked(id) || schema.def().fields.is_empty());
        let Some(plan) = plan else {
            return Err(DecodeError::Syntax(format!("no protobuf form: {}", schema.def().name)));
        };
        let mut open = Open { id, begin: self.entries.len(), kept: 0, unsorted: 0, depth };
        self.fields(bytes, plan, &mut open, depth)?;
        while open.unsorted != 0 {
            let rank = open.unsorted & open.unsorted.wrapping_neg();
            open.unsorted &= open.unsorted - 1;
            let entry = open.at(rank).ok().and_then(|at| self.entries.get_mut(at));
            if let Some((_, Value::Object(map))) = entry {
                map.sort();
            }
        }
        *out = Value::Object(Map::sorted(cut(&mut self.entries, open.begin)));
        Ok(())
    }

    fn fields(&mut self, bytes: &[u8], plan: &Plan, open: &mut Open, depth: usize) -> Read<()> {
        let def = self.types.get(open.id);
        let mut wire = Wire { bytes };
        while let Some((number, payload)) = wire.field()? {
            let Some(entry) = plan.entry(number) else { continue };
            match (&entry.target, payload) {
                (Target::Inline(inner), Payload::Bytes(bytes)) => {
                    if depth > MAX_DEPTH {
                        return Err(DecodeError::Syntax("exceeded max depth".to_owned()));
                    }
                    self.fields(bytes, inner, open, depth + 1)?;
                }
                // Go writes every text of a struct, and most are empty.
                (Target::Field(Place { text: true, rank, .. }), Payload::Bytes([])) if open.kept & rank == 0 => {}
                (Target::Field(Place { text: true, index, rank, .. }), Payload::Bytes(text @ [_, ..])) => {
                    if let Some(field) = def.fields.get(*index) {
                        self.put(open, *rank, field, Value::String(utf8(text)));
                    }
                }
                (Target::Field(place), payload) => {
                    if let Some(field) = def.fields.get(place.index) {
                        self.field(field, place, payload, open)?;
                    }
                }
                _ => return Err(wrong_type(number)),
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'t Field, place: &Place, payload: Payload<'_>, open: &mut Open) -> Read<()> {
        let Open { id, depth, .. } = *open;
        let Place { index, rank, .. } = *place;
        let special = if place.special { self.types.wire(id, index) } else { None };
        let wrapped = special.is_some_and(|wire| wire.wrapped);
        let union = special.and_then(|wire| wire.union);
        match &field.shape {
            Shape::List { items, .. } if !wrapped => {
                let packable = matches!(**items, Shape::Int32 | Shape::Int64 | Shape::Bool);
                if let (true, Payload::Bytes(bytes)) = (packable, payload) {
                    let mut wire = Wire { bytes };
                    let mut more = Vec::new();
                    while !wire.bytes.is_empty() {
                        let number = Payload::Varint(wire.varint()?);
                        more.push(filled(|out| self.value(number, items, depth, out))?);
                    }
                    match self.there(open, rank) {
                        Some(Value::Array(list)) => list.append(&mut more),
                        _ if more.is_empty() && is_left_out(field) => {}
                        _ => self.put(open, rank, field, Value::Array(more)),
                    }
                } else {
                    let mut element = Value::Null;
                    if !self.value(payload, items, depth, &mut element)? {
                        element = scalar::zero(items);
                    }
                    match self.there(open, rank) {
                        Some(Value::Array(list)) => list.push(element),
                        _ => {
                            // Most lists have one element, for which a list that grows would make room for four.
                            self.put(open, rank, field, Value::Array(vec![element]));
                        }
                    }
                }
            }
            Shape::Map { values, .. } => {
                let Payload::Bytes(bytes) = payload else { return Err(wrong_type(field.number)) };
                let mut key = Text::default();
                let mut entry = Value::Null;
                let mut is_there = false;
                let mut wire = Wire { bytes };
                while let Some((number, payload)) = wire.field()? {
                    match (number, payload) {
                        (1, Payload::Bytes(text)) => key = utf8(text),
                        (2, Payload::Bytes(bytes)) if wrapped => {
                            self.wrapped_list(bytes, values, depth, &mut entry)?;
                            is_there = true;
                        }
                        (2, Payload::Bytes(bytes)) if union.is_some() => {
                            is_there = self.union_value(bytes, union, id, depth, &mut entry)?;
                        }
                        (2, payload) => is_there = self.value(payload, values, depth, &mut entry)?,
                        _ => {}
                    }
                }
                if !is_there {
                    entry = scalar::zero(values);
                }
                if open.kept & rank == 0 {
                    self.put(open, rank, field, Value::Object(Map::new()));
                }
                if let Some(Value::Object(map)) = self.there(open, rank)
                    && !map.push(key, entry)
                {
                    open.unsorted |= rank;
                }
            }
            shape => {
                let mut new = Value::Null;
                let is_there = match (payload, shape) {
                    (Payload::Bytes(bytes), _) if wrapped => {
                        self.wrapped_list(bytes, shape, depth, &mut new)?;
                        true
                    }
                    (Payload::Bytes(bytes), _) if union.is_some() => {
                        self.union_value(bytes, union, id, depth, &mut new)?
                    }
                    (payload, _) => self.value(payload, shape, depth, &mut new)?,
                };
                // What is empty takes the place of what came before it, and is left out.
                if is_there && is_left_out(field) && scalar::is_empty(&new) {
                    if let Ok(at) = open.at(rank) {
                        self.entries.remove(at);
                        open.kept &= !rank;
                    }
                } else if is_there {
                    self.put(open, rank, field, new);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, open: &mut Open, rank: u64, field: &Field, value: Value) {
        match open.at(rank) {
            Ok(at) => {
                if let Some((_, there)) = self.entries.get_mut(at) {
                    *there = value;
                }
            }
            Err(at) => {
                self.entries.insert(at, (field.name.clone(), value));
                open.kept |= rank;
            }
        }
    }

    /// What the message has in the field of this rank.
    fn there(&mut self, open: &Open, rank: u64) -> Option<&mut Value> {
        let at = open.at(rank).ok()?;
        self.entries.get_mut(at).map(|(_, value)| value)
    }

    fn wrapped_list(&mut self, bytes: &[u8], shape: &Shape, depth: usize, out: &mut Value) -> Read<()> {
        let Shape::List { items, .. } = shape else { return Ok(()) };
        let mut list = Vec::new();
        let mut wire = Wire { bytes };
        while let Some((number, payload)) = wire.field()? {
            let mut element = Value::Null;
            if number == 1 && self.value(payload, items, depth, &mut element)? {
                list.push(element);
            }
        }
        *out = Value::Array(list);
        Ok(())
    }

    /// `false` where Go holds nil.
    fn union_value(
        &mut self,
        bytes: &[u8],
        union: Option<Union>,
        schema: TypeId,
        depth: usize,
        out: &mut Value,
    ) -> Read<bool> {
        let mut allows = false;
        let mut single = None;
        let mut list = Vec::new();
        let mut wire = Wire { bytes };
        while let Some((number, payload)) = wire.field()? {
            match (union, number, payload) {
                (Some(Union::Bool), 1, Payload::Varint(flag)) => allows = flag != 0,
                (Some(Union::Bool), 2, Payload::Bytes(bytes)) | (_, 1, Payload::Bytes(bytes)) => {
                    single = Some(filled(|out| self.structure(bytes, schema, depth + 1, out))?);
                }
                (Some(Union::Array), 2, Payload::Bytes(bytes)) => {
                    list.push(filled(|out| self.structure(bytes, schema, depth + 1, out))?);
                }
                (Some(Union::Strings), 2, Payload::Bytes(bytes)) => list.push(Value::String(utf8(bytes))),
                _ => {}
            }
        }
        let found = match union {
            Some(Union::Bool) => single.or(Some(Value::Bool(allows))),
            _ if !list.is_empty() => Some(Value::Array(list)),
            _ => single,
        };
        let is_there = found.is_some();
        *out = found.unwrap_or_default();
        Ok(is_there)
    }

    /// A value that is no list or map; `false` where Go holds nil.
    fn value(&mut self, payload: Payload<'_>, shape: &Shape, depth: usize, out: &mut Value) -> Read<bool> {
        *out = match (shape, payload) {
            (Shape::Bool, Payload::Varint(bits)) => Value::Bool(bits != 0),
            // Go keeps the low 32 bits.
            (Shape::Int32, Payload::Varint(bits)) => Value::from(signed(bits) as i32),
            (Shape::Int64, Payload::Varint(bits)) => Value::from(signed(bits)),
            (Shape::Float64, Payload::Fixed64(bits)) => {
                Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
            }
            (Shape::String, Payload::Bytes(bytes)) => Value::String(utf8(bytes)),
            (Shape::Bytes, Payload::Bytes(bytes)) => Value::from(scalar::to_base64(bytes)),
            (Shape::Struct(id), Payload::Bytes(bytes)) => {
                self.structure(bytes, *id, depth + 1, out)?;
                return Ok(true);
            }
            (Shape::List { .. }, Payload::Bytes(bytes)) => {
                self.wrapped_list(bytes, shape, depth, out)?;
                return Ok(true);
            }
            (shape, Payload::Bytes(bytes)) => match special(shape, bytes)? {
                Some(value) => value,
                None => return Ok(false),
            },
            _ => return Err(wrong_shape()),
        };
        Ok(true)
    }
}

fn wrong_shape() -> DecodeError {
    DecodeError::Syntax("proto: wrong wireType".to_owned())
}

/// A value that has a message of its own; `None` where Go holds nil.
fn special(shape: &Shape, bytes: &[u8]) -> Read<Option<Value>> {
    match shape {
        Shape::Quantity => quantity(bytes).map(Some),
        Shape::IntOrString => int_or_string(bytes).map(Some),
        Shape::Time => Ok(timestamp(bytes)?.map(|time| Value::from(scalar::format_time(time.as_second())))),
        Shape::MicroTime => Ok(timestamp(bytes)?.map(|time| Value::from(scalar::format_micro(time)))),
        Shape::Duration => Ok(Some(Value::from(scalar::format_duration(signed(first_varint(bytes)?))))),
        Shape::Any => any(bytes),
        _ => Err(wrong_shape()),
    }
}

/// Not there when it is empty.
fn is_left_out(field: &Field) -> bool {
    field.omit_empty && !field.pointer
}

fn any(bytes: &[u8]) -> Read<Option<Value>> {
    let mut raw: &[u8] = &[];
    let mut wire = Wire { bytes };
    while let Some((number, payload)) = wire.field()? {
        if let (1, Payload::Bytes(bytes)) = (number, payload) {
            raw = bytes;
        }
    }
    if raw.is_empty() {
        return Ok(None);
    }
    if raw.starts_with(&MAGIC) {
        let inner = envelope(raw)?;
        let (group, version) = inner.api_version.split_once('/').unwrap_or(("", &inner.api_version));
        let Some(schema) = crate::schema::native().of_gvk(group, version, &inner.kind) else {
            return Err(DecodeError::Syntax(format!(
                "no kind {:?} is registered for version {:?}",
                inner.kind, inner.api_version
            )));
        };
        return super::decode(raw, schema, crate::codec::Strictness::Ignore).map(|decoded| Some(decoded.value));
    }
    json::parse(raw).map(|value| Some(value).filter(|value| !value.is_null()))
}

fn quantity(bytes: &[u8]) -> Read<Value> {
    let mut wire = Wire { bytes };
    let mut text = Text::default();
    while let Some((number, payload)) = wire.field()? {
        if let (1, Payload::Bytes(bytes)) = (number, payload) {
            text = utf8(bytes);
        }
    }
    scalar::quantity((&text).into()).map(Value::from).map_err(DecodeError::Type)
}

fn int_or_string(bytes: &[u8]) -> Read<Value> {
    let mut wire = Wire { bytes };
    let (mut is_text, mut int, mut text) = (false, 0, Text::default());
    while let Some((number, payload)) = wire.field()? {
        match (number, payload) {
            (1, Payload::Varint(kind)) => is_text = kind == 1,
            (2, Payload::Varint(bits)) => int = signed(bits) as i32,
            (3, Payload::Bytes(bytes)) => text = utf8(bytes),
            _ => {}
        }
    }
    Ok(if is_text { Value::String(text) } else { Value::from(int) })
}

fn timestamp(bytes: &[u8]) -> Read<Option<jiff::Timestamp>> {
    // Go writes its zero time as nothing.
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut wire = Wire { bytes };
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((number, payload)) = wire.field()? {
        match (number, payload) {
            (1, Payload::Varint(bits)) => seconds = signed(bits),
            (2, Payload::Varint(bits)) => nanos = signed(bits) as i32,
            _ => {}
        }
    }
    let time = jiff::Timestamp::new(seconds, nanos);
    time.map(Some).map_err(|_| DecodeError::Type(format!("time out of range: {seconds} seconds")))
}

fn first_varint(bytes: &[u8]) -> Read<u64> {
    let mut wire = Wire { bytes };
    let mut found = 0;
    while let Some((number, payload)) = wire.field()? {
        if let (1, Payload::Varint(bits)) = (number, payload) {
            found = bits;
        }
    }
    Ok(found)
}

#[derive(Clone, Copy)]
enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Other,
}

struct Wire<'a> {
    bytes: &'a [u8],
}

impl<'a> Wire<'a> {
    #[inline]
    fn field(&mut self) -> Read<Option<(u32, Payload<'a>)>> {
        // Most fields are short and of small numbers: one byte says which, one how long.
        if let [tag @ 8..=0x7f, length @ ..=0x7f, rest @ ..] = self.bytes
            && tag & 7 == 2
            && let Some((payload, rest)) = rest.split_at_checked(usize::from(*length))
        {
            self.bytes = rest;
            return Ok(Some((u32::from(tag >> 3), Payload::Bytes(payload))));
        }
        self.any_field()
    }

    fn any_field(&mut self) -> Read<Option<(u32, Payload<'a>)>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| DecodeError::Syntax(format!("proto: illegal tag {}", tag >> 3)))?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(self.take(8)?.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                Payload::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Payload::Other
            }
            other => return Err(DecodeError::Syntax(format!("proto: illegal wireType {other}"))),
        };
        Ok(Some((number, payload)))
    }

    fn varint(&mut self) -> Read<u64> {
        if let Some((byte, rest)) = self.bytes.split_first()
            && *byte < 0x80
        {
            self.bytes = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().unwrap_or(&0);
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Syntax("proto: integer overflow".to_owned()))
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let split = self.bytes.split_at_checked(count);
        let (taken, rest) = split.ok_or_else(|| DecodeError::Syntax("unexpected EOF".to_owned()))?;
        self.bytes = rest;
        Ok(taken)
    }
}

fn signed(bits: u64) -> i64 {
    i64::from_ne_bytes(bits.to_ne_bytes())
}

fn utf8(bytes: &[u8]) -> Text {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(bytes).into(),
    }
}

fn wrong_type(number: u32) -> DecodeError {
    DecodeError::Syntax(format!("proto: wrong wireType for field {number}"))
}
