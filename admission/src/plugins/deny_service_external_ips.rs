//! `DenyServiceExternalIPs`: no Service takes an external address that it does not have already.

use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct DenyServiceExternalIPs;

pub(crate) static PLUGIN: DenyServiceExternalIPs = DenyServiceExternalIPs;

#[async_trait]
impl Plugin for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["services"]
    }

    fn by_default(&self) -> bool {
        false
    }

    async fn validate(&self, request: &Request<'_>, service: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if !request.is_open() || !request.is("services", "") {
            return Ok(());
        }
        let old = value::items(request.old, "spec.externalIPs");
        if value::items(service, "spec.externalIPs").iter().all(|address| old.contains(address)) {
            return Ok(());
        }
        Err(request.forbidden("Use of external IPs is denied by admission control"))
    }
}
