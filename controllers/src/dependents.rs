//! What controllers do to the pods they control: hear of them, adopt, release, create in growing batches, delete.
//! It never decides which pods there should be.

use std::sync::Arc;

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    controller::{self, Context, Error, is_namespace_terminating, is_not_found, message},
    events::Note,
    informer::{Change, Informer, Key, Watched},
    object,
    queue::Queue,
    selector,
};

/// Wakes an owner whenever one of its pods changes, and whoever's selector matches a pod that nobody controls.
pub(crate) fn follow<K: Watched>(
    pods: &Informer<Pod>,
    owners: &Arc<Informer<K>>,
    queue: &Arc<Queue<Key>>,
    selects: impl Fn(&K) -> Option<LabelSelector> + Send + Sync + 'static,
) {
    let (queue, owners) = (queue.clone(), owners.clone());
    pods.subscribe(move |change| {
        if let Change::Applied { old: Some(old), new } = change
            && object::controller_of(&old.metadata) != object::controller_of(&new.metadata)
        {
            wake::<K>(&queue, old);
        }
        let one = change.object();
        if object::controller_of(&one.metadata).is_some() {
            wake::<K>(&queue, one);
        } else if one.metadata.deletion_timestamp.is_none() && matches!(change, Change::Applied { .. }) {
            for owner in owners.in_namespace(object::namespace(&one.metadata)) {
                if selects(&owner).is_some_and(|wanted| {
                    !selector::is_empty(&wanted) && selector::matches(&wanted, one.metadata.labels.as_ref())
                }) {
                    queue.add(Key::of(owner.meta()));
                }
            }
        }
    });
}

fn wake<K: Watched>(queue: &Queue<Key>, one: &Pod) {
    if let Some(owner) = object::controller_of(&one.metadata)
        && owner.kind == K::kind(&())
        && owner.api_version == K::api_version(&())
    {
        queue.add(Key::new(object::namespace(&one.metadata), &owner.name));
    }
}

/// Asks the API, not the cache, whether the owner may still adopt.
///
/// # Errors
/// [`Error::NotYet`] when it ends or is another now.
pub(crate) async fn still_itself<K>(context: &Context, owner: &K) -> Result<(), Error>
where
    K: Watched + Resource<Scope = NamespaceResourceScope>,
{
    let name = object::name(owner.meta());
    let live = context.api::<K>(object::namespace(owner.meta())).get_opt(name).await?;
    match live {
        Some(live) if live.meta().uid == owner.meta().uid && live.meta().deletion_timestamp.is_none() => Ok(()),
        _ => Err(Error::NotYet(format!("{name} is deleted or another now"))),
    }
}

/// Makes the owner the pod's controller, and gives the pod this finalizer; whether the pod was there.
pub(crate) async fn adopt<K: Watched>(
    api: &Api<Pod>,
    owner: &K,
    one: &Pod,
    finalizer: Option<&str>,
) -> Result<bool, Error> {
    let finalizers: Vec<_> = finalizer.into_iter().collect();
    let patch = json!({"metadata": {"uid": one.metadata.uid,
        "ownerReferences": [object::controller_reference(owner)], "finalizers": finalizers}});
    match api.patch(object::name(&one.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the owner of this uid, and the finalizer, off the pod.
pub(crate) async fn release(api: &Api<Pod>, owner: &str, one: &Pod, finalizer: Option<&str>) -> Result<(), Error> {
    let finalizers: Vec<_> = finalizer.into_iter().collect();
    let patch = json!({"metadata": {"uid": one.metadata.uid,
        "ownerReferences": [{"$patch": "delete", "uid": owner}], "$deleteFromPrimitiveList/finalizers": finalizers}});
    patch_if_there(api, one, patch).await.map(|_| ())
}

/// Takes a finalizer off the pod; what the pod is then, if it is there.
pub(crate) async fn strip(api: &Api<Pod>, one: &Pod, finalizer: &str) -> Result<Option<Pod>, Error> {
    let patch = json!({"metadata": {"uid": one.metadata.uid, "$deleteFromPrimitiveList/finalizers": [finalizer]}});
    patch_if_there(api, one, patch).await
}

async fn patch_if_there(api: &Api<Pod>, one: &Pod, patch: serde_json::Value) -> Result<Option<Pod>, Error> {
    match api.patch(object::name(&one.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(patched) => Ok(Some(patched)),
        // Gone, or no longer the pod that was seen.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Creates pods in batches of 1, 2, 4, ..., so that a template that is always refused costs few requests.
///
/// # Errors
/// The first refusal; the pods of later batches are not tried then.
pub(crate) async fn create<K: Watched>(
    context: &Context,
    api: &Api<Pod>,
    owner: &K,
    wanted: Vec<Pod>,
) -> Result<(), kube::Error> {
    let pods = context.informers.of::<Pod>();
    let mut left = wanted.as_slice();
    let (mut batch, mut made, mut first_error) = (1, Vec::new(), None);
    while !left.is_empty() && first_error.is_none() {
        let (now, later) = left.split_at_checked(batch).unwrap_or((left, &[]));
        left = later;
        let params = PostParams::default();
        for answer in futures::future::join_all(now.iter().map(|one| api.create(&params, one))).await {
            match answer {
                Ok(one) => {
                    let text = format!("Created pod: {}", object::name(&one.metadata));
                    context.events.record(owner, Note::normal("SuccessfulCreate", text));
                    made.push(one);
                }
                // The namespace ends: nothing will succeed any more, and that is no failure of the owner.
                Err(error) if is_namespace_terminating(&error) => left = &[],
                Err(error) => {
                    let text = format!("Error creating: {}", message(&error));
                    context.events.record(owner, Note::warning("FailedCreate", text));
                    first_error.get_or_insert(error);
                }
            }
        }
        batch *= 2;
    }
    for one in &made {
        pods.saw(&one.metadata).await;
    }
    first_error.map_or(Ok(()), Err)
}

/// Deletes pods that are still those that were seen.
///
/// # Errors
/// The first refusal; all were tried.
pub(crate) async fn remove<K: Watched>(
    context: &Context,
    api: &Api<Pod>,
    owner: &K,
    doomed: &[Arc<Pod>],
) -> Result<(), kube::Error> {
    let answers = futures::future::join_all(doomed.iter().map(|one| async move {
        (one, controller::delete(api, object::name(&one.metadata), one.metadata.uid.as_deref()).await)
    }))
    .await;
    let mut first_error = None;
    for (one, answer) in answers {
        match answer {
            Ok(true) => {
                let text = format!("Deleted pod: {}", object::name(&one.metadata));
                context.events.record(owner, Note::normal("SuccessfulDelete", text));
            }
            Ok(false) => {}
            Err(error) => {
                let text = format!("Error deleting: {}", message(&error));
                context.events.record(owner, Note::warning("FailedDelete", text));
                first_error.get_or_insert(error);
                continue;
            }
        }
        context.informers.of::<Pod>().saw_deleted(&Key::of(&one.metadata), one.metadata.uid.as_deref()).await;
    }
    first_error.map_or(Ok(()), Err)
}
