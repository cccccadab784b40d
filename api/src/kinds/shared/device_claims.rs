//! What is asked for in a claim of devices, and in a template of claims.
//!
//! Never judges what was given; `device_results` does.

use super::devices::{self, MOST_CONFIGS};
use super::labels::invalid;
use super::names;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Condition, Demand};
use crate::value;

/// The most requests of a claim, and the most devices it gets.
pub const MOST_REQUESTS: usize = 32;
const MOST_CONSTRAINTS: usize = 32;
const MOST_ALTERNATIVES: usize = 8;

/// One device of a class, where the request does not say how many.
pub fn default(object: &mut Value, path: &str) {
    for request in value::items_mut(object, &format!("{path}.devices.requests")) {
        if let Some(exactly) = request.get_mut("exactly").filter(|exactly| exactly.is_object()) {
            default_count(exactly);
        }
        value::items_mut(request, "firstAvailable").iter_mut().for_each(default_count);
    }
}

fn default_count(request: &mut Value) {
    if !request.is_object() {
        return;
    }
    if value::text(request, "allocationMode").is_empty() {
        value::set(request, "allocationMode", "ExactCount");
    }
    let count = value::int(request, "count").unwrap_or_default();
    if value::text(request, "allocationMode") == "ExactCount" && count == 0 {
        value::set(request, "count", 1);
    }
}

/// Whoever administers devices that others use does so in a namespace that is marked for it.
#[must_use]
pub fn admin_access(object: &Value, path: &str) -> Option<Demand> {
    let requests = value::items(object, path);
    let at = requests.iter().position(|request| value::flag(request, "exactly.adminAccess"))?;
    Some(admin_demand(&Path::new("spec.devices.requests").index(at)))
}

/// The demand for admin access that this field asks for.
#[must_use]
pub fn admin_demand(field: &Path) -> Demand {
    const LABEL: &str = "resource.kubernetes.io/admin-access";
    let detail = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    Demand {
        condition: Condition::NamespaceLabel { key: LABEL, value: "true" },
        error: FieldError::forbidden(&field.child("adminAccess"), detail),
    }
}

/// What is wrong with a claim's spec.
#[must_use]
pub fn validate(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let claim = spec.get("devices").unwrap_or(&Value::Null);
    let field = field.child("devices");
    let list = |name: &str| value::items(claim, name);
    let most = Some(MOST_REQUESTS);
    devices::set(&mut errors, list("requests"), most, &field.child("requests"), devices::name_of, request);
    devices::each(
        &mut errors,
        list("constraints"),
        Some(MOST_CONSTRAINTS),
        &field.child("constraints"),
        |errors, constraint, field| {
            request_names(errors, constraint, field, claim);
            let text = |name: &str| constraint.get(name).and_then(Value::as_str);
            match (text("matchAttribute"), text("distinctAttribute")) {
                (Some(name), _) => devices::full_key(errors, name, &field.child("matchAttribute")),
                (None, Some(name)) => devices::full_key(errors, name, &field.child("distinctAttribute")),
                (None, None) => {
                    let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple \
                                  fields are set";
                    errors.push(FieldError::required(field, detail));
                }
            }
        },
    );
    devices::each(&mut errors, list("config"), Some(MOST_CONFIGS), &field.child("config"), |errors, config, field| {
        request_names(errors, config, field, claim);
        devices::configuration(errors, config, field, false);
    });
    errors
}

fn request(errors: &mut Errors, request: &Value, field: &Path) {
    devices::label(errors, value::text(request, "name"), &field.child("name"));
    let exactly = request.get("exactly").filter(|exactly| !exactly.is_null());
    let alternatives = value::items(request, "firstAvailable");
    let one = "exactly one of `exactly` or `firstAvailable` is required";
    match (exactly, alternatives) {
        (None, []) => errors.push(FieldError::required(field, one)),
        (Some(exactly), []) => wanted(errors, exactly, &field.child("exactly")),
        (None, alternatives) => {
            let field = field.child("firstAvailable");
            let most = Some(MOST_ALTERNATIVES);
            devices::set(errors, alternatives, most, &field, devices::name_of, |errors, alternative, field| {
                devices::label(errors, value::text(alternative, "name"), &field.child("name"));
                wanted(errors, alternative, field);
            });
        }
        (Some(_), _) => {
            let detail = format!("{one}, but multiple fields are set");
            errors.push(FieldError::invalid(field, Value::Null, detail));
        }
    }
}

fn wanted(errors: &mut Errors, request: &Value, field: &Path) {
    let class = value::text(request, "deviceClassName");
    devices::required(errors, class, &field.child("deviceClassName"), names::dns_subdomain);
    devices::selectors(errors, request, field);
    let count = value::int(request, "count").unwrap_or_default();
    let at = field.child("count");
    match value::text(request, "allocationMode") {
        "All" if count != 0 => {
            errors.push(FieldError::invalid(&at, count, "must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" if count <= 0 => errors.push(FieldError::invalid(&at, count, "must be greater than zero")),
        "All" | "ExactCount" => {}
        other => {
            let field = field.child("allocationMode");
            errors.push(FieldError::not_supported(&field, other, &["All", "ExactCount"]));
        }
    }
    devices::tolerations(errors, request, field);
}

/// The names at `requests` are those of requests of the claim.
pub fn request_names(errors: &mut Errors, object: &Value, field: &Path, claim: &Value) {
    let list = value::items(object, "requests");
    let most = Some(MOST_REQUESTS);
    devices::set(errors, list, most, &field.child("requests"), devices::itself, |errors, name, field| {
        request_name(errors, name.as_str().unwrap_or_default(), field, claim);
    });
}

/// The name of a request of the claim, or `request/alternative`.
pub fn request_name(errors: &mut Errors, name: &str, field: &Path, claim: &Value) {
    let detail =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        errors.push(FieldError::invalid(field, name, detail));
        return;
    }
    for part in &parts {
        invalid(errors, field, part, names::dns_label(part));
    }
    let named = |list: &'_ [Value], name: &str| list.iter().any(|one| value::text(one, "name") == name);
    let requests = value::items(claim, "requests");
    let known = match parts.as_slice() {
        [request] => named(requests, request),
        [request, alternative] => {
            // Of two with the same name upstream remembers the last.
            let request = requests.iter().rev().find(|one| value::text(one, "name") == *request);
            request.is_some_and(|request| named(value::items(request, "firstAvailable"), alternative))
        }
        _ => false,
    };
    if !known {
        errors.push(FieldError::invalid(field, name, detail));
    }
}
