//! `namespaces`: scopes for names.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Gvk, Hooks, Kind, Part, Subresource, Verb};
use crate::kinds::shared::parts;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch],
    subresources: &[
        Subresource {
            name: "finalize",
            gvk: Gvk { group: "", version: "v1", kind: "Namespace" },
            verbs: &[Verb::Update],
            part: Part::View { merge: parts::all_but_status },
        },
        parts::status("", "v1", "Namespace"),
    ],
    hooks: &Namespace,
    ..Kind::BASE
};

struct Namespace;

impl Hooks for Namespace {}
