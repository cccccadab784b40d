//! Which names a definition gets, and the conditions that say so.
//!
//! Source: upstream's naming, establishing and approval controllers. Pure: the time comes with the call.

use crate::json::{Value, json};
use crate::value;
use std::collections::BTreeSet;

/// The finalizer that holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The annotation without which nobody may define kinds in Kubernetes' own groups.
pub const APPROVED: &str = "api-approved.kubernetes.io";

/// The status of a condition; empty when there is none.
#[must_use]
pub fn condition<'a>(definition: &'a Value, kind: &str) -> &'a str {
    let of_type = |condition: &&Value| value::text(condition, "type") == kind;
    value::items(definition, "status.conditions").iter().find(of_type).map_or("", |found| value::text(found, "status"))
}

/// Says a condition; its time is that of the last change of its status.
pub fn set_condition(definition: &mut Value, kind: &str, (status, reason, message): (&str, &str, &str), now: &str) {
    let conditions = value::map_mut(definition, "status").entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let of_type = |condition: &&mut Value| value::text(condition, "type") == kind;
    if let Some(found) = conditions.iter_mut().find(of_type) {
        if value::text(found, "status") != status || value::text(found, "lastTransitionTime").is_empty() {
            value::set(found, "lastTransitionTime", now);
        }
        for (name, text) in [("status", status), ("reason", reason), ("message", message)] {
            value::set(found, name, text);
        }
        return;
    }
    conditions
        .push(json!({"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message}));
}

/// Names that the definitions of a group have been given.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds those of a definition.
    pub fn add(&mut self, definition: &Value) {
        let text = |name: &str| value::text(definition, &format!("status.acceptedNames.{name}")).to_owned();
        self.resources.extend([text("plural"), text("singular")]);
        let short = value::items(definition, "status.acceptedNames.shortNames");
        self.resources.extend(short.iter().filter_map(Value::as_str).map(str::to_owned));
        self.kinds.extend([text("kind"), text("listKind")]);
    }
}

/// A definition with the names and conditions that it should have; `taken` are the names given in its group.
#[must_use]
pub fn settle(definition: &Value, taken: &Taken, now: &str) -> Value {
    let mut new = definition.clone();
    let wanted = definition.pointer("/spec/names").cloned().unwrap_or_default();
    let mut given = definition.pointer("/status/acceptedNames").cloned().unwrap_or_else(|| json!({}));
    let mut conflict: Option<(&str, String)> = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (name, reason, used) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        if name == "shortNames" {
            let ours = value::items(&given, name).to_vec();
            let mut refused: Vec<String> = value::items(&wanted, name)
                .iter()
                .filter(|short| !ours.contains(short))
                .filter_map(Value::as_str)
                .filter(|short| used.contains(*short))
                .map(in_use)
                .collect();
            refused.dedup();
            match refused.as_slice() {
                [] => keep(&mut given, name, wanted.get(name)),
                [one] => conflict = Some((reason, one.clone())),
                many => conflict = Some((reason, format!("[{}]", many.join(", ")))),
            }
            continue;
        }
        let requested = value::text(&wanted, name);
        if requested != value::text(&given, name) && used.contains(requested) {
            conflict = Some((reason, in_use(requested)));
        } else {
            keep(&mut given, name, wanted.get(name));
        }
    }
    keep(&mut given, "categories", wanted.get("categories"));
    value::set(&mut new, "status.acceptedNames", given);
    match &conflict {
        Some((reason, message)) => set_condition(&mut new, "NamesAccepted", ("False", reason, message), now),
        None => set_condition(&mut new, "NamesAccepted", ("True", "NoConflicts", "no conflicts found"), now),
    }
    if condition(definition, "Established") != "True" {
        let state = match conflict {
            Some(_) => ("False", "NotAccepted", "not all names are accepted"),
            None => ("True", "InitialNamesAccepted", "the initial names have been accepted"),
        };
        set_condition(&mut new, "Established", state, now);
    }
    if let Some((status, reason, message)) = approval(definition) {
        set_condition(&mut new, "KubernetesAPIApprovalPolicyConformant", (status, reason, &message), now);
    }
    if value::get(&new, "status.storedVersions").is_none_or(Value::is_null) {
        value::set(&mut new, "status.storedVersions", json!([]));
    }
    new
}

fn keep(given: &mut Value, name: &str, wanted: Option<&Value>) {
    match wanted.filter(|wanted| !crate::codec::is_empty(wanted)) {
        Some(wanted) => value::set(given, name, wanted.clone()),
        None => drop(value::remove(given, name)),
    }
}

/// The group is one of Kubernetes' own.
#[must_use]
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group == *own || group.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')))
}

/// Whether a definition in a protected group is approved: status, reason and sentence of the condition.
#[must_use]
pub fn approval(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    if !is_protected(value::text(definition, "spec.group")) {
        return None;
    }
    let said = crate::meta::annotation(definition, APPROVED).unwrap_or_default();
    let must = format!("protected groups must have approval annotation {APPROVED:?}");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let address = said.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    Some(match said {
        "" => ("False", "MissingAnnotation", format!("{must}, {see}")),
        _ if said.starts_with("unapproved") => ("False", "UnapprovedAnnotation", format!("not approved: {said:?}")),
        _ if address => ("True", "ApprovedAnnotation", format!("approved in {said}")),
        _ => {
            let either = "with either a URL or a reason starting with \"unapproved\"";
            ("False", "InvalidAnnotation", format!("{must} {either}, {see}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, short: &[&str]) -> Value {
        json!({"spec": {"group": "a.example", "names": {"plural": plural, "singular": format!("{plural}1"), "kind": plural,
            "listKind": format!("{plural}List"), "shortNames": short}}, "status": {"storedVersions": ["v1"]}})
    }

    #[test]
    fn who_comes_first_has_the_name() {
        let mut taken = Taken::default();
        let first = settle(&definition("a", &["x"]), &taken, "1");
        assert_eq!((condition(&first, "NamesAccepted"), condition(&first, "Established")), ("True", "True"));
        assert_eq!(value::get(&first, "status.acceptedNames"), value::get(&first, "spec.names"));
        taken.add(&first);
        assert_eq!(settle(&first, &taken, "2"), first);
        let second = settle(&definition("b", &["x", "a"]), &taken, "1");
        assert_eq!((condition(&second, "NamesAccepted"), condition(&second, "Established")), ("False", "False"));
        assert_eq!(
            value::items(&second, "status.conditions").first().map(|one| value::text(one, "message")),
            Some("[\"x\" is already in use, \"a\" is already in use]")
        );
        // Names are given one by one.
        assert_eq!(value::text(&second, "status.acceptedNames.plural"), "b");
        let freed = settle(&second, &Taken::default(), "3");
        assert_eq!((condition(&freed, "NamesAccepted"), condition(&freed, "Established")), ("True", "True"));
    }

    #[test]
    fn own_groups_need_approval() {
        for (group, said, reason) in [
            ("a.example", "", None),
            ("a.k8s.io", "", Some("MissingAnnotation")),
            ("kubernetes.io", "unapproved, a test", Some("UnapprovedAnnotation")),
            ("k8s.io", "https://a.example/1", Some("ApprovedAnnotation")),
            ("k8s.io", "yes", Some("InvalidAnnotation")),
            ("notk8s.io", "", None),
        ] {
            let object = json!({"metadata": {"annotations": {APPROVED: said}}, "spec": {"group": group}});
            assert_eq!(approval(&object).map(|(_, reason, _)| reason), reason, "{group} {said}");
        }
    }
}
