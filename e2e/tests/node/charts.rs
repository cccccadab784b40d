//! Stock helm with the project's chart.

use crate::becomes;
use e2e::{charts, node, tool};
use serde_json::Value;

#[test]
fn a_chart_is_installed_upgraded_rolled_back_and_removed() {
    let Some(cluster) = node() else { return };
    if tool("helm").is_none() {
        eprintln!("left out: the chart, because helm is not on PATH (hack/setup installs it)");
        return;
    }
    let kubectl = cluster.namespace("released");
    let helm = cluster.tool("helm").with("--namespace=released");
    let chart = charts("web");
    let chart = chart.display();
    let said = helm.ok(&format!("install web {chart} --wait --timeout=60s"));
    assert!(said.contains("STATUS: deployed") && said.contains("REVISION: 1"), "{said}");
    becomes(
        &kubectl,
        "get deployment web -o jsonpath={.status.availableReplicas}/{.spec.template.spec.containers[0].image}",
        "2/ironkeel/web:1",
    );
    helm.fails(&format!("install web {chart}"), "cannot re-use a name that is still in use");
    helm.ok(&format!("upgrade web {chart} --set image.tag=2,replicas=1,page=hello --wait --timeout=60s"));
    becomes(
        &kubectl,
        "get deployment web -o jsonpath={.status.availableReplicas}/{.spec.template.spec.containers[0].image}",
        "1/ironkeel/web:2",
    );
    becomes(&kubectl, "exec deployment/web -- cat /www/index.html", "hello");
    helm.ok("rollback web 1 --wait --timeout=60s");
    becomes(
        &kubectl,
        "get deployment web -o jsonpath={.status.availableReplicas}/{.spec.template.spec.containers[0].image}",
        "2/ironkeel/web:1",
    );
    kubectl.fails("get configmap web", "configmaps \"web\" not found");
    let history: Value = serde_json::from_str(&helm.ok("history web -o json")).unwrap();
    let column = |name: &str| {
        history.as_array().into_iter().flatten().filter_map(|row| row[name].as_str()).collect::<Vec<_>>().join(",")
    };
    assert_eq!(column("status"), "superseded,superseded,deployed");
    assert_eq!(column("description"), "Install complete,Upgrade complete,Rollback to 1");
    assert!(helm.ok("status web").contains("STATUS: deployed"));
    assert!(helm.ok("get manifest web").contains("kind: Deployment"));
    helm.ok("uninstall web --wait --timeout=60s");
    becomes(&kubectl, "get deployments,services,pods -o name", "");
    assert_eq!(helm.ok("list -q"), "");
}
