//! What is wrong with a value by its schema, in the words of upstream's validator.
//!
//! What an update leaves as it was is not complained about again (KEP-4008). Never changes the value.

use super::formats;
use super::schema::{Additional, Node};
use crate::field_path::{ErrorType, Errors, FieldError, Path};
use crate::json::Value;

/// What is wrong with `value`; `old` is the same value before an update. `field` is where the value is, empty at the root.
#[must_use]
pub fn validate(value: &Value, old: Option<&Value>, node: &Node, field: &str) -> Errors {
    let verdict = judge(value, old, node, "");
    verdict.wrong.into_iter().map(|wrong| wrong.error(field)).collect()
}

/// One finding, with the path from the value that was asked about.
struct Wrong {
    path: String,
    /// `None`: said about the value as a whole, without its path.
    kind: Option<ErrorType>,
    value: Value,
    detail: String,
}

impl Wrong {
    fn error(self, field: &str) -> FieldError {
        let whole = Path::new(field);
        let path = match self.path.strip_prefix('.').unwrap_or(&self.path) {
            _ if self.kind.is_none() => whole,
            "" => whole,
            path => whole.child(path),
        };
        let kind = self.kind.unwrap_or(ErrorType::Invalid);
        FieldError { kind, field: path, value: self.value, detail: self.detail, omit_value: false }
    }
}

/// Findings, and how much was right: of several schemas the best fit is the one spoken about.
#[derive(Default)]
struct Verdict {
    wrong: Vec<Wrong>,
    right: usize,
}

impl Verdict {
    fn add(&mut self, path: &str, kind: ErrorType, value: impl Into<Value>, detail: impl Into<String>) {
        self.wrong.push(Wrong { path: path.to_owned(), kind: Some(kind), value: value.into(), detail: detail.into() });
    }

    fn say(&mut self, detail: String) {
        self.wrong.push(Wrong { path: String::new(), kind: None, value: "".into(), detail });
    }

    fn merge(&mut self, other: Verdict) {
        self.wrong.extend(other.wrong);
        self.right += other.right;
    }
}

/// The type of a value in JSON schema.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// As Go prints a number in a sentence.
fn number(value: f64) -> String {
    crate::json::Number::from_f64(value).map_or_else(String::new, |number| {
        String::from_utf8(crate::codec::json::encode_any(&Value::Number(number))).unwrap_or_default()
    })
}

fn judge(value: &Value, old: Option<&Value>, node: &Node, path: &str) -> Verdict {
    let mut verdict = Verdict::default();
    let format = formats::effective(node);
    check_type(&mut verdict, value, node, format, path);
    if !value.is_null() {
        combined(&mut verdict, value, old, node, path);
        match value {
            Value::String(text) => check_text(&mut verdict, text, node, format, path),
            Value::Number(_) => check_number(&mut verdict, value, node, format, path),
            Value::Array(list) => check_list(&mut verdict, list, old, node, path),
            Value::Object(_) => check_object(&mut verdict, value, old, node, path),
            Value::Bool(_) | Value::Null => {}
        }
    }
    choices(&mut verdict, value, node, path);
    if !verdict.wrong.is_empty() && old == Some(value) {
        verdict.wrong.clear();
    }
    verdict
}

fn check_type(verdict: &mut Verdict, value: &Value, node: &Node, format: &str, path: &str) {
    let allowed: &[&str] = match node.kind.as_str() {
        _ if node.int_or_string => &["integer", "string"],
        "" => &[],
        kind => &[kind],
    };
    if value.is_null() {
        if !allowed.is_empty() && !node.nullable {
            let detail = format!("{path} in body must be of type {}: \"null\"", allowed.join(","));
            verdict.add(path, ErrorType::TypeInvalid, "null", detail);
        }
        return;
    }
    if allowed.is_empty() && format.is_empty() {
        return;
    }
    let found = type_of(value);
    let whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let fits = allowed.contains(&found)
        || (found == "number" && whole && allowed.contains(&"integer"))
        || (found == "integer" && allowed.contains(&"number"));
    let text_or_list = matches!(value, Value::String(_) | Value::Array(_));
    let numeric = allowed.iter().any(|kind| matches!(*kind, "number" | "integer"));
    if !text_or_list && !format.is_empty() && !fits {
        let of = match value {
            Value::Number(number) if number.is_f64() => "float64",
            Value::Number(_) => "int64",
            _ => "",
        };
        if of != format {
            let detail = format!("{path} in body must be of type {format}: {of:?}");
            verdict.add(path, ErrorType::TypeInvalid, of, detail);
            return;
        }
    }
    if (numeric || format.is_empty() || !text_or_list) && !fits {
        let detail = format!("{path} in body must be of type {}: {found:?}", allowed.join(","));
        verdict.add(path, ErrorType::TypeInvalid, found, detail);
        return;
    }
    verdict.right += 1;
}

