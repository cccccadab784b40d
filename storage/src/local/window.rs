//! The conflict window: which keys recent commits wrote, kept for as long as a running transaction may need to know.
//!
//! Holds no values. Forgetting too early is answered with [`KvError::TooOld`], never with a wrong yes.

use std::collections::VecDeque;
use std::sync::OnceLock;

use bytes::Bytes;

use super::{Keys, Span};
use crate::kv::{KvError, Version};

/// The most remembered writes; beyond, the oldest are forgotten and transactions older than them fail with `TooOld`.
const MAX_ENTRIES: usize = 1_000_000;
/// A segment takes no further commit once it has this many writes.
const SEGMENT: usize = 512;

/// Writes of recent commits.
///
/// Kept in segments of consecutive commits: a check looks only into those after its read version, mostly one or two, and forgetting drops
/// whole ones, so that a remembered write costs one insertion into a small table and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Oldest first. Only the last takes writes.
    segments: VecDeque<Segment>,
    entries: usize,
    /// Writes up to here are forgotten.
    floor: Version,
}

#[derive(Debug, Default)]
struct Segment {
    /// The newest version that wrote here.
    last: Version,
    /// The newest version that wrote each key.
    keys: Keys<Version>,
    /// The keys in order, once a range was looked for and no write can follow.
    sorted: OnceLock<Box<[(Bytes, Version)]>>,
    /// Written ranges, oldest first.
    ranges: Vec<(Version, Bytes, Bytes)>,
}

impl Segment {
    fn len(&self) -> usize {
        self.keys.len() + self.ranges.len()
    }

    fn wrote_key(&self, key: &Bytes, since: Version) -> bool {
        self.keys.get(key).is_some_and(|v| *v > since)
            || self.ranges.iter().any(|(v, begin, end)| *v > since && begin <= key && key < end)
    }

    fn wrote_range(&self, begin: &Bytes, end: &Bytes, since: Version, sealed: bool) -> bool {
        if self.ranges.iter().any(|(v, b, e)| *v > since && b < end && begin < e) {
            return true;
        }
        if !sealed {
            return self.keys.iter().any(|(key, v)| *v > since && begin <= key && key < end);
        }
        let sorted = self.sorted.get_or_init(|| {
            let mut keys: Box<[_]> = self.keys.iter().map(|(key, v)| (key.clone(), *v)).collect();
            keys.sort_unstable();
            keys
        });
        let first = sorted.partition_point(|(key, _)| key < begin);
        sorted.iter().skip(first).take_while(|(key, _)| key < end).any(|(_, v)| *v > since)
    }
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
        let newer = self.segments.iter().rev().take_while(|s| s.last > read_version);
        for (age, segment) in newer.enumerate() {
            let hit = reads.iter().any(|span| match span {
                Span::Key(key) => segment.wrote_key(key, read_version),
                Span::Range(begin, end) => begin < end && segment.wrote_range(begin, end, read_version, age > 0),
            });
            if hit {
                return Err(KvError::Conflict);
            }
        }
        Ok(())
    }

    /// Remembers that the commit at `version` wrote `span`. Versions never fall.
    pub(crate) fn record(&mut self, version: Version, span: Span) {
        if self.segments.back().is_none_or(|s| s.len() >= SEGMENT) {
            self.segments.push_back(Segment::default());
        }
        let Some(segment) = self.segments.back_mut() else { return };
        segment.last = version;
        self.entries -= segment.len();
        match span {
            Span::Key(key) => {
                segment.keys.insert(key, version);
            }
            Span::Range(begin, end) if begin < end => segment.ranges.push((version, begin, end)),
            Span::Range(..) => {}
        }
        self.entries += segment.len();
        while self.entries > MAX_ENTRIES
            && let Some(oldest) = self.segments.pop_front()
        {
            self.entries -= oldest.len();
            self.floor = oldest.last;
        }
    }

    /// Forgets the writes of commits up to `version`: no running transaction has an older read version.
    pub(crate) fn forget(&mut self, version: Version) {
        if version <= self.floor {
            return;
        }
        self.floor = version;
        while let Some(segment) = self.segments.pop_front_if(|s| s.last <= version) {
            self.entries -= segment.len();
        }
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
        window.record(Version(11), key("b"));
        window.record(Version(12), range("m", "p"));
        window.record(Version(13), key("b"));
        window.record(Version(13), range("x", "x"));
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
        assert!(window.segments.is_empty() && window.entries == 0);
    }
}
