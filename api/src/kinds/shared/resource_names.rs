//! Names of resources: which ones containers, limits and quotas may name, and how their amounts are counted.
//!
//! Never looks at amounts.

use super::labels::invalid;
use super::names;
use crate::field_path::{Errors, FieldError, Path};

/// Names without a domain that quotas count: objects.
const OBJECTS: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Names without a domain of what containers and claims ask for, as quotas sum it up.
const COMPUTE: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A quota may name it.
#[must_use]
pub fn is_quota_standard(name: &str) -> bool {
    OBJECTS.contains(&name) || COMPUTE.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// Kubernetes' own: without a domain, or in `kubernetes.io/`.
#[must_use]
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Somebody else's, countable as a resource of nodes.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Comes in whole numbers.
#[must_use]
pub fn is_integer(name: &str) -> bool {
    OBJECTS.contains(&name) || is_extended(name)
}

/// Requests may be below limits.
#[must_use]
pub fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// A qualified name that is known, if it has no domain; answers whether it is one.
pub fn known(errors: &mut Errors, name: &str, field: &Path) -> bool {
    let messages = names::qualified_name(name);
    if !messages.is_empty() {
        invalid(errors, field, name, messages);
        return false;
    }
    let known = name.contains('/') || is_quota_standard(name) || name == "storage";
    if !known {
        errors.push(FieldError::invalid(field, name, "must be a standard resource type or fully qualified"));
    }
    known
}

/// What a container may ask for.
pub fn of_container(errors: &mut Errors, name: &str, field: &Path) {
    known(errors, name, field);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.push(FieldError::invalid(field, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(field, name, "doesn't follow extended resource name standard"));
    }
}

/// What a pod as a whole may have.
pub fn of_pod(errors: &mut Errors, name: &str, field: &Path) {
    let before = errors.len();
    known(errors, name, field);
    if errors.len() == before && !super::resources::is_pod_level(name) {
        errors.push(FieldError::not_supported(field, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// What a quota may limit.
pub fn of_quota(errors: &mut Errors, name: &str, field: &Path) {
    known(errors, name, field);
    if !name.contains('/') && !is_quota_standard(name) {
        errors.push(FieldError::invalid(field, name, "must be a standard resource for quota"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn names_by_place() {
        type Rule = fn(&mut Errors, &str, &Path);
        const UNKNOWN: &str = "must be a standard resource type or fully qualified";
        let places: [(Rule, &str); 2] = [(of_container, "container"), (of_quota, "quota")];
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("cpu", &[], &[]),
            ("hugepages-2Mi", &[], &[]),
            ("example.com/gpu", &[], &[]),
            ("kubernetes.io/x", &[], &[]),
            ("pods", &["must be a standard resource for containers"], &[]),
            ("storage", &["must be a standard resource for containers"], &["must be a standard resource for quota"]),
            (
                "odd",
                &[UNKNOWN, "must be a standard resource for containers"],
                &[UNKNOWN, "must be a standard resource for quota"],
            ),
            ("requests.example.com/gpu", &["doesn't follow extended resource name standard"], &[]),
            ("count/deployments.apps", &[], &[]),
        ];
        for (name, container, quota) in cases {
            for ((rule, place), wanted) in places.iter().zip([container, quota]) {
                let mut errors = Errors::new();
                rule(&mut errors, name, &Path::new("r"));
                let wanted: Vec<String> =
                    wanted.iter().map(|why| format!("r: Invalid value: {name:?}: {why}")).collect();
                assert_eq!(shown(&errors), wanted, "{place} {name}");
            }
        }
    }

    #[test]
    fn how_they_are_counted() {
        for (name, integer, overcommit) in [
            ("cpu", false, true),
            ("services.nodeports", true, true),
            ("hugepages-2Mi", false, false),
            ("example.com/gpu", true, false),
            ("requests.example.com/gpu", false, false),
        ] {
            assert_eq!((is_integer(name), overcommits(name)), (integer, overcommit), "{name}");
        }
    }
}
