//! Kinds that clients bring: defined, used with kubectl and with kube-rs, changed and removed.

use e2e::{control_plane, eventually, runtime};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use std::time::Duration;

fn definition(group: &str, scope: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("crontabs.{group}")},
        "spec": {"group": group, "scope": scope,
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["cron"], "description": "What is wanted.",
                        "x-kubernetes-validations": [{"rule": "self.cron != 'never'", "message": "never is too late"}],
                        "properties": {"cron": {"type": "string"}, "image": {"type": "string", "default": "busybox"},
                            "replicas": {"type": "integer", "maximum": 10}, "color": {"type": "string"}}},
                    "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}},
                "subresources": {"status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [{"name": "Cron", "type": "string", "jsonPath": ".spec.cron"}]}]}})
}

fn crontab(group: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{group}/v1"), "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

#[test]
fn kubectl_uses_a_kind_as_soon_as_it_is_defined() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("custom");
    let group = "one.custom.example.com";
    let apply = |object: &Value| kubectl.feed("apply -f -", object.to_string().as_bytes());
    apply(&definition(group, "Namespaced")).ok();
    kubectl.ok(&format!("wait --for=condition=Established crd/crontabs.{group} --timeout=20s"));
    let one = |spec: Value| apply(&crontab(group, "one", &spec));
    assert_eq!(
        one(json!({"cron": "* * *", "replicas": 3, "color": "red"})).ok(),
        format!("crontab.{group}/one created\n")
    );
    assert_eq!(kubectl.ok("get ct one -o jsonpath={.spec.image}/{.metadata.generation}"), "busybox/1");
    let table = kubectl.ok("get ct");
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words, ["NAME", "CRON", "one", "*", "*", "*"]);
    eventually("its version is registered", Duration::from_secs(10), || {
        let found = kubectl.run(&format!("get apiservice v1.{group} -o name"));
        if found.code == 0 { Ok(()) } else { Err(found.to_string()) }
    });
    assert!(kubectl.ok("explain crontab.spec").contains("What is wanted."));
    one(json!({"cron": "x", "replicas": 11})).check_failed("spec.replicas in body should be less than or equal to 10");
    one(json!({"cron": "never"})).check_failed("spec: Invalid value: never is too late");
    one(json!({"cron": "x", "other": 1})).check_failed("unknown field \"spec.other\"");
    let metrics = kubectl.ok("get --raw /metrics");
    for name in ["compilation", "evaluation"] {
        let count = metrics
            .lines()
            .find_map(|line| line.strip_prefix(&format!("apiserver_cel_{name}_duration_seconds_count ")));
        assert!(count.is_some_and(|count| count != "0"), "{name}: {count:?}");
    }
    kubectl.ok("scale ct one --replicas=5");
    assert_eq!(kubectl.ok("get ct one -o jsonpath={.spec.replicas}/{.metadata.generation}"), "5/2");
    kubectl.ok(
        "patch ct one --subresource=status --type=merge -p '{\"status\":{\"replicas\":4},\"spec\":{\"cron\":\"y\"}}'",
    );
    assert_eq!(
        kubectl.ok("get ct one -o jsonpath={.status.replicas}/{.spec.cron}/{.metadata.generation}"),
        "4/* * */2"
    );
    assert_eq!(kubectl.ok("get ct --field-selector spec.color=red -o name"), format!("crontab.{group}/one\n"));
    assert_eq!(kubectl.ok("get ct --field-selector spec.color=blue -o name"), "");
    kubectl.fails("patch ct one --type=strategic -p {}", "application/strategic-merge-patch+json is not supported");

    // A kind goes with its objects, and waits for those that are held.
    kubectl.ok("patch ct one --type=merge -p '{\"metadata\":{\"finalizers\":[\"a.example.com/x\"]}}'");
    kubectl.ok(&format!("delete crd crontabs.{group} --wait=false"));
    let late = kubectl.feed("create -f -", crontab(group, "late", &json!({"cron": "x"})).to_string().as_bytes());
    late.check_failed("create not allowed while custom resource definition is terminating");
    kubectl.ok("patch ct one --type=merge -p '{\"metadata\":{\"finalizers\":null}}'");
    kubectl.ok(&format!("wait --for=delete crd/crontabs.{group} --timeout=20s"));
    kubectl.fails(&format!("get crontabs.{group}"), "the server doesn't have a resource type");
    kubectl.ok(&format!("wait --for=delete apiservice/v1.{group} --timeout=20s"));
}

#[test]
fn a_client_watches_a_kind_until_its_definition_changes() {
    let Some(cluster) = control_plane() else { return };
    let group = "two.custom.example.com";
    let kubectl = cluster.kubectl();
    kubectl.feed("create -f -", definition(group, "Cluster").to_string().as_bytes()).ok();
    kubectl.ok(&format!("wait --for=condition=Established crd/crontabs.{group} --timeout=20s"));
    let test = async {
        let client = cluster.client().await;
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", "CronTab"), "crontabs");
        let all: Api<DynamicObject> = Api::all_with(client, &resource);
        let object: DynamicObject = serde_json::from_value(crontab(group, "a", &json!({"cron": "x"}))).unwrap();
        let made = all.create(&PostParams::default(), &object).await.unwrap();
        assert_eq!(made.data["spec"]["image"], "busybox");
        let version = made.metadata.resource_version.clone().unwrap();
        let mut events = all.watch(&WatchParams::default(), &version).await.unwrap().boxed();
        let applied = Patch::Apply(crontab(group, "a", &json!({"cron": "y", "color": "red"})));
        all.patch("a", &PatchParams::apply("op").force(), &applied).await.unwrap();
        let Some(WatchEvent::Modified(seen)) = events.try_next().await.unwrap() else { panic!("a change") };
        assert_eq!(seen.data["spec"]["color"], "red");
        let owners = seen.metadata.managed_fields.unwrap();
        assert!(owners.iter().any(|owner| owner.manager.as_deref() == Some("op")), "{owners:?}");

        kubectl.ok(&format!("patch crd crontabs.{group} --type=json -p '[{{\"op\":\"remove\",\"path\":\"/spec/versions/0/selectableFields\"}}]'"));
        assert!(events.try_next().await.unwrap().is_none(), "the watch ends");
        let found = all.get("a").await.unwrap();
        assert_eq!(found.data["spec"]["cron"], "y");
    };
    runtime().block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("done in time") });
    kubectl.ok(&format!("delete crd crontabs.{group}"));
    eventually("discovery forgets the group", Duration::from_secs(10), || {
        let groups = kubectl.ok("get --raw /apis");
        if groups.contains(group) { Err("still there".to_owned()) } else { Ok(()) }
    });
}
