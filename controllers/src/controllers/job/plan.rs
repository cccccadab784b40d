//! What to do about a Job, from what was seen. Pure.
//!
//! A pod that ended is counted once: its uid goes into `status.uncountedTerminatedPods`, then its finalizer goes, then the
//! uid becomes a number (KEP-2307). A job ends in two steps as well: a condition says that its end is decided, and when
//! all its pods are gone a second one says that it is over (KEP-3998, KEP-4368).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobSpec, JobStatus, PodFailurePolicyRule, UncountedTerminatedPods},
    core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};

use super::{
    indexes::Indexes,
    policy::{self, Verdict},
};
use crate::{events::Note, object, pod, replicas};

/// Held by each pod of a job until it is counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// The wait after the first failure; it doubles with each that follows.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Pods created or deleted, and pods counted, in one reconcile at most.
const BURST: usize = 500;

/// Failures since the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) count: u32,
    pub(super) last: Option<Timestamp>,
}

/// What was seen.
#[derive(Clone, Copy)]
pub(super) struct Observed<'a> {
    pub(super) job: &'a Job,
    /// The pods that the job controls.
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) failures: Failures,
    pub(super) now: Timestamp,
}

/// What to do, in this order: delete and create, write the status, take the finalizer off.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) create: Vec<Pod>,
    pub(super) status: JobStatus,
    pub(super) strip: Vec<Arc<Pod>>,
    /// Once the status is written.
    pub(super) failures: Failures,
    pub(super) notes: Vec<Note>,
    pub(super) wake: Option<Duration>,
}

/// How a job is about to end.
#[derive(Clone, Debug)]
struct End {
    success: bool,
    reason: String,
    message: String,
}

impl End {
    fn failure(reason: &str, message: &str) -> Self {
        Self { success: false, reason: reason.to_owned(), message: message.to_owned() }
    }
}

pub(super) fn condition<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|one| one.type_ == type_ && one.status == "True")
}

/// Whether the job is over.
pub(super) fn is_finished(status: &JobStatus) -> bool {
    condition(status, "Complete").is_some() || condition(status, "Failed").is_some()
}

/// Whether the pod is not counted yet.
pub(super) fn is_tracked(one: &Pod) -> bool {
    one.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

fn number(one: &Pod, annotation: &str) -> Option<u32> {
    object::annotation(&one.metadata, annotation)?.parse().ok().filter(|number| *number <= i32::MAX.unsigned_abs())
}

/// A job's spec with its defaults, and what follows from it.
struct Spec<'a> {
    spec: &'a JobSpec,
    /// Of an indexed job.
    indexed: Option<u32>,
    rules: Option<&'a [PodFailurePolicyRule]>,
    /// A pod that is on its way out is not replaced before it is gone.
    waits_for_the_end: bool,
}

impl<'a> Spec<'a> {
    fn of(spec: &'a JobSpec) -> Self {
        let completions = spec.completions.and_then(|count| u32::try_from(count).ok());
        let rules = spec.pod_failure_policy.as_ref().map(|policy| policy.rules.as_slice());
        Self {
            spec,
            indexed: completions.filter(|_| spec.completion_mode.as_deref() == Some("Indexed")),
            rules,
            waits_for_the_end: rules.is_some() || spec.pod_replacement_policy.as_deref() == Some("Failed"),
        }
    }

    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn failed(&self, one: &Pod) -> bool {
        pod::phase(one) == "Failed"
            || (!self.waits_for_the_end && pod::is_terminating(one) && pod::phase(one) != "Succeeded")
    }

    fn verdict(&self, one: &Pod) -> Verdict {
        policy::verdict(self.rules, one)
    }

    /// The index of the pod, if it has one that the job knows.
    fn index(&self, one: &Pod) -> Option<u32> {
        number(one, INDEX).filter(|index| self.indexed.is_some_and(|completions| *index < completions))
    }

    /// Whether the pod's end tells of the job's progress: in an indexed job only with an index.
    fn counts(&self, one: &Pod) -> bool {
        self.indexed.is_none() || self.index(one).is_some()
    }
}

