//! Where the time of a request went: a line in the log for one that took long, with the time of each stage, and for the audit and spans what
//! of it was the store's, webhooks' and encoding's.
//!
//! Never changes a request. Source: upstream's request traces, which tell of those that take more than half a second; its trackers of latency.

use super::received::Trace;
use crate::answer::{Answer, Failure};
use crate::serving;
use crate::spans::{Asked, Context};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What took longer is told.
const LONG: Duration = Duration::from_millis(500);

/// A part of the work that a verb does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// The store answers, or a cache comes to where the store is.
    Store,
    /// A webhook that may change the object.
    Mutating,
    /// A webhook that may refuse it.
    Validating,
    /// What is stored is read.
    Decode,
    /// It is made what the client asked for.
    Transform,
    /// That is written.
    Serialize,
}

impl Work {
    /// The annotation of the audit, by upstream's name, and the span.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Work::Store => ("apiserver.latency.k8s.io/etcd", "store"),
            Work::Mutating => ("apiserver.latency.k8s.io/mutating-webhook", "Call mutating webhook"),
            Work::Validating => ("apiserver.latency.k8s.io/validating-webhook", "Call validating webhook"),
            Work::Decode => ("apiserver.latency.k8s.io/decode-response-object", "DecodeObject"),
            Work::Transform => ("apiserver.latency.k8s.io/transform-response-object", "TransformObject"),
            Work::Serialize => ("apiserver.latency.k8s.io/serialize-response-object", "SerializeObject"),
        }
    }
}

/// A time that a part of the work took, from and until after the beginning of the request.
pub(crate) type Passage = (Work, Duration, Duration);

/// Parts of one request that are told apart; those that come later are left out.
const MOST: usize = 64;

/// The stages that a request has entered, each with the time at which it did. Clones share them.
#[derive(Clone)]
pub(crate) struct Steps(Rc<RefCell<Taken>>);

#[derive(Default)]
struct Taken {
    stages: Vec<(&'static str, Instant)>,
    parts: Vec<(Work, Instant, Instant)>,
    /// Where it is in a trace, if others are to be told.
    context: Option<Arc<Context>>,
    asked: Vec<Asked>,
}

tokio::task_local! {
    /// Those of the request that is worked on, where somebody wants to know of its parts.
    static CURRENT: Steps;
}

/// The stages of the request that is worked on, where somebody wants to know of its parts.
pub(crate) fn current() -> Option<Steps> {
    CURRENT.try_with(Steps::clone).ok()
}

/// Does work that is a part of a request's.
pub(crate) async fn timed<T>(part: Work, work: impl Future<Output = T>) -> T {
    if CURRENT.try_with(|_| ()).is_err() {
        return work.await;
    }
    let from = Instant::now();
    let done = work.await;
    let _ = CURRENT.try_with(|steps| steps.took(part, from, Instant::now()));
    done
}

/// Does at once work that is a part of a request's.
pub(crate) fn during<T>(part: Work, work: impl FnOnce() -> T) -> T {
    let Ok(steps) = CURRENT.try_with(Steps::clone) else { return work() };
    let from = Instant::now();
    let done = work();
    steps.took(part, from, Instant::now());
    done
}

/// A part of a request's work is done that took so long.
pub(crate) fn lately(part: Work, took: Duration) {
    let now = Instant::now();
    let _ = CURRENT.try_with(|steps| steps.took(part, now.checked_sub(took).unwrap_or(now), now));
}

impl Steps {
    /// The first one was entered so long ago.
    #[cfg(test)]
    pub(crate) fn aged(stage: &'static str, age: Duration) -> Steps {
        let steps = Steps::begin(stage);
        for (_, entered) in &mut steps.0.borrow_mut().stages {
            *entered = entered.checked_sub(age).unwrap_or(*entered);
        }
        steps
    }

    /// Enters the first one.
    pub(crate) fn begin(stage: &'static str) -> Steps {
        let mut stages = Vec::with_capacity(8);
        stages.push((stage, Instant::now()));
        Steps(Rc::new(RefCell::new(Taken { stages, ..Taken::default() })))
    }

    /// The stage before is left and this one is entered.
    pub(super) fn enter(&self, stage: &'static str) {
        self.0.borrow_mut().stages.push((stage, Instant::now()));
    }

    /// Does the work of this request, whose parts are to be told.
    pub(crate) async fn watched<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.borrow().stages.first().map_or(Duration::ZERO, |(_, begin)| begin.elapsed())
    }

    fn took(&self, part: Work, from: Instant, until: Instant) {
        let parts = &mut self.0.borrow_mut().parts;
        if parts.len() < MOST {
            parts.push((part, from, until));
        }
    }

    /// The request is there in a trace.
    pub(crate) fn place(&self, context: Context) {
        self.0.borrow_mut().context = Some(Arc::new(context));
    }

    /// Where in a trace the request is, if others are to be told.
    pub(crate) fn context(&self) -> Option<Arc<Context>> {
        self.0.borrow().context.clone()
    }

    /// Another server was asked.
    pub(crate) fn asked(&self, asked: Asked) {
        let all = &mut self.0.borrow_mut().asked;
        if all.len() < MOST {
            all.push(asked);
        }
    }

    /// Other servers that were asked, each with the times after the beginning; they are told once.
    pub(crate) fn take_asked(&self) -> Vec<(Asked, Duration, Duration)> {
        let mut taken = self.0.borrow_mut();
        let Some((_, begin)) = taken.stages.first().copied() else { return Vec::new() };
        let after = |time: Instant| time.saturating_duration_since(begin);
        let all = std::mem::take(&mut taken.asked).into_iter();
        all.map(|asked| (after(asked.from), after(asked.until), asked))
            .map(|(from, until, asked)| (asked, from, until))
            .collect()
    }

    /// Each stage with the times after the beginning at which it was entered and left, as of now.
    pub(crate) fn lasted(&self) -> Vec<(&'static str, Duration, Duration)> {
        lasted(&self.0.borrow().stages, Instant::now())
    }

    /// The parts of the work that are done, in the order in which they were.
    pub(crate) fn parts(&self) -> Vec<Passage> {
        let taken = self.0.borrow();
        let Some((_, begin)) = taken.stages.first() else { return Vec::new() };
        let after = |time: Instant| time.saturating_duration_since(*begin);
        taken.parts.iter().map(|(part, from, until)| (*part, after(*from), after(*until))).collect()
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

    #[tokio::test]
    async fn parts_are_told_of_requests_that_are_watched() {
        let steps = Steps::begin("identified");
        assert_eq!(timed(Work::Store, async { 1 }).await + during(Work::Serialize, || 2), 3);
        lately(Work::Mutating, Duration::from_secs(1));
        assert_eq!(steps.parts(), []);
        steps
            .watched(async {
                timed(Work::Store, async {}).await;
                // It began before the request did: nothing is earlier than that.
                lately(Work::Mutating, Duration::from_secs(1));
                for _ in 0..2 * MOST {
                    during(Work::Decode, || ());
                }
            })
            .await;
        let parts = steps.parts();
        let kinds: Vec<Work> = parts.iter().take(3).map(|(part, _, _)| *part).collect();
        assert_eq!((kinds.as_slice(), parts.len()), (&[Work::Store, Work::Mutating, Work::Decode][..], MOST));
        assert!(parts.iter().all(|(_, from, until)| from <= until), "{parts:?}");
    }
}
