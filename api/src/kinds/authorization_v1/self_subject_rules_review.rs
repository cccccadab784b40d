//! `selfsubjectrulesreviews` of authorization.k8s.io: what the caller may do in a namespace.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind, Verb, describe};

/// The description.
pub static KIND: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    namespaced: false,
    verbs: Verb::CREATE,
    describe: describe::<k8s_openapi::api::authorization::v1::SelfSubjectRulesReview>,
    hooks: &SelfSubjectRulesReview,
    ..Kind::BASE
};

struct SelfSubjectRulesReview;

impl Hooks for SelfSubjectRulesReview {}
