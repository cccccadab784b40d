//! Deletion: what is gone at once, what waits for finalizers or for a grace period. Pure.
//!
//! Source: upstream's documentation of finalizers, graceful deletion and garbage collection.

use api::json::{Value, json};
use api::kind::Kind;
use api::{meta, value};

/// Finalizer of foreground deletion.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of orphaning deletion.
pub const ORPHAN: &str = "orphan";

/// What becomes of the dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They lose their owner reference.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// What a deletion does to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// The object goes now.
    Gone,
    /// The object stays and looks like this.
    Pending(Box<Value>),
    /// Nothing changes: it is being deleted already.
    Unchanged,
}

/// Decides a deletion. `now` is in Unix seconds, `grace` the client's wish in seconds.
#[must_use]
pub fn decide(kind: &Kind, object: &Value, propagation: Option<Propagation>, grace: Option<i64>, now: i64) -> Deletion {
    let mut new = object.clone();
    let propagation = propagation.or_else(|| said_by_kind(kind, object));
    let finalizers = finalizers(object, propagation);
    if finalizers.is_empty() {
        value::remove(&mut new, "metadata.finalizers");
    } else {
        value::set(&mut new, "metadata.finalizers", finalizers.clone());
    }
    let wanted = kind.hooks.grace_period(object, grace).map(|seconds| seconds.max(0));
    let held = !finalizers.is_empty() || kind.hooks.holds_on(object);
    let running = value::int(object, "metadata.deletionGracePeriodSeconds");
    let seconds = match (meta::is_deleting(object), wanted, running) {
        // A second deletion may only shorten the wait.
        (true, Some(wanted), Some(running)) if running > 0 && wanted >= running => {
            return pending(object, new);
        }
        (true, None, _) | (true, Some(_), None) if held => return pending(object, new),
        (true, Some(_), Some(0)) if held => return pending(object, new),
        (_, wanted, _) => wanted.unwrap_or(0),
    };
    if seconds == 0 && !held {
        return Deletion::Gone;
    }
    value::set(&mut new, "metadata.deletionTimestamp", meta::time(now + seconds));
    value::set(&mut new, "metadata.deletionGracePeriodSeconds", seconds);
    if !meta::is_deleting(object) && meta::generation(object) > 0 {
        value::set(&mut new, "metadata.generation", meta::generation(object) + 1);
    }
    kind.hooks.begin_deletion(&mut new);
    Deletion::Pending(Box::new(new))
}

/// What becomes of the dependents when neither the client nor the object says it.
fn said_by_kind(kind: &Kind, object: &Value) -> Option<Propagation> {
    let decided = meta::finalizers(object).iter().any(|name| matches!(*name, ORPHAN | FOREGROUND));
    (kind.orphans_dependents && !decided && !meta::is_deleting(object)).then_some(Propagation::Orphan)
}

fn pending(object: &Value, new: Value) -> Deletion {
    if *object == new { Deletion::Unchanged } else { Deletion::Pending(Box::new(new)) }
}

fn finalizers(object: &Value, propagation: Option<Propagation>) -> Vec<String> {
    let mut out: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    let Some(propagation) = propagation else {
        return out;
    };
    let wanted = match propagation {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    out.retain(|name| Some(name.as_str()) == wanted || (name != ORPHAN && name != FOREGROUND));
    if let Some(wanted) = wanted
        && !out.iter().any(|name| name == wanted)
    {
        out.push(wanted.to_owned());
    }
    out
}

/// An object under deletion that nothing holds any more: the update that removed the last finalizer finishes it.
#[must_use]
pub fn is_finished(kind: &Kind, object: &Value) -> bool {
    meta::is_deleting(object)
        && meta::finalizers(object).is_empty()
        && !kind.hooks.holds_on(object)
        && value::get(object, "metadata.deletionGracePeriodSeconds").is_none_or(|seconds| *seconds == json!(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(object: &Value, propagation: Option<Propagation>, expected: &str) {
        check_kind("ConfigMap", object, propagation, expected);
    }

    fn check_kind(kind: &str, object: &Value, propagation: Option<Propagation>, expected: &str) {
        let kind = api::kinds::by_gvk("", "v1", kind).unwrap();
        let shown = match decide(kind, object, propagation, None, 0) {
            Deletion::Gone => "gone".to_owned(),
            Deletion::Unchanged => "unchanged".to_owned(),
            Deletion::Pending(new) => {
                format!("{:?} {}", meta::finalizers(&new), value::text(&new, "metadata.deletionTimestamp"))
            }
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn some_kinds_orphan_unless_told_otherwise() {
        let check =
            |object: &Value, propagation, expected| check_kind("ReplicationController", object, propagation, expected);
        let plain = json!({"metadata": {"name": "a"}});
        check(&plain, None, "[\"orphan\"] 1970-01-01T00:00:00Z");
        check(&plain, Some(Propagation::Background), "gone");
        let said = json!({"metadata": {"name": "a", "finalizers": ["foregroundDeletion"]}});
        check(&said, None, "[\"foregroundDeletion\"] 1970-01-01T00:00:00Z");
        let going = json!({"metadata": {"name": "a", "finalizers": ["x/y"], "deletionTimestamp": "1970-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 0}});
        check(&going, None, "unchanged");
    }

    #[test]
    fn finalizers_hold_an_object() {
        let plain = json!({"metadata": {"name": "a"}});
        let held = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}});
        let going = json!({"metadata": {"name": "a", "finalizers": ["x/y"], "deletionTimestamp": "1970-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 0}});
        check(&plain, None, "gone");
        check(&plain, Some(Propagation::Background), "gone");
        check(&plain, Some(Propagation::Orphan), "[\"orphan\"] 1970-01-01T00:00:00Z");
        check(&plain, Some(Propagation::Foreground), "[\"foregroundDeletion\"] 1970-01-01T00:00:00Z");
        check(&held, None, "[\"x/y\"] 1970-01-01T00:00:00Z");
        check(&going, None, "unchanged");
        let kind = api::kinds::by_gvk("", "v1", "ConfigMap").unwrap();
        assert!(!is_finished(kind, &going));
        let mut free = going.clone();
        value::remove(&mut free, "metadata.finalizers");
        assert!(is_finished(kind, &free));
    }
}
