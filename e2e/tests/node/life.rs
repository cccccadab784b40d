//! How containers begin, fail, come back and end: init containers, back-off, probes, hooks, grace.

use crate::{IDLE, SOON, becomes, pod, shell, until};
use e2e::node;
use std::time::Instant;

#[test]
fn init_containers_go_first_one_after_the_other() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("inits");
    let spec = "  initContainers:
  - {name: one, image: 'ironkeel/busybox:1', command: [sh, -c, 'echo one >> /s/order'], volumeMounts: [{name: s, mountPath: /s}]}
  - {name: side, image: 'ironkeel/busybox:1', restartPolicy: Always, command: [sh, -c, 'echo side >> /s/order; trap \"exit 0\" TERM; while :; do sleep 0.2; done'], volumeMounts: [{name: s, mountPath: /s}], startupProbe: {periodSeconds: 1, exec: {command: [grep, side, /s/order]}}}
  - {name: two, image: 'ironkeel/busybox:1', command: [sh, -c, 'echo two >> /s/order'], volumeMounts: [{name: s, mountPath: /s}]}
  containers:
  - {name: c, image: 'ironkeel/busybox:1', command: [sh, -c, 'echo main >> /s/order; cat /s/order'], volumeMounts: [{name: s, mountPath: /s}]}
  restartPolicy: Never
  volumes: [{name: s, emptyDir: {}}]
";
    pod(&kubectl, "ordered", spec, "Succeeded");
    assert_eq!(kubectl.ok("logs ordered -c c"), "one\nside\ntwo\nmain\n");
    let fails = "  initContainers:\n  - {name: bad, image: 'ironkeel/busybox:1', command: [sh, -c, 'exit 3']}\n  containers:\n  - {name: c, image: 'ironkeel/busybox:1', command: ['true']}\n  restartPolicy: Never\n";
    pod(&kubectl, "fails", fails, "Failed");
    assert_eq!(
        kubectl.ok("get pod fails -o jsonpath={.status.initContainerStatuses[0].state.terminated.exitCode}"),
        "3"
    );
    let table = kubectl.ok("get pods --no-headers");
    assert!(table.contains("Init:Error") && table.contains("Completed"), "{table}");
}

#[test]
fn a_container_that_fails_is_started_again_with_patience() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("crashes");
    pod(&kubectl, "crash", &shell("echo try; exit 1"), "Running");
    becomes(
        &kubectl,
        "get pod crash -o jsonpath={.status.containerStatuses[0].state.waiting.reason}",
        "CrashLoopBackOff",
    );
    let restarts = kubectl.ok("get pod crash -o jsonpath={.status.containerStatuses[0].restartCount}");
    assert!(restarts.parse::<u32>().unwrap() >= 1, "{restarts}");
    assert_eq!(
        kubectl.ok("get pod crash -o jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}"),
        "1"
    );
    assert_eq!(kubectl.ok("logs crash"), "try\n");
    until(&kubectl, "events --for pod/crash", "it is told", |output| {
        output.stdout.contains("Back-off restarting failed container c")
    });
    kubectl.ok("delete pod crash");
    for (name, policy, script, phase) in
        [("done", "OnFailure", "exit 0", "Succeeded"), ("lost", "Never", "exit 4", "Failed")]
    {
        pod(&kubectl, name, &format!("  restartPolicy: {policy}\n{}", shell(script)), phase);
        assert_eq!(
            kubectl.ok(&format!("get pod {name} -o jsonpath={{.status.containerStatuses[0].restartCount}}")),
            "0"
        );
    }
}

