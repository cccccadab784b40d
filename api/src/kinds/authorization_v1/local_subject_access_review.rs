//! `localsubjectaccessreviews` of authorization.k8s.io: whether a subject may act in one namespace.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind, Verb};

/// The description.
pub static KIND: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    verbs: Verb::CREATE,
    hooks: &LocalSubjectAccessReview,
    ..Kind::BASE
};

struct LocalSubjectAccessReview;

impl Hooks for LocalSubjectAccessReview {}
