//! What config maps and secrets share: keys, sizes, sealing.
//!
//! Never shows a value: it may be secret.

use super::{labels, names, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Text, Value};
use crate::value;

/// The most bytes that all values of an object may have.
pub const MAX_SIZE: usize = 1024 * 1024;

/// Keys and values of a bag.
pub fn entries<'a>(object: &'a Value, bag: &str) -> impl Iterator<Item = (&'a Text, &'a str)> {
    labels::map(object, bag).into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

/// How many bytes a base64 text stands for.
#[must_use]
pub fn decoded_len(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

/// A key must be able to become a file name.
pub fn validate_key(errors: &mut Errors, bag: &str, key: &str) {
    labels::invalid(errors, &Path::new(bag).key(key), key, names::config_key(key));
}

/// Once `immutable` is set, it and the bags stay.
#[must_use]
pub fn validate_sealed(new: &Value, old: &Value, bags: &[&str]) -> Errors {
    const SEALED: &str = "field is immutable when `immutable` is set";
    let mut errors = Errors::new();
    if value::flag(old, "immutable") {
        if !value::flag(new, "immutable") {
            errors.push(FieldError::forbidden(&Path::new("immutable"), SEALED));
        }
        for bag in bags.iter().filter(|bag| rules::differ(new.get(**bag), old.get(**bag))) {
            errors.push(FieldError::forbidden(&Path::new(bag), SEALED));
        }
    }
    errors
}
