//! A whole API server over a sealed store: what it does while its key service is away, and what becomes of objects that it cannot read.

use super::service::{Vault, provider, socket};
use super::*;
use crate::authn::User;
use crate::server::{Config, Running, serve};
use api::json::{Value, json};
use kube::client::Body;
use storage::clock::SystemClock;

fn config(encryption: &Arc<Encryption>, unsafe_deletion: bool) -> Config {
    Config { unsafe_deletion, ..crate::testing::config(encryption) }
}

/// A server that is not set up yet.
struct World {
    running: Running,
    stop: CancellationToken,
}

impl World {
    async fn serve(kv: &Arc<dyn Kv>, encryption: &Arc<Encryption>, unsafe_deletion: bool) -> World {
        let (clock, stop) = (Arc::new(SystemClock), CancellationToken::new());
        let store = Store::open_sealed(kv.clone(), clock.clone(), encryption.clone()).await.unwrap();
        World { running: serve(config(encryption, unsafe_deletion), store, clock, stop.clone()).await.unwrap(), stop }
    }

    fn admin(&self) -> Client {
        self.user("admin", &["system:masters"])
    }

    fn user(&self, name: &str, groups: &[&str]) -> Client {
        Client(self.running.client(User::new(name, groups), "test"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Client(kube::Client);

impl Client {
    /// Code and text of the answer.
    async fn raw(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        let answer = self.0.send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        (code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (code, text) = self.raw(method, path, body).await;
        (code, api::json::from_str(&text).unwrap_or_else(|_| Value::from(text)))
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.raw("GET", path, &Value::Null).await
    }

    /// The answer must have this code, and a message (or text) with these words.
    async fn check(&self, method: &str, path: &str, body: Value, code: u16, words: &str) -> Value {
        let (found, answer) = self.ask(method, path, &body).await;
        let said = answer["message"].as_str().or(answer.as_str()).unwrap_or_default();
        assert!(found == code && said.contains(words), "{method} {path} {body}: {found} {answer}");
        answer
    }
}

/// Asks again until it holds, for a minute: what it waits for takes some seconds, on a busy machine more.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(std::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_start_waits_for_its_key_service_and_goes_on_when_it_comes() {
    let (file, vault) = (File::new(), Vault::new());
    let kv: Arc<dyn Kv> = Arc::new(Sim::new(1, Faults::NONE));
    // The very first start, and one that finds everything sealed.
    for first in [true, false] {
        file.write("'*.*'", &provider(&file)[..1]);
        let encryption = Encryption::load(&file.path(), false, &file.stop).await.unwrap();
        let world = World::serve(&kv, &encryption, false).await;
        let admin = world.admin();
        let mut set_up = std::pin::pin!(world.running.set_up());
        let waiting = tokio::time::timeout(Duration::from_millis(1500), &mut set_up).await;
        assert!(waiting.is_err(), "it must wait: {waiting:?}");
        let (code, text) = admin.get("/readyz?verbose").await;
        assert_eq!(code, 500, "{text}");
        for line in ["[-]kms-providers failed: reason withheld", "[-]poststarthook/bootstrap failed: reason withheld"] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(admin.get("/readyz/kms-providers").await.0, 500);
        assert_eq!(admin.get("/healthz/kms-providers").await.0, 500);
        assert_eq!(admin.get("/livez").await, (200, "ok".to_owned()), "a restart helps nobody");
        assert_eq!(admin.get("/livez/kms-providers").await.0, 404);
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "early"}});
        let why = if first { "has not given a data key yet" } else { "failed to decrypt DEK" };
        admin.check("POST", "/api/v1/namespaces", object, 500, "/registry/namespaces/early").await;
        let list = admin.ask("GET", "/api/v1/namespaces", &Value::Null).await;
        assert!(first || list.1["message"].as_str().unwrap().contains(why), "{list:?}");

        let _server = vault.serve(&socket(&file));
        tokio::time::timeout(Duration::from_secs(60), set_up).await.expect("the service has come").unwrap();
        assert_eq!(admin.get("/readyz").await, (200, "ok".to_owned()));
        assert_eq!(admin.get("/readyz/kms-providers").await, (200, "ok".to_owned()));
        eventually("lists are whole again", async || {
            admin.ask("GET", "/api/v1/namespaces", &Value::Null).await.1["items"].as_array().map(Vec::len) == Some(4)
        })
        .await;
        let text = admin.get("/metrics").await.1;
        let line = "apiserver_envelope_encryption_kms_operations_latency_seconds_count{grpc_status_code=\"Unavailable\",method_name=\"/v2.KeyManagementService/Status\",provider_name=\"vault\"}";
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn a_start_that_finds_what_it_can_never_read_says_so() {
    let file = File::new();
    let kv: Arc<dyn Kv> = Arc::new(Sim::new(1, Faults::NONE));
    for (key, well) in [("key1", true), ("key2", false)] {
        file.write("'*.*'", &[keys("aesgcm", &[(key, ONE)])]);
        let encryption = Encryption::load(&file.path(), false, &file.stop).await.unwrap();
        let world = World::serve(&kv, &encryption, false).await;
        match world.running.set_up().await {
            Ok(()) => assert!(well),
            Err(error) => assert!(!well && error.to_string().contains("no matching key was found"), "{error}"),
        }
    }
}

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn role(verbs: &[&str]) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "croc", "namespace": "default"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}]})
}

