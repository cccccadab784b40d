//! `PodResizeValidator`: a pod on a node is not resized to more than the node has for pods, nor on a node that is no Linux (KEP-1287).
//!
//! Never counts other pods: what fits beside them is the node's to say.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::quantity::Quantity;
use api::{meta, quota, value};
use async_trait::async_trait;

/// See the file.
pub struct PodResizeValidator;

pub(crate) static PLUGIN: PodResizeValidator = PodResizeValidator;

#[async_trait]
impl Plugin for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let name = value::text(pod, "spec.nodeName");
        let resized = request.operation == Operation::Update && request.is("pods", "resize");
        if !resized || name.is_empty() || pod.get("spec") == request.old.get("spec") {
            return Ok(());
        }
        let Some(node) = lookup.peek("", "nodes", "", name).await else {
            return Err(request.forbidden(&format!("node {name:?} not found")));
        };
        judge(pod, &node).map_err(|(cause, why)| {
            let Refusal(mut status) = request.forbidden(&why);
            value::set(&mut status.details, "causes", json!([{ "reason": cause }]));
            Refusal(status)
        })
    }
}

/// The type of the cause, and why.
fn judge(pod: &Value, node: &Value) -> Result<(), (&'static str, String)> {
    if let Some(system) = meta::label(node, "kubernetes.io/os").filter(|system| *system != "linux") {
        let why = format!("pod resize is only supported on linux nodes, node {:?} is {system:?}", meta::name(node));
        return Err(("UnsupportedPlatform", why));
    }
    let requests = quota::sums(pod.get("spec").unwrap_or(&Value::Null), "requests");
    let allocatable = quota::amounts(node, "status.allocatable");
    let short: Vec<String> = [("cpu", Quantity::milli_value as fn(Quantity) -> i64), ("memory", Quantity::value)]
        .into_iter()
        .filter_map(|(name, shown)| {
            let wanted = *requests.get(name)?;
            let there = allocatable.get(name).copied().unwrap_or(Quantity::ZERO);
            let sentence = || format!("{name}, requested: {}, allocatable: {}", shown(wanted), shown(there));
            (wanted > there).then(sentence)
        })
        .collect();
    if short.is_empty() {
        return Ok(());
    }
    Err(("NodeCapacity", format!("node didn't have enough allocatable resources: {}", short.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_has_is_the_bound() {
        let check = |requests: Value, labels: Value, expected: Option<(&str, &str)>| {
            let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}],
                "overhead": {"memory": "1Mi"}}});
            let node = json!({"metadata": {"name": "n", "labels": labels},
                "status": {"allocatable": {"cpu": "2", "memory": "100Mi"}}});
            let found = judge(&pod, &node);
            assert_eq!(found.as_ref().err().map(|(cause, why)| (*cause, why.as_str())), expected, "{pod}");
        };
        check(json!({"cpu": "2", "memory": "99Mi"}), json!({"kubernetes.io/os": "linux"}), None);
        check(json!({}), json!({}), None);
        let both = "node didn't have enough allocatable resources: cpu, requested: 2100, allocatable: 2000; \
                    memory, requested: 105906176, allocatable: 104857600";
        check(json!({"cpu": "2.1", "memory": "100Mi"}), json!({}), Some(("NodeCapacity", both)));
        let other = "pod resize is only supported on linux nodes, node \"n\" is \"windows\"";
        check(json!({"cpu": "1"}), json!({"kubernetes.io/os": "windows"}), Some(("UnsupportedPlatform", other)));
    }
}
