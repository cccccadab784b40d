//! What a caller may do: an ordered table of authorizers, each of which allows, denies or has no opinion.
//!
//! `--authorization-mode` picks authorizers and their order; members of `system:masters` pass before any of them. What nobody
//! allows is forbidden, with the sentence of [`forbidden`]. This module knows nothing of HTTP and never changes state.

use crate::authn::User;
use api::selector::{FieldSelector, FieldTerm, LabelSelector, Operator};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;
use std::fmt;
use std::sync::Arc;
use storage::clock::Clock;

mod abac;
mod always;
pub mod bootstrap;
pub mod configuration;
mod node;
pub mod rbac;
mod webhook;

pub use configuration::{Entry, WebhookEntry};
pub use node::Relations;

/// The group whose members pass every authorizer.
pub const MASTERS: &str = "system:masters";

/// The object that a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceAttributes {
    /// API group, empty for core.
    pub group: String,
    /// Version, or `*` for any.
    pub version: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty for cluster scope and for all namespaces.
    pub namespace: String,
    /// Object name, or empty for collections and creation.
    pub name: String,
    /// What a collection is narrowed to by fields; empty where that cannot be told.
    pub fields: Vec<Requirement>,
    /// What a collection is narrowed to by labels.
    pub labels: Vec<Requirement>,
}

/// A part of a selector. All parts hold together, so that one that is left out only widens the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// Field or label.
    pub key: String,
    /// `In`, `NotIn`, and for labels `Exists` and `DoesNotExist`.
    pub operator: String,
    /// Of `In` and `NotIn`.
    pub values: Vec<String>,
}

impl ResourceAttributes {
    /// The collection is narrowed to objects whose field has this value.
    #[must_use]
    pub fn selects(&self, field: &str, value: &str) -> bool {
        let one = |part: &Requirement| part.operator == "In" && part.key == field && part.values == [value];
        self.fields.iter().any(one)
    }

    /// What `fieldSelector` and `labelSelector` narrow the collection to; texts that are no selectors narrow nothing.
    #[must_use]
    pub fn narrowed(mut self, fields: Option<&str>, labels: Option<&str>) -> Self {
        if let Some(selector) = fields.and_then(|text| FieldSelector::parse(text).ok()) {
            let part = |term: &FieldTerm| Requirement {
                key: term.field.clone(),
                operator: if term.equal { "In" } else { "NotIn" }.to_owned(),
                values: vec![term.value.clone()],
            };
            self.fields = selector.terms().iter().map(part).collect();
        }
        if let Some(selector) = labels.and_then(|text| LabelSelector::parse(text).ok()) {
            self.labels = selector.requirements().iter().filter_map(label_part).collect();
        }
        self
    }
}

/// Comparisons of numbers have no word in the API of authorization.
fn label_part(part: &api::selector::Requirement) -> Option<Requirement> {
    let operator = match part.operator {
        Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
        Operator::NotEquals | Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        _ => return None,
    };
    Some(Requirement { key: part.key.clone(), operator: operator.to_owned(), values: part.values.clone() })
}

/// A question to the authorizers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Who asks.
    pub user: User,
    /// `get`, `list`, `create`, …; the lower-case HTTP method where there is no resource.
    pub verb: String,
    /// What it is about; `None` for paths that are no resources.
    pub resource: Option<ResourceAttributes>,
    /// The request's path; matters only without a resource.
    pub path: String,
}

/// An authorizer's answer. The texts are reasons for the audit log and, where forbidden, for the caller; they may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes; nobody else is asked.
    Allow(String),
    /// No; nobody else is asked.
    Deny(String),
    /// The next one decides; at the end of the row this is a no.
    NoOpinion(String),
}

impl Decision {
    /// Whether the answer is yes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// The rules of one user in one namespace, for `SelfSubjectRulesReview`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserRules {
    /// Rules, resource and non-resource alike.
    pub rules: Vec<PolicyRule>,
    /// Whether some authorizer may allow more than is listed.
    pub incomplete: bool,
    /// Sentences about what could not be resolved.
    pub errors: Vec<String>,
}

/// One way to decide.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// The decision about one request.
    async fn authorize(&self, attributes: &Attributes) -> Decision;

    /// What the user may do in `namespace`, as far as it can be listed.
    fn rules_for(&self, user: &User, namespace: &str) -> UserRules;
}

/// What authorizers are built from.
#[derive(Clone)]
pub struct Settings {
    /// The roles and bindings.
    pub rbac: Arc<rbac::Rbac>,
    /// `--feature-gates`: some rules are there only with theirs.
    pub gates: api::features::Gates,
    /// Which objects belong to which nodes.
    pub relations: Arc<Relations>,
    /// Content of `--authorization-policy-file`.
    pub abac_policy: Option<String>,
    /// For how long verdicts are kept.
    pub clock: Arc<dyn Clock>,
}

type Build = fn(&Entry, &Settings) -> Result<Arc<dyn Authorizer>, String>;

/// All authorizers by their name in `--authorization-mode`. One more is one file and one line.
const TABLE: &[(&str, Build)] = &[
    ("Node", node::build),
    ("RBAC", rbac::build),
    ("ABAC", abac::build),
    ("Webhook", webhook::build),
    ("AlwaysAllow", always::allow),
    ("AlwaysDeny", always::deny),
];

