//! Labels, annotations and label selectors: what is wrong with them, whether they match, how tables show them.
//!
//! Never parses selectors from URLs.

use super::names;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value};
use crate::value;

/// Adds one `Invalid` per message.
pub fn invalid(errors: &mut Errors, field: &Path, shown: &str, messages: names::Messages) {
    errors.extend(messages.into_iter().map(|message| FieldError::invalid(field, shown, message)));
}

/// The map at a path; none when absent.
#[must_use]
pub fn map<'a>(object: &'a Value, path: &str) -> Option<&'a Map> {
    value::get(object, path).and_then(Value::as_object)
}

/// Labels: keys and values.
#[must_use]
pub fn validate(labels: Option<&Value>, field: &Path) -> Errors {
    let mut errors = Errors::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        invalid(&mut errors, field, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        invalid(&mut errors, field, value, names::label_value(value));
    }
    errors
}

/// Annotations: keys, and 256 KiB for all.
#[must_use]
pub fn validate_annotations(annotations: Option<&Value>, field: &Path) -> Errors {
    const LIMIT: usize = 256 * 1024;
    let mut errors = Errors::new();
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        invalid(&mut errors, field, key, names::qualified_name(&key.to_lowercase()));
    }
    if size > LIMIT {
        errors.push(FieldError::too_long(field, LIMIT));
    }
    errors
}

/// A `LabelSelector`.
#[must_use]
pub fn validate_selector(selector: Option<&Value>, field: &Path) -> Errors {
    let Some(selector) = selector else { return Errors::new() };
    let mut errors = validate(selector.get("matchLabels"), &field.child("matchLabels"));
    for (i, requirement) in value::items(selector, "matchExpressions").iter().enumerate() {
        let field = field.child("matchExpressions").index(i);
        if !validate_count(&mut errors, requirement, &field) {
            let operator = value::text(requirement, "operator");
            errors.push(FieldError::invalid(&field.child("operator"), operator, "not a valid selector operator"));
        }
        validate_words(&mut errors, requirement, &field);
    }
    errors
}

/// A requirement has values where its operator wants some; `false` for an operator that nobody knows.
pub fn validate_count(errors: &mut Errors, requirement: &Value, field: &Path) -> bool {
    let (field, none) = (field.child("values"), value::items(requirement, "values").is_empty());
    match value::text(requirement, "operator") {
        "In" | "NotIn" if none => {
            errors.push(FieldError::required(&field, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !none => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&field, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => return false,
    }
    true
}

/// Key and values of a requirement are those of labels.
pub fn validate_words(errors: &mut Errors, requirement: &Value, field: &Path) {
    let key = value::text(requirement, "key");
    invalid(errors, &field.child("key"), key, names::qualified_name(key));
    for (i, value) in value::items(requirement, "values").iter().filter_map(Value::as_str).enumerate() {
        invalid(errors, &field.child("values").index(i), value, names::label_value(value));
    }
}

/// A selector that selects everything.
#[must_use]
pub fn is_empty(selector: Option<&Value>) -> bool {
    selector.is_none_or(|s| {
        map(s, "matchLabels").is_none_or(Map::is_empty) && value::items(s, "matchExpressions").is_empty()
    })
}

/// Whether a `LabelSelector` matches labels; an unknown operator matches nothing.
#[must_use]
pub fn matches(selector: &Value, labels: Option<&Value>) -> bool {
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let equal = map(selector, "matchLabels").into_iter().flatten().all(|(key, value)| label(key) == value.as_str());
    equal
        && value::items(selector, "matchExpressions").iter().all(|requirement| {
            let found = label(value::text(requirement, "key"));
            let among = || {
                let values = value::items(requirement, "values");
                found.is_some_and(|found| values.iter().any(|value| value.as_str() == Some(found)))
            };
            match value::text(requirement, "operator") {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// `a=1,b=2`, or `<none>`.
#[must_use]
pub fn shown(labels: Option<&Value>) -> String {
    let pairs = pairs(labels);
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

fn pairs(labels: Option<&Value>) -> Vec<String> {
    let map = labels.and_then(Value::as_object);
    let mut out: Vec<String> =
        map.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    out.sort();
    out
}

/// A `LabelSelector` as text: `a=1,b in (x,y),!c`. Empty when it selects everything.
#[must_use]
pub fn selector_text(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return String::new() };
    let mut out: Vec<(String, String)> = map(selector, "matchLabels")
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.into(), format!("{k}={}", v.as_str().unwrap_or_default())))
        .collect();
    for requirement in value::items(selector, "matchExpressions") {
        let key = value::text(requirement, "key");
        let mut values: Vec<&str> = value::items(requirement, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let list = values.join(",");
        let text = match value::text(requirement, "operator") {
            "In" => format!("{key} in ({list})"),
            "NotIn" => format!("{key} notin ({list})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<invalid>".to_owned(),
        };
        out.push((key.to_owned(), text));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    let texts: Vec<String> = out.into_iter().map(|(_, text)| text).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn selectors_match_print_and_fail() {
        let selector = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(selector_text(Some(&selector)), "a in (x,y),b=1,!c");
        assert!(matches(&selector, Some(&json!({"a": "x", "b": "1"}))));
        assert!(!matches(&selector, Some(&json!({"a": "x", "b": "1", "c": ""}))));
        assert!(validate_selector(Some(&selector), &Path::new("spec.selector")).is_empty());
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Near"}]});
        let sentences: Vec<String> =
            validate_selector(Some(&bad), &Path::new("s")).iter().map(ToString::to_string).collect();
        assert_eq!(
            sentences,
            [
                "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "s.matchExpressions[1].operator: Invalid value: \"Near\": not a valid selector operator",
            ]
        );
        assert!(is_empty(None) && !is_empty(Some(&selector)));
        assert_eq!(shown(Some(&json!({"b": "2", "a": "1"}))), "a=1,b=2");
        assert_eq!(shown(None), "<none>");
    }
}
