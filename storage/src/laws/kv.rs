//! The laws of an engine. Numbers in the text refer to the list in [`crate::kv`].

use bytes::Bytes;
use futures::future::join_all;
use rand::Rng;
use rand::seq::SliceRandom;

use super::Case;
use super::model::pages;
use crate::kv::{
    Kv, KvError, MAX_KEY, MAX_TRANSACTION, MAX_VALUE, Mutation, RangeRead, Read, Transaction, Version, key_after,
};

fn key(text: impl AsRef<str>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref().as_bytes())
}

fn set(k: impl AsRef<str>, v: impl AsRef<str>) -> Mutation {
    Mutation::Set(key(k), key(v))
}

async fn write(kv: &dyn Kv, mutations: Vec<Mutation>) -> Version {
    let mut tx = kv.begin();
    for mutation in mutations {
        tx.mutate(mutation);
    }
    tx.commit().await.expect("a blind write commits")
}

async fn get(tx: &dyn Transaction, k: &str, read: Read) -> Option<Bytes> {
    tx.get(k.as_bytes(), read).await.expect("a read succeeds")
}

/// The rows of a range, page after page as the engine gives them, and whether there may be more beyond the limit.
async fn keys(tx: &dyn Transaction, range: &RangeRead) -> (Vec<String>, bool) {
    let mut range = range.clone();
    let mut found = Vec::new();
    loop {
        let page = tx.get_range(&range, Read::Snapshot).await.expect("a range read succeeds");
        found.extend(page.rows.iter().map(|(k, _)| String::from_utf8_lossy(k).into_owned()));
        let Some((last, _)) = page.rows.last().filter(|_| page.more) else { return (found, page.more) };
        if range.reverse {
            range.end = last.clone();
        } else {
            range.begin = key_after(last);
        }
        if range.limit != 0 {
            assert!(page.rows.len() <= range.limit, "no more than the limit");
            range.limit -= page.rows.len();
            if range.limit == 0 {
                return (found, true);
            }
        }
    }
}

/// Rows come in byte order, forwards and backwards, within the bounds and up to the limit.
pub async fn ranges_are_ordered_both_ways(case: Case) {
    let mut names: Vec<String> = (0..50).map(|i| format!("r{i:02}")).collect();
    names.extend(["r".into(), "r1\0".into(), "s".into(), "q\u{7f}".into()]);
    names.shuffle(&mut case.rng());
    write(case.kv.as_ref(), names.iter().map(|n| set(n, n)).collect()).await;
    names.sort();
    let tx = case.kv.begin();
    for (begin, end) in [("r", "s"), ("r10", "r20"), ("a", "z"), ("r1", "r1\0"), ("x", "x"), ("r49", "r490")] {
        for limit in [0, 1, 3, 1000] {
            for reverse in [false, true] {
                let mut want: Vec<String> =
                    names.iter().filter(|n| begin <= n.as_str() && n.as_str() < end).cloned().collect();
                if reverse {
                    want.reverse();
                }
                let all = want.len();
                want.truncate(if limit == 0 { all } else { limit });
                let range = RangeRead { begin: key(begin), end: key(end), limit, reverse };
                let (found, more) = keys(tx.as_ref(), &range).await;
                assert_eq!(found, want, "{range:?}");
                // Where the limit ends, an engine need not know whether anything follows.
                assert!(more || want.len() == all, "more of {range:?}");
                assert!(!more || want.len() == limit, "no more of {range:?}");
            }
        }
    }
    let backwards = RangeRead::new(key("z"), key("a"));
    assert!(matches!(tx.get_range(&backwards, Read::Snapshot).await, Err(KvError::Misuse(_))));
}

