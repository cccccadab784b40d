//! `MutatingAdmissionPolicy`: the changes of `MutatingAdmissionPolicy`s, where bindings put them.
//!
//! Never opens a connection; see `dynamic.rs`.

use crate::dynamic::change;
use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use async_trait::async_trait;

/// See the file.
pub struct MutatingAdmissionPolicy;

pub(crate) static PLUGIN: MutatingAdmissionPolicy = MutatingAdmissionPolicy;

#[async_trait]
impl Plugin for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn is_dynamic(&self) -> bool {
        true
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        change::run(request, object, lookup).await
    }
}
