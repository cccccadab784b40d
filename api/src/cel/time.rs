//! Points and lengths of time as CEL has them: years 1 to 9999, nanoseconds, Go's texts.
//!
//! Never asks what time it is.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use std::fmt;

/// A point in time between the years 1 and 9999, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i128);

/// The first second that counts.
const FIRST: i64 = -62_135_596_800;
/// The last.
const LAST: i64 = 253_402_300_799;
const SECOND: i128 = 1_000_000_000;
const DAY: i64 = 86_400;
/// Seconds of 400 years, after which the calendar repeats.
const CYCLE: i64 = 146_097 * DAY;

impl Timestamp {
    /// Seconds since 1970; `None` outside of the years that count.
    #[must_use]
    pub fn of_seconds(seconds: i64) -> Option<Timestamp> {
        Timestamp::within(i128::from(seconds) * SECOND)
    }

    /// RFC 3339, as Go reads it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Timestamp> {
        let mark = |at: usize, wanted: &str| text.get(at..at + 1).filter(|mark| *mark == wanted);
        for (at, wanted) in [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")] {
            mark(at, wanted)?;
        }
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
            digits.parse::<i16>().ok()
        };
        let part = |from: usize| i8::try_from(number(from, from + 2)?).ok();
        let (year, month, day) = (number(0, 4)?, part(5)?, part(8)?);
        let at = DateTime::new(year, month, day, part(11)?, part(14)?, part(17)?, 0).ok()?;
        let rest = text.get(19..)?;
        let (fraction, zone) = match rest.strip_prefix(['.', ',']) {
            None => ("", rest),
            Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        };
        if fraction.is_empty() && rest != zone {
            return None;
        }
        let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let offset = match zone {
            "Z" => 0,
            zone => {
                let negative = zone.starts_with('-');
                let shape = zone.len() == 6 && zone.starts_with(['+', '-']) && zone.get(3..4) == Some(":");
                let two = |from: usize| zone.get(from..from + 2)?.parse::<u8>().ok();
                let (hours, minutes) = (two(1).filter(|_| shape)?, two(4)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
                if negative { -seconds } else { seconds }
            }
        };
        let seconds = civil_seconds(at) - offset;
        Timestamp::within(i128::from(seconds) * SECOND + nanos.parse::<i128>().ok()?)
    }

    fn within(nanos: i128) -> Option<Timestamp> {
        let seconds = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
        (FIRST..=LAST).contains(&seconds).then_some(Timestamp(nanos))
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND).try_into().unwrap_or(0)
    }

    /// Later by nanoseconds; `None` outside of the years that count.
    #[must_use]
    pub fn plus(self, nanos: i64) -> Option<Timestamp> {
        Timestamp::within(self.0 + i128::from(nanos))
    }

    /// Nanoseconds since another; `None` when they are too many.
    #[must_use]
    pub fn since(self, other: Timestamp) -> Option<i64> {
        i64::try_from(self.0 - other.0).ok()
    }

    /// The clock and calendar of a place: an IANA name, or an offset as `+01:00`.
    #[must_use]
    pub fn at(self, zone: &str) -> Option<DateTime> {
        let offset = match zone {
            "" | "UTC" => 0,
            _ => match offset(zone) {
                Some(seconds) => seconds,
                None => {
                    let zone = TimeZone::get(zone).ok()?;
                    // The ends of the calendar are beyond what the tables of zones go to.
                    let seconds = self.seconds();
                    let near = if seconds > LAST - CYCLE { seconds - CYCLE } else { seconds.max(FIRST + DAY) };
                    i64::from(zone.to_offset(jiff::Timestamp::from_second(near).ok()?).seconds())
                }
            },
        };
        civil(self.0 + i128::from(offset) * SECOND)
    }
}

fn civil_seconds(at: DateTime) -> i64 {
    let days = Date::constant(1970, 1, 1).until(at.date()).map_or(0, |span| i64::from(span.get_days()));
    days * DAY + i64::from(at.hour()) * 3600 + i64::from(at.minute()) * 60 + i64::from(at.second())
}

fn civil(nanos: i128) -> Option<DateTime> {
    let seconds = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
    let nanos = i32::try_from(nanos.rem_euclid(SECOND)).ok()?;
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let date = Date::constant(1970, 1, 1).checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
    let part = |seconds: i64| i8::try_from(seconds).ok();
    Some(date.at(part(second / 3600)?, part(second / 60 % 60)?, part(second % 60)?, nanos))
}

/// `-01:30`, `5:00`: seconds.
fn offset(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let negative = hours.starts_with('-');
    let hours: i64 = hours.trim_start_matches('+').parse().ok()?;
    let minutes: i64 = minutes.parse().ok()?;
    let seconds = hours.checked_mul(3600)?.checked_add(if negative { -minutes } else { minutes }.checked_mul(60)?)?;
    Offset::from_seconds(seconds.try_into().ok()?).ok().map(|offset| i64::from(offset.seconds()))
}

/// RFC 3339 in UTC, with as many digits as are needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(at) = civil(self.0) else { return Ok(()) };
        let (date, time) = (at.date(), at.time());
        let (year, month, day) = (date.year(), date.month(), date.day());
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())?;
        let nanos = time.subsec_nanosecond();
        if nanos != 0 {
            let digits = format!("{nanos:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of Go's duration text (`1h30m`, `-1.5s`).
#[must_use]
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, after) = rest.split_at(end);
        let (fraction, after) = match after.strip_prefix('.') {
            None => ("", after),
            Some(after) => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
        total = total.checked_add(whole.checked_mul(*nanos)?)?;
        let digits = fraction.get(..fraction.len().min(18)).unwrap_or_default();
        if !digits.is_empty() {
            let scale = 10_i128.pow(u32::try_from(digits.len()).unwrap_or(0));
            total = total.checked_add(digits.parse::<i128>().ok()? * nanos / scale)?;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Seconds with their fraction, as CEL prints durations.
#[must_use]
pub(crate) fn duration_text(nanos: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "Go counts seconds as a double here")]
    let (whole, fraction) = ((nanos / 1_000_000_000) as f64, (nanos % 1_000_000_000) as f64 / 1e9);
    format!("{}s", whole + fraction)
}
