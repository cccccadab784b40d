//! Service account tokens: signature, issuer, audience and dates, and that the service account and whatever the token is bound
//! to still exist with the uid it names. Signatures are remembered; existence is asked at every request.

use super::remembered::Remembered;
use super::tokens::{Claims, KubernetesClaim, ObjectRef, VerifyKey, base64url_decode};
use super::{Accepted, Authenticator, CREDENTIAL_ID, Identity, Objects, Settings, SettingsError, User};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Seconds by which clocks may differ, and which a deleted object's tokens still live.
const LEEWAY: i64 = 60;
/// The issuer of legacy tokens.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
const INVALIDATED: &str = "service account token has been invalidated";

/// What verifies tokens.
#[derive(Clone, Debug, Default)]
pub struct ServiceAccounts {
    /// `--service-account-key-file`, all of them, the signer's included.
    pub keys: Vec<VerifyKey>,
    /// `--service-account-issuer`, all of them.
    pub issuers: Vec<String>,
    /// `--api-audiences`.
    pub audiences: Vec<String>,
}

struct ServiceAccountTokens {
    settings: ServiceAccounts,
    objects: Arc<dyn Objects>,
    known: Remembered<Arc<Claims>>,
}

#[allow(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    let (Some(accounts), Some(objects)) = (&settings.service_accounts, &settings.objects) else { return Ok(None) };
    Ok(Some(Box::new(ServiceAccountTokens {
        settings: accounts.clone(),
        objects: Arc::clone(objects),
        known: Remembered::new(16_384),
    })))
}

/// Header's key id, claims, signed message and signature; none of it verified. `None`: not a JWT.
fn parts(token: &str) -> Option<(Option<String>, Claims, &str, &str)> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, body) = message.split_once('.')?;
    let header: api::json::Value = api::json::from_slice(&base64url_decode(header)?).ok()?;
    let claims = api::json::from_slice(&base64url_decode(body)?).ok()?;
    let kid = header.get("kid").and_then(|kid| kid.as_str()).filter(|kid| !kid.is_empty()).map(str::to_owned);
    header.get("alg")?.as_str()?;
    Some((kid, claims, message, signature))
}

impl ServiceAccountTokens {
    /// The claims if one of our issuers' keys signed them.
    fn verified(&self, token: &str, now: i64) -> Result<Option<Arc<Claims>>, String> {
        let fingerprint = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.known.get(&fingerprint, now) {
            return Ok(Some(claims));
        }
        let Some((kid, claims, message, signature)) = parts(token) else { return Ok(None) };
        if claims.iss != LEGACY_ISSUER && !self.settings.issuers.contains(&claims.iss) {
            return Ok(None);
        }
        // The algorithm is the key's, never the header's: a token cannot choose how it is judged.
        let mut candidates =
            self.settings.keys.iter().filter(|key| kid.as_ref().is_none_or(|kid| *kid == key.id)).peekable();
        if candidates.peek().is_none() {
            return Err("invalid signature, no keys found".to_owned());
        }
        if !candidates.any(|key: &VerifyKey| key.has_signed(message, signature)) {
            return Err("invalid signature".to_owned());
        }
        let claims = Arc::new(claims);
        let until = claims.exp.map_or(i64::MAX, |exp| exp.saturating_add(LEEWAY));
        self.known.put(fingerprint, Arc::clone(&claims), now, until.min(now.saturating_add(3600)));
        Ok(Some(claims))
    }

    async fn existing(
        &self,
        (resource, namespace): (&str, &str),
        wanted: &ObjectRef,
        now: i64,
        (missing, what): (&str, &str),
    ) -> Result<(), String> {
        let found = self.objects.identity(resource, namespace, &wanted.name).await;
        let Some(Identity { uid, deleted_at }) = found else { return Err(missing.to_owned()) };
        if uid != wanted.uid {
            return Err(format!("{what} UID ({uid}) does not match service account {what} ref claim ({})", wanted.uid));
        }
        if deleted_at.is_some_and(|at| at < now.saturating_sub(LEEWAY)) {
            return Err(missing.to_owned());
        }
        Ok(())
    }

