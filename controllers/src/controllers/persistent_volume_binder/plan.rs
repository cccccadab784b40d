//! Which claim gets which volume, and what becomes of volumes whose claims are gone. Pure. Source: the documented life cycle of volumes
//! and claims.

use std::{collections::BTreeMap, sync::Arc};

use api::quantity::Quantity;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{events::Note, object, selector};

/// On a claim: its volume was its own once, and it takes no other.
pub(super) const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On both: the link was made here and not by the user.
pub(super) const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: who is to provision its volume.
pub(super) const PROVISIONERS: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Provisioners of upstream's own tree have this prefix, and none of them is here.
const IN_TREE: &str = "kubernetes.io/";

/// What was seen of a claim.
pub(super) struct Seen<'a> {
    pub(super) claim: &'a PersistentVolumeClaim,
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    /// The class that the claim names, if it exists.
    pub(super) class: Option<&'a StorageClass>,
    /// The name of the class for claims that name none.
    pub(super) default: Option<&'a str>,
    /// Names of the pods that use the claim and have no node.
    pub(super) waiting: &'a [String],
}

/// What to do about a claim.
#[derive(Debug, PartialEq)]
pub(super) enum ForClaim {
    /// Link it with this volume, as far as it is not.
    Bind(Arc<PersistentVolume>),
    /// Say that it waits, and why.
    Wait(Option<Note>),
    /// Give it this class.
    Classify(String),
    /// Ask this provisioner for a volume.
    Provision(String),
    /// Only tell; its status stays.
    Tell(Note),
    /// Its volume is lost.
    Lose(Note),
}

/// What to do about a volume.
#[derive(Debug, PartialEq)]
pub(super) enum ForVolume {
    /// Say that it is in this phase.
    Phase(&'static str),
    /// Say that its claim is gone, and then do as the policy says.
    Release(Reclaim),
    /// Let go of a claim that has another.
    Unbind,
    /// The claim must link it, or say why not.
    Wake,
    /// They do not fit: what to tell the volume, and the claim.
    Mismatch(Note, Note),
}

/// What the policy of a released volume asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Reclaim {
    /// Nothing; or others do it.
    Nothing,
    /// What nobody here can do.
    Fail(Note),
}

/// The class that a claim names; empty for none, or for no class at all.
pub(super) fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let spec = || claim.spec.as_ref()?.storage_class_name.as_deref();
    object::annotation(&claim.metadata, CLASS).or_else(spec).unwrap_or_default()
}

fn says_class(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    object::annotation(&claim.metadata, CLASS).is_some() || spec.is_some_and(|spec| spec.storage_class_name.is_some())
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = || volume.spec.as_ref()?.storage_class_name.as_deref();
    object::annotation(&volume.metadata, CLASS).or_else(spec).unwrap_or_default()
}

