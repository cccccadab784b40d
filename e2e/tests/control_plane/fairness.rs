//! Priority and fairness as stock kubectl sees it: the objects that every cluster has, and one noisy user whose requests do not hold up others.

use e2e::{control_plane, eventually};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

const LEVELS: &str = "catch-all exempt global-default leader-election node-high system workload-high workload-low";

/// A level of one seat and one queue of one for the user `noisy`.
const NARROW: &str = r#"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: narrow}
spec:
  type: Limited
  limited: {nominalConcurrencyShares: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: noisy}
spec:
  priorityLevelConfiguration: {name: narrow}
  matchingPrecedence: 50
  distinguisherMethod: {type: ByUser}
  rules:
  - subjects: [{kind: User, user: {name: noisy}}]
    resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: ["*"], clusterScope: true}]
"#;

/// A request of the user `noisy` whose body does not end, through `kubectl proxy`.
fn endless(proxy: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).expect("the proxy listens");
    let head = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nContent-Length: 1000\r\nImpersonate-User: noisy\r\n\r\n{";
    stream.write_all(head.as_bytes()).expect("the proxy reads");
    stream
}

#[test]
fn a_noisy_user_is_told_to_come_back_and_others_go_on() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.kubectl();
    let names = kubectl.ok("get prioritylevelconfigurations -o jsonpath={.items[*].metadata.name}");
    assert!(LEVELS.split(' ').all(|level| names.split(' ').any(|name| name == level)), "{names}");
    eventually("every flow schema says that its level is there", Duration::from_secs(30), || {
        let shown = kubectl.ok("get flowschemas");
        let rows: Vec<&str> = shown.lines().skip(1).filter(|row| !row.starts_with("noisy")).collect();
        let told = rows.iter().all(|row| row.trim_end().ends_with("False"));
        if rows.len() >= 11 && told { Ok(()) } else { Err(shown) }
    });
    // kubectl shows the headers of answers.
    let exempt = kubectl.ok("get flowschema exempt -o jsonpath={.metadata.uid}");
    let shown = kubectl.run("get --raw /version -v=8").stderr;
    assert!(shown.contains("X-Kubernetes-Pf-Flowschema-Uid") && shown.contains(&exempt), "{shown}");

    kubectl.feed("apply -f -", NARROW.as_bytes());
    kubectl.ok("create clusterrolebinding noisy --clusterrole=view --user=noisy --user=quiet");
    // The only seat is taken by a request whose body does not end.
    let proxy = kubectl.start("proxy --port=0");
    let said = proxy.says("Starting to serve on");
    let stream = endless(said.trim().rsplit(' ').next().unwrap_or_default());
    eventually("the seat is taken", Duration::from_secs(30), || {
        let dump = kubectl.ok("get --raw /debug/api_priority_and_fairness/dump_requests");
        if dump.lines().any(|line| line.starts_with("narrow,")) { Ok(()) } else { Err(dump) }
    });
    kubectl.ok("get pods -A --as=quiet");
    kubectl.fails("get pods -A --as=noisy", "too many requests");
    kubectl.ok("get pods -A --as=quiet");
    drop(stream);
    eventually("the seat is free again", Duration::from_secs(30), || {
        let output = kubectl.run("get pods -A --as=noisy");
        if output.code == 0 { Ok(()) } else { Err(output.stderr) }
    });
    let metrics = kubectl.ok("get --raw /metrics");
    let refused = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"noisy\",priority_level=\"narrow\",reason=\"concurrency-limit\"}";
    assert!(metrics.lines().any(|line| line.starts_with(refused)), "{metrics}");
    let dump = kubectl.ok("get --raw /debug/api_priority_and_fairness/dump_priority_levels");
    assert!(dump.lines().any(|line| line.starts_with("narrow,")), "{dump}");
    kubectl.ok("delete flowschema noisy");
    kubectl.ok("delete prioritylevelconfiguration narrow");
    eventually("what nobody wants any more is gone", Duration::from_secs(30), || {
        let dump = kubectl.ok("get --raw /debug/api_priority_and_fairness/dump_priority_levels");
        if dump.lines().any(|line| line.starts_with("narrow,")) { Err(dump) } else { Ok(()) }
    });
}
