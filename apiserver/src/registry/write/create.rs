//! Create. See `write.rs` for the order of steps.

use super::{ADMITTED, drop_disabled, emptied, lone_owners, refuse, writer};
use super::{
    Attempts, Options, Written, admission_request, bytes, canonical, commit, default, expires, owned, surroundings,
};
use crate::answer::Failure;
use crate::cache::Entry;
use crate::registry::along::Along;
use crate::registry::{Target, allocate, guard, parameters, ranges, read, turn};
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::Operation;
use api::json::Value;
use api::kind::{NameRule, Occasion};
use api::status::Status;
use api::{judgement, meta, value};
use std::sync::Arc;
use storage::store::{Commit, Expect, Op, StoreError};

/// Letters of generated names: no vowels, no digits that look like letters.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Names that are made up until one is free, as many as upstream makes.
const NAMES_TRIED: usize = 8;

/// Creates an object. `applied` keeps the managed fields that server-side apply has computed.
///
/// # Errors
/// 409 when the name is taken, 422 when validation fails, refusals of admission, those of the store.
pub async fn create(
    server: &Server,
    permit: &Permit,
    target: &Target,
    mut object: Value,
    options: &Options,
    applied: bool,
) -> Result<Written, Failure> {
    let kind = target.kind;
    // What is no number is passed over, as upstream's store does.
    let versioned = meta::resource_version(&object).parse::<u64>().is_ok_and(|version| version != 0);
    let generated = meta::name(&object).is_empty() && !value::text(&object, "metadata.generateName").is_empty();
    if options.verb != "patch" {
        lone_owners(permit, &mut object, "");
    }
    if let Some(why) = server.caches.memory().refusal().filter(|_| !permit.is_internal()) {
        return Err(Status::unavailable(why).into());
    }
    let namespaces = match surroundings(server, target, options.dry_run).await {
        Err(_) if server.admission.provides_namespaces() && !options.dry_run && kind.namespaced => {
            crate::bootstrap::namespace(server, &target.namespace).await?;
            surroundings(server, target, true).await?
        }
        found => found?,
    };
    fill(server, target, &mut object)?;
    let target = &target.named(meta::name(&object));
    if kind.has_status() && !kind.create_with_status {
        value::remove(&mut object, "status");
    }
    default(kind, &mut object);
    // Who writes owns what was sent, before anybody else has changed it.
    if !applied {
        canonical(kind, &mut object);
        object = owned(server, kind, options, None, object).await;
    }
    let request = admission_request(Operation::Create, target, options, permit, &Value::Null, server.now());
    let given = system_fields(&object);
    if server.admission.mutate(&request, &mut object, server).await.map_err(|refusal| refusal.0)? {
        restore(&mut object, given);
        if kind.has_status() && !kind.create_with_status {
            value::remove(&mut object, "status");
        }
    }
    lone_owners(permit, &mut object, ADMITTED);
    default(kind, &mut object);
    if kind.generation {
        value::set(&mut object, "metadata.generation", 1);
    }
    kind.hooks.warnings_of_given(&object).into_iter().for_each(|sentence| permit.notes().warn(sentence));
    kind.hooks.prepare_create(&mut object);
    let errors = kind.hooks.settle_families(&mut object, None, &ranges::families(server));
    refuse(target, &object, &errors)?;
    drop_disabled(server, kind, &mut object, None);
    let now = server.now_text();
    let occasion = Occasion { now: &now, writer: writer(permit), verb: &options.verb };
    kind.hooks.stamp("", &mut object, None, &occasion);
    canonical(kind, &mut object);
    let demands = kind.hooks.demands(&options.subresource, &object, None, &occasion);
    let mut errors = guard::unmet(server, permit, target, demands).await;
    errors.extend(emptied::judged(kind, options, &object, |object| judgement::create(object, kind)));
    errors.extend(guard::privileged(server, kind, "", &object));
    refuse(target, &object, &errors)?;
    kind.hooks.warnings(&object, None).into_iter().for_each(|sentence| permit.notes().warn(sentence));
    server.admission.validate(&request, &object, server).await.map_err(|refusal| refusal.0)?;
    guard::escalation(server, permit, target, &object, None).await?;
    parameters::readable(server, permit, target, &object, None).await?;
    let _turn = turn::take(server, &target.namespace, &options.subresource).await;
    let mut along = Along::settle(server, &request, &object).await?;
    // Upstream's store says it, when all others have had their say.
    if versioned {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(Status::foreign(500, "", why.to_owned()).into());
    }
    let mut namespaces = namespaces;
    let mut attempts = Attempts::begin();
    while attempts.next().await {
        let claims = allocate::claim(server, target, &mut object, None).await?;
        let stored = bytes(server, kind, &mut object).await?;
        if options.dry_run {
            return dry_run(server, permit, target, &stored, generated).await;
        }
        let op = Op::Put {
            key: target.key(),
            bytes: stored.clone(),
            expect: Expect::Absent,
            expires: expires(server, kind),
        };
        let write = Commit {
            who: permit.user().name.as_str().into(),
            ops: along.with(op, &claims.ops),
            checks: namespaces.clone(),
            claims: claims.claims.clone(),
        };
        let outcome = commit(server, target, kind.stored(), write, &stored).await;
        if let Some(lost) = outcome.as_ref().err().and_then(|error| claims.lost(error)) {
            if !lost.chosen {
                return Err(allocate::taken(target, &object, &lost.item));
            }
            allocate::forget(&mut object, &claims);
            continue;
        }
        match outcome {
            Ok(entry) => {
                let entry = server.conversions.one(kind, entry).await?;
                return Ok(Written { entry, created: true });
            }
            Err(StoreError::Expectation { key, .. }) if key == target.key() => {
                let there = read::find(server, permit, target).await.ok().flatten();
                return Err(taken(target, there.as_deref(), generated).into());
            }
            Err(StoreError::Expectation { key, .. }) if along.holds(&key) => {
                along = Along::settle(server, &request, &object).await?;
            }
            // The namespace changed meanwhile: look again whether it still takes objects.
            Err(StoreError::Expectation { .. }) => {
                // First the version that the commit will insist on, then the question whether it takes objects.
                namespaces = surroundings(server, target, true).await?;
                server.admission.validate(&request, &object, server).await.map_err(|refusal| refusal.0)?;
            }
            Err(error) => return Err(target.failure(error)),
        }
    }
    Err(Status::conflict(target.resource(), &target.name, "too many writers").into())
}

