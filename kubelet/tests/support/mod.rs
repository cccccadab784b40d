//! An API server small enough to read: objects in a map, watches from a log, merge patches. Only what a kubelet calls.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    log: Vec<(String, &'static str, Value)>,
}

/// The objects and who waits for them.
#[derive(Clone)]
pub(crate) struct Api {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<usize>,
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn answer(status: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
    answer(StatusCode::from_u16(code).unwrap(), &status)
}

/// Whether an object of `path` belongs to the list at `collection`, which may span namespaces.
fn belongs(path: &str, collection: &str) -> bool {
    let resource = collection.rsplit('/').next().unwrap_or_default();
    let root = collection.strip_suffix(resource).unwrap_or_default();
    let Some(rest) = path.strip_prefix(root) else { return false };
    let parts: Vec<&str> = rest.split('/').collect();
    matches!(parts.as_slice(), [name, _] if *name == resource)
        || matches!(parts.as_slice(), ["namespaces", _, name, _] if *name == resource)
}

impl Api {
    pub(crate) fn new() -> Self {
        Self { store: Arc::default(), changed: watch::channel(0).0 }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.call(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Puts an object, giving it a uid and a version.
    pub(crate) fn put(&self, path: &str, mut object: Value) -> Value {
        let mut store = self.store.lock().unwrap();
        let version = store.log.len() + 1;
        let kind = if store.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        let metadata = object.as_object_mut().unwrap().entry("metadata").or_insert(json!({}));
        metadata["resourceVersion"] = json!(version.to_string());
        if metadata.get("uid").is_none() {
            metadata["uid"] = json!(format!("{version:08x}-0000-4000-8000-{:012x}", std::process::id()));
        }
        if metadata.get("creationTimestamp").is_none() {
            metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        store.objects.insert(path.to_owned(), object.clone());
        store.log.push((path.to_owned(), kind, object.clone()));
        drop(store);
        self.changed.send_replace(version);
        object
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.store.lock().unwrap().objects.get(path).cloned()
    }

    /// Objects of a collection.
    pub(crate) fn list(&self, collection: &str) -> Vec<Value> {
        let store = self.store.lock().unwrap();
        store.objects.iter().filter(|(path, _)| belongs(path, collection)).map(|(_, object)| object.clone()).collect()
    }

    fn remove(&self, path: &str) -> Option<Value> {
        let mut store = self.store.lock().unwrap();
        let mut object = store.objects.remove(path)?;
        let version = store.log.len() + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        store.log.push((path.to_owned(), "DELETED", object.clone()));
        drop(store);
        self.changed.send_replace(version);
        Some(object)
    }

    /// What `kubectl delete` does: asks for a graceful end, or removes at once with no grace.
    pub(crate) fn delete(&self, path: &str, grace: i64) {
        if grace == 0 {
            self.remove(path);
            return;
        }
        let Some(mut object) = self.get(path) else { return };
        object["metadata"]["deletionTimestamp"] =
            json!(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.put(path, object);
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let sent: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let base = path.strip_suffix("/status").unwrap_or(&path).to_owned();
        match parts.method {
            Method::GET if query.contains("watch=") => self.watch(&path, &query),
            Method::GET => {
                if let Some(object) = self.get(&path) {
                    return answer(StatusCode::OK, &object);
                }
                if matches!(path.rsplit('/').next(), Some("pods" | "services")) {
                    let version = self.store.lock().unwrap().log.len();
                    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()},
                        "items": self.list(&path)});
                    return answer(StatusCode::OK, &list);
                }
                failure(404, "NotFound")
            }
            Method::POST if path.ends_with("/token") => {
                let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
                let mut review = sent;
                review["status"] = json!({"token": "a-token", "expirationTimestamp": end.to_string()});
                answer(StatusCode::CREATED, &review)
            }
            Method::POST if path.ends_with("/tokenreviews") => {
                let mut review = sent;
                let known = review["spec"]["token"] == "admin";
                review["status"] = json!({"authenticated": known, "user": {"username": "admin"}});
                answer(StatusCode::CREATED, &review)
            }
            Method::POST if path.ends_with("/subjectaccessreviews") => {
                let mut review = sent;
                review["status"] = json!({"allowed": review["spec"]["user"] == "admin"});
                answer(StatusCode::CREATED, &review)
            }
            Method::POST => {
                let name = sent["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                answer(StatusCode::CREATED, &self.put(&format!("{path}/{name}"), sent))
            }
            Method::PATCH => {
                let Some(mut object) = self.get(&base) else { return failure(404, "NotFound") };
                let wanted = sent["metadata"]["resourceVersion"].as_str();
                if wanted.is_some() && wanted != object["metadata"]["resourceVersion"].as_str() {
                    return failure(409, "Conflict");
                }
                merge(&mut object, &sent);
                answer(StatusCode::OK, &self.put(&base, object))
            }
            Method::PUT => {
                let Some(object) = self.get(&base) else { return failure(404, "NotFound") };
                if sent["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                answer(StatusCode::OK, &self.put(&base, sent))
            }
            Method::DELETE => match self.remove(&path) {
                Some(object) => answer(StatusCode::OK, &object),
                None => failure(404, "NotFound"),
            },
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn watch(&self, path: &str, query: &str) -> Answer {
        let from =
            query.split('&').find_map(|part| part.strip_prefix("resourceVersion=")).and_then(|text| text.parse().ok());
        let collection = path.to_owned();
        let store = self.store.clone();
        let changed = self.changed.subscribe();
        let state = (from.unwrap_or(0_usize), changed);
        type Item = Result<Frame<Bytes>, Infallible>;
        let stream: Pin<Box<dyn futures::Stream<Item = Item> + Send>> =
            Box::pin(futures::stream::unfold(state, move |(mut at, mut changed)| {
                let (store, collection) = (store.clone(), collection.clone());
                async move {
                    loop {
                        let next = store.lock().unwrap().log.get(at).cloned();
                        let Some((path, kind, object)) = next else {
                            changed.changed().await.ok()?;
                            continue;
                        };
                        at += 1;
                        if belongs(&path, &collection) {
                            let line = json!({"type": kind, "object": object}).to_string() + "\n";
                            return Some((Ok(Frame::data(Bytes::from(line))), (at, changed)));
                        }
                    }
                }
            }));
        Response::new(StreamBody::new(stream.boxed()).boxed_unsync())
    }
}
