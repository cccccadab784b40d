//! Requests that last: how many watches, connections and logs there are now, and how long watches took to tell what there was when they began.
//!
//! Never ends one.

use super::{place, registered};
use crate::road::received::RequestInfo;
use api::served::Served;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Those that last, by what they ask for.
pub(crate) struct Lasting {
    running: IntGaugeVec,
    lists: HistogramVec,
}

/// One of them, until it is dropped.
pub(crate) struct Running(IntGauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Lasting {
    /// Registers both.
    pub(super) fn new(registry: &Registry) -> Lasting {
        let running = IntGaugeVec::new(
            Opts::new("apiserver_longrunning_requests", "Watches, connections and logs that go on."),
            &["verb", "group", "version", "resource", "subresource", "scope", "component"],
        );
        let buckets = vec![0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
        let options = HistogramOpts::new(
            "apiserver_watch_list_duration_seconds",
            "Time until a watch has told all that there was when it began, in seconds.",
        );
        let lists = HistogramVec::new(options.buckets(buckets), &["group", "version", "resource", "scope"]);
        let (running, lists) = (registered(registry, running), registered(registry, lists));
        Lasting { running, lists }
    }

    /// Counts one that begins.
    pub(crate) fn begin(&self, served: &Served, counted: &'static str, info: &RequestInfo) -> Running {
        let [group, version, resource, part, scope, component] = place(served, info);
        let running = self.running.with_label_values(&[counted, group, version, resource, part, scope, component]);
        running.inc();
        Running(running)
    }

    /// Takes the seconds after which a watch has told what there was.
    pub(crate) fn lists(&self, served: &Served, info: &RequestInfo) -> Histogram {
        let [group, version, resource, _, scope, _] = place(served, info);
        self.lists.with_label_values(&[group, version, resource, scope])
    }
}
