//! Backup and restore: what comes back is what was there, to the row; what is damaged, older, newer or in the way is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use storage::clock::{Clock, ManualClock};
use storage::embedded::{Embedded, Options};
use storage::kv::{Kv, KvError, Mutation, RangeRead, Read, Transaction, Version};
use storage::laws::{runtime, seeds};
use storage::sim::{Faults, Sim};
use storage::store::backup::{At, Backup, BackupError, Point, Restored, SUMMARY, ShortLived, Source, Summary};
use storage::store::check::{Report, check};
use storage::store::{Claim, Commit, Expect, Key, Op, Retention, Revision, Store, StoreError};
use tempfile::TempDir;

const START: u64 = 1_000_000_000;
const NONE: ShortLived = |_| false;

fn sim(seed: u64) -> Arc<dyn Kv> {
    Arc::new(Sim::new(seed, Faults::NONE))
}

fn embedded() -> (Arc<dyn Kv>, TempDir) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let options = Options { reserve: 0, ..Options::default() };
    (Arc::new(Embedded::open(dir.path(), &options).expect("an empty directory opens")), dir)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START))
}

async fn open(kv: &Arc<dyn Kv>, clock: &Arc<ManualClock>) -> Store {
    Store::open(kv.clone(), clock.clone()).await.expect("the store opens")
}

/// Every row of an engine.
async fn rows(kv: &Arc<dyn Kv>) -> BTreeMap<Bytes, Bytes> {
    let all = RangeRead::new(vec![0], vec![0xff]);
    loop {
        if let Ok(page) = kv.begin().get_range(&all, Read::Snapshot).await {
            return page.rows.into_iter().collect();
        }
    }
}

/// The rows with these tags.
fn tagged(rows: &BTreeMap<Bytes, Bytes>, tags: &[u8]) -> BTreeMap<Bytes, Bytes> {
    rows.iter().filter(|(key, _)| tags.contains(&key[0])).map(|(k, v)| (k.clone(), v.clone())).collect()
}

async fn file(mut backup: Backup) -> Result<Vec<u8>, BackupError> {
    let mut file = Vec::new();
    while let Some(bytes) = backup.next().await? {
        file.extend_from_slice(&bytes);
    }
    Ok(file)
}

async fn take(kv: &Arc<dyn Kv>, clock: &Arc<ManualClock>) -> Vec<u8> {
    file(Backup::new(kv.clone(), clock.clone(), NONE)).await.expect("a backup")
}

fn source(file: &[u8], short: ShortLived) -> Result<Source<Cursor<Vec<u8>>>, BackupError> {
    Source::verify(Cursor::new(file.to_vec()), short)
}

async fn restore(
    file: &[u8],
    kv: &Arc<dyn Kv>,
    clock: &Arc<ManualClock>,
    at: At,
    short: ShortLived,
) -> Result<(Point, Restored), BackupError> {
    let mut source = source(file, short)?;
    let point = source.point(at)?;
    let restored = source.restore(kv.as_ref(), clock.as_ref(), point, |_| {}).await?;
    Ok((point, restored))
}

async fn sound(kv: &Arc<dyn Kv>) -> Report {
    let report = check(kv.as_ref()).await.expect("a check");
    assert_eq!(report.findings, Vec::new());
    report
}

fn key(resource: &str, name: impl std::fmt::Display) -> Key {
    Key::new(resource, "ns", &name.to_string())
}

fn put(key: &Key, bytes: impl Into<Bytes>) -> Op {
    Op::Put { key: key.clone(), bytes: bytes.into(), expect: Expect::Any, expires: None }
}

fn one(op: Op) -> Commit {
    Commit { who: "test".into(), ops: vec![op], ..Commit::default() }
}

