//! What stands on one line of YAML: scalars, and lists and mappings in flow.
//!
//! Never guesses: what is not plainly one of them is `None`, and left to the parser of all of YAML.

use super::resolve::resolve;
use crate::codec::MAX_DEPTH;
use crate::codec::json::{write_any, write_string};
use std::borrow::Cow;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = ONES << 7;
const LOW: u64 = !HIGH;

/// The bytes of this word that are one, marked; the lowest mark is right, others may be a borrow's.
#[inline]
fn marks(word: u64, byte: u8) -> u64 {
    let others = word ^ (ONES * u64::from(byte));
    others.wrapping_sub(ONES) & !others & HIGH
}

/// Where a byte is first, eight looked at at once: lines are too short for searches that want to be prepared.
#[inline]
pub(super) fn find(text: &str, byte: u8) -> Option<usize> {
    let (words, rest) = text.as_bytes().as_chunks();
    for (index, word) in words.iter().enumerate() {
        let found = marks(u64::from_le_bytes(*word), byte);
        if found != 0 {
            return Some(index * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    rest.iter().position(|other| *other == byte).map(|at| words.len() * 8 + at)
}

/// How many spaces a line begins with.
#[inline]
pub(super) fn indentation(line: &str) -> usize {
    line.bytes().position(|byte| byte != b' ').unwrap_or(line.len())
}

/// Whether there are characters that YAML treats in ways of its own: controls but for line feeds, other line breaks, byte order marks.
pub(super) fn is_odd(text: &str) -> bool {
    let plain = |word: u64| {
        let none = |byte: u8| ((word ^ (ONES * u64::from(byte))) & LOW) + LOW;
        let control = !((word & LOW) + ONES * 0x60) & none(b'\n');
        (control | !none(0x7f) | word) & HIGH == 0
    };
    let (words, rest) = text.as_bytes().as_chunks();
    if words.iter().all(|word| plain(u64::from_le_bytes(*word)))
        && rest.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n'))
    {
        return false;
    }
    let odd = |char: char| {
        char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    text.chars().any(|char| char != '\n' && odd(char))
}

/// Whether a plain scalar stands for its own text.
#[inline]
pub(super) fn is_text(plain: &str) -> bool {
    match plain.as_bytes() {
        // Five letters make the longest word that means something else, and few letters begin one.
        [b'a'..=b'z' | b'A'..=b'Z', _, _, _, _, _, ..] | [b'_' | b'/' | b'$' | b'(' | 0x80.., ..] => true,
        [first @ (b'a'..=b'z' | b'A'..=b'Z'), ..] if !matches!(first | 0x20, b'y' | b'n' | b't' | b'f' | b'o') => true,
        _ => resolve(plain).is_string(),
    }
}

/// Writes what a plain scalar means.
pub(super) fn write_plain(out: &mut Vec<u8>, plain: &str) {
    let number = !plain.is_empty() && plain.len() < 16 && plain.bytes().all(|byte| byte.is_ascii_digit());
    if number && (!plain.starts_with('0') || plain.len() == 1) {
        out.extend_from_slice(plain.as_bytes());
    } else if is_text(plain) {
        write_string(out, plain);
    } else {
        write_any(out, &resolve(plain));
    }
}

/// Where a plain scalar in a block ends, be it before a comment; nothing where it looks like more than one.
pub(super) fn plain_end(text: &str) -> Option<usize> {
    let suspicious = |word: u64| marks(word, b':') | marks(word, b'#');
    let (words, rest) = text.as_bytes().as_chunks();
    if words.iter().all(|word| suspicious(u64::from_le_bytes(*word)) == 0)
        && !rest.iter().any(|byte| matches!(byte, b':' | b'#'))
    {
        return Some(text.len());
    }
    let mut before = 0;
    for (at, byte) in text.bytes().enumerate() {
        match (before, byte) {
            (b':', b' ') => return None,
            (b' ', b'#') => return Some(at - 1),
            _ => before = byte,
        }
    }
    (before != b':').then_some(text.len())
}

/// What stands in the quotes that the text begins with, and what follows them. Few escapes are known.
pub(super) fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let quote = *text.as_bytes().first()?;
    let inside = text.get(1..)?;
    let (inner, rest) = split(inside, quote)?;
    if quote == b'"' && find(inner, b'\\').is_some() {
        return escaped(inside);
    }
    if quote != b'\'' || !rest.starts_with('\'') {
        return Some((Cow::Borrowed(inner), rest));
    }
    // Two single quotes are one.
    let (mut whole, mut rest) = (inner.to_owned(), rest);
    while let Some(more) = rest.strip_prefix('\'') {
        let (inner, after) = split(more, quote)?;
        whole.push('\'');
        whole.push_str(inner);
        rest = after;
    }
    Some((Cow::Owned(whole), rest))
}

fn split(text: &str, at: u8) -> Option<(&str, &str)> {
    let at = find(text, at)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn escaped(inside: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut whole = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((Cow::Owned(whole), inside.get(at + 1..)?)),
            '\\' => whole.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                char @ ('"' | '\\') => char,
                _ => return None,
            }),
            other => whole.push(other),
        }
    }
    None
}

