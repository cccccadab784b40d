//! Values with a text form of their own: times, durations, base64, and Go's zero values.
//!
//! Quantities are in `crate::quantity`. Errors are Go's sentences.

use crate::json::{Text, Value};
use crate::quantity::Quantity;
use crate::schema::Shape;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

const TIME_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
/// Go's zero time, which is written as null.
const ZERO_TIME: i64 = -62_135_596_800;

/// Go's `omitempty` on a value that is not a struct.
#[must_use]
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0) || number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Go's zero value in JSON. Structs are empty here: whoever writes them fills in their required fields.
pub(crate) fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String => Value::String(Text::default()),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString | Shape::Float64 => Value::from(0),
        Shape::Bool => Value::Bool(false),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        Shape::Struct(_) => Value::Object(crate::json::Map::new()),
        Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Any | Shape::List { .. } | Shape::Map { .. } => {
            Value::Null
        }
    }
}

/// `metav1.Time` in its canonical form; `None` for the zero time.
///
/// # Errors
/// In Go's words.
pub fn time(text: &str) -> Result<Option<Value>, String> {
    if is_plain_time(text) {
        return Ok(Some(Value::from(text)));
    }
    let seconds = parse_time(text).ok_or_else(|| time_error(text, TIME_LAYOUT))?.as_second();
    if seconds == ZERO_TIME {
        return Ok(None);
    }
    if is_canonical(text, "0000-00-00T00:00:00Z") {
        return Ok(Some(Value::from(text)));
    }
    Ok(Some(Value::from(format_time(seconds))))
}

/// `metav1.MicroTime` in its canonical form; `None` for the zero time.
pub(crate) fn micro_time(text: &str) -> Result<Option<Value>, String> {
    let fraction = text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    let parsed = parse_time(text).filter(|_| fraction == 6).ok_or_else(|| time_error(text, MICRO_LAYOUT))?;
    if parsed.as_second() == ZERO_TIME && parsed.subsec_nanosecond() == 0 {
        return Ok(None);
    }
    if is_canonical(text, "0000-00-00T00:00:00.000000Z") {
        return Ok(Some(Value::from(text)));
    }
    Ok(Some(Value::from(format_micro(parsed))))
}

/// RFC 3339 as Go reads it: upper-case `T` and `Z`, a numeric offset otherwise, no leap seconds.
pub(crate) fn parse_time(text: &str) -> Option<jiff::Timestamp> {
    let bytes = text.as_bytes();
    let shape_fits = bytes.get(10) == Some(&b'T')
        && bytes.get(17..19) != Some(b"60")
        && bytes.first().is_some_and(u8::is_ascii_digit)
        && !text.contains('z')
        && !text.contains('[')
        && text.bytes().filter(|b| *b == b':').count() == 2 + usize::from(!text.ends_with('Z'));
    if shape_fits { text.parse().ok() } else { None }
}

pub(crate) fn format_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| String::new(), |t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

pub(crate) fn format_micro(time: jiff::Timestamp) -> String {
    let micros = time.subsec_nanosecond().div_euclid(1000);
    let seconds = if micros < 0 { time.as_second() - 1 } else { time.as_second() };
    let base = format_time(seconds);
    format!("{}.{:06}Z", base.trim_end_matches('Z'), micros.rem_euclid(1_000_000))
}

/// The canonical form with every part in range on any calendar; the rest is looked at with more care.
fn is_plain_time(text: &str) -> bool {
    let digits = |at: usize| match text.as_bytes().get(at..at + 2) {
        Some([tens, ones]) => (tens.wrapping_sub(b'0')) * 10 + ones.wrapping_sub(b'0'),
        _ => u8::MAX,
    };
    is_canonical(text, "0000-00-00T00:00:00Z")
        && digits(0) > 0
        && (1..=12).contains(&digits(5))
        && (1..=28).contains(&digits(8))
        && digits(11) < 24
        && digits(14) < 60
        && digits(17) < 60
}

fn is_canonical(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form })
}

#[cold]
fn time_error(text: &str, layout: &str) -> String {
    // Go names the first piece of the layout that the text does not fit.
    let pieces: &[(&str, usize)] = &[
        ("2006", 4),
        ("-", 1),
        ("01", 2),
        ("-", 1),
        ("02", 2),
        ("T", 1),
        ("15", 2),
        (":", 1),
        ("04", 2),
        (":", 1),
        ("05", 2),
    ];
    let mut rest = text;
    for (piece, width) in pieces {
        let fits = rest.get(..*width).is_some_and(|part| {
            if *width == 1 { part == *piece } else { part.bytes().all(|byte| byte.is_ascii_digit()) }
        });
        if !fits {
            return format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {piece:?}");
        }
        rest = rest.get(*width..).unwrap_or_default();
    }
    if layout == MICRO_LAYOUT && !rest.starts_with('.') {
        return format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as \".000000\"");
    }
    let after = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    if after.is_empty() || !(after.starts_with('Z') || after.starts_with('+') || after.starts_with('-')) {
        return format!("parsing time {text:?} as {layout:?}: cannot parse {after:?} as \"Z07:00\"");
    }
    if after.len() > 1 && after.starts_with('Z') {
        return format!("parsing time {text:?}: extra text: {:?}", after.get(1..).unwrap_or_default());
    }
    format!("parsing time {text:?}: {}", out_of_range(text))
}

