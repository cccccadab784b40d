//! Rules that recur: required, one of, not negative, unchanged, integer or percentage.
//!
//! Each adds to a list of errors; none knows a kind.

use super::names;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::{internal, value};

/// The sentence for a negative number.
pub const NEGATIVE: &str = "must be greater than or equal to 0";

/// The sentence for a field that stays as it was.
pub const IMMUTABLE: &str = "field is immutable";

/// The transport protocols of ports.
pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// The integer at `name` is not below 0, if it is there.
pub fn not_negative(errors: &mut Errors, object: &Value, name: &str, field: &Path) {
    if let Some(number) = value::int(object, name).filter(|number| *number < 0) {
        errors.push(FieldError::invalid(&field.child(name), number, NEGATIVE));
    }
}

/// The text at `name` is not empty; answers it.
pub fn required<'a>(errors: &mut Errors, object: &'a Value, name: &str, field: &Path) -> &'a str {
    let text = value::text(object, name);
    if text.is_empty() {
        errors.push(FieldError::required(&field.child(name), ""));
    }
    text
}

/// The text at `name`, if there, is among `supported`.
pub fn one_of(errors: &mut Errors, object: &Value, name: &str, field: &Path, supported: &[&str]) {
    let text = value::text(object, name);
    if !text.is_empty() && !supported.contains(&text) {
        errors.push(FieldError::not_supported(&field.child(name), text, supported));
    }
}

/// The text at `name`, if there, be it empty, is among `supported`: for fields that say by being absent what an empty text does not.
pub fn given_one_of(errors: &mut Errors, object: &Value, name: &str, field: &Path, supported: &[&str]) {
    if let Some(text) = object.get(name).and_then(Value::as_str).filter(|text| !supported.contains(text)) {
        errors.push(FieldError::not_supported(&field.child(name), text, supported));
    }
}

/// The text at `name` is there and among `supported`, which upstream names in an order of its own.
pub fn required_one_of_listed(errors: &mut Errors, object: &Value, name: &str, field: &Path, supported: &[&str]) {
    let text = required(errors, object, name, field);
    if !text.is_empty() && !supported.contains(&text) {
        errors.push(FieldError::not_supported_as_listed(&field.child(name), text, supported));
    }
}

/// A struct as upstream shows one in a field error: its internal form, which has all fields under Go's names.
#[must_use]
pub fn go_struct(fields: &[(&str, Value)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    internal::escaped(&format!("{{{}}}", fields.join(",")))
}

/// `x: Invalid value: {"Name":""}: detail`.
#[must_use]
pub fn invalid_struct(field: &Path, fields: &[(&str, Value)], detail: &str) -> FieldError {
    FieldError::invalid_whole(field, format!("{}: {detail}", go_struct(fields)))
}

/// `x: Duplicate value: {"Name":""}`.
#[must_use]
pub fn duplicate_struct(field: &Path, fields: &[(&str, Value)]) -> FieldError {
    FieldError { detail: go_struct(fields), omit_value: true, ..FieldError::duplicate(field, Value::Null) }
}

/// A text, or null where there is none.
#[must_use]
pub fn text_or_null(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

/// The text at `name` is there and among `supported`.
pub fn required_one_of(errors: &mut Errors, object: &Value, name: &str, field: &Path, supported: &[&str]) {
    if !required(errors, object, name, field).is_empty() {
        one_of(errors, object, name, field, supported);
    }
}

/// Adds one `Invalid` per message about the text at `name`, if the text is there.
pub fn text(errors: &mut Errors, object: &Value, name: &str, field: &Path, rule: fn(&str) -> names::Messages) {
    if let Some(text) = value::get(object, name).and_then(Value::as_str) {
        super::labels::invalid(errors, &field.child(name), text, rule(text));
    }
}

/// The value at a dotted path is what it was; null, empty and absent are the same.
pub fn unchanged(errors: &mut Errors, new: &Value, old: &Value, path: &str) {
    let get = |object| value::get(object, path).filter(|v| !is_zero(v));
    if get(new) != get(old) {
        let shown = value::get(new, path).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&Path::new(path), shown, IMMUTABLE));
    }
}

/// The same of a text that upstream holds by value: an absent one is shown as an empty one.
pub fn unchanged_text(errors: &mut Errors, new: &Value, old: &Value, path: &str) {
    let text = value::text(new, path);
    if text != value::text(old, path) {
        errors.push(FieldError::invalid(&Path::new(path), text, IMMUTABLE));
    }
}

/// The same of a struct, shown as the internal type `of`.
pub fn unchanged_struct(errors: &mut Errors, new: &Value, old: &Value, path: &str, of: &str) {
    let get = |object| value::get(object, path).filter(|v| !is_zero(v));
    if get(new) != get(old) {
        let error = FieldError::invalid_whole(&Path::new(path), IMMUTABLE);
        errors.push(error.showing(of, value::get(new, path).unwrap_or(&Value::Null)));
    }
}

/// Null or an empty text, list or map: what the wire leaves out.
#[must_use]
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether two values differ once null, empty and absent are the same.
#[must_use]
pub fn differ(a: Option<&Value>, b: Option<&Value>) -> bool {
    a.filter(|v| !is_zero(v)) != b.filter(|v| !is_zero(v))
}

/// What an `IntOrString` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOrPercent {
    /// `3`.
    Int(i64),
    /// `25%`.
    Percent(i64),
}

impl IntOrPercent {
    /// Reads it; `None` for texts that are no percentage.
    #[must_use]
    pub fn read(value: &Value) -> Option<IntOrPercent> {
        match value {
            Value::Number(number) => number.as_i64().map(IntOrPercent::Int),
            Value::String(text) => {
                let digits = text.strip_suffix('%')?;
                let fine = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                fine.then(|| IntOrPercent::Percent(digits.parse().unwrap_or(i64::MAX)))
            }
            _ => None,
        }
    }

    /// The number, without its unit.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            IntOrPercent::Int(n) | IntOrPercent::Percent(n) => n,
        }
    }
}

/// An integer that is not negative, or a percentage; `limited` when 100% is the most.
pub fn int_or_percent(errors: &mut Errors, object: &Value, name: &str, field: &Path) {
    let Some(given) = object.get(name) else { return };
    let field = field.child(name);
    match IntOrPercent::read(given) {
        Some(IntOrPercent::Int(number)) if number < 0 => errors.push(FieldError::invalid(&field, number, NEGATIVE)),
        Some(_) => {}
        None => errors.push(FieldError::invalid(
            &field,
            given.clone(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
             for validation is '[0-9]+%')",
        )),
    }
}

/// A percentage is at most 100%.
pub fn at_most_all(errors: &mut Errors, object: &Value, name: &str, field: &Path) {
    if let Some(given) = object.get(name)
        && matches!(IntOrPercent::read(given), Some(IntOrPercent::Percent(n)) if n > 100)
    {
        errors.push(FieldError::invalid(&field.child(name), given.clone(), "must not be greater than 100%"));
    }
}

/// A counter of collisions only grows.
pub fn not_decremented(errors: &mut Errors, new: &Value, old: &Value, path: &str) {
    let count = value::int(new, path);
    if value::int(old, path).is_some_and(|before| count.is_none_or(|count| count < before)) {
        errors.push(FieldError::invalid(&Path::new(path), count.unwrap_or_default(), "cannot be decremented"));
    }
}