fn check_text(verdict: &mut Verdict, text: &str, node: &Node, format: &str, path: &str) {
    let rules = &node.rules;
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let before = verdict.wrong.len();
    if let Some(most) = rules.max_length.filter(|most| length > *most) {
        verdict.add(path, ErrorType::TooLong, Value::Null, format!("may not be more than {most} bytes"));
    } else if let Some(least) = rules.min_length.filter(|least| length < *least) {
        let detail = format!("{path} in body should be at least {least} chars long");
        verdict.add(path, ErrorType::Invalid, text, detail);
    } else if let Some(pattern) = &rules.pattern {
        let wanted = &pattern.text;
        match pattern.matches(text) {
            Some(true) => {}
            Some(false) => {
                verdict.add(path, ErrorType::Invalid, text, format!("{path} in body should match '{wanted}'"));
            }
            None => {
                let detail = format!("{path} in body should match '{wanted}, but pattern is invalid'");
                verdict.add(path, ErrorType::Invalid, text, detail);
            }
        }
    }
    if !format.is_empty() && formats::check(format, text) == Some(false) {
        let detail = format!("{path} in body must be of type {format}: {text:?}");
        verdict.add(path, ErrorType::TypeInvalid, text, detail);
    }
    if verdict.wrong.len() == before {
        verdict.right += 1;
    }
}

fn check_number(verdict: &mut Verdict, value: &Value, node: &Node, format: &str, path: &str) {
    let rules = &node.rules;
    let Some(found) = value.as_f64() else { return };
    let whole = value.as_i64();
    let before = verdict.wrong.len();
    if node.kind == "integer" {
        let fits = match format {
            "int32" => whole.or(Some(found as i64)).is_some_and(|n| i32::try_from(n).is_ok()),
            _ => whole.is_some() || found.abs() < 9.3e18,
        };
        if !fits {
            let of = if format.is_empty() { "(default format)".to_owned() } else { format!("with format {format}") };
            verdict.say(format!("Checked value must be of type integer {of} in {path}"));
        }
    } else if node.kind == "number" && format == "float" && found.abs() > f64::from(f32::MAX) {
        verdict.say(format!("Checked value must be of type number with format float in {path}"));
    }
    // Bounds of integers are compared, and shown, as integers.
    let shown = |bound: f64| if whole.is_some() { number(bound.trunc()) } else { number(bound) };
    let order = |bound: f64| match whole {
        Some(whole) => whole.cmp(&(bound.trunc() as i64)),
        None => found.partial_cmp(&bound).unwrap_or(std::cmp::Ordering::Equal),
    };
    if let Some(factor) = rules.multiple_of {
        let off = match whole {
            Some(whole) => whole.checked_rem(factor as i64).is_none_or(|rest| rest != 0),
            None => (found / factor).fract() != 0.0,
        };
        if off {
            let detail = format!("{path} in body should be a multiple of {}", shown(factor));
            verdict.add(path, ErrorType::Invalid, value.clone(), detail);
        }
    }
    let bounds = [
        (rules.minimum, rules.exclusive_minimum, std::cmp::Ordering::Less, "greater than"),
        (rules.maximum, rules.exclusive_maximum, std::cmp::Ordering::Greater, "less than"),
    ];
    for (bound, exclusive, beyond, words) in bounds {
        let Some(bound) = bound else { continue };
        let is = order(bound);
        if is == beyond || (exclusive && is.is_eq()) {
            let or_equal = if exclusive { "" } else { " or equal to" };
            let detail = format!("{path} in body should be {words}{or_equal} {}", shown(bound));
            verdict.add(path, ErrorType::Invalid, value.clone(), detail);
        }
    }
    if verdict.wrong.len() == before {
        verdict.right += 1;
    }
}

fn check_list(verdict: &mut Verdict, list: &[Value], old: Option<&Value>, node: &Node, path: &str) {
    if let Some(items) = &node.items {
        for (i, value) in list.iter().enumerate() {
            let before = old.and_then(|old| twin(value, old, node));
            verdict.merge(judge(value, before, items, &format!("{path}[{i}]")));
        }
    }
    let size = i64::try_from(list.len()).unwrap_or(i64::MAX);
    if let Some(least) = node.rules.min_items.filter(|least| size < *least) {
        let detail = format!("{path} in body should have at least {least} items");
        verdict.add(path, ErrorType::Invalid, size, detail);
    }
    if let Some(most) = node.rules.max_items.filter(|most| size > *most) {
        too_many(verdict, path, size, most);
    }
}

fn too_many(verdict: &mut Verdict, path: &str, size: i64, most: i64) {
    let items = if most == 1 { "item" } else { "items" };
    verdict.add(path, ErrorType::TooMany, size, format!("must have at most {most} {items}"));
}

/// The element of an old list that a new one's element was: lists that are maps say it by their keys, others not at all.
fn twin<'a>(value: &Value, old: &'a Value, node: &Node) -> Option<&'a Value> {
    if node.list_type.as_deref() != Some("map") {
        return None;
    }
    let same = |other: &&Value| node.list_keys.iter().all(|key| value.get(key) == other.get(key));
    old.as_array()?.iter().find(same)
}

