//! `ValidatingAdmissionWebhook`: asks the webhooks of `ValidatingWebhookConfiguration`s, which may refuse the write.
//!
//! Never opens a connection; see `dynamic.rs`.

use crate::dynamic::validate;
use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use async_trait::async_trait;

/// See the file.
pub struct ValidatingAdmissionWebhook;

pub(crate) static PLUGIN: ValidatingAdmissionWebhook = ValidatingAdmissionWebhook;

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn is_dynamic(&self) -> bool {
        true
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        validate::run(request, object, lookup).await
    }
}
