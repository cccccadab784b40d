//! `leases` of coordination.k8s.io: a lock with a holder and a time.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    create_on_update: true,
    unconditional_update: false,
    hooks: &Lease,
    ..Kind::BASE
};

struct Lease;

impl Hooks for Lease {}
