//! FieldsV1: field sets as the JSON of `managedFields[].fieldsV1`.
//!
//! `f:` field, `k:` list keys, `v:` set value, `i:` index; `.` is the path itself; an empty object is a lone member.

use super::path::{FieldSet, Node, PathElement, Scalar};
use serde_json::{Map, Value};

/// The wire form of a set.
#[must_use]
pub fn encode(set: &FieldSet) -> Value {
    Value::Object(level(set))
}

fn level(set: &FieldSet) -> Map<String, Value> {
    let mut out = Map::new();
    for (element, node) in set.iter() {
        let mut below = level(&node.below);
        if node.own && !below.is_empty() {
            below.insert(".".to_owned(), Value::Object(Map::new()));
        }
        out.insert(name(element), Value::Object(below));
    }
    out
}

fn name(element: &PathElement) -> String {
    match element {
        PathElement::Field(name) => ["f:", name].concat(),
        PathElement::Key(keys) => {
            let fields: Vec<String> =
                keys.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
            format!("k:{{{}}}", escape_html(&fields.join(",")))
        }
        PathElement::Value(value) => format!("v:{}", escape_html(&value.to_string())),
        PathElement::Index(index) => format!("i:{index}"),
    }
}

/// JSON as Go writes it by default: safe inside of HTML.
pub(super) fn escape_html(json: &str) -> String {
    if !json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return json.to_owned();
    }
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// Reads the wire form.
///
/// # Errors
/// A sentence when it is not an object of path elements.
pub fn decode(fields: &Value) -> Result<FieldSet, String> {
    let mut out = FieldSet::default();
    for (name, below) in fields.as_object().ok_or("fields must be an object")? {
        if name == "." {
            // Means the path above; at the top there is none.
            continue;
        }
        let element = element(name)?;
        let own = below.as_object().is_none_or(|below| below.is_empty() || below.contains_key("."));
        let below = if below.is_object() { decode(below)? } else { FieldSet::default() };
        out.put(element, Node { own, below });
    }
    Ok(out)
}

fn element(name: &str) -> Result<PathElement, String> {
    let (kind, rest) = name.split_once(':').ok_or_else(|| format!("missing colon: {name}"))?;
    let parse = || serde_json::from_str::<Value>(rest).map_err(|error| error.to_string());
    match kind {
        "f" => Ok(PathElement::field(rest)),
        "v" => Ok(PathElement::Value(Scalar(parse()?))),
        "k" => {
            let Value::Object(keys) = parse()? else { return Err(format!("keys must be an object: {name}")) };
            let mut keys: Vec<(String, Scalar)> = keys.into_iter().map(|(name, value)| (name, Scalar(value))).collect();
            keys.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(PathElement::Key(keys.into()))
        }
        "i" => rest.parse().map(PathElement::Index).map_err(|error| format!("{name}: {error}")),
        _ => Err("unknown path element type".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn round_trips() {
        let cases = [
            json!({}),
            json!({"f:spec": {"f:replicas": {}}}),
            json!({"f:spec": {"f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}}),
            json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"a\\u003cb\"": {}}}, "f:x": {"i:3": {}}}),
        ];
        for case in cases {
            assert_eq!(encode(&decode(&case).unwrap()), case);
        }
        for bad in [json!([]), json!({"x": {}}), json!({"q:x": {}}), json!({"k:[]": {}}), json!({"i:a": {}})] {
            assert!(decode(&bad).is_err(), "{bad}");
        }
    }
}
