//! `pods/eviction`: a deletion that disruption budgets may forbid.
//!
//! Never counts healthy pods: a budget's status says how many disruptions are allowed, and each eviction takes one of them.
//! Source: KEP-85, KEP-3017, KEP-3329.

use super::{Call, delete, shown};
use crate::answer::{Answer, Failure};
use crate::registry::write::{self, Change, DeleteOptions, Options};
use crate::registry::{Target, admitted, read, unreadable};
use crate::road::authorized::Permit;
use crate::server::Server;
use api::field_path::{Errors, FieldError, Path};
use api::json::{Value, json};
use api::kinds::policy_v1::pod_disruption_budget;
use api::kinds::shared::conditions;
use api::selector::LabelSelector;
use api::status::{ResourceName, Status};
use api::{meta, value};

/// Evictions that a budget's controller has not yet taken note of, at most.
const UNCONFIRMED: usize = 2000;
const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Answers an eviction.
///
/// # Errors
/// 429 when a budget forbids it, 500 when the pod has several; those of decoding and of the deletion.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let mut eviction = call.part_object().await?;
    let gvk = call.part.map(|part| part.gvk).ok_or_else(Status::no_such_path)?;
    if meta::name(&eviction) != call.target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object").into());
    }
    let mut options = delete::parse(value::get(&eviction, "deleteOptions").unwrap_or(&Value::Null));
    if options.ignore_read_error {
        let field = Path::new("deleteOptions").child(unreadable::OPTION);
        let why = "can not be set for pod eviction, try after removing the option";
        let errors = Errors::from([FieldError::invalid(&field, true, why)]);
        return Err(Status::invalid("policy", "Eviction", &call.target.name, &errors).into());
    }
    let errors = delete::validate(value::get(&eviction, "deleteOptions").unwrap_or(&Value::Null));
    if !errors.is_empty() {
        return Err(delete::refuse(&errors));
    }
    let mut write = call.write_options()?;
    let asked: Vec<&str> = call.received().query.all("dryRun").collect();
    options.dry_run = tried(&asked, value::items(&eviction, "deleteOptions.dryRun"))?;
    write.dry_run = options.dry_run;
    let permit = &call.authorized.permit;
    admitted::body(server, permit, &call.target, &write, gvk, &mut eviction).await?;
    // Who was asked about the eviction is not asked about the deletion.
    options.unseen = true;
    let pod = read::get(server, permit, &call.target).await?.value();
    if !disrupts(&pod) {
        remove(server, permit, &call.target, &write, &options).await?;
    } else {
        let all = budgets(server, &call.target, &pod)?;
        let mut given = options.clone();
        match all.as_slice() {
            [] => {}
            [budget] if spares(budget, &pod) => {
                // The pod must still be what was judged.
                given.version = Some(meta::resource_version(&pod).to_owned());
                let removed = remove(server, permit, &call.target, &write, &given).await;
                return match removed {
                    Err(Failure::Status(status)) if status.code == 409 && options.version.is_none() => {
                        Err(unsettled(meta::name(budget)).into())
                    }
                    removed => removed.and_then(|()| done(&call)),
                };
            }
            [budget] => take(server, permit, budget, &call.target.name, options.dry_run).await?,
            _ => {
                let message =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::foreign(500, "", message.to_owned()).into());
            }
        }
        remove(server, permit, &call.target, &write, &given).await?;
    }
    done(&call)
}

/// The answer to an eviction that happened.
fn done(call: &Call) -> Result<Answer, Failure> {
    shown::value(call.medium, &Status::created().to_value(), shown::meta_schema("Status")?, 201)
}

/// Whether an eviction is only tried, by what its query and its body say.
fn tried(asked: &[&str], given: &[Value]) -> Result<bool, Status> {
    let given: Vec<&str> = given.iter().filter_map(Value::as_str).collect();
    if !asked.is_empty() && !given.is_empty() && asked != given {
        let [asked, given] = [asked, &given].map(|words| words.join(" "));
        let why = format!("Non-matching dry-run options in request and content: [{asked}] and [{given}]");
        return Err(Status::foreign(500, "", why));
    }
    Ok(!asked.is_empty() || !given.is_empty())
}

/// Whether the end of the pod would be felt: one that waits, is over or goes already serves nobody.
fn disrupts(pod: &Value) -> bool {
    !matches!(value::text(pod, "status.phase"), "Succeeded" | "Failed" | "Pending") && !meta::is_deleting(pod)
}

