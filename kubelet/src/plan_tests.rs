//! Tests of the plan: a pod, what the runtime holds, and the actions that follow, in a short form.

use super::*;
use crate::model::Sandbox;
use serde_json::{Value, json};

/// A pod, its sandboxes, its containers, and what follows.
type Case<'a> = (&'a core::Pod, &'a [(u32, bool)], &'a [&'a str], &'a str);

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A pod whose spec is given; the names of containers are their images.
fn pod(spec: Value) -> core::Pod {
    let mut value = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}});
    value["spec"] = spec;
    let mut pod: core::Pod = serde_json::from_value(value).unwrap();
    let spec = pod.spec.get_or_insert_default();
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.image = Some(container.name.clone());
    }
    pod
}

fn names(list: &[&str]) -> Value {
    list.iter().map(|name| json!({"name": name})).collect()
}

fn apps(list: &[&str], policy: &str) -> core::Pod {
    pod(json!({"containers": names(list), "restartPolicy": policy}))
}

/// A sandbox `s<attempt>`, ready or not.
fn sandbox(attempt: u32, ready: bool) -> Sandbox {
    Sandbox {
        id: format!("s{attempt}"),
        attempt,
        ready,
        created_at: i64::from(attempt),
        host_network: false,
        ips: vec!["10.0.0.1".into()],
    }
}

/// A container from `name#attempt@sandbox state`, where the state is `run`, `new`, `lost` or an exit code.
fn container(text: &str) -> Container {
    let (head, state) = text.split_once(' ').unwrap();
    let (name, rest) = head.split_once('#').unwrap();
    let (attempt, sandbox) = rest.split_once('@').unwrap();
    let phase = match state {
        "run" => ContainerPhase::Running,
        "new" => ContainerPhase::Created,
        "lost" => ContainerPhase::Unknown,
        _ => ContainerPhase::Exited,
    };
    let definition = core::Container { name: name.into(), image: Some(name.into()), ..Default::default() };
    Container {
        id: format!("{name}#{attempt}"),
        sandbox_id: format!("s{sandbox}"),
        name: name.into(),
        attempt: attempt.parse().unwrap(),
        phase,
        created_at: attempt.parse().unwrap(),
        started_at: 1,
        finished_at: NOW * 1_000_000_000,
        exit_code: state.parse().unwrap_or(0),
        reason: String::new(),
        message: String::new(),
        image: name.into(),
        image_ref: String::new(),
        hash: Some(container_hash(&definition)),
        grace: None,
        log_path: String::new(),
        resources: None,
    }
}

fn observed(sandboxes: &[(u32, bool)], containers: &[&str]) -> Observed {
    let mut observed = Observed {
        sandboxes: sandboxes.iter().map(|(attempt, ready)| sandbox(*attempt, *ready)).collect(),
        containers: containers.iter().map(|text| container(text)).collect(),
    };
    observed.containers.sort_by_key(|container| std::cmp::Reverse(container.attempt));
    observed
}

fn brief(plan: &Plan) -> String {
    let mut words: Vec<String> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::StopSandbox { id } => format!("stop {id}"),
            Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
            Action::RemoveSandbox { id } => format!("remove {id}"),
            Action::RemoveContainer { id, .. } => format!("remove {id}"),
            Action::Start { name, attempt, .. } => format!("start {name}#{attempt}"),
            Action::Resize { containers, narrow, .. } => {
                let ids: Vec<&str> = containers.iter().map(|(id, _)| id.as_str()).collect();
                format!("resize [{}]{}", ids.join(" "), if *narrow { "" } else { " wide" })
            }
            Action::Kill { id, grace, .. } => format!("kill {id} {grace}"),
        })
        .collect();
    words.extend(plan.crash_loops.keys().map(|name| format!("loop {name}")));
    if plan.ended {
        words.push("ended".to_owned());
    }
    words.join(", ")
}

fn check(pod: &core::Pod, observed: &Observed, memory: &Memory, expected: &str) {
    let plan = plan(pod, observed, memory, at(NOW));
    assert_eq!(brief(&plan), expected, "{observed:#?}");
}

fn fresh() -> Memory {
    Memory::default()
}

