//! Cron schedules: five fields, `@hourly` and its like, `@every`; when they are due next; which time zones there are.
//!
//! The language is that of Kubernetes' CronJobs (`spec.schedule`, `spec.timeZone`), with its sentences for what is wrong.
//! Never takes the time by itself. Time zones come from a database built into the program, not from the machine's.

use crate::codec::scalar;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, Zoned};
use std::sync::LazyLock;

/// When something is due, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The zone that the text itself names (`TZ=`, `CRON_TZ=`).
    zone: Option<TimeZone>,
    rhythm: Rhythm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rhythm {
    /// Minutes of wall clocks.
    Fields { minutes: Set, hours: Set, days: Set, months: Set, weekdays: Set },
    /// Whole seconds after the last time.
    Every(i64),
}

/// Some of the numbers from 0 to 59.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// A star with step 1 was among the ranges: the field leaves the choice of days to the other one.
    star: bool,
}

impl Set {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|n| self.bits.checked_shr(n).unwrap_or_default() & 1 == 1)
    }

    fn is_empty(self) -> bool {
        self.bits == 0
    }
}

/// A field's least and greatest number, and names for some.
struct Bounds {
    low: u64,
    high: u64,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { low: 0, high: 59, names: &[] };
const HOURS: Bounds = Bounds { low: 0, high: 23, names: &[] };
const DAYS: Bounds = Bounds { low: 1, high: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// Short names, and the five fields they stand for.
const DESCRIPTORS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// The time zones of the program itself.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// How many years ahead a schedule may have nothing due.
const YEARS: i16 = 5;

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// The sentence that Kubernetes' clients know, to be put after `spec.schedule: Invalid value: ...`.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        if text.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let (zone, rest) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            None => (None, text),
            Some(named) => {
                let (name, rest) = named.split_once(' ').ok_or_else(|| {
                    "invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned()
                })?;
                let zone = zone(name).map_err(|why| format!("provided bad location {name}: {why}"))?;
                (Some(zone), rest.trim())
            }
        };
        let rhythm = if rest.starts_with('@') { descriptor(rest)? } else { fields(rest)? };
        Ok(Schedule { zone, rhythm })
    }

    /// The first time after `after` that the schedule is due, in `zone` unless the schedule names one itself. `None`
    /// when nothing is due within five years (30 February).
    ///
    /// A wall clock that stands still or runs twice is followed as it goes: an hour that a zone skips is not due that
    /// day, one that it repeats is due twice.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self.rhythm {
            Rhythm::Every(seconds) => Timestamp::from_second(after.as_second().checked_add(seconds)?).ok(),
            Rhythm::Fields { minutes, hours, .. } => {
                if minutes.is_empty() || hours.is_empty() {
                    return None;
                }
                let start = Timestamp::from_second(after.as_second().div_euclid(60).checked_add(1)? * 60).ok()?;
                self.search(start.to_zoned(self.zone.clone().unwrap_or_else(|| zone.clone())))
            }
        }
    }

    /// The first due minute at or after `at`, which is a whole one.
    fn search(&self, mut at: Zoned) -> Option<Timestamp> {
        let Rhythm::Fields { minutes, hours, days, months, weekdays } = self.rhythm else { return None };
        let is_day = |date: Date| {
            let weekday = weekdays.has(date.weekday().to_sunday_zero_offset());
            let day = days.has(date.day());
            if days.star || weekdays.star { day && weekday } else { day || weekday }
        };
        let last = at.year().checked_add(YEARS)?;
        while at.year() <= last {
            let date = at.date();
            if !months.has(date.month()) {
                at = start_of(date.first_of_month().checked_add(1.month()).ok()?, &at)?;
            } else if !is_day(date) {
                at = start_of(date.tomorrow().ok()?, &at)?;
            } else if !hours.has(at.hour()) {
                let past = i64::from(at.minute()) * 60 + i64::from(at.second());
                at = at.checked_add((3600 - past).seconds()).ok()?;
            } else if !minutes.has(at.minute()) {
                at = at.checked_add((60 - i64::from(at.second())).seconds()).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }
}

fn start_of(date: Date, like: &Zoned) -> Option<Zoned> {
    date.to_zoned(like.time_zone().clone()).and_then(|day| day.start_of_day()).ok()
}

/// The time zone of this name, as the IANA database spells it; an empty name is UTC.
///
/// # Errors
/// `unknown time zone X`, or that the name is none.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    if name.is_empty() || name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    if name.contains("..") || name.starts_with('/') || name.starts_with('\\') {
        return Err("time: invalid location name".to_owned());
    }
    // Names are files elsewhere: upper and lower case count.
    let found = ZONES.get(name).ok();
    found
        .filter(|zone| !zone.is_unknown() && zone.iana_name() == Some(name))
        .ok_or_else(|| format!("unknown time zone {name}"))
}

