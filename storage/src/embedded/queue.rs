//! Admission: every caller decides its own transaction, one after the other under one lock, while the commit thread writes.
//!
//! A transaction is held against everything admitted before it, durable or not, and joins the open group. The commit thread takes the
//! group when it has written the one before, so deciding costs it nothing, and nobody waits on a timer. The lock is held for some
//! microseconds a transaction; what it reads meanwhile is mostly in memory (counters, and rows of ranges that are cleared).
//!
//! Never writes, and never tells a caller of a commit: the commit thread does, when it is durable and visible.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{FjallView, FreeSpace, Published};
use crate::kv::{KvError, Version};
use crate::local::apply::{Group, Rows};
use crate::local::window::Window;
use crate::local::{Request, View};

/// How long the commit thread looks for the next group before it sleeps.
const LINGER: Duration = Duration::from_micros(50);

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
    /// Somebody waits; a hint that needs no lock.
    waiting: AtomicBool,
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
    /// The commit thread writes a group.
    flying: bool,
    /// Why nothing is admitted.
    broken: Option<KvError>,
    closed: bool,
    /// The commit thread sleeps.
    idle: bool,
}

/// A group for the commit thread.
pub(super) struct Flight {
    /// What to write, or why nothing can be.
    pub(super) rows: Result<Arc<Rows>, KvError>,
    /// The last version in the group.
    pub(super) version: Version,
    pub(super) answers: Vec<Answer>,
}

/// What the commit thread finds.
pub(super) enum Next {
    Flight(Flight),
    /// The time is up.
    Nothing,
    /// Nobody can submit any more, and nobody waits.
    Closed,
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
            broken: None,
            closed: false,
            idle: false,
        };
        let (ready, waiting) = (Condvar::new(), AtomicBool::new(false));
        Self { published, free_space, reserve, state: Mutex::new(state), ready, waiting }
    }

    /// Decides a transaction. What it is told comes through the receiver, unless it is told at once.
    pub(super) fn submit(&self, request: Request<FjallView>) -> Result<oneshot::Receiver<Outcome>, KvError> {
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
        self.waiting.store(true, Ordering::Relaxed);
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.ready.notify_one();
        }
        Ok(answer)
    }

    /// The next group, after at most `patience` if that is given. What was taken before is settled.
    pub(super) fn take(&self, patience: Option<Duration>) -> Next {
        // A writer that was just answered often comes back at once: looking for it a moment longer spares both sides the kernel's
        // wake-up, which takes longer than the disk on a fast one.
        let begin = Instant::now();
        while !self.waiting.load(Ordering::Relaxed) && begin.elapsed() < LINGER {
            std::hint::spin_loop();
        }
        let mut state = self.state.lock();
        while state.answers.is_empty() {
            if state.closed {
                return Next::Closed;
            }
            state.idle = true;
            match patience {
                None => self.ready.wait(&mut state),
                Some(patience) if self.ready.wait_for(&mut state, patience).timed_out() => return Next::Nothing,
                Some(_) => {}
            }
        }
        self.waiting.store(false, Ordering::Relaxed);
        let state = &mut *state;
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
        Next::Flight(Flight { rows, version: state.last, answers: std::mem::take(&mut state.answers) })
    }

    /// The group in flight is visible. No running transaction reads at a version before `oldest`.
    pub(super) fn landed(&self, oldest: Option<Version>) {
        let mut state = self.state.lock();
        state.flying = false;
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
        state.answers.clear();
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
