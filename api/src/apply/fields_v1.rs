//! FieldsV1: field sets as the JSON of `managedFields[].fieldsV1`.
//!
//! `f:` field, `k:` list keys, `v:` set value, `i:` index; `.` is the path itself; an empty object is a lone member.

use super::path::{FieldSet, Node, PathElement, Scalar};
use super::typed::{self, Ty};
use crate::codec::json::{write_any, write_string};
use crate::json::{Map, Value};
use std::borrow::Cow;

/// The wire form of a set.
#[must_use]
pub fn encode(set: &FieldSet<'_>) -> Value {
    Value::Object(level(set))
}

fn level(set: &FieldSet<'_>) -> Map {
    let below = |node: &Node<'_>| {
        let mut below = level(&node.below);
        if node.own && !below.is_empty() {
            below.insert(".".to_owned(), Value::Object(Map::new()));
        }
        Value::Object(below)
    };
    // In one go: a map is made faster of all its entries than of one after the other.
    set.iter().map(|(element, node)| (name(element), below(node))).collect()
}

fn name(element: &PathElement<'_>) -> String {
    match element {
        PathElement::Field(name) => ["f:", name].concat(),
        PathElement::Key(keys) => {
            let mut out = b"k:{".to_vec();
            for (name, value) in keys.iter() {
                if out.len() > 3 {
                    out.push(b',');
                }
                write_string(&mut out, name);
                out.push(b':');
                write_any(&mut out, &value.0);
            }
            out.push(b'}');
            text(out)
        }
        PathElement::Value(value) => {
            let mut out = b"v:".to_vec();
            write_any(&mut out, &value.0);
            text(out)
        }
        PathElement::Index(index) => format!("i:{index}"),
    }
}

fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
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
pub fn decode(fields: &Value) -> Result<FieldSet<'_>, String> {
    let fields = fields.as_object().ok_or("fields must be an object")?;
    let mut nodes = Vec::with_capacity(fields.len());
    // "." means the path above; at the top there is none.
    for (name, below) in fields.iter().filter(|(name, _)| *name != ".") {
        // What later versions may bring is passed over.
        let Some(element) = element(name)? else { continue };
        let own = is_own(below);
        let below = if below.is_object() { decode(below)? } else { FieldSet::default() };
        nodes.push((element, Node { own, below }));
    }
    Ok(FieldSet::of(nodes.into_iter()))
}

/// Whether the set of a wire form has any of the fields.
pub(super) fn has_any(wire: &Value, fields: &FieldSet<'_>) -> bool {
    let Some(wire) = wire.as_object() else { return false };
    fields.iter().any(|(element, node)| {
        wire.get(&name(element)).is_some_and(|below| (node.own && is_own(below)) || has_any(below, &node.below))
    })
}

/// Whether a wire form is that of the fields which a configuration names, but for `system` fields and what is at and below `reset`. Both
/// are walked side by side, without a set of either. May say no where it is.
pub(super) fn is_named_by(
    wire: &Value,
    named: &Value,
    ty: Ty<'_>,
    system: &FieldSet<'_>,
    reset: &FieldSet<'_>,
) -> bool {
    below(wire.as_object(), named, ty, Some(system), Some(reset)).is_some()
}

/// How many fields below a value are in the wire form; nothing where it has others, or not all.
fn below(
    wire: Option<&Map>,
    value: &Value,
    ty: Ty<'_>,
    system: Option<&FieldSet<'_>>,
    reset: Option<&FieldSet<'_>>,
) -> Option<usize> {
    let mut count = 0;
    let members = wire.map_or(0, |wire| wire.len() - usize::from(wire.contains_key(".")));
    match (ty, value) {
        (Ty::Struct(_) | Ty::Map(..) | Ty::Deduced, Value::Object(map)) => {
            // Fields are in the same order on both sides.
            let mut there = wire.into_iter().flatten().filter(|(name, _)| *name != ".").peekable();
            for (name, value) in map {
                let element = PathElement::Field(name);
                let [system, reset] = [system, reset].map(|set| set.and_then(|set| set.get(&element)));
                if reset.is_some_and(|node| node.own) {
                    continue;
                }
                let (ty, field) = ty.child(name);
                let next = there.next_if(|(wire, _)| wire.strip_prefix("f:") == Some(name));
                let own = typed::is_member(value, ty, field.is_some()) && !system.is_some_and(|node| node.own);
                let [system, reset] = [system, reset].map(|node| node.map(|node| &node.below));
                let inside = below(next.and_then(|(_, below)| below.as_object()), value, ty, system, reset)?;
                let is_there = own || inside > 0;
                if next.map_or(is_there, |(_, below)| !is_there || is_own(below) != own) {
                    return None;
                }
                count += usize::from(is_there);
            }
        }
        (Ty::Set | Ty::Keyed(..), Value::Array(list)) => {
            for (element, item) in ty.identified(list) {
                let next = wire?.get(&name(&element)).filter(|below| is_own(below))?;
                below(next.as_object(), item, ty.element(), None, None)?;
                count += 1;
            }
        }
        _ => {}
    }
    (count == members).then_some(count)
}

/// Whether nothing is owned below what the type says to have one owner for the whole.
pub(super) fn fits(wire: &Value, ty: Ty<'_>) -> bool {
    let Some(wire) = wire.as_object() else { return true };
    wire.iter().all(|(name, below)| {
        let has_below = below.as_object().is_some_and(|map| map.len() > usize::from(map.contains_key(".")));
        if !has_below || name == "." {
            return true;
        }
        // Which element of a list it is does not matter.
        let element = name.strip_prefix("f:").map_or(PathElement::Index(0), PathElement::Field);
        !ty.is_whole(&element) && fits(below, ty.under(&element).0)
    })
}

/// Whether what stands below a name says that the name itself is a member.
fn is_own(below: &Value) -> bool {
    below.as_object().is_none_or(|below| below.is_empty() || below.contains_key("."))
}

/// A path element; `None` for one of an unknown kind.
fn element(name: &str) -> Result<Option<PathElement<'_>>, String> {
    let (kind, rest) = name.split_once(':').ok_or_else(|| format!("missing colon: {name}"))?;
    let parse = || crate::json::from_str::<Value>(rest).map_err(|error| error.to_string());
    let scalar = |value| Scalar(Cow::Owned(value));
    match kind {
        "f" => Ok(Some(PathElement::Field(rest))),
        "v" => Ok(Some(PathElement::Value(scalar(parse()?)))),
        "k" => {
            let Value::Object(keys) = parse()? else { return Err(format!("keys must be an object: {name}")) };
            // Sorted, as maps are.
            let keys = keys.into_iter().map(|(name, value)| (name.into(), scalar(value)));
            Ok(Some(PathElement::Key(keys.collect())))
        }
        "i" => rest.parse().map(|index| Some(PathElement::Index(index))).map_err(|error| format!("{name}: {error}")),
        _ if kind.len() == 1 => Ok(None),
        _ => Err(format!("missing colon: {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

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
        assert!(decode(&json!({"q:x": {}})).unwrap().is_empty());
        for bad in [json!([]), json!({"x": {}}), json!({"qq:x": {}}), json!({"k:[]": {}}), json!({"i:a": {}})] {
            assert!(decode(&bad).is_err(), "{bad}");
        }
    }
}
