//! The laws of the object store. They hold on engines with faults too: the store runs transactions again where it may.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use rand::Rng;

use super::Case;
use super::aging::Aging;
use super::model::pages;
use crate::kv::Mutation;
use crate::store::{
    Check, Claim, Commit, Event, EventKind, Expect, Key, MAX_OBJECT, Op, Retention, Revision, Store, StoreError, Tail,
};

pub(super) fn put(key: &Key, bytes: impl Into<Bytes>, expect: Expect) -> Op {
    Op::Put { key: key.clone(), bytes: bytes.into(), expect, expires: None }
}

pub(super) fn delete(key: &Key, last: impl Into<Bytes>, expect: Expect) -> Op {
    Op::Delete { key: key.clone(), last: last.into(), expect }
}

pub(super) fn one(op: Op) -> Commit {
    Commit { who: "law".into(), ops: vec![op], ..Commit::default() }
}

fn pod(name: &str) -> Key {
    Key::new("pods", "default", name)
}

async fn write(store: &Store, op: Op) -> Revision {
    store.commit(one(op)).await.expect("the write is possible")
}

async fn found(store: &Store, key: &Key) -> Option<Bytes> {
    store.get(key).await.expect("a read succeeds").map(|v| v.bytes)
}

/// Everything up to `until`.
async fn drain(tail: &mut Tail, until: Revision) -> Vec<Event> {
    let mut events = Vec::new();
    while tail.position() < until {
        events.extend(tail.catch_up().await.expect("the log reaches back"));
    }
    events
}

fn sketch(event: &Event) -> String {
    let show = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
    format!("{:?} {} {} <- {:?}", event.op, event.key, show(&event.bytes), event.previous.as_ref().map(show))
}

/// Each expectation against each state, and what the caller is told.
pub async fn expectations_decide(case: Case) {
    let store = case.store().await;
    let (there, absent) = (pod("there"), pod("absent"));
    let first = write(&store, put(&there, "1", Expect::Absent)).await;
    let second = write(&store, put(&there, "2", Expect::At(first))).await;
    assert!(second > first && first > Revision(0));
    for (key, expect, holds) in [
        (&there, Expect::Any, true),
        (&there, Expect::Present, true),
        (&there, Expect::At(second), true),
        (&there, Expect::At(first), false),
        (&there, Expect::Absent, false),
        (&absent, Expect::Any, true),
        (&absent, Expect::Absent, true),
        (&absent, Expect::Present, false),
        (&absent, Expect::At(second), false),
        (&absent, Expect::At(Revision(0)), false),
    ] {
        let state = store.get(key).await.expect("a read succeeds");
        let refused = StoreError::Expectation { key: key.clone(), found: state };
        let check =
            Commit { checks: vec![Check { key: key.clone(), expect }], ..one(put(&pod("other"), "x", Expect::Any)) };
        let result = store.commit(check).await;
        assert_eq!(result.is_ok(), holds, "check {key} {expect:?}: {result:?}");
        if !holds {
            assert_eq!(result, Err(refused.clone()));
            assert_eq!(store.commit(one(put(key, "new", expect))).await, Err(refused.clone()), "put {key} {expect:?}");
            assert_eq!(store.commit(one(delete(key, "", expect))).await, Err(refused), "delete {key} {expect:?}");
        }
    }
    assert_eq!(found(&store, &there).await.as_deref(), Some(b"2".as_slice()), "a refused write leaves nothing");
    write(&store, delete(&absent, "", Expect::Any)).await;
    write(&store, delete(&there, "3", Expect::At(second))).await;
    assert_eq!(found(&store, &there).await, None);
    let history: Vec<String> = store.history(&there).await.expect("a read succeeds").iter().map(sketch).collect();
    assert_eq!(
        history,
        [
            "Created pods/default/there 1 <- None",
            "Updated pods/default/there 2 <- Some(\"1\")",
            "Deleted pods/default/there 3 <- Some(\"2\")",
        ]
    );
    assert_eq!(store.history(&absent).await, Ok(vec![]), "deleting nothing leaves no event");
}

