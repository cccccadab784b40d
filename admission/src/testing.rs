//! A cluster of a test's own: it has what the test's functions say, and nothing else.

use crate::plugin::{Lookup, Refusal, Request, Right};
use api::json::Value;
use async_trait::async_trait;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

type Object = dyn Fn(&str, &str, u32) -> Option<Value> + Send + Sync;
type MayDo = dyn Fn(&Request<'_>, Right<'_>) -> bool + Send + Sync;

/// See the file.
pub(crate) struct Cluster {
    /// An object by plural and name, after so many pauses.
    pub(crate) object: Box<Object>,
    /// What the user of a request may do.
    pub(crate) right: Box<MayDo>,
    /// Pauses that were made.
    pub(crate) pauses: AtomicU32,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster { object: Box::new(|_, _, _| None), right: Box::new(|_, _| false), pauses: AtomicU32::new(0) }
    }
}

#[async_trait]
impl Lookup for Cluster {
    async fn get(&self, _: &str, plural: &str, _: &str, name: &str) -> Option<Value> {
        (self.object)(plural, name, self.pauses.load(Relaxed))
    }

    async fn list(&self, _: &str, _: &str, _: &str) -> Vec<Value> {
        Vec::new()
    }

    async fn list_latest(&self, _: &str, _: &str, _: &str) -> Result<Vec<Value>, Refusal> {
        Ok(Vec::new())
    }

    async fn may(&self, request: &Request<'_>, right: Right<'_>) -> bool {
        (self.right)(request, right)
    }

    async fn pause(&self, _: Duration) {
        self.pauses.fetch_add(1, Relaxed);
    }
}