#[test]
fn app_containers() {
    let up = [(0, true)];
    let always = apps(&["a", "b"], "Always");
    let on_failure = apps(&["a", "b"], "OnFailure");
    let never = apps(&["a", "b"], "Never");
    let cases: [Case<'_>; 15] = [
        (&always, &[], &[], "sandbox 0"),
        (&always, &up, &[], "start a#0, start b#0"),
        (&always, &up, &["a#0@0 run"], "start b#0"),
        (&always, &up, &["a#0@0 run", "b#0@0 run"], ""),
        (&always, &up, &["a#0@0 0", "b#0@0 1"], "start a#1, start b#1"),
        (&on_failure, &up, &["a#0@0 0", "b#0@0 1"], "start b#1"),
        (&on_failure, &up, &["a#0@0 0", "b#0@0 0"], "stop s0"),
        (&on_failure, &[(0, false)], &["a#0@0 0", "b#0@0 0"], "ended"),
        (&never, &up, &["a#0@0 1", "b#0@0 run"], ""),
        (&never, &up, &["a#0@0 1", "b#0@0 0"], "stop s0"),
        (&never, &[(0, false)], &["a#0@0 1", "b#0@0 0"], "ended"),
        (&always, &[(0, false)], &["a#0@0 137", "b#0@0 137"], "stop s0, sandbox 1"),
        (&always, &[(1, true), (0, false)], &["a#0@0 137", "b#0@0 137"], "start a#1, start b#1"),
        (&always, &up, &["a#0@0 new", "b#0@0 run"], "remove a#0, start a#0"),
        (&always, &up, &["a#0@0 lost", "b#0@0 run"], "kill a#0 30"),
    ];
    for (pod, sandboxes, containers, expected) in cases {
        check(pod, &observed(sandboxes, containers), &fresh(), expected);
    }
}

#[test]
fn a_dead_sandbox_takes_its_containers_along() {
    let pod = apps(&["a"], "Always");
    let seen = observed(&[(0, false)], &["a#0@0 run"]);
    check(&pod, &seen, &fresh(), "kill a#0 30");
    let memory = Memory { killing: ["a#0".to_owned()].into(), ..fresh() };
    check(&pod, &seen, &memory, "");
}

#[test]
fn init_containers_run_in_order_and_once_per_sandbox() {
    let up = [(0, true)];
    let spec = |policy: &str| {
        pod(json!({"containers": names(&["a"]), "initContainers": names(&["i", "j"]), "restartPolicy": policy}))
    };
    let (always, never) = (spec("Always"), spec("Never"));
    let cases: [Case<'_>; 9] = [
        (&always, &up, &[], "start i#0"),
        (&always, &up, &["i#0@0 run"], ""),
        (&always, &up, &["i#0@0 0"], "start j#0"),
        (&always, &up, &["i#0@0 1"], "start i#1"),
        (&never, &up, &["i#0@0 1"], "stop s0"),
        (&never, &[(0, false)], &["i#0@0 1"], "ended"),
        (&always, &up, &["i#0@0 0", "j#0@0 0"], "start a#0"),
        (&always, &up, &["i#0@0 0", "j#0@0 0", "a#0@0 1"], "start a#1"),
        (&always, &[(1, true), (0, false)], &["i#0@0 0", "j#0@0 0", "a#0@0 137"], "start i#1"),
    ];
    for (pod, sandboxes, containers, expected) in cases {
        check(pod, &observed(sandboxes, containers), &fresh(), expected);
    }
}

#[test]
fn sidecars_start_before_and_stop_after_the_app() {
    let up = [(0, true)];
    let pod = pod(json!({"containers": names(&["a"]), "restartPolicy": "Never", "terminationGracePeriodSeconds": 7,
        "initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}},
                           {"name": "t", "restartPolicy": "Always"}, {"name": "i"}]}));
    let started = Memory {
        probes: BTreeMap::from([("s#0".to_owned(), Probed { started: Some(true), ..Probed::default() })]),
        ..fresh()
    };
    check(&pod, &observed(&up, &[]), &fresh(), "start s#0");
    check(&pod, &observed(&up, &["s#0@0 run"]), &fresh(), "");
    check(&pod, &observed(&up, &["s#0@0 run"]), &started, "start t#0");
    check(&pod, &observed(&up, &["s#0@0 run", "t#0@0 run"]), &started, "start i#0");
    let with_app = ["s#0@0 run", "t#0@0 run", "i#0@0 0", "a#0@0 run"];
    check(&pod, &observed(&up, &with_app), &started, "");
    check(&pod, &observed(&up, &["s#0@0 1", "t#0@0 run", "i#0@0 0", "a#0@0 run"]), &started, "start s#1");
    check(&pod, &observed(&up, &["s#0@0 run", "t#0@0 run", "i#0@0 0", "a#0@0 0"]), &started, "kill t#0 7");
    check(&pod, &observed(&up, &["s#0@0 run", "t#0@0 0", "i#0@0 0", "a#0@0 0"]), &started, "kill s#0 7");
    check(&pod, &observed(&up, &["s#0@0 0", "t#0@0 0", "i#0@0 0", "a#0@0 0"]), &started, "stop s0");
}

