//! What a node may do: the rules of ClusterRole `system:node`, narrowed to its own Node, Lease, CSINode and pods and to what these
//! pods refer to.
//!
//! Names on creation are unknown here; the `NodeRestriction` admission plugin checks them. Source: upstream's "Using Node Authorization".

mod graph;
mod relations;

pub use relations::Relations;

use super::bootstrap::node_rules;
use super::rbac::allows;
use super::{Attributes, Authorizer, Decision, Entry, ResourceAttributes, Settings, UserRules};
use crate::authn::User;
use async_trait::async_trait;
use graph::What;
use k8s_openapi::api::rbac::v1::PolicyRule;
use std::sync::Arc;

struct Node {
    rules: Vec<PolicyRule>,
    relations: Arc<Relations>,
    /// Kubelets read service accounts for credential providers and certificates.
    reads_accounts: bool,
    certificates: bool,
}

#[allow(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn build(_: &Entry, settings: &Settings) -> Result<Arc<dyn Authorizer>, String> {
    let gates = &settings.gates;
    let certificates = gates.enabled("PodCertificateRequest");
    Ok(Arc::new(Node {
        rules: node_rules(gates),
        relations: Arc::clone(&settings.relations),
        reads_accounts: certificates || gates.enabled("KubeletServiceAccountTokenForCredentialProviders"),
        certificates,
    }))
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
        if let Some(about) = &attributes.resource {
            match self.narrowed(node, &attributes.verb, about) {
                Verdict::Allowed => return Decision::Allow(String::new()),
                Verdict::Refused(why) => return Decision::NoOpinion(why),
                Verdict::ByRules => {}
            }
        }
        if self.rules.iter().any(|rule| allows(rule, attributes)) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

/// What is said of a resource beyond the rules.
enum Verdict {
    Allowed,
    Refused(String),
    /// Nothing: the rules decide.
    ByRules,
}

fn refused(why: impl Into<String>) -> Verdict {
    Verdict::Refused(why.into())
}

