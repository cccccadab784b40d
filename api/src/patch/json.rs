//! JSON patch (RFC 6902) as Kubernetes applies it, which takes liberties.
//!
//! The liberties: negative indexes count from the end, `replace` sets what is not there, `copy` of an absent member
//! copies null, `test` of null holds for an absent member, `~` escapes are read leniently, at most 10,000 operations.

use super::{PatchError, kind_word};
use crate::codec::{self, MAX_DEPTH};
use crate::json::{Map, Value};

const MAX_OPERATIONS: usize = 10_000;
/// Bytes that the `copy` operations of one patch may add: each could double the document.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON patch document to `doc`.
///
/// # Errors
/// `BadRequest` when the bytes are not a list of operations, `TooLarge` when it is too long, `Unprocessable` when an operation does not apply or a test
/// fails.
pub fn apply(doc: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    apply_all(doc, &read(patch)?.0)
}

/// Applies operations that were read.
///
/// # Errors
/// `Unprocessable` when one does not apply or a test fails.
pub fn apply_all(doc: &Value, operations: &[Value]) -> Result<Value, PatchError> {
    let mut out = doc.clone();
    let mut copied = 0;
    for operation in operations {
        step(&mut out, operation, &mut copied).ok_or_else(PatchError::unfit)?;
    }
    Ok(out)
}

/// Whether a value nests no deeper than this. Few operations could nest a document deeper than any stack reaches.
fn is_flat(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => levels > 0 && list.iter().all(|value| is_flat(value, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|value| is_flat(value, levels - 1)),
        _ => true,
    }
}

/// Reads operations, and says what strict clients do not want: members that no operation has, and those that come twice.
///
/// # Errors
/// `BadRequest` when the bytes are not a list of operations, `TooLarge` when it is too long.
pub fn read(patch: &[u8]) -> Result<(Vec<Value>, Vec<String>), PatchError> {
    let bad = |why: String| PatchError::BadRequest(format!("error decoding patch: {why}"));
    let (value, twice) = codec::json::parse_noting(patch).map_err(|error| bad(error.to_string()))?;
    let mistyped = |value: &Value, wanted: &str| {
        bad(format!("json: cannot unmarshal {} into Go value of type {wanted}", kind_word(value)))
    };
    let operations = match value {
        Value::Array(operations) => operations,
        Value::Null => Vec::new(),
        other => return Err(mistyped(&other, "[]handlers.jsonPatchOp")),
    };
    if let Some(other) = operations.iter().find(|operation| !operation.is_object()) {
        return Err(mistyped(other, "handlers.jsonPatchOp"));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "Request entity is too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut strict = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        for (name, value) in operation.as_object().into_iter().flatten() {
            match name.as_str() {
                "op" | "path" | "from" if !value.is_string() && !value.is_null() => {
                    let found = kind_word(value);
                    let why = format!(
                        "json: cannot unmarshal {found} into Go struct field jsonPatchOp.{name} of type string"
                    );
                    return Err(bad(why));
                }
                "op" | "path" | "from" | "value" => {}
                unknown => strict.push(format!("json patch unknown field \"[{index}].{unknown}\"")),
            }
        }
    }
    strict.extend(twice.into_iter().map(|sentence| format!("json patch {sentence}")));
    Ok((operations, strict))
}

