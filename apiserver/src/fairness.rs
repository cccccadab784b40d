//! API priority and fairness: who gets the server's time when there is not enough of it. Flow schemas sort requests into priority levels; each
//! level has seats and queues of its own, so that no user and no kind of work can take everything.
//!
//! Decisions are made in pure parts: `schema.rs` (which level), `width.rs` (how many seats), `dispatcher.rs` (who runs now), `share.rs` (how many
//! seats a level has). This file holds the state between requests and wakes who waited. Never answers a request. Source: KEP-1040.

mod bootstrap;
mod demand;
mod dispatcher;
mod drops;
pub(crate) mod dump;
mod hand;
pub(crate) mod keeper;
mod levels;
mod meters;
mod plain;
mod ratios;
mod schema;
mod share;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod watches;
mod width;

pub(crate) use meters::InFlight;
pub(crate) use plain::{Plain, Taken};
pub(crate) use schema::Schema;
pub(crate) use watches::Watching;
pub(crate) use width::Size;

use crate::authn::User;
use crate::road::received::{Query, RequestInfo};
use arc_swap::ArcSwap;
use dispatcher::{Arrival, Dispatcher, Refusal, Response, Work};
use drops::Drops;
use levels::Holding;
use meters::{Current, Families};
use parking_lot::Mutex;
use prometheus::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use watches::Watches;

/// Longest that any request waits in a queue.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What bounds the requests in progress.
pub(crate) enum Seats {
    /// `--enable-priority-and-fairness`.
    Fair(Arc<Fairness>),
    /// Two plain bounds.
    Plain(Plain),
}

impl Seats {
    /// Brings gauges up to date.
    pub(crate) fn tell(&self) {
        if let Seats::Fair(fairness) = self {
            fairness.tell();
        }
    }
}

/// See the file.
pub(crate) struct Fairness {
    /// Seats of all levels.
    total: u32,
    /// In the order in which they are tried; the last one takes everything.
    schemas: ArcSwap<Vec<Arc<Schema>>>,
    levels: Mutex<BTreeMap<String, Holding>>,
    watches: Watches,
    families: Arc<Families>,
    shared: Arc<Shared>,
}

/// What all levels have in common.
struct Shared {
    /// Times are nanoseconds since then.
    origin: Instant,
    /// Seats will become free that somebody waits for, and nobody else will say so.
    lingers: Notify,
    in_flight: InFlight,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A priority level.
pub(crate) struct Level {
    name: String,
    exempt: bool,
    shared: Arc<Shared>,
    state: Mutex<Dispatcher<Parcel>>,
    drops: Mutex<Drops>,
}

/// What belongs to a request that is here.
struct Parcel {
    schema: Arc<Schema>,
    user: String,
    info: Arc<RequestInfo>,
    wake: Option<oneshot::Sender<()>>,
}

/// A request that finds no place: its client should wait so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) retry_after: u64,
}

/// The seats of a request, or its place in a queue; given back when it is dropped.
pub(crate) struct Seat {
    schema: Arc<Schema>,
    id: u64,
    mutating: bool,
    watch: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In a queue, or just out of it.
    Waits,
    /// Since then.
    Runs(u64),
    /// It waited too long, and has left its queue.
    GaveUp,
}

/// `get`, `list` and `watch` alone are not.
pub(crate) fn is_mutating(info: &RequestInfo) -> bool {
    !matches!(info.verb.as_str(), "get" | "list" | "watch")
}

impl Level {
    fn new(name: &str, exempt: bool, response: Response, limit: u32, shared: &Arc<Shared>) -> Arc<Level> {
        Arc::new(Level {
            name: name.to_owned(),
            exempt,
            state: Mutex::new(Dispatcher::new(response, limit, shared.now())),
            shared: Arc::clone(shared),
            drops: Mutex::default(),
        })
    }

