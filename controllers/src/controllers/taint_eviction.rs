//! Evicts pods from nodes with a `NoExecute` taint, each after the time it tolerates it. It never sets a taint.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    controller::{self, Context, Controller, EVENTS, Error, Next, Rule, is_not_found},
    events::Note,
    informer::{Change, Key},
    object, pod,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "taint-eviction-controller",
    aliases: &["taint-eviction"],
    service_account: "node-controller",
    reporter: "taint-eviction-controller",
    watches: &["v1.Node", "v1.Pod"],
    rules: &[
        Rule::new(&[""], &["nodes"], &["delete", "get", "list", "patch", "update", "watch"]),
        Rule::new(&[""], &["pods/status"], &["patch", "update"]),
        Rule::new(&[""], &["pods"], &["delete", "get", "list", "watch"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let nodes = context.informers.of::<Node>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<Key>> = Arc::default();
        if !nodes.synced(&context.stop).await {
            return;
        }
        pods.subscribe({
            let (queue, nodes) = (queue.clone(), nodes.clone());
            move |change| {
                if let Change::Applied { new, .. } = change
                    && let Some(node) = pod::node_of(new)
                    && nodes.get(&Key::new("", node)).is_some_and(|node| !evicting(&node).is_empty())
                {
                    queue.add(Key::of(&new.metadata));
                }
            }
        });
        nodes.subscribe({
            let (queue, pods) = (queue.clone(), pods.clone());
            move |change| {
                if let Change::Applied { old, new } = change {
                    let before = old.map(|old| evicting(old)).unwrap_or_default();
                    if before != evicting(new) {
                        for one in pods.grouped(object::name(&new.metadata)) {
                            queue.add(Key::of(&one.metadata));
                        }
                    }
                }
            }
        });
        if pods.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

/// When a pod must go: `None` never, otherwise seconds from now, 0 at once. A taint without a time counts from `now`.
fn plan(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Option<u64> {
    let mut soonest: Option<i64> = None;
    for taint in taints {
        let borne: Vec<_> = tolerations.iter().filter(|one| pod::tolerates(one, taint)).collect();
        if borne.is_empty() {
            return Some(0);
        }
        // The shortest of the times that apply holds; no time at all is for ever.
        let Some(seconds) = borne.iter().filter_map(|one| one.toleration_seconds).min() else { continue };
        let since = taint.time_added.as_ref().map_or(now, |at| at.0);
        let left = (seconds.max(0) - object::seconds_between(since, now)).max(0);
        soonest = Some(soonest.map_or(left, |held| held.min(left)));
    }
    soonest.and_then(|seconds| u64::try_from(seconds).ok())
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let Some(one) = context.informers.of::<Pod>().get(&key) else { return Ok(Next::Done) };
    if pod::is_terminating(&one) || pod::is_terminal(&one) {
        return Ok(Next::Done);
    }
    let Some(node) = pod::node_of(&one).and_then(|node| context.informers.of::<Node>().get(&Key::new("", node))) else {
        return Ok(Next::Done);
    };
    let tolerations = one.spec.as_ref().and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
    match plan(&evicting(&node), &tolerations, context.now()) {
        None => Ok(Next::Done),
        Some(0) => {
            evict(&context, &key, &one).await?;
            Ok(Next::Done)
        }
        Some(seconds) => Ok(Next::After(Duration::from_secs(seconds))),
    }
}

async fn evict(context: &Context, key: &Key, one: &Pod) -> Result<(), Error> {
    let api: Api<Pod> = context.api(&key.namespace);
    context.events.record(one, Note::normal("TaintManagerEviction", format!("Marking for deletion Pod {key}")));
    let status = json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": object::time(context.now())}]});
    let patch = Patch::Strategic(json!({"metadata": {"uid": one.metadata.uid}, "status": status}));
    match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    controller::delete(&api, &key.name, one.metadata.uid.as_deref()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let taint = |key: &str| Taint {
            key: key.to_owned(),
            effect: "NoExecute".to_owned(),
            time_added: Some(object::time("2026-01-01T00:00:00Z".parse().unwrap())),
            value: None,
        };
        let bears = |key: &str, seconds: Option<i64>| Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        for (taints, tolerations, expected) in [
            (vec![], vec![], None),
            (vec![taint("a")], vec![], Some(0)),
            (vec![taint("a")], vec![bears("a", None)], None),
            (vec![taint("a")], vec![bears("a", Some(300))], Some(240)),
            (vec![taint("a")], vec![bears("a", Some(30))], Some(0)),
            (vec![taint("a"), taint("b")], vec![bears("a", Some(300)), bears("b", Some(100))], Some(40)),
            (vec![taint("a"), taint("b")], vec![bears("a", Some(300))], Some(0)),
        ] {
            assert_eq!(plan(&taints, &tolerations, now), expected, "{taints:?} {tolerations:?}");
        }
    }
}
