//! Every route and subresource that there is, of native kinds in all their versions, of a kind of a definition and of another API server, tried
//! as nobody, as a user without rights and as each system group: what the policy of every cluster does not give is refused. What a real node may is in `coverage/nodes.rs`.

mod nodes;

use crate::authn::{AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};
use crate::testing::World;
use crate::{backup, encryption};
use api::json::{Value, json};
use api::kind::{Kind, Verb};
use api::served::Served;
use std::collections::BTreeSet;
use std::time::Duration;

/// One request: method and path.
type Route = (&'static str, String);

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "POST",
        Verb::Delete | Verb::DeleteCollection => "DELETE",
        Verb::Get | Verb::List | Verb::Watch => "GET",
        Verb::Patch => "PATCH",
        Verb::Update => "PUT",
    }
}

fn version(kind: &Kind) -> String {
    let group = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    format!("{group}/{}", kind.version)
}

/// The collection of a kind, in the namespace `shop`.
fn base(kind: &Kind) -> String {
    let namespace = if kind.namespaced { "/namespaces/shop" } else { "" };
    format!("{}{namespace}/{}", version(kind), kind.plural)
}

/// All that a kind offers, on the object `x`; collections in a namespace and in all of them.
fn routes(kind: &Kind) -> Vec<Route> {
    let (base, all) = (base(kind), format!("{}/{}", version(kind), kind.plural));
    let own = kind.verbs.iter().flat_map(|verb| {
        let paths = match verb {
            Verb::Create | Verb::DeleteCollection => vec![base.clone()],
            Verb::List => vec![base.clone(), all.clone()],
            Verb::Watch => [&base, &all].map(|path| format!("{path}?watch=true&timeoutSeconds=1")).to_vec(),
            Verb::Delete | Verb::Get | Verb::Patch | Verb::Update => vec![format!("{base}/x")],
        };
        paths.into_iter().map(|path| (method(*verb), path))
    });
    let parts = kind.subresources.iter().flat_map(|part| {
        let path = format!("{base}/x/{}", part.name);
        part.verbs.iter().map(move |verb| (method(*verb), path.clone()))
    });
    let own: BTreeSet<Route> = own.chain(parts).collect();
    own.into_iter().collect()
}

/// Every method on every path of a kind, whether it is offered or not.
fn everything(kind: &Kind) -> Vec<Route> {
    let (base, version) = (base(kind), version(kind));
    let mut paths = BTreeSet::from([format!("{version}/{}", kind.plural), format!("{base}/x"), base.clone()]);
    for part in kind.subresources {
        paths.extend([format!("{base}/x/{}", part.name), format!("{base}/x/{}/deeper", part.name)]);
    }
    // The old way to say watch.
    let watched = [base.replacen(&version, &format!("{version}/watch"), 1), format!("{version}/watch/{}", kind.plural)];
    let all = paths.into_iter().flat_map(|path| METHODS.map(|method| (method, path.clone())));
    all.chain(watched.map(|path| ("GET", path))).collect()
}

/// What every authenticated user has beyond nothing: plurals that they may create.
const SELF: &[&str] = &["selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"];

fn may(user: &User, (method, path): &Route) -> bool {
    user.is_in(AUTHENTICATED) && *method == "POST" && SELF.iter().any(|plural| path.ends_with(&format!("/{plural}")))
}

/// Paths that are no resources and that the server does not list.
const UNLISTED: &[&str] = &[
    "/",
    "/version/",
    "/livez/ping",
    "/readyz/poststarthook/bootstrap",
    "/apis/apps",
    "/apis/acme.io",
    "/openapi/v3/apis/apps/v1",
    "/debug/pprof/profile",
    "/debug/api_priority_and_fairness/dump_queues",
    "/metrics/slis",
    "/configz",
    "/statusz",
    "/logs/",
    "/nowhere",
    backup::PATH,
    encryption::rewrite::PATH,
];

/// Whether the policy of every cluster lets somebody read a path that is no resource.
fn reads(user: &User, path: &str) -> bool {
    let below = |roots: &[&str]| roots.iter().any(|root| path == *root || path.starts_with(&format!("{root}/")));
    ["/healthz", "/livez", "/readyz", "/version", "/version/"].contains(&path)
        || user.is_in(AUTHENTICATED) && below(&["/api", "/apis", "/openapi"])
        || user.is_in("system:monitoring")
            && (below(&["/healthz", "/livez", "/readyz"])
                || ["/metrics", "/metrics/slis", "/statusz", "/flagz"].contains(&path))
        || user.is_in(SERVICE_ACCOUNTS) && ["/.well-known/openid-configuration", "/openid/v1/jwks"].contains(&path)
}

