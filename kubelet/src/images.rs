//! Images of containers: present already, pulled by policy, or refused, with upstream's reasons and events.

use std::collections::BTreeMap;

use base64::Engine as _;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::backoff::Backoff;
use crate::cri::{Cri, v1};
use crate::events::{Recorder, about_pod};
use crate::model;
use crate::objects::Objects;

/// Why a container has no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageError {
    /// The container's waiting reason.
    pub reason: &'static str,
    /// Sentence shown with it.
    pub message: String,
    /// When trying again makes sense, if known.
    pub retry_at: Option<Timestamp>,
}

/// Provider of images. Keeps the delays between failed pulls.
pub struct Images {
    cri: Cri,
    backoff: Mutex<Backoff>,
    /// Why the last pull failed, by back-off key.
    failures: Mutex<BTreeMap<String, String>>,
}

/// Registry of an image reference, by the rules of docker references.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// Whether a text can be an image reference.
fn valid(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or_default();
    let after_slash = name.rsplit('/').next().unwrap_or_default();
    let (path, tag) = match after_slash.split_once(':') {
        Some((_, tag)) => (name.get(..name.len().saturating_sub(tag.len() + 1)).unwrap_or_default(), Some(tag)),
        None => (name, None),
    };
    let tag_fits = tag.is_none_or(|tag| {
        !tag.is_empty() && tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    });
    let repository = path.strip_prefix(registry(path)).unwrap_or(path);
    let path_fits = !path.is_empty()
        && path.split('/').all(|part| !part.is_empty())
        && repository.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/:".contains(c));
    tag_fits && path_fits
}

/// Credentials for an image among the pull secrets of a pod.
fn credentials(image: &str, secrets: &[core::Secret]) -> Option<v1::AuthConfig> {
    let wanted = registry(image);
    for secret in secrets {
        let data = secret.data.as_ref()?;
        let text = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg"));
        let Some(value) = text.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text.0).ok()) else {
            continue;
        };
        let auths = value.get("auths").unwrap_or(&value).as_object().cloned().unwrap_or_default();
        for (server, entry) in auths {
            let host = server.trim_start_matches("https://").trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or_default();
            let hub = wanted == "docker.io" && host == "index.docker.io";
            if host != wanted && !hub {
                continue;
            }
            let field = |name: &str| entry.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            let (mut username, mut password) = (field("username"), field("password"));
            if let Ok(decoded) = base64::engine::general_purpose::STANDARD.decode(field("auth"))
                && let Ok(text) = String::from_utf8(decoded)
                && let Some((user, secret)) = text.split_once(':')
            {
                (username, password) = (user.to_owned(), secret.to_owned());
            }
            return Some(v1::AuthConfig {
                username,
                password,
                identity_token: field("identitytoken"),
                server_address: server,
                ..v1::AuthConfig::default()
            });
        }
    }
    None
}

impl Images {
    /// A provider over one runtime.
    pub fn new(cri: Cri) -> Self {
        Self { cri, backoff: Mutex::new(Backoff::upstream()), failures: Mutex::default() }
    }

