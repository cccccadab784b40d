//! YAML in blocks to JSON text, line by line: what `kubectl` and people write most. Twenty times as fast as a parser of all of YAML.
//!
//! Knows mappings and lists in blocks, literal texts (`|`), comments, and scalars, lists and mappings in flow that end on their line. Says
//! nothing of what is wrong: whatever else there is, more documents, text on several lines and anchors included, is left to `plain.rs`.

use super::line::{Names, find, flow, indentation, is_odd, is_text, plain_end, quoted, write_plain};
use crate::codec::MAX_DEPTH;
use crate::codec::json::write_string;
use std::borrow::Cow;

/// The longest key; those of YAML end at 1,024.
const MAX_KEY: usize = 256;

/// The document as JSON, keys in the order in which they stand there.
pub(super) fn json_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    // Such characters have meanings of their own, at least at the end of a line.
    if is_odd(text) {
        return None;
    }
    let text = text.strip_prefix("---\n").unwrap_or(text);
    let ended = text.ends_with('\n');
    let mut lines = Lines { rest: text, ended, next: None, names: Names::default(), literal: String::new() };
    lines.advance()?;
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    let Line { indent, text } = lines.next?;
    if indent > 0 {
        return None;
    }
    block(&mut lines, text, 0, &mut out, 0)?;
    lines.next.is_none().then_some(out)
}

/// A line that says something.
#[derive(Clone, Copy)]
struct Line<'a> {
    indent: usize,
    /// Without spaces at its end.
    text: &'a str,
}

struct Lines<'a> {
    rest: &'a str,
    /// Whether the last line has a line break.
    ended: bool,
    next: Option<Line<'a>>,
    /// Of the mappings that are open.
    names: Names<'a>,
    /// What is read of a literal text.
    literal: String,
}

impl<'a> Lines<'a> {
    /// The next line, whatever it says.
    fn raw(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = find(self.rest, b'\n').unwrap_or(self.rest.len());
        let line = self.rest.get(..end)?;
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some(line)
    }

    /// On to the next line that says something.
    fn advance(&mut self) -> Option<()> {
        self.next = None;
        while let Some(line) = self.raw() {
            let indent = indentation(line);
            let text = line.get(indent..)?;
            if !text.is_empty() && !text.starts_with('#') {
                self.next = Some(Line { indent, text: text.trim_end_matches(' ') });
                break;
            }
        }
        Some(())
    }

    /// A literal text behind its header, which stands on a line of what is indented by so much; and on to what follows it.
    fn literal(&mut self, header: &str, column: usize, out: &mut Vec<u8>) -> Option<()> {
        if !matches!(header, "|" | "|-" | "|+") {
            return None;
        }
        let mut text = std::mem::take(&mut self.literal);
        text.clear();
        let (mut inner, mut blank) = (None, 0);
        loop {
            let before = self.rest;
            let Some(line) = self.raw() else { break };
            let spaces = indentation(line);
            if spaces == line.len() {
                // What exceeds the indentation would be part of the text.
                if spaces > inner.unwrap_or(column) {
                    return None;
                }
                blank += 1;
                continue;
            }
            if spaces <= column {
                self.rest = before;
                break;
            }
            let inner = *inner.get_or_insert(spaces);
            if spaces < inner {
                return None;
            }
            text.extend(std::iter::repeat_n('\n', std::mem::take(&mut blank)));
            text.push_str(line.get(inner..)?);
            text.push('\n');
        }
        if text.is_empty() || (self.rest.is_empty() && !self.ended) {
            return None;
        }
        match header {
            "|-" => text.truncate(text.len() - 1),
            "|+" => text.extend(std::iter::repeat_n('\n', blank)),
            _ => {}
        }
        write_string(out, &text);
        self.literal = text;
        self.advance()
    }
}

/// A mapping or a list whose first line is at the cursor and says `text`, from this column on.
fn block<'a>(lines: &mut Lines<'a>, text: &'a str, column: usize, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match item(text) {
        Some(_) => list(lines, text, column, out, depth),
        None => mapping(lines, key(text)?, column, out, depth),
    }
}

/// What stands behind the dash of an element.
fn item(text: &str) -> Option<&str> {
    text.strip_prefix("- ")
}