/// The budgets whose selector takes the pod.
fn budgets(server: &Server, pod: &Target, object: &Value) -> Result<Vec<Value>, Failure> {
    let target = Target { kind: &pod_disruption_budget::KIND, namespace: pod.namespace.clone(), name: String::new() };
    let snapshot = read::cache(server, &target)?.snapshot();
    let here = snapshot.objects.iter().filter(|(key, _)| *key.namespace == *pod.namespace);
    let mut found = Vec::new();
    for (_, entry) in here {
        let budget = entry.value();
        let Some(selector) = value::get(&budget, "spec.selector") else { continue };
        if LabelSelector::from_value(selector).is_ok_and(|selector| selector.matches_object(object)) {
            found.push(budget);
        }
    }
    Ok(found)
}

/// Whether the budget lets the pod go without counting it: one that is not ready does not keep the budget.
fn spares(budget: &Value, pod: &Value) -> bool {
    let number = |path: &str| value::int(budget, path).unwrap_or_default();
    let (healthy, desired) = (number("status.currentHealthy"), number("status.desiredHealthy"));
    let always = value::text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
    !conditions::is(pod, "Ready", "True") && (always || (desired > 0 && healthy >= desired))
}

/// Takes one of the allowed disruptions.
async fn take(server: &Server, permit: &Permit, budget: &Value, pod: &str, dry_run: bool) -> Result<(), Failure> {
    let name = meta::name(budget).to_owned();
    let target = Target {
        kind: &pod_disruption_budget::KIND,
        namespace: meta::namespace(budget).to_owned(),
        name: name.clone(),
    };
    let options = Options {
        dry_run,
        manager: write::OWN_NAME.to_owned(),
        subresource: "status".to_owned(),
        unseen: true,
        ..Options::default()
    };
    let now = server.now_text();
    write::update(server, permit, &target, &options, |held| {
        let held = held.ok_or_else(|| Status::not_found(target.resource(), &name))?;
        Ok(Change { object: taken(held, pod, &now)?, applied: false, rebased: true })
    })
    .await
    .map(drop)
}

/// 429 with its cause; 0 seconds are not told.
fn refused(seconds: u32, why: &str) -> Status {
    let mut status = Status::too_many_requests(REFUSAL, seconds);
    let causes = json!([{"reason": "DisruptionBudget", "message": why}]);
    if let Some(details) = status.details.as_object_mut() {
        if seconds == 0 {
            details.clear();
        }
        details.insert("causes".to_owned(), causes);
    }
    status
}

/// What was known of the budget or of its pod is no longer so.
fn unsettled(budget: &str) -> Status {
    refused(10, &format!("The disruption budget {budget} is still being processed by the server."))
}

/// The budget with one disruption less, that of this pod.
fn taken(budget: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let name = meta::name(budget);
    let number = |path: &str| value::int(budget, path).unwrap_or_default();
    if number("status.observedGeneration") < number("metadata.generation") {
        return Err(unsettled(name));
    }
    let resource = ResourceName { group: "policy", plural: "poddisruptionbudget" };
    let allowed = number("status.disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(resource, name, "pdb disruptions allowed is negative"));
    }
    let unconfirmed =
        value::get(budget, "status.disruptedPods").and_then(Value::as_object).map_or(0, api::json::Map::len);
    if unconfirmed > UNCONFIRMED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(resource, name, why));
    }
    if allowed == 0 {
        let (healthy, desired) = (number("status.currentHealthy"), number("status.desiredHealthy"));
        let refusing = value::items(budget, "status.conditions").iter().find(|one| {
            let text = |field| value::text(one, field);
            text("type") == "DisruptionAllowed" && text("status") == "False" && !text("message").is_empty()
        });
        let said = refusing.map(|one| (value::text(one, "reason"), value::text(one, "message")));
        let no = format!("The disruption budget {name} does not allow evicting pods currently");
        let why = match said {
            // Of a budget that could not be counted the numbers mean nothing.
            Some(("SyncFailed", message)) => format!("{no} because it failed sync: {message}"),
            _ if healthy <= desired => {
                format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
            }
            Some((reason, message)) => format!("{no} ({reason}): {message}"),
            None => no,
        };
        return Err(refused(0, &why));
    }
    let mut left = budget.clone();
    value::set(&mut left, "status.disruptionsAllowed", allowed - 1);
    if let Some(status) = left.get_mut("status").and_then(Value::as_object_mut) {
        let pods = status.entry("disruptedPods").or_insert_with(|| json!({}));
        if let Some(pods) = pods.as_object_mut() {
            pods.insert(pod.to_owned(), now.into());
        }
        let held = status.get_mut("conditions").and_then(Value::as_array_mut);
        for one in held.into_iter().flatten().filter(|_| allowed == 1) {
            if value::text(one, "type") == "DisruptionAllowed" && value::text(one, "status") == "True" {
                for (field, text) in [("status", "False"), ("reason", "InsufficientPods"), ("lastTransitionTime", now)]
                {
                    value::set(one, field, text);
                }
            }
        }
    }
    Ok(left)
}

