//! What priority and fairness tells `/metrics`, by upstream's names.
//!
//! What happens is counted where it happens; what is so at the moment is read off the dispatchers when somebody asks. Never decides anything.

use super::demand::Expected;
use super::dispatcher::{Reading, Refusal};
use super::ratios::{Fullness, Held, KINDS, Ratios};
use super::share::Seats;
use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;

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
    unplaced: IntCounterVec,
    /// The meter now, at the last dispatch, and where that request began.
    readings: [GaugeVec; 3],
    bounds: [GaugeVec; 2],
    ratios: Ratios,
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
        let bounds = |rest: &str, help: &str| {
            registered(registry, GaugeVec::new(Opts::new(name(rest), help), &["bound", LEVEL]))
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
            unplaced: counters(
                "request_dispatch_no_accommodation_total",
                "Times that it was a request's turn and there were not enough seats for it.",
                &both,
            ),
            readings: [
                numbers("current_r", "The level's meter, in seat-seconds."),
                numbers("dispatch_r", "The level's meter at the last dispatch from a queue, in seat-seconds."),
                numbers("latest_s", "Where the request that was dispatched last began, in seat-seconds."),
            ],
            bounds: [
                bounds(
                    "next_s_bounds",
                    "Least and most, over queues, of where the next request begins, in seat-seconds.",
                ),
                bounds(
                    "next_discounted_s_bounds",
                    "Least and most, over queues, of where the next request begins, without the work guessed to be in progress, in seat-seconds.",
                ),
            ],
            ratios: registered(registry, Ok(Ratios::new())),
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

    /// Where the meters of a level with queues stand.
    pub(crate) fn readings(&self, level: &str, meter: i128, reading: Option<Reading>) {
        let [current, dispatched, began] = &self.readings;
        let seconds = |reading: i128| reading as f64 / 1e9;
        current.with_label_values(&[level]).set(seconds(meter));
        let Some(reading) = reading else { return };
        dispatched.with_label_values(&[level]).set(seconds(reading.meter));
        began.with_label_values(&[level]).set(seconds(reading.began));
        for (family, (least, most)) in self.bounds.iter().zip([reading.next, reading.discounted]) {
            family.with_label_values(&["min", level]).set(seconds(least));
            family.with_label_values(&["max", level]).set(seconds(most));
        }
    }

    /// How full levels were, and how many requests read and wrote.
    pub(crate) fn full(&self, levels: &[(&str, Fullness)], kinds: &[Held; 4]) {
        self.ratios.show(levels, kinds);
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

    /// It was the turn of a request, and there were not enough seats for it.
    pub(crate) fn unplaced(&self) {
        self.families.unplaced.with_label_values(&self.labels()).inc();
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
    origin: Instant,
    /// Requests that run and read, that run and write, that wait to read, that wait to write.
    kinds: [Mutex<Kind>; 4],
    gauges: [IntGauge; 4],
    /// Seats and places of all levels.
    whole: [AtomicU32; 2],
}

struct Kind {
    now: u32,
    most: u32,
    /// Nanoseconds after the origin until which `held` is known.
    until: u64,
    held: Held,
}

impl Kind {
    fn reach(&mut self, nanos: u64, whole: u32) {
        let passed = nanos.saturating_sub(self.until);
        self.until = self.until.max(nanos);
        self.held.add(self.now, whole, passed);
    }
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
            origin: Instant::now(),
            kinds: [(); 4].map(|()| Mutex::new(Kind { now: 0, most: 0, until: 0, held: Held::new(KINDS) })),
            gauges: [
                of(&running, "readOnly"),
                of(&running, "mutating"),
                of(&waiting, "readOnly"),
                of(&waiting, "mutating"),
            ],
            whole: [const { AtomicU32::new(1) }; 2],
        }
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn whole(&self, waits: bool) -> u32 {
        self.whole.get(usize::from(waits)).map_or(1, |whole| whole.load(Ordering::Relaxed))
    }

    /// Seats and places of all levels from now on.
    pub(crate) fn measure_by(&self, seats: u32, places: u32) {
        for (whole, now) in self.whole.iter().zip([seats, places]) {
            whole.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// One more or less.
    pub(crate) fn add(&self, waits: bool, mutating: bool, change: i32) {
        if let Some(kind) = self.kinds.get(2 * usize::from(waits) + usize::from(mutating)) {
            let (nanos, whole) = (self.nanos(), self.whole(waits));
            let mut kind = kind.lock();
            kind.reach(nanos, whole);
            kind.now = kind.now.saturating_add_signed(change);
            kind.most = kind.most.max(kind.now);
        }
    }

    /// A second has passed.
    pub(crate) fn tell(&self) {
        for (kind, gauge) in self.kinds.iter().zip(&self.gauges) {
            let mut kind = kind.lock();
            gauge.set(i64::from(kind.most));
            kind.most = kind.now;
        }
    }

    /// For how long how many there were, until now.
    pub(crate) fn held(&self) -> [Held; 4] {
        let nanos = self.nanos();
        let mut place = 0;
        self.kinds.each_ref().map(|kind| {
            let whole = self.whole(place >= 2);
            place += 1;
            let mut kind = kind.lock();
            kind.reach(nanos, whole);
            kind.held.clone()
        })
    }
}
