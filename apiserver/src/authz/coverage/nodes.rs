//! What a node may do, on every route that there is: with its own objects what a kubelet needs, with another node's nothing.

use super::{METHODS, routes};
use crate::authn::{AUTHENTICATED, User};
use crate::testing::World;
use api::json::{Value, json};
use api::kind::Kind;
use api::served::Served;
use api::value;

/// For whose objects a right is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// The node's own.
    Own,
    /// Anybody's.
    Any,
}

/// What nodes may do: resource and subresource, verbs, whose. Anything else is refused. Lists and watches are those without a selector.
const RIGHTS: &[(&str, &str, Right)] = &[
    ("nodes", "create get update patch", Right::Own),
    ("nodes/status", "update patch", Right::Own),
    ("pods", "get delete", Right::Own),
    ("pods/status", "update patch", Right::Own),
    ("pods/eviction", "create", Right::Own),
    ("secrets", "get", Right::Own),
    ("configmaps", "get", Right::Own),
    ("serviceaccounts", "get", Right::Own),
    ("serviceaccounts/token", "create", Right::Own),
    ("persistentvolumeclaims", "get", Right::Own),
    ("persistentvolumeclaims/status", "update patch", Right::Own),
    ("persistentvolumes", "get", Right::Own),
    ("leases.coordination.k8s.io", "create get update patch delete", Right::Own),
    ("csinodes.storage.k8s.io", "create get update patch delete", Right::Own),
    ("volumeattachments.storage.k8s.io", "get", Right::Own),
    ("resourceclaims.resource.k8s.io", "get", Right::Own),
    ("resourceslices.resource.k8s.io", "create get update patch delete", Right::Own),
    ("services", "get list watch", Right::Any),
    ("endpoints", "get", Right::Any),
    ("events", "create update patch", Right::Any),
    ("events.events.k8s.io", "create update patch", Right::Any),
    ("certificatesigningrequests.certificates.k8s.io", "create get list watch", Right::Any),
    ("csidrivers.storage.k8s.io", "get list watch", Right::Any),
    ("runtimeclasses.node.k8s.io", "get list watch", Right::Any),
    ("tokenreviews.authentication.k8s.io", "create", Right::Any),
    ("selfsubjectreviews.authentication.k8s.io", "create", Right::Any),
    ("subjectaccessreviews.authorization.k8s.io", "create", Right::Any),
    ("localsubjectaccessreviews.authorization.k8s.io", "create", Right::Any),
    ("selfsubjectaccessreviews.authorization.k8s.io", "create", Right::Any),
    ("selfsubjectrulesreviews.authorization.k8s.io", "create", Right::Any),
];

/// The node's own objects, and those of another one. `mine` is bound to `n1` and refers to what is called `mine`.
const NAMES: [(&str, &str); 2] = [("mine", "n1"), ("theirs", "n2")];

/// Kinds whose objects are called as their node.
const AS_NODES: [&str; 3] = ["nodes", "leases", "csinodes"];

/// What is there: collections and objects.
fn objects(name: &str, node: &str) -> Vec<(&'static str, Value)> {
    let named = |name: &str| json!({"name": name});
    let spec = json!({"nodeName": node, "serviceAccountName": name,
        "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": name}}, {"configMapRef": {"name": name}}]}],
        "resourceClaims": [{"name": "r", "resourceClaimName": name}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}},
            {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "a", "path": "t"}}]}}]});
    let resources = json!({"requests": {"storage": "1Gi"}});
    let claim =
        json!({"accessModes": ["ReadWriteOnce"], "resources": resources, "volumeName": name, "storageClassName": ""});
    let volume = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
        "storageClassName": "", "claimRef": {"namespace": "shop", "name": name}});
    let attachment = json!({"attacher": "a", "nodeName": node, "source": {"persistentVolumeName": name}});
    let pool = json!({"name": node, "generation": 1, "resourceSliceCount": 1});
    let slice = json!({"nodeName": node, "driver": "d.example.com", "pool": pool, "devices": [{"name": "d"}]});
    vec![
        ("/api/v1/nodes", json!({"metadata": named(node)})),
        ("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", json!({"metadata": named(node)})),
        ("/apis/storage.k8s.io/v1/csinodes", json!({"metadata": named(node), "spec": {"drivers": []}})),
        ("/api/v1/namespaces/shop/secrets", json!({"metadata": named(name)})),
        ("/api/v1/namespaces/shop/configmaps", json!({"metadata": named(name)})),
        ("/api/v1/namespaces/shop/serviceaccounts", json!({"metadata": named(name)})),
        ("/api/v1/namespaces/shop/persistentvolumeclaims", json!({"metadata": named(name), "spec": claim})),
        ("/api/v1/persistentvolumes", json!({"metadata": named(name), "spec": volume})),
        ("/apis/storage.k8s.io/v1/volumeattachments", json!({"metadata": named(name), "spec": attachment})),
        ("/apis/resource.k8s.io/v1/namespaces/shop/resourceclaims", json!({"metadata": named(name), "spec": {}})),
        ("/apis/resource.k8s.io/v1/resourceslices", json!({"metadata": named(name), "spec": slice})),
        ("/api/v1/namespaces/shop/pods", json!({"metadata": named(name), "spec": spec})),
    ]
}

