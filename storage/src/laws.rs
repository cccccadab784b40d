//! The laws of [`crate::kv`] and [`crate::store`] as a library: an engine's test file opens the engine and calls [`laws!`](crate::laws).
//!
//! Each law is a function over a fresh engine and a seed. The seed is printed; `LAWS_SEED=n` runs it again. Laws assert: they are
//! tests, and never run in a server.

#![allow(clippy::indexing_slicing, reason = "laws are tests: a bad index is a broken law")]

pub mod aging;
pub mod kv;
pub mod model;
pub mod simulate;
pub mod store;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clock::ManualClock;
use crate::kv::Kv;
use crate::store::Store;
use crate::transform::Transform;

/// Opens an empty engine; engines with faults draw them from the seed.
pub type Open<'a> = &'a (dyn Fn(u64) -> Arc<dyn Kv> + Sync);

/// What a law gets.
#[derive(Clone)]
pub struct Case {
    /// An empty engine.
    pub kv: Arc<dyn Kv>,
    /// Where all chance comes from.
    pub seed: u64,
    /// The clock of [`Case::store`]; stands at 1,000,000 s.
    pub clock: Arc<ManualClock>,
    /// What [`Case::store`] has between objects and rows.
    pub transform: Option<Arc<dyn Transform>>,
}

impl Case {
    /// A case over the engine that `open` gives.
    pub fn new(open: Open<'_>, seed: u64) -> Self {
        Self { kv: open(seed), seed, clock: Arc::new(ManualClock::new(1_000_000_000)), transform: None }
    }

    /// Chance.
    pub fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed)
    }

    /// A store over the engine.
    pub async fn store(&self) -> Store {
        let (kv, clock) = (self.kv.clone(), self.clock.clone());
        let store = match &self.transform {
            None => Store::open(kv, clock).await,
            Some(transform) => Store::open_sealed(kv, clock, transform.clone()).await,
        };
        store.expect("an empty engine opens")
    }
}

/// Runs a law on `open`'s engine with `runs` seeds.
pub fn run(name: &str, open: Open<'_>, runs: u64, law: fn(Case) -> Pin<Box<dyn Future<Output = ()>>>) {
    for seed in seeds(runs) {
        eprintln!("law {name}, seed {seed} (LAWS_SEED={seed} runs it again)");
        runtime().block_on(law(Case::new(open, seed)));
    }
}

/// `runs` seeds, or the one that `LAWS_SEED` names.
pub fn seeds(runs: u64) -> Vec<u64> {
    match std::env::var("LAWS_SEED").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => vec![seed],
        None => {
            let first: u64 = rand::random_range(0..1 << 48);
            (first..first + runs).collect()
        }
    }
}

/// A single-threaded runtime, so that a seed decides the order of steps.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts")
}

/// Makes one test of each law. `$open` is a path to a function `fn(u64) -> Arc<dyn Kv>`, `$runs` the number of seeds of each.
/// `faulty` leaves out the laws that take every error for a failure.
#[macro_export]
macro_rules! laws {
    ($open:path, $runs:expr) => {
        $crate::laws!(@tests $open, $runs, kv:
            ranges_are_ordered_both_ways, reads_see_own_writes, snapshots_do_not_move, write_skew_is_refused,
            phantoms_are_refused, snapshot_reads_never_conflict, blind_writes_never_conflict, stamps_are_versions,
            atomics_lose_nothing, atomics_follow_the_rules, conflict_ranges_count, limits_hold, watches_fire,
            watches_compare_with_what_was_seen, what_is_discarded_goes,
        );
        #[test]
        fn interleaved_transactions_match_the_model() {
            $crate::laws::model::interleaved(&$open, $runs);
        }
        $crate::laws!(faulty $open, $runs);
    };
    (faulty $open:path, $runs:expr) => {
        $crate::laws!(@tests $open, $runs, kv:
            increments_are_exact, rings_stay_whole, outcomes_are_told_truly, a_later_commit_ends_the_doubt,
        );
        $crate::laws!(@tests $open, $runs, store:
            expectations_decide, one_writer_wins, commits_are_atomic, large_objects_are_whole, large_groups_are_not_split,
            tails_miss_nothing, a_list_and_a_tail_meet, long_lists_are_one_state, claims_are_unique, checks_hold, what_is_due_goes,
            compaction_keeps_what_is_needed, errors_tell_the_truth, bad_requests_are_refused, formats_are_told_apart,
            histories_are_linearizable,
        );
        #[test]
        fn the_engine_matches_the_model() {
            $crate::laws::model::engine(&$open, $runs);
        }
        #[test]
        fn the_store_matches_the_model() {
            $crate::laws::model::store(&$open, $runs);
        }
    };
    (@tests $open:path, $runs:expr, $module:ident: $($law:ident,)*) => {
        $(
            #[test]
            fn $law() {
                $crate::laws::run(stringify!($law), &$open, $runs, |case| Box::pin($crate::laws::$module::$law(case)));
            }
        )*
    };
}
