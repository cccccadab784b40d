//! From subjects to the rules that bindings give them, so that a check looks at nobody else's. Immutable once built.

use super::{Policy, aggregate, not_found};
use crate::authn::{User, service_account_username};
use crate::authz::quoted;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleRef, Subject};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The rules of a role, or the sentence about its absence.
type Rules = Result<Arc<[PolicyRule]>, String>;

/// What one binding gives to one of its subjects.
pub(super) struct Grant {
    /// The role's rules.
    pub(super) rules: Rules,
    /// Why what it allows is allowed: the binding, the role and the subject.
    pub(super) reason: String,
    /// The binding's place in the order of checks.
    pub(super) binding: usize,
    /// An earlier binding gives the subject the same role in the same place: what that does not allow, this does not.
    pub(super) again: bool,
}

#[derive(Default)]
struct Subjects {
    /// Users, and service accounts by their user name.
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

/// See the module.
pub(super) struct Index {
    /// The policy's generation when the lists were read.
    pub(super) generation: u64,
    cluster: Subjects,
    namespaces: HashMap<String, Subjects>,
    cluster_roles: HashMap<String, Arc<[PolicyRule]>>,
    roles: HashMap<String, HashMap<String, Arc<[PolicyRule]>>>,
}

impl Index {
    pub(super) fn build(policy: &dyn Policy) -> Self {
        let mut index = Self {
            generation: policy.generation(),
            cluster: Subjects::default(),
            namespaces: HashMap::new(),
            cluster_roles: HashMap::new(),
            roles: HashMap::new(),
        };
        for role in whole(&policy.cluster_roles()) {
            let name = role.metadata.name.unwrap_or_default();
            index.cluster_roles.insert(name, role.rules.unwrap_or_default().into());
        }
        for role in policy.roles() {
            let namespace = role.metadata.namespace.clone().unwrap_or_default();
            let name = role.metadata.name.clone().unwrap_or_default();
            let rules = role.rules.as_deref().unwrap_or_default().into();
            index.roles.entry(namespace).or_default().insert(name, rules);
        }
        let mut place = 0;
        for binding in policy.cluster_role_bindings() {
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            let rules = index.role(&binding.role_ref, "");
            let what = format!("ClusterRoleBinding {} of {}", quoted(name), described(&binding.role_ref));
            let subjects = binding.subjects.as_deref().unwrap_or_default();
            index.cluster.add(subjects, "", &rules, &what, place);
            place += 1;
        }
        for binding in policy.role_bindings() {
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
            let rules = index.role(&binding.role_ref, namespace);
            let what =
                format!("RoleBinding {} of {}", quoted(&format!("{name}/{namespace}")), described(&binding.role_ref));
            let subjects = binding.subjects.as_deref().unwrap_or_default();
            index.namespaces.entry(namespace.to_owned()).or_default().add(subjects, namespace, &rules, &what, place);
            place += 1;
        }
        index.cluster.mark();
        index.namespaces.values_mut().for_each(Subjects::mark);
        index
    }

    /// The rules of a role that a binding in `namespace` refers to.
    pub(super) fn role(&self, role: &RoleRef, namespace: &str) -> Rules {
        let (found, kind) = match role.kind.as_str() {
            "ClusterRole" => (self.cluster_roles.get(&role.name), "clusterrole"),
            "Role" => (self.roles.get(namespace).and_then(|roles| roles.get(&role.name)), "role"),
            other => return Err(format!("unsupported role reference kind: {}", quoted(other))),
        };
        found.cloned().ok_or_else(|| not_found(kind, &role.name))
    }

    /// Everything given to the user cluster-wide and, with a namespace, there.
    pub(super) fn grants<'a>(&'a self, user: &'a User, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let local = if namespace.is_empty() { None } else { self.namespaces.get(namespace) };
        std::iter::once(&self.cluster).chain(local).flat_map(move |subjects| {
            let own = subjects.users.get(&user.name).into_iter();
            own.chain(user.groups.iter().filter_map(|group| subjects.groups.get(group))).flatten()
        })
    }
}

/// The ClusterRoles with aggregated ones filled in, before a controller has written the sums into the objects. Roles that feed
/// each other need several rounds; rules are only added, so that the rounds end.
fn whole(roles: &[Arc<ClusterRole>]) -> Vec<ClusterRole> {
    let mut roles: Vec<ClusterRole> = roles.iter().map(|role| role.as_ref().clone()).collect();
    loop {
        let mut sums: Vec<_> = roles.iter().map(|role| aggregate(role, &roles)).collect();
        let mut grown = false;
        for (role, sum) in roles.iter_mut().zip(sums.iter_mut()) {
            let own = role.rules.get_or_insert_default();
            for rule in sum.take().into_iter().flatten() {
                if !own.contains(&rule) {
                    own.push(rule);
                    grown = true;
                }
            }
        }
        if !grown {
            return roles;
        }
    }
}

/// The sentences about missing roles, in the order of the bindings, none twice.
pub(super) fn errors<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> Vec<String> {
    let mut broken: Vec<_> =
        grants.into_iter().filter_map(|grant| Some((grant.binding, grant.rules.as_ref().err()?))).collect();
    broken.sort();
    let mut sentences: Vec<String> = Vec::new();
    for (_, why) in broken {
        if !sentences.contains(why) {
            sentences.push(why.clone());
        }
    }
    sentences
}

fn described(role: &RoleRef) -> String {
    format!("{} {}", role.kind, quoted(&role.name))
}

impl Subjects {
    /// Subjects of an unknown kind, and service accounts without a namespace, get nothing.
    fn add(&mut self, subjects: &[Subject], namespace: &str, rules: &Rules, what: &str, binding: usize) {
        for subject in subjects {
            let name = &subject.name;
            let own = subject.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(namespace);
            let (grants, shown) = match subject.kind.as_str() {
                "User" => (self.users.entry(name.clone()), name.clone()),
                "Group" => (self.groups.entry(name.clone()), name.clone()),
                "ServiceAccount" if !own.is_empty() => {
                    (self.users.entry(service_account_username(own, name)), format!("{name}/{own}"))
                }
                _ => continue,
            };
            grants.or_default().push(Grant {
                rules: rules.clone(),
                reason: format!("RBAC: allowed by {what} to {} {}", subject.kind, quoted(&shown)),
                binding,
                again: false,
            });
        }
    }

    /// Notes what is given again.
    fn mark(&mut self) {
        let mut seen = HashSet::new();
        for grants in self.users.values_mut().chain(self.groups.values_mut()) {
            seen.clear();
            for grant in grants {
                grant.again = grant.rules.as_ref().is_ok_and(|rules| !seen.insert(Arc::as_ptr(rules)));
            }
        }
    }
}
