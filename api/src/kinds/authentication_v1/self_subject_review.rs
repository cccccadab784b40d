//! `selfsubjectreviews` of authentication.k8s.io: who the caller is.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind, Verb, describe};

/// The description.
pub static KIND: Kind = Kind {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    namespaced: false,
    verbs: Verb::CREATE,
    describe: describe::<k8s_openapi::api::authentication::v1::SelfSubjectReview>,
    hooks: &SelfSubjectReview,
    ..Kind::BASE
};

struct SelfSubjectReview;

impl Hooks for SelfSubjectReview {}
