//! What kubectl does with single objects: create, read, change, watch, wait, delete, describe the API.

use e2e::{control_plane, eventually};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn config_map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata: {data}\n")
}

#[test]
fn objects_are_created_read_and_deleted() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("crud");
    let check = |line: &str, want: &str| assert_eq!(kubectl.ok(line), want, "{line}");
    check("create configmap a --from-literal=k=v", "configmap/a created\n");
    kubectl.fails("create configmap a", "error: failed to create configmap: configmaps \"a\" already exists");
    check("get configmap a -o jsonpath={.data.k}", "v");
    check("get cm a -o name", "configmap/a\n");
    check("create secret generic s --from-literal=p=x", "secret/s created\n");
    check("get secret s -o jsonpath={.type}/{.data.p}", "Opaque/eA==");
    check("create serviceaccount robot", "serviceaccount/robot created\n");
    check("create service clusterip web --tcp=80:8080", "service/web created\n");
    let address = kubectl.ok("get service web -o jsonpath={.spec.clusterIP}/{.spec.type}/{.spec.ports[0].targetPort}");
    assert!(address.starts_with("10.") && address.ends_with("/ClusterIP/8080"), "{address}");
    kubectl.fails("get configmap b", "Error from server (NotFound): configmaps \"b\" not found");
    kubectl.fails("get nonsense", "error: the server doesn't have a resource type \"nonsense\"");
    check("delete configmap a", "configmap \"a\" deleted from crud namespace\n");
    kubectl.fails("delete configmap a", "Error from server (NotFound): configmaps \"a\" not found");
    check("delete secret,service --all -o name", "secret/s\nservice/web\n");
    let table = kubectl.ok("get serviceaccounts --no-headers");
    let names: Vec<_> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["default", "robot"]);
}

#[test]
fn tables_are_those_of_the_kinds() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("tables");
    kubectl.ok("create configmap a --from-literal=k=v --from-literal=l=w");
    kubectl.ok("create secret generic s --from-literal=p=x");
    kubectl.ok("create service nodeport web --tcp=80");
    kubectl.ok("create deployment d --image=i --replicas=2");
    let check = |line: &str, header: &str, row: &[&str]| {
        let table = kubectl.ok(line);
        let mut lines = table.lines();
        let split = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines.next().map(split), Some(split(header)), "{line}");
        let found = split(lines.next().unwrap_or_default());
        for (index, want) in row.iter().enumerate() {
            assert!(*want == "*" || found.get(index).is_some_and(|cell| cell == want), "{line}: {found:?}");
        }
    };
    check("get configmap a", "NAME DATA AGE", &["a", "2"]);
    check("get secret s", "NAME TYPE DATA AGE", &["s", "Opaque", "1"]);
    check("get service web", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE", &["web", "NodePort", "*", "<none>"]);
    check("get deployment d", "NAME READY UP-TO-DATE AVAILABLE AGE", &["d", "0/2"]);
    check("get rs", "NAME DESIRED CURRENT READY AGE", &["*", "2"]);
    check("get namespace tables", "NAME STATUS AGE", &["tables", "Active"]);
    check("get clusterrole cluster-admin", "NAME CREATED AT", &["cluster-admin"]);
    check("get clusterrolebinding cluster-admin", "NAME ROLE AGE", &["cluster-admin", "ClusterRole/cluster-admin"]);
}

#[test]
fn apply_keeps_what_others_wrote_and_removes_what_it_no_longer_says() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("apply");
    let apply = |text: &str| kubectl.feed("apply -f -", text.as_bytes()).ok();
    assert_eq!(apply(&config_map("a", "{a: '1', b: '2'}")), "configmap/a created\n");
    assert_eq!(apply(&config_map("a", "{a: '1', b: '2'}")), "configmap/a unchanged\n");
    kubectl.ok("patch configmap a --type=merge -p '{\"data\":{\"c\":\"9\"}}'");
    let changed = config_map("a", "{a: '3'}");
    let diff = kubectl.feed("diff -f -", changed.as_bytes());
    assert_eq!(diff.code, 1, "{diff}");
    for line in ["-  a: \"1\"", "+  a: \"3\"", "-  b: \"2\""] {
        assert!(diff.stdout.lines().any(|found| found == line), "{line} in {diff}");
    }
    assert_eq!(apply(&changed), "configmap/a configured\n");
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data}"), r#"{"a":"3","c":"9"}"#);
    let diff = kubectl.feed("diff -f -", changed.as_bytes());
    assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{diff}");
}

