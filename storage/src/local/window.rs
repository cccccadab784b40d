//! The conflict window: which keys recent commits wrote, kept for as long as a running transaction may need to know.
//!
//! Holds no values. Forgetting too early is answered with [`KvError::TooOld`], never with a wrong yes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::Span;
use crate::kv::{KvError, Version};

/// The most remembered writes; beyond, the oldest are forgotten and transactions older than them fail with `TooOld`.
const MAX_ENTRIES: usize = 1_000_000;

/// Writes of recent commits.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The newest version that wrote each key.
    keys: BTreeMap<Bytes, Version>,
    /// Written ranges, oldest first.
    ranges: VecDeque<(Version, Bytes, Bytes)>,
    /// What each commit wrote, oldest first, to forget it by.
    order: VecDeque<(Version, Bytes)>,
    /// Writes up to here are forgotten.
    floor: Version,
}

impl Window {
    /// A window over a store whose last commit was `version`.
    pub(crate) fn new(version: Version) -> Self {
        Self { floor: version, ..Self::default() }
    }

    /// Fails when something in `reads`, seen at `read_version`, has been written since.
    pub(crate) fn check(&self, read_version: Version, reads: &[Span]) -> Result<(), KvError> {
        if reads.is_empty() {
            return Ok(());
        }
        if read_version < self.floor {
            return Err(KvError::TooOld);
        }
        let newer = |v: &Version| *v > read_version;
        for span in reads {
            let hit = match span {
                Span::Key(key) => {
                    self.keys.get(key).is_some_and(newer)
                        || self.newer_ranges(read_version).any(|(_, begin, end)| begin <= key && key < end)
                }
                Span::Range(begin, end) if begin < end => {
                    let bounds = (Bound::Included(begin), Bound::Excluded(end));
                    self.keys.range::<Bytes, _>(bounds).any(|(_, v)| newer(v))
                        || self.newer_ranges(read_version).any(|(_, b, e)| b < end && begin < e)
                }
                Span::Range(..) => false,
            };
            if hit {
                return Err(KvError::Conflict);
            }
        }
        Ok(())
    }

    fn newer_ranges(&self, than: Version) -> impl Iterator<Item = &(Version, Bytes, Bytes)> {
        self.ranges.iter().rev().take_while(move |(v, _, _)| *v > than)
    }

    /// Remembers what the commit at `version` wrote. Versions come in growing order.
    pub(crate) fn record(&mut self, version: Version, written: Vec<Span>) {
        for span in written {
            match span {
                Span::Key(key) => {
                    self.keys.insert(key.clone(), version);
                    self.order.push_back((version, key));
                }
                Span::Range(begin, end) if begin < end => self.ranges.push_back((version, begin, end)),
                Span::Range(..) => {}
            }
        }
        while self.order.len() + self.ranges.len() > MAX_ENTRIES {
            let oldest =
                self.order.front().map(|(v, _)| *v).into_iter().chain(self.ranges.front().map(|(v, ..)| *v)).min();
            let Some(oldest) = oldest else { break };
            self.forget(oldest);
        }
    }

    /// Forgets the writes of commits up to `version`: no running transaction has an older read version.
    pub(crate) fn forget(&mut self, version: Version) {
        if version <= self.floor {
            return;
        }
        self.floor = version;
        while let Some((_, key)) = self.order.pop_front_if(|(v, _)| *v <= version) {
            if self.keys.get(&key).is_some_and(|v| *v <= version) {
                self.keys.remove(&key);
            }
        }
        while self.ranges.pop_front_if(|(v, ..)| *v <= version).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(k: &'static str) -> Span {
        Span::Key(Bytes::from_static(k.as_bytes()))
    }

    fn range(a: &'static str, b: &'static str) -> Span {
        Span::Range(Bytes::from_static(a.as_bytes()), Bytes::from_static(b.as_bytes()))
    }

    #[test]
    fn finds_what_was_written_since_and_only_that() {
        let mut window = Window::new(Version(10));
        window.record(Version(11), vec![key("b")]);
        window.record(Version(12), vec![range("m", "p")]);
        window.record(Version(13), vec![key("b"), range("x", "x")]);
        let cases = [
            (10, key("b"), Err(KvError::Conflict)),
            (12, key("b"), Err(KvError::Conflict)),
            (13, key("b"), Ok(())),
            (10, key("a"), Ok(())),
            (11, key("m"), Err(KvError::Conflict)),
            (12, key("m"), Ok(())),
            (11, key("p"), Ok(())),
            (12, range("a", "c"), Err(KvError::Conflict)),
            (12, range("c", "z"), Ok(())),
            (11, range("o", "z"), Err(KvError::Conflict)),
            (11, range("p", "z"), Ok(())),
            (10, range("b", "b"), Ok(())),
            (10, range("c", "a"), Ok(())),
            (9, key("a"), Err(KvError::TooOld)),
        ];
        for (read, span, want) in cases {
            assert_eq!(window.check(Version(read), std::slice::from_ref(&span)), want, "{span:?} read at {read}");
        }
        window.forget(Version(12));
        assert_eq!(window.check(Version(11), &[key("a")]), Err(KvError::TooOld));
        assert_eq!(window.check(Version(12), &[key("b")]), Err(KvError::Conflict));
        window.forget(Version(13));
        assert!(window.keys.is_empty() && window.order.is_empty() && window.ranges.is_empty());
    }
}
