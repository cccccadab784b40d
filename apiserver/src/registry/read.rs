//! Reading: one object from the store, many from the cache.
//!
//! Never writes, never encodes for clients.

use super::Target;
use crate::answer::Failure;
use crate::cache::{By, Cache, Entry, Key, Narrow};
use crate::road::authorized::Permit;
use crate::road::timed::{Work, timed};
use crate::server::Server;
use api::continuation::Continue;
use api::json::Value;
use api::kind::Kind;
use api::quote::quoted;
use api::selector::{FieldSelector, LabelSelector};
use api::status::Status;
use std::ops::Bound;
use std::sync::Arc;
use storage::store::{Revision, StoreError};

/// One object as the store has it now, or `None`.
///
/// # Errors
/// Those of the store and of conversion.
pub async fn find(server: &Server, _permit: &Permit, target: &Target) -> Result<Option<Arc<Entry>>, Failure> {
    let key = target.key();
    let found = timed(Work::Store, server.store.get(&key)).await.map_err(|error| target.failure(error))?;
    let Some(found) = found else { return Ok(None) };
    let entry = Arc::new(Entry::to_answer(target.kind.stored(), &key, found.revision.0, &found.bytes));
    Ok(Some(server.conversions.one(target.kind, entry).await?))
}

/// One object as the cache has it, in the version in which it is served, to begin an update with: it may be old, and what is decided
/// by it must be committed on condition of its revision or be asked again. `None` where reading the store is the better beginning.
pub(super) fn guess(server: &Server, target: &Target) -> Option<Arc<Entry>> {
    if target.kind.by_webhook() {
        return None;
    }
    server.caches.of(target.kind)?.sound(&target.namespace, &target.name)
}

/// The revision of one object as the store has it now, or `None`.
///
/// # Errors
/// Those of the store.
pub(super) async fn revision(server: &Server, target: &Target) -> Result<Option<u64>, Failure> {
    let found =
        timed(Work::Store, server.store.revision_of(&target.key())).await.map_err(|error| target.failure(error))?;
    Ok(found.map(|revision| revision.0))
}

/// One object as the store has it now.
///
/// # Errors
/// 404 when it is absent; those of the store.
pub async fn get(server: &Server, permit: &Permit, target: &Target) -> Result<Arc<Entry>, Failure> {
    let found = find(server, permit, target).await?;
    found.ok_or_else(|| Status::not_found(target.resource(), &target.name).into())
}

/// An object in the version in which it is served.
#[must_use]
pub fn served(kind: &'static Kind, entry: &Entry) -> Value {
    let mut value = entry.value();
    if !entry.is_of(kind) {
        kind.from_stored(&mut value);
    }
    value
}

/// What of a collection is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Empty for all.
    pub namespace: String,
    /// Empty for all.
    pub name: String,
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
}

impl Filter {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 for one that cannot be parsed or names a field that the kind does not offer.
    pub fn parse(target: &Target, labels: Option<&str>, fields: Option<&str>) -> Result<Filter, Failure> {
        let labels = LabelSelector::parse(labels.unwrap_or_default()).map_err(Status::bad_request)?;
        let mut fields = FieldSelector::parse(fields.unwrap_or_default()).map_err(Status::bad_request)?;
        let kind = target.kind;
        fields.rename(kind.selected_as);
        // Kinds with fields of their own know a namespace only where they have one.
        let plain = kind.selectable.is_empty() && kind.custom.is_none();
        for term in fields.terms() {
            let known = term.field == "metadata.name"
                || (term.field == "metadata.namespace" && (plain || kind.namespaced))
                || kind.selectable_names().any(|field| field == term.field);
            if !known {
                return Err(Status::bad_request(if plain {
                    format!(
                        "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                        quoted(&term.field)
                    )
                } else {
                    format!("field label not supported: {}", term.field)
                })
                .into());
            }
        }
        Ok(Filter { namespace: target.namespace.clone(), name: target.name.clone(), labels, fields })
    }

    /// The object is wanted, as far as its place says.
    #[must_use]
    pub fn placed(&self, key: &Key) -> bool {
        (self.namespace.is_empty() || self.namespace == *key.namespace)
            && (self.name.is_empty() || self.name == *key.name)
    }

