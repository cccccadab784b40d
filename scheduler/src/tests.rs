//! The whole scheduler against an API in memory that knows just lists, watches, bindings, status patches and events.

use crate::Options;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

type Answer = Response<BoxBody<Bytes, Infallible>>;

#[derive(Default)]
struct World {
    version: u64,
    /// By collection (`pods`) and `namespace/name`.
    objects: BTreeMap<(String, String), Value>,
    log: Vec<(u64, String, Bytes)>,
    watches: Vec<(String, mpsc::UnboundedSender<Bytes>)>,
    events: Vec<Value>,
    /// Names of deleted pods, each with the reason of its first condition.
    deleted: Vec<(String, String)>,
    /// How many bindings to refuse with a 500.
    broken: usize,
}

impl World {
    fn put(&mut self, collection: &str, key: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let known = self.objects.insert((collection.to_owned(), key.to_owned()), object.clone());
        self.tell(collection, if known.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    fn remove(&mut self, collection: &str, key: &str) {
        if let Some(mut object) = self.objects.remove(&(collection.to_owned(), key.to_owned())) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.tell(collection, "DELETED", &object);
        }
    }

    fn tell(&mut self, collection: &str, kind: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        self.log.push((self.version, collection.to_owned(), line.clone()));
        self.watches.retain(|(of, watch)| of != collection || watch.send(line.clone()).is_ok());
    }

    fn node_of(&self, pod: &str) -> Option<String> {
        let pod = self.objects.get(&("pods".to_owned(), format!("d/{pod}")))?;
        pod["spec"]["nodeName"].as_str().map(str::to_owned)
    }
}

fn full(status: u16, value: &Value) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(value.to_string())).boxed();
    Response::builder().status(status).body(body).unwrap()
}

async fn answer(world: Arc<Mutex<World>>, request: Request<Body>) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let query = parts.uri.query().unwrap_or_default();
    let mut world = world.lock();
    Ok(match (parts.method.as_str(), path.as_slice()) {
        ("GET", [.., collection]) if query.contains("watch=true") => {
            let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion=")).unwrap_or("0");
            let from: u64 = from.parse().unwrap();
            let (sender, receiver) = mpsc::unbounded_channel();
            for (_, _, line) in world.log.iter().filter(|(at, of, _)| *at > from && of == collection) {
                sender.send(line.clone()).unwrap();
            }
            world.watches.push(((*collection).to_owned(), sender));
            let frames = UnboundedReceiverStream::new(receiver).map(|line| Ok(http_body::Frame::data(line)));
            Response::new(BodyExt::boxed(StreamBody::new(frames)))
        }
        ("GET", [.., collection]) => {
            let items: Vec<&Value> =
                world.objects.iter().filter(|((of, _), _)| of == collection).map(|(_, object)| object).collect();
            full(
                200,
                &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": world.version.to_string()}, "items": items}),
            )
        }
        ("POST", ["api", "v1", "namespaces", namespace, "pods", name, "binding"]) => {
            let key = format!("{namespace}/{name}");
            if world.broken > 0 {
                world.broken -= 1;
                return Ok(full(500, &failure(500)));
            }
            let Some(mut pod) = world.objects.get(&("pods".to_owned(), key.clone())).cloned() else {
                return Ok(full(404, &failure(404)));
            };
            if pod["spec"]["nodeName"].is_string() {
                return Ok(full(409, &failure(409)));
            }
            pod["spec"]["nodeName"] = body["target"]["name"].clone();
            world.put("pods", &key, pod);
            full(201, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        ("PATCH", ["api", "v1", "namespaces", namespace, "pods", name, "status"]) => {
            let key = format!("{namespace}/{name}");
            let Some(mut pod) = world.objects.get(&("pods".to_owned(), key.clone())).cloned() else {
                return Ok(full(404, &failure(404)));
            };
            for (field, value) in body["status"].as_object().into_iter().flatten() {
                pod["status"][field] = value.clone();
            }
            world.put("pods", &key, pod.clone());
            full(200, &pod)
        }
        ("DELETE", ["api", "v1", "namespaces", namespace, "pods", name]) => {
            let key = format!("{namespace}/{name}");
            let condition = world.objects[&("pods".to_owned(), key.clone())]["status"]["conditions"][0].clone();
            world.deleted.push(((*name).to_owned(), condition["reason"].as_str().unwrap_or_default().to_owned()));
            world.remove("pods", &key);
            full(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        ("POST", [.., "events"]) => {
            world.events.push(body.clone());
            full(201, &body)
        }
        ("PATCH", [.., "events", _]) => full(200, &json!({"metadata": {"name": "e"}})),
        _ => full(404, &failure(404)),
    })
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "No", "code": code})
}

struct Cluster {
    world: Arc<Mutex<World>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), crate::Error>>,
}

