//! What validating policies made of writes, by upstream's names (`apiserver/pkg/admission/plugin/policy/validating/metrics` of v1.36).
//!
//! Rules that are kept are not counted, as upstream.

use super::registered;
use admission::dynamic::Judged;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// See the file.
pub(crate) struct Policies {
    checks: IntCounterVec,
    durations: HistogramVec,
}

impl Policies {
    pub(crate) fn new(registry: &Registry) -> Policies {
        const LABELS: [&str; 4] = ["policy", "policy_binding", "error_type", "enforcement_action"];
        let named = |name: &str| format!("apiserver_validating_admission_policy_{name}");
        let checks = Opts::new(
            named("check_total"),
            "Rules of validating admission policies that were not kept, by policy, binding, kind of error and what followed.",
        );
        let durations = HistogramOpts::new(
            named("check_duration_seconds"),
            "Time that evaluating such a rule took, in seconds, by policy, binding, kind of error and what followed.",
        );
        let durations = durations.buckets(vec![0.000_000_5, 0.001, 0.01, 0.1, 1.0]);
        Policies {
            checks: registered(registry, IntCounterVec::new(checks, &LABELS)),
            durations: registered(registry, HistogramVec::new(durations, &LABELS)),
        }
    }

    pub(crate) fn tell(&self, judged: &Judged<'_>) {
        let labels = [judged.policy, judged.binding, judged.error, judged.action];
        self.checks.with_label_values(&labels).inc();
        self.durations.with_label_values(&labels).observe(judged.took.as_secs_f64());
    }
}
