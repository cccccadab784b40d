//! Fields that are there only while a feature gate is on: a write loses them unless the object had them before.
//!
//! Never knows a kind; each names its own fields.

use crate::features::Gates;
use crate::json::Value;
use crate::kinds::shared::rules::is_zero;
use crate::value;

/// A field and its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gated {
    /// Dotted path below the object; `[]` after a step stands for each element of a list: `spec.templates[].priority`. What has `!` behind
    /// it goes as well when nothing is left in it.
    pub path: &'static str,
    /// The name of the gate.
    pub gate: &'static str,
}

/// Removes what is behind a gate that is off, except where the old object has it (in a list: at the same place). Answers
/// whether anything went.
pub fn drop_disabled(fields: &[Gated], gates: &Gates, new: &mut Value, old: Option<&Value>) -> bool {
    let off = fields.iter().filter(|field| !gates.enabled(field.gate));
    off.filter(|field| remove(field.path, new, old)).count() > 0
}

fn remove(path: &str, new: &mut Value, old: Option<&Value>) -> bool {
    let Some((step, rest)) = path.split_once('.') else {
        let kept = old.and_then(|old| old.get(path)).is_some_and(|value| !is_zero(value));
        return !kept && new.as_object_mut().and_then(|object| object.remove(path)).is_some();
    };
    let name = step.trim_end_matches(['[', ']', '!']);
    let old = old.and_then(|old| old.get(name));
    let Some(inner) = new.get_mut(name) else { return false };
    if !step.ends_with(']') {
        let gone = remove(rest, inner, old);
        if gone && step.ends_with('!') && is_zero(inner) {
            value::remove(new, name);
        }
        return gone;
    }
    let new = inner;
    let elements = new.as_array_mut().into_iter().flatten().enumerate();
    elements.filter_map(|(i, element)| remove(rest, element, old.and_then(|old| old.get(i))).then_some(())).count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn what_is_off_goes_unless_it_was_there() {
        const FIELDS: &[Gated] = &[
            Gated { path: "spec.a", gate: "GenericWorkload" },
            Gated { path: "spec.list[].b", gate: "GangScheduling" },
            Gated { path: "spec.alone!.d", gate: "GangScheduling" },
        ];
        let object = json!({"spec": {"a": 1, "list": [{"b": 1, "c": 1}, {"b": 2}]}});
        for (gates, old, wanted) in [
            ("", json!(null), json!({"spec": {"list": [{"c": 1}, {}]}})),
            (
                "",
                json!({"spec": {"a": 0, "list": [{}, {"b": 5}]}}),
                json!({"spec": {"a": 1, "list": [{"c": 1}, {"b": 2}]}}),
            ),
            ("GenericWorkload=true", json!(null), json!({"spec": {"a": 1, "list": [{"c": 1}, {}]}})),
            ("GenericWorkload=true,GangScheduling=true", json!(null), object.clone()),
        ] {
            let mut new = object.clone();
            let gone = drop_disabled(FIELDS, &Gates::parse(&[gates]).unwrap(), &mut new, Some(&old));
            assert_eq!((&new, gone), (&wanted, wanted != object), "{gates:?} {old}");
        }
        let mut alone = json!({"spec": {"alone": {"d": 1}}});
        assert!(drop_disabled(FIELDS, &Gates::default(), &mut alone, None));
        assert_eq!(alone, json!({"spec": {}}));
        let mut odd = json!({"spec": {"list": 7}});
        assert!(!drop_disabled(FIELDS, &Gates::default(), &mut odd, None));
    }
}
