//! Looking into a value, and comparing it with what Rust has.
//!
//! Never panics on another shape but where a list is written to beyond its end.

use super::{Map, Number, Text, Value};
use std::borrow::Cow;
use std::ops;

static NULL: Value = Value::Null;

/// What finds a value inside another one: a name in an object, a position in a list.
pub trait Index {
    /// What is there.
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value>;

    /// What is there, to be changed.
    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value>;

    /// What is there, made where it is not; what is no object becomes one.
    ///
    /// # Panics
    /// When a list has no such position.
    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value;
}

impl Index for str {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.as_object().and_then(|map| map.get(self))
    }

    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        value.as_object_mut().and_then(|map| map.get_mut(self))
    }

    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        let map = value.as_object_mut().expect("made an object just above");
        map.entry(self).or_insert(Value::Null)
    }
}

impl Index for usize {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.as_array().and_then(|list| list.get(*self))
    }

    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        value.as_array_mut().and_then(|list| list.get_mut(*self))
    }

    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        self.of_mut(value).expect("the position is one of the list")
    }
}

macro_rules! by_name {
    ($($name:ty),*) => {
        $(
            impl Index for $name {
                fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
                    let name: &str = self.as_ref();
                    name.of(value)
                }

                fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
                    let name: &str = self.as_ref();
                    name.of_mut(value)
                }

                fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
                    let name: &str = self.as_ref();
                    name.make(value)
                }
            }
        )*
    };
}

by_name!(String, Text, Cow<'_, str>);

impl<I: Index + ?Sized> Index for &I {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        (**self).of(value)
    }

    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        (**self).of_mut(value)
    }

    fn make<'v>(&self, value: &'v mut Value) -> &'v mut Value {
        (**self).make(value)
    }
}

impl<I: Index> ops::Index<I> for Value {
    type Output = Value;

    /// Null where nothing is there.
    fn index(&self, index: I) -> &Value {
        index.of(self).unwrap_or(&NULL)
    }
}

impl<I: Index> ops::IndexMut<I> for Value {
    fn index_mut(&mut self, index: I) -> &mut Value {
        index.make(self)
    }
}

impl Value {
    /// What is at a name or a position.
    #[inline]
    #[must_use]
    pub fn get(&self, index: impl Index) -> Option<&Value> {
        index.of(self)
    }

    /// What is at a name or a position, to be changed.
    pub fn get_mut(&mut self, index: impl Index) -> Option<&mut Value> {
        index.of_mut(self)
    }

    /// What a JSON pointer (RFC 6901) leads to.
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        steps(pointer)?.try_fold(self, |at, step| match at {
            Value::Object(map) => map.get(&step),
            Value::Array(list) => list.get(position(&step)?),
            _ => None,
        })
    }

    /// What a JSON pointer (RFC 6901) leads to, to be changed.
    pub fn pointer_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        steps(pointer)?.try_fold(self, |at, step| match at {
            Value::Object(map) => map.get_mut(&step),
            Value::Array(list) => list.get_mut(position(&step)?),
            _ => None,
        })
    }

    /// Leaves null and returns what was there.
    #[must_use = "what was there is gone otherwise"]
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }

    /// The object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The object, to be changed.
    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The list.
    #[must_use]
    pub fn as_array(&self) -> Option<&Vec<Value>> {
        match self {
            Value::Array(list) => Some(list),
            _ => None,
        }
    }

    /// The list, to be changed.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Value::Array(list) => Some(list),
            _ => None,
        }
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The integer, where it is one that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number().and_then(Number::as_i64)
    }

    /// The integer, where it is one that fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number().and_then(Number::as_u64)
    }

    /// The number as a double.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number().and_then(Number::as_f64)
    }

    /// The boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether it is a boolean.
    #[must_use]
    pub fn is_boolean(&self) -> bool {
        matches!(self, Value::Bool(_))
    }

    /// Whether it is a number.
    #[must_use]
    pub fn is_number(&self) -> bool {
        matches!(self, Value::Number(_))
    }

    /// Whether `as_i64` answers.
    #[must_use]
    pub fn is_i64(&self) -> bool {
        self.as_i64().is_some()
    }

    /// Whether `as_u64` answers.
    #[must_use]
    pub fn is_u64(&self) -> bool {
        self.as_u64().is_some()
    }

    /// Whether it is a double, be it whole.
    #[must_use]
    pub fn is_f64(&self) -> bool {
        self.as_number().is_some_and(Number::is_f64)
    }

    /// Whether it is a string.
    #[must_use]
    pub fn is_string(&self) -> bool {
        matches!(self, Value::String(_))
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_array(&self) -> bool {
        matches!(self, Value::Array(_))
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        matches!(self, Value::Object(_))
    }
}

/// The steps of a pointer; `None` where it is none.
fn steps(pointer: &str) -> Option<impl Iterator<Item = Cow<'_, str>>> {
    let mut steps = pointer.split('/');
    // What stands before the first slash is nothing.
    if steps.next() != Some("") {
        return None;
    }
    Some(steps.map(|step| {
        if step.contains('~') { Cow::Owned(step.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(step) }
    }))
}

fn position(step: &str) -> Option<usize> {
    let plain = !step.starts_with('+') && (step == "0" || !step.starts_with('0'));
    step.parse().ok().filter(|_| plain)
}

macro_rules! equal {
    ($($other:ty: $how:expr;)*) => {
        $(
            impl PartialEq<$other> for Value {
                fn eq(&self, other: &$other) -> bool {
                    let how: fn(&Value, &$other) -> bool = $how;
                    how(self, other)
                }
            }

            impl PartialEq<Value> for $other {
                fn eq(&self, other: &Value) -> bool {
                    other == self
                }
            }

            impl PartialEq<$other> for &Value {
                fn eq(&self, other: &$other) -> bool {
                    **self == *other
                }
            }

            impl PartialEq<$other> for &mut Value {
                fn eq(&self, other: &$other) -> bool {
                    **self == *other
                }
            }
        )*
    };
}

equal! {
    bool: |value, flag| value.as_bool() == Some(*flag);
    i32: |value, number| value.as_i64() == Some(i64::from(*number));
    i64: |value, number| value.as_i64() == Some(*number);
    u16: |value, number| value.as_u64() == Some(u64::from(*number));
    u32: |value, number| value.as_u64() == Some(u64::from(*number));
    u64: |value, number| value.as_u64() == Some(*number);
    usize: |value, number| value.as_u64() == Some(*number as u64);
    f64: |value, number| value.as_f64() == Some(*number);
}

macro_rules! equal_texts {
    ($($text:ty),*) => {
        $(
            impl PartialEq<$text> for Value {
                fn eq(&self, other: &$text) -> bool {
                    let other: &str = other.as_ref();
                    self.as_str() == Some(other)
                }
            }

            impl PartialEq<Value> for $text {
                fn eq(&self, other: &Value) -> bool {
                    other == self
                }
            }
        )*
    };
}

equal_texts!(str, &str, String, Text);
