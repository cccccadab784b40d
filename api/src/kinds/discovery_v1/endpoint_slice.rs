//! `endpointslices` of discovery.k8s.io: a part of the addresses of a service.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    generation: true,
    hooks: &EndpointSlice,
    ..Kind::BASE
};

struct EndpointSlice;

impl Hooks for EndpointSlice {}
