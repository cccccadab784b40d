//! Admission: every caller decides its own transaction, one after the other under one lock, while the commit thread writes.
//!
//! A transaction is held against everything admitted before it, durable or not, and joins the open group. The commit thread takes the
//! group when it has written the one before, so deciding costs it nothing, and nobody waits on a timer. A writer that is alone and meets a
//! fast disk is told to write its group itself. The lock is held for some
//! microseconds a transaction; what it reads meanwhile is mostly in memory (counters, and rows of ranges that are cleared).
//!
//! Never writes, and never tells a caller of a commit: `commit` does, when it is durable and visible.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{FjallView, FreeSpace, Published};
use crate::kv::{KvError, Version};
use crate::local::apply::{Group, Rows};
use crate::local::window::Window;
use crate::local::{Request, View};

/// After this many groups of one transaction each, between which nobody waited, a caller writes its own: with a fast disk, waking the commit
/// thread and being woken by it would take as long as the write.
const CALM: u32 = 8;
/// ... if they take no longer than this, smoothed over some eight groups: a caller's thread has other work. A slow one now and then counts for
/// four times as much at most.
const FAST: Duration = Duration::from_micros(500);

/// What a transaction is told, and where.
pub(super) type Answer = (oneshot::Sender<Outcome>, Outcome);
type Outcome = Result<Version, KvError>;

/// Where callers and the commit thread meet.
pub(super) struct Queue {
    published: Arc<Published>,
    free_space: FreeSpace,
    reserve: u64,
    state: Mutex<State>,
    /// Tells the commit thread, which sleeps, that somebody waits or that the queue is closed.
    ready: Condvar,
}

struct State {
    window: Window,
    /// The last version that was given out.
    last: Version,
    /// The open group, over the rows of the group in flight.
    group: Group,
    /// Those who wait for the open group; empty when there is none.
    answers: Vec<Answer>,
    space: Space,
    /// Why the open group cannot be written.
    failed: Option<KvError>,
    /// A group is being written.
    flying: bool,
    /// A caller writes; the commit thread leaves the next group to it, or is woken.
    led: bool,
    /// How many groups in a row were of one transaction and left nobody waiting.
    calm: u32,
    /// How long such groups take, smoothed.
    pace: Duration,
    /// Why nothing is admitted.
    broken: Option<KvError>,
    closed: bool,
    /// The commit thread sleeps.
    idle: bool,
}

/// A transaction that waits for its group.
pub(super) struct Admitted {
    pub(super) answer: oneshot::Receiver<Outcome>,
    /// The caller is to write the group, and to call [`Queue::led`] then.
    pub(super) lead: bool,
}

/// A group to write.
pub(super) struct Flight {
    /// What to write, or why nothing can be.
    pub(super) rows: Result<Arc<Rows>, KvError>,
    /// The last version in the group.
    pub(super) version: Version,
    pub(super) answers: Vec<Answer>,
}

/// What the commit thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Take a group.
    Take,
    /// The time is up, or something has broken.
    Look,
    /// Nobody can submit any more, and nobody waits.
    Close,
}

impl Queue {
    pub(super) fn new(published: Arc<Published>, free_space: FreeSpace, reserve: u64) -> Self {
        let last = published.view.load().version();
        let state = State {
            window: Window::new(last),
            last,
            group: Group::default(),
            answers: Vec::new(),
            space: Space::Enough,
            failed: None,
            flying: false,
            led: false,
            calm: 0,
            pace: FAST,
            broken: None,
            closed: false,
            idle: false,
        };
        Self { published, free_space, reserve, state: Mutex::new(state), ready: Condvar::new() }
    }

