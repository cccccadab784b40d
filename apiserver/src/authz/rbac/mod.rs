//! Role-based access control: rules from Roles and ClusterRoles, given to subjects by bindings.
//!
//! Rules only ever allow. An index is told of every change of a role or binding, so that a check looks only at the caller's own rules and waits
//! for nobody. Also here: the escalation check for writers of roles and bindings, and the aggregation of ClusterRoles. Nothing here writes.

mod cover;
mod follow;
mod index;
mod matching;

pub use cover::{aggregate, covers, escalation};
pub use index::Change;
pub use matching::allows;

use super::{Attributes, Authorizer, Decision, Entry, ResourceAttributes, Settings, UserRules, quoted};
use crate::authn::User;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use index::{Index, Keeper};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleRef};
use parking_lot::Mutex;
use std::sync::Arc;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The RBAC authorizer.
#[derive(Default)]
pub struct Rbac {
    index: ArcSwap<Index>,
    /// Of those who change it, one at a time.
    keeper: Mutex<Keeper>,
}

#[allow(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn build(_: &Entry, settings: &Settings) -> Result<Arc<dyn Authorizer>, String> {
    Ok(Arc::clone(&settings.rbac) as Arc<dyn Authorizer>)
}

/// The rules of `cluster-admin`: every verb on everything.
#[must_use]
pub fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { api_groups: Some(all()), resources: Some(all()), verbs: all(), ..PolicyRule::default() },
        PolicyRule { non_resource_urls: Some(all()), verbs: all(), ..PolicyRule::default() },
    ]
}

impl Rbac {
    /// Roles and bindings have become this. Decisions that have begun go on with what was.
    pub fn change(&self, changes: impl IntoIterator<Item = Change>) {
        let mut keeper = self.keeper.lock();
        let index = keeper.change(changes);
        self.index.store(Arc::new(index));
    }

    /// Nothing is left of what was.
    #[cfg(test)]
    pub(in crate::authz) fn is_empty(&self) -> bool {
        self.keeper.lock().is_empty()
    }

    /// The decision, without waiting for anything.
    #[must_use]
    pub fn decide(&self, attributes: &Attributes) -> Decision {
        let index = self.index.load();
        let namespace = attributes.resource.as_ref().map_or("", |about| about.namespace.as_str());
        let mut broken = Vec::new();
        for grant in index.grants(&attributes.user, namespace).filter(|own| !own.again).map(|own| &own.grant) {
            match grant.role.as_ref().ok().and_then(|role| role.allows(attributes)) {
                Some(true) => return Decision::Allow(grant.reason.clone()),
                Some(false) => {}
                None => broken.push(grant),
            }
        }
        match index::errors(broken) {
            errors if errors.is_empty() => Decision::NoOpinion(String::new()),
            errors => Decision::NoOpinion(format!("RBAC: {}", aggregated(&errors))),
        }
    }

    /// All rules of the user in `namespace` (empty: cluster-wide only), and one sentence per role that is missing.
    #[must_use]
    pub fn rules_of(&self, user: &User, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let index = self.index.load();
        let mut grants: Vec<_> = index.grants(user, namespace).map(|own| &own.grant).collect();
        // A binding counts once, however many of its subjects the user matches.
        grants.sort_by(|one, other| one.binding.cmp(&other.binding));
        grants.dedup_by(|one, other| one.binding == other.binding);
        let rules = grants.iter().filter_map(|grant| grant.role.as_ref().ok()?.rules().ok());
        (rules.flat_map(|rules| rules.to_vec()).collect(), index::errors(grants.iter().copied()))
    }

    /// The rules behind a binding's `roleRef`.
    ///
    /// # Errors
    /// The sentence of the missing role.
    pub fn rules_of_role(&self, role: &RoleRef, namespace: &str) -> Result<Vec<PolicyRule>, String> {
        self.index.load().role(role, namespace).map(|rules| rules.to_vec())
    }

    /// Whether `user` may give away `wanted` in `namespace`: the message for the `Forbidden` status if not. Those with the
    /// `escalate` or `bind` verb are the caller's to let through, see [`escalate_attributes`] and [`bind_attributes`].
    #[must_use]
    pub fn refuse_escalation(&self, user: &User, namespace: &str, wanted: &[PolicyRule]) -> Option<String> {
        if user.is_in(super::MASTERS) {
            return None;
        }
        let (own, errors) = self.rules_of(user, namespace);
        escalation(user, &own, wanted, &errors)
    }

    /// The message that refuses an `aggregationRule` to `user`: it may gather anything, now or later, so that only those who
    /// hold everything may set, change or remove one.
    #[must_use]
    pub fn refuse_aggregation(&self, user: &User) -> Option<&'static str> {
        let free = user.is_in(super::MASTERS) || covers(&self.rules_of(user, "").0, &everything()).is_empty();
        (!free).then_some("must have cluster-admin privileges to use the aggregationRule")
    }
}

/// Whether a ClusterRole gathers rules from others. Writing such a role, before or after the write, is for those who hold
/// everything: see [`Rbac::refuse_aggregation`].
#[must_use]
pub fn aggregates(role: &ClusterRole) -> bool {
    let selectors = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_deref());
    selectors.is_some_and(|selectors| !selectors.is_empty())
}

/// The question whether `user` may write this role with rights beyond the own ones.
#[must_use]
pub fn escalate_attributes(user: &User, resource: &str, namespace: &str, name: &str) -> Attributes {
    attributes(user, "escalate", resource, namespace, name)
}

/// The question whether `user` may bind this role in `namespace` (empty for a ClusterRoleBinding) without holding its rights.
#[must_use]
pub fn bind_attributes(user: &User, role: &RoleRef, namespace: &str) -> Attributes {
    let resource = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
    attributes(user, "bind", resource, namespace, &role.name)
}

fn attributes(user: &User, verb: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
    Attributes {
        user: user.clone(),
        verb: verb.to_owned(),
        resource: Some(ResourceAttributes {
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..ResourceAttributes::default()
        }),
        path: String::new(),
    }
}

/// Several sentences as upstream joins them: one stands alone, more in brackets, none twice.
fn aggregated(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn not_found(kind: &str, name: &str) -> String {
    format!("{kind}.{GROUP} {} not found", quoted(name))
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        self.decide(attributes)
    }

    fn rules_for(&self, user: &User, namespace: &str) -> UserRules {
        let (rules, errors) = self.rules_of(user, namespace);
        UserRules { rules, incomplete: false, errors }
    }
}
