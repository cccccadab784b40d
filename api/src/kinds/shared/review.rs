//! What reviews of access must say.
//!
//! Never answers them.

use super::{labels, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::schema::native;
use crate::{codec, value};

/// The spec asks about a resource or about a path, not both; of somebody, where it must say of whom.
#[must_use]
pub fn validate_spec(object: &Value, of_somebody: bool) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let get = |name: &str| value::get(object, "spec").and_then(|spec| spec.get(name)).filter(|v| !v.is_null());
    match (get("resourceAttributes"), get("nonResourceAttributes")) {
        (Some(_), Some(path)) => errors.push(FieldError::invalid(
            &field.child("nonResourceAttributes"),
            shown(path),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            &field.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let nobody = value::text(object, "spec.user").is_empty() && value::items(object, "spec.groups").is_empty();
    if of_somebody && nobody {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&field.child("user"), "", detail));
    }
    if let Some(resource) = get("resourceAttributes") {
        for name in ["fieldSelector", "labelSelector"] {
            if let Some(selector) = resource.get(name).filter(|selector| !selector.is_null()) {
                let at = Path::new("spec.resourceAttributes").child(name);
                validate_selector(&mut errors, selector, &at, name == "fieldSelector");
            }
        }
    }
    errors
}

/// A path as upstream prints it: its own type has no names for JSON.
#[must_use]
pub fn shown(path: &Value) -> Value {
    json!({"Path": value::text(path, "path"), "Verb": value::text(path, "verb")})
}

fn validate_selector(errors: &mut Errors, selector: &Value, field: &Path, of_fields: bool) {
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
    for (i, part) in value::items(selector, "requirements").iter().enumerate() {
        let at = field.child("requirements").index(i);
        if of_fields && value::text(part, "key").is_empty() {
            errors.push(FieldError::required(&at.child("key"), "must be specified"));
        }
        // An operator that nobody knows yet is passed over.
        labels::validate_count(errors, part, &at);
        if !of_fields {
            labels::validate_words(errors, part, &at);
        }
    }
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
        let metadata = object.get("metadata").unwrap_or(&Value::Null);
        let shown = native().schema("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").map(|schema| {
            let bytes = codec::json::encode(metadata, schema);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let detail = format!("{}: {detail}", shown.unwrap_or_default());
        errors.push(FieldError::invalid_whole(&Path::new("metadata"), detail));
    }
    errors
}
