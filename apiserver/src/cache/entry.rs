//! One object in the cache: the JSON bytes that clients get, and what selectors look at.
//!
//! Never changes after it was made.

use super::{Labels, scan};
use api::json::Value;
use api::kind::Kind;
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use parking_lot::Mutex;
use std::sync::{Arc, LazyLock};
use tokio::sync::OnceCell;

static METADATA: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"metadata\":{"));
static UID: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"uid\":\""));
static CREATED: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"creationTimestamp\":\""));
const DELETED: &[u8] = b"\",\"deletionTimestamp\":\"";

/// Place of an object within its kind; ordered as lists are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// From texts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }
}

/// One object at one revision.
pub struct Entry {
    /// Place.
    pub key: Key,
    /// Its `resourceVersion`.
    pub revision: u64,
    /// The object as JSON, `resourceVersion` included.
    pub json: Bytes,
    /// `metadata.labels`.
    pub labels: Labels,
    /// Values of the kind's selectable fields, in the kind's order.
    pub fields: Vec<String>,
    /// The kind in whose version it is; `None` for one that was stored in another version and waits for a webhook to convert it.
    pub kind: Option<&'static Kind>,
    /// The store has it in a version that is not stored any more.
    pub outdated: bool,
    /// The same object in versions that only a webhook can make of it: asked for once, then remembered.
    others: Mutex<Vec<Other>>,
}

/// An object in another version, once it is known.
pub type Converted = Arc<OnceCell<Arc<Entry>>>;

struct Other {
    kind: &'static Kind,
    entry: Converted,
}

impl Entry {
    /// From the store's bytes, which carry no `resourceVersion`.
    #[must_use]
    pub fn new(kind: &'static Kind, key: &storage::store::Key, revision: u64, stored: &Bytes) -> Entry {
        // Selectors can look at nothing but labels: the rest need not be read.
        let labels = if kind.custom.is_none() && kind.selectable.is_empty() { scan::labels(stored) } else { None };
        if let Some(labels) = labels {
            let labels = labels.and_then(|labels| api::codec::json::stored(labels).ok());
            let labels = labels.as_ref().and_then(Value::as_object).map(Labels::new).unwrap_or_default();
            return Entry { labels, ..Entry::to_answer(kind, key, revision, stored) };
        }
        let mut value: Value = api::codec::json::stored(stored).unwrap_or_default();
        let outdated = kind.custom.is_some() && api::value::text(&value, "apiVersion") != kind.api_version();
        let own = kind.restore(&mut value).then_some(kind);
        let labels = match value.get("metadata").and_then(|meta| meta.get("labels")) {
            Some(Value::Object(labels)) => Labels::new(labels),
            _ => Labels::default(),
        };
        Entry {
            key: Key { namespace: Arc::clone(&key.namespace), name: Arc::clone(&key.name) },
            revision,
            fields: kind.selectable_values(&value),
            // The fields of custom resources have no fixed places.
            json: if kind.custom.is_some() { versioned(own, value, revision) } else { splice(stored, revision) },
            labels,
            kind: own,
            outdated,
            others: Mutex::default(),
        }
    }

    /// The same to answer with: it has nothing for selectors to look at, so that the bytes of a native kind need not be read.
    #[must_use]
    pub fn to_answer(kind: &'static Kind, key: &storage::store::Key, revision: u64, stored: &Bytes) -> Entry {
        if kind.custom.is_some() {
            return Entry::new(kind, key, revision, stored);
        }
        Entry {
            key: Key { namespace: Arc::clone(&key.namespace), name: Arc::clone(&key.name) },
            revision,
            json: splice(stored, revision),
            labels: Labels::default(),
            fields: Vec::new(),
            kind: Some(kind),
            outdated: false,
            others: Mutex::default(),
        }
    }

