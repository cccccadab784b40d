//! Keeps volumes that are deleted as long as they are bound (finalizer `kubernetes.io/pv-protection`). It deletes nothing.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::PersistentVolume;

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule},
    informer::{Key, Watched},
    protection::{self, Stand},
    queue::Queue,
};

impl Watched for PersistentVolume {}

const FINALIZER: &str = "kubernetes.io/pv-protection";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "persistentvolume-protection-controller",
    aliases: &["pv-protection"],
    service_account: "pv-protection-controller",
    reporter: "pv-protection-controller",
    watches: &["v1.PersistentVolume"],
    rules: &[Rule::new(&[""], &["persistentvolumes"], &["get", "list", "update", "watch"]), EVENTS],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let volumes = context.informers.of::<PersistentVolume>();
        let queue: Arc<Queue<Key>> = Arc::default();
        volumes.subscribe({
            let queue = queue.clone();
            move |change| {
                let meta = &change.object().metadata;
                if protection::stand(meta, FINALIZER) != Stand::Settled {
                    queue.add(Key::of(meta));
                }
            }
        });
        if volumes.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// Whether a claim has the volume.
fn is_bound(volume: &PersistentVolume) -> bool {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let Some(volume) = context.informers.of::<PersistentVolume>().get(&key) else { return Ok(Next::Done) };
    match protection::stand(&volume.metadata, FINALIZER) {
        Stand::Bare => {}
        Stand::Held if !is_bound(&volume) => {}
        Stand::Held | Stand::Settled => return Ok(Next::Done),
    }
    protection::turn(&context.cluster_api(), &*volume, FINALIZER).await?;
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bound_volumes_stay() {
        for (phase, wanted) in [(json!("Bound"), true), (json!("Available"), false), (json!(null), false)] {
            let volume = serde_json::from_value(json!({"status": {"phase": phase}})).unwrap();
            assert_eq!(is_bound(&volume), wanted, "{phase}");
        }
    }
}
