//! The dispatcher of one priority level: which request runs now, which waits, which is refused.
//!
//! A state machine without a clock: every call brings the time, in nanoseconds that only grow. Never wakes anybody: it says the numbers of
//! requests that begin now. Source: KEP-1040, "Fair Queuing for Server Requests".
//!
//! Every queue has a meter reading at which its next request would begin if all queues were served at once, bit by bit (`next`); the level has
//! the reading of now (`meter`), in seat-nanoseconds for each queue that has something to do. The queue whose first request would end earliest is
//! served. How long a request will take is guessed when it begins and mended when it ends.

use super::demand::Demand;
use super::hand::Dealer;
use super::ratios::Fullness;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// How long a request is taken to run, before it has.
pub(crate) const GUESS: u64 = 3_000_000;

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Seats while it runs.
    pub(crate) seats: u32,
    /// Seats after it was answered.
    pub(crate) lingering: u32,
    /// For how many nanoseconds after it was answered.
    pub(crate) linger: u64,
}

impl Work {
    /// One seat while it runs.
    pub(crate) const ONE: Work = Work { seats: 1, lingering: 0, linger: 0 };

    /// Seats that are held for it from the beginning to the end.
    pub(crate) fn width(&self) -> u32 {
        self.seats.max(self.lingering)
    }

    /// Seat-nanoseconds after the answer.
    fn tail(&self) -> i128 {
        i128::from(self.lingering) * i128::from(self.linger)
    }

    /// Seat-nanoseconds, guessed.
    fn total(&self) -> i128 {
        i128::from(self.seats) * i128::from(GUESS) + self.tail()
    }
}

/// What a level does with requests that find no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// There is always a seat.
    Exempt,
    /// They are refused.
    Refuse,
    /// They wait in queues.
    Queue {
        /// How a flow is dealt its queues.
        dealer: Dealer,
        /// Most requests that wait in one.
        length: usize,
    },
}

/// Why a request is refused, in the words of the metric `apiserver_flowcontrol_rejected_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no seat, and no queue.
    ConcurrencyLimit,
    /// The queue is full.
    QueueFull,
    /// It waited too long.
    TimeOut,
}

impl Refusal {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refusal::ConcurrencyLimit => "concurrency-limit",
            Refusal::QueueFull => "queue-full",
            Refusal::TimeOut => "time-out",
        }
    }
}

/// What becomes of a request that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It has its seats.
    Runs(u64),
    /// Its number comes back when it has them. The second number is the length of its queue, itself included.
    Waits(u64, usize),
    /// There is no place for it.
    Refused(Refusal),
}

/// A request that is here.
pub(crate) struct Request<P> {
    /// In which queue it is or was; `None` where there were none.
    pub(crate) queue: Option<u32>,
    /// What it takes.
    pub(crate) work: Work,
    /// When it came.
    pub(crate) arrived: u64,
    /// When it began; `None` while it waits.
    pub(crate) began: Option<u64>,
    /// The level's meter when it came.
    meter: i128,
    /// It was answered and keeps its seats for a while.
    answered: bool,
    /// What belongs to it.
    pub(crate) parcel: P,
}

impl<P> Request<P> {
    /// It was answered and keeps its seats for a while.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }
}

/// A queue that has something to do. Others have no state worth keeping.
#[derive(Default)]
pub(crate) struct Queue {
    /// Oldest first.
    pub(crate) waiting: VecDeque<u64>,
    /// Requests that run.
    pub(crate) running: usize,
    /// Seats of requests that run or linger.
    pub(crate) seats: u32,
    /// Seats of those that wait: while they run, and at most.
    pub(crate) wanted: (u32, u32),
    /// Work of those that wait.
    pub(crate) work: i128,
    /// The reading at which the next one begins.
    pub(crate) next: i128,
}

