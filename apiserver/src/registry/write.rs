//! Writing: the order of steps of create, update and delete, once, for every kind.
//!
//! Create: fill metadata, clear status, default, own fields, admit (mutating), default, prepare, validate, admit
//! (validating), settle quotas, allocate, commit. Update does the same against the stored object and again when another writer was
//! faster. Never speaks HTTP and never encodes for clients.

mod create;
mod delete;
mod emptied;
mod update;

pub use create::create;
pub use delete::{DeleteOptions, delete, delete_collection, expected};
pub use emptied::Said;
pub use update::{Change, update};

use super::Target;
use super::versions::Others;
use crate::answer::Failure;
use crate::cache::Entry;
use crate::road::authorized::Permit;
use crate::road::timed::{Work, timed};
use crate::server::Server;
use admission::{Form, Operation, Request};
use api::apply::{self, FieldSet, Later, Manager};
use api::json::Value;
use api::kind::{Kind, Writer};
use api::status::Status;
use api::{meta, value};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use storage::store::{Check, Commit, Expect, Key, Revision, StoreError};
use tokio::time::Instant;

/// How long a write is tried again when other writers are faster; upstream goes on until the request times out.
const PATIENCE: Duration = Duration::from_secs(30);

/// As whom the server itself owns fields, as upstream does by the name of its program.
pub const OWN_NAME: &str = "kube-apiserver";

/// The attempts of one write. The first ones follow at once, later ones after a short random wait, so that of many writers one
/// gets through at a time.
pub(super) struct Attempts {
    until: Instant,
    made: u32,
}

impl Attempts {
    pub(super) fn begin() -> Attempts {
        Attempts { until: Instant::now() + PATIENCE, made: 0 }
    }

    /// Waits as long as it should and says whether to try (again).
    pub(super) async fn next(&mut self) -> bool {
        use rand::Rng as _;
        const AT_ONCE: u32 = 4;
        if self.made >= AT_ONCE {
            let most = 1u64 << self.made.saturating_sub(AT_ONCE).min(5);
            let wait = rand::rng().random_range(0..=most);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        self.made = self.made.saturating_add(1);
        self.made == 1 || Instant::now() < self.until
    }
}

/// What a client says about a write beside the object.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Do everything but write.
    pub dry_run: bool,
    /// Who owns the fields; derived from the user agent when the client says nothing.
    pub manager: String,
    /// The subresource through which the write comes.
    pub subresource: String,
    /// The verb of the request; empty for work without one.
    pub verb: String,
    /// What the client said beside the object, as fields of the request's options; `Null` for nothing.
    pub said: Value,
    /// Webhooks and policies are not asked: they have seen the request in another form.
    pub unseen: bool,
    /// The body that is the object, for what it says that is empty.
    pub said_body: Option<Arc<Said>>,
}

/// A finished write.
pub struct Written {
    /// The object as stored.
    pub entry: Arc<Entry>,
    /// It was not there before.
    pub created: bool,
}

/// The constant defaults of the schema, then those of the kind.
pub(super) fn default(kind: &'static Kind, object: &mut Value) {
    api::schema::defaults::apply(object, kind.schema());
    kind.hooks.default(object);
}

/// Brings an object into the form in which it will be read back: fields that Go always writes are there, absent ones are
/// not. Without it a write that changes nothing would look like a change.
pub(super) fn canonical(kind: &'static Kind, object: &mut Value) {
    api::codec::json::settle(object, kind.schema());
}

