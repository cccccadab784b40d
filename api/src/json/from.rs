//! Values of what Rust has, and to and from those of `serde_json`, which clients of other crates hold.

use super::{Map, Number, Text, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

macro_rules! numbers {
    ($($number:ty),*) => {
        $(
            impl From<$number> for Value {
                fn from(number: $number) -> Value {
                    Value::Number(number.into())
                }
            }
        )*
    };
}

numbers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, Number);

macro_rules! texts {
    ($($text:ty),*) => {
        $(
            impl From<$text> for Value {
                fn from(text: $text) -> Value {
                    Value::String(text.into())
                }
            }
        )*
    };
}

texts!(&str, String, &String, Text, &Text, Cow<'_, str>);

impl From<f64> for Value {
    /// Null for what JSON cannot say.
    fn from(number: f64) -> Value {
        Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<()> for Value {
    fn from((): ()) -> Value {
        Value::Null
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Value {
        Value::Object(map)
    }
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(list: Vec<V>) -> Value {
        list.into_iter().collect()
    }
}

impl<V: Into<Value>, const N: usize> From<[V; N]> for Value {
    fn from(list: [V; N]) -> Value {
        list.into_iter().collect()
    }
}

impl<V: Into<Value> + Clone> From<&[V]> for Value {
    fn from(list: &[V]) -> Value {
        list.iter().cloned().collect()
    }
}

impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl<N: Into<Text>, V: Into<Value>> From<BTreeMap<N, V>> for Value {
    fn from(map: BTreeMap<N, V>) -> Value {
        map.into_iter().collect()
    }
}

impl<N: Into<Text>, V: Into<Value>, S> From<HashMap<N, V, S>> for Value {
    fn from(map: HashMap<N, V, S>) -> Value {
        map.into_iter().collect()
    }
}

impl<V: Into<Value>> FromIterator<V> for Value {
    fn from_iter<I: IntoIterator<Item = V>>(list: I) -> Value {
        Value::Array(list.into_iter().map(Into::into).collect())
    }
}

impl<N: Into<Text>, V: Into<Value>> FromIterator<(N, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Value {
        Value::Object(entries.into_iter().collect())
    }
}

impl From<serde_json::Number> for Number {
    fn from(number: serde_json::Number) -> Number {
        let unsigned = number.as_u64().map(Number::from).or_else(|| number.as_i64().map(Number::from));
        unsigned.or_else(|| number.as_f64().and_then(Number::from_f64)).unwrap_or_else(|| Number::from(0))
    }
}

impl From<Number> for serde_json::Number {
    fn from(number: Number) -> serde_json::Number {
        let unsigned = number.as_u64().map(Self::from).or_else(|| number.as_i64().map(Self::from));
        unsigned.or_else(|| number.as_f64().and_then(Self::from_f64)).unwrap_or_else(|| Self::from(0))
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Value {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(flag) => Value::Bool(flag),
            serde_json::Value::Number(number) => Value::Number(number.into()),
            serde_json::Value::String(text) => Value::String(text.into()),
            serde_json::Value::Array(list) => list.into_iter().collect(),
            serde_json::Value::Object(map) => map.into_iter().collect(),
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> serde_json::Value {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => Self::Number(number.into()),
            Value::String(text) => Self::String(text.into()),
            Value::Array(list) => Self::Array(list.into_iter().map(Self::from).collect()),
            Value::Object(map) => {
                Self::Object(map.into_iter().map(|(name, value)| (name.into(), Self::from(value))).collect())
            }
        }
    }
}
