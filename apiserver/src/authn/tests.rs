//! The table as a whole, with real keys and certificates.

use super::tokens::{Bound, Claims, KubernetesClaim, ObjectRef, TokenFor, TokenSigner, VerifyKey};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::collections::HashMap;

const NOW: i64 = 1_800_000_000;

#[derive(Default)]
struct World {
    identities: HashMap<(String, String, String), Identity>,
    secrets: HashMap<(String, String), Secret>,
    /// Secrets that every account lists.
    listed: Vec<String>,
    /// Uses of secrets that were told.
    used: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn with(mut self, (resource, namespace, name): (&str, &str, &str), uid: &str, deleted_at: Option<i64>) -> Self {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.identities.insert(key, Identity { uid: uid.to_owned(), deleted_at });
        self
    }
}

#[async_trait]
impl Objects for World {
    async fn identity(&self, resource: &str, namespace: &str, name: &str) -> Option<Identity> {
        self.identities.get(&(resource.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }
    async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }
    async fn listed_secrets(&self, _namespace: &str, _account: &str) -> Vec<String> {
        self.listed.clone()
    }
    async fn used(&self, namespace: &str, secret: &str, uid: &str, day: &str) {
        self.used.lock().push(format!("{namespace}/{secret} {uid} {day}"));
    }
}

fn object(name: &str, uid: &str) -> ObjectRef {
    ObjectRef { name: name.to_owned(), uid: uid.to_owned() }
}

fn signer() -> TokenSigner {
    TokenSigner::from_pem(&tokens::generate_es256().unwrap(), "https://issuer").unwrap()
}

fn settings(signer: &TokenSigner, world: World) -> Settings {
    Settings {
        token_file: Some("secret-token,jane,7,\"dev,ops\"".to_owned()),
        service_accounts: Some(ServiceAccounts {
            keys: vec![signer.public().clone()],
            issuers: vec!["https://issuer".to_owned()],
            audiences: vec!["https://issuer".to_owned()],
        }),
        anonymous: Anonymous { enabled: true, conditions: Vec::new() },
        bootstrap_tokens: true,
        api_audiences: vec!["https://issuer".to_owned()],
        objects: Some(Arc::new(world)),
        ..Settings::default()
    }
}

fn wanted(bound: Bound) -> TokenFor {
    TokenFor {
        namespace: "shop".to_owned(),
        service_account: object("till", "u1"),
        bound,
        audiences: vec!["https://issuer".to_owned()],
        seconds: 3600,
        extend: true,
        now: NOW,
        jti: "id-1".to_owned(),
    }
}

fn ask(authenticators: &Authenticators, authorization: Option<&str>, now: i64) -> Outcome {
    futures::executor::block_on(authenticators.authenticate(&Credentials { authorization, ..Credentials::none(now) }))
}

#[test]
fn headers_become_users() {
    let authenticators = Authenticators::new(&settings(&signer(), World::default())).unwrap();
    let check =
        |header: Option<&str>, want: Result<(&str, &[&str]), &str>| match (ask(&authenticators, header, NOW), want) {
            (Outcome::User(user), Ok((name, groups))) => {
                assert_eq!(
                    (user.name.as_str(), user.groups.as_slice()),
                    (name, groups.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>().as_slice())
                );
            }
            (Outcome::Rejected(got), Err(want)) => assert_eq!(got, want),
            (got, want) => panic!("{header:?}: {got:?}, not {want:?}"),
        };
    check(None, Ok(("system:anonymous", &["system:unauthenticated"])));
    check(Some("Basic eDp5"), Ok(("system:anonymous", &["system:unauthenticated"])));
    check(Some("Bearer "), Ok(("system:anonymous", &["system:unauthenticated"])));
    check(Some("Bearer secret-token"), Ok(("jane", &["dev", "ops", "system:authenticated"])));
    check(Some("bearer secret-token"), Ok(("jane", &["dev", "ops", "system:authenticated"])));
    check(Some("Bearer wrong"), Err("invalid bearer token"));
    check(Some("Bearer abcdef.0123456789abcdef"), Err("invalid bearer token"));
    check(Some("Bearer a.b.c"), Err("invalid bearer token"));
    let good = tokens::base64url_encode("secret-token");
    let bad = tokens::base64url_encode("wrong");
    let check = |authorization: Option<&str>, offered: &[&str], others: bool, want: Result<&str, &str>| {
        let websocket = Offered { tokens: offered.to_vec(), others };
        let credentials = Credentials { websocket, authorization, ..Credentials::none(NOW) };
        match futures::executor::block_on(authenticators.authenticate(&credentials)) {
            Outcome::User(user) => assert_eq!(Ok(user.name.as_str()), want, "{offered:?}"),
            outcome => assert_eq!(outcome, Outcome::Rejected(want.unwrap_err().to_owned()), "{offered:?}"),
        }
    };
    check(None, &[&good], true, Ok("jane"));
    check(None, &[], true, Ok("system:anonymous"));
    // What is no bearer token stands beside it.
    check(Some("Basic eDp5"), &[&good], true, Ok("jane"));
    check(None, &[&bad], true, Err("invalid bearer token"));
    check(None, &[&good], false, Err("missing additional subprotocol"));
    check(None, &[&good, &good], true, Err("multiple base64.bearer.authorization tokens specified"));
    check(None, &["%"], true, Err("invalid base64.bearer.authorization token encoding"));
}

#[test]
fn bound_tokens_live_as_long_as_what_they_are_bound_to() {
    let signer = signer();
    let account = || World::default().with(("serviceaccounts", "shop", "till"), "u1", None);
    let check = |world: World, bound: Bound, at: i64, want: Result<(), &str>| {
        let authenticators = Authenticators::new(&settings(&signer, world)).unwrap();
        let (claims, _) = signer.claims(&wanted(bound), &[]);
        let header = format!("Bearer {}", signer.sign(&claims).unwrap());
        for _ in 0..2 {
            match (ask(&authenticators, Some(&header), at), want) {
                (Outcome::User(user), Ok(())) => {
                    assert_eq!(user.name, "system:serviceaccount:shop:till");
                    assert_eq!(
                        user.groups,
                        ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"]
                    );
                    assert_eq!(user.extra[CREDENTIAL_ID], ["JTI=id-1"]);
                }
                (Outcome::Rejected(got), Err(want)) => assert_eq!(got, format!("service_account: {want}")),
                (got, want) => panic!("{got:?}, not {want:?}"),
            }
        }
    };
    let pod = || Bound::Pod(object("web", "p1"), Some(object("node-1", "n1")));
    check(account(), Bound::Nothing, NOW, Ok(()));
    check(account(), Bound::Nothing, NOW + 3660, Ok(()));
    check(account(), Bound::Nothing, NOW + 3661, Err("service account token has expired"));
    check(account(), Bound::Nothing, NOW - 61, Err("service account token is not valid yet"));
    check(World::default(), Bound::Nothing, NOW, Err("serviceaccounts \"till\" not found"));
    check(
        World::default().with(("serviceaccounts", "shop", "till"), "u2", None),
        Bound::Nothing,
        NOW,
        Err("service account UID (u2) does not match claim (u1)"),
    );
    check(account(), pod(), NOW, Err("service account token has been invalidated"));
    check(account().with(("pods", "shop", "web"), "p1", None), pod(), NOW, Ok(()));
    check(account().with(("pods", "shop", "web"), "p1", Some(NOW + 30)), pod(), NOW + 60, Ok(()));
    check(
        account().with(("pods", "shop", "web"), "p1", Some(NOW - 61)),
        pod(),
        NOW,
        Err("service account token has been invalidated"),
    );
    check(
        account().with(("pods", "shop", "web"), "p2", None),
        pod(),
        NOW,
        Err("pod UID (p2) does not match service account pod ref claim (p1)"),
    );
    check(account().with(("nodes", "", "n"), "1", None), Bound::Node(object("n", "1")), NOW, Ok(()));
    check(account(), Bound::Secret(object("s", "1")), NOW, Err("service account token has been invalidated"));
}

#[test]
fn a_token_is_judged_by_our_keys_alone() {
    let (ours, theirs) = (signer(), signer());
    let world = World::default().with(("serviceaccounts", "shop", "till"), "u1", None);
    let authenticators = Authenticators::new(&settings(&ours, world)).unwrap();
    let (claims, _) = ours.claims(&wanted(Bound::Nothing), &[]);
    let good = ours.sign(&claims).unwrap();
    let token = |token: &str, audiences: &[&str]| {
        let audiences: Vec<_> = audiences.iter().map(|a| (*a).to_owned()).collect();
        futures::executor::block_on(authenticators.token(token, &audiences, NOW, &Remarks::default()))
    };
    assert_eq!(token(&good, &[]).unwrap().unwrap().audiences, ["https://issuer"]);
    assert!(token(&good, &["vault"]).unwrap_err().contains("is invalid for the target audiences"));
    assert_eq!(token(&theirs.sign(&claims).unwrap(), &[]).unwrap_err(), "invalid signature, no keys found");
    // The same claims under another header or signature.
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[0] = tokens::base64url_encode(r#"{"alg":"none"}"#);
    assert_eq!(token(&parts.join("."), &[]).unwrap_err(), "invalid signature");
    parts[2] = String::new();
    assert_eq!(token(&parts.join("."), &[]).unwrap_err(), "invalid signature");
    let other = Claims { iss: "https://elsewhere".to_owned(), ..claims.clone() };
    assert_eq!(token(&ours.sign(&other).unwrap(), &[]).unwrap(), None);
    // A token of another kind is good for the API server's audience only.
    assert!(token("secret-token", &["https://issuer"]).unwrap().is_some());
    assert_eq!(token("secret-token", &["vault"]).unwrap(), None);
    let endless = Claims { exp: None, ..claims };
    assert_eq!(token(&ours.sign(&endless).unwrap(), &[]).unwrap_err(), "service account token has no expiry");
}

/// One account and one pod, which may go.
struct Leaving(Mutex<bool>);

#[async_trait]
impl Objects for Leaving {
    async fn identity(&self, resource: &str, _: &str, _: &str) -> Option<Identity> {
        let uid = if resource == "pods" { "p1" } else { "u1" };
        (resource != "pods" || !*self.0.lock()).then(|| Identity { uid: uid.to_owned(), deleted_at: None })
    }
    async fn secret(&self, _: &str, _: &str) -> Option<Secret> {
        None
    }
    async fn listed_secrets(&self, _: &str, _: &str) -> Vec<String> {
        Vec::new()
    }
    async fn used(&self, _: &str, _: &str, _: &str, _: &str) {}
}

#[test]
fn a_token_that_is_played_again_is_judged_again() {
    let (signer, cluster) = (signer(), Arc::new(Leaving(Mutex::new(false))));
    let settings = Settings { objects: Some(Arc::clone(&cluster) as _), ..settings(&signer, World::default()) };
    let authenticators = Authenticators::new(&settings).unwrap();
    let token = |bound: Bound| format!("Bearer {}", signer.sign(&signer.claims(&wanted(bound), &[]).0).unwrap());
    let (of_pod, own) = (token(Bound::Pod(object("web", "p1"), None)), token(Bound::Nothing));
    let known = |token: &str, at: i64| matches!(ask(&authenticators, Some(token), at), Outcome::User(_));
    assert!(known(&of_pod, NOW) && known(&own, NOW));
    // Its signature is remembered; what it is bound to and when it ends are not.
    *cluster.0.lock() = true;
    assert!(!known(&of_pod, NOW) && known(&own, NOW));
    assert!(known(&own, NOW + 3660) && !known(&own, NOW + 3661) && !known(&own, NOW - 61));
    *cluster.0.lock() = false;
    assert!(known(&of_pod, NOW));
}

#[test]
fn tokens_of_any_size_and_depth_are_refused() {
    let signer = signer();
    let authenticators = Authenticators::new(&settings(&signer, World::default())).unwrap();
    let good = signer.sign(&signer.claims(&wanted(Bound::Nothing), &[]).0).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let deep = |open: &str, close: &str| tokens::base64url_encode(open.repeat(200_000) + "1" + &close.repeat(200_000));
    let long = "x".repeat(900_000);
    let (list, map) = (deep("[", "]"), deep("{\"a\":", "}"));
    let open = tokens::base64url_encode("[".repeat(600_000));
    let wide = tokens::base64url_encode(format!("{{\"alg\":\"ES256\"{}}}", ",\"a\":1".repeat(100_000)));
    for token in [
        long.clone(),
        format!("{long}.{long}.{long}"),
        format!("{}.{}.{}{long}", parts[0], parts[1], parts[2]),
        format!("{}{long}.{}.{}", parts[0], parts[1], parts[2]),
        format!("{list}.{}.{}", parts[1], parts[2]),
        format!("{}.{list}.{}", parts[0], parts[2]),
        format!("{map}.{}.{}", parts[1], parts[2]),
        format!("{}.{map}.{}", parts[0], parts[2]),
        format!("{open}.{open}.{}", parts[2]),
        format!("{wide}.{}.{}", parts[1], parts[2]),
        ".".repeat(900_000),
        format!("{good}."),
        format!(".{good}"),
    ] {
        let shown: String = token.chars().take(40).collect();
        let header = format!("Bearer {token}");
        assert!(matches!(ask(&authenticators, Some(&header), NOW), Outcome::Rejected(_)), "{shown}");
        let within = tokens::base64url_encode(&token);
        let websocket = Offered { tokens: vec![&within], others: true };
        let credentials = Credentials { websocket, ..Credentials::none(NOW) };
        let outcome = futures::executor::block_on(authenticators.authenticate(&credentials));
        assert!(matches!(outcome, Outcome::Rejected(_)), "{shown}");
    }
}

#[test]
fn legacy_tokens_match_their_secret() {
    let signer = signer();
    let claims = Claims {
        iss: "kubernetes/serviceaccount".to_owned(),
        sub: "system:serviceaccount:shop:till".to_owned(),
        legacy_namespace: "shop".to_owned(),
        legacy_secret: "till-token".to_owned(),
        legacy_name: "till".to_owned(),
        legacy_uid: "u1".to_owned(),
        ..Claims::default()
    };
    let token = signer.sign(&claims).unwrap();
    let world = |kept: Option<&str>, labels: api::json::Value| {
        let mut world = World::default().with(("serviceaccounts", "shop", "till"), "u1", None);
        if let Some(kept) = kept {
            let secret = api::json::from_value(api::json::json!({
                "metadata": {"uid": "s1", "labels": labels}, "data": {"token": tokens::base64_encode(kept.as_bytes())},
            }));
            world.secrets.insert(("shop".to_owned(), "till-token".to_owned()), secret.unwrap());
        }
        world
    };
    let check = |kept: Option<&str>, labels: api::json::Value, want: Result<(), &str>| {
        let authenticators = Authenticators::new(&settings(&signer, world(kept, labels))).unwrap();
        let got = futures::executor::block_on(authenticators.token(&token, &[], NOW, &Remarks::default()));
        assert_eq!(got.map(|accepted| assert!(accepted.is_some())), want.map_err(str::to_owned));
    };
    check(Some(&token), api::json::json!({}), Ok(()));
    check(Some("other"), api::json::json!({}), Err("Token does not match server's copy"));
    check(None, api::json::json!({}), Err("Token has been invalidated"));
    check(
        Some(&token),
        api::json::json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}),
        Err(
            "the token in secret shop/till-token for service account shop/till has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily allow use of this token",
        ),
    );
    // What is said of it beyond that, in the audit and to the client.
    let said = |world: World, want: &[(&str, &str)], warnings: usize| {
        let authenticators = Authenticators::new(&settings(&signer, world)).unwrap();
        let (remarks, header) = (Remarks::default(), format!("Bearer {token}"));
        let credentials =
            Credentials { authorization: Some(&header), remarks: Some(&remarks), ..Credentials::none(NOW) };
        let _ = futures::executor::block_on(authenticators.authenticate(&credentials));
        let all = remarks.take();
        let audited: Vec<(&str, &str)> = all
            .iter()
            .filter_map(|remark| match remark {
                Remark::Audit(key, value) => {
                    Some((key.strip_prefix("authentication.k8s.io/legacy-token-")?, value.as_str()))
                }
                Remark::Warning(_) => None,
            })
            .collect();
        assert_eq!((audited.as_slice(), all.len() - audited.len()), (want, warnings));
    };
    let good = || world(Some(&token), api::json::json!({}));
    said(good(), &[("manual-secret", "till-token")], 0);
    said(World { listed: vec!["till-token".to_owned()], ..good() }, &[("autogenerated-secret", "till-token")], 1);
    let invalid = world(Some(&token), api::json::json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}));
    said(invalid, &[("invalidated", "till-token/shop")], 0);
    said(world(None, api::json::json!({})), &[], 0);
    // The day of a use is told once, also of a token that is refused; nothing is said of one whose secret is another's.
    let today = crate::legacy_tokens::day(NOW);
    let told = |kept: &str, labels: api::json::Value, want: bool| {
        let world = world(Some(kept), labels.clone());
        let used = Arc::clone(&world.used);
        let authenticators = Authenticators::new(&settings(&signer, world)).unwrap();
        let _ = futures::executor::block_on(authenticators.token(&token, &[], NOW, &Remarks::default()));
        let want: Vec<String> = want.then(|| format!("shop/till-token s1 {today}")).into_iter().collect();
        assert_eq!(*used.lock(), want, "{labels}");
    };
    told(&token, api::json::json!({}), true);
    told(&token, api::json::json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}), true);
    told("other", api::json::json!({}), false);
    for (day, want) in [(NOW, false), (NOW + 86_400, false), (NOW - 86_400, true), (NOW + 2 * 86_400, true)] {
        let day = crate::legacy_tokens::day(day);
        told(&token, api::json::json!({"kubernetes.io/legacy-token-last-used": day}), want);
    }
}

