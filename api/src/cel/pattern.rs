//! Regular expressions as Go's RE2 reads them.
//!
//! The engine is the `regex` crate; what the two read differently is written anew before: `\d`, `\w`, `\s` and `\b` mean
//! ASCII, brackets within a class mean themselves, a repetition is at most 1000 times.

use regex::Regex;

/// The most repetitions.
const MOST_REPETITIONS: u32 = 1000;

/// Compiles a pattern.
///
/// # Errors
/// A sentence in the form of Go's.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let rewritten = rewrite(pattern)?;
    Regex::new(&rewritten).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "error parsing regexp: expression too large".to_owned(),
        _ => format!("error parsing regexp: invalid syntax: `{pattern}`"),
    })
}

fn rewrite(pattern: &str) -> Result<String, String> {
    let mut made = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    let mut first = false;
    while let Some(c) = chars.next() {
        let opening = std::mem::take(&mut first);
        match c {
            '\\' => {
                let Some(escaped) = chars.next() else {
                    return Err("error parsing regexp: trailing backslash at end of expression: ``".to_owned());
                };
                match (escaped, class) {
                    ('d', false) => made.push_str("[0-9]"),
                    ('D', _) => made.push_str("[^0-9]"),
                    ('w', false) => made.push_str("[0-9A-Za-z_]"),
                    ('W', _) => made.push_str("[^0-9A-Za-z_]"),
                    ('s', false) => made.push_str("[\\t\\n\\f\\r ]"),
                    ('S', _) => made.push_str("[^\\t\\n\\f\\r ]"),
                    ('d', true) => made.push_str("0-9"),
                    ('w', true) => made.push_str("0-9A-Za-z_"),
                    ('s', true) => made.push_str("\\t\\n\\f\\r "),
                    ('b', false) => made.push_str("(?-u:\\b)"),
                    ('Q', false) => quoted(&mut chars, &mut made),
                    ('0'..='7', _) if escaped == '0' => octal(&mut chars, &mut made),
                    ('<' | '>', _) => made.push(escaped),
                    _ => {
                        made.push('\\');
                        made.push(escaped);
                    }
                }
            }
            '[' if class => {
                if chars.peek() == Some(&':') {
                    made.push('[');
                } else {
                    made.push_str("\\[");
                }
            }
            '[' => {
                class = true;
                first = true;
                made.push('[');
            }
            '^' if class && opening => {
                first = true;
                made.push('^');
            }
            ']' if class && opening => made.push_str("\\]"),
            ':' if class && chars.peek() == Some(&']') && made.contains("[:") => {
                // The end of a named class.
                chars.next();
                made.push_str(":]");
            }
            ']' if class => {
                class = false;
                made.push(']');
            }
            '&' | '~' if class => {
                made.push('\\');
                made.push(c);
            }
            '{' if !class => repetition(&mut chars, &mut made)?,
            c => made.push(c),
        }
    }
    Ok(made)
}

/// `\Q...\E`: all of it means itself.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, made: &mut String) {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            break;
        }
        text.push(c);
    }
    made.push_str(&regex::escape(&text));
}

fn octal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, made: &mut String) {
    let mut value = 0;
    for _ in 0..2 {
        match chars.next_if(|c| ('0'..='7').contains(c)).and_then(|c| c.to_digit(8)) {
            Some(digit) => value = value * 8 + digit,
            None => break,
        }
    }
    made.push_str(&format!("\\x{{{value:x}}}"));
}

/// `{n,m}` repeats; any other brace means itself.
fn repetition(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, made: &mut String) -> Result<(), String> {
    let inner: String = chars.clone().take_while(|c| *c != '}').collect();
    let closed = chars.clone().nth(inner.chars().count()) == Some('}');
    let (low, high) = inner.split_once(',').unwrap_or((&inner, &inner));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !closed || !digits(low) || !(high.is_empty() || digits(high)) {
        made.push_str("\\{");
        return Ok(());
    }
    let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    let (least, most) = (number(low), if high.is_empty() { number(low) } else { number(high) });
    if least > MOST_REPETITIONS || most > MOST_REPETITIONS || least > most {
        return Err(format!("error parsing regexp: invalid repeat count: `{{{inner}}}`"));
    }
    made.push('{');
    made.push_str(&inner);
    made.push('}');
    for _ in 0..=inner.chars().count() {
        chars.next();
    }
    Ok(())
}
