//! What benchmarks of processor time share: how long they run, and how long this thread has.
//!
//! Never decides what is measured.

use std::time::Duration;

/// A number from the environment; without it `default`, or `quick` when nothing but that it runs is to be shown.
pub(crate) fn env(name: &str, default: u64, quick: u64) -> u64 {
    let full = std::env::args().any(|argument| argument == "--bench");
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(if full { default } else { quick })
}

/// How many rounds, and how long each: `BENCH_ROUNDS` (9), `BENCH_MILLIS` (300).
pub(crate) fn rounds() -> (u64, Duration) {
    (env("BENCH_ROUNDS", 9, 1), Duration::from_millis(env("BENCH_MILLIS", 300, 1)))
}

/// Whether a figure is among those that `BENCH_ONLY` names by a part of their names.
pub(crate) fn wanted(name: &str) -> bool {
    std::env::var("BENCH_ONLY").map_or(true, |only| name.contains(&only))
}

/// How long this thread has run on a processor: others that wait for it do not count. Not more exact than a tick.
pub(crate) fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number of nanoseconds"))
}
