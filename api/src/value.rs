//! Reading and writing objects as JSON values by dotted paths.
//!
//! Never panics on a value of the wrong shape: reads answer `None`, writes replace what is in the way.

use crate::json::{Map, Value};

/// The value at a dotted path (`spec.template.spec`), `None` where a step is absent.
#[must_use]
pub fn get<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if is_one_step(path) { value.as_object()?.get(path) } else { below(value, path) }
}

fn below<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let (mut at, mut rest) = (value, path);
    while let Some((step, after)) = first_step(rest) {
        at = at.as_object()?.get(step)?;
        rest = after;
    }
    at.as_object()?.get(rest)
}

/// Whether there is no dot: most paths are names, and this is asked for each of them. Eight bytes at once.
#[inline]
fn is_one_step(path: &str) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let dots = |word: &[u8; 8]| {
        let others = u64::from_le_bytes(*word) ^ (ONES * u64::from(b'.'));
        others.wrapping_sub(ONES) & !others & (ONES << 7)
    };
    let bytes = path.as_bytes();
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().fold(dots(last), |all, word| all | dots(word)) == 0,
        None => !bytes.contains(&b'.'),
    }
}

/// What stands before the first dot, and after it. Paths are a few bytes long: looking at each is faster than a search made for long
/// texts.
#[inline]
fn first_step(path: &str) -> Option<(&str, &str)> {
    let dot = path.bytes().position(|byte| byte == b'.')?;
    Some((path.get(..dot)?, path.get(dot + 1..)?))
}

/// What stands before the last dot, and after it.
fn last_step(path: &str) -> (&str, &str) {
    let split =
        path.bytes().rposition(|byte| byte == b'.').and_then(|dot| Some((path.get(..dot)?, path.get(dot + 1..)?)));
    split.unwrap_or(("", path))
}

/// The steps of a dotted path.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let text = rest?;
        let (step, after) = first_step(text).map_or((text, None), |(step, after)| (step, Some(after)));
        rest = after;
        Some(step)
    })
}

/// The value at a dotted path, for changing in place.
pub fn get_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    steps(path).try_fold(value, |at, step| at.get_mut(step))
}

/// The string at a path; empty when absent.
#[must_use]
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    get(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a path.
#[must_use]
pub fn int(value: &Value, path: &str) -> Option<i64> {
    get(value, path).and_then(Value::as_i64)
}

/// The boolean at a path; `false` when absent.
#[must_use]
pub fn flag(value: &Value, path: &str) -> bool {
    get(value, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The elements of the list at a path; none when absent.
#[must_use]
pub fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    get(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The elements of the list at a path, for changing in place.
pub fn items_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut [Value] {
    get_mut(value, path).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// The map at a path, made when absent; whatever else was there is replaced.
pub fn map_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut Map {
    let mut at = value;
    for step in steps(path).filter(|step| !step.is_empty()) {
        let map = object(at);
        // An entry would take a name of its own, and mostly it is there.
        if !map.contains_key(step) {
            map.insert(step, Value::Object(Map::new()));
        }
        at = map.get_mut(step).expect("put just above");
    }
    object(at)
}

/// Sets the value at a path and makes what is missing on the way.
pub fn set(value: &mut Value, path: &str, new: impl Into<Value>) {
    let (parent, last) = last_step(path);
    map_mut(value, parent).insert(last, new.into());
}

/// Sets the value at a path unless something is there already.
pub fn set_default(value: &mut Value, path: &str, new: impl Into<Value>) {
    if get(value, path).is_none_or(Value::is_null) {
        set(value, path, new);
    }
}

/// Removes what is at a path and returns it.
pub fn remove(value: &mut Value, path: &str) -> Option<Value> {
    match path.rsplit_once('.') {
        Some((parent, last)) => get_mut(value, parent)?.as_object_mut()?.remove(last),
        None => value.as_object_mut()?.remove(path),
    }
}

fn object(value: &mut Value) -> &mut Map {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object just above")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn paths_are_made_read_and_removed() {
        let mut object = json!({"spec": 1});
        set(&mut object, "spec.template.name", "a");
        set_default(&mut object, "spec.template.name", "b");
        set_default(&mut object, "kind", "Pod");
        assert_eq!(object, json!({"kind": "Pod", "spec": {"template": {"name": "a"}}}));
        assert_eq!(text(&object, "spec.template.name"), "a");
        assert_eq!(remove(&mut object, "spec.template"), Some(json!({"name": "a"})));
        assert_eq!(remove(&mut object, "spec.absent.x"), None);
        assert!(items(&object, "spec.list").is_empty());
    }
}
