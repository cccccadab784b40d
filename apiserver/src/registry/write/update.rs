//! Update, also by patch, apply and subresources. See `write.rs` for the order of steps.

use super::{ADMITTED, drop_disabled, emptied, lone_owners, refuse, writer};
use super::{
    Attempts, Options, Written, admission_request, bytes, canonical, commit, create, default, expires, last, owned,
};
use crate::answer::Failure;
use crate::cache::Entry;
use crate::registry::along::Along;
use crate::registry::{Target, admitted, allocate, finalize, guard, parameters, ranges, read, turn};
use crate::road::authorized::Permit;
use crate::road::timed::{Work, during, timed};
use crate::server::Server;
use admission::{Form, Operation, Request};
use api::json::{Text, Value};
use api::kind::{Kind, Occasion, Part};
use api::status::Status;
use api::{judgement, meta, value};
use std::sync::Arc;
use storage::store::{Commit, Expect, Op, StoreError};

/// What a client wants an object to become.
pub struct Change {
    /// The new object, in the served version.
    pub object: Value,
    /// Managed fields are computed already (server-side apply).
    pub applied: bool,
    /// Made from the stored object: its `resourceVersion` is the store's and not the client's wish, so that a lost race is
    /// tried again.
    pub rebased: bool,
}

/// Changes an object. `change` is called with the stored object (`None` when absent), in the served version, and again
/// when another writer was faster.
///
/// # Errors
/// 404, 409, 422, refusals of admission, those of the store and of `change`.
pub async fn update(
    server: &Server,
    permit: &Permit,
    target: &Target,
    options: &Options,
    mut change: impl FnMut(Option<&Value>) -> Result<Change, Failure>,
) -> Result<Written, Failure> {
    let mut attempts = Attempts::begin();
    let mut guess = read::guess(server, target);
    while attempts.next().await {
        let guessed = guess.take();
        let sure = guessed.is_none();
        let found = match guessed {
            Some(entry) => Some(entry),
            None => read::find(server, permit, target).await?,
        };
        let Some(entry) = found else {
            let Change { mut object, applied, rebased } = change(None)?;
            if !rebased {
                same_uid(target, &object, "")?;
            }
            if applied && !meta::uid(&object).is_empty() {
                let uid = meta::uid(&object);
                let why =
                    format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                return Err(Status::conflict(target.resource(), &target.name, &why).into());
            }
            // Of an object that is not there any version is as good as another.
            value::remove(&mut object, "metadata.resourceVersion");
            return create(server, permit, target, object, options, applied).await;
        };
        let old = during(Work::Decode, || read::served(target.kind, &entry));
        let tried = match change(Some(&old)) {
            Ok(wanted) => attempt(server, permit, target, options, &entry, &old, wanted).await,
            Err(failure) => Err(failure),
        };
        // What was written was made of the object that was there. Anything else holds only if it is there still.
        let wrote = matches!(&tried, Ok(Some(written)) if written.entry.revision != entry.revision);
        if !sure && !wrote && read::revision(server, target).await? != Some(entry.revision) {
            continue;
        }
        match tried? {
            Some(written) => return Ok(written),
            None => tokio::task::yield_now().await,
        }
    }
    Err(Status::conflict(target.resource(), &target.name, Status::STALE).into())
}

