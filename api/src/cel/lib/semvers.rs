//! `semver('1.2.3')` and what can be done with it.
//!
//! The order is `kinds::shared::semver`'s.

use super::quantities::order;
use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::lib::Opaque;
use crate::cel::value::Value;
use crate::kinds::shared::semver::Version;
use std::sync::Arc;

pub(crate) const LIBRARY: Library = Library {
    since: Some(33),
    signatures: "
        semver string_to_semver (string) kubernetes.Semver
        semver string_bool_to_semver (string, bool) kubernetes.Semver
        isSemver is_semver_string (string) bool
        isSemver is_semver_string_bool (string, bool) bool
        .isGreaterThan semver_is_greater_than (kubernetes.Semver, kubernetes.Semver) bool
        .isLessThan semver_is_less_than (kubernetes.Semver, kubernetes.Semver) bool
        .compareTo semver_compare_to (kubernetes.Semver, kubernetes.Semver) int
        .major semver_major (kubernetes.Semver) int
        .minor semver_minor (kubernetes.Semver) int
        .patch semver_patch (kubernetes.Semver) int
    ",
    code: &[
        ("semver", |_, args| {
            let text = text(args)?;
            match Version::read(&text.0) {
                Some(version) if !text.1 => Ok(Value::Opaque(Opaque::Semver(Arc::new((version, text.0))))),
                _ if text.1 => Err(Fault::said("short version cannot contain PreRelease/Build meta data")),
                _ => Err(Fault::said(why(&text.0))),
            }
        }),
        ("isSemver", |_, args| {
            let text = text(args)?;
            Ok(Value::Bool(!text.1 && Version::read(&text.0).is_some()))
        }),
        ("isGreaterThan", |_, args| two(args).map(|(a, b)| Value::Bool(a > b))),
        ("isLessThan", |_, args| two(args).map(|(a, b)| Value::Bool(a < b))),
        ("compareTo", |_, args| two(args).map(|(a, b)| Value::Int(order(a.cmp(b))))),
        ("major", |_, args| number(args, 0)),
        ("minor", |_, args| number(args, 1)),
        ("patch", |_, args| number(args, 2)),
    ],
};

/// The text, completed where that is asked for, and whether that cannot be done.
fn text(args: &[Value<'_>]) -> Outcome<(String, bool)> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok((text.to_string(), false)),
        [Value::String(text), Value::Bool(true)] => Ok(match completed(text) {
            Some(text) => (text, false),
            None => (String::new(), true),
        }),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// Without `v` and leading zeros, with three numbers.
fn completed(text: &str) -> Option<String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
    for part in parts.iter_mut().filter(|part| part.len() > 1) {
        let trimmed = part.trim_start_matches('0');
        let digit = trimmed.starts_with(|c: char| c.is_ascii_digit());
        *part = if digit { trimmed.to_owned() } else { format!("0{trimmed}") };
    }
    if parts.len() < 3 {
        if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return None;
        }
        parts.resize(3, "0".to_owned());
    }
    Some(parts.join("."))
}

fn why(text: &str) -> String {
    if text.is_empty() {
        return "Version string empty".to_owned();
    }
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let [major, minor, patch] = parts.as_slice() else {
        return "No Major.Minor.Patch elements found".to_owned();
    };
    let patch = patch.split(['-', '+']).next().unwrap_or_default();
    for (name, part) in [("Major", *major), ("Minor", *minor), ("Patch", patch)] {
        let shown = crate::cel::format::quoted(part);
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return format!("Invalid character(s) found in {} number {shown}", name.to_lowercase());
        }
        if part.len() > 1 && part.starts_with('0') {
            return format!("{name} number must not contain leading zeroes {shown}");
        }
    }
    "Invalid character(s) found in prerelease or build meta data".to_owned()
}

fn two<'v>(args: &'v [Value<'_>]) -> Outcome<(&'v Version, &'v Version)> {
    match args {
        [Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))] => Ok((&a.0, &b.0)),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn number<'a>(args: &[Value<'a>], at: usize) -> Outcome<Value<'a>> {
    match args {
        [Value::Opaque(Opaque::Semver(version))] => {
            let number = version.0.numbers().get(at).copied().unwrap_or_default();
            Ok(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))
        }
        _ => Err(Fault::NoSuchOverload),
    }
}
