//! `localsubjectaccessreviews` of authorization.k8s.io: whether a subject may act in one namespace.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Hooks, Kind, Verb, describe};
use crate::kinds::shared::review;
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    verbs: Verb::CREATE,
    describe: describe::<k8s_openapi::api::authorization::v1::LocalSubjectAccessReview>,
    hooks: &LocalSubjectAccessReview,
    ..Kind::BASE
};

struct LocalSubjectAccessReview;

impl Hooks for LocalSubjectAccessReview {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = review::validate_spec(object, true);
        let detail = "must be empty except for namespace";
        errors.extend(review::validate_no_metadata(object, &["namespace"], detail));
        if value::get(object, "spec.resourceAttributes").is_some_and(|attributes| !attributes.is_null()) {
            let namespace = value::text(object, "spec.resourceAttributes.namespace");
            if namespace != crate::meta::namespace(object) {
                let field = Path::new("spec.resourceAttributes.namespace");
                errors.push(FieldError::invalid(&field, namespace, "must match metadata.namespace"));
            }
        }
        if let Some(path) = value::get(object, "spec.nonResourceAttributes").filter(|path| !path.is_null()) {
            let field = Path::new("spec.nonResourceAttributes");
            errors.push(FieldError::invalid(&field, review::shown(path), "disallowed on this kind of request"));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn namespaces_agree() {
        let fine = json!({"metadata": {"namespace": "a"},
            "spec": {"user": "u", "resourceAttributes": {"namespace": "a", "verb": "get"}}});
        testing::invalid(&KIND, &fine, &[]);
        testing::invalid(
            &KIND,
            &json!({"metadata": {"namespace": "b"},
                "spec": {"user": "u", "resourceAttributes": {"namespace": "a", "verb": "get"}}}),
            &["spec.resourceAttributes.namespace: Invalid value: \"a\": must match metadata.namespace"],
        );
    }
}
