//! An issuer's keys: found by discovery, kept, and asked for again when a token names one that is not there.
//!
//! Never looks at claims. Source: OpenID Connect Discovery 1.0, RFC 7517.

use crate::authn::signature::{self, Scheme};
use api::json::Value;
use async_trait::async_trait;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Gets documents of an issuer.
#[async_trait]
pub(super) trait Fetch: Send + Sync {
    /// The body found at a URL.
    async fn get(&self, url: &str, bearer: Option<&str>) -> Result<Vec<u8>, String>;
}

/// Over the network.
pub(super) struct Network(pub(super) Arc<rustls::ClientConfig>);

/// Upstream's patience with an issuer.
const PATIENCE: Duration = Duration::from_secs(30);

#[async_trait]
impl Fetch for Network {
    async fn get(&self, url: &str, bearer: Option<&str>) -> Result<Vec<u8>, String> {
        crate::remote::fetch(url, &self.0, bearer, PATIENCE).await.map(|body| body.to_vec())
    }
}

/// How long an issuer that could not be read is left alone.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long keys are good for tokens whose key is not among them: forged ones must not make us ask without end.
const FRESH: Duration = Duration::from_secs(2);

struct Key {
    id: Option<String>,
    key: signature::Key,
}

#[derive(Clone)]
struct Held {
    jwks_uri: String,
    keys: Arc<Vec<Key>>,
}

#[derive(Default)]
struct Asked {
    /// When the keys were last asked for.
    at: Option<Instant>,
    failure: Option<(Instant, String)>,
}

/// The keys of one issuer.
pub(super) struct Keys {
    issuer: String,
    discovery: String,
    fetch: Arc<dyn Fetch>,
    held: RwLock<Option<Held>>,
    asked: tokio::sync::Mutex<Asked>,
}

impl Keys {
    /// Of an issuer; its discovery document is elsewhere where `discovery` names a place.
    pub(super) fn new(issuer: &str, discovery: &str, fetch: Arc<dyn Fetch>) -> Keys {
        let own = || format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let discovery = if discovery.is_empty() { own() } else { discovery.to_owned() };
        let (held, asked) = (RwLock::default(), tokio::sync::Mutex::default());
        Keys { issuer: issuer.to_owned(), discovery, fetch, held, asked }
    }

    /// Whether one of the issuer's keys signed this message; asks for the keys again when none that is held did.
    ///
    /// # Errors
    /// No key did, or the keys cannot be had.
    pub(super) async fn verify(
        &self,
        id: Option<&str>,
        scheme: Scheme,
        message: &str,
        signature: &str,
    ) -> Result<(), String> {
        let held = self.held.read().clone();
        if held.is_some_and(|held| signed(&held.keys, id, scheme, message, signature)) {
            return Ok(());
        }
        let keys = self.again().await?;
        if signed(&keys, id, scheme, message, signature) {
            return Ok(());
        }
        Err("failed to verify signature: failed to verify id token signature".to_owned())
    }

    /// Asks for the keys, unless somebody just did.
    async fn again(&self) -> Result<Arc<Vec<Key>>, String> {
        let mut asked = self.asked.lock().await;
        if let Some((at, why)) = &asked.failure
            && at.elapsed() < AFTER_FAILURE
        {
            return Err(why.clone());
        }
        let held = self.held.read().clone();
        if let Some(held) = &held
            && asked.at.is_some_and(|at| at.elapsed() < FRESH)
        {
            return Ok(Arc::clone(&held.keys));
        }
        asked.at = Some(Instant::now());
        match self.ask(held.map(|held| held.jwks_uri)).await {
            Ok(held) => {
                asked.failure = None;
                *self.held.write() = Some(held.clone());
                Ok(held.keys)
            }
            Err(why) => {
                tracing::warn!(issuer = self.issuer, why, "the keys of an issuer cannot be had");
                asked.failure = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    async fn ask(&self, known: Option<String>) -> Result<Held, String> {
        let jwks_uri = match known {
            Some(known) => known,
            None => self.discover().await?,
        };
        let body = self.fetch.get(&jwks_uri, None).await.map_err(|why| format!("fetching keys {why}"))?;
        let set: Value = api::json::from_slice(&body).map_err(|error| format!("fetching keys: {error}"))?;
        let keys: Vec<Key> = api::value::items(&set, "keys").iter().filter_map(key).collect();
        Ok(Held { jwks_uri, keys: Arc::new(keys) })
    }

    async fn discover(&self) -> Result<String, String> {
        let body = self.fetch.get(&self.discovery, None).await?;
        let document: Value = api::json::from_slice(&body)
            .map_err(|error| format!("failed to decode provider discovery object: {error}"))?;
        let issuer = api::value::text(&document, "issuer");
        if issuer != self.issuer {
            return Err(format!(
                "issuer did not match the issuer returned by provider, expected {:?} got {issuer:?}",
                self.issuer
            ));
        }
        match api::value::text(&document, "jwks_uri") {
            "" => Err("provider did not return JWKS URL".to_owned()),
            uri => Ok(uri.to_owned()),
        }
    }
}

/// A key of a set; `None` for what no token here is signed with.
fn key(value: &Value) -> Option<Key> {
    let id = Some(api::value::text(value, "kid").to_owned()).filter(|id| !id.is_empty());
    Some(Key { id, key: signature::Key::of_set(value)? })
}

fn signed(keys: &[Key], id: Option<&str>, scheme: Scheme, message: &str, signature: &str) -> bool {
    keys.iter()
        .filter(|key| id.is_none_or(|id| key.id.as_deref().is_none_or(|own| own == id)))
        .any(|key| key.key.has_signed(scheme, message, signature))
}
