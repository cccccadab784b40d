//! Links claims with volumes, asks provisioners for what is missing, and says which volumes are free, bound or released. `plan.rs`
//! decides. It makes and deletes no volume, and touches nothing that a volume stands for.

mod plan;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod},
    storage::v1::StorageClass,
};
use kube::api::PostParams;

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule},
    events::Note,
    informer::{Change, Key, Watched},
    object, pod,
    queue::Queue,
};
use plan::{ForClaim, ForVolume, Reclaim, Seen};

impl Watched for StorageClass {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "persistentvolume-binder-controller",
    aliases: &["persistentvolume-binder"],
    service_account: "persistent-volume-binder",
    reporter: "persistentvolume-controller",
    watches: &["v1.PersistentVolume", "v1.PersistentVolumeClaim", "v1.Pod", "storage.k8s.io/v1.StorageClass"],
    rules: &[
        Rule::new(&[""], &["persistentvolumes"], &["create", "delete", "get", "list", "update", "watch"]),
        Rule::new(&[""], &["persistentvolumes/status"], &["update"]),
        Rule::new(&[""], &["persistentvolumeclaims"], &["get", "list", "update", "watch"]),
        Rule::new(&[""], &["persistentvolumeclaims/status"], &["update"]),
        Rule::new(&[""], &["pods"], &["create", "delete", "get", "list", "watch"]),
        Rule::new(&["storage.k8s.io"], &["storageclasses"], &["get", "list", "watch"]),
        Rule::new(&[""], &["nodes"], &["list", "watch"]),
        EVENTS,
        Rule::new(&[""], &["events"], &["watch"]),
    ],
    start,
};

/// Claims without a volume are looked at again after this time (upstream's `--pvclaimbinder-sync-period`).
const AGAIN: Duration = Duration::from_secs(15);

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum One {
    Claim(Key),
    Volume(Key),
}

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let claims = context.informers.of::<PersistentVolumeClaim>();
        let volumes = context.informers.of::<PersistentVolume>();
        let classes = context.informers.of::<StorageClass>();
        let pods = context.informers.of::<Pod>();
        let queue: Arc<Queue<One>> = Arc::default();
        claims.subscribe({
            let queue = queue.clone();
            move |change| {
                let claim = change.object();
                if !matches!(change, Change::Deleted(_)) {
                    queue.add(One::Claim(Key::of(&claim.metadata)));
                }
                if !plan::volume_of(claim).is_empty() {
                    queue.add(One::Volume(Key::new("", plan::volume_of(claim))));
                }
            }
        });
        volumes.subscribe({
            let (queue, claims) = (queue.clone(), claims.clone());
            move |change| {
                let volume = change.object();
                queue.add(One::Volume(Key::of(&volume.metadata)));
                match plan::reference(volume) {
                    Some(one) => {
                        let part = |text: &Option<String>| text.clone().unwrap_or_default();
                        queue.add(One::Claim(Key::new(&part(&one.namespace), &part(&one.name))));
                    }
                    // Somebody may wait for it.
                    None => {
                        for claim in claims.all().iter().filter(|claim| !plan::is_complete(claim)) {
                            queue.add(One::Claim(Key::of(&claim.metadata)));
                        }
                    }
                }
            }
        });
        let synced = [
            claims.synced(&context.stop).await,
            volumes.synced(&context.stop).await,
            classes.synced(&context.stop).await,
            pods.synced(&context.stop).await,
        ];
        if synced == [true; 4] {
            // One at a time: two claims must not take one volume.
            let reconcile = {
                let queue = queue.clone();
                move |context, one| reconcile(context, one, queue.clone())
            };
            context.work(CONTROLLER.name, queue, 1, reconcile).await;
        }
    }
    .boxed()
}

async fn reconcile(context: Context, one: One, queue: Arc<Queue<One>>) -> Result<Next, Error> {
    match one {
        One::Claim(key) => of_claim(&context, &key).await,
        One::Volume(key) => of_volume(&context, &key, &queue).await,
    }
}

