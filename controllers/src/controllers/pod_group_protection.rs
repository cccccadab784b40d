//! Keeps pod groups that are deleted as long as pods that have not ended refer to them (finalizer
//! `scheduling.k8s.io/podgroup-protection`, KEP-4671). It deletes nothing, and protects nothing: admission does.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{core::v1::Pod, scheduling::v1alpha2::PodGroup};
use kube::api::ListParams;

use crate::{
    controller::{Context, Controller, Error, Next, Rule},
    informer::{Change, Key, Watched},
    object, pod,
    protection::{self, Stand},
    queue::Queue,
};

impl Watched for PodGroup {}

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "podgroup-protection-controller",
    aliases: &[],
    service_account: "podgroup-protection-controller",
    reporter: "podgroup-protection-controller",
    watches: &["scheduling.k8s.io/v1alpha2.PodGroup", "v1.Pod"],
    rules: &[
        Rule::new(&["scheduling.k8s.io"], &["podgroups"], &["get", "list", "update", "watch"]),
        Rule::new(&[""], &["pods"], &["get", "list", "watch"]),
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let groups = context.informers.of::<PodGroup>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<Key>> = Arc::default();
        groups.subscribe({
            let queue = queue.clone();
            move |change| {
                let meta = &change.object().metadata;
                if protection::stand(meta, FINALIZER) == Stand::Held {
                    queue.add(Key::of(meta));
                }
            }
        });
        pods.subscribe({
            let queue = queue.clone();
            move |change| {
                let one = change.object();
                if let Some(group) = group_of(one)
                    && (matches!(change, Change::Deleted(_)) || pod::is_terminal(one))
                {
                    queue.add(Key::new(object::namespace(&one.metadata), group));
                }
            }
        });
        if groups.synced(&context.stop).await && pods.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

fn group_of(one: &Pod) -> Option<&str> {
    one.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_deref()
}

/// Whether the pod refers to the group and may still run.
fn uses(one: &Pod, group: &str) -> bool {
    group_of(one) == Some(group) && !pod::is_terminal(one)
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let Some(group) = context.informers.of::<PodGroup>().get(&key) else { return Ok(Next::Done) };
    if protection::stand(&group.metadata, FINALIZER) != Stand::Held {
        return Ok(Next::Done);
    }
    let seen = context.informers.of::<Pod>().in_namespace(&key.namespace);
    if seen.iter().any(|one| uses(one, &key.name)) {
        return Ok(Next::Done);
    }
    // The cache may be behind, and what is let go is gone.
    let live = context.api::<Pod>(&key.namespace).list(&ListParams::default()).await?;
    if live.items.iter().any(|one| uses(one, &key.name)) {
        return Err(Error::NotYet(format!("a pod that refers to {key} is not seen")));
    }
    protection::turn(&context.api::<PodGroup>(&key.namespace), &*group, FINALIZER).await?;
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn pods_that_have_not_ended_use_the_group_they_name() {
        for (group, phase, wanted) in [
            (json!({"podGroupName": "g"}), "Pending", true),
            (json!({"podGroupName": "g"}), "Running", true),
            (json!({"podGroupName": "g"}), "Succeeded", false),
            (json!({"podGroupName": "g"}), "Failed", false),
            (json!({"podGroupName": "h"}), "Running", false),
            (json!({}), "Running", false),
            (Value::Null, "Running", false),
        ] {
            let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "schedulingGroup": group},
                "status": {"phase": phase}});
            assert_eq!(uses(&serde_json::from_value(one.clone()).unwrap(), "g"), wanted, "{one}");
        }
    }
}
