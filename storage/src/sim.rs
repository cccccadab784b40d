//! The sim engine: all keys in memory, and faults drawn from a seed.
//!
//! Conflicts without a cause, reads that are too old, delays, refusals, watches that fire for nothing, commits whose outcome is not
//! told (made, lost, or made later), and the death of the server. A commit that was handed over goes its way whether or not its caller
//! lives to hear of it. Run on a single-threaded runtime, whose time is best paused, a seed gives the same run again. Keeps nothing when
//! dropped.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{oneshot, watch};

use crate::kv::{Kv, KvError, Mutation, RangeRead, Read, Rows, Transaction, Version, Watch};
use crate::local::apply::Group;
use crate::local::tx::Tx;
use crate::local::watches::Watches;
use crate::local::window::Window;
use crate::local::{self, Engine, Point, Request, RowIter, View};

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
    /// A step lets other tasks run first, up to three times. With any, versions also go on without commits, as FoundationDB's do.
    pub delay: u32,
    /// A step takes up to 50 ms of the runtime's time.
    pub slow: u32,
    /// A watch fires without a change.
    pub watch: u32,
}

impl Faults {
    /// None at all.
    pub const NONE: Self = Self { conflict: 0, too_old: 0, unavailable: 0, unknown: 0, delay: 0, slow: 0, watch: 0 };
    /// Other tasks run between any two steps; nothing fails.
    pub const DELAYS: Self = Self { delay: 500, ..Self::NONE };
    /// Everything that a transaction can be run again after.
    pub const CHAOS: Self = Self { conflict: 100, too_old: 20, unknown: 100, delay: 400, watch: 100, ..Self::NONE };
}

/// The engine.
#[derive(Debug, Clone)]
pub struct Sim(Arc<Inner>);

struct Inner {
    seed: u64,
    watches: Watches,
    /// Counts the server's deaths.
    deaths: watch::Sender<u64>,
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    faults: Faults,
    view: Arc<SimView>,
    window: Window,
    flights: Vec<Flight>,
    tickets: u64,
    /// Steps that are refused until the server is back.
    down: u32,
    /// Every picture there was, oldest first, if they are kept.
    past: Option<Vec<Arc<SimView>>>,
}

/// A commit that was handed over and has not landed.
struct Flight {
    ticket: u64,
    /// Other steps until it lands, if nobody makes it land before.
    steps: u32,
    request: Request<SimView>,
    /// Who waits for the outcome, if anybody.
    answer: Option<oneshot::Sender<Result<Version, KvError>>>,
}

/// All keys as of one version.
#[derive(Clone)]
pub(crate) struct SimView {
    version: Version,
    /// How often the server had died.
    life: u64,
    map: OrdMap<Bytes, Bytes>,
}

impl Sim {
    /// An empty engine whose faults follow from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::over(seed, faults, SimView { version: Version(0), life: 0, map: OrdMap::new() }, None)
    }

    /// An empty engine that keeps every picture it ever showed for [`Sim::picture`].
    pub fn remembering(seed: u64, faults: Faults) -> Self {
        Self::over(seed, faults, SimView { version: Version(0), life: 0, map: OrdMap::new() }, Some(Vec::new()))
    }

    fn over(seed: u64, faults: Faults, view: SimView, past: Option<Vec<Arc<SimView>>>) -> Self {
        let window = Window::new(view.version);
        let rng = StdRng::seed_from_u64(seed);
        let (view, flights) = (Arc::new(view), Vec::new());
        let state = Mutex::new(State { rng, faults, view, window, flights, tickets: 0, down: 0, past });
        Self(Arc::new(Inner { seed, watches: Watches::default(), deaths: watch::Sender::new(0), state }))
    }

    /// Lets every commit in flight land.
    pub fn settle(&self) {
        let mut state = self.0.state.lock();
        for flight in std::mem::take(&mut state.flights) {
            self.0.land_flight(&mut state, flight);
        }
    }

    /// From now on these faults, and the server is up.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.0.state.lock();
        state.faults = faults;
        state.down = 0;
    }

    /// The server dies and comes back after some refused steps. Commits in flight land or are lost for good, nobody hears which; transactions
    /// that have read cannot commit any more; watches end with an error. Nothing that was acknowledged is lost.
    pub fn crash(&self) {
        let mut state = self.0.state.lock();
        for flight in std::mem::take(&mut state.flights) {
            if state.rng.random_bool(0.5) {
                self.0.land_flight(&mut state, Flight { answer: None, ..flight });
            }
        }
        let mut view = SimView::clone(&state.view);
        view.life += 1;
        view.version.0 += state.rng.random_range(0..100);
        state.down = state.rng.random_range(0..20);
        let life = view.life;
        state.show(view);
        drop(state);
        self.0.deaths.send_replace(life);
    }

    /// How many pictures there are of the past, the present one included; 0 unless the engine is [`Sim::remembering`].
    pub fn pictures(&self) -> usize {
        self.0.state.lock().past.as_ref().map_or(0, Vec::len)
    }

    /// An engine without faults that holds what this one showed as its `index`th picture. The two share nothing.
    pub fn picture(&self, index: usize) -> Option<Sim> {
        let view = self.0.state.lock().past.as_ref()?.get(index)?.clone();
        Some(Self::over(self.0.seed, Faults::NONE, SimView::clone(&view), None))
    }
}

