//! `podtemplates`: a pod template on its own.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, Path};
use crate::json::Value;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, labels, pod_defaults, pod_gates, pod_validation, pod_warnings};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    generation: true,
    columns: &[
        Column::NAME,
        Column::text("Containers").says("Names of each container in the template."),
        Column::text("Images").says("Images referenced by each container in the template."),
        Column::text("Pod Labels").says("The labels for the pod template."),
    ],
    returns_deleted: true,
    gated: pod_gates::TEMPLATE,
    pods: Some("template.spec"),
    describe: describe::<k8s_openapi::api::core::v1::PodTemplate>,
    hooks: &PodTemplate,
    ..Kind::BASE
};

struct PodTemplate;

impl Hooks for PodTemplate {
    fn default(&self, object: &mut Value) {
        pod_defaults::template(object, "template");
    }

    fn validate(&self, object: &Value) -> Errors {
        let template = object.get("template").unwrap_or(&Value::Null);
        pod_validation::template(template, &Path::new("template"))
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        match new.get("template") {
            Some(template) if old.is_none() => pod_warnings::of_template_at(template, &Path::new("template")),
            _ => Vec::new(),
        }
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        let containers = value::items(object, "template.spec.containers");
        vec![
            cells::name(object),
            cells::joined(containers, "name").into(),
            cells::joined(containers, "image").into(),
            labels::shown(value::get(object, "template.metadata.labels")).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn the_template_is_completed_and_checked() {
        let mut object = json!({"metadata": {"name": "t"}, "template": {"metadata": {"labels": {"a": "1"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}});
        KIND.hooks.default(&mut object);
        assert_eq!(object["template"]["spec"]["restartPolicy"], "Always");
        testing::invalid(&KIND, &object, &[]);
        testing::row(&KIND, &object, &json!(["t", "c", "i", "a=1"]));
        value::set(&mut object, "template.spec.containers", json!([]));
        testing::invalid(&KIND, &object, &["template.spec.containers: Required value"]);
    }
}
