//! Property tests: random work on an engine and on a model that cannot be wrong, compared step by step. Failing cases are shrunk.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::store::{delete, one, put};
use super::{Case, Open, runtime, seeds};
use crate::kv::{Kv, KvError, Mutation, RangeRead, Read, Rows, Transaction, Version, key_after};
use crate::store::{EventKind, Expect, Key, Revision, StoreError, Versioned};

fn check<S: Strategy>(
    name: &str,
    open: Open<'_>,
    runs: u64,
    cases: u32,
    strategy: &S,
    law: impl Fn(Case, S::Value) -> Result<(), TestCaseError>,
) {
    for seed in seeds(runs) {
        eprintln!("law {name}, seed {seed} (LAWS_SEED={seed} runs it again)");
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(seed.to_le_bytes()).for_each(|(to, from)| *to = from);
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        if let Err(e) = runner.run(strategy, |value| law(Case::new(open, seed), value)) {
            panic!("{name}, seed {seed}: {e}");
        }
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8),
    Clear(u8),
    ClearRange(u8, u8),
    Add(u8, u8),
    Max(u8, u8),
    Get(u8),
    Range { begin: u8, end: u8, limit: usize, reverse: bool },
    Commit,
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let k = 0u8..24;
    prop_oneof![
        4 => (k.clone(), any::<u8>()).prop_map(|(k, v)| Step::Set(k, v)),
        2 => k.clone().prop_map(Step::Clear),
        1 => (k.clone(), k.clone()).prop_map(|(a, b)| Step::ClearRange(a.min(b), a.max(b))),
        2 => (k.clone(), any::<u8>()).prop_map(|(k, v)| Step::Add(k, v)),
        1 => (k.clone(), any::<u8>()).prop_map(|(k, v)| Step::Max(k, v)),
        3 => k.clone().prop_map(Step::Get),
        3 => (k.clone(), k, 0usize..6, any::<bool>())
            .prop_map(|(a, b, limit, reverse)| Step::Range { begin: a.min(b), end: a.max(b), limit, reverse }),
        3 => Just(Step::Commit),
        1 => Just(Step::Drop),
    ]
}

fn name(k: u8) -> Vec<u8> {
    vec![b'k', k]
}

/// The rows of a range up to its limit, page after page as the engine gives them, and whether there may be more. Pages may be short, and
/// never go over the limit.
pub(super) async fn pages(tx: &dyn Transaction, range: &RangeRead, read: Read) -> Result<Rows, KvError> {
    let mut left = range.clone();
    let mut all = Rows::default();
    loop {
        let page = tx.get_range(&left, read).await?;
        assert!(range.limit == 0 || page.rows.len() <= left.limit, "no more than the limit");
        all.rows.extend(page.rows);
        all.more = page.more;
        left.limit = range.limit.saturating_sub(all.rows.len());
        match all.rows.last() {
            Some((last, _)) if all.more && (range.limit == 0 || left.limit > 0) => {
                if range.reverse {
                    left.end = last.clone();
                } else {
                    left.begin = key_after(last);
                }
            }
            _ => return Ok(all),
        }
    }
}

impl Step {
    /// Does a write to `map`, and hands it over as a mutation. Reads and ends do nothing.
    fn write(&self, map: &mut Map, mut mutate: impl FnMut(Mutation)) {
        let byte = |map: &Map, k: u8| map.get(&name(k)).and_then(|v| v.first()).copied();
        match *self {
            Self::Set(k, v) => {
                map.insert(name(k), vec![v]);
                mutate(Mutation::Set(name(k).into(), vec![v].into()));
            }
            Self::Clear(k) => {
                map.remove(&name(k));
                mutate(Mutation::Clear(name(k).into()));
            }
            Self::ClearRange(a, b) => {
                map.retain(|key, _| !(name(a) <= *key && *key < name(b)));
                mutate(Mutation::ClearRange(name(a).into(), name(b).into()));
            }
            Self::Add(k, v) => {
                let sum = byte(map, k).unwrap_or(0).wrapping_add(v);
                map.insert(name(k), vec![sum]);
                mutate(Mutation::Add(name(k).into(), vec![v].into()));
            }
            Self::Max(k, v) => {
                let max = byte(map, k).map_or(v, |old| old.max(v));
                map.insert(name(k), vec![max]);
                mutate(Mutation::Max(name(k).into(), vec![v].into()));
            }
            Self::Get(_) | Self::Range { .. } | Self::Commit | Self::Drop => {}
        }
    }

