//! The caller without credentials. Never speaks where a credential was shown and refused.

use super::{Authenticator, Credentials, Outcome, Settings, SettingsError, User};
use async_trait::async_trait;

struct Anonymous {
    /// Whole paths; empty for all.
    paths: Vec<String>,
}

#[allow(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    let paths = settings.anonymous.conditions.iter().map(|condition| condition.path.clone()).collect();
    Ok(settings.anonymous.enabled.then(|| Box::new(Anonymous { paths }) as Box<dyn Authenticator>))
}

#[async_trait]
impl Authenticator for Anonymous {
    async fn request(&self, credentials: &Credentials<'_>, _: Option<&str>) -> Outcome {
        if self.paths.is_empty() || self.paths.iter().any(|path| path == credentials.path) {
            Outcome::User(User::anonymous())
        } else {
            Outcome::None
        }
    }

    fn only_without_credentials(&self) -> bool {
        true
    }
}
