//! JSON as a value: what objects are between the bytes of a request and those of the store.
//!
//! Made for objects of schemas: few and short names, a small object in one allocation, copies that share long texts. `serde_json` reads and
//! writes it through serde, and what it knows besides is here under the same names. Never knows a schema, and is no codec of clients' bytes
//! (`crate::codec`).

mod access;
mod from;
mod macros;
mod map;
mod number;
mod read;
mod text;
mod write;

#[doc(inline)]
pub use crate::__json as json;
pub use access::Index;
pub(crate) use map::bit;
pub use map::{Entry, Iter, IterMut, Map};
pub use number::Number;
pub use read::from_value;
pub use serde_json::{Error, from_slice, from_str, to_string, to_string_pretty, to_vec};
pub use text::Text;
pub(crate) use text::Wanted;
#[doc(hidden)]
pub use write::made_of;
pub use write::to_value;

use std::fmt;

/// A JSON value of 32 bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(Text),
    /// A list.
    Array(Vec<Value>),
    /// An object.
    Object(Map),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("Null"),
            Value::Bool(flag) => write!(f, "Bool({flag})"),
            Value::Number(number) => fmt::Debug::fmt(number, f),
            Value::String(text) => write!(f, "String({text:?})"),
            Value::Array(list) => {
                f.write_str("Array ")?;
                fmt::Debug::fmt(list, f)
            }
            Value::Object(map) => {
                f.write_str("Object ")?;
                fmt::Debug::fmt(map, f)
            }
        }
    }
}

/// JSON without white space; with `#`, on lines of its own.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if f.alternate() { to_string_pretty(self) } else { to_string(self) };
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

impl std::str::FromStr for Value {
    type Err = Error;

    fn from_str(text: &str) -> Result<Value, Error> {
        from_str(text)
    }
}

#[cfg(test)]
mod tests;
