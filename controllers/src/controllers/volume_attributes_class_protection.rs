//! Keeps VolumeAttributesClasses that are deleted as long as a claim or a volume names them (finalizer
//! `kubernetes.io/vac-protection`). It deletes nothing.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::VolumeAttributesClass,
};

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule},
    informer::{Informer, Key, Watched},
    object,
    protection::{self, Stand},
    queue::Queue,
};

impl Watched for VolumeAttributesClass {}

const FINALIZER: &str = "kubernetes.io/vac-protection";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "volumeattributesclass-protection-controller",
    aliases: &[],
    service_account: "volumeattributesclass-protection-controller",
    reporter: "volumeattributesclass-protection-controller",
    watches: &["storage.k8s.io/v1.VolumeAttributesClass", "v1.PersistentVolumeClaim", "v1.PersistentVolume"],
    rules: &[
        Rule::new(&[""], &["persistentvolumeclaims", "persistentvolumes"], &["get", "list", "watch"]),
        Rule::new(&["storage.k8s.io"], &["volumeattributesclasses"], &["get", "list", "update", "watch"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let classes = context.informers.of::<VolumeAttributesClass>();
        let claims = context.informers.of::<PersistentVolumeClaim>();
        let volumes = context.informers.of::<PersistentVolume>();
        let queue: Arc<Queue<Key>> = Arc::default();
        classes.subscribe({
            let queue = queue.clone();
            move |change| {
                let meta = &change.object().metadata;
                if protection::stand(meta, FINALIZER) != Stand::Settled {
                    queue.add(Key::of(meta));
                }
            }
        });
        claims.subscribe({
            let (queue, classes) = (queue.clone(), classes.clone());
            move |_| waiting(&classes, &queue)
        });
        volumes.subscribe({
            let (queue, classes) = (queue.clone(), classes.clone());
            move |_| waiting(&classes, &queue)
        });
        let stop = &context.stop;
        if classes.synced(stop).await && claims.synced(stop).await && volumes.synced(stop).await {
            context.work(CONTROLLER.name, queue, 1, reconcile).await;
        }
    }
    .boxed()
}

/// Classes that are to go, of which there are few, may have lost who held them.
fn waiting(classes: &Informer<VolumeAttributesClass>, queue: &Queue<Key>) {
    for class in classes.all() {
        if protection::stand(&class.metadata, FINALIZER) == Stand::Held {
            queue.add(Key::of(&class.metadata));
        }
    }
}

/// Whether the claim has the class, is to get it, or once asked for it.
fn claims_it(claim: &PersistentVolumeClaim, class: &str) -> bool {
    let spec = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = target.and_then(|modify| modify.target_volume_attributes_class_name.as_deref());
    [spec, current, target].contains(&Some(class))
}

fn has_it(volume: &PersistentVolume, class: &str) -> bool {
    volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()) == Some(class)
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let Some(class) = context.informers.of::<VolumeAttributesClass>().get(&key) else { return Ok(Next::Done) };
    let name = object::name(&class.metadata);
    let is_used = || {
        context.informers.of::<PersistentVolume>().all().iter().any(|volume| has_it(volume, name))
            || context.informers.of::<PersistentVolumeClaim>().all().iter().any(|claim| claims_it(claim, name))
    };
    match protection::stand(&class.metadata, FINALIZER) {
        Stand::Bare => {}
        Stand::Held if !is_used() => {}
        Stand::Held | Stand::Settled => return Ok(Next::Done),
    }
    protection::turn(&context.cluster_api(), &*class, FINALIZER).await?;
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_and_volumes_hold_what_they_name_in_any_way() {
        for (claim, held) in [
            (json!({}), false),
            (json!({"spec": {"volumeAttributesClassName": "gold"}}), true),
            (json!({"spec": {"volumeAttributesClassName": "silver"}}), false),
            (json!({"status": {"currentVolumeAttributesClassName": "gold"}}), true),
            (
                json!({"status": {"modifyVolumeStatus": {"status": "Pending", "targetVolumeAttributesClassName": "gold"}}}),
                true,
            ),
        ] {
            let read = serde_json::from_value(claim.clone()).unwrap();
            assert_eq!(claims_it(&read, "gold"), held, "{claim}");
        }
        let volume = serde_json::from_value(json!({"spec": {"volumeAttributesClassName": "gold"}})).unwrap();
        assert!(has_it(&volume, "gold") && !has_it(&volume, "silver"));
    }
}