    /// Says to these requests that they have begun.
    fn wake(&self, state: &mut Dispatcher<Parcel>, begun: &[u64]) {
        if let Some(request) = state.take_unplaced().and_then(|id| state.requests.get(&id)) {
            request.parcel.schema.meters.unplaced();
        }
        for id in begun {
            if let Some(wake) = state.requests.get_mut(id).and_then(|request| request.parcel.wake.take()) {
                // Who does not listen any more is about to leave.
                let _ = wake.send(());
            }
        }
        if state.due().is_some() {
            self.shared.lingers.notify_one();
        }
    }

    fn leave(&self, id: u64) {
        let now = self.shared.now();
        let mut begun = Vec::new();
        let mut state = self.state.lock();
        state.leave(now, id, &mut begun);
        self.wake(&mut state, &begun);
    }

    /// Leaves the queue; `false` when it has begun meanwhile.
    fn give_up(&self, id: u64) -> bool {
        let waits = |state: &Dispatcher<Parcel>| state.requests.get(&id).is_some_and(|request| request.began.is_none());
        let now = self.shared.now();
        let mut begun = Vec::new();
        let mut state = self.state.lock();
        let left = waits(&state) && state.leave(now, id, &mut begun);
        self.wake(&mut state, &begun);
        left
    }

    /// When it must be looked after.
    fn due(&self) -> Option<u64> {
        self.state.lock().due()
    }

    fn tick(&self) {
        let now = self.shared.now();
        let mut begun = Vec::new();
        let mut state = self.state.lock();
        state.tick(now, &mut begun);
        self.wake(&mut state, &begun);
    }
}

impl Fairness {
    /// With the levels that must be there, until `digest` is told of others.
    pub(crate) fn new(total: u32, registry: &Registry, in_flight: InFlight) -> Arc<Fairness> {
        let shared = Arc::new(Shared { origin: Instant::now(), lingers: Notify::new(), in_flight });
        let fairness = Fairness {
            total,
            schemas: ArcSwap::default(),
            levels: Mutex::default(),
            watches: Watches::default(),
            families: Arc::new(Families::new(registry)),
            shared,
        };
        fairness.digest(&[], &[]);
        Arc::new(fairness)
    }

    /// The flow schema of a request.
    pub(crate) fn classify(&self, user: &User, info: &RequestInfo) -> Option<Arc<Schema>> {
        let schemas = self.schemas.load();
        let matching = |schema: &&Arc<Schema>| schema.rules.iter().any(|rule| rule.matches(user, info));
        // Users are in one of the groups that the last one names; if not, it is theirs all the same.
        schemas.iter().find(matching).or_else(|| schemas.last()).map(Arc::clone)
    }

    /// How many seats a request takes, and for how long.
    fn width(&self, schema: &Schema, info: &RequestInfo, query: &Query, size: impl FnOnce() -> Option<Size>) -> Work {
        let watches = || {
            let watches = self.watches.interested(info);
            schema.meters.watched(watches);
            watches
        };
        let work = width::guess(info, query, schema.widest, size, watches);
        schema.meters.estimated(work.width());
        work
    }

    /// Seats for a request, after a wait of at most `patience` where its level has queues. `size` says how large its kind is.
    ///
    /// # Errors
    /// There is no place for it.
    pub(crate) async fn seat(
        &self,
        schema: &Arc<Schema>,
        user: &User,
        info: &Arc<RequestInfo>,
        query: &Query,
        size: impl FnOnce() -> Option<Size>,
        patience: Duration,
    ) -> Result<Seat, Refused> {
        let work = self.width(schema, info, query, size);
        let level = &schema.level;
        let mutating = is_mutating(info);
        let hash = if schema.sharded { hand::flow(&schema.name, schema.distinguisher.of(&user.name, info)) } else { 0 };
        let parcel = Parcel { schema: Arc::clone(schema), user: user.name.clone(), info: Arc::clone(info), wake: None };
        let now = self.shared.now();
        let mut begun = Vec::new();
        let (id, woken) = {
            let mut state = level.state.lock();
            let arrival = state.arrive(now, work, hash, parcel, &mut begun);
            let mut woken = None;
            if let Arrival::Waits(id, _) = arrival
                && let Some(request) = state.requests.get_mut(&id)
            {
                let (wake, listen) = oneshot::channel();
                request.parcel.wake = Some(wake);
                woken = Some(listen);
            }
            level.wake(&mut state, &begun);
            drop(state);
            match arrival {
                Arrival::Runs(id) => (id, None),
                Arrival::Waits(id, length) => {
                    schema.meters.queued(length);
                    (id, woken)
                }
                Arrival::Refused(refusal) => return Err(self.refuse(schema, refusal, 0)),
            }
        };
        let watch = info.verb == "watch";
        let stage = if woken.is_some() { Stage::Waits } else { Stage::Runs(now) };
        self.shared.in_flight.add(woken.is_some(), mutating, 1);
        let mut seat = Seat { schema: Arc::clone(schema), id, mutating, watch, stage };
        if let Some(woken) = woken {
            let early = tokio::time::timeout(patience.min(LONGEST_WAIT), woken).await.is_ok();
            let then = self.shared.now();
            if !early && level.give_up(id) {
                seat.stage = Stage::GaveUp;
                return Err(self.refuse(schema, Refusal::TimeOut, then.saturating_sub(now)));
            }
            seat.begin(then);
        }
        if !level.exempt {
            schema.meters.waited(seat.began().saturating_sub(now), true);
        }
        schema.meters.dispatched();
        Ok(seat)
    }

