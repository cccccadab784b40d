//! `Webhook`: a `SubjectAccessReview` posted to the server of a kubeconfig file.
//!
//! Verdicts are kept for a while; failures to get one are not. It is asked only about requests for which its conditions hold. Source:
//! upstream's "Webhook Mode", KEP-3221.

use super::{Attributes, Authorizer, Decision, Entry, Requirement, Settings, UserRules};
use crate::authn::{Remembered, User};
use crate::kubeconfig;
use crate::remote::Remote;
use api::cel::{Activation, Budget, Decl, Env, Extras, Program, Type, Value as Cel};
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use storage::clock::Clock;

/// Requests with longer values are not kept, upstream's bound.
const LONGEST_KEPT: usize = 10_000;
/// Waits between tries of a question that got no answer, upstream's.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_millis(750), Duration::from_millis(1125), Duration::from_millis(1687)];

struct Webhook {
    name: String,
    remote: Remote,
    version: String,
    timeout: Duration,
    /// Seconds for a yes and for anything else; zero keeps nothing.
    ttls: (i64, i64),
    on_error: Decision,
    conditions: Conditions,
    clock: Arc<dyn Clock>,
    known: Remembered<Decision>,
}

pub(super) fn build(entry: &Entry, settings: &Settings) -> Result<Arc<dyn Authorizer>, String> {
    let Some(webhook) = &entry.webhook else {
        return Err("authorization-mode Webhook's authorization config file not passed".to_owned());
    };
    let version = webhook.subject_access_review_version.as_str();
    if !["v1", "v1beta1"].contains(&version) {
        return Err(format!(
            "unsupported webhook authorizer version {version:?}, supported versions are \"v1\", \"v1beta1\""
        ));
    }
    let file = webhook.connection_info.kube_config_file.as_deref();
    let remote = kubeconfig::remote(file.ok_or("a webhook without a kubeconfig file")?)?;
    let expressions: Vec<&str> = webhook.match_conditions.iter().map(|one| one.expression.as_str()).collect();
    let seconds = |ttl: Option<Duration>, kept: Option<bool>| match kept {
        Some(false) => 0,
        _ => ttl.map_or(0, |ttl| i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX)),
    };
    Ok(Arc::new(Webhook {
        name: entry.name.clone(),
        remote,
        version: version.to_owned(),
        timeout: webhook.timeout.unwrap_or(Duration::from_secs(30)),
        ttls: (
            seconds(webhook.authorized_ttl, webhook.cache_authorized_requests),
            seconds(webhook.unauthorized_ttl, webhook.cache_unauthorized_requests),
        ),
        on_error: match webhook.failure_policy.as_str() {
            "Deny" => Decision::Deny(String::new()),
            _ => Decision::NoOpinion(String::new()),
        },
        conditions: Conditions::compile(&expressions)?,
        clock: Arc::clone(&settings.clock),
        known: Remembered::new(8192),
    }))
}

/// Expressions over the review, all of which must hold.
pub(super) struct Conditions(Vec<Program>);

static REQUEST: LazyLock<Decl> = LazyLock::new(|| {
    let text = Decl::string;
    let requirement = Decl::object(
        "kubernetes.SelectorRequirement",
        [("key", text()), ("operator", text()), ("values", Decl::list(text()))],
    );
    let selector =
        |name: &str| Decl::object(name, [("rawSelector", text()), ("requirements", Decl::list(requirement.clone()))]);
    let resource =
        ["namespace", "verb", "group", "version", "resource", "subresource", "name"].map(|name| (name, text()));
    let selectors = [
        ("fieldSelector", selector("kubernetes.FieldSelectorAttributes")),
        ("labelSelector", selector("kubernetes.LabelSelectorAttributes")),
    ];
    Decl::object(
        "kubernetes.SubjectAccessReviewSpec",
        [
            (
                "resourceAttributes",
                Decl::object("kubernetes.ResourceAttributes", resource.into_iter().chain(selectors)),
            ),
            (
                "nonResourceAttributes",
                Decl::object("kubernetes.NonResourceAttributes", [("path", text()), ("verb", text())]),
            ),
            ("user", text()),
            ("groups", Decl::list(text())),
            ("extra", Decl::map(Decl::list(text()))),
            ("uid", text()),
        ],
    )
});

static ENVIRONMENT: LazyLock<Env> = LazyLock::new(|| Env::kubernetes(Extras::NONE).with("request", REQUEST.clone()));

