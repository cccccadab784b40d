//! What may enter: plugins that change or refuse a write before it reaches the store.
//!
//! Plugins see objects and look up others through `Lookup`; they never write and never talk to the network by themselves.
#![forbid(unsafe_code)]

pub mod configured;
pub mod dynamic;
mod meter;
pub mod plugin;
pub mod plugins;
mod pod_security;
mod signers;
#[cfg(test)]
mod testing;

pub use configured::{Opener, Remote, SetupError};
pub use dynamic::{Dynamic, Notes};
pub use meter::{Meter, Ran, Step};
pub use plugin::{Along, Chain, Form, Lookup, Operation, Plugin, Refusal, Request, Right, Shape};