/// Law 2: a transaction sees its own writes, in gets and ranges, and nobody else does before the commit.
pub async fn reads_see_own_writes(case: Case) {
    write(case.kv.as_ref(), vec![set("a", "1"), set("b", "1"), set("c", "1"), set("e", "1")]).await;
    let mut tx = case.kv.begin();
    tx.mutate(set("b", "2"));
    tx.mutate(Mutation::Clear(key("a")));
    tx.mutate(set("d", "2"));
    tx.mutate(Mutation::ClearRange(key("c"), key("d")));
    tx.mutate(Mutation::Add(key("n"), Bytes::from_static(&[5])));
    tx.mutate(Mutation::Add(key("n"), Bytes::from_static(&[6])));
    assert_eq!(get(tx.as_ref(), "n", Read::Serializable).await.as_deref(), Some([11].as_slice()));
    assert_eq!(get(tx.as_ref(), "a", Read::Serializable).await, None);
    assert_eq!(get(tx.as_ref(), "b", Read::Serializable).await, Some(key("2")));
    let all = RangeRead::new(key("a"), key("z"));
    assert_eq!(keys(tx.as_ref(), &all).await.0, ["b", "d", "e", "n"]);
    assert_eq!(keys(tx.as_ref(), &all.clone().reverse().limit(2)).await, (vec!["n".into(), "e".into()], true));
    assert_eq!(keys(case.kv.begin().as_ref(), &all).await.0, ["a", "b", "c", "e"]);
    tx.commit().await.expect("nobody interferes");
    assert_eq!(keys(case.kv.begin().as_ref(), &all).await.0, ["b", "d", "e", "n"]);
    drop(case.kv.begin());
    let mut dropped = case.kv.begin();
    dropped.mutate(set("never", "1"));
    drop(dropped);
    assert_eq!(get(case.kv.begin().as_ref(), "never", Read::Snapshot).await, None);
}

/// Laws 1 and 2: a snapshot stays as it is; a later transaction sees what was acknowledged before.
pub async fn snapshots_do_not_move(case: Case) {
    let kv = case.kv.as_ref();
    let mut last = write(kv, vec![set("k", "0"), set("gone", "0")]).await;
    for i in 1..20 {
        let old = kv.begin();
        let seen = old.read_version().await.expect("a read version");
        assert!(seen >= last, "a read version covers every acknowledged commit");
        let version = write(kv, vec![set("k", i.to_string()), Mutation::Clear(key("gone")), set("new", "1")]).await;
        assert!(version > last && version > seen, "versions grow");
        assert_eq!(get(old.as_ref(), "k", Read::Serializable).await, Some(key((i - 1).to_string())));
        let range = RangeRead::new(key("a"), key("z"));
        assert_eq!(keys(old.as_ref(), &range).await.0.contains(&"gone".to_owned()), i == 1);
        assert_eq!(old.commit().await, Ok(seen), "a read-only commit succeeds at its read version");
        assert_eq!(kv.get(b"k").await.expect("a read succeeds"), Some(key(i.to_string())));
        last = version;
    }
}

/// Rows that are discarded are gone for later reads, others stay, and a snapshot of before shows what it showed.
pub async fn what_is_discarded_goes(case: Case) {
    let kv = case.kv.as_ref();
    for first in (0..1200).step_by(400) {
        write(kv, (first..first + 400).map(|i| set(format!("L{i:04}"), "x")).collect()).await;
    }
    write(kv, vec![set("K", "before"), set("M", "after")]).await;
    let old = kv.begin();
    assert_eq!(get(old.as_ref(), "L0007", Read::Snapshot).await, Some(key("x")));
    for _ in 0..2 {
        kv.discard(key("L0000"), key("L1190")).await.expect("rows are discarded");
        let left = keys(kv.begin().as_ref(), &RangeRead::new(key("A"), key("Z"))).await.0;
        let wanted: Vec<String> = (1190..1200).map(|i| format!("L{i:04}")).collect();
        assert_eq!(left[..], [&["K".to_owned()], wanted.as_slice(), &["M".to_owned()]].concat());
    }
    assert_eq!(keys(old.as_ref(), &RangeRead::new(key("L"), key("M"))).await.0.len(), 1200, "snapshots do not move");
    write(kv, vec![set("L0007", "again")]).await;
    assert_eq!(kv.get(b"L0007").await.expect("a read succeeds"), Some(key("again")));
}

/// Law 3: two transactions that each read what the other writes do not both commit.
pub async fn write_skew_is_refused(case: Case) {
    let (mut a, mut b) = (case.kv.begin(), case.kv.begin());
    get(a.as_ref(), "x", Read::Serializable).await;
    get(b.as_ref(), "y", Read::Serializable).await;
    a.mutate(set("y", "a"));
    b.mutate(set("x", "b"));
    a.commit().await.expect("the first one commits");
    assert_eq!(b.commit().await, Err(KvError::Conflict));
    assert_eq!(case.kv.get(b"x").await, Ok(None), "a refused commit leaves nothing");
}

