//! How long a server over a store that is full takes until its watch cache has all of it: `cargo bench -p apiserver --bench start`.
//!
//! The embedded engine, opened anew for every round; ConfigMaps of 1 KiB, and a fifth as many pods of 4 KiB, whose fields are looked at. Prints one
//! line per figure with how many processors were busy, and judges nothing. `BENCH_OBJECTS` (1000000) and `BENCH_ROUNDS` (3) set the size,
//! `BENCH_DIR` the disk, `BENCH_ONLY` names kinds. Started without `--bench` (`cargo test --benches`), it only shows that it runs.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures")]

#[path = "../../api/benches/rounds/mod.rs"]
#[expect(dead_code, reason = "others use the rest")]
mod rounds;

use api::json::{Value, json};
use api::kind::Kind;
use apiserver::cache::Caches;
use rounds::{env, wanted};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::clock::SystemClock;
use storage::embedded::{Embedded, Options};
use storage::store::{Commit, Expect, Key, Op, Store};
use tokio_util::sync::CancellationToken;

// The one that the server runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Make = fn(u64) -> Value;

/// Objects in one commit of the load.
const LOAD: u64 = 100;
const NODES: u64 = 1000;

fn config_map(number: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name(number), "namespace": "default", "labels": { "group": format!("group-{}", number % 100) } },
        "data": { "text": format!("{number:0800}") },
    })
}

fn pod(number: u64) -> Value {
    let variables: Vec<Value> =
        (0..40).map(|at| json!({ "name": format!("NAME_{at}"), "value": format!("{number:060}") })).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name(number), "namespace": "default", "labels": { "app": format!("app-{}", number % 100) } },
        "spec": {
            "nodeName": format!("node-{}", number % NODES), "restartPolicy": "Always", "serviceAccountName": "default",
            "containers": [{ "name": "main", "image": "image", "env": variables }],
        },
        "status": { "phase": "Running", "podIP": "10.0.0.1" },
    })
}

fn name(number: u64) -> String {
    format!("object-{number:010}")
}

/// Which part a process of its own runs, of which kind and where: what has ended holds nothing.
const PART: &str = "BENCH_PART";

async fn open(path: &Path) -> Store {
    let engine = Embedded::open(path, &Options::default()).unwrap();
    Store::open(Arc::new(engine), Arc::new(SystemClock)).await.unwrap()
}

async fn fill(path: &Path, kind: &'static Kind, objects: u64, make: Make) {
    let store = open(path).await;
    for begin in (0..objects).step_by(usize::try_from(LOAD).unwrap()) {
        let ops = (begin..objects.min(begin + LOAD)).map(|number| Op::Put {
            key: Key::new(&kind.group_resource(), "default", &name(number)),
            bytes: api::codec::json::encode(&make(number), kind.schema()).into(),
            expect: Expect::Absent,
            expires: None,
        });
        store.commit(Commit { ops: ops.collect(), who: "bench".into(), ..Commit::default() }).await.unwrap();
    }
}

/// What this process has used of the processors.
fn processors() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let times = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    // User and system time in hundredths of a second.
    Duration::from_millis(times.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}

async fn start(path: &Path, kind: &'static Kind, objects: u64) -> (f64, f64) {
    let (begun, used, stop) = (Instant::now(), processors(), CancellationToken::new());
    let store = open(path).await;
    let caches = Caches::start(std::iter::once(kind), &store, None, &stop).await.unwrap();
    let (time, used) = (begun.elapsed().as_secs_f64(), (processors() - used).as_secs_f64());
    assert_eq!(caches.of(kind).unwrap().any(None).unwrap().objects.len() as u64, objects);
    stop.cancel();
    (time, used / time)
}

fn main() {
    let (objects, rounds) = (env("BENCH_OBJECTS", 1_000_000, 1_000), env("BENCH_ROUNDS", 3, 1));
    let kinds: [(&str, u64, Make); 2] = [("ConfigMap", objects, config_map), ("Pod", objects / 5, pod)];
    for (name, objects, make) in kinds.into_iter().filter(|(name, ..)| wanted(name)) {
        let kind = api::kinds::by_gvk("", "v1", name).unwrap();
        let part = |part: &str, place: &Path| {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(std::env::args().skip(1)).env("BENCH_ONLY", name).env(PART, part).env("BENCH_PLACE", place);
            assert!(child.status().unwrap().success(), "{part} failed");
        };
        let Ok(mine) = std::env::var(PART) else {
            let disk = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
            let place = tempfile::tempdir_in(disk).unwrap();
            part("fill", place.path());
            (0..rounds).for_each(|_| part("start", place.path()));
            continue;
        };
        let place = PathBuf::from(std::env::var_os("BENCH_PLACE").unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        if mine == "fill" {
            runtime.block_on(fill(&place, kind, objects, make));
            continue;
        }
        let (time, busy) = runtime.block_on(start(&place, kind, objects));
        let (bytes, rate) = (api::codec::json::encode(&make(0), kind.schema()).len(), objects as f64 / time);
        println!("{objects} {name}s of {bytes} bytes: {time:.2} s, {rate:.0} a second, {busy:.1} processors");
    }
}
