//! From subjects to the roles that bindings give them, so that a check looks at nobody else's.
//!
//! An [`Index`] is a picture that never changes; its maps are persistent, so that the next picture costs what has changed, and who reads waits
//! for nobody. Roles are shared by all pictures and hold the rules of now: a change of a role touches no binding. The [`Keeper`] makes the
//! pictures, and only it knows the objects.

use super::cover::gathers;
use super::{aggregate, allows, not_found};
use crate::authn::{User, service_account_username};
use crate::authz::{Attributes, quoted};
use arc_swap::ArcSwapOption;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role as RoleObject, RoleBinding, RoleRef, Subject,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A role, there or not.
pub(super) struct Role {
    cluster: bool,
    name: String,
    rules: ArcSwapOption<Vec<PolicyRule>>,
}

impl Role {
    /// Its rules of now.
    ///
    /// # Errors
    /// The sentence about its absence.
    pub(super) fn rules(&self) -> Result<Arc<Vec<PolicyRule>>, String> {
        let absent = || not_found(if self.cluster { "clusterrole" } else { "role" }, &self.name);
        self.rules.load_full().ok_or_else(absent)
    }

    /// Whether its rules of now allow the request; `None` where it is not there.
    pub(super) fn allows(&self, request: &Attributes) -> Option<bool> {
        self.rules.load().as_ref().map(|rules| rules.iter().any(|rule| allows(rule, request)))
    }
}

/// The place of a binding in the order of checks: those of the cluster come first.
type Place = (bool, Arc<str>);

/// What one binding gives to one of its subjects.
pub(super) struct Grant {
    /// The role, or why there can be none.
    pub(super) role: Result<Arc<Role>, String>,
    /// Why what it allows is allowed: the binding, the role and the subject.
    pub(super) reason: String,
    /// The binding.
    pub(super) binding: Place,
}

/// One of those that a subject has in a place, by the names of their bindings.
pub(super) struct Listed {
    pub(super) grant: Arc<Grant>,
    /// An earlier binding gives the subject the same role in the same place: what that does not allow, this does not.
    pub(super) again: bool,
}

/// See the file.
#[derive(Clone, Default)]
pub(super) struct Index {
    subjects: imbl::HashMap<Arc<str>, Arc<[Listed]>>,
    roles: imbl::HashMap<Arc<str>, Arc<Role>>,
}

/// A key of names that hold anything: the length says where the first ends.
fn write_key(key: &mut String, of: char, namespace: &str, name: &str) {
    key.clear();
    key.push(of);
    key.push_str(itoa::Buffer::new().format(namespace.len()));
    key.push(':');
    key.push_str(namespace);
    key.push_str(name);
}

fn key(of: char, namespace: &str, name: &str) -> Arc<str> {
    let mut key = String::new();
    write_key(&mut key, of, namespace, name);
    key.into()
}

const USER: char = 'u';
const GROUP: char = 'g';
const ROLE: char = 'r';
const CLUSTER_ROLE: char = 'c';

/// The key of the role that a binding in `namespace` refers to.
fn role_key(role: &RoleRef, namespace: &str) -> Result<Arc<str>, String> {
    match role.kind.as_str() {
        "ClusterRole" => Ok(key(CLUSTER_ROLE, "", &role.name)),
        "Role" => Ok(key(ROLE, namespace, &role.name)),
        other => Err(format!("unsupported role reference kind: {}", quoted(other))),
    }
}

impl Index {
    /// The rules of a role that a binding in `namespace` refers to.
    pub(super) fn role(&self, role: &RoleRef, namespace: &str) -> Result<Arc<Vec<PolicyRule>>, String> {
        match self.roles.get(&*role_key(role, namespace)?) {
            Some(role) => role.rules(),
            None => empty(role).rules(),
        }
    }

