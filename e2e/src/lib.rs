//! What the end-to-end tests stand on: the real binary in its own process, stock kubectl and helm, plain requests, and containerd's own
//! client.
//!
//! Never reaches into the server: everything goes through what a user has. Touches nothing that the test did not start.
#![forbid(unsafe_code)]

mod cluster;
mod command;
mod machine;
mod request;
mod shared;
mod tls;
mod wait;

pub use cluster::{Cluster, Kind};
pub use command::{Cli, Output, Running, words};
pub use machine::{binary, charts, free_port, images, missing_for_node, tool};
pub use request::{Answer, Http, runtime};
pub use shared::{Lease, control_plane, node};
pub use tls::{Reply, TlsServer, base64};
pub use wait::{eventually, holds_for};