#[tokio::test]
async fn what_cannot_be_read_can_be_deleted_unread() {
    let file = File::new();
    let kv: Arc<dyn Kv> = Arc::new(Sim::new(1, Faults::NONE));
    file.write("secrets, services", &[keys("aesgcm", &[("key1", ONE)]), identity()]);
    let encryption = Encryption::load(&file.path(), true, &file.stop).await.unwrap();
    let world = World::serve(&kv, &encryption, true).await;
    world.running.set_up().await.unwrap();
    let (admin, croc) = (world.admin(), world.user("croc", &[]));
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    admin.check("POST", &format!("{roles}/roles"), role(&["get", "list", "delete", "deletecollection"]), 201, "").await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "croc", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "croc"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "croc"}]});
    admin.check("POST", &format!("{roles}/rolebindings"), binding, 201, "").await;
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "finalizers": ["example.com/held"]}});
    let mut version = String::new();
    for name in ["a", "b", "c"] {
        let made = admin.check("POST", SECRETS, secret(name), 201, "").await;
        version = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.7.7", "ports": [{"port": 80, "nodePort": 30077}]}});
    admin.check("POST", SERVICES, service.clone(), 201, "").await;

    let a = format!("{SECRETS}/a");
    eventually("the role is known", async || croc.get(&a).await.0 == 200).await;

    // The server has seen all of them: what it has not, it cannot tell of later.
    admin.check("GET", SECRETS, Value::Null, 200, "").await;
    admin.check("GET", SERVICES, Value::Null, 200, "").await;

    // The key goes.
    file.write("secrets, services", &[keys("aescbc", &[("key2", TWO)]), identity()]);
    assert!(encryption.look(&file.path(), &file.stop).await.unwrap());
    let corrupt = "Internal error occurred: StorageError: corrupt object, Code: 7, Key: /secrets/default/a, ResourceVersion: 0, AdditionalErrorMsg: data from the storage is not transformable revision=0: no matching prefix found";
    for method in ["GET", "DELETE"] {
        let answer = croc.check(method, &a, Value::Null, 500, corrupt).await;
        assert_eq!(answer["reason"], "InternalError");
    }
    admin.check("POST", SECRETS, secret("a"), 409, "secrets \"a\" already exists").await;
    let option = json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true});
    let with = |further: Value| {
        let mut options = option.clone();
        options.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        options
    };
    let answer = croc
        .check("DELETE", &a, option.clone(), 403, "not permitted to do \"unsafe-delete-ignore-read-errors\", reason: ")
        .await;
    assert!(answer["message"].as_str().unwrap().starts_with("secrets \"a\" is forbidden: "), "{answer}");
    for further in ["dryRun", "propagationPolicy", "orphanDependents", "gracePeriodSeconds", "preconditions"] {
        let value = match further {
            "dryRun" => json!(["All"]),
            "propagationPolicy" => json!("Orphan"),
            "orphanDependents" => json!(true),
            "gracePeriodSeconds" => json!(0),
            _ => json!({}),
        };
        let words = format!(
            "DeleteOptions.meta.k8s.io \"\" is invalid: ignoreStoreReadErrorWithClusterBreakingPotential: Invalid value: true: cannot be set together with .{further}"
        );
        croc.check("DELETE", &a, with(json!({ further: value })), 422, &words).await;
    }
    croc.check(
        "DELETE",
        SECRETS,
        option.clone(),
        422,
        "is not allowed with DELETECOLLECTION, try again after removing the option",
    )
    .await;
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": option});
    admin.check("POST", "/api/v1/namespaces/default/pods/p/eviction", eviction, 422,
        "deleteOptions.ignoreStoreReadErrorWithClusterBreakingPotential: Invalid value: true: can not be set for pod eviction").await;
    let readable = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "well"}});
    admin.check("POST", SECRETS, readable, 201, "").await;
    for name in ["well", "none"] {
        let words = format!(
            "secrets \"{name}\" is invalid: ignoreStoreReadErrorWithClusterBreakingPotential: Invalid value: true: is exclusively used to delete corrupt object(s), try again by removing this option"
        );
        admin.check("DELETE", &format!("{SECRETS}/{name}"), option.clone(), 422, &words).await;
    }

    let verbs = ["get", "list", "delete", "deletecollection", "unsafe-delete-ignore-read-errors"];
    admin.check("PUT", &format!("{roles}/roles/croc"), role(&verbs), 200, "").await;
    eventually("the role is known", async || croc.ask("DELETE", &a, &option).await.0 != 403).await;
    croc.check("GET", &a, Value::Null, 404, "secrets \"a\" not found").await;
    let said = croc
        .check(
            "DELETE",
            &format!("{SECRETS}/b?ignoreStoreReadErrorWithClusterBreakingPotential=true"),
            Value::Null,
            200,
            "",
        )
        .await;
    assert_eq!(
        (&said["status"], &said["details"]["name"], &said["details"]["kind"]),
        (&json!("Success"), &json!("b"), &json!("Secret"))
    );
    // What it held is free again.
    admin.check("DELETE", &format!("{SERVICES}/web"), option.clone(), 200, "").await;
    admin.check("POST", SERVICES, service, 201, "").await;
    // Who follows a server that knew the objects sees them go. Others are told to list again, and then find them gone.
    let path = format!("{SECRETS}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let mut text = String::new();
    eventually("the watch has time to tell", async || {
        text = admin.get(&path).await.1;
        text.lines().count() > 2
    })
    .await;
    let events: Vec<Value> = text.lines().map(|line| api::json::from_str(line).unwrap()).collect();
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("ADDED", "well"), ("DELETED", "a"), ("DELETED", "b")], "{text}");
    let last = events[2]["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    assert!(last.parse::<u64>().unwrap() > version.parse().unwrap(), "{text}");
    assert_eq!(admin.ask("GET", SECRETS, &Value::Null).await.1["items"].as_array().map(Vec::len), Some(2));

    // A server that never saw the objects names those that it cannot read.
    let other = World::serve(&kv, &encryption, true).await;
    let answer = other
        .admin()
        .check("GET", SECRETS, Value::Null, 500, "failed to read one or more secrets from the storage")
        .await;
    assert_eq!((&answer["reason"], &answer["details"]["name"]), (&json!("StoreReadError"), &json!("list")));
    let causes = answer["details"]["causes"].as_array().unwrap();
    assert_eq!(
        (causes.len(), &causes[0]["field"], &causes[0]["reason"]),
        (1, &json!("/registry/secrets/default/c"), &json!("UnexpectedServerResponse"))
    );
    other.admin().check("DELETE", &format!("{SECRETS}/c"), option.clone(), 200, "").await;
    eventually("the list is whole again", async || other.admin().ask("GET", SECRETS, &Value::Null).await.0 == 200)
        .await;
    let (_, text) = other.admin().get(&path).await;
    assert!(
        text.contains("\"reason\":\"StoreReadError\"")
            && text.contains("saw a DELETED event, but object data is corrupt"),
        "{text}"
    );
}

#[tokio::test]
async fn without_the_gate_the_option_is_not_seen() {
    let file = File::new();
    let kv: Arc<dyn Kv> = Arc::new(Sim::new(1, Faults::NONE));
    let encryption = file.load(&[keys("aesgcm", &[("key1", ONE)])]).await;
    let world = World::serve(&kv, &encryption, false).await;
    world.running.set_up().await.unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    world.admin().check("POST", SECRETS, secret, 201, "").await;
    let encryption = file.load(&[identity()]).await;
    let blind = World::serve(&kv, &encryption, false).await;
    let option = json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true, "gracePeriodSeconds": 0});
    let a = format!("{SECRETS}/a");
    for (method, body) in [("GET", Value::Null), ("DELETE", Value::Null), ("DELETE", option)] {
        let answer = blind.admin().check(method, &a, body, 500, "").await;
        assert_eq!(answer["message"], "Internal error occurred: no matching prefix found");
    }
    let words =
        "Internal error occurred: unable to transform key \"/registry/secrets/default/a\": no matching prefix found";
    blind.admin().check("GET", SECRETS, Value::Null, 500, words).await;
}