#[test]
fn probes_decide_who_is_ready_and_who_begins_again() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("probes");
    let ready = format!(
        "{}    readinessProbe: {{periodSeconds: 1, failureThreshold: 1, exec: {{command: [test, -e, /tmp/ready]}}}}\n",
        shell(IDLE)
    );
    pod(&kubectl, "ready", &ready, "Running");
    kubectl.ok("expose pod ready --port=80");
    let endpoints =
        "get endpointslices -l kubernetes.io/service-name=ready -o jsonpath={.items[*].endpoints[*].conditions.ready}";
    becomes(&kubectl, endpoints, "false");
    kubectl.ok("exec ready -- touch /tmp/ready");
    becomes(&kubectl, endpoints, "true");
    kubectl.ok("wait --for=condition=Ready pod/ready --timeout=30s");
    kubectl.ok("exec ready -- rm /tmp/ready");
    becomes(&kubectl, endpoints, "false");
    assert_eq!(kubectl.ok("get pod ready -o jsonpath={.status.containerStatuses[0].restartCount}"), "0");

    let live = format!(
        "{}    livenessProbe: {{periodSeconds: 1, failureThreshold: 2, exec: {{command: [test, '!', -e, /tmp/sick]}}}}\n",
        shell(IDLE)
    );
    pod(&kubectl, "live", &live, "Running");
    let id = kubectl.ok("get pod live -o jsonpath={.status.containerStatuses[0].containerID}");
    kubectl.ok("exec live -- touch /tmp/sick");
    becomes(
        &kubectl,
        "get pod live -o jsonpath={.status.containerStatuses[0].restartCount}/{.status.containerStatuses[0].ready}",
        "1/true",
    );
    assert_ne!(kubectl.ok("get pod live -o jsonpath={.status.containerStatuses[0].containerID}"), id);
    until(&kubectl, "events --for pod/live", "it is told", |output| {
        output.stdout.contains("Unhealthy") && output.stdout.contains("failed liveness probe, will be restarted")
    });

    let http = "  containers:\n  - {name: c, image: 'ironkeel/web:1', startupProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}, readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8080}}, livenessProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}}\n";
    pod(&kubectl, "http", http, "Running");
    kubectl.ok("wait --for=condition=Ready pod/http --timeout=30s");
    kubectl.ok("delete pods --all");
}

#[test]
fn a_pod_gets_the_time_it_was_promised() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("grace");
    // It says farewell where the next one can read it.
    let directory = cluster.directory().join("farewell");
    let spec = |grace: u32, script: &str| {
        format!("  volumes: [{{name: h, hostPath: {{path: {}, type: DirectoryOrCreate}}}}]\n{}    lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'echo hook >> /h/said']}}}}}}\n    volumeMounts: [{{name: h, mountPath: /h}}]\n", directory.display(), shell(script))
            .replace("GRACE", &grace.to_string())
    };
    let said = || std::fs::read_to_string(directory.join("said")).unwrap_or_default();
    let script = "trap 'sleep 2; echo bye >> /h/said; exit 0' TERM; while :; do sleep 0.2; done";
    pod(&kubectl, "polite", &spec(0, script), "Running");
    kubectl.ok("patch pod polite --type=merge -p '{\"metadata\":{\"annotations\":{\"seen\":\"yes\"}}}'");
    let begun = Instant::now();
    kubectl.ok("delete pod polite --grace-period=20 --timeout=60s");
    assert_eq!(said(), "hook\nbye\n");
    let took = begun.elapsed();
    assert!(took.as_secs() >= 2 && took.as_secs() < 18, "{took:?}");
    pod(&kubectl, "deaf", &shell("trap '' TERM; while :; do sleep 0.2; done"), "Running");
    let begun = Instant::now();
    kubectl.ok("delete pod deaf --grace-period=2 --timeout=60s");
    assert!(begun.elapsed().as_secs() >= 2 && begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
    pod(&kubectl, "now", &shell("trap '' TERM; while :; do sleep 0.2; done"), "Running");
    let id = kubectl.ok("get pod now -o jsonpath={.status.containerStatuses[0].containerID}");
    let output = kubectl.run("delete pod now --grace-period=0 --force --timeout=30s");
    assert!(output.code == 0 && output.stderr.contains("Immediate deletion does not wait"), "{output}");
    let id = id.trim_start_matches("containerd://");
    e2e::eventually("its container goes as well", SOON, || {
        let tasks = cluster.ctr().ok("tasks ls -q");
        if tasks.contains(id) { Err(tasks) } else { Ok(()) }
    });
}

#[test]
fn an_eviction_is_a_deletion_with_manners() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("evicted");
    pod(&kubectl, "box", &shell(IDLE), "Running");
    let body = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"box","namespace":"evicted"}}"#;
    kubectl.feed("create --raw /api/v1/namespaces/evicted/pods/box/eviction -f -", body.as_bytes()).ok();
    kubectl.ok("wait --for=delete pod/box --timeout=60s");
}