/// One try; `None` when another writer was faster and the client did not insist on a version.
async fn attempt(
    server: &Server,
    permit: &Permit,
    target: &Target,
    options: &Options,
    entry: &Arc<Entry>,
    old: &Value,
    Change { mut object, applied, rebased }: Change,
) -> Result<Option<Written>, Failure> {
    let kind = target.kind;
    let insists = precondition(target, &object, old, rebased)? && !rebased;
    if !rebased {
        lone_owners(permit, &mut object, "");
    }
    // Who writes owns what was sent, before anybody else has changed it and whatever of it may not be changed.
    if !applied {
        keep_system_fields(&mut object, old);
        default(kind, &mut object);
        canonical(kind, &mut object);
        object = owned(server, kind, options, Some(old), object).await;
    }
    let mut new = confined(kind, options, object, old);
    default(kind, &mut new);
    let mut request = admission_request(Operation::Update, target, options, permit, old, server.now());
    let shape = admitted::shape(kind.subresource(&options.subresource));
    if let (Some(shape), Form::Itself) = (&shape, request.form) {
        request = Request { form: Form::Shape(shape), ..request };
    }
    if server.admission.mutate(&request, &mut new, server).await.map_err(|refusal| refusal.0)? {
        new = confined(kind, options, new, old);
    }
    lone_owners(permit, &mut new, ADMITTED);
    default(kind, &mut new);
    if options.subresource.is_empty() {
        kind.hooks.prepare_update(&mut new, old);
        let errors = kind.hooks.settle_families(&mut new, Some(old), &ranges::families(server));
        refuse(target, &new, &errors)?;
    }
    drop_disabled(server, kind, &mut new, Some(old));
    let now = server.now_text();
    let occasion = Occasion { now: &now, writer: writer(permit), verb: &options.verb };
    kind.hooks.stamp(&options.subresource, &mut new, Some(old), &occasion);
    canonical(kind, &mut new);
    // A pod that is given its node is still the pod that was asked for.
    let part = kind.subresource(&options.subresource).map(|part| part.part);
    let changed = || {
        let given = || emptied::given(kind, options, &new).is_some_and(|given| differs(kind, &given, old, options));
        differs(kind, &new, old, options) || kind.tells_empty && given()
    };
    if kind.generation && !matches!(part, Some(Part::Binding)) && changed() {
        value::set(&mut new, "metadata.generation", meta::generation(old) + 1);
    }
    let demands = kind.hooks.demands(&options.subresource, &new, Some(old), &occasion);
    let mut errors = guard::unmet(server, permit, target, demands).await;
    errors.extend(emptied::judged(kind, options, &new, |new| match options.subresource.as_str() {
        "" => judgement::update(new, old, kind),
        part => judgement::part(part, new, old, kind),
    }));
    errors.extend(guard::privileged(server, kind, &options.subresource, &new));
    refuse(target, &new, &errors)?;
    let warnings = match options.subresource.as_str() {
        "" => kind.hooks.warnings(&new, Some(old)),
        part => kind.hooks.warnings_of_part(part, &new, old),
    };
    warnings.into_iter().for_each(|sentence| permit.notes().warn(sentence));
    server.admission.validate(&request, &new, server).await.map_err(|refusal| refusal.0)?;
    guard::escalation(server, permit, target, &new, Some(old)).await?;
    parameters::readable(server, permit, target, &new, Some(old)).await?;
    let _turn = turn::take(server, &target.namespace, &options.subresource).await;
    let mut along = Along::settle(server, &request, &new).await?;
    let unchanged = Written { entry: Arc::clone(entry), created: false };
    let finished = finalize::is_finished(kind, &new);
    // Upstream writes the same bytes again when they lie under another key than a new write would.
    let stale =
        async || timed(Work::Store, server.store.is_stale(&target.key())).await.map_err(|error| target.failure(error));
    // The same of an object that is stored in another version than a new write would have.
    if new == *old && !finished && !entry.outdated && (options.dry_run || !stale().await?) {
        return Ok(Some(unchanged));
    }
    let claims = allocate::claim(server, target, &mut new, Some(old)).await?;
    let (stored_kind, stored) = match finished {
        true => last(server, kind, &mut new).await?,
        false => (kind.stored(), bytes(server, kind, &mut new).await?),
    };
    if options.dry_run {
        let entry = Arc::new(Entry::new(stored_kind, &target.key(), entry.revision, &stored));
        let entry = server.conversions.one(kind, entry).await?;
        return Ok(Some(Written { entry, created: false }));
    }
    let expect = Expect::At(storage::store::Revision(entry.revision));
    let (op, claims) = if finished {
        (Op::Delete { key: target.key(), last: stored.clone(), expect }, allocate::release(target, &new))
    } else {
        (Op::Put { key: target.key(), bytes: stored.clone(), expect, expires: expires(server, kind) }, claims)
    };
    let mut attempts = Attempts::begin();
    while attempts.next().await {
        let (ops, items) = (along.with(op.clone(), &claims.ops), claims.claims.clone());
        let write = Commit { who: permit.user().name.as_str().into(), ops, checks: Vec::new(), claims: items };
        let outcome = commit(server, target, stored_kind, write, &stored).await;
        if let Some(lost) = outcome.as_ref().err().and_then(|error| claims.lost(error)) {
            return if lost.chosen { Ok(None) } else { Err(allocate::taken(target, &new, &lost.item)) };
        }
        return match outcome {
            Ok(entry) => {
                let entry = server.conversions.one(kind, entry).await?;
                Ok(Some(Written { entry, created: false }))
            }
            Err(StoreError::Expectation { key, .. }) if along.holds(&key) => {
                along = Along::settle(server, &request, &new).await?;
                continue;
            }
            Err(StoreError::Expectation { .. }) if insists => {
                Err(Status::conflict(target.resource(), &target.name, Status::STALE).into())
            }
            Err(StoreError::Expectation { .. }) => Ok(None),
            Err(error) => Err(target.failure(error)),
        };
    }
    Err(Status::conflict(target.resource(), &target.name, "too many writers").into())
}