impl State {
    fn show(&mut self, view: SimView) {
        self.view = Arc::new(view);
        if let Some(past) = &mut self.past {
            past.push(self.view.clone());
        }
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille != 0 && self.rng.random_range(0..1000) < per_mille
    }

    /// How long a step takes: turns of other tasks, and time.
    fn lag(&mut self) -> Lag {
        let turns = if self.chance(self.faults.delay) { self.rng.random_range(1..=3) } else { 0 };
        let millis = if self.chance(self.faults.slow) { self.rng.random_range(1..=50) } else { 0 };
        Lag { turns, millis }
    }
}

#[derive(Debug, Clone, Copy)]
struct Lag {
    turns: u32,
    millis: u64,
}

impl Lag {
    async fn pass(self) {
        for _ in 0..self.turns {
            turn().await;
        }
        if self.millis != 0 {
            tokio::time::sleep(Duration::from_millis(self.millis)).await;
        }
    }
}

/// Ready the second time it is asked, and at once willing to be asked again: the executor decides who runs meanwhile.
async fn turn() {
    let mut passed = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("seed", &self.seed).finish_non_exhaustive()
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
    /// Takes a step: commits in flight come closer, some land.
    fn step(&self, state: &mut State) {
        let mut i = 0;
        let mut landing = Vec::new();
        while let Some(flight) = state.flights.get_mut(i) {
            if flight.steps == 0 {
                landing.push(state.flights.swap_remove(i));
            } else {
                flight.steps -= 1;
                i += 1;
            }
        }
        for flight in landing {
            self.land_flight(state, flight);
        }
    }

    fn land_flight(&self, state: &mut State, flight: Flight) {
        let outcome = self.land(state, flight.request);
        if let Some(answer) = flight.answer {
            // Its caller may be gone; the commit has happened all the same.
            let _gone = answer.send(outcome);
        }
    }

    /// Checks and applies a commit now.
    fn land(&self, state: &mut State, request: Request<SimView>) -> Result<Version, KvError> {
        if let Some(view) = &request.view {
            state.window.check(view.version, &request.reads)?;
        }
        // Versions have gaps, as FoundationDB's have.
        let version = Version(state.view.version.0 + state.rng.random_range(1..=7)).max(request.at_least);
        let mut group = Group::default();
        group.apply(state.view.as_ref(), &mut state.window, version, request.mutations)?;
        request.write_conflicts.into_iter().for_each(|span| state.window.record(version, span));
        state.window.forget(Version(version.0.saturating_sub(WINDOW)));
        let mut view = SimView::clone(&state.view);
        view.version = version;
        let rows = group.rows();
        for (key, value) in &rows {
            match value {
                Some(value) => view.map.insert(key.clone(), value.clone()),
                None => view.map.remove(key),
            };
        }
        state.show(view);
        self.watches.notify(rows.iter().map(|(key, _)| key));
        Ok(version)
    }
}

#[async_trait]
impl Engine for Inner {
    type View = SimView;

    fn view(&self) -> Arc<SimView> {
        let mut state = self.state.lock();
        self.step(&mut state);
        if state.faults.delay != 0 && state.rng.random_range(0..8) == 0 {
            let mut view = SimView::clone(&state.view);
            view.version.0 += state.rng.random_range(1..=3);
            state.view = Arc::new(view);
        }
        state.view.clone()
    }

    fn watches(&self) -> &Watches {
        &self.watches
    }

