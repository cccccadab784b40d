//! Simulation: clients that write, read, watch, compact and die, on the sim engine with every fault, in virtual time; then one check of
//! all that they were told.
//!
//! A seed decides everything: how many clients there are, what they do, which faults happen and who takes the next step. So a seed that
//! fails, fails again, with the same history. Reads no clock but the runtime's, which is paused and jumps.

pub mod check;
pub mod history;
mod tasks;
mod work;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::kv::Kv;
use crate::sim::{Faults, Sim};
use crate::store::{Commit, Event, Expect, Key, Op, Page, Revision, Store, StoreError};
use check::Violation;
use history::{Client, History, Moment, Record, Request};
use tasks::Tasks;
use work::{END, RESOURCES, Shares, Watcher, Writer, one_of};

/// Steps after which a run is taken for one that does not end.
const STEPS: usize = 2_000_000;
/// How long watchers may take to see the end after the faults are over.
const END_WITHIN: Duration = Duration::from_secs(120);
/// The group of the task that leads the run, which never dies.
const LEADER: usize = usize::MAX;

/// Puts something between the store and the simulated engine: what is wrong with it must be found.
pub type Wrap<'a> = &'a dyn Fn(Arc<dyn Kv>, u64) -> Arc<dyn Kv>;

/// What a run did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Calls on the store.
    pub calls: usize,
    /// Commits in the log.
    pub commits: usize,
    /// Calls that were told that a commit may have happened, or told nothing because the client died.
    pub in_doubt: usize,
    /// Deaths of clients and of the server.
    pub deaths: usize,
    /// Times that a log turned out to be cut.
    pub compacted: usize,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.commits += other.commits;
        self.in_doubt += other.in_doubt;
        self.deaths += other.deaths;
        self.compacted += other.compacted;
    }
}

/// A broken law with all that is needed to look into it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Makes the run again.
    pub seed: u64,
    /// What is broken.
    pub violation: Violation,
    /// The whole record.
    pub record: Record,
    /// What the log says, where it could be read.
    pub log: Vec<Event>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { what, keys, calls } = &self.violation;
        writeln!(f, "seed {}: {what}", self.seed)?;
        for line in self.record.lines(keys, calls, 40) {
            writeln!(f, "{line}")?;
        }
        let log: Vec<&Event> = self.log.iter().filter(|e| keys.contains(&e.key)).collect();
        for event in log.iter().skip(log.len().saturating_sub(20)) {
            writeln!(f, "the log says: {}, by {} at {} ms", history::event(event), event.who, event.at)?;
        }
        write!(f, "`cargo xtask simulate --seed {}` runs it again", self.seed)
    }
}

impl std::error::Error for Failure {}

/// What a seed decides before the run begins.
#[derive(Debug)]
struct Plan {
    faults: Faults,
    processes: usize,
    writers: usize,
    watchers: usize,
    turns: u32,
    keys: u32,
    shares: Shares,
    /// Deaths of clients, and how likely one is at a step, in thousandths.
    deaths: u32,
    death: u32,
    server_deaths: u32,
}

impl Plan {
    fn draw(rng: &mut StdRng) -> Self {
        let mut rate = |most: u32| if rng.random_bool(0.6) { rng.random_range(1..=most) } else { 0 };
        let faults = Faults {
            conflict: rate(200),
            too_old: rate(50),
            unavailable: rate(60),
            unknown: rate(300),
            delay: rate(700),
            slow: rate(200),
            watch: rate(300),
        };
        Self {
            faults: if rng.random_ratio(1, 20) { Faults::NONE } else { faults },
            processes: rng.random_range(1..=3),
            writers: rng.random_range(1..=2),
            watchers: rng.random_range(0..=2),
            turns: one_of(rng, &[4, 8, 16, 30], 8),
            keys: rng.random_range(1..=3),
            shares: Shares::draw(rng),
            deaths: rng.random_range(0..=4),
            death: one_of(rng, &[1, 5, 20], 5),
            server_deaths: rng.random_range(0..=2),
        }
    }
}

