//! The status and conditions of a Deployment: counts, availability, progress and its deadline. Pure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus};

use super::plan::{Draft, Plan, Write, available, bounds, current, replicas};
use crate::object;

/// The reason of a Progressing condition whose deadline passed.
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// The reason of one whose rollout ended well.
const DONE: &str = "NewReplicaSetAvailable";

pub(super) fn has_deadline(spec: &DeploymentSpec) -> bool {
    spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

pub(super) fn condition<'a>(deployment: &'a Deployment, type_: &str) -> Option<&'a DeploymentCondition> {
    find(deployment.status.as_ref()?, type_)
}

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|one| one.type_ == type_)
}

/// Sets a condition of a Deployment; one with the same status and reason stays as it is.
pub(super) fn set(deployment: &mut Deployment, type_: &str, status: &str, reason: &str, text: &str, now: Timestamp) {
    put(deployment.status.get_or_insert_default(), type_, status, reason, text, now);
}

fn put(held: &mut DeploymentStatus, type_: &str, status: &str, reason: &str, text: &str, now: Timestamp) {
    let old = find(held, type_).cloned();
    if old.as_ref().is_some_and(|old| old.status == status && old.reason.as_deref() == Some(reason)) {
        return;
    }
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time);
    let conditions = held.conditions.get_or_insert_default();
    conditions.retain(|one| one.type_ != type_);
    conditions.push(DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(text.to_owned()),
        last_update_time: Some(object::time(now)),
        last_transition_time: since.or_else(|| Some(object::time(now))),
    });
}

fn remove(held: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut held.conditions {
        conditions.retain(|one| one.type_ != type_);
    }
}

/// Notes a pause, and its end, in the Progressing condition, so that the deadline does not run meanwhile.
pub(super) fn note_pause(draft: &mut Draft<'_>) {
    if !has_deadline(&draft.spec) {
        return;
    }
    let reason = condition(&draft.deployment, "Progressing").and_then(|one| one.reason.clone()).unwrap_or_default();
    let paused = draft.spec.paused == Some(true);
    if reason == TIMED_OUT {
        return;
    }
    if paused && reason != "DeploymentPaused" {
        let text = "Deployment is paused";
        set(&mut draft.deployment, "Progressing", "Unknown", "DeploymentPaused", text, draft.seen.now);
    } else if !paused && reason == "DeploymentPaused" {
        let text = "Deployment is resumed";
        set(&mut draft.deployment, "Progressing", "Unknown", "DeploymentResumed", text, draft.seen.now);
    }
}

