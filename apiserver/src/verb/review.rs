//! Reviews: questions about tokens and rights, answered and forgotten.
//!
//! One line per review in `TABLE`. Source: upstream's `authentication.k8s.io` and `authorization.k8s.io` groups.

use super::{Call, shown};
use crate::answer::{Answer, Failure};
use crate::authn::{Remark, Remarks, User};
use crate::authz::{Attributes, Decision, Requirement, ResourceAttributes};
use crate::registry::{admitted, write};
use crate::server::Server;
use api::json::{Value, json};
use api::selector::{FieldSelector, LabelSelector};
use api::status::Status;
use api::value;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use std::collections::BTreeMap;

type Review = for<'a> fn(&'a Server, &'a Call, &'a Value) -> LocalBoxFuture<'a, Result<Value, Failure>>;

/// What is answered beside the `status`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// What was asked.
    Asked,
    /// Nothing.
    Nothing,
    /// The time.
    Time,
}

/// Every review, by kind; each gives the `status`.
const TABLE: &[(&str, Rest, Review)] = &[
    ("TokenReview", Rest::Asked, |server, call, review| token(server, call, review).boxed_local()),
    ("SelfSubjectReview", Rest::Time, |_, call, _| who_am_i(call).boxed_local()),
    ("SubjectAccessReview", Rest::Asked, |server, _, review| subject(server, review).boxed_local()),
    ("LocalSubjectAccessReview", Rest::Asked, |server, _, review| subject(server, review).boxed_local()),
    ("SelfSubjectAccessReview", Rest::Asked, |server, call, review| myself(server, call, review).boxed_local()),
    ("SelfSubjectRulesReview", Rest::Nothing, |server, call, review| rules(server, call, review).boxed_local()),
];

/// Answers a review.
///
/// # Errors
/// Those of decoding, and 422 for a review that asks nothing.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let kind = call.target.kind;
    let mut review = call.own_object().await?;
    place(&call, &mut review)?;
    let options = call.write_options()?;
    let mut review = write::reviewed(server, &call.authorized.permit, kind, &options, review).await;
    let errors = kind.hooks.validate(&review);
    if !errors.is_empty() {
        // Upstream has forgotten by now what the object called itself.
        return Err(Status::invalid(kind.group, "", "", &errors).into());
    }
    admitted::body(server, &call.authorized.permit, &call.target, &options, kind.gvk(), &mut review).await?;
    let (_, rest, handler) = TABLE.iter().find(|(name, ..)| *name == kind.kind).ok_or_else(Status::no_such_path)?;
    let status = handler(server, &call, &review).await?;
    if *rest != Rest::Asked {
        review = json!({"apiVersion": kind.api_version(), "kind": kind.kind});
    }
    if *rest == Rest::Time {
        value::set(&mut review, "metadata.creationTimestamp", server.now_text());
    }
    value::set(&mut review, "status", status);
    shown::value(call.medium, &review, kind.schema(), 201)
}

/// What every new object loses and gets before anybody judges it.
fn place(call: &Call, review: &mut Value) -> Result<(), Failure> {
    for field in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        value::remove(review, &format!("metadata.{field}"));
    }
    call.target.place(review)
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
    if value::text(review, "spec.token").is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication").into());
    }
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
        Ok(None) => json!({"user": {}, "error": "invalid bearer token"}),
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
        // Of a field one value is asked for, as in a query.
        let known = |part: &&Value| {
            let values = value::items(part, "values").len();
            matches!(
                (value::text(part, "operator"), values, field),
                ("In" | "NotIn", 1, "fieldSelector")
                    | ("In" | "NotIn", 1.., "labelSelector")
                    | ("Exists" | "DoesNotExist", 0, "labelSelector")
            )
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

async fn decide(server: &Server, review: &Value, user: User) -> Value {
    let attributes = question(review, user);
    let (allowed, denied, reason) = match server.authz.authorize(&attributes).await {
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
    let ignored = ignored(review, attributes.resource.as_ref());
    if !ignored.is_empty() {
        value::set(&mut out, "evaluationError", ignored.join("; "));
    }
    out
}

/// What of a review's selectors was not understood, and so narrows nothing.
fn ignored(review: &Value, resource: Option<&ResourceAttributes>) -> Vec<String> {
    let Some(resource) = resource else { return Vec::new() };
    let fields: fn(&str) -> bool = |text| FieldSelector::parse(text).is_ok();
    let labels: fn(&str) -> bool = |text| LabelSelector::parse(text).is_ok();
    let both = [("fieldSelector", resource.fields.len(), fields), ("labelSelector", resource.labels.len(), labels)];
    both.into_iter()
        .filter_map(|(name, kept, parses)| {
            let at = format!("spec.resourceAttributes.{name}");
            let asked = value::items(review, &format!("{at}.requirements")).len();
            let whole =
                if asked > 0 { kept == asked } else { parses(value::text(review, &format!("{at}.rawSelector"))) };
            let how = if kept > 0 { "partially ignored" } else { "ignored" };
            (!whole).then(|| format!("{at} {how} due to parse error"))
        })
        .collect()
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
    Ok(decide(server, review, user).await)
}

async fn myself(server: &Server, call: &Call, review: &Value) -> Result<Value, Failure> {
    let user = call.authorized.permit.user().clone();
    Ok(decide(server, review, user).await)
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
