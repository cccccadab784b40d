//! Values of expressions.
//!
//! JSON is read where it lies and only as far as an expression looks; what is computed is shared. A value lives as long
//! as the objects it was read from. Never evaluates.

use super::decl::{Decl, DeclKind, ObjectDecl};
use super::error::{Fault, Outcome};
use super::lib::Opaque;
use super::time::Timestamp;
use super::types::Type;
use crate::json::{Map as JsonMap, Value as Json};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    /// A point in time.
    Timestamp(Timestamp),
    /// A type.
    Type(Arc<Type>),
    /// A list.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// Something with declared fields.
    Object(Object<'a>),
    /// A value or none.
    Optional(Option<Arc<Value<'a>>>),
    /// A value of a library.
    Opaque(Opaque<'a>),
}

/// Text of an object, or one that was made.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Of an object.
    Borrowed(&'a str),
    /// Made.
    Owned(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Of an object, with the declaration of the list.
    Json(&'a [Json], &'a Decl),
    /// Made.
    Values(Arc<Vec<Value<'a>>>),
    /// One behind the other.
    Joined(Arc<(List<'a>, List<'a>, usize)>),
}

/// Lists up to this length are copied when they are joined.
const COPIED: usize = 64;

impl<'a> List<'a> {
    /// A list of values.
    #[must_use]
    pub fn of(values: Vec<Value<'a>>) -> List<'a> {
        List::Values(Arc::new(values))
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Values(values) => values.len(),
            List::Joined(joined) => joined.2,
        }
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at an index; an error where its JSON does not fit its declaration.
    ///
    /// # Errors
    /// When the JSON does not fit.
    pub fn get(&self, index: usize) -> Option<Outcome<Value<'a>>> {
        let (mut list, mut index) = (self.clone(), index);
        loop {
            list = match &list {
                List::Json(items, decl) => {
                    return items.get(index).map(|item| Value::declared(item, decl.items()));
                }
                List::Values(values) => return values.get(index).cloned().map(Ok),
                List::Joined(joined) => match index.checked_sub(joined.0.len()) {
                    None => joined.0.clone(),
                    Some(rest) => {
                        index = rest;
                        joined.1.clone()
                    }
                },
            };
        }
    }

    /// All elements in order.
    #[must_use]
    pub fn iter(&self) -> Elements<'a> {
        Elements { left: vec![(self.clone(), 0)] }
    }

    /// This one with another behind it. Takes the place of this one where nobody else holds it.
    #[must_use]
    pub fn joined(self, other: &List<'a>) -> List<'a> {
        if other.is_empty() {
            return self;
        }
        let length = self.len().saturating_add(other.len());
        let copies = |list: &List<'a>| list.len() <= COPIED && !matches!(list, List::Json(..));
        if let List::Values(mut values) = self {
            if copies(other)
                && let Some(own) = Arc::get_mut(&mut values)
            {
                own.extend(other.iter().filter_map(Result::ok));
                return List::Values(values);
            }
            let list = List::Values(values);
            if copies(&list) && copies(other) {
                return List::of(list.iter().chain(other.iter()).filter_map(Result::ok).collect());
            }
            return List::Joined(Arc::new((list, other.clone(), length)));
        }
        List::Joined(Arc::new((self, other.clone(), length)))
    }
}

/// Goes through a list.
#[derive(Debug)]
pub struct Elements<'a> {
    left: Vec<(List<'a>, usize)>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Outcome<Value<'a>>;

    fn next(&mut self) -> Option<Outcome<Value<'a>>> {
        loop {
            let (list, at) = self.left.last_mut()?;
            if let List::Joined(joined) = list {
                let joined = joined.clone();
                self.left.pop();
                self.left.push((joined.1.clone(), 0));
                self.left.push((joined.0.clone(), 0));
                continue;
            }
            match list.get(*at) {
                Some(element) => {
                    *at += 1;
                    return Some(element);
                }
                None => {
                    self.left.pop();
                }
            }
        }
    }
}

/// What a map is looked up by: numbers of all types that are equal are one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Number(i128),
    /// Text.
    String(Arc<str>),
}

impl Key {
    /// The key that a value is; `None` for values that are none.
    #[must_use]
    pub fn of(value: &Value<'_>) -> Option<Key> {
        match value {
            Value::Bool(value) => Some(Key::Bool(*value)),
            Value::Int(value) => Some(Key::Number(i128::from(*value))),
            Value::Uint(value) => Some(Key::Number(i128::from(*value))),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1.9e19 => {
                #[expect(clippy::cast_possible_truncation, reason = "whole and within 65 bits")]
                let number = *value as i128;
                Some(Key::Number(number))
            }
            Value::String(Text::Owned(text)) => Some(Key::String(text.clone())),
            Value::String(Text::Borrowed(text)) => Some(Key::String((*text).into())),
            _ => None,
        }
    }
}

/// Entries that were computed.
#[derive(Clone, Debug, Default)]
pub struct Entries<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    at: HashMap<Key, usize>,
}

impl<'a> Entries<'a> {
    /// Puts an entry in; a later one takes the place of an earlier one.
    ///
    /// # Errors
    /// When the key is of a type that none can have.
    pub fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> Outcome<()> {
        let Some(found) = Key::of(&key) else {
            return Err(Fault::said(format!("unsupported key type: {}", key.type_name())));
        };
        match self.at.get(&found) {
            Some(at) => {
                if let Some(entry) = self.entries.get_mut(*at) {
                    entry.1 = value;
                }
            }
            None => {
                self.at.insert(found, self.entries.len());
                self.entries.push((key, value));
            }
        }
        Ok(())
    }

    fn get(&self, key: &Key) -> Option<&Value<'a>> {
        self.entries.get(*self.at.get(key)?).map(|entry| &entry.1)
    }
}

