//! Marks tokens in secrets that were made for their service account invalid when nobody has used them for a year, and deletes them when nobody
//! has missed them for another. It never touches a token that somebody made, or one that a pod mounts.
//!
//! Source: KEP-2799.

use std::collections::{BTreeSet, HashMap};
use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use crate::{
    controller::{Context, Controller, Error, Next, Rule, is_conflict, is_not_found},
    informer::Key,
    object,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "legacy-serviceaccount-token-cleaner-controller",
    aliases: &["legacy-service-account-token-cleaner"],
    service_account: "legacy-service-account-token-cleaner",
    reporter: "legacy-service-account-token-cleaner",
    watches: &["v1.Pod", "v1.ServiceAccount"],
    rules: &[
        Rule::new(&[""], &["configmaps"], &["get"]).named(&[TRACKING]),
        Rule::new(&[""], &["secrets"], &["delete", "patch"]),
    ],
    start,
};

/// The ConfigMap in which the API server says since when uses are noted.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Time between sweeps.
const PERIOD: Duration = Duration::from_secs(24 * 3600);

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        if context.informers.of::<ServiceAccount>().synced(&context.stop).await
            && context.informers.of::<Pod>().synced(&context.stop).await
        {
            let queue: Arc<Queue<()>> = Arc::default();
            queue.add(());
            context.work(CONTROLLER.name, queue, 1, |context, ()| sweep(context)).await;
        }
    }
    .boxed()
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// The day that a text of the form `2026-01-31` names.
fn read(text: &str) -> Option<Date> {
    text.parse().ok().filter(|_| text.len() == "2026-01-31".len())
}

/// What becomes of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Invalid,
    Deleted,
}

/// When what was made or used last is old.
#[derive(Clone, Copy, Debug)]
struct Age {
    made: Timestamp,
    used: Date,
}

impl Age {
    /// None while uses have not been noted for as long as that.
    fn new(now: Timestamp, period: Duration, since: Date) -> Option<Age> {
        let made = now - period;
        // They have been for all of a day only from the next one on.
        let noted = since.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
        (made >= noted).then(|| Age { made, used: day(made) })
    }
}

/// Decides by the secret and its account, and by whether a pod uses it, which is asked only where it matters.
fn fate(secret: &Secret, account: Option<&ServiceAccount>, age: Age, is_used: impl FnOnce() -> bool) -> Fate {
    let meta = &secret.metadata;
    let last_used = object::label(meta, LAST_USED).map(read);
    let young = object::created(meta) >= age.made
        || meta.deletion_timestamp.is_some()
        // What is no day says nothing.
        || last_used.is_some_and(|used| used.is_none_or(|used| used >= age.used));
    let uid = object::annotation(meta, ACCOUNT_UID).unwrap_or_default();
    let lists = |account: &ServiceAccount| {
        let listed = account.secrets.iter().flatten().any(|one| one.name.as_deref() == Some(object::name(meta)));
        listed && (uid.is_empty() || uid == object::uid(&account.metadata))
    };
    if young || !account.is_some_and(lists) || is_used() {
        return Fate::Stays;
    }
    match object::label(meta, INVALID_SINCE).and_then(read) {
        None => Fate::Invalid,
        Some(since) if since >= age.used => Fate::Stays,
        Some(_) => Fate::Deleted,
    }
}

