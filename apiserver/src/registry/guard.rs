//! Nobody hands out rights that they do not have: checks on writing roles and bindings, and what kinds demand of a writer.
//!
//! Source: upstream's documentation of privilege escalation prevention in RBAC.

use super::Target;
use crate::answer::Failure;
use crate::authz::rbac::{aggregates, bind_attributes, escalate_attributes};
use crate::authz::{Attributes, Decision, ResourceAttributes, forbidden};
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::Lookup as _;
use api::field_path::Errors;
use api::json::Value;
use api::kind::{Condition, Demand, Kind};
use api::kinds::shared::pod_privilege;
use api::status::Status;
use api::value;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleRef};

/// Refuses a role or binding that gives more than its writer holds.
///
/// # Errors
/// 403 with the rules that are missing; 404-like 403 for a binding to an absent role.
pub async fn escalation(
    server: &Server,
    permit: &Permit,
    target: &Target,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Failure> {
    if target.kind.group != "rbac.authorization.k8s.io" || permit.is_internal() {
        return Ok(());
    }
    // The garbage collector lets roles go whose rules it does not hold.
    if old.is_some_and(|old| without_collected(object) == without_collected(old)) {
        return Ok(());
    }
    let user = permit.user();
    let forbidden = |why: &str| Failure::from(Status::forbidden(target.resource(), &target.name, why));
    let may = async |attributes| server.authz.authorize(&attributes).await.is_allowed();
    let wanted = match object.get("roleRef") {
        None => {
            if may(escalate_attributes(user, target.kind.plural, &target.namespace, &target.name)).await {
                return Ok(());
            }
            object.get("rules").and_then(|rules| api::json::from_value(rules.clone()).ok()).unwrap_or_default()
        }
        Some(role) => {
            let role: RoleRef = api::json::from_value(role.clone()).map_err(Status::internal)?;
            if may(bind_attributes(user, &role, &target.namespace)).await {
                return Ok(());
            }
            let rules = server.rbac.rules_of_role(&role, &target.namespace);
            rules.map_err(|why| Status::refused(target.resource(), &target.name, why))?
        }
    };
    if let Some(why) = server.rbac.refuse_escalation(user, &target.namespace, &wanted) {
        return Err(forbidden(&why));
    }
    let gathers = |role: &Value| api::json::from_value(role.clone()).is_ok_and(|role: ClusterRole| aggregates(&role));
    let gathering = target.kind.kind == "ClusterRole" && [Some(object), old].into_iter().flatten().any(gathers);
    // What an aggregated role will hold is not known when it is written.
    match server.rbac.refuse_aggregation(user) {
        Some(why) if gathering => Err(forbidden(why)),
        _ => Ok(()),
    }
}

/// An object without what the garbage collector changes, and what changes with every write.
fn without_collected(object: &Value) -> Value {
    let mut object = object.clone();
    for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
        value::remove(&mut object, &format!("metadata.{field}"));
    }
    object
}

/// What the containers of an object's pods may not have unless `--allow-privileged` says so, in a write through this part.
pub fn privileged(server: &Server, kind: &Kind, part: &str, object: &Value) -> Errors {
    let judged = matches!(part, "" | "ephemeralcontainers" | "resize");
    let path = kind.pods.filter(|_| judged && !server.config.allow_privileged);
    path.map_or_else(Errors::new, |path| pod_privilege::refused(object, path))
}

