//! `AlwaysDeny`: refuses every write; for tests.

use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use async_trait::async_trait;

/// See the file.
pub struct AlwaysDeny;

pub(crate) static PLUGIN: AlwaysDeny = AlwaysDeny;

#[async_trait]
impl Plugin for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn by_default(&self) -> bool {
        false
    }

    async fn validate(&self, request: &Request<'_>, _: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
        Err(request.forbidden("admission control is denying all modifications"))
    }
}
