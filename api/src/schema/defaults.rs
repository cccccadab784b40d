//! Constant defaults of the table of facts.
//!
//! Never applies a default that needs thought: those are in the kinds' files.

use super::types::{Field, SchemaRef, Shape};
use crate::json::{Map, Value};

/// Fills absent fields that have a constant default, at every depth. A struct that is absent stays absent, except where
/// Go holds it by value and something below it has a default. Running it twice changes nothing.
pub fn apply(value: &mut Value, schema: SchemaRef<'_>) {
    if let Value::Object(object) = value {
        fill(object, schema);
    }
}

fn fill(object: &mut Map, schema: SchemaRef<'_>) {
    // Custom resources have defaults by rules of their own.
    if schema.def().free {
        return;
    }
    for field in schema.types.defaulted(schema.id) {
        match object.get_mut(&field.name) {
            Some(value) if !value.is_null() => descend(value, &field.shape, schema),
            _ => absent(object, field, schema),
        }
    }
}

fn absent(object: &mut Map, field: &Field, schema: SchemaRef<'_>) {
    if let Some(default) = field.constant() {
        let mut value = default.clone();
        descend(&mut value, &field.shape, schema);
        object.insert(field.name.clone(), value);
    } else if let (Shape::Struct(id), false) = (&field.shape, field.pointer) {
        let mut inner = Map::new();
        fill(&mut inner, schema.at(*id));
        if !inner.is_empty() {
            object.insert(field.name.clone(), Value::Object(inner));
        }
    }
}

fn descend(value: &mut Value, shape: &Shape, schema: SchemaRef<'_>) {
    match (shape, value) {
        (Shape::Struct(id), Value::Object(object)) => fill(object, schema.at(*id)),
        (Shape::List { items, .. }, Value::Array(values)) if has_structs(items) => {
            values.iter_mut().for_each(|value| descend(value, items, schema));
        }
        (Shape::Map { values, .. }, Value::Object(object)) if has_structs(values) => {
            object.values_mut().for_each(|value| descend(value, values, schema));
        }
        _ => {}
    }
}

fn has_structs(shape: &Shape) -> bool {
    matches!(shape, Shape::Struct(_) | Shape::List { .. } | Shape::Map { .. })
}

#[cfg(test)]
mod tests {
    use super::super::native;
    use super::*;
    use crate::json::json;

    #[test]
    fn constants_fill_what_is_absent() {
        let schema = native().of_gvk("", "v1", "Pod").unwrap();
        let mut pod =
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"protocol": "UDP"}]}]}});
        apply(&mut pod, schema);
        let once = pod.clone();
        apply(&mut pod, schema);
        assert_eq!(pod, once);
        assert_eq!(pod.pointer("/spec/containers/0/ports/0/protocol"), Some(&json!("TCP")));
        assert_eq!(pod.pointer("/spec/containers/0/ports/1/protocol"), Some(&json!("UDP")));
    }
}
