//! `ImagePolicyWebhook`: a webhook says whether the images of a pod may be run.
//!
//! Configuration: `imagePolicy` with `kubeConfigFile`, `allowTTL` and `denyTTL` (seconds), `retryBackoff` (milliseconds) and
//! `defaultAllow`. Verdicts are kept for a while. Where the webhook does not answer, `defaultAllow` decides.

use crate::configured::{Remote, Settings, Setup};
use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::{Map, Value, json};
use api::value;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// See the file.
#[derive(Default)]
pub struct ImagePolicyWebhook(Option<Webhook>);

pub(crate) static PLUGIN: ImagePolicyWebhook = ImagePolicyWebhook(None);

/// Verdicts that are kept.
const MOST_KEPT: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(30);
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";

struct Webhook {
    remote: Arc<dyn Remote>,
    /// Seconds for a yes and for a no.
    ttls: (i64, i64),
    default_allow: bool,
    /// Statuses by the review's `spec`, with the second until which they hold.
    known: Mutex<HashMap<String, (Value, i64)>>,
}

#[async_trait]
impl Plugin for ImagePolicyWebhook {
    fn name(&self) -> &'static str {
        "ImagePolicyWebhook"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    fn by_default(&self) -> bool {
        false
    }

    fn configured(&self, settings: &Settings<'_>) -> Setup {
        let Some(policy) = settings.configuration.get("imagePolicy") else {
            return Err("no config specified".to_owned());
        };
        let file = value::text(policy, "kubeConfigFile");
        if file.is_empty() {
            return Err("imagePolicy.kubeConfigFile: Required value".to_owned());
        }
        let ttl = |field: &str| match value::int(policy, field) {
            None | Some(0) => Ok(300),
            Some(-1) => Ok(0),
            Some(seconds) if (1..=1800).contains(&seconds) => Ok(seconds),
            Some(other) => Err(format!("valid value is between 1 and 1800 got {other} for {field}")),
        };
        let webhook = Webhook {
            remote: settings.opener.open(Path::new(file))?,
            ttls: (ttl("allowTTL")?, ttl("denyTTL")?),
            default_allow: value::flag(policy, "defaultAllow"),
            known: Mutex::default(),
        };
        Ok(Some(Box::new(ImagePolicyWebhook(Some(webhook)))))
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
        let Some(webhook) = &self.0 else { return Ok(()) };
        let concerns = request.is("pods", "") || request.is("pods", "ephemeralcontainers");
        if !concerns || !request.is_open() {
            return Ok(());
        }
        let spec = spec(pod, request.namespace, request.subresource);
        let key = spec.to_string();
        let known =
            webhook.known.lock().get(&key).filter(|(_, until)| request.now < *until).map(|(status, _)| status.clone());
        let status = match known {
            Some(status) => status,
            None => match webhook.ask(&spec).await {
                Ok(status) => {
                    webhook.keep(key, &status, request.now);
                    status
                }
                Err(_) if webhook.default_allow => {
                    request.notes.annotate(format!("{AUDIT}failed-open"), "true");
                    return Ok(());
                }
                Err(why) => return Err(request.forbidden(&why)),
            },
        };
        for (key, note) in value::get(&status, "auditAnnotations").and_then(Value::as_object).into_iter().flatten() {
            request.notes.annotate(format!("{AUDIT}{key}"), note.as_str().unwrap_or_default());
        }
        if value::flag(&status, "allowed") {
            return Ok(());
        }
        Err(request.forbidden(&match value::text(&status, "reason") {
            "" => "one or more images rejected by webhook backend".to_owned(),
            why => format!("image policy webhook backend denied one or more images: {why}"),
        }))
    }
}

fn spec(pod: &Value, namespace: &str, subresource: &str) -> Value {
    let lists: &[&str] = if subresource.is_empty() {
        &["spec.containers", "spec.initContainers"]
    } else {
        &["spec.ephemeralContainers"]
    };
    let containers = lists.iter().flat_map(|list| value::items(pod, list));
    let images: Vec<Value> = containers.map(|container| json!({"image": value::text(container, "image")})).collect();
    let annotations = value::get(pod, "metadata.annotations").and_then(Value::as_object).into_iter().flatten();
    let annotations: Map = annotations
        .filter(|(key, _)| key.contains(".image-policy.k8s.io/"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut out = json!({"containers": images, "namespace": namespace});
    if !annotations.is_empty() {
        value::set(&mut out, "annotations", annotations);
    }
    out
}

impl Webhook {
    async fn ask(&self, spec: &Value) -> Result<Value, String> {
        let review = json!({"kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1",
            "metadata": {"creationTimestamp": null}, "spec": spec, "status": {"allowed": false}});
        let body = api::json::to_vec(&review).map_err(|error| error.to_string())?;
        match self.remote.post(body, PATIENCE).await? {
            (200..=299, answer) => {
                let answer: Value = api::json::from_slice(&answer).map_err(|error| error.to_string())?;
                Ok(answer.get("status").cloned().unwrap_or_default())
            }
            (code, _) => Err(format!("Error contacting webhook: {code}")),
        }
    }

    fn keep(&self, key: String, status: &Value, now: i64) {
        let ttl = if value::flag(status, "allowed") { self.ttls.0 } else { self.ttls.1 };
        let mut known = self.known.lock();
        if known.len() >= MOST_KEPT {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MOST_KEPT {
            known.insert(key, (status.clone(), now.saturating_add(ttl)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked() {
        let pod = json!({"metadata": {"annotations": {"x.image-policy.k8s.io/a": "b", "other": "c"}},
            "spec": {"containers": [{"image": "a"}], "initContainers": [{"image": "b"}], "ephemeralContainers": [{"image": "c"}]}});
        assert_eq!(
            spec(&pod, "shop", ""),
            json!({"containers": [{"image": "a"}, {"image": "b"}], "namespace": "shop", "annotations": {"x.image-policy.k8s.io/a": "b"}})
        );
        assert_eq!(spec(&pod, "shop", "ephemeralcontainers")["containers"], json!([{"image": "c"}]));
    }

    #[test]
    fn configurations() {
        let read = |configuration: Value| {
            let settings = Settings { configuration: &configuration, opener: &crate::configured::Nobody };
            PLUGIN.configured(&settings).map(|_| ()).unwrap_err()
        };
        assert_eq!(read(Value::Null), "no config specified");
        assert!(read(json!({"imagePolicy": {}})).contains("kubeConfigFile"));
        assert!(read(json!({"imagePolicy": {"kubeConfigFile": "/x"}})).contains("/x"));
    }
}