/// The claim that a volume is for.
pub(super) fn reference(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The name of the volume that a claim has, or asks for; empty for none.
pub(super) fn volume_of(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

pub(super) fn is_complete(claim: &PersistentVolumeClaim) -> bool {
    object::annotation(&claim.metadata, COMPLETED).is_some()
}

fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    reference(volume).is_some_and(|one| {
        let same = |a: &Option<String>, b: &Option<String>| {
            a.as_deref().unwrap_or_default() == b.as_deref().unwrap_or_default()
        };
        let uid = one.uid.as_deref().unwrap_or_default();
        same(&one.name, &claim.metadata.name)
            && same(&one.namespace, &claim.metadata.namespace)
            && (uid.is_empty() || uid == object::uid(&claim.metadata))
    })
}

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

type Amounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn storage(amounts: Option<&Amounts>) -> Quantity {
    amounts.and_then(|all| Quantity::parse(&all.get("storage")?.0).ok()).unwrap_or(Quantity::ZERO)
}

fn size(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

fn wanted_size(claim: &PersistentVolumeClaim) -> Quantity {
    storage(claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()))
}

fn modes(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// Why a volume is none for a claim; `None` where it is one. Who keeps a volume for a claim may have meant another class.
fn unfit(volume: &PersistentVolume, claim: &PersistentVolumeClaim, any_class: bool) -> Option<String> {
    let (have, want) = (volume.spec.as_ref(), claim.spec.as_ref());
    let attributes = |name: Option<&String>| name.cloned().unwrap_or_default();
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion \"{}\"", object::name(&volume.metadata)));
    }
    if size(volume) < wanted_size(claim) {
        return Some("requested PV is too small".to_owned());
    }
    if !any_class && class_of_volume(volume) != class_of(claim) {
        return Some("storageClassName does not match".to_owned());
    }
    if attributes(have.and_then(|spec| spec.volume_attributes_class_name.as_ref()))
        != attributes(want.and_then(|spec| spec.volume_attributes_class_name.as_ref()))
    {
        return Some("volumeAttributesClassName does not match".to_owned());
    }
    if differ_in_mode(volume, claim) {
        return Some("incompatible volumeMode".to_owned());
    }
    let mut asked = want.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    asked.any(|mode| !modes(volume).contains(mode)).then(|| "incompatible accessMode".to_owned())
}

fn differ_in_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let have = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    let want = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    have != want
}

/// The volume that serves a claim best: the one that is kept for it, else the one with the fewest modes, and of those the smallest.
fn best(seen: &Seen<'_>, waits: bool) -> Option<Arc<PersistentVolume>> {
    let claim = seen.claim;
    let wanted = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let kept = seen.volumes.iter().find(|one| is_for(one, claim) && unfit(one, claim, true).is_none());
    if kept.is_some() || waits {
        return kept.cloned();
    }
    let free = seen.volumes.iter().filter(|one| {
        phase(one) == "Available"
            && reference(one).is_none()
            && wanted.is_none_or(|wanted| selector::matches(wanted, one.metadata.labels.as_ref()))
            && unfit(one, claim, false).is_none()
    });
    free.min_by_key(|one| (modes(one).len(), size(one))).cloned()
}

pub(super) fn for_claim(seen: &Seen<'_>) -> ForClaim {
    let name = volume_of(seen.claim);
    let named = seen.volumes.iter().find(|one| object::name(&one.metadata) == name);
    if is_complete(seen.claim) { bound(seen.claim, name, named) } else { unbound(seen, name, named) }
}