/// When a pod ended, as well as can be told.
fn ended(one: &Pod) -> Timestamp {
    let status = one.status.as_ref();
    let statuses = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let times: Option<Vec<_>> =
        statuses.iter().map(|held| Some(held.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).collect();
    let by_containers = times.and_then(|times| times.into_iter().max());
    let by_condition = || {
        let ready = pod::condition(one, "Ready").filter(|ready| ready.status == "False")?;
        Some(ready.last_transition_time.as_ref()?.0)
    };
    let by_deletion = || Some(one.metadata.deletion_timestamp.as_ref()?.0);
    by_containers.or_else(by_condition).or_else(by_deletion).unwrap_or_else(|| object::created(&one.metadata))
}

/// How long the next pod waits after so many failures, the last of them at `last`.
fn wait(count: u32, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let (Some(doublings), Some(last)) = (count.checked_sub(1), last) else { return Duration::ZERO };
    let whole = FIRST_WAIT.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST_WAIT);
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    whole.saturating_sub(passed)
}

/// The failures once these pods are counted too.
fn tally(before: Failures, succeeded: &[&Arc<Pod>], failed: &[&Arc<Pod>]) -> Failures {
    let success = succeeded.iter().map(|one| ended(one)).max();
    let later = failed.iter().map(|one| ended(one)).filter(|at| success.is_none_or(|success| *at > success));
    let (count, last) = later.fold((0, None), |(count, last), at| (count + 1, last.max(Some(at))));
    if success.is_some() {
        return Failures { count, last };
    }
    Failures { count: before.count.saturating_add(count), last: last.or(before.last) }
}

