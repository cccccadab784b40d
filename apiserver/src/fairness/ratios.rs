//! How full levels were, and for how long: histograms whose samples are the nanoseconds, as upstream's timing histograms.
//!
//! What happens moves a `Held` in the part that knows of it; when somebody asks, copies become families. Never reads a clock.

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::HashMap;
use std::sync::Arc;

/// Upper bounds of seats in use.
pub(crate) const SEATS: &[f64] = &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
/// Of requests of a level.
pub(crate) const REQUESTS: &[f64] = &[0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0];
/// Of requests that read and that write.
pub(crate) const KINDS: &[f64] = &[0.0, 0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
/// Of seats wanted.
pub(crate) const DEMAND: &[f64] = &[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0];

/// For how many nanoseconds a number was in which bucket.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    bounds: &'static [f64],
    /// One more than bounds.
    nanos: Vec<u64>,
    sum: f64,
}

impl Held {
    pub(crate) fn new(bounds: &'static [f64]) -> Held {
        Held { bounds, nanos: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// It was `part` of `whole` for so long. A whole of nothing counts as one.
    pub(crate) fn add(&mut self, part: u32, whole: u32, nanos: u64) {
        let value = f64::from(part) / f64::from(whole.max(1));
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.nanos.get_mut(bucket) {
            *bucket += nanos;
        }
        self.sum += value * nanos as f64;
    }

    fn metric(&self, labels: &[(&str, &str)]) -> Metric {
        let mut sum = 0;
        let bucket = |(bound, nanos): (&f64, &u64)| {
            sum += nanos;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(sum);
            bucket
        };
        let buckets = self.bounds.iter().zip(&self.nanos).map(bucket).collect();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(self.nanos.iter().sum());
        histogram.set_sample_sum(self.sum);
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        metric.set_histogram(histogram);
        metric
    }
}

/// How full a level was.
#[derive(Clone, Debug)]
pub(crate) struct Fullness {
    /// Seats for now, or what stands for them where there are none.
    pub(crate) seats: u32,
    /// Requests that may wait.
    pub(crate) places: u32,
    in_use: Held,
    running: Held,
    waiting: Held,
    wanted: Held,
}

impl Fullness {
    pub(crate) fn new() -> Fullness {
        Fullness {
            seats: 1,
            places: 1,
            in_use: Held::new(SEATS),
            running: Held::new(REQUESTS),
            waiting: Held::new(REQUESTS),
            wanted: Held::new(DEMAND),
        }
    }

    /// So it was for so many nanoseconds: seats in use and wanted, requests that run and wait.
    pub(crate) fn held(&mut self, nanos: u64, seats: (u32, u32), requests: (usize, usize)) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.in_use.add(seats.0, self.seats, nanos);
        self.wanted.add(seats.1, self.seats, nanos);
        self.running.add(number(requests.0), self.seats, nanos);
        self.waiting.add(number(requests.1), self.places, nanos);
    }
}

/// A family and what it shows.
struct Shown {
    desc: Desc,
    metrics: Vec<Metric>,
}

/// The four families. Clones share them.
#[derive(Clone)]
pub(crate) struct Ratios(Arc<Mutex<[Shown; 4]>>, Arc<[Desc; 4]>);

impl Ratios {
    /// # Panics
    /// When a name is none: a mistake in this file.
    pub(crate) fn new() -> Ratios {
        let desc = |(name, help): (&str, &str), labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            let name = format!("apiserver_flowcontrol_{name}");
            Desc::new(name, help.to_owned(), labels, HashMap::new()).expect("a constant name is valid")
        };
        let descs = [
            desc(
                ("priority_level_seat_utilization", "For how many nanoseconds which part of its seats a level used."),
                &["phase", "priority_level"],
            ),
            desc(
                (
                    "priority_level_request_utilization",
                    "For how many nanoseconds how many requests of a level waited or ran, as a part of its places or seats.",
                ),
                &["phase", "priority_level"],
            ),
            desc(
                ("demand_seats", "For how many nanoseconds how many of its seats a level could have used."),
                &["priority_level"],
            ),
            desc(
                (
                    "read_vs_write_current_requests",
                    "For how many nanoseconds how many requests waited or ran, as a part of all places or seats.",
                ),
                &["phase", "request_kind"],
            ),
        ];
        let shown = descs.clone().map(|desc| Shown { desc, metrics: Vec::new() });
        Ratios(Arc::new(Mutex::new(shown)), Arc::new(descs))
    }

