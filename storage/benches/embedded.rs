//! The embedded engine's figures, absolute and as ratios of what the disk and fjall do in the same run: `cargo bench -p storage`.
//!
//! Prints one line per figure with its bound, and judges nothing: bounds hold on a quiet machine. Parts whose memory or start counts run
//! in a process of their own. `BENCH_OBJECTS` (1000000), `BENCH_ROUNDS` (5) and `BENCH_MILLIS` (2000 per round) set the size, `BENCH_DIR`
//! the disk, `BENCH_ONLY` names parts, separated by commas. Started without `--bench` (`cargo test --benches`), it only shows that it runs.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a program that measures")]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use storage::clock::SystemClock;
use storage::embedded::{Embedded, Options};
use storage::store::{Commit, Expect, Key, Op, Retention, Store};

// The one that the server runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Which part a process of its own runs, and where.
const PART: &str = "BENCH_PART";
const PLACE: &str = "BENCH_PLACE";
const TASKS: usize = 64;
const SIZE: usize = 1024;
/// Objects in one commit of the initial load.
const LOAD: u64 = 100;

fn env(name: &str, default: u64, quick: u64) -> u64 {
    let full = std::env::args().any(|a| a == "--bench") || std::env::var_os(PART).is_some();
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(if full { default } else { quick })
}

fn objects() -> u64 {
    env("BENCH_OBJECTS", 1_000_000, 2_000)
}

fn rounds() -> u64 {
    env("BENCH_ROUNDS", 5, 1)
}

fn round() -> Duration {
    Duration::from_millis(env("BENCH_MILLIS", 2_000, 100))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap()
}

fn open(path: &Path) -> Embedded {
    Embedded::open(path, &Options::default()).unwrap()
}

async fn store(kv: &Embedded) -> Store {
    Store::open(Arc::new(kv.clone()), Arc::new(SystemClock)).await.unwrap()
}