/// Of many writers that saw the same revision, one wins.
pub async fn one_writer_wins(case: Case) {
    let store = case.store().await;
    let key = pod("contended");
    let mut revision = write(&store, put(&key, "start", Expect::Absent)).await;
    for round in 0..5 {
        let writers = (0..8).map(|i| store.commit(one(put(&key, format!("{round}/{i}"), Expect::At(revision)))));
        let results = join_all(writers).await;
        let winners: Vec<Revision> = results.iter().filter_map(|r| r.as_ref().ok()).copied().collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        for error in results.iter().filter_map(|r| r.as_ref().err()) {
            assert!(
                matches!(error, StoreError::Expectation { found: Some(v), .. } if v.revision == winners[0]),
                "{error:?}"
            );
        }
        revision = winners[0];
    }
    // Writers that take anything are all served.
    let writers = (0..8).map(|i| store.commit(one(put(&key, format!("any/{i}"), Expect::Any))));
    let revisions: BTreeSet<Revision> = join_all(writers).await.into_iter().map(|r| r.expect("served")).collect();
    assert_eq!(revisions.len(), 8);
    assert_eq!(store.history(&key).await.expect("a read succeeds").len(), 1 + 5 + 8);
}

/// All writes of a commit share a revision and appear together, or none does.
pub async fn commits_are_atomic(case: Case) {
    let store = case.store().await;
    let (a, b, c) = (pod("a"), Key::new("nodes", "", "b"), pod("c"));
    let both = |x: &'static str, expect| Commit {
        ops: vec![put(&a, x, Expect::Any), put(&b, x, expect), put(&c, x, Expect::Any)],
        ..Commit::default()
    };
    assert!(store.commit(both("no", Expect::Present)).await.is_err());
    assert_eq!((found(&store, &a).await, found(&store, &b).await), (None, None));
    let writers = join_all((0..6).map(|_| store.commit(both("yes", Expect::Any))));
    let reader = async {
        for _ in 0..20 {
            let page = store.list("pods", None, None, 0).await.expect("a read succeeds");
            let revisions: BTreeSet<Revision> = page.items.iter().map(|(_, v)| v.revision).collect();
            assert!(page.items.is_empty() || (page.items.len() == 2 && revisions.len() == 1), "{page:?}");
            assert!(revisions.last().is_none_or(|r| *r <= page.revision));
            tokio::task::yield_now().await;
        }
    };
    let (revisions, ()) = futures::join!(writers, reader);
    for revision in revisions {
        let revision = revision.expect("nothing is expected");
        for key in [&a, &b, &c] {
            let history = store.history(key).await.expect("a read succeeds");
            assert!(history.iter().any(|e| e.revision == revision), "{key} at {revision}");
        }
    }
}

/// Objects over the size of a row come back whole: now, in lists, in the past, in events; and their parts go when nobody needs them.
pub async fn large_objects_are_whole(case: Case) {
    let store = case.store().await;
    let key = pod("large");
    let object = |n: usize, seed: u8| Bytes::from((0..n).map(|i| (i as u8).wrapping_mul(seed)).collect::<Vec<u8>>());
    let sizes = [0, 1, 89_999, 90_000, 90_001, 180_000, 1_600_000, 10];
    let mut revisions = Vec::new();
    for (seed, size) in (3..).zip(sizes) {
        revisions.push((write(&store, put(&key, object(size, seed), Expect::Any)).await, object(size, seed)));
    }
    for last in [object(700_000, 90), object(60_000, 91)] {
        let deleted = write(&store, delete(&key, last.clone(), Expect::Present)).await;
        let event = store.history(&key).await.expect("a read succeeds").pop().expect("an event");
        assert_eq!((event.revision, event.op, event.bytes), (deleted, EventKind::Deleted, last));
        write(&store, put(&key, object(50_000, 92), Expect::Absent)).await;
    }
    let now = write(&store, put(&key, object(200_000, 93), Expect::Present)).await;
    for (revision, bytes) in &revisions {
        let then = store.get_at(&key, *revision).await.expect("retained").expect("there");
        assert!(then.revision == *revision && then.bytes == *bytes, "the {} bytes of {revision}", bytes.len());
    }
    let events = drain(&mut store.tail("pods", Revision(0)), now).await;
    assert_eq!(events.len(), sizes.len() + 5);
    for pair in events.windows(2) {
        if pair[0].op != EventKind::Deleted {
            assert_eq!(pair[1].previous.as_ref(), Some(&pair[0].bytes), "each event continues the one before");
        }
    }
    let page = store.list("pods", Some("default"), None, 1).await.expect("a read succeeds");
    assert!(page.items.len() == 1 && page.items[0].1.bytes == object(200_000, 93));
    store.compact("pods", Retention { max_entries: Some(0), ..Retention::default() }).await.expect("compaction runs");
    assert_eq!(found(&store, &key).await, Some(object(200_000, 93)));
    let read = crate::kv::RangeRead::new("B", "C");
    let parts = loop {
        if let Ok(rows) = pages(case.kv.begin().as_ref(), &read, crate::kv::Read::Snapshot).await {
            break rows.rows.len();
        }
    };
    assert_eq!(parts, 3, "only the current object's parts stay");
}

