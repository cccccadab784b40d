//! `resourceclaimtemplates` of resource.k8s.io: from which each pod gets claims of its own.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Demand, Hooks, Kind, Occasion, describe};
use crate::kinds::shared::{device_claims, labels, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "resource.k8s.io",
    version: "v1",
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::resource::v1::ResourceClaimTemplate>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &ResourceClaimTemplate,
    ..Kind::BASE
};

struct ResourceClaimTemplate;

/// What a template's metadata cannot have, and how upstream names it.
const FORBIDDEN: &[(&str, &str)] = &[
    ("name", "name"),
    ("generateName", "generateName"),
    ("namespace", "namespace"),
    ("selfLink", "selfLink"),
    ("uid", "uID"),
    ("resourceVersion", "resourceVersion"),
    ("generation", "generation"),
    ("creationTimestamp", "creationTimestamp"),
    ("deletionTimestamp", "deletionTimestamp"),
    ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
    ("ownerReferences", "ownerReferences"),
    ("finalizers", "finalizers"),
    ("managedFields", "managedFields"),
];

impl Hooks for ResourceClaimTemplate {
    fn default(&self, object: &mut Value) {
        device_claims::default(object, "spec.spec");
    }

    fn validate(&self, object: &Value) -> Errors {
        let field = Path::new("spec");
        let metadata = value::get(object, "spec.metadata").unwrap_or(&Value::Null);
        let at = field.child("metadata");
        let mut errors = labels::validate_annotations(metadata.get("annotations"), &at.child("annotations"));
        errors.extend(labels::validate(metadata.get("labels"), &at.child("labels")));
        // Of metadata nothing else makes sense in a template.
        for (name, shown) in FORBIDDEN {
            if metadata.get(*name).is_some_and(|value| !rules::is_zero(value) && value.as_i64() != Some(0)) {
                errors.push(FieldError::forbidden(&at.child(shown), "cannot be set"));
            }
        }
        let spec = value::get(object, "spec.spec").unwrap_or(&Value::Null);
        errors.extend(device_claims::validate(spec, &field.child("spec")));
        errors
    }

    fn demands(&self, part: &str, new: &Value, old: Option<&Value>, _occasion: &Occasion<'_>) -> Vec<Demand> {
        let created = part.is_empty() && old.is_none();
        let demand = device_claims::admin_access(new, "spec.spec.devices.requests").filter(|_| created);
        demand.into_iter().collect()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "spec", "ResourceClaimTemplateSpec");
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let template = |request: Value| json!({"spec": {"spec": {"devices": {"requests": [request]}}}});
        testing::defaults(
            &KIND,
            template(json!({"exactly": {}})),
            &template(json!({"exactly": {"allocationMode": "ExactCount", "count": 1}})),
        );
        let admin = template(json!({"exactly": {"adminAccess": true}}));
        let demands = KIND.hooks.demands("", &admin, None, &testing::occasion(""));
        assert_eq!(
            demands.iter().map(|demand| demand.error.to_string()).collect::<Vec<_>>(),
            ["spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the \
              `resource.kubernetes.io/admin-access: true` label on the containing namespace"],
            "upstream names the field of a claim"
        );
        assert!(KIND.hooks.demands("", &admin, Some(&admin), &testing::occasion("")).is_empty());
        let mut bad = template(json!({"name": "a"}));
        value::set(&mut bad, "spec.metadata", json!({"labels": {"a b": "c"}, "uid": "1", "name": ""}));
        let errors = testing::shown(&KIND.hooks.validate(&bad));
        assert!(errors[0].starts_with("spec.metadata.labels: Invalid value: \"a b\""), "{errors:?}");
        assert_eq!(errors[1], "spec.metadata.uID: Forbidden: cannot be set");
        assert_eq!(
            errors[2],
            "spec.spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"
        );
        let errors = testing::shown(&KIND.hooks.validate_update(&bad, &template(json!({}))));
        assert!(errors.len() == 1 && errors[0].ends_with(": field is immutable"), "{errors:?}");
    }
}
