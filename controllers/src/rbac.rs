//! The bootstrap roles of the controllers, derived from the table. Pure; the API server writes them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{CONTROLLERS, Rule};

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(|word| (*word).to_owned()).collect()
}

fn meta(service_account: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(format!("system:controller:{service_account}")),
        annotations: Some([("rbac.authorization.kubernetes.io/autoupdate".to_owned(), "true".to_owned())].into()),
        labels: Some([("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".to_owned())].into()),
        ..ObjectMeta::default()
    }
}

/// The rules of each service account in kube-system, by its name; controllers that share one share its rules. Those that act in one
/// namespace alone have none here: their roles are that namespace's, and the API server's own.
#[must_use]
pub fn rules() -> BTreeMap<&'static str, Vec<Rule>> {
    let mut by_account: BTreeMap<_, Vec<Rule>> = BTreeMap::new();
    for controller in CONTROLLERS.iter().filter(|controller| !controller.rules.is_empty()) {
        let rules = by_account.entry(controller.service_account).or_default();
        for rule in controller.rules {
            if !rules.contains(rule) {
                rules.push(*rule);
            }
        }
    }
    by_account
}

/// A line of a role as RBAC writes it.
#[must_use]
pub fn policy(rule: &Rule) -> PolicyRule {
    PolicyRule {
        api_groups: Some(words(rule.groups)),
        resources: Some(words(rule.resources)),
        verbs: words(rule.verbs),
        resource_names: (!rule.names.is_empty()).then(|| words(rule.names)),
        ..PolicyRule::default()
    }
}

/// The `ClusterRole` of each service account, named `system:controller:<account>`.
#[must_use]
pub fn cluster_roles() -> Vec<ClusterRole> {
    rules()
        .into_iter()
        .map(|(account, rules)| ClusterRole {
            metadata: meta(account),
            rules: Some(rules.iter().map(policy).collect()),
            aggregation_rule: None,
        })
        .collect()
}

/// The `ClusterRoleBinding` of each service account to its role.
#[must_use]
pub fn cluster_role_bindings() -> Vec<ClusterRoleBinding> {
    rules()
        .into_keys()
        .map(|account| ClusterRoleBinding {
            metadata: meta(account),
            role_ref: RoleRef {
                api_group: Some("rbac.authorization.k8s.io".to_owned()),
                kind: "ClusterRole".to_owned(),
                name: format!("system:controller:{account}"),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: account.to_owned(),
                namespace: Some("kube-system".to_owned()),
                api_group: None,
            }]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use serde_json::{Value, json};

    use super::*;

    /// Every single (group, resource, verb), so that order and grouping do not matter.
    fn grants(rules: &[PolicyRule]) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for rule in rules {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    for verb in &rule.verbs {
                        let names = rule.resource_names.as_deref().unwrap_or_default().join(" ");
                        all.insert(format!("{group}/{resource}:{verb} {names}"));
                    }
                }
            }
        }
        all
    }

    #[test]
    fn rules_equal_the_golden_file() {
        let picture: Value = json!(
            rules()
                .iter()
                .map(|(account, rules)| {
                    let rules: Vec<_> = rules
                        .iter()
                        .map(|rule| {
                            let names = rule.names.join(" ");
                            format!(
                                "[{}] {}: {}{}",
                                rule.groups.join(" "),
                                rule.resources.join(" "),
                                rule.verbs.join(" "),
                                if names.is_empty() { names } else { format!(" ({names})") }
                            )
                        })
                        .collect();
                    ((*account).to_owned(), rules)
                })
                .collect::<BTreeMap<_, _>>()
        );
        let text = serde_json::to_string_pretty(&picture).unwrap() + "\n";
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/rules.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, text, "run with UPDATE=1 to rewrite {}", path.display());
    }

    #[test]
    fn roles_grant_what_upstream_grants() {
        let root = std::env::var_os("IRONKEEL_ORACLE")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracle"), PathBuf::from);
        let Ok(text) = std::fs::read_to_string(root.join("rbac/controller-roles.yaml")) else {
            println!("left out: no oracle at {}", root.display());
            return;
        };
        let list: Value = serde_yaml_ng::from_str(&text).unwrap();
        let upstream: BTreeMap<String, ClusterRole> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| serde_json::from_value::<ClusterRole>(item.clone()).unwrap())
            .map(|role| (role.metadata.name.clone().unwrap(), role))
            .collect();
        for role in cluster_roles() {
            let name = role.metadata.name.clone().unwrap();
            // That picture is of a server with the defaults.
            if crate::GATED.iter().any(|(one, _)| name.ends_with(one.service_account)) {
                assert!(!upstream.contains_key(&name), "{name}");
                continue;
            }
            let expected = upstream.get(&name).unwrap_or_else(|| panic!("upstream has no {name}"));
            assert_eq!(grants(role.rules.as_deref().unwrap()), grants(expected.rules.as_deref().unwrap()), "{name}");
            assert_eq!(role.metadata.labels, expected.metadata.labels);
            assert_eq!(role.metadata.annotations, expected.metadata.annotations);
        }
    }
}