/// Drops owners that are named twice, and warns of them. `after` tells when they were found.
pub(super) fn lone_owners(permit: &Permit, object: &mut Value, after: &str) {
    let owners = object.get_mut("metadata").and_then(|meta| meta.get_mut("ownerReferences"));
    let Some(owners) = owners.and_then(Value::as_array_mut).filter(|owners| owners.len() > 1) else { return };
    let mut lone: Vec<Value> = Vec::with_capacity(owners.len());
    let mut twice = Vec::new();
    for owner in std::mem::take(owners) {
        if lone.contains(&owner) {
            twice.push(value::text(&owner, "uid").to_owned());
        } else {
            lone.push(owner);
        }
    }
    *owners = lone;
    if !twice.is_empty() {
        permit.notes().warn(format!(
            ".metadata.ownerReferences contains duplicate entries{after}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}

/// When owners that admission named twice are found.
pub(super) const ADMITTED: &str = " after mutating admission happens";

/// An admission request for this write.
pub(crate) fn admission_request<'a>(
    operation: Operation,
    target: &'a Target,
    options: &'a Options,
    permit: &'a Permit,
    old: &'a Value,
    now: i64,
) -> Request<'a> {
    let user = permit.user();
    Request {
        operation,
        kind: target.kind,
        namespace: &target.namespace,
        name: &target.name,
        subresource: &options.subresource,
        user: &user.name,
        groups: &user.groups,
        extra: &user.extra,
        uid: &user.uid,
        old,
        now,
        form: if options.unseen || permit.is_internal() { Form::Unseen } else { Form::Itself },
        dry_run: options.dry_run,
        options: &options.said,
        notes: permit.notes(),
        rounds: None,
    }
}

/// Who writes, as kinds see it.
pub(super) fn writer(permit: &Permit) -> Writer<'_> {
    let user = permit.user();
    Writer { name: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra }
}

/// Who owns the fields of this write.
fn manager<'a>(options: &'a Options, time: &'a str, version: &'a str, versions: &'a Others) -> Manager<'a> {
    Manager {
        manager: if options.manager.is_empty() { "unknown" } else { &options.manager },
        operation: apply::Operation::Update,
        api_version: version,
        time,
        subresource: &options.subresource,
        versions: Some(versions),
    }
}

/// The object with the owners of its fields after a write that is no apply: what admission and the server make of it has none.
pub(super) async fn owned(
    server: &Server,
    kind: &'static Kind,
    options: &Options,
    old: Option<&Value>,
    new: Value,
) -> Value {
    let (time, version) = (server.now_text(), kind.api_version());
    let reset = reset_fields(kind, &options.subresource);
    let others = Others::new(kind);
    let who = manager(options, &time, &version, &others);
    let mut new = new;
    loop {
        match apply::update(old, new, kind.schema(), &who, &reset) {
            Ok(owned) => return owned,
            Err(Later(given)) if others.found(&server.conversions).await => new = given,
            Err(Later(mut given)) => {
                value::remove(&mut given, "metadata.managedFields");
                return given;
            }
        }
    }
}

/// A new object that is answered and not kept, as it is judged: each owner once, and its fields owned.
pub async fn reviewed(
    server: &Server,
    permit: &Permit,
    kind: &'static Kind,
    options: &Options,
    mut object: Value,
) -> Value {
    lone_owners(permit, &mut object, "");
    canonical(kind, &mut object);
    owned(server, kind, options, None, object).await
}

/// Fields that a write through this subresource cannot own, because it cannot change them.
pub(crate) fn reset_fields(kind: &Kind, subresource: &str) -> FieldSet<'static> {
    let mut out = FieldSet::default();
    if let Some((_, paths)) = kind.resets.iter().find(|(part, _)| *part == subresource) {
        paths.iter().for_each(|path| out.insert_subtree(path));
        return out;
    }
    match subresource {
        "" if kind.has_status() => out.insert_subtree(&["status"]),
        "status" => out.insert_subtree(&["spec"]),
        _ => {}
    }
    out
}

/// 422 when there are errors.
pub(super) fn refuse(target: &Target, object: &Value, errors: &api::field_path::Errors) -> Result<(), Failure> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = meta::name(object);
    let shown = if name.is_empty() { value::text(object, "metadata.generateName") } else { name };
    // Upstream names the type that it works with, which is that of the version it stores.
    let kind = target.kind.stored();
    Err(Status::invalid(kind.group, kind.kind, shown, errors).into())
}

/// The bytes that the store keeps: in the stored version, encoded by its schema, without `resourceVersion`. The object is afterwards what
/// it was.
///
/// # Errors
/// Those of conversion.
pub(super) async fn bytes(server: &Server, kind: &'static Kind, object: &mut Value) -> Result<Bytes, Failure> {
    let version = value::remove(object, VERSION);
    let encoded = stored(server, kind, object).await;
    if let Some(version) = version {
        value::set(object, VERSION, version);
    }
    encoded
}

