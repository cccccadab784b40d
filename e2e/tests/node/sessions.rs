//! What a person does with a deployment and its pods: look, read logs, run commands, attach, forward, copy.

use crate::{IDLE, SOON, becomes, pod, shell, until};
use e2e::{eventually, free_port, node};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn a_deployment_runs_and_containerd_says_so() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("deployed");
    kubectl.ok("create deployment web --image=ironkeel/web:1 --replicas=3");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    becomes(&kubectl, "get deployment web -o jsonpath={.status.readyReplicas}/{.status.availableReplicas}", "3/3");
    let addresses = kubectl.ok("get pods -o jsonpath={.items[*].status.podIP}");
    let mut addresses: Vec<_> = addresses.split(' ').collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    let table = kubectl.ok("get pods -o wide --no-headers");
    for line in table.lines() {
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells.get(1..4), Some(["1/1", "Running", "0"].as_slice()), "{line}");
        assert!(addresses.iter().any(|address| cells.contains(address)) && cells.contains(&"e2e"), "{line}");
    }
    // containerd runs exactly these.
    let ids = kubectl.ok("get pods -o jsonpath={.items[*].status.containerStatuses[*].containerID}");
    let tasks = cluster.ctr().ok("tasks ls");
    for id in ids.split(' ') {
        let id = id.strip_prefix("containerd://").expect("the runtime's name goes before the id");
        assert!(tasks.lines().any(|line| line.starts_with(id) && line.contains("RUNNING")), "{id} in\n{tasks}");
    }
    // They answer on their addresses.
    for address in addresses {
        let mut stream = TcpStream::connect((address, 8080)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("ironkeel web, version 1"), "{text}");
    }
    // A Service's endpoints are these pods.
    kubectl.ok("expose deployment web --port=80 --target-port=8080");
    until(
        &kubectl,
        "get endpointslices -l kubernetes.io/service-name=web -o jsonpath={.items[*].endpoints[*].conditions.ready}",
        "three ready endpoints",
        |output| output.stdout == "true true true",
    );
    let said = kubectl.ok("describe pods -l app=web --show-events");
    for word in ["Successfully assigned", "Started", "Created", "Container ID:   containerd://"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let pods = kubectl.ok("get pods -o name");
    kubectl.ok("delete deployment web --cascade=foreground --timeout=60s");
    assert_eq!(kubectl.ok("get pods -o name"), "", "of {pods}");
    eventually("containerd has none of them", SOON, || {
        let left = cluster.ctr().ok("containers ls -q");
        let left = ids.split(' ').filter(|id| left.contains(id.trim_start_matches("containerd://"))).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} containers")) }
    });
}

#[test]
fn logs_are_read_and_followed() {
    // Two streams are two pipes: what is written to both at once has no order.
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("logs");
    pod(
        &kubectl,
        "talks",
        &format!(
            "  restartPolicy: Never\n{}",
            shell(
                "echo one; sleep 0.5; echo two >&2; i=0; while [ $i -lt 3 ]; do sleep 0.5; i=$((i+1)); echo tick $i; done; echo end",
            )
        ),
        "Running",
    );
    let mut follow = kubectl.start("logs -f talks");
    follow.says("two");
    follow.says("tick 3");
    follow.says("end");
    assert_eq!(follow.ended(SOON), 0, "the log of a container that ends ends");
    becomes(&kubectl, "get pod talks -o jsonpath={.status.containerStatuses[0].state.terminated.exitCode}", "0");
    assert_eq!(kubectl.ok("logs talks"), "one\ntwo\ntick 1\ntick 2\ntick 3\nend\n");
    assert_eq!(kubectl.ok("logs talks --tail=2"), "tick 3\nend\n");
    assert_eq!(kubectl.ok("logs talks --limit-bytes=5"), "one\nt");
    let stamped = kubectl.ok("logs talks --timestamps --tail=1");
    assert!(stamped.starts_with("20") && stamped.ends_with("Z end\n"), "{stamped}");
    kubectl.fails("logs talks -c other", "container other is not valid for pod talks");
    kubectl.fails("logs talks --previous", "previous terminated container \"c\" in pod \"talks\" not found");
    kubectl.ok("delete pod talks");
}

