//! `serviceaccounts`: identities of pods.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::judgement::Judgement;
use crate::kind::{Gvk, Hooks, Kind, Part, Subresource, Verb, describe};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        gvk: Gvk { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" },
        verbs: Verb::CREATE,
        part: Part::Token,
    }],
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::core::v1::ServiceAccount>,
    judgement: Judgement::AS_NEW,
    hooks: &ServiceAccount,
    ..Kind::BASE
};

struct ServiceAccount;

impl Hooks for ServiceAccount {}
