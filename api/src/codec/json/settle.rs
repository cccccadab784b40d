//! Brings a value into the form in which it would be read back, had it been written: the rules of `write.rs` without the bytes.
//!
//! Never fails; what does not fit its schema stays as it is.

use super::walk::resets;
use crate::codec::scalar;
use crate::json::{Map, Number, Value};
use crate::schema::{Field, SchemaRef, Shape, TypeId, Types, Union};

/// Fields that Go always writes are there afterwards, those that it leaves out are not, and numbers are integers where they can be.
pub fn settle(value: &mut Value, schema: SchemaRef<'_>) {
    match value {
        Value::Object(object) => structure(object, schema.types, schema.id),
        other => any(other),
    }
}

fn structure(object: &mut Map, types: &Types, id: TypeId) {
    let def = types.get(id);
    if def.free {
        for (name, value) in object {
            match def.field(name) {
                Some(field) => self::value(value, &field.shape, types),
                None => any(value),
            }
        }
        return;
    }
    object.retain(|name, value| {
        let Some(index) = types.position(id, name).filter(|_| !value.is_null()) else { return false };
        let Some(field) = def.fields.get(index) else { return false };
        let is_empty_list = || value.as_array().is_some_and(Vec::is_empty);
        // A list without items has no place in protobuf, which is what upstream stores: it comes back as none.
        if !field.pointer && (field.omit_empty && scalar::is_empty(value) || is_empty_list()) && !resets(field) {
            return false;
        }
        match types.wire(id, index).and_then(|wire| wire.union) {
            Some(union) => self::union(value, &field.shape, union, types, id),
            None => self::value(value, &field.shape, types),
        }
        true
    });
    for (_, field) in types.always(id) {
        if !object.contains_key(&field.name) {
            object.insert(field.name.clone(), zero(field, types));
        }
    }
}

fn zero(field: &Field, types: &Types) -> Value {
    match &field.shape {
        _ if field.pointer => Value::Null,
        Shape::Struct(id) => {
            let mut inner = Map::new();
            structure(&mut inner, types, *id);
            Value::Object(inner)
        }
        shape => scalar::zero(shape),
    }
}

fn value(value: &mut Value, shape: &Shape, types: &Types) {
    match (shape, value) {
        (Shape::Struct(id), Value::Object(object)) => structure(object, types, *id),
        (Shape::List { items, .. }, Value::Array(list)) => {
            list.iter_mut().for_each(|value| self::value(value, items, types));
        }
        (Shape::Map { values, .. }, Value::Object(object)) => {
            object.values_mut().for_each(|value| self::value(value, values, types));
        }
        (_, value) => any(value),
    }
}

fn union(value: &mut Value, shape: &Shape, union: Union, types: &Types, id: TypeId) {
    match (shape, value) {
        (Shape::Map { .. }, Value::Object(object)) => {
            object.values_mut().for_each(|value| self::union(value, &Shape::Any, union, types, id));
        }
        (_, Value::Object(object)) => structure(object, types, id),
        (_, Value::Array(list)) if union == Union::Array => {
            list.iter_mut().for_each(|value| self::union(value, shape, union, types, id));
        }
        (_, value) => any(value),
    }
}

fn any(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(integer) = integer(number) {
                *number = integer;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(any),
        Value::Object(object) => object.values_mut().for_each(any),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The integer that a double is read back as, where it is one; a negative zero is none.
fn integer(number: &Number) -> Option<Number> {
    let double = number.as_f64().filter(|double| number.is_f64() && double.fract() == 0.0)?;
    match double {
        _ if double == 0.0 && double.is_sign_negative() => None,
        0.0..18_446_744_073_709_551_616.0 => Some(Number::from(double as u64)),
        -9_223_372_036_854_775_808.0..0.0 => Some(Number::from(double as i64)),
        _ => None,
    }
}
