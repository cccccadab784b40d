//! Values written by serde, and values made of what serde writes.

use super::{Error, Map, Text, Value};
use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The value that a type is written as.
///
/// # Errors
/// For what JSON cannot say: keys that are no strings or numbers.
pub fn to_value<T: Serialize>(value: T) -> Result<Value, Error> {
    value.serialize(Maker)
}

/// What an expression in `json!` stands for.
///
/// # Panics
/// For what JSON cannot say, as `serde_json`'s macro.
#[doc(hidden)]
pub fn made_of<T: Serialize + ?Sized>(value: &T) -> Value {
    value.serialize(Maker).expect("what code writes as JSON can be said in JSON")
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Number(number) => number.serialize(serializer),
            Value::String(text) => text.serialize(serializer),
            Value::Array(list) => serializer.collect_seq(list),
            Value::Object(map) => map.serialize(serializer),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

struct Maker;

/// A list, and the variant that it belongs to.
struct List {
    variant: Option<&'static str>,
    list: Vec<Value>,
}

/// An object, and the variant that it belongs to.
struct Object {
    variant: Option<&'static str>,
    entries: Vec<(Text, Value)>,
    name: Option<Text>,
}

/// A variant that holds something is an object of one field.
fn in_variant(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(name) => [(name, value)].into_iter().collect(),
        None => value,
    }
}

impl List {
    fn new(variant: Option<&'static str>, length: Option<usize>) -> List {
        List { variant, list: Vec::with_capacity(length.unwrap_or_default().min(4096)) }
    }

    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.list.push(value.serialize(Maker)?);
        Ok(())
    }

    fn done(self) -> Value {
        in_variant(self.variant, Value::Array(self.list))
    }
}

impl Object {
    fn new(variant: Option<&'static str>) -> Object {
        Object { variant, entries: Vec::new(), name: None }
    }

    fn add<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.entries.push((Text::of_static(name), value.serialize(Maker)?));
        Ok(())
    }

    fn done(self) -> Value {
        in_variant(self.variant, Value::Object(Map::of(self.entries)))
    }
}

impl Serializer for Maker {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
    type SerializeMap = Object;
    type SerializeStruct = Object;
    type SerializeStructVariant = Object;

    fn serialize_bool(self, flag: bool) -> Result<Value, Error> {
        Ok(flag.into())
    }

    fn serialize_i8(self, number: i8) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_i16(self, number: i16) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_i32(self, number: i32) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_i64(self, number: i64) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_u8(self, number: u8) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_u16(self, number: u16) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_u32(self, number: u32) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_u64(self, number: u64) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_f32(self, number: f32) -> Result<Value, Error> {
        Ok(f64::from(number).into())
    }

    fn serialize_f64(self, number: f64) -> Result<Value, Error> {
        Ok(number.into())
    }

    fn serialize_char(self, char: char) -> Result<Value, Error> {
        Ok(Value::String(char.into()))
    }

    fn serialize_str(self, text: &str) -> Result<Value, Error> {
        Ok(text.into())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value, Error> {
        Ok(bytes.into())
    }

    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Error> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        value.serialize(self).map(|value| in_variant(Some(variant), value))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<List, Error> {
        Ok(List::new(None, length))
    }

    fn serialize_tuple(self, length: usize) -> Result<List, Error> {
        Ok(List::new(None, Some(length)))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<List, Error> {
        Ok(List::new(None, Some(length)))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<List, Error> {
        Ok(List::new(Some(variant), Some(length)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Object, Error> {
        Ok(Object::new(None))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object, Error> {
        Ok(Object::new(None))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Object, Error> {
        Ok(Object::new(Some(variant)))
    }
}

macro_rules! lists {
    ($($kind:ident::$add:ident),*) => {
        $(
            impl $kind for List {
                type Ok = Value;
                type Error = Error;

                fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                    self.add(value)
                }

                fn end(self) -> Result<Value, Error> {
                    Ok(self.done())
                }
            }
        )*
    };
}

lists!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! objects {
    ($($kind:ident),*) => {
        $(
            impl $kind for Object {
                type Ok = Value;
                type Error = Error;

                fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
                    self.add(name, value)
                }

                fn end(self) -> Result<Value, Error> {
                    Ok(self.done())
                }
            }
        )*
    };
}

objects!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Object {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.name = Some(match key.serialize(Maker)? {
            Value::String(name) => name,
            Value::Number(number) => number.to_string().into(),
            Value::Bool(flag) => flag.to_string().into(),
            _ => return Err(Error::custom("key must be a string")),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let name = self.name.take().ok_or_else(|| Error::custom("a value without a key"))?;
        self.entries.push((name, value.serialize(Maker)?));
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        Ok(self.done())
    }
}
