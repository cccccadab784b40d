//! The API server: the road from a request to the store and back.
//!
//! Start with `road.rs`: every stage that a request passes is a line there. Never converges anything by itself; that is
//! the controllers' work, and they talk to this API like everybody else.
#![forbid(unsafe_code)]

mod aggregate;
pub mod answer;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod backup;
pub mod bootstrap;
pub mod cache;
mod configuration;
pub mod crd;
pub mod discovery;
mod documents;
mod drain;
pub mod encoded;
pub mod encryption;
mod fairness;
mod impersonation;
mod kubeconfig;
mod legacy_tokens;
pub mod metrics;
mod offer;
mod peers;
mod plugins;
pub mod profiling;
pub mod registry;
mod reload;
mod remote;
pub mod road;
pub mod server;
pub mod serving;
mod sockets;
pub mod spans;
pub mod state;
#[cfg(test)]
mod testing;
pub mod transport;
mod trust;
mod uid;
pub mod verb;
pub mod webhook;

pub use reload::{Material, Source};
pub use server::{Authentication, Authorization, Config, ProxyClient, Running, Server, StartError, TokenRules, start};
