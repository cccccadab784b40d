//! How long rules of custom resources take, told to whoever gave a clock: this crate has none.
//!
//! Measures nothing unless somebody wants to know.

use std::sync::OnceLock;
use std::time::Duration;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The rules of one schema are read.
    Compilation,
    /// The rules of one value, and of those in it, are asked.
    Evaluation,
}

/// A clock, and who wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// The time since some moment that stays the same.
    pub now: fn() -> Duration,
    /// Is told how long it took.
    pub tell: fn(Work, Duration),
}

static TIMER: OnceLock<Timer> = OnceLock::new();

/// Gives the process its timer; the first stays.
pub fn set_timer(timer: Timer) {
    let _ = TIMER.set(timer);
}

pub(super) fn timed<T>(work: Work, what: impl FnOnce() -> T) -> T {
    let Some(timer) = TIMER.get() else { return what() };
    let begin = (timer.now)();
    let done = what();
    (timer.tell)(work, (timer.now)().saturating_sub(begin));
    done
}
