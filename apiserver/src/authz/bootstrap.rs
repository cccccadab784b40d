//! The roles and bindings that every cluster begins with, and how existing ones are brought up to date.
//!
//! The roles are facts in `bootstrap/roles.txt`; those of controllers come from their own tables through [`ControllerRole`].
//! Everything is pure: the caller reads what exists and does the writes.

use super::rbac::{GROUP, covers};
use api::features::Gates;
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

const ROLES: &str = include_str!("bootstrap/roles.txt");
/// An object whose annotation of this name says `false` is never changed by [`reconcile`].
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const LABEL: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");

/// ClusterRoleBindings to the ClusterRole of the same name: `group:`, `user:` or `sa:` (in kube-system) per subject.
const CLUSTER_BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &["group:system:masters"]),
    ("system:basic-user", &["group:system:authenticated"]),
    ("system:cluster-trust-bundle-discovery", &["group:system:serviceaccounts"]),
    ("system:discovery", &["group:system:authenticated"]),
    ("system:kube-controller-manager", &["user:system:kube-controller-manager"]),
    ("system:kube-dns", &["sa:kube-dns"]),
    ("system:kube-scheduler", &["user:system:kube-scheduler"]),
    ("system:monitoring", &["group:system:monitoring"]),
    ("system:node", &[]),
    ("system:node-proxier", &["user:system:kube-proxy"]),
    ("system:public-info-viewer", &["group:system:authenticated", "group:system:unauthenticated"]),
    ("system:service-account-issuer-discovery", &["group:system:serviceaccounts"]),
    ("system:volume-scheduler", &["user:system:kube-scheduler"]),
];

/// RoleBindings: namespace, name, the Role's name where it is another one, subjects.
const BINDINGS: &[(&str, &str, Option<&str>, &[&str])] = &[
    ("kube-public", "system:controller:bootstrap-signer", None, &["sa:bootstrap-signer"]),
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        Some("extension-apiserver-authentication-reader"),
        &["user:system:kube-controller-manager", "user:system:kube-scheduler"],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        None,
        &["user:system:kube-controller-manager", "sa:kube-controller-manager", "sa:leader-election-controller"],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        None,
        &["user:system:kube-scheduler", "sa:kube-scheduler"],
    ),
    ("kube-system", "system:controller:bootstrap-signer", None, &["sa:bootstrap-signer"]),
    ("kube-system", "system:controller:cloud-provider", None, &["sa:cloud-provider"]),
    ("kube-system", "system:controller:token-cleaner", None, &["sa:token-cleaner"]),
];

/// What a controller may do, as its own file says.
#[derive(Clone, Debug)]
pub struct ControllerRole {
    /// The service account in kube-system.
    pub service_account: &'static str,
    /// Its rules.
    pub rules: Vec<PolicyRule>,
}

/// One object of the policy.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the kinds' own names")]
pub enum Object {
    ClusterRole(ClusterRole),
    ClusterRoleBinding(ClusterRoleBinding),
    Role(Role),
    RoleBinding(RoleBinding),
}

impl Object {
    /// Namespace (empty for the cluster's kinds) and name.
    #[must_use]
    pub fn key(&self) -> (&str, &str) {
        let metadata = self.metadata();
        (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    /// The plural of its kind.
    #[must_use]
    pub fn resource(&self) -> &'static str {
        match self {
            Self::ClusterRole(_) => "clusterroles",
            Self::ClusterRoleBinding(_) => "clusterrolebindings",
            Self::Role(_) => "roles",
            Self::RoleBinding(_) => "rolebindings",
        }
    }

    /// The object as JSON with `apiVersion` and `kind`.
    ///
    /// # Errors
    /// Never for objects of this module; the serializer's error is passed on.
    pub fn to_json(&self) -> Result<api::json::Value, api::json::Error> {
        match self {
            Self::ClusterRole(object) => api::json::to_value(object),
            Self::ClusterRoleBinding(object) => api::json::to_value(object),
            Self::Role(object) => api::json::to_value(object),
            Self::RoleBinding(object) => api::json::to_value(object),
        }
    }

    /// An object of the same kind as `like`, from its JSON.
    ///
    /// # Errors
    /// When the value is not of that kind.
    pub fn from_json(like: &Object, value: api::json::Value) -> Result<Object, api::json::Error> {
        Ok(match like {
            Self::ClusterRole(_) => Self::ClusterRole(api::json::from_value(value)?),
            Self::ClusterRoleBinding(_) => Self::ClusterRoleBinding(api::json::from_value(value)?),
            Self::Role(_) => Self::Role(api::json::from_value(value)?),
            Self::RoleBinding(_) => Self::RoleBinding(api::json::from_value(value)?),
        })
    }

    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::ClusterRole(object) => &object.metadata,
            Self::ClusterRoleBinding(object) => &object.metadata,
            Self::Role(object) => &object.metadata,
            Self::RoleBinding(object) => &object.metadata,
        }
    }
}

