//! How two values differ, line by line, for sentences that say what must not change.
//!
//! Never decides whether they may.

use crate::internal;
use crate::json::Value;
use k8s_openapi::serde::Serialize as _;
use std::collections::HashMap;

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
    of_texts(&pretty(before), &pretty(after))
}

/// The same of values in their internal form; see `internal`.
#[must_use]
pub fn internal(kind: &str, before: &Value, after: &Value) -> String {
    of_texts(&internal::pretty(kind, before), &internal::pretty(kind, after))
}

fn of_texts(before: &str, after: &str) -> String {
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
    internal::escaped(&String::from_utf8(out).unwrap_or_default())
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

/// Blocks of lines that both have: where they begin in each, and how many there are.
type Block = (usize, usize, usize);

/// Longer ones are shown whole.
const MOST: usize = 25_000_000;

/// From so many lines on those that are everywhere begin no block.
const MANY: usize = 200;

/// The longest block of equal lines first, then what lies before and behind it; Python's `difflib` and its copies do so.
fn compare<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let mut blocks = if before.len().saturating_mul(after.len()) > MOST { Vec::new() } else { blocks(before, after) };
    blocks.push((before.len(), after.len(), 0));
    let part = |lines: &[&'a str], from: usize, to: usize| lines.get(from..to).unwrap_or_default().to_vec();
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    for (a, b, length) in blocks {
        out.extend(part(before, i, a).into_iter().map(Line::Gone));
        out.extend(part(after, j, b).into_iter().map(Line::Came));
        out.extend(part(before, a, a + length).into_iter().map(Line::Same));
        (i, j) = (a + length, b + length);
    }
    out
}

fn blocks(before: &[&str], after: &[&str]) -> Vec<Block> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in after.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if after.len() >= MANY {
        places.retain(|_, places| places.len() <= after.len() / 100 + 1);
    }
    let mut found = Vec::new();
    let mut open = vec![(0, before.len(), 0, after.len())];
    while let Some((a, a_end, b, b_end)) = open.pop() {
        let (i, j, length) = longest(before, after, &places, (a, a_end, b, b_end));
        if length > 0 {
            found.push((i, j, length));
            open.push((a, i, b, j));
            open.push((i + length, a_end, j + length, b_end));
        }
    }
    found.sort_unstable();
    found
}

/// The longest block between the bounds, and of those the first.
fn longest(
    before: &[&str],
    after: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (a, a_end, b, b_end): (usize, usize, usize, usize),
) -> Block {
    let mut best = (a, b, 0);
    // How long the block is that ends with the line before and this one of `after`.
    let mut ends: HashMap<usize, usize> = HashMap::new();
    for (i, line) in before.iter().enumerate().take(a_end).skip(a) {
        let mut next = HashMap::new();
        for j in places.get(line).into_iter().flatten().copied().filter(|j| (b..b_end).contains(j)) {
            let length = 1 + j.checked_sub(1).and_then(|j| ends.get(&j)).copied().unwrap_or_default();
            next.insert(j, length);
            if length > best.2 {
                best = (i + 1 - length, j + 1 - length, length);
            }
        }
        ends = next;
    }
    let (mut i, mut j, mut length) = best;
    let same = |i: usize, j: usize| before.get(i).is_some_and(|line| after.get(j) == Some(line));
    while i > a && j > b && same(i - 1, j - 1) {
        (i, j, length) = (i - 1, j - 1, length + 1);
    }
    while i + length < a_end && j + length < b_end && same(i + length, j + length) {
        length += 1;
    }
    (i, j, length)
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
        // The longest block is `1 2`, though more lines would be the same with `2` and `0` in it.
        assert_eq!(
            unified(&json!([0, 1, 2]), &json!([1, 2, 0])),
            "@@ -1,5 +1,5 @@\n [\n- 0,\n  1,\n- 2\n+ 2,\n+ 0\n ]\n"
        );
    }
}