    /// The keys it writes, whatever was there, as a half-open range.
    fn written(&self) -> Option<(u8, u8)> {
        match *self {
            Self::Set(k, _) | Self::Clear(k) | Self::Add(k, _) | Self::Max(k, _) => Some((k, k + 1)),
            Self::ClearRange(a, b) => (a < b).then_some((a, b)),
            Self::Get(_) | Self::Range { .. } | Self::Commit | Self::Drop => None,
        }
    }

    /// Whether what lies under the written keys does not matter any more.
    fn covers(&self) -> bool {
        matches!(self, Self::Set(..) | Self::Clear(_) | Self::ClearRange(..))
    }
}

/// Transactions one after another do to an engine what they do to a sorted map. Runs on engines without faults or with; an attempt
/// that failed is made again from its start.
pub fn engine(open: Open<'_>, runs: u64) {
    let steps = proptest::collection::vec(step(), 1..60);
    check("the engine matches the model", open, runs, 12, &steps, |case, steps| {
        runtime().block_on(async {
            let mut model = Map::new();
            for transaction in steps.split_inclusive(|s| matches!(s, Step::Commit | Step::Drop)) {
                let mut attempts = 0;
                loop {
                    attempts += 1;
                    prop_assert!(attempts < 1000, "the engine never lets the transaction through");
                    match attempt(case.kv.as_ref(), &model, transaction, attempts).await? {
                        Some(after) => {
                            model = after;
                            break;
                        }
                        None => tokio::task::yield_now().await,
                    }
                }
            }
            Ok(())
        })
    });
}

/// Runs one transaction; `None` when the engine wants it again. A marker tells whether an attempt in doubt landed.
async fn attempt(kv: &dyn Kv, model: &Map, steps: &[Step], attempts: u32) -> Result<Option<Map>, TestCaseError> {
    macro_rules! tried {
        ($e:expr) => {
            match $e {
                Ok(value) => value,
                Err(_) => return Ok(None),
            }
        };
    }
    let mut after = model.clone();
    let mut tx = kv.begin();
    // Every attempt writes the marker with the number of the committed transaction before it, so an attempt that landed shows.
    let marker = tried!(tx.get(b"marker", Read::Serializable).await).unwrap_or_default();
    let landed = !marker.is_empty() && Some(&marker.to_vec()) != model.get(b"marker".as_slice());
    let replay = landed && attempts > 1;
    let number = model.get(b"marker".as_slice()).map_or(1, |m| m.first().copied().unwrap_or(0).wrapping_add(1).max(1));
    for step in steps {
        match step {
            Step::Set(..) | Step::Clear(_) | Step::ClearRange(..) | Step::Add(..) | Step::Max(..) => {
                step.write(&mut after, |mutation| tx.mutate(mutation));
            }
            Step::Get(k) if !replay => {
                let found = tried!(tx.get(&name(*k), Read::Serializable).await);
                prop_assert_eq!(found.as_deref(), after.get(&name(*k)).map(Vec::as_slice));
            }
            Step::Range { begin, end, limit, reverse } if !replay => {
                let read =
                    RangeRead { begin: name(*begin).into(), end: name(*end).into(), limit: *limit, reverse: *reverse };
                let rows = tried!(pages(tx.as_ref(), &read, Read::Serializable).await);
                let mut want: Vec<(Vec<u8>, Vec<u8>)> =
                    after.range(name(*begin)..name(*end)).map(|(k, v)| (k.clone(), v.clone())).collect();
                if *reverse {
                    want.reverse();
                }
                let all = want.len();
                want.truncate(if *limit == 0 { all } else { *limit });
                prop_assert!(rows.more || want.len() == all);
                prop_assert!(!rows.more || want.len() == *limit);
                let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.rows.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
                prop_assert_eq!(rows, want);
            }
            Step::Get(_) | Step::Range { .. } | Step::Commit => {}
            Step::Drop => return Ok(Some(model.clone())),
        }
    }
    after.insert(b"marker".to_vec(), vec![number]);
    if replay {
        return Ok(Some(after));
    }
    tx.mutate(Mutation::Set(Bytes::from_static(b"marker"), vec![number].into()));
    Ok(tx.commit().await.ok().map(|_: Version| after))
}