/// The events of one commit come in one answer, however many they are.
pub async fn large_groups_are_not_split(case: Case) {
    let store = case.store().await;
    let group = |from: u32, n: u32| Commit {
        ops: (from..from + n).map(|i| put(&pod(&format!("p{i:04}")), "x", Expect::Absent)).collect(),
        ..Commit::default()
    };
    for (from, n) in [(0, 1), (1000, 200), (2000, 600), (3000, 3)] {
        store.commit(group(from, n)).await.expect("all are new");
    }
    let mut tail = store.tail("pods", Revision(0));
    let mut sizes: BTreeMap<Revision, usize> = BTreeMap::new();
    while sizes.len() < 4 {
        let mut answer: BTreeMap<Revision, usize> = BTreeMap::new();
        for event in tail.next().await.expect("the log reaches back") {
            *answer.entry(event.revision).or_default() += 1;
        }
        for (revision, n) in answer {
            assert!(sizes.insert(revision, n).is_none(), "revision {revision} was split");
        }
    }
    assert_eq!(sizes.into_values().collect::<Vec<_>>(), [1, 200, 600, 3]);
}

/// Writers at random over a few keys; returns what was acknowledged.
async fn churn(store: &Store, case: &Case, writers: u64, turns: u64) -> Vec<Revision> {
    let tasks = (0..writers).map(|writer| async move {
        let mut rng = Case { seed: case.seed.wrapping_mul(31).wrapping_add(writer), ..case.clone() }.rng();
        let mut acknowledged = Vec::new();
        for turn in 0..turns {
            let key = pod(&format!("k{}", rng.random_range(0..6)));
            let bytes = format!("{writer}/{turn}");
            let op = match rng.random_range(0..4) {
                0 => delete(&key, bytes, Expect::Present),
                1 => put(&key, bytes, Expect::Absent),
                _ => put(&key, bytes, Expect::Any),
            };
            match store.commit(one(op)).await {
                Ok(revision) => acknowledged.push(revision),
                Err(StoreError::Expectation { .. }) => {}
                Err(e) => panic!("{e}"),
            }
            tokio::task::yield_now().await;
        }
        acknowledged
    });
    let mut all: Vec<Revision> = join_all(tasks).await.into_iter().flatten().collect();
    all.sort();
    all
}

fn replay(state: &mut BTreeMap<Key, (Revision, Bytes)>, events: &[Event]) {
    for event in events {
        let before = state.get(&event.key).map(|(_, b)| b.clone());
        assert_eq!(event.previous, before, "{} at {} continues what was seen", event.key, event.revision);
        match event.op {
            EventKind::Created => assert!(before.is_none()),
            EventKind::Updated | EventKind::Deleted => assert!(before.is_some()),
        }
        if event.op == EventKind::Deleted {
            state.remove(&event.key);
        } else {
            state.insert(event.key.clone(), (event.revision, event.bytes.clone()));
        }
    }
}

