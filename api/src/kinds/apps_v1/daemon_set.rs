//! `daemonsets` of apps: one pod on every matching node.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};
use crate::kinds::shared::parts;

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[parts::status("apps", "v1", "DaemonSet")],
    generation: true,
    hooks: &DaemonSet,
    ..Kind::BASE
};

struct DaemonSet;

impl Hooks for DaemonSet {}
