//! Keeps the status of ResourceQuotas: what they limit and how much of it is used. It never refuses anything: admission
//! does, by the objects that are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api::json::Value;
use api::quota::{self, Amounts};
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        core::v1::{Pod, ReplicationController, ResourceQuota, ResourceQuotaStatus, Service},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
};

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule, is_not_found},
    discovery::{self, Found},
    informer::{Informer, Key, Watched},
    object,
    queue::Queue,
};

impl Watched for ResourceQuota {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "resourcequota-controller",
    aliases: &["resourcequota"],
    service_account: "resourcequota-controller",
    reporter: "resourcequota-controller",
    watches: &["v1.ResourceQuota", "v1.Pod", "v1.Service", "v1.ReplicationController", "apps/v1.ReplicaSet"],
    rules: &[
        Rule::new(&["*"], &["*"], &["list", "watch"]),
        Rule::new(&[""], &["resourcequotas/status"], &["update"]),
        EVENTS,
    ],
    start,
};

/// Objects that are not watched are counted again after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// `--resource-quota-sync-period`: so are all.
const PERIOD: Duration = Duration::from_secs(300);

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let quotas = context.informers.of::<ResourceQuota>();
        let queue: Arc<Queue<Key>> = Arc::default();
        quotas.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        let synced = [
            follow::<Pod>(&context, &quotas, &queue).await,
            follow::<Service>(&context, &quotas, &queue).await,
            follow::<ReplicationController>(&context, &quotas, &queue).await,
            follow::<ReplicaSet>(&context, &quotas, &queue).await,
            quotas.synced(&context.stop).await,
        ];
        if synced == [true; 5] {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// Wakes the quotas of a namespace whenever an object of this kind in it changes.
async fn follow<K: Watched>(context: &Context, quotas: &Arc<Informer<ResourceQuota>>, queue: &Arc<Queue<Key>>) -> bool {
    let informer = context.informers.of::<K>();
    informer.subscribe({
        let (quotas, queue) = (quotas.clone(), queue.clone());
        move |change| {
            for one in quotas.in_namespace(object::namespace(change.object().meta())) {
                queue.add(Key::of(&one.metadata));
            }
        }
    });
    informer.synced(&context.stop).await
}

/// The resources, as group and plural, that the names of a quota are about.
fn counted(hard: &Amounts) -> BTreeSet<(String, String)> {
    let core = |plural: &str| (String::new(), plural.to_owned());
    hard.keys()
        .map(|name| {
            if let Some(resource) = name.strip_prefix("count/") {
                let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
                return (group.to_owned(), plural.to_owned());
            }
            match name.as_str() {
                "services" | "services.nodeports" | "services.loadbalancers" => core("services"),
                "replicationcontrollers" | "resourcequotas" | "secrets" | "configmaps" | "persistentvolumeclaims" => {
                    core(name)
                }
                "requests.storage" => core("persistentvolumeclaims"),
                name if name.contains(".storageclass.storage.k8s.io/") => core("persistentvolumeclaims"),
                _ => core("pods"),
            }
        })
        .collect()
}

/// What the objects use of what the quota limits; what nothing uses is none of it.
fn used(quota: &Value, hard: &Amounts, objects: &[((String, String), Vec<Value>)], now: i64) -> Amounts {
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), api::quantity::Quantity::ZERO)).collect();
    for ((group, plural), all) in objects {
        for one in all.iter().filter(|one| quota::covers(quota, group, plural, one)) {
            quota::add(&mut used, &quota::usage(group, plural, one, now));
        }
    }
    used.retain(|name, _| hard.contains_key(name));
    used
}

fn shown(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string()))).collect()
}

/// Whether two lists say the same amounts, however they are written.
fn same(a: Option<&BTreeMap<String, Quantity>>, b: &Amounts) -> bool {
    let read = |amount: &Quantity| api::quantity::Quantity::parse(&amount.0).ok();
    a.is_some_and(|a| a.len() == b.len() && a.iter().all(|(name, amount)| b.get(name).copied() == read(amount)))
}

