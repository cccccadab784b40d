//! `ABAC`: one policy per line of a file, each a JSON object. Policies only allow.
//!
//! The file is read once; changes need a restart, as upstream. Source: upstream's "Using ABAC Authorization".

use super::{Attributes, Authorizer, Decision, Entry, Settings, UserRules};
use crate::authn::{AUTHENTICATED, User};
use api::json::Value;
use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize;
use std::sync::Arc;

/// What one line allows, and whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    #[serde(rename = "nonResourcePath")]
    path: String,
}

struct Abac(Vec<Policy>);

pub(super) fn build(_: &Entry, settings: &Settings) -> Result<Arc<dyn Authorizer>, String> {
    let Some(text) = &settings.abac_policy else {
        return Err("authorization-mode ABAC's authorization policy file not passed".to_owned());
    };
    Ok(Arc::new(Abac(parse(text)?)))
}

fn parse(text: &str) -> Result<Vec<Policy>, String> {
    let mut policies = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let said = |why: &dyn std::fmt::Display| format!("error reading policy file, line {}: {line}: {why}", at + 1);
        let given: Value = api::json::from_str(line).map_err(|error| said(&error))?;
        let policy = match (api::value::text(&given, "apiVersion"), api::value::text(&given, "kind")) {
            ("", _) | (_, "") => unversioned(&given).map_err(|error| said(&error))?,
            ("abac.authorization.kubernetes.io/v1beta1", "Policy") => {
                let spec = given.get("spec").cloned().unwrap_or_default();
                let mut policy: Policy = api::json::from_value(spec).map_err(|error| said(&error))?;
                starred(&mut policy);
                policy
            }
            (version, kind) => return Err(said(&format!("no kind {kind:?} is registered for version {version:?}"))),
        };
        policies.push(policy);
    }
    Ok(policies)
}

/// A star means all who have shown who they are.
fn starred(policy: &mut Policy) {
    if policy.user == "*" || policy.group == "*" {
        policy.user.clear();
        policy.group = AUTHENTICATED.to_owned();
    }
}

/// The oldest form: what is left out is everything.
fn unversioned(given: &Value) -> Result<Policy, api::json::Error> {
    let mut policy: Policy = api::json::from_value(given.clone())?;
    if policy.user.is_empty() && policy.group.is_empty() {
        policy.group = AUTHENTICATED.to_owned();
    }
    starred(&mut policy);
    let everything = |text: &str| if text.is_empty() { "*".to_owned() } else { text.to_owned() };
    policy.api_group = "*".to_owned();
    policy.path =
        if policy.namespace.is_empty() && policy.resource.is_empty() { "*".to_owned() } else { String::new() };
    policy.namespace = everything(&policy.namespace);
    policy.resource = everything(&policy.resource);
    Ok(policy)
}

impl Policy {
    fn is_for(&self, user: &User) -> bool {
        // Nobody in particular is nobody.
        (!self.user.is_empty() || !self.group.is_empty())
            && (self.user.is_empty() || self.user == user.name)
            && (self.group.is_empty() || user.is_in(&self.group))
    }

    fn allows(&self, attributes: &Attributes) -> bool {
        if self.readonly && !matches!(attributes.verb.as_str(), "get" | "list" | "watch") {
            return false;
        }
        let same = |own: &str, wanted: &str| own == "*" || own == wanted;
        match &attributes.resource {
            Some(about) => {
                same(&self.namespace, &about.namespace)
                    && same(&self.resource, &about.resource)
                    && same(&self.api_group, &about.group)
            }
            None => {
                same(&self.path, &attributes.path)
                    || (self.path.ends_with('*') && attributes.path.starts_with(self.path.trim_end_matches('*')))
            }
        }
    }
}

#[async_trait]
impl Authorizer for Abac {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        if self.0.iter().any(|policy| policy.is_for(&attributes.user) && policy.allows(attributes)) {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion("No policy matched.".to_owned())
    }

    fn rules_for(&self, user: &User, namespace: &str) -> UserRules {
        let mut rules = Vec::new();
        let own = self.0.iter().filter(|policy| policy.is_for(user));
        for policy in own.filter(|policy| policy.namespace == "*" || policy.namespace == namespace) {
            let verbs: Vec<String> = if policy.readonly { &["get", "list", "watch"][..] } else { &["*"] }
                .iter()
                .map(|verb| (*verb).to_owned())
                .collect();
            if !policy.resource.is_empty() {
                rules.push(PolicyRule {
                    verbs: verbs.clone(),
                    api_groups: Some(vec![policy.api_group.clone()]),
                    resources: Some(vec![policy.resource.clone()]),
                    ..PolicyRule::default()
                });
            }
            if !policy.path.is_empty() {
                let urls = Some(vec![policy.path.clone()]);
                rules.push(PolicyRule { verbs, non_resource_urls: urls, ..PolicyRule::default() });
            }
        }
        UserRules { rules, incomplete: false, errors: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::ResourceAttributes;

    const FILE: &str = r##"
# comment
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "alice", "namespace": "*", "resource": "*", "apiGroup": "*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "bob", "namespace": "shop", "resource": "pods", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"group": "*", "readonly": true, "nonResourcePath": "/version*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"namespace": "*", "resource": "*", "apiGroup": "*"}}
{"user": "old", "resource": "secrets"}
"##;

    #[test]
    fn policies_allow_what_they_say() {
        let abac = Abac(parse(FILE).unwrap());
        let check = |user: &str, verb: &str, on: &str, want: bool| {
            let resource = (!on.starts_with('/')).then(|| {
                let mut parts = on.split(' ').map(str::to_owned);
                let mut next = || parts.next().unwrap_or_default();
                ResourceAttributes {
                    namespace: next(),
                    resource: next(),
                    group: next(),
                    ..ResourceAttributes::default()
                }
            });
            let user = if user.is_empty() { User::anonymous() } else { User::new(user, &[AUTHENTICATED]) };
            let attributes = Attributes { user, verb: verb.to_owned(), resource, path: on.to_owned() };
            let got = futures::executor::block_on(abac.authorize(&attributes));
            assert_eq!(got.is_allowed(), want, "{attributes:?}");
        };
        check("alice", "delete", "any things.x y", true);
        check("alice", "post", "/metrics", false);
        check("bob", "get", "shop pods", true);
        check("bob", "list", "shop pods", true);
        check("bob", "delete", "shop pods", false);
        check("bob", "get", "shop pods apps", false);
        check("bob", "get", "other pods", false);
        check("bob", "get", "/version/x", true);
        check("bob", "post", "/version", false);
        check("", "get", "/version", false);
        check("carol", "get", "shop pods", false);
        check("old", "delete", "shop secrets", true);
        check("old", "delete", "shop pods", false);
    }

    #[test]
    fn mistakes_are_named_by_line() {
        for (text, want) in [
            ("\n{", "line 2"),
            ("{\"apiVersion\": \"abac.authorization.kubernetes.io/v2\", \"kind\": \"Policy\"}", "no kind"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(want), "{why}");
        }
    }
}
