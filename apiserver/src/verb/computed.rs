//! Kinds whose objects are made for each request: what is true at this moment, kept nowhere.
//!
//! One line per kind in `TABLE`. Never writes.

use super::{Call, shown};
use crate::answer::{Answer, Failure};
use crate::cache::Entry;
use crate::registry::columns::ListMeta;
use crate::registry::read::Filter;
use crate::server::Server;
use api::json::Value;
use api::kinds::core_v1::component_status;
use api::meta;
use api::status::{ResourceName, Status};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use std::sync::Arc;
use storage::store::Key;

type Make = for<'a> fn(&'a Server) -> LocalBoxFuture<'a, Vec<Value>>;

/// Every such kind, by its name; each gives all its objects in the order of their names.
const TABLE: &[(&str, Make)] = &[("ComponentStatus", |server| components(server).boxed_local())];

/// Answers a get or a list.
///
/// # Errors
/// 400 for selectors that cannot be parsed, 404 for a name that there is not; those of encoding.
pub async fn answer(server: &Server, call: Call) -> Result<Answer, Failure> {
    let kind = call.target.kind;
    let (_, make) = TABLE.iter().find(|(name, _)| *name == kind.kind).ok_or_else(Status::no_such_path)?;
    let entries = make(server).await.into_iter().map(|object| {
        let bytes = api::codec::json::encode(&object, kind.schema()).into();
        Arc::new(Entry::unsaved(kind, &call.target.named(meta::name(&object)).key(), &bytes))
    });
    let (received, name) = (call.received(), call.target.name.as_str());
    if name.is_empty() {
        let query = &received.query;
        let filter = Filter::parse(&call.target, query.get("labelSelector"), query.get("fieldSelector"))?;
        let entries: Vec<Arc<Entry>> = entries.filter(|entry| filter.matches(kind, entry)).collect();
        return shown::list(received, call.medium, kind, &ListMeta::default(), entries, server.now());
    }
    let mut entries = entries;
    let found = entries.find(|entry| *entry.key.name == *name);
    // Upstream says the singular here.
    let missing = || Status::not_found(ResourceName { group: kind.group, plural: kind.singular }, name);
    let entry = found.ok_or_else(missing)?;
    shown::object(received, call.medium, kind, &entry, 200, server.now())
}

/// What this server depends on. It does not know how the controllers and the scheduler are: they come to it, wherever they
/// run, and not the other way round.
async fn components(server: &Server) -> Vec<Value> {
    let probe = server.store.get(&Key::new("namespaces", "", "kube-system")).await;
    vec![component_status::of("store", probe.map(drop).map_err(|error| error.to_string()))]
}
