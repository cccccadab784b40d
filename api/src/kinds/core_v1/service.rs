//! `services`: a name and address for a set of pods.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};
use crate::kinds::shared::parts;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[parts::proxy("ServiceProxyOptions"), parts::status("", "v1", "Service")],
    create_on_update: true,
    hooks: &Service,
    ..Kind::BASE
};

struct Service;

impl Hooks for Service {}
