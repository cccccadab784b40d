//! What only a distributed engine meets: servers that die, stand still or are not there, and the wrong database behind a file.
//!
//! Each test has a cluster of its own. Rounds are short; `FDB_ROUNDS=n` makes more of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test are the test")]

#[path = "fdb/mod.rs"]
mod fdb;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use fdb::{Cluster, Programs};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use storage::clock::SystemClock;
use storage::engines;
use storage::foundationdb::{FoundationDb, Options};
use storage::kv::{Kv, KvError, Mutation, RangeRead, Read, Rows, Transaction, Version, Watch};
use storage::sim::{Faults, Sim};
use storage::store::backup::{At, Backup, BackupError, Source};
use storage::store::check::check;
use storage::store::{Commit, Event, EventKind, Expect, Key, Op, Revision, Store, StoreError};

const TASKS: usize = 8;
const NAMES: usize = 5;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

fn options(millis: u64) -> Options {
    Options::parse(&[("timeout", &millis.to_string())]).unwrap()
}

fn engine(cluster: &Cluster, millis: u64) -> FoundationDb {
    FoundationDb::open(cluster.file(), &options(millis)).unwrap()
}

async fn store(cluster: &Cluster, millis: u64) -> Store {
    Store::open(Arc::new(engine(cluster, millis)), Arc::new(SystemClock)).await.unwrap()
}

fn rounds(default: u32) -> u32 {
    std::env::var("FDB_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn put(resource: &str, name: &str, bytes: impl Into<Bytes>) -> Op {
    Op::Put { key: Key::new(resource, "", name), bytes: bytes.into(), expect: Expect::Any, expires: None }
}

/// What a writer was told.
struct Told {
    text: String,
    answer: Result<Revision, StoreError>,
    took: Duration,
}

/// Writes pairs until told to stop: `a` and `b` of a name always hold the same text, by one commit.
async fn write(store: Store, task: usize, stop: Arc<AtomicBool>) -> Vec<Told> {
    let mut told = Vec::new();
    for turn in 0usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let size = if turn % 40 == 7 { 200_000 } else { 300 };
        let text = format!("{task}.{turn}.{}", "x".repeat(size));
        let name = format!("{task}-{}", turn % NAMES);
        let ops = ["a", "b"].map(|side| put(side, &name, text.clone())).into();
        let begun = Instant::now();
        let answer = store.commit(Commit { ops, who: "faults".into(), ..Commit::default() }).await;
        told.push(Told { text: format!("{task}.{turn}."), answer, took: begun.elapsed() });
    }
    told
}

fn head(event: &Event) -> String {
    let text = String::from_utf8_lossy(&event.bytes[..event.bytes.len().min(40)]).into_owned();
    text.trim_end_matches('x').to_owned()
}

