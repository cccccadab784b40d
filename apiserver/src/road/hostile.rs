//! Clients that mean harm: credentials that are none, bodies that never come, paths that lead nowhere.

use crate::authn::User;
use crate::testing::World;
use crate::transport::{Identity, unjudged_client_config};
use api::json::{Value, json};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn connect(world: &World, identity: Option<&Identity>) -> TlsStream<TcpStream> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(unjudged_client_config(identity).unwrap()));
    let tcp = TcpStream::connect(world.running.address()).await.unwrap();
    connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

/// Sends these bytes; what comes until the connection ends, or until a whole head has come.
async fn said(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut text = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while !text.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(read @ 1..) => text.extend_from_slice(&buffer[..read]),
                _ => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

fn code(text: &str) -> u16 {
    text.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_default()
}

/// An authority, and the certificate of a member of `system:masters` that it has issued.
fn authority() -> (String, Identity) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificates = params.signed_by(&key, &issuer).unwrap().pem();
    (pem, Identity { certificates, key: key.serialize_pem() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_none_let_nobody_in() {
    let ((ours, own), (_, foreign)) = (authority(), authority());
    let world = World::start(|config| {
        config.client_ca = Some(ours);
        config.anonymous = Some(true);
        config.token_file = Some("secret,root,1,\"system:masters\"".to_owned());
    })
    .await;
    let long = "x".repeat(900_000);
    let ask = async |identity: Option<&Identity>, header: &str, want: u16| {
        let mut stream = connect(&world, identity).await;
        let head = format!("GET {MAPS} HTTP/1.1\r\nhost: a\r\n{header}\r\n");
        let answer = said(&mut stream, head.as_bytes()).await;
        let shown: String = header.chars().take(60).collect();
        assert_eq!(code(&answer), want, "{shown}: {answer}");
    };
    ask(Some(&own), "", 200).await;
    ask(None, "authorization: Bearer secret\r\n", 200).await;
    ask(None, "authorization: bEARER secret\r\n", 200).await;
    // Who shows nothing is anonymous; who shows something that is not believed is nobody.
    ask(None, "", 403).await;
    ask(Some(&foreign), "", 401).await;
    ask(None, "authorization: Bearer secre\r\n", 401).await;
    ask(None, "authorization: Bearer secret-\r\n", 401).await;
    ask(None, &format!("authorization: Bearer {long}\r\n"), 401).await;
    ask(None, &format!("authorization: Bearer secret{long}\r\n"), 401).await;
    // A name for it that is no text, or no token at all, is none.
    ask(None, "authorization: Bearer secr\u{e9}t\r\n", 403).await;
    ask(None, "authorization: Basic c2VjcmV0\r\n", 403).await;
    ask(None, "authorization: Bearer\r\n", 403).await;
    // The first one counts, as in Go.
    ask(None, "authorization: Bearer secret\r\nauthorization: Bearer x\r\n", 200).await;
    ask(None, "authorization: Bearer x\r\nauthorization: Bearer secret\r\n", 401).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_holds_nothing_for_ever() {
    const SLOW: usize = 40;
    let world = World::start(|config| {
        config.token_file = Some("secret,root,1,\"system:masters\"\nplain,jane,2".to_owned());
        config.serving.request_timeout = Duration::from_secs(2);
    })
    .await;
    let head = |token: &str, what: &str, more: &str| {
        format!(
            "{what} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}\r\n"
        )
    };
    let sized = "content-length: 1000\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let what = if number % 2 == 0 { format!("POST {MAPS}") } else { format!("PUT {MAPS}/kube-root-ca.crt") };
        let begin = if number % 3 == 0 {
            format!("{}{{", head("secret", &what, sized))
        } else {
            format!("{}1\r\n{{\r\n", head("secret", &what, chunked))
        };
        slow.push(tokio::spawn({
            let mut stream = connect(&world, None).await;
            async move {
                // A letter now and then changes nothing.
                stream.write_all(begin.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                said(&mut stream, b"").await
            }
        }));
    }
    // Others are answered meanwhile, and who may nothing is told so at once.
    let mut stream = connect(&world, None).await;
    assert_eq!(code(&said(&mut stream, head("secret", &format!("GET {MAPS}"), "").as_bytes()).await), 200);
    let mut stream = connect(&world, None).await;
    let head = head("plain", &format!("POST {MAPS}"), sized);
    let refused = tokio::time::timeout(Duration::from_millis(1900), said(&mut stream, head.as_bytes())).await.unwrap();
    assert_eq!(code(&refused), 403, "{refused}");
    for stream in slow {
        let answer = stream.await.unwrap();
        assert_eq!(code(&answer), 504, "{answer}");
    }
}

#[tokio::test]
async fn paths_that_lead_nowhere_are_answered_so() {
    let world = World::start(|_| {}).await;
    let root = User::new("root", &["system:masters", "system:authenticated"]);
    let map = json!({"metadata": {"name": "c"}});
    for (method, path, code) in [
        ("POST", "/api/v1/watch/namespaces/default/configmaps", 405),
        ("DELETE", "/api/v1/watch/namespaces/default/configmaps", 405),
        ("POST", "//api/v1/namespaces/default/configmaps", 404),
        ("POST", "/api/v1//namespaces/default/configmaps", 404),
        ("POST", "/api/v1/namespaces//configmaps", 404),
        ("DELETE", "/api/v1/namespaces//configmaps", 404),
        ("DELETE", "/api/v1/namespaces/default/configmaps//status", 404),
        ("GET", "/api/v1/namespaces//configmaps", 200),
        ("GET", "/api/v1/namespaces/default/configmaps/c", 404),
        ("POST", "/api/v1/namespaces/default%2fconfigmaps/", 201),
        ("GET", "/api/v1/namespaces%2Fdefault/configmaps%2fc", 200),
        ("GET", "/api/v1/namespaces/default/configmaps/%2g", 400),
    ] {
        let body = if method == "POST" { &map } else { &Value::Null };
        let (got, answer) = world.ask(&root, method, path, body).await;
        assert_eq!(got, code, "{method} {path}: {answer}");
    }
}
