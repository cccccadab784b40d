//! What priority and fairness tells `/metrics`, by upstream's names.
//!
//! What happens is counted where it happens; what is so at the moment is read off the dispatchers when somebody asks. Never decides anything.

use super::demand::Expected;
use super::dispatcher::Refusal;
use super::share::Seats;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

const LEVEL: &str = "priority_level";
const SCHEMA: &str = "flow_schema";

/// All families.
pub(crate) struct Families {
    rejected: IntCounterVec,
    dispatched: IntCounterVec,
    waited: HistogramVec,
    executed: HistogramVec,
    queue_length: HistogramVec,
    estimated: HistogramVec,
    watched: HistogramVec,
    requests: [IntGaugeVec; 2],
    seats: [IntGaugeVec; 2],
    limits: [IntGaugeVec; 4],
    most: IntGaugeVec,
    demand: [GaugeVec; 4],
    fair: Gauge,
}

fn name(rest: &str) -> String {
    format!("apiserver_flowcontrol_{rest}")
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let family = made.expect("a constant name is valid");
    registry.register(Box::new(family.clone())).expect("names are distinct");
    family
}

/// Seconds.
const DURATIONS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

impl Families {
    /// Registers everything.
    ///
    /// # Panics
    /// When two metrics share a name: a mistake in this file.
    pub(crate) fn new(registry: &Registry) -> Families {
        let counters = |rest: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name(rest), help), labels))
        };
        let gauges = |rest: &str, help: &str, labels: &[&str]| {
            registered(registry, IntGaugeVec::new(Opts::new(name(rest), help), labels))
        };
        let numbers =
            |rest: &str, help: &str| registered(registry, GaugeVec::new(Opts::new(name(rest), help), &[LEVEL]));
        let histograms = |rest: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name(rest), help).buckets(buckets.to_vec());
            registered(registry, HistogramVec::new(options, labels))
        };
        let both = [LEVEL, SCHEMA];
        Families {
            rejected: counters("rejected_requests_total", "Requests refused.", &[LEVEL, SCHEMA, "reason"]),
            dispatched: counters("dispatched_requests_total", "Requests that were given their seats.", &both),
            waited: histograms(
                "request_wait_duration_seconds",
                "How long requests waited in their queue, in seconds.",
                &[LEVEL, SCHEMA, "execute"],
                &DURATIONS,
            ),
            executed: histograms(
                "request_execution_seconds",
                "How long requests ran, watches until they had begun, in seconds.",
                &[LEVEL, SCHEMA, "type"],
                &DURATIONS,
            ),
            queue_length: histograms(
                "request_queue_length_after_enqueue",
                "Length of the queue, as each request sees it that joins it.",
                &both,
                &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0],
            ),
            estimated: histograms(
                "work_estimated_seats",
                "Seats that requests are guessed to take.",
                &both,
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0],
            ),
            watched: histograms(
                "watch_count_samples",
                "Watches that a write wakes.",
                &both,
                &[0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0],
            ),
            requests: [
                gauges("current_inqueue_requests", "Requests that wait in queues.", &both),
                gauges("current_executing_requests", "Requests that run, watches until they have begun.", &both),
            ],
            seats: [
                gauges("current_inqueue_seats", "Seats that requests in queues wait for.", &both),
                gauges("current_executing_seats", "Seats of requests that run or linger.", &both),
            ],
            limits: [
                gauges("nominal_limit_seats", "Seats of a level by its shares.", &[LEVEL]),
                gauges("lower_limit_seats", "Seats of a level when all is lent.", &[LEVEL]),
                gauges("upper_limit_seats", "Seats of a level when all is borrowed.", &[LEVEL]),
                gauges("current_limit_seats", "Seats of a level for now.", &[LEVEL]),
            ],
            most: gauges("demand_seats_high_watermark", "Most seats wanted in the last period.", &[LEVEL]),
            demand: [
                numbers("demand_seats_average", "Seats wanted in the last period, on average."),
                numbers("demand_seats_stdev", "Standard deviation of the seats wanted in the last period."),
                numbers("demand_seats_smoothed", "Seats expected to be wanted."),
                numbers("target_seats", "Seats that a level would have if there were enough for all."),
            ],
            fair: registered(
                registry,
                Gauge::new(name("seat_fair_frac"), "By how much targets were stretched or shrunk to make them fit."),
            ),
        }
    }

    /// What a level has, and what it wants.
    pub(crate) fn level(&self, level: &str, seats: Seats, current: u32, expected: &Expected, target: f64) {
        let limits = [seats.nominal, seats.least, seats.most, current];
        for (family, seats) in self.limits.iter().zip(limits) {
            family.with_label_values(&[level]).set(i64::from(seats));
        }
        self.most.with_label_values(&[level]).set(i64::from(expected.most));
        let demand = [expected.average, expected.deviation, expected.smoothed, target];
        for (family, seats) in self.demand.iter().zip(demand) {
            family.with_label_values(&[level]).set(seats);
        }
    }

    pub(crate) fn fair(&self, factor: f64) {
        self.fair.set(factor);
    }

    /// Before `current` says what is so.
    pub(crate) fn nothing_current(&self) {
        self.requests.iter().chain(&self.seats).for_each(IntGaugeVec::reset);
    }

    /// One more request that waits, runs or lingers.
    pub(crate) fn current(&self, level: &str, schema: &str, state: Current, width: u32) {
        let labels = [level, schema];
        let place = usize::from(!matches!(state, Current::Waits));
        if let (Some(requests), Some(seats)) = (self.requests.get(place), self.seats.get(place)) {
            requests.with_label_values(&labels).add(i64::from(!matches!(state, Current::Lingers)));
            seats.with_label_values(&labels).add(i64::from(width));
        }
    }
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Current {
    /// In a queue.
    Waits,
    /// It has its seats.
    Runs,
    /// It was answered and has its seats still.
    Lingers,
}

