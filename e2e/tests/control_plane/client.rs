//! A kube-rs client as an operator's author uses it: typed create, patch, apply, watch, delete.

use e2e::{control_plane, runtime};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube_runtime::watcher::{self, Event};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

fn config_map(name: &str, value: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object.data = Some(BTreeMap::from([("k".to_owned(), value.to_owned())]));
    object
}

/// Gives a test its time and no more.
fn run(test: impl Future<Output = ()>) {
    runtime().block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("done in time") });
}

#[test]
fn typed_objects_go_there_and_back() {
    let Some(cluster) = control_plane() else { return };
    cluster.namespace("typed");
    run(async {
        let client = cluster.client().await;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "typed");
        let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
        assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
        let patch = Patch::Merge(json!({"data": {"l": "2"}}));
        let patched = maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
        assert_eq!(patched.data.unwrap().len(), 2);
        let mut stale = made.clone();
        stale.data = None;
        let kube::Error::Api(status) = maps.replace("a", &PostParams::default(), &stale).await.unwrap_err() else {
            panic!("a status")
        };
        assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));

        let applied =
            |value: &str| Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": value}}));
        let kube::Error::Api(status) = maps.patch("a", &PatchParams::apply("op"), &applied("3")).await.unwrap_err()
        else {
            panic!("a status")
        };
        assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
        let forced = maps.patch("a", &PatchParams::apply("op").force(), &applied("3")).await.unwrap();
        assert_eq!(forced.data.unwrap()["k"], "3");
        // What is not there yet says its name.
        let unnamed = maps.patch("fresh", &PatchParams::apply("op"), &applied("4")).await.unwrap_err();
        assert!(matches!(unnamed, kube::Error::Api(status) if status.code == 400));
        let named = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fresh"}, "data": {"k": "4"}});
        let made = maps.patch("fresh", &PatchParams::apply("op"), &Patch::Apply(named)).await.unwrap();
        assert_eq!(made.data.unwrap()["k"], "4");

        let secrets: Api<Secret> = Api::namespaced(client.clone(), "typed");
        let mut secret = Secret::default();
        secret.metadata.generate_name = Some("s-".to_owned());
        secret.string_data = Some(BTreeMap::from([("p".to_owned(), "x".to_owned())]));
        let made = secrets.create(&PostParams::default(), &secret).await.unwrap();
        assert!(made.metadata.name.unwrap().starts_with("s-"));
        assert_eq!(made.data.unwrap()["p"].0, b"x");

        let deployments: Api<Deployment> = Api::namespaced(client, "typed");
        let missing = deployments.get_opt("none").await.unwrap();
        assert!(missing.is_none());
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        assert!(maps.get_opt("a").await.unwrap().is_none());
    });
}

#[test]
fn lists_come_in_pages_and_are_one_picture() {
    let Some(cluster) = control_plane() else { return };
    cluster.namespace("pages");
    run(async {
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "pages");
        for number in 0..7 {
            maps.create(&PostParams::default(), &config_map(&format!("p{number}"), "1")).await.unwrap();
        }
        let parameters = ListParams::default().fields("metadata.name!=kube-root-ca.crt").limit(3);
        let first = maps.list(&parameters).await.unwrap();
        assert_eq!(first.items.len(), 3);
        let token = first.metadata.continue_.clone().unwrap();
        maps.delete("p6", &DeleteParams::default()).await.unwrap();
        let second = maps.list(&parameters.clone().continue_token(&token)).await.unwrap();
        assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
        let third = maps.list(&parameters.continue_token(&second.metadata.continue_.clone().unwrap())).await.unwrap();
        let names = first.items.iter().chain(&second.items).chain(&third.items);
        let names: Vec<_> = names.filter_map(|map| map.metadata.name.clone()).collect();
        assert_eq!(names, ["p0", "p1", "p2", "p3", "p4", "p5", "p6"], "as of the first page");
    });
}

#[test]
fn a_watch_from_a_list_misses_nothing() {
    let Some(cluster) = control_plane() else { return };
    cluster.namespace("nothing-missed");
    run(async {
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "nothing-missed");
        let list = maps.list(&ListParams::default()).await.unwrap();
        let version = list.metadata.resource_version.unwrap();
        for number in 0..20 {
            maps.create(&PostParams::default(), &config_map(&format!("w{number}"), "1")).await.unwrap();
        }
        let events = maps.watch(&WatchParams::default(), &version).await.unwrap();
        let seen: Vec<String> = events
            .map(|event| match event.unwrap() {
                WatchEvent::Added(map) => map.metadata.name.unwrap(),
                other => panic!("{other:?}"),
            })
            .take(20)
            .collect()
            .await;
        let want: Vec<_> = (0..20).map(|number| format!("w{number}")).collect();
        assert_eq!(seen, want);
        // A version that never was: the client is told to begin anew.
        let parameters = WatchParams::default().timeout(5);
        let gone = maps.watch(&parameters, "99999999999").await;
        if let Ok(events) = gone {
            let events: Vec<_> = events.try_collect().await.unwrap_or_default();
            assert!(!events.iter().any(|event| matches!(event, WatchEvent::Added(_))), "{events:?}");
        }
    });
}

#[test]
fn runtime_watchers_start_from_a_list_or_a_stream() {
    let Some(cluster) = control_plane() else { return };
    cluster.namespace("watchers");
    run(async {
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "watchers");
        for (round, config) in
            [watcher::Config::default(), watcher::Config::default().streaming_lists()].into_iter().enumerate()
        {
            let name = format!("r{round}");
            maps.create(&PostParams::default(), &config_map(&name, "1")).await.unwrap();
            let mut events = std::pin::pin!(watcher::watcher(maps.clone(), config));
            let mut found = Vec::new();
            loop {
                match events.next().await.unwrap().unwrap() {
                    Event::Init => {}
                    Event::InitApply(map) => found.push(map.metadata.name.unwrap()),
                    Event::InitDone => break,
                    other => panic!("{other:?}"),
                }
            }
            assert!(found.contains(&name), "{found:?}");
            maps.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await.unwrap();
            let Event::Apply(map) = events.next().await.unwrap().unwrap() else { panic!("a change") };
            assert_eq!(map.data.unwrap()["k"], "2");
            maps.delete(&name, &DeleteParams::default()).await.unwrap();
            let Event::Delete(map) = events.next().await.unwrap().unwrap() else { panic!("a deletion") };
            assert_eq!(map.metadata.name.unwrap(), name);
        }
    });
}
