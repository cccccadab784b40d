//! Placements as data, and laws over random clusters.

use super::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, from_value, json};
use std::sync::Arc;

/// A pod from its spec; `name` is its uid too, `labels` as `key=value`.
fn pod(name: &str, labels: &[&str], spec: impl Into<Value>) -> PodInfo {
    let mut spec: Value = spec.into();
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c", "image": "busybox"}]);
    }
    let labels: serde_json::Map<String, Value> =
        labels.iter().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.into())).collect();
    let pod = json!({"metadata": {"name": name, "namespace": "d", "uid": name, "labels": labels}, "spec": spec});
    PodInfo::new(Arc::new(from_value(pod).unwrap()))
}

fn asks(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}

/// A node of 4 cores and 8 GiB in a zone, changed by `with`.
fn node(name: &str, zone: &str, with: impl Into<Value>) -> Value {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}},
        "spec": {}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    merge(&mut node, &with.into());
    node
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from.clone(),
    }
}

fn cluster(
    nodes: impl IntoIterator<Item = Value>,
    placed: impl IntoIterator<Item = (PodInfo, &'static str)>,
) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        snapshot.set_node(Arc::new(from_value(node).unwrap()));
    }
    for (pod, node) in placed {
        snapshot.place(&Arc::new(pod), node);
    }
    snapshot
}

fn three() -> Vec<Value> {
    vec![node("a1", "a", json!({})), node("a2", "a", json!({})), node("b1", "b", json!({}))]
}

/// Whatever the turn, the pod goes to one of `want`, or nowhere with that message.
fn check(snapshot: &Snapshot, pod: &PodInfo, want: Result<&[&str], &str>) {
    let mut seen: Vec<String> = Vec::new();
    for pick in 0..6 {
        match (place(snapshot, pod, Turn { start: pick, pick }), want) {
            (Ok(placement), Ok(_)) => seen.push(placement.node),
            (Err(unfit), Err(message)) => assert_eq!(unfit.to_string(), message),
            (got, want) => panic!("{got:?}, not {want:?}"),
        }
    }
    if let Ok(want) = want {
        seen.sort();
        seen.dedup();
        assert_eq!(seen, want);
    }
}

#[test]
fn no_nodes() {
    check(&cluster([], []), &pod("p", &[], json!({})), Err("no nodes available to schedule pods"));
}

#[test]
fn resources() {
    let full = || cluster(three(), [(pod("x", &[], asks("3", "1Gi")), "a1"), (pod("y", &[], asks("2", "1Gi")), "a2")]);
    check(&full(), &pod("p", &[], asks("3", "1Gi")), Ok(&["b1"]));
    check(
        &full(),
        &pod("p", &[], asks("5", "9Gi")),
        Err("0/3 nodes are available: 3 Insufficient cpu, 3 Insufficient memory."),
    );
    // The emptiest wins.
    check(&full(), &pod("p", &[], asks("100m", "1Mi")), Ok(&["b1"]));
    check(&cluster(three(), []), &pod("p", &[], asks("100m", "1Mi")), Ok(&["a1", "a2", "b1"]));
    let gpu = json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]});
    check(&cluster(three(), []), &pod("p", &[], gpu), Err("0/3 nodes are available: 3 Insufficient example.com/gpu."));
    let small = [node("n", "a", json!({"status": {"allocatable": {"pods": "1"}}}))];
    check(
        &cluster(small, [(pod("x", &[], json!({})), "n")]),
        &pod("p", &[], json!({})),
        Err("0/1 nodes are available: 1 Too many pods."),
    );
    let overhead =
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "4"}}}], "overhead": {"cpu": "1m"}});
    check(&cluster(three(), []), &pod("p", &[], overhead), Err("0/3 nodes are available: 3 Insufficient cpu."));
}

#[test]
fn nodes_that_do_not_want() {
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}});
    let nodes =
        || vec![node("n1", "a", taint("NoSchedule")), node("n2", "a", json!({"spec": {"unschedulable": true}}))];
    check(
        &cluster(nodes(), []),
        &pod("p", &[], json!({})),
        Err("0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."),
    );
    check(
        &cluster(nodes(), []),
        &pod("p", &[], json!({"tolerations": [{"key": "k", "operator": "Exists"}]})),
        Ok(&["n1"]),
    );
    let cordon = json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
    check(&cluster(nodes(), []), &pod("p", &[], cordon), Ok(&["n2"]));
    let soft = || cluster([node("n1", "a", taint("PreferNoSchedule")), node("n2", "a", json!({}))], []);
    check(&soft(), &pod("p", &[], json!({})), Ok(&["n2"]));
    let mixed = [node("n1", "a", taint("NoSchedule")), node("n2", "a", json!({})), node("n3", "a", json!({}))];
    check(
        &cluster(mixed, []),
        &pod("p", &[], asks("9", "1")),
        Err("0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu."),
    );
}

