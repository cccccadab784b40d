//! What a plain scalar means in YAML 1.1, as upstream's library reads it.

use crate::json::{Number, Value};

/// The value of a plain scalar. Timestamps stay text.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'.') => float(text),
        Some(b'+' | b'-' | b'0'..=b'9') if !is_timestamp(text) => {
            let plain = text.replace('_', "");
            integer(&plain).or_else(|| float(&plain))
        }
        _ => None,
    };
    number.map_or_else(|| Value::from(text), Value::Number)
}

/// Means something other than itself when unquoted.
pub(super) fn needs_quotes(text: &str) -> bool {
    let not_finite = matches!(text.trim_start_matches(['+', '-']), ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF");
    text == "<<" || not_finite || !resolve(text).is_string() || is_timestamp(text) || is_base60(text)
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match lower.as_deref() {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0_i64.checked_sub_unsigned(size).map(Number::from) } else { Some(Number::from(size)) }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits = match (whole, fraction) {
        ("", fraction) => digits(fraction),
        (whole, "") => digits(whole),
        (whole, fraction) => digits(whole) && digits(fraction),
    };
    let exponent_fits = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    if !mantissa_fits || !exponent_fits {
        return None;
    }
    let value = text.parse::<f64>().ok()?;
    // JSON has one kind of number: 8.0 goes through it as 8.
    if value.fract() == 0.0 && value.abs() < 1e15 {
        #[allow(clippy::cast_possible_truncation)] // Whole and below 2^53.
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

/// `2001-1-2`, `2001-01-02T03:04:05Z`, `2001-01-02 03:04:05`.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !bytes.iter().take(4).all(u8::is_ascii_digit) || bytes.get(4) != Some(&b'-') {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-').skip(1);
    let part = |text: Option<&str>, max: u32| {
        text.is_some_and(|t| matches!(t.len(), 1 | 2) && t.parse::<u32>().is_ok_and(|n| (1..=max).contains(&n)))
    };
    if !part(parts.next(), 12) || !part(parts.next(), 31) {
        return false;
    }
    let Some(time) = time else { return true };
    let zoned = !text.contains(' ');
    let clock = match time.find(['Z', '+', '-']) {
        Some(at) if zoned => time.get(..at).unwrap_or_default(),
        None if !zoned => time,
        _ => return false,
    };
    let fields: Vec<&str> = clock.split(':').collect();
    fields.len() == 3
        && fields.iter().zip([23.0, 59.0, 59.999_999_999]).all(|(field, max)| {
            field.bytes().all(|b| b.is_ascii_digit() || b == b'.') && field.parse::<f64>().is_ok_and(|n| n <= max)
        })
}

/// `1:30`: sexagesimal in YAML 1.1; text here, but quoted for other readers.
fn is_base60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (main, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = main.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    first.starts_with(|c: char| c.is_ascii_digit())
        && numeric(first)
        && numeric(fraction)
        && !rest.is_empty()
        && rest.iter().all(|part| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn plain_scalars_mean_what_yaml_1_1_says() {
        for (text, want) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("n", json!(false)),
            ("~", json!(null)),
            ("nO", json!("nO")),
            ("0777", json!(511)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("1_000", json!(1000)),
            ("-12", json!(-12)),
            ("+3", json!(3)),
            ("08", json!(8)),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            ("1.", json!(1)),
            ("1.5", json!(1.5)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("2001-01-02", json!("2001-01-02")),
            ("2001-01-02T03:04:05Z", json!("2001-01-02T03:04:05Z")),
            ("1:30", json!("1:30")),
            ("-", json!("-")),
            ("1.2.3", json!("1.2.3")),
            ("0x", json!("0x")),
        ] {
            assert_eq!(resolve(text), want, "{text}");
        }
        for text in ["yes", "1", "2001-01-02T03:04:05Z", "1:30", ".inf", "-.INF", "<<", "", "0x1"] {
            assert!(needs_quotes(text), "{text}");
        }
        for text in ["a", "1.2.3", "12:99", "2001-13-01", "v1", "10Mi"] {
            assert!(!needs_quotes(text), "{text}");
        }
    }
}
