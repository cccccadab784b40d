//! Objects out of values of any type, as upstream makes them after a strategic merge: not its decoder of JSON does it, but a converter
//! that goes through Go's structs.
//!
//! It takes numbers that the decoder refuses, stops at the first value that it cannot take, in the order of the struct's fields, and has
//! words of its own. Never looks for unknown fields.

use super::kind_word;
use crate::codec::scalar;
use crate::json::Value;
use crate::schema::{SchemaRef, Shape, TypeId};

/// Brings the numbers of an object of this schema into the types of their fields.
///
/// # Errors
/// Upstream's sentence about the first value that is of another type than its field.
pub fn restore(object: &mut Value, schema: SchemaRef<'_>) -> Result<(), String> {
    structure(object, schema, schema.id)
}

fn structure(value: &mut Value, schema: SchemaRef<'_>, id: TypeId) -> Result<(), String> {
    let Value::Object(map) = value else { return Err(format!("cannot restore struct from: {}", go_kind(value))) };
    let def = schema.types.get(id);
    for (index, field) in def.fields.iter().enumerate() {
        let Some(value) = map.get_mut(field.name.as_str()).filter(|value| !value.is_null()) else { continue };
        let wire = schema.types.wire(id, index);
        // The unions of schemas of definitions decode themselves, and take almost anything.
        if wire.is_none_or(|wire| wire.union.is_none()) {
            one(value, &field.shape, wire.and_then(|wire| wire.go_type), schema)?;
        }
    }
    Ok(())
}

/// A value in the place of a shape; `named` is Go's name of its type, where that is not the shape's own.
fn one(value: &mut Value, shape: &Shape, named: Option<&str>, schema: SchemaRef<'_>) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    match shape {
        Shape::Struct(id) => structure(value, schema, *id),
        Shape::List { items, .. } => {
            let Value::Array(list) = value else { return Err(format!("cannot restore slice from {}", go_kind(value))) };
            let named = named.and_then(|named| named.strip_prefix("[]"));
            list.iter_mut().try_for_each(|value| one(value, items, named, schema))
        }
        Shape::Map { values, .. } => {
            let Value::Object(map) = value else { return Err(format!("cannot restore map from {}", go_kind(value))) };
            let named = named.and_then(|named| named.strip_prefix("map[")?.split_once(']')).map(|(_, value)| value);
            map.values_mut().try_for_each(|value| one(value, values, named, schema))
        }
        Shape::String | Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Float64 => plain(value, shape, named),
        Shape::Bytes if value.is_string() => {
            let text = value.as_str().unwrap_or_default().into();
            scalar::base64(text).map(drop).map_err(|why| format!("error decoding from json: {why}"))
        }
        Shape::Bytes => Err(format!("cannot restore slice from {}", go_kind(value))),
        Shape::Any => Ok(()),
        Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime | Shape::Duration => itself(value, shape),
    }
}

/// Go converts within numbers, within texts and within truths.
fn plain(value: &mut Value, shape: &Shape, named: Option<&str>) -> Result<(), String> {
    let kind = match shape {
        Shape::String => "string",
        Shape::Bool => "bool",
        Shape::Int32 => "int32",
        Shape::Int64 => "int64",
        _ => "float64",
    };
    let refused = |found: &str| Err(format!("cannot convert {found} to {}", named.unwrap_or(kind)));
    match (shape, &*value) {
        (Shape::String, Value::String(_)) | (Shape::Bool, Value::Bool(_)) | (Shape::Float64, Value::Number(_)) => {
            Ok(())
        }
        // Of an integer Go would make the text of one character.
        (Shape::String, Value::Number(number)) if !number.is_f64() => refused("int64"),
        (Shape::Int32 | Shape::Int64, Value::Number(number)) => {
            let whole = match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => whole,
                (None, Some(float)) if float.trunc() == float => float as i64,
                _ => return refused("float64"),
            };
            // As Go cuts it.
            *value = if matches!(shape, Shape::Int32) { Value::from(whole as i32) } else { Value::from(whole) };
            Ok(())
        }
        _ => Err(format!("unrecognized type: {kind}")),
    }
}

