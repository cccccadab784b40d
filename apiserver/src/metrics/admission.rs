//! How long admission takes, plugin by plugin and pass by pass, by upstream's names.
//!
//! Never slows a write down by looking labels up: the histogram of each plugin, pass, operation and outcome is found once.

use super::registered;
use admission::{Meter, Operation, Ran, Step};
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};
use std::sync::OnceLock;
use std::time::Duration;

const OPERATIONS: [Operation; 4] = [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];
const STEPS: [(Step, &str); 2] = [(Step::Admit, "admit"), (Step::Validate, "validate")];
/// Histograms of one plugin, and of all together.
const EACH: usize = OPERATIONS.len() * STEPS.len() * 2;

/// What plugins took.
pub struct Admission {
    names: Vec<&'static str>,
    controllers: HistogramVec,
    steps: HistogramVec,
    /// Those of the passes, then those of each plugin; made when they are first needed, so that nothing is shown of what never ran.
    found: Vec<OnceLock<Histogram>>,
}

impl Admission {
    /// For plugins of these names, in their order.
    ///
    /// # Panics
    /// When two metrics share a name: a mistake in this file.
    #[must_use]
    pub fn new(names: Vec<&'static str>, registry: &Registry) -> Admission {
        let family = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(vec![0.005, 0.025, 0.1, 0.5, 1.0, 2.5]);
            registered(registry, HistogramVec::new(options, labels))
        };
        let found = std::iter::repeat_with(OnceLock::new).take((names.len() + 1) * EACH).collect();
        Admission {
            names,
            controllers: family(
                "apiserver_admission_controller_admission_duration_seconds",
                "Time that an admission plugin took, in seconds, by its name, the operation and the pass (admit or validate).",
                &["name", "type", "operation", "rejected"],
            ),
            steps: family(
                "apiserver_admission_step_admission_duration_seconds",
                "Time that a pass of admission took, in seconds, by the operation and the pass (admit or validate).",
                &["type", "operation", "rejected"],
            ),
            found,
        }
    }

    fn histogram(&self, ran: Ran) -> Option<&Histogram> {
        let operation = OPERATIONS.iter().position(|known| *known == ran.operation)?;
        let step = STEPS.iter().position(|(known, _)| *known == ran.step)?;
        let within = (operation * STEPS.len() + step) * 2 + usize::from(ran.rejected);
        let slot = self.found.get(ran.plugin.map_or(0, |place| place + 1) * EACH + within)?;
        let (_, step) = STEPS.get(step)?;
        let (operation, rejected) = (ran.operation.name(), if ran.rejected { "true" } else { "false" });
        Some(slot.get_or_init(|| match ran.plugin.and_then(|place| self.names.get(place)) {
            Some(name) => self.controllers.with_label_values(&[name, step, operation, rejected]),
            None => self.steps.with_label_values(&[step, operation, rejected]),
        }))
    }
}

impl Meter for Admission {
    fn took(&self, ran: Ran, time: Duration) {
        if let Some(histogram) = self.histogram(ran) {
            histogram.observe(time.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plugin_pass_operation_and_outcome_is_counted_apart() {
        let registry = Registry::new();
        let admission = Admission::new(vec!["First", "Second"], &registry);
        for plugin in [None, Some(0), Some(1), Some(2)] {
            for (step, _) in STEPS {
                for operation in OPERATIONS {
                    for rejected in [false, true] {
                        admission.took(Ran { plugin, step, operation, rejected }, Duration::from_millis(7));
                    }
                }
            }
        }
        let text = crate::metrics::text(&registry);
        let counts: Vec<&str> = text.lines().filter(|line| line.contains("_count{")).collect();
        assert_eq!(counts.len(), 3 * EACH, "{text}");
        assert!(counts.iter().all(|line| line.ends_with(" 1")), "{text}");
        for line in [
            "apiserver_admission_controller_admission_duration_seconds_bucket{name=\"Second\",operation=\"CONNECT\",rejected=\"true\",type=\"validate\",le=\"0.025\"} 1",
            "apiserver_admission_step_admission_duration_seconds_bucket{operation=\"UPDATE\",rejected=\"false\",type=\"admit\",le=\"0.005\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }
}
