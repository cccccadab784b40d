//! `ImagePolicyWebhook`: a webhook says whether the images of a pod may be run.
//!
//! Configuration: `imagePolicy` with `kubeConfigFile`, `allowTTL` and `denyTTL` (seconds), `retryBackoff` (milliseconds) and
//! `defaultAllow`. Verdicts are kept for a while. Where the webhook does not answer, however often it is asked, `defaultAllow` decides.

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
/// How often the webhook is asked for one answer.
const ATTEMPTS: u32 = 5;
/// Seconds.
const LONGEST_TTL: i64 = 1800;
/// Milliseconds.
const LONGEST_BACKOFF: i64 = 300_000;
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";

struct Webhook {
    remote: Arc<dyn Remote>,
    /// Seconds for a yes and for a no.
    ttls: (i64, i64),
    /// Between the first two questions; half as long again each time.
    backoff: Duration,
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
        let number = |field: &str, default: i64, most: i64, unit: i64| match value::int(policy, field) {
            None | Some(0) => Ok(default),
            Some(-1) => Ok(0),
            Some(given) if (1..=most).contains(&given) => Ok(given),
            Some(given) => {
                let text = |count: i64| api::meta::duration_text(count.saturating_mul(unit));
                let (least, most, given) = (text(1), text(most), text(given));
                Err(format!("valid value is between {least} and {most}, got {given}"))
            }
        };
        let ttl = |field: &str, default: i64| number(field, default, LONGEST_TTL, 1_000_000_000);
        let backoff = number("retryBackoff", 500, LONGEST_BACKOFF, 1_000_000)?;
        let webhook = Webhook {
            remote: settings.opener.open(Path::new(file))?,
            ttls: (ttl("allowTTL", 300)?, ttl("denyTTL", 30)?),
            backoff: Duration::from_millis(u64::try_from(backoff).unwrap_or_default()),
            default_allow: value::flag(policy, "defaultAllow"),
            known: Mutex::default(),
        };
        Ok(Some(Box::new(ImagePolicyWebhook(Some(webhook)))))
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
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
            None => match webhook.ask(&spec, lookup).await {
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
    /// The review's status; asked again where another answer may come.
    async fn ask(&self, spec: &Value, lookup: &dyn Lookup) -> Result<Value, String> {
        let review = json!({"kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1",
            "metadata": {"creationTimestamp": null}, "spec": spec, "status": {"allowed": false}});
        let body = api::json::to_vec(&review).map_err(|error| error.to_string())?;
        let (mut wait, mut attempts) = (self.backoff, ATTEMPTS);
        loop {
            let why = match self.remote.post(body.clone(), PATIENCE).await {
                Ok((200..=299, answer)) => {
                    let answer: Value = api::json::from_slice(&answer).map_err(|error| error.to_string())?;
                    return Ok(answer.get("status").cloned().unwrap_or_default());
                }
                Ok((code, _)) => {
                    let why = format!("Error contacting webhook: {code}");
                    if code != 429 && code < 500 {
                        return Err(why);
                    }
                    why
                }
                Err(why) => why,
            };
            attempts -= 1;
            if attempts == 0 {
                return Err(why);
            }
            lookup.pause(wait).await;
            wait = wait.mul_f64(1.5);
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
    use crate::configured::Opener;
    use crate::testing::Ask;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// Answers in turn, the last one for ever.
    struct Answers(Vec<Result<(u16, Value), &'static str>>, AtomicUsize);

    #[async_trait]
    impl Remote for Arc<Answers> {
        async fn post(&self, _: Vec<u8>, _: Duration) -> Result<(u16, Vec<u8>), String> {
            let turn = self.1.fetch_add(1, Relaxed).min(self.0.len() - 1);
            let answer = self.0[turn].clone().map_err(str::to_owned)?;
            Ok((answer.0, answer.1.to_string().into_bytes()))
        }
    }

    impl Opener for Arc<Answers> {
        fn open(&self, _: &Path) -> Result<Arc<dyn Remote>, String> {
            Ok(Arc::new(Arc::clone(self)))
        }
    }

    fn plugin(opener: &Arc<Answers>, policy: &Value) -> Box<dyn Plugin> {
        let mut configuration = json!({"imagePolicy": {"kubeConfigFile": "/x"}});
        for (field, given) in policy.as_object().into_iter().flatten() {
            value::set(&mut configuration, &format!("imagePolicy.{field}"), given.clone());
        }
        PLUGIN.configured(&Settings { configuration: &configuration, opener }).unwrap().unwrap()
    }

    #[test]
    fn it_is_asked_again_and_its_word_is_kept() {
        let (yes, no) = (json!({"status": {"allowed": true}}), json!({"status": {"allowed": false, "reason": "old"}}));
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"image": "a"}]}});
        let forbidden = |why: &str| Some((403, format!("pods \"a\" is forbidden: {why}")));
        let denied = || forbidden("image policy webhook backend denied one or more images: old");
        let busy = || Ok((503, json!({})));
        for (answers, policy, refused, asked, pauses) in [
            (vec![Ok((200, yes.clone()))], json!({}), None, 1, 0),
            (vec![Ok((200, no.clone()))], json!({}), denied(), 1, 0),
            (vec![busy(), Err("gone"), Ok((200, yes.clone()))], json!({}), None, 3, 2),
            (vec![busy()], json!({}), forbidden("Error contacting webhook: 503"), 5, 4),
            (vec![busy()], json!({"defaultAllow": true}), None, 5, 4),
            (vec![Ok((400, json!({})))], json!({}), forbidden("Error contacting webhook: 400"), 1, 0),
        ] {
            let answers = Arc::new(Answers(answers, AtomicUsize::new(0)));
            let ask = Ask::create("", "v1", "pods");
            let found = ask.validated(plugin(&answers, &policy).as_ref(), &pod).err();
            let counted = (answers.1.load(Relaxed), ask.cluster.pauses.load(Relaxed));
            assert_eq!((found, counted), (refused, (asked, pauses)));
        }
        // A yes is kept for five minutes, a no for half of one.
        for (answer, policy, kept) in [
            (&yes, json!({}), 300),
            (&no, json!({}), 30),
            (&no, json!({"denyTTL": 7}), 7),
            (&yes, json!({"allowTTL": -1}), 0),
        ] {
            let answers = Arc::new(Answers(vec![Ok((200, answer.clone()))], AtomicUsize::new(0)));
            let plugin = plugin(&answers, &policy);
            let asked = |now: i64| {
                let _ = Ask { now, ..Ask::create("", "v1", "pods") }.validated(plugin.as_ref(), &pod);
                answers.1.load(Relaxed)
            };
            assert_eq!((asked(0), asked(kept - 1), asked(kept)), (1, 1, 2));
        }
    }

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
        for (field, given, why) in [
            ("denyTTL", 1801, "valid value is between 1s and 30m0s, got 30m1s"),
            ("allowTTL", -2, "valid value is between 1s and 30m0s, got -2s"),
            ("retryBackoff", 300_001, "valid value is between 1ms and 5m0s, got 5m0.001s"),
        ] {
            let mut configuration = json!({"imagePolicy": {"kubeConfigFile": "/x"}});
            value::set(&mut configuration, &format!("imagePolicy.{field}"), given);
            let answers = Arc::new(Answers(Vec::new(), AtomicUsize::new(0)));
            let settings = Settings { configuration: &configuration, opener: &answers };
            assert_eq!(PLUGIN.configured(&settings).err().as_deref(), Some(why));
        }
    }
}
