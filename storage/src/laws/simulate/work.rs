//! What clients of a simulated store do: writers that change, read and tidy up by chance, and watchers that list and follow.
//!
//! They record and never judge. What they remember, they use: most updates and deletions expect the revision last seen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::sync::mpsc;

use super::history::{Client, Request};
use crate::store::{
    Check, Claim, Commit, Event, EventKind, Expect, Key, Op, Page, Retention, Revision, Scanned, Store, StoreError,
};

/// The resources that clients use.
pub(super) const RESOURCES: [&str; 2] = ["pods", "services"];
const NAMESPACES: [&str; 2] = ["a", "b"];
/// The pool that clients take items of.
const POOL: &str = "ips";
/// The namespace of the object that ends a watch.
pub(super) const END: &str = "end";

/// What writers do, in shares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    pub(super) write: u32,
    pub(super) group: u32,
    pub(super) claim: u32,
    pub(super) read: u32,
    pub(super) past: u32,
    pub(super) compact: u32,
    pub(super) expire: u32,
    pub(super) rest: u32,
}

impl Shares {
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        let mut share = |most: u32| if rng.random_bool(0.7) { rng.random_range(1..=most) } else { 0 };
        let (group, claim, past, compact) = (share(6), share(4), share(4), share(4));
        let (expire, rest, read) = (share(2), share(4), share(6));
        Self { write: 8, group, claim, read, past, compact, expire, rest }
    }

    /// No compaction, so that the log tells the whole truth at the end.
    pub(super) fn without_compaction(self) -> Self {
        Self { compact: 0, ..self }
    }
}

/// A writer's turns, which go on where they were when its process dies.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) rng: StdRng,
    pub(super) keys: u32,
    pub(super) shares: Shares,
    /// Names the next commit.
    pub(super) serial: Rc<Cell<u32>>,
    pub(super) number: usize,
    pub(super) seen: BTreeMap<Key, Revision>,
    pub(super) highest: Revision,
}

impl Writer {
    fn key(&mut self) -> Key {
        let resource = RESOURCES[self.rng.random_range(0..RESOURCES.len())];
        let namespace = NAMESPACES[self.rng.random_range(0..NAMESPACES.len())];
        Key::new(resource, namespace, &format!("k{}", self.rng.random_range(0..self.keys)))
    }

    fn expect(&mut self, key: &Key) -> Expect {
        match (self.rng.random_range(0..10), self.seen.get(key)) {
            (0..=5, Some(revision)) => Expect::At(*revision),
            (0..=5, None) => Expect::Absent,
            (6, _) => Expect::Absent,
            (7, _) => Expect::Present,
            _ => Expect::Any,
        }
    }

    fn op(&mut self, key: Key, who: &str) -> Op {
        let expect = self.expect(&key);
        let large = self.rng.random_ratio(1, 100);
        let rest = if large { " ".repeat(self.rng.random_range(60_000..200_000)) } else { String::new() };
        let bytes = Bytes::from(format!("{who}:{}/{}{rest}", key.namespace, key.name));
        if expect != Expect::Absent && self.rng.random_range(0..4) == 0 {
            if self.rng.random_ratio(1, 4) {
                return Op::Discard { key, expect };
            }
            return Op::Delete { key, last: bytes, expect };
        }
        let now = self.client.clock.unix_seconds();
        let expires = self.rng.random_ratio(1, 5).then(|| now + self.rng.random_range(0..3));
        Op::Put { key, bytes, expect, expires }
    }

    fn who(&self) -> String {
        self.serial.set(self.serial.get() + 1);
        format!("w{}.{}", self.number, self.serial.get())
    }

    async fn commit(&mut self, commit: Commit) {
        let ops = commit.ops.clone();
        match self.client.call(Request::Commit(commit.clone()), self.client.store.commit(commit)).await {
            Ok(revision) => {
                self.highest = self.highest.max(revision);
                for op in ops {
                    match op {
                        Op::Put { key, .. } => self.seen.insert(key, revision),
                        Op::Delete { key, .. } | Op::Discard { key, .. } => self.seen.remove(&key),
                    };
                }
            }
            Err(StoreError::Expectation { key, found }) => match found {
                Some(found) => drop(self.seen.insert(key, found.revision)),
                None => drop(self.seen.remove(&key)),
            },
            Err(_) => {}
        }
    }