impl Queue {
    fn is_active(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

/// What a level has done since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests that began.
    pub(crate) dispatched: u64,
    /// Refused, for any reason.
    pub(crate) refused: u64,
    /// Refused because they waited too long, or gone while they waited.
    pub(crate) cancelled: u64,
}

/// Readings at the last time a request was taken out of a queue, in seat-nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The level's meter.
    pub(crate) meter: i128,
    /// Where the request began.
    pub(crate) began: i128,
    /// Least and most of where the next request of a queue begins, and the same without the work that is guessed to be in progress.
    pub(crate) next: (i128, i128),
    pub(crate) discounted: (i128, i128),
}

/// See the file. `P` is what belongs to a request.
pub(crate) struct Dispatcher<P> {
    response: Response,
    /// Seats of the level at present.
    limit: u32,
    /// The time of the last call.
    now: u64,
    meter: i128,
    pub(crate) queues: BTreeMap<u32, Queue>,
    /// Queues with requests that run or wait.
    active: u32,
    /// The queue that was served last.
    last: u32,
    pub(crate) requests: BTreeMap<u64, Request<P>>,
    /// The next request's number.
    number: u64,
    /// Requests that were put into queues, which turns the hands of flows.
    turns: usize,
    waiting: usize,
    running: usize,
    /// Seats of requests that run or linger: of all, and of those in queues together with the wishes of those that wait there.
    seats: u32,
    queued_demand: u32,
    wanted: u32,
    lingering: BinaryHeap<Reverse<(u64, u64)>>,
    demand: Demand,
    counts: Counts,
    fullness: Fullness,
    /// Stands for the seats of a level that has none, where parts of them are told.
    spare: u32,
    reading: Option<Reading>,
    /// The request whose turn it was when there were not enough seats for it.
    unplaced: Option<u64>,
}

impl<P> Dispatcher<P> {
    pub(crate) fn new(response: Response, limit: u32, now: u64) -> Dispatcher<P> {
        Dispatcher {
            response,
            limit,
            now,
            meter: 0,
            queues: BTreeMap::new(),
            active: 0,
            last: 0,
            requests: BTreeMap::new(),
            number: 0,
            turns: 0,
            waiting: 0,
            running: 0,
            seats: 0,
            queued_demand: 0,
            wanted: 0,
            lingering: BinaryHeap::new(),
            demand: Demand::new(now),
            counts: Counts::default(),
            fullness: Fullness::new(),
            spare: 1,
            reading: None,
            unplaced: None,
        }
    }

    /// A request has come. `hash` is its flow; the parcel is what belongs to it. Numbers of others that begin now go into `begun`.
    pub(crate) fn arrive(&mut self, now: u64, work: Work, hash: u64, parcel: P, begun: &mut Vec<u64>) -> Arrival {
        self.sync(now);
        let Response::Queue { dealer, length } = self.response else {
            if !self.accommodates(work.width()) {
                self.counts.refused += 1;
                return Arrival::Refused(Refusal::ConcurrencyLimit);
            }
            let id = self.admit(work, None, parcel);
            self.begin(id);
            return Arrival::Runs(id);
        };
        let chosen = self.choose(&dealer, hash);
        let before = self.queues.get(&chosen).map_or(0, |queue| queue.waiting.len());
        if self.seats >= self.limit && before >= length {
            self.counts.refused += 1;
            return Arrival::Refused(Refusal::QueueFull);
        }
        let id = self.admit(work, Some(chosen), parcel);
        let queue = self.queues.entry(chosen).or_default();
        if !queue.is_active() {
            queue.next = self.meter;
            self.active += 1;
        }
        queue.waiting.push_back(id);
        queue.wanted.0 += work.seats;
        queue.wanted.1 += work.width();
        queue.work += work.total();
        self.waiting += 1;
        self.wanted += work.width();
        self.queued_demand += work.width();
        self.bound(chosen);
        self.note_demand();
        self.dispatch(begun);
        match begun.iter().position(|other| *other == id) {
            Some(place) => {
                begun.remove(place);
                Arrival::Runs(id)
            }
            None => Arrival::Waits(id, before + 1),
        }
    }

