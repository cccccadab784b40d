//! `'%s has %d'.format([name, count])`, and texts in quotes.
//!
//! The clauses and sentences are those of CEL's strings extension, version 2.

use super::error::{Fault, Fuel, Outcome};
use super::value::{List, Value};

pub(crate) use crate::quote::quoted;

/// What `strings.quote` gives: control characters without a short escape stay.
pub(crate) fn quoted_plain(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{7}' | '\u{8}' | '\u{b}' | '\u{c}' => {
                quoted(&c.to_string()).trim_matches('"').to_owned()
            }
            c => c.to_string(),
        })
        .map(|c| if c.is_empty() || c == "\\" { "\\\"".to_owned() } else { c })
        .collect();
    format!("\"{escaped}\"")
}

/// A clause: its letter, and how many digits it asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clause {
    pub(crate) letter: char,
    precision: Option<usize>,
}

/// A piece of a pattern.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    Clause(Clause),
}

/// The pieces of a pattern for so many arguments.
///
/// # Errors
/// cel-go's sentence.
pub(crate) fn pieces(pattern: &str, args: usize) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut seen = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        if seen >= args {
            return Err(format!("index {seen} out of range"));
        }
        if chars.peek().is_none() {
            return Err("unexpected end of string".to_owned());
        }
        seen += 1;
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let said = "could not parse formatting clause: error while parsing precision:";
            if chars.peek().is_none() {
                return Err(format!("{said} could not find end of precision specifier"));
            }
            let number = digits.parse().map_err(|_| {
                let shown = quoted(&digits);
                let why = if digits.is_empty() { "invalid syntax" } else { "value out of range" };
                format!("{said} error while converting precision to integer: strconv.Atoi: parsing {shown}: {why}")
            })?;
            precision = Some(number);
        }
        let letter = chars.next().unwrap_or_default();
        if !"sdfebxXo".contains(letter) {
            return Err(format!("could not parse formatting clause: unrecognized formatting clause \"{letter}\""));
        }
        pieces.push(Piece::Text(std::mem::take(&mut text)));
        pieces.push(Piece::Clause(Clause { letter, precision }));
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// What a clause says to a type that it is not for.
pub(crate) fn wrong_type(letter: char, found: &str) -> String {
    let rule = match letter {
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        'o' => "octal clause can only be used on integers",
        _ => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, \
             and timestamps"
        }
    };
    format!("{rule}, was given {found}")
}

/// A pattern with its arguments put in.
pub(crate) fn format(pattern: &str, args: &List<'_>, fuel: &Fuel) -> Outcome<String> {
    let mut made = String::new();
    let mut args_left = args.iter();
    for piece in pieces(pattern, args.len()).map_err(Fault::said)? {
        match piece {
            Piece::Text(text) => made.push_str(&text),
            Piece::Clause(clause) => {
                let Some(arg) = args_left.next() else { return Err(Fault::said("index out of range")) };
                made.push_str(&shown(clause, &arg?, fuel).map_err(|fault| match fault {
                    Fault::Said(why) => Fault::said(format!("error during formatting: {why}")),
                    fault => fault,
                })?);
            }
        }
        if made.len() > super::lib::LARGEST_TEXT {
            return Err(Fault::CallLimit);
        }
    }
    Ok(made)
}

/// Digits behind the point, where nothing is said.
const PRECISION: usize = 6;
/// More digits than a double has behind the point.
const MOST_PRECISION: usize = 1100;