/// The write that brings an object up to date.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// It does not exist.
    Create(Object),
    /// It lacks something; the object is the existing one, `resourceVersion` included, with what it lacked.
    Update(Object),
    /// It refers to another role, which cannot be updated: delete (with the uid as precondition) and create this.
    Recreate(Object),
}

/// The rules of ClusterRole `system:node`.
#[must_use]
pub fn node_rules(gates: &Gates) -> Vec<PolicyRule> {
    let node = roles(gates).find_map(|role| match role {
        Object::ClusterRole(role) if role.metadata.name.as_deref() == Some("system:node") => role.rules,
        _ => None,
    });
    node.unwrap_or_default()
}

/// The whole policy: roles, then bindings, then the controllers' roles and bindings.
#[must_use]
pub fn policy(controllers: &[ControllerRole], gates: &Gates) -> Vec<Object> {
    let mut all: Vec<Object> = roles(gates).collect();
    // Without its gate there is neither the role nor who is bound to it.
    let there = |name: &str| all.iter().any(|role| role.key() == ("", name));
    let bound = CLUSTER_BINDINGS.iter().filter(|(name, _)| there(name));
    let bound: Vec<Object> = bound.map(|(name, subjects)| cluster_binding(name, subjects.iter().copied())).collect();
    all.extend(bound);
    for (namespace, name, role, subjects) in BINDINGS {
        all.push(Object::RoleBinding(RoleBinding {
            metadata: metadata(namespace, name),
            role_ref: role_ref("Role", role.unwrap_or(name)),
            subjects: subjects_of(subjects.iter().copied()),
        }));
    }
    for controller in controllers {
        let name = format!("system:controller:{}", controller.service_account);
        all.push(Object::ClusterRole(ClusterRole {
            metadata: metadata("", &name),
            rules: Some(controller.rules.clone()),
            aggregation_rule: None,
        }));
        let subject = format!("sa:{}", controller.service_account);
        all.push(cluster_binding(&name, std::iter::once(subject.as_str())));
    }
    all
}

/// The table's roles. A line of an unknown form is left out; the comparison with upstream would show it.
fn roles(gates: &Gates) -> impl Iterator<Item = Object> {
    let mut lines = ROLES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    std::iter::from_fn(move || {
        let mut words = lines.next()?.split_whitespace();
        let name = words.next()?;
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        let mut metadata = metadata(namespace, name);
        let (mut aggregation_rule, mut on) = (None, true);
        let label = |to: &str| (format!("rbac.authorization.k8s.io/aggregate-to-{to}"), "true".to_owned());
        for word in words {
            match word.split_once('=') {
                Some(("feeds", to)) => metadata.labels.get_or_insert_default().extend([label(to)]),
                Some(("gathers", from)) => {
                    let selector =
                        LabelSelector { match_labels: Some(BTreeMap::from([label(from)])), ..Default::default() };
                    aggregation_rule = Some(AggregationRule { cluster_role_selectors: Some(vec![selector]) });
                }
                Some(("gate", gate)) => on = gates.enabled(gate),
                _ => {}
            }
        }
        let mut rules = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
            match line.trim_start().strip_prefix('?').and_then(|line| line.split_once(' ')) {
                Some((gate, line)) if gates.enabled(gate) => rules.extend(rule(line)),
                Some(_) => {}
                None => rules.extend(rule(line)),
            }
        }
        let rules = (!rules.is_empty()).then_some(rules);
        let role = if namespace.is_empty() {
            Object::ClusterRole(ClusterRole { metadata, rules, aggregation_rule })
        } else {
            Object::Role(Role { metadata, rules })
        };
        Some(on.then_some(role))
    })
    .flatten()
}

/// A rule of the table.
fn rule(line: &str) -> Option<PolicyRule> {
    let mut words = line.split_whitespace();
    let (verbs, groups, objects) = (words.next()?, words.next()?, words.next()?);
    let texts = |words: &str| words.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut all = Vec::new();
    for verb in verbs.split(',') {
        match verb {
            "read" => all.extend(["get", "list", "watch"].map(str::to_owned)),
            "write" => all.extend(["create", "delete", "deletecollection", "patch", "update"].map(str::to_owned)),
            verb => all.push(verb.to_owned()),
        }
    }
    all.sort();
    if groups == "/" {
        return Some(PolicyRule { verbs: all, non_resource_urls: Some(texts(objects)), ..PolicyRule::default() });
    }
    let groups = groups.split(',').map(|group| if group == "core" { String::new() } else { group.to_owned() });
    Some(PolicyRule {
        verbs: all,
        api_groups: Some(groups.collect()),
        resources: Some(texts(objects)),
        resource_names: words.next().map(texts),
        non_resource_urls: None,
    })
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
        annotations: Some(BTreeMap::from([(AUTOUPDATE.to_owned(), "true".to_owned())])),
        ..ObjectMeta::default()
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(GROUP.to_owned()), kind: kind.to_owned(), name: name.to_owned() }
}