    /// A request goes: it was answered, it waited too long, or its client has gone. Says whether it was still waiting.
    pub(crate) fn leave(&mut self, now: u64, id: u64, begun: &mut Vec<u64>) -> bool {
        self.sync(now);
        let Some(request) = self.requests.get_mut(&id) else { return false };
        let (work, queue) = (request.work, request.queue);
        let Some(began) = request.began else {
            self.requests.remove(&id);
            self.forget(id, queue, work);
            self.counts.refused += 1;
            self.counts.cancelled += 1;
            self.note_demand();
            // A request that was too wide may have stood before others.
            self.dispatch(begun);
            return true;
        };
        request.answered = true;
        self.running -= 1;
        if let Some(queue) = queue.and_then(|queue| self.queues.get_mut(&queue)) {
            queue.running -= 1;
            // The guess is replaced by what it took.
            let mended = i128::from(GUESS) - i128::from(now.saturating_sub(began));
            queue.next -= i128::from(work.seats) * mended;
            if !queue.is_active() {
                self.active -= 1;
            }
        }
        if let Some(queue) = queue {
            self.bound(queue);
        }
        if work.linger > 0 {
            self.lingering.push(Reverse((now.saturating_add(work.linger), id)));
        } else {
            self.release(id);
        }
        self.dispatch(begun);
        false
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: u64, begun: &mut Vec<u64>) {
        self.sync(now);
        self.dispatch(begun);
    }

    /// When `tick` must be called at the latest: seats become free that somebody waits for.
    pub(crate) fn due(&self) -> Option<u64> {
        let Reverse((due, _)) = self.lingering.peek()?;
        (self.waiting > 0).then_some(*due)
    }

    /// Seats and queues are others from now on. What waits in a queue that is no more is still served.
    pub(crate) fn configure(&mut self, now: u64, response: Response, limit: u32, begun: &mut Vec<u64>) {
        self.sync(now);
        self.response = response;
        self.limit = limit;
        self.fullness.seats = if limit > 0 { limit } else { self.spare };
        self.fullness.places = match response {
            Response::Queue { dealer, length } => {
                u32::try_from(length).unwrap_or(u32::MAX).max(1).saturating_mul(dealer.deck())
            }
            Response::Exempt | Response::Refuse => 1,
        };
        self.dispatch(begun);
    }

    /// What stands for the seats of a level that has none, where parts of them are told.
    pub(crate) fn measure_by(&mut self, spare: u32) {
        self.spare = spare.max(1);
    }

    /// How full it was until now.
    pub(crate) fn fullness(&self) -> &Fullness {
        &self.fullness
    }

    /// The meter now, in seat-nanoseconds, and what was read at the last time a request was taken out of a queue.
    pub(crate) fn readings(&self) -> (i128, Option<Reading>) {
        (self.meter, self.reading)
    }

    /// The request whose turn it was since the last call when there were not enough seats for it.
    pub(crate) fn take_unplaced(&mut self) -> Option<u64> {
        self.unplaced.take()
    }

    /// What was wanted since the last call.
    pub(crate) fn take_demand(&mut self, now: u64) -> super::demand::Moments {
        self.sync(now);
        self.demand.take(now)
    }

    pub(crate) fn response(&self) -> Response {
        self.response
    }

    #[cfg(test)]
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Seats of requests that run or linger.
    #[cfg(test)]
    pub(crate) fn seats(&self) -> u32 {
        self.seats
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Nothing runs and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }

    fn admit(&mut self, work: Work, queue: Option<u32>, parcel: P) -> u64 {
        let id = self.number;
        self.number += 1;
        let (arrived, meter) = (self.now, self.meter);
        self.requests.insert(id, Request { queue, work, arrived, began: None, meter, answered: false, parcel });
        id
    }