#[test]
fn pods_that_choose() {
    let all = || cluster(three(), []);
    check(&all(), &pod("p", &[], json!({"nodeSelector": {"topology.kubernetes.io/zone": "b"}})), Ok(&["b1"]));
    check(
        &all(),
        &pod("p", &[], json!({"nodeSelector": {"x": "y"}})),
        Err("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."),
    );
    check(&all(), &pod("p", &[], json!({"nodeName": "a2"})), Ok(&["a2"]));
    check(
        &all(),
        &pod("p", &[], json!({"nodeName": "zz"})),
        Err("0/3 nodes are available: 3 node(s) didn't match the requested node name."),
    );
    let prefers = |weight: i32| {
        let term =
            json!({"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]}]});
        let preferred = json!([{"weight": weight, "preference": term}]);
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}})
    };
    check(&all(), &pod("p", &[], prefers(1)), Ok(&["a1", "a2"]));
    let daemon = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a1"]}]},
    ]}}}});
    check(&all(), &pod("p", &[], daemon), Ok(&["a1"]));
}

#[test]
fn ports_are_had_once() {
    let wants = |ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": ip}]}]});
    let used = cluster([node("n", "a", json!({}))], [(pod("x", &[], wants("10.0.0.1")), "n")]);
    let message = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    check(&used, &pod("p", &[], wants("")), Err(message));
    check(&used, &pod("p", &[], wants("10.0.0.1")), Err(message));
    check(&used, &pod("p", &[], wants("10.0.0.2")), Ok(&["n"]));
}

#[test]
fn spreading() {
    let constraint = |key: &str, when: &str| json!([{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let zone = "topology.kubernetes.io/zone";
    let web = |name: &str| pod(name, &["app=web"], json!({}));
    let hard = || pod("p", &["app=web"], json!({"topologySpreadConstraints": constraint(zone, "DoNotSchedule")}));
    check(&cluster(three(), [(web("x"), "a1")]), &hard(), Ok(&["b1"]));
    let balanced = || cluster(three(), [(web("x"), "a1"), (web("y"), "b1")]);
    check(&balanced(), &hard(), Ok(&["a2"]));
    let mut lopsided = cluster(three(), [(web("x"), "a1")]);
    lopsided.remove_node("b1");
    check(&lopsided, &hard(), Ok(&["a2"]));
    lopsided.set_node(Arc::new(from_value(node("b1", "b", json!({"spec": {"unschedulable": true}}))).unwrap()));
    check(
        &lopsided,
        &hard(),
        Err(
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints.",
        ),
    );
    let keyless = pod("p", &["app=web"], json!({"topologySpreadConstraints": constraint("rack", "DoNotSchedule")}));
    check(
        &cluster(three(), []),
        &keyless,
        Err(
            "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints (missing required label).",
        ),
    );
    let soft = pod(
        "p",
        &["app=web"],
        json!({"topologySpreadConstraints": constraint("kubernetes.io/hostname", "ScheduleAnyway")}),
    );
    check(&cluster(three(), [(web("x"), "a1"), (web("y"), "b1")]), &soft, Ok(&["a2"]));
    // Nothing said, but a service selects them.
    let mut served = cluster(three(), [(web("x"), "a1"), (web("y"), "b1")]);
    check(&served, &web("p"), Ok(&["a2"]));
    let service = json!({"metadata": {"name": "web", "namespace": "d"}, "spec": {"selector": {"app": "web"}}});
    served.services.insert("d/web".to_owned(), Arc::new(from_value(service).unwrap()));
    check(&served, &web("p"), Ok(&["a2"]));
}

#[test]
fn company() {
    let terms = |kind: &str, key: &str, namespaces: Value| {
        let mut term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}});
        merge(&mut term, &namespaces);
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    };
    let zone = "topology.kubernetes.io/zone";
    let host = "kubernetes.io/hostname";
    let none = || json!({});
    let web = || pod("x", &["app=web"], json!({}));
    let with = |labels: &[&str]| pod("p", labels, terms("podAffinity", zone, none()));
    check(&cluster(three(), [(web(), "b1")]), &with(&[]), Ok(&["b1"]));
    check(
        &cluster(three(), []),
        &with(&[]),
        Err("0/3 nodes are available: 3 node(s) didn't match pod affinity rules."),
    );
    // The first of its kind finds a place.
    check(&cluster(three(), []), &with(&["app=web"]), Ok(&["a1", "a2", "b1"]));
    let without = |key: &str| pod("p", &[], terms("podAntiAffinity", key, none()));
    check(&cluster(three(), [(web(), "a1")]), &without(zone), Ok(&["b1"]));
    let everywhere = [(web(), "a1"), (pod("y", &["app=web"], json!({})), "b1")];
    check(
        &cluster(three(), everywhere),
        &without(zone),
        Err("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."),
    );
    let hermit = pod("h", &[], terms("podAntiAffinity", zone, none()));
    check(&cluster(three(), [(hermit, "a1")]), &web(), Ok(&["b1"]));
    let one = cluster([node("n", "a", none())], [(pod("h", &[], terms("podAntiAffinity", host, none())), "n")]);
    check(&one, &web(), Err("0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."));
    // Other namespaces, by name and by label.
    let elsewhere = |namespaces: Value| pod("p", &[], terms("podAffinity", zone, namespaces));
    let mut all = cluster(three(), [(web(), "b1")]);
    check(
        &all,
        &elsewhere(json!({"namespaces": ["e"]})),
        Err("0/3 nodes are available: 3 node(s) didn't match pod affinity rules."),
    );
    all.namespaces.insert("d".to_owned(), [("team".to_owned(), "x".to_owned())].into());
    check(&all, &elsewhere(json!({"namespaceSelector": {"matchLabels": {"team": "x"}}})), Ok(&["b1"]));
    let preferred = json!([{"weight": 50, "podAffinityTerm": {"topologyKey": host, "labelSelector": {"matchLabels": {"app": "web"}}}}]);
    let likes =
        json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred.clone()}}});
    check(&cluster(three(), [(web(), "a2")]), &pod("p", &[], likes), Ok(&["a2"]));
    let dislikes =
        json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}});
    check(&cluster(three(), [(web(), "a2")]), &pod("p", &[], dislikes), Ok(&["a1", "b1"]));
}

