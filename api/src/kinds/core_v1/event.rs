//! `events`: what happened to an object; the stored form of both event kinds.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    create_on_update: true,
    hooks: &Event,
    ..Kind::BASE
};

struct Event;

impl Hooks for Event {}
