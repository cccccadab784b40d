//! Every route and subresource that is served, tried as nobody, as a user without rights and as each system group: what the policy of
//! every cluster does not give is refused.

use crate::authn::{AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};
use crate::testing::World;
use api::json::{Value, json};
use api::kind::{Kind, Verb};

/// One request, and what it is in the words of rules.
struct Route {
    method: &'static str,
    path: String,
    what: String,
}

fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "POST",
        Verb::Delete | Verb::DeleteCollection => "DELETE",
        Verb::Get | Verb::List | Verb::Watch => "GET",
        Verb::Patch => "PATCH",
        Verb::Update => "PUT",
    }
}

/// All that a kind offers, on the object `x` in the namespace `shop`.
fn routes(kind: &Kind) -> Vec<Route> {
    let version = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let namespace = if kind.namespaced { "/namespaces/shop" } else { "" };
    let base = format!("{version}/{}{namespace}/{}", kind.version, kind.plural);
    let own = kind.verbs.iter().map(|verb| {
        let path = match verb {
            Verb::Create | Verb::DeleteCollection | Verb::List => base.clone(),
            Verb::Watch => format!("{base}?watch=true&timeoutSeconds=1"),
            Verb::Delete | Verb::Get | Verb::Patch | Verb::Update => format!("{base}/x"),
        };
        Route { method: method(*verb), path, what: format!("{} {}", verb.name(), kind.plural) }
    });
    let parts = kind.subresources.iter().flat_map(|part| {
        let base = base.clone();
        part.verbs.iter().map(move |verb| Route {
            method: method(*verb),
            path: format!("{base}/x/{}", part.name),
            what: format!("{} {}/{}", verb.name(), kind.plural, part.name),
        })
    });
    own.chain(parts).collect()
}

/// Paths that are no resources, and who may get them: everybody, all who have shown who they are, nobody without a role.
const PATHS: &[(&str, u8)] = &[
    ("/healthz", 0),
    ("/livez", 0),
    ("/readyz", 0),
    ("/version", 0),
    ("/api", 1),
    ("/api/v1", 1),
    ("/apis", 1),
    ("/apis/apps/v1", 1),
    ("/openapi/v2", 1),
    ("/openapi/v3", 1),
    ("/metrics", 2),
    ("/debug/pprof/profile", 2),
    ("/configz", 2),
    ("/nowhere", 2),
];

/// What a group has beyond nothing: lines of `what`.
const SELF: &[&str] =
    &["create selfsubjectreviews", "create selfsubjectaccessreviews", "create selfsubjectrulesreviews"];

#[tokio::test]
async fn what_is_not_given_is_refused() {
    let world = World::start(|config| config.authorization_modes = vec!["Node".into(), "RBAC".into()]).await;
    let nobody = User::new("system:anonymous", &[UNAUTHENTICATED]);
    let of = |name: &str, group: &str| User::new(name, &[group, AUTHENTICATED]);
    let users: [(User, u8); 7] = [
        (nobody, 0),
        (of("jane", "dev"), 1),
        (of("system:serviceaccount:shop:till", SERVICE_ACCOUNTS), 1),
        (of("system:serviceaccount:shop:till", "system:serviceaccounts:shop"), 1),
        (of("system:bootstrap:abcdef", "system:bootstrappers"), 1),
        (of("system:node:", "system:nodes"), 1),
        (of("prober", "system:monitoring"), 2),
    ];
    let kinds: Vec<&'static Kind> = world.running.server().offer().served.kinds().to_vec();
    let all: Vec<Route> = kinds.iter().flat_map(|kind| routes(kind)).collect();
    assert!(all.len() > 500, "{} routes", all.len());
    for (user, known) in &users {
        for route in &all {
            let (code, answer) = world.ask(user, route.method, &route.path, &json!({})).await;
            let given = *known > 0 && SELF.contains(&route.what.as_str());
            assert_eq!(code == 403, !given, "{:?}: {} {}: {code} {answer}", user.groups, route.method, route.path);
        }
        for (path, needed) in PATHS {
            let (code, answer) = world.ask(user, "GET", path, &Value::Null).await;
            let given = match known {
                2 => *path != "/configz" && *path != "/nowhere" && *path != "/debug/pprof/profile",
                known => needed <= known,
            };
            assert_eq!(code == 403, !given, "{:?}: {path}: {code} {answer}", user.groups);
            let (code, answer) = world.ask(user, "POST", path, &Value::Null).await;
            assert_eq!(code, 403, "{:?}: POST {path}: {code} {answer}", user.groups);
        }
    }
    // Members of one group pass all authorizers.
    let root = User::new("root", &["system:masters", AUTHENTICATED]);
    for route in all.iter().filter(|route| route.method == "GET" && !route.path.contains("watch=")) {
        let (code, answer) = world.ask(&root, route.method, &route.path, &Value::Null).await;
        assert_ne!(code, 403, "{}: {answer}", route.path);
    }
}