/// The newest of the classes that are marked as the default.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<&str> {
    const MARKS: [&str; 2] =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let marked =
        |class: &&Arc<StorageClass>| MARKS.iter().any(|mark| object::annotation(&class.metadata, mark) == Some("true"));
    let newest = classes.iter().filter(marked).max_by(|a, b| {
        let (name_a, name_b) = (object::name(&a.metadata), object::name(&b.metadata));
        object::created(&a.metadata).cmp(&object::created(&b.metadata)).then_with(|| name_b.cmp(name_a))
    });
    newest.map(|class| object::name(&class.metadata))
}

/// Names of the pods that use a claim and have no node.
fn waiting(context: &Context, key: &Key) -> Vec<String> {
    let uses = |one: &Pod| {
        let mut volumes = one.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes.any(|volume| volume.persistent_volume_claim.as_ref().is_some_and(|named| named.claim_name == key.name))
    };
    let pods = context.informers.of::<Pod>().in_namespace(&key.namespace);
    let pods = pods.iter().filter(|one| pod::node_of(one).is_none() && !pod::is_terminal(one) && uses(one));
    pods.map(|one| object::name(&one.metadata).to_owned()).collect()
}

async fn of_claim(context: &Context, key: &Key) -> Result<Next, Error> {
    let Some(claim) = context.informers.of::<PersistentVolumeClaim>().get(key) else { return Ok(Next::Done) };
    let classes = context.informers.of::<StorageClass>().all();
    let named = plan::class_of(&claim);
    let done = plan::for_claim(&Seen {
        claim: &claim,
        volumes: &context.informers.of::<PersistentVolume>().all(),
        class: classes.iter().find(|class| object::name(&class.metadata) == named).map(|class| &**class),
        default: default_class(&classes),
        waiting: &waiting(context, key),
    });
    match done {
        ForClaim::Bind(volume) => {
            bind(context, volume, claim).await?;
            return Ok(Next::Done);
        }
        ForClaim::Wait(note) => {
            if let Some(note) = note {
                context.events.record(&*claim, note);
            }
            write_status(context, &claim, plan::status(&claim, "Pending", None)).await?;
        }
        ForClaim::Classify(name) => {
            let mut written = PersistentVolumeClaim::clone(&claim);
            written.spec.get_or_insert_default().storage_class_name = Some(name);
            write_claim(context, &written).await?;
        }
        ForClaim::Provision(who) => {
            let mut written = PersistentVolumeClaim::clone(&claim);
            for name in plan::PROVISIONERS {
                object::put(&mut written.metadata.annotations, name, &who);
            }
            if written != *claim {
                write_claim(context, &written).await?;
            }
            let text = format!(
                "Waiting for a volume to be created either by the external provisioner '{who}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
                 registered."
            );
            context.events.record(&*claim, Note::normal("ExternalProvisioning", text));
        }
        ForClaim::Tell(note) => context.events.record(&*claim, note),
        ForClaim::Lose(note) => {
            if write_status(context, &claim, plan::status(&claim, "Lost", None)).await? {
                context.events.record(&*claim, note);
            }
            return Ok(Next::Done);
        }
    }
    Ok(Next::After(AGAIN))
}

/// Writes both sides of the link as far as they are missing, the volume first: whoever has its volume has it alone.
async fn bind(
    context: &Context,
    volume: Arc<PersistentVolume>,
    claim: Arc<PersistentVolumeClaim>,
) -> Result<(), Error> {
    let volume = match plan::linked_volume(&volume, &claim) {
        Some(linked) => Arc::new(write_volume(context, &linked).await?),
        None => volume,
    };
    write_phase(context, &volume, "Bound", "").await?;
    let claim = match plan::linked_claim(&claim, &volume) {
        Some(linked) => Arc::new(write_claim(context, &linked).await?),
        None => claim,
    };
    write_status(context, &claim, plan::status(&claim, "Bound", Some(&volume))).await?;
    Ok(())
}

