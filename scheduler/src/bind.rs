//! The scheduler's writes: the binding, the pod's `PodScheduled` condition, and events. It decides nothing.

use crate::snapshot::PodInfo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio::sync::mpsc;

/// Events that are remembered to count repetitions.
const REMEMBERED: usize = 4096;
/// Seconds after which a repeated event is a new one.
const SERIES_SECONDS: i64 = 360;

/// What became of a binding.
#[derive(Debug)]
pub enum Bound {
    /// The API server has it.
    Done,
    /// The pod is gone, or bound already; nothing is left to do.
    Moot,
    /// It may work later.
    Failed(String),
}

/// Binds the pod to the node.
pub async fn bind(client: Client, pod: &PodInfo, node: &str) -> Bound {
    let namespace = crate::matching::namespace(&pod.pod);
    let name = pod.pod.metadata.name.clone().unwrap_or_default();
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: pod.pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let sent: Result<Value, _> = api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
    match sent {
        Ok(_) => Bound::Done,
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Bound::Moot,
        Err(error) => Bound::Failed(error.to_string()),
    }
}

/// The status patch that says that the pod has no node, or none where it says so already.
#[must_use]
pub fn unschedulable_patch(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Value> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let old = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled");
    let same = old.is_some_and(|old| {
        old.status == "False" && old.reason.as_deref() == Some(reason) && old.message.as_deref() == Some(message)
    });
    if same {
        return None;
    }
    let since = old.filter(|old| old.status == "False").and_then(|old| old.last_transition_time.as_ref());
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message, "lastProbeTime": null,
        "lastTransitionTime": since.map_or_else(|| seconds(now), |time| seconds(time.0)),
    });
    if let (Some(generation), Some(condition)) = (pod.metadata.generation, condition.as_object_mut()) {
        condition.insert("observedGeneration".to_owned(), generation.into());
    }
    Some(json!({"status": {"conditions": [condition]}}))
}

fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Writes the condition of [`unschedulable_patch`].
pub async fn patch_status(client: Client, pod: &Pod, patch: Value) {
    let api: Api<Pod> = Api::namespaced(client, crate::matching::namespace(pod));
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    // The name could be another pod's by now.
    let mut patch = patch;
    if let Some(patch) = patch.as_object_mut() {
        patch.insert("metadata".to_owned(), json!({"uid": pod.metadata.uid}));
    }
    if let Err(error) = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        tracing::debug!(%error, pod = name, "the PodScheduled condition is not written");
    }
}

/// Says on the pod which node will have room for it.
pub async fn nominate(client: Client, pod: &Pod, node: &str) {
    patch_status(client, pod, json!({"status": {"nominatedNodeName": node}})).await;
}

/// Says on the pod why it goes, and deletes it.
///
/// # Errors
/// What the API answers, other than that it is gone.
pub async fn evict(client: Client, pod: &Pod, now: Timestamp) -> Result<(), kube::Error> {
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod", "lastProbeTime": null,
        "lastTransitionTime": seconds(now)});
    patch_status(client.clone(), pod, json!({"status": {"conditions": [condition]}})).await;
    let api: Api<Pod> = Api::namespaced(client, crate::matching::namespace(pod));
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &params).await {
        Ok(_) => Ok(()),
        // Gone, or another of the name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Something worth telling about a pod.
#[derive(Clone, Debug)]
pub struct Note {
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// Upstream's reason.
    pub reason: &'static str,
    /// What was tried.
    pub action: &'static str,
    /// For people.
    pub note: String,
}

/// Writes events in the background, counting repetitions; too many at once are dropped.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<(ObjectReference, Note)>,
}

impl Recorder {
    /// Starts the writer; it ends when all recorders are gone.
    #[must_use]
    pub fn start(client: Client, scheduler_name: String, instance: String) -> Self {
        let (sender, receiver) = mpsc::channel(1000);
        tokio::spawn(write(client, scheduler_name, instance, receiver));
        Self { sender }
    }

    /// Records a note about a pod; never waits.
    pub fn record(&self, pod: &Pod, note: Note) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            ..ObjectReference::default()
        };
        if self.sender.try_send((about, note)).is_err() {
            tracing::debug!("an event is dropped");
        }
    }
}

/// What was written: the event's name, how often it happened and when last.
struct Written {
    name: String,
    count: i32,
    last: Timestamp,
}

async fn write(
    client: Client,
    controller: String,
    instance: String,
    mut notes: mpsc::Receiver<(ObjectReference, Note)>,
) {
    let mut written: HashMap<(Option<String>, &'static str, String), Written> = HashMap::new();
    while let Some((about, note)) = notes.recv().await {
        let now = Timestamp::now();
        let namespace = about.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let key = (about.uid.clone(), note.reason, note.note.clone());
        if let Some(old) = written.get_mut(&key).filter(|old| now.as_second() - old.last.as_second() < SERIES_SECONDS) {
            old.count = old.count.saturating_add(1);
            old.last = now;
            let series = EventSeries { count: old.count, last_observed_time: MicroTime(now) };
            let patch = Patch::Merge(json!({"series": series}));
            match api.patch(&old.name, &PatchParams::default(), &patch).await {
                Ok(_) => continue,
                // It expired: write a new one.
                Err(error) => tracing::debug!(%error, "an event is not counted"),
            }
        }
        let pod = about.name.as_deref().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{pod}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(controller.clone()),
            reporting_instance: Some(instance.clone()),
            action: Some(note.action.to_owned()),
            reason: Some(note.reason.to_owned()),
            regarding: Some(about),
            note: Some(note.note),
            type_: Some(note.type_.to_owned()),
            ..Event::default()
        };
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if written.len() >= REMEMBERED {
                    written.retain(|_, old| now.as_second() - old.last.as_second() < SERIES_SECONDS);
                }
                if written.len() >= REMEMBERED {
                    written.clear();
                }
                let name = event.metadata.name.unwrap_or_default();
                written.insert(key, Written { name, count: 1, last: now });
            }
            Err(error) => tracing::debug!(%error, "an event is not written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_written_when_it_says_something_new() {
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let check = |conditions: Value, want: Option<&str>| {
            let pod: Pod = serde_json::from_value(
                json!({"metadata": {"name": "p", "generation": 2}, "status": {"conditions": conditions}}),
            )
            .unwrap();
            let patch = unschedulable_patch(&pod, "Unschedulable", "no", now);
            let time =
                patch.as_ref().map(|patch| patch["status"]["conditions"][0]["lastTransitionTime"].as_str().unwrap());
            assert_eq!(time, want, "{conditions}");
            if let Some(patch) = &patch {
                assert_eq!(patch["status"]["conditions"][0]["observedGeneration"], 2);
            }
        };
        let condition = |reason: &str, message: &str| json!([{"type": "PodScheduled", "status": "False", "reason": reason, "message": message, "lastTransitionTime": "2025-01-01T00:00:00Z"}]);
        check(json!([]), Some("2026-01-01T00:00:00Z"));
        check(condition("Unschedulable", "no"), None);
        check(condition("Unschedulable", "other"), Some("2025-01-01T00:00:00Z"));
        check(condition("SchedulingGated", "no"), Some("2025-01-01T00:00:00Z"));
    }
}
