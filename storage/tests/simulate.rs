//! Simulated histories keep the laws, a seed decides a history, and engines with mistakes are found out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use storage::kv::{Kv, KvError, Mutation, RangeRead, Read, Rows, Transaction, Version, Watch};
use storage::laws;
use storage::laws::simulate::{self, Failure};

/// Seeds of a test run. An optimised run of many more is `cargo xtask simulate`.
const SEEDS: u64 = 3000;

#[test]
fn thousands_of_histories_keep_the_laws() {
    let seeds = laws::seeds(SEEDS);
    println!("seeds from {} on, {} of them", seeds[0], seeds.len());
    match simulate::run_all(seeds.iter().copied(), |_, _| {}) {
        Ok(report) => {
            println!("{report:?}");
            // Each kind of trouble was there, or the simulation would prove little. A single seed need not have all.
            let n = seeds.len();
            let enough = report.commits > 5 * n
                && report.in_doubt > n / 10
                && report.deaths > n / 2
                && report.compacted > n / 30;
            assert!(n == 1 || enough, "{report:?}");
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_seed_is_a_history() {
    for seed in laws::seeds(20) {
        let lines = || {
            let (_, record) = simulate::run_with(seed, &|kv, _| kv).unwrap_or_else(|failure| panic!("{failure}"));
            record.lines(&[], &[], usize::MAX)
        };
        let (one, two) = (lines(), lines());
        assert!(one.len() > 10);
        if let Some(i) = (0..one.len().max(two.len())).find(|&i| one.get(i) != two.get(i)) {
            panic!("seed {seed} differs from line {i} on:\n{:?}\n{:?}", one.get(i), two.get(i));
        }
    }
}

/// A mistake that an engine could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// Acknowledges a commit that it does not make.
    LosesCommits,
    /// Reads see an older picture than they may.
    ReadsThePast,
    /// A watch never fires.
    ForgetsWatches,
    /// A log entry is not written.
    SkipsLogEntries,
    /// The current object is not written, though its log entry is.
    TearsCommits,
    /// Commits that conflict are made.
    IgnoresConflicts,
    /// A commit is made twice.
    CommitsTwice,
    /// A commit that happened, or will, is said not to have.
    DeniesCommits,
    /// A commit in doubt lands though what it read has changed.
    LandsUnchecked,
    /// A commit is told a version that it does not have.
    MisnamesVersions,
    /// The log seems cut where nobody cut it.
    CutsTheLog,
    /// A range lacks a row.
    SkipsRows,
    /// A compaction removes the log entry after those it may.
    CutsTooMuch,
}

const MISTAKES: [Mistake; 13] = [
    Mistake::LosesCommits,
    Mistake::ReadsThePast,
    Mistake::ForgetsWatches,
    Mistake::SkipsLogEntries,
    Mistake::TearsCommits,
    Mistake::IgnoresConflicts,
    Mistake::CommitsTwice,
    Mistake::DeniesCommits,
    Mistake::LandsUnchecked,
    Mistake::MisnamesVersions,
    Mistake::CutsTheLog,
    Mistake::SkipsRows,
    Mistake::CutsTooMuch,
];

/// An engine that makes a mistake in one of some transactions.
#[derive(Debug)]
struct Mistaken {
    kv: Arc<dyn Kv>,
    mistake: Mistake,
    every: u64,
    begun: AtomicU64,
    past: Mutex<Option<Past>>,
    /// Writes of a commit in doubt that will land unchecked.
    later: Arc<Mutex<Vec<Mutation>>>,
}

#[derive(Clone)]
struct Past(Arc<dyn Transaction>);

impl std::fmt::Debug for Past {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Past")
    }
}

struct MistakenTx {
    tx: Box<dyn Transaction>,
    kv: Arc<dyn Kv>,
    /// The mistake that this transaction makes, if it does.
    mistake: Option<Mistake>,
    past: Option<Past>,
    mutations: Vec<Mutation>,
    later: Arc<Mutex<Vec<Mutation>>>,
}

impl Kv for Mistaken {
    fn begin(&self) -> Box<dyn Transaction> {
        let n = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let mistake = n.is_multiple_of(self.every).then_some(self.mistake);
        let mut past = self.past.lock();
        if n % 16 == 1 {
            *past = Some(Past(Arc::from(self.kv.begin())));
        }
        let past = past.clone().filter(|_| mistake == Some(Mistake::ReadsThePast));
        let (kv, later) = (self.kv.clone(), self.later.clone());
        Box::new(MistakenTx { tx: self.kv.begin(), kv, mistake, past, mutations: Vec::new(), later })
    }
}

impl MistakenTx {
    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn reader(&self) -> &dyn Transaction {
        self.past.as_ref().map_or(self.tx.as_ref(), |past| past.0.as_ref())
    }

    fn read(&self, read: Read) -> Read {
        if self.makes(Mistake::IgnoresConflicts) { Read::Snapshot } else { read }
    }
}

async fn blind(kv: &dyn Kv, mutations: Vec<Mutation>) {
    let mut tx = kv.begin();
    mutations.into_iter().for_each(|mutation| tx.mutate(mutation));
    drop(tx.commit().await);
}

#[async_trait]
impl Transaction for MistakenTx {
    async fn read_version(&self) -> Result<Version, KvError> {
        self.reader().read_version().await
    }

    async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>, KvError> {
        if self.makes(Mistake::CutsTheLog) && key.first() == Some(&b'F') {
            let now = self.tx.read_version().await?;
            return Ok(Some(Bytes::copy_from_slice(&now.stamp())));
        }
        self.reader().get(key, self.read(read)).await
    }

    async fn get_range(&self, range: &RangeRead, read: Read) -> Result<Rows, KvError> {
        let mut rows = self.reader().get_range(range, self.read(read)).await?;
        if self.makes(Mistake::SkipsRows) && rows.rows.len() > 1 {
            rows.rows.remove(0);
        }
        Ok(rows)
    }

    fn mutate(&mut self, mutation: Mutation) {
        let skipped = match &mutation {
            Mutation::StampedKey { key, .. } => self.makes(Mistake::SkipsLogEntries) && key.first() == Some(&b'L'),
            Mutation::StampedValue { key, .. } => self.makes(Mistake::TearsCommits) && key.first() == Some(&b'C'),
            _ => false,
        };
        if skipped {
            return;
        }
        self.mutations.push(mutation.clone());
        self.tx.mutate(mutation);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.tx.add_read_conflict(begin, end);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.tx.add_write_conflict(begin, end);
    }

    fn watch(&mut self, key: &[u8]) -> Watch {
        if self.makes(Mistake::ForgetsWatches) {
            return Box::pin(std::future::pending());
        }
        self.tx.watch(key)
    }

    async fn commit(mut self: Box<Self>) -> Result<Version, KvError> {
        let writes = !self.mutations.is_empty();
        let later = std::mem::take(&mut *self.later.lock());
        if !later.is_empty() {
            blind(self.kv.as_ref(), later).await;
        }
        match self.mistake {
            Some(Mistake::LosesCommits) if writes => Ok(Version(self.tx.read_version().await?.0 + 1)),
            Some(Mistake::CommitsTwice) if writes => {
                let version = self.tx.commit().await?;
                blind(self.kv.as_ref(), self.mutations).await;
                Ok(version)
            }
            Some(Mistake::DeniesCommits) => match self.tx.commit().await {
                Ok(_) | Err(KvError::Unknown(_)) if writes => Err(KvError::Conflict),
                other => other,
            },
            Some(Mistake::LandsUnchecked) if writes => {
                self.later.lock().append(&mut self.mutations);
                Err(KvError::Unknown("never heard of again".to_owned()))
            }
            Some(Mistake::MisnamesVersions) if writes => self.tx.commit().await.map(|v| Version(v.0 + 1)),
            Some(Mistake::CutsTooMuch) => {
                let cuts = |m: &Mutation| matches!(m, Mutation::Set(key, _) if key.first() == Some(&b'F'));
                if self.mutations.iter().any(cuts) {
                    let log = RangeRead::new("L", "M").limit(1).reverse();
                    let last = self.tx.get_range(&log, Read::Snapshot).await?;
                    for (key, _) in last.rows {
                        self.tx.mutate(Mutation::Clear(key));
                    }
                }
                self.tx.commit().await
            }
            _ => self.tx.commit().await,
        }
    }
}

/// The first of some seeds that finds the mistake.
fn find(mistake: Mistake, every: u64, seeds: &[u64]) -> Option<Box<Failure>> {
    let wrap = |kv: Arc<dyn Kv>, _| -> Arc<dyn Kv> {
        Arc::new(Mistaken {
            kv,
            mistake,
            every,
            begun: AtomicU64::new(0),
            past: Mutex::default(),
            later: Arc::default(),
        })
    };
    seeds.iter().find_map(|seed| simulate::run_with(*seed, &wrap).err())
}

/// A check that finds nothing wrong with a wrong engine proves nothing about a right one.
#[test]
fn mistakes_are_found() {
    let first = laws::seeds(1)[0];
    let seeds: Vec<u64> = (first..first + 300).collect();
    for mistake in MISTAKES {
        // Rare enough that the store opens and clients get something done.
        let failure = find(mistake, if mistake == Mistake::IgnoresConflicts { 1 } else { 13 }, &seeds);
        match failure {
            Some(failure) => {
                if std::env::var_os("LAWS_SEED").is_some() {
                    println!("{failure}");
                }
                println!(
                    "{mistake:?}: found by seed {} of {}: {}",
                    failure.seed - seeds[0] + 1,
                    seeds.len(),
                    failure.violation.what
                );
                assert!(failure.to_string().contains(&format!("--seed {}", failure.seed)));
            }
            None => panic!("{mistake:?} is not found by the {} seeds from {} on", seeds.len(), seeds[0]),
        }
    }
}