/// Half-open ranges of keys.
type Spans = Vec<(u8, u8)>;

/// A transaction of [`interleaved`].
struct Running {
    tx: Box<dyn Transaction>,
    from: Version,
    /// What it must see.
    map: Map,
    steps: Vec<Step>,
    written: Spans,
    covered: Spans,
    /// Keys that it read with conflict detection and had not overwritten itself.
    read: BTreeSet<u8>,
    serializable: bool,
}

/// Transactions whose steps alternate: each sees the picture as of its read version and its own writes, and none commits whose reads
/// another has overwritten. For engines that tell every outcome.
pub fn interleaved(open: Open<'_>, runs: u64) {
    let steps = proptest::collection::vec((0usize..3, step(), any::<bool>()), 1..80);
    check("interleaved transactions match the model", open, runs, 20, &steps, |case, steps| {
        runtime().block_on(async {
            let mut running: [Option<Running>; 3] = [None, None, None];
            // Every picture with the version from which it holds, and what the commit wrote that made it.
            let mut past: Vec<(Version, Map, Spans)> = vec![(Version(0), Map::new(), Vec::new())];
            for (slot, step, serializable) in steps {
                let mut own = match running[slot].take() {
                    Some(own) => own,
                    None => {
                        let tx = case.kv.begin();
                        let from = tx.read_version().await.map_err(|e| TestCaseError::fail(e.to_string()))?;
                        prop_assert!(past.last().is_some_and(|(last, ..)| *last <= from), "a read version covers all");
                        let map = past.last().map(|(_, map, _)| map.clone()).unwrap_or_default();
                        let (steps, written, covered) = (Vec::new(), Vec::new(), Vec::new());
                        let read = BTreeSet::new();
                        Running { tx, from, map, steps, written, covered, read, serializable: false }
                    }
                };
                let read = if serializable { Read::Serializable } else { Read::Snapshot };
                let reads = |own: &mut Running, keys: std::ops::Range<u8>| {
                    if serializable {
                        own.serializable = true;
                        let free = |k: &u8| !own.covered.iter().any(|(a, b)| a <= k && k < b);
                        own.read.extend(keys.filter(free));
                    }
                };
                match &step {
                    Step::Get(k) => {
                        let found = own.tx.get(&name(*k), read).await;
                        prop_assert_eq!(found, Ok(own.map.get(&name(*k)).map(|v| v.clone().into())));
                        reads(&mut own, *k..*k + 1);
                    }
                    Step::Range { begin, end, limit, reverse } => {
                        let (begin, end, limit, reverse) = (*begin, *end, *limit, *reverse);
                        let range = RangeRead { begin: name(begin).into(), end: name(end).into(), limit, reverse };
                        let rows = pages(own.tx.as_ref(), &range, read).await;
                        let rows = rows.map_err(|e| TestCaseError::fail(e.to_string()))?;
                        let mut want: Vec<(Bytes, Bytes)> = own
                            .map
                            .range(name(begin)..name(end))
                            .map(|(k, v)| (k.clone().into(), v.clone().into()))
                            .collect();
                        if reverse {
                            want.reverse();
                        }
                        want.truncate(if limit == 0 { want.len() } else { limit });
                        prop_assert_eq!(&rows.rows, &want);
                        let last = rows.rows.last().and_then(|(k, _)| k.last()).copied().filter(|_| rows.more);
                        match last {
                            Some(last) if reverse => reads(&mut own, last..end),
                            Some(last) => reads(&mut own, begin..last + 1),
                            None => reads(&mut own, begin..end),
                        }
                    }
                    Step::Commit => {
                        let overwritten =
                            past.iter().filter(|(version, ..)| *version > own.from).any(|(_, _, written)| {
                                written.iter().any(|(a, b)| own.read.range(*a..*b).next().is_some())
                            });
                        match own.tx.commit().await {
                            Ok(_) if own.written.is_empty() => {}
                            Ok(version) => {
                                prop_assert!(!overwritten, "a commit at {} whose reads are overwritten", version);
                                prop_assert!(past.last().is_some_and(|(last, ..)| *last < version), "versions grow");
                                let (mut map, written) =
                                    (past.last().map(|(_, m, _)| m.clone()).unwrap_or_default(), own.written);
                                own.steps.iter().for_each(|step| step.write(&mut map, drop));
                                past.push((version, map, written));
                            }
                            Err(KvError::Conflict | KvError::TooOld) => {
                                prop_assert!(own.serializable, "what reads nothing conflicts with nothing");
                            }
                            // What the later ones see depends on it. An engine that says so too often fails by that.
                            Err(KvError::Unknown(why)) => return Err(TestCaseError::reject(why)),
                            Err(e) => return Err(TestCaseError::fail(e.to_string())),
                        }
                        continue;
                    }
                    Step::Drop => continue,
                    write => {
                        let Running { tx, map, .. } = &mut own;
                        write.write(map, |mutation| tx.mutate(mutation));
                        own.written.extend(write.written());
                        own.covered.extend(write.written().filter(|_| write.covers()));
                        own.steps.push(write.clone());
                    }
                }
                running[slot] = Some(own);
            }
            Ok(())
        })
    });
}

