//! How long rules of custom resources take to be read and asked, by upstream's names (`apiserver/pkg/cel/metrics` of v1.36).
//!
//! Of the whole process, as the rules are: several servers in one tell the same.

use api::custom::timed::{Timer, Work, set_timer};
use prometheus::{Histogram, HistogramOpts, Registry};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
static TIMES: LazyLock<[Histogram; 2]> = LazyLock::new(|| {
    [
        ("apiserver_cel_compilation_duration_seconds", "Time to read rules of custom resources, in seconds."),
        ("apiserver_cel_evaluation_duration_seconds", "Time to ask rules of custom resources, in seconds."),
    ]
    .map(|(name, help)| Histogram::with_opts(HistogramOpts::new(name, help)).expect("a constant name is valid"))
});

fn tell(work: Work, took: Duration) {
    let [compilation, evaluation] = &*TIMES;
    let histogram = match work {
        Work::Compilation => compilation,
        Work::Evaluation => evaluation,
    };
    histogram.observe(took.as_secs_f64());
}

/// Begins to measure, and shows it here.
pub(super) fn show(registry: &Registry) {
    set_timer(Timer { now: || BEGIN.elapsed(), tell });
    for times in &*TIMES {
        super::registered(registry, Ok(times.clone()));
    }
}