fn noise(rng: &mut StdRng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A random commit: puts, deletions, objects in parts, expiries, allocations, over two resources.
fn random(rng: &mut StdRng, clock: &ManualClock) -> Commit {
    let mut commit = Commit { who: "test".into(), ..Commit::default() };
    let mut names: Vec<(bool, u8)> =
        (0..rng.random_range(1..4)).map(|_| (rng.random(), rng.random_range(0..6))).collect();
    names.sort_unstable();
    names.dedup();
    for (events, name) in names {
        let key = key(if events { "events" } else { "pods" }, name);
        let len = if rng.random_range(0..8) == 0 { rng.random_range(80_000..200_000) } else { rng.random_range(0..30) };
        let bytes: Bytes = noise(rng, len).into();
        commit.ops.push(match rng.random_range(0..4) {
            0 => Op::Delete { key, last: bytes, expect: Expect::Any },
            _ => {
                let expires = rng.random_bool(0.3).then(|| clock.unix_seconds() + rng.random_range(1..1000));
                Op::Put { key, bytes, expect: Expect::Any, expires }
            }
        });
    }
    if rng.random_bool(0.4) {
        let (pool, item) = (Arc::from("ips"), Arc::from(rng.random_range(0..5).to_string()));
        let owner = key("pods", rng.random_range(0..3));
        commit.claims.push(match rng.random() {
            true => Claim::Take { pool, item, owner },
            false => Claim::Release { pool, item, owner },
        });
    }
    commit
}

/// Restored at a revision, every row is what it was then. `LAWS_SEED` runs a seed again.
#[test]
fn every_revision_comes_back_row_by_row() {
    for seed in seeds(6) {
        eprintln!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        runtime().block_on(async {
            let (kv, clock) = (sim(seed), clock());
            let store = open(&kv, &clock).await;
            let mut moments: Vec<(Revision, u64, BTreeMap<Bytes, Bytes>)> = Vec::new();
            for _ in 0..40 {
                clock.advance(Duration::from_secs(rng.random_range(0..3)));
                match store.commit(random(&mut rng, &clock)).await {
                    Ok(revision) if moments.last().is_none_or(|(last, ..)| *last < revision) => {
                        moments.push((revision, clock.unix_millis(), rows(&kv).await));
                    }
                    Ok(_) | Err(StoreError::Claimed { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            clock.advance(Duration::from_secs(5));
            let backup = take(&kv, &clock).await;
            for (revision, at, want) in &moments {
                let target = sim(seed + 1);
                let (point, restored) = restore(&backup, &target, &clock, At::Revision(*revision), NONE).await.unwrap();
                // A commit of allocations alone leaves no trace in the log.
                assert!(point.at.is_none_or(|found| found <= *at));
                let mut found = rows(&target).await;
                assert!(found.remove(b"Mgaps".as_slice()).is_some());
                assert_eq!(found, *want, "at {revision}");
                let report = check(target.as_ref()).await.unwrap();
                // Owners that never were are part of the random history.
                assert!(report.findings.iter().all(|f| f.row.starts_with('A')), "{:?}", report.findings);
                assert_eq!((report.objects, report.changes), (restored.objects, restored.changes));
            }
        });
    }
}

/// With the log cut between: what the log still reaches is right, what it does not is refused.
#[test]
fn a_cut_log_bounds_what_can_be_restored() {
    // The last one has an object of many blocks at the beginning of its log.
    for seed in seeds(6).into_iter().chain([46_286_684_146_549]) {
        eprintln!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        runtime().block_on(async {
            let (kv, clock) = (sim(seed), clock());
            let store = open(&kv, &clock).await;
            let mut moments = Vec::new();
            let mut floors = BTreeMap::new();
            for i in 0..40 {
                clock.advance(Duration::from_secs(1));
                let mut commit = random(&mut rng, &clock);
                commit.claims.clear();
                let revision = store.commit(commit).await.unwrap();
                moments.push((revision, tagged(&rows(&kv).await, b"CX")));
                if i % 10 == 9 {
                    for (resource, max_entries) in [("pods", 25), ("events", 2)] {
                        let keep = Retention { max_entries: Some(max_entries), max_age: None };
                        floors.insert(resource, store.compact(resource, keep).await.unwrap());
                    }
                }
            }
            let whole = take(&kv, &clock).await;
            let short: ShortLived = |resource| resource == "events";
            let backup = file(Backup::new(kv.clone(), clock.clone(), short)).await.unwrap();
            for (revision, want) in &moments {
                let outcome = restore(&whole, &sim(1), &clock, At::Revision(*revision), NONE).await;
                if *revision >= floors["pods"].max(floors["events"]) {
                    outcome.unwrap();
                } else {
                    assert!(matches!(outcome, Err(BackupError::OutOfRange { .. })), "{outcome:?}");
                }
                let target = sim(2);
                let outcome = restore(&backup, &target, &clock, At::Revision(*revision), short).await;
                if *revision < floors["pods"] {
                    assert!(matches!(outcome, Err(BackupError::OutOfRange { .. })), "{outcome:?}");
                    continue;
                }
                outcome.unwrap();
                sound(&target).await;
                let found = tagged(&rows(&target).await, b"CX");
                let of = |rows: &BTreeMap<Bytes, Bytes>, pods: bool| -> BTreeMap<Bytes, Bytes> {
                    let mine = |key: &Bytes| key.windows(5).any(|word| word == b"pods\0") == pods;
                    rows.iter().filter(|(key, _)| mine(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
                };
                assert_eq!(of(&found, true), of(want, true), "at {revision}");
                // Of the other resource nothing is there that was not so then; all of it where the log reaches.
                let (found, want) = (of(&found, false), of(want, false));
                assert!(found.iter().all(|(key, value)| want.get(key) == Some(value)), "at {revision}");
                assert!(*revision < floors["events"] || found == want, "at {revision}");
            }
        });
    }
}

/// Each object holds the item it has claimed, so a state that mixes two moments shows.
async fn churn(store: Store, writer: u64, rounds: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ writer << 32);
    let mut held: BTreeMap<u64, String> = BTreeMap::new();
    for round in 0..rounds {
        let (name, pool) = (rng.random_range(0..8), Arc::from("ips"));
        let me = key("services", format!("{writer}-{name}"));
        let mut claims = Vec::new();
        if let Some(item) = held.remove(&name) {
            claims.push(Claim::Release { pool: Arc::clone(&pool), item: item.as_str().into(), owner: me.clone() });
        }
        let op = if rng.random_bool(0.25) {
            Op::Delete { key: me.clone(), last: Bytes::new(), expect: Expect::Any }
        } else {
            let item = format!("{writer}.{round}");
            claims.push(Claim::Take { pool, item: item.as_str().into(), owner: me.clone() });
            held.insert(name, item.clone());
            // Some in parts.
            let padding = if rng.random_range(0..6) == 0 { 100_000 } else { 10 };
            put(&me, format!("{item} {}", "x".repeat(padding)))
        };
        let other = put(&key("pods", rng.random_range(0..30)), round.to_string());
        store
            .commit(Commit { claims, ..Commit { who: "churn".into(), ops: vec![op, other], ..Commit::default() } })
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
}

async fn consistent(source: &Store, target: &Arc<dyn Kv>, clock: &Arc<ManualClock>, point: Revision, writers: u64) {
    sound(target).await;
    let restored = open(target, clock).await;
    let mut owners = BTreeMap::new();
    let services = (0..writers).flat_map(|w| (0..8).map(move |n| key("services", format!("{w}-{n}"))));
    for key in services.chain((0..30).map(|n| key("pods", n))) {
        let found = restored.get(&key).await.unwrap();
        assert_eq!(found, source.get_at(&key, point).await.unwrap(), "{key} at {point}");
        if let (Some(found), "services") = (found, &*key.resource) {
            let text = String::from_utf8(found.bytes.to_vec()).unwrap();
            owners.insert(text.split(' ').next().unwrap().to_owned(), key);
        }
    }
    let claims: BTreeMap<_, _> =
        restored.claims("ips").await.unwrap().into_iter().map(|(i, k)| (i.to_string(), k)).collect();
    assert_eq!(claims, owners, "at {point}");
}

/// Snapshots given up after a few rows, writers between any two steps: the copy is one state all the same.
#[test]
fn a_copy_while_others_write_is_one_state() {
    for seed in seeds(12) {
        eprintln!("seed {seed}");
        runtime().block_on(async {
            let faults =
                if seed % 2 == 0 { Faults::DELAYS } else { Faults { conflict: 50, too_old: 20, ..Faults::DELAYS } };
            let (kv, clock): (Arc<dyn Kv>, _) = (Arc::new(Sim::new(seed, faults)), clock());
            let store = open(&kv, &clock).await;
            churn(store.clone(), 0, 20, seed).await;
            let middle = store.read_revision().await.unwrap();
            let backup = async {
                let cut = 1 + usize::try_from(seed % 7).unwrap();
                file(Backup::new(kv.clone(), clock.clone(), NONE).cut_every(cut)).await.unwrap()
            };
            let writers = futures::future::join_all((1..4).map(|writer| churn(store.clone(), writer, 40, seed)));
            let (backup, _) = futures::join!(backup, writers);
            let summary = *source(&backup, NONE).unwrap().summary();
            assert!(summary.latest < store.read_revision().await.unwrap(), "nobody wrote during the copy");
            for at in [At::Latest, At::Revision(middle)] {
                let target = sim(seed);
                let (point, _) = restore(&backup, &target, &clock, at, NONE).await.unwrap();
                consistent(&store, &target, &clock, point.revision, 4).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_busy_directory_is_one_state() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    for cut in [0, 5] {
        let ((kv, _dir), clock) = (embedded(), clock());
        let store = open(&kv, &clock).await;
        churn(store.clone(), 0, 20, seed).await;
        let writers: Vec<_> = (1..4).map(|writer| tokio::spawn(churn(store.clone(), writer, 60, seed))).collect();
        let backup = file(store.backup(NONE).cut_every(cut)).await.unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
        sound(&kv).await;
        let (target, _place) = embedded();
        let (point, _) = restore(&backup, &target, &clock, At::Latest, NONE).await.unwrap();
        consistent(&store, &target, &clock, point.revision, 4).await;
    }
}

/// Where each frame begins and the file ends.
fn boundaries(file: &[u8]) -> Vec<usize> {
    let mut at = 20;
    let mut found = vec![at];
    while at < file.len() {
        at += 9 + u32::from_be_bytes(file[at + 5..at + 9].try_into().unwrap()) as usize + 32;
        found.push(at);
    }
    assert_eq!(found.last(), Some(&file.len()));
    found
}

#[test]
fn what_is_cut_short_or_changed_is_refused() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    runtime().block_on(async {
        let (kv, clock) = (sim(1), clock());
        let store = open(&kv, &clock).await;
        for name in 0..20 {
            store.commit(one(put(&key("pods", name), noise(&mut rng, 60_000)))).await.unwrap();
            store.commit(one(put(&key("pods", name), vec![b'x'; 60_000]))).await.unwrap();
        }
        let good = take(&kv, &clock).await;
        let ends = boundaries(&good);
        assert!(ends.len() > 6, "several blocks are needed to lose one: {ends:?}");
        let refused = |file: &[u8], what: String| {
            let error = source(file, NONE).map(drop).expect_err(&what);
            assert!(!matches!(error, BackupError::Store(_)), "{what}: {error}");
        };
        for end in &ends[..ends.len() - 1] {
            for cut in [end - 1, *end, end + 1] {
                refused(&good[..cut], format!("{cut} bytes of {}", good.len()));
            }
        }
        refused(&[], "nothing".to_owned());
        refused(&[good.as_slice(), b"\0"].concat(), "a byte too many".to_owned());
        for _ in 0..400 {
            let (at, bit) = (rng.random_range(0..good.len()), rng.random_range(0..8));
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            refused(&bad, format!("bit {bit} of byte {at}"));
        }
        // A block left out, twice, or in another order.
        let [a, b, c] = [ends[2], ends[3], ends[4]];
        refused(&[&good[..a], &good[b..]].concat(), "a block left out".to_owned());
        refused(&[&good[..b], &good[a..]].concat(), "a block twice".to_owned());
        refused(&[&good[..a], &good[b..c], &good[a..b], &good[c..]].concat(), "blocks changed places".to_owned());
        let mut newer = good.clone();
        newer[19] = 2;
        let error = source(&newer, NONE).map(drop).unwrap_err();
        assert!(matches!(error, BackupError::Newer { .. }) && error.to_string().contains("format 2"), "{error}");
        assert!(matches!(source(b"PK\x03\x04 and so on, long enough", NONE), Err(BackupError::NotABackup(_))));
        // The summary can be read off the end alone.
        let summary = *source(&good, NONE).unwrap().summary();
        assert_eq!(Summary::of_end(&good[good.len() - SUMMARY..]), Some(summary));
        assert_eq!((summary.objects, summary.changes), (20, 40));
        assert_eq!(Summary::of_end(&good[good.len() - SUMMARY - 1..good.len() - 1]), None);
    });
}

#[test]
fn a_store_that_holds_something_is_left_alone() {
    runtime().block_on(async {
        let (kv, clock) = (sim(1), clock());
        open(&kv, &clock).await.commit(one(put(&key("pods", "a"), "1"))).await.unwrap();
        let backup = take(&kv, &clock).await;
        let before = rows(&kv).await;
        let refused = restore(&backup, &kv, &clock, At::Latest, NONE).await;
        assert!(matches!(refused, Err(BackupError::NotEmpty)), "{refused:?}");
        assert_eq!(rows(&kv).await, before);
        // One that was opened and never written to is as good as none.
        let target = sim(2);
        drop(open(&target, &clock).await);
        restore(&backup, &target, &clock, At::Latest, NONE).await.unwrap();
        assert_eq!(open(&target, &clock).await.get(&key("pods", "a")).await.unwrap().unwrap().bytes, "1");
        // There is nothing to back up in an engine without a store.
        let none = file(Backup::new(sim(3), clock.clone(), NONE)).await;
        assert!(none.is_err_and(|e| e.to_string().contains("no store")));
        // Rows of a later layout would be missing in a copy.
        let mut tx = kv.begin();
        tx.mutate(Mutation::Set("Zebra".into(), "".into()));
        tx.commit().await.unwrap();
        let stranger = file(Backup::new(kv.clone(), clock.clone(), NONE)).await;
        assert!(stranger.is_err_and(|e| e.to_string().contains("Zebra")));
    });
}

#[test]
fn an_interrupted_restore_says_so_and_can_be_done_again() {
    runtime().block_on(async {
        let (kv, clock) = (sim(1), clock());
        let store = open(&kv, &clock).await;
        for name in 0..50 {
            store.commit(one(put(&key("pods", name), vec![b'x'; 100_000]))).await.unwrap();
        }
        let backup = take(&kv, &clock).await;
        let (mut finished, mut interrupted) = (false, 0);
        let mut polls = 1;
        let target: Arc<dyn Kv> = Arc::new(Sim::new(7, Faults::DELAYS));
        while !finished {
            {
                let outcome = restore(&backup, &target, &clock, At::Latest, NONE);
                futures::pin_mut!(outcome);
                for _ in 0..polls {
                    if let Some(outcome) = outcome.as_mut().now_or_never() {
                        // The last write of the one before may have landed after it was given up.
                        assert!(matches!(outcome, Ok(_) | Err(BackupError::NotEmpty)), "{outcome:?}");
                        finished = true;
                        break;
                    }
                }
            }
            if !finished && rows(&target).await.contains_key(b"Mrestoring".as_slice()) {
                interrupted += 1;
                let refused = Store::open(target.clone(), clock.clone()).await.unwrap_err();
                assert!(refused.to_string().contains("run `ironkeel restore` into it again"), "{refused}");
                let copy = file(Backup::new(target.clone(), clock.clone(), NONE)).await;
                assert!(copy.is_err_and(|e| e.to_string().contains("was not finished")));
                let report = check(target.as_ref()).await.unwrap();
                assert!(report.findings.iter().any(|f| f.row == "Mrestoring"), "{report:?}");
            }
            polls += 3;
        }
        assert!(interrupted > 3, "interrupted {interrupted} times");
        let mut found = rows(&target).await;
        found.remove(b"Mgaps".as_slice());
        assert_eq!(found, rows(&kv).await);
    });
}

#[tokio::test]
async fn revisions_only_grow_and_the_lost_past_is_gone() {
    for target in [(sim(3), None), {
        let (kv, dir) = embedded();
        (kv, Some(dir))
    }] {
        let (kv, clock) = (sim(1), clock());
        let store = open(&kv, &clock).await;
        let mut revisions = Vec::new();
        for i in 0..10 {
            clock.advance(Duration::from_secs(10));
            revisions.push(store.commit(one(put(&key("pods", i % 3), i.to_string()))).await.unwrap());
        }
        let (fifth, last) = (revisions[4], revisions[9]);
        let backup = take(&kv, &clock).await;
        // The old cluster goes on after the backup.
        let lost = store.commit(one(put(&key("pods", "lost"), "x"))).await.unwrap();
        clock.advance(Duration::from_secs(60));
        let (target, _dir) = target;
        let (point, restored) = restore(&backup, &target, &clock, At::Revision(fifth), NONE).await.unwrap();
        assert_eq!(point, Point { revision: fifth, at: Some(START + 50_000) });
        let store = open(&target, &clock).await;
        assert!(restored.after > lost && store.read_revision().await.unwrap() >= restored.after);
        let new = store.commit(one(put(&key("pods", 0), "new"))).await.unwrap();
        assert!(new > restored.after);
        // Up to the point, the past is shared.
        let mut tail = store.tail("pods", revisions[2]);
        let events = tail.next().await.unwrap();
        assert_eq!(events.iter().map(|e| e.revision).collect::<Vec<_>>(), [revisions[3], fifth, new]);
        assert_eq!(store.get_at(&key("pods", 0), revisions[2]).await.unwrap().unwrap().bytes, "0");
        assert_eq!(store.history(&key("pods", 0)).await.unwrap().len(), 3);
        // What came after it never was.
        for gone in [Revision(fifth.0 + 1), last, lost, Revision(restored.after.0 - 1)] {
            let refused = StoreError::Compacted { oldest: restored.after };
            assert_eq!(store.tail("pods", gone).catch_up().await, Err(refused.clone()), "{gone}");
            assert_eq!(store.get_at(&key("pods", 0), gone).await, Err(refused), "{gone}");
        }
        assert_eq!(store.tail("pods", restored.after).catch_up().await.unwrap().len(), 1);
        sound(&target).await;
        // And so on into the next backup and restore.
        let second = take(&target, &clock).await;
        let again = sim(4);
        restore(&second, &again, &clock, At::Latest, NONE).await.unwrap();
        let store = open(&again, &clock).await;
        assert!(matches!(store.tail("pods", last).catch_up().await, Err(StoreError::Compacted { .. })));
        assert_eq!(store.get(&key("pods", 0)).await.unwrap().unwrap().bytes, "new");
        assert!(store.commit(one(put(&key("pods", 0), "newer"))).await.unwrap() > new);
    }
}

#[tokio::test]
async fn points_are_revisions_or_times_within_the_backup() {
    let (kv, clock) = (sim(1), clock());
    let store = open(&kv, &clock).await;
    clock.advance(Duration::from_secs(100));
    let mut revisions = Vec::new();
    for i in 0..5 {
        revisions.push(store.commit(one(put(&key("pods", "a"), i.to_string()))).await.unwrap());
        clock.advance(Duration::from_secs(10));
    }
    let first = START + 100_000;
    let backup = take(&kv, &clock).await;
    let mut good = source(&backup, NONE).unwrap();
    let summary = *good.summary();
    assert_eq!((summary.oldest, summary.oldest_at), (Revision(0), first));
    assert_eq!((summary.latest_at, summary.objects, summary.changes), (first + 50_000, 1, 5));
    let just_before = |revision: Revision| Revision(revision.0 - 1);
    let cases = [
        (At::Latest, Ok(summary.latest)),
        (At::Revision(revisions[2]), Ok(revisions[2])),
        (At::Revision(summary.latest), Ok(summary.latest)),
        (At::Revision(Revision(summary.latest.0 + 1)), Err("revision")),
        (At::Revision(Revision(0)), Err("revision 0")),
        (At::Time(first - 1), Err("the time")),
        (At::Time(first), Ok(just_before(revisions[1]))),
        (At::Time(first + 9_999), Ok(just_before(revisions[1]))),
        (At::Time(first + 10_000), Ok(just_before(revisions[2]))),
        (At::Time(first + 40_000), Ok(summary.latest)),
        (At::Time(first + 50_000), Ok(summary.latest)),
        (At::Time(first + 50_001), Err("the time")),
    ];
    for (at, want) in cases {
        match (good.point(at), want) {
            (Ok(point), Ok(revision)) => assert_eq!(point.revision, revision, "{at:?}"),
            (Err(error), Err(words)) => {
                let range = format!("revisions 0 to {}", summary.latest);
                assert!(error.to_string().starts_with(words) && error.to_string().contains(&range), "{at:?}: {error}");
            }
            (outcome, _) => panic!("{at:?}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn engines_move_their_versions_on() {
    let (dir, sim) = (embedded(), sim(1));
    for kv in [&dir.0, &sim] {
        let version = Version(1 << 40);
        kv.advance_to(version).await.unwrap();
        let tx = kv.begin();
        assert_eq!(tx.read_version().await.unwrap(), version);
        kv.advance_to(Version(5)).await.unwrap();
        let mut tx = kv.begin();
        tx.mutate(Mutation::Set("k".into(), "v".into()));
        assert!(tx.commit().await.unwrap() > version);
    }
    let (kv, dir) = dir;
    drop(kv);
    let kv = Embedded::open(dir.path(), &Options { reserve: 0, ..Options::default() }).unwrap();
    assert!(kv.begin().read_version().await.unwrap() > Version(1 << 40), "it is kept");
}

/// An engine that dies whenever it is to discard something.
#[derive(Debug)]
struct Keeps(Arc<dyn Kv>);

#[async_trait::async_trait]
impl Kv for Keeps {
    fn begin(&self) -> Box<dyn Transaction> {
        self.0.begin()
    }

    async fn discard(&self, _begin: Bytes, _end: Bytes) -> Result<(), KvError> {
        Err(KvError::Unavailable("died".to_owned()))
    }
}

#[tokio::test]
async fn a_cut_that_died_before_it_removed_anything_harms_nobody() {
    let (kv, clock) = (sim(1), clock());
    let dying: Arc<dyn Kv> = Arc::new(Keeps(kv.clone()));
    let store = open(&dying, &clock).await;
    for turn in 0..4 {
        for name in ["a", "large"] {
            let len = if name == "large" { 200_000 } else { 10 };
            store.commit(one(put(&key("pods", name), vec![b'0' + turn; len]))).await.unwrap();
        }
    }
    let delete = Op::Delete { key: key("pods", "a"), last: "end".into(), expect: Expect::Any };
    store.commit(one(delete)).await.unwrap();
    let keep = Retention { max_entries: Some(2), max_age: None };
    store.compact("pods", keep).await.unwrap_err();
    let whole = rows(&kv).await;
    assert_eq!(tagged(&whole, b"L").len(), 9, "nothing is removed");

    let report = sound(&kv).await;
    assert_eq!(report.changes, 2, "what was cut off does not count");
    let history = store.history(&key("pods", "a")).await.unwrap();
    assert_eq!(history.len(), 1);
    let floor = Version::from_stamp(&whole[b"Fpods".as_slice()]).map(|v| Revision(v.0)).unwrap();
    let before = Revision(floor.0 - 1);
    assert!(matches!(store.get_at(&key("pods", "a"), before).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.tail("pods", before).catch_up().await, Err(StoreError::Compacted { .. })));

    let copy = sim(2);
    restore(&take(&kv, &clock).await, &copy, &clock, At::Latest, NONE).await.unwrap();
    assert_eq!(sound(&copy).await.changes, 2);
    assert_eq!(tagged(&rows(&copy).await, b"L").len(), 2, "the copy has none of it");

    let store = open(&kv, &clock).await;
    store.compact("pods", keep).await.unwrap();
    assert_eq!(tagged(&rows(&kv).await, b"L"), tagged(&rows(&copy).await, b"L"), "the next one removes it");
}

/// A store with one of everything.
async fn specimen() -> (Arc<dyn Kv>, BTreeMap<Bytes, Bytes>) {
    let (kv, clock) = (sim(1), clock());
    let store = open(&kv, &clock).await;
    let expires = Some(clock.unix_seconds() + 1000);
    let owner = key("services", "s");
    let take = Claim::Take { pool: "ips".into(), item: "1".into(), owner: owner.clone() };
    store.commit(Commit { claims: vec![take], ..one(put(&owner, "s")) }).await.unwrap();
    store.commit(one(put(&key("pods", "a"), "1"))).await.unwrap();
    store.commit(one(put(&key("pods", "a"), "2"))).await.unwrap();
    store.commit(one(put(&key("pods", "b"), "1"))).await.unwrap();
    store.commit(one(Op::Delete { key: key("pods", "b"), last: "1".into(), expect: Expect::Any })).await.unwrap();
    store.commit(one(put(&key("pods", "large"), vec![b'x'; 200_000]))).await.unwrap();
    let e = Op::Put { key: key("events", "e"), bytes: "e".into(), expect: Expect::Any, expires };
    store.commit(one(e)).await.unwrap();
    store.compact("events", Retention { max_entries: Some(0), max_age: None }).await.unwrap();
    let rows = rows(&kv).await;
    (kv, rows)
}

#[tokio::test]
async fn a_check_finds_what_is_damaged_and_nothing_else() {
    type Damage = fn(&BTreeMap<Bytes, Bytes>) -> Vec<Mutation>;
    fn nth(rows: &BTreeMap<Bytes, Bytes>, prefix: &str, n: usize) -> Bytes {
        let mut found = rows.keys().filter(|key| key.starts_with(prefix.as_bytes()));
        found.nth(n).unwrap_or_else(|| panic!("no row {prefix} {n}")).clone()
    }
    fn clear(rows: &BTreeMap<Bytes, Bytes>, prefix: &str, n: usize) -> Vec<Mutation> {
        vec![Mutation::Clear(nth(rows, prefix, n))]
    }
    fn set(rows: &BTreeMap<Bytes, Bytes>, prefix: &str, n: usize, value: &'static [u8]) -> Vec<Mutation> {
        vec![Mutation::Set(nth(rows, prefix, n), value.into())]
    }
    let cases: &[(&str, Damage, &[&str])] = &[
        ("nothing", |_| vec![], &[]),
        ("a current object", |r| set(r, "Cpods\0ns\0a", 0, b"short"), &["C: does not decode"]),
        ("a lost current object", |r| clear(r, "Cpods\0ns\0a", 0), &["C: says that pods/ns/a is there, and it is not"]),
        (
            "a lost owner",
            |r| clear(r, "Cservices", 0),
            &["A: which is not there", "C: services/ns/s is there, and it is not"],
        ),
        (
            "an older object",
            |r| {
                vec![Mutation::Set(nth(r, "Cpods\0ns\0a", 0), {
                    let mut old = r[&nth(r, "Cpods\0ns\0a", 0)].to_vec();
                    old[9] -= 1;
                    old.into()
                })]
            },
            &["C: did not write this object"],
        ),
        (
            "a lost change",
            |r| clear(r, "Lpods", 1),
            &[
                "C: did not write",
                "H: lacks this change of pods/ns/a",
                "N: counts 5 changes in the log, and there are 4",
            ],
        ),
        ("a lost history", |r| clear(r, "Hpods", 0), &["L: does not go with this change"]),
        (
            "a history of a creation",
            |r| {
                let born = nth(r, "Lpods", 0).slice(6..16);
                vec![Mutation::Set([b"Hpods\0ns\0a\0".as_slice(), &born].concat().into(), vec![0, 0].into())]
            },
            &["L: does not go with this change"],
        ),
        (
            "a strange history",
            |_| vec![Mutation::Set("Hpods\0ns\0z\0\0\0\0\0\0\0\0\0\0\x01".into(), vec![0, 0].into())],
            &["H: lacks this change of pods/ns/z"],
        ),
        ("a damaged change", |r| set(r, "Lpods", 0, b"x"), &["L: does not decode", "N: counts 5"]),
        (
            "a wrong count",
            |r| set(r, "Npods", 0, b"\x01\0\0\0\0\0\0\0"),
            &["N: counts 1 changes in the log, and there are 5"],
        ),
        ("a lost count", |r| clear(r, "Npods", 0), &["N: nothing counts"]),
        ("a wrong bookmark", |r| set(r, "Wpods", 0, b"\0\0\0\0\0\0\0\0\0\x01"), &["W: as the last change"]),
        ("a lost bookmark", |r| clear(r, "Wpods", 0), &["W: nothing names"]),
        ("a lost part", |r| clear(r, "Bpods", 1), &["B: lacks 90000 bytes"]),
        (
            "a part too many",
            |r| vec![Mutation::Set([nth(r, "Bpods", 0).as_ref(), b"\0"].concat().into(), "x".into())],
            &["B: no record names"],
        ),
        (
            "a longer part",
            |r| set(r, "Bpods", 2, &[b'y'; 30_000]),
            &["B: shorter than its parts", "B: lacks 20000 bytes"],
        ),
        ("a lost expiry", |r| clear(r, "X", 0), &["C: nothing says when"]),
        (
            "a strange expiry",
            |_| vec![Mutation::Set("X\0\0\0\0\0\0\0\x09pods\0ns\0a".into(), Bytes::new())],
            &["X: is not to expire then"],
        ),
        ("a damaged allocation", |r| set(r, "Aips", 0, b"nobody"), &["A: does not decode"]),
        (
            "a high floor",
            |r| vec![Mutation::Set("Fpods".into(), nth(r, "Lpods", 0).slice(6..16))],
            &["N: counts 5 changes in the log, and there are 4"],
        ),
        (
            "a damaged floor",
            |r| set(r, "Fevents", 0, b"x"),
            &["C: did not write", "F: does not decode", "W: as the last change"],
        ),
        ("another format", |r| set(r, "Mformat", 0, b"9"), &["M: has format 9"]),
        ("a lost format", |r| clear(r, "Mformat", 0), &["M: does not say its format"]),
        ("a damaged list of restores", |_| vec![Mutation::Set("Mgaps".into(), "x".into())], &["M: does not decode"]),
        ("a stranger", |_| vec![Mutation::Set("Zebra".into(), "".into())], &["Z: no known kind"]),
        ("a damaged change of an allocation", |r| set(r, "Gservices", 0, b"x"), &["G: does not decode"]),
    ];
    for (what, damage, want) in cases {
        let (kv, rows) = specimen().await;
        let mutations = damage(&rows);
        let mut tx = kv.begin();
        mutations.into_iter().for_each(|mutation| tx.mutate(mutation));
        tx.commit().await.unwrap();
        let report = check(kv.as_ref()).await.unwrap();
        let mut found: Vec<String> =
            report.findings.iter().map(|f| format!("{}: {}", &f.row[..1], f.meaning)).collect();
        found.sort();
        let mut want: Vec<_> = want.to_vec();
        want.sort_unstable();
        assert_eq!(found.len(), want.len(), "{what}: {found:#?}");
        for (found, want) in found.iter().zip(want) {
            let (tag, words) = want.split_at(3);
            assert!(found.starts_with(tag) && found.contains(words), "{what}: {want:?} in {found:?}");
        }
    }
}

#[tokio::test]
async fn a_report_is_bounded() {
    let (kv, _) = specimen().await;
    let mut tx = kv.begin();
    for i in 0..250 {
        tx.mutate(Mutation::Set(format!("Z{i}").into(), "".into()));
    }
    tx.commit().await.unwrap();
    let report = check(kv.as_ref()).await.unwrap();
    assert_eq!(report.findings.len(), storage::store::check::NAMED);
    assert!(report.more > 0);
}
