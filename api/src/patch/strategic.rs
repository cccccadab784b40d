//! Strategic merge patch: a merge patch that knows how lists merge, and its directives.
//!
//! `$patch: replace|delete`, `$retainKeys`, `$deleteFromPrimitiveList/x` and `$setElementOrder/x`, driven by the
//! schema's patch strategies. Source: upstream's "strategic merge patch" document. Never serves custom resources.

use super::PatchError;
use crate::json::{Map, Text, Value};
use crate::schema::{Field, SchemaRef, Shape};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

/// Applies a strategic merge patch to an object of this schema.
///
/// # Errors
/// `BadRequest` for a malformed patch, `Unprocessable` for lists of lists, `Failed` for most else.
pub fn apply(doc: &Value, patch: &Value, schema: SchemaRef<'_>) -> Result<Value, PatchError> {
    let mut patch = patch.clone();
    let (Value::Object(doc), Value::Object(patch)) = (doc, &mut patch) else {
        return Err(bad("invalid JSON document"));
    };
    merge_map(doc.clone(), patch, At::Struct(schema)).map(Value::Object)
}

/// What is left of a patch that was applied: upstream's merge takes from it what it has done and drops what it passes over, and quotes
/// the rest when the object cannot be read.
#[must_use]
pub fn spent(doc: &Value, patch: &Value, schema: SchemaRef<'_>) -> Value {
    let mut patch = patch.clone();
    if let (Value::Object(doc), Value::Object(patch)) = (doc, &mut patch) {
        // One that does not fit is refused before anybody quotes it.
        drop(merge_map(doc.clone(), patch, At::Struct(schema)));
    }
    patch
}

/// One of the few faults that upstream knows by name.
fn bad(sentence: &str) -> PatchError {
    PatchError::BadRequest(sentence.to_owned())
}

/// Any other fault.
fn failed(sentence: impl Into<String>) -> PatchError {
    PatchError::Failed(sentence.into())
}

fn mistyped(wanted: &str, found: &Value) -> PatchError {
    failed(format!("expected a {wanted}, but received a {}", go_type(found)))
}

/// Where in the schema a map is.
#[derive(Clone, Copy)]
enum At<'a> {
    Struct(SchemaRef<'a>),
    Map,
    /// Nothing is known below.
    Free,
}

/// What is known of the value under a key.
struct Below<'a> {
    at: At<'a>,
    merge: bool,
    replace: bool,
    merge_key: Option<&'a str>,
}

impl<'a> At<'a> {
    fn of(schema: SchemaRef<'a>, shape: &'a Shape) -> At<'a> {
        match shape {
            Shape::Struct(id) => At::Struct(schema.at(*id)),
            Shape::Map { .. } => At::Map,
            Shape::List { items, .. } => At::of(schema, items),
            _ => At::Free,
        }
    }

    /// How the value under a key merges.
    ///
    /// # Errors
    /// Upstream's, which asks the struct in Go.
    fn below(self, key: &str) -> Result<Below<'a>, PatchError> {
        let from_field = |schema: SchemaRef<'a>, field: &'a Field| Below {
            at: At::of(schema, &field.shape),
            merge: field.patch.merge,
            replace: field.patch.replace,
            merge_key: field.patch.merge_key.as_deref(),
        };
        match self {
            At::Struct(schema) => match schema.def().field(key) {
                Some(field) => Ok(from_field(schema, field)),
                None => {
                    let name = schema.def().name.rsplit('.').next().unwrap_or_default();
                    let key = crate::quote::quoted(key);
                    Err(failed(format!("unable to find api field in struct {name} for the json field {key}")))
                }
            },
            At::Map => Err(failed("merging an object in json but data type is not struct, instead is: map")),
            At::Free => Ok(Below { at: At::Free, merge: false, replace: false, merge_key: None }),
        }
    }
}

