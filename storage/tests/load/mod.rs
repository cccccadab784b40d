//! A child process that writes to a store until it dies, and the check of what it left: every acknowledged write is there and exact, every other
//! whole or absent, and the store's records agree with each other.
//!
//! Never says how the child dies; the tests that include this do.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use storage::clock::SystemClock;
use storage::embedded::{Embedded, Options};
use storage::kv::KvError;
use storage::store::{Commit, Event, EventKind, Expect, Key, Op, Revision, Store, StoreError};

const DIR: &str = "STORAGE_LOAD_DIR";
const ROUND: &str = "STORAGE_LOAD_ROUND";
const MEMTABLE: &str = "STORAGE_LOAD_MEMTABLE";
const TURNS: &str = "STORAGE_LOAD_TURNS";
const TASKS: usize = 12;
const KEYS: usize = 5;
/// What the child writes: both sides of a key always hold the same bytes, by one commit.
const SIDES: [&str; 2] = ["a", "b"];

pub(crate) fn seed() -> u64 {
    std::env::var("LAWS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(u64::from(std::process::id()))
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

pub(crate) fn engine(dir: &Path, memtable: u64) -> Result<Embedded, KvError> {
    Embedded::open(dir, &Options { reserve: 0, memtable, ..Options::default() })
}

async fn store(dir: &Path, memtable: u64) -> Result<Store, StoreError> {
    Store::open(Arc::new(engine(dir, memtable)?), Arc::new(SystemClock)).await
}

/// Bytes that do not compress and begin with what they are.
fn value(round: u64, task: usize, turn: usize) -> Bytes {
    let size = match turn % 50 {
        7 => 200_000,
        21 => 20_000,
        n if n % 5 == 1 => 3_000,
        _ => 300,
    };
    let mut out = format!("{round}.{task}.{turn}.").into_bytes();
    let mut x = (round << 40) ^ ((task as u64) << 20) ^ (turn as u64) ^ 0x9e37_79b9_7f4a_7c15;
    while out.len() < size {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend(x.to_le_bytes());
    }
    out.into()
}

/// The value that says it is this one.
fn parse(bytes: &[u8]) -> Bytes {
    let mut words = bytes.split(|b| *b == b'.').map(|w| std::str::from_utf8(w).unwrap().parse().unwrap());
    let mut next = || -> usize { words.next().unwrap() };
    value(next() as u64, next(), next())
}

fn ops(round: u64, task: usize, turn: usize) -> Vec<Op> {
    let name = format!("{task}-{}", turn % KEYS);
    let bytes = value(round, task, turn);
    let op = |side| {
        let (key, bytes) = (Key::new(side, "", &name), bytes.clone());
        if turn % 11 == 10 {
            Op::Delete { key, last: bytes, expect: Expect::Any }
        } else {
            Op::Put { key, bytes, expect: Expect::Any, expires: None }
        }
    };
    SIDES.map(op).into()
}

/// The child: writes until it dies, an error comes or its turns are over, and says what was acknowledged; then it closes the store. Does
/// nothing when run as a test of its own.
pub(crate) fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (round, memtable, turns) = (number(ROUND), number(MEMTABLE), number(TURNS) as usize);
    runtime().block_on(async {
        let store = match store(Path::new(&dir), memtable).await {
            Ok(store) => store,
            Err(e) => return say(&format!("failed {e}")),
        };
        say("opened");
        let tasks = (0..TASKS).map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for turn in 0..turns {
                    let commit = Commit { ops: ops(round, task, turn), who: "load".into(), ..Commit::default() };
                    match store.commit(commit).await {
                        Ok(revision) => say(&format!("acknowledged {task} {turn} {revision} .")),
                        Err(e) => return say(&format!("failed {e}")),
                    }
                }
            })
        });
        futures::future::join_all(tasks).await;
    });
    say("closed");
}

/// One write call per line: a line is whole or absent, save the last.
fn say(line: &str) {
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledged {
    round: u64,
    task: usize,
    turn: usize,
    revision: Revision,
}

/// A child that runs, and what it says.
pub(crate) struct Running {
    pub(crate) child: Child,
    reader: JoinHandle<(Vec<Acknowledged>, Vec<String>)>,
}

/// Starts this test program again as the child; the program has a test `child` that calls [`child`].
pub(crate) fn start(dir: &Path, round: u64, memtable: u64, turns: usize) -> Running {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .env(MEMTABLE, memtable.to_string())
        .env(TURNS, turns.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let errors = BufReader::new(child.stderr.take().unwrap());
    // Panics of a child whose disk is gone are expected; the last lines tell more about one that should have lived.
    let errors = std::thread::spawn(move || errors.lines().map_while(Result::ok).take(200).collect::<Vec<_>>());
    let reader = std::thread::spawn(move || {
        let (mut acknowledged, mut failures) = (Vec::new(), Vec::new());
        for line in lines.lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["acknowledged", task, turn, revision, "."] => acknowledged.push(Acknowledged {
                    round,
                    task: task.parse().unwrap(),
                    turn: turn.parse().unwrap(),
                    revision: revision.parse().unwrap(),
                }),
                ["failed", ..] => failures.push(line),
                _ => {}
            }
        }
        failures.extend(errors.join().unwrap());
        (acknowledged, failures)
    });
    Running { child, reader }
}

impl Running {
    /// Kills the child and returns what it had acknowledged, and its complaints.
    pub(crate) fn kill(mut self) -> (Vec<Acknowledged>, Vec<String>) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.join().unwrap()
    }
}

/// Opens the store and checks it. `acknowledged` is all that was ever acknowledged in it. Returns where the store is.
pub(crate) async fn verify(dir: &Path, memtable: u64, acknowledged: &[Acknowledged]) -> Revision {
    let store = store(dir, memtable).await.unwrap_or_else(|e| panic!("the store does not open: {e}"));
    let end = store.read_revision().await.unwrap();
    let mut logs: Vec<BTreeMap<Revision, Event>> = Vec::new();
    for side in SIDES {
        let mut tail = store.tail(side, Revision(0));
        let mut log = BTreeMap::new();
        while tail.position() < end {
            for event in tail.catch_up().await.unwrap() {
                assert_eq!(event.bytes, parse(&event.bytes), "{} at {}", event.key, event.revision);
                assert!(log.insert(event.revision, event).is_none(), "one event per commit and side");
            }
        }
        logs.push(log);
        // The current objects are what the log says.
        for (key, object) in store.list(side, None, None, 0).await.unwrap().items {
            assert_eq!(store.get(&key).await.unwrap().as_ref(), Some(&object), "{key}");
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
    for Acknowledged { round, task, turn, revision } in acknowledged {
        let ops = ops(*round, *task, *turn);
        assert!(*revision <= end, "{revision} was acknowledged, the store is at {end}");
        match logs[0].get(revision) {
            Some(event) => assert_eq!((&event.key, &event.bytes), (ops[0].key(), &value(*round, *task, *turn))),
            // Deleting what is not there is acknowledged without an event.
            None => assert!(matches!(ops[0], Op::Delete { .. }), "{revision} of task {task} is lost"),
        }
    }
    end
}