/// Law 3 for ranges: a row that appears or vanishes in what was read refuses the commit; one beyond the limit does not.
pub async fn phantoms_are_refused(case: Case) {
    let rows = ["a1", "a3", "a5", "a7"];
    let cases: [(RangeRead, Mutation, bool); 9] = [
        (RangeRead::new("a", "b"), set("a4", ""), true),
        (RangeRead::new("a", "b"), Mutation::Clear(key("a3")), true),
        (RangeRead::new("a", "b"), Mutation::ClearRange(key("A"), key("a1\0")), true),
        (RangeRead::new("a", "b"), Mutation::ClearRange(key("b"), key("c")), false),
        (RangeRead::new("a", "b"), set("b", ""), false),
        (RangeRead::new("a", "b").limit(2), set("a2", ""), true),
        (RangeRead::new("a", "b").limit(2), set("a4", ""), false),
        (RangeRead::new("a", "b").limit(2).reverse(), set("a6", ""), true),
        (RangeRead::new("a", "b").limit(2).reverse(), set("a4", ""), false),
    ];
    for (range, mutation, conflicts) in cases {
        write(case.kv.as_ref(), rows.iter().map(|r| set(r, "")).collect()).await;
        for extra in ["a2", "a4", "a6", "b"] {
            write(case.kv.as_ref(), vec![Mutation::Clear(key(extra))]).await;
        }
        let mut tx = case.kv.begin();
        tx.get_range(&range, Read::Serializable).await.expect("a range read succeeds");
        write(case.kv.as_ref(), vec![mutation.clone()]).await;
        tx.mutate(set("out", "1"));
        assert_eq!(tx.commit().await.is_err(), conflicts, "{range:?} against {mutation:?}");
    }
}

/// Law 4.
pub async fn snapshot_reads_never_conflict(case: Case) {
    let mut tx = case.kv.begin();
    get(tx.as_ref(), "x", Read::Snapshot).await;
    keys(tx.as_ref(), &RangeRead::new(key("a"), key("z"))).await;
    write(case.kv.as_ref(), vec![set("x", "1")]).await;
    assert_eq!(get(tx.as_ref(), "x", Read::Snapshot).await, None, "still the old picture");
    tx.mutate(set("y", "1"));
    tx.commit().await.expect("a snapshot read is no conflict");
}

/// Law 8.
pub async fn blind_writes_never_conflict(case: Case) {
    let writers = (0..20).map(|i| {
        let kv = case.kv.clone();
        async move {
            let mut tx = kv.begin();
            tx.mutate(set("k", i.to_string()));
            tx.mutate(Mutation::Add(key("n"), Bytes::from_static(&[1, 0])));
            tx.commit().await
        }
    });
    let mut versions: Vec<Version> =
        join_all(writers).await.into_iter().map(|v| v.expect("blind writes commit")).collect();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), 20, "no two commits share a version");
    assert_eq!(case.kv.get(b"n").await.expect("a read succeeds").as_deref(), Some([20, 0].as_slice()));
}

/// Law 1 as stamps show it: in keys and values they are the commit's version, so stamped keys lie in commit order.
pub async fn stamps_are_versions(case: Case) {
    let mut versions = Vec::new();
    for i in 0..10u8 {
        let mut tx = case.kv.begin();
        let mut row = b"log/".to_vec();
        row.extend([0; 10]);
        row.push(i);
        tx.mutate(Mutation::StampedKey { key: row.into(), offset: 4, value: key("v") });
        tx.mutate(Mutation::StampedValue { key: key("latest"), value: Bytes::from(vec![7; 12]), offset: 1 });
        let seen = tx.get(b"latest", Read::Snapshot).await;
        assert!(matches!(seen, Err(KvError::Misuse(_))), "a stamp is not known before the commit");
        versions.push(tx.commit().await.expect("blind writes commit"));
    }
    let log = RangeRead::new("log/", "log0");
    let rows = pages(case.kv.begin().as_ref(), &log, Read::Snapshot).await.expect("a range").rows;
    let stamps: Vec<Version> =
        rows.iter().map(|(k, _)| Version::from_stamp(k.get(4..14).expect("ten bytes")).expect("a stamp")).collect();
    assert_eq!(stamps, versions);
    let latest = case.kv.get(b"latest").await.expect("a read succeeds").expect("written");
    let (last, stamp) = (versions.last().copied().expect("ten"), latest.get(1..11).expect("ten bytes"));
    assert_eq!((latest.first(), Version::from_stamp(stamp), latest.get(11)), (Some(&7), Some(last), Some(&7)));
    for (stamped, offset) in [("short", 0usize), ("0123456789", 1), ("0123456789", usize::MAX)] {
        let mut tx = case.kv.begin();
        tx.mutate(Mutation::StampedKey { key: key(stamped), offset, value: Bytes::new() });
        assert!(matches!(tx.commit().await, Err(KvError::Misuse(_))), "{stamped} at {offset}");
    }
}

