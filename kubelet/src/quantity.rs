//! Sizes of resource quantities as whole numbers, rounded up. Never formats or checks them: the API server did.

pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const SUFFIXES: [(&str, u32, i32); 16] = [
    ("Ki", 1, 0),
    ("Mi", 2, 0),
    ("Gi", 3, 0),
    ("Ti", 4, 0),
    ("Pi", 5, 0),
    ("Ei", 6, 0),
    ("n", 0, -9),
    ("u", 0, -6),
    ("m", 0, -3),
    ("k", 0, 3),
    ("M", 0, 6),
    ("G", 0, 9),
    ("T", 0, 12),
    ("P", 0, 15),
    ("E", 0, 18),
    ("", 0, 0),
];

/// The quantity in billionths, rounded up; `None` when it is malformed or out of range.
fn nanos(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (binary, decimal) = match suffix.strip_prefix(['e', 'E']) {
        Some(exponent) if !exponent.is_empty() => (0, exponent.parse::<i32>().ok()?),
        _ => SUFFIXES.iter().find(|(name, _, _)| *name == suffix).map(|(_, binary, decimal)| (*binary, *decimal))?,
    };
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let scale = decimal.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = mantissa.checked_mul(1024_i128.checked_pow(binary)?)?;
    let value = if scale >= 0 {
        scaled.checked_mul(10_i128.checked_pow(u32::try_from(scale).ok()?)?)?
    } else {
        div_up(scaled, 10_i128.checked_pow(scale.unsigned_abs())?)
    };
    value.checked_mul(sign)
}

fn div_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Whole units, rounded up.
pub fn value(quantity: &Quantity) -> Option<i64> {
    nanos(&quantity.0).map(|value| clamp(div_up(value, 1_000_000_000)))
}

/// Thousandths, rounded up.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    nanos(&quantity.0).map(|value| clamp(div_up(value, 1_000_000)))
}

/// How many whole `divisor`s the quantity fills, rounded up. A divisor of 0 or none counts as 1.
pub fn divided(quantity: &Quantity, divisor: Option<&Quantity>) -> Option<i64> {
    let by = divisor.and_then(|divisor| nanos(&divisor.0)).filter(|by| *by > 0).unwrap_or(1_000_000_000);
    nanos(&quantity.0).map(|value| clamp(div_up(value, by)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_round_up() {
        let cases: [(&str, Option<i64>, Option<i64>); 12] = [
            ("1", Some(1), Some(1000)),
            ("100m", Some(1), Some(100)),
            ("1500m", Some(2), Some(1500)),
            ("0.5", Some(1), Some(500)),
            ("1Ki", Some(1024), Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736), Some(1_610_612_736_000)),
            ("1e3", Some(1000), Some(1_000_000)),
            ("2E", Some(2_000_000_000_000_000_000), Some(i64::MAX)),
            ("1n", Some(1), Some(1)),
            ("-1", Some(-1), Some(-1000)),
            ("abc", None, None),
            ("9999999999999999999999999999999999E", None, None),
        ];
        for (text, whole, thousandths) in cases {
            let quantity = Quantity(text.to_owned());
            assert_eq!((value(&quantity), milli(&quantity)), (whole, thousandths), "{text}");
        }
        let divisor = Quantity("1Mi".to_owned());
        assert_eq!(divided(&Quantity("10Mi".to_owned()), Some(&divisor)), Some(10));
    }
}
