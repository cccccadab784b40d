//! Who somebody is, by what flags and files of a live server say: certificates and authorities that change, an issuer of tokens, a webhook
//! that judges them. And a server that is told to end while a request waits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use crate::components::{LONG, Machine, authority, issue};
use crate::floods::told;
use e2e::{Cli, Reply, TlsServer, base64, control_plane, eventually, holds_for, runtime};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rcgen::{KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Certificate and key, PEM.
type Pair = (String, String);

fn leaf(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A connection for this name, as the holder of a certificate, to a server whose authority is known.
async fn connect(port: u16, ca: &str, name: &str, own: Option<&Pair>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(leaf(ca)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![leaf(certificate)], key).unwrap()
        }
    };
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), tcp).await
}

/// The code of the answer to a GET of all namespaces.
async fn code(connection: &mut TlsStream<TcpStream>) -> u16 {
    let answer = told(connection, b"GET /api/v1/namespaces HTTP/1.1\r\nhost: a\r\n\r\n").await;
    answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_default()
}

#[test]
fn certificates_and_authorities_change_on_a_live_server() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let (port, own) = (machine.port, machine.ca.0.clone());
    let hosts = ["localhost", "127.0.0.1"];
    let put = |name: &str, (certificate, key): &Pair| {
        std::fs::write(machine.path(&format!("pki/{name}.crt")), certificate).unwrap();
        std::fs::write(machine.path(&format!("pki/{name}.key")), key).unwrap();
    };
    let clients = machine.path("pki/clients.crt");
    std::fs::write(&clients, &own).unwrap();
    let named = issue(&machine.ca, "named", None, &["named.example"]);
    put("named", &named);
    let pki = machine.path("pki");
    let flags = [format!("--client-ca-file={clients}"), format!("--tls-sni-cert-key={pki}/named.crt,{pki}/named.key")];
    let (_server, kubectl) = machine.serve(&flags);

    let shown = |name: &str| {
        let connection = runtime().block_on(connect(port, &own, name, None)).unwrap();
        connection.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    assert_eq!(shown("named.example"), leaf(&named.0));
    let first = shown("localhost");
    let mut held = runtime().block_on(connect(port, &own, "localhost", None)).unwrap();
    let (serving, other) =
        (issue(&machine.ca, "again", None, &hosts), issue(&machine.ca, "other", None, &["named.example"]));
    // A key that does not fit its certificate is said, and nothing changes.
    put("apiserver", &(serving.0.clone(), other.1.clone()));
    eventually("the server says what it cannot use", LONG, || {
        let log = _server.log();
        if log.contains("serving certificate") { Ok(()) } else { Err(log) }
    });
    assert_eq!(shown("localhost"), first);
    put("apiserver", &serving);
    put("named", &other);
    for (name, want) in [("localhost", &serving), ("named.example", &other)] {
        eventually("the new certificate is shown", LONG, || {
            if shown(name) == leaf(&want.0) { Ok(()) } else { Err(format!("the old one for {name}")) }
        });
    }
    assert_eq!(runtime().block_on(code(&mut held)), 403, "an older connection goes on");

    let strangers = authority("strangers");
    let jane = issue(&strangers, "jane", Some("system:masters"), &[]);
    let asked = |pair: &Pair| {
        runtime().block_on(async { code(&mut connect(port, &own, "localhost", Some(pair)).await.unwrap()).await })
    };
    // Whom nobody knows is refused, not taken for nobody.
    assert_eq!(asked(&jane), 401);
    kubectl.ok("get namespaces");
    for (authorities, hers, admins) in
        [(format!("{own}{}", strangers.0), 200, 0), (strangers.0.clone(), 200, 1), (own.clone(), 401, 0)]
    {
        std::fs::write(&clients, authorities).unwrap();
        eventually("the authorities of clients change", LONG, || {
            let got = (asked(&jane), kubectl.run("get namespaces").code);
            if got == (hers, admins) { Ok(()) } else { Err(format!("{got:?}, not {:?}", (hers, admins))) }
        });
    }
}

