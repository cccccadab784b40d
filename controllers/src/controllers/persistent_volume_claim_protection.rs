//! Keeps claims that are deleted as long as a pod on a node uses them (finalizer `kubernetes.io/pvc-protection`). It deletes nothing.
//! Source: the documentation of storage object in use protection.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use kube::api::ListParams;

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule},
    informer::{Change, Key},
    object, pod,
    protection::{self, Stand},
    queue::Queue,
};

const FINALIZER: &str = "kubernetes.io/pvc-protection";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "persistentvolumeclaim-protection-controller",
    aliases: &["pvc-protection"],
    service_account: "pvc-protection-controller",
    reporter: "pvc-protection-controller",
    watches: &["v1.PersistentVolumeClaim", "v1.Pod"],
    rules: &[
        Rule::new(&[""], &["persistentvolumeclaims"], &["get", "list", "update", "watch"]),
        Rule::new(&[""], &["persistentvolumeclaims/status"], &["update"]),
        Rule::new(&[""], &["pods"], &["get", "list", "watch"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let claims = context.informers.of::<PersistentVolumeClaim>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<Key>> = Arc::default();
        claims.subscribe({
            let queue = queue.clone();
            move |change| {
                let meta = &change.object().metadata;
                if protection::stand(meta, FINALIZER) != Stand::Settled {
                    queue.add(Key::of(meta));
                }
            }
        });
        pods.subscribe({
            let queue = queue.clone();
            move |change| {
                let one = change.object();
                let lets_go = matches!(change, Change::Deleted(_)) || pod::is_terminal(one) || is_shut_down(one);
                if lets_go {
                    for claim in claims_of(one) {
                        queue.add(Key::new(object::namespace(&one.metadata), &claim));
                    }
                }
            }
        });
        if claims.synced(&context.stop).await && pods.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// Names of the claims that a pod's volumes name or bring.
fn claims_of(one: &Pod) -> Vec<String> {
    let volumes = one.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claim = |volume: &Volume| match &volume.persistent_volume_claim {
        Some(named) => Some(named.claim_name.clone()),
        None => volume.ephemeral.as_ref().map(|_| format!("{}-{}", object::name(&one.metadata), volume.name)),
    };
    volumes.filter_map(claim).collect()
}

/// Whether the node is done with the pod, which waits for others to let go of it.
fn is_shut_down(one: &Pod) -> bool {
    pod::is_terminating(one) && one.metadata.deletion_grace_period_seconds == Some(0)
}

/// Whether the pod uses the claim: it is on a node, which may have mounted it. A node starts no pod whose claim goes.
fn uses(one: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let name = object::name(&claim.metadata);
    let mut volumes = one.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let named = |volume: &Volume| volume.persistent_volume_claim.as_ref().is_some_and(|named| named.claim_name == name);
    // A claim that a pod brought is its own.
    let brought = || {
        let own = object::is_controlled_by(&claim.metadata, object::uid(&one.metadata));
        own && !is_shut_down(one) && claims_of(one).iter().any(|own| own == name)
    };
    pod::node_of(one).is_some() && (volumes.any(named) || brought())
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let Some(claim) = context.informers.of::<PersistentVolumeClaim>().get(&key) else { return Ok(Next::Done) };
    let api = context.api::<PersistentVolumeClaim>(&key.namespace);
    match protection::stand(&claim.metadata, FINALIZER) {
        Stand::Settled => return Ok(Next::Done),
        Stand::Bare => {}
        Stand::Held => {
            let seen = context.informers.of::<Pod>().in_namespace(&key.namespace);
            if seen.iter().any(|one| uses(one, &claim)) {
                return Ok(Next::Done);
            }
            // The cache may be behind, and what is let go is gone.
            let live = context.api::<Pod>(&key.namespace).list(&ListParams::default()).await?;
            if live.items.iter().any(|one| uses(one, &claim)) {
                return Err(Error::NotYet(format!("a pod that uses {key} is not seen")));
            }
        }
    }
    protection::turn(&api, &*claim, FINALIZER).await?;
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn pods_on_nodes_use_their_claims() {
        let volume = |source: Value| {
            let mut volume = json!({"name": "v"});
            volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            volume
        };
        let named = |name: &str| volume(json!({"persistentVolumeClaim": {"claimName": name}}));
        let brings = || volume(json!({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}));
        let check = |claim: &str, owner: &str, node: Value, volume: Value, shut: bool, wanted: bool| {
            let owners = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]);
            let claim: PersistentVolumeClaim =
                serde_json::from_value(json!({"metadata": {"name": claim, "ownerReferences": owners}})).unwrap();
            let mut one = json!({"metadata": {"name": "p", "uid": "pod"},
                "spec": {"containers": [], "nodeName": node, "volumes": [volume]}});
            if shut {
                one["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                one["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            }
            let one: Pod = serde_json::from_value(one).unwrap();
            assert_eq!(uses(&one, &claim), wanted, "{one:?}");
        };
        check("c", "", json!("n"), named("c"), false, true);
        check("c", "", json!("n"), named("c"), true, true);
        check("c", "", json!("n"), named("d"), false, false);
        check("c", "", Value::Null, named("c"), false, false);
        check("p-v", "pod", json!("n"), brings(), false, true);
        check("p-v", "pod", json!("n"), brings(), true, false);
        check("p-v", "other", json!("n"), brings(), false, false);
    }
}
