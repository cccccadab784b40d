//! Plans of Jobs against a small world in which pods are made, end, and vanish once nothing holds them.

use serde_json::{Value, json};

use super::*;

const START: i64 = 1_767_225_600;

struct World {
    job: Job,
    pods: Vec<Pod>,
    failures: Failures,
    now: i64,
    made: usize,
    events: Vec<&'static str>,
    wake: Option<Duration>,
    /// Pods that ended, by whether they succeeded.
    ended: (i32, i32),
}

impl World {
    fn new(spec: impl Into<Value>) -> Self {
        let spec: Value = spec.into();
        let mut job: Job = serde_json::from_value(json!({
            "metadata": {"name": "work", "namespace": "a", "uid": "job"},
            "spec": {"backoffLimit": 6, "parallelism": 1, "template": {"metadata": {"labels": {"app": "x"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}},
        }))
        .unwrap();
        let mut whole = serde_json::to_value(&job.spec).unwrap();
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        job.spec = serde_json::from_value(whole).unwrap();
        let failures = Failures::default();
        Self { job, pods: vec![], failures, now: START, made: 0, events: vec![], wake: None, ended: (0, 0) }
    }

    fn plan(&self) -> Plan {
        let pods: Vec<_> = self.pods.iter().cloned().map(Arc::new).collect();
        let now = Timestamp::from_second(self.now).unwrap();
        plan(&Observed { job: &self.job, pods: &pods, failures: self.failures, now })
    }

    /// Carries out a plan, the last step only if `strip`; whether anything changed.
    fn act(&mut self, plan: Plan, strip: bool) -> bool {
        let quiet = plan.delete.is_empty() && plan.create.is_empty() && plan.strip.is_empty();
        let changed = !quiet || self.job.status.as_ref() != Some(&plan.status);
        for doomed in &plan.delete {
            let one = self.pods.iter_mut().find(|one| one.metadata.uid == doomed.metadata.uid).unwrap();
            one.metadata.deletion_timestamp = Some(object::time(Timestamp::from_second(self.now).unwrap()));
        }
        for mut one in plan.create {
            self.made += 1;
            let name = format!("{}{}", one.metadata.generate_name.clone().unwrap(), self.made);
            (one.metadata.name, one.metadata.uid) = (Some(name.clone()), Some(name));
            one.status = serde_json::from_value(json!({"phase": "Running"})).unwrap();
            self.pods.push(one);
        }
        (self.job.status, self.failures, self.wake) = (Some(plan.status), plan.failures, plan.wake);
        self.events.extend(plan.notes.iter().map(|note| note.reason));
        for one in self.pods.iter_mut().filter(|_| strip) {
            if plan.strip.iter().any(|other| other.metadata.uid == one.metadata.uid) {
                one.metadata.finalizers = None;
            }
        }
        changed
    }

    /// Deleted pods end, and vanish once nothing holds them.
    fn nodes(&mut self) -> bool {
        let before = self.pods.clone();
        for one in self.pods.iter_mut().filter(|one| pod::is_terminating(one) && !pod::is_terminal(one)) {
            one.status.get_or_insert_default().phase = Some("Failed".to_owned());
        }
        self.pods.retain(|one| !pod::is_terminating(one) || is_tracked(one));
        before != self.pods
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            let plan = self.plan();
            let acted = self.act(plan, true);
            if !(self.nodes() | acted) || is_finished(&self.status()) {
                return;
            }
        }
        panic!("it never settles: {:?}", self.job.status);
    }

    fn running(&self) -> Vec<String> {
        let active = self.pods.iter().filter(|one| pod::is_active(one));
        active.map(|one| object::name(&one.metadata).to_owned()).collect()
    }

    /// Ends the pod that has run longest.
    fn end(&mut self, code: i32) {
        let one = self.pods.iter_mut().find(|one| pod::is_active(one)).unwrap();
        let (phase, at) = (if code == 0 { "Succeeded" } else { "Failed" }, Timestamp::from_second(self.now).unwrap());
        one.status = serde_json::from_value(json!({"phase": phase, "containerStatuses": [{"name": "c", "image": "",
            "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": object::time(at)}}}]}))
        .unwrap();
        *if code == 0 { &mut self.ended.0 } else { &mut self.ended.1 } += 1;
    }

    fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap()
    }

    /// The conditions that hold, with their reasons.
    fn conditions(&self) -> String {
        let status = self.status();
        let held = status.conditions.iter().flatten().filter(|one| one.status == "True");
        held.map(|one| format!("{}={}", one.type_, one.reason.as_deref().unwrap())).collect::<Vec<_>>().join(" ")
    }

    fn counts(&self) -> (i32, i32, i32) {
        let status = self.status();
        (status.active.unwrap_or(0), status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
    }
}

