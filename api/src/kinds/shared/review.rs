//! What reviews of access must say.
//!
//! Never answers them.

use super::rules;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

/// The spec asks about a resource or about a path, not both.
#[must_use]
pub fn validate_spec(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let get = |name: &str| value::get(object, "spec").and_then(|spec| spec.get(name)).filter(|v| !v.is_null());
    match (get("resourceAttributes"), get("nonResourceAttributes")) {
        (Some(_), Some(path)) => errors.push(FieldError::invalid(
            &field.child("nonResourceAttributes"),
            path.clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            &field.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    if let Some(resource) = get("resourceAttributes") {
        for name in ["fieldSelector", "labelSelector"] {
            if let Some(selector) = resource.get(name).filter(|selector| !selector.is_null()) {
                validate_selector(&mut errors, selector, &Path::new("spec.resourceAttributes").child(name));
            }
        }
    }
    errors
}

fn validate_selector(errors: &mut Errors, selector: &Value, field: &Path) {
    let raw = value::text(selector, "rawSelector");
    let some = !value::items(selector, "requirements").is_empty();
    if !raw.is_empty() && some {
        let detail = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(&field.child("rawSelector"), raw, detail));
    }
    if raw.is_empty() && !some {
        let detail = format!("when {field} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&field.child("requirements"), detail));
    }
}

/// The spec names a user or a group.
#[must_use]
pub fn validate_subject(object: &Value) -> Errors {
    let mut errors = Errors::new();
    if value::text(object, "spec.user").is_empty() && value::items(object, "spec.groups").is_empty() {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&Path::new("spec.user"), "", detail));
    }
    errors
}

/// Metadata is empty but for the fields named.
#[must_use]
pub fn validate_no_metadata(object: &Value, except: &[&str], detail: &str) -> Errors {
    let mut errors = Errors::new();
    let set = value::get(object, "metadata").and_then(Value::as_object).into_iter().flatten();
    if set
        .into_iter()
        .any(|(name, v)| name != "managedFields" && !except.contains(&name.as_str()) && !rules::is_zero(v))
    {
        let shown = object.get("metadata").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&Path::new("metadata"), shown, detail));
    }
    errors
}
