//! Indexes of an indexed job as text: `1,3-5,7`.
//!
//! Source: KEP-2214, KEP-3850. Never decides which indexes a job has finished.

/// How many indexes the text names, each below `completions`, in increasing order.
///
/// # Errors
/// What is wrong, for `error parsing completedIndexes: ...`.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut last, mut total) = (None, 0);
    for interval in text.split(',') {
        let (from, to) = parse(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// An index that both texts name. Intervals that cannot be read are passed over: `count` tells of them.
#[must_use]
pub fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|interval| parse(interval, completions).ok()).collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut completed, mut failed) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some((a, b)), Some((x, y))) = (completed.peek(), failed.peek()) {
        if a <= y && x <= b {
            return Some(*a.max(x));
        }
        if a <= x {
            completed.next()
        } else {
            failed.next()
        };
    }
    None
}

fn parse(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |text: &str| {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let number: Option<i64> = if plain { digits.parse().ok() } else { None };
        match number {
            None => Err(format!("cannot convert string to integer for index: {text:?}")),
            Some(number) if number >= completions => Err(format!("too large index: {text:?}")),
            Some(number) => Ok(number),
        }
    };
    match interval.split('-').collect::<Vec<_>>().as_slice() {
        [one] => number(one).map(|index| (index, index)),
        [from, to] => {
            let (from, to) = (number(from)?, number(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {interval:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_increase_and_stay_below_completions() {
        for (text, expected) in [
            ("", Ok(0)),
            ("0,2-4,9", Ok(5)),
            ("1,1", Err("non-increasing order, previous: 1, current: 1")),
            ("3-3", Err("non-increasing order, previous: 3, current: 3")),
            ("10", Err("too large index: \"10\"")),
            ("1-10", Err("too large index: \"10\"")),
            ("x", Err("cannot convert string to integer for index: \"x\"")),
            ("1,", Err("cannot convert string to integer for index: \"\"")),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts \
                     separated by '-'",
                ),
            ),
        ] {
            assert_eq!(count(text, 10), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_both_name() {
        for (completed, failed, index) in [
            ("0-3", "4", None),
            ("0-3", "2-5", Some(2)),
            ("1,5-6", "0,2,6", Some(6)),
            ("", "1", None),
            ("x,3", "3", Some(3)),
        ] {
            assert_eq!(overlap(completed, failed, 10), index, "{completed} {failed}");
        }
    }
}