/// All events of a resource, once and in order, through a tail that goes on over every error.
async fn follow(store: Store, resource: &'static str, end: Arc<AtomicU64>) -> Vec<Event> {
    let mut tail = store.tail(resource, Revision(0));
    let mut events: Vec<Event> = Vec::new();
    loop {
        let until = end.load(Ordering::Relaxed);
        if until != 0 && tail.position().0 >= until {
            return events;
        }
        match tokio::time::timeout(Duration::from_millis(500), tail.next()).await {
            Ok(Ok(some)) => events.extend(some),
            Ok(Err(StoreError::Unavailable(_))) | Err(_) => {}
            Ok(Err(e)) => panic!("{e}"),
        }
        if until != 0 {
            match tail.catch_up().await {
                Ok(some) => events.extend(some),
                Err(StoreError::Unavailable(_)) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
}

/// Load beside `harm`, then the account: what was acknowledged is there once, at its revision, whole; what was refused is not.
async fn under_load(cluster: &mut Cluster, name: &str, harm: impl AsyncFn(&mut Cluster)) {
    let stores = join_all((0..2).map(|_| store(cluster, 10_000))).await;
    let stop = Arc::new(AtomicBool::new(false));
    let end = Arc::new(AtomicU64::new(0));
    let tails = ["a", "b"].map(|side| tokio::spawn(follow(stores[1].clone(), side, end.clone())));
    let writers: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(write(stores[task % 2].clone(), task, stop.clone()))).collect();
    harm(cluster).await;
    stop.store(true, Ordering::Relaxed);
    let told: Vec<Told> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    // A commit in doubt lands within the life of its read version, if it does.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let latest = loop {
        match stores[0].read_revision().await {
            Ok(latest) => break latest,
            Err(e) => eprintln!("{name}: {e}"),
        }
    };
    end.store(latest.0, Ordering::Relaxed);
    let mut logs: Vec<BTreeMap<String, Revision>> = Vec::new();
    for tail in tails {
        let events = tail.await.unwrap();
        assert!(events.is_sorted_by(|a, b| a.revision < b.revision), "{name}: in order, each once");
        let mut log = BTreeMap::new();
        for event in &events {
            assert_ne!(event.op, EventKind::Deleted);
            assert_eq!(log.insert(head(event), event.revision), None, "{name}: a commit happens once");
        }
        logs.push(log);
    }
    assert_eq!(logs[0], logs[1], "{name}: no commit is half there");
    let (mut acknowledged, mut unknown, mut refused, mut longest) = (0, 0, 0, Duration::ZERO);
    for Told { text, answer, took } in told {
        let there = logs[0].get(&text).copied();
        longest = longest.max(took);
        match answer {
            Ok(revision) => {
                acknowledged += 1;
                assert_eq!(there, Some(revision), "{name}: {text} was acknowledged");
            }
            Err(StoreError::MaybeCommitted(_)) => unknown += 1,
            Err(StoreError::Unavailable(e)) => {
                refused += 1;
                assert_eq!(there, None, "{name}: {text} was refused: {e}");
            }
            Err(e) => panic!("{name}: {text}: {e}"),
        }
    }
    eprintln!(
        "{name}: {acknowledged} acknowledged, {unknown} unknown, {refused} refused, longest commit {longest:?}, {} in the log",
        logs[0].len()
    );
    assert!(acknowledged > 20, "{name}: some load came through");
    // What the log says is what the objects say, large ones included.
    for side in ["a", "b"] {
        for (key, object) in stores[1].list(side, None, None, 0).await.unwrap().items {
            let text = String::from_utf8_lossy(&object.bytes).into_owned();
            let head = text.trim_end_matches('x').to_owned();
            assert_eq!(logs[0].get(&head), Some(&object.revision), "{name}: {key}");
            assert!(text.len() == head.len() + 300 || text.len() == head.len() + 200_000, "{name}: {key} is whole");
        }
    }
}

async fn rest(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// A store that a restore takes some seconds for: small and large objects, some of them replaced and deleted.
async fn source() -> (Vec<u8>, BTreeMap<Key, Bytes>) {
    let kv: Arc<dyn Kv> = Arc::new(Sim::new(1, Faults::NONE));
    let store = Store::open(kv.clone(), Arc::new(SystemClock)).await.unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let mut held = BTreeMap::new();
    for turn in 0..160u32 {
        let mut ops = Vec::new();
        for n in 0..20u32 {
            let mut bytes = vec![0; if n == 0 { 150_000 } else { 2_000 }];
            rng.fill_bytes(&mut bytes);
            let name = format!("{:04}", (turn * 20 + n) % 2_000);
            let key = Key::new("things", "", &name);
            if n == 7 && held.remove(&key).is_some() {
                ops.push(Op::Delete { key, last: "gone".into(), expect: Expect::Any });
            } else {
                ops.push(put("things", &name, bytes.clone()));
                held.insert(key, Bytes::from(bytes));
            }
        }
        store.commit(Commit { ops, who: "source".into(), ..Commit::default() }).await.unwrap();
    }
    let mut backup = Backup::new(kv, Arc::new(SystemClock), |_| false);
    let mut file = Vec::new();
    while let Some(bytes) = backup.next().await.unwrap() {
        file.extend_from_slice(&bytes);
    }
    (file, held)
}

/// Opens the store if it says that it is whole, and then it must be. False when it says that a restore has to be done again.
async fn whole_or_says_so(cluster: &Cluster, name: &str, held: &BTreeMap<Key, Bytes>) -> bool {
    let kv: Arc<dyn Kv> = Arc::new(engine(cluster, 20_000));
    let store = loop {
        match Store::open(kv.clone(), Arc::new(SystemClock)).await {
            Ok(store) => break store,
            // The restore had not begun to write, or moved versions on a moment ago.
            Err(StoreError::Unavailable(e)) => eprintln!("{name}: {e}"),
            Err(e) => {
                assert!(matches!(e, StoreError::Corrupt(_)), "{name}: {e}");
                let said = e.to_string();
                assert!(said.contains("was not finished; run `ironkeel restore` into it again"), "{name}: {said}");
                return false;
            }
        }
        rest(100).await;
    };
    let items = store.list("things", None, None, 0).await.unwrap().items;
    let found: BTreeMap<Key, Bytes> = items.into_iter().map(|(key, object)| (key, object.bytes)).collect();
    assert_eq!(found.len(), held.len(), "{name}: it opens, so it is whole");
    assert!(found == *held, "{name}: and exact");
    assert_eq!(check(kv.as_ref()).await.unwrap().findings, Vec::new(), "{name}");
    true
}

/// Servers die while a backup is restored. The restore ends well and exactly, or it says that it did not; then the store does not open
/// until one has, and the next one does.
#[test]
fn a_restore_outlives_its_servers_or_says_that_it_did_not() {
    let Some(programs) = Programs::or_say("killing fdbservers during a restore") else { return };
    let mut cluster = Cluster::double(&programs);
    runtime().block_on(async {
        let (file, held) = source().await;
        let restore = |cluster: &Cluster, done: Arc<AtomicU64>| {
            let kv = engine(cluster, 4_000);
            let mut source = Source::verify(Cursor::new(file.clone()), |_| false).unwrap();
            let point = source.point(At::Latest).unwrap();
            let rows = source.summary().rows;
            let progress = move |n: u64| done.store(n * 100 / rows, Ordering::Relaxed);
            tokio::spawn(async move { source.restore(&kv, &SystemClock, point, progress).await })
        };
        let (mut whole, mut said) = (0, 0);
        // How many die, at which hundredth of the restore, and for how long they are gone.
        let deaths = [(1, 1, 2_000), (1, 50, 2_000), (3, 30, 500), (3, 70, 9_000), (3, 99, 9_000), (1, 99, 3_000)];
        for round in 0..rounds(1) {
            for (die, at, gone) in deaths {
                let name = format!("{die} of 3 die at {at} % for {gone} ms");
                let kv = engine(&cluster, 20_000);
                let mut tx = kv.begin();
                tx.mutate(Mutation::ClearRange(vec![0].into(), vec![0xff].into()));
                tx.commit().await.unwrap();
                let done = Arc::new(AtomicU64::new(0));
                let begun = Instant::now();
                let restored = restore(&cluster, done.clone());
                while done.load(Ordering::Relaxed) < at && !restored.is_finished() {
                    rest(5).await;
                }
                let first = usize::try_from(u64::from(round) + at).unwrap();
                let victims: Vec<usize> = (0..die).map(|i| (first + i) % cluster.len()).collect();
                victims.iter().for_each(|i| cluster.kill(*i));
                rest(gone).await;
                victims.iter().for_each(|i| cluster.run(*i));
                let answer = restored.await.unwrap();
                tokio::task::block_in_place(|| cluster.wait_available(Duration::from_secs(60)));
                let opens = whole_or_says_so(&cluster, &name, &held).await;
                eprintln!(
                    "{name}: {:?} after {:?}, opens: {opens}",
                    answer.as_ref().map(|r| r.objects),
                    begun.elapsed()
                );
                match answer {
                    Ok(restored) => {
                        assert!(opens, "{name}: a restore that ended well is there");
                        assert_eq!(restored.objects, held.len() as u64, "{name}");
                        whole += 1;
                    }
                    Err(e) => {
                        assert!(matches!(e, BackupError::Store(StoreError::Unavailable(_))), "{name}: {e}");
                        said += 1;
                    }
                }
                if !opens {
                    // As an operator does it, who was told to.
                    let again = restore(&cluster, Arc::default()).await.unwrap();
                    assert_eq!(again.unwrap().objects, held.len() as u64, "{name}: the next restore");
                    assert!(whole_or_says_so(&cluster, &name, &held).await, "{name}: is there");
                }
                tokio::task::block_in_place(|| cluster.wait_healthy(Duration::from_secs(120)));
            }
        }
        eprintln!("{whole} restores ended well under a death, {said} said that they did not");
        assert!(said > 0, "no death was long enough for a restore to end by it");
    });
}

/// Of three servers with `double`, any one may die under load; nothing acknowledged goes, and it comes back.
#[test]
fn a_killed_server_of_three_loses_nothing() {
    let Some(programs) = Programs::or_say("killing an fdbserver of three") else { return };
    let mut cluster = Cluster::double(&programs);
    runtime().block_on(under_load(&mut cluster, "kill one of three", async |cluster| {
        for round in 0..rounds(3) {
            rest(1_500).await;
            let i = usize::try_from(round).unwrap() % cluster.len();
            cluster.kill(i);
            rest(3_000).await;
            cluster.run(i);
            // The next victim must not hold the only copy of anything.
            tokio::task::block_in_place(|| cluster.wait_healthy(Duration::from_secs(120)));
        }
        rest(1_000).await;
    }));
}

/// The whole cluster dies and starts again, as after a power cut of all machines.
#[test]
fn a_restart_of_the_cluster_loses_nothing() {
    let Some(programs) = Programs::or_say("restarting a FoundationDB cluster") else { return };
    for (name, mut cluster) in
        [("restart one", Cluster::single(&programs)), ("restart three", Cluster::double(&programs))]
    {
        runtime().block_on(under_load(&mut cluster, name, async |cluster| {
            for _ in 0..rounds(2) {
                rest(1_500).await;
                (0..cluster.len()).for_each(|i| cluster.kill(i));
                rest(500).await;
                (0..cluster.len()).for_each(|i| cluster.run(i));
                tokio::task::block_in_place(|| cluster.wait_available(Duration::from_secs(60)));
            }
            rest(1_500).await;
        }));
    }
}

/// A pause in which nothing is answered, as in a recovery: shorter than the timeout it is only a pause; longer, it is said, and commits in
/// flight are unknown and never lied about.
#[test]
fn pauses_are_waited_for_or_named() {
    let Some(programs) = Programs::or_say("pauses of FoundationDB") else { return };
    let mut cluster = Cluster::single(&programs);
    runtime().block_on(async {
        let patient = store(&cluster, 10_000).await;
        let hasty = store(&cluster, 500).await;
        let key = Key::new("pauses", "", "k");
        let mut before = Revision(0);
        for round in 0..rounds(3) {
            cluster.freeze(0, true);
            let (pause, begun) = (Duration::from_millis(2_500), Instant::now());
            let waiting = {
                let (patient, key) = (patient.clone(), key.clone());
                tokio::spawn(async move {
                    let op = Op::Put { key, bytes: format!("{round}").into(), expect: Expect::Any, expires: None };
                    patient.commit(Commit { ops: vec![op], ..Commit::default() }).await
                })
            };
            let refused = hasty.get(&key).await.unwrap_err();
            assert!(begun.elapsed() < Duration::from_millis(2_000), "a timeout ends a read: {:?}", begun.elapsed());
            let StoreError::Unavailable(said) = refused else { panic!("{refused}") };
            assert!(said.contains("did not answer within 500ms") && said.contains("fdbcli"), "{said}");
            rest(u64::try_from(pause.saturating_sub(begun.elapsed()).as_millis()).unwrap()).await;
            cluster.freeze(0, false);
            let revision = waiting.await.unwrap().expect("a pause that is shorter than the timeout is waited for");
            assert!(revision > before);
            before = revision;
            let held = patient.get(&key).await.unwrap().unwrap();
            assert_eq!((held.revision, held.bytes), (revision, Bytes::from(format!("{round}"))));
        }
        // Commits that the timeout catches half-way.
        under_load(&mut cluster, "stand still", async |cluster| {
            for _ in 0..rounds(2) {
                rest(700).await;
                cluster.freeze(0, true);
                rest(3_000).await;
                cluster.freeze(0, false);
            }
            rest(700).await;
        })
        .await;
    });
}

/// The engine alone: a commit that times out is unknown, whatever became of it.
#[test]
fn a_commit_that_times_out_is_unknown() {
    let Some(programs) = Programs::or_say("commits that time out") else { return };
    let cluster = Cluster::single(&programs);
    runtime().block_on(async {
        let kv = engine(&cluster, 1_000);
        let mut tx = kv.begin();
        assert_eq!(tx.get(b"k", Read::Serializable).await, Ok(None));
        tx.mutate(Mutation::Set("k".into(), "v".into()));
        cluster.freeze(0, true);
        let answer = tx.commit().await;
        cluster.freeze(0, false);
        assert!(matches!(&answer, Err(KvError::Unknown(said)) if said.contains("1031")), "{answer:?}");
        let read_only = kv.begin();
        assert_eq!(read_only.get(b"other", Read::Serializable).await, Ok(None));
        read_only.commit().await.unwrap();
    });
}

/// FoundationDB keeps a snapshot for five seconds; a list that takes longer shows one state all the same.
#[test]
fn a_list_outlives_the_snapshot_of_foundationdb() {
    let Some(programs) = Programs::or_say("lists that outlive a snapshot of FoundationDB") else { return };
    let cluster = Cluster::single(&programs);
    runtime().block_on(async {
        let kv = engine(&cluster, 10_000);
        // Its own timeout is not what ends it.
        let tx = engine(&cluster, 60_000).begin();
        tx.get(b"k", Read::Snapshot).await.unwrap();
        let fast = Store::open(Arc::new(kv.clone()), Arc::new(SystemClock)).await.unwrap();
        for from in (0..4_000).step_by(500) {
            let ops = (from..from + 500).map(|i| put("rows", &format!("{i:05}"), format!("{i}"))).collect();
            fast.commit(Commit { ops, ..Commit::default() }).await.unwrap();
        }
        let too_old = Arc::new(AtomicU64::new(0));
        let slow = Arc::new(Slow { kv: kv.clone(), too_old: too_old.clone() });
        let store = Store::open(slow, Arc::new(SystemClock)).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (fast, stop) = (fast.clone(), stop.clone());
            tokio::spawn(async move {
                for turn in 0u32.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("{:05}", turn.wrapping_mul(2_654_435_761) % 4_400);
                    let op = match turn % 3 {
                        0 => Op::Delete { key: Key::new("rows", "", &name), last: "".into(), expect: Expect::Any },
                        _ => put("rows", &name, format!("turn {turn}")),
                    };
                    fast.commit(Commit { ops: vec![op], ..Commit::default() }).await.unwrap();
                    rest(5).await;
                }
            })
        };
        let begun = Instant::now();
        let page = store.list("rows", None, None, 0).await.unwrap();
        let took = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
        writer.await.unwrap();
        let too_old = too_old.load(Ordering::Relaxed);
        eprintln!("a list of {} objects took {took:?} and outlived {too_old} snapshots", page.items.len());
        assert!(took > Duration::from_secs(5) && too_old > 0, "the list is slower than a snapshot lasts");
        let mut state: BTreeMap<Key, Bytes> = page.items.into_iter().map(|(k, v)| (k, v.bytes)).collect();
        let mut tail = fast.tail("rows", page.revision);
        loop {
            let events = tail.catch_up().await.unwrap();
            if events.is_empty() {
                break;
            }
            for event in events {
                assert_eq!(event.previous, state.get(&event.key).cloned(), "{} at {}", event.key, event.revision);
                match event.op {
                    EventKind::Deleted => state.remove(&event.key),
                    EventKind::Created | EventKind::Updated => state.insert(event.key, event.bytes),
                };
            }
        }
        let now: BTreeMap<Key, Bytes> =
            fast.list("rows", None, None, 0).await.unwrap().items.into_iter().map(|(k, v)| (k, v.bytes)).collect();
        assert!(state == now, "the list and what came after it make up the state");
        // The engine's own word for it, from a transaction that read before all this; what it read then it would answer from memory.
        assert_eq!(tx.get(b"l", Read::Snapshot).await, Err(KvError::TooOld));
    });
}