#[test]
fn deletion_stops_all_within_the_grace_period() {
    let mut pod = apps(&["a", "b"], "Always");
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(NOW)));
    pod.metadata.deletion_grace_period_seconds = Some(5);
    let up = [(0, true)];
    let both = observed(&up, &["a#0@0 run", "b#0@0 run"]);
    check(&pod, &both, &fresh(), "kill a#0 5, kill b#0 5");
    let memory = Memory { killing: ["a#0".to_owned()].into(), ..fresh() };
    check(&pod, &both, &memory, "kill b#0 5");
    check(&pod, &observed(&up, &["a#0@0 0", "b#0@0 137"]), &fresh(), "stop s0");
    check(&pod, &observed(&[(0, false)], &["a#0@0 0"]), &fresh(), "ended");
    check(&pod, &observed(&[], &[]), &fresh(), "ended");
    pod.metadata.deletion_grace_period_seconds = Some(0);
    check(&pod, &observed(&up, &["a#0@0 run"]), &fresh(), "kill a#0 1");
}

#[test]
fn what_has_ended_stays_ended_before_the_api_knows() {
    let pod = pod(json!({"containers": names(&["a"]), "initContainers": names(&["i"]), "restartPolicy": "OnFailure"}));
    let memory = Memory { over: true, ..fresh() };
    check(&pod, &observed(&[(0, false)], &["i#0@0 1"]), &memory, "ended");
}

#[test]
fn what_the_api_forgot_ends() {
    let stranger = core::Pod::default();
    let memory = Memory { gone: true, ..fresh() };
    let mut seen = observed(&[(0, true)], &["a#0@0 run"]);
    seen.containers[0].grace = Some(9);
    check(&stranger, &seen, &memory, "kill a#0 9");
}

#[test]
fn crashes_back_off() {
    let pod = apps(&["a"], "Always");
    let container_of = &model::app_containers(&pod)[0];
    let mut memory = fresh();
    let seen = observed(&[(0, true)], &["a#0@0 1"]);
    check(&pod, &seen, &memory, "start a#1");
    memory.backoff.next(&backoff_key(container_of), at(NOW));
    let next = observed(&[(0, true)], &["a#0@0 1", "a#1@0 1"]);
    let plan = plan(&pod, &next, &memory, at(NOW + 3));
    assert_eq!(brief(&plan), "loop a");
    assert_eq!(plan.wake_at, Some(at(NOW + 10)));
    assert_eq!(plan.crash_loops["a"], "back-off 10s restarting failed container=a pod=p_n(u)");
    assert_eq!(brief(&super::plan(&pod, &next, &memory, at(NOW + 10))), "start a#2");
}

#[test]
fn failed_starts_wait() {
    let pod = apps(&["a", "b"], "Always");
    let failure = Failure { reason: "ErrImagePull".into(), message: String::new(), retry_at: at(NOW + 5), times: 1 };
    let memory = Memory { failures: BTreeMap::from([("a".to_owned(), failure.clone())]), ..fresh() };
    check(&pod, &observed(&[(0, true)], &[]), &memory, "start b#0");
    let memory = Memory { setup: Some(failure), ..fresh() };
    let waiting = plan(&pod, &observed(&[], &[]), &memory, at(NOW));
    assert_eq!((brief(&waiting).as_str(), waiting.wake_at), ("", Some(at(NOW + 5))));
    assert_eq!(brief(&plan(&pod, &observed(&[], &[]), &memory, at(NOW + 5))), "sandbox 0");
}

#[test]
fn probes_and_new_definitions_restart() {
    let probe = json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 3});
    let pod = pod(json!({"containers": [{"name": "a", "livenessProbe": probe}]}));
    let seen = observed(&[(0, true)], &["a#0@0 run"]);
    let with = |probed: Probed| Memory { probes: BTreeMap::from([("a#0".to_owned(), probed)]), ..fresh() };
    check(&pod, &seen, &with(Probed { alive: Some(true), ..Probed::default() }), "");
    check(&pod, &seen, &with(Probed { ready: Some(false), ..Probed::default() }), "");
    check(&pod, &seen, &with(Probed { alive: Some(false), ..Probed::default() }), "kill a#0 3");
    check(&pod, &seen, &with(Probed { started: Some(false), ..Probed::default() }), "kill a#0 30");
    let mut changed = seen.clone();
    changed.containers[0].hash = Some("other".into());
    check(&pod, &changed, &fresh(), "kill a#0 30");
    let redefined = Memory { redefined: ["a#0".to_owned()].into(), ..fresh() };
    let never = apps(&["a"], "Never");
    check(&never, &observed(&[(0, true)], &["a#0@0 0"]), &redefined, "start a#1");
}

