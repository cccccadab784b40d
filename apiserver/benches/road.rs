//! What the road costs in processor time: `cargo bench -p apiserver`.
//!
//! An authorized request for an object against an answer of the same bytes by the same router, decisions of RBAC among thousands of bindings
//! and of the Node authorizer among thousands of pods, and a token that was seen before. Prints one line per figure with its bound, and judges nothing: bounds hold on a quiet machine. `BENCH_ROUNDS`
//! (9) and `BENCH_MILLIS` (300 per round) set the size, `BENCH_ONLY` names figures by a part of their names, for a profiler. Started without
//! `--bench` (`cargo test --benches`), it only shows that it runs.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures")]

#[path = "../../api/benches/rounds/mod.rs"]
mod rounds;

use actix_web::body::to_bytes;
use actix_web::test::TestRequest;
use actix_web::{App, HttpMessage as _, HttpResponse, web};
use api::json::{Value, json};
use apiserver::authn::tokens::{Bound, ObjectRef, TokenFor, TokenSigner};
use apiserver::authn::{Authenticators, Credentials, Identity, Objects, Outcome, ServiceAccounts, Settings, User};
use apiserver::authz::rbac::{Change, Rbac};
use apiserver::authz::{Attributes, Decision, ResourceAttributes};
use apiserver::road;
use apiserver::transport::{Peer, Trusted};
use apiserver::{Config, Running, Server};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rounds::{processor_time, rounds, wanted};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::clock::{Clock as _, SystemClock};
use tokio_util::sync::CancellationToken;

// The one that the server runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ISSUER: &str = "https://kubernetes.default.svc";
const BINDINGS: usize = 5000;

/// Fastest, median and slowest of some rounds, in microseconds for each run.
#[derive(Clone, Copy)]
struct Figure(f64, f64, f64);

impl Figure {
    fn of(mut all: Vec<f64>) -> Figure {
        all.sort_by(f64::total_cmp);
        let at = |part: usize| all.get((all.len() - 1) * part / 2).copied().unwrap_or(f64::NAN);
        Figure(at(0), at(1), at(2))
    }

    fn show(self, name: &str, bound: Option<f64>) {
        let Figure(fastest, median, slowest) = self;
        let bound = bound.map_or_else(String::new, |bound| format!(", bound {bound}"));
        println!("{name}: {median:.2} us ({fastest:.2} to {slowest:.2}{bound})");
    }
}

async fn measure(mut run: impl AsyncFnMut()) -> Figure {
    let (rounds, time) = rounds();
    let mut all = Vec::new();
    for _ in 0..rounds {
        let (begun, used, mut runs) = (Instant::now(), processor_time(), 0_u32);
        while begun.elapsed() < time {
            for _ in 0..16 {
                run().await;
            }
            runs += 16;
        }
        all.push((processor_time() - used).as_secs_f64() * 1e6 / f64::from(runs));
    }
    Figure::of(all)
}

/// Both in turn, so that what disturbs one disturbs the other as well; the differences of neighbours.
async fn measure_beyond(mut bare: impl AsyncFnMut(), mut run: impl AsyncFnMut()) -> (Figure, Figure, Figure) {
    let (rounds, time) = rounds();
    let (mut bares, mut runs, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (mut used, mut counts) = ([Duration::ZERO; 2], [0_u32; 2]);
        let begun = Instant::now();
        while begun.elapsed() < time {
            for (which, (used, count)) in used.iter_mut().zip(&mut counts).enumerate() {
                let before = processor_time();
                for _ in 0..256 {
                    if which == 0 { bare().await } else { run().await }
                }
                *used += processor_time() - before;
                *count += 256;
            }
        }
        let [one, other] = [0, 1].map(|which| {
            used.get(which).map_or(f64::NAN, Duration::as_secs_f64) * 1e6
                / f64::from(counts.get(which).copied().unwrap_or(1))
        });
        bares.push(one);
        runs.push(other);
        beyond.push(other - one);
    }
    (Figure::of(bares), Figure::of(runs), Figure::of(beyond))
}

fn config(fairness: bool) -> Config {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let identity = apiserver::transport::Identity { certificates: certificate.pem(), key: key.serialize_pem() };
    Config {
        authorization_modes: vec!["Node".to_owned(), "RBAC".to_owned()],
        issuers: vec![ISSUER.to_owned()],
        disable_admission: vec!["ServiceAccount".to_owned()],
        fairness,
        ..Config::new(identity, rcgen::KeyPair::generate().unwrap().serialize_pem())
    }
}