/// Where a pointer leads: the container at its end, and the last step.
enum Place<'d> {
    Member(&'d mut Map, String),
    /// An element of a list, by a text that may be no index at all.
    Element(&'d mut Vec<Value>, String),
}

impl<'d> Place<'d> {
    /// Follows a pointer up to its last step; absent when a container on the way is.
    fn find(doc: &'d mut Value, path: &str) -> Option<Place<'d>> {
        let (way, last) = path.rsplit_once('/')?;
        let mut at = doc;
        for step in way.split('/').skip(1) {
            let step = unescaped(step);
            at = match at {
                Value::Object(map) => map.get_mut(&step)?,
                Value::Array(list) => {
                    let index = index(&step, list.len())?;
                    list.get_mut(index)?
                }
                _ => return None,
            };
        }
        match at {
            Value::Object(map) => Some(Place::Member(map, unescaped(last))),
            Value::Array(list) => Some(Place::Element(list, unescaped(last))),
            _ => None,
        }
    }

    fn is_absent_member(&self) -> bool {
        matches!(self, Place::Member(map, name) if !map.contains_key(name))
    }

    /// What is there.
    fn value(self) -> Option<&'d mut Value> {
        match self {
            Place::Member(map, name) => map.get_mut(&name),
            Place::Element(list, step) => {
                let index = index(&step, list.len())?;
                list.get_mut(index)
            }
        }
    }

    /// Takes out what is there.
    fn remove(self) -> Option<Value> {
        match self {
            Place::Member(map, name) => map.remove(&name),
            Place::Element(list, step) => index(&step, list.len()).map(|index| list.remove(index)),
        }
    }

    /// Puts a value there: in place of a member, before an element or, at `-`, behind the last.
    fn add(self, value: Value) -> Option<()> {
        match self {
            Place::Member(map, name) => drop(map.insert(name, value)),
            Place::Element(list, step) if step == "-" => list.push(value),
            Place::Element(list, step) => {
                let index = index(&step, list.len() + 1)?;
                list.insert(index, value);
            }
        }
        Some(())
    }
}

pub(super) fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// An index below `len`; a negative one counts from the end.
fn index(text: &str, len: usize) -> Option<usize> {
    let index: i64 = text.parse().ok()?;
    let index = if index < 0 { index.checked_add(i64::try_from(len).ok()?)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// One operation; nothing when it does not apply. The caller works on a copy: nothing needs undoing.
fn step(doc: &mut Value, operation: &Value, copied: &mut usize) -> Option<()> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let value = || operation.get("value").cloned().unwrap_or_default();
    let path = text("path");
    let room = |path: &str| MAX_DEPTH.saturating_sub(path.split('/').skip(1).count());
    match text("op")? {
        "add" => Place::find(doc, path?)?.add(value()),
        "remove" => Place::find(doc, path?)?.remove().map(drop),
        "replace" if path?.is_empty() => {
            *doc = Some(value()).filter(|value| value.is_object() || value.is_array())?;
            Some(())
        }
        "replace" => {
            let place = Place::find(doc, path?)?;
            if place.is_absent_member() {
                return place.add(value());
            }
            *place.value()? = value();
            Some(())
        }
        "move" => {
            let moved = Place::find(doc, text("from")?)?.remove()?;
            let place = Place::find(doc, path?)?;
            is_flat(&moved, room(path?)).then_some(())?;
            place.add(moved)
        }
        "copy" => {
            let from = Place::find(doc, text("from")?)?;
            let value = if from.is_absent_member() { Value::Null } else { from.value()?.clone() };
            let place = Place::find(doc, path?)?;
            is_flat(&value, room(path?)).then_some(())?;
            if !value.is_null() {
                *copied += value.to_string().len();
            }
            (*copied <= MAX_COPIED).then_some(())?;
            place.add(value)
        }
        "test" if path?.is_empty() => (*doc == value()).then_some(()),
        "test" => {
            let place = Place::find(doc, path?)?;
            if place.is_absent_member() {
                return value().is_null().then_some(());
            }
            (*place.value()? == value()).then_some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn operations_do_what_upstream_does() {
        let cases = [
            (json!({}), json!([{"op": "add", "path": "/a", "value": 1}]), Some(json!({"a": 1}))),
            (json!({"a": [1, 2]}), json!([{"op": "add", "path": "/a/1", "value": 9}]), Some(json!({"a": [1, 9, 2]}))),
            (json!({"a": [1, 2]}), json!([{"op": "add", "path": "/a/-", "value": 9}]), Some(json!({"a": [1, 2, 9]}))),
            (json!({"a": [1, 2]}), json!([{"op": "add", "path": "/a/-1", "value": 9}]), Some(json!({"a": [1, 2, 9]}))),
            (json!({"a": [1, 2]}), json!([{"op": "add", "path": "/a/3", "value": 9}]), None),
            (json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/-1"}]), Some(json!({"a": [1]}))),
            (json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/-3"}]), None),
            (json!({"a": [1, 2]}), json!([{"op": "replace", "path": "/a/-2", "value": 3}]), Some(json!({"a": [3, 2]}))),
            (json!({"a": [{"b": 1}]}), json!([{"op": "remove", "path": "/a/-1/b"}]), Some(json!({"a": [{}]}))),
            (json!({}), json!([{"op": "replace", "path": "/a", "value": 3}]), Some(json!({"a": 3}))),
            (json!({}), json!([{"op": "remove", "path": "/a"}]), None),
            (json!({}), json!([{"op": "add", "path": "/a/b", "value": 1}]), None),
            (json!({}), json!([{"op": "add", "path": "", "value": {}}]), None),
            (json!({"a": 1}), json!([{"op": "replace", "path": "", "value": {"b": 1}}]), Some(json!({"b": 1}))),
            (json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 1}]), Some(json!({"a": 1}))),
            (json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 1.0}]), None),
            (json!({"a": 1}), json!([{"op": "test", "path": "/b", "value": null}]), Some(json!({"a": 1}))),
            (json!({"a": 1}), json!([{"op": "test", "path": "/b"}]), Some(json!({"a": 1}))),
            (json!({"a": 1}), json!([{"op": "test", "path": "/b", "value": 2}]), None),
            (json!({"a": 1}), json!([{"op": "test", "path": "", "value": {"a": 1}}]), Some(json!({"a": 1}))),
            (json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), Some(json!({"b": 1}))),
            (json!({"a": {"b": 1}}), json!([{"op": "move", "from": "/a", "path": "/a/b"}]), None),
            (json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), Some(json!({"a": 1, "b": 1}))),
            (json!({"a": 1}), json!([{"op": "copy", "from": "/x", "path": "/b"}]), Some(json!({"a": 1, "b": null}))),
            (
                json!({"a/b": 1, "c~d": 2}),
                json!([{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/c~0d"}]),
                Some(json!({})),
            ),
            (
                json!({}),
                json!([{"op": "add", "path": "/metadata", "value": {}}, {"op": "add", "path": "/metadata/x.io~1y", "value": "1"}]),
                Some(json!({"metadata": {"x.io/y": "1"}})),
            ),
            (json!({}), json!([{"op": "frob", "path": "/a"}]), None),
            (json!({}), json!([{"path": "/a"}]), None),
            (json!({}), json!([{"op": "remove"}]), None),
            (json!({"a": 1}), json!([]), Some(json!({"a": 1}))),
        ];
        for (doc, patch, expected) in cases {
            let got = apply(&doc, patch.to_string().as_bytes());
            match expected {
                Some(expected) => assert_eq!(got, Ok(expected), "{doc} {patch}"),
                None => assert_eq!(got, Err(PatchError::unfit()), "{doc} {patch}"),
            }
        }
    }

    #[test]
    fn a_patch_cannot_grow_a_document_without_bound() {
        let apply = |doc: &Value, operations: Vec<Value>| apply(doc, Value::Array(operations).to_string().as_bytes());
        let doubled = vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 100];
        assert_eq!(apply(&json!({"a": ["x"]}), doubled.clone()), Err(PatchError::unfit()));
        assert!(apply(&json!({"a": ["x"]}), doubled.into_iter().take(10).collect()).is_ok());
        let nest = [
            json!({"op": "add", "path": "/b", "value": {}}),
            json!({"op": "move", "from": "/a", "path": "/b/a"}),
            json!({"op": "move", "from": "/b", "path": "/a"}),
        ];
        let deeper = |times: usize| nest.iter().cycle().take(3 * times).cloned().collect();
        assert!(apply(&json!({"a": {}}), deeper(50)).is_ok());
        assert_eq!(apply(&json!({"a": {}}), deeper(3_000)), Err(PatchError::unfit()));
    }

    #[test]
    fn malformed_patches_are_bad_requests() {
        let many = vec![json!({"op": "test", "path": ""}); MAX_OPERATIONS + 1];
        let cases = [
            (
                "{}".to_owned(),
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
            ),
            (
                "[1]".to_owned(),
                "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp",
            ),
        ];
        for (patch, sentence) in cases {
            assert_eq!(apply(&json!({}), patch.as_bytes()), Err(PatchError::BadRequest(sentence.to_owned())));
        }
        assert!(matches!(apply(&json!({}), b"["), Err(PatchError::BadRequest(_))));
        let why = "Request entity is too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
        let many = Value::Array(many).to_string();
        assert_eq!(apply(&json!({}), many.as_bytes()), Err(PatchError::TooLarge(why.to_owned())));
    }

    /// Where upstream takes no liberty, what the `json-patch` crate does is right.
    #[test]
    fn operations_do_what_the_standard_says() {
        let mut state = std::time::UNIX_EPOCH.elapsed().map_or(1, |elapsed| elapsed.as_nanos() as u64) | 1;
        println!("seed {state}");
        let mut roll = move |sides: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % sides as u64) as usize
        };
        let doc = json!({"a": [1, {"b": [2, 3], "": 4}, []], "b": {"c/d": {"~e": null}, "0": "x"}, "c": null});
        let steps = ["a", "b", "c", "", "0", "1", "2", "-", "c~1d", "~0e", "x"];
        let values = [json!(1), json!(null), json!({"b": [2, 3]}), json!([[], {}]), json!("x")];
        let (mut done, mut refused) = (0, 0);
        for _ in 0..3000 {
            let mut path = || -> String { (0..=roll(3)).map(|_| format!("/{}", steps[roll(steps.len())])).collect() };
            let (from, path) = (path(), path());
            let (op, value) =
                (["add", "remove", "replace", "move", "copy", "test"][roll(6)], &values[roll(values.len())]);
            let patch = json!([{"op": op, "path": path, "from": from, "value": value}]);
            let read: json_patch::Patch = crate::json::from_value(patch.clone()).unwrap();
            let mut theirs = serde_json::Value::from(doc.clone());
            match (apply(&doc, patch.to_string().as_bytes()), json_patch::patch(&mut theirs, &read)) {
                (Ok(ours), Ok(())) => {
                    assert_eq!(ours, Value::from(theirs), "{patch}");
                    done += 1;
                }
                (Ok(_), Err(_)) => {
                    let into_itself = op == "move" && path.starts_with(&from);
                    assert!(into_itself || matches!(op, "replace" | "copy" | "test"), "{patch}");
                }
                (Err(_), Ok(())) => panic!("{patch}"),
                (Err(_), Err(_)) => refused += 1,
            }
        }
        assert!(done > 50 && refused > 50, "{done} {refused}");
    }
}
