//! Formats of texts and numbers that schemas of custom resources may name; others are ignored.
//!
//! Source: upstream's list of supported formats. Never normalizes a value.

use super::schema::Node;
use crate::kinds::shared::names;
use std::net::{Ipv4Addr, Ipv6Addr};

type Check = fn(&str) -> bool;

/// Formats of texts, without dashes.
const TEXTS: &[(&str, Check)] = &[
    ("bsonobjectid", |text| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit())),
    ("byte", base64),
    ("cidr", |text| text.contains('/') && text.parse::<ipnet::IpNet>().is_ok()),
    ("creditcard", credit_card),
    ("date", |text| text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()),
    ("datetime", date_time),
    ("duration", duration),
    ("email", email),
    ("hexcolor", |text| {
        let digits = text.strip_prefix('#').unwrap_or(text);
        matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
    }),
    ("hostname", hostname),
    ("ipv4", |text| text.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |text| text.parse::<Ipv6Addr>().is_ok()),
    ("isbn", |text| isbn10(text) || isbn13(text)),
    ("isbn10", isbn10),
    ("isbn13", isbn13),
    ("k8slongname", |text| names::long_name(text).is_empty()),
    ("k8sshortname", |text| names::short_name(text).is_empty()),
    ("mac", mac),
    ("password", |_| true),
    ("rgbcolor", rgb),
    ("ssn", |text| {
        let parts: Vec<&str> = text.split(['-', ' ']).collect();
        text.bytes().filter(u8::is_ascii_digit).count() == 9
            && match parts.as_slice() {
                [a, b, c] => (a.len(), b.len(), c.len()) == (3, 2, 4),
                [a, b] => (a.len(), b.len()) == (5, 4) || (a.len(), b.len()) == (3, 6),
                [whole] => whole.len() == 9,
                _ => false,
            }
    }),
    ("uri", uri),
    ("uuid", |text| uuid(text, None, false)),
    ("uuid3", |text| uuid(text, Some('3'), false)),
    ("uuid4", |text| uuid(text, Some('4'), true)),
    ("uuid5", |text| uuid(text, Some('5'), true)),
];

/// The format that counts for the node's type; empty when it names none, or one that is not known.
#[must_use]
pub fn effective(node: &Node) -> &str {
    let format = node.rules.format.as_str();
    if format.is_empty() || node.int_or_string {
        ""
    } else if is_known(&node.kind, format) {
        format
    } else {
        ""
    }
}

/// Upstream knows the format for a type.
#[must_use]
pub fn is_known(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => find(format).is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn find(format: &str) -> Option<Check> {
    let plain = format.replace('-', "");
    TEXTS.iter().find(|(name, _)| *name == plain).map(|(_, check)| *check)
}

/// The text has the format; `None` for one that is not known.
#[must_use]
pub fn check(format: &str, text: &str) -> Option<bool> {
    find(format).map(|check| check(text))
}

fn base64(text: &str) -> bool {
    use base64::Engine as _;
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn date_time(text: &str) -> bool {
    let separated = text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b't'));
    separated && text.parse::<jiff::Timestamp>().is_ok()
}

/// Go's durations, and a number with a unit in words, as Scala writes it.
fn duration(text: &str) -> bool {
    if crate::codec::scalar::duration(text).is_ok() {
        return true;
    }
    let number: String = text.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let unit = text.trim().get(number.len()..).unwrap_or_default().trim().trim_end_matches('s');
    const UNITS: &[&str] = &[
        "n",
        "nano",
        "nanosecond",
        "u",
        "µ",
        "micro",
        "microsecond",
        "m",
        "milli",
        "millisecond",
        "sec",
        "second",
        "",
        "min",
        "minute",
        "h",
        "hr",
        "hour",
        "d",
        "day",
        "w",
        "wk",
        "week",
    ];
    number.parse::<f64>().is_ok() && text.trim().len() > number.len() && UNITS.contains(&unit)
}

fn email(text: &str) -> bool {
    let address = text.rsplit_once('<').and_then(|(_, rest)| rest.strip_suffix('>')).unwrap_or(text);
    address.rsplit_once('@').is_some_and(|(user, host)| {
        let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c == '@');
        plain(user) && plain(host) && !user.starts_with('.') && !user.ends_with('.')
    })
}

