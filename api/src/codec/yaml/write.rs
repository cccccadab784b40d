//! JSON values as YAML, laid out and quoted as upstream's library does: keys sorted, lists not indented, long strings
//! folded after column 80.

use super::resolve::needs_quotes;
use crate::json::{Map, Number, Text, Value};
use std::cmp::Ordering;

const WIDTH: usize = 80;
const INDENT: usize = 2;
/// Longer keys are written as `? key`.
const LONGEST_KEY: usize = 128;

pub(super) fn document(value: &Value) -> Vec<u8> {
    let mut out = Out { text: String::new() };
    match value {
        Value::Object(map) if !map.is_empty() => out.entries(map, 0),
        Value::Array(list) if !list.is_empty() => out.items(list, 0),
        other => out.inline(other, 0),
    }
    if !out.at_line_start() {
        out.text.push('\n');
    }
    out.text.into_bytes()
}

struct Out {
    text: String,
}

impl Out {
    fn at_line_start(&self) -> bool {
        self.text.is_empty() || self.text.ends_with('\n')
    }

    fn column(&self) -> usize {
        let line = self.text.rfind('\n').map_or(0, |at| at + 1);
        self.text.get(line..).unwrap_or_default().chars().count()
    }

    /// Starts a line at a column, unless that is where the cursor is already.
    fn line(&mut self, indent: usize) {
        if !self.at_line_start() {
            self.text.push('\n');
        }
        self.text.extend(std::iter::repeat_n(' ', indent));
    }

    /// The entries of a block mapping; the cursor stands where the first key goes.
    fn entries(&mut self, map: &Map, indent: usize) {
        let mut entries: Vec<(&Text, &Value)> = map.iter().collect();
        entries.sort_by(|(a, _), (b, _)| natural(a, b));
        for (index, (key, value)) in entries.into_iter().enumerate() {
            if index > 0 {
                self.line(indent);
            }
            if key.len() > LONGEST_KEY {
                self.text.push_str("? ");
                self.string(key, indent, false);
                self.line(indent);
            } else {
                self.string(key, indent, true);
            }
            self.text.push(':');
            match value {
                Value::Object(map) if !map.is_empty() => {
                    self.line(indent + INDENT);
                    self.entries(map, indent + INDENT);
                }
                Value::Array(list) if !list.is_empty() => {
                    self.line(indent);
                    self.items(list, indent);
                }
                other => {
                    self.text.push(' ');
                    self.inline(other, indent);
                }
            }
        }
    }

    /// The items of a block sequence; the cursor stands where the first dash goes.
    fn items(&mut self, list: &[Value], indent: usize) {
        for (index, value) in list.iter().enumerate() {
            if index > 0 {
                self.line(indent);
            }
            self.text.push_str("- ");
            match value {
                Value::Object(map) if !map.is_empty() => self.entries(map, indent + INDENT),
                Value::Array(list) if !list.is_empty() => self.items(list, indent + INDENT),
                other => self.inline(other, indent),
            }
        }
    }

    fn inline(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => self.text.push_str("null"),
            Value::Bool(flag) => self.text.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => self.text.push_str(&number_text(number)),
            Value::String(text) => self.string(text, indent, false),
            Value::Array(_) => self.text.push_str("[]"),
            Value::Object(_) => self.text.push_str("{}"),
        }
    }

    fn string(&mut self, text: &str, indent: usize, key: bool) {
        let found = Analysis::of(text);
        let fold = !key;
        if text.contains('\n') {
            if found.block && !key {
                self.literal(text, indent + INDENT);
            } else {
                self.double_quoted(text, indent + INDENT, fold);
            }
        } else if needs_quotes(text) || !found.single {
            self.double_quoted(text, indent + INDENT, fold);
        } else if found.plain {
            self.folded(text, indent + INDENT, fold, false);
        } else {
            self.text.push('\'');
            self.folded(text, indent + INDENT, fold, true);
            self.text.push('\'');
        }
    }

    /// Plain and single-quoted text: a single space beyond the width becomes a line break.
    fn folded(&mut self, text: &str, indent: usize, fold: bool, quoted: bool) {
        let may_fold = fold && text.contains(' ');
        let mut column = if may_fold { self.column() } else { 0 };
        let mut spaces = false;
        let mut chars = text.char_indices().peekable();
        while let Some((at, char)) = chars.next() {
            if char == ' ' {
                let next = chars.peek().map(|(_, next)| *next);
                let inside = !quoted || (at > 0 && next.is_some());
                if may_fold && !spaces && column > WIDTH && next != Some(' ') && inside {
                    self.line(indent);
                    column = indent;
                } else {
                    self.text.push(' ');
                    column += 1;
                }
                spaces = true;
                continue;
            }
            if quoted && char == '\'' {
                self.text.push('\'');
                column += 1;
            }
            self.text.push(char);
            column += 1;
            spaces = false;
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, fold: bool) {
        self.text.push('"');
        let may_fold = fold && text.contains(' ');
        let mut spaces = false;
        let mut chars = text.char_indices().peekable();
        while let Some((at, char)) = chars.next() {
            if char == ' ' {
                let next = chars.peek().map(|(_, next)| *next);
                if may_fold && !spaces && at > 0 && next.is_some() && self.column() > WIDTH {
                    self.line(indent);
                    if next == Some(' ') {
                        self.text.push('\\');
                    }
                } else {
                    self.text.push(' ');
                }
                spaces = true;
                continue;
            }
            spaces = false;
            self.escaped(char);
        }
        self.text.push('"');
    }

    fn escaped(&mut self, char: char) {
        let short = match char {
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{85}' => "\\N",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            _ if is_printable(char) => return self.text.push(char),
            '\u{a0}' => "\\_",
            _ => {
                let code = u32::from(char);
                let text = match code {
                    ..=0xff => format!("\\x{code:02X}"),
                    0x100..=0xffff => format!("\\u{code:04X}"),
                    _ => format!("\\U{code:08X}"),
                };
                return self.text.push_str(&text);
            }
        };
        self.text.push_str(short);
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.text.push('|');
        if text.starts_with([' ', '\n']) {
            self.text.push('2');
        }
        if !text.ends_with('\n') {
            self.text.push('-');
        } else if text == "\n" || text.ends_with("\n\n") {
            self.text.push('+');
        }
        self.text.push('\n');
        for line in text.split_inclusive('\n') {
            if line != "\n" {
                self.text.extend(std::iter::repeat_n(' ', indent));
            }
            self.text.push_str(line);
        }
    }
}

