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
    let mut eviction = call.part_object().await?.value;
    let gvk = call.part.map(|part| part.gvk).ok_or_else(Status::no_such_path)?;
    let name = meta::name(&eviction);
    if !name.is_empty() && name != call.target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object").into());
    }
    let mut options = delete::parse(value::get(&eviction, "deleteOptions").unwrap_or(&Value::Null))?;
    if options.ignore_read_error {
        let field = Path::new("deleteOptions").child(unreadable::OPTION);
        let why = "can not be set for pod eviction, try after removing the option";
        let errors = Errors::from([FieldError::invalid(&field, true, why)]);
        return Err(Status::invalid("policy", "Eviction", &call.target.name, &errors).into());
    }
    let mut write = call.write_options()?;
    options.dry_run |= write.dry_run;
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
                given.version = options.version.clone().or_else(|| Some(meta::resource_version(&pod).to_owned()));
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
    let done = Status::created();
    shown::value(call.medium, &done.to_value(), shown::meta_schema("Status")?, 201)
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
        manager: "ironkeel-apiserver".to_owned(),
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

/// The budget with one disruption less, that of this pod.
fn taken(budget: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let name = meta::name(budget);
    let number = |path: &str| value::int(budget, path).unwrap_or_default();
    let refused = |seconds: u32, why: String| {
        let mut status = Status::too_many_requests(REFUSAL, seconds);
        let causes = json!([{"reason": "DisruptionBudget", "message": why}]);
        if let Some(details) = status.details.as_object_mut() {
            if seconds == 0 {
                details.clear();
            }
            details.insert("causes".to_owned(), causes);
        }
        status
    };
    if number("status.observedGeneration") < number("metadata.generation") {
        return Err(refused(10, format!("The disruption budget {name} is still being processed by the server.")));
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
        return Err(refused(
            0,
            if healthy <= desired {
                format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
            } else {
                format!("The disruption budget {name} does not allow evicting pods currently")
            },
        ));
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
            let conflict = |what: &str, wanted: &str, found: &str| {
                let why =
                    format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
                Failure::from(Status::conflict(target.resource(), &target.name, &why))
            };
            if let Some(uid) = uid.as_deref().filter(|uid| *uid != meta::uid(pod)) {
                return Err(conflict("UID", uid, meta::uid(pod)));
            }
            let found = meta::resource_version(pod);
            if let Some(version) = version.as_deref().filter(|version| *version != found) {
                return Err(conflict("ResourceVersion", version, found));
            }
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
        ] {
            let refused = taken(&budget(status), "p", "").unwrap_err();
            let said = refused.details.pointer("/causes/0/message").and_then(Value::as_str).unwrap_or_default();
            assert_eq!((refused.code, said), (code, why));
        }
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