/// A tail beside writers delivers exactly the acknowledged changes, once, in order, and waits when there is none.
pub async fn tails_miss_nothing(case: Case) {
    let store = case.store().await;
    let watcher = async {
        let mut tail = store.tail("pods", Revision(0));
        let mut events = Vec::new();
        loop {
            let some = tail.next().await.expect("the log reaches back");
            assert!(!some.is_empty());
            let end = some.iter().any(|e| e.key.name.as_ref() == "end");
            events.extend(some);
            if end {
                return events;
            }
        }
    };
    let writers = async {
        let mut acknowledged = churn(&store, &case, 5, 20).await;
        acknowledged.push(write(&store, put(&pod("end"), "", Expect::Absent)).await);
        acknowledged
    };
    let (events, acknowledged) = futures::join!(watcher, writers);
    let delivered: Vec<Revision> = events.iter().map(|e| e.revision).collect();
    assert_eq!(delivered, acknowledged, "every acknowledged change once and in order, and nothing else");
    let mut state = BTreeMap::new();
    replay(&mut state, &events);
    let page = store.list("pods", None, None, 0).await.expect("a read succeeds");
    let listed: BTreeMap<Key, (Revision, Bytes)> =
        page.items.into_iter().map(|(k, v)| (k, (v.revision, v.bytes))).collect();
    assert_eq!(state, listed);
    let change = store.last_change("pods").await.expect("a read succeeds");
    assert_eq!(Some(&change.changed), acknowledged.last());
    assert!(change.read >= change.changed);
    assert_eq!(store.last_change("nodes").await.expect("a read succeeds").changed, Revision(0));
    // A tail dropped while it waits, and one of a resource without changes.
    let mut idle = store.tail("nodes", Revision(0));
    assert!(futures::FutureExt::now_or_never(idle.next()).is_none());
    assert_eq!(idle.catch_up().await, Ok(vec![]));
    assert!(idle.position() >= change.read);
}

/// Every answer is true, whatever the engine does: an acknowledged commit is there once, one refused for a reason never happens, and
/// only one reported as unknown may be either.
pub async fn errors_tell_the_truth(case: Case) {
    let store = loop {
        if let Ok(store) = Store::open(case.kv.clone(), case.clock.clone()).await {
            break store;
        }
    };
    let tasks = (0..6u64).map(|task| {
        let store = store.clone();
        async move {
            let mut answers = Vec::new();
            for turn in 0..15 {
                let text = format!("{task}/{turn}");
                let ops = vec![
                    put(&pod(&format!("k{}", (task + turn) % 4)), text.clone(), Expect::Any),
                    put(&Key::new("copies", "", &format!("k{}", (task + turn) % 4)), text.clone(), Expect::Any),
                ];
                answers.push((Bytes::from(text), store.commit(Commit { ops, ..Commit::default() }).await));
            }
            answers
        }
    });
    let answers = join_all(tasks).await;
    // Commits in flight land within some steps, if they do.
    for _ in 0..200 {
        let _step = store.read_revision().await;
    }
    let mut logs = Vec::new();
    for resource in ["pods", "copies"] {
        let mut tail = store.tail(resource, Revision(0));
        let mut log: BTreeMap<Bytes, Revision> = BTreeMap::new();
        loop {
            match tail.catch_up().await {
                Ok(events) if events.is_empty() => break,
                Ok(events) => {
                    for event in events {
                        let again = log.insert(event.bytes, event.revision);
                        assert_eq!(again, None, "a commit happens once");
                    }
                }
                Err(e) => assert!(matches!(e, StoreError::Unavailable(_)), "{e}"),
            }
        }
        logs.push(log);
    }
    assert_eq!(logs[0], logs[1], "no commit is half there");
    for (text, answer) in answers.into_iter().flatten() {
        let there = logs[0].get(&text).copied();
        match answer {
            Ok(revision) => assert_eq!(there, Some(revision), "{text:?} was acknowledged"),
            Err(StoreError::MaybeCommitted(_)) => {}
            Err(e) => assert_eq!(there, None, "{text:?} was refused: {e}"),
        }
    }
}

