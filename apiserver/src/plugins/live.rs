//! Admission plugins in a whole server: what clients see of them.

#![allow(clippy::needless_pass_by_value, reason = "tests: values are written where they are used")]

use crate::authn::User;
use crate::testing::World;
use admission::Lookup as _;
use api::json::{Value, json};
use api::value;

fn root() -> User {
    User::new("root", &["system:masters", "system:authenticated"])
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    for (field, new) in spec.as_object().unwrap() {
        pod["spec"][field] = new.clone();
    }
    pod
}

async fn check(world: &World, user: &User, (method, path): (&str, &str), body: Value, code: u16, words: &str) -> Value {
    let (found, answer) = world.ask(user, method, path, &body).await;
    let said = answer["message"].as_str().unwrap_or_default();
    assert!(found == code && said.contains(words), "{method} {path} {body}: {found} {answer}");
    answer
}

fn namespace(name: &str, labels: Value, annotations: Value) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name, "labels": labels, "annotations": annotations}})
}

#[tokio::test]
async fn pods_keep_the_standard_of_their_namespace() {
    let world = World::start(|_| {}).await;
    let root = root();
    let label = |mode: &str| format!("pod-security.kubernetes.io/{mode}");
    let spaces = "/api/v1/namespaces";
    let wrong = namespace("wrong", json!({label("enforce"): "strict"}), json!({}));
    check(&world, &root, ("POST", spaces), wrong, 422, "must be one of privileged, baseline, restricted").await;
    check(
        &world,
        &root,
        ("POST", spaces),
        namespace("safe", json!({label("enforce"): "baseline"}), json!({})),
        201,
        "",
    )
    .await;
    check(&world, &root, ("POST", spaces), namespace("free", json!({}), json!({})), 201, "").await;
    let host = || json!({"hostNetwork": true});
    let safe = "/api/v1/namespaces/safe/pods";
    check(
        &world,
        &root,
        ("POST", safe),
        pod("a", host()),
        403,
        "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)",
    )
    .await;
    check(&world, &root, ("POST", safe), pod("a", json!({})), 201, "").await;
    check(&world, &root, ("POST", "/api/v1/namespaces/free/pods"), pod("a", host()), 201, "").await;
    // Templates are warned of, never refused.
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x", host())["spec"]});
    let set = json!({"kind": "ReplicaSet", "apiVersion": "apps/v1", "metadata": {"name": "r"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    check(&world, &root, ("POST", "/apis/apps/v1/namespaces/safe/replicasets"), set, 201, "").await;
    // A running pod is not asked again for what does not matter.
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    let stricter = json!({"metadata": {"labels": {label("enforce"): "restricted"}}});
    check(&world, &root, ("PATCH", "/api/v1/namespaces/free"), stricter, 200, "").await;
    // Namespaces are asked for in the cache.
    while world
        .running
        .server()
        .peek("", "namespaces", "", "free")
        .await
        .is_none_or(|own| api::meta::label(&own, &label("enforce")).is_none())
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    check(&world, &root, ("PATCH", "/api/v1/namespaces/free/pods/a"), labels, 200, "").await;
    let image = json!({"spec": {"containers": [{"name": "c", "image": "i:2"}]}});
    check(
        &world,
        &root,
        ("PATCH", "/api/v1/namespaces/free/pods/a"),
        image,
        403,
        "violates PodSecurity \"restricted:latest\"",
    )
    .await;
}

#[tokio::test]
async fn plugins_change_and_refuse_what_they_are_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admission.yaml");
    let configuration = json!({"kind": "AdmissionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1", "plugins": [
        {"name": "EventRateLimit", "configuration": {"limits": [{"type": "Namespace", "qps": 1, "burst": 2}]}},
        {"name": "PodNodeSelector", "configuration": {"podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": "kind=any"}}}]});
    std::fs::write(&path, configuration.to_string()).unwrap();
    let world = World::start(|config| {
        let on = [
            "AlwaysPullImages",
            "DenyServiceExternalIPs",
            "EventRateLimit",
            "ExtendedResourceToleration",
            "NamespaceAutoProvision",
            "OwnerReferencesPermissionEnforcement",
            "PodNodeSelector",
            "PodTolerationRestriction",
            "StorageObjectInUseProtection",
        ];
        config.enable_admission = on.iter().map(|name| (*name).to_owned()).collect();
        config.admission_config = Some(path.clone());
    })
    .await;
    let root = root();
    let pods = "/api/v1/namespaces/made/pods";
    // The namespace comes into being.
    let device = json!({"containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "Never",
        "resources": {"requests": {"example.com/x": "1"}, "limits": {"example.com/x": "1"}}}]});
    let made = check(&world, &root, ("POST", pods), pod("a", device), 201, "").await;
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(made["spec"]["nodeSelector"], json!({"kind": "any"}));
    let tolerated = |pod: &Value, key: &str| {
        value::items(pod, "spec.tolerations").iter().any(|toleration| value::text(toleration, "key") == key)
    };
    assert!(tolerated(&made, "example.com/x"), "{made}");
    check(
        &world,
        &root,
        ("POST", pods),
        pod("b", json!({"nodeSelector": {"kind": "own"}})),
        403,
        "conflicts with its namespace node label selector",
    )
    .await;
    // Annotations of a namespace.
    let notes = json!({"scheduler.alpha.kubernetes.io/node-selector": "kind=gpu",
        "scheduler.alpha.kubernetes.io/defaultTolerations": "[{\"key\": \"gpu\", \"operator\": \"Exists\"}]",
        "scheduler.alpha.kubernetes.io/tolerationsWhitelist": "[{\"key\": \"gpu\", \"operator\": \"Exists\"}, {\"operator\": \"Exists\", \"effect\": \"NoExecute\"}]"});
    check(&world, &root, ("POST", "/api/v1/namespaces"), namespace("own", json!({}), notes), 201, "").await;
    let made = check(&world, &root, ("POST", "/api/v1/namespaces/own/pods"), pod("a", json!({})), 201, "").await;
    assert_eq!(made["spec"]["nodeSelector"], json!({"kind": "gpu"}));
    assert!(tolerated(&made, "gpu"), "{made}");
    let other = json!({"tolerations": [{"key": "other", "operator": "Exists", "effect": "NoSchedule"}]});
    check(
        &world,
        &root,
        ("POST", "/api/v1/namespaces/own/pods"),
        pod("b", other),
        403,
        "conflict with its namespace whitelist",
    )
    .await;
    // Classes and claims.
    let class = json!({"kind": "StorageClass", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": "fast",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "example.com/x"});
    check(&world, &root, ("POST", "/apis/storage.k8s.io/v1/storageclasses"), class, 201, "").await;
    let claim = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let mut claimed = Value::Null;
    for _ in 0..50 {
        // The class is read from the cache.
        let (_, _) = world.ask(&root, "DELETE", "/api/v1/namespaces/own/persistentvolumeclaims/c", &Value::Null).await;
        let unguarded = json!({"metadata": {"finalizers": null}});
        let (_, _) = world.ask(&root, "PATCH", "/api/v1/namespaces/own/persistentvolumeclaims/c", &unguarded).await;
        claimed = world.ask(&root, "POST", "/api/v1/namespaces/own/persistentvolumeclaims", &claim).await.1;
        if claimed["spec"]["storageClassName"] == "fast" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(claimed["spec"]["storageClassName"], "fast", "{claimed}");
    assert_eq!(claimed["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let larger = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let at = "/api/v1/namespaces/own/persistentvolumeclaims/c";
    check(&world, &root, ("PATCH", at), larger, 422, "spec is immutable after creation").await;
}

#[tokio::test]
async fn nodes_keep_to_their_own() {
    let world = World::start(|config| {
        config.authorization_modes = vec!["Node".into(), "RBAC".into()];
        config.enable_admission = vec!["NodeRestriction".into()];
    })
    .await;
    let root = root();
    let node = User::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    let own = |name: &str, labels: Value| json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}});
    let nodes = "/api/v1/nodes";
    check(
        &world,
        &node,
        ("POST", nodes),
        own("n2", json!({})),
        403,
        "node \"n1\" is not allowed to modify node \"n2\"",
    )
    .await;
    let role = json!({"node-role.kubernetes.io/control-plane": ""});
    check(
        &world,
        &node,
        ("POST", nodes),
        own("n1", role),
        403,
        "is not allowed to set the following labels: node-role.kubernetes.io/control-plane",
    )
    .await;
    let zone = json!({"topology.kubernetes.io/zone": "z", "kubernetes.io/hostname": "n1"});
    check(&world, &node, ("POST", nodes), own("n1", zone), 201, "").await;
    check(&world, &root, ("POST", nodes), own("n2", json!({})), 201, "").await;
    let secret = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/secure": "yes"}}});
    check(
        &world,
        &node,
        ("PATCH", "/api/v1/nodes/n1"),
        secret,
        403,
        "is not allowed to modify labels: node-restriction.kubernetes.io/secure",
    )
    .await;
    let taints = json!({"spec": {"taints": []}});
    check(&world, &node, ("PATCH", "/api/v1/nodes/n1"), taints, 403, "is not allowed to modify taints").await;
    check(
        &world,
        &node,
        ("PATCH", "/api/v1/nodes/n2"),
        json!({"metadata": {"labels": {"a": "b"}}}),
        403,
        "is not allowed to modify node \"n2\"",
    )
    .await;

    // Secrets of pods that are bound to it, and of no others.
    let secret = |name: &str| json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}});
    for name in ["cash", "safe"] {
        check(&world, &root, ("POST", "/api/v1/namespaces/default/secrets"), secret(name), 201, "").await;
    }
    let volumes = json!({"volumes": [{"name": "v", "secret": {"secretName": "cash"}}]});
    check(&world, &root, ("POST", "/api/v1/namespaces/default/pods"), pod("web", volumes), 201, "").await;
    let cash = "/api/v1/namespaces/default/secrets/cash";
    check(&world, &node, ("GET", cash), Value::Null, 403, "no relationship found between node 'n1' and this object")
        .await;
    let binding = json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "web"}, "target": {"kind": "Node", "name": "n1"}});
    check(&world, &root, ("POST", "/api/v1/namespaces/default/pods/web/binding"), binding, 201, "").await;
    let mut code = 0;
    for _ in 0..100 {
        code = world.ask(&node, "GET", cash, &Value::Null).await.0;
        if code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(code, 200);
    let bound = check(&world, &root, ("GET", "/api/v1/namespaces/default/pods/web"), Value::Null, 200, "").await;
    assert_eq!(bound["metadata"]["labels"]["topology.kubernetes.io/zone"], "z", "{bound}");
    check(&world, &node, ("GET", "/api/v1/namespaces/default/secrets/safe"), Value::Null, 403, "no relationship found")
        .await;
    let stranger = User::new("system:node:n2", &["system:nodes", "system:authenticated"]);
    check(&world, &stranger, ("GET", cash), Value::Null, 403, "no relationship found between node 'n2'").await;
    check(
        &world,
        &node,
        ("GET", "/api/v1/pods"),
        Value::Null,
        403,
        "can only list/watch pods with spec.nodeName field selector",
    )
    .await;
    check(&world, &node, ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"), Value::Null, 200, "").await;
    check(&world, &node, ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2"), Value::Null, 403, "spec.nodeName")
        .await;
    let labels = json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}});
    check(
        &world,
        &stranger,
        ("PATCH", "/api/v1/namespaces/default/pods/web/status"),
        labels,
        403,
        "can only update pod status for pods with spec.nodeName set to itself",
    )
    .await;
    let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "web"}});
    check(
        &world,
        &stranger,
        ("POST", "/api/v1/namespaces/default/pods/web/eviction"),
        eviction,
        403,
        "can only evict pods with spec.nodeName set to itself",
    )
    .await;
    // Tokens of accounts that its pods run as, bound to them.
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "till"}});
    check(&world, &root, ("POST", "/api/v1/namespaces/default/serviceaccounts"), account, 201, "").await;
    let token = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    let path = "/api/v1/namespaces/default/serviceaccounts/till/token";
    check(&world, &node, ("POST", path), token, 403, "no relationship found").await;
}