/// Bytes that do not compress, different for every seed.
fn noise(seed: u64) -> Bytes {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(SIZE);
    while out.len() < SIZE {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.into()
}

fn key(resource: &str, n: u64) -> Key {
    Key::new(resource, "default", &format!("object-{n:010}"))
}

fn put(resource: &str, n: u64, expect: Expect) -> Op {
    Op::Put { key: key(resource, n), bytes: noise(n), expect, expires: None }
}

fn commit(ops: Vec<Op>) -> Commit {
    Commit { ops, who: "bench".into(), ..Commit::default() }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Percentile of latencies in microseconds.
fn percentile(latencies: &mut [u32], percent: usize) -> f64 {
    latencies.sort_unstable();
    let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
    latencies.get(at).copied().map_or(f64::NAN, f64::from)
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// What this process has used of the processors.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time in hundredths of a second.
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

/// A line of /proc/self/status, in MiB.
fn memory(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    value.trim_start_matches(':').split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

fn disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|e| match e.metadata() {
        Ok(m) if m.is_dir() => disk(&e.path()),
        Ok(m) => m.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[expect(clippy::needless_pass_by_value, reason = "takes what format! returns")]
fn figure(name: &str, value: String, bound: &str) {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!("| {name} | {value} | {bound} | {load} |");
}

/// What writers did: latencies in microseconds, seconds, processor time.
#[derive(Default)]
struct Load {
    latencies: Vec<u32>,
    seconds: f64,
    cpu: f64,
}

impl Load {
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }
}

/// `tasks` writers that create objects, each after a pause, as long as `until` is false.
async fn create(
    store: &Store,
    resource: &str,
    next: &Arc<AtomicU64>,
    (tasks, pause): (usize, Duration),
    until: impl Fn() -> bool,
) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let (begin, cpu_before) = (Instant::now(), cpu());
    let writers: Vec<_> = (0..tasks)
        .map(|_| {
            let (store, stop, next, resource) = (store.clone(), stop.clone(), next.clone(), resource.to_owned());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let op = put(&resource, next.fetch_add(1, Ordering::Relaxed), Expect::Absent);
                    let since = Instant::now();
                    store.commit(commit(vec![op])).await.unwrap();
                    latencies.push(micros(since));
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
                latencies
            })
        })
        .collect();
    while !until() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut load = Load::default();
    for writer in writers {
        load.latencies.extend(writer.await.unwrap());
    }
    load.seconds = begin.elapsed().as_secs_f64();
    load.cpu = (cpu() - cpu_before).as_secs_f64();
    load
}

fn after(time: Duration) -> impl Fn() -> bool {
    let begin = Instant::now();
    move || begin.elapsed() >= time
}

/// Creates per second of plain fjall with batches of `batch` creates: the object alone, or all rows that the store writes for it.
struct Fjall {
    database: Database,
    /// For objects, log and marks, as the engine has them; a creation writes no history.
    keyspaces: [fjall::Keyspace; 3],
    next: u64,
}

impl Fjall {
    fn open(path: &Path) -> Self {
        let database = Database::builder(path).cache_size(64 << 20).open().unwrap();
        let options = || KeyspaceCreateOptions::default().max_memtable_size(32 << 20);
        let keyspaces = ["objects", "log", "marks"].map(|name| database.keyspace(name, options).unwrap());
        Self { database, keyspaces, next: 0 }
    }

    fn rate(&mut self, batch: u64, rows: bool) -> f64 {
        let [objects, log, marks] = &self.keyspaces;
        let (begin, first) = (Instant::now(), self.next);
        while begin.elapsed() < round() {
            let mut writes = OwnedWriteBatch::with_capacity(self.database.clone(), 2 * usize::try_from(batch).unwrap())
                .durability(Some(PersistMode::SyncAll));
            for n in self.next..self.next + batch {
                let name = format!("Cpods\0default\0object-{n:010}");
                if rows {
                    writes.insert(objects, name.clone(), [&[0u8; 21], noise(n).as_ref()].concat());
                    writes.insert(log, [b"Lpods\0\0\0", &n.to_be_bytes()[..], &[0; 2]].concat(), [7u8; 64]);
                } else {
                    writes.insert(objects, name, noise(n));
                }
            }
            if rows {
                writes.insert(marks, "Wpods", self.next.to_be_bytes());
                writes.insert(marks, "Npods", self.next.to_be_bytes());
                writes.insert(marks, "\x7f/version", self.next.to_be_bytes());
            }
            writes.commit().unwrap();
            self.next += batch;
        }
        (self.next - first) as f64 / begin.elapsed().as_secs_f64()
    }
}

/// Median latency of one write and fsync of `bytes` into a file that is long enough, in microseconds.
fn fsync(path: &Path, bytes: usize) -> f64 {
    let mut file = File::create(path).unwrap();
    file.set_len(64 << 20).unwrap();
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let data = vec![7; bytes];
    let (begin, mut latencies) = (Instant::now(), Vec::new());
    while begin.elapsed() < round() / 2 {
        let since = Instant::now();
        file.write_all(&data).unwrap();
        file.sync_all().unwrap();
        latencies.push(micros(since));
    }
    fs::remove_file(path).unwrap();
    percentile(&mut latencies, 50)
}

/// Creates from many tasks against fjall at the same batch size, and one writer against one fsync.
fn part_commits(dir: &Path) {
    let kv = open(&dir.join("commits"));
    let mut plain = Fjall::open(&dir.join("plain"));
    let mut same_rows = Fjall::open(&dir.join("rows"));
    let runtime = runtime();
    let next = Arc::new(AtomicU64::new(0));
    let store = runtime.block_on(store(&kv));
    runtime.block_on(create(&store, "pods", &next, (TASKS, Duration::ZERO), after(round() / 4)));
    let (mut rates, mut to_plain, mut to_rows, mut cpus, mut sizes) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut latencies, mut plains) = (Vec::new(), vec![]);
    for _ in 0..rounds() {
        let groups = kv.groups();
        let mut load = runtime.block_on(create(&store, "pods", &next, (TASKS, Duration::ZERO), after(round())));
        let size = load.latencies.len() as f64 / (kv.groups() - groups).max(1) as f64;
        let batch = (size.round() as u64).max(1);
        let (a, b) = (plain.rate(batch, false), same_rows.rate(batch, true));
        rates.push(load.rate());
        plains.push(a);
        to_plain.push(100.0 * load.rate() / a);
        to_rows.push(100.0 * load.rate() / b);
        cpus.push(1e6 * load.cpu / load.latencies.len() as f64);
        sizes.push(size);
        latencies.append(&mut load.latencies);
    }
    figure("creates of 1 KiB from 64 tasks", format!("{:.0}/s", median(&mut rates)), ">= 20,000/s");
    figure("... of fjall's rate with the same batches", format!("{:.0} %", median(&mut to_plain)), ">= 70 %");
    figure("... of fjall's rate with all rows of the store", format!("{:.0} %", median(&mut to_rows)), "");
    figure("... fjall's rate", format!("{:.0}/s", median(&mut plains)), "");
    figure("... in one group", format!("{:.0}", median(&mut sizes)), "");
    figure("... processor time each", format!("{:.0} us", median(&mut cpus)), "");
    let (p50, p99) = (percentile(&mut latencies, 50), percentile(&mut latencies, 99));
    figure("... latency, median and p99", format!("{:.2} ms, {:.2} ms", p50 / 1e3, p99 / 1e3), "");

    let (mut ones, mut syncs, mut ratios, mut cpus) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds() {
        let before = fsync(&dir.join("fsync"), SIZE + 400);
        let mut load = runtime.block_on(create(&store, "pods", &next, (1, Duration::ZERO), after(round() / 2)));
        let one = percentile(&mut load.latencies, 50);
        let sync = f64::midpoint(before, fsync(&dir.join("fsync"), SIZE + 400));
        ones.push(one / 1e3);
        syncs.push(sync / 1e3);
        ratios.push(one / sync);
        cpus.push(1e6 * load.cpu / load.latencies.len() as f64);
    }
    figure("commit with one writer", format!("{:.3} ms", median(&mut ones)), "");
    figure("... one write and fsync", format!("{:.3} ms", median(&mut syncs)), "");
    figure("... ratio", format!("{:.2}", median(&mut ratios)), "<= 1.3");
    figure("... processor time each", format!("{:.0} us", median(&mut cpus)), "");
}

