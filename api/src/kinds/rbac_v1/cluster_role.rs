//! `clusterroles` of rbac.authorization.k8s.io: rules for the whole cluster.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    create_on_update: true,
    hooks: &ClusterRole,
    ..Kind::BASE
};

struct ClusterRole;

impl Hooks for ClusterRole {}
