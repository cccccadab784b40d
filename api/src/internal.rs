//! Values as upstream's sentences show them: in the form of its internal types, which have all fields, under Go's names.
//!
//! Never reads such a form. The types are in `internal.txt`.

use crate::json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;

struct Field {
    name: &'static str,
    /// Where a client says it.
    path: String,
    kind: &'static str,
    /// Left out where it is empty.
    omitted: bool,
}

static TYPES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let mut types: HashMap<&str, Vec<Field>> = HashMap::new();
    let mut current = "";
    for line in include_str!("internal.txt").lines().filter(|line| !line.starts_with('#')) {
        let Some(field) = line.strip_prefix(' ') else {
            current = line;
            continue;
        };
        let mut words = field.split(' ');
        let (Some(name), Some(second)) = (words.next(), words.next()) else { continue };
        let (path, kind) = match words.next() {
            Some(kind) => (second.to_owned(), kind),
            None => (with_small_letter(name), second),
        };
        let plain = name.trim_end_matches('?');
        types.entry(current).or_default().push(Field { name: plain, path, kind, omitted: plain != name });
    }
    types
});

fn with_small_letter(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// On one line; `kind` is a type of the table, a list of it (`[]`), or one that may be absent (`*`).
#[must_use]
pub fn shown(kind: &str, value: &Value) -> String {
    let mut writer = Writer { out: String::new(), lines: false, depth: 0 };
    writer.value(kind, Some(value), &Value::Null);
    writer.out
}

/// On a line for each field and element.
#[must_use]
pub fn pretty(kind: &str, value: &Value) -> String {
    let mut writer = Writer { out: String::new(), lines: true, depth: 0 };
    writer.value(kind, Some(value), &Value::Null);
    writer.out
}

/// A text of JSON as Go writes it, which can stand in a page.
#[must_use]
pub fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

struct Writer {
    out: String,
    lines: bool,
    depth: usize,
}

impl Writer {
    fn value(&mut self, kind: &str, value: Option<&Value>, around: &Value) {
        let value = value.filter(|value| !value.is_null());
        if let Some(inner) = kind.strip_prefix('*') {
            match value {
                None => self.out.push_str("null"),
                value => self.value(inner, value, around),
            }
            return;
        }
        if let Some(inner) = kind.strip_prefix("[]") {
            match value.and_then(Value::as_array) {
                None => self.out.push_str("null"),
                Some(list) => self.all('[', ']', list, |writer, element| {
                    writer.value(inner, Some(element), &Value::Null);
                }),
            }
            return;
        }
        match (kind, value) {
            ("map", Some(Value::Object(map))) => {
                let entries: Vec<_> = map.iter().collect();
                self.all('{', '}', &entries, |writer, (name, value)| {
                    writer.name(name);
                    writer.any(value);
                });
            }
            (_, Some(value)) if !TYPES.contains_key(kind) => self.any(value),
            ("text", None) => self.out.push_str("\"\""),
            ("number" | "int-or-text", None) => self.out.push('0'),
            ("flag", None) => self.out.push_str("false"),
            ("quantity", None) => self.out.push_str("\"0\""),
            (kind, value) => match TYPES.get(kind) {
                Some(fields) => self.object(fields, value.unwrap_or(&Value::Null), around),
                None => self.out.push_str("null"),
            },
        }
    }

    fn object(&mut self, fields: &[Field], value: &Value, around: &Value) {
        let of = |field: &Field| match field.path.strip_prefix('^') {
            Some(name) => around.get(name),
            None => value.get(&field.path),
        };
        let mut there: Vec<(&str, &str, Option<&Value>)> = Vec::new();
        for field in fields {
            match of(field) {
                Some(Value::Object(inner)) if field.name == "+" => {
                    there.extend(inner.iter().map(|(name, value)| (name.as_str(), "as-is", Some(value))));
                }
                _ if field.name == "+" => {}
                given if field.omitted && given.is_none_or(super::kinds::shared::rules::is_zero) => {}
                given => there.push((field.name, field.kind, given)),
            }
        }
        self.all('{', '}', &there, |writer, (name, kind, given)| {
            writer.name(name);
            writer.value(kind, *given, value);
        });
    }

    /// What has no other form here: elements and entries as they are.
    fn any(&mut self, value: &Value) {
        match value {
            Value::Array(list) => self.all('[', ']', list, Writer::any),
            Value::Object(map) => {
                let entries: Vec<_> = map.iter().collect();
                self.all('{', '}', &entries, |writer, (name, value)| {
                    writer.name(name);
                    writer.any(value);
                });
            }
            other => self.out.push_str(&escaped(&other.to_string())),
        }
    }

    fn name(&mut self, name: &str) {
        self.out.push_str(&escaped(&Value::from(name).to_string()));
        self.out.push_str(if self.lines { ": " } else { ":" });
    }

    fn all<T>(&mut self, open: char, close: char, elements: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.out.push(open);
        self.depth += 1;
        for (i, element) in elements.iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            self.line();
            write(self, element);
        }
        self.depth -= 1;
        if !elements.is_empty() {
            self.line();
        }
        self.out.push(close);
    }

    fn line(&mut self) {
        if self.lines {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', self.depth));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn every_type_that_is_named_is_there() {
        for (name, fields) in TYPES.iter() {
            for field in fields {
                let kind = field.kind.trim_start_matches(['*', '[', ']']);
                let plain = matches!(
                    kind,
                    "text"
                        | "number"
                        | "flag"
                        | "map"
                        | "quantity"
                        | "int-or-text"
                        | "bytes"
                        | "time"
                        | "as-is"
                        | "inline"
                );
                assert!(plain || TYPES.contains_key(kind), "{name}.{}: {kind}", field.name);
            }
        }
    }

    #[test]
    fn all_fields_under_their_names() {
        assert_eq!(
            shown("Toleration", &json!({"key": "a<b", "tolerationSeconds": 5})),
            "{\"Key\":\"a\\u003cb\",\"Operator\":\"\",\"Value\":\"\",\"Effect\":\"\",\"TolerationSeconds\":5}"
        );
        let claim = json!({"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": {"resources": {"requests": {"a": "1"}}}}});
        assert_eq!(
            shown("EphemeralVolumeSource", &claim),
            "{\"VolumeClaimTemplate\":{\"name\":\"x\",\"Spec\":{\"AccessModes\":null,\"Selector\":null,\"Resources\":{\"Limits\":null,\
             \"Requests\":{\"a\":\"1\"}},\"VolumeName\":\"\",\"StorageClassName\":null,\"VolumeMode\":null,\"DataSource\":null,\
             \"DataSourceRef\":null,\"VolumeAttributesClassName\":null}}}"
        );
        let spec = json!({"hostPID": true, "securityContext": {}});
        assert!(
            shown("PodSpec", &spec)
                .contains("\"SecurityContext\":{\"HostNetwork\":false,\"HostPID\":true,\"HostIPC\":false,")
        );
        assert_eq!(
            shown("*LabelSelector", &json!({"matchExpressions": [], "matchLabels": {"a": "b"}})),
            "{\"matchLabels\":{\"a\":\"b\"}}"
        );
        assert_eq!(
            pretty(
                "NodeSelectorTerm",
                &json!({"matchFields": [], "matchExpressions": [{"key": "k", "values": ["v"]}]})
            ),
            "{\n \"MatchExpressions\": [\n  {\n   \"Key\": \"k\",\n   \"Operator\": \"\",\n   \"Values\": [\n    \"v\"\n   ]\n  }\n \
             ],\n \"MatchFields\": []\n}"
        );
    }
}
