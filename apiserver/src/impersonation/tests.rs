//! Who may act as whom, by the rights that they have.

use super::*;
use crate::authz::{Authorizer, UserRules};
use async_trait::async_trait;
use std::sync::Arc;

/// Allows what is listed, whoever asks, and remembers what it was asked.
#[derive(Default)]
struct Rights {
    given: Vec<String>,
    asked: Mutex<Vec<String>>,
}

/// `verb group/resource/subresource namespace/name` with `-` for what is empty, or `verb /path`.
fn words(attributes: &Attributes) -> String {
    let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let Attributes { verb, resource, path, .. } = attributes;
    let Some(about) = resource else { return format!("{verb} {path}") };
    let sub = if about.subresource.is_empty() { String::new() } else { format!("/{}", about.subresource) };
    let (group, namespace, name) = (or(&about.group), or(&about.namespace), or(&about.name));
    format!("{verb} {group}/{}{sub} {namespace}/{name}", about.resource)
}

#[async_trait]
impl Authorizer for Rights {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let words = words(attributes);
        self.asked.lock().push(words.clone());
        if self.given.contains(&words) { Decision::Allow(String::new()) } else { Decision::NoOpinion("no".to_owned()) }
    }

    fn rules_for(&self, _: &User, _: &str) -> UserRules {
        UserRules::default()
    }
}

struct Case {
    rights: Arc<Rights>,
    authz: Authorizers,
    registry: Registry,
    impersonation: Impersonation,
}

impl Case {
    fn new(constrained: bool, given: &[&str]) -> Case {
        let rights =
            Arc::new(Rights { given: given.iter().map(|&right| right.to_owned()).collect(), ..Rights::default() });
        let registry = Registry::new();
        let impersonation = Impersonation::new(constrained, &registry).unwrap();
        Case { authz: Authorizers::of(Arc::clone(&rights) as _), rights, registry, impersonation }
    }

    async fn judge(&self, requestor: &User, wanted: &User, request: &Attributes, now: i64) -> Result<Granted, String> {
        let request = Attributes { user: requestor.clone(), ..request.clone() };
        let judged = self.impersonation.judge(&self.authz, wanted, &request, now).await;
        judged.map_err(|status| format!("{} {}", status.code, status.message))
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.rights.asked.lock())
    }
}

fn pods(verb: &str) -> Attributes {
    let about = ResourceAttributes {
        version: "v1".to_owned(),
        resource: "pods".to_owned(),
        namespace: "shop".to_owned(),
        ..ResourceAttributes::default()
    };
    Attributes { verb: verb.to_owned(), resource: Some(about), ..Attributes::default() }
}

fn user(name: &str, groups: &[&str]) -> User {
    User::new(name, groups)
}

fn with(key: &str, values: &[&str], user: User) -> User {
    let mut extra = user.extra.clone();
    extra.insert(key.to_owned(), values.iter().map(|&value| value.to_owned()).collect());
    User { extra, ..user }
}

/// A service account whose pod runs on this node.
fn agent(node: &str, pod: &str) -> User {
    let account = User::service_account("kube-system", "agent", "1");
    with("authentication.kubernetes.io/pod-name", &[pod], with(NODE_NAME, &[node], account))
}

