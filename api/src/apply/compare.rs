//! What differs between two objects of one schema, as field sets.

use super::path::{FieldSet, PathElement};
use super::typed::{Ty, unset};
use serde_json::Value;
use std::collections::BTreeMap;

/// The difference between two objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    /// Only in the new one.
    pub(super) added: FieldSet,
    /// Only in the old one.
    pub(super) removed: FieldSet,
    /// In both with different values.
    pub(super) modified: FieldSet,
}

impl Comparison {
    /// Without everything at and below the members of `ignored`.
    pub(super) fn without(mut self, ignored: &FieldSet) -> Comparison {
        for set in [&mut self.added, &mut self.removed, &mut self.modified] {
            set.remove_recursively(ignored);
        }
        self
    }
}

/// Compares two objects; their `metadata.managedFields` are not looked at.
pub(super) fn compare(ty: Ty<'_>, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk { out: Comparison::default(), path: Vec::new() };
    walk.visit(ty, Some(old), Some(new));
    walk.out
}

struct Walk {
    out: Comparison,
    path: Vec<PathElement>,
}

impl Walk {
    fn visit(&mut self, ty: Ty<'_>, old: Option<&Value>, new: Option<&Value>) {
        if old == new {
            return;
        }
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

    /// Most of what two objects hold is the same: the element of the path is made where it is not.
    fn below(&mut self, element: impl FnOnce() -> PathElement, ty: Ty<'_>, old: Option<&Value>, new: Option<&Value>) {
        if old != new {
            self.path.push(element());
            self.visit(ty, old, new);
            self.path.pop();
        }
    }

    fn maps(&mut self, ty: Ty<'_>, old: Option<&Value>, new: Option<&Value>) {
        let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        let in_metadata = matches!(self.path.as_slice(), [PathElement::Field(name)] if &**name == "metadata");
        let mut one = |name: &str| {
            if in_metadata && name == "managedFields" {
                return;
            }
            let mut old = old.map(|map| map.get(name));
            let mut new = new.map(|map| map.get(name));
            if old == new {
                return;
            }
            let (child, field) = ty.child(name);
            for side in [&mut old, &mut new].into_iter().flatten() {
                *side = side.or_else(|| field.and_then(unset));
            }
            self.below(|| PathElement::field(name), child, old.flatten(), new.flatten());
        };
        for name in old.into_iter().flatten().map(|(name, _)| name) {
            one(name);
        }
        for name in new.into_iter().flatten().map(|(name, _)| name) {
            if !old.is_some_and(|old| old.contains_key(name)) {
                one(name);
            }
        }
        // A struct that comes or goes as a whole does so with the fields that are there without being set.
        if let (Ty::Struct(schema), (Some(map), None) | (None, Some(map))) = (ty, (old, new)) {
            for field in schema.def().fields.iter().filter(|field| unset(field).is_some()) {
                if !map.contains_key(&field.name) {
                    one(&field.name);
                }
            }
        }
    }

    fn lists(&mut self, ty: Ty<'_>, old: Option<&Value>, new: Option<&Value>) {
        let old = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let new = new.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut elements: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (element, item) in ty.identified(old) {
            elements.entry(element).or_default().0.push(item);
        }
        for (element, item) in ty.identified(new) {
            elements.entry(element).or_default().1.push(item);
        }
        for (element, (old, new)) in elements {
            match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => {
                    self.below(|| element, ty.element(), old.first().copied(), new.first().copied());
                }
                // Duplicates are owned as a whole.
                ([_, _, ..], [_, _, ..]) => {
                    if old != new {
                        self.whole(element, |out| &mut out.modified);
                    }
                }
                ([_, _, ..], _) => {
                    if let Some(new) = new.first() {
                        self.below(|| element.clone(), ty.element(), None, Some(new));
                    }
                    self.whole(element, |out| &mut out.removed);
                }
                (_, [_, _, ..]) => {
                    if let Some(old) = old.first() {
                        self.below(|| element.clone(), ty.element(), Some(old), None);
                    }
                    self.whole(element, |out| &mut out.added);
                }
            }
        }
    }

    fn whole(&mut self, element: PathElement, set: fn(&mut Comparison) -> &mut FieldSet) {
        self.path.push(element);
        set(&mut self.out).insert(&self.path);
        self.path.pop();
    }
}
