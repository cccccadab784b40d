//! A store with a transform: the laws hold, rows hold sealed bytes and nothing else, and a rewrite changes rows alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join, join_all};
use rand::Rng as _;
use storage::clock::ManualClock;
use storage::embedded::{Embedded, Options};
use storage::kv::{Kv, Mutation, RangeRead, Read};
use storage::laws::{self, Case};
use storage::sim::{Faults, Sim};
use storage::store::backup::{At, Backup, Source};
use storage::store::check::check;
use storage::store::{Commit, Event, EventKind, Expect, Key, Op, Retention, Revision, Store, StoreError, Versioned};
use storage::transform::{OpenError, Opened, Transform};

/// A toy: names its generation and the key, then the bytes in disguise. No cipher is needed to see whether the store seals.
#[derive(Debug, Default)]
struct Toy {
    /// Seals.
    generation: AtomicU8,
    /// Must be fetched before anything opens.
    locked: AtomicBool,
    unlocks: AtomicUsize,
    /// Bytes that each generation adds.
    padding: usize,
}

impl Toy {
    fn turn(&self) -> u8 {
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn head(generation: u8, key: &Key) -> Vec<u8> {
        format!("sealed:{generation}:{key}\0").into_bytes()
    }
}

fn disguise(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte ^ 0x5a)
}

impl Transform for Toy {
    fn applies(&self, _: &str) -> bool {
        true
    }

    fn seal(&self, key: &Key, plain: &Bytes) -> Result<Bytes, String> {
        let generation = self.generation.load(Ordering::SeqCst);
        let mut out = Toy::head(generation, key);
        out.extend(std::iter::repeat_n(b'.', self.padding * usize::from(generation)));
        out.push(0);
        out.extend(disguise(plain));
        Ok(out.into())
    }

    fn open(&self, key: &Key, stored: &Bytes) -> Result<Opened, OpenError> {
        if self.locked.load(Ordering::SeqCst) {
            return Err(OpenError::Locked);
        }
        let current = self.generation.load(Ordering::SeqCst);
        if !stored.starts_with(b"sealed:") {
            return Ok(Opened { plain: stored.clone(), stale: true });
        }
        for generation in 0..=current {
            if let Some(rest) = stored.strip_prefix(&Toy::head(generation, key)[..]) {
                let end = rest.iter().position(|byte| *byte == 0).unwrap();
                let plain = disguise(&rest[end + 1..]).collect::<Vec<u8>>().into();
                return Ok(Opened { plain, stale: generation != current });
            }
        }
        Err(OpenError::Failed("not for this key".to_owned()))
    }

    fn unlock<'a>(&'a self, _: &'a Key, _: &'a Bytes) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async {
            self.unlocks.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            match self.generation.load(Ordering::SeqCst) {
                u8::MAX => Err("the service is away".to_owned()),
                _ => {
                    self.locked.store(false, Ordering::SeqCst);
                    Ok(())
                }
            }
        })
    }
}

fn key(name: &str) -> Key {
    Key::new("secrets", "default", name)
}

fn put(name: &str, bytes: impl Into<Bytes>) -> Op {
    Op::Put { key: key(name), bytes: bytes.into(), expect: Expect::Any, expires: None }
}

fn delete(name: &str, last: impl Into<Bytes>) -> Op {
    Op::Delete { key: key(name), last: last.into(), expect: Expect::Present }
}

async fn write(store: &Store, op: Op) -> Revision {
    store.commit(Commit { who: "test".into(), ops: vec![op], ..Commit::default() }).await.unwrap()
}

/// Every row of the engine.
async fn rows(kv: &dyn Kv) -> Vec<(Bytes, Bytes)> {
    loop {
        let tx = kv.begin();
        let read = RangeRead::new(&b"\x00"[..], &b"\xff"[..]).limit(1_000_000);
        if let Ok(page) = tx.get_range(&read, Read::Snapshot).await {
            assert!(!page.more);
            return page.rows;
        }
    }
}

