//! The audit as an operator sets it up: a policy, a log that is rotated, and a webhook over TLS.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use crate::components::{LONG, Machine, Part};
use e2e::{Cli, TlsServer, base64, control_plane, eventually};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// Serves with a policy; the words are further flags.
fn serving(machine: &Machine, policy: &str, words: &[String]) -> (Part, Cli) {
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    std::fs::write(machine.path("policy.yaml"), format!("{head}{policy}")).unwrap();
    let policy = format!("--audit-policy-file={}", machine.path("policy.yaml"));
    machine.serve(&[&[policy], words].concat())
}

fn read(path: &str) -> (String, Vec<Value>) {
    let text = std::fs::read_to_string(path).unwrap();
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (text, events)
}

/// The first event of which all this is true, by JSON pointers.
fn find<'a>(events: &'a [Value], want: &[(&str, &str)]) -> &'a Value {
    let holds = |event: &&Value| want.iter().all(|(at, text)| event.pointer(at) == Some(&json!(text)));
    events.iter().find(holds).unwrap_or_else(|| {
        let all: Vec<String> = events.iter().map(Value::to_string).collect();
        panic!("no {want:?} in\n{}", all.join("\n"))
    })
}

const VERB: &str = "/verb";
const STAGE: &str = "/stage";
const RESOURCE: &str = "/objectRef/resource";
const NAME: &str = "/objectRef/name";