    /// One turn.
    pub(super) async fn turn(&mut self) {
        let s = self.shares;
        let shares = [s.write, s.group, s.claim, s.read, s.past, s.compact, s.expire, s.rest];
        let mut pick = self.rng.random_range(0..shares.iter().sum());
        let what = shares.iter().position(|share| {
            let hit = pick < *share;
            pick = pick.saturating_sub(*share);
            hit
        });
        match what {
            Some(1) => self.group().await,
            Some(2) => self.claim().await,
            Some(3) => self.read().await,
            Some(4) => self.past().await,
            Some(5) => self.compact().await,
            Some(6) => drop(self.client.call(Request::Expire, self.client.store.expire()).await),
            Some(7) => tokio::time::sleep(Duration::from_millis(self.rng.random_range(1..1500))).await,
            _ => {
                let (key, who) = (self.key(), self.who());
                let ops = vec![self.op(key, &who)];
                self.commit(Commit { who: who.into(), ops, ..Commit::default() }).await;
            }
        }
    }

    /// Several keys at once, and a key that is only looked at.
    async fn group(&mut self) {
        let who = self.who();
        let mut keys: Vec<Key> = (0..self.rng.random_range(2..=4)).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        let checked = if keys.len() > 1 && self.rng.random_bool(0.5) { keys.pop() } else { None };
        let checks = checked.into_iter().map(|key| Check { expect: self.expect(&key), key }).collect();
        let ops = keys.into_iter().map(|key| self.op(key, &who)).collect();
        self.commit(Commit { who: who.into(), ops, checks, ..Commit::default() }).await;
    }

    /// Takes or gives back an item, always with a write of its owner, by which the commit shows in the log.
    async fn claim(&mut self) {
        let who = self.who();
        let owner = Key::new("services", "a", &format!("k{}", self.rng.random_range(0..self.keys)));
        let item = format!("10.0.0.{}", self.rng.random_range(0..3));
        let (pool, item) = (POOL.into(), item.as_str().into());
        let claim = if self.rng.random_range(0..3) == 0 {
            Claim::Release { pool, item, owner: owner.clone() }
        } else {
            Claim::Take { pool, item, owner: owner.clone() }
        };
        let bytes = Bytes::from(format!("{who}:owner"));
        let ops = vec![Op::Put { key: owner, bytes, expect: Expect::Any, expires: None }];
        self.commit(Commit { who: who.into(), ops, claims: vec![claim], ..Commit::default() }).await;
    }

    fn learn(&mut self, page: &Page) {
        self.highest = self.highest.max(page.revision);
        self.seen.extend(page.items.iter().map(|(key, object)| (key.clone(), object.revision)));
    }

    async fn read(&mut self) {
        let key = self.key();
        let resource = RESOURCES[self.rng.random_range(0..RESOURCES.len())];
        let Client { store, .. } = self.client.clone();
        match self.rng.random_range(0..8) {
            0..=2 => match self.client.call(Request::Get(key.clone()), store.get(&key)).await {
                Ok(Some(object)) => drop(self.seen.insert(key, object.revision)),
                Ok(None) => drop(self.seen.remove(&key)),
                Err(_) => {}
            },
            3..=4 => {
                let namespace = [None, Some("a"), Some("b")][self.rng.random_range(0..3)];
                let limit = [0, 0, 1, 2][self.rng.random_range(0..4)];
                let after =
                    self.rng.random_bool(0.3).then_some(key).filter(|k| {
                        k.resource.as_ref() == resource && namespace.is_none_or(|n| n == k.namespace.as_ref())
                    });
                let list = store.list(resource, namespace, after.as_ref(), limit);
                let page = self.client.call(Request::List(resource, namespace, after.clone(), limit), list).await;
                if let Ok(page) = page {
                    self.learn(&page);
                }
            }
            5 => drop(self.client.call(Request::ReadRevision, store.read_revision()).await),
            6 => drop(self.client.call(Request::LastChange(resource), store.last_change(resource)).await),
            _ => drop(self.client.call(Request::Claims(POOL), store.claims(POOL)).await),
        }
    }

    async fn past(&mut self) {
        let key = self.key();
        let Client { store, .. } = self.client.clone();
        if self.rng.random_bool(0.3) {
            drop(self.client.call(Request::History(key.clone()), store.history(&key)).await);
        } else {
            let back = self.rng.random_range(0..60);
            let at = Revision(self.highest.0.saturating_sub(back));
            drop(self.client.call(Request::GetAt(key.clone(), at), store.get_at(&key, at)).await);
        }
    }