    async fn submit(&self, request: Request<SimView>) -> Result<Version, KvError> {
        let unknown = || Err(KvError::Unknown(format!("the outcome is unknown (seed {})", self.seed)));
        let (life, ticket, answer, told, before, after) = {
            let mut state = self.state.lock();
            self.step(&mut state);
            let life = state.view.life;
            if request.view.as_ref().is_some_and(|view| view.life != life) {
                return Err(KvError::TooOld);
            }
            let faults = state.faults;
            if state.chance(faults.conflict) && !request.reads.is_empty() {
                return Err(KvError::Conflict);
            }
            let told = !state.chance(faults.unknown);
            let fate = if told { Fate::Made } else { Fate::draw(&mut state.rng) };
            let (before, after) = (state.lag(), state.lag());
            if fate == Fate::Lost {
                return unknown();
            }
            let ticket = state.tickets;
            state.tickets += 1;
            let steps = state.rng.random_range(0..20);
            let (sender, answer) = oneshot::channel();
            state.flights.push(Flight { ticket, steps, request, answer: Some(sender) });
            if fate == Fate::Late {
                return unknown();
            }
            (life, ticket, answer, told, before, after)
        };
        // The caller may be dropped at any wait: the flight goes on.
        before.pass().await;
        {
            let mut state = self.state.lock();
            if let Some(i) = state.flights.iter().position(|f| f.ticket == ticket) {
                let flight = state.flights.swap_remove(i);
                self.land_flight(&mut state, flight);
            }
        }
        after.pass().await;
        if self.state.lock().view.life != life {
            return unknown();
        }
        match answer.await {
            // What did not happen may be told or not, like what did.
            Ok(outcome) if told => outcome,
            _ => unknown(),
        }
    }

    fn pauses(&self) -> bool {
        let state = self.state.lock();
        state.faults != Faults::NONE || state.down != 0
    }

    async fn pause(&self, at: Point) -> Result<(), KvError> {
        let lag = {
            let mut state = self.state.lock();
            let faults = state.faults;
            let refused = state.chance(faults.unavailable);
            if refused || state.down > 0 {
                state.down = state.down.saturating_sub(1);
                return Err(KvError::Unavailable(format!("refused (seed {})", self.seed)));
            }
            // Rare at each read, or a transaction that reads much would never end.
            let rare = at == Point::Commit || state.rng.random_range(0..100) == 0;
            if rare && state.chance(faults.too_old) {
                return Err(KvError::TooOld);
            }
            state.lag()
        };
        lag.pass().await;
        Ok(())
    }
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Made,
    Lost,
    Late,
}

impl Fate {
    fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..3) {
            0 => Self::Made,
            1 => Self::Lost,
            _ => Self::Late,
        }
    }
}

/// A transaction whose watches fail too.
struct SimTx {
    tx: Box<Tx<Inner>>,
    sim: Arc<Inner>,
}

#[async_trait]
impl Transaction for SimTx {
    async fn read_version(&self) -> Result<Version, KvError> {
        self.tx.read_version().await
    }

    async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>, KvError> {
        self.tx.get(key, read).await
    }

    async fn get_range(&self, range: &RangeRead, read: Read) -> Result<Rows, KvError> {
        self.tx.get_range(range, read).await
    }

    fn mutate(&mut self, mutation: Mutation) {
        self.tx.mutate(mutation);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.tx.add_read_conflict(begin, end);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.tx.add_write_conflict(begin, end);
    }

    fn watch(&mut self, key: &[u8]) -> Watch {
        let mut deaths = self.sim.deaths.subscribe();
        let watch = self.tx.watch(key);
        let idle = {
            let mut state = self.sim.state.lock();
            let faults = state.faults;
            state.chance(faults.watch).then(|| state.lag())
        };
        Box::pin(async move {
            if let Some(lag) = idle {
                lag.pass().await;
                return Ok(());
            }
            let death = std::pin::pin!(deaths.changed());
            match futures::future::select(watch, death).await {
                futures::future::Either::Left((fired, _)) => fired,
                futures::future::Either::Right(_) => Err(KvError::Unavailable("the server is gone".to_owned())),
            }
        })
    }

    fn reclaiming(&mut self) {
        self.tx.reclaiming();
    }

    async fn commit(self: Box<Self>) -> Result<Version, KvError> {
        self.tx.commit().await
    }
}

#[async_trait]
impl Kv for Sim {
    fn begin(&self) -> Box<dyn Transaction> {
        Box::new(SimTx { tx: Box::new(Tx::new(self.0.clone())), sim: self.0.clone() })
    }

    async fn advance_to(&self, version: Version) -> Result<(), KvError> {
        local::advance(self.0.as_ref(), version).await
    }
}