/// Law 8 for arithmetic: nothing is lost, whatever the order.
pub async fn atomics_lose_nothing(case: Case) {
    let mut rng = case.rng();
    let numbers: Vec<u64> = (0..30).map(|_| rng.random_range(0..1 << 40)).collect();
    let writers = numbers.iter().map(|n| {
        let operand = Bytes::copy_from_slice(&n.to_le_bytes());
        write(case.kv.as_ref(), vec![Mutation::Add(key("sum"), operand.clone()), Mutation::Max(key("max"), operand)])
    });
    join_all(writers).await;
    for (name, want) in [("sum", numbers.iter().sum::<u64>()), ("max", numbers.iter().max().copied().unwrap_or(0))] {
        let found = case.kv.get(name.as_bytes()).await.expect("a read succeeds").expect("written");
        assert_eq!(found.as_ref(), want.to_le_bytes(), "{name}");
    }
}

/// Arithmetic is little-endian and unsigned, in the operand's length; in the transaction and after it.
pub async fn atomics_follow_the_rules(case: Case) {
    type Value = &'static [u8];
    type Rule = (fn(Bytes, Bytes) -> Mutation, Option<Value>, Value, Value);
    let cases: [Rule; 13] = [
        (Mutation::Add, None, &[5], &[5]),
        (Mutation::Add, Some(&[]), &[7], &[7]),
        (Mutation::Add, Some(&[250]), &[10], &[4]),
        (Mutation::Add, Some(&[255, 0]), &[1, 0], &[0, 1]),
        (Mutation::Add, Some(&[255, 255]), &[1, 0], &[0, 0]),
        (Mutation::Add, Some(&[1, 2, 3]), &[1], &[2]),
        (Mutation::Add, Some(&[255]), &[1, 0, 0], &[0, 1, 0]),
        (Mutation::Max, None, &[5], &[5]),
        (Mutation::Max, Some(&[3]), &[5], &[5]),
        (Mutation::Max, Some(&[5]), &[3], &[5]),
        (Mutation::Max, Some(&[0, 1]), &[255, 0], &[0, 1]),
        (Mutation::Max, Some(&[1, 2]), &[9], &[9]),
        (Mutation::Max, Some(&[200]), &[1, 0], &[200, 0]),
    ];
    for (atomic, initial, operand, want) in cases {
        let first = match initial {
            Some(value) => Mutation::Set(key("n"), Bytes::from_static(value)),
            None => Mutation::Clear(key("n")),
        };
        let mut tx = case.kv.begin();
        tx.mutate(first.clone());
        tx.mutate(atomic(key("n"), Bytes::from_static(operand)));
        let seen = get(tx.as_ref(), "n", Read::Snapshot).await;
        assert_eq!(seen.as_deref(), Some(want), "{operand:?} upon {initial:?} in the transaction");
        tx.commit().await.expect("a blind write commits");
        assert_eq!(
            case.kv.get(b"n").await,
            Ok(Some(Bytes::from_static(want))),
            "{operand:?} upon {initial:?}, one commit"
        );
        write(case.kv.as_ref(), vec![first]).await;
        write(case.kv.as_ref(), vec![atomic(key("n"), Bytes::from_static(operand))]).await;
        assert_eq!(
            case.kv.get(b"n").await,
            Ok(Some(Bytes::from_static(want))),
            "{operand:?} upon {initial:?}, two commits"
        );
    }
}