#[test]
fn completions_are_reached_in_parallel() {
    let mut world = World::new(json!({"completions": 3, "parallelism": 2}));
    world.settle();
    assert_eq!((world.running().len(), world.counts()), (2, (2, 0, 0)));
    world.end(0);
    world.settle();
    assert_eq!(world.counts(), (2, 1, 0));
    world.end(0);
    world.end(0);
    let first = world.plan();
    assert!(condition(&first.status, "Complete").is_none(), "pods are counted first");
    world.settle();
    assert_eq!(world.counts(), (0, 3, 0));
    assert_eq!(world.conditions(), "SuccessCriteriaMet=CompletionsReached Complete=CompletionsReached");
    assert_eq!(world.events, ["Completed"]);
    assert!(world.status().completion_time.is_some());
    assert!(world.pods.iter().all(|one| !is_tracked(one)));
}

#[test]
fn a_job_without_completions_ends_with_its_first_success() {
    let mut world = World::new(json!({"parallelism": 2}));
    world.settle();
    world.end(0);
    world.settle();
    assert_eq!((world.counts(), world.conditions().as_str()), ((1, 1, 0), ""));
    world.end(0);
    world.settle();
    assert_eq!(world.conditions(), "SuccessCriteriaMet=CompletionsReached Complete=CompletionsReached");
}

#[test]
fn failures_are_retried_ever_more_slowly_until_the_limit() {
    let mut world = World::new(json!({"completions": 1, "backoffLimit": 2}));
    world.settle();
    for delay in [10, 20] {
        world.end(1);
        world.settle();
        assert_eq!((world.running().len(), world.wake), (0, Some(Duration::from_secs(delay))));
        world.now += i64::try_from(delay).unwrap();
        world.settle();
        assert_eq!(world.running().len(), 1);
    }
    world.end(1);
    world.settle();
    assert_eq!(world.conditions(), "FailureTarget=BackoffLimitExceeded Failed=BackoffLimitExceeded");
    assert_eq!((world.counts(), world.events.as_slice()), ((0, 0, 3), ["BackoffLimitExceeded"].as_slice()));
}

#[test]
fn a_deadline_ends_what_runs() {
    let mut world = World::new(json!({"completions": 2, "parallelism": 2, "activeDeadlineSeconds": 30}));
    world.settle();
    assert_eq!(world.wake, Some(Duration::from_secs(30)));
    world.now += 30;
    world.settle();
    assert_eq!(world.conditions(), "FailureTarget=DeadlineExceeded Failed=DeadlineExceeded");
    assert_eq!((world.counts(), world.pods.len()), ((0, 0, 2), 0));
}

#[test]
fn indexes_are_worked_off_in_order() {
    let mut world = World::new(json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"}));
    world.settle();
    assert_eq!(world.running(), ["work-0-1", "work-1-2"]);
    let first = &world.pods[0];
    assert_eq!(first.spec.as_ref().unwrap().hostname.as_deref(), Some("work-0"));
    assert_eq!(object::label(&first.metadata, INDEX), Some("0"));
    let variables = first.spec.as_ref().unwrap().containers[0].env.as_ref().unwrap();
    assert_eq!(variables[0].name, "JOB_COMPLETION_INDEX");
    world.end(0);
    world.now += 1;
    world.end(1);
    world.settle();
    assert_eq!((world.status().completed_indexes.as_deref(), world.counts()), (Some("0"), (0, 1, 1)));
    world.now += 10;
    world.settle();
    assert_eq!(world.running(), ["work-1-3", "work-2-4"]);
    for _ in 0..3 {
        world.end(0);
        world.settle();
    }
    assert_eq!((world.status().completed_indexes.as_deref(), world.counts()), (Some("0-3"), (0, 4, 1)));
    assert_eq!(world.conditions(), "SuccessCriteriaMet=CompletionsReached Complete=CompletionsReached");
}

#[test]
fn each_index_has_failures_of_its_own() {
    let spec = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1,
        "backoffLimit": i32::MAX});
    let mut world = World::new(spec);
    world.settle();
    world.end(1);
    world.settle();
    assert!(world.pods.iter().any(|one| pod::phase(one) == "Failed" && is_tracked(one)), "its count must not be lost");
    world.now += 10;
    world.settle();
    let again = world.pods.iter().find(|one| object::name(&one.metadata) == "work-0-3").unwrap();
    assert_eq!(object::annotation(&again.metadata, INDEX_FAILURES), Some("1"));
    world.end(0);
    world.end(1);
    world.settle();
    assert_eq!(
        (world.status().failed_indexes.as_deref(), world.conditions()),
        (Some("0"), "FailureTarget=FailedIndexes Failed=FailedIndexes".to_owned())
    );
    assert_eq!(world.counts(), (0, 1, 2));
}