/// The engine with slow range reads.
#[derive(Debug)]
struct Slow {
    kv: FoundationDb,
    too_old: Arc<AtomicU64>,
}

impl Kv for Slow {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(SlowTx { tx: self.kv.begin(), too_old: self.too_old.clone() })
    }
}

struct SlowTx {
    tx: Box<dyn Transaction>,
    too_old: Arc<AtomicU64>,
}

#[async_trait]
impl Transaction for SlowTx {
    async fn read_version(&self) -> Result<Version, KvError> {
        self.tx.read_version().await
    }

    async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>, KvError> {
        self.tx.get(key, read).await
    }

    async fn get_range(&self, range: &RangeRead, read: Read) -> Result<Rows, KvError> {
        rest(800).await;
        let rows = self.tx.get_range(range, read).await;
        if rows == Err(KvError::TooOld) {
            self.too_old.fetch_add(1, Ordering::Relaxed);
        }
        rows
    }

    fn mutate(&mut self, mutation: Mutation) {
        self.tx.mutate(mutation);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.tx.add_read_conflict(begin, end);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.tx.add_write_conflict(begin, end);
    }

    fn watch(&mut self, key: &[u8]) -> Watch {
        self.tx.watch(key)
    }

    async fn commit(self: Box<Self>) -> Result<Version, KvError> {
        self.tx.commit().await
    }
}

