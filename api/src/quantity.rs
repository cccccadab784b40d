//! `resource.Quantity`: exact decimal and binary SI numbers.
//!
//! A quantity is a whole number times a power of ten, no finer than nano. Never uses floating point. Rules and sentences
//! are those of `k8s.io/apimachinery/pkg/api/resource`.

use std::cmp::Ordering;
use std::fmt;

/// The smallest power of ten that is kept; finer values are rounded away from zero.
const NANO: i32 = -9;
/// The largest exponent that is read or kept.
const FARTHEST: i32 = 1000;
/// Values that do not fit are capped here, as upstream does.
const MAX: i128 = i64::MAX as i128;

/// Which suffixes a quantity was written with and is printed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    DecimalSi,
}

/// An exact amount of a resource. Equality and order are by value, whatever the format.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// No factor of ten in it, so that equal values are equal here.
    mantissa: i128,
    exponent: i32,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// An unknown suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { mantissa: 0, exponent: 0, format: Format::DecimalSi };

    /// Reads a quantity.
    ///
    /// # Errors
    /// Upstream's sentences for a malformed number or suffix.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
        let (whole, mut rest) = unsigned.split_at(end);
        let mut fraction = "";
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            (fraction, rest) = tail.split_at(end);
        }
        if whole.is_empty() && fraction.is_empty() && !unsigned.starts_with('.') {
            return Err(QuantityError::Format);
        }
        check_suffix(rest)?;
        let (scale, format) = suffix(rest).ok_or(QuantityError::Suffix)?;
        let mut digits = whole.bytes().chain(fraction.bytes());
        let mantissa = digits.try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(i128::from(digit - b'0')));
        let places = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
        let made = match (scale, mantissa) {
            (Scale::Ten(power), Some(mantissa)) => Some((mantissa, power.saturating_sub(places))),
            (Scale::Two(power), Some(mantissa)) => mantissa.checked_mul(1_i128 << power).map(|m| (m, -places)),
            (_, None) => None,
        };
        let (mantissa, exponent) = match made {
            Some((mantissa, exponent)) => (mantissa, exponent),
            None => long(whole, fraction, scale),
        };
        let mut quantity =
            Quantity { mantissa: if negative { -mantissa } else { mantissa }, exponent, format }.reduced();
        // Upstream's short way for few digits does not cap; what could not be read again once it is written is capped here all the same.
        let long = whole.len() + fraction.len() > 18 || quantity.exponent > FARTHEST;
        let capped = format == Format::BinarySi || long;
        if capped && quantity.abs() > Quantity::of(i64::MAX, format) {
            quantity = Quantity { mantissa: MAX * quantity.mantissa.signum(), exponent: 0, format };
        }
        if format == Format::BinarySi && quantity.mantissa > 0 && quantity < Quantity::of(1, format) {
            quantity.format = Format::DecimalSi;
        }
        Ok(quantity)
    }

    /// Whether this is a canonical text, as far as that can be told without arithmetic on 128 bits: a few digits and a suffix that
    /// could not be a larger one. Most texts of most objects are.
    pub(crate) fn is_canonical(text: &str) -> bool {
        let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        let Some((digits, suffix)) = text.split_at_checked(end).filter(|_| end <= 9 && !text.starts_with('0')) else {
            return false;
        };
        let Ok(number) = digits.parse::<u32>() else { return false };
        match suffix {
            "m" | "" | "k" | "M" | "G" => number % 1000 != 0,
            "Ki" | "Mi" | "Gi" => number % 1024 != 0,
            _ => false,
        }
    }

    /// A whole number of units.
    #[must_use]
    pub fn of(units: i64, format: Format) -> Quantity {
        Quantity { mantissa: i128::from(units), exponent: 0, format }.reduced()
    }

    /// A number of thousandths, printed in decimal.
    #[must_use]
    pub fn of_milli(thousandths: i64) -> Quantity {
        Quantity { mantissa: i128::from(thousandths), exponent: -3, format: Format::DecimalSi }.reduced()
    }

    /// The format it is printed in.
    #[must_use]
    pub fn format(self) -> Format {
        self.format
    }

    /// Whole units, rounded up; capped to 64 bits.
    #[must_use]
    pub fn value(self) -> i64 {
        self.scaled(0)
    }

    /// Thousandths, rounded up; capped to 64 bits.
    #[must_use]
    pub fn milli_value(self) -> i64 {
        self.scaled(-3)
    }

    /// -1, 0 or 1.
    #[must_use]
    pub fn signum(self) -> i32 {
        match self.mantissa.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// Is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// The size without the sign.
    #[must_use]
    pub fn abs(self) -> Quantity {
        Quantity { mantissa: self.mantissa.saturating_abs(), ..self }
    }

    /// Whole units, when it is a whole number that 64 bits hold.
    #[must_use]
    pub fn whole(self) -> Option<i64> {
        let factor = power(u32::try_from(self.exponent).ok()?)?;
        i64::try_from(self.mantissa.checked_mul(factor)?).ok()
    }

    /// The nearest double, for where exactness does not matter.
    #[must_use]
    pub fn approximate(self) -> f64 {
        format!("{}e{}", self.mantissa, self.exponent).parse().unwrap_or(f64::NAN)
    }

    fn scaled(self, exponent: i32) -> i64 {
        let shift = self.exponent - exponent;
        let value = match power(shift.unsigned_abs()) {
            Some(factor) if shift >= 0 => self.mantissa.saturating_mul(factor),
            Some(factor) => round_up(self.mantissa, factor),
            None if shift >= 0 => self.mantissa.signum().saturating_mul(i128::MAX),
            None => self.mantissa.signum().max(0),
        };
        i64::try_from(value).unwrap_or(if value > 0 { i64::MAX } else { i64::MIN })
    }

    /// No trailing zeros in the mantissa, nothing finer than nano.
    fn reduced(mut self) -> Quantity {
        if self.exponent < NANO {
            let factor = power((NANO - self.exponent).unsigned_abs());
            let rounded = factor.map(|factor| {
                let (whole, rest) = (self.mantissa / factor, self.mantissa % factor);
                whole + rest.signum()
            });
            self.mantissa = rounded.unwrap_or(self.mantissa.signum());
            self.exponent = NANO;
        }
        while self.mantissa != 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.exponent += 1;
        }
        if self.mantissa == 0 {
            self.exponent = 0;
        }
        self
    }

    fn aligned(self, other: Quantity) -> Option<(i128, i128, i32)> {
        let exponent = self.exponent.min(other.exponent);
        let lift = |q: Quantity| q.mantissa.checked_mul(power((q.exponent - exponent).unsigned_abs())?);
        Some((lift(self)?, lift(other)?, exponent))
    }
}