    /// Everything given to the user cluster-wide and, with a namespace, there.
    pub(super) fn grants<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = &'a Listed> {
        let places = std::iter::once("").chain(Some(namespace).filter(|namespace| !namespace.is_empty()));
        let mut key = String::with_capacity(64);
        places.flat_map(move |place| {
            let mut find = |of: char, name: &str| {
                write_key(&mut key, of, place, name);
                self.subjects.get(key.as_str()).map(|found| &**found).unwrap_or_default()
            };
            let mut all = vec![find(USER, &user.name)];
            all.extend(user.groups.iter().map(|group| find(GROUP, group)));
            all.into_iter().flatten()
        })
    }
}

fn empty(role: &RoleRef) -> Role {
    Role { cluster: role.kind == "ClusterRole", name: role.name.clone(), rules: ArcSwapOption::empty() }
}

/// The sentences about missing roles, in the order of the bindings, none twice.
pub(super) fn errors<'a>(grants: impl IntoIterator<Item = &'a Arc<Grant>>) -> Vec<String> {
    let why = |grant: &'a Arc<Grant>| match &grant.role {
        Ok(role) => role.rules().err(),
        Err(why) => Some(why.clone()),
    };
    let mut broken: Vec<_> = grants.into_iter().filter_map(|grant| Some((&grant.binding, why(grant)?))).collect();
    broken.sort();
    let mut sentences: Vec<String> = Vec::new();
    for (_, why) in broken {
        if !sentences.contains(&why) {
            sentences.push(why);
        }
    }
    sentences
}

/// What a role or binding has become; nothing where it is gone.
#[allow(missing_docs, reason = "the objects' own names")]
#[derive(Clone, Debug)]
pub enum Change {
    ClusterRole {
        name: String,
        now: Option<Box<ClusterRole>>,
    },
    Role {
        namespace: String,
        name: String,
        rules: Option<Vec<PolicyRule>>,
    },
    /// Of the cluster where `namespace` is empty.
    Binding {
        namespace: String,
        name: String,
        gives: Option<(RoleRef, Vec<Subject>)>,
    },
}

impl From<ClusterRole> for Change {
    fn from(role: ClusterRole) -> Change {
        Change::ClusterRole { name: role.metadata.name.clone().unwrap_or_default(), now: Some(Box::new(role)) }
    }
}

impl From<RoleObject> for Change {
    fn from(role: RoleObject) -> Change {
        let rules = Some(role.rules.unwrap_or_default());
        let [namespace, name] = [role.metadata.namespace, role.metadata.name].map(Option::unwrap_or_default);
        Change::Role { namespace, name, rules }
    }
}

impl From<ClusterRoleBinding> for Change {
    fn from(binding: ClusterRoleBinding) -> Change {
        let gives = Some((binding.role_ref, binding.subjects.unwrap_or_default()));
        Change::Binding { namespace: String::new(), name: binding.metadata.name.unwrap_or_default(), gives }
    }
}

impl From<RoleBinding> for Change {
    fn from(binding: RoleBinding) -> Change {
        let gives = Some((binding.role_ref, binding.subjects.unwrap_or_default()));
        let [namespace, name] = [binding.metadata.namespace, binding.metadata.name].map(Option::unwrap_or_default);
        Change::Binding { namespace, name, gives }
    }
}

/// A binding that is there.
struct Bound {
    role: Option<Arc<str>>,
    /// Keys of its subjects.
    subjects: Vec<Arc<str>>,
}

/// What of a subject's list has changed.
#[derive(Default)]
struct Edit {
    gone: HashSet<Place>,
    came: Vec<Arc<Grant>>,
}

/// See the file.
#[derive(Default)]
pub(super) struct Keeper {
    index: Index,
    cluster_roles: BTreeMap<String, ClusterRole>,
    bindings: HashMap<(String, String), Bound>,
    /// How many bindings refer to a role.
    used: HashMap<Arc<str>, usize>,
}

