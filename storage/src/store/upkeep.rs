//! Upkeep: deleting what has expired, cutting the old end of the log.
//!
//! Works in small transactions that any other may run between. Never removes what a later log entry or a current object needs.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Store;
use super::commit::Patience;
use super::error::StoreError;
use super::layout::{self, Slot};
use super::read::{self, Failed, reading};
use super::record::{Body, Current, Last};
use super::tail;
use super::types::{Commit, EventKind, Expect, Op, Retention, Revision};
use crate::kv::{KvError, Mutation, RangeRead, Read, Version, key_after};

/// Expired objects deleted in one commit.
const EXPIRE_AT_ONCE: usize = 100;
/// After how many cuts the entries that were cut off are removed.
const DISCARD: u32 = 500;
/// How many times longer than a cut of the log the pause after it is. What a cut writes is flushed and merged later, which holds writers up
/// as well: with a pause as long as the cut, one write in fifty met that.
const REST: u32 = 4;
/// The longest pause between two cuts of the log.
const PAUSE: Duration = Duration::from_millis(100);

impl Store {
    /// Deletes the objects that are due, with events, and returns how many it deleted. Reads none of them: what cannot be decrypted
    /// goes as well.
    pub async fn expire(&self) -> Result<usize, StoreError> {
        let now = self.0.clock.unix_seconds();
        let due = layout::expiry_until(now);
        let mut begin = due.start;
        let mut deleted = 0;
        loop {
            let read = RangeRead::new(begin.clone(), due.end.clone()).limit(EXPIRE_AT_ONCE);
            let (ops, next) = reading!(self, tx => {
                let page = tx.get_range(&read, Read::Snapshot).await?;
                let mut ops = Vec::new();
                for (row, _) in &page.rows {
                    let key = layout::parse_expiry(row)
                        .ok_or_else(|| StoreError::Corrupt("an expiry record does not decode".to_owned()))?;
                    let Some(current) = tx.get(&layout::current(&key), Read::Snapshot).await? else { continue };
                    let current = Current::parse(current)?;
                    if current.expires <= now {
                        ops.push(Op::Discard { key, expect: Expect::At(current.place.revision) });
                    }
                }
                Ok((ops, page.rows.last().map(|(row, _)| key_after(row)).filter(|_| page.more)))
            })?;
            deleted += self.delete_expired(ops).await?;
            match next {
                Some(next) => begin = next,
                None => return Ok(deleted),
            }
        }
    }

    /// Deletes all at once; one by one when some were changed meanwhile or are too large together.
    async fn delete_expired(&self, ops: Vec<Op>) -> Result<usize, StoreError> {
        if ops.is_empty() {
            return Ok(0);
        }
        let commit = |ops| Commit { who: "expiry".into(), ops, ..Commit::default() };
        let all = ops.len();
        match self.commit_as(&commit(ops.clone()), true).await {
            Ok(_) => return Ok(all),
            Err(StoreError::Expectation { .. } | StoreError::TooLarge { .. }) => {}
            Err(e) => return Err(e),
        }
        let mut deleted = 0;
        for op in ops {
            match self.commit_as(&commit(vec![op]), true).await {
                Ok(_) => deleted += 1,
                Err(StoreError::Expectation { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(deleted)
    }

    /// Cuts the log of a resource down to `keep` and returns the revision it begins after: tails from there on go on, older ones
    /// are `Compacted`.
    pub async fn compact(&self, resource: &str, keep: Retention) -> Result<Revision, StoreError> {
        let mut patience = Patience::new();
        let mut cuts = 0;
        loop {
            let begun = Instant::now();
            match self.compact_some(resource, keep).await {
                Ok((floor, false)) => {
                    self.discard_log(resource, floor).await?;
                    return Ok(floor);
                }
                Ok((floor, true)) => {
                    patience = Patience::new();
                    cuts += 1;
                    if cuts % DISCARD == 0 {
                        self.discard_log(resource, floor).await?;
                    }
                    tokio::time::sleep((REST * begun.elapsed()).min(PAUSE)).await;
                }
                Err(Failed::Store(e)) => return Err(e),
                // Whether it happened shows at the next look.
                Err(Failed::Kv(KvError::Unknown(_))) => patience.again(KvError::Conflict).await?,
                Err(Failed::Kv(e)) => patience.again(e).await?,
            }
        }
    }

    /// Removes the entries up to `floor`, which nobody reads any more.
    async fn discard_log(&self, resource: &str, floor: Revision) -> Result<(), StoreError> {
        let cut = layout::log_until(resource, floor);
        let mut patience = Patience::new();
        loop {
            match self.kv().discard(cut.start.clone(), cut.end.clone()).await {
                Ok(()) => return Ok(()),
                Err(KvError::Unknown(_)) => patience.again(KvError::Conflict).await?,
                Err(e) => patience.again(e).await?,
            }
        }
    }

    /// Cuts off some whole revisions; false when none is left to cut.
    async fn compact_some(&self, resource: &str, keep: Retention) -> Result<(Revision, bool), Failed> {
        let mut tx = self.kv().begin();
        tx.reclaiming();
        // Serializable: of two compactions at once, the second must not count the same entries off again.
        let floor = read::floor(tx.as_ref(), resource, Read::Serializable).await?;
        let entries = tail::entries(tx.as_ref(), resource, floor).await?;
        let count = tx.get(&layout::count(resource), Read::Snapshot).await?;
        let count = count.and_then(|c| c.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes);
        let too_many = keep.max_entries.map_or(0, |max| count.saturating_sub(max));
        let now = self.0.clock.unix_millis();
        let too_old = |at: u64| keep.max_age.is_some_and(|age| u128::from(now.saturating_sub(at)) >= age.as_millis());
        let goes =
            entries.iter().zip(0u64..).take_while(|((_, _, entry), n)| *n < too_many || too_old(entry.at)).count();
        // Only whole revisions go: a tail must not begin inside one.
        let cut = match entries.get(goes) {
            Some((_, kept, _)) => entries.partition_point(|(_, place, _)| place.revision < kept.revision),
            None => goes,
        };
        let Some((_, last, _)) = cut.checked_sub(1).and_then(|i| entries.get(i)) else { return Ok((floor, false)) };
        let new_floor = last.revision;
        let mut removed = 0u64;
        for (key, place, entry) in entries.into_iter().take(cut) {
            removed += 1;
            if entry.kind != EventKind::Created {
                tx.mutate(Mutation::Clear(layout::history(&key, place.revision)));
            }
            // The parts of what this change replaced belong to nobody else: older entries are gone or go now.
            if let Some(before) = entry.before
                && let Body::Parts(_) = before.body
            {
                let parts = layout::parts(resource, before.place, Slot::Put);
                tx.mutate(Mutation::ClearRange(parts.start, parts.end));
            }
            if let Last::Parts(_) = entry.last {
                let parts = layout::parts(resource, place, Slot::Last);
                tx.mutate(Mutation::ClearRange(parts.start, parts.end));
            }
        }
        let claims = layout::claim_changes_until(resource, new_floor);
        tx.mutate(Mutation::ClearRange(claims.start, claims.end));
        tx.mutate(Mutation::Set(layout::floor(resource), Bytes::copy_from_slice(&Version(new_floor.0).stamp())));
        let minus = removed.wrapping_neg().to_le_bytes();
        tx.mutate(Mutation::Add(layout::count(resource), Bytes::copy_from_slice(&minus)));
        tx.commit().await?;
        Ok((new_floor, true))
    }
}
