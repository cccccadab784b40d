//! How an object becomes what its schema says: nulls that mean nothing go, defaults come, unknown fields go.
//!
//! Never complains. All of it is idempotent.

use super::schema::{Additional, Node};
use crate::json::Value;

/// Fields of every object, which no schema needs to name.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Nulls where none is allowed and no default takes their place are as absent.
pub fn drop_nulls(value: &mut Value, node: &Node) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                let Some(child) = node.child(name) else { return true };
                if value.is_null() && !child.nullable && child.default.is_none() {
                    return false;
                }
                drop_nulls(value, child);
                true
            });
        }
        Value::Array(list) => {
            if let Some(items) = &node.items {
                list.iter_mut().for_each(|value| drop_nulls(value, items));
            }
        }
        _ => {}
    }
}

/// Defaults take the place of what is absent, or null without being allowed to.
pub fn default(value: &mut Value, node: &Node) {
    let missing = |value: &Value, node: &Node| value.is_null() && !node.nullable;
    match value {
        Value::Object(map) => {
            for (name, property) in &node.properties {
                let Some(default) = &property.default else { continue };
                if map.get(name).is_none_or(|value| missing(value, property)) {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                let Some(child) = node.child(name) else { continue };
                if let (true, Some(default)) = (missing(value, child), &child.default) {
                    *value = default.clone();
                }
                default(value, child);
            }
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for value in list {
                if let (true, Some(default)) = (missing(value, items), &items.default) {
                    *value = default.clone();
                }
                default(value, items);
            }
        }
        _ => {}
    }
}

/// Removes what the schema does not know; `resource` where the value is an object with metadata of its own.
pub fn prune(value: &mut Value, node: &Node, resource: bool) {
    match value {
        Value::Object(map) => {
            let kept = node.preserve || matches!(node.additional, Some(Additional::Any(_)));
            map.retain(|name, value| {
                if (resource || node.embedded) && META.contains(&name.as_str()) {
                    return true;
                }
                match node.child(name) {
                    Some(child) => prune(value, child, child.embedded),
                    // Entries of a map without a schema keep nothing of their own.
                    None if kept && !node.preserve => hollow(value),
                    None => return kept,
                }
                true
            });
        }
        Value::Array(list) => match &node.items {
            Some(items) => list.iter_mut().for_each(|value| prune(value, items, items.embedded)),
            None if node.preserve => {}
            None => list.iter_mut().for_each(hollow),
        },
        _ => {}
    }
}

fn hollow(value: &mut Value) {
    match value {
        Value::Object(map) => map.clear(),
        Value::Array(list) => list.iter_mut().for_each(hollow),
        _ => {}
    }
}