/// Values that are worked out when they are asked for, as the variables of admission policies are.
pub trait Lazy: Sync {
    /// The value of a name; `None` when there is no such name.
    fn value(&self, name: &str) -> Option<Outcome<Value<'_>>>;
}

/// A map.
#[derive(Clone)]
pub enum Map<'a> {
    /// Of an object, with the declaration of its values.
    Json(&'a JsonMap, &'a Decl),
    /// Made.
    Values(Arc<Entries<'a>>),
    /// A key that is absent gives an empty map.
    Default(Arc<Entries<'a>>),
    /// Worked out when asked for; cannot be gone through.
    Lazy(&'a dyn Lazy),
}

impl std::fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Map::Json(map, _) => f.debug_tuple("Json").field(map).finish(),
            Map::Values(entries) | Map::Default(entries) => f.debug_tuple("Values").field(&entries.entries).finish(),
            Map::Lazy(_) => f.write_str("Lazy"),
        }
    }
}

impl<'a> Map<'a> {
    /// A map of entries.
    #[must_use]
    pub fn of(entries: Entries<'a>) -> Map<'a> {
        Map::Values(Arc::new(entries))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Values(entries) | Map::Default(entries) => entries.entries.len(),
            Map::Lazy(_) => 0,
        }
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When the JSON does not fit its declaration, or a lazy value cannot be worked out.
    pub fn get(&self, key: &Value<'_>) -> Outcome<Option<Value<'a>>> {
        match self {
            Map::Json(map, decl) => match key {
                Value::String(name) => map.get(name).map(|value| Value::declared(value, decl)).transpose(),
                _ => Ok(None),
            },
            Map::Values(entries) => Ok(Key::of(key).and_then(|key| entries.get(&key).cloned())),
            Map::Default(entries) => {
                let found = Key::of(key).and_then(|key| entries.get(&key).cloned());
                Ok(Some(found.unwrap_or_else(|| Value::Map(Map::of(Entries::default())))))
            }
            Map::Lazy(lazy) => match key {
                Value::String(name) => lazy.value(name).transpose(),
                _ => Ok(None),
            },
        }
    }

    /// All keys in order.
    #[must_use]
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Map::Json(map, _) => map.keys().map(|key| Value::String(Text::Borrowed(key))).collect(),
            Map::Values(entries) | Map::Default(entries) => {
                entries.entries.iter().map(|entry| entry.0.clone()).collect()
            }
            Map::Lazy(_) => Vec::new(),
        }
    }