/// A list at R and a tail from R make up the state, wherever R falls; pages and namespaces too.
pub async fn a_list_and_a_tail_meet(case: Case) {
    let store = case.store().await;
    let readers = async {
        let mut seen = Vec::new();
        for limit in [0, 1, 2, 0] {
            seen.push(store.list("pods", Some("default"), None, limit).await.expect("a read succeeds"));
            for _ in 0..7 {
                tokio::task::yield_now().await;
            }
        }
        seen
    };
    let (pages, _) = futures::join!(readers, churn(&store, &case, 4, 15));
    let end = store.list("pods", None, None, 0).await.expect("a read succeeds");
    for page in pages.iter().filter(|p| !p.more) {
        let mut state = page.items.iter().map(|(k, v)| (k.clone(), (v.revision, v.bytes.clone()))).collect();
        replay(&mut state, &drain(&mut store.tail("pods", page.revision), end.revision).await);
        let listed = end.items.iter().map(|(k, v)| (k.clone(), (v.revision, v.bytes.clone()))).collect();
        assert_eq!(state, listed, "from {}", page.revision);
    }
    for key in [Key::new("pods", "default-2", "a"), Key::new("pods", "", "a"), Key::new("podsx", "default", "a")] {
        write(&store, put(&key, "x", Expect::Absent)).await;
    }
    let all = store.list("pods", None, None, 0).await.expect("a read succeeds").items;
    assert_eq!(all.len(), end.items.len() + 2, "a resource is not a prefix");
    let of_default = store.list("pods", Some("default"), None, 0).await.expect("a read succeeds").items;
    assert_eq!(of_default, end.items, "a namespace is not a prefix");
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = store.list("pods", None, after.as_ref(), 2).await.expect("a read succeeds");
        assert!(page.items.len() <= 2);
        after = page.items.last().map(|(k, _)| k.clone());
        paged.extend(page.items);
        if !page.more {
            break;
        }
    }
    assert_eq!(paged, all, "pages make up the list");
}

/// A list that outlives its snapshot shows one state all the same, whatever is written beside it.
pub async fn long_lists_are_one_state(case: Case) {
    const NAMES: u32 = 1_600;
    let store = case.store().await;
    let name = |i: u32| pod(&format!("p{i:04}"));
    for from in (0..NAMES).step_by(400) {
        let ops = (from..from + 400).map(|i| put(&name(i), i.to_string(), Expect::Absent)).collect();
        store.commit(Commit { ops, ..Commit::default() }).await.expect("all are new");
    }
    let aging = Store::open(std::sync::Arc::new(Aging { kv: case.kv.clone(), reads: 5 }), case.clock.clone());
    let aging = aging.await.expect("the store is there");
    let readers = async {
        let mut pages = Vec::new();
        for limit in [0, 1_100, 0, 1_599] {
            pages.push(aging.list("pods", Some("default"), None, limit).await.expect("a long list ends"));
        }
        pages
    };
    let writers = (0..3u64).map(|writer| {
        let (store, case) = (&store, &case);
        async move {
            let mut rng = Case { seed: case.seed.wrapping_mul(77).wrapping_add(writer), ..case.clone() }.rng();
            for turn in 0..60 {
                let i = rng.random_range(0..NAMES);
                let op = match rng.random_range(0..4) {
                    0 => delete(&name(i), "", Expect::Any),
                    1 => put(&pod(&format!("p{i:04}.new")), vec![b'x'; 100_000], Expect::Any),
                    _ => put(&name(i), format!("{writer}/{turn}"), Expect::Any),
                };
                write(store, op).await;
                tokio::task::yield_now().await;
            }
        }
    });
    let (pages, _) = futures::join!(readers, join_all(writers));
    let end = store.list("pods", None, None, 0).await.expect("a read succeeds");
    for page in pages {
        // What lies after the last object of a page is not part of it.
        let last = page.items.last().filter(|_| page.more).map(|(k, _)| k.clone());
        let part = |key: &Key| last.as_ref().is_none_or(|last| key <= last);
        let mut state = page.items.iter().map(|(k, v)| (k.clone(), (v.revision, v.bytes.clone()))).collect();
        let mut events = drain(&mut store.tail("pods", page.revision), end.revision).await;
        events.retain(|e| part(&e.key));
        replay(&mut state, &events);
        let listed: BTreeMap<Key, (Revision, Bytes)> = end
            .items
            .iter()
            .filter(|(k, _)| part(k))
            .map(|(k, v)| (k.clone(), (v.revision, v.bytes.clone())))
            .collect();
        assert!(state == listed, "a list at {} of {} objects is one state", page.revision, page.items.len());
        assert!(page.items.is_sorted_by(|a, b| a.0 < b.0));
    }
    // A log that is cut under the list makes it begin again, not lie.
    let cut = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            store.compact("pods", Retention { max_entries: Some(0), ..Retention::default() }).await.expect("it is cut");
            write(&store, put(&name(7), "again", Expect::Any)).await;
        }
    };
    let (page, ()) = futures::join!(aging.list("pods", None, None, 0), cut);
    match page {
        Ok(page) => assert!(page.items.len() >= end.items.len()),
        Err(e) => assert!(matches!(e, StoreError::Unavailable(_)), "{e}"),
    }
}