/// Says on the pod why it ends, and ends it.
async fn remove(
    server: &Server,
    permit: &Permit,
    target: &Target,
    write: &Options,
    options: &DeleteOptions,
) -> Result<(), Failure> {
    let mut options = options.clone();
    if !options.dry_run {
        let now = server.now_text();
        let by = Options {
            subresource: "status".to_owned(),
            manager: write.manager.clone(),
            unseen: true,
            ..Options::default()
        };
        let (uid, version) = (options.uid.clone(), options.version.clone());
        let written = write::update(server, permit, target, &by, |held| {
            let pod = held.ok_or_else(|| Status::not_found(target.resource(), &target.name))?;
            write::expected(target, uid.as_deref(), version.as_deref(), pod)?;
            Ok(Change { object: marked(pod, &now), applied: false, rebased: true })
        })
        .await?;
        if options.version.is_some() {
            options.version = Some(meta::resource_version(&written.entry.value()).to_owned());
        }
    }
    write::delete(server, permit, target, &options).await.map(drop)
}

/// The pod with the condition that tells an eviction from its own failure.
fn marked(pod: &Value, now: &str) -> Value {
    let mut pod = pod.clone();
    let mut all = value::items(&pod, "status.conditions").to_vec();
    let since = all
        .iter()
        .find(|one| value::text(one, "type") == "DisruptionTarget" && value::text(one, "status") == "True")
        .map_or(now, |one| value::text(one, "lastTransitionTime"))
        .to_owned();
    all.retain(|one| value::text(one, "type") != "DisruptionTarget");
    all.push(json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": since}));
    value::set(&mut pod, "status.conditions", all);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: impl Into<Value>) -> Value {
        let status: Value = status.into();
        json!({"metadata": {"name": "b", "generation": 2}, "spec": {}, "status": status})
    }

    #[test]
    fn one_disruption_is_taken_and_noted() {
        let status = json!({"observedGeneration": 2, "disruptionsAllowed": 1, "conditions": [
            {"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}]});
        let left = taken(&budget(status), "p", "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(
            left["status"],
            json!({"observedGeneration": 2, "disruptionsAllowed": 0, "disruptedPods": {"p": "2026-01-01T00:00:00Z"},
                "conditions": [{"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        );
    }

    #[test]
    fn refusals_say_why() {
        for (status, code, why) in [
            (
                json!({"observedGeneration": 1, "disruptionsAllowed": 1}),
                429,
                "The disruption budget b is still being processed by the server.",
            ),
            (
                json!({"observedGeneration": 2, "currentHealthy": 2, "desiredHealthy": 3}),
                429,
                "The disruption budget b needs 3 healthy pods and has 2 currently",
            ),
            (json!({"observedGeneration": 2, "disruptionsAllowed": -1}), 403, ""),
            (
                json!({"observedGeneration": 2, "currentHealthy": 2, "desiredHealthy": 3, "conditions": [
                    {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "why"}]}),
                429,
                "The disruption budget b does not allow evicting pods currently because it failed sync: why",
            ),
            (
                json!({"observedGeneration": 2, "currentHealthy": 4, "desiredHealthy": 3, "conditions": [
                    {"type": "DisruptionAllowed", "status": "False", "reason": "Other", "message": "why"}]}),
                429,
                "The disruption budget b does not allow evicting pods currently (Other): why",
            ),
        ] {
            let refused = taken(&budget(status), "p", "").unwrap_err();
            let said = refused.details.pointer("/causes/0/message").and_then(Value::as_str).unwrap_or_default();
            assert_eq!((refused.code, said), (code, why));
        }
    }

    #[test]
    fn what_is_only_tried_is_said_alike() {
        let given = json!(["All", "All"]);
        let given = given.as_array().map(Vec::as_slice).unwrap();
        assert_eq!((tried(&[], &[]), tried(&["All"], &[]), tried(&[], given)), (Ok(false), Ok(true), Ok(true)));
        let refused = tried(&["All"], given).unwrap_err();
        let why = "Non-matching dry-run options in request and content: [All] and [All All]";
        assert_eq!((refused.code, &*refused.reason, &*refused.message), (500, "", why));
    }

    #[test]
    fn pods_that_serve_nobody_are_not_held_back() {
        for (pod, held) in [
            (json!({"status": {"phase": "Running"}}), true),
            (json!({"status": {"phase": "Pending"}}), false),
            (json!({"status": {"phase": "Failed"}}), false),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}), false),
        ] {
            assert_eq!(disrupts(&pod), held, "{pod}");
        }
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let kept = budget(json!({"currentHealthy": 2, "desiredHealthy": 2}));
        assert!(spares(&kept, &json!({})) && !spares(&kept, &ready));
        assert!(!spares(&budget(json!({"currentHealthy": 1, "desiredHealthy": 2})), &json!({})));
        let always = json!({"metadata": {"name": "b"}, "spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
        assert!(spares(&always, &json!({})) && !spares(&always, &ready));
    }
}
