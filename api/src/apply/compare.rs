//! What differs between two objects of one schema, as field sets.

use super::path::{FieldSet, PathElement};
use super::typed::{Ty, paired, unset};
use crate::json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The difference between two objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison<'a> {
    /// Only in the new one.
    pub(super) added: FieldSet<'a>,
    /// Only in the old one.
    pub(super) removed: FieldSet<'a>,
    /// In both with different values.
    pub(super) modified: FieldSet<'a>,
    /// Elements of lists that changed cannot be told apart.
    pub(super) anonymous: bool,
}

impl<'a> Comparison<'a> {
    /// Whether the objects are the same.
    pub(super) fn is_empty(&self) -> bool {
        [&self.added, &self.removed, &self.modified].into_iter().all(FieldSet::is_empty)
    }

    /// Without everything at and below the members of `ignored`.
    pub(super) fn without(mut self, ignored: &FieldSet<'_>) -> Comparison<'a> {
        for set in [&mut self.added, &mut self.removed, &mut self.modified] {
            set.remove_recursively(ignored);
        }
        self
    }
}

/// Compares two objects; their `metadata.managedFields` are not looked at.
pub(super) fn compare<'a>(ty: Ty<'a>, old: &'a Value, new: &'a Value) -> Comparison<'a> {
    let mut walk = Walk { out: Comparison::default(), path: Vec::new() };
    if old != new {
        walk.visit(ty, Some(old), Some(new));
    }
    walk.out
}

struct Walk<'a> {
    out: Comparison<'a>,
    path: Vec<PathElement<'a>>,
}

impl<'a> Walk<'a> {
    /// Of two values that differ.
    fn visit(&mut self, ty: Ty<'a>, old: Option<&'a Value>, new: Option<&'a Value>) {
        let map =
            |value: Option<&Value>| value.is_some_and(|value| value.as_object().is_some_and(|map| !map.is_empty()));
        let list =
            |value: Option<&Value>| value.is_some_and(|value| value.as_array().is_some_and(|list| !list.is_empty()));
        match ty {
            Ty::Struct(_) | Ty::Map(..) | Ty::Deduced if map(old) || map(new) => self.maps(ty, old, new),
            Ty::Set | Ty::Keyed(..) if list(old) || list(new) => self.lists(ty, old, new),
            Ty::Leaf | Ty::Struct(_) | Ty::Map(..) | Ty::Deduced | Ty::Set | Ty::Keyed(..) => {
                if old.is_some() && new.is_some() {
                    self.out.modified.insert(&self.path);
                }
            }
        }
        if old.is_none() {
            self.out.added.insert(&self.path);
        } else if new.is_none() {
            self.out.removed.insert(&self.path);
        }
    }

    fn below(&mut self, element: PathElement<'a>, ty: Ty<'a>, old: Option<&'a Value>, new: Option<&'a Value>) {
        if old != new {
            self.path.push(element);
            self.visit(ty, old, new);
            self.path.pop();
        }
    }

    fn maps(&mut self, ty: Ty<'a>, old: Option<&'a Value>, new: Option<&'a Value>) {
        let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        let in_metadata = matches!(self.path.as_slice(), [PathElement::Field("metadata")]);
        let mut one = |name: &'a str, mut old: Option<&'a Value>, mut new: Option<&'a Value>, both: bool| {
            if in_metadata && name == "managedFields" {
                return;
            }
            let (child, field) = ty.child(name);
            if both {
                let unset = field.and_then(unset);
                (old, new) = (old.or(unset), new.or(unset));
            }
            self.below(PathElement::Field(name), child, old, new);
        };
        let both = old.is_some() && new.is_some();
        // Names are met in their order, which is that of the sets.
        let (mut olds, mut news) = (old.into_iter().flatten().peekable(), new.into_iter().flatten().peekable());
        loop {
            let order = match (olds.peek(), news.peek()) {
                (Some((left, _)), Some((right, _))) => left.compare(right),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let (old, new) = (olds.next_if(|_| order.is_le()), news.next_if(|_| order.is_ge()));
            if let Some((name, _)) = old.or(new) {
                one(name, old.map(|(_, value)| value), new.map(|(_, value)| value), both);
            }
        }
        // A struct that comes or goes as a whole does so with the fields that are there without being set.
        if let (Ty::Struct(schema), (Some(map), None) | (None, Some(map))) = (ty, (old, new)) {
            for field in &schema.def().fields {
                let unset = unset(field).filter(|_| !map.contains_key(&field.name));
                if old.is_some() {
                    one(&field.name, unset, None, both);
                } else {
                    one(&field.name, None, unset, both);
                }
            }
        }
    }

    fn lists(&mut self, ty: Ty<'a>, old: Option<&'a Value>, new: Option<&'a Value>) {
        let old = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let new = new.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let all = old.len() + new.len();
        let (old, new) = (ty.identified(old), ty.identified(new));
        self.out.anonymous |= old.len() + new.len() != all;
        if paired(&old, &new) {
            for ((element, old), (_, new)) in old.into_iter().zip(new) {
                self.below(element, ty.element(), Some(old), Some(new));
            }
            return;
        }
        let mut elements: BTreeMap<PathElement<'a>, (Vec<&'a Value>, Vec<&'a Value>)> = BTreeMap::new();
        for (element, item) in old {
            elements.entry(element).or_default().0.push(item);
        }
        for (element, item) in new {
            elements.entry(element).or_default().1.push(item);
        }
        for (element, (old, new)) in elements {
            match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => {
                    self.below(element, ty.element(), old.first().copied(), new.first().copied());
                }
                // Duplicates are owned as a whole.
                ([_, _, ..], [_, _, ..]) => {
                    if old != new {
                        self.whole(element, |out| &mut out.modified);
                    }
                }
                ([_, _, ..], _) => {
                    if let Some(new) = new.first() {
                        self.below(element.clone(), ty.element(), None, Some(new));
                    }
                    self.whole(element, |out| &mut out.removed);
                }
                (_, [_, _, ..]) => {
                    if let Some(old) = old.first() {
                        self.below(element.clone(), ty.element(), Some(old), None);
                    }
                    self.whole(element, |out| &mut out.added);
                }
            }
        }
    }

    fn whole(
        &mut self,
        element: PathElement<'a>,
        set: impl for<'o> FnOnce(&'o mut Comparison<'a>) -> &'o mut FieldSet<'a>,
    ) {
        self.path.push(element);
        set(&mut self.out).insert(&self.path);
        self.path.pop();
    }
}
