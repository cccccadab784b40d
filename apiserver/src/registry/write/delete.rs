//! Delete and deletecollection. What a deletion means is decided in `finalize.rs`.

use super::{Attempts, Options, admission_request, bytes, commit, last};
use crate::answer::Failure;
use crate::cache::Entry;
use crate::registry::allocate::Claims;
use crate::registry::finalize::{self, Deletion, Propagation};
use crate::registry::read::{self, Filter, ListOptions};
use crate::registry::{Target, allocate};
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::Operation;
use api::json::Value;
use api::meta;
use api::status::{ResourceName, Status};
use futures::{StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use storage::store::{Commit, Expect, Op, Revision, StoreError};

/// What a client says about a deletion.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds; `None` for the kind's default.
    pub grace: Option<i64>,
    /// What becomes of the dependents; `None` for what the object says.
    pub propagation: Option<Propagation>,
    /// Only this object.
    pub uid: Option<String>,
    /// Only this version of it.
    pub version: Option<String>,
    /// Do everything but write.
    pub dry_run: bool,
    /// What the client said, as fields of `DeleteOptions`.
    pub said: Value,
    /// Webhooks and policies are not asked: they have seen the request in another form.
    pub unseen: bool,
    /// The object cannot be read and shall go unread; [`delete`] knows nothing of it, `unreadable.rs` does it.
    pub ignore_read_error: bool,
}

/// A deletion's outcome.
pub struct Deleted {
    /// The object as it is now, or as it was when it went.
    pub entry: Arc<Entry>,
    /// It is gone.
    pub gone: bool,
}

/// Deletes an object, or begins to.
///
/// # Errors
/// 404, 409 for preconditions, refusals of admission, those of the store.
pub async fn delete(
    server: &Server,
    permit: &Permit,
    target: &Target,
    options: &DeleteOptions,
) -> Result<Deleted, Failure> {
    let mut attempts = Attempts::begin();
    while attempts.next().await {
        let entry = read::get(server, permit, target).await?;
        let old = read::served(target.kind, &entry);
        expected(target, options.uid.as_deref(), options.version.as_deref(), &old)?;
        let write_options = Options {
            dry_run: options.dry_run,
            said: options.said.clone(),
            unseen: options.unseen,
            ..Options::default()
        };
        let request = admission_request(Operation::Delete, target, &write_options, permit, &old, server.now());
        server.admission.mutate(&request, &mut Value::Null, server).await.map_err(|refusal| refusal.0)?;
        server.admission.validate(&request, &old, server).await.map_err(|refusal| refusal.0)?;
        let now = i64::try_from(server.clock.unix_seconds()).unwrap_or(i64::MAX);
        let mut decision = finalize::decide(target.kind, &old, options.propagation, options.grace, now);
        let expect = Expect::At(Revision(entry.revision));
        let (op, (kind, stored), gone, claims) = match &mut decision {
            Deletion::Unchanged => return Ok(Deleted { entry, gone: false }),
            Deletion::Pending(new) => {
                let stored = bytes(server, target.kind, new).await?;
                let op = Op::Put { key: target.key(), bytes: stored.clone(), expect, expires: None };
                (op, (target.kind.stored(), stored), false, Claims::default())
            }
            Deletion::Gone => {
                let stored = last(server, target.kind, &mut old.clone()).await?;
                // It ends as it was, which takes no key service.
                let op = Op::Discard { key: target.key(), expect };
                (op, stored, true, allocate::release(target, &old))
            }
        };
        if options.dry_run {
            let entry = Arc::new(Entry::new(kind, &target.key(), entry.revision, &stored));
            let entry = server.conversions.one(target.kind, entry).await?;
            return Ok(Deleted { entry, gone });
        }
        let ops = std::iter::once(op).chain(claims.ops).collect();
        let who = permit.user().name.as_str().into();
        let write = Commit { who, ops, checks: Vec::new(), claims: claims.claims };
        match commit(server, target, kind, write, &stored).await {
            Ok(entry) => return Ok(Deleted { entry: server.conversions.one(target.kind, entry).await?, gone }),
            Err(StoreError::Expectation { .. }) => tokio::task::yield_now().await,
            Err(error) => return Err(target.failure(error)),
        }
    }
    Err(Status::conflict(target.resource(), &target.name, Status::STALE).into())
}