    /// Decides a transaction, which is told of a refusal at once.
    pub(super) fn submit(&self, request: Request<FjallView>) -> Result<Admitted, KvError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(KvError::Unavailable("the commit thread has ended; restart the server".to_owned()));
        }
        if let Some(error) = &state.broken {
            return Err(error.clone());
        }
        if state.answers.is_empty() {
            state.space = self.space();
        }
        let outcome = state.admit(&self.published.view.load(), request);
        let alone = state.answers.is_empty() && !state.flying && state.failed.is_none();
        // Else a conflict is told when what it conflicts with can be seen: a retry before would meet the same conflict again.
        let outcome = match outcome {
            Err(error) if alone => return Err(error),
            outcome => outcome,
        };
        let (reply, answer) = oneshot::channel();
        state.answers.push((reply, outcome));
        let lead = alone && state.calm >= CALM && state.pace <= FAST && !state.led;
        state.led |= lead;
        let wake = !state.led && std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.ready.notify_one();
        }
        Ok(Admitted { answer, lead })
    }

    /// The caller who was to lead has written.
    pub(super) fn led(&self) {
        let mut state = self.state.lock();
        state.led = false;
        let wanted = !state.answers.is_empty() || state.broken.is_some() || state.closed;
        let wake = wanted && std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Sleeps until there is something to do for the commit thread, or for `patience` if that is given.
    pub(super) fn wait(&self, patience: Option<Duration>) -> Next {
        let mut state = self.state.lock();
        loop {
            match (state.led, state.answers.is_empty()) {
                (false, false) => return Next::Take,
                (false, true) if state.closed => return Next::Close,
                (false, true) if patience.is_none() && state.broken.is_some() => return Next::Look,
                _ => {}
            }
            state.idle = true;
            match patience {
                None => self.ready.wait(&mut state),
                Some(patience) if self.ready.wait_for(&mut state, patience).timed_out() => return Next::Look,
                Some(_) => {}
            }
        }
    }

    /// The open group, if somebody waits for it. What was taken before is settled.
    pub(super) fn take(&self) -> Option<Flight> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.answers.is_empty() {
            return None;
        }
        let group = std::mem::take(&mut state.group);
        let rows = match state.failed.take() {
            Some(error) => Err(error),
            None => {
                let (rows, next) = group.next();
                state.group = next;
                Ok(rows)
            }
        };
        state.flying = true;
        Some(Flight { rows, version: state.last, answers: std::mem::take(&mut state.answers) })
    }

    /// The group in flight, of `transactions`, is visible after `took`. No running transaction reads at a version before `oldest`.
    pub(super) fn landed(&self, transactions: usize, took: Duration, oldest: Option<Version>) {
        let mut state = self.state.lock();
        state.flying = false;
        if transactions == 1 {
            state.pace = (state.pace * 7 + took.min(FAST * 4)) / 8;
        }
        let calm = transactions == 1 && state.answers.is_empty();
        state.calm = if calm { state.calm.saturating_add(1) } else { 0 };
        state.group.landed();
        if let Some(oldest) = oldest {
            state.window.forget(oldest);
        }
    }

    /// Admits nobody until [`Queue::mended`]. Returns who waited for the open group, which was decided over one that failed.
    pub(super) fn broke(&self, error: &KvError) -> Vec<Answer> {
        let mut state = self.state.lock();
        state.flying = false;
        state.group = Group::default();
        state.failed = None;
        state.broken = Some(error.clone());
        std::mem::take(&mut state.answers)
    }

    /// Admits transactions again, over `version`.
    pub(super) fn mended(&self, version: Version) {
        let mut state = self.state.lock();
        state.window = Window::new(version);
        state.last = version;
        state.broken = None;
    }

    /// Takes no further transaction.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_one();
    }

    /// Takes no further transaction and leaves those that wait without an answer.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.led = false;
        state.answers.clear();
        self.ready.notify_one();
    }

    /// Which commits the free space allows.
    pub(super) fn space(&self) -> Space {
        match (self.free_space)() {
            Ok(free) if free >= self.reserve => Space::Enough,
            Ok(free) if free >= self.reserve / 2 => Space::Reclaim,
            Ok(_) => Space::None,
            // Not knowing is no reason to stop.
            Err(_) => Space::Enough,
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("reserve", &self.reserve).finish_non_exhaustive()
    }
}

impl State {
    /// Decides one transaction and adds it to the open group.
    fn admit(&mut self, base: &FjallView, request: Request<FjallView>) -> Outcome {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.space == Space::None || (self.space == Space::Reclaim && !request.reclaiming) {
            return Err(KvError::Full("the disk of the data directory is full; free some space".to_owned()));
        }
        if let Some(view) = &request.view {
            self.window.check(view.version(), &request.reads)?;
        }
        let version = Version(self.last.0 + 1).max(request.at_least);
        if let Err(error) = self.group.apply(base, &mut self.window, version, request.mutations) {
            // The group is unusable: nobody in it commits.
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.last = version;
        request.write_conflicts.into_iter().for_each(|span| self.window.record(version, span));
        Ok(version)
    }
}

/// Which commits the free space allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Enough,
    Reclaim,
    None,
}