fn bound(claim: &PersistentVolumeClaim, name: &str, named: Option<&Arc<PersistentVolume>>) -> ForClaim {
    let lost = |reason, text: &str| ForClaim::Lose(Note::warning(reason, text.to_owned()));
    let Some(volume) = named else {
        return lost(
            "ClaimLost",
            if name.is_empty() {
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            } else {
                "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            },
        );
    };
    match reference(volume) {
        Some(one) if one.uid.as_deref() != claim.metadata.uid.as_deref() => {
            lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
        _ => ForClaim::Bind(volume.clone()),
    }
}

fn unbound(seen: &Seen<'_>, name: &str, named: Option<&Arc<PersistentVolume>>) -> ForClaim {
    if name.is_empty() {
        return unnamed(seen);
    }
    let Some(volume) = named else { return ForClaim::Wait(None) };
    if is_for(volume, seen.claim) {
        return ForClaim::Bind(volume.clone());
    }
    if reference(volume).is_some() {
        let text = format!("volume \"{name}\" already bound to a different claim.");
        return ForClaim::Wait(Some(Note::warning("FailedBinding", text)));
    }
    match unfit(volume, seen.claim, false) {
        None => ForClaim::Bind(volume.clone()),
        Some(why) => {
            let text = format!("Cannot bind to requested volume \"{name}\": {why}");
            ForClaim::Wait(Some(Note::warning("VolumeMismatch", text)))
        }
    }
}

/// A claim that takes any volume.
fn unnamed(seen: &Seen<'_>) -> ForClaim {
    let waits = seen.class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if let Some(volume) = best(seen, waits) {
        return ForClaim::Bind(volume);
    }
    if let (Some(name), false) = (seen.default, says_class(seen.claim)) {
        return ForClaim::Classify(name.to_owned());
    }
    if waits && object::annotation(&seen.claim.metadata, SELECTED_NODE).is_none() {
        return ForClaim::Wait(Some(match seen.waiting {
            [] => Note::normal(
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_owned(),
            ),
            [one] => Note::normal("WaitForPodScheduled", format!("waiting for pod {one} to be scheduled")),
            all => Note::normal("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", all.join(","))),
        }));
    }
    let name = class_of(seen.claim);
    if name.is_empty() {
        let text = "no persistent volumes available for this claim and no storage class is set";
        return ForClaim::Wait(Some(Note::normal("FailedBinding", text.to_owned())));
    }
    let failed = |text| ForClaim::Tell(Note::warning("ProvisioningFailed", text));
    match seen.class {
        None => failed(format!("storageclass.storage.k8s.io \"{name}\" not found")),
        Some(class) if class.provisioner.starts_with(IN_TREE) => {
            failed(format!("no volume plugin matched name: {}", class.provisioner))
        }
        Some(class) => ForClaim::Provision(class.provisioner.clone()),
    }
}

/// `claim` is the one that the volume refers to by name and uid, where it is there.
pub(super) fn for_volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> ForVolume {
    let name = object::name(&volume.metadata);
    let kept = reference(volume).is_some_and(|one| one.uid.as_deref().is_some_and(|uid| !uid.is_empty()));
    if !kept {
        return ForVolume::Phase("Available");
    }
    let Some(claim) = claim else { return ForVolume::Release(reclaim(volume)) };
    let claim_name = object::name(&claim.metadata);
    match volume_of(claim) {
        "" if differ_in_mode(volume, claim) => {
            let of_volume = format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{claim_name}\" due to incompatible volumeMode."
            );
            let of_claim = format!(
                "Cannot bind PersistentVolume \"{name}\" to requested PersistentVolumeClaim due to incompatible volumeMode."
            );
            ForVolume::Mismatch(Note::warning("VolumeMismatch", of_volume), Note::warning("VolumeMismatch", of_claim))
        }
        "" => ForVolume::Wake,
        other if other == name => ForVolume::Phase("Bound"),
        _ if policy(volume) == "Delete" && object::annotation(&volume.metadata, PROVISIONED_BY).is_some() => {
            ForVolume::Release(reclaim(volume))
        }
        _ => ForVolume::Unbind,
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

fn reclaim(volume: &PersistentVolume) -> Reclaim {
    let fail = |reason, text| Reclaim::Fail(Note::warning(reason, text));
    let name = object::name(&volume.metadata);
    match (policy(volume), object::annotation(&volume.metadata, PROVISIONED_BY)) {
        ("Retain", _) => Reclaim::Nothing,
        ("Recycle", _) => fail("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()),
        ("Delete", Some(who)) if !who.starts_with(IN_TREE) => Reclaim::Nothing,
        ("Delete", Some(who)) => fail("VolumeFailedDelete", format!("no volume plugin matched name: {who}")),
        ("Delete", None) => fail(
            "VolumeFailedDelete",
            format!("error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"),
        ),
        _ => fail("VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned()),
    }
}

fn mark(meta: &mut ObjectMeta, name: &str) {
    object::put(&mut meta.annotations, name, "yes");
}

/// The volume linked with the claim, where it is not yet.
pub(super) fn linked_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let mut linked = volume.clone();
    let kept = reference(volume).and_then(|one| one.uid.as_deref()) == claim.metadata.uid.as_deref();
    if !(kept && is_for(volume, claim)) {
        linked.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            name: claim.metadata.name.clone(),
            namespace: claim.metadata.namespace.clone(),
            uid: claim.metadata.uid.clone(),
            resource_version: claim.metadata.resource_version.clone(),
            field_path: None,
        });
    }
    if !is_for(volume, claim) {
        mark(&mut linked.metadata, BY_CONTROLLER);
    }
    (linked != *volume).then_some(linked)
}

/// The claim linked with the volume, where it is not yet.
pub(super) fn linked_claim(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let mut linked = claim.clone();
    if volume_of(claim) != object::name(&volume.metadata) {
        linked.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
        mark(&mut linked.metadata, BY_CONTROLLER);
    }
    if !is_complete(claim) {
        mark(&mut linked.metadata, COMPLETED);
    }
    (linked != *claim).then_some(linked)
}

/// The volume without its claim: without the reference that was made here, or without the uid in the user's own.
pub(super) fn unlinked(volume: &PersistentVolume) -> PersistentVolume {
    let mut free = volume.clone();
    let ours = free.metadata.annotations.as_mut().and_then(|all| all.remove(BY_CONTROLLER)).is_some();
    let spec = free.spec.get_or_insert_default();
    if ours {
        spec.claim_ref = None;
    } else if let Some(one) = &mut spec.claim_ref {
        one.uid = None;
    }
    free
}

/// The status of a claim in this phase; `volume` where it has one.
pub(super) fn status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> PersistentVolumeClaimStatus {
    let mut status = claim.status.clone().unwrap_or_default();
    let becomes = status.phase.as_deref() != Some(phase);
    status.phase = Some(phase.to_owned());
    let Some(spec) = volume.and_then(|volume| volume.spec.as_ref()) else {
        status.access_modes = None;
        status.capacity = None;
        return status;
    };
    status.access_modes.clone_from(&spec.access_modes);
    // What is bound may have grown since.
    if becomes {
        let amount = spec.capacity.as_ref().and_then(|all| all.get("storage")).cloned();
        status.capacity = amount.map(|amount| BTreeMap::from([("storage".to_owned(), amount)]));
        status.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
    }
    status
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A volume by words: `size=`, `modes=`, `class=`, `for=` and `uid=` its claim, `phase=`, `app=`, `policy=`, `by=` its provisioner, `block`.
    fn volume(name: &str, words: &str) -> Arc<PersistentVolume> {
        let mut one = json!({"metadata": {"name": name, "labels": {}, "annotations": {}},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain"},
            "status": {"phase": "Available"}});
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("size", size) => one["spec"]["capacity"]["storage"] = json!(size),
                ("modes", modes) => one["spec"]["accessModes"] = modes.split(',').collect(),
                ("class", class) => one["spec"]["storageClassName"] = json!(class),
                ("for", claim) => one["spec"]["claimRef"] = json!({"namespace": "a", "name": claim}),
                ("uid", uid) => one["spec"]["claimRef"]["uid"] = json!(uid),
                ("phase", phase) => one["status"]["phase"] = json!(phase),
                ("app", app) => one["metadata"]["labels"]["app"] = json!(app),
                ("policy", policy) => one["spec"]["persistentVolumeReclaimPolicy"] = json!(policy),
                ("by", who) => one["metadata"]["annotations"][PROVISIONED_BY] = json!(who),
                ("block", _) => one["spec"]["volumeMode"] = json!("Block"),
                ("deleted", _) => one["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
                (other, _) => panic!("{other}"),
            }
        }
        Arc::new(serde_json::from_value(one).unwrap())
    }

    /// A claim of 1Gi by words: `class=`, `volume=`, `app=` it selects, `complete`, `node=`.
    fn claim(words: &str) -> PersistentVolumeClaim {
        let mut one = json!({"metadata": {"name": "c", "namespace": "a", "uid": "u", "annotations": {}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("class", class) => one["spec"]["storageClassName"] = json!(class),
                ("volume", name) => one["spec"]["volumeName"] = json!(name),
                ("app", app) => one["spec"]["selector"] = json!({"matchLabels": {"app": app}}),
                ("complete", _) => one["metadata"]["annotations"][COMPLETED] = json!("yes"),
                ("node", node) => one["metadata"]["annotations"][SELECTED_NODE] = json!(node),
                (other, _) => panic!("{other}"),
            }
        }
        serde_json::from_value(one).unwrap()
    }

    fn class(words: &str) -> Option<StorageClass> {
        let (provisioner, mode) = words.split_once(' ')?;
        let whole = json!({"metadata": {"name": "k"}, "provisioner": provisioner, "volumeBindingMode": mode});
        Some(serde_json::from_value(whole).unwrap())
    }

    fn shown(done: &ForClaim) -> String {
        match done {
            ForClaim::Bind(volume) => format!("bind {}", object::name(&volume.metadata)),
            ForClaim::Wait(None) => "wait".to_owned(),
            ForClaim::Wait(Some(note)) => format!("wait {} {}", note.reason, note.message),
            ForClaim::Tell(note) => format!("tell {} {}", note.reason, note.message),
            ForClaim::Lose(note) => format!("lose {}", note.reason),
            ForClaim::Classify(name) => format!("classify {name}"),
            ForClaim::Provision(who) => format!("provision {who}"),
        }
    }

    #[test]
    fn claims_take_what_fits_best() {
        const NONE: &str =
            "wait FailedBinding no persistent volumes available for this claim and no storage class is set";
        let two = "modes=ReadWriteOnce,ReadOnlyMany";
        let many: &[(&str, &str, &[&str], &str)] = &[
            ("", "", &["size=5Gi", "size=2Gi", "size=512Mi"], "bind v1"),
            ("", "", &[two, "size=2Gi"], "bind v1"),
            ("", "", &["modes=ReadOnlyMany", "phase=Released", "for=other", "block", "deleted"], NONE),
            ("", "", &["size=1Gi", "size=9Gi for=c"], "bind v1"),
            ("", "", &["for=c uid=other"], NONE),
            ("app=x", "", &["", "app=x"], "bind v1"),
            ("class=k", "", &[""], "tell ProvisioningFailed storageclass.storage.k8s.io \"k\" not found"),
            ("class=k", "example.com/p Immediate", &["", "class=k"], "bind v1"),
            ("class=k", "example.com/p Immediate", &[""], "provision example.com/p"),
            (
                "class=k",
                "kubernetes.io/no-provisioner Immediate",
                &[],
                "tell ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner",
            ),
            (
                "class=k",
                "example.com/p WaitForFirstConsumer",
                &["class=k"],
                "wait WaitForPodScheduled waiting for pod p to be scheduled",
            ),
            ("class=k node=n", "example.com/p WaitForFirstConsumer", &["class=k"], "provision example.com/p"),
            ("class=k", "example.com/p WaitForFirstConsumer", &["class=k for=c"], "bind v0"),
            ("volume=v0", "", &["size=9Gi"], "bind v0"),
            ("volume=v7", "", &[], "wait"),
            (
                "volume=v0",
                "",
                &["size=1Mi"],
                "wait VolumeMismatch Cannot bind to requested volume \"v0\": requested PV is too small",
            ),
            (
                "volume=v0",
                "",
                &["class=x"],
                "wait VolumeMismatch Cannot bind to requested volume \"v0\": storageClassName does not match",
            ),
            ("volume=v0", "", &["for=d"], "wait FailedBinding volume \"v0\" already bound to a different claim."),
            ("volume=v0", "", &["for=c"], "bind v0"),
            ("complete", "", &[""], "lose ClaimLost"),
            ("complete volume=v1", "", &[""], "lose ClaimLost"),
            ("complete volume=v0", "", &[""], "bind v0"),
            ("complete volume=v0", "", &["for=c uid=u"], "bind v0"),
            ("complete volume=v0", "", &["for=c uid=other"], "lose ClaimMisbound"),
        ];
        for (words, class_words, volumes, wanted) in many {
            let volumes: Vec<_> =
                volumes.iter().enumerate().map(|(i, words)| volume(&format!("v{i}"), words)).collect();
            let (claim, class) = (claim(words), class(class_words));
            let seen = Seen {
                claim: &claim,
                volumes: &volumes,
                class: class.as_ref(),
                default: None,
                waiting: &["p".to_owned()],
            };
            assert_eq!(shown(&for_claim(&seen)), *wanted, "{words} {class_words}");
        }
        let plain = claim("");
        let seen = Seen { claim: &plain, volumes: &[], class: None, default: Some("k"), waiting: &[] };
        assert_eq!(shown(&for_claim(&seen)), "classify k");
        let none = claim("class=");
        assert_eq!(shown(&for_claim(&Seen { claim: &none, ..seen })), NONE);
    }

    #[test]
    fn volumes_follow_their_claims() {
        let fails = |reason: &'static str, text: &str| {
            ForVolume::Release(Reclaim::Fail(Note::warning(reason, text.to_owned())))
        };
        for (words, claim_words, wanted) in [
            ("", None, ForVolume::Phase("Available")),
            ("for=c", None, ForVolume::Phase("Available")),
            ("for=c uid=u", None, ForVolume::Release(Reclaim::Nothing)),
            ("for=c uid=u policy=Delete by=example.com/p", None, ForVolume::Release(Reclaim::Nothing)),
            (
                "for=c uid=u policy=Delete",
                None,
                fails(
                    "VolumeFailedDelete",
                    "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched",
                ),
            ),
            (
                "for=c uid=u policy=Recycle",
                None,
                fails("VolumeFailedRecycle", "No recycler plugin found for the volume!"),
            ),
            ("for=c uid=u", Some(""), ForVolume::Wake),
            ("for=c uid=u", Some("volume=v"), ForVolume::Phase("Bound")),
            ("for=c uid=u", Some("volume=w"), ForVolume::Unbind),
            ("for=c uid=u policy=Delete by=example.com/p", Some("volume=w"), ForVolume::Release(Reclaim::Nothing)),
        ] {
            let claim = claim_words.map(claim);
            assert_eq!(for_volume(&volume("v", words), claim.as_ref()), wanted, "{words} {claim_words:?}");
        }
        assert!(matches!(for_volume(&volume("v", "block for=c uid=u"), Some(&claim(""))), ForVolume::Mismatch(..)));
    }

    #[test]
    fn both_sides_are_linked_once() {
        let (free, asks) = (volume("v", ""), claim(""));
        let linked = linked_volume(&free, &asks).unwrap();
        assert_eq!(linked_volume(&linked, &asks), None);
        assert_eq!(object::annotation(&linked.metadata, BY_CONTROLLER), Some("yes"));
        let kept = linked_volume(&volume("v", "for=c"), &asks).unwrap();
        assert_eq!((object::annotation(&kept.metadata, BY_CONTROLLER), is_for(&kept, &asks)), (None, true));
        let has = linked_claim(&asks, &linked).unwrap();
        assert_eq!((linked_claim(&has, &linked), volume_of(&has), is_complete(&has)), (None, "v", true));
        let own = linked_claim(&claim("volume=v"), &linked).unwrap();
        assert_eq!(object::annotation(&own.metadata, BY_CONTROLLER), None);
        assert_eq!(reference(&unlinked(&linked)), None);
        assert_eq!(reference(&unlinked(&kept)).map(|one| one.uid.clone()), Some(None));
        let said: Value = serde_json::to_value(status(&has, "Bound", Some(&linked))).unwrap();
        assert_eq!(said, json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}));
    }
}