#[test]
fn a_token_that_was_meant_to_be_renewed_is_told_of() {
    let signer = signer();
    let pod = Bound::Pod(ObjectRef { name: "web".to_owned(), uid: "p1".to_owned() }, None);
    let request = TokenFor { seconds: 3607, ..wanted(pod) };
    let (claims, _) = signer.claims(&request, &["https://issuer".to_owned()]);
    let header = format!("Bearer {}", signer.sign(&claims).unwrap());
    let world = World::default().with(("serviceaccounts", "shop", "till"), "u1", None);
    let world = world.with(("pods", "shop", "web"), "p1", None);
    let authenticators = Authenticators::new(&settings(&signer, world)).unwrap();
    let late = claims.kubernetes.as_ref().unwrap().warnafter.unwrap();
    for (now, want) in
        [(late, None), (late + 5, Some("subject: system:serviceaccount:shop:till, seconds after warning threshold: 5"))]
    {
        let remarks = Remarks::default();
        let credentials =
            Credentials { authorization: Some(&header), remarks: Some(&remarks), ..Credentials::none(now) };
        let outcome = futures::executor::block_on(authenticators.authenticate(&credentials));
        assert!(matches!(outcome, Outcome::User(_)), "{outcome:?}");
        let want: Vec<Remark> =
            want.map(|said| Remark::Audit("authentication.k8s.io/stale-token", said.to_owned())).into_iter().collect();
        assert_eq!(remarks.take(), want);
    }
}

