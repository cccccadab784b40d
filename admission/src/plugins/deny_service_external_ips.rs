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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Operation;
    use crate::testing::Ask;
    use api::json::json;

    #[test]
    fn addresses_stay_and_go_and_never_come() {
        let service = |addresses: &[&str]| json!({"metadata": {"name": "a"}, "spec": {"externalIPs": addresses}});
        for (old, new, refused) in [
            (None, &[][..], false),
            (None, &["1.2.3.4"], true),
            (Some(&["1.2.3.4", "5.6.7.8"][..]), &["5.6.7.8"], false),
            (Some(&["1.2.3.4"]), &["1.2.3.4"], false),
            (Some(&["1.2.3.4"]), &["1.2.3.4", "5.6.7.8"], true),
        ] {
            let operation = if old.is_some() { Operation::Update } else { Operation::Create };
            let old = old.map_or(Value::Null, service);
            let ask = Ask { operation, old, ..Ask::create("", "v1", "services") };
            let why = "services \"a\" is forbidden: Use of external IPs is denied by admission control";
            let wanted = if refused { Err((403, why.to_owned())) } else { Ok(()) };
            assert_eq!(ask.validated(&PLUGIN, &service(new)), wanted, "{new:?}");
        }
    }
}
