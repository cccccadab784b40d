//! Aggregated API servers: versions of groups that an APIService gives to a Service (KEP-263, upstream's `kube-aggregator`).
//!
//! One task per server follows the APIServices, says whether their servers are available, and asks those that are what they have. A
//! request looks into the picture that the task has made; it never waits for it. Never looks into what is passed on.

mod availability;
mod merge;
mod proxy;
mod remote;

pub(crate) use proxy::answer;
pub(crate) use remote::Remote;

use crate::answer::Failure;
use crate::cache::Cache;
use crate::documents::{self, Document, Form};
use crate::offer::Offer;
use crate::registry::Target;
use crate::registry::write::{self, Change, Options};
use crate::road::authorized::Permit;
use crate::server::Server;
use api::json::Value;
use api::kinds::apiregistration_v1::api_service::KIND;
use api::status::Status;
use api::{meta, value};
use arc_swap::ArcSwap;
use availability::Verdict;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a server that is well is asked whether it still is; upstream's resync.
const EVERY: Duration = Duration::from_secs(30);
/// How often one that is not.
const AGAIN: Duration = Duration::from_secs(2);
/// How often a server is asked what it has.
const REFRESH: Duration = Duration::from_secs(60);
/// How often the task looks whether something is due.
const LOOK: Duration = Duration::from_secs(1);

/// The APIServices as they were at a moment.
#[derive(Default)]
pub(crate) struct Picture {
    /// Those that are served by others, by name.
    remotes: BTreeMap<String, Arc<Remote>>,
    /// The priority of each group that has one.
    priorities: HashMap<String, i64>,
    /// What the others have, by the name of the APIService.
    found: HashMap<String, Arc<Found>>,
}

/// What an aggregated API server says of one version of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// An entry of `versions` in aggregated discovery.
    version: Value,
    /// Its entry in the index of OpenAPI v3.
    openapi: Option<Value>,
    /// Its document of OpenAPI v2.
    v2: Option<Arc<Described>>,
}

/// A document of another server.
#[derive(Debug, PartialEq)]
pub(crate) struct Described {
    /// By which that server knows whether it changed; empty when it says none.
    etag: String,
    document: Value,
}

/// Documents that were merged from an offer and a picture.
struct Merged {
    offer: Arc<Offer>,
    picture: Arc<Picture>,
    documents: HashMap<String, Document>,
    v2: Option<Arc<[Form; 2]>>,
}

/// See the file.
#[derive(Default)]
pub struct Aggregates {
    picture: ArcSwap<Picture>,
    merged: Mutex<Option<Merged>>,
}

/// Group and version of a path below `/api`, `/apis` or the documents of OpenAPI v3, if it names both.
fn group_version(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
    if let Some(rest) = path.strip_prefix("/api/") {
        return Some(("", rest.split('/').next().filter(|version| !version.is_empty())?));
    }
    let mut parts = path.strip_prefix("/apis/")?.split('/');
    let group = parts.next().filter(|group| !group.is_empty())?;
    Some((group, parts.next().filter(|version| !version.is_empty())?))
}

impl Aggregates {
    /// Who serves a path instead of this server.
    pub(crate) fn of(&self, path: &str) -> Option<Arc<Remote>> {
        let picture = self.picture.load();
        if picture.remotes.is_empty() {
            return None;
        }
        let (group, version) = group_version(path)?;
        picture.remotes.get(&format!("{version}.{group}")).cloned()
    }

    /// A document of discovery, or the index of OpenAPI v3 (`/openapi/v3`), with what others serve; `None` where nobody else
    /// serves anything. `version` is that of aggregated discovery.
    pub(crate) fn document(&self, offer: &Arc<Offer>, path: &str, version: Option<&'static str>) -> Option<Document> {
        let picture = self.picture.load_full();
        if picture.remotes.is_empty() {
            return None;
        }
        let key = format!("{path} {}", version.unwrap_or_default());
        let mut held = self.merged.lock();
        let merged = fitting(&mut held, offer, &picture);
        if let Some(document) = merged.documents.get(&key) {
            return Some(document.clone());
        }
        let value: Value = match (path, version) {
            ("/openapi/v3", _) => {
                let index = offer.documents.openapi("v3").and_then(|forms| forms.first()).map(|form| &form.document);
                merge::index(own(index), &picture)
            }
            ("/apis", Some(version)) => merge::aggregated(own(offer.documents.aggregated(path, version)), &picture),
            ("/apis", None) => merge::groups(own(offer.documents.plain(path)), &picture),
            _ => merge::group(own(offer.documents.plain(path)), path.strip_prefix("/apis/")?, &picture)?,
        };
        let document = if path.starts_with("/apis") { Document::discovery(&value) } else { Document::new(&value) };
        merged.documents.insert(key, document.clone());
        Some(document)
    }

