//! Where in an object something is wrong, and what: upstream's field errors with their exact sentences.
//!
//! Never decides what is wrong; validation does. Source: the sentences that `kubectl` users see in a 422's causes.

use crate::internal;
use crate::json::Value;
use crate::quote::quoted;
use std::fmt;

/// A path to a field: `spec.containers[0].name`.
///
/// Validation makes hundreds of them for an object without an error: short ones are kept in place.
#[derive(Clone, PartialEq, Eq)]
pub struct Path(Text);

/// One text has one form: short ones are always in place, with zeros behind them.
#[derive(Clone, PartialEq, Eq)]
enum Text {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

/// What fits beside the tag and the length into seven words.
const SHORT: usize = 54;

impl Path {
    /// A path that starts at this field; `""` is the object itself.
    #[must_use]
    pub fn new(root: &str) -> Path {
        Path(Text::of(root))
    }

    /// A field below this one; dots in `name` descend.
    #[must_use]
    pub fn child(&self, name: &str) -> Path {
        if self.as_bytes().is_empty() { Path::new(name) } else { self.followed_by(b'.', name, None) }
    }

    /// An element of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        self.followed_by(b'[', itoa::Buffer::new().format(index), Some(b']'))
    }

    /// An entry of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        self.followed_by(b'[', key, Some(b']'))
    }

    fn followed_by(&self, before: u8, name: &str, after: Option<u8>) -> Path {
        let Text::Short { length, mut bytes } = self.0 else { return self.long(before, name, after) };
        let begin = usize::from(length);
        let (from, to) = (begin + 1, begin + 1 + name.len());
        let end = to + usize::from(after.is_some());
        if end > SHORT {
            return self.long(before, name, after);
        }
        if let Some(place) = bytes.get_mut(begin) {
            *place = before;
        }
        if let Some(place) = bytes.get_mut(from..to) {
            place.copy_from_slice(name.as_bytes());
        }
        if let (Some(after), Some(place)) = (after, bytes.get_mut(to)) {
            *place = after;
        }
        Path(Text::Short { length: u8::try_from(end).unwrap_or(u8::MAX), bytes })
    }

    #[cold]
    fn long(&self, before: u8, name: &str, after: Option<u8>) -> Path {
        Path(Text::Long([self.as_bytes(), &[before], name.as_bytes(), after.as_slice()].concat().into()))
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Text::Long(bytes) => bytes,
        }
    }

    /// Made of whole texts, it always is one.
    fn text(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Text {
    fn of(text: &str) -> Text {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..text.len()) {
            Some(place) => place.copy_from_slice(text.as_bytes()),
            None => return Text::Long(text.as_bytes().into()),
        }
        Text::Short { length: u8::try_from(text.len()).unwrap_or(u8::MAX), bytes }
    }
}

impl Default for Path {
    fn default() -> Path {
        Path::new("")
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Path").field(&self.text()).finish()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        f.write_str(if text.is_empty() { "<nil>" } else { text })
    }
}

/// The class of a field error; becomes the `reason` of a status cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// The value breaks a rule.
    Invalid,
    /// The field must be set.
    Required,
    /// The value is not one of a fixed set.
    NotSupported,
    /// The field must not be set here.
    Forbidden,
    /// The same value occurs twice.
    Duplicate,
    /// The value names something that does not exist.
    NotFound,
    /// Longer than allowed.
    TooLong,
    /// More elements than allowed.
    TooMany,
    /// Not of the expected type.
    TypeInvalid,
    /// The server failed while it looked.
    Internal,
}

impl ErrorType {
    /// The `reason` of `StatusCause` (`metav1.CauseType`).
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            ErrorType::Invalid => "FieldValueInvalid",
            ErrorType::Required => "FieldValueRequired",
            ErrorType::NotSupported => "FieldValueNotSupported",
            ErrorType::Forbidden => "FieldValueForbidden",
            ErrorType::Duplicate => "FieldValueDuplicate",
            ErrorType::NotFound => "FieldValueNotFound",
            ErrorType::TooLong => "FieldValueTooLong",
            ErrorType::TooMany => "FieldValueTooMany",
            ErrorType::TypeInvalid => "FieldValueTypeInvalid",
            ErrorType::Internal => "InternalError",
        }
    }

    fn label(self) -> &'static str {
        match self {
            ErrorType::Invalid | ErrorType::TypeInvalid => "Invalid value",
            ErrorType::Required => "Required value",
            ErrorType::NotSupported => "Unsupported value",
            ErrorType::Forbidden => "Forbidden",
            ErrorType::Duplicate => "Duplicate value",
            ErrorType::NotFound => "Not found",
            ErrorType::TooLong => "Too long",
            ErrorType::TooMany => "Too many",
            ErrorType::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Its class.
    pub kind: ErrorType,
    /// The field.
    pub field: Path,
    /// The offending value; not shown for required, forbidden, too long and internal.
    pub value: Value,
    /// What is wrong, in upstream's words.
    pub detail: String,
    /// The value says nothing that the detail does not: it is not shown.
    pub omit_value: bool,
}

/// All that is wrong with an object, in the order it was found.
pub type Errors = Vec<FieldError>;

