//! JSON merge patch (RFC 7396).
//!
//! As upstream does it: nulls are also dropped from objects inside of lists that the patch brings.

use crate::json::Value;

/// `doc` with `patch` merged into it; a patch that is no object replaces the document.
#[must_use]
pub fn apply(doc: &Value, patch: &Value) -> Value {
    let mut out = doc.clone();
    merge(&mut out, patch);
    out
}

fn merge(at: &mut Value, patch: &Value) {
    match (at, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            let mut new = Vec::new();
            for (key, value) in patch.iter().filter(|(_, value)| !value.is_null()) {
                match into.get_mut(key) {
                    Some(there) => merge(there, value),
                    None => new.push((key.clone(), without_nulls(value))),
                }
            }
            if patch.values().any(Value::is_null) {
                into.retain(|key, _| !patch.get(key).is_some_and(Value::is_null));
            }
            if !new.is_empty() {
                into.extend(new);
            }
        }
        // A list that takes an object's place is kept as it came.
        (at @ Value::Object(_), patch) => *at = patch.clone(),
        (at, patch) => *at = without_nulls(patch),
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn the_rfc_and_its_edges() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({}), json!({"a": [{"b": null, "c": 1}, null]}), json!({"a": [{"c": 1}, null]})),
            (json!({"a": "foo"}), json!(["x"]), json!(["x"])),
        ];
        for (doc, patch, expected) in cases {
            assert_eq!(apply(&doc, &patch), expected, "{doc} {patch}");
        }
    }
}
