//! What the scheduler tells about itself, by upstream's names.
//!
//! Never decides anything. Source: upstream's list of stable metrics.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    attempts: IntCounterVec,
    durations: HistogramVec,
    pending: IntGaugeVec,
    incoming: IntCounterVec,
    tries: Histogram,
    since: HistogramVec,
    unschedulable: IntGaugeVec,
    preemptions: IntCounter,
    victims: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What became of one try to find a node, in the words of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Scheduled => "scheduled",
            Outcome::Unschedulable => "unschedulable",
            Outcome::Error => "error",
        }
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let family = made.expect("a constant name is valid");
    registry.register(Box::new(family.clone())).expect("names are distinct");
    family
}

/// So many numbers, each twice the one before.
fn doubling(first: f64, count: i32) -> Vec<f64> {
    (0..count).map(|power| first * 2_f64.powi(power)).collect()
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: Vec<f64>| {
            registered(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels))
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            registered(&registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
        };
        let families = Families {
            attempts: counters(
                "scheduler_schedule_attempts_total",
                "Tries to find a node, by outcome.",
                &["profile", "result"],
            ),
            durations: histograms(
                "scheduler_scheduling_attempt_duration_seconds",
                "How long a try took, binding included, in seconds.",
                &["profile", "result"],
                doubling(0.001, 15),
            ),
            pending: gauges("scheduler_pending_pods", "Pods that wait for a node, by where they wait.", &["queue"]),
            incoming: counters(
                "scheduler_queue_incoming_pods_total",
                "Pods that came to where they wait, by why.",
                &["event", "queue"],
            ),
            tries: histogram(
                "scheduler_pod_scheduling_attempts",
                "Tries that a pod took to get its node.",
                doubling(1.0, 5),
            ),
            since: histograms(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "From a pod's first try to its binding, in seconds.",
                &["attempts"],
                doubling(0.01, 20),
            ),
            unschedulable: gauges(
                "scheduler_unschedulable_pods",
                "Pods that found no node, by the plugins that refused.",
                &["plugin", "profile"],
            ),
            preemptions: registered(
                &registry,
                IntCounter::new("scheduler_preemption_attempts_total", "Times that lower pods were made to go."),
            ),
            victims: histogram("scheduler_preemption_victims", "Pods that were made to go for one.", doubling(1.0, 7)),
            registry,
        };
        Metrics(Arc::new(families))
    }
}

impl Metrics {
    /// A try has ended.
    pub(crate) fn tried(&self, profile: &str, outcome: Outcome, took: Duration) {
        let labels = [profile, outcome.word()];
        self.0.attempts.with_label_values(&labels).inc();
        self.0.durations.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// A pod has its node, after so many tries and so long after the first.
    pub(crate) fn bound(&self, tries: u32, since: Duration) {
        self.0.tries.observe(f64::from(tries));
        let attempts = if tries >= 15 { "15+".to_owned() } else { tries.to_string() };
        self.0.since.with_label_values(&[&attempts]).observe(since.as_secs_f64());
    }

    /// Others were made to go.
    pub(crate) fn preempted(&self, victims: usize) {
        self.0.preemptions.inc();
        self.0.victims.observe(victims as f64);
    }

    /// How many pods wait where.
    pub(crate) fn pending(&self, waiting: impl IntoIterator<Item = (&'static str, usize)>) {
        for (queue, pods) in waiting {
            self.0.pending.with_label_values(&[queue]).set(i64::try_from(pods).unwrap_or(i64::MAX));
        }
    }

    /// Pods have come to where they wait.
    pub(crate) fn incoming(&self, event: &str, queue: &str, pods: u64) {
        self.0.incoming.with_label_values(&[event, queue]).inc_by(pods);
    }

    /// How many pods each plugin keeps from all nodes.
    pub(crate) fn unschedulable(&self, profile: &str, plugins: impl IntoIterator<Item = (&'static str, usize)>) {
        for (plugin, pods) in plugins {
            let pods = i64::try_from(pods).unwrap_or(i64::MAX);
            self.0.unschedulable.with_label_values(&[plugin, profile]).set(pods);
        }
    }

    /// Where others of the process show what they count.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }
}