    /// Its place says all.
    #[must_use]
    pub fn is_place(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The object is wanted. `kind` is the served one, and the object's where only a webhook can convert.
    #[must_use]
    pub fn matches(&self, kind: &'static Kind, entry: &Entry) -> bool {
        self.placed(&entry.key)
            && self.labels.matches_by(|key| entry.labels.get(key))
            && (self.fields.is_empty() || self.fields_match(kind, entry))
    }

    /// A value that all wanted objects have, beside their place. `kind` is the served one.
    #[must_use]
    pub fn narrow(&self, kind: &'static Kind) -> Option<Narrow> {
        if !self.name.is_empty() || self.is_place() || kind.by_webhook() {
            return None;
        }
        // Fields of another served version are not beside the cached object.
        let fields = kind.selectable_names().enumerate().filter(|_| kind.stored_as.is_none());
        let mut fields = fields.filter_map(|(at, name)| Some((By::Field(at), self.fields.required(name)?)));
        let labels = self.labels.requirements().iter();
        let mut labels = labels.filter_map(|wanted| Some((&*wanted.key, self.labels.exact(&wanted.key)?)));
        let found = fields.next().or_else(|| labels.next().map(|(key, value)| (By::Label(key.into()), value)));
        found.map(|(by, value)| Narrow { by, value: value.to_owned() })
    }

    /// The keys between which all wanted objects are.
    #[must_use]
    pub fn range(&self) -> (Bound<Key>, Bound<Key>) {
        let name = if self.name.is_empty() { self.fields.required("metadata.name") } else { Some(&*self.name) };
        let namespace = match &*self.namespace {
            "" => self.fields.required("metadata.namespace").unwrap_or_default(),
            namespace => namespace,
        };
        match name {
            _ if namespace.is_empty() => (Bound::Unbounded, Bound::Unbounded),
            Some(name) => {
                let key = Key::new(namespace, name);
                (Bound::Included(key.clone()), Bound::Included(key))
            }
            // Names have no zero byte, and neither has a namespace.
            None => {
                (Bound::Included(Key::new(namespace, "")), Bound::Excluded(Key::new(&format!("{namespace}\0"), "")))
            }
        }
    }

    fn fields_match(&self, kind: &'static Kind, entry: &Entry) -> bool {
        if kind.stored_as.is_none() || entry.is_of(kind) {
            return self.fields.matches(|name| entry.field(kind, name).map(str::to_owned));
        }
        // Fields of another served version are read from the converted object.
        let value = served(kind, entry);
        self.fields.matches(|name| match name {
            "metadata.name" => Some(entry.key.name.to_string()),
            "metadata.namespace" => Some(entry.key.namespace.to_string()),
            _ => kind
                .selectable_names()
                .zip(kind.selectable_values(&value))
                .find(|(field, _)| *field == name)
                .map(|(_, value)| value),
        })
    }
}

/// Part of a collection.
pub struct Page {
    /// In order of namespace and name.
    pub entries: Vec<Arc<Entry>>,
    /// The list's `resourceVersion`.
    pub revision: u64,
    /// Where to go on.
    pub next: Option<Continue>,
    /// How many are left, when no selector hides some.
    pub remaining: Option<usize>,
}

/// Which version a list must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Every write acknowledged before the request.
    Consistent,
    /// Anything, even old.
    Any,
    /// This one or newer.
    NotOlderThan(u64),
    /// Just this one.
    Exact(u64),
}

/// What a list asks for beside its selectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// Which state it must show.
    pub version: Version,
    /// The most objects of a page.
    pub limit: usize,
    /// Where the page begins; decides about the version in place of `version`.
    pub from: Option<Continue>,
}

