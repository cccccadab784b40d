//! Tests of the status: phases, container states and conditions.

use super::*;
use crate::model::Sandbox;
use crate::plan::{Failure, Probed, Verdict, plan};
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: Value) -> core::Pod {
    let mut value = json!({"metadata": {"name": "p", "uid": "u", "generation": 4}, 
        "status": {"qosClass": "Burstable", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:05Z"},
            {"type": "example.org/gate", "status": "False"}]}});
    value["spec"] = spec;
    serde_json::from_value(value).unwrap()
}

fn sandbox() -> Sandbox {
    Sandbox {
        id: "s".into(),
        attempt: 0,
        ready: true,
        created_at: 1,
        host_network: false,
        ips: vec!["10.0.0.1".into()],
    }
}

fn run(name: &str, attempt: u32, exit: Option<i32>) -> Container {
    Container {
        id: format!("{name}{attempt}"),
        sandbox_id: "s".into(),
        name: name.into(),
        attempt,
        phase: if exit.is_some() { ContainerPhase::Exited } else { ContainerPhase::Running },
        created_at: i64::from(attempt),
        started_at: 1_000_000_000,
        finished_at: 2_000_000_000,
        exit_code: exit.unwrap_or(0),
        reason: exit.map_or("", |code| if code == 0 { "Completed" } else { "Error" }).into(),
        message: String::new(),
        image: "i".into(),
        image_ref: "sha".into(),
        hash: None,
        grace: None,
        log_path: String::new(),
        resources: None,
    }
}

fn observed(containers: Vec<Container>) -> Observed {
    let mut containers = containers;
    containers.sort_by_key(|container| std::cmp::Reverse(container.attempt));
    Observed { sandboxes: vec![sandbox()], containers }
}

fn compute(pod: &core::Pod, observed: &Observed, memory: &Memory, previous: &core::PodStatus) -> core::PodStatus {
    let now = at(100);
    let plan = plan(pod, observed, memory, now);
    let context = Context { previous, plan: &plan, memory, node_ip: "192.0.2.1".parse().unwrap(), now };
    status(pod, observed, &context)
}

fn simple(pod: &core::Pod, observed: &Observed) -> core::PodStatus {
    compute(pod, observed, &Memory::default(), &pod.status.clone().unwrap_or_default())
}

fn condition(status: &core::PodStatus, kind: &str) -> (String, String) {
    let list = status.conditions.as_deref().unwrap_or_default();
    let found = list.iter().find(|condition| condition.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone().unwrap_or_default())
}

#[test]
fn phases() {
    let two = |policy: &str| pod(json!({"containers": [{"name": "a"}, {"name": "b"}], "restartPolicy": policy}));
    let with_init = |policy: &str| {
        pod(json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}], "restartPolicy": policy}))
    };
    let cases = [
        (two("Always"), vec![], "Pending"),
        (two("Always"), vec![run("a", 0, None)], "Pending"),
        (two("Always"), vec![run("a", 0, None), run("b", 0, None)], "Running"),
        (two("Always"), vec![run("a", 0, Some(1)), run("b", 0, None)], "Running"),
        (two("Always"), vec![run("a", 0, Some(0)), run("b", 0, Some(0))], "Running"),
        (two("OnFailure"), vec![run("a", 0, Some(0)), run("b", 0, Some(0))], "Succeeded"),
        (two("OnFailure"), vec![run("a", 0, Some(0)), run("b", 0, Some(1))], "Running"),
        (two("Never"), vec![run("a", 0, Some(0)), run("b", 0, Some(1))], "Failed"),
        (two("Never"), vec![run("a", 0, Some(0)), run("b", 0, None)], "Running"),
        (with_init("Always"), vec![run("i", 0, None)], "Pending"),
        (with_init("Always"), vec![run("i", 0, Some(1))], "Pending"),
        (with_init("Never"), vec![run("i", 0, Some(1))], "Failed"),
        (with_init("Never"), vec![run("i", 0, Some(0)), run("a", 0, None)], "Running"),
        (with_init("Never"), vec![run("i", 0, Some(0)), run("a", 0, Some(0))], "Succeeded"),
    ];
    for (pod, containers, expected) in cases {
        let seen = observed(containers);
        assert_eq!(simple(&pod, &seen).phase.as_deref(), Some(expected), "{seen:#?}");
    }
}