#[derive(Debug, Clone)]
struct Write {
    key: u8,
    size: usize,
    what: u8,
}

fn write() -> impl Strategy<Value = Write> {
    let size = prop_oneof![9 => 0usize..20, 1 => 85_000usize..200_000];
    (0u8..4, size, 0u8..6).prop_map(|(key, size, what)| Write { key, size, what })
}

/// Writes one after another: current state, history and every past state are what a list of versions says.
pub fn store(open: Open<'_>, runs: u64) {
    let writes = proptest::collection::vec(write(), 1..25);
    check("the store matches the model", open, runs, 12, &writes, |case, writes| {
        runtime().block_on(async {
            let store = case.store().await;
            let key = |k: u8| Key::new("pods", "n", &format!("k{k}"));
            // Per key, each revision with what the key held from then on.
            let mut model: BTreeMap<u8, Vec<(Revision, Option<Bytes>)>> = BTreeMap::new();
            let mut moments = vec![Revision(0)];
            for (i, w) in writes.iter().enumerate() {
                let versions = model.entry(w.key).or_default();
                let now = versions.last().and_then(|(r, b)| b.clone().map(|b| (*r, b)));
                let bytes = Bytes::from(format!("{i}:{}", "x".repeat(w.size)));
                let (op, allowed) = match (w.what, &now) {
                    (0, now) => (delete(&key(w.key), bytes.clone(), Expect::Present), now.is_some()),
                    (1, now) => (put(&key(w.key), bytes.clone(), Expect::Absent), now.is_none()),
                    (2, Some((r, _))) => (put(&key(w.key), bytes.clone(), Expect::At(*r)), true),
                    (2, None) => (put(&key(w.key), bytes.clone(), Expect::At(Revision(1))), false),
                    _ => (put(&key(w.key), bytes.clone(), Expect::Any), true),
                };
                match store.commit(one(op)).await {
                    Ok(revision) => {
                        prop_assert!(allowed, "{w:?} was let through");
                        prop_assert!(Some(&revision) > moments.last());
                        moments.push(revision);
                        versions.push((revision, (w.what != 0).then_some(bytes)));
                    }
                    Err(StoreError::Expectation { found, .. }) => {
                        prop_assert!(!allowed, "{w:?} was refused");
                        prop_assert_eq!(found, now.map(|(revision, bytes)| Versioned { revision, bytes }));
                    }
                    Err(e) => return Err(TestCaseError::fail(e.to_string())),
                }
            }
            for (k, versions) in &model {
                for at in &moments {
                    let want = versions.iter().rev().find(|(r, _)| r <= at);
                    let want = want.and_then(|(r, b)| b.clone().map(|bytes| Versioned { revision: *r, bytes }));
                    prop_assert_eq!(store.get_at(&key(*k), *at).await, Ok(want), "{} at {}", key(*k), at);
                }
                let now = versions.last().and_then(|(_, b)| b.clone());
                prop_assert_eq!(store.get(&key(*k)).await.map(|v| v.map(|v| v.bytes)), Ok(now));
                let history = store.history(&key(*k)).await.map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(history.len(), versions.len());
                let mut previous = None;
                for (event, (revision, bytes)) in history.iter().zip(versions) {
                    prop_assert_eq!(event.revision, *revision);
                    prop_assert_eq!(&event.previous, &previous);
                    prop_assert_eq!(event.op == EventKind::Deleted, bytes.is_none());
                    prop_assert!(bytes.is_none() || bytes.as_ref() == Some(&event.bytes));
                    previous = bytes.clone();
                }
            }
            Ok(())
        })
    });
}
