//! Encodings of objects: JSON, YAML and protobuf, each driven by the schema.
//!
//! Decoding gives one value whatever the encoding: fields the schema knows, in the form that Go would hold them. Never
//! knows what a single kind means.

pub mod json;
pub mod protobuf;
pub(crate) mod scalar;
pub mod yaml;

use crate::json::Value;
pub(crate) use scalar::zero;
pub use scalar::{is_empty, time};

/// What happens to fields that the schema does not know and to fields given twice (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Dropped in silence; of two equal keys the last wins.
    Ignore,
    /// Dropped with a warning each.
    #[default]
    Warn,
    /// An error that names them all.
    Strict,
}

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, without unknown fields.
    pub value: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.replicas"`.
    pub warnings: Vec<String>,
}

/// Why bytes are no object. `Display` is upstream's sentence; clients see it inside a 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not well-formed JSON, YAML or protobuf.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong type or out of range for its field.
    #[error("{0}")]
    Type(String),
    /// Well-formed, but unknown or duplicate fields under `Strictness::Strict`.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

/// Why a value has no such encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The type has no protobuf form.
    #[error(
        "object {0} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    )]
    NoProtobuf(String),
}

/// What is in a list from there on, in a list of its own that has just the memory it needs.
#[inline]
pub(crate) fn cut<T>(list: &mut Vec<T>, begin: usize) -> Vec<T> {
    if begin == list.len() {
        return Vec::new();
    }
    if begin > 0 {
        return list.split_off(begin);
    }
    // The list would hand itself over, with its room to grow.
    let mut all = Vec::with_capacity(list.len());
    all.append(list);
    all
}

/// Nesting beyond which input is refused. Upstream's bound is 10,000, on stacks that grow; ours do not, and no object
/// comes near this. What is kept must be readable by every reader, and many (`serde_json`) stop at 128: this leaves room for the managed
/// fields, the list and the watch event around an object.
pub(crate) const MAX_DEPTH: usize = 100;

/// Nesting of what is read, kept or not: upstream's bound on everything.
pub(crate) const MAX_READ_DEPTH: usize = 10_000;

/// Nesting of what is stored.
pub(crate) const MAX_STORED_DEPTH: usize = 127;