    /// Makes sure that a container's image is present.
    ///
    /// # Errors
    /// The reason to show and when to try again.
    pub async fn ensure(
        &self,
        pod: &core::Pod,
        container: &core::Container,
        sandbox: v1::PodSandboxConfig,
        objects: &Objects,
        events: &Recorder,
    ) -> Result<v1::Image, ImageError> {
        let image = container.image.clone().unwrap_or_default();
        let about = || about_pod(pod, Some(&container.name));
        if !valid(&image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            events.warning(about(), "InspectFailed", message.clone());
            return Err(ImageError { reason: "InvalidImageName", message, retry_at: None });
        }
        let present = self.cri.image_status(&image).await.map_err(|error| {
            let message = format!("Failed to inspect image {image:?}: {error}");
            events.warning(about(), "InspectFailed", message.clone());
            ImageError { reason: "ImageInspectError", message, retry_at: None }
        })?;
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        match (policy, present) {
            ("IfNotPresent" | "Never", Some(found)) => {
                let message =
                    format!("Container image {image:?} already present on machine and can be accessed by the pod");
                events.normal(about(), "Pulled", message);
                Ok(found)
            }
            ("Never", None) => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                events.warning(about(), "ErrImageNeverPull", message.clone());
                Err(ImageError { reason: "ErrImageNeverPull", message, retry_at: None })
            }
            _ => self.pull(pod, container, &image, sandbox, objects, events).await,
        }
    }

    async fn pull(
        &self,
        pod: &core::Pod,
        container: &core::Container,
        image: &str,
        sandbox: v1::PodSandboxConfig,
        objects: &Objects,
        events: &Recorder,
    ) -> Result<v1::Image, ImageError> {
        let about = || about_pod(pod, Some(&container.name));
        let key = format!("{}_{image}", model::uid(pod));
        let pending = {
            let backoff = self.backoff.lock();
            backoff.updated(&key).and_then(|since| backoff.pending(&key, since, Timestamp::now()))
        };
        if let Some((_, end)) = pending {
            let message = format!("Back-off pulling image {image:?}");
            events.normal(about(), "BackOff", message.clone());
            let before = self.failures.lock().get(&key).cloned();
            let message = before.map_or(message.clone(), |before| format!("{message}: ErrImagePull: {before}"));
            return Err(ImageError { reason: "ImagePullBackOff", message, retry_at: Some(end) });
        }
        let secrets = pull_secrets(pod, objects).await;
        events.normal(about(), "Pulling", format!("Pulling image {image:?}"));
        let began = Timestamp::now();
        let pulled = self.cri.pull_image(image, credentials(image, &secrets), sandbox).await;
        let now = Timestamp::now();
        let found = match pulled {
            Ok(reference) => self.cri.image_status(&reference).await.ok().flatten(),
            Err(error) => {
                self.backoff.lock().next(&key, now);
                self.failures.lock().insert(key, error.to_string());
                let message = format!("failed to pull and unpack image {image:?}: {error}");
                events.warning(about(), "Failed", format!("Failed to pull image {image:?}: {error}"));
                return Err(ImageError { reason: "ErrImagePull", message, retry_at: None });
            }
        };
        self.backoff.lock().reset(&key);
        self.failures.lock().remove(&key);
        let found = found.ok_or_else(|| ImageError {
            reason: "ErrImagePull",
            message: format!("image {image:?} is not there after its pull"),
            retry_at: None,
        })?;
        let took = now.duration_since(began).as_millis();
        let size = found.size;
        let message = format!(
            "Successfully pulled image {image:?} in {took}ms ({took}ms including waiting). Image size: {size} bytes."
        );
        events.normal(about(), "Pulled", message);
        Ok(found)
    }
}

async fn pull_secrets(pod: &core::Pod, objects: &Objects) -> Vec<core::Secret> {
    let mut secrets = Vec::new();
    for reference in pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()) {
        match objects.secret(model::namespace(pod), &reference.name).await {
            Ok(found) => secrets.extend(found),
            Err(error) => tracing::warn!(%error, secret = reference.name, "pull secret not read"),
        }
    }
    secrets
}

/// Images for the node's status: largest first, by all their names, at most `most`.
pub fn listed(images: Vec<v1::Image>, most: usize) -> Vec<core::ContainerImage> {
    let mut by_id: BTreeMap<String, v1::Image> = images.into_iter().map(|image| (image.id.clone(), image)).collect();
    let mut list: Vec<v1::Image> = std::mem::take(&mut by_id).into_values().collect();
    list.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    list.truncate(most);
    list.into_iter()
        .map(|image| {
            let mut names = image.repo_digests;
            names.extend(image.repo_tags);
            names.truncate(5);
            core::ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_their_registries() {
        let cases = [
            ("busybox", "docker.io", true),
            ("localhost/busybox:1", "localhost", true),
            ("127.0.0.1:5000/a/b:v1", "127.0.0.1:5000", true),
            ("registry.k8s.io/pause:3.10@sha256:abc", "registry.k8s.io", true),
            ("Busybox", "docker.io", false),
            ("a b", "docker.io", false),
            ("", "docker.io", false),
            ("a:", "docker.io", false),
        ];
        for (image, host, fits) in cases {
            assert_eq!((registry(image), valid(image)), (host, fits), "{image}");
        }
    }

    #[test]
    fn credentials_by_registry() {
        let config = r#"{"auths":{"https://r.example/v1/":{"auth":"dTpw"},"other":{"username":"x"}}}"#;
        let encoded = base64::engine::general_purpose::STANDARD.encode(config);
        let secret: core::Secret =
            serde_json::from_value(serde_json::json!({"data": {".dockerconfigjson": encoded}})).unwrap();
        let found = credentials("r.example/a:1", std::slice::from_ref(&secret)).unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p"));
        assert!(credentials("busybox", &[secret]).is_none());
    }
}