#[test]
fn requests_are_on_record_as_the_policy_says() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    // It refuses what it gets first.
    let posted: Arc<Mutex<(usize, Vec<Value>)>> = Arc::default();
    let taken = Arc::clone(&posted);
    let hook = TlsServer::serve(&["127.0.0.1"], move |request| {
        let taken = Arc::clone(&taken);
        async move {
            let right = request.uri() == "/audit" && request.headers()["authorization"] == "Bearer hook-token";
            let body = request.into_body().collect().await?.to_bytes();
            let list: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mut taken = taken.lock().unwrap();
            taken.0 += 1;
            let code = if taken.0 == 1 || !right || list["kind"] != "EventList" { 503 } else { 200 };
            if code == 200 {
                taken.1.extend(list["items"].as_array().unwrap().iter().cloned());
            }
            Ok(http::Response::builder().status(code).body(Full::default()).unwrap())
        }
    });
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://127.0.0.1:{}/audit", hook.port),
            "certificate-authority-data": base64(hook.authority.as_bytes())}}],
        "users": [{"name": "u", "user": {"token": "hook-token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    std::fs::write(machine.path("hook.conf"), config.to_string()).unwrap();
    let policy = "omitStages: [RequestReceived]\nrules:\n\
        - {level: None, users: ['system:apiserver']}\n\
        - {level: Metadata, resources: [{resources: [secrets, pods]}]}\n\
        - {level: RequestResponse, namespaces: [default], resources: [{resources: [configmaps]}], omitManagedFields: true}\n\
        - {level: Metadata, nonResourceURLs: ['/version'], omitStages: [Panic]}\n";
    let words = [
        format!("--audit-log-path={}", machine.path("audit/audit.log")),
        format!("--audit-webhook-config-file={}", machine.path("hook.conf")),
        "--audit-webhook-batch-max-wait=100ms".to_owned(),
        "--audit-webhook-initial-backoff=50ms".to_owned(),
    ];
    let (server, kubectl) = serving(&machine, policy, &words);
    kubectl.ok("create configmap seen --from-literal=k=v --namespace=default");
    kubectl.ok("label configmap seen a=b --namespace=default");
    kubectl.ok("get configmaps --namespace=default");
    kubectl.ok("create secret generic hidden --from-literal=k=secret-word --namespace=default");
    kubectl.fails("get secret hidden --namespace=default --as=nobody --as-group=few", "orbidden");
    kubectl.ok("delete configmap seen --namespace=default --wait=false");
    let mut watch = kubectl.start("get configmaps --namespace=default --watch-only --output=name --request-timeout=1s");
    watch.ended(LONG);
    kubectl.ok("create namespace careful");
    kubectl.ok("label namespace careful pod-security.kubernetes.io/audit=restricted");
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"bold","namespace":"careful"},
        "spec":{"containers":[{"name":"a","image":"a"}],"serviceAccountName":"default"}}"#;
    let account = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default","namespace":"careful"}}"#;
    kubectl.feed("create -f -", account.as_bytes()).ok();
    kubectl.feed("create -f -", pod.as_bytes()).ok();
    let token = Cli::new("kubectl").env("KUBECONFIG", "/dev/null");
    let line = format!(
        "get --raw /version --server=https://127.0.0.1:{} --insecure-skip-tls-verify --token=wrong",
        machine.port
    );
    assert_ne!(token.run(&line).code, 0);
    kubectl
        .fails("get --raw /version?timeout=soon --request-timeout=0", "invalid timeout specified in the request URL");
    let metrics = kubectl.ok("get --raw /metrics");

    let log = machine.path("audit/audit.log");
    let done = [(VERB, "watch"), (STAGE, "ResponseComplete"), (RESOURCE, "configmaps")];
    eventually("the end of the watch", LONG, || {
        let holds = |event: &Value| done.iter().all(|(at, text)| event.pointer(at) == Some(&json!(text)));
        if read(&log).1.iter().any(holds) { Ok(()) } else { Err("no such event".to_owned()) }
    });
    let (text, events) = read(&log);
    let seen = find(&events, &[(VERB, "create"), (RESOURCE, "configmaps")]);
    assert_eq!((&seen["level"], &seen["stage"]), (&json!("RequestResponse"), &json!("ResponseComplete")));
    assert_eq!(seen["objectRef"]["name"], "seen", "{seen}");
    assert_eq!(seen["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!((&seen["user"]["username"], &seen["sourceIPs"]), (&json!("kubernetes-admin"), &json!(["127.0.0.1"])));
    assert!(seen["userAgent"].as_str().unwrap().starts_with("kubectl/"), "{seen}");
    assert_eq!((&seen["requestObject"]["data"]["k"], &seen["responseObject"]["data"]["k"]), (&json!("v"), &json!("v")));
    assert!(seen["responseObject"]["metadata"]["uid"].is_string(), "{seen}");
    assert!(seen["responseObject"]["metadata"].get("managedFields").is_none(), "{seen}");
    assert_eq!(seen["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(seen["annotations"]["authorization.k8s.io/reason"].is_string(), "{seen}");
    let patched = find(&events, &[(VERB, "patch"), (RESOURCE, "configmaps")]);
    assert_eq!(patched["requestObject"]["metadata"]["labels"], json!({"a": "b"}), "{patched}");
    let listed = find(&events, &[(VERB, "list"), (RESOURCE, "configmaps")]);
    assert_eq!(listed["responseObject"]["kind"], "Table", "{listed}");
    let deleted = find(&events, &[(VERB, "delete"), (RESOURCE, "configmaps")]);
    assert_eq!(
        (&deleted["responseStatus"]["status"], &deleted["responseStatus"]["code"]),
        (&json!("Success"), &json!(200))
    );
    assert_eq!(deleted["requestObject"]["kind"], "DeleteOptions", "{deleted}");
    find(&events, &[(VERB, "watch"), (STAGE, "ResponseStarted"), (RESOURCE, "configmaps")]);
    let hidden = find(&events, &[(VERB, "create"), (RESOURCE, "secrets")]);
    assert_eq!((&hidden["level"], &hidden["objectRef"]["name"]), (&json!("Metadata"), &json!("hidden")));
    assert!(!text.contains("secret-word") && !text.contains("c2VjcmV0LXdvcmQ"), "what is secret stays out");
    let refused = find(&events, &[(VERB, "get"), (RESOURCE, "secrets"), (NAME, "hidden")]);
    assert_eq!(refused["impersonatedUser"]["username"], "nobody", "{refused}");
    assert_eq!(refused["impersonatedUser"]["groups"], json!(["few", "system:authenticated"]), "{refused}");
    assert_eq!(
        (&refused["responseStatus"]["code"], &refused["responseStatus"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    let bold = find(&events, &[(VERB, "create"), (RESOURCE, "pods"), (NAME, "bold")]);
    let violations = bold["annotations"]["pod-security.kubernetes.io/audit-violations"].as_str().unwrap_or_default();
    assert!(violations.starts_with("would violate PodSecurity \"restricted:latest\""), "{bold}");
    let unknown = find(&events, &[("/requestURI", "/version"), (STAGE, "ResponseStarted")]);
    assert_eq!((&unknown["responseStatus"]["code"], &unknown["user"]), (&json!(401), &json!({})), "{unknown}");
    let odd = find(&events, &[("/requestURI", "/version?timeout=soon"), (STAGE, "ResponseStarted")]);
    assert_eq!((&odd["responseStatus"]["code"], &odd["user"]), (&json!(400), &json!({})), "{odd}");
    assert!(events.iter().all(|event| event["stage"] != "RequestReceived"), "{text}");
    for line in ["apiserver_audit_event_total ", "apiserver_audit_level_total{level=\"RequestResponse\"} "] {
        assert!(metrics.lines().any(|metric| metric.starts_with(line)), "{line}: {metrics}");
    }

    // What was refused once came again, and the end of the server hands on what waits.
    assert_eq!(server.stop(), Some(0));
    let posted = posted.lock().unwrap();
    assert!(posted.0 >= 2, "{} posts", posted.0);
    let id = |event: &Value| format!("{}{}", event["auditID"], event["stage"]);
    let mut at_hook: Vec<String> = posted.1.iter().map(id).collect();
    let mut in_log: Vec<String> = read(&log).1.iter().map(id).collect();
    at_hook.sort();
    in_log.sort();
    assert_eq!(at_hook, in_log);
}

#[test]
fn a_log_of_the_old_form_is_put_aside_and_packed() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let policy = "rules:\n- {level: None, users: ['system:apiserver']}\n- {level: RequestResponse, resources: [{resources: [configmaps]}]}\n";
    let words = [
        format!("--audit-log-path={}", machine.path("audit.log")),
        "--audit-log-maxsize=1".to_owned(),
        "--audit-log-maxbackup=2".to_owned(),
        "--audit-log-compress".to_owned(),
        "--audit-log-mode=batch".to_owned(),
        "--audit-log-truncate-enabled=true".to_owned(),
        "--audit-log-truncate-max-event-size=900000".to_owned(),
    ];
    let (server, kubectl) = serving(&machine, policy, &words);
    for (name, size) in [("a", 300_000), ("b", 300_000), ("c", 300_000), ("d", 300_000), ("long", 500_000)] {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
            "data": {"k": "x".repeat(size)}});
        kubectl.feed("create -f -", object.to_string().as_bytes()).ok();
    }
    let directory = machine.directory.path();
    let mut aside = Vec::new();
    eventually("two packed logs", LONG, || {
        let names =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        aside = names.filter(|name| name.starts_with("audit-")).collect();
        let packed = aside.iter().filter(|name| name.ends_with(".log.gz")).count();
        if packed == 2 && aside.len() == 2 { Ok(()) } else { Err(format!("{aside:?}")) }
    });
    assert_eq!(server.stop(), Some(0));
    let last = std::fs::read_to_string(machine.path("audit.log")).unwrap();
    let mut long = last
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["objectRef"]["name"] == "long");
    let long = long.next_back().unwrap();
    assert_eq!(long["annotations"]["audit.k8s.io/truncated"], "true");
    assert!(long.get("requestObject").is_none() && long.get("responseObject").is_none());

    // The same log in the old form.
    let words = [format!("--audit-log-path={}", machine.path("old.log")), "--audit-log-format=legacy".to_owned()];
    let (_server, kubectl) = serving(&machine, policy, &words);
    kubectl.ok("get configmap a --namespace=default --output=name --as=system:admin --as-group=system:masters");
    let text = std::fs::read_to_string(machine.path("old.log")).unwrap();
    let line = text.lines().find(|line| line.contains("stage=\"ResponseComplete\"")).unwrap();
    for part in [
        " AUDIT: id=\"",
        "ip=\"127.0.0.1\" method=\"get\" user=\"kubernetes-admin\" groups=\"\\\"system:masters\\\",\\\"system:authenticated\\\"\"",
        "as=\"system:admin\" asgroups=\"\\\"system:masters\\\",\\\"system:authenticated\\\"\" user-agent=\"kubectl/",
        "namespace=\"default\" uri=\"/api/v1/namespaces/default/configmaps/a?",
        "\" response=\"200\"",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn where_nothing_may_go_unrecorded_a_full_disk_stops_requests() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let policy = "rules:\n- {level: None, users: ['system:apiserver']}\n- {level: Metadata, resources: [{resources: [configmaps]}]}\n";
    let words = ["--audit-log-path=/dev/full".to_owned(), "--audit-log-mode=blocking-strict".to_owned()];
    let (server, kubectl) = serving(&machine, policy, &words);
    kubectl.fails("create configmap a --namespace=default", "failed to store audit event");
    kubectl.ok("create secret generic a --namespace=default");
    let metrics = kubectl.ok("get --raw /metrics");
    for name in ["requests_rejected_total ", "error_total{plugin=\"log\"} "] {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("apiserver_audit_{name}")));
        assert!(line.unwrap().parse::<u64>().unwrap() > 0, "{name}: {metrics}");
    }
    assert_eq!(server.stop(), Some(0));
    // In the mode that upstream has by default, requests go on.
    let (_server, kubectl) = serving(&machine, policy, &words[..1]);
    kubectl.ok("create configmap a --namespace=default");
}
