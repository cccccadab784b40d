//! Events about pods and the node: sent in the background, equal ones counted in one object, floods cut off.

use std::collections::HashMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::mpsc;

use crate::model;

/// Events that one object may cause at once.
const BURST: f64 = 25.0;
/// Seconds until an object may cause one more.
const REFILL: f64 = 300.0;
/// Objects and messages remembered.
const REMEMBERED: usize = 4096;

/// An event to be sent.
#[derive(Debug, Clone)]
pub struct Note {
    about: core::ObjectReference,
    warning: bool,
    reason: &'static str,
    message: String,
}

/// Sender of events. Never blocks; drops when the API server is far behind.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
}

/// A reference to a pod, or to one of its containers by `fieldPath`.
pub fn about_pod(pod: &core::Pod, container: Option<&str>) -> core::ObjectReference {
    let path = container.map(|name| {
        let list = if model::app_containers(pod).iter().any(|item| item.name == name) {
            "containers"
        } else if model::init_containers(pod).iter().any(|item| item.name == name) {
            "initContainers"
        } else {
            "ephemeralContainers"
        };
        format!("spec.{list}{{{name}}}")
    });
    core::ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: path,
    }
}

/// A reference to a node; by upstream's habit its uid is its name.
pub fn about_node(name: &str) -> core::ObjectReference {
    core::ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..core::ObjectReference::default()
    }
}

impl Recorder {
    /// A recorder and the task that sends for it; the task ends when all recorders are gone.
    pub fn new(client: kube::Client, node: String) -> (Self, impl Future<Output = ()>) {
        let (queue, notes) = mpsc::channel(1024);
        (Self { queue }, send(client, node, notes))
    }

    /// Records that something normal happened.
    pub fn normal(&self, about: core::ObjectReference, reason: &'static str, message: impl Into<String>) {
        self.note(Note { about, warning: false, reason, message: message.into() });
    }

    /// Records that something went wrong.
    pub fn warning(&self, about: core::ObjectReference, reason: &'static str, message: impl Into<String>) {
        self.note(Note { about, warning: true, reason, message: message.into() });
    }

    fn note(&self, note: Note) {
        tracing::debug!(reason = note.reason, message = note.message, object = ?note.about.name, "event");
        if let Err(error) = self.queue.try_send(note) {
            tracing::debug!(%error, "event dropped");
        }
    }
}

#[derive(Default)]
struct Known {
    name: String,
    count: i32,
    first: Option<Timestamp>,
}

#[derive(Default)]
struct Filter {
    buckets: HashMap<String, (f64, Timestamp)>,
}

impl Filter {
    /// Whether an object may cause an event now.
    fn admit(&mut self, object: &str, now: Timestamp) -> bool {
        if self.buckets.len() > REMEMBERED {
            self.buckets.clear();
        }
        let bucket = self.buckets.entry(object.to_owned()).or_insert((BURST, now));
        let passed = now.duration_since(bucket.1).as_secs_f64().max(0.0);
        bucket.0 = (bucket.0 + passed / REFILL).min(BURST);
        bucket.1 = now;
        if bucket.0 < 1.0 {
            return false;
        }
        bucket.0 -= 1.0;
        true
    }
}

async fn send(client: kube::Client, node: String, mut notes: mpsc::Receiver<Note>) {
    let mut known: HashMap<String, Known> = HashMap::new();
    let mut filter = Filter::default();
    let source = core::EventSource { component: Some("kubelet".to_owned()), host: Some(node.clone()) };
    while let Some(note) = notes.recv().await {
        let now = Timestamp::now();
        let about = &note.about;
        let object = format!("{:?}/{:?}/{:?}", about.namespace, about.name, about.uid);
        if !filter.admit(&object, now) {
            continue;
        }
        if known.len() > REMEMBERED {
            known.clear();
        }
        let key = format!("{object}/{:?}/{}/{}/{}", about.field_path, note.warning, note.reason, note.message);
        let entry = known.entry(key).or_default();
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<core::Event> = Api::namespaced(client.clone(), &namespace);
        if !entry.name.is_empty() {
            let patch = serde_json::json!({"count": entry.count + 1, "lastTimestamp": Time(now)});
            match api.patch(&entry.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {
                    entry.count += 1;
                    continue;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    tracing::debug!(%error, "event not counted");
                    continue;
                }
            }
        }
        let stem = about.name.as_deref().unwrap_or("unknown");
        let name = format!("{stem}.{:x}", now.as_nanosecond());
        let event = core::Event {
            metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            involved_object: note.about.clone(),
            message: Some(note.message),
            reason: Some(note.reason.to_owned()),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(node.clone()),
            source: Some(source.clone()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            ..core::Event::default()
        };
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => *entry = Known { name, count: 1, first: Some(now) },
            Err(error) => {
                entry.name.clear();
                tracing::debug!(%error, first = ?entry.first, "event not sent");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_are_cut_off_and_refill() {
        let mut filter = Filter::default();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let admitted = (0..40).filter(|_| filter.admit("pod", at(0))).count();
        assert_eq!(admitted, 25);
        assert!(filter.admit("other", at(0)));
        assert!(!filter.admit("pod", at(299)));
        assert!(filter.admit("pod", at(301)));
    }
}
