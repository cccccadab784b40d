//! Lists as structural schemas have them: sets and maps of elements, equal in any order and merged when added.
//!
//! Never looks at schemas; the declarations that come with the lists say what they are.

use super::decl::{Decl, DeclKind};
use super::error::{Fuel, Outcome};
use super::value::{List, Value};
use crate::json::Value as Json;
use crate::schema::ListKind;

fn kind<'a>(list: &List<'a>) -> &'a ListKind {
    match list {
        List::Json(_, Decl { kind: DeclKind::List { kind, .. }, .. }) => kind,
        _ => &ListKind::Atomic,
    }
}

/// Equal: in order, or for sets and maps in any.
pub(crate) fn lists_equal(a: &List<'_>, b: &List<'_>, fuel: &Fuel) -> Outcome<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match (kind(a), a) {
        (ListKind::Atomic, _) | (_, List::Values(_) | List::Joined(_)) => {
            for (a, b) in a.iter().zip(b.iter()) {
                if !a?.equals(&b?, fuel)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (ListKind::Set, _) => {
            for element in b.iter() {
                if !contains(a, &element?, fuel)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (ListKind::Map(keys), List::Json(..)) => {
            for theirs in b.iter() {
                let theirs = theirs?;
                let Some(mine) = find(a, keys, &theirs, fuel)? else { return Ok(false) };
                if !mine.1.equals(&theirs, fuel)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// An element is in a list.
pub(crate) fn contains(list: &List<'_>, wanted: &Value<'_>, fuel: &Fuel) -> Outcome<bool> {
    for element in list.iter() {
        if element?.equals(wanted, fuel)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The place and value of the element with the same keys.
fn find<'a>(list: &List<'a>, keys: &[String], wanted: &Value<'_>, fuel: &Fuel) -> Outcome<Option<(usize, Value<'a>)>> {
    let wanted = wanted.to_json().unwrap_or(Json::Null);
    let List::Json(items, _) = list else { return Ok(None) };
    for (at, item) in items.iter().enumerate() {
        fuel.burn(1)?;
        if keys.iter().all(|key| item.get(key) == wanted.get(key)) {
            return Ok(list.get(at).transpose()?.map(|value| (at, value)));
        }
    }
    Ok(None)
}

/// One list with another added: behind it, or merged for sets and maps.
pub(crate) fn added<'a>(a: List<'a>, b: &List<'a>, fuel: &Fuel) -> Outcome<List<'a>> {
    match kind(&a) {
        ListKind::Atomic => Ok(a.joined(b)),
        ListKind::Set => {
            let mut values = a.iter().collect::<Outcome<Vec<_>>>()?;
            for element in b.iter() {
                let element = element?;
                if !contains(&a, &element, fuel)? {
                    values.push(element);
                }
            }
            Ok(List::of(values))
        }
        ListKind::Map(keys) => {
            let mut values = a.iter().collect::<Outcome<Vec<_>>>()?;
            for element in b.iter() {
                let element = element?;
                match find(&a, keys, &element, fuel)? {
                    Some((at, _)) => {
                        if let Some(slot) = values.get_mut(at) {
                            *slot = element;
                        }
                    }
                    None => values.push(element),
                }
            }
            Ok(List::of(values))
        }
    }
}