/// Which styles a text can have.
struct Analysis {
    plain: bool,
    single: bool,
    block: bool,
}

impl Analysis {
    fn of(text: &str) -> Analysis {
        if text.is_empty() {
            return Analysis { plain: true, single: true, block: false };
        }
        let mut found = Analysis { plain: true, single: true, block: true };
        if text.starts_with("---") || text.starts_with("...") {
            found.plain = false;
        }
        let mut before: Option<char> = None;
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            let next = chars.peek().copied();
            let blank_after = next.is_none_or(|c| matches!(c, ' ' | '\t'));
            let indicator = match char {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
                    if before.is_none() =>
                {
                    true
                }
                '?' | '-' if before.is_none() => blank_after,
                ':' => blank_after,
                '#' => before.is_some_and(|c| matches!(c, ' ' | '\t') || is_break(c)),
                _ => false,
            };
            if indicator || is_break(char) {
                found.plain = false;
            }
            if !is_printable(char) || (is_break(char) && (char != '\n' || before == Some(' '))) {
                found = Analysis { plain: false, single: false, block: false };
                break;
            }
            if char == ' ' {
                match (before, next) {
                    (None, _) => found.plain = false,
                    (_, None) => (found.plain, found.block) = (false, false),
                    (Some(c), _) if is_break(c) => (found.plain, found.single) = (false, false),
                    _ => {}
                }
                if before.is_none() && next.is_none() {
                    found.block = false;
                }
            }
            before = Some(char);
        }
        found
    }
}

fn is_break(char: char) -> bool {
    matches!(char, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What upstream's library calls printable: no tab, nothing beyond the basic plane.
fn is_printable(char: char) -> bool {
    matches!(char, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && char != '\u{feff}'
}

/// Go's shortest form with `%g`: an exponent below -4 and from 6 on, unless the number is whole.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => {
            let text = format!("{float:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() < 1e15 || (-4..21).contains(&exponent) && exponent < 6 {
                return format!("{float}");
            }
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

/// The order of keys: letters after other characters, runs of digits by their number.
fn natural(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = left.iter().zip(&right).position(|(l, r)| l != r) else {
        return left.len().cmp(&right.len());
    };
    let (Some(l), Some(r)) = (left.get(at).copied(), right.get(at).copied()) else { return Ordering::Equal };
    match (l.is_alphabetic(), r.is_alphabetic()) {
        (true, true) => return l.cmp(&r),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero counts as part of a number that began before it.
    let within = (l == '0' || r == '0')
        && left.get(..at).unwrap_or_default().iter().rev().take_while(|c| c.is_numeric()).any(|c| *c != '0');
    let run = |chars: &[char]| {
        let digits = chars.get(at..).unwrap_or_default().iter().take_while(|c| c.is_ascii_digit());
        digits.fold((u64::from(within), 0_usize), |(value, length), digit| {
            (value.wrapping_mul(10).wrapping_add(u64::from(u32::from(*digit) - u32::from('0'))), length + 1)
        })
    };
    run(&left).cmp(&run(&right)).then(l.cmp(&r))
}
