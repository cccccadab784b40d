//! `bindings`: the older way of `pods/binding`, with the pod named in the body.
//!
//! Never stored. Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Kind, Verb, describe};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    verbs: Verb::CREATE,
    creates: Some(("pods", "binding")),
    describe: describe::<k8s_openapi::api::core::v1::Binding>,
    ..Kind::BASE
};
