//! Bearer tokens that a webhook judges: a `TokenReview` posted to the server of a kubeconfig file.
//!
//! Verdicts are kept for a while, failures to get one are not. Source: upstream's "Webhook Token Authentication".

use super::remembered::Remembered;
use super::{Accepted, Authenticator, Remarks, Settings, SettingsError, User};
use crate::kubeconfig;
use crate::remote::Remote;
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::Duration;

/// The `--authentication-token-webhook-*` flags.
#[derive(Clone, Debug)]
pub struct TokenWebhook {
    /// `--authentication-token-webhook-config-file`.
    pub config_file: PathBuf,
    /// `--authentication-token-webhook-version`: `v1beta1` (upstream's default) or `v1`.
    pub version: String,
    /// `--authentication-token-webhook-cache-ttl`; upstream's default is two minutes.
    pub cache_ttl: Duration,
}

impl TokenWebhook {
    /// The webhook of this file, with upstream's defaults.
    #[must_use]
    pub fn new(config_file: PathBuf) -> TokenWebhook {
        TokenWebhook { config_file, version: "v1beta1".to_owned(), cache_ttl: Duration::from_secs(120) }
    }
}

/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waits between tries of a question that got no answer, upstream's.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_millis(750), Duration::from_millis(1125), Duration::from_millis(1687)];

struct Webhook {
    remote: Remote,
    version: String,
    api_audiences: Vec<String>,
    ttl: i64,
    known: Remembered<Result<Option<Accepted>, String>>,
}

pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    let Some(webhook) = &settings.webhook else { return Ok(None) };
    if !["v1", "v1beta1"].contains(&webhook.version.as_str()) {
        let why = format!(
            "unsupported authentication webhook version {:?}, supported versions are \"v1\", \"v1beta1\"",
            webhook.version
        );
        return Err(SettingsError::Webhook(why));
    }
    Ok(Some(Box::new(Webhook {
        remote: kubeconfig::remote(&webhook.config_file).map_err(SettingsError::Webhook)?,
        version: webhook.version.clone(),
        api_audiences: settings.api_audiences.clone(),
        ttl: i64::try_from(webhook.cache_ttl.as_secs()).unwrap_or(i64::MAX),
        known: Remembered::new(4096),
    })))
}

impl Webhook {
    /// The review's status; tried again where another answer may come.
    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Value, String> {
        let review = json!({
            "kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": {"creationTimestamp": null},
            "spec": {"token": token, "audiences": audiences},
            "status": {"user": {}},
        });
        let body = api::json::to_vec(&review).map_err(|error| error.to_string())?;
        let mut waits = WAITS.iter();
        loop {
            let why = match self.remote.post(body.clone(), PATIENCE).await {
                Ok((200..=206, answer)) => {
                    let answer: Value = api::json::from_slice(&answer).map_err(|error| error.to_string())?;
                    return Ok(answer.get("status").cloned().unwrap_or_default());
                }
                Ok((code, answer)) => {
                    let why = format!("{code}: {}", String::from_utf8_lossy(answer.get(..512).unwrap_or(&answer)));
                    if code != 429 && code < 500 {
                        return Err(why);
                    }
                    why
                }
                Err(why) => why,
            };
            let Some(wait) = waits.next() else { return Err(why) };
            tokio::time::sleep(*wait).await;
        }
    }
}

/// What a status says, for these audiences.
fn verdict(status: &Value, asked: &[String], api_audiences: &[String]) -> Result<Option<Accepted>, String> {
    let texts = |value: &Value, path: &str| -> Vec<String> {
        value::items(value, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let named = texts(status, "audiences");
    // A webhook that names none knows of none: then the token is for us.
    let own = if named.is_empty() { api_audiences } else { &named };
    let audiences: Vec<String> = asked.iter().filter(|audience| own.contains(audience)).cloned().collect();
    if audiences.is_empty() && !asked.is_empty() {
        return Ok(None);
    }
    if status.get("authenticated").and_then(Value::as_bool) != Some(true) {
        return match value::text(status, "error") {
            "" => Ok(None),
            why => Err(why.to_owned()),
        };
    }
    let extra = value::get(status, "user.extra").and_then(|extra| api::json::from_value(extra.clone()).ok());
    let user = User {
        name: value::text(status, "user.username").to_owned(),
        uid: value::text(status, "user.uid").to_owned(),
        groups: texts(status, "user.groups"),
        extra: extra.unwrap_or_default(),
    };
    Ok(Some(Accepted { user, audiences }))
}

#[async_trait]
impl Authenticator for Webhook {
    async fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        _: &Remarks,
    ) -> Result<Option<Accepted>, String> {
        let asked = if audiences.is_empty() { &self.api_audiences } else { audiences };
        let mut hash = Sha256::new();
        for part in std::iter::once(token).chain(asked.iter().map(String::as_str)) {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let key = hash.finalize().into();
        if let Some(known) = self.known.get(&key, now) {
            return known;
        }
        let status = self.ask(token, asked).await.map_err(|why| {
            tracing::warn!(why, "the webhook of tokens gives no answer");
            why
        })?;
        let verdict = verdict(&status, asked, &self.api_audiences);
        self.known.put(key, verdict.clone(), now, now.saturating_add(self.ttl));
        verdict
    }

    fn knows_audiences(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let own = ["api".to_owned()];
        let check = |status: Value, asked: &[&str], want: Result<Option<(&str, &[&str])>, &str>| {
            let asked: Vec<String> = asked.iter().map(|one| (*one).to_owned()).collect();
            let got = verdict(&status, &asked, &own);
            let got = got.as_ref().map(|found| {
                found
                    .as_ref()
                    .map(|found| (found.user.name.as_str(), found.audiences.iter().map(String::as_str).collect()))
            });
            let want = want.map(|want| want.map(|(name, audiences)| (name, audiences.to_vec())));
            assert_eq!(got.map_err(String::as_str), want, "{status}");
        };
        let good = json!({"authenticated": true, "user": {"username": "jane", "groups": ["dev"]}});
        check(good.clone(), &["api"], Ok(Some(("jane", &["api"]))));
        check(good.clone(), &["other"], Ok(None));
        check(
            json!({"authenticated": true, "user": {"username": "x"}, "audiences": ["other"]}),
            &["other", "api"],
            Ok(Some(("x", &["other"]))),
        );
        check(json!({"authenticated": false, "error": "no such"}), &["api"], Err("no such"));
        check(json!({"authenticated": false}), &["api"], Ok(None));
        check(json!({}), &["api"], Ok(None));
        let extra = json!({"authenticated": true, "user": {"username": "x", "uid": "7", "extra": {"a/b": ["c"]}}});
        let user = verdict(&extra, &own, &own).unwrap().unwrap().user;
        assert_eq!((user.uid.as_str(), user.extra["a/b"].as_slice()), ("7", ["c".to_owned()].as_slice()));
    }
}
