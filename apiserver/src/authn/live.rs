//! A whole server on its secure port, with an issuer of tokens and webhooks over TLS, all of them the test's own.

#![allow(clippy::needless_pass_by_value, reason = "tests: values are written where they are used")]

use crate::authn::oidc;
use crate::authn::tokens::{TokenSigner, base64url_encode, generate_es256, jwks};
use crate::remote::{Proof, Remote, Trust, Url};
use crate::testing::World;
use crate::transport::{Identity, TlsOptions, TlsSettings, server_config};
use api::json::{Value, json};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::SigningKey as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Answers by path; keeps what was asked.
type Answers = fn(&str, &Value) -> Option<Value>;

struct Peer {
    url: String,
    certificate: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn identity() -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    Identity { certificates: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// A server of the test's own. `pages` are served to GET, `answers` to POST.
async fn peer(pages: impl Fn(&str, &str) -> Option<Value> + Send + Sync + 'static, answers: Answers) -> Peer {
    let identity = identity();
    let settings = TlsSettings { identity: identity.clone(), client_ca: None, options: TlsOptions::default() };
    let mut config = server_config(&settings).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (own, log, pages) = (url.clone(), Arc::clone(&asked), Arc::new(pages));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, log, own, pages) = (acceptor.clone(), Arc::clone(&log), own.clone(), Arc::clone(&pages));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let serve = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (log, own, pages) = (Arc::clone(&log), own.clone(), Arc::clone(&pages));
                    async move {
                        let path = request.uri().path().to_owned();
                        log.lock().push(path.clone());
                        let post = request.method() == "POST";
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let body: Value = api::json::from_slice(&body).unwrap_or_default();
                        let answer = if post { answers(&path, &body) } else { pages(&own, &path) };
                        let (code, answer) = answer.map_or((404, Value::Null), |answer| (200, answer));
                        let body = Full::new(Bytes::from(answer.to_string()));
                        hyper::Response::builder().status(code).body(body)
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
            });
        }
    });
    Peer { url, certificate: identity.certificates, asked }
}

fn kubeconfig(path: &Path, peer: &Peer, target: &str) {
    let text = json!({"clusters": [{"name": "c", "cluster": {"server": format!("{}{target}", peer.url),
            "certificate-authority-data": crate::authn::tokens::base64_encode(peer.certificate.as_bytes())}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}], "current-context": "x"});
    std::fs::write(path, text.to_string()).unwrap();
}

/// Posts to the server as the bearer of this token; code and body.
async fn post(world: &World, certificate: &str, token: &str, path: &str, body: Value) -> (u16, Value) {
    let port = world.running.address().port();
    let tls = Trust { authorities: certificate.to_owned(), ..Trust::default() }.config().unwrap();
    let url = Url::parse(&format!("https://localhost:{port}{path}")).unwrap();
    let remote = Remote::new(url, tls, None, Proof::Token(token.to_owned()));
    let (code, body) = remote.post(body.to_string().into_bytes(), Duration::from_secs(30)).await.unwrap();
    (code, api::json::from_slice(&body).unwrap_or_default())
}

async fn who_am_i(world: &World, certificate: &str, token: &str) -> (u16, Value) {
    let body = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let (code, answer) =
        post(world, certificate, token, "/apis/authentication.k8s.io/v1/selfsubjectreviews", body).await;
    (code, answer["status"]["userInfo"].clone())
}

struct Keys {
    pair: rcgen::KeyPair,
    signer: TokenSigner,
}

fn keys() -> Keys {
    let pem = generate_es256().unwrap();
    Keys { pair: rcgen::KeyPair::from_pem(&pem).unwrap(), signer: TokenSigner::from_pem(&pem, "").unwrap() }
}

impl Keys {
    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.signer.public().id});
        let message = format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(claims.to_string()));
        let signature = self.pair.sign(message.as_bytes()).unwrap();
        let signature = crate::authn::tokens::fixed_width(&signature, 32).unwrap();
        format!("{message}.{}", base64url_encode(signature))
    }
}