/// A server over an embedded store of its own.
struct World {
    running: Running,
    stop: CancellationToken,
    _place: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn request(method: actix_web::http::Method, path: &str) -> TestRequest {
    TestRequest::default().method(method).uri(path)
}

impl World {
    async fn start(fairness: bool) -> World {
        let place = tempfile::tempdir().unwrap();
        let kv = storage::engines::open(&format!("embedded:{}", place.path().display())).unwrap();
        let (clock, stop) = (Arc::new(SystemClock), CancellationToken::new());
        let store = storage::store::Store::open(kv, clock.clone()).await.unwrap();
        let running = apiserver::start(config(fairness), store, clock, stop.clone()).await.unwrap();
        World { running, stop, _place: place }
    }

    /// An account that may read the objects of its namespace, a token of it, and an object; who else is in the cluster has bindings too.
    async fn fill(&self) -> (String, &'static str) {
        let create = async |path: &str, object: Value| self.create(path, &object).await;
        create("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
        let account = create("/api/v1/namespaces/n/serviceaccounts", json!({"metadata": {"name": "reader"}})).await;
        let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]});
        let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/n";
        create(&format!("{roles}/roles"), json!({"metadata": {"name": "reader"}, "rules": [rule]})).await;
        for user in ["reader", "a", "b", "c", "d"] {
            let binding = json!({"metadata": {"name": user},
                "subjects": [{"kind": "ServiceAccount", "name": user, "namespace": "n"}],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}});
            create(&format!("{roles}/rolebindings"), binding).await;
        }
        let object = json!({"metadata": {"name": "c"}, "data": {"text": "x".repeat(4096)}});
        create("/api/v1/namespaces/n/configmaps", object).await;
        let server = self.running.server();
        let now = i64::try_from(SystemClock.unix_seconds()).unwrap();
        let uid = account.get("metadata").and_then(|meta| meta.get("uid")).and_then(Value::as_str).unwrap();
        let token = token(&server.signer, uid, now);
        (token, "/api/v1/namespaces/n/configmaps/c")
    }

    async fn create(&self, path: &str, object: &Value) -> Value {
        let app = App::new()
            .app_data(web::Data::from(Arc::clone(self.running.server())))
            .default_service(web::route().to(road::travel));
        let service = actix_web::test::init_service(app).await;
        let asked = request(actix_web::http::Method::POST, path).set_json(object).to_request();
        asked.extensions_mut().insert(Rc::new(Peer { address: None, certificates: Vec::new() }));
        asked.extensions_mut().insert(Trusted(User::new("root", &["system:masters", "system:authenticated"])));
        let answer = actix_web::test::call_service(&service, asked).await;
        let (code, body) = (answer.status(), to_bytes(answer.into_body()).await.unwrap());
        assert_eq!(code, 201, "{path}: {body:?}");
        api::json::from_slice(&body).unwrap()
    }
}

fn token(signer: &TokenSigner, uid: &str, now: i64) -> String {
    let wanted = TokenFor {
        namespace: "n".to_owned(),
        service_account: ObjectRef { name: "reader".to_owned(), uid: uid.to_owned() },
        bound: Bound::Nothing,
        audiences: vec![ISSUER.to_owned()],
        seconds: 3600,
        extend: false,
        now,
        jti: "5b0c1f9e-2f5b-4c0e-9a55-0123456789ab".to_owned(),
    };
    signer.sign(&signer.claims(&wanted, &[ISSUER.to_owned()]).0).unwrap()
}

