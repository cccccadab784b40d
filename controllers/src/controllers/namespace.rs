//! Empties a namespace that was deleted and lets it go: pods first, then everything else that discovery names, then
//! the `kubernetes` finalizer. It never touches a namespace that was not deleted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    core::discovery::verbs,
};

use crate::{
    controller::{self, Context, Controller, Error, Next, Rule, is_not_found},
    discovery::{self, Found},
    informer::{Change, Key, Watched},
    object,
    queue::Queue,
};

impl Watched for Namespace {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    aliases: &["namespace"],
    service_account: "namespace-controller",
    reporter: "namespace-controller",
    watches: &["v1.Namespace", "v1.Pod"],
    rules: &[
        Rule::new(&[""], &["namespaces"], &["delete", "get", "list", "watch"]),
        Rule::new(&[""], &["namespaces/finalize", "namespaces/status"], &["update"]),
        Rule::new(&["*"], &["*"], &["delete", "deletecollection", "get", "list", "watch"]),
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let namespaces = context.informers.of::<Namespace>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<String>> = Arc::default();
        namespaces.subscribe({
            let queue = queue.clone();
            move |change| {
                if let Change::Applied { new, .. } = change
                    && new.metadata.deletion_timestamp.is_some()
                {
                    queue.add(object::name(&new.metadata).to_owned());
                }
            }
        });
        pods.subscribe({
            let (queue, namespaces) = (queue.clone(), namespaces.clone());
            move |change| {
                if let Change::Deleted(pod) = change {
                    let name = object::namespace(&pod.metadata);
                    if namespaces.get(&Key::new("", name)).is_some_and(|one| one.metadata.deletion_timestamp.is_some())
                    {
                        queue.add(name.to_owned());
                    }
                }
            }
        });
        if namespaces.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers * 2, reconcile).await;
        }
    }
    .boxed()
}

/// What was found in a namespace after its content was deleted.
#[derive(Clone, Debug, Default)]
struct Content {
    discovery_failures: Vec<String>,
    deletion_failures: Vec<String>,
    /// Objects that remain, by `resource.group`.
    remaining: BTreeMap<String, usize>,
    /// How many of them each finalizer holds.
    finalizers: BTreeMap<String, usize>,
    /// How long the pods that end may take.
    grace: Duration,
}

impl Content {
    fn is_gone(&self) -> bool {
        self.remaining.is_empty() && self.deletion_failures.is_empty() && self.discovery_failures.is_empty()
    }
}

async fn reconcile(context: Context, name: String) -> Result<Next, Error> {
    let api: Api<Namespace> = context.cluster_api();
    let Some(mut namespace) = api.get_opt(&name).await? else { return Ok(Next::Done) };
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    if namespace.metadata.deletion_timestamp.is_none() || finalizers.count() == 0 {
        return Ok(Next::Done);
    }
    if namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
        namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        namespace = api.replace_status(&name, &PostParams::default(), &namespace).await?;
    }
    let content = empty(&context.client.0, &name).await?;
    let mut conditions = namespace.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    if merge(&mut conditions, conditions_of(&content), context.now()) {
        namespace.status.get_or_insert_default().conditions = Some(conditions);
        namespace = api.replace_status(&name, &PostParams::default(), &namespace).await?;
    }
    if !content.is_gone() {
        return Ok(Next::After((content.grace / 2 + Duration::from_secs(1)).min(Duration::from_secs(15))));
    }
    if let Some(spec) = &mut namespace.spec {
        spec.finalizers.get_or_insert_default().retain(|finalizer| finalizer != "kubernetes");
    }
    match api.replace_subresource("finalize", &name, &PostParams::default(), &namespace).await {
        Ok(_) => Ok(Next::Done),
        Err(error) if is_not_found(&error) => Ok(Next::Done),
        Err(error) => Err(error.into()),
    }
}

/// Deletes what a namespace holds and reports what remains. Nothing else is touched while pods remain, so that what
/// they depend on outlives them.
async fn empty(client: &Client, namespace: &str) -> Result<Content, Error> {
    let discovered = discovery::discover(client).await?;
    let mut content = Content {
        discovery_failures: discovered
            .failures
            .into_iter()
            .map(|(version, error)| format!("{version}: {error}"))
            .collect(),
        ..Content::default()
    };
    let deletable = discovered.resources.into_iter().filter(|found| found.namespaced && found.has(verbs::DELETE));
    let (pods, others): (Vec<_>, Vec<_>) = deletable.partition(|found| found.group_resource() == "pods");
    for found in &pods {
        empty_resource(client, namespace, found, &mut content).await;
    }
    if content.remaining.is_empty() && content.deletion_failures.is_empty() {
        let tasks = others.into_iter().map(|found| {
            let (client, namespace) = (client.clone(), namespace.to_owned());
            async move {
                let mut part = Content::default();
                empty_resource(&client, &namespace, &found, &mut part).await;
                part
            }
        });
        let parts: Vec<_> = futures::stream::iter(tasks).buffer_unordered(8).collect().await;
        for part in parts {
            content.deletion_failures.extend(part.deletion_failures);
            content.remaining.extend(part.remaining);
            for (finalizer, count) in part.finalizers {
                *content.finalizers.entry(finalizer).or_default() += count;
            }
        }
    }
    Ok(content)
}

