//! Strategic merge: arbitrary patches of pods, and generated ones against a model that is slow and obvious.
//!
//! The model knows one type by heart and no schema; lists that merge are compared without their order.

use super::dice::Dice;
use crate::apply::testing::types;
use crate::json::{Map, Value, json};
use crate::patch::strategic::apply;
use crate::value;
use std::sync::LazyLock;

static TYPES: LazyLock<crate::schema::Types> = LazyLock::new(types);

/// No patch makes it panic, and what it makes can be patched with nothing.
pub(super) fn bytes(bytes: &[u8]) {
    let Some((doc, patch)) = super::pair(bytes) else { return };
    let schema = crate::schema::native().of_gvk("", "v1", "Pod").unwrap();
    let _ = crate::patch::strategic::spent(&doc, &patch, schema);
    if let Ok(merged) = apply(&doc, &patch, schema) {
        assert_eq!(apply(&merged, &json!({}), schema).as_ref(), Ok(&merged));
    }
}

/// Text to text, values from a few.
fn map(dice: &mut Dice<'_>) -> Map {
    let keys = dice.some(&["a", "b", "c"]);
    keys.into_iter().map(|key| (key, dice.roll(3).to_string())).collect()
}

fn document(dice: &mut Dice<'_>) -> Value {
    let mut items = Vec::new();
    for name in dice.some(&["a", "b", "c"]) {
        let mut item = Map::from_iter([("name", name)]);
        for field in ["v", "w"] {
            if dice.one_in(2) {
                item.insert(field, dice.roll(3).into());
            }
        }
        items.push(Value::Object(item));
    }
    let mut out = json!({"count": dice.roll(3), "labels": map(dice), "finalizers": dice.some(&["a", "b", "c"]),
        "args": dice.some(&["a", "b"]), "items": items});
    if dice.one_in(2) {
        let strategy = if dice.one_in(2) { json!({"kind": "A"}) } else { json!({"kind": "B", "rolling": {"max": 1}}) };
        value::set(&mut out, "strategy", strategy);
    }
    if let (true, Value::Object(out)) = (dice.one_in(3), &mut out) {
        out.retain(|_, _| !dice.one_in(3));
    }
    out
}

/// A patch, and what it makes of the document.
fn change(doc: &Value, dice: &mut Dice<'_>) -> (Value, Value) {
    let (mut patch, mut after) = (json!({}), doc.clone());
    match dice.roll(4) {
        0 => {}
        1 => {
            value::set(&mut patch, "count", Value::Null);
            value::remove(&mut after, "count");
        }
        number => {
            value::set(&mut patch, "count", number);
            value::set(&mut after, "count", number);
        }
    }
    labels(dice, &mut patch, &mut after);
    finalizers(dice, &mut patch, &mut after);
    if dice.one_in(2) {
        let args = dice.some(&["a", "b", "c"]);
        value::set(&mut patch, "args", args.clone());
        value::set(&mut after, "args", args);
    }
    items(dice, &mut patch, &mut after);
    if dice.one_in(3) {
        value::set(&mut patch, "strategy", json!({"$retainKeys": ["kind"], "kind": "C"}));
        // Where there is nothing to merge with, what the directive says is all there is.
        let strategy = value::get(doc, "strategy").is_some();
        value::set(
            &mut after,
            "strategy",
            if strategy { json!({"kind": "C"}) } else { json!({"$retainKeys": ["kind"], "kind": "C"}) },
        );
    }
    (patch, after)
}

fn labels(dice: &mut Dice<'_>, patch: &mut Value, after: &mut Value) {
    let there = value::get(after, "labels").is_some();
    let new = map(dice);
    match dice.roll(5) {
        0 => {}
        1 => {
            value::set(patch, "labels", Value::Null);
            value::remove(after, "labels");
        }
        2 => {
            value::set(patch, "labels", json!({"$patch": "delete"}));
            if there {
                value::set(after, "labels", json!({}));
            }
        }
        3 if there => {
            value::set(patch, "labels", new.clone());
            value::set(patch, "labels.$patch", "replace");
            value::set(after, "labels", new);
        }
        _ => {
            value::set(patch, "labels", new.clone());
            value::map_mut(after, "labels").extend(new);
            value::set(patch, "labels.d", Value::Null);
            value::remove(after, "labels.d");
        }
    }
}

fn finalizers(dice: &mut Dice<'_>, patch: &mut Value, after: &mut Value) {
    let named = dice.some(&["a", "b", "c", "d"]);
    let there = value::get(after, "finalizers").cloned();
    let mut all = value::items(after, "finalizers").to_vec();
    match dice.roll(3) {
        0 => return,
        1 => {
            value::set(patch, "finalizers", named.clone());
            all.extend(named.iter().map(|name| Value::from(*name)));
        }
        _ => {
            value::set(patch, "$deleteFromPrimitiveList/finalizers", named.clone());
            if there.is_none() {
                return;
            }
            all.retain(|there| !named.iter().any(|name| there == name));
        }
    }
    all.sort_by_key(ToString::to_string);
    all.dedup();
    value::set(after, "finalizers", all);
}

fn items(dice: &mut Dice<'_>, patch: &mut Value, after: &mut Value) {
    let names = dice.some(&["a", "b", "c", "d"]);
    if names.is_empty() {
        return;
    }
    let there = value::get(after, "items").is_some();
    let mut all = value::items(after, "items").to_vec();
    let (mut list, mut brought) = (Vec::new(), Vec::new());
    let replace = there && dice.one_in(6);
    for name in names {
        let at = all.iter().position(|item| item["name"] == name);
        if dice.one_in(3) {
            list.push(json!({"name": name, "$patch": "delete"}));
            if let Some(at) = at {
                all.remove(at);
            }
            continue;
        }
        let mut item = json!({"name": name, "v": dice.roll(3)});
        let mut merged = at.map_or_else(|| json!({"name": name}), |at| all.remove(at));
        value::set(&mut merged, "v", item["v"].clone());
        brought.push(item.clone());
        if !replace && dice.one_in(2) {
            value::set(&mut item, "w", Value::Null);
            // An element that is new to a list comes as it is, and decoding drops the null.
            if at.is_some() || !there {
                value::remove(&mut merged, "w");
            } else {
                value::set(&mut merged, "w", Value::Null);
            }
        }
        list.push(item);
        all.push(merged);
    }
    if replace {
        list.push(json!({"$patch": "replace"}));
        all = brought;
    }
    value::set(patch, "items", list);
    value::set(after, "items", all);
}

/// The same without the order of lists that merge.
fn sorted(mut object: Value) -> Value {
    for (name, key) in [("items", "name"), ("finalizers", "")] {
        if let Some(Value::Array(list)) = value::get_mut(&mut object, name) {
            list.sort_by_key(|item| item.get(key).unwrap_or(item).to_string());
        }
    }
    object
}

pub(super) fn model(bytes: &[u8]) {
    let mut dice = Dice(bytes);
    let doc = document(&mut dice);
    let (patch, after) = change(&doc, &mut dice);
    let got = apply(&doc, &patch, TYPES.schema("Thing").unwrap()).map(sorted);
    assert_eq!(got, Ok(sorted(after)), "{doc} patched with {patch}");
}
