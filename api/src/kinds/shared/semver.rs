//! Semantic versions (semver.org, 2.0.0): which texts are one, and which of two is older.
//!
//! Never guesses: a text with a leading `v` or without its patch number is none.

use std::cmp::Ordering;

/// A version; what follows `+` does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: [u64; 3],
    before: Before,
}

/// What stands between `-` and `+`. A version without it is newer than any with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Before(Vec<Part>);

/// Numbers are older than words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

impl Ord for Before {
    fn cmp(&self, other: &Before) -> Ordering {
        match (self.0.is_empty(), other.0.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.0.cmp(&other.0),
        }
    }
}

impl PartialOrd for Before {
    fn partial_cmp(&self, other: &Before) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Digits without a leading zero.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl Version {
    /// Major, minor and patch number.
    #[must_use]
    pub fn numbers(&self) -> [u64; 3] {
        self.numbers
    }

    /// Reads it; `None` for a text that is no semantic version.
    #[must_use]
    pub fn read(text: &str) -> Option<Version> {
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        if build.is_some_and(|build| !build.split('.').all(is_word)) {
            return None;
        }
        let (text, before) = text.split_once('-').map_or((text, None), |(text, before)| (text, Some(before)));
        let mut numbers = text.split('.').map(number);
        let numbers = match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => [major, minor, patch],
            _ => return None,
        };
        let part = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => number(text).map(Part::Number),
            false => is_word(text).then(|| Part::Word(text.to_owned())),
        };
        let before = before.map_or(Some(Vec::new()), |before| before.split('.').map(part).collect())?;
        Some(Version { numbers, before: Before(before) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_version() {
        for (text, fine) in [
            ("0.0.0", true),
            ("1.36.0", true),
            ("1.36.0-alpha.1+git.5", true),
            ("1.2.3-x-y.0", true),
            ("", false),
            ("v1.2.3", false),
            ("1.2", false),
            ("1.2.3.4", false),
            ("01.2.3", false),
            ("1.2.3-", false),
            ("1.2.3-01", false),
            ("1.2.3+", false),
            ("1.2.x", false),
            ("99999999999999999999.0.0", false),
        ] {
            assert_eq!(Version::read(text).is_some(), fine, "{text}");
        }
    }

    #[test]
    fn older_before_newer() {
        let sorted = ["0.0.0", "1.0.0-1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0", "1.2.0", "1.10.0"];
        let read: Vec<Version> = sorted.iter().map(|text| Version::read(text).unwrap()).collect();
        assert!(read.is_sorted_by(|a, b| a < b));
        assert_eq!(Version::read("1.0.0+a"), Version::read("1.0.0+b"));
    }
}