/// An item has one owner at a time, whatever the order of takers.
pub async fn claims_are_unique(case: Case) {
    let store = case.store().await;
    let service = |i: u32| Key::new("services", "default", &format!("s{i}"));
    let take = |i: u32, item: u32| Commit {
        ops: vec![put(&service(i), item.to_string(), Expect::Absent)],
        claims: vec![Claim::Take { pool: "ips".into(), item: format!("10.0.0.{item}").into(), owner: service(i) }],
        ..Commit::default()
    };
    let takers = (0..12).map(|i| store.commit(take(i, i % 4)));
    let results = join_all(takers).await;
    let held = store.claims("ips").await.expect("a read succeeds");
    assert_eq!(held.len(), 4);
    for (i, result) in (0u32..).zip(results) {
        let owner = held.iter().find(|(item, _)| item.as_ref() == format!("10.0.0.{}", i % 4)).map(|(_, o)| o.clone());
        match result {
            Ok(_) => assert_eq!(owner, Some(service(i))),
            Err(StoreError::Claimed { owner: told, .. }) => {
                assert_eq!(owner, Some(told));
                assert_eq!(found(&store, &service(i)).await, None, "a refused claim takes its object with it");
            }
            Err(e) => panic!("{e}"),
        }
    }
    let (item, owner) = held[0].clone();
    let claim = |owner: &Key, take: bool| {
        let (pool, item, owner) = ("ips".into(), item.clone(), owner.clone());
        let claim = if take { Claim::Take { pool, item, owner } } else { Claim::Release { pool, item, owner } };
        store.commit(Commit { claims: vec![claim], ..Commit::default() })
    };
    let stranger = service(99);
    claim(&owner, true).await.expect("taking what one has");
    claim(&stranger, false).await.expect("releasing what one has not");
    assert!(matches!(claim(&stranger, true).await, Err(StoreError::Claimed { .. })));
    claim(&owner, false).await.expect("releasing");
    claim(&stranger, true).await.expect("free again");
    assert!(store.claims("ip").await.expect("a read succeeds").is_empty(), "a pool is not a prefix");
}

/// What a commit checks holds at its revision: nothing enters a namespace after it was closed.
pub async fn checks_hold(case: Case) {
    let store = case.store().await;
    let namespace = Key::new("namespaces", "", "n");
    let open = write(&store, put(&namespace, "open", Expect::Absent)).await;
    let enter = (0..12u32).map(|i| {
        let store = store.clone();
        let namespace = namespace.clone();
        async move {
            for _ in 0..i {
                tokio::task::yield_now().await;
            }
            let check = Check { key: namespace, expect: Expect::At(open) };
            let op = put(&Key::new("pods", "n", &format!("p{i}")), "x", Expect::Absent);
            store.commit(Commit { ops: vec![op], checks: vec![check], ..Commit::default() }).await
        }
    });
    let close = async {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        write(&store, put(&namespace, "closed", Expect::At(open))).await
    };
    let (entered, closed) = futures::join!(join_all(enter), close);
    for result in &entered {
        match result {
            Ok(revision) => assert!(*revision < closed, "entered at {revision}, closed at {closed}"),
            Err(e) => assert!(matches!(e, StoreError::Expectation { key, .. } if *key == namespace), "{e:?}"),
        }
    }
    let inside = store.list("pods", Some("n"), None, 0).await.expect("a read succeeds").items.len();
    assert_eq!(inside, entered.iter().filter(|r| r.is_ok()).count());
}

