//! Comparing sets of rules: who may give away what, and the sum of rules that an aggregated ClusterRole has.

use super::matching::{list, url_matches};
use crate::authn::User;
use crate::authz::quoted;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// The parts of `wanted` that `own` does not hold, each broken down to one verb on one resource (or path).
///
/// Every part must be held by a single own rule; two rules that only together cover a part's names do not occur after the
/// break-down.
#[must_use]
pub fn covers(own: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted.iter().flat_map(broken_down).filter(|part| !own.iter().any(|rule| holds(rule, part))).collect()
}

/// One rule per verb and resource, resource name or path.
fn broken_down(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |value: &String| Some(vec![value.clone()]);
    let mut parts = Vec::new();
    for group in list(rule.api_groups.as_ref()) {
        for resource in list(rule.resources.as_ref()) {
            for verb in &rule.verbs {
                let part = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                match list(rule.resource_names.as_ref()) {
                    [] => parts.push(part),
                    names => {
                        parts.extend(names.iter().map(|name| PolicyRule { resource_names: one(name), ..part.clone() }));
                    }
                }
            }
        }
    }
    for url in list(rule.non_resource_urls.as_ref()) {
        for verb in &rule.verbs {
            parts.push(PolicyRule { non_resource_urls: one(url), verbs: vec![verb.clone()], ..PolicyRule::default() });
        }
    }
    parts
}

/// Whether `own` holds all of `part`.
fn holds(own: &PolicyRule, part: &PolicyRule) -> bool {
    let all = |own: &[String], wanted: &[String]| {
        own.iter().any(|value| value == "*") || wanted.iter().all(|value| own.contains(value))
    };
    let resources = list(own.resources.as_ref());
    let resource = |wanted: &String| {
        resources.iter().any(|own| {
            own == "*"
                || own == wanted
                || own.strip_prefix("*/").is_some_and(|sub| wanted.split_once('/').is_some_and(|(_, part)| part == sub))
        })
    };
    let urls = list(own.non_resource_urls.as_ref());
    let names = list(own.resource_names.as_ref());
    let wanted_names = list(part.resource_names.as_ref());
    all(&own.verbs, &part.verbs)
        && all(list(own.api_groups.as_ref()), list(part.api_groups.as_ref()))
        && list(part.resources.as_ref()).iter().all(resource)
        && list(part.non_resource_urls.as_ref()).iter().all(|url| urls.iter().any(|own| url_matches(own, url)))
        && (names.is_empty() || (!wanted_names.is_empty() && wanted_names.iter().all(|name| names.contains(name))))
}

/// The message that refuses to give away `wanted`, or `None` where `own` covers it. `errors`: what kept `own` from being whole.
#[must_use]
pub fn escalation(user: &User, own: &[PolicyRule], wanted: &[PolicyRule], errors: &[String]) -> Option<String> {
    let missing = covers(own, wanted);
    if missing.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = compacted(missing).iter().map(compact).collect();
    lines.sort();
    lines.dedup();
    let mut message = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quoted(&user.name),
        quoted_list(&user.groups),
        lines.join("\n"),
    );
    if !errors.is_empty() {
        message.push_str(&format!("; resolution errors: [{}]", super::aggregated(errors)));
    }
    Some(message)
}

/// Verbs on the same resource (and name) put together; everything else as it is.
fn compacted(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut simple: BTreeMap<(String, String, Option<String>), PolicyRule> = BTreeMap::new();
    let mut out = Vec::new();
    for rule in rules {
        let key = match (
            list(rule.api_groups.as_ref()),
            list(rule.resources.as_ref()),
            list(rule.resource_names.as_ref()),
            list(rule.non_resource_urls.as_ref()),
        ) {
            ([group], [resource], [], []) => (group.clone(), resource.clone(), None),
            ([group], [resource], [name], []) => (group.clone(), resource.clone(), Some(name.clone())),
            _ => {
                out.push(rule);
                continue;
            }
        };
        match simple.entry(key) {
            std::collections::btree_map::Entry::Occupied(mut known) => known.get_mut().verbs.extend(rule.verbs),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(rule);
            }
        }
    }
    out.extend(simple.into_values());
    out
}

fn quoted_list(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(" "))
}

/// A rule in upstream's one-line form.
fn compact(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", list(rule.api_groups.as_ref())),
        ("Resources", list(rule.resources.as_ref())),
        ("NonResourceURLs", list(rule.non_resource_urls.as_ref())),
        ("ResourceNames", list(rule.resource_names.as_ref())),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| format!("{name}:{}", quoted_list(values)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// The rules that `role`'s `aggregationRule` gathers from `all`, in the order of selectors and then names, none twice. `None`
/// where the role does not aggregate.
#[must_use]
pub fn aggregate<'a>(role: &ClusterRole, all: impl IntoIterator<Item = &'a ClusterRole>) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut others: Vec<&ClusterRole> =
        all.into_iter().filter(|other| other.metadata.name != role.metadata.name).collect();
    others.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let empty = BTreeMap::new();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        for other in others.iter().filter(|other| selects(selector, other.metadata.labels.as_ref().unwrap_or(&empty))) {
            for rule in other.rules.as_deref().unwrap_or_default() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

/// Whether the rules of `other` are among those that `role` gathers.
pub(super) fn gathers(role: &ClusterRole, other: &ClusterRole) -> bool {
    let selectors = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_deref());
    let (empty, labels) = (BTreeMap::new(), other.metadata.labels.as_ref());
    selectors.unwrap_or_default().iter().any(|selector| selects(selector, labels.unwrap_or(&empty)))
}

/// Whether the selector selects these labels; an empty one selects all, an unknown operator none.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|wanted| {
            let values = wanted.values.as_deref().unwrap_or_default();
            let value = labels.get(&wanted.key);
            match wanted.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