    /// The document of OpenAPI v2 with what others serve, in its encodings; `None` where nobody else says anything.
    pub(crate) fn v2(&self, offer: &Arc<Offer>) -> Option<Arc<[Form; 2]>> {
        let picture = self.picture.load_full();
        let described = |remote: &Remote| picture.found.get(&remote.name).and_then(|found| found.v2.clone());
        // In the order in which upstream merges: groups by priority, and their versions.
        let mut others: Vec<(&Remote, Arc<Described>)> =
            picture.remotes.values().filter_map(|remote| Some((&**remote, described(remote)?))).collect();
        if others.is_empty() {
            return None;
        }
        let priority = |group: &str| picture.priorities.get(group).copied().unwrap_or_default();
        others.sort_by_key(|(remote, _)| {
            let first = std::cmp::Reverse((priority(&remote.group), remote.version_priority));
            (first, remote.group.clone(), remote.version.clone())
        });
        let mut held = self.merged.lock();
        let merged = fitting(&mut held, offer, &picture);
        if let Some(v2) = &merged.v2 {
            return Some(Arc::clone(v2));
        }
        let forms = offer.documents.openapi("v2").unwrap_or_default();
        let mut document = own(forms.first().map(|form| &form.document));
        for (remote, described) in others {
            let prefix = format!("/apis/{}/{}/", remote.group, remote.version);
            openapi::aggregated::add_v2(&mut document, &described.document, &prefix);
        }
        let v2 = Arc::new(documents::v2(&document));
        merged.v2 = Some(Arc::clone(&v2));
        Some(v2)
    }

    /// The paths of groups that others serve, for the root's list.
    pub(crate) fn paths(&self) -> Vec<String> {
        let picture = self.picture.load();
        let remotes = picture.remotes.values().filter(|remote| !remote.group.is_empty());
        let paths = remotes.flat_map(|remote| {
            let group = format!("/apis/{}", remote.group);
            [format!("{group}/{}", remote.version), group]
        });
        paths.collect()
    }
}

/// What was merged from this offer and picture, or room for it.
fn fitting<'a>(held: &'a mut Option<Merged>, offer: &Arc<Offer>, picture: &Arc<Picture>) -> &'a mut Merged {
    let fits = |held: &Merged| Arc::ptr_eq(&held.offer, offer) && Arc::ptr_eq(&held.picture, picture);
    if !held.as_ref().is_some_and(fits) {
        *held = None;
    }
    held.get_or_insert_with(|| {
        let (offer, picture) = (Arc::clone(offer), Arc::clone(picture));
        Merged { offer, picture, documents: HashMap::new(), v2: None }
    })
}

/// A document of ours as a value.
fn own(document: Option<&Document>) -> Value {
    document.and_then(|document| api::json::from_slice(&document.bytes).ok()).unwrap_or_default()
}

/// What is remembered of a server between two looks.
struct Look {
    /// Everything that the verdict was made from, beside the answer of the server.
    key: String,
    at: Instant,
    verdict: Verdict,
    asked: Option<Instant>,
}

struct Follower {
    server: Arc<Server>,
    registrations: Arc<Cache>,
    services: Arc<Cache>,
    slices: Arc<Cache>,
    looks: HashMap<String, Look>,
}

/// Follows the APIServices until the server stops.
pub(crate) fn start(server: &Arc<Server>) {
    let cache = |name: &str| server.caches.named(name);
    let (Some(registrations), Some(services), Some(slices)) =
        (cache(&KIND.group_resource()), cache("services"), cache("endpointslices.discovery.k8s.io"))
    else {
        return;
    };
    let follower = Follower { server: Arc::clone(server), registrations, services, slices, looks: HashMap::new() };
    tokio::spawn(follower.follow());
}