/// What was sent, as far as a write through this part may change the object; who owns its fields is said already.
fn confined(kind: &Kind, options: &Options, object: Value, old: &Value) -> Value {
    let mut new = match kind.subresource(&options.subresource).map(|subresource| subresource.part) {
        Some(Part::View { merge }) => {
            let fields = value::get(&object, "metadata.managedFields").cloned();
            let mut merged = merge(object, old);
            match fields {
                Some(fields) => value::set(&mut merged, "metadata.managedFields", fields),
                None => drop(value::remove(&mut merged, "metadata.managedFields")),
            }
            merged
        }
        _ => object,
    };
    keep_system_fields(&mut new, old);
    if options.subresource.is_empty() && kind.has_status() {
        match old.get("status") {
            Some(status) => value::set(&mut new, "status", status.clone()),
            None => drop(value::remove(&mut new, "status")),
        }
    }
    new
}

/// Whether the object that the client sent says of itself that it is this one.
fn same_uid(target: &Target, object: &Value, found: &str) -> Result<(), Failure> {
    let uid = meta::uid(object);
    if uid.is_empty() || uid == found {
        return Ok(());
    }
    // In the words of upstream's store, with its keys.
    let (kind, place) = (target.kind, format!("{}/{}", target.namespace, target.name));
    let group = if kind.custom.is_some() { format!("{}/", kind.group) } else { String::new() };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{group}{}/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {found}",
        kind.plural,
        place.trim_start_matches('/')
    );
    Err(Status::conflict(target.resource(), &target.name, &why).into())
}

/// An object that says a name or a namespace says those of the path.
///
/// # Errors
/// 400 for others.
fn expect_name(target: &Target, object: &Value) -> Result<(), Failure> {
    if meta::name(object).is_empty() { target.agrees(object) } else { target.is_named(object) }
}

/// Checks name, namespace, uid and version of what the client sent; `true` when it insists on a version. What was made of the stored
/// object has a uid of its own only where somebody means to change it, which validation refuses.
fn precondition(target: &Target, object: &Value, old: &Value, rebased: bool) -> Result<bool, Failure> {
    expect_name(target, object)?;
    if !rebased {
        same_uid(target, object, meta::uid(old))?;
    }
    let version = meta::resource_version(object);
    if matches!(version, "" | "0") {
        if !target.kind.unconditional_update {
            let field = api::field_path::Path::new("metadata").child("resourceVersion");
            let error = api::field_path::FieldError::invalid(&field, 0, "must be specified for an update");
            // Upstream's store knows the resource and not the kind.
            return Err(Status::invalid(target.kind.group, target.kind.plural, &target.name, &vec![error]).into());
        }
        return Ok(false);
    }
    if version != meta::resource_version(old) {
        if version.parse::<u64>().is_err() {
            let why = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
            return Err(Status::foreign(500, "", why).into());
        }
        return Err(Status::conflict(target.resource(), &target.name, Status::STALE).into());
    }
    Ok(true)
}

