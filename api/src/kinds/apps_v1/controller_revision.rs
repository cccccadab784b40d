//! `controllerrevisions` of apps: immutable snapshots of state.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    hooks: &ControllerRevision,
    ..Kind::BASE
};

struct ControllerRevision;

impl Hooks for ControllerRevision {}
