//! Where the time of a request went: a line in the log for one that took long, with the time of each stage.
//!
//! Never changes a request. Source: upstream's request traces, which tell of those that take more than half a second.

use super::received::Trace;
use crate::answer::{Answer, Failure};
use crate::serving;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What took longer is told.
const LONG: Duration = Duration::from_millis(500);

/// The stages that a request has entered, each with the time at which it did. Clones share them.
#[derive(Clone)]
pub(crate) struct Steps(Rc<RefCell<Vec<(&'static str, Instant)>>>);

impl Steps {
    /// Enters the first one.
    pub(crate) fn begin(stage: &'static str) -> Steps {
        let mut steps = Vec::with_capacity(8);
        steps.push((stage, Instant::now()));
        Steps(Rc::new(RefCell::new(steps)))
    }

    /// The stage before is left and this one is entered.
    pub(super) fn enter(&self, stage: &'static str) {
        self.0.borrow_mut().push((stage, Instant::now()));
    }

    /// Each stage with the times after the beginning at which it was entered and left, as of now.
    pub(crate) fn lasted(&self) -> Vec<(&'static str, Duration, Duration)> {
        lasted(&self.0.borrow(), Instant::now())
    }

    /// Tells of the request if it took long, unless it is meant to.
    pub(super) fn tell(&self, trace: &Trace, outcome: &Result<Answer, Failure>) {
        if trace.start.elapsed() < LONG || serving::is_long(&trace.info) {
            return;
        }
        let code = crate::answer::code(outcome);
        let total = trace.start.elapsed().as_millis();
        let info = &trace.info;
        let steps = shown(&self.lasted());
        tracing::info!(
            audit_id = trace.id,
            verb = info.verb,
            path = info.path,
            code,
            total_ms = total,
            steps,
            "a request took long"
        );
    }
}

fn lasted(steps: &[(&'static str, Instant)], now: Instant) -> Vec<(&'static str, Duration, Duration)> {
    let Some((_, begin)) = steps.first() else { return Vec::new() };
    let ends = steps.iter().skip(1).map(|(_, entered)| *entered).chain([now]);
    let after = |time: Instant| time.duration_since(*begin);
    steps.iter().zip(ends).map(|((stage, entered), left)| (*stage, after(*entered), after(left))).collect()
}

/// `identified 1ms, seated 730ms`; what took less than a millisecond is left out.
fn shown(stages: &[(&'static str, Duration, Duration)]) -> String {
    let times = stages.iter().map(|(stage, entered, left)| (stage, *left - *entered));
    let long = times.filter(|(_, time)| *time >= Duration::from_millis(1));
    long.map(|(stage, time)| format!("{stage} {}ms", time.as_millis())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_time() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let steps = [("identified", begin), ("seated", at(2)), ("authorized", at(2)), ("verb", at(700))];
        assert_eq!(shown(&lasted(&steps, at(703))), "identified 2ms, authorized 698ms, verb 3ms");
        assert_eq!(shown(&lasted(&[], begin)), "");
    }
}
