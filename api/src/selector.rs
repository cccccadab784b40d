//! Label selectors and field selectors: their text and object forms, matching, and upstream's sentences on bad ones.
//!
//! Never reads an object by itself beyond its labels: which fields a field selector may name, the kind says.

use crate::field_path::{FieldError, Path};
use crate::json::{Map, Value};
use crate::kinds::shared::names;
use std::fmt;

/// How a requirement relates a label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `key=value`.
    Equals,
    /// `key==value`.
    DoubleEquals,
    /// `key!=value`; holds without the label too.
    NotEquals,
    /// `key in (a,b)`.
    In,
    /// `key notin (a,b)`; holds without the label too.
    NotIn,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
    /// `key>1`, integers.
    GreaterThan,
    /// `key<1`, integers.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The relation.
    pub operator: Operator,
    /// What to compare with; empty for (not) exists, one for equality and order, else at least one.
    pub values: Vec<String>,
}

impl Requirement {
    fn new(root: &Path, key: &str, operator: Operator, values: Vec<String>) -> Result<Requirement, String> {
        let mut wrong: Vec<String> = Vec::new();
        let mut add = |error: FieldError| {
            let sentence = error.to_string();
            if !wrong.contains(&sentence) {
                wrong.push(sentence);
            }
        };
        let messages = names::qualified_name(key);
        if !messages.is_empty() {
            add(FieldError::invalid(&root.child("key"), key, messages.join("; ")));
        }
        let at = root.child("values");
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                let why = "for 'in', 'notin' operators, values set can't be empty";
                add(FieldError::invalid(&at, Value::Null, why));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let why = "values set must be empty for exists and does not exist";
                add(FieldError::invalid(&at, values.clone(), why));
            }
            Operator::GreaterThan | Operator::LessThan => {
                for (i, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                    let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                    add(FieldError::invalid(&at.index(i), value.as_str(), why));
                }
            }
            Operator::Equals
            | Operator::DoubleEquals
            | Operator::NotEquals
            | Operator::In
            | Operator::NotIn
            | Operator::Exists
            | Operator::DoesNotExist => {}
        }
        for (i, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                add(FieldError::invalid(&at.index(i).key(key), value.as_str(), messages.join("; ")));
            }
        }
        match wrong.len() {
            0 => Ok(Requirement { key: key.to_owned(), operator, values }),
            1 => Err(wrong.concat()),
            _ => Err(format!("[{}]", wrong.join(", "))),
        }
    }

    fn holds(&self, label: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let order = || Some(number(label?)?.cmp(&number(self.values.first()?)?));
        match (self.operator, label) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, label) => {
                label.is_some_and(|label| self.values.iter().any(|value| value == label))
            }
            (Operator::NotEquals | Operator::NotIn, label) => {
                label.is_none_or(|label| self.values.iter().all(|value| value != label))
            }
            (Operator::Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (Operator::GreaterThan, _) => order() == Some(std::cmp::Ordering::Greater),
            (Operator::LessThan, _) => order() == Some(std::cmp::Ordering::Less),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&str> = self.values.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let (key, values) = (&self.key, sorted.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A conjunction of requirements on labels, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    nothing: bool,
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Selects every object.
    #[must_use]
    pub fn everything() -> LabelSelector {
        LabelSelector::default()
    }

    /// Selects no object.
    #[must_use]
    pub fn nothing() -> LabelSelector {
        LabelSelector { nothing: true, requirements: Vec::new() }
    }

    /// Reads the text form of `labelSelector=` (`a=b,c!=d,e in (f,g),!h,i>1`); empty text selects everything.
    ///
    /// # Errors
    /// Upstream's sentence, to be put after `unable to parse ...` or alone into a 400.
    pub fn parse(text: &str) -> Result<LabelSelector, String> {
        let mut requirements = Parser { tokens: tokens(text), at: 0 }.parse()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(LabelSelector { nothing: false, requirements })
    }

    /// Reads a `metav1.LabelSelector`: null selects nothing, an empty one everything.
    ///
    /// # Errors
    /// Upstream's sentence on a bad operator, key or value.
    pub fn from_value(selector: &Value) -> Result<LabelSelector, String> {
        if selector.is_null() {
            return Ok(LabelSelector::nothing());
        }
        let root = Path::default();
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement::new(&root, key, Operator::Equals, values)?);
        }
        for expression in crate::value::items(selector, "matchExpressions") {
            let operator = match crate::value::text(expression, "operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let values = crate::value::items(expression, "values").iter();
            let values = values.map(|value| value.as_str().unwrap_or_default().to_owned()).collect();
            requirements.push(Requirement::new(&root, crate::value::text(expression, "key"), operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(LabelSelector { nothing: false, requirements })
    }

    /// Equality with every entry of a map of labels (`spec.selector` of Services and ReplicationControllers).
    #[must_use]
    pub fn from_labels(labels: &Map) -> LabelSelector {
        let mut requirements: Vec<Requirement> = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.into(),
                operator: Operator::Equals,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector { nothing: false, requirements }
    }

    /// Whether these labels (`metadata.labels`) satisfy every requirement.
    #[must_use]
    pub fn matches(&self, labels: &Map) -> bool {
        self.matches_by(|key| labels.get(key).and_then(Value::as_str))
    }

    /// Whether this object's `metadata.labels` satisfy every requirement.
    #[must_use]
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
        self.matches_by(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str))
    }

    /// Whether the labels behind a lookup satisfy every requirement.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.holds(label(&requirement.key)))
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The requirements, sorted by key.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The one value that this label must have, where the selector says so.
    #[must_use]
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|requirement| requirement.key == key)?;
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [one]) => Some(one),
            _ => None,
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    Word(&'a str),
    Symbol(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::End => "",
            Token::Word(text) | Token::Symbol(text) => text,
        }
    }
}

