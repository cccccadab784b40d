//! `tokenreviews` of authentication.k8s.io: whose a token is.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind, Verb, describe};

/// The description.
pub static KIND: Kind = Kind {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    namespaced: false,
    verbs: Verb::CREATE,
    describe: describe::<k8s_openapi::api::authentication::v1::TokenReview>,
    hooks: &TokenReview,
    ..Kind::BASE
};

struct TokenReview;

impl Hooks for TokenReview {}
