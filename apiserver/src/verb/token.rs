//! `serviceaccounts/token`: a signed token, bound to a pod, secret or node where the client asks for it (KEP-1205).

use super::{Call, part_schema, shown};
use crate::answer::{Answer, Failure};
use crate::authn::tokens::{Bound, ObjectRef, TokenFor};
use crate::registry::admitted::{self, Asked};
use crate::registry::{Target, read};
use crate::server::Server;
use admission::{Lookup as _, Operation};
use api::field_path::{FieldError, Path};
use api::json::{Value, json};
use api::kind::Gvk;
use api::status::{ResourceName, Status};
use api::{kinds, meta, value};

/// Upstream's shortest and longest life of a token, in seconds.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

const TOKEN_REQUEST: Gvk = Gvk { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" };

/// Answers a `TokenRequest`.
///
/// # Errors
/// 404 for an absent account, 409 when the account or what the token is bound to is not that object, 422 for a name that is not the
/// account's and a life too short or too long.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let mut request = call.part_object().await?;
    value::set_default(&mut request, "spec.expirationSeconds", DEFAULT);
    let permit = &call.authorized.permit;
    let options = call.write_options()?;
    let (operation, gvk) = (Operation::Create, TOKEN_REQUEST);
    let asked = Asked { operation, gvk, target: &call.target, options: &options, permit };
    admitted::mutate(server, &asked, &mut request).await?;
    named(&call, &request)?;
    let account = read::get(server, permit, &call.target).await?.value();
    let uid = meta::uid(&account).to_owned();
    let given = meta::uid(&request);
    if !given.is_empty() && given != uid && server.config.gates.enabled("TokenRequestServiceAccountUIDValidation") {
        let why =
            format!("the UID in the token request ({given}) does not match the UID of the service account ({uid})");
        let resource = ResourceName { group: TOKEN_REQUEST.group, plural: TOKEN_REQUEST.kind };
        return Err(Status::conflict(resource, &call.target.name, &why).into());
    }
    value::set(&mut request, "metadata.name", call.target.name.clone());
    value::set(&mut request, "metadata.namespace", call.target.namespace.clone());
    value::set_default(&mut request, "metadata.uid", uid.clone());
    value::set(&mut request, "metadata.creationTimestamp", server.now_text());
    if value::items(&request, "spec.audiences").is_empty() {
        value::set(&mut request, "spec.audiences", server.audiences().to_vec());
    }
    let mut seconds = value::int(&request, "spec.expirationSeconds").unwrap_or(DEFAULT);
    let field = Path::new("spec").child("expirationSeconds");
    let refused = match seconds {
        ..SHORTEST => Some("may not specify a duration less than 10 minutes"),
        SHORTEST..=LONGEST => None,
        _ => Some("may not specify a duration larger than 2^32 seconds"),
    };
    if let Some(why) = refused {
        let error = FieldError::invalid(&field, seconds, why);
        return Err(Status::invalid(TOKEN_REQUEST.group, TOKEN_REQUEST.kind, "", &vec![error]).into());
    }
    admitted::validate(server, &asked, &request).await?;
    let audiences: Vec<String> =
        value::items(&request, "spec.audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let bound = bound(server, &call, &request).await?;
    let rules = &server.config.tokens;
    let shortened = rules.longest.filter(|longest| seconds > *longest).map(|longest| {
        let warning = format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
        seconds = longest;
        warning
    });
    let wanted = TokenFor {
        namespace: call.target.namespace.clone(),
        service_account: ObjectRef { name: call.target.name.clone(), uid },
        bound,
        audiences,
        seconds,
        extend: rules.extend,
        now: server.now(),
        jti: uuid::Uuid::new_v4().to_string(),
    };
    let (claims, until) = server.signer.claims(&wanted, server.audiences());
    let token = server.signer.sign(&claims).map_err(Status::internal)?;
    if let Some(slip) = &call.received().slip {
        slip.note("authentication.kubernetes.io/issued-credential-id", &format!("JTI={}", wanted.jti));
    }
    value::set(&mut request, "spec.expirationSeconds", seconds);
    value::set(&mut request, "status", json!({"token": token, "expirationTimestamp": meta::time(until)}));
    Ok(shown::value(call.medium, &request, part_schema(TOKEN_REQUEST)?, 201)?.warn(shortened))
}

/// Whether the request is sent to the account that it names, where it names one.
fn named(call: &Call, request: &Value) -> Result<(), Failure> {
    call.target.agrees(request)?;
    let name = meta::name(request);
    if name.is_empty() || name == call.target.name {
        return Ok(());
    }
    let field = Path::new("metadata").child("name");
    let error = FieldError::invalid(&field, name, "must match the service account name if specified");
    Err(Status::invalid(TOKEN_REQUEST.group, TOKEN_REQUEST.kind, &call.target.name, &vec![error]).into())
}

/// The object to which the token is bound, checked to exist with the uid that the client names.
async fn bound(server: &Server, call: &Call, request: &Value) -> Result<Bound, Failure> {
    let Some(reference) = value::get(request, "spec.boundObjectRef") else { return Ok(Bound::Nothing) };
    let text = |field: &str| value::text(reference, field);
    let (version, name, uid) = (text("apiVersion"), text("name"), text("uid"));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let known = ["Pod", "Secret", "Node"].into_iter().find(|known| group.is_empty() && *known == text("kind"));
    let Some(known) = known else {
        let what = format!("{group}/{version}, Kind={}", text("kind"));
        return Err(Status::bad_request(format!("cannot bind token to object of type {what}")).into());
    };
    let kind = kinds::by_gvk("", "v1", known).ok_or_else(Status::no_such_path)?;
    let namespace = if kind.namespaced { call.target.namespace.clone() } else { String::new() };
    let target = Target { kind, namespace, name: name.to_owned() };
    let object = read::get(server, &call.authorized.permit, &target).await?.value();
    let found = ObjectRef { name: name.to_owned(), uid: meta::uid(&object).to_owned() };
    let bound = match known {
        "Pod" => {
            let account = value::text(&object, "spec.serviceAccountName");
            if account != call.target.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.target.name
                ))
                .into());
            }
            Bound::Pod(found.clone(), node(server, value::text(&object, "spec.nodeName")).await)
        }
        "Secret" => Bound::Secret(found.clone()),
        _ => Bound::Node(found.clone()),
    };
    if !uid.is_empty() && uid != found.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(ResourceName { group: "", plural: known }, name, &why).into());
    }
    Ok(bound)
}