/// A definition with subresources, and a version of a group that another server has, which is away.
async fn extend(world: &World, root: &User) {
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema,
        "subresources": {"status": {}, "scale": scale}});
    let definition = json!({"metadata": {"name": "widgets.acme.io"},
        "spec": {"group": "acme.io", "scope": "Namespaced", "names": names, "versions": [version]}});
    let service = json!({"metadata": {"name": "v1.remote.acme.io"}, "spec": {"group": "remote.acme.io", "version": "v1",
        "service": {"namespace": "shop", "name": "remote"}, "insecureSkipTLSVerify": true,
        "groupPriorityMinimum": 100, "versionPriority": 10}});
    for (path, object) in [
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition),
        ("/apis/apiregistration.k8s.io/v1/apiservices", service),
    ] {
        let (code, answer) = world.ask(root, "POST", path, &object).await;
        assert_eq!(code, 201, "{answer}");
    }
    let server = world.running.server();
    let there = || {
        server.offer().served.by_resource("acme.io", "v1", "widgets").is_some()
            && server.aggregates.of("/apis/remote.acme.io/v1/things").is_some()
    };
    for _ in 0..1000 {
        if there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the definition and the other server are not served");
}

#[tokio::test]
async fn what_is_not_given_is_refused() {
    let world = World::start(|config| {
        config.authorization_modes = vec!["Node".into(), "RBAC".into()];
        config.served = Served::all();
    })
    .await;
    let root = User::new("root", &["system:masters", AUTHENTICATED]);
    extend(&world, &root).await;
    let nobody = User::new("system:anonymous", &[UNAUTHENTICATED]);
    let of = |name: &str, group: &str| User::new(name, &[group, AUTHENTICATED]);
    let users = [
        nobody.clone(),
        of("jane", "dev"),
        of("system:serviceaccount:shop:till", SERVICE_ACCOUNTS),
        of("system:serviceaccount:shop:till", "system:serviceaccounts:shop"),
        of("system:bootstrap:abcdef", "system:bootstrappers"),
        of("system:node:", "system:nodes"),
        of("prober", "system:monitoring"),
    ];
    let kinds: Vec<&'static Kind> = world.running.server().offer().served.kinds().to_vec();
    let offered: Vec<Route> = kinds.iter().flat_map(|kind| routes(kind)).collect();
    for plural in ["pods", "widgets", "podcertificaterequests"] {
        assert!(offered.iter().any(|(_, path)| path.ends_with(&format!("/{plural}/x"))), "no route of {plural}");
    }
    let elsewhere = METHODS.map(|method| (method, "/apis/remote.acme.io/v1/namespaces/shop/things/x".to_owned()));
    let refused = async |user: &User, route: &Route| {
        let (code, answer) = world.ask(user, route.0, &route.1, &json!({})).await;
        assert_eq!(code == 403, !may(user, route), "{:?}: {route:?}: {code} {answer}", user.groups);
    };
    for user in &users {
        for route in offered.iter().chain(&elsewhere) {
            refused(user, route).await;
        }
    }
    for route in kinds.iter().flat_map(|kind| everything(kind)) {
        refused(&nobody, &route).await;
    }

    let (_, listed) = world.ask(&root, "GET", "/", &Value::Null).await;
    let listed: Vec<&str> = listed["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    assert!(listed.contains(&"/metrics") && listed.contains(&"/apis/acme.io/v1"), "{listed:?}");
    for user in &users {
        for path in listed.iter().chain(UNLISTED) {
            let (code, answer) = world.ask(user, "GET", path, &Value::Null).await;
            assert_eq!(code == 403, !reads(user, path), "{:?}: {path}: {code} {answer}", user.groups);
            let (code, answer) = world.ask(user, "POST", path, &Value::Null).await;
            assert_eq!(code, 403, "{:?}: POST {path}: {code} {answer}", user.groups);
        }
    }
    // Members of one group pass all authorizers.
    for (method, path) in offered.iter().filter(|(method, path)| *method == "GET" && !path.contains("watch=")) {
        let (code, answer) = world.ask(&root, method, path, &Value::Null).await;
        assert_ne!(code, 403, "{path}: {answer}");
    }
}
