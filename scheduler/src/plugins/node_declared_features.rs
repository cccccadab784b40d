//! Nodes take only pods that need nothing of them that they do not declare (KEP-5328): `status.declaredFeatures`.

use super::{Event, Filter, Plugin, Reasons};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::{Container, Node, PodSpec};

pub(super) struct NodeDeclaredFeatures;
pub(super) static PLUGIN: NodeDeclaredFeatures = NodeDeclaredFeatures;

/// A feature, and whether a pod needs it.
type Feature = (&'static str, fn(&PodSpec) -> bool);

const FEATURES: [Feature; 2] = [
    ("RestartAllContainersOnContainerExits", |spec| {
        let restarts_all = |container: &Container| {
            let mut rules = container.restart_policy_rules.iter().flatten();
            rules.any(|rule| rule.action == "RestartAllContainers")
        };
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(restarts_all)
    }),
    ("UserNamespacesHostNetworkSupport", |spec| spec.host_network == Some(true) && spec.host_users == Some(false)),
];

struct Check(Vec<&'static str>);

fn needed(pod: &PodInfo) -> Vec<&'static str> {
    let spec = pod.pod.spec.as_ref();
    let needs = |feature: &&Feature| spec.is_some_and(|spec| (feature.1)(spec));
    FEATURES.iter().filter(needs).map(|(name, _)| *name).collect()
}

fn declares(node: &Node, features: &[&str]) -> bool {
    let declared = node.status.as_ref().and_then(|status| status.declared_features.as_deref()).unwrap_or_default();
    features.iter().all(|name| declared.iter().any(|own| own == name))
}

impl Filter for Check {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        if declares(&node.node, &self.0) {
            Ok(())
        } else {
            Err(vec!["node(s) didn't match Pod's required features".to_owned()])
        }
    }
}

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        let needed = needed(pod);
        (!needed.is_empty()).then(|| Box::new(Check(needed)) as Box<dyn Filter>)
    }

    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        event.node().is_some_and(|node| declares(node, &needed(pod)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn pods_need_what_they_ask_for() {
        let check = |spec: Value, declared: Value, expected: bool| {
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            let needed: Vec<&str> = FEATURES.iter().filter(|(_, needs)| needs(&spec)).map(|(name, _)| *name).collect();
            let node: Node = serde_json::from_value(json!({"status": {"declaredFeatures": declared}})).unwrap();
            assert_eq!(declares(&node, &needed), expected, "{spec:?} {declared}");
        };
        let all = "RestartAllContainersOnContainerExits";
        let rule = |action: &str| {
            json!({"name": "a", "restartPolicy": "Never", "restartPolicyRules": [{"action": action,
                "exitCodes": {"operator": "In", "values": [1]}}]})
        };
        check(json!({"containers": [{"name": "a"}]}), Value::Null, true);
        check(json!({"containers": [rule("Restart")]}), Value::Null, true);
        check(json!({"containers": [rule("RestartAllContainers")]}), Value::Null, false);
        check(json!({"containers": [rule("RestartAllContainers")]}), json!([all]), true);
        check(json!({"containers": [], "initContainers": [rule("RestartAllContainers")]}), json!(["Other"]), false);
        check(json!({"containers": [], "hostNetwork": true, "hostUsers": false}), json!([all]), false);
        check(json!({"containers": [], "hostNetwork": true}), Value::Null, true);
    }
}