/// One watch, two handles: a change through one wakes a tail of the other at once, not when a watch gives up.
#[test]
fn a_tail_is_woken_by_another_process_s_commit() {
    let Some(programs) = Programs::or_say("tails woken by FoundationDB's watches") else { return };
    let cluster = Cluster::single(&programs);
    runtime().block_on(async {
        let (writer, reader) = (store(&cluster, 10_000).await, store(&cluster, 10_000).await);
        let mut tail = reader.tail("woken", Revision(0));
        let mut took = Vec::new();
        for turn in 0..20 {
            let waiting = tokio::spawn(async move {
                let events = tail.next().await;
                (tail, events, Instant::now())
            });
            rest(50).await;
            let begun = Instant::now();
            let revision = writer
                .commit(Commit { ops: vec![put("woken", "k", format!("{turn}"))], ..Commit::default() })
                .await
                .unwrap();
            let (back, events, at) = waiting.await.unwrap();
            tail = back;
            let events = events.unwrap();
            assert_eq!((events.len(), events[0].revision), (1, revision));
            took.push(at.duration_since(begun));
        }
        took.sort();
        eprintln!(
            "from the start of a commit to its event through another handle: median {:?}, longest {:?}",
            took[10], took[19]
        );
        assert!(took[19] < Duration::from_secs(5), "a watch wakes, not a timer");
    });
}

