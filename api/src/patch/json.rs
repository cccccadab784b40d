//! JSON patch (RFC 6902) as Kubernetes applies it: the `json-patch` crate behind upstream's liberties.
//!
//! The liberties: negative indexes count from the end, `replace` sets what is not there, `copy` of an absent member
//! copies null, `test` of null holds for an absent member, `~` escapes are read leniently, at most 10,000 operations.

use super::PatchError;
use crate::codec::{self, MAX_DEPTH};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, CopyOperation, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use serde_json::Value;

const MAX_OPERATIONS: usize = 10_000;
/// Bytes that the `copy` operations of one patch may add: each could double the document.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON patch document to `doc`.
///
/// # Errors
/// `BadRequest` when the bytes are not a list of operations, `TooLarge` when it is too long, `Unprocessable` when an operation does not apply or a test
/// fails.
pub fn apply(doc: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let operations = parse(patch)?;
    let mut out = doc.clone();
    let mut copied = 0;
    for operation in &operations {
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

fn parse(patch: &[u8]) -> Result<Vec<Value>, PatchError> {
    let bad = |why: String| PatchError::BadRequest(format!("error decoding patch: {why}"));
    let value = codec::json::parse(patch).map_err(|error| bad(error.to_string()))?;
    let mistyped = |value: &Value, wanted: &str| {
        let found = match value {
            Value::Object(_) => "object",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) | Value::Null => "bool",
        };
        bad(format!("json: cannot unmarshal {found} into Go value of type {wanted}"))
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
    Ok(operations)
}

/// What a pointer's last step leads to.
enum Target {
    /// A member of an object, there or not.
    Member { there: bool },
    /// An element of a list, by a text that may be no index at all.
    Element { len: usize },
}

/// Where a pointer leads: the steps with plain indexes, and the container at its end.
struct Place {
    steps: Vec<String>,
    target: Target,
}

impl Place {
    /// Follows a pointer up to its last step; absent when a container on the way is.
    fn find(doc: &Value, path: &str) -> Option<Place> {
        let mut steps: Vec<String> =
            path.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        let last = steps.pop()?;
        let mut at = doc;
        for step in &mut steps {
            at = match at {
                Value::Object(map) => map.get(step.as_str())?,
                Value::Array(list) => {
                    let index = index(step, list.len())?;
                    *step = index.to_string();
                    list.get(index)?
                }
                _ => return None,
            };
        }
        let target = match at {
            Value::Object(map) => Target::Member { there: map.contains_key(&last) },
            Value::Array(list) => Target::Element { len: list.len() },
            _ => return None,
        };
        steps.push(last);
        Some(Place { steps, target })
    }

    /// The pointer to what is there.
    fn existing(mut self) -> Option<PointerBuf> {
        match self.target {
            Target::Member { there } => there.then(|| PointerBuf::from_tokens(&self.steps)),
            Target::Element { len } => {
                let last = self.steps.last_mut()?;
                *last = index(last, len)?.to_string();
                Some(PointerBuf::from_tokens(&self.steps))
            }
        }
    }

    /// The pointer to where a value can be put.
    fn free(mut self) -> Option<PointerBuf> {
        if let (Target::Element { len }, Some(last)) = (&self.target, self.steps.last_mut())
            && last != "-"
        {
            *last = index(last, len + 1)?.to_string();
        }
        Some(PointerBuf::from_tokens(&self.steps))
    }

    fn absent_member(&self) -> bool {
        matches!(self.target, Target::Member { there: false })
    }
}

/// An index below `len`; a negative one counts from the end.
fn index(text: &str, len: usize) -> Option<usize> {
    let index: i64 = text.parse().ok()?;
    let index = if index < 0 { index.checked_add(i64::try_from(len).ok()?)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// One operation; nothing when it does not apply.
fn step(doc: &mut Value, operation: &Value, copied: &mut usize) -> Option<()> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    let path = text("path");
    let operation = match text("op")? {
        "add" => PatchOperation::Add(AddOperation { path: Place::find(doc, path?)?.free()?, value: value() }),
        "remove" => PatchOperation::Remove(RemoveOperation { path: Place::find(doc, path?)?.existing()? }),
        "replace" if path?.is_empty() => {
            let value = Some(value()).filter(|value| value.is_object() || value.is_array())?;
            PatchOperation::Replace(ReplaceOperation { path: PointerBuf::new(), value })
        }
        "replace" => {
            let place = Place::find(doc, path?)?;
            if place.absent_member() {
                PatchOperation::Add(AddOperation { path: place.free()?, value: value() })
            } else {
                PatchOperation::Replace(ReplaceOperation { path: place.existing()?, value: value() })
            }
        }
        "move" => {
            let from = Place::find(doc, text("from")?)?.existing()?;
            let moved = doc.pointer_mut(from.as_str())?.take();
            run(doc, PatchOperation::Remove(RemoveOperation { path: from }))?;
            let path = Place::find(doc, path?)?.free()?;
            is_flat(&moved, MAX_DEPTH.saturating_sub(path.count())).then_some(())?;
            PatchOperation::Add(AddOperation { path, value: moved })
        }
        "copy" => {
            let from = Place::find(doc, text("from")?)?;
            let path = Place::find(doc, path?)?.free()?;
            if from.absent_member() {
                PatchOperation::Add(AddOperation { path, value: Value::Null })
            } else {
                let from = from.existing()?;
                let value = doc.pointer(from.as_str())?;
                is_flat(value, MAX_DEPTH.saturating_sub(path.count())).then_some(())?;
                *copied += value.to_string().len();
                (*copied <= MAX_COPIED).then_some(())?;
                PatchOperation::Copy(CopyOperation { from, path })
            }
        }
        "test" if path?.is_empty() => PatchOperation::Test(TestOperation { path: PointerBuf::new(), value: value() }),
        "test" => {
            let place = Place::find(doc, path?)?;
            if place.absent_member() {
                return value().is_null().then_some(());
            }
            PatchOperation::Test(TestOperation { path: place.existing()?, value: value() })
        }
        _ => return None,
    };
    run(doc, operation)
}

fn run(doc: &mut Value, operation: PatchOperation) -> Option<()> {
    // The caller works on a copy: nothing needs undoing.
    json_patch::patch_unsafe(doc, &[operation]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
}