    /// The same object as a webhook has made it of `kind`, another version.
    #[must_use]
    pub fn converted(&self, kind: &'static Kind, mut value: Value) -> Entry {
        kind.restore(&mut value);
        let key = storage::store::Key::new("", &self.key.namespace, &self.key.name);
        let bytes = api::codec::json::encode(&value, kind.schema()).into();
        let entry = Entry::new(kind, &key, self.revision, &bytes);
        Entry { key: self.key.clone(), outdated: self.outdated, ..entry }
    }

    /// Where the object in the version of `kind` is, or will be once somebody has asked the webhook.
    #[must_use]
    pub fn other(&self, kind: &'static Kind) -> Converted {
        let mut others = self.others.lock();
        if let Some(other) = others.iter().find(|other| std::ptr::eq(other.kind, kind)) {
            return Arc::clone(&other.entry);
        }
        let entry = Converted::default();
        others.push(Other { kind, entry: Arc::clone(&entry) });
        entry
    }

    /// Bytes that it takes, its place in a map included; without what webhooks have made of it.
    #[must_use]
    pub fn weight(&self) -> u64 {
        /// The object, its counts of references, and its share of a node of a map.
        const FIXED: usize = size_of::<Entry>() + 4 * size_of::<usize>() + 2 * (size_of::<Key>() + size_of::<usize>());
        let fields: usize = self.fields.iter().map(|field| field.len() + size_of::<String>()).sum();
        // A namespace is there once for many.
        (FIXED + self.json.len() + self.key.name.len() + self.labels.weight() + fields) as u64
    }

    /// It is in the version of this kind.
    #[must_use]
    pub fn is_of(&self, kind: &'static Kind) -> bool {
        // By name as well: a definition that has changed meanwhile has kinds of its own.
        self.kind.is_some_and(|own| std::ptr::eq(own, kind) || own.gvk() == kind.gvk())
    }

    /// An object that was never saved (dry run): it has no `resourceVersion`.
    #[must_use]
    pub fn unsaved(kind: &'static Kind, key: &storage::store::Key, bytes: &Bytes) -> Entry {
        Entry { json: bytes.clone(), ..Entry::new(kind, key, 0, bytes) }
    }

    /// The object as a value, in the stored version.
    #[must_use]
    pub fn value(&self) -> Value {
        api::codec::json::stored(&self.json).unwrap_or_default()
    }

    /// The bytes that it was made from, near enough: without `resourceVersion`.
    #[must_use]
    pub fn stored(&self, kind: &Kind) -> Bytes {
        let mut value = self.value();
        api::value::remove(&mut value, "metadata.resourceVersion");
        encoded(self.kind.map(|_| kind), &value)
    }

    /// `metadata.uid` and `metadata.deletionTimestamp` out of the bytes, without reading what lies behind them. `None` where they do
    /// not begin as our encoder writes native kinds.
    #[must_use]
    pub fn identity(&self) -> Option<(&str, Option<&str>)> {
        let text = |from: usize| {
            let rest = self.json.get(from..)?;
            let end = memchr::memchr(b'"', rest)?;
            Some((std::str::from_utf8(rest.get(..end)?).ok()?, from + end))
        };
        let meta = behind(&self.json, &METADATA, 0)?;
        let (uid, end) = text(behind(&self.json, &UID, meta)?)?;
        // Version and generation stand between, both numbers.
        let (_, end) = text(behind(&self.json, &CREATED, end)?)?;
        match self.json.get(end..)?.strip_prefix(DELETED) {
            Some(_) => Some((uid, Some(text(end + DELETED.len())?.0))),
            None => Some((uid, None)),
        }
    }

    /// The bytes of a member below others; inside, `None` where there is none. `None` where the bytes would have to be read as a whole.
    #[must_use]
    pub fn member(&self, path: &[&str]) -> Option<Option<&[u8]>> {
        let mut at: &[u8] = &self.json;
        for name in path {
            match scan::member(at, name.as_bytes())? {
                Some(found) => at = found,
                None => return Some(None),
            }
        }
        Some(Some(at))
    }