/// Pages of an issuer: its discovery document and its keys.
fn issuer(keys: &Keys) -> impl Fn(&str, &str) -> Option<Value> + use<> {
    let set = jwks(&[keys.signer.public().clone()]);
    move |own, path| match path {
        "/.well-known/openid-configuration" => Some(json!({"issuer": own, "jwks_uri": format!("{own}/keys")})),
        "/keys" => Some(set.clone()),
        _ => None,
    }
}

fn authentication_file(path: &Path, peer: &Peer, prefix: &str) {
    let text = json!({"kind": "AuthenticationConfiguration", "apiVersion": "apiserver.config.k8s.io/v1",
        "jwt": [{"issuer": {"url": peer.url, "audiences": ["app"], "certificateAuthority": peer.certificate},
            "claimMappings": {"username": {"expression": format!("'{prefix}' + claims.sub")}, "groups": {"claim": "groups", "prefix": ""}},
            "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}]}],
        "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]}});
    std::fs::write(path, text.to_string()).unwrap();
}

/// The webhooks: of tokens, and of rights.
fn hooks(path: &str, body: &Value) -> Option<Value> {
    let status = match path {
        "/authn" if body["spec"]["token"] == "magic" => {
            json!({"authenticated": true, "user": {"username": "merlin", "groups": ["wizards"]}})
        }
        "/authn" => json!({"authenticated": false}),
        "/authz" => {
            json!({"allowed": body["spec"]["user"] == "merlin" && body["spec"]["resourceAttributes"]["resource"] == "pods"})
        }
        _ => return None,
    };
    Some(json!({"kind": body["kind"], "apiVersion": body["apiVersion"], "status": status}))
}

#[tokio::test(flavor = "multi_thread")]
async fn issuers_and_webhooks_over_tls() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let keys = keys();
    let issuer = peer(issuer(&keys), |_, _| None).await;
    let webhook = peer(|_, _| None, hooks).await;
    authentication_file(&at("authn.yaml"), &issuer, "u:");
    kubeconfig(&at("tokens"), &webhook, "/authn");
    kubeconfig(&at("rights"), &webhook, "/authz");
    let condition = "has(request.resourceAttributes) && request.resourceAttributes.namespace != 'kube-system'";
    let authorization = json!({"kind": "AuthorizationConfiguration", "apiVersion": "apiserver.config.k8s.io/v1", "authorizers": [
        {"type": "RBAC", "name": "rbac"},
        {"type": "Webhook", "name": "hook", "webhook": {"timeout": "5s", "subjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion",
            "matchConditionSubjectAccessReviewVersion": "v1", "matchConditions": [{"expression": condition}],
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": at("rights")}}}]});
    std::fs::write(at("authz.yaml"), authorization.to_string()).unwrap();
    let own = identity();
    let world = World::start(|config| {
        config.identity = own.clone();
        config.anonymous = None;
        config.authentication.config_file = Some(at("authn.yaml"));
        let hook =
            crate::authn::TokenWebhook { version: "v1".to_owned(), ..crate::authn::TokenWebhook::new(at("tokens")) };
        config.authentication.webhook = Some(hook);
        config.authorization.config_file = Some(at("authz.yaml"));
    })
    .await;
    let exp = world.running.server().now() + 3600;
    let token = |sub: &str, jti: &str| {
        keys.sign(&json!({"iss": issuer.url, "aud": ["app"], "exp": exp, "sub": sub, "jti": jti, "groups": ["dev"]}))
    };

    let (code, user) = who_am_i(&world, &own.certificates, &token("jane", "1")).await;
    assert_eq!((code, user["username"].as_str()), (201, Some("u:jane")), "{user}");
    assert_eq!(user["groups"], json!(["dev", "system:authenticated"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/credential-id"], json!(["JTI=1"]));
    for _ in 0..3 {
        assert_eq!(who_am_i(&world, &own.certificates, &token("jane", "1")).await.0, 201);
    }
    assert_eq!(*issuer.asked.lock(), ["/.well-known/openid-configuration", "/keys"]);
    // A name that is reserved, a token of another key, no token that anybody knows.
    let other = self::keys().sign(&json!({"iss": issuer.url, "aud": ["app"], "exp": exp, "sub": "jane"}));
    for bad in [other.as_str(), "nonsense"] {
        assert_eq!(who_am_i(&world, &own.certificates, bad).await.0, 401, "{bad}");
    }

    let (code, user) = who_am_i(&world, &own.certificates, "magic").await;
    assert_eq!((code, user["username"].as_str()), (201, Some("merlin")), "{user}");
    let pod = |namespace: &str, resource: &str| {
        let path = format!("/api/v1/namespaces/{namespace}/{resource}?dryRun=All");
        let body = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        (path, body)
    };
    for (namespace, resource, want) in
        [("default", "pods", 201), ("default", "configmaps", 403), ("kube-system", "pods", 403)]
    {
        let (path, body) = pod(namespace, resource);
        let (code, answer) = post(&world, &own.certificates, "magic", &path, body).await;
        assert_eq!(code, want, "{path}: {answer}");
    }
    let asked = webhook.asked.lock().iter().filter(|path| *path == "/authn").count();
    assert_eq!(asked, 3, "each unknown token once");
    // Anonymous on one path alone.
    let tls = Trust { authorities: own.certificates.clone(), ..Trust::default() }.config().unwrap();
    let get = async |path: &str| {
        let url = format!("https://localhost:{}{path}", world.running.address().port());
        crate::remote::fetch(&url, &tls, None, Duration::from_secs(10)).await
    };
    assert!(get("/livez").await.is_ok());
    assert!(get("/readyz").await.unwrap_err().contains("401"));

    // The file changes while the server runs.
    authentication_file(&at("authn.yaml"), &issuer, "new:");
    let until = std::time::Instant::now() + Duration::from_secs(30);
    for turn in 0.. {
        let (_, user) = who_am_i(&world, &own.certificates, &token("jane", &format!("r{turn}"))).await;
        if user["username"] == "new:jane" {
            break;
        }
        assert!(std::time::Instant::now() < until, "{user}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What cannot be used changes nothing.
    std::fs::write(at("authn.yaml"), "kind: Pod").unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(who_am_i(&world, &own.certificates, &token("jane", "last")).await.1["username"], "new:jane");
    std::fs::write(at("authz.yaml"), format!("{authorization}\n")).unwrap();
    let told = |text: &str, what: &str, status: &str| {
        let name = format!("apiserver_{what}_config_controller_automatic_reloads_total{{");
        let labels = format!("status=\"{status}\"}} 1");
        let at = |line: &str| {
            line.starts_with(&name) && line.contains("apiserver_id_hash=\"sha256:") && line.ends_with(&labels)
        };
        text.lines().any(at)
    };
    let all = [("authentication", "success"), ("authentication", "failure"), ("authorization", "success")];
    loop {
        let text = world.running.server().metrics.text();
        if all.iter().all(|(what, status)| told(&text, what, status)) {
            break;
        }
        assert!(std::time::Instant::now() < until, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn flags_and_file_exclude_each_other() {
    let encryption = crate::encryption::Encryption::none();
    let mut config = crate::testing::config(&encryption);
    config.authentication.oidc =
        Some(oidc::Flags { issuer_url: "https://a".into(), client_id: "b".into(), ..oidc::Flags::default() });
    assert_eq!(crate::reload::issuers(&config).unwrap().0.jwt.len(), 1);
    config.authentication.config_file = Some("/nowhere".into());
    assert!(crate::reload::issuers(&config).is_err());
}
