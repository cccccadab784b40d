//! `NamespaceAutoProvision`: an object on its way to a namespace that is not there brings it into being.
//!
//! The API server looks for the namespace before any plugin does, and makes it where this one is on.

use crate::plugin::Plugin;
use async_trait::async_trait;

/// See the file.
pub struct NamespaceAutoProvision;

pub(crate) static PLUGIN: NamespaceAutoProvision = NamespaceAutoProvision;

#[async_trait]
impl Plugin for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn by_default(&self) -> bool {
        false
    }

    fn provides_namespaces(&self) -> bool {
        true
    }
}
