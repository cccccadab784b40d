//! Makes a Job whenever a CronJob is due, follows the ones that run, and clears away the oldest that are over.
//! A Job's name is made of the time it stands for, so that none is made twice.

use std::{sync::Arc, time::Duration};

use api::cron;
use futures::{FutureExt, future::BoxFuture};
use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, api::PostParams};

use crate::{
    controller::{self, Context, Controller, EVENTS, Error, Next, Rule, is_already_exists, is_not_found, message},
    events::Note,
    informer::{Key, Watched},
    object,
    queue::Queue,
};

impl Watched for CronJob {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    aliases: &["cronjob"],
    service_account: "cronjob-controller",
    reporter: "cronjob-controller",
    watches: &["batch/v1.CronJob", "batch/v1.Job"],
    rules: &[
        Rule::new(&["batch"], &["cronjobs"], &["get", "list", "update", "watch"]),
        Rule::new(&["batch"], &["jobs"], &["create", "delete", "get", "list", "patch", "update", "watch"]),
        Rule::new(&["batch"], &["cronjobs/status"], &["update"]),
        Rule::new(&["batch"], &["cronjobs/finalizers"], &["update"]),
        Rule::new(&[""], &["pods"], &["delete", "list", "watch"]),
        EVENTS,
    ],
    start,
};

/// On each Job: the time it stands for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are worth a warning.
const MANY: i64 = 100;

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let crons = context.informers.of::<CronJob>();
        let jobs = context.informers.of::<Job>();
        let queue: Arc<Queue<Key>> = Arc::default();
        crons.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        jobs.subscribe({
            let queue = queue.clone();
            move |change| {
                let job = change.object();
                if let Some(owner) = object::controller_of(&job.metadata)
                    && owner.kind == CronJob::kind(&())
                {
                    queue.add(Key::new(object::namespace(&job.metadata), &owner.name));
                }
            }
        });
        if crons.synced(&context.stop).await && jobs.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Due {
    /// The last time that the schedule named, if nothing was made for it.
    at: Option<Timestamp>,
    /// So many times were missed that something is wrong.
    many: bool,
    /// When to look again.
    next: Option<Timestamp>,
}

/// The last time after `since` and up to `now`, and the first after `now`.
fn due(schedule: &cron::Schedule, zone: &TimeZone, since: Timestamp, now: Timestamp) -> Due {
    let next = schedule.next(now, zone);
    let Some(first) = schedule.next(since, zone).filter(|first| *first <= now) else {
        return Due { at: None, many: false, next };
    };
    let interval = schedule.next(first, zone).map_or(i64::MAX, |second| object::seconds_between(first, second).max(1));
    let missed = object::seconds_between(first, now) / interval + 1;
    // Schedules with gaps: what the first interval promises is where the search begins, not where it ends.
    let skip = jiff::SignedDuration::from_secs((missed - 2).max(0).saturating_mul(interval));
    let mut at = first;
    let mut from = first.checked_add(skip).unwrap_or(first);
    if missed > 1 {
        while let Some(later) = schedule.next(from, zone).filter(|later| *later <= now) {
            (at, from) = (later, later);
        }
    }
    Due { at: Some(at), many: missed > MANY, next }
}

/// What to do about a CronJob, from what was seen.
#[derive(Debug, Default)]
struct Plan {
    cron: CronJob,
    notes: Vec<Note>,
    /// Running jobs that make room, and those beyond the history's limits.
    delete: Vec<Arc<Job>>,
    /// The time for which a job is made.
    create: Option<Timestamp>,
    next: Option<Timestamp>,
}

fn finished(job: &Job) -> Option<&str> {
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    let over = conditions.find(|one| one.status == "True" && matches!(one.type_.as_str(), "Complete" | "Failed"))?;
    Some(&over.type_)
}

fn is_active(cron: &CronJob, uid: &str) -> bool {
    cron.status.iter().flat_map(|status| status.active.iter().flatten()).any(|one| one.uid.as_deref() == Some(uid))
}

