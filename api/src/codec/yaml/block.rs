//! YAML in blocks to JSON text, line by line: what `kubectl` and people write most. Ten times as fast as a parser of all of YAML.
//!
//! Knows mappings and lists in blocks with scalars on one line, plain or in quotes without escapes, and comments on lines of their own. Says
//! nothing of what is wrong: whatever else there is, more documents, flow, text on several lines and tabs included, is left to `plain.rs`.

use super::resolve::resolve;
use crate::codec::MAX_DEPTH;
use crate::codec::json::{write_any, write_string};

/// The longest key; those of YAML end at 1,024.
const MAX_KEY: usize = 256;

/// The document as JSON, keys in the order in which they stand there.
pub(super) fn json_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    // Other bytes have meanings of their own, at least at the end of a line.
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return None;
    }
    let text = text.strip_prefix("---\n").unwrap_or(text);
    let mut lines = Lines { rest: text, next: None };
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
    text: &'a str,
}

struct Lines<'a> {
    rest: &'a str,
    next: Option<Line<'a>>,
}

impl Lines<'_> {
    /// On to the next line that says something.
    fn advance(&mut self) -> Option<()> {
        self.next = None;
        while !self.rest.is_empty() {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            self.rest = rest;
            let text = line.trim_start_matches(' ');
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if text.ends_with(' ') {
                return None;
            }
            self.next = Some(Line { indent: line.len() - text.len(), text });
            return Some(());
        }
        Some(())
    }
}

/// A mapping or a list whose first line is at the cursor and says `text`, from this column on.
fn block<'a>(lines: &mut Lines<'a>, text: &'a str, column: usize, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match item(text) {
        Some(_) => list(lines, text, column, out, depth),
        None => mapping(lines, text, column, out, depth),
    }
}

/// What stands behind the dash of an element.
fn item(text: &str) -> Option<&str> {
    text.strip_prefix('-').filter(|rest| rest.starts_with(' '))
}

fn list<'a>(lines: &mut Lines<'a>, text: &'a str, column: usize, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    out.push(b'[');
    let mut text = text;
    loop {
        let rest = item(text)?;
        let inner = rest.trim_start_matches(' ');
        let at = column + 1 + rest.len() - inner.len();
        if item(inner).is_some() {
            return None;
        }
        if key(inner).is_some() {
            mapping(lines, inner, at, out, depth + 1)?;
        } else {
            scalar(inner, out)?;
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

fn mapping<'a>(lines: &mut Lines<'a>, text: &'a str, column: usize, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    out.push(b'{');
    let mut names: Vec<&str> = Vec::new();
    let mut text = text;
    loop {
        let (name, value) = key(text)?;
        write_string(out, name);
        out.push(b':');
        names.push(name);
        lines.advance()?;
        if value.is_empty() {
            match lines.next {
                Some(line) if line.indent > column => block(lines, line.text, line.indent, out, depth + 1)?,
                // The dashes of a list may stand below its name.
                Some(line) if line.indent == column && item(line.text).is_some() => {
                    list(lines, line.text, column, out, depth + 1)?;
                }
                _ => out.extend_from_slice(b"null"),
            }
        } else {
            scalar(value, out)?;
        }
        match lines.next {
            Some(line) if line.indent == column && item(line.text).is_none() => text = line.text,
            // Deeper, it would be more text of a scalar.
            Some(line) if line.indent >= column => return None,
            _ => break,
        }
        out.push(b',');
    }
    names.sort_unstable();
    if !names.is_sorted_by(|a, b| a < b) {
        return None;
    }
    out.push(b'}');
    Some(())
}

/// A name and what follows it on its line.
fn key(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = match text.as_bytes().first()? {
        quote @ (b'"' | b'\'') => {
            let (name, rest) = text.get(1..)?.split_once(char::from(*quote))?;
            (name, rest.strip_prefix(':').filter(|_| !name.contains('\\'))?)
        }
        byte if byte.is_ascii_alphanumeric() || *byte == b'_' => {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
            let end = text.bytes().position(|byte| !inside(byte))?;
            let (name, rest) = text.split_at_checked(end)?;
            // Five letters make the longest word that is no text.
            let long = byte.is_ascii_alphabetic() && name.len() > 5;
            if !long && !resolve(name).is_string() {
                return None;
            }
            (name, rest.strip_prefix(':')?)
        }
        _ => return None,
    };
    let value = rest.trim_start_matches(' ');
    (name.len() <= MAX_KEY && (rest.is_empty() || rest.starts_with(' '))).then_some((name, value))
}

fn scalar(text: &str, out: &mut Vec<u8>) -> Option<()> {
    match text.as_bytes() {
        b"{}" | b"[]" => out.extend_from_slice(text.as_bytes()),
        [quote @ (b'"' | b'\''), ..] => {
            let (inner, rest) = text.get(1..)?.split_once(char::from(*quote))?;
            if !rest.is_empty() || inner.contains('\\') {
                return None;
            }
            write_string(out, inner);
        }
        [b'-', b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-', ..]
        | [b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'.' | b'_' | b'$', ..] => {
            let mut before = 0;
            for byte in text.bytes() {
                if (before == b':' && byte == b' ') || (before == b' ' && byte == b'#') {
                    return None;
                }
                before = byte;
            }
            if before == b':' {
                return None;
            }
            let word = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && text.len() > 5;
            if word {
                write_string(out, text);
            } else {
                match resolve(text) {
                    value if value.is_string() => write_string(out, text),
                    value => write_any(out, &value),
                }
            }
        }
        _ => return None,
    }
    Some(())
}
