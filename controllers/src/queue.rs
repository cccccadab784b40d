//! A keyed work queue: each key is held once however often it is added, is never handed to two workers at a
//! time, and may come back later, after a fixed delay or with exponential back-off. It never knows what a key means.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Debug,
    hash::Hash,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use crate::metrics::{Busy, Meters, Metrics};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// Delay before the first retry of a key; it doubles with each failure that follows.
pub const BASE_DELAY: Duration = Duration::from_millis(5);
/// No retry waits longer than this.
pub const MAX_DELAY: Duration = Duration::from_secs(300);

/// The delay after so many failures in a row (0 is the first).
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    BASE_DELAY.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(MAX_DELAY)
}

/// A work queue; see the module's description. Times are tokio's, so that tests run on virtual time.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    meters: OnceLock<Meters>,
}

#[derive(Debug)]
struct State<T> {
    ready: VecDeque<T>,
    /// Keys that are in `ready`, or that were added while a worker held them, and since when.
    dirty: HashMap<T, Instant>,
    /// Keys that workers have, and since when.
    held: HashMap<T, Instant>,
    delayed: BTreeMap<(Instant, u64), T>,
    due: HashMap<T, (Instant, u64)>,
    failures: HashMap<T, u32>,
    sequence: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashMap::new(),
                held: HashMap::new(),
                delayed: BTreeMap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
                sequence: 0,
            }),
            wake: Notify::new(),
            meters: OnceLock::new(),
        }
    }
}

impl<T: Clone + Eq + Hash + Debug> State<T> {
    /// Whether it was not there.
    fn add(&mut self, key: T) -> bool {
        if self.dirty.contains_key(&key) {
            return false;
        }
        self.dirty.insert(key.clone(), Instant::now());
        if !self.held.contains_key(&key) {
            self.ready.push_back(key);
        }
        true
    }

    /// How many were added.
    fn release_due(&mut self, now: Instant) -> u64 {
        let mut added = 0;
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.due.remove(&key);
            added += u64::from(self.add(key));
        }
        added
    }
}

impl<T: Send + Sync> Busy for Queue<T> {
    fn depth(&self) -> usize {
        self.state.lock().ready.len()
    }

    fn held(&self) -> Vec<Duration> {
        self.state.lock().held.values().map(Instant::elapsed).collect()
    }
}

impl<T: Clone + Eq + Hash + Debug> Queue<T> {
    /// Counts for these metrics from now on, under the name of its controller.
    pub(crate) fn observe(self: &Arc<Self>, metrics: &Metrics, name: &'static str)
    where
        T: Send + Sync + 'static,
    {
        let own: Weak<Self> = Arc::downgrade(self);
        let meters = metrics.queue(name, own);
        meters.adds.inc_by(u64::try_from(self.state.lock().dirty.len()).unwrap_or(u64::MAX));
        // A queue that counts already goes on as it does.
        let _ = self.meters.set(meters);
    }

    fn count(&self, what: impl FnOnce(&Meters)) {
        if let Some(meters) = self.meters.get() {
            what(meters);
        }
    }

    /// Adds a key at once.
    pub fn add(&self, key: T) {
        if self.state.lock().add(key) {
            self.count(|meters| meters.adds.inc());
        }
        self.wake.notify_one();
    }

    /// Adds a key after a delay; of several delays for one key the earliest holds.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.count(|meters| meters.retries.inc());
        let mut state = self.state.lock();
        let at = Instant::now() + delay;
        if let Some(old) = state.due.get(&key).copied() {
            if old.0 <= at {
                return;
            }
            state.delayed.remove(&old);
        }
        state.sequence += 1;
        let slot = (at, state.sequence);
        state.due.insert(key.clone(), slot);
        state.delayed.insert(slot, key);
        drop(state);
        self.wake.notify_one();
    }

    /// Adds a key after its back-off and counts one more failure for it.
    pub fn add_rate_limited(&self, key: T) {
        let failures = {
            let mut state = self.state.lock();
            let count = state.failures.entry(key.clone()).or_insert(0);
            let now = *count;
            *count = count.saturating_add(1);
            now
        };
        self.add_after(key, backoff(failures));
    }

    /// Clears the failures of a key.
    pub fn forget(&self, key: &T) {
        self.state.lock().failures.remove(key);
    }

    /// How many keys are ready for a worker.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether no key is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the next key; `None` once `stop` is cancelled. The caller must call [`Queue::done`] with it.
    pub async fn next(&self, stop: &CancellationToken) -> Option<T> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            let deadline = {
                let mut state = self.state.lock();
                let now = Instant::now();
                let added = state.release_due(now);
                self.count(|meters| meters.adds.inc_by(added));
                if let Some(key) = state.ready.pop_front() {
                    if let Some(since) = state.dirty.remove(&key) {
                        self.count(|meters| meters.waited.observe((now - since).as_secs_f64()));
                    }
                    state.held.insert(key.clone(), now);
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.first_key_value().map(|((at, _), _)| *at)
            };
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(deadline.unwrap_or(far)) => {}
            }
        }
    }

    /// Gives a key back; if it was added meanwhile it is ready again.
    pub fn done(&self, key: &T) {
        let mut state = self.state.lock();
        if let Some(since) = state.held.remove(key) {
            self.count(|meters| meters.worked.observe(since.elapsed().as_secs_f64()));
        }
        if state.dirty.contains_key(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_held_by_one_worker_and_comes_back_once() {
        let queue = Queue::default();
        let stop = CancellationToken::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next(&stop).await, Some("a"));
        queue.add("a");
        queue.add("a");
        assert!(queue.is_empty(), "the key is still held");
        queue.done(&"a");
        assert_eq!(queue.next(&stop).await, Some("a"));
        queue.done(&"a");
        assert!(queue.is_empty());
        stop.cancel();
        assert_eq!(queue.next(&stop).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn delays_keep_order_and_the_earliest_wins() {
        let queue = Queue::default();
        let stop = CancellationToken::new();
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(20));
        queue.add_after("early", Duration::from_secs(10));
        queue.add_after("late", Duration::from_secs(15));
        queue.add_after("late", Duration::from_secs(30));
        assert_eq!(queue.next(&stop).await, Some("early"));
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(queue.next(&stop).await, Some("late"));
        assert_eq!(start.elapsed().as_secs(), 15);
    }

    #[test]
    fn back_off_doubles_up_to_its_limit() {
        assert_eq!([0, 1, 2, 3].map(|n| backoff(n).as_millis()), [5, 10, 20, 40]);
        assert_eq!(backoff(200), MAX_DELAY);
    }
}
