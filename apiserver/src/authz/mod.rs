//! What a caller may do: an ordered table of authorizers, each of which allows, denies or has no opinion.
//!
//! `--authorization-mode` picks authorizers and their order; members of `system:masters` pass before any of them. What nobody
//! allows is forbidden, with the sentence of [`forbidden`]. This module knows nothing of HTTP and never changes state.

use crate::authn::User;
use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;
use std::fmt;
use std::sync::Arc;

mod always;
pub mod bootstrap;
mod node;
pub mod rbac;

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
}

type Build = fn(&Settings) -> Arc<dyn Authorizer>;

/// All authorizers by their name in `--authorization-mode`. One more is one file and one line.
const TABLE: &[(&str, Build)] =
    &[("Node", node::build), ("RBAC", rbac::build), ("AlwaysAllow", always::allow), ("AlwaysDeny", always::deny)];

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
}

/// The authorizers that the flag named, in its order.
#[derive(Clone)]
pub struct Authorizers {
    active: Vec<(&'static str, Arc<dyn Authorizer>)>,
}

impl fmt::Debug for Authorizers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.active.iter().map(|(name, _)| name)).finish()
    }
}

impl Authorizers {
    /// The authorizers that `modes` name.
    ///
    /// # Errors
    /// When a mode is unknown or repeated, or there is none.
    pub fn new(modes: &[impl AsRef<str>], settings: &Settings) -> Result<Self, ModeError> {
        let mut active: Vec<(&'static str, Arc<dyn Authorizer>)> = Vec::new();
        for mode in modes.iter().map(AsRef::as_ref) {
            let entry = TABLE.iter().find(|(name, _)| *name == mode);
            let (name, build) = entry.ok_or_else(|| ModeError::Unknown(mode.to_owned()))?;
            if active.iter().any(|(other, _)| other == name) {
                return Err(ModeError::Twice(mode.to_owned()));
            }
            active.push((name, build(settings)));
        }
        if active.is_empty() { Err(ModeError::Nothing) } else { Ok(Self { active }) }
    }

    /// The first yes or no, else no opinion with all reasons.
    pub async fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        for (_, authorizer) in &self.active {
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
        if user.is_in(MASTERS) {
            all.rules.extend(rbac::everything());
        }
        for (_, authorizer) in &self.active {
            let rules = authorizer.rules_for(user, namespace);
            all.rules.extend(rules.rules);
            all.incomplete |= rules.incomplete;
            all.errors.extend(rules.errors);
        }
        all
    }
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
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
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
mod tests;