fn merge_map(mut into: Map, patch: &mut Map, at: At<'_>) -> Result<Map, PatchError> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => {
            patch.remove(DIRECTIVE);
            return Ok(patch.clone());
        }
        Some(Value::String(directive)) if directive == "delete" => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(other, patch)),
    }
    retain_keys(&mut into, patch)?;
    if patch.keys().any(|key| key.starts_with(ELEMENT_ORDER)) {
        set_element_orders(&mut into, patch, at)?;
    }
    // What comes and goes does so at once in the end.
    let (mut new, mut gone) = (Vec::new(), HashSet::new());
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM_LIST) {
            None => (key.as_str(), false),
            Some(rest) => (rest.strip_prefix('/').ok_or_else(|| bad("invalid patch format of primitive list"))?, true),
        };
        if value.is_null() {
            gone.insert(Text::from(key));
            continue;
        }
        let there = into.get_mut(key).filter(|_| gone.is_empty() || !gone.contains(key));
        let Some(there) = there else {
            if let Some(value) = Some(value).filter(|_| !deletes).and_then(brought) {
                gone.remove(key);
                new.push((Text::from(key), value));
            }
            continue;
        };
        let merged = match (there.take(), value) {
            (Value::Object(there), Value::Object(patch)) => {
                let below = at.below(key)?;
                if below.replace {
                    Value::Object(patch.clone())
                } else {
                    Value::Object(merge_map(there, patch, below.at)?)
                }
            }
            (Value::Array(there), Value::Array(patch)) => {
                let below = at.below(key)?;
                if deletes && !there.iter().chain(&*patch).any(Value::is_object) {
                    element_kind(&there, patch)?;
                    let gone = positions(patch);
                    Value::Array(there.into_iter().filter(|element| !gone.contains_key(&element.to_string())).collect())
                } else if below.merge || deletes {
                    Value::Array(merge_list(there, patch, &below)?)
                } else {
                    Value::Array(patch.clone())
                }
            }
            (there, _) if deletes => there,
            (_, value) => match brought(value) {
                Some(value) => value,
                None => {
                    gone.insert(Text::from(key));
                    continue;
                }
            },
        };
        *there = merged;
    }
    if !gone.is_empty() {
        into.retain(|key, _| !gone.contains(key));
    }
    if !new.is_empty() {
        into.extend(new);
    }
    Ok(into)
}

/// A value where nothing that it could merge with is: without nulls, without what a directive deletes.
fn brought(value: &mut Value) -> Option<Value> {
    discard_nulls(value);
    if let Value::Array(_) = value {
        // A list is made anew.
        let mut value = value.clone();
        return strip_directives(&mut value).then_some(value);
    }
    strip_directives(value).then(|| value.clone())
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// Removes maps that carry a directive; false when the value itself is one.
fn strip_directives(value: &mut Value) -> bool {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => false,
        Value::Object(map) => {
            map.retain(|_, value| strip_directives(value));
            true
        }
        Value::Array(list) => {
            list.retain_mut(strip_directives);
            true
        }
        _ => true,
    }
}

fn retain_keys(into: &mut Map, patch: &mut Map) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || bad("invalid patch format of retainKeys");
    let keys = keys.as_array().ok_or_else(malformed)?;
    let named = |key: &str| keys.iter().any(|named| named == key);
    let listed = patch.iter().all(|(key, value)| {
        value.is_null() || key.starts_with(DELETE_FROM_LIST) || key.starts_with(ELEMENT_ORDER) || named(key)
    });
    if !listed {
        return Err(malformed());
    }
    into.retain(|key, _| named(key));
    Ok(())
}

