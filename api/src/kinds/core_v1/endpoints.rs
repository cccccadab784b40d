//! `endpoints`: addresses of a service, in subsets.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    create_on_update: true,
    hooks: &Endpoints,
    ..Kind::BASE
};

struct Endpoints;

impl Hooks for Endpoints {}