fn small(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn shown(number: i32) -> Option<i32> {
    Some(number).filter(|number| *number != 0)
}

/// Where the counting stands.
struct Count {
    succeeded: i32,
    failed: i32,
    completed: Indexes,
    failed_indexes: Indexes,
    /// Failed pods that stay until another pod of their index has taken over their count of failures.
    kept: BTreeMap<u32, Arc<Pod>>,
}

pub(super) fn plan(seen: &Observed<'_>) -> Plan {
    let Some(spec) = seen.job.spec.as_ref().map(Spec::of) else { return Plan::default() };
    let held = seen.job.status.clone().unwrap_or_default();
    let mut plan = Plan { status: held.clone(), failures: seen.failures, ..Plan::default() };
    let status = &mut plan.status;
    let tracked: Vec<&Arc<Pod>> = seen.pods.iter().filter(|one| is_tracked(one)).collect();

    // Whoever lost the finalizer is counted now.
    let unfinished: BTreeSet<&str> = tracked.iter().map(|one| object::uid(&one.metadata)).collect();
    let mut waiting = status.uncounted_terminated_pods.take().unwrap_or_default();
    let settle = |uids: &mut Option<Vec<String>>| {
        let all = uids.take().unwrap_or_default();
        let before = all.len();
        let left: Vec<_> = all.into_iter().filter(|uid| unfinished.contains(uid.as_str())).collect();
        let settled = small(before - left.len());
        *uids = Some(left).filter(|left| !left.is_empty());
        settled
    };
    let mut counted = (
        status.succeeded.unwrap_or(0) + settle(&mut waiting.succeeded),
        status.failed.unwrap_or(0) + settle(&mut waiting.failed),
    );
    let listed = |uids: &Option<Vec<String>>, one: &Pod| {
        uids.iter().flatten().any(|uid| uid.as_str() == object::uid(&one.metadata))
    };

    let valid: Vec<_> = tracked.iter().copied().filter(|one| spec.counts(one)).collect();
    let news = |ended: &dyn Fn(&Pod) -> bool, uids: &Option<Vec<String>>| -> Vec<&Arc<Pod>> {
        valid.iter().copied().filter(|one| ended(one) && !listed(uids, one)).collect()
    };
    let new_succeeded = news(&|one| pod::phase(one) == "Succeeded", &waiting.succeeded);
    let new_failed = news(&|one| spec.failed(one), &waiting.failed);
    plan.failures = tally(seen.failures, &new_succeeded, &new_failed);
    let failing = new_failed.iter().filter(|one| spec.verdict(one) != Verdict::Ignore).count();
    let mut count = Count {
        succeeded: counted.0 + small(waiting.succeeded.iter().flatten().count() + new_succeeded.len()),
        failed: counted.1 + small(waiting.failed.iter().flatten().count() + failing),
        completed: Indexes::default(),
        failed_indexes: Indexes::default(),
        kept: BTreeMap::new(),
    };
    let active: Vec<Arc<Pod>> = seen.pods.iter().filter(|one| pod::is_active(one)).cloned().collect();
    let mut terminating =
        small(seen.pods.iter().filter(|one| pod::is_terminating(one) && !pod::is_terminal(one)).count());
    if status.start_time.is_none() && !spec.suspended() {
        status.start_time = Some(object::time(seen.now));
    }

    let mut end = decided(status).or_else(|| failure(&spec, seen, &count, status, &mut plan.wake));
    if let Some(completions) = spec.indexed {
        by_index(&spec, completions, status, &valid, &active, &mut count);
        if end.is_none() {
            end = end_by_index(&spec, completions, &count);
        }
    }

    // Pods come and go.
    let mut running = small(active.len());
    if end.is_some() {
        plan.delete = active.clone();
    } else if seen.job.metadata.deletion_timestamp.is_none() {
        manage(&spec, seen, &count, active.clone(), terminating, &mut plan);
    }
    running += small(plan.create.len()) - small(plan.delete.len());
    terminating += small(plan.delete.len());
    let status = &mut plan.status;
    if end.is_none() && seen.job.metadata.deletion_timestamp.is_none() {
        let complete = match spec.spec.completions {
            None => count.succeeded > 0,
            Some(completions) => count.succeeded >= completions,
        };
        if complete && running == 0 {
            let message = "Reached expected number of succeeded pods".to_owned();
            end = Some(End { success: true, reason: "CompletionsReached".to_owned(), message });
        } else {
            suspend(&spec, seen.now, status, &mut plan.notes);
        }
    }
    let ready = active
        .iter()
        .filter(|one| pod::is_ready(one) && !plan.delete.iter().any(|other| other.metadata.uid == one.metadata.uid));
    status.active = shown(running);
    status.ready = Some(small(ready.count()));
    status.terminating = Some(terminating);

    // What ended is noted, and may go.
    let mut fresh = BTreeSet::new();
    for one in &tracked {
        if plan.strip.len() >= BURST {
            break;
        }
        let failed = spec.failed(one);
        let kept = spec.index(one).and_then(|index| count.kept.get(&index));
        let kept = kept.is_some_and(|kept| kept.metadata.uid == one.metadata.uid);
        let succeeded = pod::phase(one) == "Succeeded";
        if !(seen.job.metadata.deletion_timestamp.is_some() || end.is_some() || succeeded || (failed && !kept)) {
            continue;
        }
        plan.strip.push(Arc::clone(one));
        let lost = failed || end.as_ref().is_some_and(|end| !end.success);
        if succeeded && !listed(&waiting.failed, one) {
            match (spec.indexed, spec.index(one)) {
                (None, _) if !listed(&waiting.succeeded, one) => {
                    waiting.succeeded.get_or_insert_default().push(object::uid(&one.metadata).to_owned());
                }
                (Some(_), Some(index)) => {
                    fresh.insert(index);
                }
                _ => {}
            }
        } else if lost && spec.counts(one) && !listed(&waiting.failed, one) && spec.verdict(one) != Verdict::Ignore {
            waiting.failed.get_or_insert_default().push(object::uid(&one.metadata).to_owned());
        }
    }
    if let Some(completions) = spec.indexed {
        let before = Indexes::parse(held.completed_indexes.as_deref().unwrap_or_default(), completions);
        let completed = before.with(fresh);
        counted.0 = i32::try_from(completed.total()).unwrap_or(i32::MAX);
        status.completed_indexes = Some(completed.to_string()).filter(|text| !text.is_empty());
        if spec.spec.backoff_limit_per_index.is_some() {
            status.failed_indexes = Some(count.failed_indexes.to_string());
        }
    }
    (status.succeeded, status.failed) = (shown(counted.0), shown(counted.1));
    let all_counted = waiting == UncountedTerminatedPods::default() && plan.strip.is_empty() && terminating == 0;
    status.uncounted_terminated_pods = Some(waiting);
    if let Some(end) = end {
        finish(&end, all_counted, seen.now, status, &mut plan.notes);
    }
    plan
}

/// The end that was decided in an earlier reconcile.
fn decided(status: &JobStatus) -> Option<End> {
    let of = |type_: &str, success| {
        let held = condition(status, type_)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(End { success, reason: text(&held.reason), message: text(&held.message) })
    };
    of("SuccessCriteriaMet", true).or_else(|| of("FailureTarget", false))
}

/// Whether the job failed: by a rule about a pod, by the number of failures, or by time.
fn failure(
    spec: &Spec<'_>,
    seen: &Observed<'_>,
    count: &Count,
    status: &JobStatus,
    wake: &mut Option<Duration>,
) -> Option<End> {
    let broken = seen.pods.iter().filter(|one| spec.failed(one)).find_map(|one| match spec.verdict(one) {
        Verdict::FailJob(why) => Some(why),
        _ => None,
    });
    if let Some(why) = broken {
        return Some(End::failure("PodFailurePolicy", &why));
    }
    let limit = spec.spec.backoff_limit.unwrap_or(6);
    let again = spec.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure");
    let restarts: i32 = seen
        .pods
        .iter()
        .filter(|one| matches!(pod::phase(one), "Running" | "Pending"))
        .filter_map(|one| one.status.as_ref())
        .flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses).flatten())
        .map(|held| held.restart_count)
        .sum();
    if count.failed > limit || (again && restarts > 0 && restarts >= limit) {
        return Some(End::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    let (seconds, started) = (spec.spec.active_deadline_seconds?, status.start_time.as_ref()?.0);
    if spec.suspended() {
        return None;
    }
    let left = seconds - object::seconds_between(started, seen.now);
    if left <= 0 {
        return Some(End::failure("DeadlineExceeded", "Job was active longer than specified deadline"));
    }
    *wake = u64::try_from(left).ok().map(Duration::from_secs);
    None
}

/// Which indexes succeeded and failed, and which failed pods have to stay.
fn by_index(
    spec: &Spec<'_>,
    completions: u32,
    status: &JobStatus,
    tracked: &[&Arc<Pod>],
    active: &[Arc<Pod>],
    count: &mut Count,
) {
    let before = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
    let succeeded = tracked.iter().filter(|one| pod::phase(one) == "Succeeded");
    count.completed = before(&status.completed_indexes).with(succeeded.filter_map(|one| spec.index(one)));
    count.succeeded = i32::try_from(count.completed.total()).unwrap_or(i32::MAX);
    let Some(limit) = spec.spec.backoff_limit_per_index else { return };
    let failed = || tracked.iter().filter(|one| spec.failed(one));
    let lost = failed().filter(|one| match spec.verdict(one) {
        Verdict::FailIndex => true,
        Verdict::Ignore => false,
        Verdict::Count | Verdict::FailJob(_) => number(one, INDEX_FAILURES).unwrap_or(0) >= limit.unsigned_abs(),
    });
    count.failed_indexes = before(&status.failed_indexes).with(lost.filter_map(|one| spec.index(one)));
    let runs: BTreeSet<u32> = active.iter().filter_map(|one| spec.index(one)).collect();
    for one in failed() {
        let Some(index) = spec.index(one) else { continue };
        if count.completed.has(index) || count.failed_indexes.has(index) || runs.contains(&index) {
            continue;
        }
        let rank = |one: &Pod| (index_failures(one), ended(one));
        if count.kept.get(&index).is_none_or(|held| rank(held) <= rank(one)) {
            count.kept.insert(index, Arc::clone(one));
        }
    }
}

/// Failures of the pod's index before it, ignored ones included.
fn index_failures(one: &Pod) -> u32 {
    number(one, INDEX_FAILURES).unwrap_or(0).saturating_add(number(one, INDEX_IGNORED).unwrap_or(0))
}

fn end_by_index(spec: &Spec<'_>, completions: u32, count: &Count) -> Option<End> {
    let failed = count.failed_indexes.total();
    let most = spec.spec.max_failed_indexes.and_then(|most| u32::try_from(most).ok());
    if most.is_some_and(|most| failed > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(End::failure("MaxFailedIndexesExceeded", message));
    }
    if failed > 0 && failed + count.completed.total() >= completions {
        return Some(End::failure("FailedIndexes", "Job has failed indexes"));
    }
    let message = policy::enough(spec.spec.success_policy.as_ref()?, &count.completed, completions)?;
    Some(End { success: true, reason: "SuccessPolicy".to_owned(), message })
}

/// Deletes what is too much, else creates what is missing.
fn manage(
    spec: &Spec<'_>,
    seen: &Observed<'_>,
    count: &Count,
    mut active: Vec<Arc<Pod>>,
    terminating: i32,
    plan: &mut Plan,
) {
    let running = small(active.len());
    let parallelism = spec.spec.parallelism.unwrap_or(1);
    let wanted = match spec.spec.completions {
        _ if spec.suspended() => 0,
        None if count.succeeded > 0 => running,
        None => parallelism,
        Some(completions) => (completions - count.succeeded).clamp(0, parallelism.max(0)),
    };
    active.sort_by(|a, b| replicas::by_usefulness(a, b, &Default::default(), seen.now));
    if spec.indexed.is_some() {
        // Of several pods of one index the most useful stays, and nobody needs one without an index.
        let mut seats = BTreeSet::new();
        let (stay, surplus): (Vec<_>, Vec<_>) =
            active.into_iter().rev().partition(|one| spec.index(one).is_some_and(|index| seats.insert(index)));
        plan.delete = surplus;
        active = stay.into_iter().rev().collect();
    }
    let surplus = usize::try_from(running - wanted).unwrap_or(0).saturating_sub(plan.delete.len());
    plan.delete.extend(active.iter().take(surplus).cloned());
    if !plan.delete.is_empty() || spec.suspended() {
        plan.delete.truncate(BURST);
        return;
    }
    let blocked = if spec.waits_for_the_end { terminating } else { 0 };
    let missing = usize::try_from(wanted - blocked - running).unwrap_or(0).min(BURST);
    if missing == 0 {
        return;
    }
    let mut put_off = |delay: Duration| plan.wake = Some(plan.wake.map_or(delay, |held| held.min(delay)));
    if spec.spec.backoff_limit_per_index.is_none() {
        let delay = wait(plan.failures.count, plan.failures.last, seen.now);
        if !delay.is_zero() {
            return put_off(delay);
        }
    }
    let Some(completions) = spec.indexed else {
        plan.create = vec![pod_for(seen.job, spec.spec, None, None); missing];
        return;
    };
    let taken = seen.pods.iter().filter(|one| {
        pod::is_active(one) || (spec.waits_for_the_end && pod::is_terminating(one) && !pod::is_terminal(one))
    });
    let taken = count.completed.union(&count.failed_indexes).with(taken.filter_map(|one| spec.index(one)));
    for index in taken.missing(missing, completions) {
        let before = count.kept.get(&index);
        if let Some(before) = before {
            let delay = wait(index_failures(before).saturating_add(1), Some(ended(before)), seen.now);
            if !delay.is_zero() {
                put_off(delay);
                continue;
            }
        }
        let failures = spec.spec.backoff_limit_per_index.map(|_| {
            before.map_or((0, 0), |before| {
                let ignored = u32::from(spec.verdict(before) == Verdict::Ignore);
                let of = |annotation| number(before, annotation).unwrap_or(0);
                (of(INDEX_FAILURES) + 1 - ignored, of(INDEX_IGNORED) + ignored)
            })
        });
        plan.create.push(pod_for(seen.job, spec.spec, Some(index), failures));
    }
}

/// The pod of a job; `failures` are those of its index, counted and ignored.
fn pod_for(job: &Job, spec: &JobSpec, index: Option<u32>, failures: Option<(u32, u32)>) -> Pod {
    let name = object::name(&job.metadata);
    let tail = index.map(|index| format!("-{index}")).unwrap_or_default();
    let prefix: String = name.chars().take(57_usize.saturating_sub(tail.len())).collect::<String>() + &tail;
    let namespace = object::namespace(&job.metadata);
    let mut one = pod::from_template(&spec.template, namespace, &prefix, object::controller_reference(job));
    let finalizers = one.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|held| held == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let Some(index) = index else { return one };
    let mut note = |name: &str, number: u32| object::put(&mut one.metadata.annotations, name, &number.to_string());
    note(INDEX, index);
    if let Some((counted, ignored)) = failures {
        note(INDEX_FAILURES, counted);
        if ignored > 0 {
            note(INDEX_IGNORED, ignored);
        }
    }
    object::put(&mut one.metadata.labels, INDEX, &index.to_string());
    if let Some(spec) = &mut one.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        spec.init_containers.iter_mut().flatten().for_each(name_the_index);
        spec.containers.iter_mut().for_each(name_the_index);
    }
    one
}