impl Keeper {
    /// The picture after these changes.
    pub(super) fn change(&mut self, changes: impl IntoIterator<Item = Change>) -> Index {
        let mut edits = HashMap::new();
        let mut sums = false;
        for change in changes {
            match change {
                Change::ClusterRole { name, now } => sums |= self.cluster_role(name, now),
                Change::Role { namespace, name, rules } => {
                    self.set_rules(&key(ROLE, &namespace, &name), false, &name, rules);
                }
                Change::Binding { namespace, name, gives } => self.bind(namespace, name, gives, &mut edits),
            }
        }
        if sums {
            self.sum();
        }
        for (subject, edit) in edits {
            self.edit(subject, edit);
        }
        self.index.clone()
    }

    /// Whether sums of rules may have changed.
    fn cluster_role(&mut self, name: String, now: Option<Box<ClusterRole>>) -> bool {
        let key = key(CLUSTER_ROLE, "", &name);
        let before = self.cluster_roles.remove(&name);
        let counts = |role: &ClusterRole| {
            role.aggregation_rule.is_some() || self.cluster_roles.values().any(|other| gathers(other, role))
        };
        let sums = before.as_ref().is_some_and(counts) || now.as_deref().is_some_and(counts);
        // Who has an aggregated role keeps what it gives until its sum is known.
        let summed = now.as_ref().is_some_and(|role| role.aggregation_rule.is_some());
        if !(summed && self.index.roles.get(&*key).is_some_and(|role| role.rules.load().is_some())) {
            let rules = now.as_ref().map(|role| role.rules.clone().unwrap_or_default());
            self.set_rules(&key, true, &name, rules);
        }
        if let Some(role) = now {
            self.cluster_roles.insert(name, *role);
        }
        sums
    }

    fn set_rules(&mut self, key: &Arc<str>, cluster: bool, name: &str, rules: Option<Vec<PolicyRule>>) {
        match self.index.roles.get(&**key) {
            Some(role) => role.rules.store(rules.map(Arc::new)),
            None => {
                let rules = ArcSwapOption::new(rules.map(Arc::new));
                self.index.roles.insert(Arc::clone(key), Arc::new(Role { cluster, name: name.to_owned(), rules }));
            }
        }
        self.forget(key);
    }

    /// A role that is not there and to which nothing refers is not kept.
    fn forget(&mut self, key: &Arc<str>) {
        let absent = self.index.roles.get(&**key).is_some_and(|role| role.rules.load().is_none());
        if absent && !self.used.contains_key(key) {
            self.index.roles.remove(&**key);
        }
    }

    fn bind(
        &mut self,
        namespace: String,
        name: String,
        gives: Option<(RoleRef, Vec<Subject>)>,
        edits: &mut HashMap<Arc<str>, Edit>,
    ) {
        let place: Place = (!namespace.is_empty(), name.as_str().into());
        let bound = (namespace, name);
        let before = self.bindings.remove(&bound);
        for subject in before.iter().flat_map(|bound| &bound.subjects) {
            let edit = edits.entry(Arc::clone(subject)).or_default();
            edit.came.retain(|grant| grant.binding != place);
            edit.gone.insert(place.clone());
        }
        if let Some((role, subjects)) = gives {
            let (namespace, name) = &bound;
            let key = role_key(&role, namespace);
            if let Ok(key) = &key {
                *self.used.entry(Arc::clone(key)).or_default() += 1;
            }
            let found =
                key.clone().map(|key| self.index.roles.entry(key).or_insert_with(|| Arc::new(empty(&role))).clone());
            let what = match namespace.as_str() {
                "" => format!("ClusterRoleBinding {}", quoted(name)),
                namespace => format!("RoleBinding {}", quoted(&format!("{name}/{namespace}"))),
            };
            let what = format!("{what} of {} {}", role.kind, quoted(&role.name));
            let mut keys = Vec::new();
            for (key, shown) in subjects.iter().filter_map(|subject| named(subject, namespace)) {
                if keys.contains(&key) {
                    continue;
                }
                let reason = format!("RBAC: allowed by {what} to {shown}");
                let grant = Grant { role: found.clone(), reason, binding: place.clone() };
                edits.entry(Arc::clone(&key)).or_default().came.push(Arc::new(grant));
                keys.push(key);
            }
            self.bindings.insert(bound, Bound { role: key.ok(), subjects: keys });
        }
        if let Some(role) = before.and_then(|before| before.role) {
            self.release(&role);
        }
    }

