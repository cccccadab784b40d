//! `kill -9` in a loop under load: every acknowledged write is there afterwards, and nothing is half there.
//!
//! The test starts itself as a child process, reads what the child says was acknowledged, kills it at some moment, opens the store
//! and compares. Says nothing about power loss: the kernel survives here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test are the test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use storage::clock::SystemClock;
use storage::embedded::{Embedded, Options};
use storage::kv::KvError;
use storage::store::{Commit, Event, EventKind, Expect, Key, Op, Revision, Store};

const DIR: &str = "STORAGE_CRASH_DIR";
const ROUND: &str = "STORAGE_CRASH_ROUND";
const TASKS: usize = 16;
const KEYS: usize = 5;

fn engine(dir: &Path) -> Result<Embedded, KvError> {
    Embedded::open(dir, &Options { reserve: 0, ..Options::default() })
}

async fn store(dir: &Path) -> Store {
    Store::open(Arc::new(engine(dir).unwrap()), Arc::new(SystemClock)).await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// Each task writes pairs: `a` and `b` of a key always hold the same bytes, by one commit. Some are large.
fn ops(task: usize, turn: usize, round: &str) -> (String, Vec<Op>) {
    let size = if turn % 50 == 7 { 200_000 } else { 300 };
    let value = format!("{round}.{task}.{turn}.{}", "x".repeat(size));
    let name = format!("{task}-{}", turn % KEYS);
    let ops = ["a", "b"].map(|side| {
        let key = Key::new(side, "", &name);
        let bytes = value.clone().into();
        if turn % 11 == 10 {
            Op::Delete { key, last: bytes, expect: Expect::Any }
        } else {
            Op::Put { key, bytes, expect: Expect::Any, expires: None }
        }
    });
    (value, ops.into())
}

/// The child: writes until it is killed, and says what was acknowledged. Does nothing when run as a test of its own.
#[test]
fn child() {
    let (Some(dir), Ok(round)) = (std::env::var_os(DIR), std::env::var(ROUND)) else { return };
    runtime().block_on(async {
        let store = store(Path::new(&dir)).await;
        let tasks = (0..TASKS).map(|task| {
            let (store, round) = (store.clone(), round.clone());
            tokio::spawn(async move {
                for turn in 0.. {
                    let (_, ops) = ops(task, turn, &round);
                    let revision =
                        store.commit(Commit { ops, who: "crash".into(), ..Commit::default() }).await.unwrap();
                    // One write call per line: a line is whole or absent, save the last.
                    let line = format!("\nacknowledged {task} {turn} {revision} .\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            })
        });
        futures::future::join_all(tasks).await;
    });
}

struct Acknowledged {
    task: usize,
    turn: usize,
    revision: Revision,
}

/// Runs the child and kills it after `life`; returns what it had acknowledged.
fn crash(dir: &Path, round: &str, life: Duration) -> Vec<Acknowledged> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in lines.lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["acknowledged", task, turn, revision, "."] = words.as_slice() {
                let (task, turn) = (task.parse().unwrap(), turn.parse().unwrap());
                acknowledged.push(Acknowledged { task, turn, revision: revision.parse().unwrap() });
            }
        }
        acknowledged
    });
    let end = Instant::now() + life;
    while Instant::now() < end && child.try_wait().unwrap().is_none() {
        std::thread::park_timeout(Duration::from_millis(2));
    }
    assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

async fn verify(dir: &Path, round: &str, acknowledged: &[Acknowledged], from: Revision) -> Revision {
    let store = store(dir).await;
    let end = store.read_revision().await.unwrap();
    let mut logs: Vec<BTreeMap<Revision, Event>> = Vec::new();
    for side in ["a", "b"] {
        let mut tail = store.tail(side, from);
        let mut log = BTreeMap::new();
        while tail.position() < end {
            for event in tail.catch_up().await.unwrap() {
                assert!(log.insert(event.revision, event).is_none(), "one event per commit and side");
            }
        }
        logs.push(log);
        // The current objects are what the log says.
        for (key, object) in store.list(side, None, None, 0).await.unwrap().items {
            let history = store.history(&key).await.unwrap();
            let last = history.last().unwrap();
            assert_eq!((last.revision, &last.bytes), (object.revision, &object.bytes), "{key}");
            for pair in history.windows(2) {
                assert_eq!(pair[1].previous.is_none(), pair[0].op == EventKind::Deleted, "{key}");
            }
        }
    }
    let sides = |i: usize| logs[i].values().map(|e| (e.revision, e.op, e.key.name.clone(), e.bytes.clone()));
    assert!(sides(0).eq(sides(1)), "a commit is never half there");
    for Acknowledged { task, turn, revision } in acknowledged {
        let (value, ops) = ops(*task, *turn, round);
        assert!(*revision <= end, "{revision} was acknowledged, the store is at {end}");
        match logs[0].get(revision) {
            Some(event) => assert_eq!((&event.key, event.bytes.as_ref()), (ops[0].key(), value.as_bytes())),
            // Deleting what is not there is acknowledged without an event.
            None => assert!(matches!(ops[0], Op::Delete { .. }), "{revision} of task {task} is lost"),
        }
    }
    end
}

#[test]
fn acknowledged_writes_survive_kill() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path: PathBuf = dir.path().join("store");
    let seed: u64 =
        std::env::var("LAWS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(u64::from(std::process::id()));
    println!("seed {seed}");
    let mut from = Revision(0);
    let mut total = 0;
    for round in 0..8u64 {
        // From "barely started" to "well under way".
        let life =
            Duration::from_millis(30 + (seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round * 97) % 700));
        let name = format!("round{round}");
        let acknowledged = crash(&path, &name, life);
        total += acknowledged.len();
        from = runtime().block_on(verify(&path, &name, &acknowledged, from));
    }
    println!("{total} acknowledged commits, all there, the store at {from}");
    assert!(total > 0, "the children got nothing done");
}