async fn empty_resource(client: &Client, namespace: &str, found: &Found, content: &mut Content) {
    if !found.has(verbs::LIST) {
        return;
    }
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &found.resource);
    let outcome: Result<(), kube::Error> = async {
        let before = api.list_metadata(&ListParams::default()).await?;
        if before.items.is_empty() {
            return Ok(());
        }
        if found.has(verbs::DELETE_COLLECTION) {
            api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        } else {
            for one in before.items.iter().filter(|one| one.metadata.deletion_timestamp.is_none()) {
                controller::delete(&api, object::name(&one.metadata), one.metadata.uid.as_deref()).await?;
            }
        }
        let after = api.list_metadata(&ListParams::default()).await?;
        if !after.items.is_empty() {
            content.remaining.insert(format!("{}.{}", found.resource.plural, found.resource.group), after.items.len());
        }
        for one in &after.items {
            for finalizer in one.metadata.finalizers.iter().flatten() {
                *content.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            if found.resource.plural == "pods" {
                let seconds = one.metadata.deletion_grace_period_seconds.unwrap_or(0);
                content.grace = content.grace.max(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
            }
        }
        Ok(())
    }
    .await;
    match outcome {
        Ok(()) => {}
        // A resource that vanished, or that does not take this verb after all, holds nothing of the namespace.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => {}
        Err(error) => {
            content.deletion_failures.push(format!("{}: {}", found.group_resource(), controller::message(&error)));
        }
    }
}

/// The five conditions, as (type, holds, reason, message).
fn conditions_of(content: &Content) -> Vec<(&'static str, bool, &'static str, String)> {
    let pick = |type_, bad: bool, reasons: (&'static str, &'static str), fine: &str, message: String| {
        if bad { (type_, true, reasons.1, message) } else { (type_, false, reasons.0, fine.to_owned()) }
    };
    let list = |counts: &BTreeMap<String, usize>, verb: &str| {
        let words: Vec<_> =
            counts.iter().map(|(name, count)| format!("{name} {verb} {count} resource instances")).collect();
        words.join(", ")
    };
    vec![
        pick(
            "NamespaceDeletionDiscoveryFailure",
            !content.discovery_failures.is_empty(),
            ("ResourcesDiscovered", "DiscoveryFailed"),
            "All resources successfully discovered",
            format!(
                "Discovery failed for some groups, {} failing: {}",
                content.discovery_failures.len(),
                content.discovery_failures.join(", ")
            ),
        ),
        pick(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            ("ParsedGroupVersions", "GroupVersionParsingFailed"),
            "All legacy kube types successfully parsed",
            String::new(),
        ),
        pick(
            "NamespaceDeletionContentFailure",
            !content.deletion_failures.is_empty(),
            ("ContentDeleted", "ContentDeletionFailed"),
            "All content successfully deleted, may be waiting on finalization",
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                content.deletion_failures.len(),
                content.deletion_failures.join(", ")
            ),
        ),
        pick(
            "NamespaceContentRemaining",
            !content.remaining.is_empty(),
            ("ContentRemoved", "SomeResourcesRemain"),
            "All content successfully removed",
            format!("Some resources are remaining: {}", list(&content.remaining, "has")),
        ),
        pick(
            "NamespaceFinalizersRemaining",
            !content.finalizers.is_empty(),
            ("ContentHasNoFinalizers", "SomeFinalizersRemain"),
            "All content-preserving finalizers finished",
            format!("Some content in the namespace has finalizers remaining: {}", list(&content.finalizers, "in")),
        ),
    ]
}

/// Merges conditions into those held; whether anything changed. A condition that never was True is still written.
fn merge(
    held: &mut Vec<NamespaceCondition>,
    wanted: Vec<(&'static str, bool, &'static str, String)>,
    now: Timestamp,
) -> bool {
    let mut changed = false;
    for (type_, holds, reason, message) in wanted {
        let status = if holds { "True" } else { "False" };
        let fresh = NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(object::time(now)),
        };
        match held.iter_mut().find(|one| one.type_ == type_) {
            Some(one) if one.status == fresh.status && one.reason == fresh.reason && one.message == fresh.message => {}
            Some(one) => {
                let kept = if one.status == fresh.status { one.last_transition_time.take() } else { None };
                let at = kept.or_else(|| fresh.last_transition_time.clone());
                *one = NamespaceCondition { last_transition_time: at, ..fresh };
                changed = true;
            }
            None => {
                held.push(fresh);
                changed = true;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_remains() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut held = Vec::new();
        let content = Content {
            remaining: [("pods.".to_owned(), 2)].into(),
            finalizers: [("x.io/f".to_owned(), 1)].into(),
            ..Content::default()
        };
        assert!(!content.is_gone());
        assert!(merge(&mut held, conditions_of(&content), now));
        assert!(!merge(&mut held, conditions_of(&content), now), "nothing changed");
        let words: Vec<_> = held
            .iter()
            .map(|one| {
                format!(
                    "{}={} {}: {}",
                    one.type_,
                    one.status,
                    one.reason.clone().unwrap(),
                    one.message.clone().unwrap()
                )
            })
            .collect();
        assert_eq!(
            words,
            [
                "NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered",
                "NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed",
                "NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization",
                "NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: pods. has 2 resource instances",
                "NamespaceFinalizersRemaining=True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: x.io/f in 1 resource instances",
            ]
        );
        assert!(merge(&mut held, conditions_of(&Content::default()), now));
        assert!(held.iter().all(|one| one.status == "False"));
    }
}
