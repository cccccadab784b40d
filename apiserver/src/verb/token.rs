//! `serviceaccounts/token`: a signed token, bound to a pod, secret or node where the client asks for it (KEP-1205).

use super::{Call, part_schema, shown};
use crate::answer::{Answer, Failure};
use crate::authn::tokens::{Bound, ObjectRef, TokenFor};
use crate::registry::{Target, admitted, read};
use crate::server::Server;
use api::field_path::{FieldError, Path};
use api::json::{Value, json};
use api::kind::Gvk;
use api::status::Status;
use api::{kinds, meta, value};

/// Upstream's shortest and longest life of a token, in seconds.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

const TOKEN_REQUEST: Gvk = Gvk { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" };

/// Answers a `TokenRequest`.
///
/// # Errors
/// 404 for an absent account, 409 when what the token is bound to is not that object, 422 for a life too short.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let mut request = call.part_object().await?.value;
    let permit = &call.authorized.permit;
    let account = read::get(server, permit, &call.target).await?.value();
    let options = call.write_options()?;
    admitted::body(server, permit, &call.target, &options, TOKEN_REQUEST, &mut request).await?;

    let mut seconds = value::int(&request, "spec.expirationSeconds").unwrap_or(DEFAULT);
    let field = Path::new("spec").child("expirationSeconds");
    let refused = match seconds {
        ..SHORTEST => Some("may not specify a duration less than 10 minutes"),
        LONGEST.. => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    if let Some(why) = refused {
        let error = FieldError::invalid(&field, seconds, why);
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &vec![error]).into());
    }
    let mut audiences: Vec<String> =
        value::items(&request, "spec.audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences = server.audiences().to_vec();
    }
    let bound = bound(server, &call, &request).await?;
    let rules = &server.config.tokens;
    let shortened = rules.longest.filter(|longest| seconds > *longest).map(|longest| {
        let warning = format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
        seconds = longest;
        warning
    });
    let wanted = TokenFor {
        namespace: call.target.namespace.clone(),
        service_account: ObjectRef { name: call.target.name.clone(), uid: meta::uid(&account).to_owned() },
        bound,
        audiences: audiences.clone(),
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
    value::set(&mut request, "metadata.name", call.target.name.clone());
    value::set(&mut request, "metadata.namespace", call.target.namespace.clone());
    value::set(&mut request, "metadata.creationTimestamp", server.now_text());
    value::set(&mut request, "spec.audiences", audiences);
    value::set(&mut request, "spec.expirationSeconds", seconds);
    value::set(&mut request, "status", json!({"token": token, "expirationTimestamp": meta::time(until)}));
    Ok(shown::value(call.medium, &request, part_schema(TOKEN_REQUEST)?, 201)?.warn(shortened))
}

/// The object to which the token is bound, checked to exist with the uid that the client names.
async fn bound(server: &Server, call: &Call, request: &Value) -> Result<Bound, Failure> {
    let text = |field: &str| value::text(request, &format!("spec.boundObjectRef.{field}")).to_owned();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    if value::get(request, "spec.boundObjectRef").is_none() {
        return Ok(Bound::Nothing);
    }
    let Some(found) = ["Pod", "Secret", "Node"].iter().find(|known| **known == kind) else {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to object of type {kind:?}",
            call.target.name
        ))
        .into());
    };
    let kind = kinds::by_gvk("", "v1", found).ok_or_else(Status::no_such_path)?;
    let namespace = if kind.namespaced { call.target.namespace.clone() } else { String::new() };
    let target = Target { kind, namespace, name: name.clone() };
    let object = read::get(server, &call.authorized.permit, &target).await?.value();
    if !uid.is_empty() && uid != meta::uid(&object) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(target.resource(), &name, &why).into());
    }
    let reference = ObjectRef { name, uid: meta::uid(&object).to_owned() };
    match *found {
        "Pod" => {
            let account = value::text(&object, "spec.serviceAccountName");
            if account != call.target.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.target.name
                ))
                .into());
            }
            let node_name = value::text(&object, "spec.nodeName");
            let node = server.caches.named("nodes").and_then(|nodes| nodes.peek("", node_name));
            let uid = node.map(|node| meta::uid(&node.value()).to_owned());
            let node = uid.map(|uid| ObjectRef { name: node_name.to_owned(), uid });
            Ok(Bound::Pod(reference, node))
        }
        "Secret" => Ok(Bound::Secret(reference)),
        _ => Ok(Bound::Node(reference)),
    }
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
}
