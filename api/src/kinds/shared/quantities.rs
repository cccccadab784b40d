//! Quantities in objects: reading, comparing, rounding, the rules that hold for all of them.
//!
//! Never knows which resources there are; `resource_names` does.

use super::rules;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value};
use crate::quantity::Quantity;
use crate::value;

/// The sentence for what must be more than nothing.
pub const NOT_POSITIVE: &str = "must be greater than zero";

/// A quantity as JSON writes it: a text or a whole number.
#[must_use]
pub fn read(quantity: &Value) -> Option<Quantity> {
    match quantity {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// The amount of one resource in the list at a path; names of resources may have dots.
#[must_use]
pub fn of(object: &Value, path: &str, resource: &str) -> Option<Quantity> {
    value::get(object, path)?.get(resource).and_then(read)
}

/// As Go prints it; what is absent is nothing.
#[must_use]
pub fn shown(quantity: Option<Quantity>) -> String {
    quantity.unwrap_or(Quantity::ZERO).to_string()
}

/// Amounts finer than a thousandth are rounded up, as upstream's defaults do with every list of resources.
pub fn round_up(object: &mut Value, path: &str) {
    for amount in value::get_mut(object, path).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let Some(quantity) = read(amount) else { continue };
        let milli = quantity.milli_value();
        let rounded = Quantity::of_milli(milli);
        // Beyond 64 bits of thousandths nothing is finer than a thousandth.
        if milli.unsigned_abs() < u64::MAX >> 1 && rounded != quantity {
            *amount = rounded.to_string().into();
        }
    }
}

/// Where both objects have the same amount of a resource at a path, `new` takes the text of `old`: 1Ki is 1024.
pub fn adopt(new: &mut Value, old: &Value, path: &str) {
    let Some(theirs) = value::get(old, path) else { return };
    let own = value::get_mut(new, path).and_then(Value::as_object_mut).into_iter().flatten();
    for (name, amount) in own {
        if let Some(theirs) = theirs.get(name)
            && read(amount).is_some_and(|quantity| Some(quantity) == read(theirs))
        {
            *amount = theirs.clone();
        }
    }
}

/// More than nothing.
pub fn positive(errors: &mut Errors, amount: &Value, field: &Path) {
    if let Some(quantity) = read(amount).filter(|quantity| quantity.signum() <= 0) {
        errors.push(FieldError::invalid(field, quantity.to_string(), NOT_POSITIVE));
    }
}

/// Not below nothing.
pub fn not_negative(errors: &mut Errors, amount: &Value, field: &Path) {
    if let Some(quantity) = read(amount).filter(|quantity| quantity.signum() < 0) {
        errors.push(FieldError::invalid(field, quantity.to_string(), rules::NEGATIVE));
    }
}

/// Rounded up to whole units, it is not below nothing.
pub fn basic(errors: &mut Errors, amount: &Value, field: &Path) {
    if let Some(units) = read(amount).map(Quantity::value).filter(|units| *units < 0) {
        errors.push(FieldError::invalid(field, units, "must be a valid resource quantity"));
    }
}

/// A whole number of units.
#[must_use]
pub fn is_whole(quantity: Quantity) -> bool {
    quantity.milli_value() % 1000 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown as sentences;

    #[test]
    fn amounts_are_rounded_up_to_thousandths() {
        let mut object =
            json!({"r": {"cpu": "100u", "memory": "1Gi", "storage": "1.0005", "pods": 3, "big": "9E", "odd": "x"}});
        round_up(&mut object, "r");
        assert_eq!(
            object["r"],
            json!({"cpu": "1m", "memory": "1Gi", "storage": "1001m", "pods": 3, "big": "9E", "odd": "x"})
        );
        round_up(&mut object, "absent");
    }

    #[test]
    fn equal_amounts_become_equal_texts() {
        let old = json!({"a": {"storage": "1Ki", "x": "1"}});
        let mut new = json!({"a": {"storage": "1024", "x": "2", "y": "3"}});
        adopt(&mut new, &old, "a");
        assert_eq!(new, json!({"a": {"storage": "1Ki", "x": "2", "y": "3"}}));
        assert_eq!(shown(of(&new, "a", "storage")), "1Ki");
        assert_eq!(shown(of(&new, "a", "none")), "0");
    }

    #[test]
    fn signs() {
        let mut errors = Errors::new();
        let field = Path::new("r");
        for amount in ["-1", "0", "1", "-500m"] {
            positive(&mut errors, &amount.into(), &field);
            not_negative(&mut errors, &amount.into(), &field);
            basic(&mut errors, &amount.into(), &field);
        }
        assert_eq!(
            sentences(&errors),
            [
                "r: Invalid value: \"-1\": must be greater than zero",
                "r: Invalid value: \"-1\": must be greater than or equal to 0",
                "r: Invalid value: -1: must be a valid resource quantity",
                "r: Invalid value: \"0\": must be greater than zero",
                "r: Invalid value: \"-500m\": must be greater than zero",
                "r: Invalid value: \"-500m\": must be greater than or equal to 0",
            ]
        );
    }
}
