//! What only the embedded engine has: a directory, a lock, a format, a disk that fills up, a clean end.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use storage::clock::ManualClock;
use storage::embedded::{Embedded, Options};
use storage::engines;
use storage::kv::{Kv, KvError, Mutation, RangeRead, Read};
use storage::store::{Commit, Expect, Key, Op, Retention, Store, StoreError};
use tempfile::TempDir;

fn dir() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn open(path: &Path) -> Result<Embedded, KvError> {
    Embedded::open(path, &Options { reserve: 0, ..Options::default() })
}

async fn set(kv: &dyn Kv, key: &'static str, value: &'static str) -> Result<(), KvError> {
    let mut tx = kv.begin();
    tx.mutate(Mutation::Set(key.into(), value.into()));
    tx.commit().await.map(drop)
}

#[tokio::test]
async fn data_and_versions_go_on_after_a_reopen() {
    let dir = dir();
    let path = dir.path().join("deep/er");
    let mut last = None;
    for turn in 0..4 {
        let kv = open(&path).unwrap();
        let tx = kv.begin();
        let value = tx.get(b"k", Read::Snapshot).await.unwrap();
        assert_eq!(value.is_some(), turn > 0, "what was written before the reopen");
        assert_eq!(tx.read_version().await.unwrap(), last.unwrap_or_default());
        let mut tx = kv.begin();
        tx.mutate(Mutation::Set("k".into(), "v".into()));
        last = Some(tx.commit().await.unwrap());
        // Commits still on their way when the engine is dropped are finished first.
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                tokio::spawn({
                    let kv = kv.clone();
                    async move { set(&kv, "n", "x").await }
                })
            })
            .collect();
        drop(kv);
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        last = last.map(|v| storage::kv::Version(v.0 + 10));
    }
}

#[tokio::test]
async fn a_clean_close_leaves_nothing_to_read_back() {
    let dir = dir();
    let kv = open(dir.path()).unwrap();
    set(&kv, "k", "v").await.unwrap();
    let version = kv.begin().read_version().await.unwrap();
    drop(kv);
    let journals: Vec<_> = fs::read_dir(dir.path().join("data"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "jnl"))
        .collect();
    assert!(!journals.is_empty());
    for journal in journals {
        assert_eq!(fs::metadata(&journal).unwrap().len(), 0, "{}", journal.display());
    }
    let kv = open(dir.path()).unwrap();
    assert_eq!(kv.get(b"k").await.unwrap().as_deref(), Some(b"v".as_slice()));
    assert_eq!(kv.begin().read_version().await.unwrap(), version);
}