/// What is due is deleted with an event; what was prolonged, made permanent or deleted is left alone.
pub async fn what_is_due_goes(case: Case) {
    let store = case.store().await;
    let event = |name: &str| Key::new("events", "default", name);
    let expiring = |name: &str, expires| Op::Put {
        key: event(name),
        bytes: Bytes::copy_from_slice(name.as_bytes()),
        expect: Expect::Any,
        expires,
    };
    for i in 0..130 {
        write(&store, expiring(&format!("due{i}"), Some(1_000_100))).await;
    }
    for (name, first, then) in [
        ("prolonged", Some(1_000_100), Some(1_000_500)),
        ("permanent", Some(1_000_100), None),
        ("shortened", Some(1_000_900), Some(1_000_200)),
        ("later", Some(1_000_101), Some(1_000_101)),
    ] {
        write(&store, expiring(name, first)).await;
        write(&store, expiring(name, then)).await;
    }
    write(&store, expiring("gone", Some(1_000_100))).await;
    write(&store, delete(&event("gone"), "gone", Expect::Present)).await;
    assert_eq!(store.expire().await, Ok(0), "nothing is due yet");
    case.clock.advance(Duration::from_secs(100));
    let before = store.read_revision().await.expect("a read succeeds");
    assert_eq!(store.expire().await, Ok(130));
    assert_eq!(store.expire().await, Ok(0));
    let left: Vec<String> = {
        let items = store.list("events", None, None, 0).await.expect("a read succeeds").items;
        items.iter().map(|(k, _)| k.name.to_string()).collect()
    };
    assert_eq!(left, ["later", "permanent", "prolonged", "shortened"]);
    let now = store.read_revision().await.expect("a read succeeds");
    let events = drain(&mut store.tail("events", before), now).await;
    assert_eq!(events.len(), 130);
    assert!(events.iter().all(|e| e.op == EventKind::Deleted && e.previous.as_ref() == Some(&e.bytes)));
    case.clock.advance(Duration::from_secs(10_000));
    assert_eq!(store.expire().await, Ok(3));
}

/// Compaction cuts the old end only: what is newer keeps its past, what is older is refused as compacted.
pub async fn compaction_keeps_what_is_needed(case: Case) {
    let store = case.store().await;
    let (a, b) = (pod("a"), pod("b"));
    let mut revisions = Vec::new();
    for i in 0..10u32 {
        case.clock.advance(Duration::from_secs(60));
        revisions.push(write(&store, put(if i % 2 == 0 { &a } else { &b }, i.to_string(), Expect::Any)).await);
    }
    write(&store, put(&Key::new("nodes", "", "n"), "x", Expect::Any)).await;
    let keep = |max_age: Option<u64>, max_entries| Retention { max_age: max_age.map(Duration::from_secs), max_entries };
    assert_eq!(store.compact("pods", Retention::default()).await, Ok(Revision(0)), "no bound, nothing to cut");
    assert_eq!(store.compact("pods", keep(Some(601), Some(10))).await, Ok(Revision(0)));
    assert_eq!(store.compact("pods", keep(Some(480), None)).await, Ok(revisions[1]), "480 s old or older");
    assert_eq!(store.compact("pods", keep(None, Some(4))).await, Ok(revisions[5]));
    assert_eq!(store.compact("pods", keep(None, Some(4))).await, Ok(revisions[5]), "again changes nothing");

    let compacted = StoreError::Compacted { oldest: revisions[5] };
    assert_eq!(store.tail("pods", revisions[4]).next().await, Err(compacted.clone()));
    let events = drain(&mut store.tail("pods", revisions[5]), revisions[9]).await;
    let events: Vec<String> = events.iter().map(sketch).collect();
    assert_eq!(
        events,
        [
            "Updated pods/default/a 6 <- Some(\"4\")",
            "Updated pods/default/b 7 <- Some(\"5\")",
            "Updated pods/default/a 8 <- Some(\"6\")",
            "Updated pods/default/b 9 <- Some(\"7\")",
        ]
    );
    let at = async |key: &Key, i: usize| {
        store.get_at(key, revisions[i]).await.map(|v| v.map(|v| String::from_utf8_lossy(&v.bytes).into_owned()))
    };
    assert_eq!(at(&a, 9).await, Ok(Some("8".into())));
    assert_eq!(at(&a, 5).await, Ok(Some("4".into())));
    assert_eq!(at(&a, 4).await, Ok(Some("4".into())), "known from what the next change replaced");
    assert_eq!(at(&a, 3).await, Err(compacted.clone()));
    assert_eq!(at(&pod("never"), 3).await, Err(compacted), "nobody knows any more");
    assert_eq!(at(&pod("never"), 5).await, Ok(None));
    let ahead = store.get_at(&a, Revision(u64::MAX)).await;
    assert!(matches!(ahead, Err(StoreError::Future { .. })), "{ahead:?}");

    store.compact("pods", keep(Some(0), None)).await.expect("compaction runs");
    assert_eq!(store.history(&a).await, Ok(vec![]));
    assert_eq!(found(&store, &a).await.as_deref(), Some(b"8".as_slice()), "current objects stay");
    let next = write(&store, put(&a, "10", Expect::Present)).await;
    let events = drain(&mut store.tail("pods", revisions[9]), next).await;
    assert_eq!(events.iter().map(sketch).collect::<Vec<_>>(), ["Updated pods/default/a 10 <- Some(\"8\")"]);
    let nodes = drain(&mut store.tail("nodes", Revision(0)), next).await;
    assert_eq!(nodes.len(), 1, "other resources are left alone");
    // Many entries, and writers beside it.
    let (_, floor) = futures::join!(churn(&store, &case, 3, 120), store.compact("pods", keep(None, Some(5))));
    floor.expect("compaction runs");
    store.compact("pods", keep(None, Some(5))).await.expect("compaction runs");
    let mut tail = store.tail("pods", Revision(0));
    let Err(StoreError::Compacted { oldest }) = tail.next().await else { panic!("the old end is gone") };
    let now = store.read_revision().await.expect("a read succeeds");
    assert_eq!(drain(&mut store.tail("pods", oldest), now).await.len(), 5, "the count stays exact");
}