    /// The value of a field that `fieldSelector` names; `None` when the kind does not offer it.
    #[must_use]
    pub fn field(&self, kind: &Kind, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(&self.key.name),
            "metadata.namespace" => Some(&self.key.namespace),
            _ => {
                let index = kind.selectable_names().position(|field| field == name)?;
                self.fields.get(index).map(String::as_str)
            }
        }
    }
}

/// The bytes of a custom resource, whose fields have no fixed places; as they are in a version that is not the kind's.
fn versioned(kind: Option<&Kind>, mut value: Value, revision: u64) -> Bytes {
    if revision > 0 {
        api::value::set(&mut value, "metadata.resourceVersion", revision.to_string());
    }
    encoded(kind, &value)
}

fn encoded(kind: Option<&Kind>, value: &Value) -> Bytes {
    match kind {
        Some(kind) => api::codec::json::encode(value, kind.schema()).into(),
        None => value.to_string().into(),
    }
}

/// Writes `resourceVersion` behind `uid`, where upstream's field order has it.
///
/// The bytes come from our own encoder: `metadata` is the first object in them, and the fields before `uid` (names and
/// namespace) cannot hold a quotation mark.
fn splice(stored: &Bytes, revision: u64) -> Bytes {
    let position = behind(stored, &METADATA, 0).and_then(|meta| {
        let uid = behind(stored, &UID, meta)?;
        Some(memchr::memchr(b'"', stored.get(uid..)?)? + uid + 1)
    });
    let Some((head, tail)) = position.and_then(|position| stored.split_at_checked(position)) else {
        return stored.clone();
    };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(revision);
    let mut out = BytesMut::with_capacity(stored.len() + digits.len() + 21);
    out.extend_from_slice(head);
    out.extend_from_slice(b",\"resourceVersion\":\"");
    out.extend_from_slice(digits.as_bytes());
    out.extend_from_slice(b"\"");
    out.extend_from_slice(tail);
    out.freeze()
}

/// The place behind the first one from there on.
fn behind(haystack: &[u8], wanted: &Finder<'_>, from: usize) -> Option<usize> {
    wanted.find(haystack.get(from..)?).map(|at| at + from + wanted.needle().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_follows_the_uid() {
        let stored = Bytes::from_static(
            br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","uid":"u-1","labels":{"a":"b"}},"data":{"uid":"x"}}"#,
        );
        let kind = api::kinds::by_gvk("", "v1", "ConfigMap").unwrap();
        let entry = Entry::new(kind, &storage::store::Key::new("configmaps", "ns", "a"), 42, &stored);
        assert_eq!(
            std::str::from_utf8(&entry.json).unwrap(),
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","uid":"u-1","resourceVersion":"42","labels":{"a":"b"}},"data":{"uid":"x"}}"#
        );
        assert_eq!(entry.identity(), None, "it was never created");
        assert_eq!(entry.field(kind, "metadata.name"), Some("a"));
        assert_eq!(entry.labels.get("a"), Some("b"));
    }

    #[test]
    fn who_it_is_stands_at_its_head() {
        let kind = api::kinds::by_gvk("", "v1", "ConfigMap").unwrap();
        let check = |more: &str, want: Option<&str>| {
            let stored = format!(
                r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a","namespace":"ns","uid":"u-1","generation":3,"creationTimestamp":"2026-01-01T00:00:00Z"{more},"labels":{{"a":"b"}}}},"data":{{"deletionTimestamp":"x"}}}}"#
            );
            let entry = Entry::new(kind, &storage::store::Key::new("configmaps", "ns", "a"), 42, &Bytes::from(stored));
            assert_eq!(entry.identity(), Some(("u-1", want)));
        };
        check("", None);
        check(
            r#","deletionTimestamp":"2026-01-02T00:00:00Z","deletionGracePeriodSeconds":0"#,
            Some("2026-01-02T00:00:00Z"),
        );
    }
}