#[test]
fn images_that_are_there() {
    let big = json!({"status": {"images": [{"names": ["busybox:latest"], "sizeBytes": 2_000_000_000_i64}]}});
    check(&cluster([node("n1", "a", json!({})), node("n2", "a", big)], []), &pod("p", &[], json!({})), Ok(&["n2"]));
}

#[test]
fn large_clusters_are_not_searched_whole() {
    for (nodes, want) in [(0, 0), (99, 99), (100, 100), (1000, 420), (5000, 500), (100_000, 5000)] {
        assert_eq!(enough(nodes), want, "{nodes}");
    }
}

/// No node ever gets more than it has, no port twice, no taint or selector ignored; and where nothing fits, nothing did.
#[test]
fn laws_of_placement() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..40 {
        let mut snapshot = Snapshot::default();
        for index in 0..rng.random_range(1..8) {
            let mut with = json!({"status": {"allocatable": {
                "cpu": format!("{}m", rng.random_range(0..4000)), "memory": format!("{}Mi", rng.random_range(0..4000)),
                "pods": rng.random_range(0..12).to_string(),
            }}});
            if rng.random_bool(0.2) {
                with["spec"] = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
            }
            let zone = ["a", "b", "c"][rng.random_range(0..3)];
            snapshot.set_node(Arc::new(from_value(node(&format!("n{index}"), zone, with)).unwrap()));
        }
        for number in 0..60 {
            let mut spec = asks(&format!("{}m", rng.random_range(0..900)), &format!("{}Mi", rng.random_range(0..900)));
            if rng.random_bool(0.2) {
                spec["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": rng.random_range(80..83)}]);
            }
            if rng.random_bool(0.2) {
                spec["nodeSelector"] = json!({"topology.kubernetes.io/zone": (["a", "b"][rng.random_range(0..2)])});
            }
            if rng.random_bool(0.3) {
                spec["tolerations"] = json!([{"operator": "Exists"}]);
            }
            let pod = Arc::new(pod(&format!("p{number}"), &["app=web"], spec));
            let fits = |node: &NodeInfo| {
                node.requested.cpu + pod.requests.cpu
                    <= node.allocatable.cpu.max(node.requested.cpu * i64::from(pod.requests.cpu == 0))
                    && node.requested.memory + pod.requests.memory
                        <= node.allocatable.memory.max(node.requested.memory * i64::from(pod.requests.memory == 0))
                    && i64::try_from(node.pods.len()).unwrap() < node.allocatable.pods
                    && !node.pods.values().any(|o| o.ports.iter().any(|a| pod.ports.iter().any(|b| a.conflicts(b))))
                    && crate::matching::untolerated(&pod.pod, &node.node).is_none()
                    && crate::matching::node_matches(&pod.pod, &node.node)
            };
            let turn = Turn { start: rng.random_range(0..100), pick: rng.random_range(0..100) };
            match place(&snapshot, &pod, turn) {
                Ok(placement) => {
                    assert!(fits(snapshot.node(&placement.node).unwrap()), "{pod:?} on {}", placement.node);
                    snapshot.place(&pod, &placement.node);
                }
                Err(unfit) => {
                    assert!(!snapshot.nodes().any(fits), "{pod:?}: {unfit}");
                    assert_eq!(unfit.nodes, snapshot.len());
                }
            }
            if rng.random_bool(0.1) {
                let gone: Vec<String> = snapshot.pods().take(3).map(str::to_owned).collect();
                gone.iter().for_each(|uid| drop(snapshot.remove_pod(uid)));
            }
        }
        for node in snapshot.nodes() {
            assert!(node.requested.cpu <= node.allocatable.cpu && node.requested.memory <= node.allocatable.memory);
        }
    }
}