    /// The request has its seats from now on.
    fn begin(&mut self, id: u64) {
        let now = self.now;
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.began = Some(now);
        let (width, queue) = (request.work.width(), request.queue);
        self.running += 1;
        self.seats += width;
        self.counts.dispatched += 1;
        if let Some(queue) = queue.and_then(|queue| self.queues.get_mut(&queue)) {
            queue.running += 1;
            queue.seats += width;
            self.queued_demand += width;
        }
        self.note_demand();
    }

    /// Takes a request that waits out of its queue.
    fn forget(&mut self, id: u64, queue: Option<u32>, work: Work) {
        self.waiting -= 1;
        self.wanted -= work.width();
        self.queued_demand -= work.width();
        let Some(index) = queue else { return };
        if let Some(queue) = self.queues.get_mut(&index) {
            queue.waiting.retain(|other| *other != id);
            queue.wanted.0 -= work.seats;
            queue.wanted.1 -= work.width();
            queue.work -= work.total();
            if !queue.is_active() {
                self.active -= 1;
            }
        }
        self.bound(index);
        self.drop_if_empty(index);
    }

    /// Frees the seats of a request that was answered.
    fn release(&mut self, id: u64) {
        let Some(request) = self.requests.remove(&id) else { return };
        let width = request.work.width();
        self.seats -= width;
        if let Some(index) = request.queue {
            if let Some(queue) = self.queues.get_mut(&index) {
                queue.seats -= width;
            }
            self.queued_demand -= width;
            self.drop_if_empty(index);
        }
        self.note_demand();
    }

    fn drop_if_empty(&mut self, index: u32) {
        if self.queues.get(&index).is_some_and(|queue| !queue.is_active() && queue.seats == 0) {
            self.queues.remove(&index);
        }
    }

    fn note_demand(&mut self) {
        self.demand.set(self.now, self.seats + self.wanted);
    }

    /// Brings meter, seats that linger and demand to `now`.
    fn sync(&mut self, now: u64) {
        while let Some(Reverse((due, id))) = self.lingering.peek().copied()
            && due <= now
        {
            self.lingering.pop();
            self.advance(due);
            self.release(id);
        }
        self.advance(now);
    }

    fn advance(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        if passed > 0 {
            let seats = (self.seats, self.seats + self.wanted);
            self.fullness.held(passed, seats, (self.running, self.waiting));
        }
        if self.active > 0 {
            let rate = i128::from(self.queued_demand.min(self.limit));
            self.meter += rate * i128::from(passed) / i128::from(self.active);
        }
    }

    /// The queue of a flow's hand in which the least work waits. Where the search begins turns with every request, so that flows whose hands
    /// overlap do not all begin with the same queue.
    fn choose(&mut self, dealer: &Dealer, hash: u64) -> u32 {
        let hand = dealer.deal(hash);
        let turn = self.turns;
        self.turns = turn.wrapping_add(1);
        let size = hand.len().max(1);
        let cards = hand.iter().copied().cycle().skip(turn % size).take(size);
        let work = |card: &u32| self.queues.get(card).map_or(0, |queue| queue.work);
        cards.min_by_key(work).unwrap_or_default()
    }

    /// No queue's next request begins before it came: what a flow has not used is not saved up.
    fn bound(&mut self, index: u32) {
        let Some(queue) = self.queues.get_mut(&index) else { return };
        if let Some(first) = queue.waiting.front().and_then(|id| self.requests.get(id)) {
            queue.next = queue.next.max(first.meter);
        }
    }

    fn accommodates(&self, width: u32) -> bool {
        if self.response == Response::Exempt {
            return true;
        }
        // One that is wider than the level runs alone.
        if width > self.limit {
            return self.running == 0;
        }
        self.seats.saturating_add(width) <= self.limit
    }

    fn dispatch(&mut self, begun: &mut Vec<u64>) {
        while self.waiting > 0 && self.seats < self.limit {
            let Some(id) = self.next() else { return };
            begun.push(id);
        }
    }

