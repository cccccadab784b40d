//! `metav1.Status`: every answer that is not an object, with upstream's reasons, codes and sentences.
//!
//! Builds the value; which error becomes which status is decided at the edge of the API server.

use crate::field_path::Errors;
use crate::json::{Value, json};
use std::borrow::Cow;
use std::fmt;

/// A failure (or plain success) as clients get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// `metav1.StatusReason`; empty for unknown.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// `details`: name, group, kind, uid, causes, retryAfterSeconds; `Null` for none.
    pub details: Value,
    /// `metadata.continue`: with what a list whose token expired can go on; empty for none.
    pub next: String,
}

impl std::error::Error for Status {}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A resource by the name that statuses use: `deployments.apps`, `pods`.
#[derive(Clone, Copy, Debug)]
pub struct ResourceName<'a> {
    /// API group.
    pub group: &'a str,
    /// Plural.
    pub plural: &'a str,
}

impl fmt::Display for ResourceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(self.plural) } else { write!(f, "{}.{}", self.plural, self.group) }
    }
}

impl Status {
    fn new(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Status {
        Status { code, reason: reason.into(), message: message.into(), details: Value::Null, next: String::new() }
    }

    fn about(mut self, resource: ResourceName<'_>, name: &str) -> Status {
        let mut details = crate::json::Map::new();
        if !name.is_empty() {
            details.insert("name", name.into());
        }
        if !resource.group.is_empty() {
            details.insert("group", resource.group.into());
        }
        if !resource.plural.is_empty() {
            details.insert("kind", resource.plural.into());
        }
        self.details = Value::Object(details);
        self
    }

    /// 400 `BadRequest`.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    /// 401 `Unauthorized`.
    #[must_use]
    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 `Forbidden` for a named object: `pods "a" is forbidden: why`.
    #[must_use]
    pub fn forbidden(resource: ResourceName<'_>, name: &str, why: &str) -> Status {
        let message = match (resource.plural.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Status::new(403, "Forbidden", message).about(resource, name)
    }

    /// 403 `Forbidden` with a whole message.
    #[must_use]
    pub fn refused(resource: ResourceName<'_>, name: &str, message: impl Into<String>) -> Status {
        Status::new(403, "Forbidden", message).about(resource, name)
    }

    /// 404 `NotFound` for an object: `pods "a" not found`.
    #[must_use]
    pub fn not_found(resource: ResourceName<'_>, name: &str) -> Status {
        Status::new(404, "NotFound", format!("{resource} {name:?} not found")).about(resource, name)
    }

    /// 404 for a path that nothing serves.
    #[must_use]
    pub fn no_such_path() -> Status {
        let mut status = Status::new(404, "NotFound", "the server could not find the requested resource");
        status.details = json!({});
        status
    }

    /// 405 `MethodNotAllowed`.
    #[must_use]
    pub fn method_not_allowed(resource: ResourceName<'_>, verb: &str) -> Status {
        Status::new(405, "MethodNotAllowed", format!("{verb} is not supported on resources of kind \"{resource}\""))
            .about(resource, "")
    }

    /// 405 for a path that other methods know.
    #[must_use]
    pub fn no_such_method() -> Status {
        let message = "the server does not allow this method on the requested resource";
        let mut status = Status::new(405, "MethodNotAllowed", message);
        status.details = json!({});
        status
    }

    /// 406 `NotAcceptable`.
    #[must_use]
    pub fn not_acceptable(offered: &str) -> Status {
        Status::new(406, "NotAcceptable", format!("only the following media types are accepted: {offered}"))
    }

    /// 409 `AlreadyExists`.
    #[must_use]
    pub fn already_exists(resource: ResourceName<'_>, name: &str) -> Status {
        Status::new(409, "AlreadyExists", format!("{resource} {name:?} already exists")).about(resource, name)
    }

    /// 409 `Conflict`: `Operation cannot be fulfilled on pods "a": why`.
    #[must_use]
    pub fn conflict(resource: ResourceName<'_>, name: &str, why: &str) -> Status {
        Status::new(409, "Conflict", format!("Operation cannot be fulfilled on {resource} {name:?}: {why}"))
            .about(resource, name)
    }

    /// The sentence of a stale `resourceVersion`.
    pub const STALE: &'static str =
        "the object has been modified; please apply your changes to the latest version and try again";

    /// 409 of server-side apply, one cause per field: (field, message).
    #[must_use]
    pub fn apply_conflict(message: impl Into<String>, causes: &[(String, String)]) -> Status {
        let mut status = Status::new(409, "Conflict", message);
        let causes: Vec<Value> = causes
            .iter()
            .map(|(field, message)| json!({"reason": "FieldManagerConflict", "message": message, "field": field}))
            .collect();
        status.details = json!({ "causes": causes });
        status
    }

    /// 410 `Expired`: the version asked for is compacted.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    /// 410 `Gone`.
    #[must_use]
    pub fn gone(message: impl Into<String>) -> Status {
        Status::new(410, "Gone", message)
    }

    /// 413 `RequestEntityTooLarge`.
    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Status {
        Status::new(413, "RequestEntityTooLarge", message)
    }

    /// 415 `UnsupportedMediaType`.
    #[must_use]
    pub fn unsupported_media_type(offered: &str) -> Status {
        Status::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {offered}"),
        )
    }

    /// 422 `Invalid` with one cause per field error; `kind` is the object's Kind (`Deployment`).
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &Errors) -> Status {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        // Causes are told as often as they were found, the same sentence once.
        let mut sentences: Vec<String> = Vec::with_capacity(errors.len());
        for sentence in errors.iter().map(ToString::to_string) {
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
        let list = match sentences.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = if errors.is_empty() {
            format!("{qualified} {name:?} is invalid")
        } else {
            format!("{qualified} {name:?} is invalid: {list}")
        };
        let mut status = Status::new(422, "Invalid", message).about(ResourceName { group, plural: kind }, name);
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.kind.reason(), "message": e.body(), "field": e.field.to_string()}))
            .collect();
        if let (Value::Object(details), false) = (&mut status.details, causes.is_empty()) {
            details.insert("causes", causes.into());
        }
        status
    }

    /// 429 `TooManyRequests`.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        let mut status = Status::new(429, "TooManyRequests", message);
        status.details = json!({ "retryAfterSeconds": retry_after_seconds });
        status
    }

    /// 500 `InternalError`.
    #[must_use]
    pub fn internal(why: impl fmt::Display) -> Status {
        let mut status = Status::new(500, "InternalError", format!("Internal error occurred: {why}"));
        status.details = json!({"causes": [{"message": why.to_string()}]});
        status
    }

    /// 503 `ServiceUnavailable`.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    /// 504 `Timeout`.
    #[must_use]
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        let mut status = Status::new(504, "Timeout", message);
        status.details = json!({ "retryAfterSeconds": retry_after_seconds });
        status
    }

    /// The wire object, fields in upstream's order once encoded by the schema.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut out = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": if self.code < 400 { "Success" } else { "Failure" },
        });
        if let Value::Object(map) = &mut out {
            if self.code != 0 {
                map.insert("code", self.code.into());
            }
            if !self.message.is_empty() {
                map.insert("message", self.message.clone().into());
            }
            if !self.next.is_empty() {
                map.insert("metadata", json!({ "continue": self.next }));
            }
            if !self.reason.is_empty() {
                map.insert("reason", self.reason.as_ref().into());
            }
            if !self.details.is_null() {
                map.insert("details", self.details.clone());
            }
        }
        out
    }

    /// 201 without a reason, the answer to a binding or an eviction.
    #[must_use]
    pub fn created() -> Status {
        Status::new(201, "", "")
    }

    /// A failure in the words of somebody else, for whom the API server answers.
    #[must_use]
    pub fn foreign(code: u16, reason: impl Into<Cow<'static, str>>, message: String) -> Status {
        Status::new(code, reason, message)
    }

    /// 422 `Invalid` without causes.
    #[must_use]
    pub fn unprocessable(message: impl Into<String>) -> Status {
        Status { details: json!({}), ..Status::new(422, "Invalid", message) }
    }

    /// `Success`, the answer to a finished deletion. It says no code.
    #[must_use]
    pub fn success(resource: ResourceName<'_>, name: &str, uid: &str) -> Status {
        let mut status = Status::new(0, "", "").about(resource, name);
        if let (Value::Object(details), false) = (&mut status.details, uid.is_empty()) {
            details.insert("uid", uid.into());
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field_path::{FieldError, Path};

    #[test]
    fn invalid_lists_its_causes() {
        let errors = vec![FieldError::invalid(&Path::new("spec").child("replicas"), -1, "must be positive")];
        let status = Status::invalid("apps", "Deployment", "web", &errors);
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be positive"
        );
        assert_eq!(
            status.details,
            json!({"name": "web", "group": "apps", "kind": "Deployment", "causes": [{
                "reason": "FieldValueInvalid", "message": "Invalid value: -1: must be positive", "field": "spec.replicas"}]})
        );
    }
}
