//! Conversions between the types of CEL, with the bounds and sentences of cel-go.
//!
//! Never guesses: what does not fit is a mistake.

use super::error::{Fault, Outcome};
use super::time::{Timestamp, parse_duration};
use super::value::{Text, Value};

/// Numbers from this on are no 64-bit integers.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

fn overflow() -> Fault {
    Fault::said("integer overflow")
}

fn unsigned_overflow() -> Fault {
    Fault::said("unsigned integer overflow")
}

/// Go's `strconv` sentence.
fn syntax(function: &str, text: &str, range: bool) -> Fault {
    let why = if range { "value out of range" } else { "invalid syntax" };
    Fault::said(format!("strconv.{function}: parsing {}: {why}", super::format::quoted(text)))
}

/// `int(value)`.
pub(crate) fn to_int(value: &Value<'_>) -> Outcome<i64> {
    match value {
        Value::Int(value) => Ok(*value),
        Value::Uint(value) => i64::try_from(*value).map_err(|_| overflow()),
        Value::Double(value) => {
            if !value.is_finite() || *value <= -TWO_63 || *value >= TWO_63 {
                return Err(overflow());
            }
            #[expect(clippy::cast_possible_truncation, reason = "within bounds; the fraction goes")]
            Ok(*value as i64)
        }
        Value::String(text) => text.parse().map_err(|error: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            syntax("ParseInt", text, matches!(error.kind(), PosOverflow | NegOverflow))
        }),
        Value::Timestamp(at) => Ok(at.seconds()),
        Value::Duration(nanos) => Ok(*nanos),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// `uint(value)`.
pub(crate) fn to_uint(value: &Value<'_>) -> Outcome<u64> {
    match value {
        Value::Uint(value) => Ok(*value),
        Value::Int(value) => u64::try_from(*value).map_err(|_| unsigned_overflow()),
        Value::Double(value) => {
            if !value.is_finite() || *value < 0.0 || *value >= TWO_64 {
                return Err(unsigned_overflow());
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
            Ok(*value as u64)
        }
        Value::String(text) => {
            let wrong = |range| syntax("ParseUint", text, range);
            if text.starts_with('+') {
                return Err(wrong(false));
            }
            text.parse()
                .map_err(|error: std::num::ParseIntError| wrong(*error.kind() == std::num::IntErrorKind::PosOverflow))
        }
        _ => Err(Fault::NoSuchOverload),
    }
}

/// `double(value)`.
pub(crate) fn to_double(value: &Value<'_>) -> Outcome<f64> {
    #[expect(clippy::cast_precision_loss, reason = "what the conversion is")]
    match value {
        Value::Double(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Uint(value) => Ok(*value as f64),
        Value::String(text) => {
            let plain = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
            let named = matches!(plain.as_str(), "inf" | "infinity" | "nan");
            let shaped = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.');
            match text.parse::<f64>() {
                Ok(value) if named || (shaped && value.is_finite()) => Ok(value),
                Ok(value) if shaped && !value.is_finite() => Err(syntax("ParseFloat", text, true)),
                _ => Err(syntax("ParseFloat", text, false)),
            }
        }
        _ => Err(Fault::NoSuchOverload),
    }
}

/// `bool(value)`.
pub(crate) fn to_bool(value: &Value<'_>) -> Outcome<bool> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(syntax("ParseBool", text, false)),
        },
        _ => Err(Fault::NoSuchOverload),
    }
}

/// `string(value)`.
pub(crate) fn to_string<'a>(value: &Value<'a>) -> Outcome<Value<'a>> {
    Ok(match value {
        Value::String(_) => value.clone(),
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Duration(_)
        | Value::Timestamp(_) => Value::string(value.text()),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::string(text),
            Err(_) => return Err(Fault::said("invalid UTF-8 in bytes, cannot convert to string")),
        },
        _ => return Err(Fault::NoSuchOverload),
    })
}

/// `bytes(value)`.
pub(crate) fn to_bytes<'a>(value: &Value<'a>) -> Outcome<Value<'a>> {
    match value {
        Value::Bytes(_) => Ok(value.clone()),
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// `timestamp(value)`.
pub(crate) fn to_timestamp(value: &Value<'_>) -> Outcome<Timestamp> {
    match value {
        Value::Timestamp(at) => Ok(*at),
        Value::Int(seconds) => Timestamp::of_seconds(*seconds).ok_or_else(|| Fault::said("timestamp overflow")),
        Value::String(text) => Timestamp::parse(text).ok_or_else(|| {
            let text = super::format::quoted(text);
            let layout = "\"2006-01-02T15:04:05Z07:00\"";
            Fault::said(format!("parsing time {text} as {layout}: cannot parse {text} as \"2006\""))
        }),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// `duration(value)`.
pub(crate) fn to_duration(value: &Value<'_>) -> Outcome<i64> {
    match value {
        Value::Duration(nanos) | Value::Int(nanos) => Ok(*nanos),
        Value::String(text) => parse_duration(text)
            .ok_or_else(|| Fault::said(format!("time: invalid duration {}", super::format::quoted(text)))),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// Text that code made.
pub(crate) fn text<'a>(text: String) -> Value<'a> {
    Value::String(Text::Owned(text.into()))
}

/// A double as Go's `FormatFloat(value, 'g', -1, 64)` prints it.
pub(crate) fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&power) {
        return format!("{value}");
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", power.abs())
}
