//! A patched object as upstream quotes it when it cannot be read.
//!
//! Its patches of JSON work on the text: an object that they look into comes with its names sorted, one that they leave closed as the
//! server wrote it, fields in the order of the struct. What a patch brings comes sorted here, upstream as it was sent. Never judges anything.

use crate::codec::MAX_STORED_DEPTH;
use crate::codec::json::{write_any, write_key, write_shape};
use crate::json::Value;
use crate::schema::{SchemaRef, Shape};
use std::collections::BTreeMap;

/// What a patch looked into, from the top on.
#[derive(Debug, Default)]
pub struct Opened {
    /// All below is known by its names alone.
    whole: bool,
    below: BTreeMap<String, Opened>,
}

impl Opened {
    fn whole() -> Opened {
        Opened { whole: true, below: BTreeMap::new() }
    }

    /// By a merge patch to this document.
    #[must_use]
    pub fn by_merge(doc: &Value, patch: &Value) -> Opened {
        let mut out = Opened::default();
        for (key, value) in patch.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let inner = match doc.get(key) {
                Some(there) if there.is_object() && value.is_object() => Opened::by_merge(there, value),
                _ => Opened::whole(),
            };
            out.below.insert(key.to_string(), inner);
        }
        out
    }

    /// By the operations of a JSON patch. Elements are counted as the patch found them.
    #[must_use]
    pub fn by_operations(operations: &[Value]) -> Opened {
        let mut out = Opened::default();
        for operation in operations {
            // Others say no `from` that means anything.
            let moves = matches!(operation.get("op").and_then(Value::as_str), Some("copy" | "move"));
            for name in ["from", "path"].into_iter().skip(usize::from(!moves)) {
                let Some((way, last)) = operation.get(name).and_then(Value::as_str).and_then(|at| at.rsplit_once('/'))
                else {
                    continue;
                };
                let mut at = &mut out;
                // No object is deeper, however long a path is: what is dropped below here is dropped on the stack.
                for step in way.split('/').skip(1).take(MAX_STORED_DEPTH) {
                    at = at.below.entry(super::json::unescaped(step)).or_default();
                }
                if name == "path" {
                    at.below.insert(super::json::unescaped(last), Opened::whole());
                }
            }
        }
        out
    }
}

/// The text of an object of this schema.
#[must_use]
pub fn text(patched: &Value, schema: SchemaRef<'_>, opened: &Opened) -> String {
    let mut out = Vec::new();
    if schema.def().free {
        write_any(&mut out, patched);
    } else {
        Text { out: &mut out, schema }.write(patched, Some(&Shape::Struct(schema.id)), Some(opened));
    }
    String::from_utf8_lossy(&out).into_owned()
}

struct Text<'v> {
    out: &'v mut Vec<u8>,
    schema: SchemaRef<'v>,
}

impl<'v> Text<'v> {
    fn write(&mut self, value: &'v Value, shape: Option<&'v Shape>, opened: Option<&Opened>) {
        let types = self.schema.types;
        let opened = match (opened, shape) {
            (None, Some(shape)) => return write_shape(self.out, value, shape, types),
            (Some(Opened { whole: false, below }), _) => below,
            _ => return write_any(self.out, value),
        };
        match value {
            Value::Object(map) => {
                self.out.push(b'{');
                let mut first = true;
                for (key, value) in map {
                    let below = match shape {
                        Some(Shape::Struct(id)) => types.get(*id).field(key).map(|field| &field.shape),
                        Some(Shape::Map { values, .. }) => Some(&**values),
                        _ => None,
                    };
                    write_key(self.out, &mut first, key);
                    self.write(value, below, opened.get(key.as_str()));
                }
                self.out.push(b'}');
            }
            Value::Array(list) => {
                let below = match shape {
                    Some(Shape::List { items, .. }) => Some(&**items),
                    _ => None,
                };
                self.out.push(b'[');
                for (index, value) in list.iter().enumerate() {
                    if index > 0 {
                        self.out.push(b',');
                    }
                    let (last, index) = (index + 1 == list.len(), index.to_string());
                    let inner = opened.get(&index).or_else(|| opened.get("-").filter(|_| last));
                    self.write(value, below, inner);
                }
                self.out.push(b']');
            }
            plain => write_any(self.out, plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn what_a_patch_leaves_alone_is_quoted_in_the_order_of_its_struct() {
        let schema = crate::schema::native().of_gvk("", "v1", "ConfigMap").unwrap();
        let doc = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "<", "a": "x"},
            "metadata": {"annotations": {"z": "1"}, "name": "n", "labels": {"b": "1"}},
        });
        let merged =
            |patch: Value| text(&crate::patch::merge::apply(&doc, &patch), schema, &Opened::by_merge(&doc, &patch));
        let plain = r#"{"apiVersion":"v1","data":5,"kind":"ConfigMap","metadata":{"name":"n","labels":{"b":"1"},"annotations":{"z":"1"}}}"#;
        assert_eq!(merged(json!({"data": 5})), plain);
        let opened = r#"{"apiVersion":"v1","data":{"a":"x","b":"\u003c"},"kind":"ConfigMap","metadata":{"annotations":{"z":"1"},"labels":5,"name":"n"}}"#;
        assert_eq!(merged(json!({"metadata": {"labels": 5}})), opened);
        let operations = [json!({"op": "add", "path": "/metadata/labels", "value": 5})];
        let patched = crate::patch::json::apply_all(&doc, &operations).unwrap();
        assert_eq!(text(&patched, schema, &Opened::by_operations(&operations)), opened);
        let operations = [json!({"op": "add", "path": "/data", "value": 5})];
        let patched = crate::patch::json::apply_all(&doc, &operations).unwrap();
        assert_eq!(text(&patched, schema, &Opened::by_operations(&operations)), plain);
    }

    #[test]
    fn a_path_that_is_longer_than_any_object_is_deep_costs_no_stack() {
        let long = "/".repeat(1_000_000);
        for operation in [
            json!({"op": "replace", "from": long, "path": "/data", "value": 5}),
            json!({"op": "copy", "from": long, "path": "/data"}),
            json!({"op": "test", "path": long, "value": null}),
        ] {
            assert!(!Opened::by_operations(&[operation]).below.is_empty());
        }
    }
}
