//! What stands between an object's bytes and the rows that keep them: encryption at rest.
//!
//! The store seals every object once on its way in and opens it once on its way out; what the log keeps of replaced objects is
//! the sealed bytes as they were. Knows no cipher and no configuration: whoever opens the store brings a [`Transform`].

use std::fmt::Debug;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::store::Key;

/// An object as it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The bytes that were sealed.
    pub plain: Bytes,
    /// They would be sealed otherwise today (another key, another provider): writing them again changes the stored bytes.
    pub stale: bool,
}

/// Why stored bytes were not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// What opens them has to be fetched: call [`Transform::unlock`], then open again.
    Locked,
    /// They do not open. One sentence for people.
    Failed(String),
}

/// Seals objects on their way into rows and opens them on their way out.
///
/// **Laws.** `open(k, seal(k, p)) = p`, fresh, as long as the configuration is the same. Bytes that were sealed under another key of the
/// store should not open, so that a row which somebody moved is found out.
pub trait Transform: Send + Sync + Debug + 'static {
    /// Whether objects of `resource` can be stale at all. A cheap no saves a read.
    fn applies(&self, resource: &str) -> bool;

    /// The bytes to keep for `plain`. Must not wait: it runs at the start of every commit.
    ///
    /// # Errors
    /// One sentence for people; nothing is written then.
    fn seal(&self, key: &Key, plain: &Bytes) -> Result<Bytes, String>;

    /// The object that `stored` was made from.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open(&self, key: &Key, stored: &Bytes) -> Result<Opened, OpenError>;

    /// Fetches what `open` lacks, over the network if need be, within a time bound of its own.
    ///
    /// # Errors
    /// One sentence for people.
    fn unlock<'a>(&'a self, key: &'a Key, stored: &'a Bytes) -> BoxFuture<'a, Result<(), String>>;
}
