//! `Retry-After`: how long those who were refused should stay away. Twice as long when many are refused, a second less when few are.
//!
//! Never reads a clock. Source: upstream's tracker of dropped requests.

use std::collections::VecDeque;

/// Seconds.
const LONGEST: u64 = 32;

/// What one level has refused lately, by seconds.
#[derive(Default)]
pub(crate) struct Drops {
    /// Seconds before the current one, and how many were refused in them; oldest first.
    before: VecDeque<(u64, u64)>,
    current: (u64, u64),
    /// Beyond one second.
    further: u64,
    raised: Option<u64>,
}

impl Drops {
    /// Notes a request that is refused in this second and says how many seconds its client should wait.
    pub(crate) fn refuse(&mut self, second: u64) -> u64 {
        if self.current.0 == second {
            self.current.1 += 1;
            return self.further + 1;
        }
        self.before.push_back(self.current);
        let wait = self.further + 1;
        let kept = (2 * wait).min(LONGEST);
        let last = self.current.0;
        self.before.retain(|(at, _)| last.saturating_sub(*at) <= kept);
        self.current = (second, 1);
        let recent = self.before.iter().filter(|(at, _)| second.saturating_sub(*at) <= wait && *at < second);
        let refused: u64 = recent.map(|(_, count)| count).sum();
        let rested = self.raised.is_none_or(|raised| second.saturating_sub(raised) >= wait);
        if rested && refused >= 3 * wait {
            self.further = (2 * wait).min(LONGEST) - 1;
            self.raised = Some(second);
        } else if refused < wait {
            self.further = self.further.saturating_sub(1);
        }
        self.further + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_send_clients_further_away() {
        let mut drops = Drops::default();
        let mut second = |at: u64, refused: u64| (0..refused).map(|_| drops.refuse(at)).last().unwrap();
        assert_eq!(second(1000, 2), 1);
        assert_eq!(second(1001, 3), 1);
        // Three in the second before.
        assert_eq!(second(1002, 20), 2);
        // Not again before two seconds have passed.
        assert_eq!(second(1003, 20), 2);
        assert_eq!(second(1004, 20), 4);
        assert_eq!(second(1008, 200), 8);
        for (at, want) in [(1016, 16), (1032, 32), (1064, 32)] {
            assert_eq!(second(at, 200), want);
        }
        // A little less after each second in which few were refused.
        assert_eq!(second(1200, 1), 31);
        assert_eq!(second(1201, 1), 30);
    }
}