impl Follower {
    async fn follow(mut self) {
        let mut registered = self.registrations.moves();
        let (mut services, mut slices) = (self.services.moves(), self.slices.moves());
        loop {
            registered.mark_unchanged();
            services.mark_unchanged();
            slices.mark_unchanged();
            self.pass().await;
            let some = !self.server.aggregates.picture.load().remotes.is_empty();
            let stop = self.server.ends.end.clone();
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                changed = registered.changed() => changed,
                changed = services.changed(), if some => changed,
                changed = slices.changed(), if some => changed,
                () = tokio::time::sleep(LOOK), if some => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    async fn pass(&mut self) {
        let snapshot = self.registrations.snapshot();
        let objects: Vec<Value> = snapshot.objects.values().map(|entry| entry.value()).collect();
        let before = self.server.aggregates.picture.load_full();
        let mut next = Picture::default();
        let clients = self.server.clients.load_full();
        let front = clients.proxy.as_ref();
        for object in &objects {
            let group = value::text(object, "spec.group").to_owned();
            let priority = value::int(object, "spec.groupPriorityMinimum").unwrap_or_default();
            let known = next.priorities.entry(group).or_default();
            *known = priority.max(*known);
            let same = before.remotes.get(meta::name(object)).filter(|remote| remote.is_of(object, front)).cloned();
            let remote = same.or_else(|| Remote::read(object, front).map(Arc::new));
            next.remotes.extend(remote.map(|remote| (meta::name(object).to_owned(), remote)));
        }
        next.found = before.found.clone();
        next.found.retain(|name, _| next.remotes.contains_key(name));
        self.looks.retain(|name, _| next.remotes.contains_key(name));
        let changed = next.remotes.len() != before.remotes.len()
            || next.priorities != before.priorities
            || next
                .remotes
                .iter()
                .any(|(name, remote)| before.remotes.get(name).is_none_or(|known| !Arc::ptr_eq(known, remote)));
        if changed {
            self.server.aggregates.picture.store(Arc::new(next));
        }
        for object in objects.iter().filter(|object| value::get(object, "spec.service").is_none_or(Value::is_null)) {
            self.say(object, &Verdict::local()).await;
        }
        self.look(&objects).await;
    }

    /// Looks at the servers for which it is time.
    async fn look(&mut self, objects: &[Value]) {
        let picture = self.server.aggregates.picture.load_full();
        let now = Instant::now();
        let mut due = Vec::new();
        for object in objects {
            let Some(remote) = picture.remotes.get(meta::name(object)) else { continue };
            let surroundings = availability::Surroundings::of(&self.services, &self.slices, remote);
            let key = format!("{} {}", object.get("spec").unwrap_or(&Value::Null), surroundings.key);
            let look = self.looks.get(&remote.name);
            let fresh = look.is_some_and(|look| {
                let wait = if look.verdict.is_good() { EVERY } else { AGAIN };
                look.key == key && now.duration_since(look.at) < wait
            });
            if fresh {
                continue;
            }
            let asked = look.filter(|look| look.key == key).and_then(|look| look.asked);
            let refresh = asked.is_none_or(|asked| now.duration_since(asked) >= REFRESH);
            let known = picture.found.get(&remote.name).and_then(|found| found.v2.clone());
            due.push((object, Arc::clone(remote), surroundings, key, refresh, asked, known));
        }
        let server = &self.server;
        let done = due.into_iter().map(|(object, remote, surroundings, key, refresh, asked, known)| async move {
            let verdict = availability::check(server, &remote, &surroundings).await;
            let found = match verdict.is_good() && refresh {
                true => Some(remote::ask(server, &remote, known).await),
                false => None,
            };
            (object, remote, key, verdict, found, asked)
        });
        for (object, remote, key, verdict, found, asked) in futures::future::join_all(done).await {
            self.say(object, &verdict).await;
            let asked = if found.is_some() { Some(now) } else { asked };
            let stale = !verdict.is_good();
            let look = Look { key, at: now, verdict, asked };
            self.looks.insert(remote.name.clone(), look);
            self.keep(&remote, found, stale);
        }
    }

    /// Keeps what a server has; one that does not answer has what it had, and is marked.
    fn keep(&self, remote: &Remote, found: Option<Found>, stale: bool) {
        let picture = self.server.aggregates.picture.load_full();
        let known = picture.found.get(&remote.name);
        let mut new = match (found, known) {
            (Some(found), _) => found,
            (None, Some(known)) => Found::clone(known),
            (None, None) => Found { version: merge::nothing(&remote.version), openapi: None, v2: None },
        };
        if stale {
            value::set(&mut new.version, "freshness", "Stale");
        }
        if known.is_some_and(|known| **known == new) {
            return;
        }
        let mut found = picture.found.clone();
        found.insert(remote.name.clone(), Arc::new(new));
        let next = Picture { remotes: picture.remotes.clone(), priorities: picture.priorities.clone(), found };
        self.server.aggregates.picture.store(Arc::new(next));
    }

    /// Writes a verdict where it says something new.
    async fn say(&self, object: &Value, verdict: &Verdict) {
        let now = self.server.now_text();
        if verdict.said(object, &now) == *object {
            return;
        }
        let target = Target { kind: &KIND, namespace: String::new(), name: meta::name(object).to_owned() };
        let options =
            Options { manager: write::OWN_NAME.to_owned(), subresource: "status".to_owned(), ..Options::default() };
        let permit = Permit::without_request("availability of APIServices");
        let done = write::update(&self.server, &permit, &target, &options, |old| {
            let old = old.ok_or_else(|| Status::not_found(target.resource(), &target.name))?;
            // What was looked at is no longer there.
            let same = old.get("spec") == object.get("spec");
            let object = if same { verdict.said(old, &now) } else { old.clone() };
            Ok(Change { object, applied: false, rebased: true })
        })
        .await;
        match done {
            Err(Failure::Status(status)) if status.code == 404 => {}
            Err(failure) => tracing::warn!(?failure, name = target.name, "the status of an APIService was not written"),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_version_of_a_group() {
        for (path, expected) in [
            ("/apis/g.io/v1", Some(("g.io", "v1"))),
            ("/apis/g.io/v1/namespaces/a/things/b/proxy/x", Some(("g.io", "v1"))),
            ("/openapi/v3/apis/g.io/v1", Some(("g.io", "v1"))),
            ("/api/v1/pods", Some(("", "v1"))),
            ("/apis/g.io", None),
            ("/apis/g.io/", None),
            ("/apis", None),
            ("/api", None),
            ("/openapi/v3", None),
            ("/version", None),
        ] {
            assert_eq!(group_version(path), expected, "{path}");
        }
    }
}
