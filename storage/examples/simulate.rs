//! Runs the simulation for as long as one likes: `cargo xtask simulate [--seed N] [--seeds N|forever]`. Never judges; the library does.

#![allow(clippy::print_stdout, reason = "its progress is its output")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use storage::laws::simulate;

const USAGE: &str = "usage: cargo xtask simulate [--seed FIRST] [--seeds N|forever]
  runs N seeds from FIRST on (by chance if not given); one seed if only --seed is given, 10000 if neither";

/// The first seed, and how many; `None` is without end.
fn arguments(words: &[String]) -> Option<(u64, Option<u64>)> {
    let (mut first, mut number) = (None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()?.as_str()) {
            ("--seed", seed) => first = Some(seed.parse().ok()?),
            ("--seeds", "forever") => number = Some(None),
            ("--seeds", n) => number = Some(Some(n.parse().ok()?)),
            _ => return None,
        }
    }
    let otherwise = Some(if first.is_some() { 1 } else { 10_000 });
    Some((first.unwrap_or_else(|| rand::random_range(0..1 << 48)), number.unwrap_or(otherwise)))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((first, number)) = arguments(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let last = number.map_or(u64::MAX, |n| first.saturating_add(n));
    println!("seeds from {first} on, {}", number.map_or("without end".to_owned(), |n| format!("{n} of them")));
    let begun = Instant::now();
    let said = Mutex::new(begun);
    let say = |report: simulate::Report, runs: u64| {
        let simulate::Report { calls, commits, in_doubt, deaths, compacted } = report;
        println!(
            "{runs} seeds in {} s: {calls} calls, {commits} commits, {in_doubt} in doubt, {deaths} deaths, {compacted} cut logs",
            begun.elapsed().as_secs()
        );
    };
    let progress = |report, runs| {
        let mut said = said.lock();
        if said.elapsed() >= Duration::from_secs(5) {
            *said = Instant::now();
            say(report, runs);
        }
    };
    match simulate::run_all(first..last, progress) {
        Ok(report) => {
            say(report, last.saturating_sub(first));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
