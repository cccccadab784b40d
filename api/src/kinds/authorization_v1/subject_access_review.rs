//! `subjectaccessreviews` of authorization.k8s.io: whether a subject may act.
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
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    namespaced: false,
    verbs: Verb::CREATE,
    describe: describe::<k8s_openapi::api::authorization::v1::SubjectAccessReview>,
    hooks: &SubjectAccessReview,
    ..Kind::BASE
};

struct SubjectAccessReview;

impl Hooks for SubjectAccessReview {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = review::validate_spec(object, true);
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
        testing::invalid(&KIND, &json!({"spec": {"user": "u", "resourceAttributes": {"verb": "get"}}}), &[]);
        testing::invalid(
            &KIND,
            &json!({"metadata": {"name": "a"}, "spec": {}}),
            &[
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be \
                 specified",
                "spec.user: Invalid value: \"\": at least one of user or group must be specified",
                "metadata: Invalid value: {\"name\":\"a\"}: must be empty",
            ],
        );
    }
}
