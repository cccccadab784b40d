//! What the controllers tell about themselves, by upstream's names: their work queues, and which of them run.
//!
//! Never decides anything. Source: upstream's list of stable metrics.

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    adds: IntCounterVec,
    retries: IntCounterVec,
    waited: HistogramVec,
    worked: HistogramVec,
    running: IntGaugeVec,
    queues: Queues,
}

/// Queues by the names under which they are shown.
type Known = Vec<(&'static str, Weak<dyn Busy>)>;

/// What queues are doing when somebody looks.
#[derive(Clone)]
struct Queues {
    known: Arc<Mutex<Known>>,
    depth: IntGaugeVec,
    unfinished: GaugeVec,
    longest: GaugeVec,
}

impl Queues {
    fn new() -> prometheus::Result<Queues> {
        let numbers = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["name"]);
        Ok(Queues {
            known: Arc::default(),
            depth: IntGaugeVec::new(Opts::new("workqueue_depth", "Keys that wait for a worker."), &["name"])?,
            unfinished: numbers(
                "workqueue_unfinished_work_seconds",
                "How long all keys have been with their workers, in seconds.",
            )?,
            longest: numbers(
                "workqueue_longest_running_processor_seconds",
                "How long the oldest key has been with its worker, in seconds.",
            )?,
        })
    }
}

impl Collector for Queues {
    fn desc(&self) -> Vec<&Desc> {
        [self.depth.desc(), self.unfinished.desc(), self.longest.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Held to the end: two who look at once would add up.
        let mut known = self.known.lock();
        known.retain(|(_, queue)| queue.strong_count() > 0);
        self.depth.reset();
        self.unfinished.reset();
        self.longest.reset();
        for (name, queue) in known.iter().filter_map(|(name, queue)| Some((*name, queue.upgrade()?))) {
            let held = queue.held();
            let seconds = |time: Duration| time.as_secs_f64();
            self.depth.with_label_values(&[name]).add(i64::try_from(queue.depth()).unwrap_or(i64::MAX));
            self.unfinished.with_label_values(&[name]).add(held.iter().copied().map(seconds).sum());
            let longest = self.longest.with_label_values(&[name]);
            longest.set(longest.get().max(held.iter().copied().map(seconds).fold(0.0, f64::max)));
        }
        [self.depth.collect(), self.unfinished.collect(), self.longest.collect()].concat()
    }
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// What a queue is doing at the moment.
pub(crate) trait Busy: Send + Sync {
    /// Keys that wait for a worker.
    fn depth(&self) -> usize;
    /// For how long each key has been with its worker.
    fn held(&self) -> Vec<Duration>;
}

/// What one queue counts.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) adds: IntCounter,
    pub(crate) retries: IntCounter,
    /// From the first add of a key to its worker.
    pub(crate) waited: Histogram,
    /// With its worker.
    pub(crate) worked: Histogram,
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let family = made.expect("a constant name is valid");
    registry.register(Box::new(family.clone())).expect("names are distinct");
    family
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let counters =
            |name: &str, help: &str| registered(&registry, IntCounterVec::new(Opts::new(name, help), &["name"]));
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let times = |name: &str, help: &str| {
            // From ten nanoseconds to ten seconds.
            let buckets = (-8..=1).map(|power| 10_f64.powi(power)).collect();
            registered(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &["name"]))
        };
        let families = Families {
            adds: counters("workqueue_adds_total", "Keys that were added to the queue."),
            retries: counters("workqueue_retries_total", "Keys that come back later."),
            waited: times("workqueue_queue_duration_seconds", "How long keys wait for a worker, in seconds."),
            worked: times("workqueue_work_duration_seconds", "How long keys are with their worker, in seconds."),
            running: gauges("running_managed_controllers", "1 for a controller that runs.", &["manager", "name"]),
            queues: registered(&registry, Queues::new()),
            registry,
        };
        Metrics(Arc::new(families))
    }
}

impl Metrics {
    /// What a queue of this name counts with; what it is doing is asked for when somebody looks.
    pub(crate) fn queue(&self, name: &'static str, queue: Weak<dyn Busy>) -> Meters {
        // Upstream names queues as the kinds.
        let name = name.strip_suffix("-controller").unwrap_or(name);
        self.0.queues.known.lock().push((name, queue));
        Meters {
            adds: self.0.adds.with_label_values(&[name]),
            retries: self.0.retries.with_label_values(&[name]),
            waited: self.0.waited.with_label_values(&[name]),
            worked: self.0.worked.with_label_values(&[name]),
        }
    }

    /// Whether a controller runs.
    pub(crate) fn controller(&self, name: &str) -> IntGauge {
        self.0.running.with_label_values(&[crate::COMPONENT, name])
    }

    /// Where others of the process show what they count.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use prometheus::TextEncoder;
    use tokio_util::sync::CancellationToken;

    fn text(metrics: &Metrics) -> String {
        TextEncoder::new().encode_to_string(&metrics.registry().gather()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn queues_tell_what_they_do() {
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let queue: Arc<Queue<&str>> = Arc::default();
        queue.add("before it is looked at");
        queue.observe(&metrics, "deployment-controller");
        queue.add("a");
        queue.add("a");
        tokio::time::advance(Duration::from_secs(2)).await;
        let key = queue.next(&stop).await.unwrap();
        tokio::time::advance(Duration::from_secs(3)).await;
        let shown = text(&metrics);
        let has = |text: &str, line: &str| assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
        for line in [
            "workqueue_adds_total{name=\"deployment\"} 2",
            "workqueue_depth{name=\"deployment\"} 1",
            "workqueue_unfinished_work_seconds{name=\"deployment\"} 3",
            "workqueue_longest_running_processor_seconds{name=\"deployment\"} 3",
            "workqueue_queue_duration_seconds_sum{name=\"deployment\"} 2",
        ] {
            has(&shown, line);
        }
        queue.add_rate_limited(key);
        queue.done(&key);
        let shown = text(&metrics);
        has(&shown, "workqueue_work_duration_seconds_sum{name=\"deployment\"} 3");
        has(&shown, "workqueue_retries_total{name=\"deployment\"} 1");
        has(&shown, "workqueue_unfinished_work_seconds{name=\"deployment\"} 0");
        drop(queue);
        assert!(!text(&metrics).contains("workqueue_depth{"));
    }
}
