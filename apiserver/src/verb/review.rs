//! Reviews: questions about tokens and rights, answered and forgotten.
//!
//! One line per review in `TABLE`. Source: upstream's `authentication.k8s.io` and `authorization.k8s.io` groups.

use super::{Call, shown};
use crate::answer::{Answer, Failure};
use crate::authn::{Remark, Remarks, User};
use crate::authz::{Attributes, Decision, Requirement, ResourceAttributes};
use crate::registry::admitted;
use crate::server::Server;
use api::json::{Value, json};
use api::status::Status;
use api::value;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use std::collections::BTreeMap;

type Review = for<'a> fn(&'a Server, &'a Call, &'a Value) -> LocalBoxFuture<'a, Result<Value, Failure>>;

/// Every review, by kind; each gives the `status`.
const TABLE: &[(&str, Review)] = &[
    ("TokenReview", |server, call, review| token(server, call, review).boxed_local()),
    ("SelfSubjectReview", |_, call, _| who_am_i(call).boxed_local()),
    ("SubjectAccessReview", |server, _, review| subject(server, review).boxed_local()),
    ("LocalSubjectAccessReview", |server, call, review| local(server, call, review).boxed_local()),
    ("SelfSubjectAccessReview", |server, call, review| myself(server, call, review).boxed_local()),
    ("SelfSubjectRulesReview", |server, call, review| rules(server, call, review).boxed_local()),
];

/// Answers a review.
///
/// # Errors
/// Those of decoding, and 422 for a review that asks nothing.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let kind = call.target.kind;
    let decoded = call.own_object().await?;
    let mut review = decoded.value;
    let errors = kind.hooks.validate(&review);
    if !errors.is_empty() {
        return Err(Status::invalid(kind.group, kind.kind, "", &errors).into());
    }
    let options = call.write_options()?;
    admitted::body(server, &call.authorized.permit, &call.target, &options, kind.gvk(), &mut review).await?;
    let (_, handler) = TABLE.iter().find(|(name, _)| *name == kind.kind).ok_or_else(Status::no_such_path)?;
    let status = handler(server, &call, &review).await?;
    value::set(&mut review, "status", status);
    Ok(shown::value(call.medium, &review, kind.schema(), 201)?.warn(decoded.warnings))
}

fn strings(object: &Value, path: &str) -> Vec<String> {
    value::items(object, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn user_value(user: &User) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        value::set(&mut out, "uid", user.uid.clone());
    }
    if !user.extra.is_empty() {
        value::set(&mut out, "extra", json!(user.extra));
    }
    out
}

/// What is worth saying of a token is said to who asks.
async fn token(server: &Server, call: &Call, review: &Value) -> Result<Value, Failure> {
    let (audiences, remarks) = (strings(review, "spec.audiences"), Remarks::default());
    let authn = server.authn.load_full();
    let outcome = authn.token(value::text(review, "spec.token"), &audiences, server.now(), &remarks).await;
    for remark in remarks.take() {
        match (remark, &call.authorized.received.slip) {
            (Remark::Audit(key, value), Some(slip)) => slip.note(key, &value),
            (Remark::Audit(..), None) => {}
            (Remark::Warning(text), _) => call.authorized.permit.notes().warn(text),
        }
    }
    Ok(match outcome {
        Ok(Some(accepted)) => {
            json!({"authenticated": true, "user": user_value(&accepted.user), "audiences": accepted.audiences})
        }
        Ok(None) => json!({"user": {}}),
        Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
    })
}

async fn who_am_i(call: &Call) -> Result<Value, Failure> {
    Ok(json!({"userInfo": user_value(call.authorized.permit.user())}))
}

