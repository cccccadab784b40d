//! Behaviour of a version that is nothing but another view of the stored one: everything happens to the converted object.
//!
//! Never adds a rule.

use crate::field_path::Errors;
use crate::json::Value;
use crate::kind::{Demand, Hooks, Kind, NameRule, Occasion};

/// Hooks of the version that this answers; the stored kind's do the work.
pub struct Through(pub fn() -> &'static Kind);

impl Through {
    fn stored(&self) -> &'static dyn Hooks {
        (self.0)().stored().hooks
    }

    fn convert(&self, object: &Value) -> Value {
        let mut object = object.clone();
        (self.0)().to_stored(&mut object);
        object
    }

    /// Changes an object in the stored version.
    fn within(&self, object: &mut Value, change: impl FnOnce(&mut Value)) {
        (self.0)().to_stored(object);
        change(object);
        (self.0)().from_stored(object);
    }
}

impl Hooks for Through {
    fn default(&self, object: &mut Value) {
        self.within(object, |object| self.stored().default(object));
    }

    fn prepare_create(&self, object: &mut Value) {
        self.within(object, |object| self.stored().prepare_create(object));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let old = self.convert(old);
        self.within(new, |new| self.stored().prepare_update(new, &old));
    }

    fn stamp(&self, part: &str, new: &mut Value, old: Option<&Value>, occasion: &Occasion<'_>) {
        let old = old.map(|old| self.convert(old));
        self.within(new, |new| self.stored().stamp(part, new, old.as_ref(), occasion));
    }

    fn validate(&self, object: &Value) -> Errors {
        self.stored().validate(&self.convert(object))
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        self.stored().revalidate(&self.convert(new), &self.convert(old))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        self.stored().validate_update(&self.convert(new), &self.convert(old))
    }

    fn validate_part(&self, part: &str, new: &Value, old: &Value) -> Errors {
        self.stored().validate_part(part, &self.convert(new), &self.convert(old))
    }

    fn demands(&self, part: &str, new: &Value, old: Option<&Value>, occasion: &Occasion<'_>) -> Vec<Demand> {
        let old = old.map(|old| self.convert(old));
        self.stored().demands(part, &self.convert(new), old.as_ref(), occasion)
    }

    fn name_rule(&self) -> NameRule {
        self.stored().name_rule()
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let old = old.map(|old| self.convert(old));
        self.stored().warnings(&self.convert(new), old.as_ref())
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        self.stored().row(&self.convert(object), now)
    }
}
