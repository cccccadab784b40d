//! Deletes Jobs that ended, as long after their end as `ttlSecondsAfterFinished` says. It never touches one that does not say. Source:
//! KEP-592.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule, is_not_found},
    informer::Key,
    object,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "ttl-after-finished-controller",
    aliases: &["ttl-after-finished"],
    service_account: "ttl-after-finished-controller",
    reporter: "ttl-after-finished-controller",
    watches: &["batch/v1.Job"],
    rules: &[Rule::new(&["batch"], &["jobs"], &["delete", "get", "list", "watch"]), EVENTS],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let jobs = context.informers.of::<Job>();
        let queue: Arc<Queue<Key>> = Arc::default();
        jobs.subscribe({
            let queue = queue.clone();
            move |change| {
                let job = change.object();
                if ends(job).is_some() {
                    queue.add(Key::of(&job.metadata));
                }
            }
        });
        if jobs.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// When the job may go, in Unix seconds; nothing where it has not ended, does not say, or goes already.
fn ends(job: &Job) -> Option<i64> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let over = |kind: &str| matches!(kind, "Complete" | "Failed");
    let ended = conditions.iter().find(|one| over(&one.type_) && one.status == "True")?;
    let ended = ended.last_transition_time.as_ref()?.0.as_second();
    job.metadata.deletion_timestamp.is_none().then(|| ended.saturating_add(seconds.into()))
}

/// Time until the job may go; nothing where it never may.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let seconds = u64::try_from(ends(job)?.saturating_sub(now.as_second())).unwrap_or(0);
    Some(Duration::from_secs(seconds))
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let Some(job) = context.informers.of::<Job>().get(&key) else { return Ok(Next::Done) };
    match left(&job, context.now()) {
        None => return Ok(Next::Done),
        Some(time) if !time.is_zero() => return Ok(Next::After(time)),
        Some(_) => {}
    }
    // The cache may be behind, and the job may live longer now.
    let api = context.api::<Job>(&key.namespace);
    let Some(job) = api.get_opt(&key.name).await? else { return Ok(Next::Done) };
    match left(&job, context.now()) {
        None => return Ok(Next::Done),
        Some(time) if !time.is_zero() => return Ok(Next::After(time)),
        Some(_) => {}
    }
    let uid = Some(object::uid(&job.metadata).to_owned());
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&key.name, &params).await {
        Ok(_) => Ok(Next::Done),
        Err(gone) if is_not_found(&gone) => Ok(Next::Done),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_job_goes_so_long_after_its_end() {
        let now = "2026-01-01T00:00:10Z".parse().unwrap();
        let check = |ttl: Value, conditions: Value, deleted: Value, seconds: Option<u64>| {
            let shown = format!("{ttl} {conditions} {deleted}");
            let job = json!({"metadata": {"name": "j", "deletionTimestamp": deleted},
                "spec": {"template": {}, "ttlSecondsAfterFinished": ttl}, "status": {"conditions": conditions}});
            let job: Job = serde_json::from_value(job).unwrap();
            assert_eq!(left(&job, now), seconds.map(Duration::from_secs), "{shown}");
        };
        let ended = |kind: &str, status: &str| {
            json!([{"type": "Suspended", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
                {"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
        };
        check(json!(30), ended("Complete", "True"), Value::Null, Some(20));
        check(json!(30), ended("Failed", "True"), Value::Null, Some(20));
        check(json!(10), ended("Complete", "True"), Value::Null, Some(0));
        check(json!(0), ended("Complete", "True"), Value::Null, Some(0));
        check(Value::Null, ended("Complete", "True"), Value::Null, None);
        check(json!(0), ended("Complete", "False"), Value::Null, None);
        check(json!(0), ended("FailureTarget", "True"), Value::Null, None);
        check(json!(0), ended("Complete", "True"), json!("2026-01-01T00:00:05Z"), None);
        check(json!(0), Value::Null, Value::Null, None);
    }
}