fn descriptor(text: &str) -> Result<Rhythm, String> {
    if let Some((_, spelled_out)) = DESCRIPTORS.iter().find(|(name, _)| *name == text) {
        return fields(spelled_out);
    }
    let Some(duration) = text.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {text}"));
    };
    let nanos = scalar::parse_duration(duration).map_err(|why| format!("failed to parse duration {text}: {why}"))?;
    Ok(Rhythm::Every((nanos / 1_000_000_000).max(1)))
}

fn fields(text: &str) -> Result<Rhythm, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    };
    Ok(Rhythm::Fields {
        minutes: set(minutes, &MINUTES)?,
        hours: set(hours, &HOURS)?,
        days: set(days, &DAYS)?,
        months: set(months, &MONTHS)?,
        weekdays: set(weekdays, &WEEKDAYS)?,
    })
}

/// Ranges between commas.
fn set(field: &str, bounds: &Bounds) -> Result<Set, String> {
    let mut out = Set::default();
    for expression in field.split(',').filter(|part| !part.is_empty()) {
        let range = range(expression, bounds)?;
        out.bits |= range.bits;
        out.star |= range.star;
    }
    Ok(out)
}

/// `*`, `N`, `N-M`, each with `/STEP` or without; `N/STEP` goes to the end.
fn range(expression: &str, bounds: &Bounds) -> Result<Set, String> {
    let parts: Vec<&str> = expression.split('/').collect();
    let ends: Vec<&str> = parts.first().copied().unwrap_or_default().split('-').collect();
    let (low, mut high, mut star) = match ends.as_slice() {
        ["*" | "?", ..] => (bounds.low, bounds.high, true),
        [one] => {
            let number = number_or_name(one, bounds)?;
            (number, number, false)
        }
        [first, rest @ ..] => {
            let low = number_or_name(first, bounds)?;
            let [last] = rest else { return Err(format!("too many hyphens: {expression}")) };
            (low, number_or_name(last, bounds)?, false)
        }
        [] => (bounds.low, bounds.high, false),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if ends.len() == 1 {
                high = bounds.high;
            }
            star &= step <= 1;
            step
        }
        _ => return Err(format!("too many slashes: {expression}")),
    };
    if low < bounds.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {expression}", bounds.low));
    }
    if high > bounds.high {
        return Err(format!("end of range ({high}) above maximum ({}): {expression}", bounds.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {expression}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {expression}"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let bits = (low..=high).step_by(step).fold(0, |bits, number| bits | 1_u64 << number);
    Ok(Set { bits, star })
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let named = bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name));
    match named.and_then(|at| u64::try_from(at).ok()) {
        Some(at) => Ok(at + bounds.low),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let why = |what: &str| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {what}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(why("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| why("value out of range"))?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_schedule_is_told_why() {
        for (text, sentence) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("1  2 3 4 5 6", "expected exactly 5 fields, found 6: [1 2 3 4 5 6]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* 5-3 * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            (
                "99999999999999999999 * * * *",
                "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out \
                 of range",
            ),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
            ("TZ=0", "invalid schedule format: runtime error: slice bounds out of range [:-1]"),
            ("TZ=Mars/Base * * * * *", "provided bad location Mars/Base: unknown time zone Mars/Base"),
        ] {
            assert_eq!(Schedule::parse(text), Err(sentence.to_owned()), "{text}");
        }
    }

    #[test]
    fn different_texts_of_one_schedule() {
        for (a, b) in [
            ("0 0 * * *", "@daily"),
            ("0 0 ? * ?", "@midnight"),
            ("0 0 1 JAN *", "@yearly"),
            ("*/15 * * * mon-fri", "0,15,30,45 * * * 1-5"),
            ("50/3 * * * *", "50,53,56,59 * * * *"),
            ("@every 90s", "@every 1m30s"),
            ("@every 1ms", "@every 1s"),
            ("@every 1.9s", "@every 1s"),
            ("CRON_TZ=UTC * * * * *", "TZ=UTC  * * * * *"),
        ] {
            assert_eq!(Schedule::parse(a).unwrap(), Schedule::parse(b).unwrap(), "{a} {b}");
        }
    }

    fn check(schedule: &str, zone: &str, after: &str, expected: &[&str]) {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), super::zone(zone).unwrap());
        let mut at: Timestamp = after.parse().unwrap();
        for due in expected {
            at = schedule.next(at, &zone).unwrap();
            assert_eq!(at, due.parse().unwrap(), "{schedule:?} after {after}");
        }
    }

    #[test]
    fn times_in_turn() {
        let start = "2026-01-01T00:00:30Z";
        check("* * * * *", "UTC", start, &["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]);
        check("*/20 3 * * *", "UTC", start, &["2026-01-01T03:00:00Z", "2026-01-01T03:20:00Z"]);
        check("@monthly", "UTC", start, &["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]);
        check("0 0 29 2 *", "UTC", start, &["2028-02-29T00:00:00Z"]);
        check("@every 1h", "UTC", start, &["2026-01-01T01:00:30Z", "2026-01-01T02:00:30Z"]);
        check("0 8 * * *", "America/New_York", start, &["2026-01-01T13:00:00Z"]);
        check("TZ=Asia/Tokyo 0 8 * * *", "America/New_York", start, &["2026-01-01T23:00:00Z"]);
        // 2 January 2026 is a Friday: with both fields set either will do, with a star both must.
        check("0 0 5 * fri", "UTC", start, &["2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-09T00:00:00Z"]);
        check("0 0 */2 * fri", "UTC", start, &["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]);
        check("0 0 * * fri", "UTC", start, &["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"]);
        let never = |text| Schedule::parse(text).unwrap().next(start.parse().unwrap(), &TimeZone::UTC);
        assert_eq!(never("0 0 30 2 *"), None);
        assert_eq!(never(", * * * *"), None);
    }

    #[test]
    fn clocks_that_skip_and_repeat() {
        let zone = "America/New_York";
        // Half past two does not exist on 8 March 2026; half past one exists twice on 1 November.
        check("30 2 * * *", zone, "2026-03-08T05:00:00Z", &["2026-03-09T06:30:00Z"]);
        check("30 1 * * *", zone, "2026-11-01T04:00:00Z", &["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"]);
        check("0 * * * *", zone, "2026-03-08T06:30:00Z", &["2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z"]);
        // Midnight of 4 November 2018 did not exist in Sao Paulo.
        check("0 0 * * *", "America/Sao_Paulo", "2018-11-03T04:00:00Z", &["2018-11-05T02:00:00Z"]);
    }

    #[test]
    fn zones_are_known_by_their_exact_names() {
        for name in ["UTC", "", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "US/Pacific"] {
            assert!(zone(name).is_ok(), "{name}");
        }
        for (name, why) in [
            ("europe/berlin", "unknown time zone europe/berlin"),
            ("Etc/Unknown", "unknown time zone Etc/Unknown"),
            ("/etc/passwd", "time: invalid location name"),
            ("a/../b", "time: invalid location name"),
        ] {
            assert_eq!(zone(name).unwrap_err(), why);
        }
    }
}