/// Splits a selector; a NUL ends it.
fn tokens(text: &str) -> Vec<Token<'_>> {
    const SYMBOLS: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
    const SPACE: &[char] = &[' ', '\t', '\r', '\n'];
    let mut rest = text.split('\0').next().unwrap_or_default().trim_start_matches(SPACE);
    let mut out = Vec::new();
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("==") || rest.starts_with("!=") {
            2
        } else if SYMBOLS.contains(&first) {
            1
        } else {
            rest.find(|c| SYMBOLS.contains(&c) || SPACE.contains(&c)).unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(len);
        out.push(if SYMBOLS.contains(&first) { Token::Symbol(token) } else { Token::Word(token) });
        rest = after.trim_start_matches(SPACE);
    }
    out
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::End => return Ok(out),
                Token::Word(_) | Token::Symbol("!") => {}
                Token::Symbol(other) => {
                    return Err(format!("found '{other}', expected: !, identifier, or 'end of string'"));
                }
            }
            out.push(self.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?);
            match self.next() {
                Token::End => return Ok(out),
                Token::Symbol(",") => match self.peek() {
                    Token::Word(_) | Token::Symbol("!") => {}
                    other => return Err(format!("found '{}', expected: identifier after ','", other.text())),
                },
                other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.next();
        let absent = token == Token::Symbol("!");
        if absent {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return Err(format!("found '{}', expected: identifier", token.text()));
        };
        let root = Path::default();
        let messages = names::qualified_name(key);
        if !messages.is_empty() {
            return Err(FieldError::invalid(&root, key, messages.join("; ")).to_string());
        }
        if absent {
            return Requirement::new(&root, key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::new(&root, key, Operator::Exists, Vec::new());
        }
        let operator = match self.next().text() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            "=" => Operator::Equals,
            "==" => Operator::DoubleEquals,
            "!=" => Operator::NotEquals,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        values.sort_unstable();
        values.dedup();
        Requirement::new(&root, key, operator, values)
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(value) => Ok(value.to_owned()),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        match self.peek() {
            Token::Word(_) | Token::Symbol(",") => {}
            Token::Symbol(")") => {
                self.at += 1;
                return Ok(vec![String::new()]);
            }
            other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
        }
        let mut out = Vec::new();
        loop {
            match self.next() {
                Token::Word(value) => {
                    out.push(value.to_owned());
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Symbol(",") => {
                    let followed = self.peek();
                    if out.is_empty() || matches!(followed, Token::Symbol("," | ")")) {
                        out.push(String::new());
                    }
                    if followed == Token::Symbol(")") {
                        break;
                    }
                }
                other => return Err(format!("found '{}', expected: ',', or identifier", other.text())),
            }
        }
        self.at += 1;
        Ok(out)
    }
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// Dotted name (`metadata.name`).
    pub field: String,
    /// Whether the field must equal the value, or must not.
    pub equal: bool,
    /// The value, unescaped.
    pub value: String,
}

/// A conjunction of conditions on fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Selects every object.
    #[must_use]
    pub fn everything() -> FieldSelector {
        FieldSelector::default()
    }

    /// Reads the text form of `fieldSelector=` (`a=b,c!=d`); `\\`, `\,` and `\=` escape in values.
    ///
    /// # Errors
    /// Upstream's sentence.
    pub fn parse(text: &str) -> Result<FieldSelector, String> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((at, operator)) = part.char_indices().find_map(|(at, _)| {
                let rest = part.get(at..)?;
                ["!=", "==", "="].iter().find(|operator| rest.starts_with(**operator)).map(|operator| (at, *operator))
            }) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            let (field, rest) = part.split_at(at);
            let value = unescape(rest.get(operator.len()..).unwrap_or_default())?;
            terms.push(FieldTerm { field: field.to_owned(), equal: operator != "!=", value });
        }
        Ok(FieldSelector { terms })
    }

    /// The conditions.
    #[must_use]
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Fields that have other names have those.
    pub fn rename(&mut self, names: &[(&str, &str)]) {
        for term in &mut self.terms {
            if let Some((_, name)) = names.iter().find(|(older, _)| *older == term.field) {
                (*name).clone_into(&mut term.field);
            }
        }
    }

    /// Whether every condition holds; a field that the lookup does not know is the empty text.
    pub fn matches(&self, field: impl Fn(&str) -> Option<String>) -> bool {
        self.terms.iter().all(|term| (field(&term.field).unwrap_or_default() == term.value) == term.equal)
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that this field must equal, where the selector says so.
    #[must_use]
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, FieldTerm { field, equal, value }) in self.terms.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let operator = if *equal { "=" } else { "!=" };
            let value = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{field}{operator}{value}")?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c| {
        let ends = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
    .collect()
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    fn labels() -> Map {
        json!({"x": "a", "y": "b", "n": "7", "e": ""}).as_object().cloned().unwrap()
    }

    #[test]
    fn label_selectors_are_read_shown_and_matched() {
        // text, shown again, matches x=a,y=b,n=7,e=
        let cases = [
            ("", "", true),
            ("  ", "", true),
            ("x=a", "x=a", true),
            ("y == b , x=a", "x=a,y==b", true),
            ("x!=a", "x!=a", false),
            ("z!=a", "z!=a", true),
            ("x in (c, a,b)", "x in (a,b,c)", true),
            ("x in ()", "x in ()", false),
            ("e in (,q)", "e in (,q)", true),
            ("x notin (a)", "x notin (a)", false),
            ("q notin (a,,b)", "q notin (,a,b)", true),
            ("x", "x", true),
            ("!x", "!x", false),
            ("! z", "!z", true),
            ("n>6", "n>6", true),
            ("n<7", "n<7", false),
            ("x>1", "x>1", false),
            ("e=", "e=", true),
            ("in in (in)", "in in (in)", false),
            ("a.b/c-d=e_f", "a.b/c-d=e_f", false),
        ];
        for (text, shown, matched) in cases {
            let selector = LabelSelector::parse(text).unwrap();
            assert_eq!(selector.to_string(), shown, "{text}");
            assert_eq!(selector.matches(&labels()), matched, "{text}");
            assert_eq!(selector.is_empty(), shown.is_empty());
        }
    }

    #[test]
    fn bad_label_selectors_say_why() {
        const NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                            with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
                            for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        let cases = [
            ("x=a,", "found '', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            (
                "x=a||y=b",
                "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be an \
              empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
              alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
              '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            ("!x=a", "found '=', expected: ',' or 'end of string'"),
            ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
            ("x in a", "unable to parse requirement: found 'a' expected: '('"),
            ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("x in (=", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("x=(", "unable to parse requirement: found '(', expected: identifier"),
            (
                "x>a",
                "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value \
              must be an integer",
            ),
            ("!", "unable to parse requirement: found '', expected: identifier"),
        ];
        for (text, sentence) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap_err(), sentence, "{text}");
        }
        let why = LabelSelector::parse("-x=a").unwrap_err();
        assert_eq!(why, format!("unable to parse requirement: <nil>: Invalid value: \"-x\": {NAME}"));
    }

    #[test]
    fn objects_select_too() {
        let cases = [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"x": "a"}}), true),
            (
                json!({"matchLabels": {"x": "a"}, "matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["a"]}]}),
                false,
            ),
            (json!({"matchExpressions": [{"key": "z", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "x", "operator": "In", "values": ["b", "a"]}]}), true),
        ];
        for (selector, matched) in cases {
            assert_eq!(LabelSelector::from_value(&selector).unwrap().matches(&labels()), matched, "{selector}");
        }
        let bad = json!({"matchExpressions": [{"key": "x", "operator": "Gt", "values": ["1"]}]});
        assert_eq!(LabelSelector::from_value(&bad).unwrap_err(), "\"Gt\" is not a valid label selector operator");
        let empty = json!({"matchExpressions": [{"key": "x", "operator": "In"}]});
        assert_eq!(
            LabelSelector::from_value(&empty).unwrap_err(),
            "values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty"
        );
    }

    #[test]
    fn exact_values_are_found() {
        let selector = LabelSelector::parse("a=b,c in (d),e in (f,g),h!=i").unwrap();
        let found: Vec<Option<&str>> = ["a", "c", "e", "h", "z"].iter().map(|key| selector.exact(key)).collect();
        assert_eq!(found, [Some("b"), Some("d"), None, None, None]);
    }

    #[test]
    fn field_selectors_are_read_shown_and_matched() {
        let object = |field: &str| match field {
            "metadata.name" => Some("a,b".to_owned()),
            "spec.nodeName" => Some(String::new()),
            _ => None,
        };
        let cases = [
            ("", "", true),
            ("metadata.name=a\\,b", "metadata.name=a\\,b", true),
            ("spec.nodeName!=,metadata.name==x", "metadata.name=x,spec.nodeName!=", false),
            ("spec.nodeName=", "spec.nodeName=", true),
            ("spec.absent!=q,", "spec.absent!=q", true),
            ("a=\\\\\\=", "a=\\\\\\=", false),
        ];
        for (text, shown, matched) in cases {
            let selector = FieldSelector::parse(text).unwrap();
            assert_eq!(selector.to_string(), shown, "{text}");
            assert_eq!(selector.matches(object), matched, "{text}");
        }
        let bad = [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a=\\b", "invalid field selector: invalid escape sequence: \\b"),
            ("a=\\", "invalid field selector: invalid escape sequence: \\"),
        ];
        for (text, sentence) in bad {
            assert_eq!(FieldSelector::parse(text).unwrap_err(), sentence, "{text}");
        }
    }

    #[test]
    fn arbitrary_text_never_panics() {
        let alphabet = ['a', '=', '!', '(', ')', ',', '<', ' ', 'é', '\\', '\0'];
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let text: String = (0..8)
                .filter_map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    alphabet.get((seed >> 33) as usize % alphabet.len())
                })
                .collect();
            if let Ok(selector) = LabelSelector::parse(&text) {
                assert_eq!(LabelSelector::parse(&selector.to_string()).as_ref(), Ok(&selector), "{text:?}");
            }
            if let Ok(selector) = FieldSelector::parse(&text) {
                // Terms are sorted as they are written, and `==` is shown as `=`.
                let sorted = |selector: FieldSelector| {
                    let mut shown: Vec<String> = selector.terms.iter().map(|term| format!("{term:?}")).collect();
                    shown.sort();
                    shown
                };
                let again = FieldSelector::parse(&selector.to_string()).unwrap();
                assert_eq!(sorted(again), sorted(selector), "{text:?}");
            }
        }
    }
}
