//! Bootstrap tokens (`abcdef.0123456789abcdef`): secrets of type `bootstrap.kubernetes.io/token` in `kube-system`, with which a
//! node asks for its first certificate. Fields and rules as in Kubernetes' "Authenticating with Bootstrap Tokens".

use super::{Accepted, Authenticator, Objects, Remarks, Settings, SettingsError, User};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The group of every bootstrap token's user.
pub const BOOTSTRAP_GROUP: &str = "system:bootstrappers";

struct BootstrapTokens {
    objects: Arc<dyn Objects>,
}

#[allow(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    let objects = settings.objects.as_ref().filter(|_| settings.bootstrap_tokens);
    Ok(objects.map(|objects| Box::new(BootstrapTokens { objects: Arc::clone(objects) }) as Box<dyn Authenticator>))
}

/// Id and secret of a text that has a bootstrap token's form.
fn split(token: &str) -> Option<(&str, &str)> {
    let plain = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    token.split_once('.').filter(|(id, secret)| plain(id, 6) && plain(secret, 16))
}

/// The user that `secret` makes of this token at `now`, if it does.
fn user(secret: &Secret, id: &str, wanted: &str, now: i64) -> Option<User> {
    let get = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        std::str::from_utf8(&bytes.0).ok()
    };
    let alive = secret.metadata.deletion_timestamp.is_none()
        && secret.type_.as_deref() == Some("bootstrap.kubernetes.io/token")
        && get("token-id") == Some(id)
        && Sha256::digest(get("token-secret")?) == Sha256::digest(wanted)
        && get("usage-bootstrap-authentication") == Some("true");
    if !alive {
        return None;
    }
    if let Some(end) = get("expiration").filter(|end| !end.is_empty()) {
        // An expiration that cannot be read counts as passed.
        if end.parse::<Timestamp>().ok()?.as_second() <= now {
            return None;
        }
    }
    let mut groups = vec![BOOTSTRAP_GROUP.to_owned()];
    for group in get("auth-extra-groups").unwrap_or_default().split(',').filter(|group| !group.is_empty()) {
        let end = group.strip_prefix("system:bootstrappers:")?;
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b':' || b == b'-';
        if !end.bytes().all(ok) || !end.bytes().last().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

#[async_trait]
impl Authenticator for BootstrapTokens {
    async fn token(&self, token: &str, _: &[String], now: i64, _: &Remarks) -> Result<Option<Accepted>, String> {
        let Some((id, wanted)) = split(token) else { return Ok(None) };
        let secret = self.objects.secret("kube-system", &format!("bootstrap-token-{id}")).await;
        let user = secret.and_then(|secret| user(&secret, id, wanted, now));
        Ok(user.map(|user| Accepted { user, audiences: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_and_live_secret_lets_in() {
        let check = |changes: &[(&str, &str)], want: Option<&[&str]>| {
            let mut data = api::json::Map::new();
            let base = [
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-authentication", "true"),
            ];
            for (key, value) in base.iter().chain(changes) {
                data.insert((*key).to_owned(), (*value).into());
            }
            let encoded: api::json::Map = data
                .into_iter()
                .map(|(k, v)| (k, crate::authn::tokens::base64_encode(v.as_str().unwrap().as_bytes())))
                .collect();
            let secret: Secret = api::json::from_value(api::json::json!({
                "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "data": encoded,
            }))
            .unwrap();
            let got = user(&secret, "abcdef", "0123456789abcdef", 1_000_000_000);
            assert_eq!(
                got.as_ref().map(|u| u.groups.iter().map(String::as_str).collect::<Vec<_>>()),
                want.map(<[_]>::to_vec)
            );
        };
        check(&[], Some(&["system:bootstrappers"]));
        check(
            &[("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token")],
            Some(&["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"]),
        );
        check(&[("auth-extra-groups", "system:masters")], None);
        check(&[("token-secret", "0123456789abcdee")], None);
        check(&[("usage-bootstrap-authentication", "false")], None);
        check(&[("expiration", "2001-09-09T01:46:40Z")], None);
        check(&[("expiration", "2001-09-09T01:46:41Z")], Some(&["system:bootstrappers"]));
        check(&[("expiration", "soon")], None);
        assert_eq!(split("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        assert_eq!(split("abcdeF.0123456789abcdef"), None);
        assert_eq!(split("abcdef0123456789abcdef"), None);
    }
}