fn discovery_name(keys: &[VerifyKey]) -> String {
    let document = tokens::discovery("https://i", "https://i/openid/v1/jwks", keys);
    document["id_token_signing_alg_values_supported"][0].as_str().unwrap().to_owned()
}

#[test]
fn keys_of_every_form_sign_and_verify() {
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap().serialize_pem();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    for pem in [tokens::generate_es256().unwrap(), tokens::generate_rsa().unwrap(), p384, p521] {
        let signer = TokenSigner::from_pem(&pem, "i").unwrap();
        let private = VerifyKey::all_from_pem(&pem).unwrap();
        let public = VerifyKey::all_from_pem(&KeyPair::from_pem(&pem).unwrap().public_key_pem()).unwrap();
        assert_eq!(
            (private[0].id.as_str(), public[0].id.as_str()),
            (signer.public().id.as_str(), signer.public().id.as_str())
        );
        for _ in 0..20 {
            // ECDSA integers come in varying lengths.
            let token = signer.sign(&Claims { sub: "x".to_owned(), ..Claims::default() }).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            assert!(public[0].has_signed(message, signature));
            assert!(!public[0].has_signed(&format!("{message}x"), signature));
        }
        let document = tokens::jwks(&public);
        let jwk: jsonwebtoken::jwk::Jwk = api::json::from_value(document["keys"][0].clone()).unwrap();
        assert_eq!(jwk.common.key_id.as_deref(), Some(public[0].id.as_str()));
        let key = signature::Key::of_set(&document["keys"][0]).unwrap();
        let token = signer.sign(&Claims::default()).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let name = discovery_name(&public);
        let (_, scheme) = signature::ALL.into_iter().find(|(known, _)| *known == name).unwrap();
        assert!(key.has_signed(scheme, message, signature), "{name}");
        let discovery = tokens::discovery("https://i", "https://i/openid/v1/jwks", &public);
        assert_eq!(discovery["id_token_signing_alg_values_supported"].as_array().unwrap().len(), 1);
    }
    assert_eq!(VerifyKey::all_from_pem("nothing").unwrap_err(), tokens::KeyError::NoKey);
    assert!(TokenSigner::from_pem("nothing", "i").is_err());
}

