//! The schema of a version of a custom resource: `JSONSchemaProps` in the form that pruning, defaulting and validation walk.
//!
//! Never checks whether a schema is a good one: `structural.rs` does.

use super::expressions::Said;
use crate::json::{Map, Value};
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One node of a schema.
#[derive(Debug, Default)]
pub struct Node {
    /// `type`; empty when it says none.
    pub kind: String,
    /// Null is allowed.
    pub nullable: bool,
    /// Takes the place of an absent value.
    pub default: Option<Value>,
    /// By name.
    pub properties: BTreeMap<String, Node>,
    /// What else an object may hold.
    pub additional: Option<Additional>,
    /// Elements of a list.
    pub items: Option<Box<Node>>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: Option<String>,
    /// `x-kubernetes-list-map-keys`.
    pub list_keys: Vec<String>,
    /// `x-kubernetes-map-type`.
    pub map_type: Option<String>,
    /// `x-kubernetes-validations`.
    pub expressions: Vec<Said>,
    /// What a value must be beside its type.
    pub rules: Rules,
}

/// Properties beyond those that are named.
#[derive(Debug)]
pub enum Additional {
    /// Any, or none.
    Any(bool),
    /// Of this schema.
    Of(Box<Node>),
}

/// What a value must be beside its type.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the words of JSON schema")]
pub struct Rules {
    pub required: Vec<String>,
    pub choices: Vec<Value>,
    pub format: String,
    pub pattern: Option<Pattern>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub all_of: Vec<Node>,
    pub any_of: Vec<Node>,
    pub one_of: Vec<Node>,
    pub not: Option<Box<Node>>,
}

/// A regular expression in Go's syntax, compiled when it is first asked.
#[derive(Debug)]
pub struct Pattern {
    /// As the schema has it.
    pub text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        Pattern { text: text.to_owned(), compiled: OnceLock::new() }
    }

    /// The text matches; `None` when the expression cannot be compiled.
    #[must_use]
    pub fn matches(&self, text: &str) -> Option<bool> {
        self.compiled.get_or_init(|| compile(&self.text).ok()).as_ref().map(|regex| regex.is_match(text))
    }
}

/// A regular expression of Go. Sizes are bounded, time is linear in the text.
///
/// # Errors
/// Why it is none.
pub fn compile(text: &str) -> Result<Regex, String> {
    let translated = translate(text);
    let built = regex::RegexBuilder::new(&translated).size_limit(1 << 24).build();
    built.map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
}

