//! Custom resource definitions at work: their names, their kinds among those that are served, and their end.
//!
//! One task per server follows the cache of definitions and decides from it alone, so that servers over one store agree. A kind is
//! served before its definition says so, and no longer once it says so. Never touches a request.

use crate::answer::Failure;
use crate::bootstrap;
use crate::cache::{Cache, Entry};
use crate::offer::Offer;
use crate::registry::read::{self, Filter, ListOptions, Version};
use crate::registry::write::{self, Change, DeleteOptions, Options};
use crate::registry::{Target, finalize};
use crate::road::authorized::Permit;
use crate::server::{Server, StartError};
use admission::Lookup as _;
use api::custom::kinds::{Defined, compare_versions, define};
use api::custom::names::{self, FINALIZER, Taken};
use api::json::Value;
use api::kind::Kind;
use api::kinds::apiextensions_v1::custom_resource_definition::KIND;
use api::kinds::apiregistration_v1::api_service;
use api::status::Status;
use api::{meta, value};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use storage::store::{Check, Expect, Key, Retention, StoreError};

/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the objects of a definition that is on its way out are looked for.
const EMPTY_EVERY: Duration = Duration::from_millis(100);

/// What is known of a definition.
struct Held {
    revision: u64,
    /// Without the versions.
    outline: Value,
    spec: [u8; 32],
    defined: Option<Arc<Defined>>,
}

/// The task's memory.
struct Follower {
    server: Arc<Server>,
    definitions: Arc<Cache>,
    held: BTreeMap<String, Held>,
    /// Kinds live as long as the process: what was defined once is not defined again.
    known: HashMap<[u8; 32], Arc<Defined>>,
    ending: BTreeSet<String>,
    /// Versions of groups that have their APIService; `None` until it was looked what is there.
    registered: Option<BTreeSet<(&'static str, &'static str)>>,
}

/// Serves what is defined already, and follows the definitions from then on.
///
/// # Errors
/// Those of the store.
pub(crate) async fn start(server: &Arc<Server>) -> Result<(), StartError> {
    let Some(definitions) = server.caches.named(&KIND.group_resource()) else { return Ok(()) };
    let server = Arc::clone(server);
    let mut follower = Follower {
        server,
        definitions,
        held: BTreeMap::new(),
        known: HashMap::new(),
        ending: BTreeSet::new(),
        registered: None,
    };
    follower.read();
    follower.offer().await?;
    tokio::spawn(follower.follow());
    Ok(())
}

