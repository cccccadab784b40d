//! `selfsubjectaccessreviews` of authorization.k8s.io: whether the caller may act.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::Errors;
use crate::json::Value;
use crate::kind::{Hooks, Kind, Verb, describe};
use crate::kinds::shared::review;

/// The description.
pub static KIND: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    namespaced: false,
    verbs: Verb::CREATE,
    describe: describe::<k8s_openapi::api::authorization::v1::SelfSubjectAccessReview>,
    hooks: &SelfSubjectAccessReview,
    ..Kind::BASE
};

struct SelfSubjectAccessReview;

impl Hooks for SelfSubjectAccessReview {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = review::validate_spec(object, false);
        errors.extend(review::validate_no_metadata(object, &[], "must be empty"));
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn one_question_at_a_time() {
        testing::invalid(&KIND, &json!({"spec": {"resourceAttributes": {"verb": "get"}}}), &[]);
        testing::invalid(
            &KIND,
            &json!({"metadata": {"name": "a"}, "spec": {}}),
            &[
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be \
                 specified",
                "metadata: Invalid value: {\"name\":\"a\"}: must be empty",
            ],
        );
    }
}
