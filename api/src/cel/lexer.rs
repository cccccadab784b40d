//! Tokens of CEL.
//!
//! Takes the longest token at each place as cel-go's grammar says; what is no token is reported and left out.

use super::ast::Reports;

/// The kinds of tokens; punctuation and operators are their own text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Op(&'static str),
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Ident,
    /// Between backquotes.
    EscapedIdent,
    End,
}

/// A token, its text and where it starts, counted in characters.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) text: String,
    pub(crate) start: u32,
}

/// Longer ones first.
const OPERATORS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%",
];

/// All tokens, the last being `End`.
pub(crate) fn tokens(chars: &[char], reports: &mut Reports) -> Vec<Token> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        if matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}') {
            at += 1;
            continue;
        }
        let rest = chars.get(at..).unwrap_or_default();
        if starts(rest, "//") {
            at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
            continue;
        }
        let start = u32::try_from(at).unwrap_or(u32::MAX);
        match token(rest) {
            Ok((kind, length)) => {
                let text = rest.iter().take(length).collect();
                found.push(Token { kind, text, start });
                at += length;
            }
            Err(length) => {
                let text: String = rest.iter().take(length).collect();
                let text = text.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r");
                reports.at(start, format!("Syntax error: token recognition error at: '{text}'"));
                at += length;
            }
        }
    }
    let start = u32::try_from(chars.len()).unwrap_or(u32::MAX);
    found.push(Token { kind: TokenKind::End, text: "<EOF>".to_owned(), start });
    found
}

fn starts(chars: &[char], text: &str) -> bool {
    let mut wanted = text.chars();
    wanted.by_ref().zip(chars).filter(|(wanted, c)| wanted == *c).count() == text.chars().count()
}

/// The kind and length of the token in front, or how many characters are none.
fn token(rest: &[char]) -> Result<(TokenKind, usize), usize> {
    let Some(first) = rest.first() else { return Err(1) };
    let second = rest.get(1);
    if first.is_ascii_digit() || (*first == '.' && second.is_some_and(char::is_ascii_digit)) {
        return Ok(number(rest));
    }
    if matches!(first, '"' | '\'') {
        return string(rest, false).map(|length| (TokenKind::String, length));
    }
    if let Some(found) = prefixed(rest) {
        return Ok(found);
    }
    if first.is_ascii_alphabetic() || *first == '_' {
        let length = count(rest, |c| c.is_ascii_alphanumeric() || c == '_');
        let text: String = rest.iter().take(length).collect();
        let kind = match text.as_str() {
            "in" => TokenKind::Op("in"),
            "true" => TokenKind::True,
            "false" => TokenKind::False,
            "null" => TokenKind::Null,
            _ => TokenKind::Ident,
        };
        return Ok((kind, length));
    }
    if *first == '`' {
        let inner = count(rest.get(1..).unwrap_or_default(), |c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c));
        let closed = inner > 0 && rest.get(inner + 1) == Some(&'`');
        return if closed { Ok((TokenKind::EscapedIdent, inner + 2)) } else { Err((inner + 2).min(rest.len())) };
    }
    match OPERATORS.iter().find(|operator| starts(rest, operator)) {
        Some(operator) => Ok((TokenKind::Op(operator), operator.len())),
        // A half operator takes the character after it along.
        None if matches!(first, '=' | '&' | '|') => Err(2.min(rest.len())),
        None => Err(1),
    }
}

/// Strings with `r`, `b` or both in front; else the letters are an identifier.
fn prefixed(rest: &[char]) -> Option<(TokenKind, usize)> {
    let bytes = matches!(rest.first(), Some('b' | 'B'));
    let after = usize::from(bytes);
    let raw = matches!(rest.get(after), Some('r' | 'R'));
    let after = after + usize::from(raw);
    if after == 0 || !matches!(rest.get(after), Some('"' | '\'')) {
        return None;
    }
    let length = string(rest.get(after..)?, raw).ok()?;
    Some((if bytes { TokenKind::Bytes } else { TokenKind::String }, after + length))
}

fn count(chars: &[char], fits: impl Fn(char) -> bool) -> usize {
    chars.iter().take_while(|c| fits(**c)).count()
}

fn number(rest: &[char]) -> (TokenKind, usize) {
    let digits = |from: usize| count(rest.get(from..).unwrap_or_default(), |c| c.is_ascii_digit());
    let is_u = |at: usize| matches!(rest.get(at), Some('u' | 'U'));
    if starts(rest, "0x") {
        let hex = count(rest.get(2..).unwrap_or_default(), |c| c.is_ascii_hexdigit());
        if hex > 0 {
            return if is_u(2 + hex) { (TokenKind::Uint, hex + 3) } else { (TokenKind::Int, hex + 2) };
        }
    }
    let whole = digits(0);
    let mut end = whole;
    let mut float = false;
    if rest.get(end) == Some(&'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
        float = true;
    }
    if matches!(rest.get(end), Some('e' | 'E')) {
        let sign = usize::from(matches!(rest.get(end + 1), Some('+' | '-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
            float = true;
        }
    }
    match (float, is_u(end)) {
        (true, _) => (TokenKind::Float, end),
        (false, true) => (TokenKind::Uint, end + 1),
        (false, false) => (TokenKind::Int, end),
    }
}

/// The length of the string in front, quotes included, or of what cannot be one.
fn string(rest: &[char], raw: bool) -> Result<usize, usize> {
    let Some(quote) = rest.first() else { return Err(0) };
    let is_quote = |at: usize| rest.get(at) == Some(quote);
    if is_quote(1) && is_quote(2) {
        let mut at = 3;
        while let Some(c) = rest.get(at) {
            if is_quote(at) && is_quote(at + 1) && is_quote(at + 2) {
                return Ok(at + 3);
            }
            match (raw, *c == '\\') {
                (false, true) => match escape(rest.get(at..).unwrap_or_default()) {
                    Some(length) => at += length,
                    // Falls back to the empty string of two quotes.
                    None => return Ok(2),
                },
                _ => at += 1,
            }
        }
        return Ok(2);
    }
    let mut at = 1;
    while let Some(c) = rest.get(at) {
        match c {
            c if c == quote => return Ok(at + 1),
            '\n' | '\r' => return Err(at + 1),
            '\\' if !raw => match escape(rest.get(at..).unwrap_or_default()) {
                Some(length) => at += length,
                None => return Err((at + 2).min(rest.len())),
            },
            _ => at += 1,
        }
    }
    Err(at)
}

/// The length of an escape sequence.
fn escape(rest: &[char]) -> Option<usize> {
    let hex = |wanted: usize| {
        let digits = count(rest.get(2..2 + wanted)?, |c| c.is_ascii_hexdigit());
        (digits == wanted).then_some(2 + wanted)
    };
    match rest.get(1)? {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' => Some(2),
        '0'..='3' => {
            let octal = rest.get(2..4)?.iter().all(|c| ('0'..='7').contains(c));
            octal.then_some(4)
        }
        'x' | 'X' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        _ => None,
    }
}