/// With the selectors that a review names, each written whole or taken apart. Parts of an unknown kind narrow nothing.
fn narrowed(review: &Value, resource: ResourceAttributes) -> ResourceAttributes {
    let raw = |field: &str| {
        let text = value::text(review, &format!("spec.resourceAttributes.{field}.rawSelector"));
        Some(text).filter(|text| !text.is_empty())
    };
    let parts = |field: &str| -> Vec<Requirement> {
        let known = |part: &&Value| {
            let values = value::items(part, "values").is_empty();
            match value::text(part, "operator") {
                "In" | "NotIn" => !values,
                "Exists" | "DoesNotExist" => values,
                _ => false,
            }
        };
        let parts = value::items(review, &format!("spec.resourceAttributes.{field}.requirements")).iter().filter(known);
        let part = |part: &Value| Requirement {
            key: value::text(part, "key").to_owned(),
            operator: value::text(part, "operator").to_owned(),
            values: strings(part, "values"),
        };
        parts.map(part).collect()
    };
    let mut resource = resource.narrowed(raw("fieldSelector"), raw("labelSelector"));
    resource.fields.extend(parts("fieldSelector"));
    resource.labels.extend(parts("labelSelector"));
    resource
}

/// What a review's `spec` asks.
fn question(review: &Value, user: User) -> Attributes {
    let text = |path: &str| value::text(review, path).to_owned();
    if value::get(review, "spec.resourceAttributes").is_some() {
        let at = |field: &str| text(&format!("spec.resourceAttributes.{field}"));
        return Attributes {
            user,
            verb: at("verb"),
            resource: Some(narrowed(
                review,
                ResourceAttributes {
                    group: at("group"),
                    version: at("version"),
                    resource: at("resource"),
                    subresource: at("subresource"),
                    namespace: at("namespace"),
                    name: at("name"),
                    ..ResourceAttributes::default()
                },
            )),
            path: String::new(),
        };
    }
    Attributes {
        user,
        verb: text("spec.nonResourceAttributes.verb"),
        resource: None,
        path: text("spec.nonResourceAttributes.path"),
    }
}

async fn decide(server: &Server, attributes: &Attributes) -> Value {
    let (allowed, denied, reason) = match server.authz.authorize(attributes).await {
        Decision::Allow(reason) => (true, false, reason),
        Decision::Deny(reason) => (false, true, reason),
        Decision::NoOpinion(reason) => (false, false, reason),
    };
    let mut out = json!({"allowed": allowed});
    if denied {
        value::set(&mut out, "denied", true);
    }
    if !reason.is_empty() {
        value::set(&mut out, "reason", reason);
    }
    out
}

async fn subject(server: &Server, review: &Value) -> Result<Value, Failure> {
    let extra: BTreeMap<String, Vec<String>> = value::get(review, "spec.extra")
        .and_then(|extra| api::json::from_value(extra.clone()).ok())
        .unwrap_or_default();
    let user = User {
        name: value::text(review, "spec.user").to_owned(),
        uid: value::text(review, "spec.uid").to_owned(),
        groups: strings(review, "spec.groups"),
        extra,
    };
    Ok(decide(server, &question(review, user)).await)
}

async fn local(server: &Server, call: &Call, review: &Value) -> Result<Value, Failure> {
    let asked = value::text(review, "spec.resourceAttributes.namespace");
    if asked != call.target.namespace {
        return Err(Status::bad_request("spec.resourceAttributes.namespace must match metadata.namespace").into());
    }
    subject(server, review).await
}

async fn myself(server: &Server, call: &Call, review: &Value) -> Result<Value, Failure> {
    let user = call.authorized.permit.user().clone();
    Ok(decide(server, &question(review, user)).await)
}

async fn rules(server: &Server, call: &Call, review: &Value) -> Result<Value, Failure> {
    let namespace = value::text(review, "spec.namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request").into());
    }
    let found = server.authz.rules_for(call.authorized.permit.user(), namespace);
    let (mut resource, mut path) = (Vec::new(), Vec::new());
    for rule in found.rules {
        let rule = api::json::to_value(rule).map_err(Status::internal)?;
        if rule.get("nonResourceURLs").is_some() { path.push(rule) } else { resource.push(rule) }
    }
    let mut out = json!({"resourceRules": resource, "nonResourceRules": path, "incomplete": found.incomplete});
    if !found.errors.is_empty() {
        value::set(&mut out, "evaluationError", found.errors.join(", "));
    }
    Ok(out)
}