impl FieldError {
    fn new(kind: ErrorType, field: &Path, value: Value, detail: impl Into<String>) -> FieldError {
        FieldError { kind, field: field.clone(), value, detail: detail.into(), omit_value: false }
    }

    /// `x: Invalid value: v: detail`.
    #[must_use]
    pub fn invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::new(ErrorType::Invalid, field, value.into(), detail)
    }

    /// `x: Invalid value: detail`, where no single value is at fault.
    #[must_use]
    pub fn invalid_whole(field: &Path, detail: impl Into<String>) -> FieldError {
        FieldError { omit_value: true, ..FieldError::new(ErrorType::Invalid, field, Value::Null, detail) }
    }

    /// `x: Required value: detail`.
    #[must_use]
    pub fn required(field: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::new(ErrorType::Required, field, Value::Null, detail)
    }

    /// `x: Unsupported value: "v": supported values: "a", "b"`; the values are sorted as upstream does.
    #[must_use]
    pub fn not_supported(field: &Path, value: impl Into<Value>, supported: &[&str]) -> FieldError {
        let mut sorted = supported.to_vec();
        sorted.sort_unstable();
        FieldError::not_supported_as_listed(field, value, &sorted)
    }

    /// The same with the values as they stand: where upstream names them in an order of its own.
    #[must_use]
    pub fn not_supported_as_listed(field: &Path, value: impl Into<Value>, supported: &[&str]) -> FieldError {
        let quoted: Vec<String> = supported.iter().map(|value| quoted(value)).collect();
        FieldError::new(
            ErrorType::NotSupported,
            field,
            value.into(),
            format!("supported values: {}", quoted.join(", ")),
        )
    }

    /// `x: Forbidden: detail`.
    #[must_use]
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::new(ErrorType::Forbidden, field, Value::Null, detail)
    }

    /// `x: Duplicate value: v`.
    #[must_use]
    pub fn duplicate(field: &Path, value: impl Into<Value>) -> FieldError {
        FieldError::new(ErrorType::Duplicate, field, value.into(), "")
    }

    /// `x: Not found: v`.
    #[must_use]
    pub fn not_found(field: &Path, value: impl Into<Value>) -> FieldError {
        FieldError::new(ErrorType::NotFound, field, value.into(), "")
    }

    /// `x: Too long: may not be more than N bytes`.
    #[must_use]
    pub fn too_long(field: &Path, max: usize) -> FieldError {
        FieldError::new(ErrorType::TooLong, field, Value::Null, format!("may not be more than {max} bytes"))
    }

    /// `x: Too many: N: must have at most M items`.
    #[must_use]
    pub fn too_many(field: &Path, actual: usize, max: usize) -> FieldError {
        let items = if max == 1 { "item" } else { "items" };
        FieldError::new(ErrorType::TooMany, field, actual.into(), format!("must have at most {max} {items}"))
    }

    /// The same with the value in the form of upstream's internal types; `of` is one that `internal` knows.
    #[must_use]
    pub fn showing(mut self, of: &str, value: &Value) -> FieldError {
        let shown = internal::shown(of, value);
        self.detail = if self.detail.is_empty() { shown } else { format!("{shown}: {}", self.detail) };
        FieldError { omit_value: true, ..self }
    }

    /// `x: Internal error: detail`.
    #[must_use]
    pub fn internal(field: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::new(ErrorType::Internal, field, Value::Null, detail)
    }

    /// The sentence without the field: the `message` of a status cause.
    #[must_use]
    pub fn body(&self) -> String {
        let label = self.kind.label();
        let mut out = match self.kind {
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::Internal => label.to_owned(),
            _ if self.omit_value => label.to_owned(),
            // Words that are chosen have types of their own, which upstream shows as JSON.
            ErrorType::NotSupported => format!("{label}: {}", internal::escaped(&self.value.to_string())),
            _ => format!("{label}: {}", Shown(&self.value)),
        };
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// A value as upstream prints it in a field error: strings quoted, objects as JSON.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::String(text) => f.write_str(&quoted(text)),
            other => f.write_str(&internal::escaped(&other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_any_length() {
        let mut path = Path::default();
        let mut text = String::new();
        assert_eq!((path.to_string(), path.index(1).to_string()), ("<nil>".to_owned(), "[1]".to_owned()));
        for step in 0..40 {
            path = path.child("é").index(step).key("k");
            text.push_str(&format!("{}é[{step}][k]", if step == 0 { "" } else { "." }));
            assert_eq!(path.to_string(), text);
            assert_eq!(path, Path::new(&text));
            assert_ne!(path, path.child("x"));
        }
    }

    #[test]
    fn sentences_are_upstreams() {
        let replicas = Path::new("spec").child("replicas");
        let cases = [
            (
                FieldError::invalid(&replicas, -1, "must be greater than or equal to 0"),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (FieldError::required(&Path::new("spec").child("containers"), ""), "spec.containers: Required value"),
            (FieldError::invalid_whole(&replicas, "cannot be"), "spec.replicas: Invalid value: cannot be"),
            (
                FieldError::not_supported(&Path::new("type"), "x", &["b", "a"]),
                "type: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (FieldError::duplicate(&Path::new("a").index(1).key("k"), "v"), "a[1][k]: Duplicate value: \"v\""),
        ];
        for (error, sentence) in cases {
            assert_eq!(error.to_string(), sentence);
        }
    }
}