    async fn bound(&self, claims: &Claims, claim: &KubernetesClaim, now: i64) -> Result<User, String> {
        let namespace = claim.namespace.as_str();
        let account = &claim.serviceaccount;
        self.account(namespace, &account.name, &account.uid, now).await?;
        if let Some(secret) = &claim.secret {
            self.existing(("secrets", namespace), secret, now, (INVALIDATED, "secret")).await?;
        }
        if let Some(pod) = &claim.pod {
            self.existing(("pods", namespace), pod, now, (INVALIDATED, "pod")).await?;
        } else if let Some(node) = &claim.node {
            self.existing(("nodes", ""), node, now, (INVALIDATED, "node")).await?;
        }
        let mut user = User::service_account(namespace, &account.name, &account.uid);
        let mut extra = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
            }
        };
        for (kind, reference) in [("pod", &claim.pod), ("node", &claim.node)] {
            if let Some(reference) = reference {
                extra(&format!("{kind}-name"), &reference.name);
                extra(&format!("{kind}-uid"), &reference.uid);
            }
        }
        if !claims.jti.is_empty() {
            user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", claims.jti)]);
        }
        Ok(user)
    }

    async fn account(&self, namespace: &str, name: &str, uid: &str, now: i64) -> Result<(), String> {
        let found = self.objects.identity("serviceaccounts", namespace, name).await;
        let Some(found) = found else { return Err(format!("serviceaccounts \"{name}\" not found")) };
        if found.uid != uid {
            return Err(format!("service account UID ({}) does not match claim ({uid})", found.uid));
        }
        if found.deleted_at.is_some_and(|at| at < now.saturating_sub(LEEWAY)) {
            return Err(format!("service account {namespace}/{name} has been deleted"));
        }
        Ok(())
    }

    /// Tokens that live in a secret of type `kubernetes.io/service-account-token` and never expire.
    async fn legacy(&self, token: &str, claims: &Claims, now: i64) -> Result<User, String> {
        let (namespace, name) = (claims.legacy_namespace.as_str(), claims.legacy_name.as_str());
        for (value, claim) in [
            (claims.sub.as_str(), "sub"),
            (namespace, "namespace"),
            (&claims.legacy_secret, "secretName"),
            (name, "serviceAccountName"),
            (&claims.legacy_uid, "serviceAccountUID"),
        ] {
            if value.is_empty() {
                return Err(format!("{claim} claim is missing"));
            }
        }
        if claims.sub != super::service_account_username(namespace, name) {
            return Err("sub claim is invalid".to_owned());
        }
        let secret = self.objects.secret(namespace, &claims.legacy_secret).await;
        let Some(secret) = secret.filter(|secret| secret.metadata.deletion_timestamp.is_none()) else {
            return Err("Token has been invalidated".to_owned());
        };
        let kept = secret.data.as_ref().and_then(|data| data.get("token"));
        if kept.is_none_or(|kept| Sha256::digest(&kept.0) != Sha256::digest(token)) {
            return Err("Token does not match server's copy".to_owned());
        }
        let labels = secret.metadata.labels.unwrap_or_default();
        if labels.get("kubernetes.io/legacy-token-invalid-since").is_some_and(|since| !since.is_empty()) {
            return Err(format!("the token in secret {namespace}/{} has been marked invalid", claims.legacy_secret));
        }
        self.account(namespace, name, &claims.legacy_uid, now).await?;
        Ok(User::service_account(namespace, name, &claims.legacy_uid))
    }
}

fn dates(claims: &Claims, now: i64) -> Result<(), String> {
    if claims.exp.is_some_and(|exp| now.saturating_sub(LEEWAY) > exp) {
        return Err("service account token has expired".to_owned());
    }
    if claims.nbf.is_some_and(|nbf| now.saturating_add(LEEWAY) < nbf) {
        return Err("service account token is not valid yet".to_owned());
    }
    if claims.iat.is_some_and(|iat| now.saturating_add(LEEWAY) < iat) {
        return Err("service account token is issued in the future".to_owned());
    }
    Ok(())
}

#[async_trait]
impl Authenticator for ServiceAccountTokens {
    async fn token(&self, token: &str, audiences: &[String], now: i64) -> Result<Option<Accepted>, String> {
        let Some(claims) = self.verified(token, now)? else { return Ok(None) };
        let own = if claims.aud.is_empty() { &self.settings.audiences } else { &claims.aud };
        let asked = if audiences.is_empty() { &self.settings.audiences } else { audiences };
        let agreed: Vec<String> = own.iter().filter(|audience| asked.contains(audience)).cloned().collect();
        if agreed.is_empty() && !self.settings.audiences.is_empty() {
            return Err(format!("token audiences {own:?} is invalid for the target audiences {asked:?}"));
        }
        dates(&claims, now)?;
        let user = match &claims.kubernetes {
            Some(claim) if claims.iss != LEGACY_ISSUER => {
                // A bound token without an end would outlive every revocation by key rotation alone.
                if claims.exp.is_none() {
                    return Err("service account token has no expiry".to_owned());
                }
                self.bound(&claims, claim, now).await?
            }
            _ => self.legacy(token, &claims, now).await?,
        };
        Ok(Some(Accepted { user, audiences: agreed }))
    }

    fn knows_audiences(&self) -> bool {
        true
    }
}