/// Conflict ranges count as reads and writes.
pub async fn conflict_ranges_count(case: Case) {
    let mut tx = case.kv.begin();
    tx.add_read_conflict(key("m"), key("p"));
    write(case.kv.as_ref(), vec![set("n", "1")]).await;
    tx.mutate(set("out", "1"));
    assert_eq!(tx.commit().await, Err(KvError::Conflict), "a read conflict range is a read");

    let mut reader = case.kv.begin();
    get(reader.as_ref(), "q", Read::Serializable).await;
    let mut tx = case.kv.begin();
    tx.add_write_conflict(key("q"), key_after(b"q"));
    tx.commit().await.expect("nobody interferes");
    reader.mutate(set("out", "1"));
    assert_eq!(reader.commit().await, Err(KvError::Conflict), "a write conflict range is a write");
    assert_eq!(case.kv.get(b"q").await, Ok(None), "and writes nothing");

    let mut tx = case.kv.begin();
    tx.add_read_conflict(key("m"), key("p"));
    write(case.kv.as_ref(), vec![set("p", "1"), set("l", "1")]).await;
    tx.mutate(set("out", "2"));
    tx.commit().await.expect("the end is not part of a range");
}

/// What is over a limit or not allowed is refused whole, and what just fits is taken.
pub async fn limits_hold(case: Case) {
    let long = |n| Bytes::from(vec![b'k'; n]);
    let refused = [
        vec![Mutation::Set(long(MAX_KEY + 1), Bytes::new())],
        vec![set("ok", "1"), Mutation::Set(key("v"), long(MAX_VALUE + 1))],
        (0..=MAX_TRANSACTION / MAX_VALUE).map(|i| Mutation::Set(key(i.to_string()), long(MAX_VALUE))).collect(),
        vec![Mutation::Set(Bytes::from_static(b"\xff/version"), Bytes::new())],
        vec![Mutation::Set(Bytes::new(), Bytes::new())],
        vec![Mutation::ClearRange(key("b"), key("a"))],
        vec![Mutation::ClearRange(key("b"), Bytes::from_static(b"\xff\xff"))],
    ];
    for mutations in refused {
        let mut tx = case.kv.begin();
        for mutation in mutations {
            tx.mutate(mutation);
        }
        let result = tx.commit().await;
        assert!(matches!(result, Err(KvError::TooLarge { .. } | KvError::Misuse(_))), "{result:?}");
    }
    assert_eq!(case.kv.get(b"ok").await, Ok(None), "a refused commit leaves nothing");
    write(case.kv.as_ref(), vec![Mutation::Set(long(MAX_KEY), long(MAX_VALUE))]).await;
    assert_eq!(case.kv.get(&long(MAX_KEY)).await.map(|v| v.map(|v| v.len())), Ok(Some(MAX_VALUE)));
    assert_eq!(case.kv.get(b"").await, Ok(None));
    assert_eq!(case.kv.get(b"\xff/version").await, Ok(None), "what the engine keeps for itself is not seen");
}

/// Law 9.
#[allow(clippy::async_yields_async, reason = "a watch is made in a transaction and awaited after it")]
pub async fn watches_fire(case: Case) {
    write(case.kv.as_ref(), vec![set("k", "1")]).await;
    let watch = async |k: &str| {
        let mut tx = case.kv.begin();
        get(tx.as_ref(), k, Read::Snapshot).await;
        let watch = tx.watch(k.as_bytes());
        tx.commit().await.expect("a read-only commit succeeds");
        watch
    };
    let (first, second, other) = (watch("k").await, watch("k").await, watch("other").await);
    let write_later = async {
        tokio::task::yield_now().await;
        write(case.kv.as_ref(), vec![set("k", "2")]).await;
    };
    let (a, b, ()) = futures::join!(first, second, write_later);
    assert_eq!((a, b), (Ok(()), Ok(())));
    // A change between the transaction and the wait is not missed.
    let late = watch("k").await;
    write(case.kv.as_ref(), vec![Mutation::Clear(key("k"))]).await;
    assert_eq!(late.await, Ok(()));
    assert_eq!(futures::FutureExt::now_or_never(other), None, "nobody touched the other key");
}