fn out_of_range(text: &str) -> &'static str {
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    if !(1..=12).contains(&number(5..7)) {
        "month out of range"
    } else if number(11..13) > 23 {
        "hour out of range"
    } else if number(14..16) > 59 {
        "minute out of range"
    } else if number(17..19) > 59 {
        "second out of range"
    } else {
        "day out of range"
    }
}

/// The canonical text of a quantity; nothing at all is zero.
pub(crate) fn quantity(text: Cow<'_, str>) -> Result<String, String> {
    if Quantity::is_canonical(&text) {
        return Ok(text.into_owned());
    }
    if text.is_empty() {
        return Ok("0".to_owned());
    }
    Quantity::parse(&text).map(|quantity| quantity.to_string()).map_err(|error| error.to_string())
}

/// Checks base64 and returns its canonical text.
pub(crate) fn base64(text: Cow<'_, str>) -> Result<String, String> {
    let text: Cow<'_, str> =
        if text.contains(['\r', '\n']) { Cow::Owned(text.replace(['\r', '\n'], "")) } else { text };
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(text.into_owned()),
        Err(base64::DecodeError::InvalidByte(offset, _) | base64::DecodeError::InvalidLastSymbol(offset, _)) => {
            Err(format!("illegal base64 data at input byte {offset}"))
        }
        // What is cut off is wrong where its four letters begin.
        Err(_) => Err(format!("illegal base64 data at input byte {}", text.len() - text.len() % 4)),
    }
}

pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_default()
}

pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go's duration text in its canonical form.
pub(crate) fn duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(format_duration)
}

/// Nanoseconds of Go's duration text (`1h30m`, `1.5s`, `-2ms`, `0`).
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, mut after) = rest.split_at(end);
        let mut fraction = "";
        if let Some(tail) = after.strip_prefix('.') {
            let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            (fraction, after) = tail.split_at(end);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().map_err(|_| invalid())? };
        total += i128::from(whole) * i128::from(*scale);
        let mut digit_scale = i128::from(*scale);
        for digit in fraction.bytes() {
            digit_scale /= 10;
            total += i128::from(digit - b'0') * digit_scale;
        }
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// Go's text of a duration in nanoseconds.
pub(crate) fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let fraction = |value: u64, scale: u64, unit: &str| {
        let (whole, part) = (value / scale, value % scale);
        let width = scale.ilog10() as usize;
        let digits = format!("{part:0width$}");
        let digits = digits.trim_end_matches('0');
        if part == 0 { format!("{whole}{unit}") } else { format!("{whole}.{digits}{unit}") }
    };
    let text = match size {
        0..1_000 => format!("{size}ns"),
        1_000..1_000_000 => fraction(size, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => fraction(size, 1_000_000, "ms"),
        _ => {
            let minutes = size / 60_000_000_000;
            let seconds = fraction(size % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, want) in [
            ("2024-01-02T03:04:05Z", Ok("2024-01-02T03:04:05Z")),
            ("2024-01-02T03:04:05.75+01:00", Ok("2024-01-02T02:04:05Z")),
            (
                "yesterday",
                Err(r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#),
            ),
            ("2024-13-02T03:04:05Z", Err(r#"parsing time "2024-13-02T03:04:05Z": month out of range"#)),
            ("2024-01-02", Err(r#"parsing time "2024-01-02" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#)),
        ] {
            let got = time(text).map(|value| value.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default());
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
        assert_eq!(time("0001-01-01T00:00:00Z"), Ok(None));
        assert!(micro_time("2024-01-02T03:04:05Z").is_err());
        assert_eq!(
            micro_time("2024-01-02T03:04:05.000007+00:00"),
            Ok(Some(Value::from("2024-01-02T03:04:05.000007Z")))
        );
    }

    #[test]
    fn durations_round_trip() {
        for (text, want) in
            [("90s", "1m30s"), ("1.5h", "1h30m0s"), ("-2ms", "-2ms"), ("1500us", "1.5ms"), ("0", "0s"), ("7ns", "7ns")]
        {
            assert_eq!(duration(text).unwrap(), want);
        }
        assert_eq!(duration("5").unwrap_err(), r#"time: missing unit in duration "5""#);
        assert_eq!(duration("5x").unwrap_err(), r#"time: unknown unit "x" in duration "5x""#);
        assert!(duration("").is_err());
    }
}
