//! `roles` of rbac.authorization.k8s.io: rules within a namespace.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::Errors;
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Hooks, Kind, NameRule, describe};
use crate::kinds::shared::rbac;

/// The description.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "Role",
    plural: "roles",
    singular: "role",
    create_on_update: true,
    columns: rbac::ROLE_COLUMNS,
    describe: describe::<k8s_openapi::api::rbac::v1::Role>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &Role,
    ..Kind::BASE
};

struct Role;

impl Hooks for Role {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, object: &Value) -> Errors {
        rbac::validate_rules(object, true)
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        rbac::role_row(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules_say_verbs_and_resources() {
        testing::invalid(&KIND, &json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}), &[]);
        testing::invalid(
            &KIND,
            &json!({"rules": [{"nonResourceURLs": ["/x"]}]}),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ],
        );
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        testing::row(&KIND, &object, &json!(["a", "2026-01-01T00:00:00Z"]));
    }
}
