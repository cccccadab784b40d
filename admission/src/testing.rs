//! A cluster of a test's own: it has what the test's functions say, and nothing else; and questions to one plugin.

use crate::dynamic::Notes;
use crate::plugin::{Form, Lookup, Operation, Plugin, Refusal, Request, Right};
use api::json::Value;
use api::kind::Kind;
use async_trait::async_trait;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

type Object = dyn Fn(&str, &str, u32) -> Option<Value> + Send + Sync;
type List = dyn Fn(&str) -> Vec<Value> + Send + Sync;
type MayDo = dyn Fn(&Request<'_>, Right<'_>) -> bool + Send + Sync;

/// See the file.
pub(crate) struct Cluster {
    /// An object by plural and name, after so many pauses.
    pub(crate) object: Box<Object>,
    /// All objects of a plural.
    pub(crate) list: Box<List>,
    /// What the user of a request may do.
    pub(crate) right: Box<MayDo>,
    /// Pauses that were made.
    pub(crate) pauses: AtomicU32,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            object: Box::new(|_, _, _| None),
            list: Box::new(|_| Vec::new()),
            right: Box::new(|_, _| false),
            pauses: AtomicU32::new(0),
        }
    }
}

#[async_trait]
impl Lookup for Cluster {
    async fn get(&self, _: &str, plural: &str, _: &str, name: &str) -> Option<Value> {
        (self.object)(plural, name, self.pauses.load(Relaxed))
    }

    async fn list(&self, _: &str, plural: &str, _: &str) -> Vec<Value> {
        (self.list)(plural)
    }

    async fn list_latest(&self, _: &str, plural: &str, _: &str) -> Result<Vec<Value>, Refusal> {
        Ok((self.list)(plural))
    }

    async fn may(&self, request: &Request<'_>, right: Right<'_>) -> bool {
        (self.right)(request, right)
    }

    fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
        api::kinds::by_gvk(group, version, kind)
    }

    async fn pause(&self, _: Duration) {
        self.pauses.fetch_add(1, Relaxed);
    }
}

/// A write by jane in the namespace `shop`.
pub(crate) struct Ask<'a> {
    pub(crate) operation: Operation,
    /// Group, version and plural.
    pub(crate) resource: (&'a str, &'a str, &'a str),
    pub(crate) subresource: &'a str,
    pub(crate) old: Value,
    pub(crate) now: i64,
    pub(crate) cluster: Cluster,
}

impl Ask<'_> {
    pub(crate) fn create<'a>(group: &'a str, version: &'a str, plural: &'a str) -> Ask<'a> {
        Ask {
            operation: Operation::Create,
            resource: (group, version, plural),
            subresource: "",
            old: Value::Null,
            now: 0,
            cluster: Cluster::default(),
        }
    }

    fn with<T>(
        &self,
        object: &Value,
        ask: impl FnOnce(&Request<'_>) -> Result<T, Refusal>,
    ) -> Result<T, (u16, String)> {
        let (group, version, plural) = self.resource;
        let kind = api::kinds::by_resource(group, version, plural).unwrap();
        let request = Request {
            operation: self.operation,
            kind,
            namespace: if kind.namespaced { "shop" } else { "" },
            name: api::meta::name(object),
            subresource: self.subresource,
            user: "jane",
            uid: "",
            groups: &[],
            extra: &std::collections::BTreeMap::new(),
            old: &self.old,
            now: self.now,
            form: Form::Itself,
            dry_run: false,
            options: &Value::Null,
            notes: &Notes::default(),
            rounds: None,
        };
        ask(&request).map_err(|refusal| (refusal.0.code, refusal.0.message))
    }

    /// What the plugin makes of the object, or code and message of the refusal.
    pub(crate) fn mutated(&self, plugin: &dyn Plugin, mut object: Value) -> Result<Value, (u16, String)> {
        let before = object.clone();
        self.with(&before, |request| {
            futures::executor::block_on(plugin.mutate(request, &mut object, &self.cluster)).map(|()| object)
        })
    }

    /// Code and message of the refusal, if there is one.
    pub(crate) fn validated(&self, plugin: &dyn Plugin, object: &Value) -> Result<(), (u16, String)> {
        self.with(object, |request| futures::executor::block_on(plugin.validate(request, object, &self.cluster)))
    }

    /// Code and message of the refusal of the last word, if there is one.
    pub(crate) fn settled(&self, plugin: &dyn Plugin, object: &Value) -> Result<(), (u16, String)> {
        self.with(object, |request| {
            futures::executor::block_on(plugin.settle(request, object, &self.cluster)).map(drop)
        })
    }
}
