//! Property tests: random work on an engine and on a model that cannot be wrong, compared step by step. Failing cases are shrunk.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::store::{delete, one, put};
use super::{Case, Open, runtime, seeds};
use crate::kv::{Kv, Mutation, RangeRead, Read, Version};
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
        3 => k.clone().prop_map(Step::Get),
        3 => (k.clone(), k, 0usize..6, any::<bool>())
            .prop_map(|(a, b, limit, reverse)| Step::Range { begin: a.min(b), end: a.max(b), limit, reverse }),
        3 => Just(Step::Commit),
        1 => Just(Step::Drop),
    ]
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
    let name = |k: u8| vec![b'k', k];
    let mut after = model.clone();
    let mut tx = kv.begin();
    // Every attempt writes the marker with the number of the committed transaction before it, so an attempt that landed shows.
    let marker = tried!(tx.get(b"marker", Read::Serializable).await).unwrap_or_default();
    let landed = !marker.is_empty() && Some(&marker.to_vec()) != model.get(b"marker".as_slice());
    let replay = landed && attempts > 1;
    let number = model.get(b"marker".as_slice()).map_or(1, |m| m.first().copied().unwrap_or(0).wrapping_add(1).max(1));
    for step in steps {
        match step {
            Step::Set(k, v) => {
                after.insert(name(*k), vec![*v]);
                tx.mutate(Mutation::Set(name(*k).into(), vec![*v].into()));
            }
            Step::Clear(k) => {
                after.remove(&name(*k));
                tx.mutate(Mutation::Clear(name(*k).into()));
            }
            Step::ClearRange(a, b) => {
                after.retain(|key, _| !(name(*a) <= *key && *key < name(*b)));
                tx.mutate(Mutation::ClearRange(name(*a).into(), name(*b).into()));
            }
            Step::Add(k, v) => {
                let sum = after.get(&name(*k)).and_then(|v| v.first()).copied().unwrap_or(0).wrapping_add(*v);
                after.insert(name(*k), vec![sum]);
                tx.mutate(Mutation::Add(name(*k).into(), vec![*v].into()));
            }
            Step::Get(k) if !replay => {
                let found = tried!(tx.get(&name(*k), Read::Serializable).await);
                prop_assert_eq!(found.as_deref(), after.get(&name(*k)).map(Vec::as_slice));
            }
            Step::Range { begin, end, limit, reverse } if !replay => {
                let read =
                    RangeRead { begin: name(*begin).into(), end: name(*end).into(), limit: *limit, reverse: *reverse };
                let rows = tried!(tx.get_range(&read, Read::Serializable).await);
                let mut want: Vec<(Vec<u8>, Vec<u8>)> =
                    after.range(name(*begin)..name(*end)).map(|(k, v)| (k.clone(), v.clone())).collect();
                if *reverse {
                    want.reverse();
                }
                let all = want.len();
                want.truncate(if *limit == 0 { all } else { *limit });
                prop_assert_eq!(rows.more, want.len() < all);
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