#[test]
fn server_side_apply_knows_who_owns_what() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("ssa");
    let apply = |flags: &str, data: &str| {
        kubectl.feed(&format!("apply --server-side -f - {flags}"), config_map("a", data).as_bytes())
    };
    assert_eq!(apply("--field-manager=one", "{x: '1', v: '1'}").ok(), "configmap/a serverside-applied\n");
    assert_eq!(apply("--field-manager=two", "{z: '2'}").ok(), "configmap/a serverside-applied\n");
    let refused = apply("--field-manager=two", "{x: '2', z: '2'}");
    assert_eq!(refused.code, 1);
    refused.check_failed("Apply failed with 1 conflict: conflict with \"one\": .data.x");
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data.x}"), "1");
    apply("--field-manager=two --force-conflicts", "{x: '2', z: '2'}").ok();
    // What `one` no longer owns it cannot remove, what it owns alone it can.
    let nothing = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    kubectl.feed("apply --server-side -f - --field-manager=one", nothing.as_bytes()).ok();
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data}"), r#"{"x":"2","z":"2"}"#);
    let managers = "get configmap a --show-managed-fields -o jsonpath={range.metadata.managedFields[*]}{.manager}:{.operation},{end}";
    let managers = kubectl.ok(managers);
    assert!(managers.contains("two:Apply,") && !managers.contains("one:"), "{managers}");
}

#[test]
fn patches_of_all_three_types() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("patch");
    kubectl.ok("create deployment d --image=a --replicas=0");
    let check = |kind: &str, patch: &str, path: &str, want: &str| {
        let said = kubectl.ok(&format!("patch deployment d --type={kind} -p '{patch}'"));
        assert!(said.starts_with("deployment.apps/d patched"), "{said}");
        assert_eq!(kubectl.ok(&format!("get deployment d -o jsonpath={path}")), want, "{kind} {patch}");
    };
    let names = "{.spec.template.spec.containers[*].name}";
    let add = r#"{"spec":{"template":{"spec":{"containers":[{"name":"b","image":"b"}]}}}}"#;
    let delete = r#"{"spec":{"template":{"spec":{"containers":[{"name":"b","$patch":"delete"}]}}}}"#;
    check("strategic", add, names, "b a");
    check("strategic", delete, names, "a");
    check("merge", add, names, "b");
    check("merge", r#"{"metadata":{"labels":{"app":null,"x":"y"}}}"#, "{.metadata.labels}", r#"{"x":"y"}"#);
    let json =
        r#"[{"op":"test","path":"/spec/replicas","value":0},{"op":"replace","path":"/spec/paused","value":true}]"#;
    check("json", &json.replace("replace", "add"), "{.spec.paused}", "true");
    kubectl.fails(
        r#"patch deployment d --type=json -p '[{"op":"remove","path":"/metadata/labels/nothing"}]'"#,
        "The request is invalid: the server rejected our request due to an error in our request",
    );
    kubectl.fails(
        r#"patch deployment d -p '{"spec":{"replicas":-1}}'"#,
        "The Deployment \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    );
}

#[test]
fn labels_annotations_and_selectors() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("labels");
    for name in ["a", "b", "c"] {
        kubectl.ok(&format!("create configmap {name}"));
    }
    kubectl.ok("label configmap a b tier=front");
    kubectl.ok("label configmap b env=prod");
    kubectl.fails("label configmap a tier=back", "error: 'tier' already has a value (front), and --overwrite is false");
    kubectl.ok("annotate configmap a note='two words'");
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.metadata.annotations.note}"), "two words");
    let check = |selector: &str, want: &str| {
        let found = kubectl.ok(&format!("get configmaps -o jsonpath={{.items[*].metadata.name}} {selector}"));
        let found: Vec<_> = found.split(' ').filter(|name| *name != "kube-root-ca.crt").collect();
        assert_eq!(found.join(" "), want, "{selector}");
    };
    check("-l tier=front", "a b");
    check("-l tier=front,env!=prod", "a");
    check("-l 'env in (prod,test)'", "b");
    check("-l 'tier notin (front)'", "c");
    check("-l tier", "a b");
    check("-l '!tier'", "c");
    check("--field-selector metadata.name=c", "c");
    check("--field-selector metadata.name!=c,metadata.namespace=labels -l tier", "a b");
    kubectl.ok("label configmap a tier-");
    check("-l tier", "b");
}

