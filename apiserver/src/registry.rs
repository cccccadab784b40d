//! Objects between the verbs and the store: one order of steps for every kind.
//!
//! A kind supplies hooks; what happens when is written here once. Never speaks HTTP.

pub mod addresses;
pub mod admitted;
pub mod allocate;
mod along;
pub mod columns;
pub mod convert;
pub mod finalize;
pub mod guard;
pub mod parameters;
pub mod ranges;
pub mod read;
pub mod repair;
pub mod turn;
pub mod unreadable;
pub mod versions;
pub mod write;

use crate::answer::Failure;
use api::json::Value;
use api::kind::Kind;
use api::status::{ResourceName, Status};
use storage::store::{Key, StoreError};

/// The object or collection that a request is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// As served; may be stored as another.
    pub kind: &'static Kind,
    /// Empty for cluster-scoped kinds and requests over all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
}

impl Target {
    /// Checks that an object says no other namespace than the path.
    ///
    /// # Errors
    /// 400 for one that does.
    pub fn agrees(&self, object: &Value) -> Result<(), Failure> {
        let said = api::meta::namespace(object);
        // Upstream lets manifests name a namespace where there is none and forgets it.
        if !self.kind.namespaced || said.is_empty() || said == self.namespace {
            return Ok(());
        }
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        Err(Status::bad_request(why).into())
    }

    /// Checks that an object says the name of the path, and no other namespace.
    ///
    /// # Errors
    /// 400 for one that does not.
    pub fn is_named(&self, object: &Value) -> Result<(), Failure> {
        self.agrees(object)?;
        let (said, name) = (api::meta::name(object), &self.name);
        let why = if said.is_empty() {
            format!("the name of the object ({name} based on URL) was undeterminable: name must be provided")
        } else if said != name {
            format!("the name of the object ({said}) does not match the name on the URL ({name})")
        } else {
            return Ok(());
        };
        Err(Status::bad_request(why).into())
    }

    /// Puts a new object where the path says.
    ///
    /// # Errors
    /// As for `agrees`.
    pub fn place(&self, object: &mut Value) -> Result<(), Failure> {
        self.agrees(object)?;
        if self.kind.namespaced {
            api::value::set(object, "metadata.namespace", self.namespace.clone());
        } else {
            api::value::remove(object, "metadata.namespace");
        }
        Ok(())
    }

    /// The store's key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(&self.kind.stored().group_resource(), &self.namespace, &self.name)
    }

    /// The name that statuses use.
    #[must_use]
    pub fn resource(&self) -> ResourceName<'static> {
        ResourceName { group: self.kind.group, plural: self.kind.plural }
    }

    /// An error of the store about this target.
    #[must_use]
    pub fn failure(&self, error: StoreError) -> Failure {
        Failure::Store {
            error: Box::new(error),
            resource: (self.kind.group, self.kind.plural),
            name: self.name.clone(),
        }
    }

    /// The same with another name.
    #[must_use]
    pub fn named(&self, name: &str) -> Target {
        Target { name: name.to_owned(), ..self.clone() }
    }
}
