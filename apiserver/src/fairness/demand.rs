//! How many seats a priority level could use, over time: running and lingering requests and those that wait.
//!
//! Never reads a clock. Source: KEP-1040, "Dispatching" and "Priority Level Concurrency Borrowing".

/// A level that changes now and then, integrated. Seats, and times in nanoseconds.
pub(crate) struct Demand {
    since: u64,
    at: u64,
    seats: u32,
    most: u32,
    sum: f64,
    squares: f64,
}

/// What a level wanted over some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    /// Seconds; nothing else counts where it is zero.
    pub(crate) seconds: f64,
    pub(crate) average: f64,
    pub(crate) deviation: f64,
    pub(crate) most: u32,
}

impl Demand {
    pub(crate) fn new(now: u64) -> Demand {
        Demand { since: now, at: now, seats: 0, most: 0, sum: 0.0, squares: 0.0 }
    }

    pub(crate) fn set(&mut self, now: u64, seats: u32) {
        self.reach(now);
        self.seats = seats;
        self.most = self.most.max(seats);
    }

    fn reach(&mut self, now: u64) {
        let (passed, seats) = (now.saturating_sub(self.at) as f64, f64::from(self.seats));
        self.at = self.at.max(now);
        self.sum += seats * passed;
        self.squares += seats * seats * passed;
    }

    /// What was wanted until now, and begins anew.
    pub(crate) fn take(&mut self, now: u64) -> Moments {
        self.reach(now);
        let passed = self.at.saturating_sub(self.since) as f64;
        let average = if passed > 0.0 { self.sum / passed } else { 0.0 };
        let variance = if passed > 0.0 { self.squares / passed - average * average } else { 0.0 };
        let moments = Moments { seconds: passed / 1e9, average, deviation: variance.max(0.0).sqrt(), most: self.most };
        *self = Demand { since: self.at, at: self.at, seats: self.seats, most: self.seats, sum: 0.0, squares: 0.0 };
        moments
    }
}

/// What a level is expected to want.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Expected {
    pub(crate) average: f64,
    pub(crate) deviation: f64,
    pub(crate) most: u32,
    /// Rises at once with the demand and falls by half in five minutes.
    pub(crate) smoothed: f64,
}

/// How much of the old value stays after one period of ten seconds: half of it after thirty.
const KEPT: f64 = 0.977;

impl Expected {
    pub(crate) fn note(&mut self, seen: Moments) {
        self.most = seen.most;
        if seen.seconds <= 0.0 {
            return;
        }
        let wanted = seen.average + seen.deviation;
        self.average = seen.average;
        self.deviation = seen.deviation;
        self.smoothed = wanted.max(KEPT * self.smoothed + (1.0 - KEPT) * wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn demand_is_weighed_by_time() {
        let mut demand = Demand::new(5 * SECOND);
        demand.set(5 * SECOND, 4);
        demand.set(6 * SECOND, 0);
        let seen = demand.take(9 * SECOND);
        assert_eq!((seen.seconds, seen.average, seen.most), (4.0, 1.0, 4));
        assert!((seen.deviation - 3f64.sqrt()).abs() < 1e-9, "{seen:?}");
        // The next period begins with what is wanted at its start.
        demand.set(9 * SECOND, 7);
        demand.take(9 * SECOND);
        let seen = demand.take(10 * SECOND);
        assert_eq!((seen.average, seen.deviation, seen.most), (7.0, 0.0, 7));
        assert_eq!(demand.take(10 * SECOND).seconds, 0.0);
    }

    #[test]
    fn expectation_rises_at_once_and_falls_slowly() {
        let mut expected = Expected::default();
        let seen = |average| Moments { seconds: 10.0, average, deviation: 0.0, most: 1 };
        expected.note(seen(100.0));
        assert!((expected.smoothed - 100.0).abs() < 1e-9);
        for _ in 0..30 {
            expected.note(seen(0.0));
        }
        assert!((49.0..51.0).contains(&expected.smoothed), "{expected:?}");
        expected.note(Moments { seconds: 0.0, average: 9.0, deviation: 0.0, most: 3 });
        assert_eq!((expected.most, expected.average), (3, 0.0));
    }
}
