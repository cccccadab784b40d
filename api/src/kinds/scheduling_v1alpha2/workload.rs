//! `workloads` of scheduling.k8s.io: which groups of pods are scheduled together.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-4671.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Hooks, Kind, describe};
use crate::kinds::shared::labels::invalid;
use crate::kinds::shared::names;
use crate::kinds::shared::pod_groups::{self, immutable, named, required_name};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "scheduling.k8s.io",
    version: "v1alpha2",
    kind: "Workload",
    plural: "workloads",
    singular: "workload",
    gate: Some("GenericWorkload"),
    gated: pod_groups::GATED_OF_TEMPLATES,
    describe: describe::<k8s_openapi::api::scheduling::v1alpha2::Workload>,
    hooks: &Workload,
    ..Kind::BASE
};

struct Workload;

/// The most templates of one workload.
const TEMPLATES: usize = 8;

impl Hooks for Workload {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        if let Some(controller) = value::get(object, "spec.controllerRef").filter(|given| !given.is_null()) {
            let field = field.child("controllerRef");
            let group = value::text(controller, "apiGroup");
            if !group.is_empty() {
                invalid(&mut errors, &field.child("apiGroup"), group, names::long_name(group));
            }
            for name in ["kind", "name"] {
                required_name(&mut errors, controller, name, &field, |text| names::path_segment(text, false));
            }
        }
        let field = field.child("podGroupTemplates");
        let templates = value::items(object, "spec.podGroupTemplates");
        if templates.is_empty() {
            errors.push(FieldError::required(&field, ""));
        } else if named(&mut errors, templates, &field, TEMPLATES) {
            for (i, template) in templates.iter().enumerate() {
                let field = field.index(i);
                required_name(&mut errors, template, "name", &field, names::short_name);
                pod_groups::validate(&mut errors, template, &field);
            }
        }
        errors
    }

    fn revalidate(&self, _new: &Value, _old: &Value) -> Errors {
        // What has not changed is not looked at again, and nothing may change.
        Errors::new()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        for path in ["spec.controllerRef", "spec.podGroupTemplates"] {
            immutable(&mut errors, new, old, path);
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
    fn templates_and_their_owner() {
        let template = |name: &str| json!({"name": name, "schedulingPolicy": {"basic": {}}});
        let owner = json!({"apiGroup": "batch", "kind": "Job", "name": "j"});
        let sound = json!({"spec": {"controllerRef": owner, "podGroupTemplates": [template("a"), template("b")]}});
        testing::invalid(&KIND, &sound, &[]);
        testing::invalid(&KIND, &json!({"spec": {}}), &["spec.podGroupTemplates: Required value"]);
        testing::invalid(
            &KIND,
            &json!({"spec": {"controllerRef": {"kind": "a/b"}, "podGroupTemplates": [{"name": "A"}]}}),
            &[
                "spec.controllerRef.kind: Invalid value: \"a/b\": may not contain '/'",
                "spec.controllerRef.name: Required value",
                "spec.podGroupTemplates[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case \
                 alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
                 '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.podGroupTemplates[0].schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`",
            ],
        );
        let many: Vec<Value> = (0..9).map(|i| template(&format!("t{i}"))).collect();
        testing::invalid(
            &KIND,
            &json!({"spec": {"podGroupTemplates": many}}),
            &["spec.podGroupTemplates: Too many: 9: must have at most 8 items"],
        );
        testing::invalid_update(
            &KIND,
            &json!({"spec": {"podGroupTemplates": []}}),
            &sound,
            &[
                "spec.controllerRef: Invalid value: null: field is immutable",
                "spec.podGroupTemplates: Invalid value: null: field is immutable",
            ],
        );
        testing::invalid_update(&KIND, &sound, &sound, &[]);
    }
}
