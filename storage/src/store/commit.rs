//! Commits: expectations, writes, log, and what happens when the outcome is unknown.
//!
//! Every commit reads the keys it writes, checks and claims with conflict detection. That makes an expectation hold at the commit's
//! revision, and makes an attempt in doubt safe to run again: whatever lands second meets a conflict. Never answers with an error
//! for a commit that happened, except with `MaybeCommitted`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use super::Store;
use super::error::StoreError;
use super::layout::{self, Slot};
use super::read::{self, Failed};
use super::record::{Before, Body, Current, Entry, Last, PART, new_current};
use super::types::{Claim, Commit, EventKind, Expect, Key, Op, Revision, Versioned};
use crate::kv::{KvError, Mutation, Read, Transaction};

/// The most bytes of one object.
pub const MAX_OBJECT: usize = 8 << 20;
/// The most bytes of all objects of a commit.
pub const MAX_COMMIT: usize = 9 << 20;
/// The most bytes of [`Commit::who`].
pub const MAX_WHO: usize = 1024;
/// The most bytes of each text of a key, of a pool and of an item.
const MAX_TEXT: usize = 1024;
/// The most writes of a commit.
const MAX_OPS: usize = 10_000;
/// How long a call goes on trying.
const PATIENCE: Duration = Duration::from_secs(10);

/// Decides whether and when to run a transaction again.
#[derive(Debug)]
pub(super) struct Patience {
    since: Option<Instant>,
    runs: u32,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { since: None, runs: 0 }
    }

    /// Returns when the transaction may run again after `error`; returns the error when it may not.
    pub(super) async fn again(&mut self, error: KvError) -> Result<(), StoreError> {
        if !matches!(error, KvError::Conflict | KvError::TooOld) {
            return Err(error.into());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(StoreError::Unavailable("too many others write the same objects; try again".to_owned()));
        }
        self.runs += 1;
        if self.runs < 16 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(u64::from(self.runs.min(50)))).await;
        }
        Ok(())
    }
}

impl Store {
    /// Does all of `commit` at one new revision, or nothing.
    ///
    /// # Errors
    /// `Expectation` and `Claimed` say what stood in the way; `MaybeCommitted` means just that; everything else left nothing behind.
    pub async fn commit(&self, commit: Commit) -> Result<Revision, StoreError> {
        self.commit_as(&commit, false).await
    }

    /// `reclaiming` marks a commit that frees space.
    pub(super) async fn commit_as(&self, commit: &Commit, reclaiming: bool) -> Result<Revision, StoreError> {
        validate(commit)?;
        let sealed = self.sealed(commit)?;
        let id = self.new_id();
        let mut patience = Patience::new();
        // The read revision of the first attempt whose outcome is unknown, and what the engine said.
        let mut doubt: Option<(Revision, String)> = None;
        let fail = |e: StoreError, doubt: Option<(Revision, String)>| match (e, doubt) {
            // What an attempt in doubt expected no longer holds, so something it read has been written: it can no longer land.
            (e @ (StoreError::Expectation { .. } | StoreError::Claimed { .. }), _) | (e, None) => Err(e),
            (e, Some((_, said))) => Err(StoreError::MaybeCommitted(format!("{said}; then {e}"))),
        };
        loop {
            let mut tx = self.kv().begin();
            if reclaiming || commit.ops.iter().all(|op| !matches!(op, Op::Put { .. })) {
                tx.reclaiming();
            }
            let staged = match &doubt {
                Some((since, _)) => match find(tx.as_ref(), commit, &id, *since).await {
                    Ok(Some(revision)) => return Ok(revision),
                    Ok(None) => self.stage(tx.as_mut(), commit, &sealed, id).await,
                    Err(e) => Err(e),
                },
                None => self.stage(tx.as_mut(), commit, &sealed, id).await,
            };
            let error = match staged {
                Err(Failed::Store(e)) => return fail(e, doubt),
                Err(Failed::Kv(e)) => e,
                Ok(since) => match tx.commit().await {
                    Ok(version) => return Ok(Revision(version.0)),
                    Err(KvError::Unknown(said)) => {
                        doubt.get_or_insert((since, said));
                        KvError::Conflict
                    }
                    Err(e) => e,
                },
            };
            if let Err(e) = patience.again(error).await {
                return fail(e, doubt);
            }
        }
    }

