//! Power loss: a child writes to a store on a disk that forgets what was not synced, the power goes at some request, and what the disk
//! may then hold is opened and checked. The next child goes on from there, so that recovery loses its power too.
//!
//! Needs root and /dev/fuse; says so in one line where they are missing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test are the test")]
#![allow(clippy::print_stdout, reason = "the seed is printed")]

mod disk;
#[path = "../load/mod.rs"]
mod load;
mod mount;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::{Cut, Disk, Failure, Tree};
use mount::Mounted;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::clock::SystemClock;
use storage::store::{Commit, Expect, Key, Op, Store, StoreError};

/// How long cuts go on.
const BUDGET: Duration = Duration::from_secs(30);
/// Cuts of one store, one after the other.
const CUTS: u64 = 6;
/// Small, so that tables are written and merged all the time.
const MEMTABLE: u64 = 128 << 10;

#[test]
fn child() {
    load::child();
}

/// Whether file systems can be mounted here. The mounts are this thread's and its children's own, and go with them.
fn can_mount() -> Result<(), String> {
    fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(|e| format!("/dev/fuse: {e}"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("no mount namespace: {e}"))?;
    let private = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
    private.map_err(|e| format!("no private mounts: {e}"))
}

/// A store just before its journal is full: the next writes begin a new one.
fn nearly_full(dir: &Path) -> Tree {
    let noise = |n: u64| {
        let mut rng = StdRng::seed_from_u64(n);
        let bytes: Vec<u8> = (0..1_000_000).map(|_| rng.random()).collect();
        bytes.into()
    };
    load::runtime().block_on(async {
        let kv = load::engine(dir, MEMTABLE).unwrap();
        let store = Store::open(Arc::new(kv), Arc::new(SystemClock)).await.unwrap();
        for n in 0..63 {
            let put = Op::Put {
                key: Key::new("filler", "", &format!("{}", n % 3)),
                bytes: noise(n),
                expect: Expect::Any,
                expires: None,
            };
            store.commit(Commit { ops: vec![put], ..Commit::default() }).await.unwrap();
        }
    });
    Tree::load(dir).unwrap()
}

#[test]
fn acknowledged_writes_survive_power_loss() {
    if let Err(why) = can_mount() {
        println!("power loss was not tried: {why}");
        return;
    }
    let seed = load::seed();
    println!("seed {seed}");
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let filled = nearly_full(&place.path().join("filled"));
    let begin = Instant::now();
    let (mut stores, mut cuts, mut acknowledged) = (0, 0, 0);
    while begin.elapsed() < BUDGET {
        // One store in four begins with a journal that is nearly full.
        let start = if stores % 4 == 1 { filled.clone() } else { Tree::Dir(BTreeMap::new()) };
        let (c, a) = lives(place.path(), start, seed.wrapping_add(stores), begin + BUDGET);
        cuts += c;
        acknowledged += a;
        stores += 1;
    }
    println!("{cuts} power cuts of {stores} stores, {acknowledged} acknowledged commits, all there");
    assert!(cuts > 0 && acknowledged > 0, "the children got nothing done");
}

/// Cuts the power of one store again and again. Returns how often, and how many commits were acknowledged.
fn lives(place: &Path, start: Tree, seed: u64, end: Instant) -> (u64, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tree = start;
    let mut acknowledged = Vec::new();
    let mut cuts = 0;
    for round in 0..CUTS {
        // From "while the store is made" to "well under way".
        let change = rng.random_range(1.0f64..7.5).exp() as u64;
        let cut = if rng.random() { Cut::At(change) } else { Cut::AtSync(change) };
        let disk = Disk::new(&tree, cut);
        let at = place.join("mounted");
        fs::create_dir_all(&at).unwrap();
        let mounted = Mounted::new(disk, &at).unwrap();
        // Some close the store, before the cut or during it.
        let turns = if rng.random_bool(0.3) { rng.random_range(1..30) } else { usize::MAX };
        let mut running = load::start(&at, round, MEMTABLE, turns);
        let patience = Instant::now() + Duration::from_secs(20);
        while !mounted.is_off() && Instant::now() < patience {
            if let Some(status) = running.child.try_wait().unwrap() {
                if status.success() && turns < usize::MAX {
                    mounted.cut();
                }
                break;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let (off, changes) = (mounted.is_off(), mounted.changes());
        let (new, complaints) = running.kill();
        let what = format!("seed {seed}, round {round}, {cut:?}");
        assert!(off, "{what}: the child stopped at change {changes}: {complaints:?}");
        acknowledged.extend(new);
        tree = mounted.unmount().unwrap().after_the_cut(rng.random());
        let image = place.join("image");
        tree.store(&image).unwrap();
        println!("{what}: {} acknowledged", acknowledged.len());
        load::runtime().block_on(load::verify(&image, MEMTABLE, &acknowledged));
        fs::remove_dir_all(&image).unwrap();
        cuts += 1;
        if Instant::now() > end {
            break;
        }
    }
    (cuts, acknowledged.len())
}

/// Writes fail, reads go on, the store comes back by itself, and what it acknowledged afterwards survives a power cut.
#[test]
fn a_failing_disk_costs_no_acknowledged_write() {
    if let Err(why) = can_mount() {
        println!("failing disks were not tried: {why}");
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let at = place.path().join("mounted");
    fs::create_dir(&at).unwrap();
    let key = |n: u32| Key::new("things", "", &n.to_string());
    let put = |n: u32| {
        let op = Op::Put { key: key(n), bytes: vec![7; 3000].into(), expect: Expect::Absent, expires: None };
        Commit { ops: vec![op], ..Commit::default() }
    };
    for (failure, seed) in [(Failure::Full, 1), (Failure::Sync, 2), (Failure::Sync, 3)] {
        let mounted = Mounted::new(Disk::new(&Tree::Dir(BTreeMap::new()), Cut::Never), &at).unwrap();
        load::runtime().block_on(async {
            let kv = load::engine(&at, 32 << 20).unwrap();
            let store = Store::open(Arc::new(kv), Arc::new(SystemClock)).await.unwrap();
            for n in 0..20 {
                store.commit(put(n)).await.unwrap();
            }
            mounted.fail(Some(failure));
            let unsure = store.commit(put(20)).await.unwrap_err();
            assert!(matches!(unsure, StoreError::MaybeCommitted(_)), "{failure:?}: {unsure}");
            let refused = store.commit(put(21)).await.unwrap_err();
            assert_eq!(matches!(refused, StoreError::Full(_)), failure == Failure::Full, "{refused}");
            assert_eq!(matches!(refused, StoreError::Unavailable(_)), failure == Failure::Sync, "{refused}");
            // Longer than it takes to try again.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            store.commit(put(21)).await.unwrap_err();
            for n in 0..20 {
                assert!(store.get(&key(n)).await.unwrap().is_some(), "{failure:?}: reads go on");
            }
            mounted.fail(None);
            let end = Instant::now() + Duration::from_secs(20);
            while let Err(e) = store.commit(put(21)).await {
                assert!(Instant::now() < end, "{failure:?}: the store does not come back: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            for n in 22..30 {
                store.commit(put(n)).await.unwrap();
            }
        });
        let image = place.path().join(format!("image{seed}"));
        mounted.unmount().unwrap().after_the_cut(seed).store(&image).unwrap();
        load::runtime().block_on(async {
            let kv = load::engine(&image, 32 << 20).unwrap();
            let store = Store::open(Arc::new(kv), Arc::new(SystemClock)).await.unwrap();
            for n in (0..20).chain(21..30) {
                let found = store.get(&key(n)).await.unwrap();
                assert_eq!(found.map(|f| f.bytes.len()), Some(3000), "{failure:?}: {n}");
            }
        });
    }
}