    /// Begins the first request of the queue that would end it earliest; of equals, of the next one after the queue that was served last.
    /// `None` when there are not enough seats for it.
    fn next(&mut self) -> Option<u64> {
        let last = self.last;
        let candidates = self.queues.iter().filter_map(|(index, queue)| {
            let id = *queue.waiting.front()?;
            let work = self.requests.get(&id)?.work;
            Some((queue.next + work.total(), *index <= last, *index, id, work))
        });
        let (_, _, index, id, mut work) = candidates.min_by_key(|(end, before, index, ..)| (*end, *before, *index))?;
        if !self.accommodates(work.width()) {
            self.unplaced = Some(id);
            return None;
        }
        self.reading = self.read(index);
        self.last = index;
        self.forget_first(index, id, work);
        // More seats afterwards than the level has: fewer for longer.
        if work.lingering > self.limit && self.limit > 0 {
            let longer = work.tail() / i128::from(self.limit);
            work.lingering = self.limit;
            work.linger = u64::try_from(longer).unwrap_or(u64::MAX);
            if let Some(request) = self.requests.get_mut(&id) {
                request.work = work;
            }
        }
        self.begin(id);
        if let Some(queue) = self.queues.get_mut(&index) {
            queue.next += work.total();
        }
        self.bound(index);
        Some(id)
    }

    /// Where queues stand as the first request of this one leaves it.
    fn read(&self, index: u32) -> Option<Reading> {
        let began = self.queues.get(&index)?.next;
        let wait = || self.queues.values().filter(|queue| !queue.waiting.is_empty());
        let bounds = |of: fn(&Queue) -> i128| Some((wait().map(of).min()?, wait().map(of).max()?));
        let next = bounds(|queue| queue.next)?;
        let discounted = bounds(|queue| queue.next - i128::from(queue.seats) * i128::from(GUESS))?;
        Some(Reading { meter: self.meter, began, next, discounted })
    }

    /// The first request of a queue leaves it to begin: the queue stays active.
    fn forget_first(&mut self, index: u32, id: u64, work: Work) {
        self.waiting -= 1;
        self.wanted -= work.width();
        self.queued_demand -= work.width();
        let Some(queue) = self.queues.get_mut(&index) else { return };
        debug_assert_eq!(queue.waiting.front(), Some(&id));
        queue.waiting.pop_front();
        queue.wanted.0 -= work.seats;
        queue.wanted.1 -= work.width();
        queue.work -= work.total();
    }

    /// What must hold at any time.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let held = |request: &&Request<P>| request.began.is_some();
        let width = |request: &Request<P>| request.work.width();
        assert_eq!(self.seats, self.requests.values().filter(held).map(width).sum::<u32>(), "seats");
        assert_eq!(
            self.running,
            self.requests.values().filter(|request| request.began.is_some() && !request.answered).count()
        );
        let wait = || self.requests.values().filter(|request| request.began.is_none());
        assert_eq!((self.waiting, self.wanted), (wait().count(), wait().map(width).sum::<u32>()));
        assert_eq!(self.waiting, self.queues.values().map(|queue| queue.waiting.len()).sum::<usize>());
        assert_eq!(self.active as usize, self.queues.values().filter(|queue| queue.is_active()).count());
        let demand: u32 = self.queues.values().map(|queue| queue.seats + queue.wanted.1).sum();
        assert_eq!(self.queued_demand, demand);
        for (index, queue) in &self.queues {
            let own = queue.waiting.iter().map(|id| self.requests[id].work);
            let sums =
                own.fold((0, 0, 0), |sum, work| (sum.0 + work.seats, sum.1 + work.width(), sum.2 + work.total()));
            assert_eq!((queue.wanted.0, queue.wanted.1, queue.work), sums, "queue {index}");
            assert!(queue.is_active() || queue.seats > 0, "queue {index} has nothing to do");
        }
        let lingering = self.requests.values().filter(|request| request.answered).count();
        assert_eq!(lingering, self.lingering.len());
        assert!(!(self.waiting > 0 && self.running == 0 && self.lingering.is_empty() && self.limit > 0), "stuck");
    }
}