/// Merges and orders each list for which the patch gives an order; what is left of the patch.
fn set_element_orders(into: &mut Map, patch: &mut Map, at: At<'_>) -> Result<(), PatchError> {
    let (directives, rest): (Vec<_>, Vec<_>) =
        std::mem::take(patch).into_iter().partition(|(key, _)| key.starts_with(ELEMENT_ORDER));
    *patch = Map::of(rest);
    let (mut new, mut done) = (Vec::new(), HashSet::new());
    for (directive, order) in directives {
        let malformed = || bad("invalid patch format of setElementOrder list");
        let key = directive.strip_prefix(ELEMENT_ORDER).and_then(|key| key.strip_prefix('/')).ok_or_else(malformed)?;
        let Value::Array(order) = order else { return Err(mistyped("[]interface {}", &order)) };
        let list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(mistyped("[]interface {}", &other)),
        };
        let place = into.get_mut(key);
        let is_there = place.is_some();
        let (there, brought) = (list(place.map(Value::take))?, list(patch.get_mut(key).map(Value::take))?);
        let below = at.below(key)?;
        done.insert(Text::from(key));
        check_order(brought.as_deref().unwrap_or_default(), &order, below.merge_key)?;
        let before = keys_of(there.as_deref().unwrap_or_default(), below.merge_key);
        let merged = match (there, brought) {
            (None, None) => continue,
            (Some(there), None) => there,
            (None, Some(mut brought)) => {
                brought.retain_mut(strip_directives);
                brought
            }
            (Some(there), Some(mut brought)) if below.merge => merge_list(there, &mut brought, &below)?,
            (Some(_), Some(brought)) => brought,
        };
        let merged = if merged.is_empty() { merged } else { in_order(merged, &order, &before, below.merge_key)? };
        match into.get_mut(key).filter(|_| is_there) {
            Some(place) => *place = Value::Array(merged),
            None => new.push((Text::from(key), Value::Array(merged))),
        }
    }
    if !new.is_empty() {
        into.extend(new);
    }
    patch.retain(|key, _| !done.contains(key));
    Ok(())
}

/// The elements that the patch brings must come in the order that it demands.
fn check_order(brought: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for element in brought.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        let key = key_of(element, merge_key)?;
        loop {
            let Some(next) = wanted.next() else {
                return Err(failed(format!(
                    "The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER} list:\n{}\n",
                    GoList(brought),
                    GoList(order)
                )));
            };
            if key_of(next, merge_key)? == key {
                break;
            }
        }
    }
    Ok(())
}

fn merge_list(mut into: Vec<Value>, patch: &mut [Value], below: &Below<'_>) -> Result<Vec<Value>, PatchError> {
    if into.is_empty() && patch.is_empty() {
        return Ok(into);
    }
    if !element_kind(&into, patch)?.is_object() {
        let before = into.clone();
        let mut there = positions(&into);
        for element in &*patch {
            if let Entry::Vacant(free) = there.entry(element.to_string()) {
                free.insert(into.len());
                into.push(element.clone());
            }
        }
        return in_order(into, patch, &before, None);
    }
    let Some(merge_key) = below.merge_key else {
        return Err(failed("cannot merge lists without merge key for struct"));
    };
    let mut brought = Vec::new();
    let mut replace = false;
    for element in patch {
        match element.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
            None => brought.push(element),
            Some("replace") => replace = true,
            Some("delete") => {
                let key = key_of(element, Some(merge_key))?;
                into.retain(|there| there.get(merge_key) != Some(key));
            }
            Some("merge") => return Err(failed("merging lists cannot yet be specified in the patch")),
            Some(_) => {
                let directive = element.get(DIRECTIVE).unwrap_or(&Value::Null);
                return Err(unknown_directive(directive, element.as_object().unwrap_or(&Map::new())));
            }
        }
    }
    if replace {
        return Ok(brought.into_iter().map(|element| element.clone()).collect());
    }
    let before = keys_of(&into, Some(merge_key));
    let mut places = HashMap::new();
    for (index, element) in into.iter().enumerate() {
        if let Some(key) = element.get(merge_key) {
            places.entry(key.to_string()).or_insert(index);
        }
    }
    let order: Vec<Value> = brought.iter().map(|element| (**element).clone()).collect();
    for element in brought {
        let key = key_of(element, Some(merge_key))?.to_string();
        let there = places.get(&key).and_then(|index| into.get_mut(*index));
        match (there, element) {
            (Some(there), Value::Object(element)) => {
                let Value::Object(base) = there.take() else { continue };
                *there = Value::Object(merge_map(base, element, below.at)?);
            }
            (_, element) => {
                places.insert(key, into.len());
                into.push(element.clone());
            }
        }
    }
    in_order(into, &order, &before, Some(merge_key))
}