async fn of_volume(context: &Context, key: &Key, queue: &Queue<One>) -> Result<Next, Error> {
    let Some(volume) = context.informers.of::<PersistentVolume>().get(key) else { return Ok(Next::Done) };
    let claim = claim_of(context, &volume).await?;
    match plan::for_volume(&volume, claim.as_deref()) {
        ForVolume::Phase(phase) => {
            write_phase(context, &volume, phase, "").await?;
        }
        ForVolume::Release(reclaim) => {
            let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
            let volume = match phase {
                Some("Released" | "Failed") => None,
                _ => write_phase(context, &volume, "Released", "").await?,
            }
            .map_or(volume, Arc::new);
            if let Reclaim::Fail(note) = reclaim
                && write_phase(context, &volume, "Failed", &note.message).await?.is_some()
            {
                context.events.record(&*volume, note);
            }
        }
        ForVolume::Unbind => {
            let free = write_volume(context, &plan::unlinked(&volume)).await?;
            write_phase(context, &free, "Available", "").await?;
        }
        ForVolume::Wake => queue.add(One::Claim(claim.map(|claim| Key::of(&claim.metadata)).unwrap_or_default())),
        ForVolume::Mismatch(of_volume, of_claim) => {
            context.events.record(&*volume, of_volume);
            if let Some(claim) = claim {
                context.events.record(&*claim, of_claim);
            }
        }
    }
    Ok(Next::Done)
}

/// The claim that a volume refers to by name and uid. That one is gone is asked of the API: the cache may be behind.
async fn claim_of(context: &Context, volume: &PersistentVolume) -> Result<Option<Arc<PersistentVolumeClaim>>, Error> {
    let Some(one) = plan::reference(volume) else { return Ok(None) };
    let (namespace, name) = (one.namespace.as_deref().unwrap_or_default(), one.name.as_deref().unwrap_or_default());
    let wanted = one.uid.as_deref().unwrap_or_default();
    if wanted.is_empty() {
        return Ok(None);
    }
    let is = |claim: &PersistentVolumeClaim| object::uid(&claim.metadata) == wanted;
    let cached = context.informers.of::<PersistentVolumeClaim>().get(&Key::new(namespace, name));
    if let Some(claim) = cached.filter(|claim| is(claim)) {
        return Ok(Some(claim));
    }
    let live = context.api::<PersistentVolumeClaim>(namespace).get_opt(name).await?;
    Ok(live.filter(is).map(Arc::new))
}

async fn write_claim(context: &Context, claim: &PersistentVolumeClaim) -> Result<PersistentVolumeClaim, Error> {
    let api = context.api::<PersistentVolumeClaim>(object::namespace(&claim.metadata));
    let written = api.replace(object::name(&claim.metadata), &PostParams::default(), claim).await?;
    context.informers.of::<PersistentVolumeClaim>().saw(&written.metadata).await;
    Ok(written)
}

/// Writes a claim's status; whether there was anything to write.
async fn write_status(
    context: &Context,
    claim: &PersistentVolumeClaim,
    status: PersistentVolumeClaimStatus,
) -> Result<bool, Error> {
    if claim.status.as_ref() == Some(&status) {
        return Ok(false);
    }
    let api = context.api::<PersistentVolumeClaim>(object::namespace(&claim.metadata));
    let written = PersistentVolumeClaim { status: Some(status), ..claim.clone() };
    let written = api.replace_status(object::name(&claim.metadata), &PostParams::default(), &written).await?;
    context.informers.of::<PersistentVolumeClaim>().saw(&written.metadata).await;
    Ok(true)
}

async fn write_volume(context: &Context, volume: &PersistentVolume) -> Result<PersistentVolume, Error> {
    let api = context.cluster_api::<PersistentVolume>();
    let written = api.replace(object::name(&volume.metadata), &PostParams::default(), volume).await?;
    context.informers.of::<PersistentVolume>().saw(&written.metadata).await;
    Ok(written)
}

/// Writes the phase of a volume, and why it failed; what was written, where there was anything to write.
async fn write_phase(
    context: &Context,
    volume: &PersistentVolume,
    phase: &str,
    text: &str,
) -> Result<Option<PersistentVolume>, Error> {
    let held = volume.status.clone().unwrap_or_default();
    if held.phase.as_deref() == Some(phase) {
        return Ok(None);
    }
    let mut written = volume.clone();
    let status = written.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = Some(text.to_owned()).filter(|text| !text.is_empty());
    let api = context.cluster_api::<PersistentVolume>();
    let written = api.replace_status(object::name(&volume.metadata), &PostParams::default(), &written).await?;
    context.informers.of::<PersistentVolume>().saw(&written.metadata).await;
    Ok(Some(written))
}
