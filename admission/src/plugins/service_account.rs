//! `ServiceAccount`: every pod runs as a service account that exists, with a bound token mounted where it is wanted.
//!
//! Source: upstream's documentation of bound service-account token volumes.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;
use std::time::Duration;

/// See the file.
pub struct ServiceAccount;

pub(crate) static PLUGIN: ServiceAccount = ServiceAccount;

/// Where containers find the token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Upstream's odd hour: the kubelet refreshes long before.
const EXPIRATION_SECONDS: i64 = 3607;
/// Marks mirrors of static pods, which need no account.
const MIRROR: &str = "kubernetes.io/config.mirror";
const ACCOUNT: &str = "spec.serviceAccountName";
/// How often the account that every namespace gets is looked for, and the time between.
const ATTEMPTS: u32 = 10;
const INTERVAL: Duration = Duration::from_millis(150);

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is("pods", "") {
            return Ok(());
        }
        if api::meta::annotation(pod, MIRROR).is_some() {
            return Ok(());
        }
        if value::text(pod, ACCOUNT).is_empty() {
            value::set(pod, ACCOUNT, "default");
        }
        let name = value::text(pod, ACCOUNT).to_owned();
        value::set(pod, "spec.serviceAccount", name.clone());
        let Some(account) = found(request.namespace, &name, lookup).await else {
            return Err(request.forbidden(&format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                request.namespace
            )));
        };
        let wanted = value::get(pod, "spec.automountServiceAccountToken")
            .or_else(|| value::get(&account, "automountServiceAccountToken"))
            .and_then(Value::as_bool)
            .unwrap_or(true);
        if wanted {
            mount(pod, request.name);
        }
        let secrets = value::items(&account, "imagePullSecrets");
        if value::items(pod, "spec.imagePullSecrets").is_empty() && !secrets.is_empty() {
            value::set(pod, "spec.imagePullSecrets", secrets.to_vec());
        }
        Ok(())
    }
}

/// The account. That of everybody is waited for: a controller makes it when it hears of the namespace.
async fn found(namespace: &str, name: &str, lookup: &dyn Lookup) -> Option<Value> {
    let attempts = if name == "default" { ATTEMPTS } else { 1 };
    for attempt in 0..attempts {
        if attempt > 0 {
            lookup.pause(INTERVAL).await;
        }
        let account = lookup.get("", "serviceaccounts", namespace, name).await;
        if account.is_some() {
            return account;
        }
    }
    None
}

/// Mounts the token into every container that does not mount something else there.
fn mount(pod: &mut Value, name: &str) {
    let existing = value::items(pod, "spec.volumes")
        .iter()
        .map(|volume| value::text(volume, "name"))
        .find(|volume| volume.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| format!("kube-api-access-{}", suffix(pod, name)));
    let mut used = false;
    for list in ["spec.initContainers", "spec.containers"] {
        for container in value::items_mut(pod, list) {
            let mut mounts = value::items(container, "volumeMounts").to_vec();
            if mounts.iter().any(|mount| value::text(mount, "mountPath") == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            value::set(container, "volumeMounts", mounts);
            used = true;
        }
    }
    if used && existing.is_none() {
        let mut volumes = value::items(pod, "spec.volumes").to_vec();
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
        value::set(pod, "spec.volumes", volumes);
    }
}

/// Five characters from the pod's identity: stable when the plugin runs twice, different between pods.
fn suffix(pod: &Value, name: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let seed = format!("{}/{name}/{}", api::meta::namespace(pod), api::meta::uid(pod));
    // FNV-1a.
    let mut hash = seed
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let base = ALPHABET.len() as u64;
    (0..5)
        .filter_map(|_| {
            let index = usize::try_from(hash % base).ok()?;
            hash /= base;
            ALPHABET.get(index).map(|byte| char::from(*byte))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Cluster;

    #[test]
    fn the_token_is_mounted_once() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"},
            {"name": "own", "volumeMounts": [{"name": "x", "mountPath": MOUNT_PATH}]}]}});
        mount(&mut pod, "a");
        let once = pod.clone();
        mount(&mut pod, "a");
        assert_eq!(pod, once);
        assert_eq!(value::items(&pod, "spec.volumes").len(), 1);
        let containers = value::items(&pod, "spec.containers");
        assert_eq!(value::items(&containers[0], "volumeMounts").len(), 1);
        assert_eq!(value::items(&containers[1], "volumeMounts").len(), 1);
    }

    #[test]
    fn the_account_of_everybody_is_waited_for() {
        for (name, late, comes, pauses) in [
            ("default", 0, true, 0),
            ("default", 3, true, 3),
            ("default", 9, true, 9),
            ("default", 10, false, 9),
            ("other", 0, true, 0),
            ("other", 1, false, 0),
        ] {
            let object = move |plural: &str, name: &str, pauses: u32| {
                assert_eq!(plural, "serviceaccounts");
                (pauses >= late).then(|| json!({"metadata": {"name": name}}))
            };
            let cluster = Cluster { object: Box::new(object), ..Cluster::default() };
            let account = futures::executor::block_on(found("a", name, &cluster));
            assert_eq!((account.is_some(), cluster.pauses.into_inner()), (comes, pauses), "{name} {late}");
        }
    }
}