impl Node {
    fn narrowed(&self, node: &str, verb: &str, about: &ResourceAttributes) -> Verdict {
        match (about.group.as_str(), about.resource.as_str()) {
            ("", "secrets") => self.read(node, What::Secret, verb, about),
            ("", "configmaps") => self.read(node, What::ConfigMap, verb, about),
            ("", "persistentvolumeclaims") if about.subresource == "status" => match verb {
                "update" | "patch" => self.by_relation(node, What::Claim, about),
                _ => refused("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => self.get(node, What::Claim, verb, about),
            ("", "persistentvolumes") => self.get(node, What::Volume, verb, about),
            ("resource.k8s.io", "resourceclaims") => self.get(node, What::ResourceClaim, verb, about),
            ("storage.k8s.io", "volumeattachments") => self.get(node, What::Attachment, verb, about),
            ("", "serviceaccounts") => self.account(node, verb, about),
            ("coordination.k8s.io", "leases") => lease(node, verb, about),
            ("storage.k8s.io", "csinodes") => csi_node(node, verb, about),
            ("resource.k8s.io", "resourceslices") => self.slice(node, verb, about),
            ("", "nodes") => own_node(node, verb, about),
            ("", "pods") => self.pod(node, verb, about),
            ("certificates.k8s.io", "podcertificaterequests") => self.certificate(node, verb, about),
            _ => Verdict::ByRules,
        }
    }

    fn by_relation(&self, node: &str, what: What, about: &ResourceAttributes) -> Verdict {
        if about.name.is_empty() {
            return refused("No Object name found");
        }
        if self.relations.related(node, what, &about.namespace, &about.name) {
            return Verdict::Allowed;
        }
        refused(format!("no relationship found between node '{node}' and this object"))
    }

    /// One object at a time, also where it is watched.
    fn read(&self, node: &str, what: What, verb: &str, about: &ResourceAttributes) -> Verdict {
        if !matches!(verb, "get" | "list" | "watch") {
            refused("can only read resources of this type")
        } else if !about.subresource.is_empty() {
            refused("cannot read subresource")
        } else if about.namespace.is_empty() {
            refused("can only read namespaced object of this type")
        } else {
            self.by_relation(node, what, about)
        }
    }

    fn get(&self, node: &str, what: What, verb: &str, about: &ResourceAttributes) -> Verdict {
        if verb != "get" {
            refused("can only get individual resources of this type")
        } else if !about.subresource.is_empty() {
            refused("cannot get subresource")
        } else {
            self.by_relation(node, what, about)
        }
    }

    fn account(&self, node: &str, verb: &str, about: &ResourceAttributes) -> Verdict {
        if verb == "get" && about.subresource.is_empty() {
            if !self.reads_accounts {
                return refused("not allowed to get service accounts");
            }
            return self.read(node, What::ServiceAccount, verb, about);
        }
        if verb != "create" || about.name.is_empty() {
            refused("can only create tokens for individual service accounts")
        } else if about.subresource != "token" {
            refused("can only create token subresource of serviceaccount")
        } else {
            self.by_relation(node, What::ServiceAccount, about)
        }
    }

    fn slice(&self, node: &str, verb: &str, about: &ResourceAttributes) -> Verdict {
        if !about.subresource.is_empty() {
            return refused("cannot authorize ResourceSlice subresources");
        }
        match verb {
            "create" => Verdict::Allowed,
            "get" | "update" | "patch" | "delete" => self.by_relation(node, What::Slice, about),
            "list" | "watch" | "deletecollection" if about.selects("spec.nodeName", node) => Verdict::Allowed,
            "list" | "watch" | "deletecollection" => {
                refused("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => refused(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, verb: &str, about: &ResourceAttributes) -> Verdict {
        match (about.subresource.as_str(), verb) {
            ("", "get") => self.by_relation(node, What::Pod, about),
            ("", "list" | "watch") if about.selects("spec.nodeName", node) => Verdict::Allowed,
            ("", "list" | "watch") if !about.name.is_empty() => self.by_relation(node, What::Pod, about),
            ("", "list" | "watch") => refused("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Verdict::Allowed,
            _ => refused(""),
        }
    }

    fn certificate(&self, node: &str, verb: &str, about: &ResourceAttributes) -> Verdict {
        if !self.certificates {
            return refused("");
        }
        if !about.subresource.is_empty() {
            return refused("nodes may not access the status subresource of PodCertificateRequests");
        }
        match verb {
            "create" => Verdict::Allowed,
            "get" => self.by_relation(node, What::CertificateRequest, about),
            "list" | "watch" if about.selects("spec.nodeName", node) => Verdict::Allowed,
            "list" | "watch" => refused("can only list/watch podcertificaterequests with nodeName field selector"),
            verb => refused(format!("nodes may not {verb} podcertificaterequests")),
        }
    }
}

fn lease(node: &str, verb: &str, about: &ResourceAttributes) -> Verdict {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        refused("can only get, create, update, patch, or delete a node lease")
    } else if about.namespace != "kube-node-lease" {
        refused("can only access leases in the \"kube-node-lease\" system namespace")
    } else if verb != "create" && about.name != node {
        refused("can only access node lease with the same name as the requesting node")
    } else {
        Verdict::Allowed
    }
}

fn csi_node(node: &str, verb: &str, about: &ResourceAttributes) -> Verdict {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        refused("can only get, create, update, patch, or delete a CSINode")
    } else if !about.subresource.is_empty() {
        refused("cannot authorize CSINode subresources")
    } else if verb != "create" && about.name != node {
        refused("can only access CSINode with the same name as the requesting node")
    } else {
        Verdict::Allowed
    }
}

/// Which Node is written is the admission plugin's question.
fn own_node(node: &str, verb: &str, about: &ResourceAttributes) -> Verdict {
    match (about.subresource.as_str(), verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Verdict::Allowed,
        ("", "get" | "list" | "watch") if about.name == node => Verdict::Allowed,
        ("", "get" | "list" | "watch") if about.name.is_empty() => {
            refused(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            refused(format!("node '{node}' cannot read '{}', only its own Node object", about.name))
        }
        _ => refused(""),
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
