//! Objects of a kind by the value of one label or one field, for lists that want few of many.
//!
//! Made when a list has looked at many objects to find few, and kept as long as it is among the latest used. Each value's objects
//! are a persistent map, as the whole kind is: who holds one sees what it held then. Never decides who may read what.

use super::{Entry, Event, Key};
use imbl::OrdMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use storage::store::EventKind;

/// The most indexes of a kind.
const MOST: usize = 8;

/// What an index looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// `metadata.labels` with this key; objects without it are in no index.
    Label(Box<str>),
    /// The selectable field of the stored kind at this place.
    Field(usize),
}

impl By {
    fn value<'a>(&self, entry: &'a Entry) -> Option<&'a str> {
        match self {
            By::Label(key) => entry.labels.get(key),
            By::Field(at) => entry.fields.get(*at).map(String::as_str),
        }
    }
}

/// The one value that all wanted objects have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// Where.
    pub by: By,
    /// The value.
    pub value: String,
}

impl Narrow {
    /// The object has it.
    #[must_use]
    pub fn holds(&self, entry: &Entry) -> bool {
        self.by.value(entry) == Some(&self.value)
    }
}

/// One index.
pub(super) struct Index {
    values: HashMap<Box<str>, OrdMap<Key, Arc<Entry>>>,
    /// Objects in it.
    places: usize,
    /// When it was used last, by the count of uses.
    used: AtomicU64,
}

impl Index {
    /// Of all objects of a picture.
    pub(super) fn new<'a>(by: &By, entries: impl Iterator<Item = &'a Arc<Entry>>) -> Index {
        let mut index = Index { values: HashMap::new(), places: 0, used: AtomicU64::new(0) };
        for entry in entries {
            index.insert(by, entry);
        }
        index
    }

    /// Bytes of an index with so many places: keys, references, and the room in nodes that are not full.
    pub(super) fn weight_of(places: usize) -> u64 {
        (places * 2 * (size_of::<Key>() + size_of::<usize>())) as u64
    }

    fn insert(&mut self, by: &By, entry: &Arc<Entry>) {
        let Some(value) = by.value(entry) else { return };
        if let Some(objects) = self.values.get_mut(value) {
            self.places += usize::from(objects.insert(entry.key.clone(), Arc::clone(entry)).is_none());
        } else {
            self.places += 1;
            self.values.insert(value.into(), OrdMap::unit(entry.key.clone(), Arc::clone(entry)));
        }
    }

    fn remove(&mut self, by: &By, entry: &Entry) {
        let Some(value) = by.value(entry) else { return };
        let Some(objects) = self.values.get_mut(value) else { return };
        self.places -= usize::from(objects.remove(&entry.key).is_some());
        if objects.is_empty() {
            self.values.remove(value);
        }
    }

    /// Follows what has happened.
    pub(super) fn apply(&mut self, by: &By, event: &Event) {
        if let Some(previous) = &event.previous {
            self.remove(by, previous);
        }
        if event.kind != EventKind::Deleted {
            self.insert(by, &event.object);
        }
    }
}

/// The indexes of a kind.
#[derive(Default)]
pub(super) struct Indexes {
    all: HashMap<By, Index>,
    uses: AtomicU64,
}

impl Indexes {
    /// The objects of a value, if there is such an index.
    pub(super) fn find(&self, narrow: &Narrow) -> Option<OrdMap<Key, Arc<Entry>>> {
        let index = self.all.get(&narrow.by)?;
        index.used.store(self.uses.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(index.values.get(narrow.value.as_str()).cloned().unwrap_or_default())
    }

    /// Bytes of all of them.
    pub(super) fn weight(&self) -> u64 {
        self.all.values().map(|index| Index::weight_of(index.places)).sum()
    }

    /// The same, counted anew.
    #[cfg(test)]
    pub(super) fn counted(&self) -> u64 {
        let places = |index: &Index| index.values.values().map(OrdMap::len).sum();
        self.all.values().map(|index| Index::weight_of(places(index))).sum()
    }

    pub(super) fn has(&self, by: &By) -> bool {
        self.all.contains_key(by)
    }

    /// Takes a new index; that which was not used for longest goes where there are too many.
    pub(super) fn add(&mut self, by: By, index: Index) {
        index.used.store(self.uses.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.all.insert(by, index);
        if self.all.len() > MOST {
            let oldest = self.all.iter().min_by_key(|(_, index)| index.used.load(Ordering::Relaxed));
            if let Some(by) = oldest.map(|(by, _)| by.clone()) {
                self.all.remove(&by);
            }
        }
    }

    pub(super) fn apply(&mut self, event: &Event) {
        for (by, index) in &mut self.all {
            index.apply(by, event);
        }
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;
    use crate::cache::Snapshot;
    use crate::testing::World;
    use api::json::{Value, json};
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    use std::time::Duration;

    /// Objects and their versions.
    type Found = Vec<(Key, u64)>;

    fn keys(snapshot: &Snapshot, narrow: &Narrow) -> Found {
        let there = snapshot.objects.values().filter(|entry| narrow.holds(entry));
        there.map(|entry| (entry.key.clone(), entry.revision)).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_index_says_what_looking_at_all_objects_would() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let world = World::start(|_| {}).await;
        let user = User::new("admin", &["system:masters"]);
        let cache = world.running.server().caches.named("configmaps").unwrap();
        let narrows: Vec<Narrow> =
            (0..4).map(|value| Narrow { by: By::Label("group".into()), value: format!("{value}") }).collect();
        let mut past: Vec<(u64, Vec<Found>)> = Vec::new();
        for step in 0..200 {
            if step == 50 {
                cache.index(narrows[0].by.clone());
            }
            let path = "/api/v1/namespaces/default/configmaps";
            let (name, group) = (format!("o-{}", random.random_range(0..12)), random.random_range(0..3));
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "labels": {"group": format!("{group}"), "step": format!("{step}")}}});
            let code = match random.random_range(0..3) {
                0 => world.ask(&user, "DELETE", &format!("{path}/{name}"), &Value::Null).await.0,
                _ => match world.ask(&user, "POST", path, &object).await.0 {
                    409 => world.ask(&user, "PUT", &format!("{path}/{name}"), &object).await.0,
                    code => code,
                },
            };
            assert!(code < 300 || code == 404, "{code}");
            let all = cache.consistent(None).await.unwrap();
            past.push((all.revision, narrows.iter().map(|narrow| keys(&all, narrow)).collect()));
        }
        // It is made beside the writes.
        for _ in 0..500 {
            if cache.consistent(Some(&narrows[0])).await.unwrap().narrow {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The ring of a test reaches back 64 events.
        for (revision, want) in past.iter().rev().take(50) {
            for (narrow, want) in narrows.iter().zip(want) {
                let found = cache.at(*revision, Some(narrow)).await.unwrap();
                assert!(found.narrow, "there is an index");
                let got: Vec<_> = found.objects.values().map(|entry| (entry.key.clone(), entry.revision)).collect();
                assert_eq!(&got, want, "seed {seed}, {narrow:?} at {revision}");
            }
        }
    }
}