#[test]
fn too_many_failed_indexes_end_the_job() {
    let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "backoffLimitPerIndex": 0,
        "maxFailedIndexes": 1, "backoffLimit": i32::MAX});
    let mut world = World::new(spec);
    world.settle();
    world.end(1);
    world.settle();
    assert_eq!((world.running().len(), world.conditions().as_str()), (3, ""));
    world.end(1);
    world.settle();
    assert_eq!(world.conditions(), "FailureTarget=MaxFailedIndexesExceeded Failed=MaxFailedIndexesExceeded");
    assert_eq!(world.running().len(), 0);
}

#[test]
fn part_of_the_indexes_may_be_enough() {
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}});
    let mut world = World::new(spec);
    world.settle();
    world.end(0);
    world.settle();
    assert_eq!(world.conditions(), "SuccessCriteriaMet=SuccessPolicy Complete=SuccessPolicy");
    assert_eq!((world.counts(), world.status().completed_indexes.as_deref()), ((0, 1, 0), Some("0")));
}

#[test]
fn rules_about_failures() {
    let rules = json!({"rules": [
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}}]});
    let mut world = World::new(json!({"completions": 1, "backoffLimit": 0, "podFailurePolicy": rules}));
    world.settle();
    world.end(1);
    world.settle();
    assert_eq!((world.counts(), world.conditions().as_str()), ((0, 0, 0), ""));
    world.now += 10;
    world.settle();
    world.end(2);
    world.settle();
    assert_eq!(
        (world.counts().2, world.conditions().as_str()),
        (1, "FailureTarget=PodFailurePolicy Failed=PodFailurePolicy")
    );
}

#[test]
fn a_suspended_job_has_no_pods_and_no_start() {
    let mut world = World::new(json!({"completions": 1, "suspend": true}));
    world.settle();
    assert_eq!((world.running().len(), world.conditions().as_str()), (0, "Suspended=JobSuspended"));
    assert!(world.status().start_time.is_none());
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.settle();
    assert_eq!((world.running().len(), world.conditions().as_str()), (1, ""));
    assert!(world.status().start_time.is_some());
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    world.settle();
    assert_eq!((world.running().len(), world.counts().0), (0, 0));
    assert_eq!(world.events, ["Suspended", "Resumed", "Suspended"]);
}

/// Whatever dies between two steps, each pod that ended is counted once.
#[test]
fn every_end_is_counted_once() {
    for seed in 0..200_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut world = World::new(json!({"completions": 8, "parallelism": 3, "backoffLimit": 100}));
        for _ in 0..400 {
            world.now += i64::try_from(random(1000)).unwrap();
            match random(3) {
                0 if !world.running().is_empty() => world.end(i32::from(random(4) == 0)),
                _ => {
                    let plan = world.plan();
                    world.act(plan, random(2) == 0);
                    world.nodes();
                }
            }
            if is_finished(&world.status()) {
                break;
            }
        }
        world.settle();
        assert!(is_finished(&world.status()), "seed {seed}: {:?}", world.status());
        assert_eq!((world.counts().1, world.counts().2), world.ended, "seed {seed}");
        assert_eq!(world.ended.0, 8, "seed {seed}");
    }
}
