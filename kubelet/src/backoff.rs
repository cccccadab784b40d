//! Exponential delays between attempts. No clock: every call takes the time.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Delays that double from a first value to a longest one and are forgotten after a quiet time.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: SignedDuration,
    longest: SignedDuration,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// Upstream's delays for crashed containers and image pulls: 10 s doubling to 5 min.
    pub fn upstream() -> Self {
        Self::new(SignedDuration::from_secs(10), SignedDuration::from_secs(300))
    }

    /// Delays from `first`, doubling, to `longest`.
    pub fn new(first: SignedDuration, longest: SignedDuration) -> Self {
        Self { first, longest, entries: BTreeMap::new() }
    }

    /// The delay in force for `key` and when it ends, counted from `since`; `None` when an attempt may be made.
    pub fn pending(&self, key: &str, since: Timestamp, now: Timestamp) -> Option<(SignedDuration, Timestamp)> {
        let entry = self.entries.get(key)?;
        if self.expired(entry, since) {
            return None;
        }
        let end = since.checked_add(entry.delay).ok()?;
        (now < end).then_some((entry.delay, end))
    }

    /// Records an attempt at `at` and returns the delay that the next one must keep.
    pub fn next(&mut self, key: &str, at: Timestamp) -> SignedDuration {
        let delay = match self.entries.get(key) {
            Some(entry) if !self.expired(entry, at) => (entry.delay * 2).min(self.longest),
            _ => self.first,
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: at });
        delay
    }

    /// When the last attempt under `key` was recorded.
    pub fn updated(&self, key: &str) -> Option<Timestamp> {
        self.entries.get(key).map(|entry| entry.updated)
    }

    /// Forgets `key`.
    pub fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn expired(&self, entry: &Entry, at: Timestamp) -> bool {
        at.duration_since(entry.updated) > self.longest * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn delays_double_to_the_longest_and_are_forgotten_when_quiet() {
        let mut backoff = Backoff::upstream();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..7 {
            delays.push(backoff.next("c", at(now)).as_secs());
            now += 300;
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.next("c", at(now + 601)).as_secs(), 10);
    }

    #[test]
    fn an_attempt_waits_from_the_end_of_the_last_run() {
        let mut backoff = Backoff::upstream();
        assert!(backoff.pending("c", at(0), at(0)).is_none());
        backoff.next("c", at(0));
        assert_eq!(backoff.pending("c", at(5), at(6)).map(|(_, end)| end), Some(at(15)));
        assert!(backoff.pending("c", at(5), at(15)).is_none());
    }
}