fn cluster_binding<'a>(name: &str, subjects: impl Iterator<Item = &'a str>) -> Object {
    Object::ClusterRoleBinding(ClusterRoleBinding {
        metadata: metadata("", name),
        role_ref: role_ref("ClusterRole", name),
        subjects: subjects_of(subjects),
    })
}

fn subjects_of<'a>(subjects: impl Iterator<Item = &'a str>) -> Option<Vec<Subject>> {
    let subjects: Vec<Subject> = subjects
        .filter_map(|subject| {
            let (kind, name) = subject.split_once(':')?;
            let kind = match kind {
                "group" => "Group",
                "user" => "User",
                _ => "ServiceAccount",
            };
            let account = kind == "ServiceAccount";
            Some(Subject {
                kind: kind.to_owned(),
                name: name.to_owned(),
                api_group: (!account).then(|| GROUP.to_owned()),
                namespace: account.then(|| "kube-system".to_owned()),
            })
        })
        .collect();
    (!subjects.is_empty()).then_some(subjects)
}

/// The write that `existing` needs to have all of `wanted`, or none. Labels, annotations, rules, aggregation selectors and
/// subjects are only ever added (an aggregation that is not wanted goes); an object annotated `autoupdate: "false"` is left
/// alone. An `existing` of another kind counts as absent.
#[must_use]
pub fn reconcile(existing: Option<&Object>, wanted: &Object) -> Option<Write> {
    let Some(existing) = existing else { return Some(Write::Create(wanted.clone())) };
    if existing
        .metadata()
        .annotations
        .as_ref()
        .and_then(|all| all.get(AUTOUPDATE))
        .is_some_and(|value| value == "false")
    {
        return None;
    }
    let mut merged = existing.clone();
    match (&mut merged, wanted) {
        (Object::ClusterRole(has), Object::ClusterRole(wants)) => {
            add_metadata(&mut has.metadata, &wants.metadata);
            add_rules(&mut has.rules, wants.rules.as_deref());
            add_selectors(&mut has.aggregation_rule, wants.aggregation_rule.as_ref());
        }
        (Object::Role(has), Object::Role(wants)) => {
            add_metadata(&mut has.metadata, &wants.metadata);
            add_rules(&mut has.rules, wants.rules.as_deref());
        }
        (Object::ClusterRoleBinding(has), Object::ClusterRoleBinding(wants)) => {
            if has.role_ref != wants.role_ref {
                return Some(Write::Recreate(wanted.clone()));
            }
            add_metadata(&mut has.metadata, &wants.metadata);
            add_subjects(&mut has.subjects, wants.subjects.as_deref());
        }
        (Object::RoleBinding(has), Object::RoleBinding(wants)) => {
            if has.role_ref != wants.role_ref {
                return Some(Write::Recreate(wanted.clone()));
            }
            add_metadata(&mut has.metadata, &wants.metadata);
            add_subjects(&mut has.subjects, wants.subjects.as_deref());
        }
        _ => return Some(Write::Create(wanted.clone())),
    }
    (merged != *existing).then_some(Write::Update(merged))
}

/// What the existing object says wins.
fn add_metadata(has: &mut ObjectMeta, wants: &ObjectMeta) {
    for (has, wants) in [(&mut has.labels, &wants.labels), (&mut has.annotations, &wants.annotations)] {
        for (key, value) in wants.iter().flatten() {
            has.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn add_rules(has: &mut Option<Vec<PolicyRule>>, wants: Option<&[PolicyRule]>) {
    let missing = covers(has.as_deref().unwrap_or_default(), wants.unwrap_or_default());
    if !missing.is_empty() {
        has.get_or_insert_default().extend(missing);
    }
}

fn add_selectors(has: &mut Option<AggregationRule>, wants: Option<&AggregationRule>) {
    let Some(wants) = wants else {
        *has = None;
        return;
    };
    for selector in wants.cluster_role_selectors.iter().flatten() {
        let own = has.get_or_insert_default().cluster_role_selectors.get_or_insert_default();
        if !own.contains(selector) {
            own.push(selector.clone());
        }
    }
}

fn add_subjects(has: &mut Option<Vec<Subject>>, wants: Option<&[Subject]>) {
    for subject in wants.unwrap_or_default() {
        let own = has.get_or_insert_default();
        if !own.contains(subject) {
            own.push(subject.clone());
        }
    }
}
