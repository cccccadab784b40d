//! `ValidatingAdmissionPolicy`: the rules of `ValidatingAdmissionPolicy`s, where bindings put them.
//!
//! Never opens a connection; see `dynamic.rs`.

use crate::dynamic::judge;
use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use async_trait::async_trait;

/// See the file.
pub struct ValidatingAdmissionPolicy;

pub(crate) static PLUGIN: ValidatingAdmissionPolicy = ValidatingAdmissionPolicy;

#[async_trait]
impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn is_dynamic(&self) -> bool {
        true
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        judge::run(request, object, lookup).await
    }
}
