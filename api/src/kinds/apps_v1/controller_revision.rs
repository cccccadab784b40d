//! `controllerrevisions` of apps: immutable snapshots of state.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    columns: &[
        Column::NAME,
        Column::text("Controller").says("Controller of the object"),
        Column::text("Revision").of("revision"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::apps::v1::ControllerRevision>,
    judgement: Judgement::AS_NEW,
    hooks: &ControllerRevision,
    ..Kind::BASE
};

struct ControllerRevision;

impl Hooks for ControllerRevision {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::not_negative(&mut errors, object, "revision", &Path::new(""));
        match object.get("data") {
            None | Some(Value::Null) => errors.push(FieldError::required(&Path::new("data"), "data is mandatory")),
            Some(Value::Object(_)) => {}
            Some(_) => errors.push(FieldError::required(&Path::new("data"), "data must be a valid JSON object")),
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged(&mut errors, new, old, "data");
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let owners = value::items(object, "metadata.ownerReferences");
        let owner = owners.iter().find(|owner| value::flag(owner, "controller")).map_or_else(
            || "<none>".to_owned(),
            |owner| {
                let (group, _) = value::text(owner, "apiVersion").rsplit_once('/').unwrap_or_default();
                let kind = value::text(owner, "kind").to_lowercase();
                let dot = if group.is_empty() { "" } else { "." };
                format!("{kind}{dot}{group}/{}", value::text(owner, "name"))
            },
        );
        vec![cells::name(object), owner.into(), cells::count(object, "revision"), cells::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn data_is_an_object_and_stays() {
        testing::invalid(&KIND, &json!({"revision": 1, "data": {"a": 1}}), &[]);
        testing::invalid(&KIND, &json!({"revision": 1}), &["data: Required value: data is mandatory"]);
        testing::invalid_update(
            &KIND,
            &json!({"data": {"a": 2}}),
            &json!({"data": {"a": 1}}),
            &["data: Invalid value: {\"a\":2}: field is immutable"],
        );
        let object = json!({"metadata": {"name": "web-1", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "controller": true}]}, "revision": 3});
        testing::row(&KIND, &object, &json!(["web-1", "daemonset.apps/web", 3, "<unknown>"]));
    }
}
