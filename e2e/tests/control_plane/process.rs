//! The process itself: what it does when it is killed, stopped, started twice or badly.

use e2e::{Cluster, Kind, control_plane, eventually};
use std::time::Duration;

/// A cluster of the test's own, where the shared one can run too.
fn own(further: &[&str]) -> Option<Cluster> {
    drop(control_plane()?);
    Some(Cluster::start(Kind::ControlPlane, further))
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    let Some(cluster) = own(&[]) else { return };
    let kubectl = cluster.namespace("crash");
    kubectl.ok("create deployment d --image=i --replicas=2");
    let version = kubectl.ok("create configmap start -o jsonpath={.metadata.resourceVersion}");
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        for number in 0..5 {
            let name = format!("m-{round}-{number}");
            kubectl.ok(&format!("create configmap {name} --from-literal=k={round}{number}"));
            acknowledged.push(name);
        }
        cluster.crash();
        cluster.launch();
        let found = kubectl.ok("get configmaps -o jsonpath={.items[*].metadata.name}");
        for name in &acknowledged {
            assert!(found.split(' ').any(|found| found == name), "{name} was acknowledged; there are {found}");
        }
    }
    // The log still holds what came since: a watch goes on where it was.
    let path = format!("/api/v1/namespaces/crash/configmaps?watch=1&timeoutSeconds=2&resourceVersion={version}");
    let events = kubectl.ok(&format!("get --raw {path}"));
    let names: Vec<_> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| {
            format!("{} {}", event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap())
        })
        .filter(|event| event.contains(" m-"))
        .collect();
    let want: Vec<_> = acknowledged.iter().map(|name| format!("ADDED {name}")).collect();
    assert_eq!(names, want);
    // The controllers go on as well.
    kubectl.ok("scale deployment d --replicas=4");
    eventually("pods after the crash", Duration::from_secs(20), || {
        let pods = kubectl.ok("get pods -o name");
        if pods.lines().count() == 4 { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn a_second_start_finds_everything_and_an_interrupt_is_a_clean_end() {
    let Some(cluster) = own(&[]) else { return };
    let kubectl = cluster.namespace("again");
    let address = kubectl.ok("create service clusterip web --tcp=80 -o jsonpath={.spec.clusterIP}");
    let token = kubectl.ok("create token default");
    assert_eq!(cluster.stop(), Some(0));
    kubectl.fails("get configmaps", "was refused");
    cluster.launch();
    assert_eq!(kubectl.ok("get service web -o jsonpath={.spec.clusterIP}"), address);
    let review = format!(
        r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{}"}}}}"#,
        token.trim()
    );
    let said = kubectl
        .feed(
            "create --validate=false -f - -o jsonpath={.status.authenticated}/{.status.user.username}",
            review.as_bytes(),
        )
        .ok();
    assert_eq!(said, "true/system:serviceaccount:again:default", "keys outlive the process");
}

#[test]
fn a_bad_start_is_one_clear_sentence() {
    let Some(cluster) = control_plane() else { return };
    let check = |what: &str, output: &e2e::Output, words: &[&str]| {
        assert!(output.code > 0, "{what}: {output}");
        let said: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("ironkeel: ")).collect();
        assert_eq!(said.len(), 1, "{what}: {output}");
        for word in words {
            assert!(said.iter().all(|line| line.contains(word)), "{what}: no {word:?} in {output}");
        }
        assert!(!output.stderr.contains("panicked"), "{what}: {output}");
    };
    let scratch = tempfile::Builder::new().prefix("ik").tempdir_in("/tmp").unwrap();
    let up = |further: &str| {
        let place = scratch.path().display();
        let line =
            format!("up --no-node --bind-address=127.0.0.1 --kubeconfig={place}/k --data-dir={place}/d {further}");
        Cluster::ironkeel().limit(Duration::from_secs(20)).run(&line)
    };
    let port = cluster.port();
    check("a port in use", &up(&format!("--secure-port={port}")), &[&port.to_string(), "in use"]);
    check("the same data twice", &cluster.second(""), &["in use"]);
    check(
        "a range that is none",
        &up("--secure-port=0 --service-cluster-ip-range=10.96.0.0"),
        &["--service-cluster-ip-range", "10.96.0.0"],
    );
    check("a file that is not there", &up("--secure-port=0 --token-auth-file=/nothing"), &["/nothing", "No such file"]);
    check("a storage engine that is none", &up("--secure-port=0 --storage=nothing:x"), &["nothing"]);
    check("a log filter that is none", &up("--secure-port=0 --log=a=b=c"), &["--log"]);
    let flag = up("--nothing");
    assert_eq!(flag.code, 2, "{flag}");
    assert!(flag.stderr.contains("unexpected argument '--nothing'"), "{flag}");

    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    let line = format!("up --no-node --secure-port=0 --kubeconfig={0}/k --data-dir={0}/file", scratch.path().display());
    check("a file for a directory", &Cluster::ironkeel().run(&line), &["file"]);
    let reset = |directory: &str| Cluster::ironkeel().run(&format!("reset --yes --data-dir {directory}"));
    check(
        "reset of something else",
        &reset("/usr"),
        &["does not look like a cluster's data directory; nothing was removed"],
    );
    check("reset of a cluster that runs", &reset(&cluster.data().display().to_string()), &["in use"]);
    assert_eq!(cluster.kubectl().ok("get --raw /readyz"), "ok");
}

#[test]
fn tokens_of_a_file_and_anonymity_are_flags() {
    let scratch = tempfile::tempdir().unwrap();
    let tokens = scratch.path().join("tokens.csv");
    std::fs::write(&tokens, "s3cret,jane,7,\"devs,ops\"\n").unwrap();
    let flag = format!("--token-auth-file={}", tokens.display());
    let Some(cluster) = own(&[&flag, "--anonymous-auth=false", "--service-cluster-ip-range=10.77.0.0/24"]) else {
        return;
    };
    let kubectl = cluster.kubectl();
    assert_eq!(kubectl.ok("get service kubernetes -o jsonpath={.spec.clusterIP}"), "10.77.0.1");
    let file = scratch.path().join("kubeconfig");
    let other = kubectl.clone().env("KUBECONFIG", &file);
    other.ok(&format!("config set-cluster c --insecure-skip-tls-verify --server=https://127.0.0.1:{}", cluster.port()));
    other.ok("config set-credentials u --token=s3cret");
    other.ok("config set-context x --cluster=c --user=u");
    other.ok("config use-context x");
    let who = other
        .ok("auth whoami -o jsonpath={.status.userInfo.username}|{.status.userInfo.uid}|{.status.userInfo.groups}");
    assert_eq!(who, r#"jane|7|["devs","ops","system:authenticated"]"#);
    let answer = cluster.anonymous().get("/version");
    assert_eq!(
        (answer.status, &answer.body["reason"], &answer.body["message"]),
        (401, &"Unauthorized".into(), &"Unauthorized".into())
    );
}

#[test]
fn data_of_another_version_are_refused_and_left_alone() {
    let Some(cluster) = own(&[]) else { return };
    cluster.namespace("kept");
    assert_eq!(cluster.stop(), Some(0));
    let format = cluster.data().join("store/data/FORMAT");
    let own = std::fs::read(&format).unwrap();
    std::fs::write(&format, "ironkeel 4711\n").unwrap();
    let output = cluster.second("");
    assert!(output.code > 0 && output.stderr.contains("4711") && !output.stderr.contains("panicked"), "{output}");
    assert_eq!(output.stderr.lines().filter(|line| line.starts_with("ironkeel: ")).count(), 1, "{output}");
    std::fs::write(&format, own).unwrap();
    cluster.launch();
    cluster.kubectl().ok("get namespace kept");
}

#[test]
fn a_machine_that_cannot_run_containers_is_told_what_it_lacks() {
    if e2e::binary().is_none() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let place = scratch.path().display();
    let line = format!("up --secure-port=0 --bind-address=127.0.0.1 --kubeconfig={place}/k --data-dir={place}/d");
    // Nobody's identity where this is root: programs are found in system directories whatever PATH says.
    let output = if let (Some(setpriv), true) = (e2e::tool("setpriv"), nix::unistd::geteuid().is_root()) {
        // A place that nobody may read from, too.
        let binary = scratch.path().join("ironkeel");
        std::fs::copy(e2e::binary().unwrap(), &binary).unwrap();
        std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let line = format!("--reuid=65534 --regid=65534 --clear-groups {} {line}", binary.display());
        e2e::Cli::at(setpriv).limit(Duration::from_secs(20)).run(&line)
    } else if nix::unistd::geteuid().is_root() {
        return;
    } else {
        Cluster::ironkeel().limit(Duration::from_secs(20)).run(&line)
    };
    for words in ["ironkeel: this machine cannot run containers: ", "not root", "--no-node"] {
        assert!(output.code > 0 && output.stderr.contains(words), "{words}: {output}");
    }
}