/// Wall time as the paused runtime has it.
#[derive(Debug)]
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn unix_millis(&self) -> u64 {
        1_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the clients of a run share.
struct Run {
    seed: u64,
    kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    history: Rc<History>,
    plan: Plan,
    /// What pauses are counted in.
    unit: Duration,
    tails: Rc<Cell<usize>>,
    writers: Vec<Seat>,
    watchers: Vec<Seat>,
}

/// A client's place in a process: what is left of it when the process dies.
#[derive(Default)]
struct Seat {
    process: usize,
    turns: Cell<u32>,
    serial: Rc<Cell<u32>>,
    position: Rc<Cell<Option<Revision>>>,
    done: Cell<bool>,
    lives: Cell<u32>,
}

impl Seat {
    fn name(&self, what: &str, number: usize) -> String {
        format!("{what} {number}.{}", self.lives.replace(self.lives.get() + 1))
    }
}

type Task = LocalBoxFuture<'static, ()>;
/// The last page of each resource.
type End = Result<Vec<Page>, Violation>;

impl Run {
    fn new(seed: u64, kv: Arc<dyn Kv>, clock: Arc<dyn Clock>, plan: Plan, unit: Duration) -> Rc<Self> {
        let seats = |per_process: usize| {
            let seat = |i: usize| Seat { process: i % plan.processes, turns: plan.turns.into(), ..Seat::default() };
            (0..per_process * plan.processes).map(seat).collect()
        };
        let (writers, watchers) = (seats(plan.writers), seats(plan.watchers));
        let (history, tails) = (Rc::new(History::default()), Rc::default());
        Rc::new(Self { seed, kv, clock, history, plan, unit, tails, writers, watchers })
    }

    fn rng(&self, salt: usize) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt as u64)
    }

    fn client(&self, store: Store, name: String) -> Client {
        Client { store, history: self.history.clone(), clock: self.clock.clone(), name }
    }

    /// The tasks of a process that begins, or begins again.
    fn process(self: &Rc<Self>, process: usize) -> Vec<Task> {
        let store: Rc<OnceCell<Store>> = Rc::default();
        let open = |run: Rc<Self>, store: Rc<OnceCell<Store>>| async move {
            loop {
                let open = || Store::open(run.kv.clone(), run.clock.clone());
                match store.get_or_try_init(open).await {
                    Ok(store) => return store.clone(),
                    Err(_) => tokio::time::sleep(run.unit * 10).await,
                }
            }
        };
        let mut tasks: Vec<Task> = Vec::new();
        let left = |(_, seat): &(usize, &Seat)| seat.process == process && !seat.done.get();
        for (i, _) in self.writers.iter().enumerate().filter(left) {
            let (run, open) = (self.clone(), open(self.clone(), store.clone()));
            tasks.push(Box::pin(async move {
                let seat = &run.writers[i];
                let salt = 1000 * i + usize::try_from(seat.lives.get()).unwrap_or(0);
                let client = run.client(open.await, seat.name("writer", i));
                let mut writer = Writer {
                    client,
                    rng: run.rng(1 + salt),
                    keys: run.plan.keys,
                    shares: run.plan.shares,
                    serial: seat.serial.clone(),
                    number: i,
                    seen: BTreeMap::new(),
                    highest: Revision(0),
                };
                while let Some(turns) = seat.turns.get().checked_sub(1) {
                    seat.turns.set(turns);
                    writer.turn().await;
                }
                seat.done.set(true);
            }));
        }
        for (i, _) in self.watchers.iter().enumerate().filter(left) {
            let (run, open) = (self.clone(), open(self.clone(), store.clone()));
            tasks.push(Box::pin(async move {
                let seat = &run.watchers[i];
                let salt = 1000 * i + usize::try_from(seat.lives.get()).unwrap_or(0);
                let client = run.client(open.await, seat.name("watcher", i));
                let (tails, position) = (run.tails.clone(), seat.position.clone());
                let resource = RESOURCES[i % RESOURCES.len()];
                let (rng, unit) = (run.rng(1_000_001 + salt), run.unit);
                Watcher { client, rng, resource, tails, unit, position }.follow().await;
                seat.done.set(true);
            }));
        }
        tasks
    }

    /// Waits for the writers, ends the faults, and sees that everybody gets to know everything. Returns the last page of each resource.
    async fn lead(&self, sim: Option<&Sim>) -> End {
        let mut rng = self.rng(0);
        let mut server_deaths = self.plan.server_deaths;
        while !self.writers.iter().all(|seat| seat.done.get()) {
            tokio::time::sleep(self.unit * rng.random_range(5..100)).await;
            if server_deaths > 0
                && let Some(sim) = sim
                && rng.random_ratio(1, 4)
            {
                server_deaths -= 1;
                sim.crash();
                self.history.note("the server dies");
            }
        }
        if let Some(sim) = sim {
            sim.set_faults(Faults::NONE);
            sim.settle();
            self.history.note("the faults are over");
        }
        let failed = |e: StoreError| Violation::from(format!("without faults: {e}"));
        let store = Store::open(self.kv.clone(), self.clock.clone()).await.map_err(failed)?;
        let client = self.client(store.clone(), "leader".to_owned());
        for resource in RESOURCES {
            let op =
                Op::Put { key: Key::new(resource, END, END), bytes: END.into(), expect: Expect::Absent, expires: None };
            let commit = Commit { who: format!("{END} of {resource}").into(), ops: vec![op], ..Commit::default() };
            client.call(Request::Commit(commit.clone()), store.commit(commit)).await.map_err(failed)?;
        }
        let end = Instant::now() + END_WITHIN;
        while let Some((i, _)) = self.watchers.iter().enumerate().find(|(_, seat)| !seat.done.get()) {
            if Instant::now() > end {
                return Err(Violation::from(format!(
                    "watcher {i} never hears of the end of {}",
                    RESOURCES[i % RESOURCES.len()]
                )));
            }
            tokio::time::sleep(self.unit * 100).await;
        }
        // Everything with a time to expire is due by then.
        if self.plan.shares.expire > 0 && sim.is_some() {
            tokio::time::sleep(Duration::from_secs(10)).await;
            client.call(Request::Expire, store.expire()).await.map_err(failed)?;
        }
        let mut pages = Vec::new();
        for resource in RESOURCES {
            let list = store.list(resource, None, None, 0);
            pages.push(client.call(Request::List(resource, None, None, 0), list).await.map_err(failed)?);
        }
        Ok(pages)
    }

    /// Runs everything to its end.
    async fn all(self: &Rc<Self>, sim: Option<Sim>) -> End {
        let mut tasks = Tasks::new();
        for process in 0..self.plan.processes {
            for task in self.process(process) {
                tasks.spawn(process, task);
            }
        }
        let end: Rc<RefCell<Option<End>>> = Rc::default();
        let (run, told) = (self.clone(), end.clone());
        let lead = async move {
            let result = run.lead(sim.as_ref()).await;
            *told.borrow_mut() = Some(result);
        };
        tasks.spawn(LEADER, lead.boxed_local());
        let mut deaths = self.plan.deaths;
        let mut rng = self.rng(usize::MAX);
        let ended = tasks
            .run(LEADER, &mut rng, STEPS, |process, rng| {
                if process == LEADER || deaths == 0 || rng.random_range(0..1000) >= self.plan.death {
                    return None;
                }
                deaths -= 1;
                self.history.note(format!("process {process} dies"));
                Some(self.process(process))
            })
            .await;
        if !ended {
            return Err(Violation::from("the run does not end".to_owned()));
        }
        let result = end.borrow_mut().take();
        result.unwrap_or_else(|| Err(Violation::from("the run ended early".to_owned())))
    }
}