fn list<'a>(lines: &mut Lines<'a>, text: &'a str, column: usize, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    out.push(b'[');
    let mut text = text;
    loop {
        let rest = item(text)?;
        let spaces = indentation(rest);
        let inner = rest.get(spaces..)?;
        if item(inner).is_some() {
            return None;
        }
        if inner.starts_with('|') {
            lines.literal(inner, column, out)?;
        } else if let Some(first) = key(inner) {
            mapping(lines, first, column + 2 + spaces, out, depth + 1)?;
        } else {
            scalar(lines, inner, out, depth)?;
            lines.advance()?;
        }
        match lines.next {
            Some(line) if line.indent == column && item(line.text).is_some() => text = line.text,
            // Deeper, it would be more text of a scalar.
            Some(line) if line.indent > column => return None,
            _ => break,
        }
        out.push(b',');
    }
    out.push(b']');
    Some(())
}

fn mapping<'a>(lines: &mut Lines<'a>, first: Key<'a>, column: usize, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    out.push(b'{');
    let around = lines.names.open();
    let Key { mut name, mut value, mut quoted } = first;
    loop {
        lines.names.add(name)?;
        if quoted {
            write_string(out, name);
            out.push(b':');
        } else {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
        }
        if value.starts_with('|') {
            lines.literal(value, column, out)?;
        } else if value.is_empty() || value.starts_with('#') {
            lines.advance()?;
            match lines.next {
                Some(line) if line.indent > column => block(lines, line.text, line.indent, out, depth + 1)?,
                // The dashes of a list may stand below its name.
                Some(line) if line.indent == column && item(line.text).is_some() => {
                    list(lines, line.text, column, out, depth + 1)?;
                }
                _ => out.extend_from_slice(b"null"),
            }
        } else {
            scalar(lines, value, out, depth)?;
            lines.advance()?;
        }
        match lines.next {
            Some(line) if line.indent == column && item(line.text).is_none() => {
                Key { name, value, quoted } = key(line.text)?;
            }
            // Deeper, it would be more text of a scalar.
            Some(line) if line.indent >= column => return None,
            _ => break,
        }
        out.push(b',');
    }
    lines.names.close(around);
    out.push(b'}');
    Some(())
}

/// Bytes of keys without quotes.
static IN_KEYS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    #[allow(clippy::indexing_slicing)] // In a constant: out of bounds would not compile.
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'_' | b'-' | b'.' | b'/');
        byte += 1;
    }
    table
};

/// A name and what follows it on its line. Without quotes it has no byte that JSON would escape.
#[derive(Clone, Copy)]
struct Key<'a> {
    name: &'a str,
    value: &'a str,
    quoted: bool,
}

fn key(text: &str) -> Option<Key<'_>> {
    let (name, rest) = match text.as_bytes().first()? {
        b'"' | b'\'' => match quoted(text)? {
            (Cow::Borrowed(name), rest) => (name, rest),
            (Cow::Owned(_), _) => return None,
        },
        byte if byte.is_ascii_alphanumeric() || *byte == b'_' => {
            let end = text.bytes().position(|byte| !IN_KEYS.get(usize::from(byte)).is_some_and(|inside| *inside))?;
            text.split_at_checked(end)?
        }
        _ => return None,
    };
    let rest = rest.strip_prefix(':')?;
    let sound = name.len() <= MAX_KEY && (rest.is_empty() || rest.starts_with(' '));
    let quoted = matches!(text.as_bytes(), [b'"' | b'\'', ..]);
    let value = match rest.as_bytes() {
        [b' ', b' ', ..] => rest.trim_start_matches(' '),
        _ => rest.strip_prefix(' ').unwrap_or(rest),
    };
    (sound && (quoted || is_text(name))).then_some(Key { name, value, quoted })
}

/// What ends on its line.
fn scalar<'a>(lines: &mut Lines<'a>, text: &'a str, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    let rest = match text.as_bytes() {
        [b'"' | b'\'', ..] => {
            let (inner, rest) = quoted(text)?;
            write_string(out, &inner);
            rest
        }
        [b'{' | b'[', ..] => flow(text, out, &mut lines.names, depth + 1)?,
        [b'-', b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-', ..]
        | [b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'.' | b'_' | b'$' | b'(' | 0x80.., ..] => {
            let (plain, rest) = text.split_at_checked(plain_end(text)?)?;
            write_plain(out, plain.trim_end_matches(' '));
            rest
        }
        _ => return None,
    };
    let comment = rest.trim_start_matches(' ');
    (comment.is_empty() || (comment.starts_with('#') && comment.len() < rest.len())).then_some(())
}