/// The names of mappings that are open, each after those around it.
#[derive(Default)]
pub(super) struct Names<'a> {
    all: Vec<&'a str>,
    /// Where those of the innermost mapping begin.
    begin: usize,
    /// Of the names of the innermost mapping, what tells most of them from others.
    met: u64,
}

impl<'a> Names<'a> {
    /// Begins with a mapping, and says what is to be given back at its end.
    pub(super) fn open(&mut self) -> (usize, u64) {
        let around = (self.begin, self.met);
        (self.begin, self.met) = (self.all.len(), 0);
        around
    }

    /// Another name, unless it is there.
    pub(super) fn add(&mut self, name: &'a str) -> Option<()> {
        let bit = crate::json::bit(name);
        if self.met & bit != 0 && self.all.get(self.begin..)?.contains(&name) {
            return None;
        }
        self.met |= bit;
        self.all.push(name);
        Some(())
    }

    pub(super) fn close(&mut self, around: (usize, u64)) {
        self.all.truncate(self.begin);
        (self.begin, self.met) = around;
    }
}

/// A list or a mapping in brackets, of scalars that need no thought; what follows it.
pub(super) fn flow<'a>(text: &'a str, out: &mut Vec<u8>, names: &mut Names<'a>, depth: usize) -> Option<&'a str> {
    if depth > MAX_DEPTH {
        return None;
    }
    let (is_list, end) = if text.starts_with('[') { (true, b']') } else { (false, b'}') };
    out.extend(text.as_bytes().first());
    let mut rest = text.get(1..)?.trim_start_matches(' ');
    if rest.as_bytes().first() == Some(&end) {
        out.push(end);
        return rest.get(1..);
    }
    let around = names.open();
    loop {
        if !is_list {
            let (name, after) = match rest.as_bytes().first()? {
                b'"' | b'\'' => match quoted(rest)? {
                    (Cow::Borrowed(name), after) => (name, after),
                    (Cow::Owned(_), _) => return None,
                },
                _ => flow_plain(rest).filter(|(name, _)| is_text(name))?,
            };
            names.add(name)?;
            write_string(out, name);
            out.push(b':');
            rest = after.strip_prefix(": ")?.trim_start_matches(' ');
        }
        rest = match rest.as_bytes().first()? {
            b'[' | b'{' => flow(rest, out, names, depth + 1)?,
            b'"' | b'\'' => {
                let (inner, after) = quoted(rest)?;
                write_string(out, &inner);
                after
            }
            _ => {
                let (plain, after) = flow_plain(rest)?;
                write_plain(out, plain);
                after
            }
        };
        rest = rest.trim_start_matches(' ');
        match rest.as_bytes().first()? {
            b',' => rest = rest.get(1..)?.trim_start_matches(' '),
            byte if *byte == end => break,
            _ => return None,
        }
        out.push(b',');
    }
    names.close(around);
    out.push(end);
    rest.get(1..)
}

/// A plain scalar within brackets, of characters that mean nothing there, and what follows it.
fn flow_plain(text: &str) -> Option<(&str, &str)> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'=' | b'+');
    let end = text.bytes().position(|byte| !inside(byte))?;
    let begins = match text.as_bytes() {
        [b'-', second, ..] => second.is_ascii_alphanumeric() || *second == b'-',
        [first, ..] => first.is_ascii_alphanumeric() || matches!(first, b'_' | b'.' | b'/'),
        [] => false,
    };
    if begins { text.split_at_checked(end) } else { None }
}
