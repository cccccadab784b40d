//! What converges: the controllers of Kubernetes, each a pure `plan` and a thin shell around it, on shared informers.
//!
//! *Architecture invariant:* this crate talks to the API and to nothing else; it never opens the store.
#![forbid(unsafe_code)]

mod bootstrap;
pub mod certificate;
pub mod controller;
pub mod controllers;
mod dependents;
pub mod discovery;
pub mod events;
mod history;
pub mod informer;
pub mod leader;
pub mod metrics;
pub mod object;
pub mod pod;
mod protection;
pub mod queue;
pub mod rbac;
mod replicas;
pub mod selector;
pub mod service;

pub use controller::{COMPONENT, Clock, Context, Controller, Error, Options, Rule, run};
pub use controllers::service_account_token::{Signer, Spoken};
pub use controllers::{CONTROLLERS, GATED, accounts};
