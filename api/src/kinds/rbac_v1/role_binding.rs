//! `rolebindings` of rbac.authorization.k8s.io: grants a role in a namespace.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    create_on_update: true,
    hooks: &RoleBinding,
    ..Kind::BASE
};

struct RoleBinding;

impl Hooks for RoleBinding {}
