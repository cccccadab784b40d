//! What goes into the store and what comes out: keys, revisions, commits, events.
//!
//! Never says how any of it is laid out in bytes; `layout` and `record` do.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::StoreError;

/// A transaction's place in the total order of commits: what clients see as `resourceVersion`. 0 means "nothing yet".
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        // `u64::from_str` takes a leading `+`; a revision is digits only.
        if s.starts_with('+') { "".parse::<u64>().map(Revision) } else { s.parse().map(Revision) }
    }
}

/// Names one object. Ordered by resource, then namespace, then name. No part may hold a NUL byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The resource with its group, like `pods` or `deployments.apps`.
    pub resource: Arc<str>,
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of `name` in `namespace` (empty when cluster-scoped) of `resource`.
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.resource, self.name)
        } else {
            write!(f, "{}/{}/{}", self.resource, self.namespace, self.name)
        }
    }
}

/// An object's bytes and the revision that wrote them. The bytes never contain the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The commit that wrote these bytes.
    pub revision: Revision,
    /// The object as it was put.
    pub bytes: Bytes,
}

/// What must be true of a key at commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key holds an object.
    Present,
    /// The key holds none.
    Absent,
    /// The key holds the object written at exactly this revision.
    At(Revision),
}

/// One write of a commit. A commit may name a key once.
#[derive(Debug, Clone)]
pub enum Op {
    /// Writes an object.
    Put {
        /// Which object.
        key: Key,
        /// Its bytes, without the revision.
        bytes: Bytes,
        /// What the key must hold for the commit to happen.
        expect: Expect,
        /// When [`Store::expire`](crate::store::Store::expire) may delete it, in Unix seconds; `None` keeps it.
        expires: Option<u64>,
    },
    /// Removes an object.
    Delete {
        /// Which object. Deleting what is not there is allowed under [`Expect::Any`], and leaves no event.
        key: Key,
        /// The object's final bytes, which the log keeps as the event's bytes.
        last: Bytes,
        /// What the key must hold for the commit to happen.
        expect: Expect,
    },
    /// Removes an object as it is, unread: its final bytes are those that it had. Takes no key, neither to open nor to seal. If nobody
    /// can read it, the event is [lost](Event::lost).
    Discard {
        /// Which object.
        key: Key,
        /// What the key must hold for the commit to happen.
        expect: Expect,
    },
}

impl Op {
    /// The key this write is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Discard { key, .. } => key,
        }
    }

    /// What that key must hold.
    pub fn expect(&self) -> Expect {
        match self {
            Self::Put { expect, .. } | Self::Delete { expect, .. } | Self::Discard { expect, .. } => *expect,
        }
    }

    /// The bytes that the write brings.
    pub fn object(&self) -> Option<&Bytes> {
        match self {
            Self::Put { bytes, .. } | Self::Delete { last: bytes, .. } => Some(bytes),
            Self::Discard { .. } => None,
        }
    }
}

/// A key that is read in the commit's transaction and not written, like the namespace that an object enters.
#[derive(Debug, Clone)]
pub struct Check {
    /// Which object.
    pub key: Key,
    /// What it must hold for the commit to happen.
    pub expect: Expect,
}

/// Takes or gives back an item of a pool (a cluster IP, a node port). At most one owner has an item at any revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Takes the item; fails with `Claimed` when another owner has it; does nothing when `owner` has it already.
    Take {
        /// Which pool.
        pool: Arc<str>,
        /// Which item of it.
        item: Arc<str>,
        /// Who shall have it.
        owner: Key,
    },
    /// Gives the item back; does nothing when `owner` does not have it.
    Release {
        /// Which pool.
        pool: Arc<str>,
        /// Which item of it.
        item: Arc<str>,
        /// Who had it.
        owner: Key,
    },
}

/// One transaction: all of it happens at one revision, or none of it.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Who asked for it; the log keeps it. At most 1,024 bytes.
    pub who: Arc<str>,
    /// What is written, in order.
    pub ops: Vec<Op>,
    /// What else must hold.
    pub checks: Vec<Check>,
    /// Items taken and given back, in order.
    pub claims: Vec<Claim>,
}

impl Default for Commit {
    fn default() -> Self {
        Self { who: Arc::from(""), ops: Vec::new(), checks: Vec::new(), claims: Vec::new() }
    }
}

/// What a change did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The key held nothing before.
    Created,
    /// The key held an object before.
    Updated,
    /// The key holds nothing now.
    Deleted,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The commit that made it. Several events of one commit share it.
    pub revision: Revision,
    /// Which object.
    pub key: Key,
    /// What happened to it.
    pub op: EventKind,
    /// The object after the change; for a deletion its final bytes.
    pub bytes: Bytes,
    /// The object before the change; `None` exactly for [`EventKind::Created`] and for what is `lost`.
    pub previous: Option<Bytes>,
    /// Of a deletion whose object cannot be decrypted: why not. Its bytes are empty.
    pub lost: Option<String>,
    /// Who asked for it.
    pub who: Arc<str>,
    /// When it was asked for by the writer's clock, in Unix milliseconds.
    pub at: u64,
}

impl Event {
    /// The event, if there is something to show of it.
    ///
    /// # Errors
    /// [`StoreError::Lost`].
    pub fn shown(&self) -> Result<&Event, StoreError> {
        match &self.lost {
            None => Ok(self),
            Some(why) => Err(StoreError::Lost { key: self.key.clone(), why: why.clone() }),
        }
    }
}

/// A part of a list, all of it as of `revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Objects in key order.
    pub items: Vec<(Key, Versioned)>,
    /// The revision the whole page shows: a tail from here misses nothing and repeats nothing.
    pub revision: Revision,
    /// Whether objects follow the last one.
    pub more: bool,
}

/// How much of a resource's log a compaction leaves. An entry goes when either bound says so; `None` is no bound.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The age at which an entry goes.
    pub max_age: Option<Duration>,
    /// The number of newest entries that stay.
    pub max_entries: Option<u64>,
}
