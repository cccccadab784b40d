//! Selectors and tolerations: whether labels, nodes and taints match what a pod says. Pure; an unknown operator matches nothing.

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, Pod, PodAffinityTerm, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, HashMap};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

static NO_LABELS: Labels = Labels::new();

/// A pod's labels.
#[must_use]
pub fn pod_labels(pod: &Pod) -> &Labels {
    pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
}

/// A node's labels.
#[must_use]
pub fn node_labels(node: &Node) -> &Labels {
    node.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
}

/// A pod's namespace.
#[must_use]
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn requirement(value: Option<&String>, operator: &str, values: &[String]) -> bool {
    let ordered = |holds: fn(i64, i64) -> bool| {
        let (Some(value), [bound]) = (value, values) else { return false };
        matches!((value.parse(), bound.parse()), (Ok(value), Ok(bound)) if holds(value, bound))
    };
    match operator {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => ordered(|value, bound| value > bound),
        "Lt" => ordered(|value, bound| value < bound),
        _ => false,
    }
}

/// Whether a label selector selects these labels. No selector selects nothing, an empty one everything.
#[must_use]
pub fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|wanted| {
            requirement(labels.get(&wanted.key), &wanted.operator, wanted.values.as_deref().unwrap_or_default())
        })
}

/// Whether a term of a node selector matches the node. A term without requirements matches none.
#[must_use]
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let labels = node_labels(node);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|wanted| {
            requirement(labels.get(&wanted.key), &wanted.operator, wanted.values.as_deref().unwrap_or_default())
        })
        && fields.iter().all(|wanted| {
            wanted.key == "metadata.name"
                && requirement(
                    node.metadata.name.as_ref(),
                    &wanted.operator,
                    wanted.values.as_deref().unwrap_or_default(),
                )
        })
}

/// Whether the node is what `nodeSelector` and the required node affinity of the pod ask for.
#[must_use]
pub fn node_matches(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node_labels(node);
    if !spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    match affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()) {
        Some(required) => required.node_selector_terms.iter().any(|term| term_matches(term, node)),
        None => true,
    }
}

/// Whether a toleration tolerates a taint.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let effect = text(&toleration.effect);
    let key = text(&toleration.key);
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

/// The node's first taint that forbids scheduling and that the pod does not tolerate.
#[must_use]
pub fn untolerated<'a>(pod: &Pod, node: &'a Node) -> Option<&'a Taint> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether a pod (anti-)affinity term of `owner` is about `other`.
#[must_use]
pub fn affinity_matches(
    term: &PodAffinityTerm,
    owner: &Pod,
    other: &Pod,
    namespaces: &HashMap<String, Labels>,
) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let place = namespace(other);
    let here = match &term.namespace_selector {
        None if listed.is_empty() => place == namespace(owner),
        None => listed.iter().any(|name| name == place),
        Some(selector) => {
            listed.iter().any(|name| name == place)
                || selects(Some(selector), namespaces.get(place).unwrap_or(&NO_LABELS))
        }
    };
    here && selects(term.label_selector.as_ref(), pod_labels(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    #[test]
    fn tolerations_and_taints() {
        let check = |toleration: Value, taint: Value, want: bool| {
            assert_eq!(
                tolerates(&from_value(toleration.clone()).unwrap(), &from_value(taint.clone()).unwrap()),
                want,
                "{toleration} {taint}"
            );
        };
        let taint = || json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        check(json!({"operator": "Exists"}), taint(), true);
        check(json!({"key": "k", "operator": "Exists"}), taint(), true);
        check(json!({"key": "k", "value": "v"}), taint(), true);
        check(json!({"key": "k", "value": "w"}), taint(), false);
        check(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), taint(), false);
        check(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), taint(), true);
        check(json!({"key": "x", "operator": "Exists"}), taint(), false);
        check(json!({"key": "k", "operator": "Maybe"}), taint(), false);
        check(json!({}), taint(), false);
    }

    #[test]
    fn selectors() {
        let labels: Labels = from_value(json!({"app": "web", "n": "5"})).unwrap();
        let check = |selector: Value, want: bool| {
            assert_eq!(
                selects(from_value::<Option<LabelSelector>>(selector.clone()).unwrap().as_ref(), &labels),
                want,
                "{selector}"
            );
        };
        check(Value::Null, false);
        check(json!({}), true);
        check(json!({"matchLabels": {"app": "web"}}), true);
        check(json!({"matchLabels": {"app": "web", "x": "y"}}), false);
        check(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}), true);
        check(json!({"matchExpressions": [{"key": "gone", "operator": "NotIn", "values": ["x"]}]}), true);
        check(json!({"matchExpressions": [{"key": "gone", "operator": "Exists"}]}), false);
        check(json!({"matchExpressions": [{"key": "gone", "operator": "DoesNotExist"}]}), true);
    }

    #[test]
    fn node_affinity() {
        let node: Node = from_value(json!({"metadata": {"name": "n1", "labels": {"zone": "a", "n": "5"}}})).unwrap();
        let check = |spec: Value, want: bool| {
            let pod: Pod = from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            assert_eq!(node_matches(&pod, &node), want, "{pod:?}");
        };
        let terms = |terms: Value| json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        check(json!({"containers": []}), true);
        check(json!({"containers": [], "nodeSelector": {"zone": "a"}}), true);
        check(json!({"containers": [], "nodeSelector": {"zone": "b"}}), false);
        check(terms(json!([])), false);
        check(terms(json!([{}])), false);
        check(terms(json!([{}, {"matchExpressions": [{"key": "n", "operator": "Gt", "values": ["4"]}]}])), true);
        check(terms(json!([{"matchExpressions": [{"key": "n", "operator": "Lt", "values": ["5"]}]}])), false);
        check(terms(json!([{"matchExpressions": [{"key": "zone", "operator": "Gt", "values": ["4"]}]}])), false);
        check(terms(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])), true);
        check(terms(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}])), false);
    }
}