    /// This one with one more entry. Takes the place of this one where nobody else holds it.
    ///
    /// # Errors
    /// When the key is there already, or can be none.
    pub fn with(self, key: Value<'a>, value: Value<'a>) -> Outcome<Map<'a>> {
        if self.get(&key)?.is_some() {
            return Err(Fault::said(format!("insert failed: key {} already exists", key.text())));
        }
        let mut entries = match self {
            Map::Values(mut entries) => match Arc::get_mut(&mut entries) {
                Some(own) => std::mem::take(own),
                None => (*entries).clone(),
            },
            other => {
                let mut entries = Entries::default();
                for key in other.keys() {
                    if let Some(value) = other.get(&key)? {
                        entries.insert(key, value)?;
                    }
                }
                entries
            }
        };
        entries.insert(key, value)?;
        Ok(Map::of(entries))
    }
}

/// The name of a type, and fields.
pub type MadeObject<'a> = (Arc<str>, Vec<(Arc<str>, Value<'a>)>);

/// Something with declared fields.
#[derive(Clone, Debug)]
pub enum Object<'a> {
    /// Read from JSON.
    Json(&'a JsonMap, &'a ObjectDecl),
    /// Made by an expression: the name of its type, and its fields.
    Made(Arc<MadeObject<'a>>),
}

impl<'a> Object<'a> {
    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Object::Json(_, decl) => &decl.name,
            Object::Made(made) => &made.0,
        }
    }

    /// The value of a field; `None` when it is absent.
    ///
    /// # Errors
    /// When the JSON does not fit its declaration.
    pub fn get(&self, field: &str) -> Outcome<Option<Value<'a>>> {
        match self {
            Object::Json(map, decl) => match decl.fields.get(field) {
                Some(found) => map.get(&found.name).map(|value| Value::declared(value, &found.decl)).transpose(),
                None => Ok(None),
            },
            Object::Made(made) => Ok(made.1.iter().find(|(name, _)| **name == *field).map(|(_, value)| value.clone())),
        }
    }

    /// Names and values of the fields that are there.
    ///
    /// # Errors
    /// When the JSON does not fit its declaration.
    pub fn fields(&self) -> Outcome<Vec<(Arc<str>, Value<'a>)>> {
        match self {
            Object::Json(map, decl) => {
                let present = decl.fields.iter().filter_map(|(name, field)| Some((name, field, map.get(&field.name)?)));
                present
                    .map(|(name, field, value)| Ok((name.as_str().into(), Value::declared(value, &field.decl)?)))
                    .collect()
            }
            Object::Made(made) => Ok(made.1.clone()),
        }
    }
}

