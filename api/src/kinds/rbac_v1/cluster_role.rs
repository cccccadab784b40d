//! `clusterroles` of rbac.authorization.k8s.io: rules for the whole cluster.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Hooks, Kind, NameRule, describe};
use crate::kinds::shared::labels;
use crate::kinds::shared::rbac;
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    create_on_update: true,
    columns: rbac::ROLE_COLUMNS,
    describe: describe::<k8s_openapi::api::rbac::v1::ClusterRole>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &ClusterRole,
    ..Kind::BASE
};

struct ClusterRole;

impl Hooks for ClusterRole {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = rbac::validate_rules(object, false);
        if let Some(aggregation) = object.get("aggregationRule").filter(|rule| !rule.is_null()) {
            let field = Path::new("aggregationRule.clusterRoleSelectors");
            let selectors = value::items(aggregation, "clusterRoleSelectors");
            if selectors.is_empty() {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(&field, detail));
            }
            for (i, selector) in selectors.iter().enumerate() {
                errors.extend(labels::validate_selector(Some(selector), &field.index(i)));
            }
        }
        errors
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
    fn paths_and_aggregation() {
        testing::invalid(&KIND, &json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}), &[]);
        testing::invalid(
            &KIND,
            &json!({"aggregationRule": {}, "rules": [{"verbs": ["get"]}]}),
            &[
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if \
                 aggregationRule is non-nil",
            ],
        );
    }
}
