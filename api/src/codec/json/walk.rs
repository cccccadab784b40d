//! The schema half of decoding: which fields exist, what their values may be, and what Go says when they are not.
//!
//! Types of upstream are decoded as Go decodes into its structs. Types of custom resources keep values of the wrong type:
//! their validation speaks later, in words of its own.

use super::scan::{Met, Scan, Step, Twice};
use crate::codec::{DecodeError, Decoded, Strictness, scalar};
use crate::json::{Map, Number, Text, Value};
use crate::schema::{Field, SchemaRef, Shape, TypeDef, TypeId, Types, Union};
use std::borrow::Cow;

/// Upstream reports no more than this many strict errors.
const MAX_STRICT_ERRORS: usize = 100;

pub(super) fn decode(bytes: &[u8], schema: SchemaRef<'_>, mode: Strictness, keep_empty: bool) -> Step<Decoded> {
    let mut walk = Walk {
        scan: Scan::new(bytes),
        types: schema.types,
        strict: mode != Strictness::Ignore,
        keep_empty,
        path: Vec::new(),
        found: Vec::new(),
    };
    let value = walk.root(schema.id).and_then(|value| walk.scan.end().map(|()| value)).map_err(|error| {
        // Go checks the grammar of the whole input before it looks at types.
        let mut whole = Scan::new(bytes);
        match (&error, whole.skip().and_then(|()| whole.end())) {
            (DecodeError::Type(_), Err(syntax)) => syntax,
            _ => error,
        }
    })?;
    if mode == Strictness::Strict && !walk.found.is_empty() {
        return Err(DecodeError::Strict(walk.found));
    }
    Ok(Decoded { value, warnings: walk.found })
}

pub(super) fn parse(bytes: &[u8], most: usize) -> Step<Value> {
    let mut scan = Scan::deep(bytes, most);
    let value = filled(|out| scan.any(None, out))?;
    scan.end()?;
    Ok(value)
}

pub(super) fn parse_noting(bytes: &[u8]) -> Step<(Value, Vec<String>)> {
    let mut scan = Scan::new(bytes);
    let value = filled(|out| scan.any(None, out))?;
    scan.end()?;
    let mut said: Vec<String> = Vec::new();
    // Few have any: the way to each value is kept only for those.
    if scan.has_twice() {
        let mut twice = Twice::default();
        let mut scan = Scan::new(bytes);
        filled(|out| scan.any(Some(&mut twice), out))?;
        for sentence in twice.found.into_iter().map(|path| format!("duplicate field {path:?}")) {
            if said.len() < MAX_STRICT_ERRORS && !said.contains(&sentence) {
                said.push(sentence);
            }
        }
    }
    Ok((value, said))
}

/// What `fill` puts into its value.
fn filled(fill: impl FnOnce(&mut Value) -> Step<()>) -> Step<Value> {
    let mut value = Value::Null;
    fill(&mut value).map(|()| value)
}

enum Segment<'x> {
    /// A field of a struct: what Go's type errors name.
    Field(TypeId, usize),
    Key(Cow<'x, str>),
    Index(usize),
}

struct Walk<'x> {
    scan: Scan<'x>,
    types: &'x Types,
    strict: bool,
    keep_empty: bool,
    path: Vec<Segment<'x>>,
    found: Vec<String>,
}

/// No owners at all are said on purpose: nobody is to own anything from now on.
pub(super) fn resets(field: &Field) -> bool {
    field.name == "managedFields"
}

impl<'x> Walk<'x> {
    fn root(&mut self, id: TypeId) -> Step<Value> {
        let def = self.types.get(id);
        match self.scan.peek() {
            Some(b'{') => filled(|out| self.object(id, def, out)),
            Some(b'n') => self.scan.word("null").map(|()| Value::Object(Map::new())),
            None => Err(self.scan.unexpected("")),
            Some(_) => {
                let what = self.kind_of_next()?;
                let name = go_struct(&def.name);
                Err(DecodeError::Type(format!("json: cannot unmarshal {what} into Go value of type {name}")))
            }
        }
    }