impl Follower {
    async fn follow(mut self) {
        let mut moved = self.definitions.moves();
        loop {
            moved.mark_unchanged();
            let done = self.pass().await;
            if let Err(failure) = &done {
                tracing::warn!(?failure, "custom resource definitions could not be followed");
            }
            let stop = self.server.ends.end.clone();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = moved.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN), if done.is_err() || !self.ending.is_empty() => {}
            }
        }
    }

    /// Takes in what has changed.
    fn read(&mut self) {
        let snapshot = self.definitions.snapshot();
        self.held.retain(|name, _| self.definitions.peek("", name).is_some());
        for (key, entry) in &snapshot.objects {
            if self.held.get(&*key.name).is_some_and(|held| held.revision == entry.revision) {
                continue;
            }
            let held = self.take(entry);
            self.held.insert(key.name.to_string(), held);
        }
    }

    fn take(&mut self, entry: &Entry) -> Held {
        let mut outline = entry.value();
        let spec = outline.get("spec").map(Value::to_string).unwrap_or_default();
        let spec: [u8; 32] = Sha256::digest(spec.as_bytes()).into();
        let defined = match self.known.get(&spec) {
            Some(known) => Some(Arc::clone(known)),
            None => define(&outline).map(Arc::new),
        };
        if let Some(defined) = &defined {
            self.known.insert(spec, Arc::clone(defined));
        }
        value::remove(&mut outline, "spec.versions");
        value::remove(&mut outline, "metadata.managedFields");
        Held { revision: entry.revision, outline, spec, defined }
    }

    async fn pass(&mut self) -> Result<(), Failure> {
        self.read();
        let now = self.server.now_text();
        let mut settled = Vec::new();
        let names: Vec<String> = self.held.keys().cloned().collect();
        for name in names {
            let Some(held) = self.held.get(&name).filter(|held| unsettled(&held.outline)) else { continue };
            let group = value::text(&held.outline, "spec.group");
            let mut taken = Taken::default();
            for other in self.held.values().filter(|other| value::text(&other.outline, "spec.group") == group) {
                taken.add(&other.outline);
            }
            let new = names::settle(&held.outline, &taken, &now);
            if new == held.outline {
                continue;
            }
            settled.push((name.clone(), held.revision, new.get("status").cloned().unwrap_or_default()));
            if let Some(held) = self.held.get_mut(&name) {
                held.outline = new;
                // Read again what comes of the write, or of its failure.
                held.revision = 0;
            }
        }
        self.offer().await.map_err(Failure::from)?;
        for (name, revision, status) in settled {
            write_status(&self.server, &name, revision, status).await?;
        }
        self.end_those_that_go();
        self.register().await
    }

    /// An APIService for each version of a group that definitions serve, and none for others.
    async fn register(&mut self) -> Result<(), Failure> {
        let server = &self.server;
        let native = &server.config.served;
        let wanted: BTreeSet<(&'static str, &'static str)> = self
            .server
            .offer()
            .served
            .kinds()
            .iter()
            .filter(|kind| kind.custom.is_some() && !native.has_version(kind.group, kind.version))
            .map(|kind| (kind.group, kind.version))
            .collect();
        if self.registered.as_ref() == Some(&wanted) {
            return Ok(());
        }
        for (group, version) in &wanted {
            if self.registered.as_ref().is_none_or(|known| !known.contains(&(*group, *version))) {
                bootstrap::ensure(server, &permit(), api_service::of_definitions(group, version)).await?;
            }
        }
        let there = server.list_latest(api_service::KIND.group, api_service::KIND.plural, "").await;
        for object in there.map_err(|refusal| refusal.0)? {
            let (group, version) = (value::text(&object, "spec.group"), value::text(&object, "spec.version"));
            if api_service::is_of_definitions(&object) && !wanted.contains(&(group, version)) {
                let name = meta::name(&object).to_owned();
                let target = Target { kind: &api_service::KIND, namespace: String::new(), name };
                match write::delete(server, &permit(), &target, &DeleteOptions::default()).await {
                    Err(Failure::Status(status)) if status.code == 404 => {}
                    outcome => drop(outcome?),
                }
            }
        }
        self.registered = Some(wanted);
        Ok(())
    }

    /// Serves the kinds of all definitions whose names are accepted.
    async fn offer(&mut self) -> Result<(), StoreError> {
        let server = &self.server;
        let before = server.offer();
        let native = &server.config.served;
        let mut kinds: Vec<&'static Kind> = Vec::new();
        let mut stored: HashMap<String, &'static Kind> = HashMap::new();
        for held in self.held.values() {
            let given = ["NamesAccepted", "Established"];
            if given.iter().all(|condition| names::condition(&held.outline, condition) != "True") {
                continue;
            }
            let Some(defined) = &held.defined else { continue };
            stored.insert(defined.stored.group_resource(), defined.stored);
            kinds.extend(&defined.served);
        }
        kinds.sort_by(|a, b| {
            a.group
                .cmp(b.group)
                .then_with(|| compare_versions(b.version, a.version))
                .then_with(|| a.plural.cmp(b.plural))
        });
        let old: Vec<&'static Kind> =
            before.served.kinds().iter().copied().filter(|kind| kind.custom.is_some()).collect();
        let cached = server.caches.kinds();
        let of_custom = || cached.iter().filter(|kind| kind.custom.is_some());
        let same = |a: &Kind, b: &Kind| std::ptr::eq(a, b);
        for (resource, kind) in &stored {
            let overlaps = native.kinds().iter().any(|own| own.group_resource() == *resource);
            if !overlaps && !cached.iter().any(|there| same(there, kind)) {
                server.caches.add(kind).await?;
            }
        }
        let gone: Vec<String> =
            of_custom().map(|kind| kind.group_resource()).filter(|resource| !stored.contains_key(resource)).collect();
        let unchanged = old.len() == kinds.len() && old.iter().zip(&kinds).all(|(a, b)| same(a, b));
        if !unchanged {
            let documents = before.documents.with(&kinds);
            server.offer.store(Arc::new(Offer { served: native.with(kinds), documents }));
        }
        for resource in gone {
            server.caches.remove(&resource);
            // What is left of it is a past that nobody can ask for.
            let nothing = Retention { max_age: Some(Duration::ZERO), max_entries: None };
            server.store.compact(&resource, nothing).await?;
        }
        Ok(())
    }

    /// Empties and lets go the definitions that were deleted, each in a task of its own.
    fn end_those_that_go(&mut self) {
        let holds =
            |held: &Held| meta::is_deleting(&held.outline) && meta::finalizers(&held.outline).contains(&FINALIZER);
        self.ending.retain(|name| self.held.get(name).is_some_and(holds));
        for (name, held) in self.held.iter().filter(|(_, held)| holds(held)) {
            if self.ending.contains(name) {
                continue;
            }
            self.ending.insert(name.clone());
            let (server, name) = (Arc::clone(&self.server), name.clone());
            let stored = held.defined.as_ref().map(|defined| defined.stored);
            let established = names::condition(&held.outline, "Established") == "True";
            let _ = held.spec;
            tokio::spawn(async move {
                while let Err(failure) = end(&server, &name, stored.filter(|_| established)).await {
                    tracing::warn!(?failure, name, "a custom resource definition could not be ended");
                    tokio::select! {
                        () = server.ends.end.cancelled() => return,
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
            });
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store { error: Box::new(error), resource: (KIND.group, KIND.plural), name: String::new() }
    }
}

/// Something about the names of a definition is still to be decided.
fn unsettled(outline: &Value) -> bool {
    let names = |path: &str| value::get(outline, path).cloned().unwrap_or_default();
    let approved = "KubernetesAPIApprovalPolicyConformant";
    let approval = names::approval(outline).is_some_and(|(status, ..)| names::condition(outline, approved) != status);
    names("spec.names") != names("status.acceptedNames")
        || ["NamesAccepted", "Established"].iter().any(|kind| names::condition(outline, kind) != "True")
        || approval
}

fn target(name: &str) -> Target {
    Target { kind: &KIND, namespace: String::new(), name: name.to_owned() }
}

fn options() -> Options {
    Options { manager: write::OWN_NAME.to_owned(), subresource: "status".to_owned(), ..Options::default() }
}

fn permit() -> Permit {
    Permit::without_request("custom resource definitions")
}

/// Changes a definition through its status; a definition that is gone needs no change.
async fn change(server: &Server, name: &str, change: impl Fn(&mut Value)) -> Result<(), Failure> {
    let done = write::update(server, &permit(), &target(name), &options(), |old| {
        let mut object = old.cloned().ok_or_else(|| Status::not_found(target(name).resource(), name))?;
        change(&mut object);
        Ok(Change { object, applied: false, rebased: true })
    })
    .await;
    match done {
        Err(Failure::Status(status)) if status.code == 404 => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Writes what was decided from a revision; when the definition has moved on, the decision is made anew.
async fn write_status(server: &Server, name: &str, revision: u64, status: Value) -> Result<(), Failure> {
    let at = revision.to_string();
    let done = write::update(server, &permit(), &target(name), &options(), |old| {
        let mut object = old.cloned().ok_or_else(|| Status::not_found(target(name).resource(), name))?;
        if meta::resource_version(&object) != at {
            return Err(Status::conflict(target(name).resource(), name, Status::STALE).into());
        }
        value::set(&mut object, "status", status.clone());
        Ok(Change { object, applied: false, rebased: true })
    })
    .await;
    match done {
        Err(Failure::Status(status)) if matches!(status.code, 404 | 409) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Deletes the objects of a definition, then takes the finalizer from it.
async fn end(server: &Server, name: &str, stored: Option<&'static Kind>) -> Result<(), Failure> {
    let terminating = |object: &mut Value, status, reason, message| {
        names::set_condition(object, "Terminating", (status, reason, message), &server.now_text());
    };
    change(server, name, |object| {
        terminating(object, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
    })
    .await?;
    if let Some(kind) = stored {
        empty(server, kind).await?;
    }
    change(server, name, |object| {
        match stored {
            Some(_) => terminating(object, "False", "InstanceDeletionCompleted", "removed all instances"),
            None => terminating(object, "False", "NeverEstablished", "resource was never established"),
        }
        let left: Vec<String> =
            meta::finalizers(object).into_iter().filter(|one| *one != FINALIZER).map(str::to_owned).collect();
        value::set(object, "metadata.finalizers", left);
    })
    .await
}

/// Deletes every object of a kind and waits until they are gone: finalizers may hold them.
async fn empty(server: &Server, kind: &'static Kind) -> Result<(), Failure> {
    let all = Target { kind, namespace: String::new(), name: String::new() };
    let wanted = ListOptions { version: Version::Consistent, limit: usize::MAX, from: None };
    let gently = DeleteOptions { propagation: Some(finalize::Propagation::Background), ..DeleteOptions::default() };
    loop {
        let page = write::delete_collection(server, &permit(), &all, &Filter::default(), &wanted, &gently).await?;
        if page.entries.is_empty() {
            return Ok(());
        }
        let cache = read::cache(server, &all)?;
        let mut moved = cache.moves();
        while !cache.consistent(None).await?.objects.is_empty() {
            tokio::select! {
                () = server.ends.end.cancelled() => return Err(Status::internal("the server stops").into()),
                _ = moved.changed() => {}
                () = tokio::time::sleep(EMPTY_EVERY) => {}
            }
        }
    }
}

/// A new object's definition must not be on its way out, in the same transaction.
///
/// # Errors
/// 403 when it is; 404 when it is gone.
pub(crate) async fn check(server: &Server, of: &Target) -> Result<Check, Failure> {
    let key = Key::new(&KIND.group_resource(), "", &of.kind.group_resource());
    let found = server.store.get(&key).await.map_err(|error| of.failure(error))?;
    let found = found.ok_or_else(|| Status::not_found(of.resource(), &of.name))?;
    let definition: Value = api::codec::json::stored(&found.bytes).unwrap_or_default();
    if meta::is_deleting(&definition) {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(Status::forbidden(of.resource(), &of.name, why).into());
    }
    Ok(Check { key, expect: Expect::At(found.revision) })
}