    /// Shows these levels, and how many requests read and wrote: waiting and running, those that read first.
    pub(crate) fn show(&self, levels: &[(&str, Fullness)], kinds: &[Held; 4]) {
        let mut families = self.0.lock();
        let [seats, requests, demand, by_kind] = &mut *families;
        for family in [&mut *seats, &mut *requests, &mut *demand, &mut *by_kind] {
            family.metrics.clear();
        }
        for (level, full) in levels {
            let labels = |phase| [("phase", phase), ("priority_level", *level)];
            seats.metrics.push(full.in_use.metric(&labels("executing")));
            requests.metrics.push(full.running.metric(&labels("executing")));
            requests.metrics.push(full.waiting.metric(&labels("waiting")));
            demand.metrics.push(full.wanted.metric(&[("priority_level", *level)]));
        }
        let named =
            [("executing", "readOnly"), ("executing", "mutating"), ("waiting", "readOnly"), ("waiting", "mutating")];
        let shown = named.iter().zip(kinds);
        by_kind
            .metrics
            .extend(shown.map(|((phase, kind), held)| held.metric(&[("phase", *phase), ("request_kind", *kind)])));
    }
}

impl Collector for Ratios {
    fn desc(&self) -> Vec<&Desc> {
        self.1.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let families = self.0.lock();
        let filled = families.iter().filter(|shown| !shown.metrics.is_empty());
        let family = |shown: &Shown| {
            let mut family = MetricFamily::default();
            family.set_name(shown.desc.fq_name.clone());
            family.set_help(shown.desc.help.clone());
            family.set_field_type(MetricType::HISTOGRAM);
            family.set_metric(shown.metrics.clone());
            family
        };
        filled.map(family).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_where_the_number_was() {
        let mut full = Fullness { seats: 4, places: 10, ..Fullness::new() };
        full.held(1000, (2, 8), (1, 0));
        full.held(500, (4, 4), (4, 5));
        let ratios = Ratios::new();
        ratios.show(&[("a", full)], &[(); 4].map(|()| Held::new(KINDS)));
        let registry = prometheus::Registry::new();
        registry.register(Box::new(ratios)).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let level = "phase=\"executing\",priority_level=\"a\"";
        for line in [
            &format!("priority_level_seat_utilization_bucket{{{level},le=\"0.4\"}} 0"),
            &format!("priority_level_seat_utilization_bucket{{{level},le=\"0.5\"}} 1000"),
            &format!("priority_level_seat_utilization_bucket{{{level},le=\"0.99\"}} 1000"),
            &format!("priority_level_seat_utilization_bucket{{{level},le=\"1\"}} 1500"),
            &format!("priority_level_seat_utilization_sum{{{level}}} 1000"),
            &format!("priority_level_request_utilization_sum{{{level}}} 750"),
            "priority_level_request_utilization_bucket{phase=\"waiting\",priority_level=\"a\",le=\"0\"} 1000",
            "priority_level_request_utilization_bucket{phase=\"waiting\",priority_level=\"a\",le=\"0.5\"} 1500",
            "demand_seats_bucket{priority_level=\"a\",le=\"1\"} 500",
            "demand_seats_bucket{priority_level=\"a\",le=\"2\"} 1500",
            "demand_seats_count{priority_level=\"a\"} 1500",
        ] {
            let line = format!("apiserver_flowcontrol_{line}");
            assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
        }
    }
}