/// `--authorization-mode` where the flag is not given.
pub const DEFAULT_MODES: &[&str] = &["Node", "RBAC"];

/// Why the modes cannot be honoured.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModeError {
    /// A mode that does not exist.
    #[error("authorization-mode \"{0}\" is not a valid mode")]
    Unknown(String),
    /// A mode given twice.
    #[error("authorization-mode \"{0}\" is given twice")]
    Twice(String),
    /// No mode at all.
    #[error("at least one authorization-mode must be passed")]
    Nothing,
    /// The file of `--authorization-config` is unusable.
    #[error("--authorization-config: {0}")]
    File(String),
    /// An authorizer cannot be made.
    #[error("authorizer {0}: {1}")]
    Unusable(String, String),
}

type Row = Vec<(String, Arc<dyn Authorizer>)>;

/// The authorizers that flag or file named, in their order.
pub struct Authorizers {
    active: ArcSwap<Row>,
}

impl fmt::Debug for Authorizers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.active.load().iter().map(|(name, _)| name)).finish()
    }
}

/// What `--authorization-mode` names, as entries; `webhook` is that of the `--authorization-webhook-*` flags.
#[must_use]
pub fn by_modes(modes: &[impl AsRef<str>], webhook: Option<&WebhookEntry>) -> Vec<Entry> {
    let entry = |mode: &str| Entry {
        kind: mode.to_owned(),
        name: mode.to_ascii_lowercase(),
        webhook: webhook.filter(|_| mode == "Webhook").cloned(),
    };
    modes.iter().map(|mode| entry(mode.as_ref())).collect()
}

impl Authorizers {
    /// The authorizers of these entries.
    ///
    /// # Errors
    /// When a type is unknown, one is repeated that may not be, one cannot be made, or there is none.
    pub fn new(entries: &[Entry], settings: &Settings) -> Result<Self, ModeError> {
        Ok(Self { active: ArcSwap::from_pointee(row(entries, settings)?) })
    }

    /// These, whatever flags could name them.
    #[cfg(test)]
    pub(crate) fn of(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { active: ArcSwap::from_pointee(vec![(String::new(), authorizer)]) }
    }

    /// Puts the authorizers of these entries in the place of those that are there.
    ///
    /// # Errors
    /// As [`Authorizers::new`]; nothing changes then.
    pub fn replace(&self, entries: &[Entry], settings: &Settings) -> Result<(), ModeError> {
        self.active.store(Arc::new(row(entries, settings)?));
        Ok(())
    }

    /// The first yes or no, else no opinion with all reasons.
    pub async fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        let active = self.active.load_full();
        for (_, authorizer) in active.iter() {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// What `user` may do in `namespace`, of all authorizers together.
    #[must_use]
    pub fn rules_for(&self, user: &User, namespace: &str) -> UserRules {
        let mut all = UserRules::default();
        // As upstream, members of `system:masters` have the rules that their bindings give.
        for (_, authorizer) in self.active.load().iter() {
            let rules = authorizer.rules_for(user, namespace);
            all.rules.extend(rules.rules);
            all.incomplete |= rules.incomplete;
            all.errors.extend(rules.errors);
        }
        all
    }
}

fn row(entries: &[Entry], settings: &Settings) -> Result<Row, ModeError> {
    let mut active: Row = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for entry in entries {
        let found = TABLE.iter().find(|(name, _)| *name == entry.kind);
        let (name, build) = found.ok_or_else(|| ModeError::Unknown(entry.kind.clone()))?;
        // Of webhooks there may be several, each with its name.
        if !seen.insert(if *name == "Webhook" { entry.name.as_str() } else { name }) {
            return Err(ModeError::Twice(entry.kind.clone()));
        }
        let made = build(entry, settings).map_err(|why| ModeError::Unusable(entry.kind.clone(), why))?;
        active.push((entry.name.clone(), made));
    }
    if active.is_empty() { Err(ModeError::Nothing) } else { Ok(active) }
}

/// The message of the `Forbidden` status for a request that nobody allowed, with the authorizers' reason behind it.
#[must_use]
pub fn forbidden(attributes: &Attributes, reason: &str) -> String {
    let user = sanitized(&quoted(&attributes.user.name));
    let verb = sanitized(&attributes.verb);
    let mut message = match &attributes.resource {
        None => format!("forbidden: User {user} cannot {verb} path {}", sanitized(&quoted(&attributes.path))),
        Some(about) => {
            let resource = match about.subresource.as_str() {
                "" => quoted(&about.resource),
                subresource => quoted(&format!("{}/{subresource}", about.resource)),
            };
            let scope = match about.namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {}", sanitized(&quoted(namespace))),
            };
            let subject = group_resource(&about.group, &about.resource);
            let subject = if about.name.is_empty() { subject } else { format!("{subject} {}", quoted(&about.name)) };
            format!(
                "{subject} is forbidden: User {user} cannot {verb} resource {} in API group {} {scope}",
                sanitized(&resource),
                sanitized(&quoted(&about.group)),
            )
        }
    };
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(reason);
    }
    message
}

/// `deployments.apps`, or `pods` for the core group.
#[must_use]
pub fn group_resource(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { [resource, ".", group].concat() }
}

/// Go's `%q` for texts as they occur in names: quotation marks, backslashes and control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The message must never look like HTML to a browser.
fn sanitized(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod tests;