impl Conditions {
    /// Compiles them.
    ///
    /// # Errors
    /// Upstream's detail.
    pub(super) fn compile(sources: &[&str]) -> Result<Conditions, String> {
        let compile = |source: &&str| {
            let program = ENVIRONMENT.compile(source).map_err(|errors| errors.sentence())?;
            match program.result() {
                Type::Bool => Ok(program),
                other => Err(format!("must evaluate to bool but got {}", other.full())),
            }
        };
        sources.iter().map(compile).collect::<Result<_, String>>().map(Conditions)
    }

    /// Whether all hold. One that says no outweighs what is wrong with others.
    ///
    /// # Errors
    /// What is wrong when none says no.
    fn hold(&self, spec: &Value) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let request = Cel::declared(spec, &REQUEST).map_err(|fault| fault.to_string())?;
        let activation = Activation::default().with("request", request);
        let mut budget = Budget::match_conditions();
        let mut wrong = None;
        for program in &self.0 {
            match program.evaluate(&activation, &mut budget) {
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(Cel::Bool(true)) => {}
                Ok(_) => wrong = Some("a match condition gives no bool".to_owned()),
                Err(fault) => wrong = Some(fault.to_string()),
            }
        }
        wrong.map_or(Ok(true), Err)
    }
}

/// A requirement of a selector in the API's words.
fn requirement(one: &Requirement) -> Value {
    let mut out = json!({"key": one.key, "operator": one.operator});
    if !one.values.is_empty() {
        value::set(&mut out, "values", json!(one.values));
    }
    out
}

/// The review's `spec`; `whole` keeps empty fields, as expressions see them.
fn spec(attributes: &Attributes, whole: bool) -> Value {
    let mut out = json!({});
    let user = &attributes.user;
    let mut text = |path: &str, given: &str| {
        if whole || !given.is_empty() {
            value::set(&mut out, path, given);
        }
    };
    match &attributes.resource {
        Some(about) => {
            for (field, given) in [
                ("namespace", &about.namespace),
                ("verb", &attributes.verb),
                ("group", &about.group),
                ("version", &about.version),
                ("resource", &about.resource),
                ("subresource", &about.subresource),
                ("name", &about.name),
            ] {
                text(&format!("resourceAttributes.{field}"), given);
            }
            for (field, selector) in [("fieldSelector", &about.fields), ("labelSelector", &about.labels)] {
                if !selector.is_empty() {
                    let requirements: Vec<Value> = selector.iter().map(requirement).collect();
                    value::set(&mut out, &format!("resourceAttributes.{field}.requirements"), requirements);
                }
            }
        }
        None => {
            text("nonResourceAttributes.path", &attributes.path);
            text("nonResourceAttributes.verb", &attributes.verb);
        }
    }
    let mut text = |path: &str, given: &str| {
        if whole || !given.is_empty() {
            value::set(&mut out, path, given);
        }
    };
    text("user", &user.name);
    text("uid", &user.uid);
    if whole || !user.groups.is_empty() {
        value::set(&mut out, "groups", json!(user.groups));
    }
    if whole || !user.extra.is_empty() {
        value::set(&mut out, "extra", json!(user.extra));
    }
    out
}

impl Webhook {
    async fn ask(&self, spec: &Value) -> Result<Decision, String> {
        let mut spec = spec.clone();
        if self.version == "v1beta1"
            && let Some(fields) = spec.as_object_mut()
            && let Some(groups) = fields.remove("groups")
        {
            // The old name of the field.
            fields.insert("group".to_owned(), groups);
        }
        let review = json!({
            "kind": "SubjectAccessReview",
            "apiVersion": format!("authorization.k8s.io/{}", self.version),
            "metadata": {"creationTimestamp": null},
            "spec": spec,
            "status": {"allowed": false},
        });
        let body = api::json::to_vec(&review).map_err(|error| error.to_string())?;
        let mut waits = WAITS.iter();
        loop {
            let why = match self.remote.post(body.clone(), self.timeout).await {
                Ok((200..=206, answer)) => {
                    let answer: Value = api::json::from_slice(&answer).map_err(|error| error.to_string())?;
                    return Ok(decision(answer.get("status").unwrap_or(&Value::Null)));
                }
                Ok((code, answer)) => {
                    let why = format!("{code}: {}", String::from_utf8_lossy(answer.get(..512).unwrap_or(&answer)));
                    if code != 429 && code < 500 {
                        return Err(why);
                    }
                    why
                }
                Err(why) => return Err(why),
            };
            let Some(wait) = waits.next() else { return Err(why) };
            tokio::time::sleep(*wait).await;
        }
    }
}

fn decision(status: &Value) -> Decision {
    let reason = value::text(status, "reason").to_owned();
    if value::flag(status, "denied") {
        Decision::Deny(reason)
    } else if value::flag(status, "allowed") {
        Decision::Allow(reason)
    } else {
        Decision::NoOpinion(reason)
    }
}