/// What is wrong with a place is said with what to do, and nothing is written there.
#[test]
fn wrong_places_are_refused_and_left_alone() {
    let Some(programs) = Programs::or_say("wrong cluster files") else { return };
    let cluster = Cluster::single(&programs);
    let spec = |file: &std::path::Path| format!("foundationdb:{}", file.display());
    let missing = cluster.dir().join("missing.cluster");
    let said = engines::open(&spec(&missing)).unwrap_err().to_string();
    assert!(said.starts_with("there is no cluster file") && said.contains("copy fdb.cluster"), "{said}");
    let wrong = cluster.dir().join("wrong.cluster");
    std::fs::write(&wrong, "not a cluster file\n").unwrap();
    let said = engines::open(&spec(&wrong)).unwrap_err().to_string();
    assert!(said.contains("is not a cluster file") && said.contains("description:id@"), "{said}");
    assert_eq!(std::fs::read_to_string(&wrong).unwrap(), "not a cluster file\n", "left as it was");
    let said = engines::open_with(&spec(cluster.file()), &[("speed", "high")]).unwrap_err().to_string();
    assert!(said.contains("known are timeout, tls-cert-file"), "{said}");
    runtime().block_on(async {
        let open = async |file: &std::path::Path| {
            let kv = engines::open_with(&spec(file), &[("timeout", "1500")]).unwrap();
            Store::open(kv, Arc::new(SystemClock)).await
        };
        // Right address, another cluster's name.
        let text = std::fs::read_to_string(cluster.file()).unwrap();
        let other = cluster.dir().join("other.cluster");
        std::fs::write(&other, text.replacen(":ironkeel@", ":stranger@", 1)).unwrap();
        let said = open(&other).await.unwrap_err().to_string();
        assert!(said.contains("did not answer within 1.5s") && said.contains("is the file of their cluster"), "{said}");
        // Nobody there.
        let nobody = cluster.dir().join("nobody.cluster");
        std::fs::write(&nobody, "a:b@127.0.0.1:1\n").unwrap();
        let said = open(&nobody).await.unwrap_err().to_string();
        assert!(said.contains("check that its servers run"), "{said}");
        // Another program's database.
        let kv = engine(&cluster, 10_000);
        let mut tx = kv.begin();
        tx.mutate(Mutation::Set("theirs".into(), "precious".into()));
        tx.commit().await.unwrap();
        let said = open(cluster.file()).await.unwrap_err().to_string();
        assert!(said.contains("keys of another program") && said.contains("one of its own"), "{said}");
        let all = kv.begin().get_range(&RangeRead::new(vec![0], vec![0xff]), Read::Snapshot).await.unwrap().rows;
        assert_eq!(all, [(Bytes::from("theirs"), Bytes::from("precious"))], "nothing was written");
    });
    // A locked database says so.
    let said = cluster.cli("lock", 10);
    assert!(said.contains("locked"), "{said}");
    let uid = said.split_whitespace().find(|w| w.len() == 32 && w.chars().all(|c| c.is_ascii_hexdigit()));
    runtime().block_on(async {
        let refused = engine(&cluster, 3_000).get(b"theirs").await.unwrap_err().to_string();
        assert!(refused.contains("is locked") && refused.contains("unlock"), "{refused} (uid {uid:?})");
    });
}

