//! `NodeDeclaredFeatureValidator`: a pod on a node is not changed to what the node does not say that it can do (KEP-5328).
//!
//! Never looks at what a pod needs to be placed: that is the scheduler's.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct NodeDeclaredFeatureValidator;

pub(crate) static PLUGIN: NodeDeclaredFeatureValidator = NodeDeclaredFeatureValidator;

/// A feature, and whether a change of a pod, before and after, needs it.
type Feature = (&'static str, fn(&Value, &Value) -> bool);

/// In the order of their names, in which they are told.
const FEATURES: [Feature; 2] = [
    ("InPlacePodLevelResourcesVerticalScaling", |old, new| {
        let own = |pod: &Value| value::get(pod, "spec.resources").filter(|own| !own.is_null()).cloned();
        own(old) != own(new)
    }),
    ("InPlacePodVerticalScalingInitContainers", |old, new| {
        let own = |pod: &Value| -> Vec<Option<Value>> {
            let steps = value::items(pod, "spec.initContainers").iter();
            let steps = steps.filter(|container| value::text(container, "restartPolicy") != "Always");
            steps.map(|container| container.get("resources").cloned()).collect()
        };
        own(old) != own(new)
    }),
];

#[async_trait]
impl Plugin for NodeDeclaredFeatureValidator {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let name = value::text(pod, "spec.nodeName");
        let changed =
            request.operation == Operation::Update && (request.is("pods", "") || request.is("pods", "resize"));
        if !changed || name.is_empty() {
            return Ok(());
        }
        let needed = needed(request.old, pod);
        if needed.is_empty() {
            return Ok(());
        }
        let Some(node) = lookup.peek("", "nodes", "", name).await else {
            return Err(request.forbidden(&format!("node {name:?} not found")));
        };
        let missing = missing(&needed, &node);
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(", ");
        let why = format!("pod update requires features {missing} which are not available on node {name:?}");
        Err(request.forbidden(&why))
    }
}

fn needed(old: &Value, new: &Value) -> Vec<&'static str> {
    FEATURES.iter().filter(|(_, needs)| needs(old, new)).map(|(name, _)| *name).collect()
}

fn missing(needed: &[&'static str], node: &Value) -> Vec<&'static str> {
    let declared = value::items(node, "status.declaredFeatures");
    needed.iter().copied().filter(|name| !declared.iter().any(|own| own == name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn changes_need_features() {
        let pod = |step: &str, sidecar: &str, of_pod: Value| {
            let container = |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
            let mut side = container("b", sidecar);
            side["restartPolicy"] = json!("Always");
            json!({"spec": {"initContainers": [container("a", step), side], "resources": of_pod}})
        };
        let (level, steps) = ("InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers");
        let check = |new: Value, expected: &[&str], missed: &[&str]| {
            let needed = needed(&pod("1", "1", Value::Null), &new);
            assert_eq!(needed, expected, "{new}");
            assert_eq!(missing(&needed, &json!({"status": {"declaredFeatures": ["A", level]}})), missed, "{new}");
            assert_eq!(missing(&needed, &json!({})), expected, "a node that says nothing can nothing of this");
        };
        check(pod("1", "2", Value::Null), &[], &[]);
        check(pod("2", "1", Value::Null), &[steps], &[steps]);
        check(pod("1", "1", json!({"requests": {"cpu": "3"}})), &[level], &[]);
        check(pod("2", "1", json!({"requests": {"cpu": "3"}})), &[level, steps], &[steps]);
    }
}
