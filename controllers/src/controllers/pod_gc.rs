//! Deletes pods that nobody else will: ended ones beyond a threshold, those of nodes that are gone, and those deleted
//! before they were ever bound. It never deletes a pod that a living node still runs.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use crate::{
    controller::{Context, Controller, Error, Next, Rule, is_conflict, is_not_found},
    object, pod,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector-controller",
    aliases: &["podgc"],
    service_account: "pod-garbage-collector",
    reporter: "pod-garbage-collector-controller",
    watches: &["v1.Pod", "v1.Node"],
    rules: &[
        Rule::new(&[""], &["pods"], &["delete", "list", "watch"]),
        Rule::new(&[""], &["nodes"], &["get", "list", "watch"]),
        Rule::new(&[""], &["pods/status"], &["patch"]),
    ],
    start,
};

/// Time between sweeps.
const PERIOD: Duration = Duration::from_secs(20);
/// How long a node must be gone before its pods are.
const QUARANTINE: Duration = Duration::from_secs(40);

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let pods = context.informers.of::<Pod>();
        let nodes = context.informers.of::<Node>();
        if !pods.synced(&context.stop).await || !nodes.synced(&context.stop).await {
            return;
        }
        let queue: Arc<Queue<()>> = Arc::default();
        queue.add(());
        let missing: Arc<parking_lot::Mutex<Missing>> = Arc::default();
        context.work(CONTROLLER.name, queue, 1, move |context, ()| sweep(context, missing.clone())).await;
    }
    .boxed()
}

/// Nodes that pods name and that are not there, with the moment that was first seen.
#[derive(Debug, Default)]
struct Missing(std::collections::HashMap<String, Timestamp>);