/// What only the server writes is what it was. Of uid and deletion a client may say something else, which validation refuses.
fn keep_system_fields(new: &mut Value, old: &Value) {
    for field in ["metadata.uid", "metadata.deletionTimestamp", "metadata.deletionGracePeriodSeconds"] {
        let said = value::get(new, field).is_some_and(|said| !said.is_null() && said.as_str() != Some(""));
        match value::get(old, field) {
            Some(kept) if !said || field == "metadata.deletionTimestamp" => value::set(new, field, kept.clone()),
            None if !said => drop(value::remove(new, field)),
            _ => {}
        }
    }
    for field in [
        "metadata.creationTimestamp",
        "metadata.generation",
        "metadata.name",
        "metadata.namespace",
        "metadata.resourceVersion",
    ] {
        match value::get(old, field) {
            Some(kept) => value::set(new, field, kept.clone()),
            None => drop(value::remove(new, field)),
        }
    }
}

/// What counts in the generation, without metadata.
fn body<'o>(kind: &Kind, object: &'o Value) -> impl Iterator<Item = (&'o Text, &'o Value)> {
    // Without a subresource of its own the status of a custom resource is a field like any other.
    let status = kind.custom.is_some() && !kind.has_status();
    object.as_object().into_iter().flatten().filter(move |(key, _)| match key.as_str() {
        "metadata" | "apiVersion" | "kind" => false,
        key => status || key != "status",
    })
}

