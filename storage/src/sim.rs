//! The sim engine: all keys in memory, and faults drawn from a seed.
//!
//! Conflicts without a cause, reads that are too old, delays, refusals, and commits whose outcome is not told: made, lost, or made
//! later. Run on a single-threaded runtime, a seed gives the same run again. Keeps nothing when dropped.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::kv::{Kv, KvError, Transaction, Version};
use crate::local::apply::Group;
use crate::local::tx::Tx;
use crate::local::watches::Watches;
use crate::local::window::Window;
use crate::local::{Engine, Point, Request, RowIter, View};

/// A transaction whose read version is this many versions old fails with `TooOld`.
const WINDOW: u64 = 2_000;

/// How often each fault happens, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// A commit conflicts with nothing.
    pub conflict: u32,
    /// A commit finds its snapshot gone; a read does so a hundred times less often.
    pub too_old: u32,
    /// A commit or read is refused.
    pub unavailable: u32,
    /// A commit's outcome is not told: a third each made, lost, and made later.
    pub unknown: u32,
    /// A step lets other tasks run first, up to three times.
    pub delay: u32,
}

impl Faults {
    /// None at all.
    pub const NONE: Self = Self { conflict: 0, too_old: 0, unavailable: 0, unknown: 0, delay: 0 };
    /// Other tasks run between any two steps; nothing fails.
    pub const DELAYS: Self = Self { delay: 500, ..Self::NONE };
    /// Everything that a transaction can be run again after.
    pub const CHAOS: Self = Self { conflict: 100, too_old: 20, unavailable: 0, unknown: 100, delay: 400 };
}

/// The engine.
#[derive(Debug, Clone)]
pub struct Sim(Arc<Inner>);

struct Inner {
    seed: u64,
    faults: Faults,
    watches: Watches,
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    view: Arc<SimView>,
    window: Window,
    /// Commits in flight whose callers were told nothing, with the number of steps until they land.
    late: Vec<(u32, Request<SimView>)>,
}

/// All keys as of one version.
#[derive(Clone)]
pub(crate) struct SimView {
    version: Version,
    map: OrdMap<Bytes, Bytes>,
}

impl Sim {
    /// An empty engine whose faults follow from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let view = Arc::new(SimView { version: Version(0), map: OrdMap::new() });
        let rng = StdRng::seed_from_u64(seed);
        let state = State { rng, view, window: Window::new(Version(0)), late: Vec::new() };
        Self(Arc::new(Inner { seed, faults, watches: Watches::default(), state: Mutex::new(state) }))
    }

    /// Lets every commit in flight land.
    pub fn settle(&self) {
        let mut state = self.0.state.lock();
        for (_, request) in std::mem::take(&mut state.late) {
            // Its caller was told that the outcome is unknown.
            let _outcome = self.0.land(&mut state, request);
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("seed", &self.seed).field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl View for SimView {
    fn version(&self) -> Version {
        self.version
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.map.get(key).cloned())
    }

    fn range(&self, begin: &[u8], end: &[u8], reverse: bool) -> RowIter<'_> {
        if begin >= end {
            return Box::new(std::iter::empty());
        }
        let rows = self.map.range::<_, [u8]>((std::ops::Bound::Included(begin), std::ops::Bound::Excluded(end)));
        let row = |(k, v): (&Bytes, &Bytes)| Ok((k.clone(), v.clone()));
        if reverse { Box::new(rows.rev().map(row)) } else { Box::new(rows.map(row)) }
    }
}

impl Inner {
    fn chance(state: &mut State, per_mille: u32) -> bool {
        per_mille != 0 && state.rng.random_range(0..1000) < per_mille
    }

    /// Takes a step: commits in flight come closer, some land.
    fn step(&self, state: &mut State) {
        let mut landing = Vec::new();
        let mut i = 0;
        while let Some((left, _)) = state.late.get_mut(i) {
            if *left == 0 {
                landing.push(state.late.swap_remove(i).1);
            } else {
                *left -= 1;
                i += 1;
            }
        }
        for request in landing {
            // Its caller was told that the outcome is unknown.
            let _outcome = self.land(state, request);
        }
    }

    /// Checks and applies a commit now.
    fn land(&self, state: &mut State, request: Request<SimView>) -> Result<Version, KvError> {
        if let Some(view) = &request.view {
            state.window.check(view.version, &request.reads)?;
        }
        // Versions have gaps, as FoundationDB's have.
        let version = Version(state.view.version.0 + state.rng.random_range(1..=7));
        let mut group = Group::default();
        let mut written = group.apply(state.view.as_ref(), version, request.mutations)?;
        written.extend(request.write_conflicts);
        state.window.record(version, written);
        state.window.forget(Version(version.0.saturating_sub(WINDOW)));
        let mut view = SimView::clone(&state.view);
        view.version = version;
        let keys: Vec<Bytes> = group.values.keys().cloned().collect();
        for (key, value) in group.values {
            match value {
                Some(value) => view.map.insert(key, value),
                None => view.map.remove(&key),
            };
        }
        state.view = Arc::new(view);
        self.watches.notify(keys.iter());
        Ok(version)
    }
}

#[async_trait]
impl Engine for Inner {
    type View = SimView;

    fn view(&self) -> Arc<SimView> {
        let mut state = self.state.lock();
        self.step(&mut state);
        state.view.clone()
    }

    fn watches(&self) -> &Watches {
        &self.watches
    }

    async fn submit(&self, request: Request<SimView>) -> Result<Version, KvError> {
        let mut state = self.state.lock();
        self.step(&mut state);
        if Self::chance(&mut state, self.faults.conflict) && !request.reads.is_empty() {
            return Err(KvError::Conflict);
        }
        if Self::chance(&mut state, self.faults.unknown) {
            let unknown = Err(KvError::Unknown(format!("the outcome is unknown (seed {})", self.seed)));
            match state.rng.random_range(0..3) {
                0 => {}
                1 => {
                    self.land(&mut state, request)?;
                }
                _ => {
                    let steps = state.rng.random_range(0..20);
                    state.late.push((steps, request));
                }
            }
            return unknown;
        }
        self.land(&mut state, request)
    }

    fn pauses(&self) -> bool {
        self.faults != Faults::NONE
    }

    async fn pause(&self, at: Point) -> Result<(), KvError> {
        let turns = {
            let mut state = self.state.lock();
            if Self::chance(&mut state, self.faults.unavailable) {
                return Err(KvError::Unavailable(format!("refused (seed {})", self.seed)));
            }
            // Rare at each read, or a transaction that reads much would never end.
            let rare = at == Point::Commit || state.rng.random_range(0..100) == 0;
            if rare && Self::chance(&mut state, self.faults.too_old) {
                return Err(KvError::TooOld);
            }
            if Self::chance(&mut state, self.faults.delay) { state.rng.random_range(1..=3) } else { 0 }
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Kv for Sim {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(Tx::new(self.0.clone()))
    }
}
