//! `selfsubjectaccessreviews` of authorization.k8s.io: whether the caller may act.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind, Verb};

/// The description.
pub static KIND: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    namespaced: false,
    verbs: Verb::CREATE,
    hooks: &SelfSubjectAccessReview,
    ..Kind::BASE
};

struct SelfSubjectAccessReview;

impl Hooks for SelfSubjectAccessReview {}
