//! Creates on FoundationDB, as a ratio of what bare FoundationDB transactions do in the same run: `cargo bench -p storage --features
//! foundationdb --bench foundationdb`. Needs an fdbserver on PATH or in `FDB_BIN`; says in one line when there is none.
//!
//! Prints one line per figure with its bound, and judges nothing: bounds hold on a quiet machine. `BENCH_ROUNDS` (5) and `BENCH_MILLIS`
//! (3000 per round) set the size. Started without `--bench` (`cargo test --benches`), it only shows that it runs.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program that measures")]
#![allow(clippy::disallowed_types, reason = "the bare loop is the measure")]

#[path = "../tests/fdb/mod.rs"]
mod cluster;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::{Cluster, Programs};
use fdb::options::{DatabaseOption, MutationType};
use storage::clock::SystemClock;
use storage::foundationdb::{FoundationDb, Options};
use storage::kv::{Kv, RangeRead, Read};
use storage::store::{Commit, Expect, Key, Op, Revision, Store};

const TASKS: u64 = 64;
const SIZE: usize = 1024;

fn env(name: &str, default: u64, quick: u64) -> u64 {
    let full = std::env::args().any(|a| a == "--bench");
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(if full { default } else { quick })
}

/// What one create writes, with the places of stamps: keys, values, and stamps in keys or values.
#[derive(Debug, Clone)]
struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
    kind: MutationKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MutationKind {
    StampedKey,
    StampedValue,
    Add,
}

/// Finds out what a create writes by doing one and looking.
async fn shape(kv: &FoundationDb, store: &Store) -> Vec<Row> {
    let revision = store.commit(create(0, 0)).await.unwrap();
    let stamp = storage::kv::Version(revision.0).stamp();
    let all = RangeRead::new(vec![0], vec![0xff]);
    let rows = kv.begin().get_range(&all, Read::Snapshot).await.unwrap();
    assert!(!rows.more);
    let at = |bytes: &[u8]| bytes.windows(stamp.len()).position(|w| w == stamp);
    let with = |bytes: &[u8], at: usize| {
        let mut out = bytes.to_vec();
        out.extend(u32::try_from(at).unwrap().to_le_bytes());
        out
    };
    let mut shape = Vec::new();
    for (key, value) in rows.rows {
        if key.starts_with(b"M") {
            continue;
        }
        shape.push(match (at(&key), at(&value)) {
            (Some(at), _) => Row { key: with(&key, at), value: value.to_vec(), kind: MutationKind::StampedKey },
            (None, Some(at)) => Row { key: key.to_vec(), value: with(&value, at), kind: MutationKind::StampedValue },
            (None, None) => Row { key: key.to_vec(), value: value.to_vec(), kind: MutationKind::Add },
        });
    }
    shape
}

fn name(task: u64, turn: u64) -> String {
    format!("pod-{task:04}-{turn:010}")
}

fn create(task: u64, turn: u64) -> Commit {
    let key = Key::new("pods", "default", &name(task, turn));
    let op = Op::Put { key, bytes: Bytes::from(vec![b'x'; SIZE]), expect: Expect::Absent, expires: None };
    Commit { who: "bench".into(), ops: vec![op], ..Commit::default() }
}

/// The bare loop: the rows of a create under a name of its own; `reads` also asks for the object first, as a create must.
async fn bare(database: &fdb::Database, shape: &[Row], task: u64, turn: u64, reads: bool) {
    let (old, new) = (name(0, 0), name(task, turn));
    let renamed = |bytes: &[u8]| {
        let mut out = bytes.to_vec();
        if let Some(at) = out.windows(old.len()).position(|w| w == old.as_bytes()) {
            out[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
        // A tree of its own, so that it meets nothing of the store.
        out
    };
    let raw = database.create_trx().unwrap();
    if reads {
        let mut key = b"zC".to_vec();
        key.extend(new.as_bytes());
        assert!(raw.get(&key, false).await.unwrap().is_none());
    }
    for row in shape {
        let (key, value) = (renamed(&row.key), renamed(&row.value));
        let kind = match row.kind {
            MutationKind::StampedKey => MutationType::SetVersionstampedKey,
            MutationKind::StampedValue => MutationType::SetVersionstampedValue,
            MutationKind::Add => MutationType::Add,
        };
        raw.atomic_op(&key, &value, kind);
    }
    raw.commit().await.map(drop).unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Bare,
    BareWithRead,
    Store,
}

/// Operations a second of 64 tasks over `time`, with the median latency.
async fn measure(
    what: What,
    store: &Store,
    database: &Arc<fdb::Database>,
    shape: &Arc<Vec<Row>>,
    next: &Arc<AtomicU64>,
    time: Duration,
) -> (f64, Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let tasks: Vec<_> = (1..=TASKS)
        .map(|task| {
            let (store, database, shape) = (store.clone(), database.clone(), shape.clone());
            let (stop, next) = (stop.clone(), next.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let begun = Instant::now();
                    match what {
                        What::Bare => bare(&database, &shape, task, turn, false).await,
                        What::BareWithRead => bare(&database, &shape, task, turn, true).await,
                        What::Store => {
                            let revision = store.commit(create(task, turn)).await.unwrap();
                            assert!(revision > Revision(0));
                        }
                    }
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    took.sort();
    (rate, took[took.len() / 2])
}

fn main() {
    let Some(programs) = Programs::or_say("figures of FoundationDB") else { return };
    let (rounds, time) = (env("BENCH_ROUNDS", 5, 1), Duration::from_millis(env("BENCH_MILLIS", 3_000, 200)));
    let cluster = Cluster::single(&programs);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let kv = FoundationDb::open(cluster.file(), &Options::default()).unwrap();
        let store = Store::open(Arc::new(kv.clone()), Arc::new(SystemClock)).await.unwrap();
        let shape = Arc::new(shape(&kv, &store).await);
        // The network runs since the engine was opened; this is a connection of its own.
        let database = fdb::Database::new(cluster.file().to_str()).unwrap();
        database.set_option(DatabaseOption::TransactionTimeout(30_000)).unwrap();
        let database = Arc::new(database);
        let next = Arc::new(AtomicU64::new(1));
        let mut rates: [Vec<f64>; 3] = Default::default();
        for round in 0..=rounds {
            for (i, what) in [What::Bare, What::Store, What::BareWithRead].into_iter().enumerate() {
                let (rate, median) = measure(what, &store, &database, &shape, &next, time).await;
                println!("  round {round} {what:?}: {rate:.0}/s, median {median:?}");
                // The first round warms up.
                if round > 0 {
                    rates[i].push(rate);
                }
            }
        }
        let [bare, creates, reading] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        println!(
            "64 concurrent creates of {SIZE} bytes: {creates:.0}/s, {:.0}% of bare transactions that write the same bytes \
             ({bare:.0}/s; bound: at least 70%)",
            100.0 * creates / bare
        );
        println!(
            "the same as a share of bare transactions that also read the key first ({reading:.0}/s): {:.0}%",
            100.0 * creates / reading
        );
    });
}
