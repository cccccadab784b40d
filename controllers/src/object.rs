//! Small questions about metadata, owners, percentages and hashes. Pure.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference, Time},
        util::intstr::IntOrString,
    },
};
use kube::Resource;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The resourceVersion as the number it is since Kubernetes 1.35; 0 if absent or not a number.
#[must_use]
pub fn revision(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The name, empty if absent.
#[must_use]
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The namespace, empty if absent.
#[must_use]
pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// The uid, empty if absent.
#[must_use]
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// An annotation's value.
#[must_use]
pub fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// A label's value.
#[must_use]
pub fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}

/// The owner reference that is marked as controller.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object is controlled by this uid.
#[must_use]
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// The owner reference a controller writes into what it makes.
#[must_use]
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name(owner.meta()).to_owned(),
        uid: uid(owner.meta()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Creation time, the epoch if absent.
#[must_use]
pub fn created(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Seconds from `from` to `to`; negative if `to` comes first.
#[must_use]
pub fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}

/// A time as the API keeps it: whole seconds.
#[must_use]
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A count or a percentage of `total`, rounded up or down; `None` if it is neither.
#[must_use]
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(count) => Some(*count),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(i64::from(total))?;
            let share = if round_up { product.checked_add(99)?.div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(share).ok()
        }
    }
}

/// Sets an entry of an optional map; whether that changed anything.
pub fn put(map: &mut Option<BTreeMap<String, String>>, name: &str, value: &str) -> bool {
    let map = map.get_or_insert_default();
    if map.get(name).is_some_and(|held| held == value) {
        return false;
    }
    map.insert(name.to_owned(), value.to_owned());
    true
}

/// A pod template without one label and without differences that mean nothing, for comparison and hashing.
#[must_use]
pub fn normal_template(template: &PodTemplateSpec, without_label: &str) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(without_label);
    }
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
    template
}

/// A short hash of a value and a collision count, in the letters that upstream allows in generated names (no vowels,
/// nothing that reads alike). It depends on the value's JSON alone, so that restarts and versions agree.
#[must_use]
pub fn short_hash<T: Serialize>(value: &T, collisions: Option<i32>) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut digest = Sha256::new();
    digest.update(serde_json::to_vec(value).unwrap_or_default());
    if let Some(count) = collisions {
        digest.update(count.to_le_bytes());
    }
    digest
        .finalize()
        .iter()
        .take(10)
        .filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()))
        .map(|letter| char::from(*letter))
        .collect()
}

/// Joins words as upstream prints lists of names in messages.
#[must_use]
pub fn join<'a>(words: impl IntoIterator<Item = &'a str>, between: &str) -> String {
    let mut text = String::new();
    for (at, word) in words.into_iter().enumerate() {
        let _ = write!(text, "{}{word}", if at == 0 { "" } else { between });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(scaled(&percent("25%"), 10, true), Some(3));
        assert_eq!(scaled(&percent("25%"), 10, false), Some(2));
        assert_eq!(scaled(&percent("100%"), 7, true), Some(7));
        assert_eq!(scaled(&IntOrString::Int(4), 10, true), Some(4));
        assert_eq!(scaled(&percent("lots"), 10, true), None);
    }

    #[test]
    fn hashes_are_stable_and_tell_collisions_apart() {
        let template = PodTemplateSpec::default();
        assert_eq!(short_hash(&template, None), short_hash(&template.clone(), None));
        assert_ne!(short_hash(&template, None), short_hash(&template, Some(1)));
        assert_eq!(short_hash(&template, None).len(), 10);
    }

    #[test]
    fn templates_compare_without_the_hash() {
        let with = |labels: &[(&str, &str)]| PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
                ..ObjectMeta::default()
            }),
            spec: None,
        };
        assert_eq!(normal_template(&with(&[("h", "1")]), "h"), normal_template(&with(&[]), "h"));
        assert_ne!(normal_template(&with(&[("a", "1")]), "h"), normal_template(&with(&[]), "h"));
    }
}
