//! Subresources that many kinds offer, and how their bodies become whole objects.
//!
//! Never decides what is valid.

use crate::json::Value;
use crate::kind::{Gvk, Part, Subresource, Verb};

/// `status`, where the body is the kind itself and metadata other than labels may ride along.
#[must_use]
pub const fn status(group: &'static str, version: &'static str, kind: &'static str) -> Subresource {
    Subresource {
        name: "status",
        gvk: Gvk { group, version, kind },
        verbs: Verb::PART,
        part: Part::View { merge: status_of_new },
    }
}

/// `status`, where the body is the kind itself and the metadata stays as it was.
#[must_use]
pub const fn status_only(group: &'static str, version: &'static str, kind: &'static str) -> Subresource {
    Subresource { part: Part::View { merge: status_alone }, ..status(group, version, kind) }
}

/// What a write through such a `status` cannot own.
pub const STATUS_ONLY: &[(&str, &[&[&str]])] = &[("status", &[&["metadata"], &["spec"]])];

/// `scale` of the apps kinds.
pub const SCALE: Subresource = Subresource {
    name: "scale",
    gvk: Gvk { group: "autoscaling", version: "v1", kind: "Scale" },
    verbs: Verb::PART,
    part: Part::Scale { replicas: "spec.replicas", observed: "status.replicas", selector: "spec.selector" },
};

/// The verbs of `proxy`, which forwards every method.
pub const PROXY_VERBS: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update];

/// `proxy` with the kind of its options.
#[must_use]
pub const fn proxy(kind: &'static str) -> Subresource {
    Subresource { name: "proxy", gvk: Gvk { group: "", version: "v1", kind }, verbs: PROXY_VERBS, part: Part::Proxy }
}

/// Metadata and status of `new`, all else of `old`.
#[must_use]
pub fn status_of_new(mut new: Value, old: &Value) -> Value {
    if let (Value::Object(new), Value::Object(old)) = (&mut new, old) {
        let own = |key: &str| matches!(key, "apiVersion" | "kind" | "metadata" | "status");
        new.retain(|key, _| own(key));
        for (key, value) in old.iter().filter(|(key, _)| !own(key)) {
            new.insert(key.clone(), value.clone());
        }
    }
    new
}

/// The status and the version of `new`, all else of `old`: metadata stays too.
#[must_use]
pub fn status_alone(new: Value, old: &Value) -> Value {
    let mut object = status_of_new(new, old);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        copy(&mut object, old, &format!("metadata.{field}"));
    }
    object
}

/// All of `new` but the status, which stays `old`'s.
#[must_use]
pub fn all_but_status(mut new: Value, old: &Value) -> Value {
    copy(&mut new, old, "status");
    new
}

/// `new` takes the value that `old` has at a top-level or dotted path, or loses its own.
pub fn copy(new: &mut Value, old: &Value, path: &str) {
    match crate::value::get(old, path) {
        Some(value) => crate::value::set(new, path, value.clone()),
        None => {
            crate::value::remove(new, path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn status_takes_nothing_but_status_and_metadata() {
        let old = json!({"kind": "X", "metadata": {"labels": {"a": "1"}}, "spec": {"n": 1}, "status": {"n": 1}});
        let new =
            json!({"kind": "X", "metadata": {"labels": {"a": "2"}}, "spec": {"n": 2}, "more": 1, "status": {"n": 2}});
        let expected = json!({"kind": "X", "metadata": {"labels": {"a": "2"}}, "spec": {"n": 1}, "status": {"n": 2}});
        assert_eq!(status_of_new(new, &old), expected);
        assert_eq!(all_but_status(json!({"spec": 2, "status": 3}), &json!({"spec": 1})), json!({"spec": 2}));
    }

    #[test]
    fn status_leaves_metadata_alone() {
        let old = json!({"metadata": {"finalizers": ["a/b"]}, "spec": {"cidrs": []}, "status": {"conditions": []}});
        let new = json!({"metadata": {"labels": {"a": "b"}, "resourceVersion": "1"}, "status": {"conditions": [{}]}});
        assert_eq!(
            status_alone(new, &old),
            json!({"metadata": {"finalizers": ["a/b"], "resourceVersion": "1"}, "spec": {"cidrs": []}, "status": {"conditions": [{}]}})
        );
    }
}
