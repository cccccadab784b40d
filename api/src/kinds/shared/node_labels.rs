//! Labels of nodes that have newer names.
//!
//! Never refuses anything.

use crate::field_path::Path;
use crate::json::Value;
use crate::value;

const DEPRECATED: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// Beta names and those under which the same is known now.
const STABLE: &[(&str, &str)] = &[
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

/// What to say about a label that has a newer name.
#[must_use]
pub fn deprecated(key: &str) -> Option<&'static str> {
    DEPRECATED.iter().find(|(name, _)| *name == key).map(|(_, why)| *why)
}

/// The name that took the place of a beta name.
#[must_use]
pub fn stable(key: &str) -> Option<&'static str> {
    STABLE.iter().find(|(name, _)| *name == key).map(|(_, stable)| *stable)
}

/// Warnings about a term of a node selector at `field`.
#[must_use]
pub fn warnings_of_term(term: &Value, field: &Path) -> Vec<String> {
    let expressions = value::items(term, "matchExpressions").iter().enumerate();
    expressions
        .filter_map(|(i, expression)| {
            let key = value::text(expression, "key");
            let at = field.child("matchExpressions").index(i).child("key");
            deprecated(key).map(|why| format!("{at}: {key} is {why}"))
        })
        .collect()
}