/// Law 9: what counts is the value that the watching transaction saw, its own writes included.
pub async fn watches_compare_with_what_was_seen(case: Case) {
    let kv = case.kv.as_ref();
    write(kv, vec![set("k", "1")]).await;
    let mut tx = kv.begin();
    get(tx.as_ref(), "k", Read::Snapshot).await;
    write(kv, vec![set("k", "2")]).await;
    let late = tx.watch(b"k");
    tx.commit().await.expect("a read-only commit succeeds");
    assert_eq!(late.await, Ok(()), "the value had changed before the watch was made");

    let mut tx = kv.begin();
    tx.mutate(set("k", "3"));
    let own = tx.watch(b"k");
    tx.commit().await.expect("a blind write commits");
    let (own, _) = futures::join!(own, write(kv, vec![set("k", "4")]));
    assert_eq!(own, Ok(()), "another value than the one it wrote");

    // Nobody waits for these, and some are awaited much later.
    let mut watches = Vec::new();
    for _ in 0..50 {
        let mut tx = kv.begin();
        get(tx.as_ref(), "k", Read::Snapshot).await;
        watches.push(tx.watch(b"k"));
        tx.commit().await.expect("a read-only commit succeeds");
    }
    watches.truncate(25);
    write(kv, vec![set("k", "5")]).await;
    for watch in join_all(watches).await {
        assert_eq!(watch, Ok(()));
    }
}

/// Runs `body` until it commits. The transaction also reads and sets `marker`, by which an unknown outcome is found out.
async fn transact<F>(kv: &dyn Kv, marker: &str, body: F)
where
    F: AsyncFn(&mut dyn Transaction) -> Result<(), KvError>,
{
    loop {
        let mut tx = kv.begin();
        let result = async {
            if tx.get(marker.as_bytes(), Read::Serializable).await?.is_some() {
                return Ok(());
            }
            tx.mutate(set(marker, "done"));
            body(tx.as_mut()).await?;
            tx.commit().await.map(drop)
        }
        .await;
        match result {
            Ok(()) => return,
            Err(KvError::Conflict | KvError::TooOld | KvError::Unknown(_) | KvError::Unavailable(_)) => {
                tokio::task::yield_now().await;
            }
            Err(e) => panic!("{marker}: {e}"),
        }
    }
}

async fn settled_get(kv: &dyn Kv, key: &str) -> Option<Bytes> {
    loop {
        if let Ok(value) = kv.begin().get(key.as_bytes(), Read::Snapshot).await {
            return value;
        }
    }
}

/// Laws 3, 5 and 7: concurrent read-modify-writes are all counted, once.
pub async fn increments_are_exact(case: Case) {
    let writers = (0..8).map(|writer| {
        let kv = case.kv.clone();
        async move {
            for i in 0..10 {
                transact(kv.as_ref(), &format!("done/{writer}/{i}"), async |tx| {
                    let n = tx.get(b"n", Read::Serializable).await?;
                    let n: u64 = n.map_or(0, |n| String::from_utf8_lossy(&n).parse().expect("a number"));
                    tx.mutate(set("n", (n + 1).to_string()));
                    Ok(())
                })
                .await;
            }
        }
    });
    join_all(writers).await;
    assert_eq!(settled_get(case.kv.as_ref(), "n").await, Some(key("80")));
}