    async fn compact(&mut self) {
        let resource = RESOURCES[self.rng.random_range(0..RESOURCES.len())];
        let max_entries = self.rng.random_bool(0.7).then(|| self.rng.random_range(0..12));
        let max_age = self.rng.random_bool(0.4).then(|| Duration::from_millis(self.rng.random_range(0..2000)));
        let keep = Retention { max_age, max_entries };
        drop(self.client.call(Request::Compact(resource, keep), self.client.store.compact(resource, keep)).await);
    }
}

/// A watcher: lists, follows, and lists again when the log was cut.
pub(super) struct Watcher {
    pub(super) client: Client,
    pub(super) rng: StdRng,
    pub(super) resource: &'static str,
    /// Numbers the tails of a run.
    pub(super) tails: Rc<Cell<usize>>,
    /// What it counts its pauses in.
    pub(super) unit: Duration,
    /// Where to go on after the death of the process.
    pub(super) position: Rc<Cell<Option<Revision>>>,
}

impl Watcher {
    /// Follows until the object of namespace [`END`] shows.
    pub(super) async fn follow(mut self) {
        loop {
            let from = match self.position.get() {
                Some(from) => from,
                None => match self.list().await {
                    Some(from) => from,
                    None => return,
                },
            };
            if self.tail(from).await {
                return;
            }
        }
    }

    /// The revision to follow from; `None` when the end is there already.
    async fn list(&mut self) -> Option<Revision> {
        loop {
            let Client { store, .. } = self.client.clone();
            let list = scanned(&store, self.resource);
            match self.client.call(Request::List(self.resource, None, None, 0), list).await {
                Ok(page) if page.items.iter().any(|(key, _)| key.namespace.as_ref() == END) => return None,
                Ok(page) => return Some(page.revision),
                Err(_) => tokio::time::sleep(self.unit * 10).await,
            }
        }
    }

    /// True when the end has come, false when the log was cut.
    async fn tail(&mut self, from: Revision) -> bool {
        let number = self.tails.get();
        self.tails.set(number + 1);
        let Client { store, .. } = self.client.clone();
        let mut tail = store.tail(self.resource, from);
        loop {
            let request = Request::Tail(number, self.resource, tail.position());
            let answer = match self.rng.random_range(0..4) {
                0 => {
                    let events = async { Ok((tail.catch_up().await?, tail.position())) };
                    let answer = self.client.call(request, events).await;
                    tokio::time::sleep(self.unit * self.rng.random_range(1..30)).await;
                    answer
                }
                // Gives up waiting after a while; nothing may be lost by that.
                1 => {
                    let patience = self.unit * self.rng.random_range(1..200);
                    let events = async { Ok((tail.next().await?, tail.position())) };
                    match tokio::time::timeout(patience, self.client.call(request, events)).await {
                        Ok(answer) => answer,
                        Err(_) => continue,
                    }
                }
                _ => {
                    let events = async { Ok((tail.next().await?, tail.position())) };
                    self.client.call(request, events).await
                }
            };
            let answer: Result<(Vec<Event>, Revision), StoreError> = answer;
            match answer {
                Ok((events, position)) => {
                    self.position.set(Some(position));
                    let ends = |e: &Event| e.key.namespace.as_ref() == END && e.op == EventKind::Created;
                    if events.iter().any(ends) {
                        return true;
                    }
                }
                Err(StoreError::Compacted { .. }) => {
                    self.position.set(None);
                    return false;
                }
                Err(_) => tokio::time::sleep(self.unit * 10).await,
            }
        }
    }
}

/// One of `of`, by chance.
pub(super) fn one_of<T: Copy>(rng: &mut StdRng, of: &[T], otherwise: T) -> T {
    of.choose(rng).copied().unwrap_or(otherwise)
}

/// A list that comes in pieces, as it does to who keeps all objects.
async fn scanned(store: &Store, resource: &str) -> Result<Page, StoreError> {
    let (out, mut pieces) = mpsc::channel(1);
    let take = async {
        let mut items = Vec::new();
        while let Some(piece) = pieces.recv().await {
            match piece {
                Scanned::Objects(some) => items.extend(some),
                Scanned::Anew => items.clear(),
            }
        }
        items
    };
    let (revision, items) = tokio::join!(store.scan(resource, out), take);
    Ok(Page { items, revision: revision?, more: false })
}