fn name_the_index(container: &mut Container) {
    let all = container.env.get_or_insert_default();
    if all.iter().any(|one| one.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    all.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    });
}

/// Sets a condition; whether it changed. One that does not hold is not written where there was none.
fn set(status: &mut JobStatus, type_: &str, holds: bool, reason: &str, message: &str, now: Timestamp) -> bool {
    let wanted = JobCondition {
        type_: type_.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(object::time(now)),
        last_transition_time: Some(object::time(now)),
    };
    let all = status.conditions.get_or_insert_default();
    match all.iter_mut().find(|held| held.type_ == type_) {
        Some(held)
            if held.status == wanted.status && held.reason == wanted.reason && held.message == wanted.message =>
        {
            return false;
        }
        Some(held) => *held = wanted,
        None if holds => all.push(wanted),
        None => {
            status.conditions = status.conditions.take().filter(|all| !all.is_empty());
            return false;
        }
    }
    true
}

fn suspend(spec: &Spec<'_>, now: Timestamp, status: &mut JobStatus, notes: &mut Vec<Note>) {
    if spec.suspended() {
        if set(status, "Suspended", true, "JobSuspended", "Job suspended", now) {
            notes.push(Note::normal("Suspended", "Job suspended".to_owned()));
            status.start_time = None;
        }
    } else if set(status, "Suspended", false, "JobResumed", "Job resumed", now) {
        notes.push(Note::normal("Resumed", "Job resumed".to_owned()));
        status.start_time = Some(object::time(now));
    }
}

/// Says that the end is decided and, once every pod is counted and gone, that the job is over.
fn finish(end: &End, all_counted: bool, now: Timestamp, status: &mut JobStatus, notes: &mut Vec<Note>) {
    let (first, second) = if end.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
    if condition(status, first).is_none() {
        set(status, first, true, &end.reason, &end.message, now);
        return;
    }
    if !all_counted {
        return;
    }
    set(status, second, true, &end.reason, &end.message, now);
    notes.push(if end.success {
        status.completion_time = Some(object::time(now));
        Note::normal("Completed", "Job completed".to_owned())
    } else {
        Note::warning(reason(&end.reason), end.message.clone())
    });
}

/// The reason as an event carries it.
fn reason(text: &str) -> &'static str {
    let known =
        ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"];
    known.into_iter().find(|known| *known == text).unwrap_or("JobFailed")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