    /// Reads what the commit depends on and adds its writes to `tx`. Returns the read revision.
    /// `sealed` are the bytes to keep for each write, if they are not the object itself.
    async fn stage(
        &self,
        tx: &mut dyn Transaction,
        commit: &Commit,
        sealed: &[Bytes],
        id: [u8; 16],
    ) -> Result<Revision, Failed> {
        let ops = commit.ops.iter().map(|op| (op.key(), op.expect()));
        let wanted: Vec<(&Key, Expect)> = ops.chain(commit.checks.iter().map(|c| (&c.key, c.expect))).collect();
        let mut found = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(read::AT_ONCE) {
            let reads = some.iter().map(|(key, expect)| expected(self, &*tx, key, *expect));
            for state in join_all(reads).await {
                found.push(state?);
            }
        }
        for (ordinal, claim) in (0u16..).zip(&commit.claims) {
            stage_claim(tx, claim, ordinal).await?;
        }
        let at = self.0.clock.unix_millis();
        let mut entries: Vec<(Arc<str>, u64)> = Vec::new();
        for ((ordinal, op), found) in (0u16..).zip(&commit.ops).zip(found) {
            let form = Form { store: self, stored: sealed.get(usize::from(ordinal)), ordinal };
            if !stage_op(tx, op, form, found, Stamp { id, at, who: &commit.who }) {
                continue;
            }
            let resource = &op.key().resource;
            match entries.iter_mut().find(|(r, _)| r == resource) {
                Some((_, n)) => *n += 1,
                None => entries.push((resource.clone(), 1)),
            }
        }
        for (resource, n) in entries {
            tx.mutate(Mutation::StampedValue {
                key: layout::wake(&resource),
                value: Bytes::from_static(&[0; 10]),
                offset: 0,
            });
            tx.mutate(Mutation::Add(layout::count(&resource), Bytes::copy_from_slice(&n.to_le_bytes())));
        }
        Ok(Revision(tx.read_version().await?.0))
    }
}

/// What every entry of a commit has in common.
#[derive(Clone, Copy)]
struct Stamp<'a> {
    id: [u8; 16],
    at: u64,
    who: &'a Arc<str>,
}

/// In which form a write's object is kept.
#[derive(Clone, Copy)]
struct Form<'a> {
    store: &'a Store,
    /// What rows keep, where that is not the object itself.
    stored: Option<&'a Bytes>,
    ordinal: u16,
}

/// Reads a key and holds it against what the commit expects.
async fn expected(store: &Store, tx: &dyn Transaction, key: &Key, expect: Expect) -> Result<Option<Current>, Failed> {
    let found = match tx.get(&layout::current(key), Read::Serializable).await? {
        Some(row) => Some(Current::parse(row)?),
        None => None,
    };
    let holds = match expect {
        Expect::Any => true,
        Expect::Present => found.is_some(),
        Expect::Absent => found.is_none(),
        Expect::At(revision) => found.as_ref().is_some_and(|c| c.place.revision == revision),
    };
    if holds {
        return Ok(found);
    }
    let found = match found {
        Some(c) => {
            let bytes = match read::body(store, tx, key, c.place, Slot::Put, c.body).await {
                Err(Failed::Store(StoreError::Transform { .. })) => Bytes::new(),
                bytes => bytes?,
            };
            Some(Versioned { revision: c.place.revision, bytes })
        }
        None => None,
    };
    Err(StoreError::Expectation { key: key.clone(), found }.into())
}

async fn stage_claim(tx: &mut dyn Transaction, claim: &Claim, ordinal: u16) -> Result<(), Failed> {
    let (Claim::Take { pool, item, owner } | Claim::Release { pool, item, owner }) = claim;
    let key = layout::claim(pool, item);
    let wanted = layout::owner(owner);
    let held = tx.get(&key, Read::Serializable).await?;
    let change = layout::new_claim_change(&owner.resource, ordinal);
    let replaced = layout::claim_change(pool, item, held.as_deref().unwrap_or_default());
    match (claim, held) {
        (Claim::Take { .. }, None) => tx.mutate(Mutation::Set(key, wanted)),
        (Claim::Take { .. }, Some(held)) if held != wanted => {
            let owner = layout::parse_key(&held, None)
                .ok_or_else(|| StoreError::Corrupt(format!("a claim of {pool} does not decode")))?;
            return Err(StoreError::Claimed { pool: pool.clone(), item: item.clone(), owner }.into());
        }
        (Claim::Release { .. }, Some(held)) if held == wanted => tx.mutate(Mutation::Clear(key)),
        _ => return Ok(()),
    }
    tx.mutate(Mutation::StampedKey { key: change.key, offset: change.offset, value: replaced });
    Ok(())
}

