//! Bootstrap tokens as their controllers see them: which secret is one, until when it counts, and how it signs. Pure.
//!
//! Source: Kubernetes' "Authenticating with Bootstrap Tokens".

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::{
    informer::{Informer, Watched},
    object,
};

impl Watched for Secret {}

/// Where the secrets are.
pub(crate) const NAMESPACE: &str = "kube-system";

/// Whether the secret is a bootstrap token.
pub(crate) fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some("bootstrap.kubernetes.io/token") && object::namespace(&secret.metadata) == NAMESPACE
}

/// All of them.
pub(crate) fn tokens(secrets: &Informer<Secret>) -> Vec<Arc<Secret>> {
    let mut tokens = secrets.in_namespace(NAMESPACE);
    tokens.retain(|secret| is_token(secret));
    tokens
}

fn field<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default()
}

/// How long a token still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It has no end.
    Endless,
    /// So long.
    Left(Duration),
    /// Its end has passed, or cannot be read.
    Over,
}

/// See [`Life`].
pub(crate) fn life(secret: &Secret, now: Timestamp) -> Life {
    let end = field(secret, "expiration");
    if end.is_empty() {
        return Life::Endless;
    }
    let left = end.parse::<Timestamp>().ok().and_then(|end| Duration::try_from(end.duration_since(now)).ok());
    left.filter(|left| !left.is_zero()).map_or(Life::Over, Life::Left)
}

/// Id and secret of a token that may sign.
pub(crate) fn signer(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let named = object::name(&secret.metadata).strip_prefix("bootstrap-token-")?;
    let plain = named.len() == 6 && named.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let (id, key) = (field(secret, "token-id"), field(secret, "token-secret"));
    let may = plain
        && id == named
        && !key.is_empty()
        && field(secret, "usage-bootstrap-signing") == "true"
        && life(secret, now) != Life::Over;
    may.then_some((id, key))
}

/// A JWS of the content by HS256, without the content.
pub(crate) fn signature(content: &str, id: &str, key: &str) -> String {
    let head = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(content));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), signed.as_bytes());
    format!("{head}..{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) const NOW: &str = "2026-01-01T00:00:00Z";

    /// A token that may sign, with these fields changed.
    pub(crate) fn token(id: &str, changes: Value) -> Secret {
        let mut fields = json!({"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"});
        if let Value::Object(changes) = changes {
            fields.as_object_mut().unwrap().extend(changes);
        }
        let mut secret = Secret { type_: Some("bootstrap.kubernetes.io/token".to_owned()), ..Secret::default() };
        secret.metadata.name = Some(format!("bootstrap-token-{id}"));
        secret.metadata.namespace = Some(NAMESPACE.to_owned());
        let bytes = |value: &Value| k8s_openapi::ByteString(value.as_str().unwrap().as_bytes().to_vec());
        let fields = fields.as_object().unwrap();
        secret.data = Some(fields.iter().map(|(key, value)| (key.clone(), bytes(value))).collect());
        secret
    }

    #[test]
    fn tokens_sign_that_are_whole_and_alive() {
        for (id, changes, may) in [
            ("abcdef", json!({}), true),
            ("abcdef", json!({"expiration": "2026-01-01T00:00:01Z"}), true),
            ("abcdef", json!({"expiration": NOW}), false),
            ("abcdef", json!({"expiration": "soon"}), false),
            ("abcdef", json!({"token-id": "ghijkl"}), false),
            ("abcdef", json!({"token-secret": ""}), false),
            ("abcdef", json!({"usage-bootstrap-signing": "yes"}), false),
            ("ABCDEF", json!({}), false),
            ("abcdefg", json!({}), false),
        ] {
            assert_eq!(signer(&token(id, changes.clone()), NOW.parse().unwrap()).is_some(), may, "{id} {changes}");
        }
    }

    #[test]
    fn lives_are_counted_from_now() {
        for (end, want) in [
            ("", Life::Endless),
            ("2026-01-01T01:00:00+00:00", Life::Left(Duration::from_secs(3600))),
            ("2025-12-31T23:59:59Z", Life::Over),
            (NOW, Life::Over),
        ] {
            assert_eq!(life(&token("abcdef", json!({"expiration": end})), NOW.parse().unwrap()), want, "{end}");
        }
    }

    #[test]
    fn signatures_are_upstreams() {
        // Content, id and secret of upstream's own test.
        let content = "Hello from the other side. I must have called a thousand times.";
        for (content, tag) in [
            (content, "VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"),
            ("", "7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk"),
        ] {
            let want = format!("eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..{tag}");
            assert_eq!(signature(content, "joshua", "my voice is my passcode"), want);
        }
    }
}