#[test]
fn a_stale_replace_conflicts_and_loses_nothing() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("stale");
    kubectl.ok("create configmap a --from-literal=k=1");
    let read = kubectl.ok("get configmap a -o json");
    kubectl.ok("patch configmap a -p '{\"data\":{\"k\":\"2\"}}'");
    kubectl.feed("replace -f -", read.as_bytes()).check_failed(
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
    );
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data.k}"), "2");
    let now = kubectl.ok("get configmap a -o json").replace("\"k\": \"2\"", "\"k\": \"3\"");
    assert_eq!(kubectl.feed("replace -f -", now.as_bytes()).ok(), "configmap/a replaced\n");
    let mut other: Value = serde_json::from_str(&now).unwrap();
    other["metadata"]["resourceVersion"] = Value::Null;
    other["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    kubectl
        .feed("replace -f -", other.to_string().as_bytes())
        .check_failed("Precondition failed: UID in precondition:");
}

#[test]
fn changes_are_watched_as_they_come() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("watched");
    kubectl.ok("create configmap a");
    let watch = kubectl.start("get configmaps -w --output-watch-events");
    watch.says("ADDED      a");
    kubectl.ok("create configmap b");
    watch.says("ADDED      b");
    kubectl.ok("patch configmap b -p '{\"data\":{\"k\":\"1\"}}'");
    watch.says("MODIFIED   b");
    kubectl.ok("delete configmap b");
    watch.says("DELETED    b");
    let selected = kubectl.start("get configmaps -l x=1 -w --output-watch-events");
    kubectl.ok("label configmap a x=1");
    selected.says("ADDED      a");
    kubectl.ok("label configmap a x-");
    selected.says("DELETED    a");
}

#[test]
fn wait_ends_when_it_is_so_and_not_before() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("waits");
    kubectl.ok("create configmap a");
    let mut wait = kubectl.start("wait --for=jsonpath={.data.k}=go configmap/a --timeout=60s");
    let mut gone = kubectl.start("wait --for=delete configmap/a --timeout=60s");
    kubectl.fails("wait --for=jsonpath={.data.k}=go configmap/a --timeout=1s", "timed out waiting for the condition");
    kubectl.ok("patch configmap a -p '{\"data\":{\"k\":\"go\"}}'");
    assert_eq!(wait.ended(SOON), 0);
    wait.says("configmap/a condition met");
    kubectl.ok("delete configmap a");
    assert_eq!(gone.ended(SOON), 0);
    kubectl.ok("create deployment d --image=i --replicas=0");
    kubectl.ok("wait --for=condition=Available deployment/d --timeout=30s");
    kubectl.ok("wait --for=create serviceaccount/default --timeout=30s");
}