#[test]
fn claims_as_upstream_writes_them() {
    let signer = signer();
    let audiences = ["https://issuer".to_owned()];
    let request = TokenFor { seconds: 3607, ..wanted(Bound::Pod(object("web", "p1"), Some(object("node-1", "n1")))) };
    let (claims, until) = signer.claims(&request, &audiences);
    assert_eq!(until, NOW + 3607);
    assert_eq!(
        api::json::to_value(&claims).unwrap(),
        api::json::json!({
            "aud": ["https://issuer"], "exp": NOW + 31_536_000, "iat": NOW, "iss": "https://issuer", "jti": "id-1",
            "kubernetes.io": {
                "namespace": "shop", "node": {"name": "node-1", "uid": "n1"}, "pod": {"name": "web", "uid": "p1"},
                "serviceaccount": {"name": "till", "uid": "u1"}, "warnafter": NOW + 3607,
            },
            "nbf": NOW, "sub": "system:serviceaccount:shop:till",
        })
    );
    let (plain, _) = signer.claims(&wanted(Bound::Nothing), &audiences);
    assert_eq!(plain.exp, Some(NOW + 3600));
    // Only what a pod is given lives on.
    let (unbound, _) = signer.claims(&TokenFor { seconds: 3607, ..wanted(Bound::Nothing) }, &audiences);
    assert_eq!(unbound.exp, Some(NOW + 3607));
    let read: Claims =
        api::json::from_str(r#"{"aud":"one","exp":12.9,"iss":"i","kubernetes.io":{"namespace":"n"}}"#).unwrap();
    assert_eq!((read.aud, read.exp), (vec!["one".to_owned()], Some(12)));
    assert_eq!(read.kubernetes, Some(KubernetesClaim { namespace: "n".to_owned(), ..KubernetesClaim::default() }));
}

#[test]
fn certificates_name_users_and_groups() {
    let authority = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let (ca_pem, ca) = authority("ours");
    let (_, stranger) = authority("theirs");
    let settings = Settings {
        client_ca: Some(ca_pem),
        anonymous: Anonymous { enabled: true, conditions: Vec::new() },
        ..Settings::default()
    };
    let authenticators = Authenticators::new(&settings).unwrap();
    let now = 1_790_000_000;
    let issue = |issuer: &Issuer<'_, KeyPair>, cn: &str, groups: &[&str], usage: ExtendedKeyUsagePurpose| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !cn.is_empty() {
            params.distinguished_name.push(DnType::CommonName, cn);
        }
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.signed_by(&key, issuer).unwrap().der().clone()
    };
    let ask = |der: CertificateDer<'static>, now: i64| {
        let chain = [der];
        futures::executor::block_on(
            authenticators.authenticate(&Credentials { client_certs: &chain, ..Credentials::none(now) }),
        )
    };
    let good = issue(&ca, "system:node:n1", &["system:nodes"], ExtendedKeyUsagePurpose::ClientAuth);
    for _ in 0..2 {
        let Outcome::User(user) = ask(good.clone(), now) else { panic!("refused") };
        assert_eq!(
            (user.name.as_str(), user.groups.as_slice()),
            ("system:node:n1", &["system:nodes".to_owned(), "system:authenticated".to_owned()][..])
        );
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    }
    assert!(matches!(ask(good.clone(), 1_900_000_000), Outcome::Rejected(_)), "outdated");
    let serving = issue(&ca, "x", &[], ExtendedKeyUsagePurpose::ServerAuth);
    assert!(matches!(ask(serving, now), Outcome::Rejected(_)), "a serving certificate");
    let foreign = issue(&stranger, "x", &[], ExtendedKeyUsagePurpose::ClientAuth);
    assert!(matches!(ask(foreign, now), Outcome::Rejected(_)), "another authority");
    let nameless = issue(&ca, "", &["system:masters"], ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(ask(nameless, now), Outcome::User(User::anonymous()));
    assert!(Authenticators::new(&Settings { client_ca: Some("junk".to_owned()), ..Settings::default() }).is_err());
}

