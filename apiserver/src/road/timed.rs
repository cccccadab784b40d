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

/// The stages that a request has passed, each with the time at which it had. Clones share them.
#[derive(Clone)]
pub(super) struct Steps(Rc<RefCell<Vec<(&'static str, Instant)>>>);

impl Steps {
    pub(super) fn begin() -> Steps {
        let mut steps = Vec::with_capacity(8);
        steps.push(("", Instant::now()));
        Steps(Rc::new(RefCell::new(steps)))
    }

    /// A stage is passed.
    pub(super) fn done(&self, stage: &'static str) {
        self.0.borrow_mut().push((stage, Instant::now()));
    }

    /// Tells of the request if it took long, unless it is meant to.
    pub(super) fn tell(&self, trace: &Trace, outcome: &Result<Answer, Failure>) {
        if trace.start.elapsed() < LONG || serving::is_long(&trace.info) {
            return;
        }
        self.done("answered");
        let code = match outcome {
            Ok(answer) => answer.code,
            Err(Failure::Status(status)) => status.code,
            Err(Failure::Store { .. }) => 500,
        };
        let total = trace.start.elapsed().as_millis();
        let info = &trace.info;
        let steps = shown(&self.0.borrow());
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

/// `identified 1ms, seated 730ms`; what took less than a millisecond is left out.
fn shown(steps: &[(&'static str, Instant)]) -> String {
    let spans = steps.iter().zip(steps.iter().skip(1)).map(|((_, from), (stage, to))| (*stage, *to - *from));
    let long = spans.filter(|(_, span)| *span >= Duration::from_millis(1));
    long.map(|(stage, span)| format!("{stage} {}ms", span.as_millis())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_time() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let steps =
            [("", begin), ("identified", at(2)), ("seated", at(2)), ("authorized", at(700)), ("answered", at(703))];
        assert_eq!(shown(&steps), "identified 2ms, authorized 698ms, answered 3ms");
        assert_eq!(shown(&[("", begin)]), "");
    }
}