/// Where the syntaxes differ: Go's classes `\d`, `\w` and `\s` are of ASCII, a bracket within brackets is one, and a brace that
/// begins no count is one.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut inside = false;
    let mut rest = text.chars().peekable();
    let mut before = None;
    while let Some(c) = rest.next() {
        match c {
            '\\' => match (rest.next(), inside) {
                (Some('d'), true) => out.push_str("0-9"),
                (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                (Some('s'), true) => out.push_str(r"\t\n\f\r "),
                (Some('d'), false) => out.push_str("[0-9]"),
                (Some('D'), false) => out.push_str("[^0-9]"),
                (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                (Some('W'), false) => out.push_str("[^0-9A-Za-z_]"),
                (Some('s'), false) => out.push_str(r"[\t\n\f\r ]"),
                (Some('S'), false) => out.push_str(r"[^\t\n\f\r ]"),
                (Some('b'), false) => out.push_str(r"(?-u:\b)"),
                (Some('B'), false) => out.push_str(r"(?-u:\B)"),
                (Some(other), _) => {
                    out.push('\\');
                    out.push(other);
                }
                (None, _) => out.push('\\'),
            },
            '[' if inside && rest.peek() != Some(&':') => out.push_str(r"\["),
            // Before a class a dash is no range.
            '-' if inside
                && rest.clone().next() == Some('\\')
                && rest.clone().nth(1).is_some_and(|c| "dDwWsSpP".contains(c)) =>
            {
                out.push_str(r"\-");
            }
            '&' | '~' if inside => {
                out.push('\\');
                out.push(c);
            }
            '[' => {
                inside = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if rest.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ']' if inside && before != Some(':') => {
                inside = false;
                out.push(']');
            }
            '{' if !inside => {
                let count: String = rest.clone().take_while(|c| *c != '}').collect();
                let (least, most) = count.split_once(',').unwrap_or((&count, ""));
                let number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
                let counts = !least.is_empty() && number(least) && number(most) && rest.clone().any(|c| c == '}');
                out.push_str(if counts { "{" } else { r"\{" });
            }
            _ => out.push(c),
        }
        before = Some(c);
    }
    out
}

fn text(map: &Map, name: &str) -> String {
    map.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(map: &Map, name: &str) -> Vec<String> {
    let list = map.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn flag(map: &Map, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn nodes(map: &Map, name: &str) -> Vec<Node> {
    map.get(name).and_then(Value::as_array).into_iter().flatten().map(Node::of).collect()
}

fn node(map: &Map, name: &str) -> Option<Box<Node>> {
    map.get(name).filter(|value| value.is_object()).map(|value| Box::new(Node::of(value)))
}

impl Node {
    /// From the JSON of a schema; what is not understood says nothing.
    #[must_use]
    pub fn of(schema: &Value) -> Node {
        let empty = Map::new();
        let map = schema.as_object().unwrap_or(&empty);
        let optional = |name: &str| map.get(name).and_then(Value::as_str).map(str::to_owned);
        let properties = map.get("properties").and_then(Value::as_object);
        let list = |name: &str| map.get(name).and_then(Value::as_array).into_iter().flatten();
        let additional = match map.get("additionalProperties") {
            Some(Value::Bool(any)) => Some(Additional::Any(*any)),
            Some(of @ Value::Object(_)) => Some(Additional::Of(Box::new(Node::of(of)))),
            _ => None,
        };
        Node {
            kind: text(map, "type"),
            nullable: flag(map, "nullable"),
            default: map.get("default").filter(|default| !default.is_null()).cloned(),
            properties: properties.into_iter().flatten().map(|(name, of)| (name.into(), Node::of(of))).collect(),
            additional,
            items: node(map, "items"),
            preserve: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(map, "x-kubernetes-embedded-resource"),
            int_or_string: flag(map, "x-kubernetes-int-or-string"),
            list_type: optional("x-kubernetes-list-type"),
            list_keys: texts(map, "x-kubernetes-list-map-keys"),
            map_type: optional("x-kubernetes-map-type"),
            expressions: list("x-kubernetes-validations").map(Said::of).collect(),
            rules: Rules::of(map),
        }
    }

    /// The schema of a property or entry.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Of(of)) => Some(of.as_ref()),
            _ => None,
        })
    }

    /// The schema of entries that are not named.
    #[must_use]
    pub fn entries(&self) -> Option<&Node> {
        match &self.additional {
            Some(Additional::Of(of)) => Some(of),
            _ => None,
        }
    }

    /// Something in it has a default.
    #[must_use]
    pub fn has_defaults(&self) -> bool {
        self.default.is_some()
            || self.properties.values().any(Node::has_defaults)
            || self.items.as_ref().is_some_and(|items| items.has_defaults())
            || self.entries().is_some_and(Node::has_defaults)
    }
}

impl Rules {
    fn of(map: &Map) -> Rules {
        let number = |name: &str| map.get(name).and_then(Value::as_f64);
        let count = |name: &str| map.get(name).and_then(Value::as_i64);
        let pattern = text(map, "pattern");
        Rules {
            required: texts(map, "required"),
            choices: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            format: text(map, "format"),
            pattern: (!pattern.is_empty()).then(|| Pattern::new(&pattern)),
            maximum: number("maximum"),
            exclusive_maximum: flag(map, "exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag(map, "exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            all_of: nodes(map, "allOf"),
            any_of: nodes(map, "anyOf"),
            one_of: nodes(map, "oneOf"),
            not: node(map, "not"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_expressions_mean_what_they_mean_there() {
        for (pattern, text, matches) in [
            (r"^\d+$", "٣", Some(false)),
            (r"^[\d.]+$", "1.2", Some(true)),
            (r"^[[\]]+$", "[]", Some(true)),
            (r"^[a&&b]+$", "&", Some(true)),
            (r"^${x}$", "", Some(false)),
            (r"^a{2}$", "aa", Some(true)),
            (r"^a{2,3}$", "aaaa", Some(false)),
            (r"^[[:alpha:]]+$", "ab", Some(true)),
            (r"^[^]]$", "a", Some(true)),
            (r"\bfoo\b", "a foo", Some(true)),
            (r"(", "", None),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), matches, "{pattern} {text}");
        }
    }
}