/// Adds one write; false when it changes nothing.
fn stage_op(
    tx: &mut dyn Transaction,
    op: &Op,
    Form { store, stored, ordinal }: Form<'_>,
    found: Option<Current>,
    stamp: Stamp<'_>,
) -> bool {
    let key = op.key();
    let old_expires = found.as_ref().map_or(0, |c| c.expires);
    let before = found.map(|c| Before { place: c.place, body: c.body });
    let (kind, last) = match op {
        Op::Put { bytes, expires, .. } => {
            let body = stage_body(tx, &key.resource, ordinal, Slot::Put, stored.unwrap_or(bytes), 0);
            let expires = expires.unwrap_or(0);
            if old_expires != 0 && old_expires != expires {
                tx.mutate(Mutation::Clear(layout::expiry(old_expires, key)));
            }
            if expires != 0 {
                tx.mutate(Mutation::Set(layout::expiry(expires, key), Bytes::new()));
            }
            let value = new_current(ordinal, expires, &body);
            tx.mutate(Mutation::StampedValue { key: layout::current(key), value, offset: 0 });
            (if before.is_some() { EventKind::Updated } else { EventKind::Created }, Last::None)
        }
        Op::Delete { .. } | Op::Discard { .. } => {
            let Some(before) = &before else { return false };
            tx.mutate(Mutation::Clear(layout::current(key)));
            if old_expires != 0 {
                tx.mutate(Mutation::Clear(layout::expiry(old_expires, key)));
            }
            let last = op.object().and_then(|last| match &before.body {
                Body::Inline(old) if store.holds(key, old, last) => None,
                Body::Inline(old) => Some((stored.unwrap_or(last), old.len())),
                Body::Parts(_) => Some((stored.unwrap_or(last), 0)),
            });
            let last = last.map(|(last, beside)| stage_body(tx, &key.resource, ordinal, Slot::Last, last, beside));
            let last = match last {
                None => Last::SameAsBefore,
                Some(Body::Inline(bytes)) => Last::Inline(bytes),
                Some(Body::Parts(len)) => Last::Parts(len),
            };
            (EventKind::Deleted, last)
        }
    };
    let entry = Entry {
        id: stamp.id,
        at: stamp.at,
        kind,
        who: stamp.who.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        expires: old_expires,
        before,
        last,
    };
    let log = layout::new_log(&key.resource, ordinal);
    tx.mutate(Mutation::StampedKey { key: log.key, offset: log.offset, value: entry.bytes() });
    // A creation is named by the next change or by the current object.
    if kind != EventKind::Created {
        let history = layout::new_history(key);
        let value = Bytes::copy_from_slice(&ordinal.to_be_bytes());
        tx.mutate(Mutation::StampedKey { key: history.key, offset: history.offset, value });
    }
    true
}

/// Keeps `bytes` for a row that already has `beside` bytes of objects: in the row if they fit, else in parts.
fn stage_body(
    tx: &mut dyn Transaction,
    resource: &str,
    ordinal: u16,
    slot: Slot,
    bytes: &Bytes,
    beside: usize,
) -> Body {
    if bytes.len() + beside <= PART {
        return Body::Inline(bytes.clone());
    }
    let mut rest = bytes.clone();
    for part in 0u16.. {
        if rest.is_empty() {
            break;
        }
        let value = rest.split_to(rest.len().min(PART));
        let key = layout::new_part(resource, ordinal, slot, part);
        tx.mutate(Mutation::StampedKey { key: key.key, offset: key.offset, value });
    }
    Body::Parts(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
}

/// Looks for the traces of an attempt that read at `since`. `None`: it has not landed as of `tx`'s snapshot.
async fn find(
    tx: &dyn Transaction,
    commit: &Commit,
    id: &[u8; 16],
    since: Revision,
) -> Result<Option<Revision>, Failed> {
    for op in &commit.ops {
        let key = op.key();
        for (place, entry) in read::changes_after(tx, key, since).await? {
            if entry.id == *id {
                return Ok(Some(place.revision));
            }
        }
        if read::floor(tx, &key.resource, Read::Snapshot).await? > since {
            let text = "the log was cut before the outcome could be found".to_owned();
            return Err(StoreError::MaybeCommitted(text).into());
        }
    }
    Ok(None)
}

fn validate(commit: &Commit) -> Result<(), StoreError> {
    let invalid = |text: String| Err(StoreError::Invalid(text));
    let limit = |what, size, limit| {
        if size > limit { Err(StoreError::TooLarge { what, size, limit }) } else { Ok(()) }
    };
    let text = |what, text: &str| {
        limit(what, text.len(), MAX_TEXT)?;
        if text.contains('\0') { Err(StoreError::Invalid(format!("{what} holds a NUL byte"))) } else { Ok(()) }
    };
    let key = |key: &Key| {
        if key.resource.is_empty() || key.name.is_empty() {
            return Err(StoreError::Invalid("a key needs a resource and a name".to_owned()));
        }
        text("a resource", &key.resource)?;
        text("a namespace", &key.namespace)?;
        text("a name", &key.name)
    };
    limit("the author of a commit", commit.who.len(), MAX_WHO)?;
    limit("a commit's list of writes", commit.ops.len(), MAX_OPS)?;
    limit("a commit's list of claims", commit.claims.len(), MAX_OPS)?;
    let mut seen = HashSet::with_capacity(if commit.ops.len() > 1 { commit.ops.len() } else { 0 });
    let mut total = 0;
    for op in &commit.ops {
        key(op.key())?;
        let len = op.object().map_or(0, Bytes::len);
        limit("an object", len, MAX_OBJECT)?;
        total += len;
        if commit.ops.len() > 1 && !seen.insert(op.key()) {
            return invalid(format!("a commit writes {} twice", op.key()));
        }
    }
    limit("a commit", total, MAX_COMMIT)?;
    for check in &commit.checks {
        key(&check.key)?;
    }
    for claim in &commit.claims {
        let (Claim::Take { pool, item, owner } | Claim::Release { pool, item, owner }) = claim;
        text("a pool", pool)?;
        text("an item", item)?;
        key(owner)?;
    }
    Ok(())
}