/// System fields of a new object.
fn fill(server: &Server, target: &Target, object: &mut Value) -> Result<(), Failure> {
    let meta = value::map_mut(object, "metadata");
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"] {
        meta.remove(field);
    }
    target.place(object)?;
    let meta = value::map_mut(object, "metadata");
    meta.insert("uid", crate::uid::random().into());
    meta.insert("creationTimestamp", server.now_text().into());
    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        let prefix = meta.get("generateName").and_then(Value::as_str).unwrap_or_default();
        if !prefix.is_empty() {
            let stem = prefix.get(..prefix.len().min(58)).unwrap_or(prefix);
            // An address with something behind it is none.
            let alone = target.kind.hooks.name_rule() == NameRule::IpAddress;
            let mut name = if alone { prefix.to_owned() } else { format!("{stem}{}", suffix()) };
            // One that is free, as far as anybody knows yet.
            for _ in 1..NAMES_TRIED {
                if alone || read::guess(server, &target.named(&name)).is_none() {
                    break;
                }
                name = format!("{stem}{}", suffix());
            }
            meta.insert("name", name.into());
        }
    }
    Ok(())
}

/// What only the server writes: a field and its value, `None` where it is absent.
type SystemFields = [(&'static str, Option<Value>); 9];

/// The system fields of an object.
fn system_fields(object: &Value) -> SystemFields {
    [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ]
    .map(|field| (field, object.get("metadata").and_then(|meta| meta.get(field)).cloned()))
}

/// Whoever changed the object, they are what they were.
fn restore(object: &mut Value, fields: SystemFields) {
    let meta = value::map_mut(object, "metadata");
    for (field, value) in fields {
        match value {
            Some(value) => drop(meta.insert(field.to_owned(), value)),
            None => drop(meta.remove(field)),
        }
    }
}

/// 409 for a name that an object has already, which may be on its way out.
fn taken(target: &Target, there: Option<&Entry>, generated: bool) -> Status {
    let mut status = Status::already_exists(target.resource(), &target.name);
    if generated {
        status.message.push_str(", the server was not able to generate a unique name for the object");
        value::set(&mut status.details, "retryAfterSeconds", 1);
    }
    if there.is_some_and(|there| meta::is_deleting(&there.value())) {
        status.message.insert_str(0, "object is being deleted: ");
    }
    status
}

/// Five random letters.
fn suffix() -> String {
    use rand::Rng as _;
    let mut random = rand::rng();
    (0..5).filter_map(|_| ALPHABET.get(random.random_range(0..ALPHABET.len())).map(|byte| char::from(*byte))).collect()
}

/// What a create would have answered.
async fn dry_run(
    server: &Server,
    permit: &Permit,
    target: &Target,
    stored: &bytes::Bytes,
    generated: bool,
) -> Result<Written, Failure> {
    if let Some(there) = read::find(server, permit, target).await? {
        return Err(taken(target, Some(&there), generated).into());
    }
    let entry = Arc::new(Entry::unsaved(target.kind.stored(), &target.key(), stored));
    Ok(Written { entry: server.conversions.one(target.kind, entry).await?, created: true })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use api::json::{Value, json};

    /// Who writes owns what was sent and its defaults, not what admission and the server make of it.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_server_adds_has_no_owner() {
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let world = World::start(|_| {}).await;
        let job = json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}}}});
        let (code, job) = world.ask(&root, "POST", "/apis/batch/v1/namespaces/default/jobs", &job).await;
        assert_eq!(code, 201, "{job}");
        assert!(job["spec"]["selector"].is_object() && job["spec"]["template"]["metadata"]["labels"].is_object());
        let owned = &job["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        assert!(owned["f:backoffLimit"].is_object(), "{owned}");
        assert!(owned["f:selector"].is_null() && owned["f:template"]["f:metadata"].is_null(), "{owned}");
        let policy = json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}}});
        let all = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
        let (code, mut policy) = world.ask(&root, "POST", all, &policy).await;
        assert_eq!((code, &policy["metadata"]["generation"]), (201, &json!(1)), "{policy}");
        // A list that is empty is another than none, to some kinds.
        policy["spec"]["egress"] = json!([]);
        let (code, policy) = world.ask(&root, "PUT", &format!("{all}/a"), &policy).await;
        assert_eq!((code, &policy["metadata"]["generation"]), (200, &json!(2)), "{policy}");
        let review = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let (code, said) = world.ask(&root, "POST", path, &review).await;
        let message = said["message"].as_str().unwrap_or_default();
        assert!(code == 422 && message.contains(r#"{"labels":{"a":"b"},"managedFields":[{"manager":"#), "{said}");
    }

    /// What plugins and kinds add to an object is nobody's.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_creates_or_changes_an_object_owns_what_was_sent() {
        let (world, root) = (World::start(|_| {}).await, User::new("root", &["system:masters", AUTHENTICATED]));
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
        let place = "/api/v1/namespaces/default";
        let cases = [
            ("/api/v1/namespaces", json!({}), "/spec/finalizers", "/f:spec"),
            (
                &format!("{place}/persistentvolumeclaims"),
                json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
                "/metadata/finalizers",
                "/f:metadata",
            ),
            (
                &format!("{place}/services"),
                json!({"spec": {"ports": [{"port": 80}]}}),
                "/spec/clusterIP",
                "/f:spec/f:clusterIP",
            ),
            (
                "/apis/batch/v1/namespaces/default/jobs",
                json!({"spec": {"template": template}}),
                "/spec/selector",
                "/f:spec/f:selector",
            ),
            (
                "/api/v1/persistentvolumes",
                json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}}),
                "/status/lastPhaseTransitionTime",
                "/f:status",
            ),
        ];
        for (path, mut object, there, owned) in cases {
            object["metadata"] = json!({"name": "a"});
            let (code, made) = world.ask(&root, "POST", path, &object).await;
            assert_eq!(code, 201, "{path}: {made}");
            assert!(made.pointer(there).is_some(), "{path}: {made}");
            let entries = made["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
            assert!(entries.iter().all(|entry| entry["fieldsV1"].pointer(owned).is_none()), "{path}: {made}");
        }
        // What a part of an object does not take is owned nevertheless, as upstream has it.
        let path = format!("{place}/pods");
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        assert_eq!(world.ask(&root, "POST", &path, &pod).await.0, 201);
        let path = format!("{path}/p/ephemeralcontainers?fieldManager=m");
        let (code, made) = world.ask(&root, "PATCH", &path, &json!({"spec": {"hostPID": true}})).await;
        assert_eq!((code, made["spec"].get("hostPID")), (200, None), "{made}");
        let entries = made["metadata"]["managedFields"].as_array().unwrap();
        let own = entries.iter().find(|entry| entry["manager"] == "m").unwrap();
        assert_eq!(own["fieldsV1"], json!({"f:spec": {"f:hostPID": {}}}));
    }

    /// The cache of one server does not know yet what another has done: the commit does.
    #[tokio::test(flavor = "multi_thread")]
    async fn namespaces_are_entered_at_once_and_not_when_they_are_on_their_way_out() {
        let (store, root) = (World::store().await, User::new("root", &["system:masters", AUTHENTICATED]));
        let [one, other] = [World::over(&store, |_| {}).await, World::over(&store, |_| {}).await];
        for round in 0..40 {
            let name = format!("n{round}");
            let maps = format!("/api/v1/namespaces/{name}/configmaps");
            let map = |name: &str| json!({"metadata": {"name": name}});
            assert_eq!(one.ask(&root, "POST", &maps, &map("early")).await.0, 404, "{name}");
            assert_eq!(other.ask(&root, "POST", "/api/v1/namespaces", &map(&name)).await.0, 201);
            assert_eq!(one.ask(&root, "POST", &maps, &map("a")).await.0, 201, "{name}");
            let path = format!("/api/v1/namespaces/{name}");
            assert_eq!(other.ask(&root, "PATCH", &path, &json!({"metadata": {"labels": {"a": "b"}}})).await.0, 200);
            assert_eq!(one.ask(&root, "POST", &maps, &map("b")).await.0, 201, "{name}");
            assert_eq!(other.ask(&root, "DELETE", &path, &Value::Null).await.0, 200);
            for dry in ["", "?dryRun=All"] {
                let (code, answer) = one.ask(&root, "POST", &format!("{maps}{dry}"), &map("late")).await;
                assert_eq!(code, 403, "{name}{dry}: {answer}");
                assert_eq!(answer["details"]["causes"][0]["reason"], "NamespaceTerminating");
            }
        }
    }
}