/// A page of a collection.
///
/// # Errors
/// 410 for a version that is gone; those of the store.
pub async fn list(
    server: &Server,
    _permit: &Permit,
    target: &Target,
    filter: &Filter,
    options: &ListOptions,
) -> Result<Page, Failure> {
    /// Objects that a list may look at, and how many for each that it finds, before an index is made.
    const MANY: usize = 5_000;
    const FEW: usize = 10;
    let cache = cache(server, target)?;
    let narrow = filter.narrow(target.kind);
    let narrow = narrow.as_ref();
    let now = server.now();
    let from = options.from.as_ref();
    let version = match from {
        None => options.version,
        Some(from) if from.revision == 0 => Version::Consistent,
        Some(from) if now.saturating_sub(from.at) > TOKEN_LIFETIME => return Err(expired_token(from)),
        Some(from) => Version::Exact(from.revision),
    };
    let snapshot = match version {
        Version::Any => cache.any(narrow).map_err(|error| target.failure(error))?,
        Version::Consistent => {
            timed(Work::Store, cache.consistent(narrow)).await.map_err(|error| target.failure(error))?
        }
        Version::NotOlderThan(revision) => {
            let snapshot = timed(Work::Store, cache.consistent(narrow)).await;
            let snapshot = snapshot.map_err(|error| target.failure(error))?;
            if snapshot.revision < revision {
                let (asked, latest) = (Revision(revision), Revision(snapshot.revision));
                return Err(target.failure(StoreError::Future { asked, latest }));
            }
            snapshot
        }
        Version::Exact(revision) => {
            timed(Work::Store, cache.at(revision, narrow)).await.map_err(|error| match (error, from) {
                (StoreError::Compacted { .. }, Some(from)) => expired_token(from),
                (error, _) => target.failure(error),
            })?
        }
    };
    let (begin, end) = filter.range();
    let begin = match from {
        Some(from) => Bound::Excluded(Key::new(&from.namespace, &from.name)),
        None => begin,
    };
    // A token may lie anywhere: what comes behind the end is not looked at.
    let inside = |key: &Key| match &end {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    };
    let mut rest = snapshot.objects.range((begin, Bound::Unbounded)).take_while(|(key, _)| inside(key));
    let (entries, more, left) = if target.kind.by_webhook() {
        let placed = rest.filter(|(key, _)| filter.placed(key)).map(|(_, entry)| Arc::clone(entry)).collect();
        converted(server, target, filter, options.limit, placed).await?
    } else {
        let mut looked = 0_usize;
        let wanted = rest.by_ref().filter(|(_, entry)| {
            looked += 1;
            filter.matches(target.kind, entry)
        });
        let entries: Vec<Arc<Entry>> = wanted.take(options.limit).map(|(_, entry)| Arc::clone(entry)).collect();
        if let Some(narrow) = narrow.filter(|_| !snapshot.narrow && looked > MANY.max(entries.len() * FEW)) {
            cache.index(narrow.by.clone());
        }
        let full = entries.len() == options.limit;
        let more = full && rest.clone().any(|(_, entry)| filter.matches(target.kind, entry));
        (entries, more, if more && filter.is_place() { rest.count() } else { 0 })
    };
    let next = entries.last().filter(|_| more).map(|last| Continue {
        revision: snapshot.revision,
        namespace: last.key.namespace.to_string(),
        name: last.key.name.to_string(),
        at: from.filter(|from| from.revision != 0).map_or(now, |from| from.at),
    });
    let remaining = (more && filter.is_place()).then_some(left);
    Ok(Page { entries, revision: snapshot.revision, next, remaining })
}

/// Of the objects at the wanted places, in order: those of a page in the version asked for, whether there are more, and how many are
/// left where only places count.
async fn converted(
    server: &Server,
    target: &Target,
    filter: &Filter,
    limit: usize,
    mut rest: Vec<Arc<Entry>>,
) -> Result<(Vec<Arc<Entry>>, bool, usize), Failure> {
    /// Objects that are converted before it is seen whether they were wanted.
    const STEP: usize = 500;
    if filter.is_place() {
        let left = rest.len().saturating_sub(limit);
        rest.truncate(limit);
        server.conversions.all(target.kind, &mut rest).await?;
        return Ok((rest, left > 0, left));
    }
    let mut out = Vec::new();
    let step = STEP.max(limit.min(rest.len()));
    for some in rest.chunks_mut(step.max(1)) {
        server.conversions.all(target.kind, some).await?;
        out.extend(some.iter().filter(|entry| filter.matches(target.kind, entry)).cloned());
        if out.len() > limit {
            out.truncate(limit);
            return Ok((out, true, 0));
        }
    }
    Ok((out, false, 0))
}

/// How long the pages of one list can be asked for, in seconds: the interval at which upstream compacts.
const TOKEN_LIFETIME: i64 = 300;

fn expired_token(from: &Continue) -> Failure {
    tracing::debug!(revision = from.revision, "a continue token is too old");
    let status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    Status { next: Continue { revision: 0, ..from.clone() }.encode(), ..status }.into()
}

/// The cache of a target's kind.
///
/// # Errors
/// 405 for kinds that are not stored.
pub fn cache(server: &Server, target: &Target) -> Result<Arc<Cache>, Failure> {
    server.caches.of(target.kind).ok_or_else(|| Status::method_not_allowed(target.resource(), "list").into())
}
