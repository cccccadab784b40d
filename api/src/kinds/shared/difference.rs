//! How two values differ, line by line, for sentences that say what must not change.
//!
//! Never decides whether they may.

use crate::json::Value;
use k8s_openapi::serde::Serialize as _;

/// Equal lines around a change.
const CONTEXT: usize = 3;

/// One line of the comparison: in both, only before, only after.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    Came(&'a str),
}

#[derive(Clone, Copy)]
enum Side {
    Before,
    After,
}

impl Line<'_> {
    fn is_of(self, side: Side) -> bool {
        !matches!((self, side), (Line::Gone(_), Side::After) | (Line::Came(_), Side::Before))
    }
}

/// The unified difference of two values as indented JSON; empty when they are equal.
#[must_use]
pub fn unified(before: &Value, after: &Value) -> String {
    let (before, after) = (pretty(before), pretty(after));
    let lines = compare(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>());
    let mut out = String::new();
    for (start, end) in hunks(&lines) {
        let hunk = lines.get(start..end).unwrap_or_default();
        let number = |lines: &[Line<'_>], of: Side| lines.iter().filter(|line| line.is_of(of)).count();
        let ahead = lines.get(..start).unwrap_or_default();
        let range = |of| {
            let (first, count) = (number(ahead, of) + 1, number(hunk, of));
            if count == 1 {
                first.to_string()
            } else {
                format!("{},{count}", if count == 0 { first - 1 } else { first })
            }
        };
        out.push_str(&format!("@@ -{} +{} @@\n", range(Side::Before), range(Side::After)));
        for line in hunk {
            let (sign, text) = match line {
                Line::Same(text) => (' ', text),
                Line::Gone(text) => ('-', text),
                Line::Came(text) => ('+', text),
            };
            out.push(sign);
            out.push_str(text);
            out.push('\n');
        }
    }
    out
}

fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing a value into memory does not fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(out).unwrap_or_default()
}

/// Ranges of lines to show: the changes with their context.
fn hunks(lines: &[Line<'_>]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (i, _) in lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))) {
        let (start, end) = (i.saturating_sub(CONTEXT), (i + CONTEXT + 1).min(lines.len()));
        match out.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            _ => out.push((start, end)),
        }
    }
    out
}

/// Lines in both are those of the longest common subsequence.
fn compare<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let width = after.len() + 1;
    // `longest[i * width + j]`: of the tails from i and j on. Specs have some hundred lines at most; longer ones are
    // shown whole.
    let cells = (before.len() + 1).saturating_mul(width);
    if cells > 1_000_000 {
        return before.iter().map(|line| Line::Gone(line)).chain(after.iter().map(|line| Line::Came(line))).collect();
    }
    let mut longest = vec![0_u32; cells];
    let at = |longest: &[u32], i: usize, j: usize| longest.get(i * width + j).copied().unwrap_or_default();
    for (i, a) in before.iter().enumerate().rev() {
        for (j, b) in after.iter().enumerate().rev() {
            let length = if a == b {
                at(&longest, i + 1, j + 1) + 1
            } else {
                at(&longest, i + 1, j).max(at(&longest, i, j + 1))
            };
            if let Some(cell) = longest.get_mut(i * width + j) {
                *cell = length;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    loop {
        match (before.get(i), after.get(j)) {
            (Some(a), Some(b)) if a == b => {
                out.push(Line::Same(a));
                i += 1;
                j += 1;
            }
            (Some(a), b) if b.is_none() || at(&longest, i + 1, j) >= at(&longest, i, j + 1) => {
                out.push(Line::Gone(a));
                i += 1;
            }
            (_, Some(b)) => {
                out.push(Line::Came(b));
                j += 1;
            }
            (_, None) => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn only_changes_and_what_is_around_them() {
        let before = json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6});
        let mut after = before.clone();
        after["f"] = json!([7]);
        assert_eq!(
            unified(&before, &after),
            "@@ -4,5 +4,7 @@\n  \"c\": 3,\n  \"d\": 4,\n  \"e\": 5,\n- \"f\": 6\n+ \"f\": [\n+  7\n+ ]\n }\n"
        );
        assert_eq!(unified(&before, &before), "");
        assert_eq!(unified(&json!(1), &json!(2)), "@@ -1 +1 @@\n-1\n+2\n");
    }
}