impl Missing {
    /// Updates what is missing; returns the nodes that have been so for long enough.
    fn see(&mut self, absent: HashSet<String>, now: Timestamp) -> HashSet<String> {
        self.0.retain(|node, _| absent.contains(node));
        for node in absent {
            self.0.entry(node).or_insert(now);
        }
        let limit = i64::try_from(QUARANTINE.as_secs()).unwrap_or(i64::MAX);
        let long = self.0.iter().filter(|(_, since)| object::seconds_between(**since, now) >= limit);
        long.map(|(node, _)| node.clone()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Ended,
    Orphaned,
    Unscheduled,
    OutOfService,
}

fn plan(
    pods: &[Arc<Pod>],
    gone: &HashSet<String>,
    out_of_service: &HashSet<String>,
    threshold: usize,
) -> Vec<(Why, Arc<Pod>)> {
    let mut plan = Vec::new();
    let mut ended: Vec<_> = Vec::new();
    for one in pods {
        let node = pod::node_of(one);
        if pod::is_terminating(one) && node.is_some_and(|node| out_of_service.contains(node)) {
            plan.push((Why::OutOfService, one.clone()));
        } else if pod::is_terminal(one) && !pod::is_terminating(one) {
            ended.push(one.clone());
        }
        if node.is_some_and(|node| gone.contains(node)) {
            plan.push((Why::Orphaned, one.clone()));
        } else if pod::is_terminating(one) && node.is_none() {
            plan.push((Why::Unscheduled, one.clone()));
        }
    }
    if threshold > 0 && ended.len() > threshold {
        let surplus = ended.len() - threshold;
        let evicted = |one: &Pod| one.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
        ended.sort_by_key(|one| (!evicted(one), object::created(&one.metadata), one.metadata.name.clone()));
        plan.extend(ended.into_iter().take(surplus).map(|one| (Why::Ended, one)));
    }
    let mut seen = HashSet::new();
    plan.retain(|(_, one)| seen.insert(one.metadata.uid.clone()));
    plan
}

async fn sweep(context: Context, missing: Arc<parking_lot::Mutex<Missing>>) -> Result<Next, Error> {
    let pods = context.informers.of::<Pod>().all();
    let nodes = context.informers.of::<Node>().all();
    let known: HashSet<_> = nodes.iter().filter_map(|node| node.metadata.name.clone()).collect();
    let out_of_service = nodes
        .iter()
        .filter(|node| !pod::node_is_ready(node))
        .filter(|node| {
            let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            taints.into_iter().any(|taint| taint.key == "node.kubernetes.io/out-of-service")
        })
        .filter_map(|node| node.metadata.name.clone())
        .collect();
    let absent =
        pods.iter().filter_map(|one| pod::node_of(one)).filter(|node| !known.contains(*node)).map(str::to_owned);
    let long = missing.lock().see(absent.collect(), context.now());
    let mut gone = HashSet::new();
    for node in long {
        // The cache may be behind: the API has the last word.
        if context.cluster_api::<Node>().get_opt(&node).await?.is_none() {
            gone.insert(node);
        }
    }
    for (why, one) in plan(&pods, &gone, &out_of_service, context.options.terminated_pod_gc_threshold) {
        tracing::info!(pod = %crate::informer::Key::of(&one.metadata), ?why, "pod collected");
        if let Err(error) = collect(&context, why, &one).await {
            tracing::warn!(pod = %crate::informer::Key::of(&one.metadata), %error, "pod not collected");
        }
    }
    Ok(Next::After(PERIOD))
}

/// Ends a pod by force: first its phase, so that its owner counts it as failed, then the object.
async fn collect(context: &Context, why: Why, one: &Pod) -> Result<(), kube::Error> {
    let api: Api<Pod> = context.api(object::namespace(&one.metadata));
    let name = object::name(&one.metadata);
    if why != Why::Ended && !pod::is_terminal(one) {
        let condition = json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists", "lastTransitionTime": object::time(context.now())}]);
        let status = match why {
            Why::Orphaned => json!({"phase": "Failed", "conditions": condition}),
            Why::Ended | Why::Unscheduled | Why::OutOfService => json!({"phase": "Failed"}),
        };
        let patch = Patch::Strategic(json!({"metadata": {"uid": one.metadata.uid}, "status": status}));
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) || is_conflict(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: one.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, node: &str, phase: &str, deleted: bool, age: i64) -> Arc<Pod> {
        let created = Timestamp::from_second(1_000_000 - age).unwrap().to_string();
        let mut value = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": created},
            "spec": {"containers": []}, "status": {"phase": phase}});
        if !node.is_empty() {
            value["spec"]["nodeName"] = json!(node);
        }
        if deleted {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn each_pod_goes_for_its_reason() {
        let pods = [
            one("runs", "n1", "Running", false, 1),
            one("old", "n1", "Succeeded", false, 30),
            one("older", "n1", "Failed", false, 40),
            one("young", "n1", "Succeeded", false, 10),
            one("lost", "gone", "Running", false, 1),
            one("never-bound", "", "Pending", true, 1),
            one("waiting", "", "Pending", false, 1),
            one("stuck", "dead", "Running", true, 1),
        ];
        let set = |name: &str| HashSet::from([name.to_owned()]);
        let mut plan: Vec<_> = plan(&pods, &set("gone"), &set("dead"), 1)
            .into_iter()
            .map(|(why, one)| (object::name(&one.metadata).to_owned(), why))
            .collect();
        plan.sort();
        assert_eq!(
            plan,
            [
                ("lost".to_owned(), Why::Orphaned),
                ("never-bound".to_owned(), Why::Unscheduled),
                ("old".to_owned(), Why::Ended),
                ("older".to_owned(), Why::Ended),
                ("stuck".to_owned(), Why::OutOfService),
            ]
        );
        assert!(super::plan(&pods, &HashSet::new(), &HashSet::new(), 0).iter().all(|(why, _)| *why != Why::Ended));
    }

    #[test]
    fn a_node_must_stay_away() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut missing = Missing::default();
        let absent = || HashSet::from(["n".to_owned()]);
        assert!(missing.see(absent(), at(0)).is_empty());
        assert!(missing.see(HashSet::new(), at(39)).is_empty());
        assert!(missing.see(absent(), at(45)).is_empty(), "it was back meanwhile");
        assert_eq!(missing.see(absent(), at(85)), absent());
    }
}