fn reply(code: u16, body: &Value) -> Reply {
    let body = Full::new(body.to_string().into_bytes().into());
    http::Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

fn url64(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// A token with these claims.
fn signed(key: &KeyPair, claims: &Value) -> String {
    let head = json!({"alg": "RS256", "kid": "one", "typ": "JWT"});
    let text = format!("{}.{}", url64(head.to_string().as_bytes()), url64(claims.to_string().as_bytes()));
    let signature = key.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", url64(&signature))
}

/// An issuer of tokens with this key: discovery and keys.
fn issuer(key: &KeyPair) -> TlsServer {
    // RFC 8017: the modulus stands before the exponent, which is 65537 in three bytes behind two of its head.
    let public = key.public_key_raw();
    let modulus = url64(&public[public.len() - 5 - 256..public.len() - 5]);
    let keys = json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": modulus, "e": "AQAB"}]});
    TlsServer::serve(&["localhost"], move |request: http::Request<Incoming>| {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        let answer = match request.uri().path() {
            "/.well-known/openid-configuration" => {
                reply(200, &json!({"issuer": format!("https://{host}"), "jwks_uri": format!("https://{host}/keys")}))
            }
            "/keys" => reply(200, &keys),
            _ => reply(404, &Value::Null),
        };
        async move { Ok(answer) }
    })
}

impl Machine {
    /// kubectl of somebody who has this token alone.
    fn bearer(&self, token: &str) -> Cli {
        let file = format!("{:x}.conf", token.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte)));
        self.write_config(&file, &json!({"token": token}));
        Cli::new("kubectl").env("KUBECONFIG", self.path(&file)).with("--request-timeout=30s")
    }
}

const WHO: &str = "auth whoami -o jsonpath={.status.userInfo.username}|{.status.userInfo.groups}";
const NOBODY: &str = "You must be logged in to the server";

#[test]
fn tokens_of_an_issuer_by_flags() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let (key, strange) =
        (KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let issuer = issuer(&key);
    let url = format!("https://localhost:{}", issuer.port);
    std::fs::write(machine.path("issuer.crt"), &issuer.authority).unwrap();
    let flags = format!(
        "--oidc-issuer-url={url} --oidc-client-id=cluster --oidc-ca-file={} --oidc-username-claim=login \
         --oidc-username-prefix=people: --oidc-groups-claim=teams --oidc-groups-prefix=team: --oidc-required-claim=site=here",
        machine.path("issuer.crt")
    );
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let (_server, _) = machine.serve(&flags);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": url, "aud": ["cluster"], "sub": "1", "login": "jane", "teams": ["red", "blue"],
        "site": "here", "iat": now, "exp": now + 600});
    let jane = machine.bearer(&signed(&key, &claims));
    // The issuer is asked beside the start.
    eventually("the issuer's keys are known", LONG, || {
        let output = jane.run(WHO);
        let want = r#"people:jane|["team:red","team:blue","system:authenticated"]"#;
        if output.stdout == want { Ok(()) } else { Err(output.to_string()) }
    });
    jane.fails("get secrets", "User \"people:jane\" cannot list resource \"secrets\"");
    for (field, value) in [
        ("exp", json!(now - 60)),
        ("aud", json!("other")),
        ("iss", json!("https://localhost:1")),
        ("site", json!("there")),
        ("site", Value::Null),
        ("login", Value::Null),
    ] {
        let mut claims = claims.clone();
        claims[field] = value;
        machine.bearer(&signed(&key, &claims)).fails(WHO, NOBODY);
    }
    machine.bearer(&signed(&strange, &claims)).fails(WHO, NOBODY);
}

