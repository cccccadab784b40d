//! WATCH: events as they happen, with bookmarks and initial events.
//!
//! Source: upstream's API concepts on watches; KEP-956 (bookmarks), KEP-3157 (streaming lists).

use super::options::{self, WatchOptions};
use super::{Call, shown};
use crate::answer::{Answer, Failure, status, stream};
use crate::cache::{Change, Entry, Event, Watcher};
use crate::registry::columns::{self, Include, ListMeta};
use crate::registry::convert::Conversions;
use crate::registry::read::{self, Filter, served};
use crate::road::negotiated::{Encoding, Form, Medium};
use crate::server::Server;
use api::kind::Kind;
use api::status::Status;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::Stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(50);

/// What a 406 offers.
const STREAMS: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// Marks the bookmark behind the last initial event.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// Answers a watch.
///
/// # Errors
/// 400 and 422 for parameters, 410 for versions that are gone.
pub async fn answer(server: &Server, call: Call) -> Result<Answer, Failure> {
    // YAML has no framing for streams.
    if call.medium.encoding == Encoding::Yaml {
        return Err(Status::not_acceptable(STREAMS).into());
    }
    let query = &call.received().query;
    let filter = Filter::parse(&call.target, query.get("labelSelector"), query.get("fieldSelector"))?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let WatchOptions { revision, initial, timeout } = options::of_watch(query)?;
    let timeout = timeout.map_or_else(default_timeout, Duration::from_secs);

    let cache = read::cache(server, &call.target)?;
    let with_state = initial.unwrap_or(matches!(revision, None | Some(0)));
    let mut first = VecDeque::new();
    let from = if with_state {
        let snapshot = match revision {
            Some(0) if initial.is_none() => cache.any().map_err(|error| call.target.failure(error))?,
            _ => cache.consistent().await.map_err(|error| call.target.failure(error))?,
        };
        let kind = call.target.kind;
        let mut all: Vec<_> = snapshot.objects.values().filter(|entry| filter.placed(&entry.key)).cloned().collect();
        server.conversions.all(kind, &mut all).await?;
        first.extend(all.into_iter().filter(|entry| filter.matches(kind, entry)));
        snapshot.revision
    } else {
        match revision {
            Some(revision) => revision,
            None => cache.consistent().await.map_err(|error| call.target.failure(error))?.revision,
        }
    };
    let mut watcher = cache.watch(from);
    // A version that is gone is refused with a status of its own rather than inside the stream.
    let early = match tokio::time::timeout(Duration::ZERO, watcher.next()).await {
        Ok(Err(error)) => return Err(call.target.failure(error)),
        Ok(Ok(events)) => events,
        Err(_) => Vec::new(),
    };
    let end_of_initial = (initial == Some(true) && bookmarks).then_some(from);
    let include = shown::include(call.received())?;
    let frames = Frames { kind: call.target.kind, medium: call.medium, include };
    let content_type = call.medium.encoding.stream_content_type();
    let watch = Watch {
        frames,
        filter,
        watcher,
        first,
        early,
        end_of_initial,
        bookmarks,
        headed: false,
        deadline: Instant::now() + timeout,
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        stop: cache.end().clone(),
        conversions: Arc::clone(&server.conversions),
        cache,
        clock: Arc::clone(&server.clock),
        done: false,
    };
    Ok(stream(content_type, watch.into_stream()))
}

/// Between 30 and 60 minutes, so that watches that began together do not end together.
fn default_timeout() -> Duration {
    use rand::Rng as _;
    Duration::from_secs(rand::rng().random_range(1800..3600))
}

struct Watch {
    frames: Frames,
    filter: Filter,
    watcher: Watcher,
    first: VecDeque<Arc<Entry>>,
    early: Vec<Arc<Event>>,
    end_of_initial: Option<u64>,
    bookmarks: bool,
    headed: bool,
    deadline: Instant,
    next_bookmark: Instant,
    cache: Arc<crate::cache::Cache>,
    conversions: Arc<Conversions>,
    clock: Arc<dyn storage::clock::Clock>,
    stop: tokio_util::sync::CancellationToken,
    done: bool,
}

