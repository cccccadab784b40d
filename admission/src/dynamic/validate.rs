//! The validating webhooks of a write, all at once.
//!
//! Never changes an object.

use super::hook::Hook;
use super::is_exempt;
use super::matching::Sight;
use super::mutate::{Wrong, ask};
use crate::plugin::{Lookup, Refusal, Request};
use api::json::Value;
use api::status::Status;

/// Asks every validating webhook that the request is about.
///
/// # Errors
/// The refusal of the first that refuses, in the order of the configurations.
pub async fn run(request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
    let Some(dynamic) = lookup.dynamic().filter(|_| !is_exempt(request.kind)) else { return Ok(()) };
    let hooks = dynamic.validating.get(lookup).await;
    let mut asked: Vec<(&Hook, Sight)> = Vec::new();
    for hook in hooks.iter() {
        let Some(seen) = hook.selection.seen(request, object, lookup).await? else { continue };
        let sight = Sight::of(request, seen, object, lookup).await.map_err(|why| Refusal(Status::internal(why)))?;
        if hook.is_asked(request, &sight, lookup)? {
            asked.push((hook, sight));
        }
    }
    let calls = asked.iter().map(|(hook, sight)| ask(dynamic, hook, request, sight, false));
    let outcomes = futures::future::join_all(calls).await;
    for (index, (outcome, (hook, _))) in outcomes.into_iter().zip(&asked).enumerate() {
        match outcome {
            Ok(_) => {}
            Err(Wrong::Call(why)) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, why, "a webhook failed, and the request goes on");
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                request.notes.annotate(key, hook.name.clone());
            }
            Err(wrong) => return Err(wrong.refusal(hook)),
        }
    }
    Ok(())
}
