//! `tokenreviews` of authentication.k8s.io: whose a token is.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind, Verb};

/// The description.
pub static KIND: Kind = Kind {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    namespaced: false,
    verbs: Verb::CREATE,
    hooks: &TokenReview,
    ..Kind::BASE
};

struct TokenReview;

impl Hooks for TokenReview {}
