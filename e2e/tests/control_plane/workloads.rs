//! Deployments and their like as far as they go without a node: objects, bookkeeping, garbage collection. Pods stay pending.

use e2e::{Cli, control_plane, eventually};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn becomes(kubectl: &Cli, line: &str, want: &str) {
    eventually(line, SOON, || {
        let output = kubectl.run(line);
        if output.code == 0 && output.stdout == want { Ok(()) } else { Err(output.to_string()) }
    });
}

const PODS: &str = "get pods -o jsonpath={.items[*].status.phase}";

#[test]
fn a_deployment_makes_replica_sets_and_pods() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("made");
    assert_eq!(kubectl.ok("create deployment web --image=a:1 --replicas=3"), "deployment.apps/web created\n");
    becomes(&kubectl, PODS, "Pending Pending Pending");
    becomes(
        &kubectl,
        "get deployment web -o jsonpath={.status.replicas}/{.status.updatedReplicas}/{.status.unavailableReplicas}",
        "3/3/3",
    );
    let set = kubectl.ok("get rs -o jsonpath={.items[0].metadata.name}");
    let owner = kubectl.ok("get pods -o jsonpath={.items[0].metadata.ownerReferences[0].kind}/{.items[0].metadata.ownerReferences[0].name}");
    assert_eq!(owner, format!("ReplicaSet/{set}"));
    // What admission gives every pod.
    let given = "get pods -o jsonpath={.items[0].spec.serviceAccountName}/{.items[0].spec.volumes[0].projected.sources[0].serviceAccountToken.path}/{.items[0].spec.tolerations[*].key}/{.items[0].status.qosClass}";
    assert_eq!(
        kubectl.ok(given),
        "default/token/node.kubernetes.io/not-ready node.kubernetes.io/unreachable/BestEffort"
    );

    assert_eq!(kubectl.ok("scale deployment web --replicas=1"), "deployment.apps/web scaled\n");
    becomes(&kubectl, PODS, "Pending");
    kubectl.fails("scale deployment web --current-replicas=7 --replicas=2", "error: Expected replicas to be 7, was 1");
    kubectl.ok("scale deployment web --current-replicas=1 --replicas=2");
    becomes(&kubectl, PODS, "Pending Pending");
    kubectl.ok("scale rs --all --replicas=5");
    becomes(&kubectl, PODS, "Pending Pending");
    // A pod that is deleted is replaced.
    let pod = kubectl.ok("get pods -o jsonpath={.items[0].metadata.name}");
    kubectl.ok(&format!("delete pod {pod}"));
    eventually("another pod in its place", SOON, || {
        let pods = kubectl.ok("get pods -o name");
        if pods.lines().count() == 2 && !pods.contains(&pod) { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn deployments_keep_their_history() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("history");
    // Without replicas a rollout completes without a node.
    kubectl.ok("create deployment web --image=a:1 --replicas=0");
    kubectl.ok("annotate deployment web kubernetes.io/change-cause=first");
    kubectl.ok("rollout status deployment web --timeout=30s");
    becomes(&kubectl, "get rs -o jsonpath={.items[0].metadata.annotations.kubernetes\\.io/change-cause}", "first");
    kubectl.ok("set image deployment/web a=a:2");
    kubectl.ok("annotate deployment web kubernetes.io/change-cause=second --overwrite");
    let history = "deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         first\n2         second\n\n";
    becomes(&kubectl, "rollout history deployment/web", history);
    let revision = kubectl.ok("rollout history deployment/web --revision=1");
    assert!(revision.contains("with revision #1") && revision.contains("Image:\ta:1"), "{revision}");
    kubectl.fails("rollout history deployment/web --revision=9", "error: unable to find the specified revision");

    assert_eq!(kubectl.ok("rollout undo deployment/web"), "deployment.apps/web rolled back\n");
    let history = "deployment.apps/web \nREVISION  CHANGE-CAUSE\n2         second\n3         first\n\n";
    becomes(&kubectl, "rollout history deployment/web", history);
    assert_eq!(kubectl.ok("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}"), "a:1");
    kubectl.ok("rollout undo deployment/web --to-revision=2");
    becomes(
        &kubectl,
        "get deployment web -o jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}",
        "4",
    );
    let said = kubectl.ok("rollout undo deployment/web --to-revision=4");
    assert!(said.contains("skipped rollback (current template already matches revision 4)"), "{said}");
    kubectl
        .fails("rollout undo deployment/web --to-revision=1", "error: unable to find specified revision 1 in history");

    assert_eq!(kubectl.ok("rollout pause deployment/web"), "deployment.apps/web paused\n");
    kubectl.fails("rollout pause deployment/web", "is already paused");
    kubectl.ok("set image deployment/web a=a:5");
    kubectl.fails("rollout undo deployment/web", "cannot rollback a paused deployment");
    becomes(
        &kubectl,
        "get deployment web -o jsonpath={.status.conditions[?(@.type==\"Progressing\")].reason}",
        "DeploymentPaused",
    );
    assert_eq!(kubectl.ok("get rs -o name").lines().count(), 2);
    assert_eq!(kubectl.ok("rollout resume deployment/web"), "deployment.apps/web resumed\n");
    becomes(
        &kubectl,
        "get deployment web -o jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}",
        "5",
    );
    assert_eq!(kubectl.ok("rollout restart deployment/web"), "deployment.apps/web restarted\n");
    becomes(
        &kubectl,
        "get deployment web -o jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}",
        "6",
    );
    assert_eq!(kubectl.ok("get rs -o name").lines().count(), 4);
    // Old ones beyond the limit go.
    kubectl.ok("patch deployment web -p '{\"spec\":{\"revisionHistoryLimit\":1}}'");
    eventually("old replica sets are removed", SOON, || {
        let sets = kubectl.ok("get rs -o name");
        if sets.lines().count() == 2 { Ok(()) } else { Err(sets) }
    });
}

#[test]
fn a_rolling_update_honours_surge_and_unavailability_in_what_it_asks_for() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("rolling");
    kubectl.ok("create deployment web --image=a:1 --replicas=4");
    kubectl.ok(
        "patch deployment web -p '{\"spec\":{\"strategy\":{\"rollingUpdate\":{\"maxSurge\":2,\"maxUnavailable\":1}}}}'",
    );
    becomes(&kubectl, "get rs -o jsonpath={.items[*].status.replicas}", "4");
    kubectl.ok("set image deployment/web a=a:2");
    // Nothing becomes ready without a node: six pods at most, and of the old ones goes only what keeps three that could be available.
    becomes(&kubectl, "get deployment web -o jsonpath={.status.updatedReplicas}/{.status.replicas}", "3/6");
    let said = kubectl.run("rollout status deployment/web --watch=false").ok();
    assert!(
        said.contains("Waiting for deployment \"web\" rollout to finish: 3 out of 4 new replicas have been updated"),
        "{said}"
    );
    kubectl.fails("rollout status deployment/web --timeout=1s", "timed out waiting for the condition");
}

#[test]
fn deletion_cascades_as_asked() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("cascade");
    let make = |name: &str| {
        kubectl.ok(&format!("create deployment {name} --image=a --replicas=2"));
        let pods = format!("get pods -l app={name} -o jsonpath={{.items[*].status.phase}}");
        becomes(&kubectl, &pods, "Pending Pending");
    };
    let left = |name: &str| kubectl.ok(&format!("get rs,pods -l app={name} -o name"));
    make("background");
    kubectl.ok("delete deployment background --cascade=background");
    eventually("dependents of a deletion in the background go", SOON, || {
        let left = left("background");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    make("foreground");
    kubectl.ok("delete deployment foreground --cascade=foreground --timeout=60s");
    assert_eq!(left("foreground"), "", "with the owner gone, so are its dependents");
    make("orphan");
    kubectl.ok("delete deployment orphan --cascade=orphan");
    let owners = "get rs -l app=orphan -o jsonpath={.items[*].metadata.ownerReferences}";
    assert_eq!(kubectl.ok(owners), "");
    assert_eq!(left("orphan").lines().count(), 3);
    let set = kubectl.ok("get rs -l app=orphan -o jsonpath={.items[0].metadata.uid}");
    // The same deployment again takes over what it finds.
    kubectl.ok("create deployment orphan --image=a --replicas=2");
    becomes(&kubectl, "get rs -l app=orphan -o jsonpath={.items[*].metadata.ownerReferences[*].name}", "orphan");
    assert_eq!(kubectl.ok("get rs -l app=orphan -o jsonpath={.items[*].metadata.uid}"), set);
    kubectl.ok("delete deployment orphan");
}

#[test]
fn daemon_sets_keep_controller_revisions() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("daemons");
    let text = |image: &str| {
        format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: agent}}\nspec:\n  selector: {{matchLabels: {{app: agent}}}}\n  template:\n    metadata: {{labels: {{app: agent}}}}\n    spec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
        )
    };
    kubectl.feed("apply -f -", text("a:1").as_bytes()).ok();
    becomes(&kubectl, "get controllerrevisions -o jsonpath={.items[*].revision}", "1");
    kubectl.feed("apply -f -", text("a:2").as_bytes()).ok();
    becomes(&kubectl, "get ds agent -o jsonpath={.status.observedGeneration}/{.status.desiredNumberScheduled}", "2/0");
    let history = kubectl.ok("rollout history ds/agent");
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    kubectl.ok("rollout undo ds/agent --to-revision=1");
    becomes(&kubectl, "get ds agent -o jsonpath={.spec.template.spec.containers[0].image}", "a:1");
    // The revision that comes back takes the next number.
    becomes(
        &kubectl,
        "rollout history ds/agent",
        "daemonset.apps/agent \nREVISION  CHANGE-CAUSE\n2         <none>\n3         <none>\n\n",
    );
}

#[test]
fn services_without_pods_have_empty_slices() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("slices");
    kubectl.ok("create service clusterip web --tcp=80:8080");
    let of = "get endpointslices -l kubernetes.io/service-name=web -o jsonpath={.items[*].addressType}/{.items[*].endpoints[*].addresses}";
    becomes(&kubectl, of, "IPv4/");
    kubectl.ok("delete service web");
    becomes(&kubectl, "get endpointslices -o name", "");
    kubectl.fails("create service clusterip web --tcp=80 --clusterip=1.2.3.4", "spec.clusterIPs");
}
