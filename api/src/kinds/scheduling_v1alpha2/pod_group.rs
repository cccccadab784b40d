//! `podgroups` of scheduling.k8s.io: pods that are scheduled together.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-4671.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::pod_groups::{self, immutable, named, required_name, union};
use crate::kinds::shared::{cells, conditions, names, parts, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "scheduling.k8s.io",
    version: "v1alpha2",
    kind: "PodGroup",
    plural: "podgroups",
    singular: "podgroup",
    subresources: &[parts::status_only("scheduling.k8s.io", "v1alpha2", "PodGroup")],
    resets: parts::STATUS_ONLY,
    gate: Some("GenericWorkload"),
    gated: pod_groups::GATED,
    columns: &[
        Column::NAME,
        Column::text("Policy").of("spec.schedulingPolicy"),
        Column::text("Workload").says("Name of the referenced Workload object"),
        Column::text("Status").says("Status of the PodGroup"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::scheduling::v1alpha2::PodGroup>,
    hooks: &PodGroup,
    ..Kind::BASE
};

struct PodGroup;

/// The most claims of one group.
const CLAIMS: usize = 4;

impl Hooks for PodGroup {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        if let Some(template) = spec.get("podGroupTemplateRef").filter(|given| !given.is_null()) {
            let field = field.child("podGroupTemplateRef");
            union(&mut errors, template, &field, &["workload"]);
            if let Some(workload) = template.get("workload").filter(|given| !given.is_null()) {
                let field = field.child("workload");
                required_name(&mut errors, workload, "workloadName", &field, names::long_name);
                required_name(&mut errors, workload, "podGroupTemplateName", &field, names::short_name);
            }
        }
        pod_groups::validate(&mut errors, spec, &field);
        errors
    }

    fn revalidate(&self, _new: &Value, _old: &Value) -> Errors {
        // What has not changed is not looked at again, and nothing may change.
        Errors::new()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        for name in [
            "podGroupTemplateRef",
            "schedulingPolicy",
            "schedulingConstraints",
            "resourceClaims",
            "disruptionMode",
            "priorityClassName",
            "priority",
        ] {
            immutable(&mut errors, new, old, &format!("spec.{name}"));
        }
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        let mut errors = conditions::validate(value::items(new, "status.conditions"), &Path::new("status.conditions"));
        let (path, claims) = ("status.resourceClaimStatuses", value::items(new, "spec.resourceClaims"));
        let (field, statuses) = (Path::new(path), value::items(new, path));
        for (i, status) in statuses.iter().enumerate() {
            let name = value::text(status, "name");
            if !claims.iter().any(|claim| value::text(claim, "name") == name) {
                let detail = "must match the name of an entry in `spec.resourceClaims`";
                errors.push(FieldError::invalid(&field.index(i).child("name"), name, detail));
            }
        }
        let changed = rules::differ(value::get(new, path), value::get(old, path));
        if changed && named(&mut errors, statuses, &field, CLAIMS) {
            for (i, status) in statuses.iter().enumerate() {
                rules::text(&mut errors, status, "resourceClaimName", &field.index(i), names::long_name);
            }
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let gang = value::get(object, "spec.schedulingPolicy.gang").is_some_and(|gang| !gang.is_null());
        let list = value::items(object, "status.conditions");
        let condition = |kind: &str| list.iter().rfind(|condition| value::text(condition, "type") == kind);
        let status = match (condition("DisruptionTarget"), condition("PodGroupScheduled")) {
            (Some(disrupted), _) => value::text(disrupted, "reason"),
            (None, Some(scheduled)) if value::text(scheduled, "status") == "True" => "Scheduled",
            (None, Some(_)) => "Unschedulable",
            (None, None) => "Pending",
        };
        vec![
            cells::name(object),
            if gang { "Gang" } else { "Basic" }.into(),
            cells::text_or(object, "spec.podGroupTemplateRef.workload.workloadName", "<none>"),
            status.into(),
            cells::age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn references_and_policy() {
        let spec =
            |template: Value| json!({"spec": {"schedulingPolicy": {"basic": {}}, "podGroupTemplateRef": template}});
        let sound = spec(json!({"workload": {"workloadName": "w", "podGroupTemplateName": "t"}}));
        testing::invalid(&KIND, &sound, &[]);
        testing::invalid(&KIND, &spec(json!(null)), &[]);
        testing::invalid(
            &KIND,
            &spec(json!({})),
            &["spec.podGroupTemplateRef: Invalid value: \"\": must specify one of: `workload`"],
        );
        testing::invalid(
            &KIND,
            &spec(json!({"workload": {}})),
            &[
                "spec.podGroupTemplateRef.workload.workloadName: Required value",
                "spec.podGroupTemplateRef.workload.podGroupTemplateName: Required value",
            ],
        );
        testing::invalid_update(
            &KIND,
            &spec(json!(null)),
            &sound,
            &["spec.podGroupTemplateRef: Invalid value: null: field is immutable"],
        );
    }

    #[test]
    fn statuses_name_claims_of_the_spec() {
        let check = |statuses: Value, sentences: &[&str]| {
            let new =
                json!({"spec": {"resourceClaims": [{"name": "a"}]}, "status": {"resourceClaimStatuses": statuses}});
            assert_eq!(testing::shown(&KIND.hooks.validate_part("status", &new, &json!({}))), sentences);
        };
        check(json!([{"name": "a", "resourceClaimName": "x"}]), &[]);
        check(
            json!([{"name": "b"}]),
            &["status.resourceClaimStatuses[0].name: Invalid value: \"b\": must match the name of an entry in \
                 `spec.resourceClaims`"],
        );
        check(
            json!([{"name": "a"}, {"name": "a"}]),
            &["status.resourceClaimStatuses[1]: Duplicate value: {\"name\":\"a\"}"],
        );
    }

    #[test]
    fn row() {
        let row = |conditions: Value, status: &str| {
            let object = json!({"metadata": {"name": "g"}, "spec": {"schedulingPolicy": {"gang": {"minCount": 1}}},
                "status": {"conditions": conditions}});
            testing::row(&KIND, &object, &json!(["g", "Gang", "<none>", status, "<unknown>"]));
        };
        let scheduled = |status: &str| json!({"type": "PodGroupScheduled", "status": status, "reason": "R"});
        row(json!([]), "Pending");
        row(json!([scheduled("True")]), "Scheduled");
        row(json!([scheduled("False")]), "Unschedulable");
        row(json!([scheduled("True"), {"type": "DisruptionTarget", "status": "True", "reason": "Gone"}]), "Gone");
    }
}