    fn object(&mut self, id: TypeId, def: &'x TypeDef, into: &mut Value) -> Step<()> {
        self.scan.enter()?;
        let typed = is_typed(def);
        let ranked = self.types.is_ranked(id) && !def.preserve_unknown;
        let begin = self.scan.begin();
        let mut met = Met::default();
        // Fields of structs are put in their order at once; what may have other entries is put in order at its end.
        let (mut seen, mut kept) = (0_u64, 0_u64);
        let mut first = true;
        while let Some(key) = self.scan.key(first)? {
            first = false;
            let Some(index) = self.types.position(id, &key) else {
                self.unknown(def, key, begin, &mut met)?;
                continue;
            };
            let Some(field) = def.fields.get(index) else { continue };
            let rank = self.types.rank(id, index).filter(|_| ranked);
            let twice = match rank {
                Some(rank) => seen & rank != 0,
                // This misses a duplicate of an empty field.
                None => met.again(self.scan.opened(begin), &field.name),
            };
            seen |= rank.unwrap_or_default();
            if twice {
                self.report("duplicate", &key);
            }
            self.path.push(Segment::Field(id, index));
            let mut value = Value::Null;
            match self.types.wire(id, index).and_then(|wire| wire.union) {
                Some(union) => self.union_field(union, id, &field.shape, &mut value)?,
                None => self.value(&field.shape, typed, &mut value)?,
            }
            self.path.pop();
            if value.is_null() && typed && !self.keep_empty {
                continue;
            }
            match (rank, self.is_left_out(field, &value, typed)) {
                (Some(rank), false) => {
                    self.scan.put(begin, kept, rank, &field.name, value);
                    kept |= rank;
                }
                (Some(rank), true) => {
                    self.scan.take(begin, kept, rank);
                    kept &= !rank;
                }
                (None, false) => self.scan.push(field.name.clone(), value),
                (None, true) if twice => self.scan.take_named(begin, &field.name),
                (None, true) => {}
            }
        }
        *into = if ranked { self.scan.close_sorted(begin) } else { self.scan.close(begin) };
        Ok(())
    }

    fn is_left_out(&self, field: &Field, value: &Value, typed: bool) -> bool {
        typed && field.omit_empty && !field.pointer && !self.keep_empty && scalar::is_empty(value) && !resets(field)
    }

    fn unknown(&mut self, def: &TypeDef, key: Cow<'x, str>, begin: usize, met: &mut Met) -> Step<()> {
        if def.preserve_unknown {
            let name = Text::from(&*key);
            self.path.push(Segment::Key(key));
            let value = filled(|out| self.any(out))?;
            self.path.pop();
            if met.again(self.scan.opened(begin), &name) {
                self.report("duplicate", &name);
            }
            self.scan.push(name, value);
            return Ok(());
        }
        self.report("unknown", &key);
        self.scan.skip()
    }

    fn any(&mut self, out: &mut Value) -> Step<()> {
        let mut twice = Twice::default();
        self.scan.any(Some(&mut twice), out)?;
        for path in twice.found {
            self.report("duplicate", &path);
        }
        Ok(())
    }

