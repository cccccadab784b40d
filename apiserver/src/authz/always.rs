//! `AlwaysAllow` and `AlwaysDeny`, for tests and for delegation to something in front. Neither looks at the request.

use super::{Attributes, Authorizer, Decision, Entry, Settings, UserRules, rbac};
use crate::authn::User;
use async_trait::async_trait;
use std::sync::Arc;

struct AlwaysAllow;
struct AlwaysDeny;

#[allow(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn allow(_: &Entry, _: &Settings) -> Result<Arc<dyn Authorizer>, String> {
    Ok(Arc::new(AlwaysAllow))
}

#[allow(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn deny(_: &Entry, _: &Settings) -> Result<Arc<dyn Authorizer>, String> {
    Ok(Arc::new(AlwaysDeny))
}

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, _: &Attributes) -> Decision {
        Decision::Allow(String::new())
    }

    fn rules_for(&self, _: &User, _: &str) -> UserRules {
        UserRules { rules: rbac::everything().into(), ..UserRules::default() }
    }
}

#[async_trait]
impl Authorizer for AlwaysDeny {
    async fn authorize(&self, _: &Attributes) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".to_owned())
    }

    fn rules_for(&self, _: &User, _: &str) -> UserRules {
        UserRules::default()
    }
}
