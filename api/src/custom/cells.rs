//! Columns of tables from paths into objects: the simple part of the JSONPath of `kubectl`.
//!
//! Never fails: a path that leads nowhere gives an empty cell.

use crate::json::Value;
use crate::meta;

/// A path that was read.
#[derive(Debug)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Elements of which a field, by its own path, compares in this way with a value.
    Where(Vec<Step>, Comparison, Value),
    /// Elements that have a field.
    Has(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const COMPARISONS: &[(&str, Comparison)] = &[
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl JsonPath {
    /// Reads a path: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`, `.metadata.labels.a\.b`, `['a.b']`.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(text: &str) -> Result<JsonPath, String> {
        steps(text).map(JsonPath)
    }

    /// Everything that the path leads to.
    #[must_use]
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        walk(&self.0, value)
    }
}

fn walk<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut at = vec![value];
    for step in steps {
        at = at.into_iter().flat_map(|value| step.from(value)).collect();
    }
    at
}

impl Step {
    fn from<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Step::Index(at), Value::Array(list)) => {
                let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
                let at = if *at < 0 { at + length } else { *at };
                usize::try_from(at).ok().and_then(|at| list.get(at)).into_iter().collect()
            }
            (Step::All, Value::Array(list)) => list.iter().collect(),
            (Step::All, Value::Object(map)) => map.values().collect(),
            (Step::Where(path, comparison, wanted), Value::Array(list)) => {
                let holds =
                    |item: &&Value| walk(path, item).first().is_some_and(|found| comparison.holds(found, wanted));
                list.iter().filter(holds).collect()
            }
            (Step::Has(path), Value::Array(list)) => list.iter().filter(|item| !walk(path, item).is_empty()).collect(),
            _ => Vec::new(),
        }
    }
}

impl Comparison {
    fn holds(self, found: &Value, wanted: &Value) -> bool {
        let order = match (found, wanted) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Number(a), Value::Number(b)) => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
            _ => None,
        };
        let Some(order) = order else { return false };
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after).ok_or_else(|| format!("unterminated array in {text:?}"))?;
            let (inner, tail) = after.split_at(end);
            out.push(bracket(inner.trim())?);
            rest = tail.get(1..).unwrap_or_default();
            continue;
        }
        let Some(after) = rest.strip_prefix('.') else { return Err(format!("unexpected {rest:?} in {text:?}")) };
        if after.starts_with('.') {
            return Err(format!("recursive descent is not supported in {text:?}"));
        }
        let mut name = String::new();
        let mut used = after.len();
        let mut chars = after.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '.' | '[' => {
                    used = at;
                    break;
                }
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                _ => name.push(c),
            }
        }
        match name.as_str() {
            "" => {}
            "*" => out.push(Step::All),
            _ => out.push(Step::Field(name)),
        }
        rest = after.get(used..).unwrap_or_default();
    }
    Ok(out)
}

/// Where the bracket that is open ends.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) if depth == 0 => return Some(at),
            (']', None) => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Result<Step, String> {
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let found = COMPARISONS
            .iter()
            .find_map(|(sign, comparison)| filter.split_once(sign).map(|(left, right)| (left, *comparison, right)));
        let path = |text: &str| {
            let below = text.trim().strip_prefix('@').ok_or_else(|| format!("unknown filter {filter:?}"))?;
            steps(below)
        };
        return match found {
            Some((left, comparison, right)) => Ok(Step::Where(path(left)?, comparison, literal(right.trim())?)),
            None => Ok(Step::Has(path(filter)?)),
        };
    }
    if let Some(name) = quoted(inner) {
        return Ok(Step::Field(name));
    }
    inner.parse().map(Step::Index).map_err(|_| format!("invalid array index {inner}"))
}

fn quoted(text: &str) -> Option<String> {
    ['\'', '"'].iter().find_map(|quote| {
        let inner = text.strip_prefix(*quote)?.strip_suffix(*quote)?;
        Some(inner.replace('\\', ""))
    })
}

fn literal(text: &str) -> Result<Value, String> {
    match quoted(text) {
        Some(text) => Ok(text.into()),
        None => crate::json::from_str(text).map_err(|_| format!("unknown value {text:?}")),
    }
}

/// As Go prints a value that is not a text.
fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.into(),
        other => String::from_utf8(crate::codec::json::encode_any(other)).unwrap_or_default(),
    }
}

/// What a column of this type shows of an object; `now` is in Unix seconds.
#[must_use]
pub fn cell(path: &JsonPath, kind: &str, object: &Value, now: i64) -> Value {
    let found = path.find(object);
    let Some(value) = found.first().copied() else { return Value::Null };
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("string", value) => printed(value).into(),
        ("integer", Value::Number(number)) => number.as_i64().or(number.as_f64().map(|n| n as i64)).into(),
        ("number", Value::Number(number)) => number.as_f64().into(),
        ("boolean", Value::Bool(on)) => (*on).into(),
        ("date", Value::String(text)) => match meta::seconds(text) {
            Some(_) => meta::since(text, now).into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

/// The text by which an object is selected: empty when there is nothing.
#[must_use]
pub fn selected(object: &Value, path: &str) -> String {
    match crate::value::get(object, path) {
        None | Some(Value::Null) => String::new(),
        Some(value) => printed(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn paths_lead_to_cells() {
        let object = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a.b/c": "x"}},
            "spec": {"n": 3, "f": 1.5, "b": true, "list": [{"t": "A", "v": 1}, {"t": "B", "v": 2}], "names": ["p", "q"]}});
        for (path, kind, wanted) in [
            (".spec.n", "integer", json!(3)),
            (".spec.n", "string", json!("3")),
            (".spec.f", "number", json!(1.5)),
            (".spec.f", "integer", json!(1)),
            (".spec.b", "boolean", json!(true)),
            (".spec.b", "integer", json!(null)),
            (".spec.none", "string", json!(null)),
            (".metadata.creationTimestamp", "date", json!("30m")),
            (".spec.b", "date", json!(null)),
            (".metadata.labels.a\\.b/c", "string", json!("x")),
            (".metadata.labels['a.b/c']", "string", json!("x")),
            (".spec.list[?(@.t==\"B\")].v", "integer", json!(2)),
            (".spec.list[?(@.v<2)].t", "string", json!("A")),
            (".spec.list[0].t", "string", json!("A")),
            (".spec.list[-1].t", "string", json!("B")),
            (".spec.names[*]", "string", json!("p")),
            (".spec.names", "string", json!("[\"p\",\"q\"]")),
        ] {
            let parsed = JsonPath::parse(path).unwrap();
            assert_eq!(cell(&parsed, kind, &object, 1_767_225_600 + 1800), wanted, "{path} {kind}");
        }
        for bad in ["spec", ".a[", ".a[?(b==1)]", ".a[x]"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
