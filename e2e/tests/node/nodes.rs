//! Several nodes on one machine: pods of one reach those of the other, by address, Service and name.

use crate::{IDLE, SOON, becomes, pod, shell, until};
use e2e::{Cluster, Kind, eventually, node};

#[test]
fn pods_of_two_nodes_reach_each_other() {
    if node().is_none() {
        return;
    }
    let cluster = Cluster::start(Kind::Node, &["--nodes=2"]);
    cluster.load_images();
    let kubectl = cluster.namespace("far");
    kubectl.ok("wait --for=condition=Ready node --all --timeout=60s");
    becomes(&kubectl, "get nodes -o jsonpath={.items[*].metadata.name}", "e2e e2e-2");
    let blocks = kubectl.ok("get nodes -o jsonpath={.items[*].spec.podCIDR}");
    let blocks: Vec<&str> = blocks.split(' ').collect();
    assert!(blocks.len() == 2 && blocks[0] != blocks[1], "{blocks:?}");

    let on = |node: &str, rest: &str| format!("  nodeSelector: {{kubernetes.io/hostname: {node}}}\n{rest}");
    let web = "  containers:\n  - name: c\n    image: ironkeel/web:1\n";
    for (node, suffix) in [("e2e", "a"), ("e2e-2", "b")] {
        pod(&kubectl, &format!("web-{suffix}"), &on(node, web), "Running");
        pod(&kubectl, &format!("client-{suffix}"), &on(node, &shell(IDLE)), "Running");
    }
    kubectl.ok("expose pod web-a --port=80 --target-port=8080");
    kubectl.ok("expose pod web-b --port=80 --target-port=8080 --type=NodePort");
    let address = |name: &str| kubectl.ok(&format!("get pod {name} -o jsonpath={{.status.podIP}}"));
    let node_port = kubectl.ok("get service web-b -o jsonpath={.spec.ports[0].nodePort}");
    let hosts = kubectl.ok("get nodes -o jsonpath={.items[*].status.addresses[?(@.type==\"InternalIP\")].address}");
    let (first, second) = hosts.split_once(' ').unwrap();
    for (client, to) in [
        ("client-a", format!("{}:8080", address("web-b"))),
        ("client-b", format!("{}:8080", address("web-a"))),
        ("client-a", "web-b".to_owned()),
        ("client-b", "web-a".to_owned()),
        ("client-a", format!("{first}:{node_port}")),
        ("client-b", format!("{first}:{node_port}")),
        ("client-a", format!("{second}:{node_port}")),
        ("client-b", format!("{second}:{node_port}")),
    ] {
        let line = format!("exec {client} -- timeout 3 wget -qO- http://{to}/cgi-bin/whoami");
        until(&kubectl, &line, "a page", |output| output.stdout.contains("version 1"));
    }
    until(&kubectl, "logs web-b", "logs of the second node", |output| output.code == 0);

    // The second node's containers end with the cluster, and a second start finds the node again.
    eventually("the pods go", SOON, || {
        let output = kubectl.run("delete pod,service --all --timeout=50s");
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    cluster.stop();
    cluster.launch();
    kubectl.ok("wait --for=condition=Ready node --all --timeout=60s");
    pod(&kubectl, "again", &on("e2e-2", &shell(IDLE)), "Running");
}