/// An authorized GET, by a token, against the same bytes from the same router.
async fn gets(fairness: bool) {
    let world = World::start(fairness).await;
    let (token, path) = world.fill().await;
    let authorization = format!("Bearer {token}");
    let ask = || {
        let asked = request(actix_web::http::Method::GET, path)
            .insert_header(("authorization", authorization.as_str()))
            .insert_header(("accept", "application/json"))
            .insert_header(("user-agent", "bench/1"))
            .to_request();
        asked.extensions_mut().insert(Rc::new(Peer { address: None, certificates: Vec::new() }));
        asked
    };
    let server: web::Data<Server> = web::Data::from(Arc::clone(world.running.server()));
    let app = App::new().app_data(server).default_service(web::route().to(road::travel));
    let service = actix_web::test::init_service(app).await;
    // The roles are read from the cache, which follows the store.
    let mut bytes = web::Bytes::new();
    for _ in 0..500 {
        let answer = actix_web::test::call_service(&service, ask()).await;
        if answer.status() == 200 {
            bytes = to_bytes(answer.into_body()).await.unwrap();
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(bytes.len() > 4096, "the roles of the account do not come");
    let own = bytes.clone();
    let app = App::new().default_service(web::route().to(move || {
        let bytes = own.clone();
        async move { HttpResponse::Ok().insert_header(("content-type", "application/json")).body(bytes) }
    }));
    let plain = actix_web::test::init_service(app).await;
    let bare = async || {
        let answer = actix_web::test::call_service(&plain, ask()).await;
        black_box(to_bytes(answer.into_body()).await.unwrap());
    };
    let run = async || {
        let answer = actix_web::test::call_service(&service, ask()).await;
        black_box(to_bytes(answer.into_body()).await.unwrap());
    };
    let (bare, whole, beyond) = measure_beyond(bare, run).await;
    let with = if fairness { "" } else { ", without priority and fairness" };
    bare.show(&format!("part: bare GET of {} bytes", bytes.len()), None);
    whole.show(&format!("part: authorized GET of the same{with}"), None);
    beyond.show(&format!("authorized GET beyond the bare one{with}"), fairness.then_some(15.0));
}

fn role(number: usize, verb: &str) -> ClusterRole {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let resource = format!("things{number}");
    let rule = PolicyRule {
        api_groups: Some(words(&["", "apps"])),
        resources: Some(words(&["pods", &resource])),
        verbs: words(&["get", "list", verb]),
        ..PolicyRule::default()
    };
    let metadata = ObjectMeta { name: Some(format!("role{number}")), ..ObjectMeta::default() };
    ClusterRole { metadata, rules: Some(vec![rule; 3]), aggregation_rule: None }
}

/// A third of the bindings are of the cluster.
fn binding(number: usize) -> Change {
    let subject = |kind: &str, name: String| Subject { kind: kind.to_owned(), name, ..Subject::default() };
    let role = RoleRef {
        api_group: Some("rbac.authorization.k8s.io".to_owned()),
        kind: "ClusterRole".to_owned(),
        name: format!("role{}", number % 100),
    };
    let subjects =
        vec![subject("User", format!("user{}", number % 1000)), subject("Group", format!("group{}", number % 50))];
    let namespace = if number.is_multiple_of(3) { String::new() } else { format!("n{}", number % 20) };
    Change::Binding { namespace, name: format!("binding{number}"), gives: Some((role, subjects)) }
}

fn many() -> Arc<Rbac> {
    let rbac = Rbac::default();
    rbac.change((0..100).map(|number| role(number, "watch").into()).chain((0..BINDINGS).map(binding)));
    Arc::new(rbac)
}

/// A hundred changes each second, bindings and roles in turn, as long as somebody holds the other end; tells what one took.
fn writes(rbac: Arc<Rbac>, held: std::sync::Weak<()>) -> std::thread::JoinHandle<Figure> {
    std::thread::spawn(move || {
        let mut took = Vec::new();
        while held.strong_count() > 0 {
            let number = took.len();
            let change = match number % 3 {
                0 => role(number % 100, if number.is_multiple_of(2) { "watch" } else { "patch" }).into(),
                1 => binding(number % BINDINGS),
                _ => match binding((number - 1) % BINDINGS) {
                    Change::Binding { namespace, name, .. } => Change::Binding { namespace, name, gives: None },
                    other => other,
                },
            };
            let begun = Instant::now();
            rbac.change([change]);
            took.push(begun.elapsed().as_secs_f64() * 1e6);
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Figure::of(took)
    })
}

async fn decisions(beside: bool) {
    let rbac = many();
    let held = Arc::new(());
    let writer = beside.then(|| writes(Arc::clone(&rbac), Arc::downgrade(&held)));
    let beside = if beside { " beside 100 writes a second" } else { "" };
    let attributes = |user: User, resource: &str| Attributes {
        user,
        verb: "get".to_owned(),
        resource: Some(ResourceAttributes {
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            namespace: "n7".to_owned(),
            name: "x".to_owned(),
            ..ResourceAttributes::default()
        }),
        path: String::new(),
    };
    for (name, user, resource, allowed) in [
        ("allowed by its name", User::new("user7", &["system:authenticated"]), "pods", true),
        (
            "in three groups, refused",
            User::new("jane", &["group1", "group2", "group3", "system:authenticated"]),
            "nodes",
            false,
        ),
        ("a stranger, refused", User::new("jane", &["system:authenticated"]), "pods", false),
    ] {
        let asked = attributes(user, resource);
        assert_eq!(matches!(rbac.decide(&asked), Decision::Allow(_)), allowed, "{name}");
        let figure = measure(async || {
            black_box(rbac.decide(black_box(&asked)));
        });
        figure.await.show(&format!("RBAC with {BINDINGS} bindings{beside}, {name}"), Some(20.0));
    }
    drop(held);
    if let Some(took) = writer.and_then(|writer| writer.join().ok()) {
        took.show("part: a write, by the clock", None);
    }
}

/// Pods of a hundred nodes in one namespace, each with a secret of its own; what a node asks of it.
async fn nodes() {
    const PODS: usize = 5000;
    let world = World::start(true).await;
    world.create("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    for number in 0..PODS {
        let environment = json!([{"secretRef": {"name": format!("s{number}")}}, {"configMapRef": {"name": "shared"}}]);
        let pod = json!({"metadata": {"name": format!("p{number}")}, "spec": {"nodeName": format!("node{}", number % 100),
            "containers": [{"name": "c", "image": "i", "envFrom": environment}]}});
        world.create("/api/v1/namespaces/n/pods", &pod).await;
    }
    let asked = |resource: &str, name: &str| Attributes {
        user: User::new("system:node:node7", &["system:nodes", "system:authenticated"]),
        verb: "get".to_owned(),
        resource: Some(ResourceAttributes {
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            ..ResourceAttributes::default()
        }),
        path: String::new(),
    };
    let authz = &world.running.server().authz;
    let last = asked("secrets", &format!("s{}", PODS - 93));
    for _ in 0..500 {
        if authz.authorize(&last).await.is_allowed() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (name, asked, allowed) in [
        ("a secret of a pod of its own", asked("secrets", "s4207"), true),
        ("a ConfigMap of all pods", asked("configmaps", "shared"), true),
        ("another node's secret, refused", asked("secrets", "s4208"), false),
    ] {
        assert_eq!(authz.authorize(&asked).await.is_allowed(), allowed, "{name}");
        let figure = measure(async || {
            black_box(authz.authorize(black_box(&asked)).await);
        });
        figure.await.show(&format!("a node among {PODS} pods of 100 nodes, {name}"), Some(20.0));
    }
}

/// One account.
struct Account;

#[async_trait]
impl Objects for Account {
    async fn identity(&self, resource: &str, _namespace: &str, _name: &str) -> Option<Identity> {
        (resource == "serviceaccounts").then(|| Identity { uid: "uid".to_owned(), deleted_at: None })
    }

    async fn secret(&self, _namespace: &str, _name: &str) -> Option<Secret> {
        None
    }

    async fn listed_secrets(&self, _namespace: &str, _account: &str) -> Vec<String> {
        Vec::new()
    }

    async fn used(&self, _namespace: &str, _secret: &str, _uid: &str, _day: &str) {}
}

async fn tokens() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let signer = TokenSigner::from_pem(&key, ISSUER).unwrap();
    let accounts = ServiceAccounts {
        keys: vec![signer.public().clone()],
        issuers: vec![ISSUER.to_owned()],
        audiences: vec![ISSUER.to_owned()],
    };
    let settings = Settings {
        service_accounts: Some(accounts),
        objects: Some(Arc::new(Account)),
        api_audiences: vec![ISSUER.to_owned()],
        ..Settings::default()
    };
    let authn = Authenticators::new(&settings).unwrap();
    let now = i64::try_from(SystemClock.unix_seconds()).unwrap();
    let authorization = format!("Bearer {}", token(&signer, "uid", now));
    let credentials = Credentials { authorization: Some(&authorization), ..Credentials::none(now) };
    assert!(matches!(authn.authenticate(&credentials).await, Outcome::User(_)));
    let figure = measure(async || {
        black_box(authn.authenticate(black_box(&credentials)).await);
    });
    figure.await.show(&format!("a token of {} bytes that was seen before", authorization.len() - 7), Some(2.0));
}

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        if wanted("GET") {
            gets(true).await;
            gets(false).await;
        }
        if wanted("RBAC") {
            decisions(false).await;
            decisions(true).await;
        }
        if wanted("node") {
            nodes().await;
        }
        if wanted("token") {
            tokens().await;
        }
    });
}
