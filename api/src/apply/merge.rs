//! The merge of an applied configuration into an object.
//!
//! The configuration wins at every leaf; elements of lists come in the configuration's order, and those that it does
//! not name keep their place among their neighbours. Never takes anything away.

use super::path::PathElement;
use super::typed::{Ty, paired};
use crate::json::{Map, Value};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// `live` with `config` merged into it. The managers of `live` stay behind: whoever merges writes them anew, and they are often half
/// of an object.
pub(super) fn merge(ty: Ty<'_>, live: &Value, config: &Value) -> Value {
    both(ty, live, config, &["metadata", "managedFields"]).unwrap_or_else(|| Value::Object(Map::new()))
}

/// Nothing when nothing is left of either. The field of `live` to which the path `behind` leads stays behind where both have its parents.
fn both(ty: Ty<'_>, live: &Value, config: &Value, behind: &[&str]) -> Option<Value> {
    match (ty, live, config) {
        (Ty::Struct(_) | Ty::Map(..) | Ty::Deduced, Value::Object(live), Value::Object(config))
            if !live.is_empty() || !config.is_empty() =>
        {
            let mut out = Vec::with_capacity(live.len().max(config.len()));
            let (mut live, mut config) = (live.iter().peekable(), config.iter().peekable());
            // Names are met in their order.
            loop {
                let order = match (live.peek(), config.peek()) {
                    (Some((left, _)), Some((right, _))) => left.compare(right),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => break,
                };
                match (live.next_if(|_| order.is_le()), config.next_if(|_| order.is_ge())) {
                    // Scalars win whatever they meet.
                    (_, Some((name, value @ (Value::Bool(_) | Value::Number(_) | Value::String(_)))))
                    | (None, Some((name, value))) => {
                        out.push((name.clone(), value.clone()));
                    }
                    (Some((name, live)), config) => {
                        let behind = behind.split_first().filter(|(first, _)| *first == name).map(|(_, rest)| rest);
                        let merged = match config {
                            None if behind.is_some_and(<[_]>::is_empty) => None,
                            Some((_, config)) => both(ty.child(name).0, live, config, behind.unwrap_or_default()),
                            None => Some(live.clone()),
                        };
                        out.extend(merged.map(|merged| (name.clone(), merged)));
                    }
                    (None, None) => {}
                }
            }
            Some(Value::Object(Map::sorted(out)))
        }
        // Null for a granular struct or list names it without saying anything about its content.
        (Ty::Struct(_) | Ty::Map(..), Value::Object(map), Value::Null) if !map.is_empty() => Some(live.clone()),
        (Ty::Set | Ty::Keyed(..), Value::Array(list), Value::Null) if !list.is_empty() => Some(live.clone()),
        (Ty::Set | Ty::Keyed(..), Value::Array(live), Value::Array(config))
            if !live.is_empty() || !config.is_empty() =>
        {
            Some(Value::Array(lists(ty, live, config)))
        }
        (_, _, config) => Some(config.clone()),
    }
}

fn lists(ty: Ty<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let (live, config) = (ty.identified(live), ty.identified(config));
    if paired(&live, &config) {
        let pairs = live.iter().zip(&config);
        return pairs.filter_map(|((_, live), (_, item))| both(ty.element(), live, item, &[])).collect();
    }
    let mut there: BTreeMap<&PathElement<'_>, &Value> = BTreeMap::new();
    for (element, item) in &live {
        // Several live elements with one identity have no common content.
        there.entry(element).and_modify(|item| *item = &Value::Null).or_insert(item);
    }
    let named: BTreeSet<&PathElement<'_>> = config.iter().map(|(element, _)| element).collect();
    let merged = |element: &PathElement<'_>, item: &Value| match there.get(element) {
        Some(live) => both(ty.element(), live, item, &[]),
        None => Some(item.clone()),
    };
    let mut shared = config.iter().map(|(element, _)| element).filter(|element| there.contains_key(element));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&PathElement<'_>> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut live, mut config) = (live.iter().peekable(), config.iter().peekable());
    loop {
        let (next_live, next_config) = (live.peek().copied(), config.peek().copied());
        if let Some((element, item)) = next_live {
            if !named.contains(element) {
                out.push((*item).clone());
                live.next();
                continue;
            }
            if let Some((wanted, item)) = next_config {
                if element == wanted {
                    done.insert(wanted);
                    out.extend(merged(wanted, item));
                    live.next();
                    config.next();
                    next_shared = shared.next();
                    continue;
                }
                // The configuration wants another shared element first; this one comes when it is its turn there.
                if next_shared.is_some_and(|next| next != element) {
                    live.next();
                    continue;
                }
            }
            if done.contains(element) {
                live.next();
            }
        }
        let Some((wanted, item)) = next_config else {
            match next_live {
                None => return out,
                Some(_) => continue,
            }
        };
        done.insert(wanted);
        out.extend(merged(wanted, item));
        config.next();
        if next_shared == Some(wanted) {
            next_shared = shared.next();
        }
    }
}