/// What is told of one flow schema at one level; a series is there once there is something to tell.
pub(crate) struct Meters {
    families: Arc<Families>,
    level: String,
    schema: String,
    dispatched: OnceLock<IntCounter>,
    waited: [OnceLock<Histogram>; 2],
    executed: [OnceLock<Histogram>; 2],
    estimated: OnceLock<Histogram>,
    watched: OnceLock<Histogram>,
}

impl Meters {
    pub(crate) fn new(families: &Arc<Families>, level: &str, schema: &str) -> Meters {
        Meters {
            families: Arc::clone(families),
            level: level.to_owned(),
            schema: schema.to_owned(),
            dispatched: OnceLock::new(),
            waited: Default::default(),
            executed: Default::default(),
            estimated: OnceLock::new(),
            watched: OnceLock::new(),
        }
    }

    fn labels(&self) -> [&str; 2] {
        [&self.level, &self.schema]
    }

    fn split<'a>(
        &self,
        cells: &'a [OnceLock<Histogram>; 2],
        second: bool,
        family: &HistogramVec,
        word: &str,
    ) -> &'a Histogram {
        let [one, other] = cells;
        let cell = if second { other } else { one };
        cell.get_or_init(|| family.with_label_values(&[self.level.as_str(), self.schema.as_str(), word]))
    }

    /// A request was given its seats.
    pub(crate) fn dispatched(&self) {
        self.dispatched.get_or_init(|| self.families.dispatched.with_label_values(&self.labels())).inc();
    }

    /// A request of a level that is not exempt was given its seats, or refused, after so many nanoseconds.
    pub(crate) fn waited(&self, nanos: u64, execute: bool) {
        let word = if execute { "true" } else { "false" };
        self.split(&self.waited, execute, &self.families.waited, word).observe(nanos as f64 / 1e9);
    }

    /// A request ran for so many nanoseconds.
    pub(crate) fn executed(&self, nanos: u64, watch: bool) {
        let word = if watch { "watch" } else { "regular" };
        self.split(&self.executed, watch, &self.families.executed, word).observe(nanos as f64 / 1e9);
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        let labels = [self.level.as_str(), self.schema.as_str(), refusal.reason()];
        self.families.rejected.with_label_values(&labels).inc();
    }

    /// A request joined a queue, which has so many now.
    pub(crate) fn queued(&self, length: usize) {
        self.families.queue_length.with_label_values(&self.labels()).observe(length as f64);
    }

    pub(crate) fn estimated(&self, width: u32) {
        let cell = || self.families.estimated.with_label_values(&self.labels());
        self.estimated.get_or_init(cell).observe(f64::from(width));
    }

    pub(crate) fn watched(&self, watches: u32) {
        let cell = || self.families.watched.with_label_values(&self.labels());
        self.watched.get_or_init(cell).observe(f64::from(watches));
    }
}

/// How many requests are in progress, and how many were at most in the last second.
pub(crate) struct InFlight {
    kinds: [Peak; 4],
    gauges: [IntGauge; 4],
}

#[derive(Default)]
struct Peak {
    now: AtomicI64,
    most: AtomicI64,
}

impl InFlight {
    /// Registers everything.
    ///
    /// # Panics
    /// When two metrics share a name: a mistake in this file.
    pub(crate) fn new(registry: &Registry) -> InFlight {
        let family =
            |name: &str, help: &str| registered(registry, IntGaugeVec::new(Opts::new(name, help), &["request_kind"]));
        let running =
            family("apiserver_current_inflight_requests", "Most requests in progress at once in the last second.");
        let waiting =
            family("apiserver_current_inqueue_requests", "Most requests in queues at once in the last second.");
        let of = |family: &IntGaugeVec, kind: &str| family.with_label_values(&[kind]);
        InFlight {
            kinds: Default::default(),
            gauges: [
                of(&running, "readOnly"),
                of(&running, "mutating"),
                of(&waiting, "readOnly"),
                of(&waiting, "mutating"),
            ],
        }
    }

    /// One more or less.
    pub(crate) fn add(&self, waits: bool, mutating: bool, change: i64) {
        if let Some(peak) = self.kinds.get(2 * usize::from(waits) + usize::from(mutating)) {
            let now = peak.now.fetch_add(change, Ordering::Relaxed) + change;
            if now > peak.most.load(Ordering::Relaxed) {
                peak.most.fetch_max(now, Ordering::Relaxed);
            }
        }
    }

    /// A second has passed.
    pub(crate) fn tell(&self) {
        for (peak, gauge) in self.kinds.iter().zip(&self.gauges) {
            gauge.set(peak.most.swap(peak.now.load(Ordering::Relaxed), Ordering::Relaxed));
        }
    }
}