/// The sum, in the format of the left side unless that is nothing. Overflow is capped.
impl std::ops::Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        match self.aligned(other) {
            Some((a, b, exponent)) => Quantity { mantissa: a.saturating_add(b), exponent, format }.reduced(),
            None => Quantity { format, ..if self.abs() > other.abs() { self } else { other } },
        }
    }
}

impl std::ops::Neg for Quantity {
    type Output = Quantity;

    fn neg(self) -> Quantity {
        Quantity { mantissa: self.mantissa.saturating_neg(), ..self }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self + -other
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        (self.mantissa, self.exponent) == (other.mantissa, other.exponent)
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        if self.signum() != other.signum() || self.is_zero() {
            return self.signum().cmp(&other.signum());
        }
        match self.aligned(*other) {
            Some((a, b, _)) => a.cmp(&b),
            // Too far apart for 128 bits: the exponents decide.
            None if self.signum() > 0 => self.exponent.cmp(&other.exponent),
            None => other.exponent.cmp(&self.exponent),
        }
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        Quantity::parse(text)
    }
}

/// The canonical form: the largest suffix that leaves no fraction.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let small = self.abs() < Quantity::of(1024, self.format);
        if self.format == Format::BinarySi && !small {
            let units = power(self.exponent.unsigned_abs()).map(|factor| {
                if self.exponent >= 0 {
                    self.mantissa.saturating_mul(factor)
                } else {
                    let (whole, rest) = (self.mantissa / factor, self.mantissa % factor);
                    whole + rest.signum()
                }
            });
            if let Some(mut units) = units {
                let mut suffix = "";
                for (name, _) in BINARY {
                    if units % 1024 != 0 {
                        break;
                    }
                    units /= 1024;
                    suffix = name;
                }
                return write!(f, "{units}{suffix}");
            }
        }
        let down = self.exponent.rem_euclid(3);
        let exponent = self.exponent - down;
        let mantissa = self.mantissa.saturating_mul(if down == 0 { 1 } else { 10_i128.pow(down.unsigned_abs()) });
        write!(f, "{mantissa}")?;
        let si = DECIMAL.iter().find(|(_, power)| *power == exponent);
        match si {
            _ if exponent == 0 => Ok(()),
            Some((name, _)) if self.format != Format::DecimalExponent => f.write_str(name),
            _ => write!(f, "e{exponent}"),
        }
    }
}

#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

