//! The contract of an admission plugin, and the chain that runs them in the table's order.
//!
//! Source: upstream's admission controllers: all mutating plugins first, then all validating ones.

use api::kind::Kind;
use api::status::Status;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change, also by patch and apply.
    Update,
    /// Its end.
    Delete,
}

/// A write on its way to the store.
pub struct Request<'a> {
    /// What is being done.
    pub operation: Operation,
    /// As served.
    pub kind: &'static Kind,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Final name.
    pub name: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Name of the user.
    pub user: &'a str,
    /// Empty where the authenticator knows none.
    pub uid: &'a str,
    /// Groups of the user.
    pub groups: &'a [String],
    /// Extra attributes of the user.
    pub extra: &'a BTreeMap<String, Vec<String>>,
    /// The object before; `Null` on create.
    pub old: &'a Value,
    /// Seconds since 1970.
    pub now: i64,
}

impl Request<'_> {
    /// The write is to this core resource and subresource.
    #[must_use]
    pub fn is(&self, plural: &str, subresource: &str) -> bool {
        self.kind.group.is_empty() && self.kind.plural == plural && self.subresource == subresource
    }

    /// A 403 in the words of admission.
    #[must_use]
    pub fn forbidden(&self, why: &str) -> Refusal {
        let resource = api::status::ResourceName { group: self.kind.group, plural: self.kind.plural };
        Refusal(Status::forbidden(resource, self.name, why))
    }
}

/// Why a write is refused, as the client will see it.
#[derive(Debug)]
pub struct Refusal(pub Status);

/// A right that a plugin asks for beside the one the request came with: `verb` on the cluster's `name` of a resource that need
/// not exist.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the words of authorization")]
pub struct Right<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub name: &'a str,
}

/// Other objects, by group, plural, namespace and name, at the version that is stored, and what the user may do.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// One object; `None` when absent.
    async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value>;
    /// All objects of a kind in a namespace (all namespaces when empty).
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value>;
    /// As [`Lookup::list`], with everything that was written before the call.
    async fn list_latest(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value>;
    /// Whether the user of this request holds a right.
    async fn may(&self, request: &Request<'_>, right: Right<'_>) -> bool;
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Name in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Changes the object or refuses it. Runs again when nothing changes what it did: must be idempotent.
    async fn mutate(&self, _request: &Request<'_>, _object: &mut Value, _lookup: &dyn Lookup) -> Result<(), Refusal> {
        Ok(())
    }

    /// Refuses what must not enter. On delete `object` is the one that goes.
    async fn validate(&self, _request: &Request<'_>, _object: &Value, _lookup: &dyn Lookup) -> Result<(), Refusal> {
        Ok(())
    }
}

/// The plugins that are on, in order.
pub struct Chain(Vec<&'static dyn Plugin>);

/// A name that no plugin has.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownPlugin(pub String);

impl Chain {
    /// Default plugins, plus `enable`, without `disable`.
    ///
    /// # Errors
    /// A name that the table does not have.
    pub fn new(enable: &[String], disable: &[String]) -> Result<Chain, UnknownPlugin> {
        let table = crate::plugins::ALL;
        if let Some(unknown) = enable.iter().chain(disable).find(|name| table.iter().all(|p| p.name() != **name)) {
            return Err(UnknownPlugin(unknown.clone()));
        }
        Ok(Chain(table.iter().copied().filter(|plugin| !disable.iter().any(|name| name == plugin.name())).collect()))
    }

    /// Runs the mutating plugins.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(&self, request: &Request<'_>, object: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        for plugin in &self.0 {
            plugin.mutate(request, object, lookup).await?;
        }
        Ok(())
    }

    /// Runs the validating plugins.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        for plugin in &self.0 {
            plugin.validate(request, object, lookup).await?;
        }
        Ok(())
    }
}
