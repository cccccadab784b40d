//! What a node may do: the rules of ClusterRole `system:node`, narrowed to the node's own Node, Lease and CSINode.
//!
//! Reads of Secrets, ConfigMaps and Pods are not yet narrowed to those that the node's pods refer to. Names on creation are
//! unknown here; the `NodeRestriction` admission plugin checks them.

use super::bootstrap::node_rules;
use super::rbac::allows;
use super::{Attributes, Authorizer, Decision, ResourceAttributes, Settings, UserRules};
use crate::authn::User;
use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;
use std::sync::Arc;

struct Node {
    rules: Vec<PolicyRule>,
}

pub(super) fn build(settings: &Settings) -> Arc<dyn Authorizer> {
    Arc::new(Node { rules: node_rules(&settings.gates) })
}

/// The node that a user speaks for: `Some("")` for one in the group whose name does not say which.
fn identity(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.is_in("system:nodes").then_some(name)
}

impl Node {
    fn decide(&self, attributes: &Attributes) -> Decision {
        let Some(node) = identity(&attributes.user) else { return Decision::NoOpinion(String::new()) };
        if node.is_empty() {
            return Decision::NoOpinion(format!("unknown node for user {}", super::quoted(&attributes.user.name)));
        }
        if let Some(about) = &attributes.resource
            && let Err(why) = own(node, &attributes.verb, about)
        {
            return Decision::NoOpinion(why);
        }
        if self.rules.iter().any(|rule| allows(rule, attributes)) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

/// Why the object is not the node's own business, beyond what the rules say.
fn own(node: &str, verb: &str, about: &ResourceAttributes) -> Result<(), String> {
    let singular = match (about.group.as_str(), about.resource.as_str()) {
        ("coordination.k8s.io", "leases") => {
            if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
                return Err("can only get, create, update, patch, or delete a node lease".to_owned());
            }
            if about.namespace != "kube-node-lease" {
                return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
            }
            "node lease"
        }
        ("storage.k8s.io", "csinodes") => {
            if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
                return Err("can only get, create, update, patch, or delete a CSINode".to_owned());
            }
            if !about.subresource.is_empty() {
                return Err("cannot authorize CSINode subresources".to_owned());
            }
            "CSINode"
        }
        ("", "nodes") => {
            return match verb {
                _ if about.name == node => Ok(()),
                "get" | "list" | "watch" if about.name.is_empty() => {
                    Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
                }
                "get" | "list" | "watch" => {
                    Err(format!("node '{node}' cannot read '{}', only its own Node object", about.name))
                }
                "create" => Ok(()),
                _ => Err(format!("node '{node}' cannot {verb} '{}', only its own Node object", about.name)),
            };
        }
        ("", "secrets" | "configmaps") if about.name.is_empty() => return Err("No Object name found".to_owned()),
        _ => return Ok(()),
    };
    if verb == "create" || about.name == node {
        Ok(())
    } else {
        Err(format!("can only access {singular} with the same name as the requesting node"))
    }
}

#[async_trait]
impl Authorizer for Node {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        self.decide(attributes)
    }

    fn rules_for(&self, user: &User, _: &str) -> UserRules {
        if identity(user).is_none() {
            return UserRules::default();
        }
        let errors = vec!["node authorizer does not support user rule resolution".to_owned()];
        UserRules { incomplete: true, errors, ..UserRules::default() }
    }
}
