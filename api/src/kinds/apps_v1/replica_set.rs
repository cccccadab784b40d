//! `replicasets` of apps: a number of equal pods.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};
use crate::kinds::shared::parts;

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[parts::SCALE, parts::status("apps", "v1", "ReplicaSet")],
    generation: true,
    hooks: &ReplicaSet,
    ..Kind::BASE
};

struct ReplicaSet;

impl Hooks for ReplicaSet {}