/// Whether this is the object, and the version of it, that a deletion is meant for.
///
/// # Errors
/// 409 with upstream's two sentences, which name the kind and not the resource.
pub fn expected(target: &Target, uid: Option<&str>, version: Option<&str>, old: &Value) -> Result<(), Failure> {
    let check = |what: &str, wanted: Option<&str>, found: &str, happened: &str| match wanted {
        Some(wanted) if wanted != found => {
            let resource = ResourceName { group: target.kind.group, plural: target.kind.kind };
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {happened}"
            );
            Err(Failure::from(Status::conflict(resource, &target.name, &why)))
        }
        _ => Ok(()),
    };
    check("UID", uid, meta::uid(old), "deleted and then recreated")?;
    check("ResourceVersion", version, meta::resource_version(old), "modified")
}

/// Deletions of a collection that are on their way at once: they share commits.
const AT_ONCE: usize = 32;

/// Deletes every object of a collection that the filter selects; returns them as they were.
///
/// # Errors
/// One that is not a 404. Nothing is begun after it; what was on its way goes on or not.
pub async fn delete_collection(
    server: &Server,
    permit: &Permit,
    target: &Target,
    filter: &Filter,
    wanted: &ListOptions,
    options: &DeleteOptions,
) -> Result<read::Page, Failure> {
    let page = read::list(server, permit, target, filter, wanted).await?;
    let one = async |entry: &Entry| {
        let (namespace, name) = (entry.key.namespace.to_string(), entry.key.name.to_string());
        match delete(server, permit, &Target { kind: target.kind, namespace, name }, options).await {
            Ok(_) => Ok(()),
            Err(Failure::Status(status)) if status.code == 404 => Ok(()),
            Err(failure) => Err(failure),
        }
    };
    futures::stream::iter(&page.entries).map(Ok).try_for_each_concurrent(AT_ONCE, |entry| one(entry)).await?;
    Ok(page)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::AT_ONCE;
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use api::json::{Value, json};

    const MAPS: &str = "/api/v1/namespaces/default/configmaps";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collection_goes_but_for_what_others_hold_or_nobody_chose() {
        let (world, root) = (World::start(|_| {}).await, User::new("root", &["system:masters", AUTHENTICATED]));
        let ask = async |method: &str, path: &str, body: Value| world.ask(&root, method, path, &body).await;
        for number in 0..2 * AT_ONCE + 3 {
            let labels = json!({"group": if number == 5 { "b" } else { "a" }});
            let finalizers = if number == 7 { json!(["example.com/held"]) } else { Value::Null };
            let metadata = json!({"name": format!("m{number:03}"), "labels": labels, "finalizers": finalizers});
            assert_eq!(ask("POST", MAPS, json!({"metadata": metadata})).await.0, 201);
        }
        let chosen = format!("{MAPS}?labelSelector=group%3Da");
        let (code, before) = ask("DELETE", &chosen, Value::Null).await;
        let names = |list: &Value| -> Vec<String> {
            let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
            list["items"].as_array().unwrap().iter().map(name).collect()
        };
        let mut told: Vec<_> = (0..2 * AT_ONCE + 3).map(|number| format!("m{number:03}")).collect();
        told.remove(5);
        assert_eq!((code, names(&before)), (200, told), "in the order of lists, however they went");
        let (_, after) = ask("GET", &format!("{MAPS}?labelSelector=group"), Value::Null).await;
        assert_eq!(names(&after), ["m005", "m007"]);
        assert!(after["items"][1]["metadata"]["deletionTimestamp"].is_string());
    }
}