/// Writes all objects and dies without closing: a child of `part_many`.
fn part_load(dir: &Path) {
    let kv = open(dir);
    let begin = Instant::now();
    let peak = runtime().block_on(async {
        let store = store(&kv).await;
        let next = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..16)
            .map(|_| {
                let (store, next) = (store.clone(), next.clone());
                tokio::spawn(async move {
                    loop {
                        let first = next.fetch_add(LOAD, Ordering::Relaxed);
                        if first >= objects() {
                            break;
                        }
                        let ops = (first..(first + LOAD).min(objects())).map(|n| put("pods", n, Expect::Absent));
                        store.commit(commit(ops.collect())).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        memory("VmHWM")
    });
    let rate = objects() as f64 / begin.elapsed().as_secs_f64();
    figure("load in commits of 100", format!("{rate:.0} objects/s"), "");
    figure("... most memory used", format!("{peak:.0} MiB"), "<= 300 MiB");
    std::process::abort();
}

/// Opens what is there, reads, and closes: a child of `part_many`.
fn part_open(dir: &Path) {
    let name = std::env::var("BENCH_NAME").unwrap_or_default();
    let begin = Instant::now();
    let kv = open(dir);
    let opened = begin.elapsed();
    figure(&format!("open with {} objects, {name}", objects()), format!("{:.2} s", opened.as_secs_f64()), "< 2 s");
    let runtime = runtime();
    let store = runtime.block_on(store(&kv));
    if name == "after a clean close" {
        for (what, among) in [("10,000 objects", 10_000), ("all objects", objects())] {
            let (mut rates, mut cpus) = (vec![], vec![]);
            for _ in 0..rounds() {
                let (rate, cpu) = runtime.block_on(gets(&store, among.min(objects())));
                rates.push(rate);
                cpus.push(cpu);
            }
            let cpu = median(&mut cpus);
            figure(
                &format!("gets among {what}"),
                format!("{:.0}/s, {cpu:.1} us each", median(&mut rates)),
                ">= 300,000/s",
            );
        }
    }
    figure(
        &format!("... memory, and the most, {name}"),
        format!("{:.0} MiB, {:.0} MiB", memory("VmRSS"), memory("VmHWM")),
        "<= 300 MiB",
    );
    drop(store);
    let begin = Instant::now();
    drop(kv);
    figure("... close", format!("{:.2} s", begin.elapsed().as_secs_f64()), "");
}

/// Gets per second of as many tasks as there are processors, and processor time of one in microseconds.
async fn gets(store: &Store, among: u64) -> (f64, f64) {
    let tasks = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let (begin, cpu_before) = (Instant::now(), cpu());
    let readers: Vec<_> = (0..tasks)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0u64;
                let mut x = task + 1;
                while begin.elapsed() < round() {
                    for _ in 0..100 {
                        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let found = store.get(&key("pods", (x >> 20) % among)).await.unwrap();
                        assert!(found.is_some_and(|f| f.bytes.len() == SIZE));
                        done += 1;
                    }
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for reader in readers {
        done += reader.await.unwrap();
    }
    (done as f64 / begin.elapsed().as_secs_f64(), 1e6 * (cpu() - cpu_before).as_secs_f64() / done as f64)
}

/// Latency of writes while the log is cut and tables are merged, and what stays on the disk: a child of `part_many`.
fn part_compact(dir: &Path) {
    const PACED: (usize, Duration) = (16, Duration::from_millis(5));
    let kv = open(dir);
    let runtime = runtime();
    runtime.block_on(async {
        let store = store(&kv).await;
        let next = Arc::new(AtomicU64::new(0));
        // Every object is replaced, so that the log holds as much as the store.
        for first in (0..objects()).step_by(500) {
            let ops = (first..(first + 500).min(objects())).map(|n| put("pods", n, Expect::Present));
            store.commit(commit(ops.collect())).await.unwrap();
        }
        settle(dir).await;
        let mut quiet = create(&store, "leases", &next, PACED, after(round() * 2)).await;
        let p99 = percentile(&mut quiet.latencies, 99) / 1e3;
        let before = disk(dir);
        figure("16 paced writers, p99 when quiet", format!("{p99:.2} ms, {:.0}/s", quiet.rate()), "");
        let cut = {
            let store = store.clone();
            tokio::spawn(async move {
                store.compact("pods", Retention { max_entries: Some(0), ..Retention::default() }).await.unwrap();
            })
        };
        let mut busy = create(&store, "leases", &next, PACED, || cut.is_finished()).await;
        cut.await.unwrap();
        let busy99 = percentile(&mut busy.latencies, 99) / 1e3;
        let worst = busy.latencies.last().copied().map_or(f64::NAN, f64::from) / 1e3;
        let seconds = busy.seconds;
        figure(
            "... p99 while the log is compacted",
            format!("{busy99:.2} ms, {:.0}/s, worst {worst:.0} ms, in {seconds:.1} s", busy.rate()),
            "",
        );
        figure("... ratio", format!("{:.2}", busy99 / p99), "<= 3");
        store.compact("leases", Retention { max_entries: Some(0), ..Retention::default() }).await.unwrap();
        settle(dir).await;
        let live = (objects() + next.load(Ordering::Relaxed)) * (SIZE as u64 + 36);
        let used = disk(dir);
        figure(
            "disk after compaction, of the live data",
            format!("{:.2} ({} MiB, was {}, live {})", used as f64 / live as f64, used >> 20, before >> 20, live >> 20),
            "<= 2.5",
        );
    });
}

/// Waits until the disk space used stands still for five seconds, a minute at most.
async fn settle(dir: &Path) {
    let (mut last, mut still) = (0, 0);
    for _ in 0..60 {
        let now = disk(dir);
        still = if now == last { still + 1 } else { 0 };
        if still == 5 {
            break;
        }
        last = now;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn part_many(dir: &Path) {
    let many = dir.join("many");
    let child = |part: &str, name: &str| {
        Command::new(std::env::current_exe().unwrap())
            .env(PART, part)
            .env(PLACE, &many)
            .env("BENCH_NAME", name)
            .env("BENCH_OBJECTS", objects().to_string())
            .env("BENCH_ROUNDS", rounds().to_string())
            .env("BENCH_MILLIS", round().as_millis().to_string())
            .status()
            .unwrap()
    };
    // Ends by a signal of its own.
    assert!(child("load", "").code().is_none(), "the load failed");
    assert!(child("open", "after kill").success());
    assert!(child("open", "after a clean close").success());
    assert!(child("compact", "").success());
    assert!(child("open", "after compaction").success());
}

fn main() {
    if let (Ok(part), Some(place)) = (std::env::var(PART), std::env::var_os(PLACE)) {
        let place = PathBuf::from(place);
        match part.as_str() {
            "load" => part_load(&place),
            "open" => part_open(&place),
            "compact" => part_compact(&place),
            other => panic!("no part {other}"),
        }
        return;
    }
    let place = std::env::var_os("BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let dir = tempfile::tempdir_in(place).unwrap();
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    println!("| figure | measured | bound | load |\n| --- | --- | --- | --- |");
    for (name, part) in [("commits", part_commits as fn(&Path)), ("many", part_many)] {
        if only.is_empty() || only.split(',').any(|o| o == name) {
            part(dir.path());
        }
    }
}
