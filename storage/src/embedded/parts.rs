//! fjall, open: one keyspace for each kind of row.
//!
//! Rows that are only ever appended (the log, and the histories of new objects) would otherwise share tables with rows that are
//! overwritten, and every merge would write them again. With keyspaces of their own their tables follow one another and are moved
//! from level to level without being read. A batch is atomic over all keyspaces.
//!
//! Never decides what is durable.

use std::path::Path;

use bytes::Bytes;
use fjall::config::{PartitioningPolicy, PinningPolicy};
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, Readable, SeqNo, Snapshot};

use super::release::{Held, Release};
use super::{Options, read_error};
use crate::kv::KvError;
use crate::local::RowIter;

/// The first byte of the first key of every keyspace, its name, and what part of [`Options::memtable`] it gets. The cuts are the tags of
/// the store's layout; any other key has its place just as well.
const CUTS: [(u8, &str, u64); 4] = [(0, "objects", 1), (b'H', "history", 2), (b'L', "log", 1), (b'M', "marks", 8)];

/// fjall's threads for tables. The first never merges: it spins on a waiting merge while all others are at work. Two merges seldom run
/// at once, so with three threads there is nearly always one that takes it.
const WORKERS: usize = 3;

/// fjall flushes what keeps the oldest journal alive when the journals together are larger. Opening reads all of them.
const JOURNALS: u64 = 96 << 20;

/// fjall with its keyspaces. Dropping it ends fjall's threads.
pub(super) struct Parts {
    database: Database,
    keyspaces: Keyspaces,
    /// The tables in memory that are being written to, as of the last look.
    active: [(u64, Held); CUTS.len()],
    release: Release,
}

/// In the order of their keys.
#[derive(Clone)]
struct Keyspaces([Keyspace; CUTS.len()]);

impl Keyspaces {
    fn of(&self, key: &[u8]) -> &Keyspace {
        let Self(all @ [objects, ..]) = self;
        all.get(part(key)).unwrap_or(objects)
    }
}

/// The table in memory that is being written to, and its number.
fn active(keyspace: &Keyspace) -> (u64, Held) {
    let table = keyspace.tree.active_memtable();
    (table.id(), table)
}

fn part(key: &[u8]) -> usize {
    let first = key.first().copied().unwrap_or(0);
    CUTS.partition_point(|(from, ..)| *from <= first).saturating_sub(1)
}

impl Parts {
    /// Opens `path`, making what is missing. fjall panics on some kinds of damage: to be called where that is caught.
    pub(super) fn open(path: &Path, options: &Options) -> fjall::Result<Self> {
        let builder = Database::builder(path).cache_size(options.cache).worker_threads(WORKERS);
        let database = builder.max_journaling_size(JOURNALS).open()?;
        // Settings of a keyspace are kept with it: these are for a new one.
        let keyspace = |(_, name, share): (u8, &str, u64)| {
            database.keyspace(name, || new_keyspace((options.memtable / share).max(1 << 20)))
        };
        let [objects, history, log, marks] = CUTS.map(keyspace);
        let keyspaces = Keyspaces([objects?, history?, log?, marks?]);
        let (active, release) = (keyspaces.0.each_ref().map(active), Release::new()?);
        Ok(Self { keyspaces, database, active, release })
    }

    /// To be called now and then: sees to it that tables in memory which fjall has put aside are not freed by it.
    pub(super) fn look(&mut self) {
        for (keyspace, known) in self.keyspaces.0.iter().zip(&mut self.active) {
            let now = active(keyspace);
            if now.0 != known.0 {
                self.release.take(std::mem::replace(known, now).1);
            }
        }
    }

    /// A picture of what it holds now.
    pub(super) fn snapshot(&self) -> Picture {
        Picture { snapshot: self.database.snapshot(), keyspaces: self.keyspaces.clone() }
    }