fn unreadable(error: &StoreError) -> Violation {
    Violation::from(format!("the log does not read: {error}"))
}

/// The log of every resource from the beginning: read from the newest picture that still has what follows, again and again.
async fn log(sim: &Sim, clock: &Arc<dyn Clock>) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    let last = sim.pictures().saturating_sub(1);
    for resource in RESOURCES {
        let mut position = Revision(0);
        let (mut low, mut high) = (0, last);
        // `low` reaches back to the position, `high` may not.
        loop {
            let Some(picture) = sim.picture(high) else { break };
            let store = Store::open(Arc::new(picture), clock.clone()).await?;
            let mut tail = store.tail(resource, position);
            match tail.catch_up().await {
                Err(StoreError::Compacted { .. }) if high > low + 1 => high = low + (high - low) / 2,
                Err(StoreError::Compacted { .. }) if high > low => high = low,
                Err(e) => return Err(e),
                Ok(mut some) => {
                    while !some.is_empty() {
                        events.append(&mut some);
                        some = tail.catch_up().await?;
                    }
                    position = tail.position();
                    if high == last {
                        break;
                    }
                    // The next picture was cut at most up to where this one ends.
                    (low, high) = (high + 1, last);
                }
            }
        }
    }
    Ok(events)
}

/// A runtime with one thread, whose time stands still while anybody can run and jumps when nobody can.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime starts")
}

/// Runs a seed and checks its history.
///
/// # Errors
/// The first law that is broken.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    run_with(seed, &|kv, _| kv).map(|(report, _)| report)
}