fn holds(rows: &[(Bytes, Bytes)], needle: &str) -> bool {
    rows.iter().any(|(_, value)| value.windows(needle.len()).any(|window| window == needle.as_bytes()))
}

/// All that a client can see of the resource's past and present.
async fn seen(store: &Store) -> (Vec<(Key, Revision, Bytes)>, Vec<Event>) {
    let page = store.list("secrets", None, None, 0).await.unwrap();
    let items = page.items.into_iter().map(|(key, object)| (key, object.revision, object.bytes)).collect();
    let mut tail = store.tail("secrets", Revision(0));
    let mut events = Vec::new();
    while tail.position() < page.revision {
        events.extend(tail.catch_up().await.unwrap());
    }
    (items, events)
}

/// Rewrites until a pass finds nothing.
async fn rewrite(store: &Store) -> (usize, usize) {
    let (mut objects, mut past) = (0, 0);
    loop {
        let (mut found, mut from) = (0, None);
        loop {
            let step = store.rewrite("secrets", from).await.unwrap();
            assert_eq!(step.errors, []);
            found += step.objects + step.past;
            objects += step.objects;
            past += step.past;
            match step.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        if found == 0 {
            return (objects, past);
        }
    }
}

async fn open(kv: &Arc<dyn Kv>, toy: &Arc<Toy>) -> Store {
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    Store::open_sealed(kv.clone(), clock, toy.clone()).await.unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    laws::runtime().block_on(future)
}

fn calm() -> Arc<dyn Kv> {
    Arc::new(Sim::new(1, Faults::NONE))
}

/// The store's laws know nothing of transforms.
#[test]
fn the_laws_hold_under_a_transform() {
    type Law = fn(Case) -> Pin<Box<dyn Future<Output = ()>>>;
    let laws: [(&str, Law); 9] = [
        ("expectations_decide", |case| Box::pin(laws::store::expectations_decide(case))),
        ("one_writer_wins", |case| Box::pin(laws::store::one_writer_wins(case))),
        ("commits_are_atomic", |case| Box::pin(laws::store::commits_are_atomic(case))),
        ("large_groups_are_not_split", |case| Box::pin(laws::store::large_groups_are_not_split(case))),
        ("tails_miss_nothing", |case| Box::pin(laws::store::tails_miss_nothing(case))),
        ("a_list_and_a_tail_meet", |case| Box::pin(laws::store::a_list_and_a_tail_meet(case))),
        ("what_is_due_goes", |case| Box::pin(laws::store::what_is_due_goes(case))),
        ("compaction_keeps_what_is_needed", |case| Box::pin(laws::store::compaction_keeps_what_is_needed(case))),
        ("errors_tell_the_truth", |case| Box::pin(laws::store::errors_tell_the_truth(case))),
    ];
    for (name, law) in laws {
        for seed in laws::seeds(3) {
            eprintln!("law {name}, seed {seed} (LAWS_SEED={seed} runs it again)");
            let open = |seed| Arc::new(Sim::new(seed, Faults::CHAOS)) as Arc<dyn Kv>;
            let case = Case { transform: Some(Arc::new(Toy::default())), ..Case::new(&open, seed) };
            block_on(law(case));
        }
    }
}

/// Small and large, current, replaced and final.
async fn fill(store: &Store) {
    let large = |word: &str| Bytes::from(word.repeat(300_000 / word.len()));
    for bytes in ["PLAIN one", "PLAIN two", "PLAIN three"] {
        write(store, put("small", bytes)).await;
    }
    write(store, put("large", large("PLAIN"))).await;
    write(store, put("large", large("PLAIN and more"))).await;
    write(store, put("gone", "PLAIN gone")).await;
    write(store, delete("gone", "PLAIN gone")).await;
    write(store, put("other", "PLAIN other")).await;
    write(store, delete("other", "PLAIN and finally")).await;
    write(store, put("vast", large("PLAIN vast"))).await;
    write(store, delete("vast", large("PLAIN last"))).await;
}

#[test]
fn rows_hold_sealed_bytes_and_nothing_else() {
    block_on(async {
        let kv = calm();
        let store = open(&kv, &Arc::new(Toy::default())).await;
        fill(&store).await;
        let rows = rows(kv.as_ref()).await;
        assert!(holds(&rows, "sealed:0:secrets/default/small") && !holds(&rows, "PLAIN"));
        // What a deletion repeats is kept once.
        let count = |needle: &str| {
            rows.iter().filter(|(_, value)| value.windows(needle.len()).any(|w| w == needle.as_bytes())).count()
        };
        assert_eq!(count("sealed:0:secrets/default/gone"), 1);
        let (items, events) = seen(&store).await;
        assert_eq!((items.len(), events.len()), (2, 11));
        assert!(items.iter().all(|(_, _, bytes)| bytes.starts_with(b"PLAIN")));
        assert!(events.iter().all(|event| event.bytes.starts_with(b"PLAIN")));
        let first = store.get_at(&key("small"), events[0].revision).await.unwrap().unwrap();
        assert_eq!(first.bytes, "PLAIN one");
    });
}

#[test]
fn a_row_that_somebody_moved_does_not_open() {
    block_on(async {
        let kv = calm();
        let store = open(&kv, &Arc::new(Toy::default())).await;
        write(&store, put("a", "of a")).await;
        write(&store, put("b", "of b")).await;
        let row = |name: &str| Bytes::from(format!("Csecrets\0default\0{name}"));
        let mut tx = kv.begin();
        let other = tx.get(&row("a"), Read::Snapshot).await.unwrap().unwrap();
        tx.mutate(Mutation::Set(row("b"), other));
        tx.commit().await.unwrap();
        let why = |outcome: Result<(), StoreError>| outcome.expect_err("it does not open").to_string();
        let said = "unable to transform key \"/registry/secrets/default/b\": not for this key";
        assert_eq!(why(store.get(&key("b")).await.map(drop)), said);
        assert_eq!(why(store.list("secrets", None, None, 0).await.map(drop)), said);
        assert_eq!(why(store.is_stale(&key("b")).await.map(drop)), said);
        assert_eq!(store.get(&key("a")).await.unwrap().unwrap().bytes, "of a");
        let step = store.rewrite("secrets", None).await.unwrap();
        assert_eq!((step.objects, step.refused), (0, 1), "it stays as it is, and is told");
        assert_eq!(step.errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [said]);
        // It can be written over and it can go: neither takes opening it.
        write(&store, delete("b", "")).await;
        assert_eq!(store.get(&key("b")).await.unwrap(), None);
    });
}

#[test]
fn a_rewrite_changes_rows_and_nothing_that_is_seen() {
    // Resealed objects that grow leave their rows for parts, those that shrink come back.
    for padding in [0, 120, 50_000] {
        block_on(async {
            let kv = calm();
            let toy = Arc::new(Toy { padding, ..Toy::default() });
            let store = open(&kv, &toy).await;
            fill(&store).await;
            for (name, len) in [("edge", 89_950), ("half", 44_000)] {
                write(&store, put(name, vec![b'x'; len])).await;
                write(&store, put(name, vec![b'y'; len])).await;
                write(&store, delete(name, vec![b'z'; len])).await;
                write(&store, put(name, vec![b'v'; len])).await;
            }
            let before = seen(&store).await;
            assert!(!store.is_stale(&key("small")).await.unwrap());
            assert_eq!(rewrite(&store).await, (0, 0), "everything is fresh");
            toy.turn();
            assert!(store.is_stale(&key("small")).await.unwrap());
            assert_eq!(seen(&store).await, before, "the old form still opens");
            let (objects, past) = rewrite(&store).await;
            assert_eq!((objects, past), (4, 14), "padding {padding}");
            assert!(!holds(&rows(kv.as_ref()).await, "sealed:0:"), "nothing is left under the old form");
            assert!(!store.is_stale(&key("small")).await.unwrap());
            assert_eq!(seen(&store).await, before);
            // Nothing is left of parts that nobody needs any more.
            for name in ["small", "large", "edge", "half"] {
                write(&store, delete(name, "")).await;
            }
            let keep = Retention { max_entries: Some(0), ..Retention::default() };
            store.compact("secrets", keep).await.unwrap();
            let left: Vec<_> = rows(kv.as_ref()).await.into_iter().map(|(key, _)| key).collect();
            assert!(left.iter().all(|key| !key.starts_with(b"B") && !key.starts_with(b"L")), "{left:?}");
        });
    }
}

#[test]
fn halves_of_an_entry_that_are_too_large_together_go_one_by_one() {
    block_on(async {
        let kv = calm();
        let toy = Arc::new(Toy::default());
        let store = open(&kv, &toy).await;
        write(&store, put("vast", vec![b'a'; 8 << 20])).await;
        write(&store, delete("vast", vec![b'b'; 8 << 20])).await;
        let before = seen(&store).await;
        toy.turn();
        assert_eq!(rewrite(&store).await, (0, 2));
        assert!(!holds(&rows(kv.as_ref()).await, "sealed:0:"));
        assert_eq!(seen(&store).await, before);
    });
}

#[test]
fn objects_from_before_a_transform_are_read_and_rewritten() {
    block_on(async {
        let kv = calm();
        let plain = Store::open(kv.clone(), Arc::new(ManualClock::new(1_000_000_000))).await.unwrap();
        fill(&plain).await;
        let before = seen(&plain).await;
        let store = open(&kv, &Arc::new(Toy::default())).await;
        assert_eq!(seen(&store).await, before);
        assert!(store.is_stale(&key("small")).await.unwrap() && !plain.is_stale(&key("small")).await.unwrap());
        rewrite(&store).await;
        assert!(!holds(&rows(kv.as_ref()).await, "PLAIN"));
        assert_eq!(seen(&store).await, before);
    });
}

/// Writers, a compaction, a deletion of what is due, and a rewrite at once, on an engine that fails in every way it may.
#[test]
fn a_rewrite_gets_along_with_everybody() {
    for seed in laws::seeds(25) {
        eprintln!("seed {seed} (LAWS_SEED={seed} runs it again)");
        let open_kv = |seed| Arc::new(Sim::new(seed, Faults::CHAOS)) as Arc<dyn Kv>;
        let toy = Arc::new(Toy { padding: 40_000, ..Toy::default() });
        let case = Case { transform: Some(toy.clone()), ..Case::new(&open_kv, seed) };
        block_on(async {
            let store = case.store().await;
            let mut rng = case.rng();
            let mut sizes = || if rng.random_ratio(1, 4) { rng.random_range(50_000..120_000) } else { 30 };
            let steps: Vec<(usize, usize)> = (0..40).map(|n| (n % 3, sizes())).collect();
            let writer = async {
                let mut want: [Option<(Revision, Bytes)>; 3] = Default::default();
                for (n, (slot, len)) in steps.iter().enumerate() {
                    let name = format!("n{slot}");
                    let bytes = Bytes::from(vec![n as u8; *len]);
                    let gone = n % 7 == 6 && want[*slot].is_some();
                    let op = if gone { delete(&name, bytes.clone()) } else { put(&name, bytes.clone()) };
                    let commit = Commit { ops: vec![op], ..Commit::default() };
                    match store.commit(commit).await {
                        Ok(revision) => want[*slot] = (!gone).then_some((revision, bytes)),
                        Err(StoreError::MaybeCommitted(_)) => {
                            let now = store.get(&key(&name)).await.unwrap();
                            want[*slot] = now.map(|now| (now.revision, now.bytes));
                        }
                        Err(error) => panic!("{error}"),
                    }
                    if n == 15 {
                        toy.turn();
                    }
                    if n % 10 == 9 {
                        let keep = Retention { max_entries: Some(12), ..Retention::default() };
                        store.compact("secrets", keep).await.unwrap();
                    }
                }
                want
            };
            let rewriter = async {
                for _ in 0..6 {
                    rewrite(&store).await;
                    tokio::task::yield_now().await;
                }
            };
            let (want, ()) = join(writer, rewriter).await;
            rewrite(&store).await;
            assert!(!holds(&rows(case.kv.as_ref()).await, "sealed:0:"));
            for (slot, want) in want.into_iter().enumerate() {
                let found = store.get(&key(&format!("n{slot}"))).await.unwrap();
                assert_eq!(found.map(|found| (found.revision, found.bytes)), want, "n{slot}");
            }
            // The log still tells one story: each event continues the one before.
            let floor = store.compact("secrets", Retention::default()).await.unwrap();
            let until = store.read_revision().await.unwrap();
            let mut tail = store.tail("secrets", floor);
            let mut last: [Option<Bytes>; 3] = Default::default();
            while tail.position() < until {
                for event in tail.catch_up().await.unwrap() {
                    let slot: usize = event.key.name[1..].parse().unwrap();
                    if let Some(last) = &last[slot] {
                        assert_eq!(event.previous.as_ref(), Some(last));
                    }
                    let gone = event.op == EventKind::Deleted;
                    last[slot] = (!gone).then_some(event.bytes);
                }
            }
            // And parts belong to somebody.
            for slot in 0..3 {
                let name = format!("n{slot}");
                if store.get(&key(&name)).await.unwrap().is_some() {
                    let op = delete(&name, "");
                    let outcome = store.commit(Commit { ops: vec![op], ..Commit::default() }).await;
                    assert!(matches!(outcome, Ok(_) | Err(StoreError::MaybeCommitted(_))), "{outcome:?}");
                }
            }
            store.compact("secrets", Retention { max_entries: Some(0), ..Retention::default() }).await.unwrap();
            let left = rows(case.kv.as_ref()).await.iter().filter(|(key, _)| key.starts_with(b"B")).count();
            assert_eq!(left, 0, "parts that nobody needs");
        });
    }
}

#[test]
fn what_has_to_be_fetched_is_fetched_once() {
    block_on(async {
        let kv = calm();
        let toy = Arc::new(Toy::default());
        let store = open(&kv, &toy).await;
        write(&store, put("a", "of a")).await;
        write(&store, put("b", "of b")).await;
        toy.locked.store(true, Ordering::SeqCst);
        let page = store.list("secrets", None, None, 0).await.unwrap();
        assert_eq!((page.items.len(), toy.unlocks.load(Ordering::SeqCst)), (2, 1));
        toy.locked.store(true, Ordering::SeqCst);
        toy.generation.store(u8::MAX, Ordering::SeqCst);
        let said = store.get(&key("a")).await.expect_err("the service is away").to_string();
        assert_eq!(said, "unable to transform key \"/registry/secrets/default/a\": the service is away");
        // What replaces an object does not have to open it.
        write(&store, put("a", "again")).await;
    });
}

#[test]
fn what_nobody_can_read_can_be_discarded() {
    block_on(async {
        let kv = calm();
        let toy = Arc::new(Toy::default());
        let store = open(&kv, &toy).await;
        // In a row and in parts; beside them one that opens.
        for (name, bytes) in [("short", vec![b'x'; 30]), ("long", vec![b'x'; 200_000]), ("well", b"of well".to_vec())] {
            let due =
                Op::Put { key: key(name), bytes: bytes.into(), expect: Expect::Any, expires: Some(2_000_000_000) };
            write(&store, due).await;
        }
        for name in ["short", "long"] {
            // Its key is not the row's any more, and so it does not open.
            let from = Bytes::from(format!("Csecrets\0default\0{name}"));
            let mut tx = kv.begin();
            let row = tx.get(&from, Read::Snapshot).await.unwrap().unwrap();
            tx.mutate(Mutation::Set(Bytes::from(format!("Csecrets\0default\0bad-{name}")), row));
            tx.mutate(Mutation::Clear(from));
            tx.commit().await.unwrap();
        }
        assert_eq!(store.revision_of(&key("none")).await.unwrap(), None);
        let said = async |limit| {
            let (found, more) = store.unreadable("secrets", limit, Duration::from_secs(60)).await.unwrap();
            let keys = found.into_iter().map(|error| match error {
                StoreError::Transform { key, why } if why == "not for this key" => key.name.to_string(),
                error => panic!("{error}"),
            });
            (keys.collect::<Vec<_>>(), more)
        };
        assert_eq!(said(9).await, (vec!["bad-long".to_owned(), "bad-short".to_owned()], false));
        assert_eq!(said(1).await, (vec!["bad-long".to_owned()], true));
        let before = store.read_revision().await.unwrap();
        for name in ["bad-short", "bad-long"] {
            assert!(store.get(&key(name)).await.is_err());
            let again = Op::Put { key: key(name), bytes: "x".into(), expect: Expect::Absent, expires: None };
            let said = store.commit(Commit { ops: vec![again], ..Commit::default() }).await;
            let is_there = |found: &Option<Versioned>| found.as_ref().is_some_and(|found| found.bytes.is_empty());
            assert!(matches!(&said, Err(StoreError::Expectation { found, .. }) if is_there(found)), "{said:?}");
            let at = store.revision_of(&key(name)).await.unwrap().expect("it is there");
            write(&store, Op::Discard { key: key(name), expect: Expect::At(at) }).await;
            assert_eq!(store.get(&key(name)).await.unwrap(), None);
        }
        let left = store.list("secrets", None, None, 0).await.unwrap();
        assert_eq!(left.items.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [key("well")]);
        // Whoever follows the log hears that something went, and goes on after it.
        let events = store.tail("secrets", before).next().await.unwrap();
        let gone: Vec<_> = events.iter().map(|event| (&*event.key.name, event.op, event.bytes.len())).collect();
        assert_eq!(gone, [("bad-short", EventKind::Deleted, 0), ("bad-long", EventKind::Deleted, 0)]);
        assert_eq!(
            events[0].shown().expect_err("what went cannot be shown").to_string(),
            "saw a DELETED event, but object data is corrupt - data from the storage is not transformable revision=0: not for this key"
        );
        write(&store, put("well", "again")).await;
        let mut tail = store.tail("secrets", left.revision);
        assert_eq!(tail.next().await.unwrap().len(), 1);
        // What is due goes, whether it can be read or not.
        let due = Op::Put { key: key("due"), bytes: "due".into(), expect: Expect::Any, expires: Some(1_000) };
        write(&store, due).await;
        let mut tx = kv.begin();
        let row = Bytes::from("Csecrets\0default\0due");
        let other = tx.get(&Bytes::from("Csecrets\0default\0well"), Read::Snapshot).await.unwrap().unwrap();
        let found = tx.get(&row, Read::Snapshot).await.unwrap().unwrap();
        // The stamp and the time are its own, the bytes are not.
        tx.mutate(Mutation::Set(row, [&found[..20], &other[20..]].concat().into()));
        tx.commit().await.unwrap();
        assert!(store.get(&key("due")).await.is_err());
        assert_eq!(store.expire().await.unwrap(), 1);
        assert_eq!(store.revision_of(&key("due")).await.unwrap(), None);
        let mut tail = store.tail("secrets", store.read_revision().await.unwrap());
        // One that opens can be discarded as well, and ends as it was; one that is not there leaves no trace.
        let gone = write(&store, Op::Discard { key: key("well"), expect: Expect::Any }).await;
        let events = tail.next().await.unwrap();
        assert_eq!((events[0].revision, events[0].bytes.as_ref()), (gone, &b"again"[..]));
        let nothing = write(&store, Op::Discard { key: key("well"), expect: Expect::Any }).await;
        assert_eq!(store.last_change("secrets").await.unwrap().changed, gone, "{nothing}");
        let refused = Op::Discard { key: key("well"), expect: Expect::Present };
        let refused = store.commit(Commit { ops: vec![refused], ..Commit::default() }).await;
        assert!(matches!(refused, Err(StoreError::Expectation { found: None, .. })), "{refused:?}");
        store.compact("secrets", Retention { max_entries: Some(0), ..Retention::default() }).await.unwrap();
        let left: Vec<_> = rows(kv.as_ref()).await.into_iter().map(|(key, _)| key).collect();
        assert!(left.iter().all(|key| !key.starts_with(b"B") && !key.starts_with(b"L")), "{left:?}");
    });
}

/// A backup is taken while everything is rewritten and written to: what comes back is one state, and all of it opens.
async fn backed_up_while_rewritten(kv: Arc<dyn Kv>, padding: usize, objects: usize, cut: usize) {
    let toy = Arc::new(Toy { padding, ..Toy::default() });
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    let store = Store::open_sealed(kv.clone(), clock.clone(), toy.clone()).await.unwrap();
    let name = |n: usize| format!("n{n:05}");
    let text = |n: usize, turn: usize| {
        Bytes::from(format!("{n}/{turn} ").repeat(if n.is_multiple_of(50) { 15_000 } else { 3 }))
    };
    for n in 0..objects {
        write(&store, put(&name(n), text(n, 0))).await;
        if n % 3 == 0 {
            write(&store, put(&name(n), text(n, 1))).await;
        }
    }
    let middle = store.read_revision().await.unwrap();
    toy.turn();
    let writers = join_all((0..3).map(|writer| {
        let store = &store;
        async move {
            for n in (writer..objects).step_by(3) {
                let op = if n % 11 == 5 { delete(&name(n), text(n, 9)) } else { put(&name(n), text(n, 2 + writer)) };
                write(store, op).await;
                tokio::task::yield_now().await;
            }
        }
    }));
    let rewriter = async {
        let mut done = (0, 0);
        for _ in 0..3 {
            let (objects, past) = rewrite(&store).await;
            done = (done.0 + objects, done.1 + past);
        }
        done
    };
    let backup = async {
        let mut backup = Backup::new(kv.clone(), clock.clone(), |_| false).cut_every(cut);
        let mut file = Vec::new();
        while let Some(bytes) = backup.next().await.unwrap() {
            file.extend_from_slice(&bytes);
            tokio::task::yield_now().await;
        }
        file
    };
    let (file, (_, (rewritten, past))) = join(backup, join(writers, rewriter)).await;
    assert!(rewritten > 0 && past > 0, "nothing was left to rewrite: {rewritten}, {past}");
    assert!(!holds(&rows(kv.as_ref()).await, "sealed:0:"));
    for at in [At::Latest, At::Revision(middle)] {
        let mut source = Source::verify(std::io::Cursor::new(file.clone()), |_| false).unwrap();
        let point = source.point(at).unwrap();
        let target = calm();
        source.restore(target.as_ref(), clock.as_ref(), point, |_| {}).await.unwrap();
        assert_eq!(check(target.as_ref()).await.unwrap().findings, Vec::new());
        let restored = Store::open_sealed(target, clock.clone(), toy.clone()).await.unwrap();
        for n in 0..objects {
            let wanted = store.get_at(&key(&name(n)), point.revision).await.unwrap().map(|found| found.bytes);
            let found = restored.get(&key(&name(n))).await.unwrap().map(|found| found.bytes);
            assert_eq!(found, wanted, "{} at {:?}", name(n), point.revision);
            for event in restored.history(&key(&name(n))).await.unwrap() {
                assert!(event.bytes.starts_with(format!("{n}/").as_bytes()), "{event:?}");
            }
        }
    }
}

#[test]
fn a_backup_during_a_rewrite_is_one_state_and_opens() {
    for seed in laws::seeds(6) {
        eprintln!("seed {seed} (LAWS_SEED={seed} runs it again)");
        let cut = [0, 1, 7][usize::try_from(seed % 3).unwrap()];
        block_on(backed_up_while_rewritten(Arc::new(Sim::new(seed, Faults::DELAYS)), 60_000, 150, cut));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_directory_during_a_rewrite_opens() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let kv = Embedded::open(place.path(), &Options { reserve: 0, ..Options::default() }).unwrap();
    backed_up_while_rewritten(Arc::new(kv), 500, 2_000, 0).await;
}
