//! Rolling updates of Deployments and DaemonSets with containers behind them, and the way back.

use crate::{becomes, until};
use e2e::node;

#[test]
fn a_rolling_update_keeps_its_bounds_and_its_history() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("rolls");
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, annotations: {kubernetes.io/change-cause: first}}\nspec:\n  replicas: 3\n  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - {name: web, image: 'ironkeel/web:1', readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}}\n";
    kubectl.feed("apply -f -", text.as_bytes()).ok();
    kubectl.ok("rollout status deployment/web --timeout=60s");
    // Every state that the API showed on the way.
    let watch =
        kubectl.start("get deployment web -w -o jsonpath={.status.replicas}:{.status.availableReplicas}{\"\\n\"}");
    watch.says("3:3");
    let sets = kubectl.start("get replicasets -l app=web -w -o jsonpath={.metadata.name}:{.spec.replicas}{\"\\n\"}");
    sets.says(":3");
    let template = watch.lines().len();
    kubectl.ok("set image deployment/web web=ironkeel/web:2");
    kubectl.ok("annotate deployment web kubernetes.io/change-cause=second --overwrite");
    let mut status = kubectl.start("rollout status deployment/web --timeout=60s");
    assert_eq!(status.ended(crate::SOON), 0);
    status.says("deployment \"web\" successfully rolled out");
    watch.says("4:3");
    let states: Vec<(u32, u32)> = watch
        .lines()
        .iter()
        .skip(template)
        .filter_map(|line| line.split_once(':'))
        .map(|(all, available)| (all.parse().unwrap_or(0), available.parse().unwrap_or(0)))
        .collect();
    assert!(states.iter().all(|(_, available)| *available >= 3), "{states:?}");
    // What is wanted is bounded; what is there may lag behind it, as a set is asked to shrink before its pod is gone.
    let mut wanted = std::collections::BTreeMap::new();
    for line in sets.lines() {
        let Some((set, replicas)) = line.split_once(':') else { continue };
        wanted.insert(set.to_owned(), replicas.parse::<u32>().unwrap_or(0));
        assert!(wanted.values().sum::<u32>() <= 4, "{:?}", sets.lines());
    }
    assert_eq!(wanted.len(), 2, "{wanted:?}");
    until(&kubectl, "get pods -o jsonpath={.items[*].spec.containers[0].image}", "only the new image", |output| {
        output.stdout == "ironkeel/web:2 ironkeel/web:2 ironkeel/web:2"
    });
    becomes(
        &kubectl,
        "rollout history deployment/web",
        "deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         first\n2         second\n\n",
    );
    kubectl.ok("rollout undo deployment/web --to-revision=1");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    becomes(
        &kubectl,
        "rollout history deployment/web",
        "deployment.apps/web \nREVISION  CHANGE-CAUSE\n2         second\n3         first\n\n",
    );
    until(&kubectl, "get pods -o jsonpath={.items[*].spec.containers[0].image}", "only the old image", |output| {
        output.stdout == "ironkeel/web:1 ironkeel/web:1 ironkeel/web:1"
    });
    // An image that is not there stops a rollout, not the service.
    kubectl.ok("set image deployment/web web=ironkeel/none:1");
    until(
        &kubectl,
        "get pods -o jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}",
        "the pull fails",
        |output| output.stdout.contains("ErrImagePull") || output.stdout.contains("ImagePullBackOff"),
    );
    assert_eq!(kubectl.ok("get deployment web -o jsonpath={.status.availableReplicas}"), "3");
    kubectl.ok("rollout undo deployment/web");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    kubectl.ok("rollout restart deployment/web");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    kubectl.ok("delete deployment web");
}

#[test]
fn recreate_never_runs_both() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("recreates");
    kubectl.ok("create deployment web --image=ironkeel/web:1 --replicas=2");
    kubectl.ok("patch deployment web -p '{\"spec\":{\"strategy\":{\"type\":\"Recreate\",\"rollingUpdate\":null},\"template\":{\"spec\":{\"terminationGracePeriodSeconds\":1}}}}'");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let watch =
        kubectl.start("get deployment web -w -o jsonpath={.status.replicas}:{.status.updatedReplicas}{\"\\n\"}");
    watch.says("2:2");
    kubectl.ok("set image deployment/web web=ironkeel/web:2");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let lines = watch.lines();
    assert!(
        lines.iter().all(|line| line.split(':').next().and_then(|all| all.parse::<u32>().ok()).unwrap_or(0) <= 2),
        "{lines:?}"
    );
    kubectl.ok("delete deployment web");
}

#[test]
fn a_daemon_set_rolls_and_comes_back() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("agents");
    let text = |version: u32| {
        format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: agent, annotations: {{kubernetes.io/change-cause: version {version}}}}}\nspec:\n  selector: {{matchLabels: {{app: agent}}}}\n  template:\n    metadata: {{labels: {{app: agent}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers: [{{name: c, image: 'ironkeel/web:{version}'}}]\n"
        )
    };
    kubectl.feed("apply -f -", text(1).as_bytes()).ok();
    kubectl.ok("rollout status ds/agent --timeout=60s");
    becomes(&kubectl, "get ds agent -o jsonpath={.status.desiredNumberScheduled}/{.status.numberReady}", "1/1");
    assert_eq!(kubectl.ok("get pods -o jsonpath={.items[0].spec.nodeName}"), "e2e");
    kubectl.feed("apply -f -", text(2).as_bytes()).ok();
    kubectl.ok("rollout status ds/agent --timeout=60s");
    becomes(&kubectl, "get pods -o jsonpath={.items[*].spec.containers[0].image}", "ironkeel/web:2");
    let history = kubectl.ok("rollout history ds/agent");
    assert!(history.contains("1         version 1\n2         version 2\n"), "{history}");
    kubectl.ok("rollout undo ds/agent --to-revision=1");
    kubectl.ok("rollout status ds/agent --timeout=60s");
    becomes(&kubectl, "get pods -o jsonpath={.items[*].spec.containers[0].image}", "ironkeel/web:1");
    let history = kubectl.ok("rollout history ds/agent");
    assert!(history.contains("2         version 2\n3         version 1\n"), "{history}");
    kubectl.ok("delete ds agent");
}
