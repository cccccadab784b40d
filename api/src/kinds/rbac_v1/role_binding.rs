//! `rolebindings` of rbac.authorization.k8s.io: grants a role in a namespace.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::Errors;
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, NameRule, describe};
use crate::kinds::shared::rbac;

/// The sentences are those of v1beta1.
const COLUMNS: [Column; 6] = rbac::binding_columns(
    "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. \
     If the RoleRef cannot be resolved, the Authorizer must return an error.",
    ["Users in the roleBinding", "Groups in the roleBinding", "ServiceAccounts in the roleBinding"],
);

/// The description.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    create_on_update: true,
    columns: const { &COLUMNS as &[Column] },
    describe: describe::<k8s_openapi::api::rbac::v1::RoleBinding>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &RoleBinding,
    ..Kind::BASE
};

struct RoleBinding;

impl Hooks for RoleBinding {
    fn default(&self, object: &mut Value) {
        rbac::default_binding(object);
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, object: &Value) -> Errors {
        rbac::validate_binding(object, true)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        rbac::validate_binding_update(new, old)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        rbac::binding_row(object, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbac::testing;

    #[test]
    fn groups_are_filled_in() {
        testing::groups_are_filled_in(&KIND);
    }

    #[test]
    fn reference_and_subjects_are_checked() {
        testing::reference_and_subjects_are_checked(&KIND, "\"Role\", \"ClusterRole\"");
    }

    #[test]
    fn row() {
        testing::row(&KIND);
    }
}
