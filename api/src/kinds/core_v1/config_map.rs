//! `configmaps`: configuration in keys and values.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    hooks: &ConfigMap,
    ..Kind::BASE
};

struct ConfigMap;

impl Hooks for ConfigMap {}
