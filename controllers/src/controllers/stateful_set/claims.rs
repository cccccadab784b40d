//! Who owns the claims of a StatefulSet's pods, and so with whom they go, by `persistentVolumeClaimRetentionPolicy`. Pure. Source:
//! KEP-1847.

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::object;

/// What becomes of a claim's owners.
#[derive(Debug, PartialEq)]
pub(super) enum Owners {
    /// They are as they should be, or not ours to change.
    Kept,
    /// They become these.
    Changed(Vec<OwnerReference>),
    /// They become these, without set and pod: somebody else manages the claim.
    Foreign(Vec<OwnerReference>),
}

/// Whether the set deletes claims of pods that it no longer wants, and whether it deletes all with itself.
fn deletes(set: &StatefulSet) -> (bool, bool) {
    let policy =
        set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.clone()).unwrap_or_default();
    let deletes = |word: Option<&str>| word == Some("Delete");
    (deletes(policy.when_scaled.as_deref()), deletes(policy.when_deleted.as_deref()))
}

fn names(reference: &OwnerReference, version: &str, kind: &str, name: &str) -> bool {
    (reference.api_version.as_str(), reference.kind.as_str(), reference.name.as_str()) == (version, kind, name)
}

fn names_set(reference: &OwnerReference, set: &StatefulSet) -> bool {
    names(reference, "apps/v1", "StatefulSet", object::name(&set.metadata))
}

fn references(meta: &ObjectMeta) -> &[OwnerReference] {
    meta.owner_references.as_deref().unwrap_or_default()
}

/// The owners of a claim of this pod; `condemned` says that the set no longer wants the pod.
pub(super) fn owners(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod, condemned: bool) -> Owners {
    let held = references(&claim.metadata);
    let (set_uid, pod_uid) = (object::uid(&set.metadata), object::uid(&pod.metadata));
    let of_set = |one: &OwnerReference| names_set(one, set);
    let of_pod = |one: &OwnerReference| names(one, "v1", "Pod", object::name(&pod.metadata));
    let stale = |one: &OwnerReference| (of_set(one) && one.uid != set_uid) || (of_pod(one) && one.uid != pod_uid);
    if held.iter().any(stale) {
        return Owners::Kept;
    }
    let own = |one: &&OwnerReference| one.uid == set_uid || one.uid == pod_uid;
    let others: Vec<_> = held.iter().filter(|one| !of_set(one) && !of_pod(one)).cloned().collect();
    let (scaled, deleted) = deletes(set);
    if (scaled || deleted) && others.iter().any(|one| one.controller == Some(true)) {
        return if held.iter().any(|one| own(&one)) { Owners::Foreign(others) } else { Owners::Kept };
    }
    let wanted = if scaled && condemned {
        Some(object::controller_reference(pod))
    } else if deleted {
        Some(object::controller_reference(set))
    } else {
        None
    };
    let there: Vec<_> = held.iter().filter(own).map(|one| (one.uid.as_str(), one.controller)).collect();
    let right: Vec<_> = wanted.iter().map(|one| (one.uid.as_str(), Some(true))).collect();
    if there == right { Owners::Kept } else { Owners::Changed(others.into_iter().chain(wanted).collect()) }
}

/// Whether the claim still goes with an earlier pod of this name, so that a new one must wait.
pub(super) fn is_leaving(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &str) -> bool {
    deletes(set).0 && references(&claim.metadata).iter().any(|one| names(one, "v1", "Pod", pod))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(scaled: &str, deleted: &str) -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "db", "uid": "set"}, "spec": {"selector": {}, "template": {},
            "serviceName": "s", "persistentVolumeClaimRetentionPolicy": {"whenScaled": scaled, "whenDeleted": deleted}}}))
        .unwrap()
    }

    /// References by words: `set`, `pod`, `other`; `?` after one that does not control, `~` after one of another uid.
    fn refs(words: &str) -> Vec<OwnerReference> {
        let one = |word: &str| {
            let (version, kind, name) = match word.trim_end_matches(['?', '~']) {
                "set" => ("apps/v1", "StatefulSet", "db"),
                "pod" => ("v1", "Pod", "db-1"),
                _ => ("example.com/v1", "Keeper", "other"),
            };
            let uid = if word.contains('~') { "old" } else { word.trim_end_matches('?') };
            let mut one =
                json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "blockOwnerDeletion": true});
            if !word.contains('?') {
                one["controller"] = json!(true);
            }
            serde_json::from_value(one).unwrap()
        };
        words.split_whitespace().map(one).collect()
    }

    fn claim(words: &str) -> PersistentVolumeClaim {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.owner_references = Some(refs(words));
        claim
    }

    #[test]
    fn owners_follow_the_policy() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "db-1", "uid": "pod"}, "spec": Value::Null})).unwrap();
        let changed = |words: &str| Owners::Changed(refs(words));
        let (keep, go) = ("Retain", "Delete");
        for (scaled, deleted, condemned, held, wanted) in [
            (keep, keep, false, "", Owners::Kept),
            (keep, keep, false, "set pod", changed("")),
            (keep, keep, false, "other", Owners::Kept),
            (keep, go, false, "", changed("set")),
            (keep, go, true, "", changed("set")),
            (keep, go, false, "set", Owners::Kept),
            (keep, go, false, "set?", changed("set")),
            (keep, go, false, "set pod", changed("set")),
            (go, keep, false, "", Owners::Kept),
            (go, keep, true, "", changed("pod")),
            (go, keep, false, "pod", changed("")),
            (go, go, false, "", changed("set")),
            (go, go, true, "set", changed("pod")),
            (go, go, false, "other? pod", changed("other? set")),
            (go, go, false, "other", Owners::Kept),
            (go, go, false, "other set", Owners::Foreign(refs("other"))),
            (go, go, false, "set~", Owners::Kept),
            (go, go, true, "pod~ set", Owners::Kept),
        ] {
            let found = owners(&claim(held), &set(scaled, deleted), &pod, condemned);
            assert_eq!(found, wanted, "whenScaled {scaled}, whenDeleted {deleted}, {condemned}: {held:?}");
        }
    }

    #[test]
    fn a_pod_waits_for_the_claim_of_the_one_before() {
        assert!(is_leaving(&claim("pod~"), &set("Delete", "Retain"), "db-1"));
        assert!(!is_leaving(&claim("pod~"), &set("Delete", "Retain"), "db-2"));
        assert!(!is_leaving(&claim("pod~"), &set("Retain", "Delete"), "db-1"));
        assert!(!is_leaving(&claim("set"), &set("Delete", "Delete"), "db-1"));
    }
}
