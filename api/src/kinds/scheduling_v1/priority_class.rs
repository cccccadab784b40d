//! `priorityclasses` of scheduling.k8s.io: named priorities of pods.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "scheduling.k8s.io",
    version: "v1",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    generation: true,
    hooks: &PriorityClass,
    ..Kind::BASE
};

struct PriorityClass;

impl Hooks for PriorityClass {}
