//! Static pods: what manifests in a directory say runs, and the API server shows it.

use crate::{SOON, becomes, until};
use e2e::{Cluster, Kind, eventually, node};

#[test]
fn a_manifest_is_a_pod_until_it_is_gone() {
    if node().is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let write = |says: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: still, labels: {{says: {says}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n    image: ironkeel/busybox:1\n    command: [sh, -c, \"echo {says}; trap 'exit 0' TERM; while :; do sleep 0.2; done\"]\n"
        );
        std::fs::write(directory.path().join("still.yaml"), text).unwrap();
    };
    write("one");
    let cluster = Cluster::start(Kind::Node, &[&format!("--pod-manifest-path={}", directory.path().display())]);
    cluster.load_images();
    let kubectl = cluster.kubectl();
    becomes(&kubectl, "get pod still-e2e -o jsonpath={.status.phase}", "Running");
    until(&kubectl, "logs still-e2e", "its words", |output| output.stdout == "one\n");
    let container = "get pod still-e2e -o jsonpath={.status.containerStatuses[0].containerID}";
    let first = kubectl.ok(container);

    // What the API server shows may be deleted; the pod runs on, and is shown again.
    kubectl.ok("delete pod still-e2e --wait=false");
    eventually("it is shown again", SOON, || {
        let output = kubectl.run(
            "get pod still-e2e -o jsonpath={.metadata.deletionTimestamp}{.status.containerStatuses[0].containerID}",
        );
        if output.code == 0 && output.stdout == first { Ok(()) } else { Err(output.to_string()) }
    });

    write("two");
    until(&kubectl, "logs still-e2e", "the words of the changed manifest", |output| output.stdout == "two\n");
    becomes(&kubectl, "get pod still-e2e -o jsonpath={.metadata.labels.says}/{.status.phase}", "two/Running");
    assert_ne!(kubectl.ok(container), first);

    std::fs::remove_file(directory.path().join("still.yaml")).unwrap();
    becomes(&kubectl, "get pods -o name", "");
    eventually("its container is gone", SOON, || {
        let left = cluster.ctr().ok("containers ls -q");
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
}
