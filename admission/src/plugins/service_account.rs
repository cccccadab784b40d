//! `ServiceAccount`: every pod runs as a service account that exists, with a bound token mounted where it is wanted, and where the account
//! says so with the account's secrets alone. Mirrors of static pods have no account.
//!
//! Source: upstream's documentation of bound service-account token volumes and of `kubernetes.io/enforce-mountable-secrets`.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::status::Status;
use api::{pod_references, value};
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
/// On an account: its pods refer to no secrets but those that it lists.
const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";
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
            return mirror(pod).map_err(|why| request.forbidden(why));
        }
        if value::text(pod, ACCOUNT).is_empty() {
            value::set(pod, ACCOUNT, "default");
        }
        let name = value::text(pod, ACCOUNT).to_owned();
        value::set(pod, "spec.serviceAccount", name.clone());
        let account = found(request.namespace, &name, lookup).await.ok_or_else(|| absent(request, &name))?;
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
        limited(&account, pod).map_err(|why| request.forbidden(&why))
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let ephemeral = request.operation == Operation::Update && request.is("pods", "ephemeralcontainers");
        if !ephemeral && (request.operation != Operation::Create || !request.is("pods", "")) {
            return Ok(());
        }
        if !ephemeral && api::meta::annotation(pod, MIRROR).is_some() {
            return mirror(pod).map_err(|why| request.forbidden(why));
        }
        let name = value::text(pod, ACCOUNT);
        if name.is_empty() {
            let pod = format!("{}/{}", request.namespace, api::meta::name(pod));
            return Err(request.forbidden(&format!("no service account specified for pod {pod}")));
        }
        let account = match lookup.peek("", "serviceaccounts", request.namespace, name).await {
            Some(account) => account,
            None => found(request.namespace, name, lookup).await.ok_or_else(|| absent(request, name))?,
        };
        if ephemeral {
            // Upstream says this one without admission's words.
            let said = |why| Refusal(Status::foreign(500, "", why));
            return limited_in(&account, pod, &EPHEMERAL).map_err(said);
        }
        limited(&account, pod).map_err(|why| request.forbidden(&why))
    }
}

fn absent(request: &Request<'_>, name: &str) -> Refusal {
    request.forbidden(&format!(
        "error looking up service account {}/{name}: serviceaccount {name:?} not found",
        request.namespace
    ))
}