#[test]
fn front_proxies_name_users_and_anonymous_is_narrowed_by_path() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "front");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = params.self_signed(&key).unwrap().pem();
    let ca = Issuer::new(params, key);
    let now = 1_790_000_000;
    let issue = |cn: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.signed_by(&key, &ca).unwrap().der().clone()
    };
    let proxy = FrontProxy { ca: ca_pem, allowed_names: vec!["proxy".to_owned()], ..FrontProxy::default() };
    let condition = oidc::AnonymousCondition { path: "/livez".to_owned() };
    let settings = Settings {
        front_proxy: Some(proxy),
        anonymous: Anonymous { enabled: true, conditions: vec![condition] },
        ..Settings::default()
    };
    let authenticators = Authenticators::new(&settings).unwrap();
    assert!(
        authenticators.reads("x-remote-user")
            && authenticators.reads("x-remote-extra-a")
            && !authenticators.reads("x-a")
    );
    let ask = |chain: &[CertificateDer<'static>], headers: &[(&str, &str)], path: &str| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let credentials = Credentials { client_certs: chain, headers: &headers, path, ..Credentials::none(now) };
        futures::executor::block_on(authenticators.authenticate(&credentials))
    };
    let (good, other) = ([issue("proxy")], [issue("other")]);
    let headers =
        [("x-remote-user", "jane"), ("x-remote-group", "a"), ("x-remote-group", "b"), ("x-remote-extra-a%2fb", "c")];
    let Outcome::User(user) = ask(&good, &headers, "/api") else { panic!("refused") };
    assert_eq!((user.name.as_str(), user.groups.join(" ")), ("jane", "a b system:authenticated".to_owned()));
    assert_eq!(user.extra["a/b"], ["c"]);
    assert!(matches!(ask(&other, &headers, "/api"), Outcome::Rejected(why) if why.contains("not in the allowed list")));
    // Nobody is believed without the proxy's certificate.
    assert_eq!(ask(&[], &headers, "/api"), Outcome::None);
    assert_eq!(ask(&[], &headers, "/livez"), Outcome::User(User::anonymous()));
    assert_eq!(ask(&[], &[], "/livez/ping"), Outcome::None);
}

#[test]
fn a_token_that_was_verified_costs_little() {
    let signer = signer();
    let world = World::default().with(("serviceaccounts", "shop", "till"), "u1", None).with(
        ("pods", "shop", "web"),
        "p1",
        None,
    );
    let authenticators = Authenticators::new(&settings(&signer, world)).unwrap();
    let (claims, _) = signer.claims(&wanted(Bound::Pod(object("web", "p1"), None)), &[]);
    let header = format!("Bearer {}", signer.sign(&claims).unwrap());
    assert!(matches!(ask(&authenticators, Some(&header), NOW), Outcome::User(_)));
    let best = (0..20)
        .map(|_| {
            let start = std::time::Instant::now();
            for _ in 0..100 {
                assert!(matches!(ask(&authenticators, Some(&header), NOW), Outcome::User(_)));
            }
            start.elapsed() / 100
        })
        .min()
        .unwrap();
    println!("a remembered token: {best:?} in this build");
    // Against some 100 microseconds of a signature; builds without optimisation are slow.
    assert!(best < std::time::Duration::from_micros(60), "{best:?}");
}
