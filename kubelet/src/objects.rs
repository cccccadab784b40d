//! ConfigMaps, Secrets and service-account tokens of the pods on this node, read through the API and kept for a moment,
//! so that many pods with the same source cost one read.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;

use crate::env::{Sources, references};
use crate::model;

/// How long an object is served from memory, to a pod that starts and to one whose files are refreshed.
const FRESH: Duration = Duration::from_secs(2);

type Key = (String, String);

struct Cache<T> {
    entries: Mutex<HashMap<Key, (Instant, Option<T>)>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { entries: Mutex::new(HashMap::new()) }
    }
}

impl<T: Clone> Cache<T> {
    async fn get<F>(&self, namespace: &str, name: &str, read: F) -> Result<Option<T>, kube::Error>
    where
        F: Future<Output = Result<Option<T>, kube::Error>>,
    {
        let key = (namespace.to_owned(), name.to_owned());
        let now = Instant::now();
        if let Some((_, value)) =
            self.entries.lock().get(&key).filter(|(at, value)| value.is_some() && now - *at < FRESH)
        {
            return Ok(value.clone());
        }
        let value = read.await?;
        let mut entries = self.entries.lock();
        if entries.len() > 512 {
            entries.retain(|_, (at, _)| now.saturating_duration_since(*at) < FRESH);
        }
        entries.insert(key, (now, value.clone()));
        Ok(value)
    }
}

struct Token {
    text: String,
    renew_at: Timestamp,
}

/// Reader of what pods refer to.
pub struct Objects {
    client: kube::Client,
    config_maps: Cache<core::ConfigMap>,
    secrets: Cache<core::Secret>,
    tokens: Mutex<HashMap<String, Token>>,
}

impl Objects {
    /// A reader with the node's identity.
    pub fn new(client: kube::Client) -> Self {
        Self { client, config_maps: Cache::default(), secrets: Cache::default(), tokens: Mutex::default() }
    }

    /// A ConfigMap, `None` when there is none.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<core::ConfigMap>, kube::Error> {
        let api: Api<core::ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        self.config_maps.get(namespace, name, api.get_opt(name)).await
    }

    /// A Secret, `None` when there is none.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<core::Secret>, kube::Error> {
        let api: Api<core::Secret> = Api::namespaced(self.client.clone(), namespace);
        self.secrets.get(namespace, name, api.get_opt(name)).await
    }

    /// Everything that a container's environment refers to.
    pub async fn sources(&self, namespace: &str, container: &core::Container) -> Result<Sources, kube::Error> {
        let (config_maps, secrets) = references(container);
        let mut sources = Sources::default();
        for name in config_maps {
            let value = self.config_map(namespace, &name).await?;
            sources.config_maps.insert(name, value);
        }
        for name in secrets {
            let value = self.secret(namespace, &name).await?;
            sources.secrets.insert(name, value);
        }
        Ok(sources)
    }

    /// A token of the pod's service account, bound to the pod, renewed after four fifths of its life or a day.
    pub async fn token(&self, pod: &core::Pod, audience: Option<&str>, seconds: i64) -> Result<String, kube::Error> {
        let namespace = model::namespace(pod);
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let audience = audience.filter(|text| !text.is_empty());
        let key = format!("{}/{account}/{}/{seconds}", model::uid(pod), audience.unwrap_or_default());
        let now = Timestamp::now();
        if let Some(token) = self.tokens.lock().get(&key).filter(|token| token.renew_at > now) {
            return Ok(token.text.clone());
        }
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.map(|text| vec![text.to_owned()]),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(model::name(pod).to_owned()),
                    uid: Some(model::uid(pod).to_owned()),
                }),
                expiration_seconds: Some(seconds),
            }),
            ..TokenRequest::default()
        };
        let api: Api<core::ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let answer: TokenRequest = api.create_subresource("token", account, &PostParams::default(), &request).await?;
        let status = answer.status.unwrap_or_default();
        let text = status.token.unwrap_or_default();
        let end = status.expiration_timestamp.map_or(now, |time| time.0);
        let life = end.duration_since(now);
        let keep = (life * 4 / 5).min(SignedDuration::from_hours(24));
        let renew_at = now.checked_add(keep).unwrap_or(now);
        self.tokens.lock().insert(key, Token { text: text.clone(), renew_at });
        Ok(text)
    }

    /// Forgets the tokens of a pod.
    pub fn forget(&self, uid: &str) {
        let prefix = format!("{uid}/");
        self.tokens.lock().retain(|key, _| !key.starts_with(&prefix));
    }
}
