//! `secrets`: confidential keys and values.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    hooks: &Secret,
    ..Kind::BASE
};

struct Secret;

impl Hooks for Secret {}
