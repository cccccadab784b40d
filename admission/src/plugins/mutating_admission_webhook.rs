//! `MutatingAdmissionWebhook`: asks the webhooks of `MutatingWebhookConfiguration`s, which may change the object.
//!
//! Never opens a connection; see `dynamic.rs`.

use crate::dynamic::mutate;
use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use async_trait::async_trait;

/// See the file.
pub struct MutatingAdmissionWebhook;

pub(crate) static PLUGIN: MutatingAdmissionWebhook = MutatingAdmissionWebhook;

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn is_dynamic(&self) -> bool {
        true
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        mutate::run(request, object, lookup).await
    }
}