impl Watch {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        futures::stream::unfold(self, |mut watch| async move {
            let chunk = watch.chunk().await?;
            Some((Ok(chunk), watch))
        })
    }

    /// The next frames, several at once where several are ready; `None` at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = BytesMut::new();
        let now = i64::try_from(self.clock.unix_seconds()).unwrap_or(i64::MAX);
        while let Some(entry) = self.first.pop_front() {
            self.frames.object(&mut out, "ADDED", &entry, entry.revision, now, &mut self.headed);
            if out.len() > 64 * 1024 {
                return Some(out.freeze());
            }
        }
        if let Some(revision) = self.end_of_initial.take() {
            self.frames.bookmark(&mut out, revision, true);
        }
        let early = std::mem::take(&mut self.early);
        self.events(&mut out, early, now).await;
        while out.is_empty() && !self.done {
            let events = tokio::select! {
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.bookmark(&mut out).await;
                    continue;
                }
                events = self.watcher.next() => events,
            };
            let now = i64::try_from(self.clock.unix_seconds()).unwrap_or(i64::MAX);
            match events {
                Ok(events) => self.events(&mut out, events, now).await,
                Err(error) => {
                    let kind = self.frames.kind;
                    let failure = Failure::Store {
                        error: Box::new(error),
                        resource: (kind.group, kind.plural),
                        name: String::new(),
                    };
                    self.frames.error(&mut out, &status(failure));
                    self.done = true;
                }
            }
        }
        Some(out.freeze())
    }

    /// Writes events; an object that cannot be had in the version of the watch ends it.
    async fn events(&mut self, out: &mut BytesMut, events: Vec<Arc<Event>>, now: i64) {
        match converted(&self.conversions, self.frames.kind, &self.filter, events).await {
            Ok(events) => events.iter().for_each(|event| self.event(out, event, now)),
            Err(failure) => {
                self.frames.error(out, &status(failure));
                self.done = true;
            }
        }
    }

    fn event(&mut self, out: &mut BytesMut, event: &Event, now: i64) {
        let kind = self.frames.kind;
        let change = Change::seen(event, |entry| self.filter.matches(kind, entry));
        if let Some(change) = change {
            let revision = event.object.revision;
            self.frames.object(out, change.name(), &event.object, revision, now, &mut self.headed);
        }
    }

    /// Everything up to the bookmark's version was sent: the cache is asked first, then the events it has are drained.
    async fn bookmark(&mut self, out: &mut BytesMut) {
        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
        let Ok(revision) = self.cache.progress().await else {
            return;
        };
        let now = i64::try_from(self.clock.unix_seconds()).unwrap_or(i64::MAX);
        while let Ok(Ok(events)) = tokio::time::timeout(Duration::ZERO, self.watcher.next()).await {
            self.events(out, events, now).await;
            if self.done {
                return;
            }
        }
        self.frames.bookmark(out, revision, false);
    }
}

/// Events with their objects in the version of the watch, without those at places that nobody watches.
async fn converted(
    conversions: &Conversions,
    kind: &'static Kind,
    filter: &Filter,
    events: Vec<Arc<Event>>,
) -> Result<Vec<Arc<Event>>, Failure> {
    if !kind.by_webhook() {
        return Ok(events);
    }
    let wanted: Vec<Arc<Event>> = events.into_iter().filter(|event| filter.placed(&event.object.key)).collect();
    // What an object was before counts for selectors alone.
    let before = |event: &Event| event.previous.clone().filter(|_| !filter.is_place());
    let mut entries: Vec<Arc<Entry>> =
        wanted.iter().flat_map(|event| [Some(Arc::clone(&event.object)), before(event)]).flatten().collect();
    conversions.all(kind, &mut entries).await?;
    let mut entries = entries.into_iter();
    let events = wanted.into_iter().map(|event| {
        let object = entries.next().unwrap_or_else(|| Arc::clone(&event.object));
        let previous = if before(&event).is_some() { entries.next() } else { event.previous.clone() };
        Arc::new(Event { kind: event.kind, object, previous })
    });
    Ok(events.collect())
}

