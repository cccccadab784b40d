//! In which order an object is judged: its metadata, the object itself and what changed, as upstream's strategies put them together.
//!
//! Upstream judges the metadata of every update, and most kinds judge it again, before or after their own rules: an error is told as often
//! as it is found. What is wrong is said by `meta_validation` and the hooks; this only asks them.

use crate::field_path::Errors;
use crate::json::Value;
use crate::kind::Kind;
use crate::meta_validation::Findings;

/// One thing to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The metadata, names included.
    Metadata,
    /// What changed in the metadata.
    MetadataChange,
    /// `Hooks::validate` of a new object, `Hooks::revalidate` of one that was there, `Hooks::validate_part` of a part.
    Object,
    /// `Hooks::validate_update`.
    Change,
}

/// What a kind asks, in order. Every update is asked for its metadata and what changed in it before that, and a new object without
/// errors after that.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// Of a new object.
    pub create: &'static [Check],
    /// Of an update of the object itself.
    pub update: &'static [Check],
    /// Of an update through a part, such as `status`.
    pub part: &'static [Check],
    /// Finalizers without a domain are allowed, not only Kubernetes' own.
    pub any_finalizer: bool,
}

use Check::{Change, Metadata, MetadataChange, Object};

impl Judgement {
    /// Most kinds: what changed in the metadata, then the object.
    pub const USUAL: Judgement = Judgement {
        create: &[Metadata, Object],
        update: &[MetadataChange, Object, Change],
        part: &[MetadataChange, Object],
        any_finalizer: false,
    };
    /// An update is judged like a new object after its metadata.
    pub const AS_NEW: Judgement = Judgement { update: &[MetadataChange, Metadata, Object, Change], ..Judgement::USUAL };
    /// Most kinds, but what changed before the object.
    pub const CHANGED_OBJECT: Judgement = Judgement { update: &[MetadataChange, Change, Object], ..Judgement::USUAL };
    /// An update is judged like a new object after what changed.
    pub const CHANGE_FIRST: Judgement =
        Judgement { update: &[MetadataChange, Change, Metadata, Object], ..Judgement::USUAL };
    /// The same, without the change of the metadata.
    pub const ONLY_AS_NEW: Judgement = Judgement { update: &[Metadata, Object, Change], ..Judgement::USUAL };
    /// An update is judged like a new object, then what changed.
    pub const NEW_THEN_CHANGE: Judgement =
        Judgement { update: &[Metadata, Object, MetadataChange, Change], ..Judgement::USUAL };
    /// The metadata is left to what every object is asked.
    pub const OBJECT_ALONE: Judgement =
        Judgement { create: &[Object], update: &[Object, Change], part: &[Object], any_finalizer: true };

    /// The same with any finalizer.
    #[must_use]
    pub const fn any_finalizer(self) -> Judgement {
        Judgement { any_finalizer: true, ..self }
    }

    /// The same with another order for parts.
    #[must_use]
    pub const fn of_part(self, part: &'static [Check]) -> Judgement {
        Judgement { part, ..self }
    }
}

/// What is wrong with an object about to be created; its name is already generated.
#[must_use]
pub fn create(object: &Value, kind: &Kind) -> Errors {
    let found = Findings::of(object, None, kind);
    let mut errors = Errors::new();
    for check in kind.judgement.create {
        match check {
            Metadata => found.whole(&mut errors),
            MetadataChange | Change => {}
            Object => errors.extend(kind.hooks.validate(object)),
        }
    }
    if errors.is_empty() && !kind.judgement.create.contains(&Metadata) {
        found.whole(&mut errors);
    }
    errors
}

/// What is wrong with an update of the object itself.
#[must_use]
pub fn update(new: &Value, old: &Value, kind: &Kind) -> Errors {
    changed(new, old, kind, kind.judgement.update, || kind.hooks.revalidate(new, old))
}

/// What is wrong with an update through a part.
#[must_use]
pub fn part(part: &str, new: &Value, old: &Value, kind: &Kind) -> Errors {
    changed(new, old, kind, kind.judgement.part, || kind.hooks.validate_part(part, new, old))
}

fn changed(new: &Value, old: &Value, kind: &Kind, checks: &[Check], object: impl Fn() -> Errors) -> Errors {
    let found = Findings::of(new, Some(old), kind);
    let mut errors = Errors::new();
    found.common(&mut errors);
    found.common_change(&mut errors);
    for check in checks {
        match check {
            Metadata => found.whole(&mut errors),
            MetadataChange => found.change(&mut errors),
            Object => errors.extend(object()),
            Change => errors.extend(kind.hooks.validate_update(new, old)),
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    /// The first letter of each error, as upstream's answers have them: labels, finalizers, standard finalizers, changes, others.
    fn letters(errors: &Errors) -> String {
        let letter = |field: &str| match field {
            "metadata.labels" => 'L',
            "metadata.finalizers" => 'F',
            "metadata.finalizers[0]" => 'S',
            "metadata.deletionGracePeriodSeconds" => 'C',
            _ => 'O',
        };
        errors.iter().map(|error| letter(&error.field.to_string())).collect()
    }

    #[test]
    fn what_is_wrong_is_told_as_often_as_it_is_found() {
        // What a kube-apiserver answers to the same three faults of metadata at a create, an update and an update of the status.
        let cases = [
            ("", "v1", "ConfigMap", "LFS", "LFCLCLSLFS", ""),
            ("", "v1", "Event", "O", "LFCLO", ""),
            ("", "v1", "LimitRange", "LFS", "LFCLLFS", ""),
            ("", "v1", "ResourceQuota", "LFS", "LFCLCLS", "LFCLCLS"),
            ("apps", "v1", "ControllerRevision", "LFSO", "LFCLCLSLFSO", ""),
            ("policy", "v1", "PodDisruptionBudget", "LF", "LFCL", "LFCL"),
            ("rbac.authorization.k8s.io", "v1", "Role", "LFS", "LFCLLFSCLS", ""),
            ("coordination.k8s.io", "v1", "Lease", "LF", "LFCLCL", ""),
            ("node.k8s.io", "v1", "RuntimeClass", "LFO", "LFCLLFOCL", ""),
            ("storagemigration.k8s.io", "v1beta1", "StorageVersionMigration", "LFSO", "LFCLLFSOCLS", "LFCLCLS"),
        ];
        for (group, version, kind, created, updated, status) in cases {
            let kind = crate::kinds::by_gvk(group, version, kind).unwrap();
            let object = |labels| {
                let mut object = json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "1"}});
                if !kind.namespaced {
                    crate::value::remove(&mut object, "metadata.namespace");
                }
                if labels {
                    crate::value::set(&mut object, "metadata.labels", json!({"bad key!": ""}));
                    crate::value::set(&mut object, "metadata.finalizers", json!(["Bad Value!"]));
                }
                object
            };
            let (old, mut new) = (object(false), object(true));
            assert_eq!(letters(&create(&new, kind)), created, "{kind:?}");
            crate::value::set(&mut new, "metadata.deletionGracePeriodSeconds", 5);
            assert_eq!(letters(&update(&new, &old, kind)), updated, "{kind:?}");
            if kind.has_status() {
                assert_eq!(letters(&part("status", &new, &old, kind)), status, "{kind:?}");
            }
        }
    }
}