    fn refuse(&self, schema: &Schema, refusal: Refusal, waited: u64) -> Refused {
        schema.meters.refused(refusal);
        schema.meters.waited(waited, false);
        let second = self.shared.now() / 1_000_000_000;
        Refused { retry_after: schema.level.drops.lock().refuse(second) }
    }

    /// Counts a watch until it is dropped.
    pub(crate) fn watching(&self, info: &RequestInfo) -> Option<Watching> {
        self.watches.begin(info)
    }

    /// Brings gauges up to date.
    pub(crate) fn tell(&self) {
        self.families.nothing_current();
        let levels: Vec<Arc<Level>> = self.levels.lock().values().map(|held| Arc::clone(&held.level)).collect();
        let mut full = Vec::with_capacity(levels.len());
        for level in &levels {
            level.tick();
            let state = level.state.lock();
            full.push((level.name.as_str(), state.fullness().clone()));
            let (meter, reading) = state.readings();
            self.families.readings(&level.name, meter, reading);
            for request in state.requests.values() {
                let current = match (request.began, request.is_answered()) {
                    (None, _) => Current::Waits,
                    (Some(_), false) => Current::Runs,
                    (Some(_), true) => Current::Lingers,
                };
                self.families.current(&level.name, &request.parcel.schema.name, current, request.work.width());
            }
        }
        self.families.full(&full, &self.shared.in_flight.held());
    }

    /// Gives the seats of answered requests to those who wait for them, as they become free.
    async fn linger(&self) {
        loop {
            let changed = self.shared.lingers.notified();
            let levels: Vec<Arc<Level>> = self.levels.lock().values().map(|held| Arc::clone(&held.level)).collect();
            match levels.iter().filter_map(|level| level.due()).min() {
                None => changed.await,
                Some(due) => {
                    let due = self.shared.origin + Duration::from_nanos(due);
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => levels.iter().for_each(|level| level.tick()),
                    }
                }
            }
        }
    }
}

impl Seat {
    fn began(&self) -> u64 {
        match self.stage {
            Stage::Runs(began) => began,
            Stage::Waits | Stage::GaveUp => 0,
        }
    }

    fn begin(&mut self, now: u64) {
        let in_flight = &self.schema.level.shared.in_flight;
        in_flight.add(true, self.mutating, -1);
        in_flight.add(false, self.mutating, 1);
        self.stage = Stage::Runs(now);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let level = &self.schema.level;
        let waits = !matches!(self.stage, Stage::Runs(_));
        level.shared.in_flight.add(waits, self.mutating, -1);
        if self.stage != Stage::GaveUp {
            level.leave(self.id);
        }
        match self.stage {
            Stage::Runs(began) => {
                self.schema.meters.executed(level.shared.now().saturating_sub(began), self.watch);
            }
            // Its client has gone.
            Stage::Waits => self.schema.meters.refused(Refusal::TimeOut),
            Stage::GaveUp => {}
        }
    }
}
