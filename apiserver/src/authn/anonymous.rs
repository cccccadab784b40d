//! The caller without credentials. Never speaks where a credential was shown and refused.

use super::{Authenticator, Credentials, Outcome, Settings, SettingsError, User};
use async_trait::async_trait;

struct Anonymous;

#[allow(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    Ok(settings.anonymous.then(|| Box::new(Anonymous) as Box<dyn Authenticator>))
}

#[async_trait]
impl Authenticator for Anonymous {
    async fn request(&self, _: &Credentials<'_>) -> Outcome {
        Outcome::User(User::anonymous())
    }

    fn only_without_credentials(&self) -> bool {
        true
    }
}
