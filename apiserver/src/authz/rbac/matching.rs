//! Whether one rule allows one request. The wildcards are those of Kubernetes' "Using RBAC Authorization".

use crate::authz::Attributes;
use k8s_openapi::api::rbac::v1::PolicyRule;

/// Whether `rule` allows the request.
#[must_use]
pub fn allows(rule: &PolicyRule, request: &Attributes) -> bool {
    if !has(&rule.verbs, &request.verb) {
        return false;
    }
    let Some(about) = &request.resource else {
        return list(rule.non_resource_urls.as_ref()).iter().any(|pattern| url_matches(pattern, &request.path));
    };
    has(list(rule.api_groups.as_ref()), &about.group)
        && list(rule.resources.as_ref()).iter().any(|own| resource_matches(own, &about.resource, &about.subresource))
        && match list(rule.resource_names.as_ref()) {
            [] => true,
            names => names.contains(&about.name),
        }
}

/// Absent lists are empty ones.
pub(super) fn list(values: Option<&Vec<String>>) -> &[String] {
    values.map(Vec::as_slice).unwrap_or_default()
}

fn has(own: &[String], wanted: &str) -> bool {
    own.iter().any(|value| value == "*" || value == wanted)
}

/// `*` is every resource and subresource, `*/scale` that subresource of every resource, `pods/log` that one alone.
fn resource_matches(own: &str, resource: &str, subresource: &str) -> bool {
    if own == "*" {
        return true;
    }
    match own.split_once('/') {
        None => subresource.is_empty() && own == resource,
        Some((of, part)) => !subresource.is_empty() && part == subresource && (of == "*" || of == resource),
    }
}

/// A star counts at the end only.
pub(super) fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}