fn values<K: serde::Serialize>(all: &[Arc<K>]) -> Vec<Value> {
    all.iter().filter_map(|one| api::json::to_value(&**one).ok()).collect()
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let quotas = context.informers.of::<ResourceQuota>();
    let Some(one) = quotas.get(&key) else { return Ok(Next::Done) };
    let whole = api::json::to_value(&*one).unwrap_or_default();
    let hard = quota::amounts(&whole, "spec.hard");
    let mut objects = Vec::new();
    let mut next = PERIOD;
    for (group, plural) in counted(&hard) {
        let namespace = key.namespace.as_str();
        let found = match (group.as_str(), plural.as_str()) {
            ("", "pods") => values(&context.informers.of::<Pod>().in_namespace(namespace)),
            ("", "services") => values(&context.informers.of::<Service>().in_namespace(namespace)),
            ("", "replicationcontrollers") => {
                values(&context.informers.of::<ReplicationController>().in_namespace(namespace))
            }
            ("apps", "replicasets") => values(&context.informers.of::<ReplicaSet>().in_namespace(namespace)),
            ("", "resourcequotas") => values(&quotas.in_namespace(namespace)),
            _ => {
                next = AGAIN;
                match resource(&context, &group, &plural).await? {
                    Some(found) => list(&context, &found, namespace).await?,
                    None => Vec::new(),
                }
            }
        };
        objects.push(((group, plural), found));
    }
    let used = used(&whole, &hard, &objects, context.now().as_second());
    let held = one.status.clone().unwrap_or_default();
    if !same(held.hard.as_ref(), &hard) || !same(held.used.as_ref(), &used) {
        let mut written = ResourceQuota::clone(&one);
        written.status = Some(ResourceQuotaStatus { hard: Some(shown(&hard)), used: Some(shown(&used)) });
        let api = context.api::<ResourceQuota>(&key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &written).await {
            Ok(written) => {
                quotas.saw(&written.metadata).await;
            }
            Err(error) if is_not_found(&error) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Next::After(next))
}

/// The resource as the server has it; `None` when it has none of this name.
async fn resource(context: &Context, group: &str, plural: &str) -> Result<Option<Found>, Error> {
    let core = match plural {
        "secrets" => Some("Secret"),
        "configmaps" => Some("ConfigMap"),
        "persistentvolumeclaims" => Some("PersistentVolumeClaim"),
        _ => None,
    };
    if let Some(kind) = core.filter(|_| group.is_empty()) {
        let resource = ApiResource {
            group: String::new(),
            version: "v1".to_owned(),
            api_version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        return Ok(Some(Found { resource, namespaced: true, verbs: Vec::new() }));
    }
    let found = discovery::discover(&context.client.0).await?.resources;
    Ok(found.into_iter().find(|one| one.namespaced && one.resource.group == group && one.resource.plural == plural))
}

async fn list(context: &Context, found: &Found, namespace: &str) -> Result<Vec<Value>, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.0.clone(), namespace, &found.resource);
    if found.resource.plural == "persistentvolumeclaims" {
        let all = api.list(&ListParams::default()).await?;
        return Ok(all.items.into_iter().filter_map(|one| api::json::to_value(one).ok()).collect());
    }
    // Each costs the same: their number is enough.
    let page = api.list_metadata(&ListParams::default().limit(1)).await?;
    let further = usize::try_from(page.metadata.remaining_item_count.unwrap_or(0)).unwrap_or(0);
    Ok(vec![Value::Null; page.items.len() + further])
}

#[cfg(test)]
mod tests {
    use api::json::json;

    use super::*;

    fn hard(names: impl Into<Value>) -> Amounts {
        let names: Value = names.into();
        quota::amounts(&json!({"hard": names}), "hard")
    }

    #[test]
    fn names_tell_what_is_counted() {
        let limits = hard(
            json!({"cpu": "1", "requests.memory": "1Gi", "pods": 1, "services.nodeports": 1, "count/jobs.batch": 2,
            "count/secrets": 1, "gold.storageclass.storage.k8s.io/requests.storage": "1Gi", "requests.example.com/gpu": 1}),
        );
        let found: Vec<String> =
            counted(&limits).into_iter().map(|(group, plural)| format!("{plural}.{group}")).collect();
        assert_eq!(found, ["persistentvolumeclaims.", "pods.", "secrets.", "services.", "jobs.batch"]);
    }

    #[test]
    fn usage_is_said_of_all_that_is_limited() {
        let limits = hard(json!({"cpu": "1", "pods": 5, "secrets": 3}));
        let pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "250m", "memory": "1Gi"}}}]}});
        let objects = [
            ((String::new(), "pods".to_owned()), vec![pod.clone(), pod]),
            ((String::new(), "secrets".to_owned()), vec![Value::Null; 2]),
        ];
        let found = used(&json!({}), &limits, &objects, 0);
        let expected = json!({"cpu": "500m", "pods": "2", "secrets": "2"});
        assert_eq!(api::json::to_value(shown(&found)).unwrap(), expected);
        assert!(same(Some(&shown(&found)), &found) && !same(None, &found));
        let of_others = used(&json!({"spec": {"scopes": ["BestEffort"]}}), &limits, &objects, 0);
        assert_eq!(api::json::to_value(shown(&of_others)).unwrap(), json!({"cpu": "0", "pods": "0", "secrets": "0"}));
    }
}