/// Labels of letters, digits and inner dashes; the last of several is of letters alone.
fn hostname(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let sound = |label: &&str| {
        let inner = !label.starts_with('-') && !label.ends_with('-');
        inner && (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let top = |label: &&str| label.chars().count() >= 2 && label.chars().all(char::is_alphabetic);
    text.len() <= 255 && labels.iter().all(sound) && (labels.len() == 1 || labels.last().is_some_and(top))
}

fn mac(text: &str) -> bool {
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
    [(':', 2, [6, 8, 20]), ('-', 2, [6, 8, 20]), ('.', 4, [3, 4, 10])].into_iter().any(|(by, length, counts)| {
        let parts: Vec<&str> = text.split(by).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, length))
    })
}

fn rgb(text: &str) -> bool {
    let inner = text.trim().strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    inner.is_some_and(|inner| {
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|part| part.trim_end_matches('%').parse::<u8>().is_ok())
    })
}

/// A target of a request: a path, or an address with a scheme.
fn uri(text: &str) -> bool {
    let clean = !text.chars().any(|c| c.is_control() || c == ' ');
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty()
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    clean && (text.starts_with('/') || scheme)
}

fn uuid(text: &str, version: Option<char>, variant: bool) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    // A dash may only stand where one belongs.
    let mut at = 0;
    for c in text.chars() {
        match c {
            '-' if !matches!(at, 8 | 12 | 16 | 20) => return false,
            '-' => {}
            _ => at += 1,
        }
    }
    digits.len() == 32
        && digits.iter().all(char::is_ascii_hexdigit)
        && version.is_none_or(|version| digits.get(12) == Some(&version))
        && (!variant || digits.get(16).is_some_and(|c| matches!(c.to_ascii_lowercase(), '8' | '9' | 'a' | 'b')))
}

fn digits(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn isbn10(text: &str) -> bool {
    let text = digits(text);
    let value = |c: char, last: bool| if last && c == 'X' { Some(10) } else { c.to_digit(10) };
    let sum = text.chars().zip(1_u32..).try_fold(0, |sum, (c, at)| Some(sum + at * value(c, at == 10)?));
    text.len() == 10 && sum.is_some_and(|sum| sum % 11 == 0)
}

fn isbn13(text: &str) -> bool {
    let text = digits(text);
    let weigh = |at: u32| if at.is_multiple_of(2) { 1 } else { 3 };
    let sum = text.chars().zip(0_u32..).try_fold(0, |sum, (c, at)| Some(sum + weigh(at) * c.to_digit(10)?));
    text.len() == 13 && sum.is_some_and(|sum| sum % 10 == 0)
}

/// A number of a known length whose check digit is right.
fn credit_card(text: &str) -> bool {
    let numbers: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = numbers
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| if at.is_multiple_of(2) { *digit } else { digit * 2 / 10 + digit * 2 % 10 })
        .sum();
    (13..=16).contains(&numbers.len()) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_formats() {
        for (format, good, bad) in [
            ("date-time", "2014-12-15T19:30:20.000Z", "yesterday"),
            ("date", "2006-01-02", "2006-13-02"),
            ("duration", "22 ns", "soon"),
            ("duration", "1h30m", "h"),
            ("email", "a@b.example", "a.b"),
            ("hostname", "a-b.example", "_a"),
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("mac", "00:1b:63:84:45:e6", "00:1b:63"),
            ("uri", "https://a.example/b", "a b"),
            ("uuid4", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "f47ac10b-58cc-3372-a567-0e02b2c3d479"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("byte", "aGVsbG8=", "*"),
            ("hexcolor", "#FFFFFF", "#FFFFFG"),
            ("rgbcolor", "rgb(255,255,255)", "rgb(255,255,2559)"),
            ("k8s-short-name", "a-b", "A"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("ssn", "111-11-1111", "111-11-111"),
        ] {
            assert_eq!((check(format, good), check(format, bad)), (Some(true), Some(false)), "{format}");
        }
        assert_eq!(check("none-such", ""), None);
    }
}
