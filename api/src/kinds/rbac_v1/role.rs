//! `roles` of rbac.authorization.k8s.io: rules within a namespace.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "Role",
    plural: "roles",
    singular: "role",
    create_on_update: true,
    hooks: &Role,
    ..Kind::BASE
};

struct Role;

impl Hooks for Role {}