/// A type that decodes itself from JSON: its decoder speaks, which knows nothing of the field.
fn itself(value: &Value, shape: &Shape) -> Result<(), String> {
    let mistyped =
        |found: &str, wanted: &str| Some(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
    let wrong = match (shape, value) {
        (Shape::Quantity, Value::String(text)) => scalar::quantity(text.as_str().into()).err(),
        (Shape::Quantity, other) => scalar::quantity(other.to_string().into()).err(),
        (Shape::IntOrString, Value::String(_)) => None,
        (Shape::IntOrString, Value::Number(number)) => {
            let fits = number.as_i64().is_some_and(|whole| i32::try_from(whole).is_ok());
            if fits { None } else { mistyped(&format!("number {number}"), "int32") }
        }
        (Shape::IntOrString, other) => mistyped(kind_word(other), "int32"),
        (Shape::Time, Value::String(text)) => scalar::time(text.as_str()).err(),
        (Shape::MicroTime, Value::String(text)) => scalar::micro_time(text.as_str()).err(),
        (Shape::Duration, Value::String(text)) => scalar::duration(text.as_str()).err(),
        (_, other) => mistyped(kind_word(other), "string"),
    };
    wrong.map_or(Ok(()), Err)
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "map",
        Value::Array(_) => "slice",
        Value::String(_) => "string",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::Bool(_) => "bool",
        Value::Null => "invalid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{from_str, json};

    #[test]
    fn the_first_value_that_does_not_fit_is_told() {
        let schema = crate::schema::native().of_gvk("apps", "v1", "Deployment").unwrap();
        let check = |text: &str, want: &str| {
            let mut object: Value = from_str(text).unwrap();
            assert_eq!(restore(&mut object, schema), Err(want.to_owned()), "{text}");
        };
        check(r#"{"spec":{"replicas":"a"}}"#, "unrecognized type: int32");
        check(r#"{"spec":{"replicas":1.5}}"#, "cannot convert float64 to int32");
        check(r#"{"spec":{"paused":1}}"#, "unrecognized type: bool");
        check(r#"{"spec":[]}"#, "cannot restore struct from: slice");
        check(r#"{"metadata":{"labels":[]}}"#, "cannot restore map from slice");
        check(r#"{"metadata":{"finalizers":{}}}"#, "cannot restore slice from map");
        check(r#"{"metadata":{"labels":{"a":1}}}"#, "cannot convert int64 to string");
        check(r#"{"metadata":{"labels":{"a":true}}}"#, "unrecognized type: string");
        let creation = "json: cannot unmarshal number into Go value of type string";
        check(r#"{"metadata":{"creationTimestamp":1}}"#, creation);
        // In the order of the fields, not of their names.
        check(r#"{"spec":{"paused":1,"replicas":{}}}"#, "unrecognized type: int32");
        let container = |field: &str| format!(r#"{{"spec":{{"template":{{"spec":{{"containers":[{{{field}}}]}}}}}}}}"#);
        check(&container(r#""ports":[{"protocol":1}]"#), "cannot convert int64 to v1.Protocol");
        let surge = |value: &str| format!(r#"{{"spec":{{"strategy":{{"rollingUpdate":{{"maxSurge":{value}}}}}}}}}"#);
        check(&surge("true"), "json: cannot unmarshal bool into Go value of type int32");
    }

    #[test]
    fn numbers_become_what_their_fields_hold() {
        let schema = crate::schema::native().of_gvk("apps", "v1", "Deployment").unwrap();
        let mut object: Value =
            from_str(r#"{"spec":{"replicas":2.0,"minReadySeconds":4294967301,"paused":null}}"#).unwrap();
        restore(&mut object, schema).unwrap();
        assert_eq!(object, json!({"spec": {"replicas": 2, "minReadySeconds": 5, "paused": null}}));
    }
}