    /// One binding less refers to the role.
    fn release(&mut self, role: &Arc<str>) {
        let Some(used) = self.used.get_mut(role) else { return };
        *used -= 1;
        if *used == 0 {
            self.used.remove(role);
            self.forget(role);
        }
    }

    fn edit(&mut self, subject: Arc<str>, edit: Edit) {
        let there = self.index.subjects.get(&*subject).map(|found| &**found).unwrap_or_default().iter();
        let stays = there.map(|listed| &listed.grant).filter(|grant| !edit.gone.contains(&grant.binding)).cloned();
        let mut grants: Vec<_> = stays.chain(edit.came).collect();
        if grants.is_empty() {
            self.index.subjects.remove(&*subject);
            return;
        }
        grants.sort_by(|one, other| one.binding.cmp(&other.binding));
        let mut seen = HashSet::new();
        let listed = grants.into_iter().map(|grant| {
            let again = grant.role.as_ref().is_ok_and(|role| !seen.insert(Arc::as_ptr(role)));
            Listed { grant, again }
        });
        let listed: Arc<[Listed]> = listed.collect();
        self.index.subjects.insert(subject, listed);
    }

    /// The rules of aggregated ClusterRoles, before a controller has written the sums into the objects. Roles that feed each other need
    /// several rounds; rules are only added, so that the rounds end.
    fn sum(&mut self) {
        let mut summed: BTreeMap<String, ClusterRole> = BTreeMap::new();
        loop {
            let now = |(name, role)| summed.get(name).unwrap_or(role);
            let all = || self.cluster_roles.iter().map(now);
            let mut grown = Vec::new();
            for (name, role) in self.cluster_roles.iter().filter(|(_, role)| role.aggregation_rule.is_some()) {
                let role = now((name, role));
                let own = role.rules.as_deref().unwrap_or_default();
                let mut rules = own.to_vec();
                for rule in aggregate(role, all()).into_iter().flatten() {
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
                if rules.len() > own.len() {
                    grown.push((name.clone(), ClusterRole { rules: Some(rules), ..role.clone() }));
                }
            }
            if grown.is_empty() {
                break;
            }
            summed.extend(grown);
        }
        let aggregated = self.cluster_roles.iter().filter(|(_, role)| role.aggregation_rule.is_some());
        for (name, role) in aggregated {
            let rules = summed.get(name).unwrap_or(role).rules.clone().unwrap_or_default();
            if let Some(role) = self.index.roles.get(&*key(CLUSTER_ROLE, "", name)) {
                role.rules.store(Some(Arc::new(rules)));
            }
        }
    }

    /// Nothing is left of what was.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let index = &self.index;
        index.subjects.is_empty() && index.roles.is_empty() && self.bindings.is_empty() && self.used.is_empty()
    }
}

/// The key of a subject of a binding in `namespace`, and what it is called. Those of an unknown kind, and service accounts without a
/// namespace, get nothing.
fn named(subject: &Subject, namespace: &str) -> Option<(Arc<str>, String)> {
    let name = &subject.name;
    let own = subject.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(namespace);
    let (key, shown) = match subject.kind.as_str() {
        "User" => (key(USER, namespace, name), name.clone()),
        "Group" => (key(GROUP, namespace, name), name.clone()),
        "ServiceAccount" if !own.is_empty() => {
            (key(USER, namespace, &service_account_username(own, name)), format!("{name}/{own}"))
        }
        _ => return None,
    };
    Some((key, format!("{} {}", subject.kind, quoted(&shown))))
}