impl Cluster {
    fn start(nodes: usize) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let node = |name: &str| {
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
            })
        };
        for index in 0..nodes {
            let name = format!("n{index}");
            world.lock().put("nodes", &name, node(&name));
        }
        let service = {
            let world = Arc::clone(&world);
            tower::service_fn(move |request| answer(Arc::clone(&world), request))
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(crate::run(Client::new(service, "d"), Options::default(), stop.clone()));
        Self { world, stop, task }
    }

    fn create(&self, name: &str, cpu: &str, with: &Value) {
        let mut spec = json!({
            "schedulerName": "default-scheduler",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}],
        });
        spec.as_object_mut().unwrap().extend(with.as_object().cloned().unwrap_or_default());
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d", "uid": name}, "spec": spec,
            "status": {"phase": "Pending"},
        });
        self.world.lock().put("pods", &format!("d/{name}"), pod);
    }

    /// Waits until `holds`; the time it took.
    async fn until(&self, what: &str, holds: impl Fn(&World) -> bool) -> Duration {
        let start = Instant::now();
        while !holds(&self.world.lock()) {
            assert!(start.elapsed() < Duration::from_secs(20), "still not: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        start.elapsed()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn said(world: &World, pod: &str, reason: &str) -> Option<String> {
    let event = world.events.iter().find(|event| event["regarding"]["name"] == pod && event["reason"] == reason)?;
    event["note"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_burst_fills_the_nodes_and_not_more() {
    let cluster = Cluster::start(3);
    for index in 0..15 {
        cluster.create(&format!("p{index}"), "1", &json!({}));
    }
    cluster
        .until("all are bound or refused", |world| {
            (0..15).all(|i| {
                let name = format!("p{i}");
                said(world, &name, "Scheduled").is_some() || said(world, &name, "FailedScheduling").is_some()
            })
        })
        .await;
    let mut load: BTreeMap<String, usize> = BTreeMap::new();
    let mut waiting = Vec::new();
    for index in 0..15 {
        let node = cluster.world.lock().node_of(&format!("p{index}"));
        match node {
            Some(node) => *load.entry(node).or_default() += 1,
            None => waiting.push(format!("p{index}")),
        }
    }
    assert_eq!((load.values().copied().collect::<Vec<_>>(), waiting.len()), (vec![4, 4, 4], 3));
    assert_eq!(
        said(&cluster.world.lock(), &waiting[0], "FailedScheduling").unwrap(),
        "0/3 nodes are available: 3 Insufficient cpu."
    );
    cluster
        .until("the condition tells", |world| {
            let pod = &world.objects[&("pods".to_owned(), format!("d/{}", waiting[0]))];
            pod["status"]["conditions"][0]["reason"] == "Unschedulable"
        })
        .await;
    let bound = (0..15).map(|i| format!("p{i}")).find(|name| !waiting.contains(name)).unwrap();
    cluster.world.lock().remove("pods", &format!("d/{bound}"));
    cluster.until("the freed place is taken", |world| waiting.iter().any(|name| world.node_of(name).is_some())).await;
    let taken = waiting.iter().find(|name| cluster.world.lock().node_of(name).is_some()).unwrap();
    cluster.until("it is told", |world| said(world, taken, "Scheduled").is_some()).await;
    let node = cluster.world.lock().node_of(taken).unwrap();
    assert_eq!(
        said(&cluster.world.lock(), taken, "Scheduled").unwrap(),
        format!("Successfully assigned d/{taken} to {node}")
    );
    cluster.end().await;
}

#[tokio::test]
async fn gates_foreign_schedulers_and_failures() {
    let cluster = Cluster::start(1);
    cluster.create("warm", "1m", &json!({}));
    cluster.until("the scheduler works", |world| world.node_of("warm").is_some()).await;
    cluster.create("gated", "1m", &json!({"schedulingGates": [{"name": "g"}]}));
    cluster.create("foreign", "1m", &json!({"schedulerName": "other"}));
    cluster.create("plain", "1m", &json!({}));
    let took = cluster.until("a pod is bound", |world| world.node_of("plain").is_some()).await;
    println!("from create to bound: {took:?}");
    assert!(cluster.world.lock().node_of("gated").is_none() && cluster.world.lock().node_of("foreign").is_none());
    cluster.create("gated", "1m", &json!({}));
    cluster.until("the gate is open", |world| world.node_of("gated").is_some()).await;
    // A binding that fails is tried again, and its claim does not stay.
    cluster.world.lock().broken = 1;
    cluster.create("unlucky", "3", &json!({}));
    cluster.until("it is bound at last", |world| world.node_of("unlucky").is_some()).await;
    assert!(said(&cluster.world.lock(), "unlucky", "FailedScheduling").unwrap().starts_with("binding rejected: "));
    cluster.end().await;
}

#[tokio::test]
async fn a_more_important_pod_finds_room() {
    let cluster = Cluster::start(2);
    for (name, priority) in [("a", 5), ("b", 1), ("c", 5), ("d", 5)] {
        cluster.create(name, "2", &json!({"priority": priority}));
    }
    cluster
        .until("the nodes are full", |world| ["a", "b", "c", "d"].iter().all(|name| world.node_of(name).is_some()))
        .await;
    cluster.create("polite", "2", &json!({"priority": 9, "preemptionPolicy": "Never"}));
    cluster.create("high", "2", &json!({"priority": 9}));
    cluster.until("it is bound", |world| world.node_of("high").is_some() || world.node_of("polite").is_some()).await;
    let deleted = cluster.world.lock().deleted.clone();
    assert_eq!(deleted, [("b".to_owned(), "PreemptionByScheduler".to_owned())]);
    cluster.until("the victim is told", |world| said(world, "b", "Preempted").is_some()).await;
    cluster.end().await;
}