/// The errors of demands that are not met; work without a request meets all.
pub async fn unmet(server: &Server, permit: &Permit, target: &Target, demands: Vec<Demand>) -> Errors {
    let mut errors = Errors::new();
    if permit.is_internal() {
        return errors;
    }
    for Demand { condition, mut error } in demands {
        match condition {
            Condition::NamespaceLabel { key, value } => {
                let namespace = server.get("", "namespaces", "", &target.namespace).await.unwrap_or_default();
                let labels = value::get(&namespace, "metadata.labels");
                if labels.and_then(|labels| labels.get(key)).is_none_or(|own| own != value) {
                    errors.push(error);
                }
            }
            Condition::Right { verbs, subresource, in_namespace, name } => {
                let namespace = if in_namespace { target.namespace.clone() } else { String::new() };
                let resource = ResourceAttributes {
                    group: target.kind.group.to_owned(),
                    version: target.kind.version.to_owned(),
                    resource: target.kind.plural.to_owned(),
                    subresource: subresource.to_owned(),
                    namespace,
                    name,
                    ..ResourceAttributes::default()
                };
                let questions = verbs.into_iter().map(|verb| Attributes {
                    user: permit.user().clone(),
                    verb,
                    resource: Some(resource.clone()),
                    path: String::new(),
                });
                let mut refused = None;
                for question in questions {
                    let decision = server.authz.authorize(&question).await;
                    let (Decision::Deny(why) | Decision::NoOpinion(why)) = decision else {
                        refused = None;
                        break;
                    };
                    refused.get_or_insert_with(|| forbidden(&question, &why));
                }
                if let Some(why) = refused {
                    error.detail.push_str(": ");
                    error.detail.push_str(&why);
                    errors.push(error);
                }
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use api::json::{Value, json};
    use api::value;

    const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";

    fn of(kind: &str, name: &str, further: &Value) -> Value {
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": name}});
        for (field, given) in further.as_object().into_iter().flatten() {
            value::set(&mut object, field, given.clone());
        }
        object
    }

    /// Asks until it holds: rights come with what is written, a moment later.
    async fn becomes(world: &World, user: &User, (method, path, body): (&str, &str, &Value), wanted: u16) -> Value {
        let mut last = (0, Value::Null);
        for _ in 0..300 {
            last = world.ask(user, method, path, body).await;
            if last.0 == wanted {
                return last.1;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{method} {path}: {last:?}");
    }

    /// Who may write roles and bindings, and holds nothing else.
    async fn writer(world: &World, root: &User, name: &str, verbs: &[&str]) -> User {
        let rules = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": verbs}]);
        let role = of("ClusterRole", name, &json!({"rules": rules}));
        assert_eq!(world.ask(root, "POST", &format!("{GROUP}/clusterroles"), &role).await.0, 201);
        let binding = of(
            "ClusterRoleBinding",
            name,
            &json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]}),
        );
        assert_eq!(world.ask(root, "POST", &format!("{GROUP}/clusterrolebindings"), &binding).await.0, 201);
        let user = User::new(name, &[AUTHENTICATED]);
        becomes(world, &user, ("GET", &format!("{GROUP}/clusterroles"), &Value::Null), 200).await;
        user
    }

    #[tokio::test]
    async fn the_collector_lets_go_what_it_could_not_give() {
        let world = World::start(|_| {}).await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let collector = writer(&world, &root, "collector", &["list", "update", "patch"]).await;
        let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
        let gathers = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
        for (kind, collection, further) in [
            ("Role", format!("{GROUP}/namespaces/default/roles"), json!({"rules": secrets})),
            ("RoleBinding", format!("{GROUP}/namespaces/default/rolebindings"), json!({"roleRef": role})),
            ("ClusterRole", format!("{GROUP}/clusterroles"), json!({"rules": secrets})),
            ("ClusterRole", format!("{GROUP}/clusterroles"), gathers),
            ("ClusterRoleBinding", format!("{GROUP}/clusterrolebindings"), json!({"roleRef": role})),
        ] {
            let name = format!("held-{}", further.as_object().and_then(|map| map.keys().next()).unwrap());
            let mut held = of(kind, &name, &further);
            value::set(&mut held, "metadata.finalizers", json!(["example.com/a", "example.com/b"]));
            assert_eq!(world.ask(&root, "POST", &collection, &held).await.0, 201, "{kind}");
            let path = format!("{collection}/{name}");
            for (metadata, wanted) in [
                (json!({"finalizers": ["example.com/b"]}), 200),
                (json!({"finalizers": ["example.com/b"], "labels": {"more": "than-that"}}), 403),
                (json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "a", "uid": "b"}]}), 200),
                (json!({"annotations": {"a": "b"}}), 403),
            ] {
                let (code, answer) = world.ask(&collector, "PATCH", &path, &json!({"metadata": metadata})).await;
                assert_eq!(code, wanted, "{kind} {name} {metadata} {answer}");
            }
        }
    }

    #[tokio::test]
    async fn aggregated_roles_are_for_those_who_hold_everything_or_may_escalate() {
        let world = World::start(|_| {}).await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let plain = writer(&world, &root, "plain", &["list", "create"]).await;
        let free = writer(&world, &root, "free", &["list", "create", "escalate"]).await;
        let rule = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
        let (empty, full) = (json!({"aggregationRule": rule}), json!({"aggregationRule": rule, "rules": rules}));
        for (user, name, further, wanted) in [
            (&plain, "empty", &empty, Some("must have cluster-admin privileges to use the aggregationRule")),
            (&plain, "full", &full, Some("is attempting to grant RBAC permissions not currently held")),
            (&free, "full", &full, None),
        ] {
            let role = of("ClusterRole", name, further);
            let (code, answer) = world.ask(user, "POST", &format!("{GROUP}/clusterroles"), &role).await;
            let said = value::text(&answer, "message");
            match wanted {
                None => assert_eq!(code, 201, "{name} {answer}"),
                Some(words) => assert!(code == 403 && said.contains(words), "{name} {code} {said}"),
            }
        }
    }

    #[tokio::test]
    async fn all_of_a_machine_is_for_those_whom_a_flag_gives_it() {
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let spec = json!({"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
        let labels = json!({"a": "b"});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {
            "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}});
        for allowed in [false, true] {
            let world = World::start(|config| config.allow_privileged = allowed).await;
            for (path, object, field) in [
                ("/api/v1/namespaces/default/pods", &pod, "spec"),
                ("/apis/apps/v1/namespaces/default/deployments", &deployment, "spec.template.spec"),
            ] {
                let (code, answer) = world.ask(&root, "POST", path, object).await;
                let why = format!(
                    "{field}.containers[0].securityContext.privileged: Forbidden: disallowed by cluster policy"
                );
                let refused = value::text(&answer, "message").contains(&why);
                assert_eq!((code, refused), (if allowed { 201 } else { 422 }, !allowed), "{answer}");
            }
            // One whose containers ask for nothing is asked again when it is given more of them.
            let mut modest = pod.clone();
            value::set(&mut modest, "metadata.name", "b");
            value::remove(value::items_mut(&mut modest, "spec.containers").first_mut().unwrap(), "securityContext");
            assert_eq!(world.ask(&root, "POST", "/api/v1/namespaces/default/pods", &modest).await.0, 201);
            let own = json!({"spec": {"ephemeralContainers": [
                {"name": "e", "image": "i", "securityContext": {"privileged": true}}]}});
            let path = "/api/v1/namespaces/default/pods/b/ephemeralcontainers";
            let (code, answer) = world.ask(&root, "PATCH", path, &own).await;
            assert_eq!(code, if allowed { 200 } else { 422 }, "{answer}");
        }
    }
}
