//! `/metrics` of a server beside upstream's list of stable metrics: names, types and labels.

use crate::authn::{AUTHENTICATED, User};
use crate::testing::World;
use api::codec::yaml;
use api::json::{Value, json};
use prometheus::IntGauge;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Those of the API server that are not told, and why. May only shrink.
const MISSING: &[(&str, &str)] = &[
    ("apiserver_storage_events_received_total", "there is no etcd"),
    ("apiserver_validation_declarative_validation_mismatch_total", "there is one validation"),
    ("apiserver_validation_declarative_validation_panic_total", "there is one validation"),
];

/// What the server's own part of the list begins with; the rest is of other components.
const OURS: [&str; 2] = ["apiserver_", "kubernetes_"];

fn stable() -> Option<Vec<Value>> {
    let root = std::env::var_os("IRONKEEL_ORACLE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracle"), PathBuf::from);
    if !root.is_dir() {
        eprintln!("left out: no folder of upstream facts at {}", root.display());
        return None;
    }
    let text = std::fs::read(root.join("stable-metrics-list.yaml")).unwrap();
    Some(yaml::parse(&text).unwrap().as_array().unwrap().clone())
}

/// Types and labels by name.
fn told(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut all: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            all.entry(name.to_owned()).or_default().0 = kind.to_owned();
            continue;
        }
        let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) else { continue };
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let name = base.filter(|base| all.contains_key(*base)).unwrap_or(name);
        if let Some((_, labels)) = all.get_mut(name) {
            labels.extend(names(rest));
        }
    }
    all
}

/// The labels of what stands between braces, but that of buckets.
fn names(labels: &str) -> impl Iterator<Item = String> {
    let pieces = labels.split("=\"").map(|piece| piece.rsplit(['{', ',']).next().unwrap_or_default());
    let count = labels.matches("=\"").count();
    let found: Vec<String> = pieces.take(count).filter(|name| *name != "le").map(str::to_owned).collect();
    found.into_iter()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stable_metrics_are_upstreams() {
    let Some(stable) = stable() else { return };
    let world = World::start(|_| {}).await;
    let root = User::new("root", &["system:masters", AUTHENTICATED]);
    let maps = "/api/v1/namespaces/default/configmaps";
    let endpoints = json!({"metadata": {"name": "old"}, "subsets": []});
    let asked = [
        ("POST", maps, json!({"metadata": {"name": "a"}})),
        ("GET", maps, Value::Null),
        ("POST", "/api/v1/namespaces/default/endpoints", endpoints),
        ("GET", "/readyz", Value::Null),
    ];
    for (verb, path, body) in asked {
        let (code, answer) = world.ask(&root, verb, path, &body).await;
        assert!(code < 300, "{verb} {path}: {code} {answer}");
    }
    // Others than administrators wait for seats.
    let jane = User::new("jane", &[AUTHENTICATED]);
    assert_eq!(world.ask(&jane, "GET", maps, &Value::Null).await.0, 403);
    let watch = format!(
        "{maps}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=60"
    );
    let looked = async {
        for _ in 0..500 {
            let (_, text) = world.ask(&root, "GET", "/metrics", &Value::Null).await;
            let text = text.as_str().unwrap().to_owned();
            if text.contains("apiserver_watch_list_duration_seconds_count{") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no watch has told what there was");
    };
    let text = tokio::select! {
        text = looked => text,
        ended = world.ask(&root, "GET", &watch, &Value::Null) => panic!("the watch has ended: {ended:?}"),
    };
    let (told, registry) = (told(&text), world.running.server().metrics.registry());
    for metric in stable {
        let part = |name: &str| metric.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = [part("namespace"), part("subsystem"), part("name")];
        let name = name.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("_");
        if !OURS.iter().any(|ours| name.starts_with(ours)) {
            continue;
        }
        let missing = MISSING.iter().find(|(missing, _)| *missing == name);
        // What is there with nothing to tell yet keeps others from its name.
        let taken = || registry.register(Box::new(IntGauge::new(&name, "probe").unwrap())).is_err();
        let found = told.get(&name);
        let known = found.is_some() || taken();
        assert_eq!(known, missing.is_none(), "{name}: MISSING is {missing:?}, and there is\n{text}");
        let Some((kind, labels)) = found else { continue };
        let wanted = match part("type").as_str() {
            "Custom" => "gauge".to_owned(),
            other => other.to_ascii_lowercase(),
        };
        assert_eq!(*kind, wanted, "{name}");
        let listed = metric.get("labels").and_then(Value::as_array).into_iter().flatten();
        let listed: BTreeSet<String> = listed.filter_map(Value::as_str).map(str::to_owned).collect();
        assert_eq!(*labels, listed, "{name}");
    }
}