/// Whoever asks with long texts must not fill what is kept.
fn is_kept(attributes: &Attributes) -> bool {
    let about = attributes.resource.as_ref();
    let of_resource = about.map_or(0, |about| {
        [&about.namespace, &about.group, &about.version, &about.resource, &about.subresource, &about.name]
            .iter()
            .map(|text| text.len())
            .sum()
    });
    of_resource + attributes.verb.len() + attributes.path.len() < LONGEST_KEPT
}

#[async_trait]
impl Authorizer for Webhook {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        if !self.conditions.0.is_empty() {
            match self.conditions.hold(&spec(attributes, true)) {
                Ok(true) => {}
                Ok(false) => return Decision::NoOpinion(String::new()),
                Err(why) => {
                    tracing::warn!(
                        webhook = self.name,
                        why,
                        "the match conditions of an authorizer cannot be worked out"
                    );
                    return self.on_error.clone();
                }
            }
        }
        let spec = spec(attributes, false);
        let key = Sha256::digest(spec.to_string().as_bytes()).into();
        let now = i64::try_from(self.clock.unix_seconds()).unwrap_or(i64::MAX);
        if let Some(known) = self.known.get(&key, now) {
            return known;
        }
        match self.ask(&spec).await {
            Ok(decision) => {
                let ttl = if decision.is_allowed() { self.ttls.0 } else { self.ttls.1 };
                if ttl > 0 && is_kept(attributes) {
                    self.known.put(key, decision.clone(), now, now.saturating_add(ttl));
                }
                decision
            }
            Err(why) => {
                tracing::warn!(webhook = self.name, why, "an authorizer gives no answer");
                self.on_error.clone()
            }
        }
    }

    fn rules_for(&self, _: &User, _: &str) -> UserRules {
        let errors = vec!["webhook authorizer does not support user rule resolution".to_owned()];
        UserRules { incomplete: true, errors, ..UserRules::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::ResourceAttributes;

    fn attributes() -> Attributes {
        Attributes {
            user: User::new("jane", &["dev"]),
            verb: "list".to_owned(),
            resource: Some(ResourceAttributes {
                version: "v1".to_owned(),
                resource: "pods".to_owned(),
                namespace: "shop".to_owned(),
                fields: vec![Requirement {
                    key: "spec.nodeName".into(),
                    operator: "In".into(),
                    values: vec!["n".into()],
                }],
                ..ResourceAttributes::default()
            }),
            path: String::new(),
        }
    }

    #[test]
    fn reviews_say_what_is_asked() {
        assert_eq!(
            spec(&attributes(), false),
            json!({"user": "jane", "groups": ["dev"], "resourceAttributes": {"namespace": "shop", "verb": "list",
                "version": "v1", "resource": "pods", "fieldSelector": {"requirements":
                [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]}}})
        );
        let path = Attributes { resource: None, path: "/x".into(), ..attributes() };
        assert_eq!(spec(&path, false)["nonResourceAttributes"], json!({"path": "/x", "verb": "list"}));
    }

    #[test]
    fn conditions_narrow() {
        let check = |sources: &[&str], want: Result<bool, ()>| {
            let held = Conditions::compile(sources).unwrap().hold(&spec(&attributes(), true));
            assert_eq!(held.map_err(drop), want, "{sources:?}");
        };
        check(&[], Ok(true));
        check(&["request.user == 'jane'", "'dev' in request.groups"], Ok(true));
        check(&["request.user == 'jane'", "request.uid != ''"], Ok(false));
        check(&["has(request.resourceAttributes) && request.resourceAttributes.namespace == 'shop'"], Ok(true));
        check(&["has(request.nonResourceAttributes)"], Ok(false));
        check(&["request.resourceAttributes.fieldSelector.requirements[0].values[0] == 'n'"], Ok(true));
        check(&["request.extra['x'][0] == 'y'"], Err(()));
        check(&["request.extra['x'][0] == 'y'", "false"], Ok(false));
    }

    #[test]
    fn decisions() {
        for (status, want) in [
            (json!({"allowed": true, "reason": "r"}), Decision::Allow("r".into())),
            (json!({"allowed": false, "denied": true}), Decision::Deny(String::new())),
            (json!({"allowed": true, "denied": true}), Decision::Deny(String::new())),
            (json!({"allowed": false}), Decision::NoOpinion(String::new())),
            (json!({}), Decision::NoOpinion(String::new())),
        ] {
            assert_eq!(decision(&status), want, "{status}");
        }
    }
}
