//! Conditions of a status: which are true, and what is wrong with a `metav1.Condition`.
//!
//! Never sets one.

use super::labels::invalid;
use super::names;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

/// What a condition may say.
pub const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// Whether some condition of this type in `status.conditions` has this status.
#[must_use]
pub fn is(object: &Value, kind: &str, status: &str) -> bool {
    let says = |c: &Value| value::text(c, "type") == kind && value::text(c, "status") == status;
    value::items(object, "status.conditions").iter().any(says)
}

/// A list of `metav1.Condition`.
#[must_use]
pub fn validate(conditions: &[Value], field: &Path) -> Errors {
    let mut errors = Errors::new();
    for (i, condition) in conditions.iter().enumerate() {
        let field = field.index(i);
        let kind = value::text(condition, "type");
        if conditions.iter().take(i).any(|other| value::text(other, "type") == kind) {
            errors.push(FieldError::duplicate(&field.child("type"), kind));
        }
        invalid(&mut errors, &field.child("type"), kind, names::qualified_name(kind));
        let status = value::text(condition, "status");
        if !STATUSES.contains(&status) {
            errors.push(FieldError::not_supported(&field.child("status"), status, STATUSES));
        }
        if let Some(generation) = value::int(condition, "observedGeneration").filter(|n| *n < 0) {
            let detail = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(&field.child("observedGeneration"), generation, detail));
        }
        if value::text(condition, "lastTransitionTime").is_empty() {
            errors.push(FieldError::required(&field.child("lastTransitionTime"), ""));
        }
        reason(&mut errors, value::text(condition, "reason"), &field.child("reason"));
        if value::text(condition, "message").len() > MESSAGE {
            errors.push(FieldError::too_long(&field.child("message"), MESSAGE));
        }
    }
    errors
}

const REASON: usize = 1024;
const MESSAGE: usize = 32 * 1024;

fn reason(errors: &mut Errors, reason: &str, field: &Path) {
    if reason.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fine = reason.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && reason.bytes().next_back().is_some_and(word)
        && reason.bytes().all(|b| word(b) || matches!(b, b',' | b':'));
    if !fine {
        errors.push(FieldError::invalid(
            field,
            reason,
            "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
             characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or \
             'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
             '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
        ));
    }
    if reason.len() > REASON {
        errors.push(FieldError::too_long(field, REASON));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn conditions_are_complete_and_unique() {
        let fine =
            json!({"type": "Ready", "status": "True", "reason": "All", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        assert_eq!(shown(&validate(std::slice::from_ref(&fine), &Path::new("c"))), [""; 0]);
        let bad = json!({"type": "Ready", "status": "Maybe", "reason": "a-b", "observedGeneration": -1});
        let got = shown(&validate(&[fine, bad, json!({"type": "x y", "status": "False"})], &Path::new("c")));
        for (got, start) in got.iter().zip([
            "c[1].type: Duplicate value: \"Ready\"",
            "c[1].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            "c[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
            "c[1].lastTransitionTime: Required value",
            "c[1].reason: Invalid value: \"a-b\": a condition reason must start with",
            "c[2].type: Invalid value: \"x y\": name part must consist of",
            "c[2].lastTransitionTime: Required value",
            "c[2].reason: Required value",
        ]) {
            assert!(got.starts_with(start), "{got}");
        }
        assert_eq!(got.len(), 8);
    }
}