    /// An empty batch with room for `rows`.
    pub(super) fn batch(&self, rows: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.database.clone(), rows)
    }

    /// Adds a row to a batch; `None` removes it.
    pub(super) fn put(&self, batch: &mut OwnedWriteBatch, key: Bytes, value: Option<Bytes>) {
        match value {
            Some(value) => batch.insert(self.keyspaces.of(&key), key, value),
            None => batch.remove(self.keyspaces.of(&key), key),
        }
    }

    /// Begins to write what is only in the journal into tables.
    pub(super) fn flush(&self) -> fjall::Result<()> {
        self.keyspaces.0.iter().try_for_each(|keyspace| keyspace.rotate_memtable().map(drop))
    }

    /// Whether everything that a flush began with is in tables.
    pub(super) fn flushed(&self) -> bool {
        self.keyspaces.0.iter().all(|keyspace| keyspace.sealed_memtable_count() == 0)
    }

    /// Whether nothing was written since the last flush began.
    pub(super) fn clean(&self) -> bool {
        self.keyspaces.0.iter().all(|keyspace| keyspace.tree.active_memtable().size() == 0)
    }
}

/// All rows as of one moment.
pub(super) struct Picture {
    snapshot: Snapshot,
    keyspaces: Keyspaces,
}

impl Picture {
    /// Every batch that it shows has a smaller number.
    pub(super) fn seqno(&self) -> SeqNo {
        self.snapshot.seqno()
    }

    /// Bytes of all tables on the disk.
    pub(super) fn disk(&self) -> u64 {
        self.keyspaces.0.iter().map(Keyspace::disk_space).sum()
    }

    /// Drops the tables that hold nothing but rows with `begin <= key < end`, without reading them. Pictures of before keep showing them.
    /// Waits for a running merge of such tables.
    pub(super) fn drop_tables(&self, begin: &[u8], end: &[u8]) -> Result<(), KvError> {
        let dropped = self.keyspaces.of(begin).tree.drop_range(begin..end);
        dropped.map_err(|e| KvError::Unavailable(format!("the disk failed when tables were dropped: {e}")))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.snapshot.get(self.keyspaces.of(key), key).map_err(|e| read_error(&e))?.map(Bytes::from))
    }

    /// Rows with `begin <= key < end`, which must be in order.
    pub(super) fn range(&self, begin: &[u8], end: &[u8], reverse: bool) -> RowIter<'_> {
        let read = |guard: fjall::Guard| match guard.into_inner() {
            Ok((key, value)) => Ok((Bytes::from(key), Bytes::from(value))),
            Err(e) => Err(read_error(&e)),
        };
        let (begin, end) = (Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
        let (first, last) = (part(&begin), part(&end));
        let rows = move |i: usize| {
            let keyspace = self.keyspaces.0.get(i).into_iter();
            let (begin, end) = (begin.clone(), end.clone());
            keyspace.flat_map(move |keyspace| self.snapshot.range(keyspace, begin.clone()..end.clone()))
        };
        if first == last {
            let rows = rows(first);
            return if reverse { Box::new(rows.rev().map(read)) } else { Box::new(rows.map(read)) };
        }
        let parts = first..=last;
        if reverse {
            Box::new(parts.rev().flat_map(move |i| rows(i).rev()).map(read))
        } else {
            Box::new(parts.flat_map(rows).map(read))
        }
    }
}

/// How tables are made. Indexes and filters stay in memory, some 30 bytes per object, so that a get reads one block of data.
fn new_keyspace(memtable: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable)
        .index_block_pinning_policy(PinningPolicy::all(true))
        .index_block_partitioning_policy(PartitioningPolicy::all(false))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_keyspace_and_they_follow_the_order_of_keys() {
        let mut before = 0;
        for first in 0..=u8::MAX {
            let found = part(&[first, 7]);
            assert!(found == before || found == before + 1, "{first}");
            assert!(CUTS[found].0 <= first && CUTS.get(found + 1).is_none_or(|next| first < next.0), "{first}");
            before = found;
        }
        assert_eq!(before, CUTS.len() - 1);
        assert_eq!(part(b""), 0);
    }
}