    #[cold]
    fn report(&mut self, what: &str, key: &str) {
        if !self.strict || self.found.len() >= MAX_STRICT_ERRORS {
            return;
        }
        let mut path = String::new();
        for segment in &self.path {
            let key = match segment {
                Segment::Index(index) => {
                    path.push_str(&format!("[{index}]"));
                    continue;
                }
                Segment::Key(key) => key,
                Segment::Field(id, index) => self.types.get(*id).fields.get(*index).map_or("", |field| &field.name),
            };
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        let sentence = format!("{what} field {path:?}");
        if !self.found.contains(&sentence) {
            self.found.push(sentence);
        }
    }

    /// Puts the value at the cursor into `out`, which is null before. Values are written where they belong, here and below: moving
    /// them through results took a third of the time.
    fn value(&mut self, shape: &'x Shape, typed: bool, out: &mut Value) -> Step<()> {
        let next = self.scan.peek();
        if next == Some(b'n') {
            return self.scan.word("null");
        }
        match (shape, next) {
            (_, None) => return Err(self.scan.unexpected("")),
            (Shape::Struct(id), Some(b'{')) => self.object(*id, self.types.get(*id), out)?,
            (Shape::List { items, .. }, Some(b'[')) => self.list(items, typed, out)?,
            (Shape::Map { values, .. }, Some(b'{')) => self.map(values, typed, out)?,
            (Shape::String | Shape::IntOrString, Some(b'"')) => *out = Value::from(self.scan.string()?),
            (Shape::Bool, Some(b't')) => {
                self.scan.word("true")?;
                *out = Value::Bool(true);
            }
            (Shape::Bool, Some(b'f')) => {
                self.scan.word("false")?;
                *out = Value::Bool(false);
            }
            (Shape::Any, _) => self.scan.any(None, out)?,
            _ if !typed => self.any(out)?,
            (Shape::Int32 | Shape::Int64 | Shape::Float64 | Shape::IntOrString, Some(b'-' | b'0'..=b'9')) => {
                *out = self.number(shape)?;
            }
            (Shape::Quantity, Some(b'-' | b'0'..=b'9')) => {
                *out = Value::from(scalar::quantity(self.scan.number()?.into()).map_err(DecodeError::Type)?);
            }
            (Shape::Quantity, Some(b'"')) => {
                *out = Value::from(scalar::quantity(self.scan.string()?).map_err(DecodeError::Type)?);
            }
            // It reads whatever there is as a text.
            (Shape::Quantity, Some(_)) => {
                *out = Value::from(scalar::quantity("{".into()).map_err(DecodeError::Type)?);
            }
            (Shape::Time, Some(b'"')) => {
                *out = scalar::time(&self.scan.string()?).map_err(DecodeError::Type)?.unwrap_or_default();
            }
            (Shape::MicroTime, Some(b'"')) => {
                *out = scalar::micro_time(&self.scan.string()?).map_err(DecodeError::Type)?.unwrap_or_default();
            }
            (Shape::Duration, Some(b'"')) => {
                *out = Value::from(scalar::duration(&self.scan.string()?).map_err(DecodeError::Type)?);
            }
            (Shape::Bytes, Some(b'"')) => {
                *out = Value::from(scalar::base64(self.scan.string()?).map_err(DecodeError::Type)?);
            }
            _ => {
                let what = self.kind_of_next()?;
                return Err(self.mismatch(&what, shape));
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &'x Shape, typed: bool, out: &mut Value) -> Step<()> {
        self.scan.enter()?;
        let begin = self.scan.begin_list();
        loop {
            let length = self.scan.length(begin);
            if !self.scan.element(length == 0)? {
                break;
            }
            self.path.push(Segment::Index(length));
            let mut value = Value::Null;
            self.value(items, typed, &mut value)?;
            if typed && value.is_null() && !self.keep_empty {
                value = scalar::zero(items);
            }
            self.scan.push_element(value);
            self.path.pop();
        }
        *out = self.scan.close_list(begin);
        Ok(())
    }

    fn map(&mut self, values: &'x Shape, typed: bool, out: &mut Value) -> Step<()> {
        self.scan.enter()?;
        let begin = self.scan.begin();
        let mut met = Met::default();
        let mut first = true;
        while let Some(key) = self.scan.key(first)? {
            first = false;
            let name = Text::from(&*key);
            self.path.push(Segment::Key(key));
            let mut value = Value::Null;
            self.value(values, typed, &mut value)?;
            if typed && value.is_null() {
                value = scalar::zero(values);
            }
            self.path.pop();
            if met.again(self.scan.opened(begin), &name) {
                self.report("duplicate", &name);
            }
            self.scan.push(name, value);
        }
        *out = self.scan.close(begin);
        Ok(())
    }

    fn number(&mut self, shape: &Shape) -> Step<Value> {
        let text = self.scan.number()?;
        let value = match shape {
            Shape::Int64 => text.parse::<i64>().ok().map(Value::from),
            Shape::Float64 => {
                text.parse::<f64>().ok().filter(|n| n.is_finite()).and_then(Number::from_f64).map(Value::Number)
            }
            _ => text.parse::<i32>().ok().map(Value::from),
        };
        value.ok_or_else(|| self.mismatch(&format!("number {text}"), shape))
    }

    /// A field whose values are one of the unions of JSON schemas, alone or in a map.
    fn union_field(&mut self, union: Union, schema: TypeId, shape: &'x Shape, out: &mut Value) -> Step<()> {
        if self.scan.peek() == Some(b'n') {
            return self.scan.word("null");
        }
        // Upstream's own decoders of these types forget that they were asked to be strict.
        let strict = std::mem::take(&mut self.strict);
        match (shape, self.scan.peek()) {
            (Shape::Map { .. }, Some(b'{')) => {
                self.scan.enter()?;
                let begin = self.scan.begin();
                let mut first = true;
                while let Some(key) = self.scan.key(first)? {
                    first = false;
                    let value = filled(|out| self.union(union, schema, out))?;
                    self.scan.push(key.into(), value);
                }
                *out = self.scan.close(begin);
            }
            (Shape::Map { .. }, _) => {
                let what = self.kind_of_next()?;
                return Err(self.mismatch(&what, shape));
            }
            _ => self.union(union, schema, out)?,
        }
        self.strict = strict;
        Ok(())
    }

    fn union(&mut self, union: Union, schema: TypeId, out: &mut Value) -> Step<()> {
        match (union, self.scan.peek()) {
            (_, Some(b'{')) => self.object(schema, self.types.get(schema), out),
            (Union::Bool, Some(b't' | b'f')) => self.value(&Shape::Bool, true, out),
            (Union::Bool, Some(_)) => {
                self.scan.skip()?;
                Err(DecodeError::Type("boolean or JSON schema expected".to_owned()))
            }
            (Union::Array, Some(b'[')) => {
                self.scan.enter()?;
                let mut list = Vec::new();
                while self.scan.element(list.is_empty())? {
                    list.push(filled(|out| self.union(Union::Array, schema, out))?);
                }
                *out = Value::Array(list);
                Ok(())
            }
            (Union::Strings, Some(b'[')) => self.list(&Shape::String, true, out),
            _ => self.scan.skip(),
        }
    }

    /// What Go calls the value at the cursor, which is consumed.
    fn kind_of_next(&mut self) -> Step<String> {
        let name = match self.scan.peek() {
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b'"') => "string",
            Some(b't' | b'f') => "bool",
            _ => "number",
        };
        self.scan.skip()?;
        Ok(name.to_owned())
    }

    #[cold]
    fn mismatch(&self, what: &str, shape: &Shape) -> DecodeError {
        let owners = self.path.iter().filter_map(|segment| match segment {
            Segment::Field(id, index) => Some((*id, *index)),
            Segment::Key(_) | Segment::Index(_) => None,
        });
        let Some((owner, index)) = owners.clone().next_back() else {
            return DecodeError::Type(format!("json: cannot unmarshal {what} into Go value"));
        };
        let owner_name = &self.types.get(owner).name;
        let owner_name = owner_name.rsplit('.').next().unwrap_or(owner_name);
        let mut path = String::new();
        for (id, index) in owners {
            let def = self.types.get(id);
            if let Some(field) = def.fields.get(index) {
                if !path.is_empty() {
                    path.push('.');
                }
                let within = self.types.wire(id, index).and_then(|wire| wire.within);
                if let Some(within) = within.or_else(|| is_type_meta(def, field).then_some("TypeMeta")) {
                    path.push_str(within);
                    path.push('.');
                }
                path.push_str(&field.name);
            }
        }
        let go_type = self.go_type(owner, index, shape);
        DecodeError::Type(format!(
            "json: cannot unmarshal {what} into Go struct field {owner_name}.{path} of type {go_type}"
        ))
    }

    /// Go's name of the type at `shape`, which is the field's own or one inside it.
    fn go_type(&self, owner: TypeId, index: usize, shape: &Shape) -> String {
        let named = self.types.wire(owner, index).and_then(|wire| wire.go_type);
        let field = self.types.get(owner).fields.get(index);
        let mut at = field.map(|field| &field.shape);
        let mut name = named.map(str::to_owned).or_else(|| at.map(|shape| go_name(self.types, shape)));
        while let (Some(outer), Some(text)) = (at, &name) {
            if std::ptr::eq(outer, shape) {
                break;
            }
            match outer {
                Shape::List { items, .. } => {
                    name = Some(text.strip_prefix("[]").map_or_else(|| go_name(self.types, items), str::to_owned));
                    at = Some(items);
                }
                Shape::Map { values, .. } => {
                    let inner = text.strip_prefix("map[").and_then(|rest| rest.split_once(']'));
                    name = Some(inner.map_or_else(|| go_name(self.types, values), |(_, inner)| inner.to_owned()));
                    at = Some(values);
                }
                _ => break,
            }
        }
        match shape {
            // These decode themselves, by way of a plain string or integer.
            Shape::Time | Shape::MicroTime | Shape::Duration => "string".to_owned(),
            Shape::IntOrString => "int32".to_owned(),
            _ => name.unwrap_or_else(|| go_name(self.types, shape)),
        }
    }
}

fn is_type_meta(def: &TypeDef, field: &Field) -> bool {
    !def.gvks.is_empty() && field.number == 0 && matches!(field.name.as_str(), "kind" | "apiVersion")
}

fn is_typed(def: &TypeDef) -> bool {
    !def.free
}

fn go_struct(openapi: &str) -> String {
    let mut parts = openapi.rsplit('.');
    let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{package}.{name}")
}

fn go_name(types: &Types, shape: &Shape) -> String {
    match shape {
        Shape::String => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Float64 => "float64".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::IntOrString => "intstr.IntOrString".to_owned(),
        Shape::Time => "v1.Time".to_owned(),
        Shape::MicroTime => "v1.MicroTime".to_owned(),
        Shape::Duration => "v1.Duration".to_owned(),
        Shape::Any => "interface {}".to_owned(),
        Shape::List { items, .. } => format!("[]{}", go_name(types, items)),
        Shape::Map { values, .. } => format!("map[string]{}", go_name(types, values)),
        Shape::Struct(id) => go_struct(&types.get(*id).name),
    }
}