/// Elements named by `order` come in that order; the others keep theirs from `before` and stay where it puts them
/// relative to the named ones, as far as that is possible.
fn in_order(
    merged: Vec<Value>,
    order: &[Value],
    before: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let mut wanted = HashMap::new();
    for (index, element) in order.iter().enumerate() {
        wanted.entry(key_of(element, merge_key)?.to_string()).or_insert(index);
    }
    let before = positions(before);
    let mut named = Vec::new();
    let mut others = Vec::new();
    for element in merged {
        let key = key_of(&element, merge_key)?.to_string();
        let earlier = before.get(&key).copied();
        match wanted.get(&key).copied() {
            Some(at) => named.push((at, earlier, element)),
            None => others.push((earlier.unwrap_or(usize::MAX), earlier, element)),
        }
    }
    named.sort_by_key(|(at, _, _)| *at);
    others.sort_by_key(|(at, _, _)| *at);
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((_, other, _)), Some((_, named, _))) => matches!((other, named), (Some(a), Some(b)) if a < b),
        };
        let next = if other_first { others.next() } else { named.next() };
        out.extend(next.map(|(_, _, element)| element));
    }
}

/// Where each value comes first, by its text: lists are as long as a body allows.
fn positions(list: &[Value]) -> HashMap<String, usize> {
    let mut out = HashMap::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        out.entry(value.to_string()).or_insert(index);
    }
    out
}

fn keys_of(list: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    list.iter().filter_map(|element| key_of(element, merge_key).ok().cloned()).collect()
}

/// What identifies an element: its merge key, or itself.
fn key_of<'a>(element: &'a Value, merge_key: Option<&str>) -> Result<&'a Value, PatchError> {
    let Some(merge_key) = merge_key else { return Ok(element) };
    let Value::Object(map) = element else {
        return Err(mistyped("map[string]interface {}", element));
    };
    map.get(merge_key)
        .ok_or_else(|| failed(format!("map: {} does not contain declared merge key: {merge_key}", Go(element))))
}

/// The common kind of all elements, as its first one.
fn element_kind<'a>(there: &'a [Value], patch: &'a [Value]) -> Result<&'a Value, PatchError> {
    let mut elements = there.iter().chain(patch);
    let Some(first) = elements.next() else { return Ok(&Value::Null) };
    if first.is_array() {
        return Err(PatchError::unfit());
    }
    match elements.find(|element| go_type(element) != go_type(first)) {
        Some(_) => {
            let (there, patch) = (GoList(there), GoList(patch));
            Err(failed(format!("list element types are not identical: [{there} {patch}]")))
        }
        None => Ok(first),
    }
}

fn unknown_directive(directive: &Value, map: &Map) -> PatchError {
    failed(format!("unknown patch type: {} in map: {}", text(directive), Go(&Value::Object(map.clone()))))
}

/// A value as Go's `%s` prints it, which only knows texts.
fn text(value: &Value) -> String {
    let list = |entries: Vec<String>| entries.join(" ");
    match value {
        Value::String(text) => text.to_string(),
        Value::Null => "%!s(<nil>)".to_owned(),
        Value::Array(values) => format!("[{}]", list(values.iter().map(text).collect())),
        Value::Object(map) => {
            format!("map[{}]", list(map.iter().map(|(key, value)| format!("{key}:{}", text(value))).collect()))
        }
        scalar @ (Value::Bool(_) | Value::Number(_)) => format!("%!s({}={scalar})", go_type(scalar)),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it: `map[a:1 b:[x y]]`.
#[must_use]
pub fn printed(value: &Value) -> String {
    Go(value).to_string()
}

/// See [`printed`].
struct Go<'a>(&'a Value);

impl std::fmt::Display for Go<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::String(text) => f.write_str(text),
            Value::Array(list) => GoList(list).fmt(f),
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                f.write_str("map[")?;
                for (i, (key, value)) in entries.into_iter().enumerate() {
                    let space = if i == 0 { "" } else { " " };
                    write!(f, "{space}{key}:{}", Go(value))?;
                }
                f.write_char(']')
            }
            scalar @ (Value::Bool(_) | Value::Number(_)) => write!(f, "{scalar}"),
        }
    }
}

struct GoList<'a>(&'a [Value]);

impl std::fmt::Display for GoList<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('[')?;
        for (i, value) in self.0.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{}", Go(value))?;
        }
        f.write_char(']')
    }
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