/// Runs a seed with something between the store and the engine; returns the record as well.
///
/// # Errors
/// The first law that is broken.
pub fn run_with(seed: u64, wrap: Wrap<'_>) -> Result<(Report, Record), Box<Failure>> {
    /// Says which seed it was when something panics.
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {} panics; `cargo xtask simulate --seed {}` runs it again", self.0, self.0);
            }
        }
    }
    let _seed = Seed(seed);
    runtime().block_on(async {
        let plan = Plan::draw(&mut StdRng::seed_from_u64(seed));
        let sim = Sim::remembering(seed, plan.faults);
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(Instant::now()));
        let run = Run::new(seed, wrap(Arc::new(sim.clone()), seed), clock.clone(), plan, Duration::from_millis(1));
        let pages = run.all(Some(sim.clone())).await;
        let record = run.history.record();
        let (log, events) = match log(&sim, &clock).await {
            Ok(events) => (events, Ok(())),
            Err(e) => (Vec::new(), Err(unreadable(&e))),
        };
        let result = pages.and_then(|pages| {
            events?;
            check::check(&record, &log)?;
            for page in pages.iter().filter(|_| run.plan.shares.expire > 0) {
                check::nothing_is_overdue(&record, page)?;
            }
            Ok(report(&record, &log))
        });
        match result {
            Ok(report) => Ok((report, record)),
            Err(violation) => Err(Box::new(Failure { seed, violation, record, log })),
        }
    })
}

/// Runs clients on any engine, without deaths and without compaction, and checks their history.
///
/// # Errors
/// The first law that is broken.
pub async fn on_engine(kv: Arc<dyn Kv>, seed: u64, clock: Arc<dyn Clock>) -> Result<Report, Box<Failure>> {
    let mut plan = Plan::draw(&mut StdRng::seed_from_u64(seed));
    plan = Plan { deaths: 0, server_deaths: 0, processes: 2, writers: 2, watchers: 1, turns: 12, ..plan };
    plan.shares = Shares { expire: 0, rest: 0, ..plan.shares.without_compaction() };
    let run = Run::new(seed, kv.clone(), clock.clone(), plan, Duration::from_micros(100));
    let result = run.all(None).await;
    let record = run.history.record();
    let fail = |violation, log| Box::new(Failure { seed, violation, record: record.clone(), log });
    let log = async {
        let store = Store::open(kv, clock).await?;
        let mut events = Vec::new();
        for resource in RESOURCES {
            let mut tail = store.tail(resource, Revision(0));
            let end = store.read_revision().await?;
            while tail.position() < end {
                events.extend(tail.catch_up().await?);
            }
        }
        Ok::<_, StoreError>(events)
    };
    let log: Vec<Event> = log.await.map_err(|e| fail(unreadable(&e), Vec::new()))?;
    match result.and_then(|_| check::check(&record, &log)) {
        Ok(()) => Ok(report(&record, &log)),
        Err(violation) => Err(fail(violation, log)),
    }
}

fn report(record: &Record, events: &[Event]) -> Report {
    let mut commits: Vec<Revision> = events.iter().map(|e| e.revision).collect();
    commits.sort();
    commits.dedup();
    let count = |wanted: fn(&history::Call) -> bool| record.calls.iter().filter(|call| wanted(call)).count();
    let dies = |text: &String| text.ends_with(" dies");
    Report {
        calls: record.calls.len(),
        commits: commits.len(),
        in_doubt: count(|call| {
            matches!(call.request, Request::Commit(_))
                && matches!(call.answer, None | Some(Err(StoreError::MaybeCommitted(_))))
        }),
        deaths: record.moments.iter().filter(|(_, m)| matches!(m, Moment::Note(text) if dies(text))).count(),
        compacted: count(|call| matches!(call.answer, Some(Err(StoreError::Compacted { .. })))),
    }
}

/// Runs many seeds, on as many threads as there are processors, until `seeds` ends or a law is broken. `progress` hears after each run what
/// all runs together have done, and how many they were.
///
/// # Errors
/// The first law that is broken.
pub fn run_all(
    seeds: impl Iterator<Item = u64> + Send,
    progress: impl Fn(Report, u64) + Sync,
) -> Result<Report, Box<Failure>> {
    let seeds = Mutex::new(seeds.fuse());
    let total = Mutex::new((Report::default(), 0, None));
    let work = || {
        loop {
            let next = seeds.lock().next();
            let Some(seed) = next.filter(|_| total.lock().2.is_none()) else { return };
            let result = run(seed);
            let mut total = total.lock();
            match result {
                Ok(report) => {
                    total.0 += report;
                    total.1 += 1;
                    let (report, runs) = (total.0, total.1);
                    progress(report, runs);
                }
                Err(failure) => drop(total.2.get_or_insert(failure)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (report, _, failure) = total.into_inner();
    failure.map_or(Ok(report), Err)
}
