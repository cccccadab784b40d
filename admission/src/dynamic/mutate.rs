//! The mutating webhooks of a write, one after the other, each seeing what those before it left.
//!
//! Never decides whether the result is valid: the write goes on as any other.

use super::hook::Hook;
use super::matching::{self, Seen, Sight};
use super::{is_exempt, review};
use crate::dynamic::{Asked, Dynamic};
use crate::plugin::{Lookup, Refusal, Request};
use api::codec::{self, Strictness};
use api::json::{Value, json};
use api::schema::{SchemaRef, defaults, native};
use api::status::Status;
use std::time::Instant;

/// Asks every mutating webhook that the request is about.
///
/// # Errors
/// The first refusal, and the first call that fails where that refuses.
pub async fn run(request: &Request<'_>, object: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
    let Some(dynamic) = lookup.dynamic().filter(|_| !is_exempt(request.kind)) else { return Ok(()) };
    let hooks = dynamic.mutating.get(lookup).await;
    if hooks.is_empty() {
        return Ok(());
    }
    let second = request.rounds(|rounds| {
        let second = rounds.is_second();
        rounds.webhooks.begin(second, object);
        second
    });
    let outcome = all(dynamic, &hooks, second, request, object, lookup).await;
    request.rounds(|rounds| rounds.webhooks.end(object));
    outcome
}

async fn all(
    dynamic: &Dynamic,
    hooks: &[Hook],
    second: bool,
    request: &Request<'_>,
    object: &mut Value,
    lookup: &dyn Lookup,
) -> Result<(), Refusal> {
    for (index, hook) in hooks.iter().enumerate() {
        let Some(seen) = hook.selection.seen(request, object, lookup).await? else { continue };
        let sight = Sight::of(request, seen, object, lookup).await.map_err(|why| Refusal(Status::internal(why)))?;
        if !hook.is_asked(request, &sight, lookup)? {
            continue;
        }
        if second && !request.rounds(|rounds| rounds.webhooks.calls_again(&hook.id)) {
            continue;
        }
        let place = format!("round_{}_index_{index}", u8::from(second));
        let outcome = one(dynamic, hook, request, &sight, &place, lookup).await;
        let changed = match &outcome {
            Ok(Some(new)) => new != object,
            _ => false,
        };
        let said = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        request.notes.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), said.to_string());
        request.rounds(|rounds| {
            if changed {
                rounds.webhooks.changed();
                rounds.want_second();
            }
            if hook.again {
                rounds.webhooks.called(&hook.id);
            }
        });
        match outcome {
            Ok(Some(new)) => *object = new,
            Ok(None) => {}
            Err(Wrong::Call(why)) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, why, "a webhook failed, and the request goes on");
                let key = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                request.notes.annotate(key, hook.name.clone());
            }
            Err(wrong) => return Err(wrong.refusal(hook)),
        }
    }
    Ok(())
}

/// Why a webhook did not let a request pass.
#[derive(Debug)]
pub enum Wrong {
    /// It could not be asked, or did not answer as it should; what that means is the configuration's choice.
    Call(String),
    /// It said no, or what it said cannot be done.
    No(Status),
}

impl Wrong {
    /// For the client.
    #[must_use]
    pub fn refusal(self, hook: &Hook) -> Refusal {
        match self {
            Wrong::No(status) => Refusal(status),
            Wrong::Call(why) => {
                Refusal(Status::internal(format_args!("failed calling webhook {:?}: {why}", hook.name)))
            }
        }
    }
}

/// Asks one webhook.
///
/// # Errors
/// Its refusal, and what went wrong with the call.
pub async fn ask(
    dynamic: &Dynamic,
    hook: &Hook,
    request: &Request<'_>,
    sight: &Sight,
    mutating: bool,
) -> Result<Vec<u8>, Wrong> {
    let start = Instant::now();
    let outcome = exchange(dynamic, hook, request, sight, mutating).await;
    dynamic.caller.observe(&Asked {
        name: &hook.name,
        operation: request.operation.name(),
        step: if mutating { "admit" } else { "validating" },
        rejected: match &outcome {
            Ok(_) => false,
            Err(Wrong::Call(_)) => !hook.fails_open,
            Err(Wrong::No(_)) => true,
        },
        took: start.elapsed(),
    });
    outcome
}