/// `jobs` are those that the CronJob controls; `missing` the uids of active ones that exist no more.
fn plan(cron: &CronJob, jobs: &[Arc<Job>], missing: &[String], now: Timestamp) -> Plan {
    let mut plan = Plan { cron: cron.clone(), ..Plan::default() };
    let spec = &cron.spec;
    let status = plan.cron.status.get_or_insert_default();
    for job in jobs {
        let uid = object::uid(&job.metadata);
        let name = object::name(&job.metadata);
        match finished(job) {
            None if !is_active(cron, uid) => {
                let text = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.notes.push(Note::warning("UnexpectedJob", text));
            }
            None => {}
            Some(end) => {
                if is_active(cron, uid) {
                    let text = format!("Saw completed job: {name}, condition: {end}");
                    plan.notes.push(Note::normal("SawCompletedJob", text));
                    status.active.iter_mut().for_each(|all| all.retain(|one| one.uid.as_deref() != Some(uid)));
                }
                let at = job.status.as_ref().and_then(|status| status.completion_time.clone());
                if end == "Complete" && at > status.last_successful_time {
                    status.last_successful_time = at;
                }
            }
        }
    }
    for uid in missing {
        let all = status.active.take().unwrap_or_default();
        let (gone, left): (Vec<_>, _) = all.into_iter().partition(|one| one.uid.as_ref() == Some(uid));
        for one in gone {
            let text = format!("Active job went missing: {}", one.name.unwrap_or_default());
            plan.notes.push(Note::normal("MissingJob", text));
        }
        status.active = Some(left);
    }
    status.active = status.active.take().filter(|all| !all.is_empty());
    let kept = |end: &str, limit: Option<i32>| {
        let mut over: Vec<_> = jobs.iter().filter(|job| finished(job) == Some(end)).cloned().collect();
        over.sort_by_key(|job| {
            (
                job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|at| at.0),
                job.metadata.name.clone(),
            )
        });
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        over.truncate(over.len().saturating_sub(limit.unwrap_or(usize::MAX)));
        over
    };
    plan.delete = kept("Complete", spec.successful_jobs_history_limit);
    plan.delete.extend(kept("Failed", spec.failed_jobs_history_limit));
    if cron.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        schedule(cron, jobs, now, &mut plan);
    }
    plan
}

fn schedule(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp, plan: &mut Plan) {
    let spec = &cron.spec;
    let Some(status) = plan.cron.status.as_ref() else { return };
    let name = spec.time_zone.as_deref().unwrap_or_default();
    let zone = match cron::zone(name) {
        Ok(zone) => zone,
        Err(why) => {
            plan.notes.push(Note::warning("UnknownTimeZone", format!("invalid timeZone: {name:?}: {why}")));
            return;
        }
    };
    let schedule = match cron::Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => {
            let text = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            plan.notes.push(Note::warning("UnparseableSchedule", text));
            return;
        }
    };
    let last = status.last_schedule_time.as_ref().map(|last| last.0);
    let mut since = last.unwrap_or_else(|| object::created(&cron.metadata));
    let deadline = spec.starting_deadline_seconds.map(jiff::SignedDuration::from_secs);
    if let Some(opens) = deadline.and_then(|deadline| now.checked_sub(deadline).ok()) {
        since = since.max(opens);
    }
    let due = due(&schedule, &zone, since, now);
    plan.next = due.next;
    let Some(at) = due.at.filter(|at| Some(*at) != last) else { return };
    if due.many {
        let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.notes.push(Note::warning("TooManyMissedTimes", text.to_owned()));
    }
    let active = status.active.iter().flatten();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if active.clone().next().is_some() => {
            let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notes.push(Note::normal("JobAlreadyActive", text.to_owned()));
            return;
        }
        Some("Replace") => {
            let runs = |job: &&Arc<Job>| active.clone().any(|one| one.uid == job.metadata.uid);
            let replaced: Vec<_> = jobs.iter().filter(runs).cloned().collect();
            plan.delete.extend(replaced);
            if let Some(status) = &mut plan.cron.status {
                status.active = None;
            }
        }
        _ => {}
    }
    plan.create = Some(at);
}