fn shown(clause: Clause, value: &Value<'_>, fuel: &Fuel) -> Outcome<String> {
    let wrong = || Fault::said(wrong_type(clause.letter, value.type_name()));
    let precision = clause.precision.unwrap_or(PRECISION).min(MOST_PRECISION);
    let double = || match value {
        Value::Double(value) => Ok(*value),
        Value::String(text) => match &**text {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    };
    match (clause.letter, value) {
        ('s', value) => string(value, 0, fuel),
        ('d' | 'b' | 'o' | 'x' | 'X', Value::Int(value)) => {
            let sign = if *value < 0 { "-" } else { "" };
            Ok(format!("{sign}{}", whole(clause.letter, value.unsigned_abs())))
        }
        ('d' | 'b' | 'o' | 'x' | 'X', Value::Uint(value)) => Ok(whole(clause.letter, *value)),
        ('b', Value::Bool(value)) => Ok(u8::from(*value).to_string()),
        ('x' | 'X', Value::String(text)) => Ok(hex(text.as_bytes(), clause.letter)),
        ('x' | 'X', Value::Bytes(bytes)) => Ok(hex(bytes, clause.letter)),
        ('f', _) => double().map(|value| special(value).unwrap_or_else(|| grouped(&format!("{value:.precision$}")))),
        ('e', _) => double().map(|value| special(value).unwrap_or_else(|| scientific(value, precision))),
        _ => Err(wrong()),
    }
}

fn whole(letter: char, value: u64) -> String {
    match letter {
        'b' => format!("{value:b}"),
        'o' => format!("{value:o}"),
        'x' => format!("{value:x}"),
        'X' => format!("{value:X}"),
        _ => value.to_string(),
    }
}

fn hex(bytes: &[u8], letter: char) -> String {
    bytes.iter().map(|b| if letter == 'X' { format!("{b:02X}") } else { format!("{b:02x}") }).collect()
}

/// What Go prints in the locale en_US.
fn special(value: f64) -> Option<String> {
    if value.is_nan() {
        return Some("NaN".to_owned());
    }
    value.is_infinite().then(|| if value > 0.0 { "\u{221e}" } else { "-\u{221e}" }.to_owned())
}

/// Thousands with commas.
fn grouped(text: &str) -> String {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut made = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            made.push(',');
        }
        made.push(digit);
    }
    if let Some(fraction) = fraction {
        made.push('.');
        made.push_str(fraction);
    }
    made
}

/// As the locale en_US has it: `1.5 × 10⁰³`.
fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(("", exponent), |digits| ("\u{207b}", digits));
    let digits = format!("{digits:0>2}");
    let raised = digits.chars().map(|c| match c {
        '0' => '\u{2070}',
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        '4' => '\u{2074}',
        '5' => '\u{2075}',
        '6' => '\u{2076}',
        '7' => '\u{2077}',
        '8' => '\u{2078}',
        _ => '\u{2079}',
    });
    format!("{mantissa}\u{202f}\u{d7}\u{202f}10{sign}{}", raised.collect::<String>())
}

/// Levels of lists in lists that are shown.
const DEEPEST: usize = 64;

fn string(value: &Value<'_>, depth: usize, fuel: &Fuel) -> Outcome<String> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::List(list) if depth < DEEPEST => {
            let mut parts = Vec::new();
            for element in list.iter() {
                parts.push(inside(&element?, depth + 1, fuel)?);
            }
            Ok(format!("[{}]", parts.join(", ")))
        }
        Value::Map(map) if depth < DEEPEST => {
            let mut parts = Vec::new();
            for key in map.keys() {
                let value = map.get(&key)?.unwrap_or(Value::Null);
                parts.push((inside(&key, depth + 1, fuel)?, inside(&value, depth + 1, fuel)?));
            }
            parts.sort();
            let parts: Vec<String> = parts.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            Ok(format!("{{{}}}", parts.join(", ")))
        }
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Duration(_)
        | Value::Timestamp(_)
        | Value::Type(_) => Ok(value.text()),
        Value::Bytes(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        other => Err(Fault::said(wrong_type('s', other.type_name()))),
    }
}

/// Within a list or map: texts in quotes, doubles with six digits.
fn inside(value: &Value<'_>, depth: usize, fuel: &Fuel) -> Outcome<String> {
    // Every level copies the text of those below it.
    fuel.burn(1)?;
    let shown = match value {
        Value::String(text) => quoted(text),
        Value::Bytes(bytes) => format!("b{}", quoted(&String::from_utf8_lossy(bytes))),
        Value::Double(value) if value.is_finite() => format!("{value:.PRECISION$}"),
        Value::Double(_) => quoted(&value.text()),
        Value::Timestamp(_) => format!("timestamp({})", quoted(&value.text())),
        Value::Duration(_) => format!("duration({})", quoted(&value.text())),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Type(_)
        | Value::List(_)
        | Value::Map(_) => string(value, depth, fuel)?,
        other => return Err(Fault::said(format!("no formatting function for {}", other.type_name()))),
    };
    fuel.burn(shown.len() as u64 / 16)?;
    Ok(shown)
}
