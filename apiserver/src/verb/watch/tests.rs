//! Laws of watches: what each is told is what happened, seen through its selectors, once and in order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use crate::authn::User;
use crate::testing::World;
use api::json::{Value, json};
use http_body_util::BodyExt as _;
use kube::client::Body;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::time::Duration;

const NAMESPACES: [&str; 2] = ["kube-system", "default"];

/// What an object was: absent, or with this label.
type State = Option<u64>;

struct Change {
    revision: u64,
    namespace: &'static str,
    name: String,
    before: State,
    after: State,
}

/// A way to watch: namespace, query, and what it selects.
struct Way {
    namespace: &'static str,
    query: &'static str,
    table: bool,
    wants: fn(&str, u64) -> bool,
}

const WAYS: &[Way] = &[
    Way { namespace: "", query: "", table: false, wants: |_, _| true },
    Way { namespace: "default", query: "", table: false, wants: |_, _| true },
    Way { namespace: "", query: "&labelSelector=group%3D1", table: false, wants: |_, group| group == 1 },
    Way { namespace: "default", query: "&labelSelector=group!%3D1", table: false, wants: |_, group| group != 1 },
    Way { namespace: "", query: "&fieldSelector=metadata.name%3Do-3", table: false, wants: |name, _| name == "o-3" },
    Way { namespace: "", query: "&labelSelector=group%20in%20(0,2)", table: true, wants: |_, group| group != 1 },
    Way { namespace: "", query: "&labelSelector=other%3D1", table: false, wants: |_, _| false },
];

fn expected(way: &Way, after: u64, changes: &[Change]) -> Vec<(String, String, u64)> {
    let there = changes.iter().filter(|change| change.revision > after);
    let placed = there.filter(|change| way.namespace.is_empty() || way.namespace == change.namespace);
    placed
        .filter_map(|change| {
            let seen = |state: State| state.is_some_and(|group| (way.wants)(&change.name, group));
            let what = match (seen(change.before), seen(change.after)) {
                (false, true) => "ADDED",
                (true, true) => "MODIFIED",
                (true, false) => "DELETED",
                (false, false) => return None,
            };
            Some((what.to_owned(), change.name.clone(), change.revision))
        })
        .collect()
}

/// A watch from `revision` on, answered.
async fn begin(world: &World, user: &User, way: &Way, revision: u64) -> Body {
    let place = if way.namespace.is_empty() { String::new() } else { format!("/namespaces/{}", way.namespace) };
    let path = format!("/api/v1{place}/configmaps?watch=true&resourceVersion={revision}{}", way.query);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let accept = if way.table { table } else { "application/json" };
    let request = http::Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
    let answer = world.running.client(user.clone(), "test").send(request).await.unwrap();
    assert_eq!(answer.status(), 200, "{} {}", way.namespace, way.query);
    answer.into_body()
}

/// As many events as are expected: what, of which object, at which version.
async fn read(mut body: Body, count: usize) -> Vec<(String, String, u64)> {
    let (mut text, mut seen, mut tables) = (Vec::new(), Vec::new(), 0);
    while seen.len() < count {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await;
        let Ok(Some(frame)) = frame else { break };
        text.extend_from_slice(frame.unwrap().data_ref().unwrap());
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let event: Value = api::json::from_slice(&line).unwrap();
            let mut object = &event["object"];
            if object["kind"] == "Table" {
                let columns = object["columnDefinitions"].as_array().map_or(0, Vec::len);
                assert_eq!(columns > 0, tables == 0, "{object}");
                tables += 1;
                object = &object["rows"][0]["object"];
            }
            let text = |path: &str| object["metadata"][path].as_str().unwrap_or_default().to_owned();
            let what = event["type"].as_str().unwrap().to_owned();
            seen.push((what, text("name"), text("resourceVersion").parse().unwrap_or(0)));
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watch_is_told_what_happened_once_and_in_order() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::start(|config| config.workers = 2).await;
    let user = User::new("admin", &["system:masters"]);
    let (_, list) = world.ask(&user, "GET", "/api/v1/configmaps?limit=1", &Value::Null).await;
    let mut now: u64 = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let mut objects: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    let mut changes: Vec<Change> = Vec::new();
    // Those who read at once, and those who read nothing before all is over.
    let (mut quick, mut slow) = (Vec::new(), Vec::new());
    for step in 0..600 {
        if step % 40 == 0 {
            let way = &WAYS[random.random_range(0..WAYS.len())];
            slow.push((way, now, begin(&world, &user, way, now).await));
        }
        if step % 25 == 0 {
            for _ in 0..3 {
                let way = &WAYS[random.random_range(0..WAYS.len())];
                // From now, or from long ago.
                let behind = random.random_range(0..=changes.len().min(200));
                let from = if behind == 0 { now } else { changes[changes.len() - behind].revision };
                let body = begin(&world, &user, way, from).await;
                quick.push((way, from, body));
            }
        }
        let (at, number, group) = (random.random_range(0..2), random.random_range(0..8), random.random_range(0..3_u64));
        let (namespace, name) = (NAMESPACES[at], format!("o-{number}"));
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let before = objects.get(&(at, number)).copied();
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"group": group.to_string()}}, "data": {"step": step.to_string()}});
        let after = (before.is_none() || random.random_range(0..4) > 0).then_some(group);
        let (code, answer) = match (before, after) {
            (None, _) => world.ask(&user, "POST", &path, &object).await,
            (Some(_), Some(_)) => world.ask(&user, "PUT", &format!("{path}/{name}"), &object).await,
            (Some(_), None) => world.ask(&user, "DELETE", &format!("{path}/{name}"), &Value::Null).await,
        };
        assert!(code < 300, "{code} {answer}");
        match after {
            Some(group) => objects.insert((at, number), group),
            None => objects.remove(&(at, number)),
        };
        let (_, list) = world.ask(&user, "GET", "/api/v1/configmaps?limit=1", &Value::Null).await;
        now = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        if after.is_some() {
            now = answer["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        }
        changes.push(Change { revision: now, namespace, name, before, after });
    }
    for (way, from, body) in quick.into_iter().chain(slow) {
        let mut want = expected(way, from, &changes);
        let mut got = read(body, want.len()).await;
        // The version of a deletion is known to the events alone; its order is checked by its neighbours.
        for (want, got) in want.iter_mut().zip(&mut got) {
            if want.0 == "DELETED" && got.0 == "DELETED" {
                (want.2, got.2) = (0, 0);
            }
        }
        assert_eq!(got, want, "seed {seed}, from {from}, {} {}", way.namespace, way.query);
    }
}