/// Where an object says its version.
const VERSION: &str = "metadata.resourceVersion";

async fn stored(server: &Server, kind: &'static Kind, object: &Value) -> Result<Bytes, Failure> {
    let encode = |object: &Value| api::codec::json::encode(object, kind.stored().schema()).into();
    if kind.by_webhook() {
        let object = server.conversions.value(kind.stored(), object.clone()).await?;
        return Ok(encode(&object));
    }
    if kind.stored_as.is_none() {
        return Ok(encode(object));
    }
    let mut object = object.clone();
    kind.to_stored(&mut object);
    Ok(encode(&object))
}

/// The kind of an object that is on its way out, and its last bytes. Where only a webhook can convert, it goes in the version in which
/// it was asked for: nobody reads it again.
pub(super) async fn last(
    server: &Server,
    kind: &'static Kind,
    object: &mut Value,
) -> Result<(&'static Kind, Bytes), Failure> {
    if kind.by_webhook() {
        let mut object = object.clone();
        value::remove(&mut object, VERSION);
        return Ok((kind, api::codec::json::encode(&object, kind.schema()).into()));
    }
    Ok((kind.stored(), bytes(server, kind, object).await?))
}

/// Fields behind gates that are off go, and the defaults take their place.
pub(super) fn drop_disabled(server: &Server, kind: &'static Kind, new: &mut Value, old: Option<&Value>) {
    if api::gated::drop_disabled(kind.gated, &server.config.gates, new, old) {
        default(kind, new);
    }
}

/// When the object is due to vanish by itself, in Unix seconds.
pub(super) fn expires(server: &Server, kind: &'static Kind) -> Option<u64> {
    kind.stored().expires.then(|| server.clock.unix_seconds() + server.config.event_ttl.as_secs())
}

/// What a new object enters must exist and not be on its way out, in the same transaction: its namespace, and the definition of
/// its kind where it has one. The first time by what the cache knows: the commit finds out where that is old. `again` asks the store.
pub(super) async fn surroundings(server: &Server, target: &Target, again: bool) -> Result<Vec<Check>, Failure> {
    let mut checks = namespace_check(server, target, again).await?;
    if target.kind.custom.is_some() {
        checks.push(crate::crd::check(server, target).await?);
    }
    Ok(checks)
}

async fn namespace_check(server: &Server, target: &Target, again: bool) -> Result<Vec<Check>, Failure> {
    if target.namespace.is_empty() || !target.kind.namespaced {
        return Ok(Vec::new());
    }
    let key = Key::new("namespaces", "", &target.namespace);
    let at = |key, revision| Ok(vec![Check { key, expect: Expect::At(Revision(revision)) }]);
    let cache = server.caches.named("namespaces").filter(|cache| cache.is_sound());
    let known = cache.as_ref().filter(|_| !again).and_then(|cache| cache.sound("", &target.namespace));
    if let Some(entry) = known {
        return at(key, entry.revision);
    }
    let Some(Revision(revision)) =
        timed(Work::Store, server.store.revision_of(&key)).await.map_err(|error| target.failure(error))?
    else {
        let resource = api::status::ResourceName { group: "", plural: "namespaces" };
        return Err(Status::not_found(resource, &target.namespace).into());
    };
    // Admission asks the cache, which must not be older than what the commit insists on.
    if let Some(cache) = cache {
        cache.wait_for(revision).await.map_err(|error| target.failure(error))?;
    }
    at(key, revision)
}

/// Commits and returns the object, whose bytes are those of `kind`, at its new revision.
///
/// # Errors
/// Those of the store, untranslated: the caller decides what to try again.
pub(super) async fn commit(
    server: &Server,
    target: &Target,
    kind: &'static Kind,
    commit: Commit,
    bytes: &Bytes,
) -> Result<Arc<Entry>, StoreError> {
    let revision = timed(Work::Store, server.store.commit(commit)).await?;
    Ok(Arc::new(Entry::to_answer(kind, &target.key(), revision.0, bytes)))
}