/// The verb of a request.
fn verb(method: &str, path: &str, item: bool) -> &'static str {
    match method {
        "GET" if path.contains("watch=true") => "watch",
        "GET" if item => "get",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        _ if item => "delete",
        _ => "deletecollection",
    }
}

async fn start() -> (World, User) {
    let world = World::start(|config| {
        config.authorization_modes = vec!["Node".into(), "RBAC".into()];
        config.enable_admission = vec!["NodeRestriction".into()];
        config.served = Served::all();
    })
    .await;
    let root = User::new("root", &["system:masters", AUTHENTICATED]);
    for namespace in ["shop", "kube-node-lease"] {
        let (code, answer) =
            world.ask(&root, "POST", "/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await;
        assert!([201, 409].contains(&code), "{answer}");
    }
    for (name, node) in NAMES {
        for (path, object) in objects(name, node) {
            let (code, answer) = world.ask(&root, "POST", path, &object).await;
            assert_eq!(code, 201, "{path}: {answer}");
        }
    }
    // Authorization reads the cache, and pods are what is created last.
    let node = node("n2");
    for _ in 0..500 {
        if world.ask(&node, "GET", "/api/v1/namespaces/shop/secrets/theirs", &Value::Null).await.0 == 200 {
            return (world, root);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a node does not get the secret of its pod");
}

fn node(name: &str) -> User {
    User::new(format!("system:node:{name}"), &["system:nodes", AUTHENTICATED])
}

/// What a request brings: the object as it is, without what only the server says of one that is created.
async fn body(world: &World, root: &User, (method, path): (&str, &str), part: &str, name: &str, whole: &str) -> Value {
    let there = async |path: &str| world.ask(root, "GET", path, &Value::Null).await.1;
    match (method, part) {
        ("POST", "eviction") => json!({"metadata": {"name": name, "namespace": "shop"}}),
        ("POST", "token") => {
            let pod = there(&format!("/api/v1/namespaces/shop/pods/{name}")).await;
            let bound =
                json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": value::text(&pod, "metadata.uid")});
            json!({"spec": {"audiences": ["a"], "boundObjectRef": bound}})
        }
        ("PUT", _) => there(path).await,
        ("POST", "") => {
            let mut object = there(whole).await;
            for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
                value::remove(&mut object, &format!("metadata.{field}"));
            }
            object
        }
        _ => json!({}),
    }
}

#[tokio::test]
async fn a_node_has_its_own_and_nothing_of_another() {
    let (world, root) = start().await;
    let me = node("n1");
    let kinds: Vec<&'static Kind> = world.running.server().offer().served.kinds().to_vec();
    let (mut asked, mut used) = (0, std::collections::BTreeSet::new());
    for kind in kinds {
        let resource = crate::authz::group_resource(kind.group, kind.plural);
        for (method, route) in routes(kind) {
            let item = route.split('/').any(|part| part == "x");
            let part = route.split("/x/").nth(1).unwrap_or_default();
            let verb = verb(method, &route, item);
            let resource = if part.is_empty() { resource.clone() } else { format!("{resource}/{part}") };
            let found =
                RIGHTS.iter().position(|(own, verbs, _)| *own == resource && verbs.split(' ').any(|own| own == verb));
            let right = found.and_then(|at| RIGHTS.get(at)).map(|(_, _, right)| *right);
            used.extend(found.map(|at| (at, verb)));
            for (name, own) in NAMES {
                let name = if AS_NODES.contains(&kind.plural) { own } else { name };
                let place = if kind.plural == "leases" { "kube-node-lease" } else { "shop" };
                let path = |route: &str| {
                    let parts = route.split('/').map(|part| match part {
                        "x" => name,
                        "shop" => place,
                        part => part,
                    });
                    parts.collect::<Vec<_>>().join("/")
                };
                let whole = path(&if item { route.clone() } else { format!("{route}/x") });
                let path = path(&route);
                let body = body(&world, &root, (method, &path), part, name, &whole).await;
                let dry = if path.contains('?') || method == "GET" { "" } else { "?dryRun=All" };
                let (code, answer) = world.ask(&me, method, &format!("{path}{dry}"), &body).await;
                let own = own == "n1";
                let may = right.is_some_and(|right| right == Right::Any || own);
                assert_eq!(code != 403, may, "{resource}: {method} {path}: {code} {answer}");
                // What is the node's own is not only let through.
                let done = [200, 201, 409].contains(&code);
                assert!(done || !may || right == Some(Right::Any), "{resource}: {method} {path}: {code} {answer}");
                asked += 1;
            }
        }
    }
    assert!(asked > 1000, "only {asked} requests");
    let rights: usize = RIGHTS.iter().map(|(_, verbs, _)| verbs.split(' ').count()).sum();
    assert_eq!(used.len(), rights, "rights to what is not served: {used:?}");
}

#[tokio::test]
async fn collections_are_read_one_node_and_one_object_at_a_time() {
    let (world, root) = start().await;
    let strangers = [
        // In the group, without a pod.
        node("n3"),
        // The name alone is nothing.
        User::new("system:node:n1", &[AUTHENTICATED]),
    ];
    let pods = "/api/v1/pods?fieldSelector=spec.nodeName";
    let slices = "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName";
    let secrets = "/api/v1/namespaces/shop/secrets?fieldSelector=metadata.name";
    let maps = "/api/v1/namespaces/shop/configmaps?fieldSelector=metadata.name";
    let nodes = "/api/v1/nodes?fieldSelector=metadata.name";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases?fieldSelector=metadata.name";
    let requests = [
        ("GET", pods, "n1", "n2", true),
        ("GET", slices, "n1", "n2", true),
        ("DELETE", slices, "n1", "n2", true),
        ("GET", secrets, "mine", "theirs", true),
        ("GET", maps, "mine", "theirs", true),
        ("GET", nodes, "n1", "n2", true),
        // A lease is read by itself.
        ("GET", leases, "n1", "n2", false),
    ];
    for (method, path, own, other, allowed) in requests {
        let further = if method == "GET" { ["", "&watch=true&timeoutSeconds=1"] } else { ["&dryRun=All"; 2] };
        for further in further {
            for (target, may) in [
                (format!("{path}={own}"), allowed),
                (format!("{path}={other}"), false),
                (format!("{path}!={other}"), false),
            ] {
                let target = format!("{target}{further}");
                let (code, answer) = world.ask(&node("n1"), method, &target, &Value::Null).await;
                assert_eq!(code, if may { 200 } else { 403 }, "{method} {target}: {answer}");
                let objects = value::items(&answer, "items");
                assert!(objects.iter().all(|object| !object.to_string().contains("theirs")), "{target}: {answer}");
                for stranger in &strangers {
                    let (code, answer) = world.ask(stranger, method, &target, &Value::Null).await;
                    assert_eq!(code, 403, "{stranger:?}: {method} {target}: {answer}");
                }
            }
        }
    }
    // What belongs to no node is nobody's, and without its pod a node has no right any more.
    let secret = "/api/v1/namespaces/shop/secrets/mine";
    assert_eq!(world.ask(&node("n1"), "GET", secret, &Value::Null).await.0, 200);
    for stranger in &strangers {
        for method in METHODS {
            assert_eq!(world.ask(stranger, method, secret, &json!({})).await.0, 403, "{stranger:?}: {method}");
        }
    }
    let pod = "/api/v1/namespaces/shop/pods/mine?gracePeriodSeconds=0";
    assert_eq!(world.ask(&root, "DELETE", pod, &Value::Null).await.0, 200);
    for _ in 0..500 {
        if world.ask(&node("n1"), "GET", secret, &Value::Null).await.0 == 403 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a node keeps the right to what its pod used");
}