#[test]
fn a_running_pod_is_ready_and_keeps_what_others_wrote() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "img"}]}));
    let status = simple(&pod, &observed(vec![run("a", 0, None)]));
    assert_eq!(condition(&status, "Ready"), ("True".into(), String::new()));
    assert_eq!(condition(&status, "example.org/gate").0, "False");
    assert_eq!((status.pod_ip.as_deref(), status.host_ip.as_deref()), (Some("10.0.0.1"), Some("192.0.2.1")));
    assert_eq!((status.qos_class.as_deref(), status.observed_generation), (Some("Burstable"), Some(4)));
    let list = status.conditions.as_deref().unwrap();
    let scheduled = list.iter().find(|condition| condition.type_ == "PodScheduled").unwrap();
    assert_eq!(scheduled.last_transition_time, Some(Time(at(5))));
    let again = compute(&pod, &observed(vec![run("a", 0, None)]), &Memory::default(), &status);
    assert!(same(&again, &status));
}

#[test]
fn a_resize_is_told() {
    let spec = json!({"containers": [{"name": "a", "image": "img", "resources": {"requests": {"cpu": "2"}}}]});
    let pod = pod(spec);
    let cpu = |cpu: &str| -> core::ResourceRequirements {
        serde_json::from_value(json!({"requests": {"cpu": cpu}})).unwrap()
    };
    let mut made = run("a", 0, None);
    made.resources = Some(cpu("1"));
    let mut memory = Memory::default();
    memory.resize.pending = Some(resize::Pending { message: "no room".into(), generation: Some(4) });
    memory.resize.progress = Some(resize::Progress { generation: Some(3), error: None });
    let status = compute(&pod, &observed(vec![made.clone()]), &memory, &core::PodStatus::default());
    assert_eq!(condition(&status, "PodResizePending"), ("True".into(), "Deferred".into()));
    assert_eq!(condition(&status, "PodResizeInProgress"), ("True".into(), String::new()));
    let generation = |kind: &str| {
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
        found.unwrap().observed_generation
    };
    assert_eq!((generation("PodResizePending"), generation("PodResizeInProgress")), (Some(4), Some(3)));
    let told = |status: &core::PodStatus| {
        let own = status.container_statuses.as_ref().unwrap()[0].clone();
        (own.allocated_resources, own.resources)
    };
    assert_eq!(told(&status), (cpu("2").requests, Some(cpu("1"))), "granted and not yet so");
    memory.resize.applied.insert("a0".into(), cpu("2"));
    (memory.resize.pending, memory.resize.progress) = (None, None);
    let done = compute(&pod, &observed(vec![made]), &memory, &status);
    assert_eq!(told(&done), (cpu("2").requests, Some(cpu("2"))));
    assert!(!done.conditions.iter().flatten().any(|condition| condition.type_.starts_with("PodResize")));
}

#[test]
fn waiting_says_why() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "img"}], "initContainers": []}));
    let empty = observed(vec![]);
    let waiting = |status: &core::PodStatus| {
        let state = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
        state.waiting.unwrap().reason.unwrap()
    };
    assert_eq!(waiting(&simple(&pod, &empty)), "ContainerCreating");
    let failure = Failure { reason: "ErrImagePull".into(), message: "m".into(), retry_at: at(200), times: 1 };
    let memory = Memory { failures: [("a".to_owned(), failure)].into(), ..Memory::default() };
    assert_eq!(waiting(&compute(&pod, &empty, &memory, &core::PodStatus::default())), "ErrImagePull");
    let mut memory = Memory::default();
    memory.backoff.next(&crate::plan::backoff_key(&app_containers(&pod)[0]), at(99));
    let mut crashed = run("a", 1, Some(3));
    crashed.finished_at = 99_000_000_000;
    let looping = compute(&pod, &observed(vec![run("a", 0, Some(2)), crashed]), &memory, &core::PodStatus::default());
    assert_eq!(waiting(&looping), "CrashLoopBackOff");
    let first = &looping.container_statuses.as_ref().unwrap()[0];
    assert_eq!(first.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 3);
    assert_eq!((first.restart_count, looping.phase.as_deref()), (1, Some("Running")));
}