async fn exchange(
    dynamic: &Dynamic,
    hook: &Hook,
    request: &Request<'_>,
    sight: &Sight,
    mutating: bool,
) -> Result<Vec<u8>, Wrong> {
    if request.dry_run && !hook.dry_run {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Wrong::No(Status::bad_request(why)));
    }
    let version = hook.version.ok_or_else(|| {
        Wrong::Call(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
                .to_owned(),
        )
    })?;
    let uid = uuid::Uuid::new_v4().to_string();
    let question = review::question(hook, version, &uid, request, sight).to_string().into_bytes();
    let body = dynamic.caller.call(&hook.client, question, hook.timeout).await;
    let body = body.map_err(|why| Wrong::Call(format!("failed to call webhook: {why}")))?;
    let answer = review::answer(&body, version, &uid, mutating).map_err(Wrong::Call)?;
    for (key, text) in answer.annotations {
        request.notes.annotate(format!("{}/{key}", hook.name), text);
    }
    for warning in answer.warnings {
        request.notes.warn(warning);
    }
    if answer.allowed { Ok(answer.patch) } else { Err(Wrong::No(review::refusal(&hook.name, &answer.status))) }
}

/// Asks one webhook; the object as it wants it, in the request's version, when it wants it otherwise.
async fn one(
    dynamic: &Dynamic,
    hook: &Hook,
    request: &Request<'_>,
    sight: &Sight,
    place: &str,
    lookup: &dyn Lookup,
) -> Result<Option<Value>, Wrong> {
    let patch = ask(dynamic, hook, request, sight, true).await?;
    let operations: Option<Vec<Value>> = api::json::from_slice(&patch).ok();
    if patch.is_empty() || operations.as_ref().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let Some(operations) = operations else {
        return Err(Wrong::Call("received undecodable patch in webhook response: it is no list".to_owned()));
    };
    if !request.is_open() {
        let why = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(Wrong::No(Status::internal(why)));
    }
    let patched = api::patch::json::apply(&sight.object, &patch).map_err(|error| Wrong::No(Status::internal(error)))?;
    let new = decoded(sight.seen, &patched).map_err(Wrong::No)?;
    let said = json!({"configuration": hook.configuration, "webhook": hook.name, "patch": operations, "patchType": "JSONPatch"});
    request.notes.annotate(format!("patch.webhook.admission.k8s.io/{place}"), said.to_string());
    let taken = matching::taken(request, sight.seen, new, lookup).await;
    taken.map(Some).map_err(|why| Wrong::No(Status::internal(why)))
}

/// The schema of what is seen.
#[must_use]
pub fn schema(seen: Seen) -> Option<SchemaRef<'static>> {
    let gvk = seen.gvk;
    if gvk == seen.resource.gvk() {
        return Some(seen.resource.schema());
    }
    native().of_gvk(gvk.group, gvk.version, gvk.kind)
}

/// What somebody has made of an object, read as a body is: unknown fields go, defaults come.
///
/// # Errors
/// 500 when it no longer is an object of its kind.
pub fn decoded(seen: Seen, object: &Value) -> Result<Value, Status> {
    let schema = schema(seen).ok_or_else(|| Status::internal(format_args!("no schema for {}", seen.gvk.kind)))?;
    let bytes = api::json::to_vec(object).map_err(Status::internal)?;
    let mut new = codec::json::decode(&bytes, schema, Strictness::Ignore).map_err(Status::internal)?.value;
    defaults::apply(&mut new, schema);
    if seen.gvk == seen.resource.gvk() {
        seen.resource.hooks.default(&mut new);
    }
    Ok(new)
}