/// Writes frames in the client's encoding.
struct Frames {
    kind: &'static Kind,
    medium: Medium,
    include: Include,
}

impl Frames {
    fn object(&self, out: &mut BytesMut, change: &str, entry: &Entry, revision: u64, now: i64, headed: &mut bool) {
        let plain = self.medium.form == Form::Whole && self.medium.encoding == Encoding::Json;
        if plain && entry.is_of(self.kind) {
            self.json(out, change, &entry.json);
            return;
        }
        let (value, schema) = match self.medium.form {
            Form::Whole => (served(self.kind, entry), Ok(self.kind.schema())),
            Form::Metadata(version) => {
                (columns::metadata(&served(self.kind, entry), version), shown::meta_schema("PartialObjectMetadata"))
            }
            Form::Table(version) => {
                let meta = ListMeta { revision: revision.to_string(), ..ListMeta::default() };
                let one = std::iter::once(entry);
                let table = columns::table(self.kind, version, &meta, one, self.include, now, !*headed);
                *headed = true;
                (table, shown::meta_schema("Table"))
            }
        };
        self.value(out, change, &value, schema);
    }

    fn bookmark(&self, out: &mut BytesMut, revision: u64, end_of_initial: bool) {
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if end_of_initial {
            api::value::set(&mut meta, "annotations", json!({INITIAL_END: "true"}));
        }
        let (kind, api_version, schema) = match self.medium.form {
            Form::Metadata(version) => {
                ("PartialObjectMetadata", format!("meta.k8s.io/{version}"), shown::meta_schema("PartialObjectMetadata"))
            }
            _ => (self.kind.kind, self.kind.api_version(), Ok(self.kind.schema())),
        };
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": meta});
        if let Form::Table(version) = self.medium.form {
            let meta = ListMeta { revision: revision.to_string(), ..ListMeta::default() };
            let mut table = columns::table(self.kind, version, &meta, std::iter::empty(), self.include, 0, false);
            api::value::set(&mut table, "rows", vec![json!({"cells": [], "object": object})]);
            self.value(out, "BOOKMARK", &table, shown::meta_schema("Table"));
            return;
        }
        self.value(out, "BOOKMARK", &object, schema);
    }

    fn error(&self, out: &mut BytesMut, status: &Status) {
        self.value(out, "ERROR", &status.to_value(), shown::meta_schema("Status"));
    }

    fn value(
        &self,
        out: &mut BytesMut,
        change: &str,
        value: &Value,
        schema: Result<api::schema::SchemaRef<'_>, Failure>,
    ) {
        let medium = Medium { pretty: false, ..self.medium };
        match schema.and_then(|schema| shown::encode(medium, value, schema)) {
            Ok(bytes) => match self.medium.encoding {
                Encoding::Protobuf => protobuf_frame(out, change, &bytes),
                Encoding::Json | Encoding::Yaml => self.json(out, change, &bytes),
            },
            Err(failure) => tracing::error!(?failure, "a watch frame could not be encoded"),
        }
    }

    #[allow(clippy::unused_self)] // reads as a sibling of the other frame writers
    fn json(&self, out: &mut BytesMut, change: &str, object: &[u8]) {
        out.put_slice(b"{\"type\":\"");
        out.put_slice(change.as_bytes());
        out.put_slice(b"\",\"object\":");
        out.put_slice(object);
        out.put_slice(b"}\n");
    }
}

/// A length-prefixed `runtime.Unknown`-wrapped `WatchEvent`: field 1 the type, field 2 a `RawExtension` whose field 1
/// is the object with its own envelope.
fn protobuf_frame(out: &mut BytesMut, change: &str, object: &[u8]) {
    let mut raw = Vec::with_capacity(object.len() + 8);
    field(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + 24);
    field(&mut event, 1, change.as_bytes());
    field(&mut event, 2, &raw);
    out.put_u32(u32::try_from(event.len()).unwrap_or(u32::MAX));
    out.put_slice(&event);
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}
