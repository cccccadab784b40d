//! Object metadata on JSON values: accessors, owner references, finalizers, ages.
//!
//! Never takes the time by itself; rules for names and labels are validation's.

use crate::json::Value;
use crate::value;

/// `metadata.name`.
#[must_use]
pub fn name(object: &Value) -> &str {
    value::text(object, "metadata.name")
}

/// `metadata.namespace`; empty for cluster-scoped objects.
#[must_use]
pub fn namespace(object: &Value) -> &str {
    value::text(object, "metadata.namespace")
}

/// `metadata.uid`.
#[must_use]
pub fn uid(object: &Value) -> &str {
    value::text(object, "metadata.uid")
}

/// `metadata.resourceVersion`.
#[must_use]
pub fn resource_version(object: &Value) -> &str {
    value::text(object, "metadata.resourceVersion")
}

/// `metadata.generation`, 0 when absent.
#[must_use]
pub fn generation(object: &Value) -> i64 {
    value::int(object, "metadata.generation").unwrap_or_default()
}

/// A label's value.
#[must_use]
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// An annotation's value.
#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// Deletion has begun.
#[must_use]
pub fn is_deleting(object: &Value) -> bool {
    value::get(object, "metadata.deletionTimestamp").is_some_and(|time| !time.is_null())
}

/// `metadata.finalizers`.
#[must_use]
pub fn finalizers(object: &Value) -> Vec<&str> {
    value::items(object, "metadata.finalizers").iter().filter_map(Value::as_str).collect()
}

/// Unix seconds as `metav1.Time` text.
#[must_use]
pub fn time(seconds: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_second(seconds) else { return String::new() };
    let time = jiff::tz::Offset::UTC.to_datetime(time);
    let mut out = String::with_capacity(20);
    // Every write asks for this several times, and a general formatter takes ten times as long.
    let mut put = |number: i16, before: &str, digits: u32| {
        out.push_str(before);
        for place in (0..digits).rev() {
            let digit = number.unsigned_abs() / 10_u16.pow(place) % 10;
            out.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
        }
    };
    put(time.year(), if time.year() < 0 { "-" } else { "" }, 4);
    put(time.month().into(), "-", 2);
    put(time.day().into(), "-", 2);
    put(time.hour().into(), "T", 2);
    put(time.minute().into(), ":", 2);
    put(time.second().into(), ":", 2);
    out.push('Z');
    out
}

/// Unix seconds of an RFC 3339 text.
#[must_use]
pub fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// The age of an object as `kubectl get` prints it; `<unknown>` without a creation time. `now` is in Unix seconds.
#[must_use]
pub fn age(object: &Value, now: i64) -> String {
    since(value::text(object, "metadata.creationTimestamp"), now)
}

/// Time since an RFC 3339 text, as `kubectl get` prints it.
#[must_use]
pub fn since(text: &str, now: i64) -> String {
    seconds(text).map_or_else(|| "<unknown>".to_owned(), |then| human_duration(now - then))
}

/// A duration in nanoseconds as Go writes one, such as `1m30.5s`.
#[must_use]
pub fn duration_text(nanos: i64) -> String {
    crate::codec::scalar::format_duration(nanos)
}

/// A duration the way upstream's printers shorten it: `58s`, `3m7s`, `11m`, `3h20m`, `26h`, `4d1h`, `12d`, `2y3d`, `8y`.
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shortened_as_kubectl_does() {
        for (seconds, text) in [
            (0, "0s"),
            (-1, "0s"),
            (-2, "<invalid>"),
            (119, "119s"),
            (120, "2m"),
            (187, "3m7s"),
            (660, "11m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 1200, "3h20m"),
            (26 * 3600, "26h"),
            (97 * 3600, "4d1h"),
            (12 * 86400, "12d"),
            (2 * 365 * 86400 + 3 * 86400, "2y3d"),
            (9 * 365 * 86400, "9y"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_round_trip() {
        assert_eq!(time(1_767_225_600), "2026-01-01T00:00:00Z");
        assert_eq!(seconds("2026-01-01T01:00:00+01:00"), Some(1_767_225_600));
    }

    #[test]
    fn times_are_what_the_library_formats() {
        // From the year 0 to 9999, in steps of no round number of anything.
        for seconds in (-62_167_219_200..253_402_207_200).step_by(31_415_926) {
            let want = jiff::Timestamp::from_second(seconds).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            assert_eq!(time(seconds), want);
        }
        assert_eq!(time(i64::MAX), "");
    }
}