/// The part after the number may only be letters of suffixes, a sign and digits.
fn check_suffix(text: &str) -> Result<(), QuantityError> {
    let rest = text.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    if rest.bytes().all(|byte| byte.is_ascii_digit()) { Ok(()) } else { Err(QuantityError::Format) }
}

fn suffix(text: &str) -> Option<(Scale, Format)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == text) {
        return Some((Scale::Ten(*power), Format::DecimalSi));
    }
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == text) {
        return Some((Scale::Two(*power), Format::BinarySi));
    }
    let exponent = text.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
    // Far beyond any use; keeps powers of ten within reach.
    (exponent.unsigned_abs() <= FARTHEST.unsigned_abs()).then_some((Scale::Ten(exponent), Format::DecimalExponent))
}

/// Numbers of more digits than 128 bits hold: rounded if the surplus is fraction, else capped.
fn long(whole: &str, fraction: &str, scale: Scale) -> (i128, i32) {
    let whole = whole.trim_start_matches('0');
    if whole.len() > 19 {
        return (MAX, 0);
    }
    let kept = fraction.get(..fraction.len().min(10)).unwrap_or_default();
    let surplus = fraction.get(kept.len()..).unwrap_or_default().bytes().any(|digit| digit != b'0');
    let digits = whole.bytes().chain(kept.bytes());
    let mut mantissa = digits.fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    let mut exponent = -i32::try_from(kept.len()).unwrap_or(0);
    match scale {
        Scale::Ten(power) => exponent += power,
        Scale::Two(power) => match mantissa.checked_mul(1_i128 << power) {
            Some(product) => mantissa = product,
            None => return (MAX, 0),
        },
    }
    (mantissa + i128::from(surplus), exponent)
}

fn power(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

/// Division that rounds towards positive infinity.
fn round_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, want) in [
            ("0", "0"),
            ("0.0", "0"),
            ("00", "0"),
            ("-0", "0"),
            ("+1", "1"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("1Ki", "1Ki"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("1Ei", "1Ei"),
            ("0.001Ki", "1024m"),
            ("1.0001Ki", "1025"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1.1n", "2n"),
            ("-1.1n", "-2n"),
            ("-1500m", "-1500m"),
            ("100000000", "100M"),
            ("9223372036854775807", "9223372036854775807"),
            ("8Ei", "9223372036854775807"),
            ("10E", "10E"),
            ("123456789012345678901234567890.5", "9223372036854775807"),
        ] {
            let got = Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(got.to_string(), want, "{text}");
            assert_eq!(Quantity::parse(want).unwrap().to_string(), want, "{text} is not stable");
            assert!(text == want || !Quantity::is_canonical(text), "{text}");
        }
    }

    #[test]
    fn what_looks_canonical_is() {
        let mut canonical = 0;
        for number in [0, 1, 5, 10, 100, 512, 999, 1000, 1023, 1024, 1500, 2048, 30_000, 1_048_576, 999_999_999] {
            for suffix in
                ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "x"]
            {
                let text = format!("{number}{suffix}");
                if Quantity::is_canonical(&text) {
                    canonical += 1;
                    assert_eq!(Quantity::parse(&text).map(|quantity| quantity.to_string()), Ok(text));
                }
            }
        }
        assert!(canonical > 50, "{canonical}");
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in ["", "-", "a", "1 ", " 1", "1.2.3", "1Kib", "1x", "--1", "1e3.5", "\u{661}"] {
            assert!(Quantity::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Quantity::parse("1i"), Err(QuantityError::Suffix));
        assert_eq!(Quantity::parse("1mm"), Err(QuantityError::Suffix));
        assert_eq!(Quantity::parse("1e"), Err(QuantityError::Suffix));
        assert_eq!(Quantity::parse("one"), Err(QuantityError::Format));
        assert_eq!(Quantity::parse("1e99999999999"), Err(QuantityError::Suffix));
    }

    #[test]
    fn arithmetic_is_exact() {
        let q = |text| Quantity::parse(text).unwrap();
        assert_eq!((q("100m") + q("0.9")).to_string(), "1");
        assert_eq!((q("1Gi") - q("1Mi")).to_string(), "1023Mi");
        assert_eq!((Quantity::ZERO + q("1Mi")).to_string(), "1Mi");
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("-1500m").value(), -1);
        assert_eq!(q("1n").milli_value(), 1);
        assert_eq!(q("9E").milli_value(), i64::MAX);
        assert_eq!(q("1Ki"), q("1024"));
        assert!(q("1Ki") > q("1k"));
        assert!(q("-1") < q("1n"));
        assert!(q("1e900") > q("1e-900"));
        assert!(q("-1e900") < q("-1"));
    }
}