/// Requests that break a rule are refused with a reason and leave nothing.
pub async fn bad_requests_are_refused(case: Case) {
    let store = case.store().await;
    let key = pod("k");
    let long = "x".repeat(2000);
    let invalid = [
        one(put(&pod("a\0b"), "", Expect::Any)),
        one(put(&Key::new("", "n", "x"), "", Expect::Any)),
        one(put(&Key::new("pods", "n", ""), "", Expect::Any)),
        Commit { ops: vec![put(&key, "1", Expect::Any), delete(&key, "2", Expect::Any)], ..Commit::default() },
        Commit { checks: vec![Check { key: pod("\0"), expect: Expect::Any }], ..Commit::default() },
        Commit {
            claims: vec![Claim::Take { pool: "p\0".into(), item: "i".into(), owner: key.clone() }],
            ..Commit::default()
        },
    ];
    for commit in invalid {
        let result = store.commit(commit).await;
        assert!(matches!(result, Err(StoreError::Invalid(_))), "{result:?}");
    }
    let large = Bytes::from(vec![b'x'; MAX_OBJECT]);
    let too_large = [
        one(put(&key, vec![b'x'; MAX_OBJECT + 1], Expect::Any)),
        one(put(&pod(&long), "", Expect::Any)),
        Commit { who: long.as_str().into(), ..one(put(&key, "", Expect::Any)) },
        Commit {
            ops: vec![put(&key, large.clone(), Expect::Any), put(&pod("l"), large.clone(), Expect::Any)],
            ..Commit::default()
        },
    ];
    for commit in too_large {
        let result = store.commit(commit).await;
        assert!(matches!(result, Err(StoreError::TooLarge { .. })), "{result:?}");
    }
    assert_eq!(found(&store, &key).await, None);
    write(&store, put(&key, large.clone(), Expect::Absent)).await;
    assert_eq!(found(&store, &key).await, Some(large));
    let before = store.read_revision().await.expect("a read succeeds");
    let empty = store.commit(Commit::default()).await.expect("nothing to do is done");
    let after = store.read_revision().await.expect("a read succeeds");
    assert!(before <= empty && empty <= after, "{before} {empty} {after}");
}

/// A store of another layout version is refused, and stays as it is.
pub async fn formats_are_told_apart(case: Case) {
    drop(case.store().await);
    drop(case.store().await);
    loop {
        let mut tx = case.kv.begin();
        tx.mutate(Mutation::Set(Bytes::from_static(b"Mformat"), Bytes::from_static(b"9")));
        if tx.commit().await.is_ok() {
            break;
        }
    }
    let refused = Store::open(case.kv.clone(), case.clock.clone()).await.expect_err("another version");
    assert_eq!(refused.to_string(), "the store holds storage format 9, and this version of ironkeel reads format 2");
}

/// What clients hear, writers and watchers side by side, is explained by one order of all commits.
pub async fn histories_are_linearizable(case: Case) {
    let report = super::simulate::on_engine(case.kv.clone(), case.seed, case.clock.clone()).await;
    match report {
        Ok(report) => assert!(report.commits > 2 && report.calls > report.commits, "{report:?}"),
        Err(failure) => panic!("{failure}"),
    }
}
