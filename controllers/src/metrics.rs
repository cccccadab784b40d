//! What the controllers tell about themselves, by upstream's names: their work queues, and which of them run.
//!
//! Never decides anything. Source: upstream's list of stable metrics.

use parking_lot::Mutex;
use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
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
    depth: IntGaugeVec,
    waited: HistogramVec,
    worked: HistogramVec,
    unfinished: GaugeVec,
    longest: GaugeVec,
    running: IntGaugeVec,
    queues: Mutex<Vec<(&'static str, Weak<dyn Busy>)>>,
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

fn registered<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
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
        let numbers = |name: &str, help: &str| registered(&registry, GaugeVec::new(Opts::new(name, help), &["name"]));
        let times = |name: &str, help: &str| {
            // From ten nanoseconds to ten seconds.
            let buckets = (-8..=1).map(|power| 10_f64.powi(power)).collect();
            registered(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &["name"]))
        };
        let families = Families {
            adds: counters("workqueue_adds_total", "Keys that were added to the queue."),
            retries: counters("workqueue_retries_total", "Keys that come back later."),
            depth: gauges("workqueue_depth", "Keys that wait for a worker.", &["name"]),
            waited: times("workqueue_queue_duration_seconds", "How long keys wait for a worker, in seconds."),
            worked: times("workqueue_work_duration_seconds", "How long keys are with their worker, in seconds."),
            unfinished: numbers(
                "workqueue_unfinished_work_seconds",
                "How long all keys have been with their workers, in seconds.",
            ),
            longest: numbers(
                "workqueue_longest_running_processor_seconds",
                "How long the oldest key has been with its worker, in seconds.",
            ),
            running: gauges("running_managed_controllers", "1 for a controller that runs.", &["manager", "name"]),
            queues: Mutex::default(),
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
        self.0.queues.lock().push((name, queue));
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

    /// The exposition text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut queues = self.0.queues.lock();
        queues.retain(|(_, queue)| queue.strong_count() > 0);
        self.0.depth.reset();
        self.0.unfinished.reset();
        self.0.longest.reset();
        for (name, queue) in queues.iter().filter_map(|(name, queue)| Some((*name, queue.upgrade()?))) {
            let held = queue.held();
            let seconds = |time: Duration| time.as_secs_f64();
            self.0.depth.with_label_values(&[name]).add(i64::try_from(queue.depth()).unwrap_or(i64::MAX));
            self.0.unfinished.with_label_values(&[name]).add(held.iter().copied().map(seconds).sum());
            let longest = self.0.longest.with_label_values(&[name]);
            longest.set(longest.get().max(held.iter().copied().map(seconds).fold(0.0, f64::max)));
        }
        drop(queues);
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut out) {
            tracing::error!(%error, "metrics could not be written");
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use tokio_util::sync::CancellationToken;

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
        let text = metrics.text();
        let has = |text: &str, line: &str| assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
        for line in [
            "workqueue_adds_total{name=\"deployment\"} 2",
            "workqueue_depth{name=\"deployment\"} 1",
            "workqueue_unfinished_work_seconds{name=\"deployment\"} 3",
            "workqueue_longest_running_processor_seconds{name=\"deployment\"} 3",
            "workqueue_queue_duration_seconds_sum{name=\"deployment\"} 2",
        ] {
            has(&text, line);
        }
        queue.add_rate_limited(key);
        queue.done(&key);
        let text = metrics.text();
        has(&text, "workqueue_work_duration_seconds_sum{name=\"deployment\"} 3");
        has(&text, "workqueue_retries_total{name=\"deployment\"} 1");
        has(&text, "workqueue_unfinished_work_seconds{name=\"deployment\"} 0");
        drop(queue);
        assert!(!metrics.text().contains("workqueue_depth{"));
    }
}
