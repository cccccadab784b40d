//! Events about objects, written in the background: repeated ones are counted, floods are cut, and a lost event
//! never holds up a reconciler.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{controller::Clock, object};

/// Events of one object that may be written at once, and how often one more may follow (in seconds).
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// Counted events that are remembered.
const REMEMBERED: usize = 4096;

/// The two types of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Things went as they should.
    Normal,
    /// Somebody may want to look.
    Warning,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// Normal or Warning.
    pub type_: Type,
    /// One CamelCase word, upstream's.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Note {
    /// A note that things go as they should.
    #[must_use]
    pub fn normal(reason: &'static str, message: String) -> Self {
        Self { type_: Type::Normal, reason, message }
    }

    /// A note that somebody may want to look.
    #[must_use]
    pub fn warning(reason: &'static str, message: String) -> Self {
        Self { type_: Type::Warning, reason, message }
    }
}

/// Writes events in a controller's name.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<(ObjectReference, Note)>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// A recorder whose background task writes with `client` until `stop`.
    #[must_use]
    pub fn start(client: Client, component: &'static str, clock: Clock, stop: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(1000);
        tokio::spawn(write(client, component, clock, receiver, stop));
        Self { sender, dropped: Arc::default() }
    }

    /// Records a note about an object; dropped when too many wait.
    pub fn record<K: Resource<DynamicType = ()>>(&self, object: &K, note: Note) {
        self.record_for(reference(object), note);
    }

    /// As [`Recorder::record`], about a named object.
    pub fn record_for(&self, object: ObjectReference, note: Note) {
        if self.sender.try_send((object, note)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A reference with everything that `kubectl describe` selects events by.
#[must_use]
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Known {
    name: String,
    count: i32,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    fn take(&mut self, now: Timestamp) -> bool {
        #[allow(clippy::cast_precision_loss)]
        let passed = object::seconds_between(self.at, now).max(0) as f64;
        self.tokens = (self.tokens + passed / REFILL_SECONDS).min(BURST);
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

async fn write(
    client: Client,
    component: &'static str,
    clock: Clock,
    mut receiver: mpsc::Receiver<(ObjectReference, Note)>,
    stop: CancellationToken,
) {
    let mut known: HashMap<(String, Note), Known> = HashMap::new();
    let mut buckets: HashMap<String, Bucket> = HashMap::new();
    loop {
        let (about, note) = tokio::select! {
            () = stop.cancelled() => return,
            next = receiver.recv() => match next { Some(next) => next, None => return },
        };
        if known.len() > REMEMBERED {
            known.clear();
        }
        if buckets.len() > REMEMBERED {
            buckets.clear();
        }
        let now = clock.now();
        let about_key = format!(
            "{}/{}/{}",
            about.kind.as_deref().unwrap_or_default(),
            about.uid.as_deref().unwrap_or_default(),
            about.name.as_deref().unwrap_or_default()
        );
        if !buckets.entry(about_key.clone()).or_insert(Bucket { tokens: BURST, at: now }).take(now) {
            continue;
        }
        let namespace = about.namespace.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let slot = (about_key, note.clone());
        if let Some(earlier) = known.get_mut(&slot) {
            let count = earlier.count.saturating_add(1);
            let patch = json!({"count": count, "lastTimestamp": object::time(now)});
            match api.patch(&earlier.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(_) => {
                    earlier.count = count;
                    continue;
                }
                Err(error) => tracing::debug!(%error, "an event could not be counted; writing a new one"),
            }
        }
        let event = build(&about, &note, component, &namespace, now);
        let name = object::name(&event.metadata).to_owned();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                known.insert(slot, Known { name, count: 1 });
            }
            Err(error) => tracing::debug!(%error, reason = note.reason, "an event was not written"),
        }
    }
}

fn build(about: &ObjectReference, note: &Note, component: &str, namespace: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: about.clone(),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.chars().take(1024).collect()),
        type_: Some(if note.type_ == Type::Normal { "Normal" } else { "Warning" }.to_owned()),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        count: Some(1),
        first_timestamp: Some(object::time(now)),
        last_timestamp: Some(object::time(now)),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_trickles_on() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut bucket = Bucket { tokens: BURST, at: start };
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 25);
        let later: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 2);
    }

    #[test]
    fn an_event_names_what_it_is_about() {
        let about = ObjectReference { name: Some("web".into()), uid: Some("u".into()), ..ObjectReference::default() };
        let note = Note::warning("FailedCreate", "x".repeat(5000));
        let event = build(&about, &note, "c", "ns", "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(event.message.unwrap().len(), 1024);
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert!(event.metadata.name.unwrap().starts_with("web."));
    }
}
