//! Waiting for a state: asks again until it is so or time is up.
//!
//! Never waits a fixed time for something to have happened.

use std::time::{Duration, Instant};

/// Calls `probe` until it gives a value, which is returned.
///
/// # Panics
/// After `limit`, with `what` and the last reason that `probe` gave.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(20);
    loop {
        let reason = match probe() {
            Ok(value) => return value,
            Err(reason) => reason,
        };
        assert!(Instant::now() < end, "{what}: not within {limit:?}; last seen: {reason}");
        rest(pause);
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// Asks for the whole of `span` whether something stays as it is.
///
/// # Panics
/// With the reason of the first `Err`.
pub fn holds_for(what: &str, span: Duration, mut probe: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        if let Err(reason) = probe() {
            panic!("{what}: {reason}");
        }
        rest(Duration::from_millis(100));
    }
}

/// The pause between two looks at something outside this process that announces nothing.
#[allow(clippy::disallowed_methods)] // no runtime worker is blocked: tests are plain threads
pub(crate) fn rest(pause: Duration) {
    std::thread::sleep(pause);
}
