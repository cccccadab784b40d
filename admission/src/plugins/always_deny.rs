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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ask;
    use api::json::json;

    #[test]
    fn it_denies() {
        let said = Ask::create("", "v1", "secrets").validated(&PLUGIN, &json!({"metadata": {"name": "a"}}));
        let why = "secrets \"a\" is forbidden: admission control is denying all modifications";
        assert_eq!(said, Err((403, why.to_owned())));
    }
}
