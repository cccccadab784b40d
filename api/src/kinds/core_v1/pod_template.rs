//! `podtemplates`: a pod template on its own.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    generation: true,
    hooks: &PodTemplate,
    ..Kind::BASE
};

struct PodTemplate;

impl Hooks for PodTemplate {}