/// The Job that stands for a time.
fn job_for(cron: &CronJob, at: Timestamp) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let name: String = object::name(&cron.metadata).chars().take(52).collect();
    let zone = cron::zone(cron.spec.time_zone.as_deref().unwrap_or_default());
    let local = at.to_zoned(zone.unwrap_or(TimeZone::UTC));
    let offset = if local.offset().is_zero() { "Z".to_owned() } else { local.strftime("%:z").to_string() };
    let mut annotations = meta.annotations;
    object::put(&mut annotations, SCHEDULED, &format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S")));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", at.as_second().div_euclid(60))),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![object::controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference { field_path: None, ..crate::events::reference(job) }
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let crons = context.informers.of::<CronJob>();
    let Some(cron) = crons.get(&key) else { return Ok(Next::Done) };
    let uid = object::uid(&cron.metadata);
    let api = context.api::<Job>(&key.namespace);
    let mut jobs = context.informers.of::<Job>().owned_by(uid);
    jobs.retain(|job| object::is_controlled_by(&job.metadata, uid));
    let mut missing = Vec::new();
    for one in cron.status.iter().flat_map(|status| status.active.iter().flatten()) {
        if jobs.iter().any(|job| job.metadata.uid == one.uid) {
            continue;
        }
        let live = api.get_opt(one.name.as_deref().unwrap_or_default()).await?;
        if live.is_none_or(|live| live.metadata.uid != one.uid) {
            missing.extend(one.uid.clone());
        }
    }
    let now = context.now();
    let mut plan = plan(&cron, &jobs, &missing, now);
    for note in plan.notes {
        context.events.record(&*cron, note);
    }
    for job in &plan.delete {
        let name = object::name(&job.metadata);
        if controller::delete(&api, name, job.metadata.uid.as_deref()).await? {
            context.events.record(&*cron, Note::normal("SuccessfulDelete", format!("Deleted job {name}")));
        }
    }
    let mut failed = None;
    if let Some(at) = plan.create {
        match make(&context, &cron, &job_for(&cron, at)).await {
            Ok(Some(job)) => {
                let status = plan.cron.status.get_or_insert_default();
                if !status.active.iter().flatten().any(|one| one.uid == job.metadata.uid) {
                    status.active.get_or_insert_default().push(reference(&job));
                }
                status.last_schedule_time = Some(object::time(at));
            }
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    if plan.cron.status.clone().unwrap_or_default() != cron.status.clone().unwrap_or_default() {
        let api = context.api::<CronJob>(&key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &plan.cron).await {
            Ok(written) => {
                crons.saw(&written.metadata).await;
            }
            Err(error) if is_not_found(&error) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let wait = |next: Timestamp| Duration::try_from(next.duration_since(now)).unwrap_or_default();
    Ok(plan.next.map_or(Next::Done, |next| Next::After(wait(next) + Duration::from_millis(100))))
}

/// Makes the Job, or finds the one that was made for this time before; `None` if its name is taken by a stranger.
async fn make(context: &Context, cron: &CronJob, wanted: &Job) -> Result<Option<Job>, Error> {
    let api = context.api::<Job>(object::namespace(&cron.metadata));
    match api.create(&PostParams::default(), wanted).await {
        Ok(made) => {
            let text = format!("Created job {}", object::name(&made.metadata));
            context.events.record(cron, Note::normal("SuccessfulCreate", text));
            context.informers.of::<Job>().saw(&made.metadata).await;
            Ok(Some(made))
        }
        Err(error) if is_already_exists(&error) => {
            let found = api.get(object::name(&wanted.metadata)).await?;
            let own =
                object::is_controlled_by(&found.metadata, object::uid(&cron.metadata)) && finished(&found).is_none();
            Ok(Some(found).filter(|_| own))
        }
        Err(error) => {
            let text = format!("Error creating job: {}", message(&error));
            context.events.record(cron, Note::warning("FailedCreate", text));
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-{text}:00Z").parse().unwrap()
    }

    fn cron(spec: impl Into<Value>, status: impl Into<Value>) -> CronJob {
        let (spec, status): (Value, Value) = (spec.into(), status.into());
        let mut whole = json!({"schedule": "*/10 * * * *", "concurrencyPolicy": "Allow", "jobTemplate": {
            "metadata": {"labels": {"app": "x"}}, "spec": {"template": {}}}});
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "tick", "namespace": "a", "uid": "cron",
            "creationTimestamp": "2026-01-01T00:05:00Z"}, "spec": whole, "status": status}))
        .unwrap()
    }

    fn job(name: &str, end: Option<&str>, hour: u8) -> Arc<Job> {
        let conditions = end.map(|end| json!([{"type": end, "status": "True"}]));
        let time = format!("2026-01-01T{hour:02}:00:00Z");
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "status": {
                "conditions": conditions, "startTime": time,
                "completionTime": (end == Some("Complete")).then_some(&time)}}))
            .unwrap(),
        )
    }

    fn reasons(plan: &Plan) -> Vec<&str> {
        plan.notes.iter().map(|note| note.reason).collect()
    }

    #[test]
    fn the_last_time_that_passed_is_due() {
        for (spec, status, now, create, next) in [
            (json!({}), json!({}), "01T00:09", None, Some("01T00:10")),
            (json!({}), json!({}), "01T00:10", Some("01T00:10"), Some("01T00:20")),
            (json!({}), json!({}), "01T00:45", Some("01T00:40"), Some("01T00:50")),
            (json!({}), json!({"lastScheduleTime": "2026-01-01T00:40:00Z"}), "01T00:45", None, Some("01T00:50")),
            (json!({"suspend": true}), json!({}), "01T00:45", None, None),
            (json!({"startingDeadlineSeconds": 120}), json!({}), "01T00:45", None, Some("01T00:50")),
            (json!({"startingDeadlineSeconds": 600}), json!({}), "01T00:45", Some("01T00:40"), Some("01T00:50")),
            (json!({"schedule": "0 6-16/4 * * 1-5"}), json!({}), "05T07:00", Some("05T06:00"), Some("05T10:00")),
            (json!({"schedule": "nonsense"}), json!({}), "01T00:45", None, None),
            (
                json!({"schedule": "0 8 * * *", "timeZone": "Asia/Tokyo"}),
                json!({}),
                "02T00:00",
                Some("01T23:00"),
                Some("02T23:00"),
            ),
        ] {
            let plan = plan(&cron(spec.clone(), status), &[], &[], at(now));
            assert_eq!((plan.create, plan.next), (create.map(at), next.map(at)), "{spec} at {now}");
        }
    }

    #[test]
    fn many_missed_times_are_told_and_one_is_made_up_for() {
        let plan = plan(&cron(json!({"schedule": "* * * * *"}), json!({})), &[], &[], at("03T00:00"));
        assert_eq!((reasons(&plan), plan.create), (vec!["TooManyMissedTimes"], Some(at("03T00:00"))));
    }

    #[test]
    fn policies_for_what_still_runs() {
        let status = json!({"active": [{"name": "old", "uid": "old"}], "lastScheduleTime": "2026-01-01T00:10:00Z"});
        let jobs = [job("old", None, 0)];
        for (policy, create, deleted, told) in
            [("Allow", true, 0, vec![]), ("Forbid", false, 0, vec!["JobAlreadyActive"]), ("Replace", true, 1, vec![])]
        {
            let plan = plan(&cron(json!({"concurrencyPolicy": policy}), status.clone()), &jobs, &[], at("01T00:20"));
            assert_eq!((plan.create.is_some(), plan.delete.len(), reasons(&plan)), (create, deleted, told), "{policy}");
        }
    }

    #[test]
    fn what_is_over_is_noted_and_cleared_away() {
        let status = json!({"active": [{"name": "a", "uid": "a"}, {"name": "gone", "uid": "gone"}]});
        let jobs = [
            job("a", Some("Complete"), 3),
            job("b", Some("Complete"), 2),
            job("c", Some("Failed"), 1),
            job("d", None, 4),
        ];
        let spec = json!({"suspend": true, "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
        let plan = plan(&cron(spec, status), &jobs, &["gone".to_owned()], at("01T06:00"));
        assert_eq!(reasons(&plan), ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
        let names: Vec<_> = plan.delete.iter().map(|job| object::name(&job.metadata)).collect();
        assert_eq!(names, ["b", "c"]);
        let status = plan.cron.status.unwrap();
        assert_eq!((status.active, status.last_successful_time.unwrap().0), (None, at("01T03:00")));
    }

    #[test]
    fn a_job_is_named_by_its_time() {
        let made = job_for(&cron(json!({"timeZone": "Asia/Tokyo"}), json!({})), at("01T00:10"));
        assert_eq!(made.metadata.name.as_deref(), Some("tick-29453770"));
        assert_eq!(object::annotation(&made.metadata, SCHEDULED), Some("2026-01-01T09:10:00+09:00"));
        assert_eq!(object::label(&made.metadata, "app"), Some("x"));
    }
}
