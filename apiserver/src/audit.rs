//! The audit: events about requests at their stages, as a policy says, for a log and for another server.
//!
//! Costs nothing when it is off: a request carries no slip then. Never changes an answer, and a request only where it may not go on
//! unrecorded.

pub mod event;
pub mod file;
pub mod policy;
pub mod queue;
mod slip;

pub use slip::Slip;

use crate::kubeconfig;
use event::Event;
use jiff::Timestamp;
use parking_lot::Mutex;
use policy::{Policy, Stage, Verdict};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use queue::{Mode, Place, Queue};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What flags say of the audit.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--audit-policy-file`, read.
    pub policy: Policy,
    /// `--audit-log-*`.
    pub log: Option<LogSettings>,
    /// `--audit-webhook-*`.
    pub webhook: Option<WebhookSettings>,
}

/// How large an event may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// Bytes; a larger one loses its bodies, and is dropped when it is too large without them.
    pub max_event: usize,
}

/// The log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `--audit-log-path`.
    pub path: String,
    /// `--audit-log-format=legacy`.
    pub legacy: bool,
    /// `--audit-log-maxsize` and its kin.
    pub rotation: file::Rotation,
    /// `--audit-log-mode` and `--audit-log-batch-*`.
    pub mode: Mode,
    /// `--audit-log-truncate-*`.
    pub truncate: Option<Truncate>,
}

/// The other server.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// `--audit-webhook-config-file`.
    pub kubeconfig: PathBuf,
    /// `--audit-webhook-initial-backoff`.
    pub initial_backoff: Duration,
    /// `--audit-webhook-mode` and `--audit-webhook-batch-*`.
    pub mode: Mode,
    /// `--audit-webhook-truncate-*`.
    pub truncate: Option<Truncate>,
}

/// A way out and the form of events on it.
struct Way {
    queue: Arc<Queue>,
    legacy: bool,
    truncate: Option<Truncate>,
}

/// What is counted, by upstream's names. The counters are there without an audit too.
#[derive(Clone)]
pub struct Counters {
    events: IntCounter,
    errors: IntCounterVec,
    levels: IntCounterVec,
    rejected: IntCounter,
}

impl Counters {
    /// Registers the counters.
    ///
    /// # Errors
    /// When two metrics share a name: a mistake in this file.
    pub fn new(registry: &Registry) -> Result<Counters, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("apiserver_audit_{name}"), help);
        let counters = Counters {
            events: IntCounter::with_opts(opts("event_total", "Audit events that were made."))?,
            errors: IntCounterVec::new(
                opts("error_total", "Audit events that were lost, by the plugin on which they were."),
                &["plugin"],
            )?,
            levels: IntCounterVec::new(
                opts("level_total", "Requests by their level in the audit policy."),
                &["level"],
            )?,
            rejected: IntCounter::with_opts(opts(
                "requests_rejected_total",
                "Requests that were refused because they could not be recorded.",
            ))?,
        };
        registry.register(Box::new(counters.events.clone()))?;
        registry.register(Box::new(counters.errors.clone()))?;
        registry.register(Box::new(counters.levels.clone()))?;
        registry.register(Box::new(counters.rejected.clone()))?;
        Ok(counters)
    }
}

/// The audit of a server.
pub struct Audit {
    policy: Policy,
    ways: Vec<Way>,
    counters: Counters,
}

impl Audit {
    /// Opens the ways out. Must be called within a tokio runtime that outlives the requests.
    ///
    /// # Errors
    /// Why one cannot be opened.
    pub fn open(settings: &Settings, counters: Counters) -> Result<Audit, String> {
        let mut ways = Vec::new();
        let errors = &counters.errors;
        if let Some(log) = &settings.log {
            let lines = file::Lines::open(&log.path, log.rotation);
            let lines = lines.map_err(|error| format!("--audit-log-path {}: {error}", log.path))?;
            let queue = Queue::open(Place::Log(Mutex::new(lines)), log.mode, errors.clone());
            ways.push(Way { queue: Arc::new(queue), legacy: log.legacy, truncate: log.truncate });
        }
        if let Some(other) = &settings.webhook {
            let remote = kubeconfig::remote(&other.kubeconfig);
            let remote = remote.map_err(|error| format!("--audit-webhook-config-file: {error}"))?;
            let place = Place::Webhook { remote, pause: other.initial_backoff };
            let queue = Queue::open(place, other.mode, errors.clone());
            ways.push(Way { queue: Arc::new(queue), legacy: false, truncate: other.truncate });
        }
        Ok(Audit { policy: settings.policy.clone(), ways, counters })
    }

    /// Hands on what waits. Events that come later are lost.
    pub async fn close(&self) {
        futures::future::join_all(self.ways.iter().map(|way| way.queue.close())).await;
    }

    /// Hands an event to every way out, whatever becomes of it on the others.
    async fn give(&self, event: &mut Event, verdict: &Verdict, stage: Stage) -> Result<(), String> {
        let lines = self.lines(event, verdict, stage);
        // All are on their way before one is waited for: the client may hang up meanwhile.
        let given: Vec<_> = lines.into_iter().map(|(queue, line)| (queue.give_now(line), queue)).collect();
        let mut outcome = Ok(());
        for (sending, queue) in given {
            outcome = outcome.and(queue.settled(sending).await);
        }
        outcome
    }

    /// The same from where nothing can wait.
    fn give_now(&self, event: &mut Event, verdict: &Verdict, stage: Stage) {
        for (queue, line) in self.lines(event, verdict, stage) {
            // It goes on by itself.
            let _ = queue.give_now(line);
        }
    }

    /// The event in the form of each way out; none where this stage is not recorded.
    fn lines(&self, event: &mut Event, verdict: &Verdict, stage: Stage) -> Vec<(Arc<Queue>, String)> {
        if verdict.omit.contains(&stage) {
            return Vec::new();
        }
        event.stage = stage;
        event.stage_timestamp =
            if stage == Stage::RequestReceived { event.request_received_timestamp } else { Timestamp::now() };
        self.counters.events.inc();
        let line = |way: &Way| match written(event, way.legacy, way.truncate) {
            Ok(line) => Some((Arc::clone(&way.queue), line)),
            Err((plugin, why)) => {
                self.counters.errors.with_label_values(&[plugin]).inc();
                tracing::error!(
                    plugin,
                    error = why,
                    event = event.without_bodies().legacy(),
                    "an audit event was lost"
                );
                None
            }
        };
        self.ways.iter().filter_map(line).collect()
    }
}

/// An event as one line of text. What is too large loses its bodies.
///
/// # Errors
/// The plugin that loses the event, and why.
fn written(event: &Event, legacy: bool, truncate: Option<Truncate>) -> Result<String, (&'static str, String)> {
    let said = |error: api::json::Error| ("log", error.to_string());
    if legacy && truncate.is_none() {
        return Ok(event.legacy());
    }
    let mut line = event.json().map_err(said)?;
    if let Some(Truncate { max_event }) = truncate
        && line.len() > max_event
    {
        if event.level >= policy::Level::Request {
            line = event.without_bodies().json().map_err(said)?;
        }
        if line.len() > max_event {
            return Err(("truncate", "event is too large even after truncating".to_owned()));
        }
    }
    Ok(if legacy { event.legacy() } else { line })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use policy::Level;
    use serde_json::value::RawValue;

    #[test]
    fn a_large_event_loses_its_bodies_first_and_is_lost_then() {
        let check = |level: Level, body: usize, max_event: usize, want: Result<bool, &str>| {
            let mut event = Event::new(level, "id".to_owned(), Timestamp::UNIX_EPOCH);
            event.request_object = Some(RawValue::from_string(format!("{:?}", "x".repeat(body))).unwrap());
            let line = written(&event, false, Some(Truncate { max_event }));
            let cut = line.map(|line| line.contains("\"audit.k8s.io/truncated\":\"true\""));
            assert_eq!(cut.map_err(|(plugin, _)| plugin), want, "{level:?} {body} {max_event}");
        };
        check(Level::Request, 1000, 10_000, Ok(false));
        check(Level::Request, 1000, 500, Ok(true));
        check(Level::Request, 1000, 10, Err("truncate"));
        // Without bodies there is nothing to lose but the event.
        check(Level::Metadata, 1000, 500, Err("truncate"));
    }

    #[test]
    fn counters_have_upstreams_names() {
        let registry = Registry::new();
        let counters = Counters::new(&registry).unwrap();
        counters.errors.with_label_values(&["log"]).inc();
        counters.levels.with_label_values(&["Metadata"]).inc();
        let names: Vec<String> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        let want = ["error_total", "event_total", "level_total", "requests_rejected_total"];
        assert_eq!(names, want.map(|name| format!("apiserver_audit_{name}")));
    }
}
