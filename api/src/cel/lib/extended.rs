//! Optional values, macros over two variables, and what single environments add.
//!
//! `or` and `orValue` are steps of their own and only declared here.

use crate::cel::convert::text;
use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::merge::contains;
use crate::cel::value::{List, Map, Value};

pub(crate) const OPTIONAL: Library = Library {
    since: Some(28),
    signatures: "
        optional.of optional_of (V) optional(V)
        optional.ofNonZeroValue optional_ofNonZeroValue (V) optional(V)
        optional.none optional_none () optional(V)
        .value optional_value (optional(V)) V
        .hasValue optional_hasValue (optional(V)) bool
        .or optional_or_optional (optional(V), optional(V)) optional(V)
        .orValue optional_orValue_value (optional(V), V) V
        _?._ select_optional_field (dyn, string) optional(V)
        _[?_] list_optindex_optional_int (list(V), int) optional(V)
        _[?_] optional_list_optindex_optional_int (optional(list(V)), int) optional(V)
        _[?_] map_optindex_optional_value (map(K, V), K) optional(V)
        _[?_] optional_map_optindex_optional_value (optional(map(K, V)), K) optional(V)
        _[_] optional_list_index_int (optional(list(V)), int) optional(V)
        _[_] optional_map_index_value (optional(map(K, V)), K) optional(V)
        .last list_last (list(V)) optional(V)
        .first list_first (list(V)) optional(V)
        optional.unwrap optional_unwrap (list(optional(V))) list(V)
        .unwrapOpt optional_unwrapOpt (list(optional(V))) list(V)
    ",
    code: &[
        ("optional.of", |_, args| match args {
            [value] => Ok(Value::some(value.clone())),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("optional.ofNonZeroValue", |_, args| match args {
            [value] if is_zero(value) => Ok(Value::NONE),
            [value] => Ok(Value::some(value.clone())),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("optional.none", |_, _| Ok(Value::NONE)),
        ("value", |_, args| match args {
            [Value::Optional(Some(value))] => Ok((**value).clone()),
            [Value::Optional(None)] => Err(Fault::said("optional.none() dereference")),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("hasValue", |_, args| match args {
            [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
            _ => Err(Fault::NoSuchOverload),
        }),
        ("first", |_, args| end(args, false)),
        ("last", |_, args| end(args, true)),
        ("optional.unwrap", |_, args| unwrapped(args)),
        ("unwrapOpt", |_, args| unwrapped(args)),
    ],
};

pub(crate) const TWO_VARIABLES: Library = Library {
    since: Some(32),
    signatures: "
        cel.@mapInsert @mapInsert_map_key_value (map(K, V), K, V) map(K, V)
        cel.@mapInsert @mapInsert_map_map (map(K, V), map(K, V)) map(K, V)
    ",
    code: &[("cel.@mapInsert", |_, args| match args {
        [Value::Map(map), Value::Map(more)] => {
            let mut map: Map<'_> = map.clone();
            for key in more.keys() {
                if let Some(value) = more.get(&key)? {
                    map = map.with(key, value)?;
                }
            }
            Ok(Value::Map(map))
        }
        _ => Err(Fault::NoSuchOverload),
    })],
};

/// `jsonpatch.escapeKey`.
pub(crate) const JSON_PATCH: Library = Library {
    since: None,
    signatures: "jsonpatch.escapeKey string_jsonpatch_escapeKey_string (string) string",
    code: &[("jsonpatch.escapeKey", |_, args| match args {
        [Value::String(key)] => Ok(text(key.replace('~', "~0").replace('/', "~1"))),
        _ => Err(Fault::NoSuchOverload),
    })],
};

/// `includes`, of device selectors.
pub(crate) const INCLUDES: Library = Library {
    since: None,
    signatures: ".includes dra_includes_dyn_dyn (dyn, dyn) bool",
    code: &[("includes", |call, args| match args {
        [Value::List(list), _] if list.len() > MOST_VALUES => {
            Err(Fault::said(format!("'includes' function cannot be applied to lists longer than {MOST_VALUES} values")))
        }
        [Value::List(list), wanted] => contains(list, wanted, call.fuel).map(Value::Bool),
        [value, wanted] => value.equals(wanted, call.fuel).map(Value::Bool),
        _ => Err(Fault::NoSuchOverload),
    })],
};

/// Values of an attribute of a device.
const MOST_VALUES: usize = 48;

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) | Value::Duration(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Object(object) => object.fields().is_ok_and(|fields| fields.is_empty()),
        Value::Optional(value) => value.as_ref().is_none_or(|value| is_zero(value)),
        Value::Timestamp(_) | Value::Type(_) | Value::Opaque(_) => false,
    }
}

fn end<'a>(args: &[Value<'a>], last: bool) -> Outcome<Value<'a>> {
    let [Value::List(list)] = args else { return Err(Fault::NoSuchOverload) };
    let at = if last { list.len().saturating_sub(1) } else { 0 };
    Ok(list.get(at).transpose()?.map_or(Value::NONE, Value::some))
}

fn unwrapped<'a>(args: &[Value<'a>]) -> Outcome<Value<'a>> {
    let [Value::List(list)] = args else { return Err(Fault::NoSuchOverload) };
    let mut values = Vec::new();
    for element in list.iter() {
        match element? {
            Value::Optional(value) => values.extend(value.map(|value| (*value).clone())),
            other => return Err(Fault::said(format!("value {} is not optional", other.text()))),
        }
    }
    Ok(Value::List(List::of(values)))
}
