//! What the caches hold, in bytes, and what gives way when that is more than it may be: rings first, then indexes. Objects stay, and no further
//! ones are created.
//!
//! Counts what is kept on purpose, not what the allocator makes of it. Never reads an object. Why: docs/decisions/0023.

use super::{Cache, Caches};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Events that every ring keeps: watches that are nearly up to date need them again and again.
pub(super) const SHORTEST: usize = if cfg!(test) { 4 } else { 64 };
/// Rings and indexes are cut down to so many hundredths of the limit, so that they are not cut for each event.
const CALM: u64 = 90;
/// Between two cuts.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Objects as they are.
    pub objects: u64,
    /// What the latest events hold beside them: what was replaced or deleted.
    pub ring: u64,
    /// Places in indexes; the objects in them are counted once.
    pub indexes: u64,
}

impl Held {
    fn total(self) -> u64 {
        self.objects + self.ring + self.indexes
    }
}

/// What all caches hold together.
pub struct Memory {
    limit: Option<u64>,
    objects: AtomicU64,
    rings: AtomicU64,
    indexes: AtomicU64,
    full: AtomicBool,
    pressed: Notify,
    gave_way: IntCounterVec,
}

fn moved(counter: &AtomicU64, before: u64, after: u64) {
    if after >= before {
        counter.fetch_add(after - before, Ordering::Relaxed);
    } else {
        counter.fetch_sub(before - after, Ordering::Relaxed);
    }
}

impl Memory {
    /// With a limit in bytes, or without one.
    ///
    /// # Panics
    /// When the counter's name is none: a mistake in this file.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Arc<Memory> {
        let options = Opts::new(
            "ironkeel_watch_cache_gave_way_total",
            "Times that rings or indexes of the watch cache were cut because it held more than it may.",
        );
        Arc::new(Memory {
            limit,
            objects: AtomicU64::new(0),
            rings: AtomicU64::new(0),
            indexes: AtomicU64::new(0),
            full: AtomicBool::new(false),
            pressed: Notify::new(),
            gave_way: IntCounterVec::new(options, &["part"]).expect("a constant name is valid"),
        })
    }

    /// All of it.
    #[must_use]
    pub fn held(&self) -> Held {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Held { objects: load(&self.objects), ring: load(&self.rings), indexes: load(&self.indexes) }
    }

    /// A cache holds this now, and held that before.
    pub(super) fn changed(&self, before: Held, after: Held) {
        moved(&self.objects, before.objects, after.objects);
        moved(&self.rings, before.ring, after.ring);
        moved(&self.indexes, before.indexes, after.indexes);
        let Some(limit) = self.limit else { return };
        let held = self.held();
        if held.total() > limit {
            self.pressed.notify_one();
        }
        let full = held.objects > limit;
        if self.full.swap(full, Ordering::Relaxed) != full {
            let objects = held.objects;
            if full {
                tracing::error!(objects, limit, "objects take more memory than they may: nothing is created any more");
            } else {
                tracing::info!(objects, limit, "objects take no more memory than they may: they can be created again");
            }
        }
    }

    /// Whether an index of so many bytes may be made.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.limit.is_none_or(|limit| self.held().total() + bytes <= limit / 100 * CALM)
    }

    /// Why nothing may be created, if that is so.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let limit = self.limit.filter(|_| self.full.load(Ordering::Relaxed))?;
        Some(format!(
            "the API server's memory is full: objects take {} bytes, --watch-cache-memory is {limit}; nothing is created until some are deleted",
            self.objects.load(Ordering::Relaxed)
        ))
    }
}

