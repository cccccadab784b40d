//! `nodes`: machines.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Hooks, Kind};
use crate::kinds::shared::parts;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[parts::proxy("NodeProxyOptions"), parts::status("", "v1", "Node")],
    create_with_status: true,
    hooks: &Node,
    ..Kind::BASE
};

struct Node;

impl Hooks for Node {}
