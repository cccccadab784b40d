//! Lists that are sets or maps: no element, and no key, twice.
//!
//! Source: upstream's structured merge list types for custom resources.

use super::schema::Node;
use crate::codec::json::encode_any;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value};
use std::collections::HashMap;

/// What occurs twice in lists of `value` that are sets or maps.
#[must_use]
pub fn validate(value: &Value, node: &Node) -> Errors {
    let mut errors = Errors::new();
    at(&mut errors, value, node, &Path::new(""));
    errors
}

fn at(errors: &mut Errors, value: &Value, node: &Node, path: &Path) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (node.properties.get(name.as_str()), node.entries()) {
                    (Some(property), _) => at(errors, value, property, &path.child(name)),
                    (None, Some(entries)) => at(errors, value, entries, &path.key(name)),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            match node.list_type.as_deref() {
                Some("set") => {
                    for i in twice(list.iter().cloned()) {
                        errors.push(FieldError::duplicate(&path.index(i), list.get(i).cloned().unwrap_or_default()));
                    }
                }
                Some("map") => keyed(errors, list, &node.list_keys, path),
                _ => {}
            }
            if let Some(items) = &node.items {
                for (i, value) in list.iter().enumerate() {
                    at(errors, value, items, &path.index(i));
                }
            }
        }
        _ => {}
    }
}

fn keyed(errors: &mut Errors, list: &[Value], keys: &[String], path: &Path) {
    if let Some((i, odd)) = list.iter().enumerate().find(|(_, value)| !value.is_object() && !value.is_null()) {
        let detail = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&path.index(i), odd.clone(), detail));
        return;
    }
    let key_of = |item: &Value| {
        let present = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
        Value::Object(present.collect::<Map>())
    };
    let found: Vec<Value> = list.iter().map(key_of).collect();
    for i in twice(found.iter().cloned()) {
        errors.push(FieldError::duplicate(&path.index(i), found.get(i).cloned().unwrap_or_default()));
    }
}

/// The place of the second occurrence of each value that occurs more than once.
fn twice(values: impl Iterator<Item = Value>) -> Vec<usize> {
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut out = Vec::new();
    for (i, value) in values.enumerate() {
        let times = seen.entry(encode_any(&value)).or_default();
        *times += 1;
        if *times == 2 {
            out.push(i);
        }
    }
    out
}