/// Something that counts in the generation changed: all but status, and of metadata what the kind names, where it is not a status that is
/// written.
fn differs(kind: &Kind, new: &Value, old: &Value, options: &Options) -> bool {
    let metadata = |field: &&str| {
        let path = format!("metadata.{field}");
        value::get(new, &path) != value::get(old, &path)
    };
    !body(kind, new).eq(body(kind, old))
        || options.subresource != "status" && kind.generation_metadata.iter().any(metadata)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use crate::authn::{AUTHENTICATED, User};
    use crate::registry::Target;
    use crate::road::authorized::Permit;
    use crate::testing::World;
    use api::json::{Value, json};

    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    const MAP: &str = "/api/v1/namespaces/default/configmaps/one";

    #[tokio::test(flavor = "multi_thread")]
    async fn updates_that_begin_with_an_old_object_are_made_of_the_present_one() {
        let (world, root) = (World::start(|_| {}).await, User::new("root", &["system:masters", AUTHENTICATED]));
        let ask = async |method: &str, path: &str, body: Value| world.ask(&root, method, path, &body).await;
        assert_eq!(ask("POST", MAPS, json!({"metadata": {"name": "one"}})).await.0, 201);
        let server = world.running.server();
        let kind = api::kinds::by_gvk("", "v1", "ConfigMap").unwrap();
        let target = Target { kind, namespace: "default".to_owned(), name: "one".to_owned() };
        while super::read::guess(server, &target).is_none() {
            tokio::task::yield_now().await;
        }
        // From here on it never hears of anything again.
        server.caches.of(kind).unwrap().end().cancel();

        // What it knows is still so.
        let (code, first) = ask("PATCH", MAP, json!({"data": {"a": "1"}})).await;
        assert_eq!((code, &first["data"]), (200, &json!({"a": "1"})));
        // Now it is not: a change adds to what others have written,
        let (code, second) = ask("PATCH", MAP, json!({"data": {"b": "2"}})).await;
        assert_eq!((code, &second["data"]), (200, &json!({"a": "1", "b": "2"})));
        // also one that is only tried,
        let (code, tried) = ask("PATCH", &format!("{MAP}?dryRun=All"), json!({"data": {"c": "3"}})).await;
        assert_eq!((code, &tried["data"]), (200, &json!({"a": "1", "b": "2", "c": "3"})));
        // what would change nothing does,
        let (code, third) = ask("PATCH", MAP, json!({"data": null})).await;
        assert_eq!((code, third.get("data")), (200, None));
        // a version that was insisted on is compared with the present one,
        assert_eq!(ask("PUT", MAP, second.clone()).await.0, 409);
        let (code, fourth) = ask("PUT", MAP, json!({"metadata": third["metadata"], "immutable": true})).await;
        assert_eq!((code, &fourth["immutable"]), (200, &json!(true)));
        // so is what may not change,
        assert_eq!(ask("PATCH", MAP, json!({"data": {"d": "4"}})).await.0, 422);
        // and what is gone is gone.
        assert_eq!(ask("DELETE", MAP, Value::Null).await.0, 200);
        assert_eq!(ask("PATCH", MAP, json!({"data": {"e": "5"}})).await.0, 404);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_said_of_an_object_that_is_another() {
        let (world, root) = (World::start(|_| {}).await, User::new("root", &["system:masters", AUTHENTICATED]));
        let ask = async |method: &str, path: &str, metadata: Value| {
            let (code, answer) = world.ask(&root, method, path, &json!({"metadata": metadata})).await;
            (code, answer)
        };
        let check = async |method: &str, path: &str, metadata: Value, code: u16, sentence: &str| {
            let said = ask(method, path, metadata.clone()).await;
            let message = said.1["message"].as_str().unwrap_or_default();
            assert!(said.0 == code && message.contains(sentence), "{method} {path} {metadata}: {said:?}");
        };
        assert_eq!(ask("POST", MAPS, json!({"name": "one", "finalizers": ["example.com/a"]})).await.0, 201);
        let uid = "AdditionalErrorMsg: Precondition failed: UID in precondition: x, UID in object meta: ";
        check("PUT", MAP, json!({"name": "one", "uid": "x"}), 409, uid).await;
        let immutable = "field is immutable";
        check("PATCH", MAP, json!({"uid": "x"}), 422, immutable).await;
        check("PATCH", MAP, json!({"deletionTimestamp": "2020-01-01T00:00:00Z"}), 422, immutable).await;
        check("PUT", MAP, json!({"name": "one", "deletionGracePeriodSeconds": 7}), 422, immutable).await;
        check("PATCH", MAP, json!({"resourceVersion": "x"}), 500, "strconv.ParseUint: parsing \"x\"").await;
        let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
        let lease = &format!("{leases}/l");
        check("PUT", lease, json!({"name": "l", "uid": "x"}), 409, uid).await;
        check("PUT", lease, json!({"name": "l", "resourceVersion": "7"}), 201, "").await;
        let unsaid = "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must";
        check("PUT", lease, json!({"name": "l"}), 422, unsaid).await;
        // Whatever is said of a deletion that has begun, it goes on; its name is not free before it ends.
        assert_eq!(ask("DELETE", MAP, Value::Null).await.0, 200);
        let early = json!({"deletionTimestamp": "2020-01-01T00:00:00Z"});
        assert_ne!(
            ask("PATCH", MAP, early.clone()).await.1["metadata"]["deletionTimestamp"],
            early["deletionTimestamp"]
        );
        check("POST", MAPS, json!({"name": "one"}), 409, "object is being deleted: configmaps \"one\" already").await;
    }

    #[test]
    fn owners_are_named_once() {
        let owner = |uid: &str, name: &str| json!({"uid": uid, "name": name});
        let mut object = json!({"metadata": {"ownerReferences": [owner("a", "x"), owner("a", "y"), owner("a", "x")]}});
        let permit = Permit::without_request("test");
        super::lone_owners(&permit, &mut object, "");
        let warnings = permit.notes().warnings();
        assert!(warnings.iter().all(|said| said.ends_with("duplicate UID(s) observed: a")), "{warnings:?}");
        assert_eq!(warnings.len(), 1);
        assert_eq!(object["metadata"]["ownerReferences"], json!([owner("a", "x"), owner("a", "y")]));
        super::lone_owners(&permit, &mut object, "");
        assert!(permit.notes().warnings().is_empty());
    }
}
