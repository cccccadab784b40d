//! The driver and the parameters of a class of volumes.
//!
//! Never holds a kind.

use super::{labels, names, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Text, Value};

/// The most parameters.
const MOST: usize = 512;
/// The most bytes of all keys and values together.
const LARGEST: usize = 256 * 1024;

/// The field `name` holds a driver's name: a qualified name in any case.
pub fn driver(errors: &mut Errors, object: &Value, name: &str) {
    let driver = rules::required(errors, object, name, &Path::new("")).to_lowercase();
    if !driver.is_empty() {
        labels::invalid(errors, &Path::new(name), &driver, names::qualified_name(&driver));
    }
}

/// Parameters have keys, and are not too many nor too large.
pub fn validate(errors: &mut Errors, parameters: Option<&Value>, field: &Path) {
    let Some(Value::Object(parameters)) = parameters else { return };
    if parameters.len() > MOST {
        errors.push(FieldError::too_long(field, MOST));
        return;
    }
    if parameters.contains_key("") {
        errors.push(FieldError::invalid(field, "", "field can not be empty."));
    }
    let length = |(key, value): (&Text, &Value)| key.len() + value.as_str().unwrap_or_default().len();
    if parameters.iter().map(length).sum::<usize>() > LARGEST {
        errors.push(FieldError::too_long(field, LARGEST));
    }
}