#[test]
fn commands_run_in_containers() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("exec");
    pod(&kubectl, "box", &shell(IDLE), "Running");
    assert_eq!(kubectl.ok("exec box -- echo 'two words'"), "two words\n");
    let output = kubectl.run("exec box -- sh -c 'echo out; echo err >&2; exit 7'");
    assert_eq!((output.code, output.stdout.as_str()), (7, "out\n"), "{output}");
    assert!(
        output.stderr.contains("err\n") && output.stderr.contains("command terminated with exit code 7"),
        "{output}"
    );
    // Input of more than one frame comes back whole, and its end is seen.
    let input: Vec<u8> = (0..200_000_u32).flat_map(|number| format!("{number:06}\n").into_bytes()).collect();
    let output = kubectl.feed("exec -i box -- cat", &input).ok();
    assert_eq!(output.len(), input.len());
    assert!(output.as_bytes() == input, "the same bytes in the same order");
    assert_eq!(kubectl.feed("exec -i box -- wc -c", &input).ok().trim(), input.len().to_string());
    assert_eq!(kubectl.ok("exec box -- hostname"), "box\n");
    assert_eq!(kubectl.feed("exec -i box -- sh", b"x=1\necho $((x + 1))\nexit 3\n").stdout, "2\n");
    kubectl.fails("exec box -- nothing", "executable file not found in $PATH");
    kubectl.fails("exec box -c other -- true", "container other is not valid for pod box");
    kubectl.fails("exec none -- true", "pods \"none\" not found");
    // All of that went over WebSockets; older clients and those that are told so speak SPDY.
    assert!(!kubectl.run("exec -v=4 box -- true").stderr.contains("RemoteCommand fallback"));
    let spdy = kubectl.clone().env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
    assert!(spdy.feed("exec -i box -- cat", &input).ok().as_bytes() == input, "the same bytes over SPDY");
    assert_eq!(spdy.run("exec box -- sh -c 'exit 7'").code, 7);
    // A terminal, as `script` gives one to kubectl, is one inside too; its size comes soon after it.
    if e2e::tool("script").is_some() {
        let config = cluster.directory().join("kubeconfig");
        let kubectl = e2e::tool("kubectl").unwrap();
        let line = format!(
            "-qec 'stty cols 77 rows 33; {} --kubeconfig {} -n exec exec -it box -- sh -c \"tty; until stty size | grep 77; do sleep 0.1; done 2>/dev/null\"' /dev/null",
            kubectl.display(),
            config.display()
        );
        let said = cluster.tool("script").run(&line);
        assert!(said.stdout.contains("/dev/pts/") && said.stdout.contains("33 77"), "{said}");
    }
    kubectl.ok("delete pod box");
}

#[test]
fn attach_joins_what_runs() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("attach");
    let container = "  containers:\n  - name: c\n    image: ironkeel/busybox:1\n    stdin: true\n    command: [sh, -c, 'echo ready; while read line; do echo got $line; done; echo input ended']\n  restartPolicy: Never\n";
    pod(&kubectl, "reads", container, "Running");
    let mut attach = kubectl.start("attach -i reads");
    eventually("attach passes lines on", SOON, || {
        attach.write("hello\n");
        let lines = attach.lines();
        if lines.iter().any(|line| line == "got hello") { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    assert!(kubectl.ok("logs reads").contains("got hello\n"), "what is attached is logged as well");
    drop(attach);
    assert_eq!(
        kubectl.ok("run once --image=ironkeel/busybox:1 --restart=Never --rm -i --quiet -- sh -c 'sleep 1; echo done'"),
        "done\n"
    );
}

#[test]
fn ports_are_forwarded() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("forward");
    kubectl.ok("create deployment web --image=ironkeel/web:1");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let port = free_port();
    let forward = kubectl.start(&format!("port-forward deployment/web {port}:8080"));
    forward.says(&format!("Forwarding from 127.0.0.1:{port} -> 8080"));
    // Several at once, one after the other closed.
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /cgi-bin/whoami HTTP/1.0\r\n\r\n").unwrap();
        stream
    };
    let streams: Vec<_> = (0..4).map(|_| ask()).collect();
    for mut stream in streams {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("version 1"), "{text}");
    }
    // The same over SPDY, which older clients speak.
    let other = free_port();
    let spdy = kubectl.clone().env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
    let spdy = spdy.start(&format!("port-forward deployment/web {other}:8080"));
    spdy.says(&format!("Forwarding from 127.0.0.1:{other} -> 8080"));
    let mut stream = TcpStream::connect(("127.0.0.1", other)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("version 1"), "{text}");
    let refused = kubectl.start(&format!("port-forward -v=4 deployment/web {}:9", free_port()));
    let said = refused.says("Forwarding from 127.0.0.1");
    let other: u16 = said.split([':', ' ']).find_map(|word| word.parse().ok()).unwrap();
    let mut text = String::new();
    let read = TcpStream::connect(("127.0.0.1", other)).and_then(|mut stream| stream.read_to_string(&mut text));
    assert!(read.is_err() || text.is_empty(), "{text}");
    refused.says("connection refused");
    assert!(!refused.lines().iter().any(|line| line.contains("fallback to secondary dialer")));
}

#[test]
fn files_are_copied() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("copies");
    pod(&kubectl, "box", &shell(IDLE), "Running");
    let here = tempfile::tempdir().unwrap();
    let (out, back) = (here.path().join("out"), here.path().join("back"));
    std::fs::write(&out, "content\n".repeat(10_000)).unwrap();
    kubectl.ok(&format!("cp {} box:/tmp/there", out.display()));
    assert_eq!(kubectl.ok("exec box -- wc -l /tmp/there"), "10000 /tmp/there\n");
    kubectl.ok(&format!("cp box:/tmp/there {}", back.display()));
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&back).unwrap());
    kubectl.ok("delete pod box");
}

#[test]
fn a_container_is_added_to_a_pod_that_runs() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("debugs");
    pod(&kubectl, "box", &shell(IDLE), "Running");
    let id = kubectl.ok("get pod box -o jsonpath={.status.containerStatuses[0].containerID}");
    kubectl.ok("debug box --image=ironkeel/busybox:1 --container=dbg --profile=general -- sh -c 'echo here; hostname'");
    becomes(&kubectl, "get pod box -o jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}", "0");
    assert_eq!(kubectl.ok("logs box -c dbg"), "here\nbox\n");
    assert_eq!(kubectl.ok("get pod box -o jsonpath={.status.containerStatuses[0].containerID}"), id);
    kubectl.ok("delete pod box");
}
