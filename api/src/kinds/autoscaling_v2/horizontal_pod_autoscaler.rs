//! `horizontalpodautoscalers` of autoscaling/v2: how many pods a load needs; the stored form of both versions.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::Errors;
use crate::json::Value;
use crate::kind::{Hooks, Kind, describe};
use crate::kinds::shared::{autoscaler, parts};

/// The description.
pub static KIND: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[parts::status("autoscaling", "v2", "HorizontalPodAutoscaler")],
    columns: autoscaler::COLUMNS,
    describe: describe::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>,
    hooks: &HorizontalPodAutoscaler,
    ..Kind::BASE
};

struct HorizontalPodAutoscaler;

impl Hooks for HorizontalPodAutoscaler {
    fn default(&self, object: &mut Value) {
        autoscaler::default(object);
    }

    fn validate(&self, object: &Value) -> Errors {
        autoscaler::validate(object, None)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        autoscaler::validate(new, Some(old))
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        autoscaler::validate_status(new)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        autoscaler::row(object, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn row() {
        let object = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "metrics": autoscaler::default_metrics(),
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}}, "status": {"currentReplicas": 2}});
        testing::row(
            &KIND,
            &object,
            &json!(["h", "Deployment/web", "cpu: <unknown>/80%", "<unset>", 3, 2, "<unknown>"]),
        );
    }

    #[test]
    fn changes_are_judged_against_what_was() {
        let target = json!({"kind": "Deployment", "name": "web", "apiVersion": "v1"});
        let old = json!({"spec": {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": target, "metrics": autoscaler::default_metrics()}});
        assert_eq!(testing::shown(&KIND.hooks.revalidate(&old, &old)), [""; 0]);
        testing::invalid(
            &KIND,
            &old,
            &["spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group"],
        );
    }
}
