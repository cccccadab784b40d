//! A small bounded memory of costly checks (signatures, certificate chains), keyed by a SHA-256.
//!
//! It holds what does not depend on the cluster's state; whatever can be revoked is checked again by the caller.

use parking_lot::Mutex;
use std::collections::HashMap;

/// SHA-256 of the credential.
pub(crate) type Fingerprint = [u8; 32];

/// Values with an end of validity in Unix seconds.
pub(crate) struct Remembered<T> {
    entries: Mutex<HashMap<Fingerprint, (T, i64)>>,
    limit: usize,
}

impl<T: Clone> Remembered<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Mutex::new(HashMap::new()), limit }
    }

    /// What was kept under `key`, if it still holds at `now`.
    pub(crate) fn get(&self, key: &Fingerprint, now: i64) -> Option<T> {
        self.entries.lock().get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    /// Keeps `value` until `until`. At the limit, everything outdated goes; where that frees nothing, everything does.
    pub(crate) fn put(&self, key: Fingerprint, value: T, now: i64, until: i64) {
        let mut entries = self.entries.lock();
        if entries.len() >= self.limit {
            entries.retain(|_, (_, until)| now < *until);
        }
        if entries.len() >= self.limit {
            entries.clear();
        }
        entries.insert(key, (value, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_by_time_and_stays_bounded() {
        let memory = Remembered::new(2);
        memory.put([1; 32], 'a', 0, 10);
        assert_eq!(memory.get(&[1; 32], 9), Some('a'));
        assert_eq!(memory.get(&[1; 32], 10), None);
        memory.put([2; 32], 'b', 0, 100);
        memory.put([3; 32], 'c', 50, 100);
        assert_eq!((memory.get(&[1; 32], 5), memory.get(&[2; 32], 60)), (None, Some('b')));
        memory.put([4; 32], 'd', 50, 100);
        assert!(memory.entries.lock().len() <= 2);
    }
}
