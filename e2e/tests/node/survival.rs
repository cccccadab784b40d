//! What running containers do not notice: the end of the server, of the kubelet with it, and of containerd.

use crate::{IDLE, SOON, becomes, pod, shell};
use e2e::{Cli, Cluster, Kind, eventually, node};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A cluster of the test's own, where the shared one can run too.
fn own(further: &[&str]) -> Option<Cluster> {
    drop(node()?);
    let cluster = Cluster::start(Kind::Node, further);
    cluster.load_images();
    Some(cluster)
}

/// Ids and start times of the containers of all pods, as the API says.
fn containers(kubectl: &Cli) -> String {
    kubectl.ok("get pods -o jsonpath={range.items[*]}{.metadata.name}:{.status.containerStatuses[0].containerID}:{.status.containerStatuses[0].state.running.startedAt}:{.status.containerStatuses[0].restartCount},{end}")
}

/// The process ids of the containers, as containerd says.
fn tasks(cluster: &Cluster) -> Vec<String> {
    let mut tasks: Vec<_> = cluster.ctr().ok("tasks ls").lines().skip(1).map(str::to_owned).collect();
    tasks.sort();
    tasks
}

#[test]
fn containers_outlive_a_crash_of_the_server() {
    let Some(cluster) = own(&[]) else { return };
    let kubectl = cluster.namespace("survives");
    kubectl.ok("create deployment web --image=ironkeel/web:1 --replicas=2");
    pod(
        &kubectl,
        "counts",
        &shell("i=0; trap 'exit 0' TERM; while :; do i=$((i+1)); echo $i; sleep 0.2; done"),
        "Running",
    );
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let (before, ran) = (containers(&kubectl), tasks(&cluster));
    cluster.crash();
    cluster.launch();
    kubectl.ok("wait --for=condition=Ready pods --all --timeout=60s");
    assert_eq!(containers(&kubectl), before);
    assert_eq!(tasks(&cluster), ran);
    let mut follow = kubectl.start("logs -f counts --tail=1");
    let first: u32 = follow.says("").parse().unwrap();
    follow.says(&(first + 2).to_string());
    follow.close();
    drop(follow);
    // And the kubelet goes on with its work: what is deleted goes, what is asked for comes.
    kubectl.ok("delete pod counts --timeout=60s");
    kubectl.ok("scale deployment web --replicas=3");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    kubectl.ok("exec deployment/web -- true");
}

#[test]
fn containers_outlive_containerd() {
    let Some(cluster) = own(&[]) else { return };
    let kubectl = cluster.namespace("outlives");
    pod(&kubectl, "box", &shell(IDLE), "Running");
    let (before, ran) = (containers(&kubectl), tasks(&cluster));
    let file = cluster.data().join("containerd/containerd.pid");
    let pid = || -> Result<i32, String> {
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        text.split_whitespace().next().and_then(|word| word.parse().ok()).ok_or(text)
    };
    let old = pid().unwrap();
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    eventually("another containerd answers", SOON, || {
        let new = pid()?;
        let version = cluster.ctr().run("version");
        if new != old && version.code == 0 { Ok(()) } else { Err(format!("pid {new}: {version}")) }
    });
    assert_eq!(tasks(&cluster), ran);
    eventually("commands run again", SOON, || {
        let output = kubectl.run("exec box -- true");
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    assert_eq!(containers(&kubectl), before);
    becomes(&kubectl, "get node e2e -o jsonpath={.status.conditions[?(@.type==\"Ready\")].status}", "True");
    pod(&kubectl, "fresh", &shell(IDLE), "Running");
}

#[test]
fn pods_stay_or_go_with_the_cluster_as_asked() {
    let Some(cluster) = own(&["--keep-pods"]) else { return };
    let kubectl = cluster.namespace("stays");
    pod(&kubectl, "box", &shell(IDLE), "Running");
    let before = containers(&kubectl);
    assert_eq!(cluster.stop(), Some(0));
    cluster.launch();
    kubectl.ok("wait --for=condition=Ready pod/box --timeout=60s");
    assert_eq!(containers(&kubectl), before);
    assert_eq!(cluster.stop(), Some(0));
    // `down` removes what runs and keeps what is stored.
    let down = format!("down --data-dir {}", cluster.data().display());
    Cluster::ironkeel().run(&down).ok();
    let shims = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("containerd-shim") && line.contains(&cluster.data().display().to_string())
    });
    assert_eq!(shims.count(), 0, "no container of this cluster is left");
    cluster.launch();
    kubectl.ok("wait --for=condition=Ready pod/box --timeout=60s");
    assert_ne!(containers(&kubectl), before, "the pod runs again, in another container");
}
