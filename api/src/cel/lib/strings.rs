//! Functions of texts: CEL's strings extension (version 2), and searching with patterns.
//!
//! Positions count characters. A result that would be larger than anybody may pay for is not made.

use crate::cel::convert::text;
use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::eval::Call;
use crate::cel::format;
use crate::cel::value::{List, Value};

/// Bytes of the largest text that is made; no cost that may be paid reaches it.
pub(crate) const LARGEST: usize = 64 << 20;

pub(crate) const LIBRARY: Library = Library {
    since: Some(0),
    signatures: "
        .charAt string_char_at_int (string, int) string
        .indexOf string_index_of_string (string, string) int
        .indexOf string_index_of_string_int (string, string, int) int
        .lastIndexOf string_last_index_of_string (string, string) int
        .lastIndexOf string_last_index_of_string_int (string, string, int) int
        .lowerAscii string_lower_ascii (string) string
        .replace string_replace_string_string (string, string, string) string
        .replace string_replace_string_string_int (string, string, string, int) string
        .split string_split_string (string, string) list(string)
        .split string_split_string_int (string, string, int) list(string)
        .substring string_substring_int (string, int) string
        .substring string_substring_int_int (string, int, int) string
        .trim string_trim (string) string
        .upperAscii string_upper_ascii (string) string
        .format string_format (string, list(dyn)) string
        strings.quote strings_quote (string) string
        .join list_join (list(string)) string
        .join list_join_string (list(string), string) string
    ",
    code: &[
        ("charAt", char_at),
        ("indexOf", |_, args| match args {
            [Value::String(all), Value::String(part)] => Ok(Value::Int(index_of(all, part, 0)?)),
            [Value::String(all), Value::String(part), Value::Int(from)] => Ok(Value::Int(index_of(all, part, *from)?)),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("lastIndexOf", last_index_of),
        ("lowerAscii", |_, args| made(args, str::to_ascii_lowercase)),
        ("upperAscii", |_, args| made(args, str::to_ascii_uppercase)),
        ("trim", |_, args| made(args, |text| text.trim().to_owned())),
        ("replace", |_, args| match args {
            [Value::String(all), Value::String(old), Value::String(new)] => replace(all, old, new, -1),
            [Value::String(all), Value::String(old), Value::String(new), Value::Int(n)] => replace(all, old, new, *n),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("split", |_, args| match args {
            [Value::String(all), Value::String(separator)] => Ok(split(all, separator, -1)),
            [Value::String(all), Value::String(separator), Value::Int(n)] => Ok(split(all, separator, *n)),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("substring", substring),
        ("format", |call, args| match args {
            [Value::String(pattern), Value::List(args)] => format::format(pattern, args, call.fuel).map(text),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("strings.quote", |_, args| made(args, format::quoted_plain)),
        ("join", join),
    ],
};

pub(crate) const PATTERNS: Library = Library {
    since: Some(0),
    signatures: "
        .find string_find_string (string, string) string
        .findAll string_find_all_string (string, string) list(string)
        .findAll string_find_all_string_int (string, string, int) list(string)
    ",
    code: &[
        ("find", |call, args| match args {
            [Value::String(all), Value::String(pattern)] => {
                let found = compiled(call, pattern)?.find(all).map(|found| found.as_str().to_owned());
                Ok(text(found.unwrap_or_default()))
            }
            _ => Err(Fault::NoSuchOverload),
        }),
        ("findAll", |call, args| match args {
            [Value::String(all), Value::String(pattern)] => find_all(call, all, pattern, -1),
            [Value::String(all), Value::String(pattern), Value::Int(n)] => find_all(call, all, pattern, *n),
            _ => Err(Fault::NoSuchOverload),
        }),
    ],
};

fn compiled(call: &Call<'_>, pattern: &str) -> Outcome<std::sync::Arc<regex::Regex>> {
    call.patterns.get(pattern).map_err(|error| Fault::said(format!("Illegal regex: {error}")))
}

fn find_all<'a>(call: &Call<'_>, all: &str, pattern: &str, n: i64) -> Outcome<Value<'a>> {
    let most = usize::try_from(n).unwrap_or(usize::MAX);
    let pattern = compiled(call, pattern)?;
    let found = pattern.find_iter(all).take(most).map(|found| text(found.as_str().to_owned())).collect();
    Ok(Value::List(List::of(found)))
}

fn out_of_range(index: i64) -> Fault {
    Fault::said(format!("index out of range: {index}"))
}

fn made<'a>(args: &[Value<'a>], change: impl Fn(&str) -> String) -> Outcome<Value<'a>> {
    match args {
        [Value::String(value)] => Ok(text(change(value))),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn char_at<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Outcome<Value<'a>> {
    let [Value::String(all), Value::Int(at)] = args else { return Err(Fault::NoSuchOverload) };
    let index = usize::try_from(*at).map_err(|_| out_of_range(*at))?;
    match all.chars().nth(index) {
        Some(c) => Ok(text(c.to_string())),
        None if index == all.chars().count() => Ok(text(String::new())),
        None => Err(out_of_range(*at)),
    }
}

fn index_of(all: &str, part: &str, from: i64) -> Outcome<i64> {
    if part.is_empty() {
        return Ok(from);
    }
    let skipped = usize::try_from(from).map_err(|_| out_of_range(from))?;
    let Some((start, _)) = all.char_indices().nth(skipped) else { return Ok(-1) };
    let rest = all.get(start..).unwrap_or_default();
    let found = rest.find(part).map(|at| rest.get(..at).unwrap_or_default().chars().count() + skipped);
    Ok(found.map_or(-1, |at| i64::try_from(at).unwrap_or(-1)))
}

fn last_index_of<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Outcome<Value<'a>> {
    let (all, part, from) = match args {
        [Value::String(all), Value::String(part)] => (all, part, None),
        [Value::String(all), Value::String(part), Value::Int(from)] => (all, part, Some(*from)),
        _ => return Err(Fault::NoSuchOverload),
    };
    let length = all.chars().count();
    let whole = |at: usize| Ok(Value::Int(i64::try_from(at).unwrap_or(i64::MAX)));
    if part.is_empty() {
        return from.map_or_else(|| whole(length), |from| Ok(Value::Int(from)));
    }
    let last = match from {
        None => length,
        Some(from) => usize::try_from(from).map_err(|_| out_of_range(from))?,
    };
    if from.is_some() && last >= length {
        return Ok(Value::Int(-1));
    }
    // The last place where the part begins at or before `last`.
    let end = all.char_indices().nth(last.saturating_add(part.chars().count())).map_or(all.len(), |(at, _)| at);
    match all.get(..end).unwrap_or_default().rfind(&**part) {
        Some(at) => whole(all.get(..at).unwrap_or_default().chars().count()),
        None => Ok(Value::Int(-1)),
    }
}

fn replace<'a>(all: &str, old: &str, new: &str, n: i64) -> Outcome<Value<'a>> {
    let most = usize::try_from(n).unwrap_or(usize::MAX);
    let times = all.matches(old).take(most).count();
    if times.saturating_mul(new.len()).saturating_add(all.len()) > LARGEST {
        return Err(Fault::CallLimit);
    }
    Ok(text(all.replacen(old, new, most)))
}

fn split<'a>(all: &str, separator: &str, n: i64) -> Value<'a> {
    let most = usize::try_from(n).unwrap_or(usize::MAX);
    let parts: Vec<Value<'a>> = if most == 0 {
        Vec::new()
    } else if separator.is_empty() {
        let mut rest = all.char_indices();
        let mut parts: Vec<String> = rest.by_ref().take(most - 1).map(|(_, c)| c.to_string()).collect();
        if let Some((at, c)) = rest.next() {
            let tail = if most == usize::MAX { c.to_string() } else { all.get(at..).unwrap_or_default().to_owned() };
            parts.push(tail);
            parts.extend(rest.filter(|_| most == usize::MAX).map(|(_, c)| c.to_string()));
        }
        parts.into_iter().map(text).collect()
    } else {
        all.splitn(most, separator).map(|part| text(part.to_owned())).collect()
    };
    Value::List(List::of(parts))
}

fn substring<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Outcome<Value<'a>> {
    let (all, start, end) = match args {
        [Value::String(all), Value::Int(start)] => (all, *start, None),
        [Value::String(all), Value::Int(start), Value::Int(end)] => (all, *start, Some(*end)),
        _ => return Err(Fault::NoSuchOverload),
    };
    let length = all.chars().count();
    let place = |at: i64| match usize::try_from(at) {
        Ok(place) if place <= length => Ok(place),
        _ => Err(out_of_range(at)),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(Fault::said(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let start = place(start)?;
    let end = end.map_or(Ok(length), place)?;
    Ok(text(all.chars().skip(start).take(end.saturating_sub(start)).collect()))
}

fn join<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Outcome<Value<'a>> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return Err(Fault::NoSuchOverload),
    };
    let mut joined = String::new();
    for (i, element) in list.iter().enumerate() {
        if i > 0 {
            joined.push_str(separator);
        }
        match element? {
            Value::String(part) => joined.push_str(&part),
            other => return Err(Fault::said(format!("join: invalid input: {}", other.text()))),
        }
        if joined.len() > LARGEST {
            return Err(Fault::CallLimit);
        }
    }
    Ok(text(joined))
}
