//! `horizontalpodautoscalers` of autoscaling/v1: the older view of what autoscaling/v2 stores.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::Errors;
use crate::json::Value;
use crate::kind::{Gvk, Hooks, Kind, Part, StoredAs, Subresource, Verb, describe};
use crate::kinds::autoscaling_v2;
use crate::kinds::shared::autoscaler::{BEHAVIOR, CONDITIONS, CURRENT_METRICS, METRICS};
use crate::kinds::shared::{autoscaler, autoscaler_v1, parts};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "autoscaling",
    version: "v1",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[Subresource {
        name: "status",
        gvk: Gvk { group: "autoscaling", version: "v1", kind: "HorizontalPodAutoscaler" },
        verbs: Verb::PART,
        part: Part::View { merge: with_status },
    }],
    columns: autoscaler::COLUMNS,
    stored_as: Some(StoredAs {
        kind: &autoscaling_v2::horizontal_pod_autoscaler::KIND,
        to: autoscaler_v1::to_v2,
        from: autoscaler_v1::from_v2,
    }),
    describe: describe::<k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler>,
    hooks: &HorizontalPodAutoscaler,
    ..Kind::BASE
};

struct HorizontalPodAutoscaler;

impl Hooks for HorizontalPodAutoscaler {
    fn default(&self, object: &mut Value) {
        value::set_default(object, "spec.minReplicas", 1);
        // What is not said is what v2 says then; the annotations take the form in which they will be read.
        *object = stored(object);
        autoscaler_v1::from_v2(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        // The defaults may have made a status of the client's annotations.
        value::remove(object, "status");
        annotations_of(&[CURRENT_METRICS, CONDITIONS], object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        parts::copy(new, old, "status");
        annotations_of(&[CURRENT_METRICS, CONDITIONS], new, Some(old));
    }

    fn validate(&self, object: &Value) -> Errors {
        autoscaler::validate(&stored(object), None)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        autoscaler::validate(&stored(new), Some(&stored(old)))
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        autoscaler::validate_status(new)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        autoscaler::row(&stored(object), now)
    }
}

/// The object in the stored version.
fn stored(object: &Value) -> Value {
    let mut object = object.clone();
    autoscaler_v1::to_v2(&mut object);
    object
}

/// These annotations are what they were, or are not there.
fn annotations_of(keys: &[&str], new: &mut Value, old: Option<&Value>) {
    for key in keys {
        match old.and_then(|old| meta::annotation(old, key)) {
            Some(text) => drop(value::map_mut(new, "metadata.annotations").insert((*key).to_owned(), text.into())),
            None => {
                if let Some(annotations) = value::get_mut(new, "metadata.annotations").and_then(Value::as_object_mut) {
                    annotations.remove(key);
                }
            }
        }
    }
}

/// The annotations that stand for fields of the spec stay with it.
fn with_status(new: Value, old: &Value) -> Value {
    let mut object = parts::status_of_new(new, old);
    annotations_of(&[METRICS, BEHAVIOR], &mut object, Some(old));
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn sound() -> Value {
        json!({"metadata": {"name": "h"}, "spec": {"minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 80,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
    }

    #[test]
    fn defaults() {
        let mut bare = sound();
        value::remove(&mut bare, "spec.minReplicas");
        value::remove(&mut bare, "spec.targetCPUUtilizationPercentage");
        testing::defaults(&KIND, bare.clone(), &sound());
        // A specification is always there, whether or not it was said.
        testing::defaults(&KIND, json!({}), &json!({"spec": {"minReplicas": 1, "targetCPUUtilizationPercentage": 80}}));
        value::map_mut(&mut bare, "metadata.annotations").insert(
            METRICS,
            "[ {\"resource\": {\"name\": \"memory\", \"targetAverageValue\": \"1024Mi\"}, \"type\": \"Resource\"} ]"
                .into(),
        );
        KIND.hooks.default(&mut bare);
        assert_eq!(bare["spec"].get("targetCPUUtilizationPercentage"), None);
        assert_eq!(
            bare["metadata"]["annotations"],
            json!({METRICS: "[{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\",\"targetAverageValue\":\"1Gi\"}}]"})
        );
    }

    #[test]
    fn validation_is_that_of_v2() {
        testing::invalid(&KIND, &sound(), &[]);
        let mut object = sound();
        value::set(&mut object, "spec.targetCPUUtilizationPercentage", 0);
        testing::invalid(
            &KIND,
            &object,
            &["spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"],
        );
        value::set(&mut object, "spec.targetCPUUtilizationPercentage", 80);
        value::map_mut(&mut object, "metadata.annotations").insert(BEHAVIOR, "{\"ScaleUp\":{}}".into());
        testing::invalid(
            &KIND,
            &object,
            &["spec.behavior.scaleUp.policies: Required value: must specify at least one Policy"],
        );
        testing::row(&KIND, &sound(), &json!(["h", "Deployment/web", "cpu: <unknown>/80%", "1", 3, 0, "<unknown>"]));
    }

    #[test]
    fn each_writer_has_its_annotations() {
        let annotated = |spec: &str, status: &str| {
            let mut object = sound();
            value::set(&mut object, "metadata.annotations", json!({METRICS: spec, CURRENT_METRICS: status}));
            object
        };
        let (old, mut new) = (annotated("old", "old"), annotated("new", "new"));
        let merged = with_status(new.clone(), &old);
        assert_eq!(merged["metadata"], annotated("old", "new")["metadata"]);
        value::set(&mut new, "status.currentReplicas", 9);
        KIND.hooks.prepare_update(&mut new, &old);
        assert_eq!(new, annotated("new", "old"));
        value::set(&mut new, "status.currentReplicas", 9);
        KIND.hooks.prepare_create(&mut new);
        assert_eq!(new["metadata"]["annotations"], json!({METRICS: "new"}));
        assert_eq!(new.get("status"), None);
    }
}