#[test]
fn resizes_are_carried_out_in_place_or_by_a_new_container() {
    let spec = |a: &str, b: &str| {
        let restarts = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        pod(json!({"restartPolicy": "Never", "containers": [
            {"name": "a", "resources": {"requests": {"cpu": a}}},
            {"name": "b", "resources": {"requests": {"memory": b}}, "resizePolicy": restarts}]}))
    };
    let old = spec("1", "1Ki");
    let made = |mut seen: Observed| {
        for run in &mut seen.containers {
            run.resources = model::find_container(&old, &run.name).unwrap().resources;
        }
        seen
    };
    let both = made(observed(&[(0, true)], &["a#0@0 run", "b#0@0 run"]));
    let limited = |pod: &core::Pod| Memory {
        resize: resize::Memory { limits: Some(cgroup::limits(pod)), ..resize::Memory::default() },
        ..fresh()
    };
    check(&old, &both, &limited(&old), "");
    assert!(!plan(&old, &both, &limited(&old), at(NOW)).resizing);
    check(&spec("1000m", "1024"), &both, &limited(&old), "");

    let more = spec("2", "1Ki");
    check(&more, &both, &limited(&old), "resize [a#0]");
    check(&more, &both, &fresh(), "resize [a#0]");
    assert!(plan(&more, &both, &limited(&old), at(NOW)).resizing);
    let waiting = Memory { resize: resize::Memory { retry_at: Some(at(NOW + 2)), ..limited(&old).resize }, ..fresh() };
    let waits = plan(&more, &both, &waiting, at(NOW));
    assert_eq!((brief(&waits).as_str(), waits.wake_at, waits.resizing), ("", Some(at(NOW + 2)), true));
    let mut done = limited(&more);
    done.resize.applied.insert("a#0".into(), model::find_container(&more, "a").unwrap().resources.unwrap());
    check(&more, &both, &done, "");
    // The containers have theirs, the pod's limits are still wide.
    done.resize.limits = Some(cgroup::limits(&spec("3", "1Ki")));
    check(&more, &both, &done, "resize []");
    assert!(plan(&more, &both, &done, at(NOW)).resizing);

    let restarts = spec("500m", "2Ki");
    check(&restarts, &both, &limited(&old), "resize [a#0] wide, kill b#0 30");
    let killing = Memory { killing: ["b#0".to_owned()].into(), ..limited(&old) };
    check(&restarts, &both, &killing, "resize [a#0] wide");
    let gone = made(observed(&[(0, true)], &["a#0@0 run", "b#0@0 137"]));
    let replaced = Memory { redefined: ["b#0".to_owned()].into(), ..limited(&old) };
    check(&restarts, &gone, &replaced, "resize [a#0], start b#1");
}

#[test]
fn a_deadline_ends_the_pod_and_is_waited_for() {
    let mut pod = apps(&["a"], "Always");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let start = |second: i64| core::PodStatus {
        start_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(second))),
        ..Default::default()
    };
    let seen = observed(&[(0, true)], &["a#0@0 run"]);
    pod.status = Some(start(NOW - 50));
    assert_eq!(plan(&pod, &seen, &fresh(), at(NOW)).wake_at, Some(at(NOW + 10)));
    pod.status = Some(start(NOW - 60));
    check(&pod, &seen, &fresh(), "kill a#0 30");
}

#[test]
fn old_runs_and_sandboxes_are_removed() {
    let pod = apps(&["a"], "Always");
    let seen = observed(&[(1, true), (0, false)], &["a#0@0 1", "a#1@1 1", "a#2@1 1", "a#3@1 run"]);
    check(&pod, &seen, &fresh(), "remove a#1, remove a#0, remove s0");
}

#[test]
fn restart_rules_of_a_container() {
    let pod = apps(&["a"], "Never");
    let ruled: core::Container = serde_json::from_value(json!({"name": "a", "restartPolicyRules": [
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}))
    .unwrap();
    assert!(restarts(&ruled, &pod, 42) && !restarts(&ruled, &pod, 1));
    let own = core::Container { restart_policy: Some("OnFailure".into()), ..Default::default() };
    assert!(restarts(&own, &pod, 1) && !restarts(&own, &pod, 0));
}

#[test]
fn ephemeral_containers_start_once() {
    let mut pod = apps(&["a"], "Always");
    let added = serde_json::from_value(json!([{"name": "debug", "image": "debug"}])).unwrap();
    pod.spec.as_mut().unwrap().ephemeral_containers = Some(added);
    check(&pod, &observed(&[(0, true)], &["a#0@0 run"]), &fresh(), "start debug#0");
    check(&pod, &observed(&[(0, true)], &["a#0@0 run", "debug#0@0 1"]), &fresh(), "");
}

#[test]
fn durations_as_go_prints_them() {
    let cases = [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")];
    for (seconds, expected) in cases {
        assert_eq!(go_duration(SignedDuration::from_secs(seconds)), expected);
    }
}
