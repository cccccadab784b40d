//! `clusterrolebindings` of rbac.authorization.k8s.io: grants a cluster role everywhere.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};

/// The description.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    create_on_update: true,
    hooks: &ClusterRoleBinding,
    ..Kind::BASE
};

struct ClusterRoleBinding;

impl Hooks for ClusterRoleBinding {}