#[tokio::test]
async fn modes_want_two_rights() {
    let check = async |wanted: User, given: &[&str], want: Result<(&[&str], &'static str), &str>| {
        let case = Case::new(true, given);
        let got = case.judge(&agent("n1", "p"), &wanted, &pods("list"), 0).await;
        let want = want.map_err(str::to_owned).map(|(groups, constraint)| Granted {
            user: User { groups: groups.iter().map(|&group| group.to_owned()).collect(), ..wanted.clone() },
            constraint,
        });
        assert_eq!(got, want, "{wanted:?} with {given:?}");
    };
    let on = |mode: &str| format!("impersonate-on:{mode}:list -/pods shop/-");
    let nodes: &[&str] = &["system:nodes", "system:authenticated"];

    let act = "impersonate:user-info authentication.k8s.io/users -/jane";
    let all = Ok((&["system:authenticated"][..], "impersonate:user-info"));
    check(user("jane", &[]), &[&on("user-info"), act], all).await;
    check(user("jane", &[]), &["impersonate -/users -/jane"], Ok((&["system:authenticated"], ""))).await;
    // The first refusal is told.
    let who = "User \"system:serviceaccount:kube-system:agent\" cannot";
    let refusal = format!(
        "403 users.authentication.k8s.io \"jane\" is forbidden: {who} impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\" at the cluster scope: no"
    );
    check(user("jane", &[]), &[&on("user-info")], Err(&refusal)).await;
    let refusal = format!(
        "403 pods is forbidden: {who} impersonate-on:user-info:list resource \"pods\" in API group \"\" in the namespace \"shop\": no"
    );
    check(user("jane", &[]), &[act], Err(&refusal)).await;
    check(user("jane", &[]), &[], Err(&refusal)).await;

    // Nobody in particular is not made somebody.
    let nobody = "impersonate:user-info authentication.k8s.io/users -/system:anonymous";
    let want = Ok((&["system:unauthenticated"][..], "impersonate:user-info"));
    check(user(ANONYMOUS, &[]), &[&on("user-info"), nobody], want).await;

    // Its own node, any node, a node by the old right, which gives no groups.
    let own = "impersonate:associated-node authentication.k8s.io/nodes -/*";
    let want = Ok((nodes, "impersonate:associated-node"));
    check(user("system:node:n1", &[]), &[&on("associated-node"), own], want).await;
    let other = "impersonate:arbitrary-node authentication.k8s.io/nodes -/n2";
    let want = Ok((nodes, "impersonate:arbitrary-node"));
    check(user("system:node:n2", &[]), &[&on("arbitrary-node"), other, &on("associated-node"), own], want).await;
    let old = "impersonate -/users -/system:node:n1";
    check(user("system:node:n1", &[]), &[old], Ok((&["system:authenticated"], ""))).await;
    let refusal = format!(
        "403 pods is forbidden: {who} impersonate-on:arbitrary-node:list resource \"pods\" in API group \"\" in the namespace \"shop\": no"
    );
    check(user("system:node:n2", &[]), &[&on("associated-node"), own], Err(&refusal)).await;

    // A service account, whose groups follow from its name; with others only by the old right.
    let account = "impersonate:serviceaccount authentication.k8s.io/serviceaccounts shop/till";
    let groups: &[&str] = &["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"];
    let till = "system:serviceaccount:shop:till";
    let want = Ok((groups, "impersonate:serviceaccount"));
    check(user(till, &[]), &[&on("serviceaccount"), account], want).await;
    let old = ["impersonate -/serviceaccounts shop/till", "impersonate -/groups -/g"];
    check(user(till, &["g"]), &old, Ok((&["g", "system:authenticated"], ""))).await;
    check(user(till, &[]), &old, Ok((groups, ""))).await;
}

#[tokio::test]
async fn groups_and_extra_are_wanted_one_by_one_or_all_at_once() {
    let on = "impersonate-on:user-info:list -/pods shop/-";
    let act = "impersonate:user-info authentication.k8s.io/users -/jane";
    let root = user("root", &[]);
    let check = async |wanted: User, given: &[&str], want: Result<(), &str>| {
        let case = Case::new(true, &[&[on, act], given].concat());
        let got = case.judge(&root, &wanted, &pods("list"), 0).await;
        let got = got.map(drop).map_err(|why| why.split_once(" scope: ").map(|(_, why)| why.to_owned()).unwrap_or(why));
        assert_eq!(got, want.map_err(str::to_owned), "{wanted:?} with {given:?}");
    };
    let group = |name: &str| format!("impersonate:user-info authentication.k8s.io/groups -/{name}");
    let jane = |groups: &[&str]| user("jane", groups);
    check(jane(&["a", "b"]), &[&group("a"), &group("b")], Ok(())).await;
    check(jane(&["a", "b"]), &[&group("a")], Err("no")).await;
    // All at once only where there are many.
    check(jane(&["a", "b", "c"]), &[&group("*")], Err("no")).await;
    check(jane(&["a", "b", "c", "d"]), &[&group("*")], Ok(())).await;
    let each = ["a", "b", "c", "d"].map(group);
    check(jane(&["a", "b", "c", "d"]), &each.each_ref().map(String::as_str), Ok(())).await;
    check(jane(&["a", ""]), &[&group("a"), &group("")], Err("impersonating the empty string group is not allowed"))
        .await;
    let why = "impersonating the system:masters group is not allowed";
    check(jane(&[MASTERS]), &[&group(MASTERS)], Err(why)).await;
    // By the old right it is.
    check(jane(&[MASTERS]), &["impersonate -/users -/jane", "impersonate -/groups -/system:masters"], Ok(())).await;

    let uid = "impersonate:user-info authentication.k8s.io/uids -/7";
    check(User { uid: "7".into(), ..jane(&[]) }, &[uid], Ok(())).await;
    check(User { uid: "7".into(), ..jane(&[]) }, &[], Err("no")).await;

    let extra =
        |key: &str, value: &str| format!("impersonate:user-info authentication.k8s.io/userextras/{key} -/{value}");
    let said = |key: &str, values: &[&str]| with(key, values, jane(&[]));
    check(said("acme.io/a", &["x", "y"]), &[&extra("acme.io/a", "x"), &extra("acme.io/a", "y")], Ok(())).await;
    check(said("acme.io/a", &["x", "y"]), &[&extra("acme.io/a", "x"), &extra("*", "*")], Err("no")).await;
    check(said("acme.io/a", &["w", "x", "y", "z"]), &[&extra("*", "*")], Ok(())).await;
    for (key, values, why) in [
        ("", &["x"][..], "impersonating the empty string key in extra is not allowed"),
        (
            "a",
            &["x"],
            "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: \"a\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        ("acme.io/A", &["x"], "impersonating a non-lowercase key in extra is not allowed: \"acme.io/A\""),
        ("acme.io/a", &[], "impersonating empty values in extra is not allowed"),
        ("acme.io/a", &["x", ""], "impersonating the empty string value in extra is not allowed"),
    ] {
        check(said(key, values), &[&extra("*", "*")], Err(why)).await;
    }
}