/// What gives way: its name, what a cache holds of it, and how it does.
type Part = (&'static str, fn(&Cache) -> u64, fn(&Cache) -> bool);

impl Caches {
    /// Cuts rings and indexes whenever the caches hold too much, until `stop`.
    pub(super) async fn keep_within(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.memory.pressed.notified() => {}
            }
            self.give_way();
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Halves the largest ring, and then gives up indexes, until there is calm.
    pub(super) fn give_way(&self) {
        let Some(limit) = self.memory.limit else { return };
        let all: Vec<Arc<Cache>> = self.all.read().values().cloned().collect();
        let high = || self.memory.held().total() > limit / 100 * CALM;
        let parts: [Part; 2] = [
            ("ring", |cache| cache.held().ring, Cache::halve_ring),
            ("index", |cache| cache.held().indexes, Cache::drop_indexes),
        ];
        for (part, size, cut) in parts {
            let mut caches = all.clone();
            while high() && !caches.is_empty() {
                let largest = caches.iter().enumerate().max_by_key(|(_, cache)| size(cache));
                let Some((at, _)) = largest.filter(|(_, cache)| size(cache) > 0) else { break };
                // One that cannot be cut further is not looked at again.
                if caches.get(at).is_some_and(|cache| cut(cache)) {
                    self.memory.gave_way.with_label_values(&[part]).inc();
                } else {
                    caches.swap_remove(at);
                }
            }
        }
    }
}

/// What caches hold, for `/metrics`.
pub(crate) struct Shown {
    caches: Caches,
    bytes: IntGaugeVec,
    limit: IntGauge,
}

impl Shown {
    /// Of these caches.
    ///
    /// # Errors
    /// When a name is none: a mistake in this file.
    pub(crate) fn new(caches: Caches) -> Result<Shown, prometheus::Error> {
        let limit =
            IntGauge::new("ironkeel_watch_cache_limit_bytes", "Bytes that the watch cache may hold; 0 for no limit.")?;
        limit.set(caches.memory.limit.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX)));
        let bytes = Opts::new("ironkeel_watch_cache_bytes", "Bytes that the watch cache holds, by what they are for.");
        Ok(Shown { caches, bytes: IntGaugeVec::new(bytes, &["group", "resource", "part"])?, limit })
    }
}

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        let counted = &self.caches.memory.gave_way;
        [self.bytes.desc(), self.limit.desc(), counted.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.bytes.reset();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let all: Vec<Arc<Cache>> = self.caches.all.read().values().cloned().collect();
        for cache in all {
            let (group, resource) = (cache.kind.group, cache.kind.plural);
            let held = cache.held();
            for (part, bytes) in [("objects", held.objects), ("ring", held.ring), ("indexes", held.indexes)] {
                self.bytes.with_label_values(&[group, resource, part]).set(number(bytes));
            }
        }
        let counted = self.caches.memory.gave_way.collect();
        [self.bytes.collect(), self.limit.collect(), counted].concat()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::authn::{AUTHENTICATED, User};
    use crate::cache::{By, Narrow};
    use crate::testing::World;
    use api::json::{Value, json};
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    const MAPS: &str = "/api/v1/namespaces/default/configmaps";

    fn root() -> User {
        User::new("root", &["system:masters", AUTHENTICATED])
    }

    fn map(name: &str, bytes: usize) -> Value {
        json!({"metadata": {"name": name, "labels": {"group": "a"}}, "data": {"text": "x".repeat(bytes)}})
    }

    /// Waits until everything that was written is in the cache, and looks until it is so.
    async fn until(cache: &Arc<Cache>, what: &str, holds: impl Fn() -> bool) {
        cache.consistent(None).await.unwrap();
        for _ in 0..500 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:?}", cache.held());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_counted_is_what_is_there() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let world = World::start(|_| {}).await;
        let server = world.running.server();
        let cache = server.caches.named("configmaps").unwrap();
        for step in 0..150 {
            if step == 75 {
                cache.index(By::Label("group".into()));
            }
            let name = format!("o-{}", random.random_range(0..8));
            let (object, path) = (map(&name, random.random_range(0..2000)), format!("{MAPS}/{name}"));
            let code = match random.random_range(0..3) {
                0 => world.ask(&root(), "DELETE", &path, &Value::Null).await.0,
                1 => world.ask(&root(), "POST", MAPS, &object).await.0,
                _ => world.ask(&root(), "PUT", &path, &object).await.0,
            };
            assert!(code < 300 || code == 404 || code == 409, "{code}");
        }
        // The others may all be deleted.
        assert_eq!(world.ask(&root(), "POST", MAPS, &map("last", 1)).await.0, 201);
        let narrow = Narrow { by: By::Label("group".into()), value: "a".to_owned() };
        until(&cache, "an index", || cache.any(Some(&narrow)).is_ok_and(|found| found.narrow)).await;
        assert_eq!(cache.held(), cache.counted(), "seed {seed}");
        assert!(cache.held().ring > 0 && cache.held().indexes > 0);
        let kinds = server.caches.kinds();
        let sum = || {
            kinds.iter().map(|kind| server.caches.of(kind).unwrap().held()).fold(Held::default(), |sum, one| Held {
                objects: sum.objects + one.objects,
                ring: sum.ring + one.ring,
                indexes: sum.indexes + one.indexes,
            })
        };
        // The server writes on its own as well, between two looks.
        until(&cache, "the sum is not what is held", || server.caches.memory().held() == sum()).await;
        let text = server.metrics.text();
        let count = cache.size().objects;
        for line in [
            format!("apiserver_resource_objects{{group=\"\",resource=\"configmaps\"}} {count}"),
            format!(
                "ironkeel_watch_cache_bytes{{group=\"\",part=\"ring\",resource=\"configmaps\"}} {}",
                cache.held().ring
            ),
            "ironkeel_watch_cache_limit_bytes 0".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        // A definition that goes takes its objects with it.
        let before = server.caches.memory().held().objects;
        server.caches.remove("configmaps");
        drop(cache);
        until(&server.caches.named("secrets").unwrap(), "freed", || server.caches.memory().held().objects < before)
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rings_give_way_first_then_indexes_and_then_nothing_is_created() {
        const ROOM: u64 = 600_000;
        const LARGE: usize = 20_000;
        let base = World::start(|_| {}).await.running.server().caches.memory().held().total();
        let limit = base + ROOM;
        let world = World::start(|config| config.cache_memory = Some(limit)).await;
        let server = world.running.server();
        let (memory, cache) = (server.caches.memory(), server.caches.named("configmaps").unwrap());
        let create = async |name: &str, bytes| world.ask(&root(), "POST", MAPS, &map(name, bytes)).await;
        assert_eq!(create("one", LARGE).await.0, 201);
        cache.index(By::Label("group".into()));
        until(&cache, "an index", || cache.held().indexes > 0).await;
        // Events, each with what it has replaced.
        for step in 0..60 {
            let object = map("one", LARGE + step);
            assert_eq!(world.ask(&root(), "PUT", &format!("{MAPS}/one"), &object).await.0, 200);
        }
        until(&cache, "a shorter ring", || memory.held().total() <= limit).await;
        let gave_way = |part: &str| memory.gave_way.with_label_values(&[part]).get();
        assert!(gave_way("ring") > 0);
        assert!(memory.refusal().is_none() && cache.held().indexes > 0, "rings were enough: {:?}", memory.held());
        // Objects, until they are too many.
        let mut made = 0_u64;
        let refused = loop {
            let (code, answer) = create(&format!("o-{made}"), LARGE).await;
            if code != 201 {
                break (code, answer);
            }
            made += 1;
            assert!(made < 2 * ROOM / LARGE as u64, "{:?}", memory.held());
            cache.consistent(None).await.unwrap();
        };
        assert_eq!(refused.0, 503, "{}", refused.1);
        let why = refused.1["message"].as_str().unwrap();
        assert!(why.contains("--watch-cache-memory") && memory.held().objects > limit, "{why}");
        until(&cache, "no indexes", || cache.held().indexes == 0).await;
        assert!(gave_way("index") > 0);
        cache.index(By::Label("group".into()));
        // Changes and reads go on, and deletions make room.
        let path = format!("{MAPS}/one");
        assert_eq!(world.ask(&root(), "PUT", &path, &map("one", LARGE)).await.0, 200);
        assert_eq!(world.ask(&root(), "GET", MAPS, &Value::Null).await.0, 200);
        assert_eq!(cache.held().indexes, 0, "there is no room for an index");
        for name in ["one".to_owned(), "o-0".to_owned(), "o-1".to_owned()] {
            assert_eq!(world.ask(&root(), "DELETE", &format!("{MAPS}/{name}"), &Value::Null).await.0, 200);
        }
        until(&cache, "room", || memory.refusal().is_none()).await;
        assert_eq!(create("later", 10).await.0, 201);
        assert_eq!(cache.held(), cache.counted());
    }
}
