//! Where bytes live: keys, values, revisions, transactions.
//!
//! [`kv`] is the ordered transactional key-value trait with FoundationDB's semantics; the engines behind it are listed in
//! [`engines`]. [`store`] is the versioned object store, written once over that trait. `DESIGN.md` beside this crate states the
//! key layout in bytes, the commit protocol by cases and what is assumed of the disk.
//!
//! This crate has never heard of a Pod: an object is bytes under a key, and nothing here looks inside.

pub mod clock;
pub mod embedded;
pub mod engines;
#[cfg(feature = "foundationdb")]
pub mod foundationdb;
pub mod kv;
#[cfg(feature = "laws")]
pub mod laws;
mod local;
pub mod sim;
pub mod store;
pub mod transform;