#[tokio::test]
async fn grants_are_believed_for_ten_seconds() {
    let on = |verb: &str| format!("impersonate-on:user-info:{verb} -/pods shop/-");
    let act = "impersonate:user-info authentication.k8s.io/users -/jane";
    let case = Case::new(true, &[&on("list"), &on("watch"), act]);
    let (root, other, jane) = (user("root", &[]), user("other", &[]), user("jane", &[]));
    for (requestor, verb, now, want) in [
        (&root, "list", 0, &[on("list").as_str(), act][..]),
        (&root, "list", 9, &[]),
        // Another request of the same two.
        (&root, "watch", 9, &[&on("watch")]),
        // Another requestor.
        (&other, "watch", 9, &[&on("watch"), act]),
        (&root, "list", 10, &[&on("list"), act]),
    ] {
        case.judge(requestor, &jane, &pods(verb), now).await.unwrap();
        assert_eq!(case.asked(), want, "{} {verb} {now}", requestor.name);
    }
    // The same account on another node: one grant, each with its own name, and never for a node that is not its own.
    let on = "impersonate-on:associated-node:list -/pods shop/-";
    let case = Case::new(true, &[on, "impersonate:associated-node authentication.k8s.io/nodes -/*"]);
    for (node, pod, asks) in [("n1", "p1", 2), ("n2", "p2", 0)] {
        let wanted = user(&format!("system:node:{node}"), &[]);
        let granted = case.judge(&agent(node, pod), &wanted, &pods("list"), 0).await.unwrap();
        assert_eq!((granted.user.name, case.asked().len()), (wanted.name, asks), "{node}");
    }
    case.judge(&agent("n1", "p1"), &user("system:node:n2", &[]), &pods("list"), 0).await.unwrap_err();
}

#[tokio::test]
async fn the_mode_that_held_last_is_tried_first() {
    let case = Case::new(true, &["impersonate -/users -/jane"]);
    let (root, jane) = (user("root", &[]), user("jane", &[]));
    let old = "impersonate -/users -/jane";
    case.judge(&root, &jane, &pods("list"), 0).await.unwrap();
    assert_eq!(case.asked(), ["impersonate-on:user-info:list -/pods shop/-", old]);
    // The old right is asked for each time.
    for _ in 0..2 {
        case.judge(&root, &jane, &pods("list"), 0).await.unwrap();
        assert_eq!(case.asked(), [old]);
    }
    // Its refusal is the first one then.
    let refused = case.judge(&root, &user("joe", &[]), &pods("list"), 0).await.unwrap_err();
    assert!(
        refused.starts_with("403 users \"joe\" is forbidden: User \"root\" cannot impersonate resource"),
        "{refused}"
    );
    let text = crate::metrics::text(&case.registry);
    for line in [
        "apiserver_impersonation_attempts_total{decision=\"allowed\",mode=\"legacy\"} 3",
        "apiserver_impersonation_attempts_total{decision=\"denied\",mode=\"\"} 1",
        "apiserver_impersonation_authorization_attempts_total{decision=\"denied\",mode=\"user-info\"} 2",
        "apiserver_impersonation_attempts_duration_seconds_count{decision=\"allowed\",mode=\"legacy\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
}

#[tokio::test]
async fn without_the_gate_there_is_the_old_right_alone() {
    let on = "impersonate-on:user-info:list -/pods shop/-";
    let act = "impersonate:user-info authentication.k8s.io/users -/jane";
    let case = Case::new(false, &[on, act]);
    case.judge(&user("root", &[]), &user("jane", &[]), &pods("list"), 0).await.unwrap_err();
    assert_eq!(case.asked(), ["impersonate -/users -/jane"]);
    assert!(case.registry.gather().is_empty());
}