/// What the mirror of a static pod may not have.
fn mirror(pod: &Value) -> Result<(), &'static str> {
    if !value::text(pod, ACCOUNT).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if pod_references::secrets(pod).any(|name| !name.is_empty()) {
        return Err("a mirror pod may not reference secrets");
    }
    let projects = |source: &Value| value::get(source, "serviceAccountToken").is_some();
    if value::items(pod, "spec.volumes")
        .iter()
        .flat_map(|volume| value::items(volume, "projected.sources"))
        .any(projects)
    {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Lists of containers and what one of them is called.
const EPHEMERAL: [(&str, &str); 1] = [("spec.ephemeralContainers", "ephemeral container")];
const CONTAINERS: [(&str, &str); 2] = [("spec.initContainers", "init container"), ("spec.containers", "container")];

fn enforces(account: &Value) -> bool {
    let says = api::meta::annotation(account, ENFORCED);
    says.is_some_and(|says| ["1", "t", "T", "true", "TRUE", "True"].contains(&says))
}

fn names(account: &Value, list: &str, name: &str) -> bool {
    value::items(account, list).iter().any(|own| value::text(own, "name") == name)
}

/// A new pod against the secrets of its account, where the account insists on them.
fn limited(account: &Value, pod: &Value) -> Result<(), String> {
    if !enforces(account) {
        return Ok(());
    }
    let own = api::meta::name(account);
    for source in value::items(pod, "spec.volumes").iter().filter_map(|volume| value::get(volume, "secret")) {
        let name = value::text(source, "secretName");
        if !names(account, "secrets", name) {
            return Err(format!(
                "volume with secret.secretName={name:?} is not allowed because service account {own} does not reference that secret"
            ));
        }
    }
    limited_in(account, pod, &CONTAINERS)?;
    for (at, pull) in value::items(pod, "spec.imagePullSecrets").iter().enumerate() {
        let name = value::text(pull, "name");
        if !names(account, "imagePullSecrets", name) {
            return Err(format!(
                "imagePullSecrets[{at}].name={name:?} is not allowed because service account {own} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

/// The environments of containers against the same.
fn limited_in(account: &Value, pod: &Value, lists: &[(&str, &str)]) -> Result<(), String> {
    if !enforces(account) {
        return Ok(());
    }
    for (list, what) in lists {
        for container in value::items(pod, list) {
            let variables = value::items(container, "env").iter().filter_map(|variable| {
                let name = value::get(variable, "valueFrom.secretKeyRef")?;
                Some((format!("envVar {}", value::text(variable, "name")), value::text(name, "name")))
            });
            let sources = value::items(container, "envFrom").iter().filter_map(|source| {
                Some(("envFrom".to_owned(), value::text(value::get(source, "secretRef")?, "name")))
            });
            if let Some((by, name)) = variables.chain(sources).find(|(_, name)| !names(account, "secrets", name)) {
                return Err(format!(
                    "{what} {} with {by} referencing secret.secretName={name:?} is not allowed because service account {} does not reference that secret",
                    value::text(container, "name"),
                    api::meta::name(account)
                ));
            }
        }
    }
    Ok(())
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
    use crate::testing::{Ask, Cluster};

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

    /// The account `default`, which lists the secrets `own` and `pulled` and insists on them where it says so.
    fn cluster(insists: &'static str) -> Cluster {
        Cluster {
            object: Box::new(move |_, name, _| {
                (name == "default").then(|| {
                    json!({"metadata": {"name": name, "annotations": {ENFORCED: insists}},
                        "secrets": [{"name": "own"}], "imagePullSecrets": [{"name": "pulled"}]})
                })
            }),
            ..Cluster::default()
        }
    }

    #[test]
    fn an_account_may_insist_on_its_secrets() {
        let variable = |name: &str| json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]);
        let source = |name: &str| json!([{"secretRef": {"name": name}}]);
        let because = "is not allowed because service account default does not reference that";
        for (spec, why) in [
            (
                json!({"volumes": [{"secret": {"secretName": "own"}}, {"emptyDir": {}}],
                "imagePullSecrets": [{"name": "pulled"}],
                "containers": [{"name": "c", "env": variable("own"), "envFrom": source("own")}]}),
                "",
            ),
            (json!({"volumes": [{"secret": {"secretName": "other"}}]}), "volume with secret.secretName=\"other\""),
            (
                json!({"initContainers": [{"name": "i", "env": variable("other")}]}),
                "init container i with envVar V referencing secret.secretName=\"other\"",
            ),
            (
                json!({"containers": [{"name": "c", "envFrom": source("other")}]}),
                "container c with envFrom referencing secret.secretName=\"other\"",
            ),
            (json!({"imagePullSecrets": [{"name": "pulled"}, {"name": "own"}]}), "imagePullSecrets[1].name=\"own\""),
        ] {
            let pod = json!({"metadata": {"name": "a"}, "spec": spec});
            let mut whole = pod.clone();
            value::set(&mut whole, ACCOUNT, "default");
            for insists in ["true", "false", "yes"] {
                let ask = Ask { cluster: cluster(insists), ..Ask::create("", "v1", "pods") };
                let said = [ask.mutated(&PLUGIN, pod.clone()).map(drop), ask.validated(&PLUGIN, &whole)];
                for outcome in said {
                    let said = outcome.err().map(|(code, said)| (code, said.contains(why) && said.contains(because)));
                    let refused = insists == "true" && !why.is_empty();
                    assert_eq!(said, refused.then_some((403, true)), "{insists} {spec}");
                }
            }
        }
    }

    #[test]
    fn ephemeral_containers_are_limited_too() {
        let pod = |name: &str| {
            json!({"spec": {"serviceAccountName": "default", "volumes": [{"secret": {"secretName": "other"}}],
                "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": name}}]}]}})
        };
        let ask = |insists| Ask {
            operation: Operation::Update,
            subresource: "ephemeralcontainers",
            cluster: cluster(insists),
            ..Ask::create("", "v1", "pods")
        };
        assert_eq!(ask("true").validated(&PLUGIN, &pod("own")), Ok(()));
        assert_eq!(ask("false").validated(&PLUGIN, &pod("other")), Ok(()));
        let why = "ephemeral container e with envFrom referencing secret.secretName=\"other\" is not allowed because service account default does not reference that secret";
        assert_eq!(ask("true").validated(&PLUGIN, &pod("other")), Err((500, why.to_owned())));
    }

    #[test]
    fn what_is_validated_has_an_account_that_exists() {
        for (account, wanted) in [
            ("default", None),
            ("", Some("no service account specified for pod shop/a")),
            ("nobody", Some("error looking up service account shop/nobody: serviceaccount \"nobody\" not found")),
        ] {
            let pod = json!({"metadata": {"name": "a"}, "spec": {"serviceAccountName": account}});
            let ask = Ask { cluster: cluster("false"), ..Ask::create("", "v1", "pods") };
            let wanted = wanted.map(|why| (403, format!("pods \"a\" is forbidden: {why}")));
            assert_eq!(ask.validated(&PLUGIN, &pod).err(), wanted);
        }
    }

    #[test]
    fn mirrors_refer_to_nothing_secret() {
        for (spec, why) in [
            (json!({"volumes": [{"hostPath": {}}, {"projected": {"sources": [{"downwardAPI": {}}]}}]}), None),
            (json!({"serviceAccountName": "default"}), Some("reference service accounts")),
            (json!({"volumes": [{"secret": {"secretName": "own"}}]}), Some("reference secrets")),
            (json!({"containers": [{"envFrom": [{"secretRef": {"name": "own"}}]}]}), Some("reference secrets")),
            (
                json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
                Some("use ServiceAccountToken volume projections"),
            ),
        ] {
            let pod = json!({"metadata": {"name": "a", "annotations": {MIRROR: "h"}}, "spec": spec});
            let ask = Ask { cluster: cluster("true"), ..Ask::create("", "v1", "pods") };
            let refused = why.map(|why| (403, format!("pods \"a\" is forbidden: a mirror pod may not {why}")));
            assert_eq!(ask.validated(&PLUGIN, &pod).err(), refused, "{spec}");
            let unchanged = refused.map_or(Ok(pod.clone()), Err);
            assert_eq!(ask.mutated(&PLUGIN, pod), unchanged, "{spec}");
        }
    }
}
