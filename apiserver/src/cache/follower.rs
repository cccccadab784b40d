//! Who is told what happens in a cache before anybody who watches it: indexes over kinds, which then never lag behind what a client has seen.
//!
//! Never asks the cache that tells it: that may hold its lock.

use super::{Entry, Event, Key};
use imbl::OrdMap;
use std::sync::Arc;
use storage::store::EventKind;

/// An object before and after something happened to it; one of them is there.
#[derive(Clone)]
pub struct Turn {
    /// As it was.
    pub before: Option<Arc<Entry>>,
    /// As it is.
    pub now: Option<Arc<Entry>>,
}

/// See the file.
pub trait Follower: Send + Sync {
    /// What has happened, in order.
    fn turned(&self, turns: &[Turn]);
}

impl Turn {
    pub(super) fn of(event: &Event) -> Turn {
        let now = (event.kind != EventKind::Deleted).then(|| Arc::clone(&event.object));
        Turn { before: event.previous.clone(), now }
    }

    /// From one picture of a kind to another.
    pub(super) fn between(before: &OrdMap<Key, Arc<Entry>>, now: &OrdMap<Key, Arc<Entry>>) -> Vec<Turn> {
        let gone = before.iter().filter(|(key, _)| !now.contains_key(*key));
        let gone = gone.map(|(_, entry)| Turn { before: Some(Arc::clone(entry)), now: None });
        let came =
            now.iter().map(|(key, entry)| Turn { before: before.get(key).cloned(), now: Some(Arc::clone(entry)) });
        let same = |turn: &Turn| {
            let revision = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.revision);
            revision(&turn.before) == revision(&turn.now)
        };
        gone.chain(came.filter(|turn| !same(turn))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn from_a_picture_to_another() {
        let kind = api::kinds::by_gvk("", "v1", "ConfigMap").unwrap();
        let picture = |objects: &[(&str, u64)]| -> OrdMap<Key, Arc<Entry>> {
            let entry = |(name, revision): &(&str, u64)| {
                let key = storage::store::Key::new("configmaps", "n", name);
                let entry = Entry::new(kind, &key, *revision, &Bytes::from_static(b"{}"));
                (entry.key.clone(), Arc::new(entry))
            };
            objects.iter().map(entry).collect()
        };
        let (before, now) = (picture(&[("a", 1), ("b", 2), ("c", 3)]), picture(&[("b", 2), ("c", 4), ("d", 5)]));
        let shown: Vec<_> = Turn::between(&before, &now)
            .iter()
            .map(|turn| [&turn.before, &turn.now].map(|entry| entry.as_ref().map(|entry| entry.revision)))
            .collect();
        assert_eq!(shown, [[Some(1), None], [Some(3), Some(4)], [None, Some(5)]]);
    }
}