fn shown(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

/// The counts, and the Available condition that follows from them.
fn count(draft: &Draft<'_>) -> DeploymentStatus {
    let all = || draft.old.iter().chain(&draft.new);
    let held = draft.deployment.status.clone().unwrap_or_default();
    let ready = |set: &k8s_openapi::api::apps::v1::ReplicaSet| {
        set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
    };
    let serving: i32 = all().map(available).sum();
    let terminating: Option<i32> =
        all().map(|set| set.status.as_ref().map_or(Some(0), |status| status.terminating_replicas)).sum();
    let mut status = DeploymentStatus {
        observed_generation: draft.deployment.metadata.generation,
        replicas: shown(all().map(current).sum()),
        updated_replicas: shown(draft.new.as_ref().map_or(0, current)),
        ready_replicas: shown(all().map(ready).sum()),
        available_replicas: shown(serving),
        unavailable_replicas: shown((all().map(replicas).sum::<i32>() - serving).max(0)),
        terminating_replicas: terminating,
        collision_count: held.collision_count,
        conditions: held.conditions,
    };
    let (_, max_unavailable) = bounds(&draft.spec);
    let now = draft.seen.now;
    if serving >= draft.spec.replicas.unwrap_or(1) - max_unavailable {
        let text = "Deployment has minimum availability.";
        put(&mut status, "Available", "True", "MinimumReplicasAvailable", text, now);
    } else {
        let text = "Deployment does not have minimum availability.";
        put(&mut status, "Available", "False", "MinimumReplicasUnavailable", text, now);
    }
    status
}

fn complete(draft: &Draft<'_>, status: &DeploymentStatus) -> bool {
    let wanted = draft.spec.replicas.unwrap_or(1);
    [status.updated_replicas, status.replicas, status.available_replicas].iter().all(|n| n.unwrap_or(0) == wanted)
        && status.observed_generation >= draft.deployment.metadata.generation
}

/// Whether the rollout has ended: all pods are of the new set and available.
pub(super) fn is_complete(draft: &Draft<'_>) -> bool {
    complete(draft, &count(draft))
}

fn progresses(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let number = |count: Option<i32>| count.unwrap_or(0);
    let stale = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || stale(new) < stale(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

/// Seconds until the deadline passes (0 when it has); `None` when none runs.
fn deadline(draft: &Draft<'_>, condition: Option<&DeploymentCondition>) -> Option<i64> {
    let condition = condition.filter(|one| !matches!(one.reason.as_deref(), Some(DONE | TIMED_OUT)))?;
    let since = condition.last_update_time.as_ref().or(condition.last_transition_time.as_ref())?;
    let limit = i64::from(draft.spec.progress_deadline_seconds.filter(|_| has_deadline(&draft.spec))?);
    Some((limit - object::seconds_between(since.0, draft.seen.now)).max(0))
}

/// The Progressing condition of a rollout.
fn judge(draft: &Draft<'_>, status: &mut DeploymentStatus) {
    let before = draft.deployment.status.clone().unwrap_or_default();
    let held = find(&before, "Progressing").cloned();
    if !has_deadline(&draft.spec) {
        remove(status, "Progressing");
        return;
    }
    let reason = held.as_ref().and_then(|one| one.reason.as_deref()).unwrap_or_default();
    if status.replicas == status.updated_replicas && reason == DONE {
        return;
    }
    let subject = draft.new.as_ref().map_or_else(
        || format!("Deployment {:?}", object::name(&draft.deployment.metadata)),
        |set| format!("ReplicaSet {:?}", object::name(&set.metadata)),
    );
    let now = draft.seen.now;
    if complete(draft, status) {
        put(status, "Progressing", "True", DONE, &format!("{subject} has successfully progressed."), now);
    } else if progresses(&before, status) {
        // Written even when the reason stays, so that the deadline starts anew.
        let since = held.filter(|one| one.status == "True").and_then(|one| one.last_transition_time);
        remove(status, "Progressing");
        put(status, "Progressing", "True", "ReplicaSetUpdated", &format!("{subject} is progressing."), now);
        let fresh = status.conditions.iter_mut().flatten().find(|one| one.type_ == "Progressing");
        if let (Some(fresh), Some(since)) = (fresh, since) {
            fresh.last_transition_time = Some(since);
        }
    } else if reason == TIMED_OUT || deadline(draft, held.as_ref()) == Some(0) {
        put(status, "Progressing", "False", TIMED_OUT, &format!("{subject} has timed out progressing."), now);
    }
}

/// Carries a failure of the ReplicaSets up, the new one's first.
fn carry_failure(draft: &Draft<'_>, status: &mut DeploymentStatus) {
    let failure = draft.new.iter().chain(&draft.old).find_map(|set| {
        set.status.as_ref()?.conditions.iter().flatten().find(|one| one.type_ == "ReplicaFailure").cloned()
    });
    match failure {
        Some(one) => {
            let (reason, text) = (one.reason.unwrap_or_default(), one.message.unwrap_or_default());
            put(status, "ReplicaFailure", &one.status, &reason, &text, draft.seen.now);
        }
        None => remove(status, "ReplicaFailure"),
    }
}

/// Ends a plan with the status write, if there is anything to write. `rollout` is false where only sizes changed.
pub(super) fn finish(mut draft: Draft<'_>, rollout: bool) -> Plan {
    let mut status = count(&draft);
    if rollout {
        judge(&draft, &mut status);
        carry_failure(&draft, &mut status);
    }
    let seen = draft.seen.deployment;
    let held = normal(seen.status.clone().unwrap_or_default());
    let next = normal(status);
    let running = deadline(&draft, find(&next, "Progressing")).filter(|_| draft.spec.paused != Some(true));
    let wake = running.and_then(|seconds| u64::try_from(seconds).ok()).map(|seconds| seconds + 1);
    let changed = held != next || seen.metadata.annotations != draft.deployment.metadata.annotations;
    if changed {
        draft.deployment.status = Some(next);
        let mut written = draft.deployment;
        written.spec = seen.spec.clone();
        draft.writes.push(Write::Status(Box::new(written)));
    }
    Plan { writes: draft.writes, wake }
}

fn normal(mut status: DeploymentStatus) -> DeploymentStatus {
    for count in [
        &mut status.replicas,
        &mut status.updated_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
        &mut status.unavailable_replicas,
    ] {
        *count = count.filter(|count| *count != 0);
    }
    status.conditions = status.conditions.filter(|all| !all.is_empty());
    status
}