impl<'a> Value<'a> {
    /// Text that was made.
    #[must_use]
    pub fn string(text: impl Into<Arc<str>>) -> Value<'static> {
        Value::String(Text::Owned(text.into()))
    }

    /// No value, as an optional one.
    pub const NONE: Value<'static> = Value::Optional(None);

    /// A value, as an optional one.
    #[must_use]
    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// JSON without a declaration: numbers are whole or not, objects are maps.
    #[must_use]
    pub fn json(json: &'a Json) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::String(Text::Borrowed(text)),
            Json::Array(items) => Value::List(List::Json(items, Decl::dynamic())),
            Json::Object(map) => Value::Map(Map::Json(map, Decl::dynamic())),
        }
    }

    /// JSON as its declaration says.
    ///
    /// # Errors
    /// When it is something else.
    pub fn declared(json: &'a Json, decl: &'a Decl) -> Outcome<Value<'a>> {
        if json.is_null() && !matches!(decl.kind, DeclKind::Dyn | DeclKind::Any) {
            return if decl.nullable {
                Ok(Value::Null)
            } else {
                Err(Fault::said("invalid data, got null for schema with nullable=false".to_owned()))
            };
        }
        let wrong = |wanted: &str| {
            let found = match json {
                Json::Null => "null",
                Json::Bool(_) => "bool",
                Json::Number(number) if number.is_f64() => "float64",
                Json::Number(_) => "int64",
                Json::String(_) => "string",
                Json::Array(_) => "[]interface {}",
                Json::Object(_) => "map[string]interface {}",
            };
            Fault::said(format!("invalid data, expected {wanted}, got {found}"))
        };
        let text = |wanted| json.as_str().ok_or_else(|| wrong(wanted));
        Ok(match &decl.kind {
            DeclKind::Dyn | DeclKind::Any => Value::json(json),
            DeclKind::Bool => Value::Bool(json.as_bool().ok_or_else(|| wrong("bool"))?),
            DeclKind::Int => Value::Int(json.as_i64().ok_or_else(|| wrong("int64"))?),
            DeclKind::Uint => Value::Uint(json.as_u64().ok_or_else(|| wrong("uint64"))?),
            DeclKind::Double => Value::Double(json.as_f64().ok_or_else(|| wrong("float"))?),
            DeclKind::String => Value::String(Text::Borrowed(text("string")?)),
            DeclKind::Bytes => {
                use base64::Engine as _;
                let decoded = base64::engine::general_purpose::STANDARD.decode(text("string")?);
                let decoded = decoded.map_err(|_| Fault::said("Failed to decode byte array".to_owned()))?;
                Value::Bytes(decoded.into())
            }
            DeclKind::Duration => {
                let text = text("string")?;
                let nanos = super::time::parse_duration(text);
                Value::Duration(nanos.ok_or_else(|| Fault::said(format!("Invalid duration {text}")))?)
            }
            DeclKind::Timestamp => {
                let text = text("string")?;
                let timestamp = Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z")));
                Value::Timestamp(timestamp.ok_or_else(|| Fault::said(format!("Invalid date formatted string {text}")))?)
            }
            DeclKind::Quantity => {
                let text = match json {
                    Json::String(text) => text.clone(),
                    Json::Number(number) => number.to_string().into(),
                    _ => return Err(wrong("string")),
                };
                let quantity = crate::quantity::Quantity::parse(&text);
                Value::Opaque(Opaque::Quantity(quantity.map_err(|error| Fault::said(error.to_string()))?))
            }
            DeclKind::List { .. } => Value::List(List::Json(json.as_array().ok_or_else(|| wrong("an array"))?, decl)),
            DeclKind::Map { values, .. } => {
                Value::Map(Map::Json(json.as_object().ok_or_else(|| wrong("an object"))?, values))
            }
            DeclKind::Object(object) => {
                Value::Object(Object::Json(json.as_object().ok_or_else(|| wrong("an object"))?, object))
            }
            // Values of libraries do not come from JSON.
            DeclKind::Other(_) => Value::json(json),
        })
    }

    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Type(_) => "type",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Object(object) => object.type_name(),
            Value::Optional(_) => "optional_type",
            Value::Opaque(opaque) => opaque.type_name(),
        }
    }

    /// Its type, without parameters.
    #[must_use]
    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Duration(_) => Type::Duration,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Type(_) => Type::Type(None),
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Object(_) => Type::object(self.type_name()),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Opaque(opaque) => Type::read(opaque.type_name()),
        }
    }

    /// What cel-go prints for it inside of messages.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Value::String(text) => text.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => value.to_string(),
            Value::Double(value) => super::convert::double_text(*value),
            Value::Null => "null".to_owned(),
            Value::Type(t) => t.name().to_owned(),
            Value::Duration(nanos) => super::time::duration_text(*nanos),
            Value::Timestamp(at) => at.to_string(),
            other => other.type_name().to_owned(),
        }
    }

    /// Equal, numbers of different types by value. `fuel` counts down what was compared.
    ///
    /// # Errors
    /// When too much would have to be compared, or JSON does not fit its declaration.
    pub fn equals(&self, other: &Value<'_>, fuel: &super::error::Fuel) -> Outcome<bool> {
        fuel.burn(1)?;
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => **a == **b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
            (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
                compare_numbers(self, other) == Some(Ordering::Equal)
            }
            (Value::List(a), Value::List(b)) => super::merge::lists_equal(a, b, fuel)?,
            (Value::Map(a), Value::Map(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for key in a.keys() {
                    match (a.get(&key)?, b.get(&key)?) {
                        (Some(a), Some(b)) if a.equals(&b, fuel)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Object(a), Value::Object(b)) => {
                let (mine, theirs) = (a.fields()?, b.fields()?);
                if a.type_name() != b.type_name() || mine.len() != theirs.len() {
                    return Ok(false);
                }
                for (name, value) in mine {
                    match b.get(&name)? {
                        Some(other) if value.equals(&other, fuel)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b, fuel)?,
                (a, b) => a.is_none() && b.is_none(),
            },
            (Value::Opaque(a), Value::Opaque(b)) => a.equals(b),
            _ => false,
        })
    }

    /// The order of two values that have one.
    ///
    /// # Errors
    /// When they have none.
    pub fn compare(&self, other: &Value<'_>) -> Outcome<Ordering> {
        Ok(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
                compare_numbers(self, other).ok_or_else(|| Fault::said("NaN values cannot be ordered".to_owned()))?
            }
            _ => return Err(Fault::NoSuchOverload),
        })
    }

    /// How much there is of it, in the units of cost: elements, entries, characters; 1 for anything else.
    #[must_use]
    pub fn size(&self) -> u64 {
        let size = match self {
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            Value::Object(Object::Json(map, _)) => map.len(),
            Value::Opaque(opaque) => return opaque.size(),
            Value::Optional(Some(value)) => return value.size(),
            _ => 1,
        };
        size as u64
    }

    /// As JSON, for values that clients may set: what `JSONPatch` and message expressions give.
    ///
    /// # Errors
    /// When it is a value that has no JSON, or would have more of it than any request.
    pub fn to_json(&self) -> Outcome<Json> {
        self.json_with(&super::error::Fuel::default())
    }

    fn json_with(&self, fuel: &super::error::Fuel) -> Outcome<Json> {
        fuel.burn(JSON_STEP)?;
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => (*value).into(),
            Value::Uint(value) => (*value).into(),
            Value::Double(value) => crate::json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Value::String(text) => Json::from(&**text),
            Value::Bytes(bytes) => {
                use base64::Engine as _;
                Json::from(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Value::Duration(nanos) => Json::from(super::time::duration_text(*nanos)),
            Value::Timestamp(at) => Json::from(at.to_string()),
            Value::List(list) => {
                Json::Array(list.iter().map(|element| element?.json_with(fuel)).collect::<Outcome<Vec<Json>>>()?)
            }
            Value::Map(map) => {
                let mut made = Vec::new();
                for key in map.keys() {
                    if let Some(value) = map.get(&key)? {
                        made.push((key.text(), value.json_with(fuel)?));
                    }
                }
                Json::Object(made.into_iter().collect())
            }
            Value::Object(object) => {
                let fields =
                    object.fields()?.into_iter().map(|(name, value)| Ok((name.to_string(), value.json_with(fuel)?)));
                Json::Object(fields.collect::<Outcome<JsonMap>>()?)
            }
            Value::Optional(Some(value)) => value.json_with(fuel)?,
            Value::Optional(None) => Json::Null,
            Value::Opaque(opaque) => Json::from(opaque.text().ok_or_else(|| no_json(self))?),
            Value::Type(_) => return Err(no_json(self)),
        })
    }
}

/// What a node of JSON counts of the steps: it takes memory as well.
const JSON_STEP: u64 = 10;

fn no_json(value: &Value<'_>) -> Fault {
    Fault::said(format!("unsupported type conversion from '{}' to JSON", value.type_name()))
}

/// The order of numbers of all types; `None` with NaN.
pub(crate) fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (whole(a), whole(b), a, b) {
        (Some(a), Some(b), _, _) => Some(a.cmp(&b)),
        (_, _, Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Some(a), _, _, Value::Double(b)) => compare_whole(a, *b),
        (_, Some(b), Value::Double(a), _) => compare_whole(b, *a).map(Ordering::reverse),
        _ => None,
    }
}

fn compare_whole(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double >= 1.9e19 {
        return Some(Ordering::Less);
    }
    if double <= -1.9e19 {
        return Some(Ordering::Greater);
    }
    #[expect(clippy::cast_possible_truncation, reason = "within 65 bits; the fraction is looked at behind")]
    let floor = double.floor() as i128;
    Some(whole.cmp(&floor).then(if double.fract() == 0.0 { Ordering::Equal } else { Ordering::Less }))
}