/// Laws 2, 3 and 5: transactions that reverse three links of a ring never break it, and no reader ever sees it broken.
pub async fn rings_stay_whole(case: Case) {
    const NODES: usize = 12;
    let node = |i: usize| format!("ring/{i:03}");
    let parse = |v: Option<Bytes>| -> usize {
        String::from_utf8_lossy(&v.expect("the ring has no hole")).parse().expect("a node number")
    };
    transact(case.kv.as_ref(), "setup", async |tx| {
        for i in 0..NODES {
            tx.mutate(set(node(i), ((i + 1) % NODES).to_string()));
        }
        Ok(())
    })
    .await;
    let writers = (0..6u64).map(|writer| {
        let case = case.clone();
        async move {
            let mut starts: Vec<usize> = (0..NODES).collect();
            starts.shuffle(&mut Case { seed: case.seed.wrapping_add(writer), ..case.clone() }.rng());
            for (turn, &a) in starts.iter().enumerate() {
                transact(case.kv.as_ref(), &format!("done/{writer}/{turn}"), async |tx| {
                    let b = parse(tx.get(node(a).as_bytes(), Read::Serializable).await?);
                    let c = parse(tx.get(node(b).as_bytes(), Read::Serializable).await?);
                    let d = parse(tx.get(node(c).as_bytes(), Read::Serializable).await?);
                    tx.mutate(set(node(a), c.to_string()));
                    tx.mutate(set(node(c), b.to_string()));
                    tx.mutate(set(node(b), d.to_string()));
                    Ok(())
                })
                .await;
            }
        }
    });
    let reader = async {
        for _ in 0..20 {
            let rows = pages(case.kv.begin().as_ref(), &RangeRead::new("ring/", "ring0"), Read::Snapshot).await;
            let Ok(rows) = rows else { continue };
            let next: Vec<usize> = rows.rows.into_iter().map(|(_, v)| parse(Some(v))).collect();
            let (mut at, mut steps) = (0, 0);
            loop {
                at = *next.get(at).expect("links point into the ring");
                steps += 1;
                if at == 0 || steps > NODES {
                    break;
                }
            }
            assert_eq!(steps, NODES, "{next:?} is one ring");
            tokio::task::yield_now().await;
        }
    };
    futures::join!(join_all(writers), reader);
}

/// Takes steps until commits in flight have landed, if they do.
async fn settle(kv: &dyn Kv) {
    for _ in 0..200 {
        let _step = kv.begin().read_version().await;
    }
}

/// Laws 1, 5 and 7: an acknowledged commit is there at its version, one in doubt is there whole or not at all, any other is not.
pub async fn outcomes_are_told_truly(case: Case) {
    let name = |task: u32, turn: u32, side: &str| format!("out/{task}/{turn}/{side}");
    let tasks = (0..6u32).map(|task| {
        let kv = case.kv.clone();
        async move {
            let mut answers = Vec::new();
            for turn in 0..15u32 {
                let mut tx = kv.begin();
                let contended = tx.get(b"contended", Read::Serializable).await;
                tx.mutate(set("contended", format!("{task}/{turn}")));
                for side in ["a", "b"] {
                    let value = Bytes::from_static(&[0; 10]);
                    tx.mutate(Mutation::StampedValue { key: key(name(task, turn, side)), value, offset: 0 });
                }
                let answer = if contended.is_ok() { tx.commit().await } else { contended.map(|_| Version(0)) };
                answers.push((task, turn, answer));
                tokio::task::yield_now().await;
            }
            answers
        }
    });
    let answers = join_all(tasks).await;
    settle(case.kv.as_ref()).await;
    let mut versions = Vec::new();
    for (task, turn, answer) in answers.into_iter().flatten() {
        let a = settled_get(case.kv.as_ref(), &name(task, turn, "a")).await;
        let b = settled_get(case.kv.as_ref(), &name(task, turn, "b")).await;
        assert_eq!(a, b, "a commit is never half there");
        let there = a.map(|stamp| Version::from_stamp(&stamp).expect("a stamp"));
        match answer {
            Ok(version) => assert_eq!(there, Some(version), "{task}/{turn} was acknowledged"),
            Err(KvError::Unknown(_)) => {}
            Err(e) => assert_eq!(there, None, "{task}/{turn} was refused: {e}"),
        }
        versions.extend(there);
    }
    let all = versions.len();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), all, "no two commits share a version");
}

/// Law 7: a commit in doubt that conflicts with a later, acknowledged one never lands after it.
pub async fn a_later_commit_ends_the_doubt(case: Case) {
    let kv = case.kv.as_ref();
    let attempt = async |value: String| {
        let mut tx = kv.begin();
        tx.get(b"k", Read::Serializable).await?;
        tx.mutate(set("k", value));
        tx.commit().await
    };
    for round in 0..60 {
        if !matches!(attempt(format!("{round}/in doubt")).await, Err(KvError::Unknown(_))) {
            continue;
        }
        let mut tries = 0;
        let last = loop {
            let value = format!("{round}/{tries}");
            if attempt(value.clone()).await.is_ok() {
                break value;
            }
            tries += 1;
            tokio::task::yield_now().await;
        };
        for _ in 0..40 {
            assert_eq!(settled_get(kv, "k").await, Some(key(&last)), "what was in doubt has no say any more");
        }
    }
}