/// Names of the secrets that a pod uses, in whatever way.
fn secrets_of(pod: &Pod) -> BTreeSet<String> {
    /// Keys below which a secret of the pod's namespace is named, with the key of the name there.
    const PLACES: [(&str, &str); 6] = [
        ("secretRef", "name"),
        ("secretKeyRef", "name"),
        ("nodePublishSecretRef", "name"),
        ("imagePullSecrets", "name"),
        ("secret", "name"),
        ("secret", "secretName"),
    ];
    fn gather(value: &serde_json::Value, under: &str, names: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    if let Some(name) = value.as_str()
                        && (PLACES.contains(&(under, key)) || (under, key.as_str()) == ("azureFile", "secretName"))
                    {
                        names.insert(name.to_owned());
                    }
                    gather(value, key, names);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| gather(item, under, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    // Every kind of volume has places of its own: what is looked for is what they have in common.
    if let Ok(spec) = serde_json::to_value(&pod.spec) {
        gather(&spec, "", &mut names);
    }
    names
}

async fn sweep(context: Context) -> Result<Next, Error> {
    let tracking = context.api::<ConfigMap>("kube-system").get(TRACKING).await?;
    let since = tracking.data.as_ref().and_then(|data| data.get("since")).and_then(|since| read(since));
    let since = since.ok_or_else(|| Error::NotYet(format!("{TRACKING} does not say since when uses are noted")))?;
    let now = context.now();
    let Some(age) = Age::new(now, context.options.legacy_token_clean_up_period, since) else {
        return Ok(Next::After(PERIOD));
    };
    let tokens = ListParams::default().fields("type=kubernetes.io/service-account-token");
    let (accounts, pods) = (context.informers.of::<ServiceAccount>(), context.informers.of::<Pod>());
    let mut used: HashMap<String, BTreeSet<String>> = HashMap::new();
    for secret in context.informers.list::<Secret>(&tokens).await? {
        let (namespace, name) = (object::namespace(&secret.metadata), object::name(&secret.metadata));
        let account = object::annotation(&secret.metadata, ACCOUNT);
        let account = account.and_then(|account| accounts.get(&Key::new(namespace, account)));
        let is_used = || {
            let of = || pods.in_namespace(namespace).iter().flat_map(|pod| secrets_of(pod)).collect();
            used.entry(namespace.to_owned()).or_insert_with(of).contains(name)
        };
        let api = context.api::<Secret>(namespace);
        match fate(&secret, account.as_deref(), age, is_used) {
            Fate::Stays => {}
            Fate::Invalid => {
                tracing::info!(namespace, name, "a token that nobody uses is marked invalid");
                let labels = json!({INVALID_SINCE: day(now).to_string()});
                let patch = json!({"metadata": {"uid": secret.metadata.uid, "labels": labels}});
                ordinary(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)?;
            }
            Fate::Deleted => {
                tracing::info!(namespace, name, "a token that nobody uses is deleted");
                let resource_version = secret.metadata.resource_version.clone();
                let preconditions = Some(Preconditions { resource_version, uid: None });
                ordinary(api.delete(name, &DeleteParams { preconditions, ..DeleteParams::default() }).await)?;
            }
        }
    }
    Ok(Next::After(PERIOD))
}

/// Another one now, or gone: the next sweep sees what it is.
fn ordinary<T>(done: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(error) if !is_conflict(&error) && !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOW: &str = "2026-06-15T12:00:00Z";
    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    #[test]
    fn uses_must_have_been_noted_for_long_enough() {
        for (since, want) in [("2025-06-13", true), ("2025-06-14", true), ("2025-06-15", false), ("2026-06-01", false)]
        {
            let age = Age::new(NOW.parse().unwrap(), YEAR, read(since).unwrap());
            assert_eq!(age.is_some(), want, "{since}");
            if let Some(age) = age {
                assert_eq!(
                    (age.made.to_string().as_str(), age.used.to_string().as_str()),
                    ("2025-06-15T12:00:00Z", "2025-06-15")
                );
            }
        }
        for text in ["", "2026-1-31", "2026-02-30", "yesterday"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_nobody_uses_is_marked_first_and_deleted_later() {
        let secret = |change: Value| -> Secret {
            let mut meta = json!({"name": "till-token", "namespace": "shop", "creationTimestamp": "2024-01-01T00:00:00Z",
                "annotations": {ACCOUNT: "till", ACCOUNT_UID: "u1"}});
            for (key, value) in change.as_object().unwrap() {
                meta[key] = value.clone();
            }
            serde_json::from_value(json!({"metadata": meta})).unwrap()
        };
        let account = |secrets: &[&str]| -> ServiceAccount {
            let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
            serde_json::from_value(json!({"metadata": {"name": "till", "uid": "u1"}, "secrets": secrets})).unwrap()
        };
        let age = Age::new(NOW.parse().unwrap(), YEAR, read("2020-01-01").unwrap()).unwrap();
        let lists = account(&["other", "till-token"]);
        let check = |change: Value, account: Option<&ServiceAccount>, used: bool, want: Fate| {
            assert_eq!(fate(&secret(change.clone()), account, age, || used), want, "{change} {used}");
        };
        let labels = |used: Option<&str>, invalid: Option<&str>| {
            let mut labels = json!({});
            for (key, value) in [(LAST_USED, used), (INVALID_SINCE, invalid)] {
                if let Some(value) = value {
                    labels[key] = value.into();
                }
            }
            json!({"labels": labels})
        };
        check(json!({}), Some(&lists), false, Fate::Invalid);
        check(json!({}), Some(&lists), true, Fate::Stays);
        check(json!({}), Some(&account(&["other"])), false, Fate::Stays);
        check(json!({}), None, false, Fate::Stays);
        check(json!({"annotations": {ACCOUNT: "till", ACCOUNT_UID: "u2"}}), Some(&lists), false, Fate::Stays);
        check(json!({"annotations": {ACCOUNT: "till"}}), Some(&lists), false, Fate::Invalid);
        check(json!({"creationTimestamp": "2025-06-15T12:00:00Z"}), Some(&lists), false, Fate::Stays);
        check(json!({"deletionTimestamp": "2026-06-15T12:00:00Z"}), Some(&lists), false, Fate::Stays);
        check(labels(Some("2025-06-15"), None), Some(&lists), false, Fate::Stays);
        check(labels(Some("2025-06-14"), None), Some(&lists), false, Fate::Invalid);
        check(labels(Some("long ago"), None), Some(&lists), false, Fate::Stays);
        check(labels(None, Some("2025-06-15")), Some(&lists), false, Fate::Stays);
        check(labels(None, Some("2025-06-14")), Some(&lists), false, Fate::Deleted);
        check(labels(None, Some("nonsense")), Some(&lists), false, Fate::Invalid);
    }

    #[test]
    fn every_use_of_a_secret_counts() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "from"}}]}],
            "containers": [{"name": "c", "env": [
                {"name": "E", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
                {"name": "F", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "mounted"}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "no"}}]}},
                {"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
                {"name": "d", "azureFile": {"secretName": "azure", "shareName": "no"}},
                {"name": "e", "flexVolume": {"driver": "d", "secretRef": {"name": "flex"}}}],
        }})).unwrap();
        let names = secrets_of(&pod);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(names, ["azure", "csi", "flex", "from", "key", "mounted", "projected", "pull"]);
    }
}
