//! Sets of completion indexes, written as `1,3-5,7`. Pure. Source: KEP-2214.

use std::fmt::{self, Display};

/// A set of indexes as disjoint, increasing intervals that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// The indexes below `completions` that the text names; what cannot be read is passed over.
    pub(super) fn parse(text: &str, completions: u32) -> Self {
        let intervals = text.split(',').filter_map(|word| {
            let (from, to) = word.split_once('-').unwrap_or((word, word));
            Some((from.parse().ok()?, to.parse().ok()?))
        });
        Self::of(intervals.filter_map(|(from, to): (u32, u32)| {
            let last = completions.checked_sub(1)?;
            (from <= to && from <= last).then_some((from, to.min(last)))
        }))
    }

    fn of(intervals: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut all: Vec<_> = intervals.into_iter().collect();
        all.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match joined.last_mut() {
                Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
                _ => joined.push((from, to)),
            }
        }
        Self(joined)
    }

    /// These and those.
    pub(super) fn with(&self, more: impl IntoIterator<Item = u32>) -> Self {
        Self::of(self.0.iter().copied().chain(more.into_iter().map(|one| (one, one))))
    }

    /// What is in either.
    pub(super) fn union(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied())
    }

    pub(super) fn has(&self, index: u32) -> bool {
        let after = self.0.partition_point(|(_, to)| *to < index);
        self.0.get(after).is_some_and(|(from, _)| *from <= index)
    }

    /// How many there are.
    pub(super) fn total(&self) -> u32 {
        self.0.iter().map(|(from, to)| to - from + 1).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Self) -> u32 {
        let mut found = 0;
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a, b)), Some(&&(x, y))) = (ours.peek(), theirs.peek()) {
            found += (b.min(y) + 1).saturating_sub(a.max(x));
            if b <= y {
                ours.next();
            }
            if y <= b {
                theirs.next();
            }
        }
        found
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub(super) fn missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut next = 0;
        for (from, to) in self.0.iter().copied().chain([(completions, u32::MAX)]) {
            let room = count - found.len();
            found.extend((next..from.min(completions)).take(room));
            next = to.saturating_add(1);
        }
        found
    }
}

impl Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (from, to)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match to - from {
                0 => write!(f, "{comma}{from}")?,
                1 => write!(f, "{comma}{from},{to}")?,
                _ => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_in_its_short_form() {
        for (text, completions, shown, total) in [
            ("", 5, "", 0),
            ("0", 5, "0", 1),
            ("0,1", 5, "0,1", 2),
            ("0-2,4", 9, "0-2,4", 4),
            ("1,2,3", 9, "1-3", 3),
            ("1-7", 5, "1-4", 4),
            ("6,nonsense,2", 5, "2", 1),
            ("3-1", 5, "", 0),
            ("0-3", 0, "", 0),
        ] {
            let set = Indexes::parse(text, completions);
            assert_eq!((set.to_string().as_str(), set.total()), (shown, total), "{text} below {completions}");
        }
    }

    #[test]
    fn sets_behave_like_sets() {
        let set = Indexes::parse("1,3-5", 10);
        assert_eq!([0, 1, 2, 3, 5, 6].map(|one| set.has(one)), [false, true, false, true, true, false]);
        assert_eq!(set.with([2, 9]).to_string(), "1-5,9");
        assert_eq!(set.union(&Indexes::parse("0,6-7", 10)).to_string(), "0,1,3-7");
        assert_eq!(set.missing(3, 10), [0, 2, 6]);
        assert_eq!(set.missing(9, 7), [0, 2, 6]);
        assert_eq!(set.missing(0, 7), Vec::<u32>::new());
        assert_eq!(Indexes::default().missing(2, 9), [0, 1]);
        assert_eq!(set.common(&Indexes::parse("0-3,5-9", 10)), 3);
        assert_eq!(set.common(&Indexes::parse("7", 10)), 0);
    }
}