/// A restore moves versions on: everything from then on lies beyond what another engine may have stamped.
#[test]
fn versions_can_be_moved_on() {
    let Some(programs) = Programs::or_say("moving FoundationDB's versions on") else { return };
    let cluster = Cluster::single(&programs);
    runtime().block_on(async {
        let kv = engine(&cluster, 10_000);
        let now = kv.begin().read_version().await.unwrap();
        let wanted = Version(now.0 + (5_000_000_000 << 16));
        let begun = Instant::now();
        kv.advance_to(wanted).await.unwrap();
        eprintln!("versions moved on within {:?}", begun.elapsed());
        let read = kv.begin().read_version().await.unwrap();
        assert!(read >= wanted, "{read} {wanted}");
        let begun = Instant::now();
        let found = loop {
            match kv.get(b"k").await {
                Err(KvError::TooOld) => {}
                found => break found,
            }
        };
        assert_eq!(found, Ok(None));
        eprintln!("and read within {:?}", begun.elapsed());
        let mut tx = kv.begin();
        tx.mutate(Mutation::Set("k".into(), "v".into()));
        let committed = tx.commit().await.unwrap();
        assert!(committed > read && committed >= wanted);
        kv.advance_to(wanted).await.unwrap();
        kv.advance_to(now).await.unwrap();
        let beyond = kv.advance_to(Version(u64::MAX)).await.unwrap_err();
        assert!(matches!(beyond, KvError::Misuse(_)), "{beyond}");
    });
}