#[test]
fn the_api_describes_itself() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.kubectl();
    let check = |line: &str, want: &[&str]| {
        let said = kubectl.ok(line);
        for want in want {
            assert!(said.contains(want), "{line}: no {want:?} in\n{said}");
        }
    };
    check(
        "explain deployment.spec.strategy",
        &[
            "GROUP:      apps",
            "KIND:       Deployment",
            "rollingUpdate\t<RollingUpdateDeployment>",
            "enum: Recreate, RollingUpdate",
        ],
    );
    check("explain pod.spec.containers.image", &["FIELD: image <string>"]);
    check("explain configmaps --recursive", &["  data\t<map[string]string>", "    name\t<string>"]);
    check("api-versions", &["\nv1\n", "apps/v1\n", "rbac.authorization.k8s.io/v1\n"]);
    check("api-resources --no-headers", &["configmaps", "deploy ", "apps/v1", "ReplicaSet"]);
    check(
        "api-resources --namespaced=false -o name",
        &["namespaces\n", "nodes\n", "clusterroles.rbac.authorization.k8s.io\n"],
    );
    check("api-resources --categories=all -o name", &["pods\n", "deployments.apps\n", "services\n"]);
    check("get all --namespace=default", &["service/kubernetes"]);
    check("version", &["Server Version: v1.36."]);
    check("cluster-info", &["Kubernetes control plane", "is running at"]);
    check("get --raw /healthz", &["ok"]);
    check("get --raw /livez?verbose", &["livez check passed"]);
    check("get --raw /version", &["\"major\": \"1\"", "\"minor\": \"36\""]);
    check("get --raw /api/v1/namespaces/default", &["\"kind\":\"Namespace\""]);
    check("get --raw /openapi/v3", &["\"apis/apps/v1\""]);
    kubectl.fails("get --raw /nothing", "the server could not find the requested resource");
    kubectl.fails("explain pod.spec.nothing", "error: field \"nothing\" does not exist");
}

#[test]
fn a_namespace_ends_with_all_that_is_in_it() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("ends");
    kubectl.ok("create configmap a");
    kubectl.ok("create deployment d --image=i --replicas=2");
    kubectl.ok("create configmap held");
    kubectl.ok("patch configmap held --type=merge -p '{\"metadata\":{\"finalizers\":[\"e2e.test/hold\"]}}'");
    kubectl.ok("delete namespace ends --wait=false");
    kubectl.fails(
        "create configmap late",
        "error: failed to create configmap: configmaps \"late\" is forbidden: unable to create new content in namespace ends because it is being terminated",
    );
    assert_eq!(kubectl.ok("get namespace ends -o jsonpath={.status.phase}"), "Terminating");
    let left =
        "get namespace ends -o jsonpath={.status.conditions[?(@.type==\"NamespaceFinalizersRemaining\")].message}";
    eventually("the condition names the finalizer", SOON, || {
        let said = kubectl.run(left).stdout;
        if said == "Some content in the namespace has finalizers remaining: e2e.test/hold in 1 resource instances" {
            Ok(())
        } else {
            Err(said)
        }
    });
    kubectl.ok("patch configmap held --type=merge -p '{\"metadata\":{\"finalizers\":null}}'");
    kubectl.ok("wait --for=delete namespace/ends --timeout=60s");
    kubectl.ok("create namespace ends");
    eventually("the new one starts empty", SOON, || {
        let pods = kubectl.ok("get pods,deployments,rs -o name");
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
    let admin = cluster.kubectl();
    for name in ["default", "kube-system"] {
        admin.fails(
            &format!("delete namespace {name}"),
            &format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted"),
        );
    }
}

#[test]
fn an_editor_changes_an_object() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("edits");
    kubectl.ok("create configmap a --from-literal=k=old");
    let editor = kubectl.clone().env("KUBE_EDITOR", "sed -i s/old/new/");
    assert_eq!(editor.ok("edit configmap a"), "configmap/a edited\n");
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data.k}"), "new");
    let output = editor.run("edit configmap a");
    assert!(output.code == 0 && output.stderr.contains("Edit cancelled, no changes made."), "{output}");
}

#[test]
fn events_are_listed() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("happened");
    kubectl.ok("create deployment d --image=i");
    eventually("the deployment's event", SOON, || {
        let said = kubectl.ok("events --for deployment/d");
        if said.contains("ScalingReplicaSet") && said.contains("to 1") { Ok(()) } else { Err(said) }
    });
    eventually("the pod cannot be placed, and says so", SOON, || {
        let said = kubectl.ok("describe pods");
        if said.contains("FailedScheduling") && said.contains("no nodes available to schedule pods") {
            Ok(())
        } else {
            Err(said)
        }
    });
}
