//! `subjectaccessreviews` of authorization.k8s.io: whether a subject may act.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind, Verb};

/// The description.
pub static KIND: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    namespaced: false,
    verbs: Verb::CREATE,
    hooks: &SubjectAccessReview,
    ..Kind::BASE
};

struct SubjectAccessReview;

impl Hooks for SubjectAccessReview {}