#[test]
fn tokens_that_a_webhook_judges_by_flags() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let (asked, away) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, gone) = (Arc::clone(&asked), Arc::clone(&away));
    let judge = TlsServer::serve(&["localhost"], move |request: http::Request<Incoming>| {
        count.fetch_add(1, Ordering::SeqCst);
        let gone = Arc::clone(&gone);
        async move {
            let path = request.uri().path().to_owned();
            let review: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes()).unwrap();
            if gone.load(Ordering::SeqCst) || path != "/judge" || review["apiVersion"] != "authentication.k8s.io/v1" {
                return Ok(reply(500, &Value::Null));
            }
            let status = match review["spec"]["token"].as_str() {
                Some("good") => json!({"authenticated": true, "user": {"username": "joe", "groups": ["night"]}}),
                _ => json!({"authenticated": false}),
            };
            Ok(reply(201, &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status})))
        }
    });
    std::fs::write(machine.path("judge.crt"), &judge.authority).unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://localhost:{}/judge", judge.port),
            "certificate-authority": machine.path("judge.crt")}}],
        "users": [{"name": "u", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    std::fs::write(machine.path("judge.conf"), config.to_string()).unwrap();
    let (_server, _) = machine.serve(&[
        format!("--authentication-token-webhook-config-file={}", machine.path("judge.conf")),
        "--authentication-token-webhook-version=v1".to_owned(),
        "--authentication-token-webhook-cache-ttl=10m".to_owned(),
    ]);
    let joe = machine.bearer("good");
    for _ in 0..3 {
        assert_eq!(joe.ok(WHO), r#"joe|["night","system:authenticated"]"#);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a verdict is remembered");
    joe.fails("get secrets", "User \"joe\" cannot list resource \"secrets\"");
    machine.bearer("bad").fails(WHO, NOBODY);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    away.store(true, Ordering::SeqCst);
    assert_eq!(joe.ok(WHO), r#"joe|["night","system:authenticated"]"#);
    machine.bearer("new").fails(WHO, NOBODY);
}

#[test]
fn a_request_that_waits_for_a_webhook_is_answered_before_the_server_ends() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let (asked, go) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let (told, wait) = (Arc::clone(&asked), Arc::clone(&go));
    let slow = TlsServer::serve(&["localhost"], move |request: http::Request<Incoming>| {
        let (told, wait) = (Arc::clone(&told), Arc::clone(&wait));
        async move {
            let review: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes()).unwrap();
            let uid = review["request"]["uid"].clone();
            told.lock().unwrap().push(uid.clone());
            wait.notified().await;
            Ok(reply(
                200,
                &json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": uid, "allowed": true}}),
            ))
        }
    });
    let (mut server, kubectl) = machine.serve(&[]);
    let hook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "slow"}, "webhooks": [{"name": "slow.example.com", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 30,
            "clientConfig": {"url": format!("https://localhost:{}/", slow.port), "caBundle": base64(slow.authority.as_bytes())},
            "objectSelector": {"matchLabels": {"slow": "yes"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}]});
    assert_eq!(kubectl.feed("create -f -", hook.to_string().as_bytes()).code, 0);
    // The webhook counts from some moment on: what is written before then does not wait.
    let mut number = 0;
    let (name, writer) = eventually("a write waits for the webhook", LONG, || {
        number += 1;
        let (name, kubectl) = (format!("waits-{number}"), kubectl.clone());
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"slow": "yes"}}});
        let writer = std::thread::spawn(move || kubectl.feed("create -f -", object.to_string().as_bytes()));
        let waits = eventually("the write waits or is done", LONG, || {
            let waits = !asked.lock().unwrap().is_empty();
            if waits || writer.is_finished() { Ok(waits) } else { Err("neither".to_owned()) }
        });
        if waits { Ok((name, writer)) } else { Err("the webhook is not asked".to_owned()) }
    });
    server.terminate();
    holds_for("the server waits for the write", Duration::from_secs(2), || {
        if server.is_running() { Ok(()) } else { Err(server.log()) }
    });
    assert!(!writer.is_finished());
    go.notify_waiters();
    let written = writer.join().unwrap();
    assert_eq!(
        (written.code, written.stdout.as_str()),
        (0, format!("configmap/{name} created\n").as_str()),
        "{written}"
    );
    eventually("the server ends", LONG, || if server.is_running() { Err(server.log()) } else { Ok(()) });
    assert_eq!(server.stop(), Some(0));
}