#[test]
fn the_last_run_is_shown() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let status = simple(&pod, &observed(vec![run("a", 0, Some(9)), run("a", 1, None)]));
    let first = &status.container_statuses.as_ref().unwrap()[0];
    assert!(first.state.as_ref().unwrap().running.is_some() && first.ready);
    assert_eq!(first.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 9);
}

#[test]
fn readiness_by_probe_gate_and_memory() {
    let spec = json!({"containers": [{"name": "a", "readinessProbe": {"tcpSocket": {"port": 1}}}],
        "readinessGates": [{"conditionType": "example.org/gate"}]});
    let mut pod = pod(spec);
    let seen = observed(vec![run("a", 0, None)]);
    let none = core::PodStatus::default();
    assert_eq!(
        condition(&compute(&pod, &seen, &Memory::default(), &none), "Ready"),
        ("False".into(), "ContainersNotReady".into())
    );
    let passed = Memory {
        probes: [("a0".to_owned(), Probed { ready: Some(true), ..Probed::default() })].into(),
        ..Memory::default()
    };
    let gated = compute(&pod, &seen, &passed, &none);
    assert_eq!(condition(&gated, "ContainersReady").0, "True");
    assert_eq!(condition(&gated, "Ready"), ("False".into(), "ReadinessGatesNotReady".into()));
    pod.spec.as_mut().unwrap().readiness_gates = None;
    let ready = compute(&pod, &seen, &passed, &none);
    assert_eq!(condition(&ready, "Ready").0, "True");
    // After a restart of the kubelet the same container stays ready until its probe says otherwise.
    assert_eq!(condition(&compute(&pod, &seen, &Memory::default(), &ready), "Ready").0, "True");
}

#[test]
fn init_containers_and_sidecars() {
    let pod = pod(json!({"containers": [{"name": "a"}],
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]}));
    let early = simple(&pod, &observed(vec![run("s", 0, None)]));
    assert_eq!(condition(&early, "Initialized"), ("False".into(), "ContainersNotInitialized".into()));
    let reason = |status: &core::PodStatus| {
        status.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap().waiting.as_ref().unwrap().reason.clone()
    };
    assert_eq!(reason(&early).as_deref(), Some("PodInitializing"));
    let mut made = run("i", 0, None);
    made.phase = ContainerPhase::Created;
    let begun = simple(&pod, &observed(vec![run("s", 0, None), made]));
    let waits = begun.init_container_statuses.as_ref().unwrap()[1].state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waits.reason.as_deref(), Some("PodInitializing"));
    let late = simple(&pod, &observed(vec![run("s", 0, None), run("i", 0, Some(0)), run("a", 0, None)]));
    assert_eq!((condition(&late, "Initialized").0, condition(&late, "Ready").0), ("True".into(), "True".into()));
    // The sidecar crashes: not ready, yet neither pending nor uninitialized.
    let hurt = simple(&pod, &observed(vec![run("s", 0, Some(1)), run("i", 0, Some(0)), run("a", 0, None)]));
    assert_eq!((hurt.phase.as_deref(), condition(&hurt, "Ready").0), (Some("Running"), "False".into()));
}

#[test]
fn verdicts_and_terminal_phases_stay() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let memory =
        Memory { verdict: Some(Verdict { reason: "OutOfcpu".into(), message: "m".into() }), ..Memory::default() };
    let refused = compute(&pod, &Observed::default(), &memory, &core::PodStatus::default());
    assert_eq!((refused.phase.as_deref(), refused.reason.as_deref()), (Some("Failed"), Some("OutOfcpu")));
    assert!(refused.container_statuses.is_none());
    let failed = core::PodStatus { phase: Some("Failed".into()), reason: Some("Evicted".into()), ..Default::default() };
    let kept = compute(&pod, &observed(vec![run("a", 0, None)]), &Memory::default(), &failed);
    assert_eq!((kept.phase.as_deref(), kept.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}

#[test]
fn what_the_runtime_forgot_is_told() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let before = simple(&pod, &observed(vec![run("a", 2, None)]));
    let after = compute(&pod, &Observed::default(), &Memory::default(), &before);
    let first = &after.container_statuses.as_ref().unwrap()[0];
    let last = first.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(first.restart_count, 3);
}
