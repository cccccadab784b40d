//! `kill -9` in a loop under load: every acknowledged write is there afterwards, and nothing is half there.
//!
//! The test starts itself as a child process, reads what the child says was acknowledged, kills it at some moment, opens the store
//! and compares. Says nothing about power loss: the kernel survives here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test are the test")]

mod load;

use std::time::{Duration, Instant};

use storage::store::Revision;

#[test]
fn child() {
    load::child();
}

#[test]
fn acknowledged_writes_survive_kill() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("store");
    let seed = load::seed();
    println!("seed {seed}");
    let mut acknowledged = Vec::new();
    let mut end = Revision::default();
    for round in 0..8u64 {
        // From "barely started" to "well under way", with small tables for every other seed.
        let life = 30 + (seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round * 97) % 700);
        let memtable = if seed.is_multiple_of(2) { 256 << 10 } else { 32 << 20 };
        let mut running = load::start(&path, round, memtable, usize::MAX);
        let until = Instant::now() + Duration::from_millis(life);
        while Instant::now() < until && running.child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let alive = running.child.try_wait().unwrap().is_none();
        let (new, complaints) = running.kill();
        assert!(alive && complaints.is_empty(), "the child ended by itself: {complaints:?}");
        acknowledged.extend(new);
        end = load::runtime().block_on(load::verify(&path, memtable, &acknowledged));
    }
    println!("{} acknowledged commits, all there, the store at {end}", acknowledged.len());
    assert!(!acknowledged.is_empty(), "the children got nothing done");
}
