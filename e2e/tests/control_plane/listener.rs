//! What flags say of the listener and of who may do what, seen by raw requests to a server that was started with them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use crate::components::Machine;
use crate::floods::{Door, frame, told};
use e2e::{control_plane, runtime};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn flags(all: &[&str]) -> Vec<String> {
    all.iter().map(|flag| (*flag).to_owned()).collect()
}

/// Code and headers of the answer to a request as the administrator (or nobody), whose head ends without the empty line.
fn head(door: &Door, nobody: bool, request: &str) -> (u16, Vec<(String, String)>) {
    let text = format!("{request}\nhost: a\n\n").replace('\n', "\r\n");
    let answer = runtime().block_on(async {
        let mut connection = door.open(if nobody { &door.nobody } else { &door.admin }, "http/1.1").await.unwrap();
        told(&mut connection, text.as_bytes()).await
    });
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let code = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_default();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    (code, head.lines().skip(1).filter_map(header).collect())
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn answers_carry_what_flags_ask_for() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let further = flags(&[
        "--cors-allowed-origins=//good\\.example$",
        "--strict-transport-security-directives=max-age=31536000,includeSubDomains",
        "--goaway-chance=0.02",
        "--request-timeout=10s",
    ]);
    let ((_server, _), door) = (machine.serve(&further), Door::of(&machine));
    let sure = "max-age=31536000; includeSubDomains";
    for (nobody, request, code) in [
        (false, "GET /api/v1/namespaces/default HTTP/1.1", 200),
        (true, "GET /api/v1/namespaces/default HTTP/1.1", 403),
        (false, "GET /api/v1/namespaces/none HTTP/1.1", 404),
        (false, "GET /nothing HTTP/1.1", 404),
        (false, "GET /api/v1/namespaces?timeout=much HTTP/1.1", 400),
    ] {
        let (got, headers) = head(&door, nobody, &format!("{request}\naudit-id: of-the-client"));
        assert_eq!(got, code, "{request}: {headers:?}");
        assert_eq!(values(&headers, "audit-id"), ["of-the-client"], "{request}");
        assert_eq!(values(&headers, "strict-transport-security"), [sure], "{request}");
    }
    // Who names no identifier gets one, and another one every time.
    let made = |_| values(&head(&door, false, "GET /version HTTP/1.1").1, "audit-id").join(",");
    let [first, second] = [0, 1].map(made);
    assert!(first.len() == 36 && second.len() == 36 && first != second, "{first} {second}");

    // Pages of one origin may ask, those of others hear nothing of it.
    let preflight = "OPTIONS /api/v1/pods HTTP/1.1\naccess-control-request-method: GET\norigin: https://";
    let (code, headers) = head(&door, true, &format!("{preflight}good.example"));
    assert_eq!((code, values(&headers, "access-control-allow-origin")), (204, vec!["https://good.example"]));
    let (code, headers) = head(&door, true, &format!("{preflight}good.example.evil"));
    assert!(code >= 400 && values(&headers, "access-control-allow-origin").is_empty(), "{code} {headers:?}");
    let (code, headers) = head(&door, false, "GET /api/v1/namespaces/none HTTP/1.1\norigin: https://good.example");
    assert_eq!((code, values(&headers, "access-control-allow-origin")), (404, vec!["https://good.example"]));

    // One request in fifty asks the client to come again elsewhere; 2,000 without one are less likely than anything.
    let asked = runtime().block_on(goodbye(&door, 2000));
    assert!(asked.is_some_and(|asked| asked < 2000), "no GOAWAY");
}

/// How many requests over one connection were answered before the server said goodbye.
async fn goodbye(door: &Door, most: u32) -> Option<u32> {
    // GET https :path / and an authority of one letter; all but that from HPACK's fixed table.
    const HEAD: [u8; 6] = [0x82, 0x87, 0x84, 0x41, 0x01, b'a'];
    const GOAWAY: u8 = 7;
    const HEADERS: u8 = 1;
    let mut connection = door.open(&door.admin, "h2").await.unwrap();
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(4, 0, 0, &[]));
    // Windows that never close.
    begin.extend(frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()));
    connection.write_all(&begin).await.unwrap();
    let (mut text, mut buffer, mut answered) = (Vec::new(), vec![0; 65_536], 0);
    for number in 0..most {
        connection.write_all(&frame(1, 5, number * 2 + 1, &HEAD)).await.ok()?;
        while answered <= number {
            let read = tokio::time::timeout(Duration::from_secs(10), connection.read(&mut buffer)).await.ok()?.ok()?;
            if read == 0 {
                return None;
            }
            text.extend_from_slice(&buffer[..read]);
            while let Some(length) = text.get(..3).map(|size| usize::from(size[1]) << 8 | usize::from(size[2])) {
                if text.len() < 9 + length {
                    break;
                }
                match text[3] {
                    GOAWAY => return Some(answered),
                    HEADERS => answered += 1,
                    _ => {}
                }
                text.drain(..9 + length);
            }
        }
    }
    None
}

#[test]
fn modes_of_authorization_are_those_of_the_flags() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let policy = machine.path("policy.jsonl");
    std::fs::write(
        &policy,
        r#"{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"reader","namespace":"*","resource":"configmaps","readonly":true}}"#,
    )
    .unwrap();
    let further = flags(&["--authorization-mode=ABAC,RBAC", &format!("--authorization-policy-file={policy}")]);
    let (_server, kubectl) = machine.serve(&further);
    kubectl.ok("get configmaps --namespace=kube-system --as=reader");
    kubectl
        .fails("get secrets --namespace=kube-system --as=reader", "User \"reader\" cannot list resource \"secrets\"");
    kubectl.fails("create configmap a --as=reader", "User \"reader\" cannot create resource \"configmaps\"");
    kubectl.fails("get configmaps --as=stranger", "User \"stranger\" cannot list resource \"configmaps\"");
    // Roles are asked as well, by the authorizer that is behind it.
    kubectl.ok("create clusterrolebinding viewer --clusterrole=view --user=viewer");
    kubectl.ok("get pods --as=viewer");
    drop((_server, kubectl));

    let machine = Machine::new();
    let (_server, kubectl) = machine.serve(&flags(&["--authorization-mode=AlwaysAllow"]));
    kubectl.ok("get secrets --namespace=kube-system --as=anybody");
    kubectl.ok("create configmap a --as=anybody");
}