fn check_object(verdict: &mut Verdict, value: &Value, old: Option<&Value>, node: &Node, path: &str) {
    let Some(map) = value.as_object() else { return };
    let size = i64::try_from(map.len()).unwrap_or(i64::MAX);
    if let Some(least) = node.rules.min_properties.filter(|least| size < *least) {
        let detail = format!("{path} in body should have at least {least} properties");
        verdict.add(path, ErrorType::Invalid, size, detail);
    }
    if let Some(most) = node.rules.max_properties.filter(|most| size > *most) {
        too_many(verdict, path, size, most);
    }
    let atomic = node.map_type.as_deref() == Some("atomic");
    // The version of an object is not what changed: both are shown in the same one.
    let ratchets = |name: &str| !(atomic || path.is_empty() && matches!(name, "kind" | "apiVersion"));
    let before = |name: &str| old.filter(|_| ratchets(name)).and_then(|old| old.get(name));
    for (name, value) in map {
        if node.properties.contains_key(name.as_str()) {
            continue;
        }
        match &node.additional {
            Some(Additional::Any(false)) => {
                let detail = format!("{path}.{name} in body is a forbidden property");
                verdict.add(path, ErrorType::Invalid, name.as_str(), detail);
            }
            Some(Additional::Of(of)) => {
                verdict.merge(judge(value, before(name), of, &format!("{path}.{name}")));
            }
            _ => {}
        }
    }
    for (name, property) in &node.properties {
        if let Some(value) = map.get(name) {
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            verdict.merge(judge(value, before(name), property, &at));
        }
    }
    for name in node.rules.required.iter().filter(|name| !map.contains_key(name)) {
        verdict.add(&format!("{path}.{name}"), ErrorType::Required, Value::Null, "");
    }
}

fn choices(verdict: &mut Verdict, value: &Value, node: &Node, path: &str) {
    let choices = &node.rules.choices;
    let same = |choice: &Value| {
        choice == value || matches!((choice, value), (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64())
    };
    if choices.is_empty() || choices.iter().any(same) {
        return;
    }
    let shown: Vec<String> = choices
        .iter()
        .map(|choice| match choice {
            Value::String(text) => format!("{text:?}"),
            other => format!("{:?}", String::from_utf8_lossy(&crate::codec::json::encode_any(other))),
        })
        .collect();
    verdict.add(path, ErrorType::NotSupported, value.clone(), format!("supported values: {}", shown.join(", ")));
}

/// `anyOf`, `oneOf`, `allOf` and `not`.
fn combined(verdict: &mut Verdict, value: &Value, old: Option<&Value>, node: &Node, path: &str) {
    let rules = &node.rules;
    let each = |nodes: &[Node]| -> Vec<Verdict> { nodes.iter().map(|of| judge(value, old, of, path)).collect() };
    let any = each(&rules.any_of);
    if !any.is_empty() && any.iter().all(|one| !one.wrong.is_empty()) {
        verdict.say(format!("{path:?} must validate at least one schema (anyOf)"));
        best(verdict, any);
    } else if let Some(first) = any.into_iter().find(|one| one.wrong.is_empty()) {
        verdict.merge(first);
    }
    let one = each(&rules.one_of);
    let valid = one.iter().filter(|one| one.wrong.is_empty()).count();
    match valid {
        _ if one.is_empty() => {}
        0 => {
            verdict.say(format!("{path:?} must validate one and only one schema (oneOf). Found none valid"));
            best(verdict, one);
        }
        1 => one.into_iter().filter(|one| one.wrong.is_empty()).for_each(|one| verdict.merge(one)),
        many => {
            let found = format!("Found {many} valid alternatives");
            verdict.say(format!("{path:?} must validate one and only one schema (oneOf). {found}"));
        }
    }
    let all = each(&rules.all_of);
    let (count, valid) = (all.len(), all.iter().filter(|one| one.wrong.is_empty()).count());
    all.into_iter().for_each(|one| verdict.merge(one));
    if valid < count {
        let none = if valid == 0 { ". None validated" } else { "" };
        verdict.say(format!("{path:?} must validate all the schemas (allOf){none}"));
    }
    if let Some(not) = &rules.not
        && judge(value, old, not, path).wrong.is_empty()
    {
        verdict.say(format!("{path:?} must not validate the schema (not)"));
    }
    if verdict.wrong.is_empty() {
        verdict.right += 1;
    }
}

/// Speaks about the schema that fits best.
fn best(verdict: &mut Verdict, all: Vec<Verdict>) {
    let mut chosen: Option<Verdict> = None;
    for one in all {
        if chosen.as_ref().is_none_or(|chosen| one.right > chosen.right) {
            chosen = Some(one);
        }
    }
    if let Some(chosen) = chosen {
        verdict.merge(chosen);
    }
}