/// A pod's node; of one that is not there the name alone.
async fn node(server: &Server, name: &str) -> Option<ObjectRef> {
    if name.is_empty() {
        return None;
    }
    let node = match server.peek("", "nodes", "", name).await {
        Some(node) => Some(node),
        None => server.get("", "nodes", "", name).await,
    };
    let uid = node.as_ref().map(meta::uid).unwrap_or_default().to_owned();
    Some(ObjectRef { name: name.to_owned(), uid })
}

#[cfg(test)]
mod tests {
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use api::json::{Value, json};
    use api::value;

    #[tokio::test]
    async fn flags_bound_the_life_of_tokens_and_say_where_keys_are() {
        let uri = "https://keys.example/jwks";
        let world = World::start(|config| {
            config.tokens.longest = Some(7200);
            config.tokens.jwks_uri = Some(uri.to_owned());
        })
        .await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "till"}});
        assert_eq!(world.ask(&root, "POST", accounts, &account).await.0, 201);
        for (asked, given) in [(3600, 3600), (7200, 7200), (86_400, 7200)] {
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                "spec": {"expirationSeconds": asked}});
            let (code, answer) = world.ask(&root, "POST", &format!("{accounts}/till/token"), &body).await;
            assert_eq!((code, value::int(&answer, "spec.expirationSeconds")), (201, Some(given)), "{answer}");
        }
        let (_, document) = world.ask(&root, "GET", "/.well-known/openid-configuration", &Value::Null).await;
        assert_eq!(value::text(&document, "jwks_uri"), uri);
    }

    #[tokio::test]
    async fn a_request_names_the_account_and_what_it_is_bound_to_as_they_are() {
        let world = World::start(|config| config.audiences = vec!["us".to_owned()]).await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "till"}});
        let (_, account) = world.ask(&root, "POST", accounts, &account).await;
        let own = api::meta::uid(&account).to_owned();
        let pod = |name: &str, account: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
                "serviceAccountName": account, "nodeName": "gone", "containers": [{"name": "c", "image": "i"}]}})
        };
        let mut uids = Vec::new();
        for pod in [pod("own", "till"), pod("other", "default")] {
            let (code, pod) = world.ask(&root, "POST", "/api/v1/namespaces/default/pods", &pod).await;
            assert_eq!(code, 201, "{pod}");
            uids.push(api::meta::uid(&pod).to_owned());
        }
        let bound = |version: &str, kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": version, "kind": kind, "name": name, "uid": uid}});
        let nobody = "00000000-0000-0000-0000-000000000000";
        let unlike = format!(
            "Operation cannot be fulfilled on TokenRequest.authentication.k8s.io \"till\": the UID in the token request ({nobody}) does not match the UID of the service account ({own})"
        );
        let gone = format!(
            "Operation cannot be fulfilled on Pod \"own\": the UID in the bound object reference ({nobody}) does not match"
        );
        for (name, metadata, spec, code, words) in [
            ("till", json!({"name": "till", "namespace": "default", "uid": own}), json!({}), 201, ""),
            (
                "till",
                json!({"name": "other"}),
                json!({}),
                422,
                "TokenRequest.authentication.k8s.io \"till\" is invalid: metadata.name: Invalid value: \"other\": must match the service account name if specified",
            ),
            // The name is looked at first.
            ("nobody", json!({"name": "other"}), json!({}), 422, "must match the service account name"),
            ("nobody", json!({}), json!({"expirationSeconds": 1}), 404, "serviceaccounts \"nobody\" not found"),
            ("till", json!({"namespace": "kube-system"}), json!({}), 400, "the namespace of the provided object"),
            ("till", json!({"uid": nobody}), json!({}), 409, &unlike),
            ("till", json!({}), json!({"expirationSeconds": 599}), 422, "less than 10 minutes"),
            ("till", json!({}), json!({"expirationSeconds": 1_i64 << 32}), 201, ""),
            ("till", json!({}), json!({"expirationSeconds": (1_i64 << 32) + 1}), 422, "larger than 2^32 seconds"),
            ("till", json!({}), bound("v1", "Pod", "own", &uids[0]), 201, ""),
            ("till", json!({}), bound("", "Pod", "own", ""), 201, ""),
            ("till", json!({}), bound("v1", "Pod", "own", nobody), 409, &gone),
            // Whose pod it is counts before which.
            (
                "till",
                json!({}),
                bound("v1", "Pod", "other", nobody),
                400,
                "to pod running with different serviceaccount name.",
            ),
            (
                "till",
                json!({}),
                bound("apps/v1", "Pod", "own", ""),
                400,
                "cannot bind token to object of type apps/v1, Kind=Pod",
            ),
            (
                "till",
                json!({}),
                bound("v1", "ConfigMap", "own", ""),
                400,
                "cannot bind token to object of type /v1, Kind=ConfigMap",
            ),
            ("till", json!({}), bound("v1", "Secret", "none", ""), 404, "secrets \"none\" not found"),
        ] {
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                "metadata": metadata, "spec": spec});
            let (found, answer) = world.ask(&root, "POST", &format!("{accounts}/{name}/token"), &body).await;
            assert!(found == code && value::text(&answer, "message").contains(words), "{body} {found} {answer}");
            if found != 201 {
                continue;
            }
            assert_eq!(api::meta::uid(&answer), own);
            assert_eq!(value::get(&answer, "spec.audiences"), Some(&json!(["us"])));
            let token = value::text(&answer, "status.token").split('.').nth(1).unwrap();
            let claims = crate::authn::tokens::base64url_decode(token).unwrap();
            let claims: Value = api::json::from_slice(&claims).unwrap();
            let node = claims.get("kubernetes.io").and_then(|claim| claim.get("node"));
            let wanted = value::get(&spec, "boundObjectRef").map(|_| json!({"name": "gone"}));
            assert_eq!(node, wanted.as_ref(), "a node that is not there keeps its name");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_asks_for_its_pods_without_naming_an_audience() {
        let world = World::start(|config| {
            config.authorization_modes = vec!["Node".to_owned(), "RBAC".to_owned()];
            config.enable_admission = vec!["NodeRestriction".to_owned()];
        })
        .await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let node = User::new("system:node:n", &["system:nodes", AUTHENTICATED]);
        let volume = |sources: Value| json!([{"name": "v", "projected": {"sources": sources}}]);
        let pod = |name: &str, source: Value| {
            json!({"metadata": {"name": name}, "spec": {"nodeName": "n", "serviceAccountName": "s", "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "i"}], "volumes": volume(json!([{"serviceAccountToken": source}]))}})
        };
        let space = "/api/v1/namespaces/default";
        for (path, body) in [
            ("/api/v1/nodes".to_owned(), json!({"metadata": {"name": "n"}})),
            (format!("{space}/serviceaccounts"), json!({"metadata": {"name": "s"}})),
            (format!("{space}/pods"), pod("own", json!({"path": "t"}))),
            (format!("{space}/pods"), pod("other", json!({"path": "t", "audience": "other"}))),
        ] {
            let (code, answer) = world.ask(&root, "POST", &path, &body).await;
            assert_eq!(code, 201, "{path}: {answer}");
        }
        for (name, audiences, want) in [
            ("own", json!([]), 201),
            ("own", json!(["other"]), 403),
            ("other", json!(["other"]), 201),
            ("other", json!([]), 403),
            ("own", json!(["a", "b"]), 403),
        ] {
            let (_, held) = world.ask(&root, "GET", &format!("{space}/pods/{name}"), &Value::Null).await;
            let bound =
                json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": value::text(&held, "metadata.uid")});
            let body = json!({"spec": {"boundObjectRef": bound, "audiences": audiences}});
            let (code, answer) = world.ask(&node, "POST", &format!("{space}/serviceaccounts/s/token"), &body).await;
            assert_eq!(code, want, "{name} {audiences}: {answer}");
        }
    }
}