#[tokio::test]
async fn a_damaged_journal_is_refused_and_left_alone() {
    let dir = dir();
    let kv = open(dir.path()).unwrap();
    for _ in 0..20 {
        set(&kv, "k", "some value that is long enough to be found again").await.unwrap();
    }
    // What a process that was killed leaves.
    let copy = dir.path().join("copy");
    let journal = copy.join("data/0.jnl");
    copy_tree(&dir.path().join("data"), &copy.join("data")).unwrap();
    drop(kv);
    let mut bytes = fs::read(&journal).unwrap();
    bytes[100] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    let refused = open(&copy).unwrap_err();
    assert!(
        matches!(&refused, KvError::Corrupt(m) if m.contains("0.jnl is damaged") && m.contains("backup")),
        "{refused}"
    );
    assert_eq!(fs::read(&journal).unwrap(), bytes, "nothing is overwritten");
    bytes[100] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    let kv = open(&copy).unwrap();
    assert!(kv.get(b"k").await.unwrap().is_some());
    assert_eq!(kv.begin().read_version().await.unwrap().0, 20);
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let dir = dir();
    let first = open(dir.path()).unwrap();
    let refused = open(dir.path()).unwrap_err();
    assert_eq!(refused, KvError::Locked(dir.path().display().to_string()));
    assert!(refused.to_string().ends_with("is in use by another process"), "{refused}");
    // A transaction that is still open keeps the engine open.
    let tx = first.begin();
    drop(first);
    assert!(matches!(open(dir.path()), Err(KvError::Locked(_))));
    drop(tx);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn other_directories_are_refused_and_left_alone() {
    let dir = dir();
    let path = dir.path().join("d");
    drop(open(&path).unwrap());
    fs::write(path.join("data/FORMAT"), "ironkeel storage 3\n").unwrap();
    let wanted = format!("{} holds storage format 3, and this version of ironkeel reads format 2", path.display());
    assert_eq!(open(&path).unwrap_err().to_string(), wanted);
    fs::remove_file(path.join("data/FORMAT")).unwrap();
    assert!(matches!(open(&path), Err(KvError::Corrupt(_))));

    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("precious"), "keep").unwrap();
    let refused = open(&foreign).unwrap_err().to_string();
    assert!(refused.contains("precious") && refused.contains("empty directory"), "{refused}");
    assert_eq!(fs::read(foreign.join("precious")).unwrap(), b"keep");

    // A creation that was interrupted is begun again.
    let half = dir.path().join("half");
    fs::create_dir_all(half.join("data.new/keyspaces")).unwrap();
    fs::write(half.join("data.new/0.jnl"), "torn").unwrap();
    let kv = open(&half).unwrap();
    set(&kv, "k", "v").await.unwrap();
    assert!(!half.join("data.new").exists());

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(open(&file), Err(KvError::Unavailable(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_still_reads_and_cleans_up() {
    let dir = dir();
    let free = Arc::new(AtomicU64::new(1000));
    let asked = free.clone();
    let options = Options {
        reserve: 100,
        free_space: Some(Arc::new(move || Ok(asked.load(Ordering::Relaxed)))),
        ..Options::default()
    };
    let kv = Arc::new(Embedded::open(dir.path(), &options).unwrap());
    let store = Store::open(kv, Arc::new(ManualClock::new(1))).await.unwrap();
    let key = |name: &str| Key::new("pods", "n", name);
    let put = |name: &str| Commit {
        ops: vec![Op::Put { key: key(name), bytes: "x".into(), expect: Expect::Any, expires: None }],
        ..Commit::default()
    };
    store.commit(put("a")).await.unwrap();
    let delete = Commit {
        ops: vec![Op::Delete { key: key("a"), last: "x".into(), expect: Expect::Present }],
        ..Commit::default()
    };
    free.store(99, Ordering::Relaxed);
    let refused = store.commit(put("b")).await.unwrap_err();
    assert_eq!(refused, StoreError::Full("the disk of the data directory is full; free some space".to_owned()));
    assert!(store.get(&key("a")).await.unwrap().is_some(), "reads go on");
    store.commit(delete.clone()).await.unwrap();
    store.compact("pods", Retention { max_entries: Some(0), ..Retention::default() }).await.unwrap();
    free.store(49, Ordering::Relaxed);
    assert!(matches!(store.commit(delete).await, Err(StoreError::Expectation { .. })), "an expectation is only a read");
    assert!(matches!(store.commit(put("b")).await, Err(StoreError::Full(_))));
    free.store(100, Ordering::Relaxed);
    store.commit(put("b")).await.unwrap();
}

#[tokio::test]
async fn what_is_discarded_frees_the_disk_at_once_and_stays_away() {
    const ROWS: u32 = 6000;
    let size = |dir: &Path| -> u64 {
        let mut dirs = vec![dir.to_owned()];
        let mut sum = 0;
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                match entry.metadata() {
                    Ok(data) if data.is_dir() => dirs.push(entry.path()),
                    // Journals are as long as they will ever be.
                    Ok(data) if entry.path().extension().is_none_or(|e| e != "jnl") => sum += data.len(),
                    _ => {}
                }
            }
        }
        sum
    };
    let dir = dir();
    let options = Options { reserve: 0, memtable: 1 << 20, ..Options::default() };
    let kv = Embedded::open(dir.path(), &options).unwrap();
    let row = |i: u32| Bytes::from([b"L".as_slice(), &i.to_be_bytes()].concat());
    // What does not shrink when it is written.
    let noise = |i: u32| {
        Bytes::from_iter((0..1024u32).map(|n| (n.wrapping_mul(i | 1).wrapping_mul(2_654_435_769) >> 13) as u8))
    };
    for first in (0..ROWS).step_by(100) {
        let mut tx = kv.begin();
        (first..first + 100).for_each(|i| tx.mutate(Mutation::Set(row(i), noise(i))));
        tx.commit().await.unwrap();
    }
    drop(kv);
    let kv = Embedded::open(dir.path(), &options).unwrap();
    let before = size(dir.path());
    assert!(before > u64::from(ROWS) * 512, "{before} bytes are in tables");
    kv.discard(row(0), row(ROWS - 10)).await.unwrap();
    let rows =
        async |kv: &Embedded| kv.begin().get_range(&RangeRead::new("A", "Z"), Read::Snapshot).await.unwrap().rows.len();
    assert_eq!(rows(&kv).await, 10);
    // The published picture holds files until the next commit.
    set(&kv, "K", "v").await.unwrap();
    drop(kv);
    let kv = Embedded::open(dir.path(), &options).unwrap();
    assert_eq!(rows(&kv).await, 11, "what was discarded does not come back");
    let after = size(dir.path());
    assert!(after < before / 4, "{after} of {before} bytes are left");
}

#[test]
fn the_table_opens_engines_by_name() {
    let dir = dir();
    let path = format!("embedded:{}", dir.path().display());
    assert!(format!("{:?}", engines::open(&path).unwrap()).starts_with("Embedded"));
    assert!(format!("{:?}", engines::open("sim:7").unwrap()).starts_with("Sim"));
    for wrong in ["", "embedded", "embedded:", "etcd:/x", "sim:x"] {
        engines::open(wrong).expect_err(wrong);
    }
    let told = engines::open("etcd:/x").unwrap_err().to_string();
    let more = if cfg!(feature = "foundationdb") { "foundationdb:CLUSTER-FILE, " } else { "" };
    assert_eq!(told, format!("\"etcd:/x\" names no storage; known are embedded:PATH, {more}sim:SEED"));
}

/// Money moved between accounts by many threads: none is made or lost, and no reader ever sees a sum that is off.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_are_serialized() {
    const ACCOUNTS: u64 = 6;
    const EACH: u64 = 100;
    let dir = dir();
    let kv = open(dir.path()).unwrap();
    let account = |i: u64| vec![b'a', u8::try_from(i % ACCOUNTS).unwrap()];
    let amount = |v: Option<Bytes>| u64::from_be_bytes(v.unwrap().as_ref().try_into().unwrap());
    let mut tx = kv.begin();
    for i in 0..ACCOUNTS {
        tx.mutate(Mutation::Set(account(i).into(), EACH.to_be_bytes().to_vec().into()));
    }
    tx.commit().await.unwrap();
    let movers: Vec<_> = (0..8u64)
        .map(|task| {
            let kv = kv.clone();
            tokio::spawn(async move {
                let (mut moved, mut turn) = (0, task);
                while moved < 40 {
                    turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (from, to) = (turn >> 33, (turn >> 33) + 1 + (turn >> 60) % (ACCOUNTS - 1));
                    let mut tx = kv.begin();
                    let a = amount(tx.get(&account(from), Read::Serializable).await.unwrap());
                    let b = amount(tx.get(&account(to), Read::Serializable).await.unwrap());
                    tx.mutate(Mutation::Set(account(from).into(), a.wrapping_sub(1).to_be_bytes().to_vec().into()));
                    tx.mutate(Mutation::Set(account(to).into(), (b.wrapping_add(1)).to_be_bytes().to_vec().into()));
                    match tx.commit().await {
                        Ok(_) => moved += 1,
                        Err(e) => assert_eq!(e, KvError::Conflict),
                    }
                }
            })
        })
        .collect();
    while !movers.iter().all(tokio::task::JoinHandle::is_finished) {
        let rows = kv.begin().get_range(&RangeRead::new("a", "b"), Read::Snapshot).await.unwrap().rows;
        let sum = rows.into_iter().fold(0u64, |sum, (_, v)| sum.wrapping_add(amount(Some(v))));
        assert_eq!(sum, ACCOUNTS * EACH);
        tokio::task::yield_now().await;
    }
    for mover in movers {
        mover.await.unwrap();
    }
    assert_eq!(kv.begin().read_version().await.unwrap().0, 1 + 8 * 40, "every commit counts once");
}
