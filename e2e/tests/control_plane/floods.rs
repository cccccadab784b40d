//! Clients that mean harm: they are refused, and others hardly notice.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use crate::components::Machine;
use e2e::{control_plane, runtime};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) type Connection = TlsStream<TcpStream>;

/// Whether and as whom somebody connects.
pub(crate) struct Door {
    port: u16,
    pub(crate) nobody: Arc<rustls::ClientConfig>,
    pub(crate) admin: Arc<rustls::ClientConfig>,
}

impl Door {
    pub(crate) fn of(machine: &Machine) -> Door {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(machine.path("pki/ca.crt")).unwrap()).unwrap();
        let builder = || {
            let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
            builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots.clone())
        };
        let chain = vec![CertificateDer::from_pem_file(machine.path("admin.conf.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(machine.path("admin.conf.key")).unwrap();
        let admin = Arc::new(builder().with_client_auth_cert(chain, key).unwrap());
        Door { port: machine.port, nobody: Arc::new(builder().with_no_client_auth()), admin }
    }

    pub(crate) async fn open(&self, config: &Arc<rustls::ClientConfig>, protocol: &str) -> std::io::Result<Connection> {
        let mut config = (**config).clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await
    }
}

/// The codes of all answers to these bytes.
async fn said(connection: &mut Connection, bytes: &[u8]) -> Vec<u16> {
    let text = told(connection, bytes).await;
    let heads = text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text[at + 9..].get(..3)?.parse().ok());
    heads.collect()
}

/// All that is answered to these bytes, until nothing comes for a while or the connection ends.
pub(crate) async fn told(connection: &mut Connection, bytes: &[u8]) -> String {
    // The other side may answer and hang up before it has read all.
    let _ = connection.write_all(bytes).await;
    let mut text = Vec::new();
    let mut buffer = vec![0; 65_536];
    let wait = |text: &[u8]| Duration::from_millis(if text.is_empty() { 10_000 } else { 300 });
    while let Ok(Ok(read)) = tokio::time::timeout(wait(&text), connection.read(&mut buffer)).await {
        if read == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn heads_that_mean_two_things_mean_nothing_and_names_are_not_believed() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let ((_server, kubectl), door) = (machine.serve(&[]), Door::of(&machine));
    kubectl.ok("create role reader --verb=get,list --resource=secrets,namespaces --namespace=default");
    kubectl.ok("create rolebinding reader --role=reader --user=limited --namespace=default");
    kubectl.ok("create secret generic own --namespace=default");
    kubectl.ok("create secret generic other --namespace=kube-system");
    let check = |config: &Arc<rustls::ClientConfig>, head: &str, want: &[u16]| {
        let text = head.replace('\n', "\r\n");
        let got = runtime().block_on(async {
            let mut connection = door.open(config, "http/1.1").await.unwrap();
            said(&mut connection, text.as_bytes()).await
        });
        let shown: String = text.chars().take(200).collect();
        // One answer, whatever the bytes behind the first request say.
        assert!(got.len() == 1 && want.contains(&got[0]), "{shown:?}: {got:?}, not {want:?}");
    };
    let nobody = |head: &str, want: &[u16]| check(&door.nobody, head, want);
    nobody("GET /version HTTP/1.1\nhost: a\n\n", &[200]);
    let long = "x".repeat(900_000);
    nobody(&format!("GET /version HTTP/1.1\nhost: a\nx: {long}\n\n"), &[200]);
    nobody(&format!("GET /version HTTP/1.1\nhost: a\nx: {long}{long}\n\n"), &[431]);
    nobody(&format!("GET /version HTTP/1.1\nhost: a\n{}\n", "x: y\n".repeat(1000)), &[431]);
    nobody(&format!("GET /{long}{long} HTTP/1.1\nhost: a\n\n"), &[414, 431]);
    nobody("POST /version HTTP/1.1\nhost: a\ncontent-length: 3\ncontent-length: 4\n\nabcd", &[400]);
    nobody("POST /version HTTP/1.1\nhost: a\ncontent-length: 3, 4\n\nabcd", &[400]);
    nobody("POST /version HTTP/1.1\nhost: a\ncontent-length: -1\n\n", &[400]);
    nobody("POST /version HTTP/1.1\nhost: a\ncontent-length: +1\n\nx", &[400]);
    nobody("POST /version HTTP/1.1\nhost: a\ntransfer-encoding: xchunked\n\n0\n\n", &[400]);
    nobody("POST /version HTTP/1.1\nhost: a\ntransfer-encoding: chunked, identity\n\n0\n\n", &[400]);
    // What lies behind the chunks is no request until it is whole.
    nobody(
        "POST /version HTTP/1.1\nhost: a\ncontent-length: 6\ntransfer-encoding: chunked\n\n0\n\nG",
        &[400, 403, 405],
    );
    nobody("GET /version HTTP/1.1\nhost: a\nx: y\n folded: z\n\n", &[400]);
    nobody("GET /version HTTP/1.1\nhost: a\nx : y\n\n", &[400]);
    nobody("GET /version HTTP/1.1\nhost: a\nx: \0\n\n", &[400]);
    nobody("GE\u{1}T /version HTTP/1.1\nhost: a\n\n", &[400]);
    nobody("GET /version HTTP/9.9\nhost: a\n\n", &[400, 505]);
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    for name in [
        "x-remote-user: admin\nx-remote-group: system:masters",
        "impersonate-user: admin",
        "impersonate-group: system:masters",
    ] {
        nobody(&format!("GET {secrets} HTTP/1.1\nhost: a\n{name}\n\n"), &[400, 403]);
    }
    for path in [
        "/version/../metrics",
        "//metrics",
        "/./metrics",
        "/version/..%2fmetrics",
        "/version%2f..%2fmetrics",
        "/healthz%00/metrics",
        "/version/%zz",
    ] {
        nobody(&format!("GET {path} HTTP/1.1\nhost: a\n\n"), &[400, 403, 404]);
    }

    let limited = |path: &str, want: &[u16]| {
        check(&door.admin, &format!("GET {path} HTTP/1.1\nhost: a\nimpersonate-user: limited\n\n"), want);
    };
    limited("/api/v1/namespaces/default/secrets/own", &[200]);
    limited("/api/v1/namespaces/default/secrets%2fown/", &[200]);
    limited("/api/v1//namespaces/default/secrets/own", &[403]);
    let admin = |path: &str, want: &[u16]| check(&door.admin, &format!("GET {path} HTTP/1.1\nhost: a\n\n"), want);
    for path in
        ["//api/v1/pods", "/api/v1//pods", "/api//v1/pods", "//version", "/api/v1/namespaces/default/../kube-system"]
    {
        admin(path, &[404]);
    }
    admin("/api/v1/namespaces//pods", &[200]);
    admin("/version/%zz", &[400]);
    for path in [
        "/api/v1/namespaces/kube-system/secrets/other",
        // Rights in a namespace are none in what its path leads to.
        "/api/v1/namespaces/default/namespaces",
        "/api/v1/namespaces/default/namespaces/kube-system",
        "/api/v1/namespaces/default/secrets/../../kube-system/secrets/other",
        "/api/v1/namespaces/default/secrets/..%2f..%2fkube-system%2fsecrets%2fother",
        "/api/v1/namespaces/default%2f..%2fkube-system/secrets/other",
        "/api/v1/namespaces/default/../kube-system/secrets/other",
        "/api/v1/namespaces/kube-system%2fsecrets/other",
        "/api/v1/namespaces//kube-system/secrets/other",
        "/%61pi/v1/namespaces/kube-system/secrets/other",
        "/api/v1/watch/namespaces/kube-system/secrets/other",
        "/api/v1/namespaces/default/secrets/own/../../../kube-system/secrets/other",
    ] {
        limited(path, &[400, 403, 404]);
    }
    // Another name for the header is not the header.
    let own = "GET /api/v1/namespaces/kube-system/secrets/other HTTP/1.1\nhost: a\n";
    check(&door.admin, &format!("{own}impersonate_user: limited\n\n"), &[200]);
    check(&door.admin, &format!("{own}impersonate-user: limited\nconnection: impersonate-user\n\n"), &[403]);
}

/// The middle of so many requests' times, each after the one before.
async fn middle(door: &Door) -> Duration {
    let mut connection = door.open(&door.admin, "http/1.1").await.unwrap();
    let mut times = Vec::new();
    let mut buffer = vec![0; 65_536];
    for _ in 0..60 {
        let begin = Instant::now();
        connection.write_all(b"GET /api/v1/namespaces/default HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut text = Vec::new();
        loop {
            let read = connection.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the server hung up");
            text.extend_from_slice(&buffer[..read]);
            let all = String::from_utf8_lossy(&text);
            if let Some((head, body)) = all.split_once("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() == length.parse::<usize>().unwrap() {
                    break;
                }
            }
        }
        times.push(begin.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

/// Measured time and again, because other work on the machine counts too: once it must hold.
async fn unimpressed(door: &Door, quiet: Duration, what: &str) {
    let mut seen = Vec::new();
    for _ in 0..10 {
        let time = middle(door).await;
        if time <= quiet * 2 + Duration::from_millis(2) {
            return;
        }
        seen.push(time);
    }
    panic!("{what}: {seen:?}, and {quiet:?} when it is quiet");
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Opens streams and takes each back at once; the code with which the server said goodbye.
async fn reset_rapidly(door: &Door) -> Option<u32> {
    // GET https :path / and an authority of one letter; all but that from HPACK's fixed table.
    const HEAD: [u8; 6] = [0x82, 0x87, 0x84, 0x41, 0x01, b'a'];
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let connection = door.open(&door.nobody, "h2").await.ok()?;
    let (mut reader, mut writer) = tokio::io::split(connection);
    let flood = tokio::spawn(async move {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        for stream in (1..20_000).step_by(2) {
            bytes.extend(frame(1, 5, stream, &HEAD));
            bytes.extend(frame(3, 0, stream, &CANCEL));
            if bytes.len() > 4096 && writer.write_all(&std::mem::take(&mut bytes)).await.is_err() {
                return;
            }
        }
        let _ = writer.write_all(&bytes).await;
        let _ = writer.flush().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    let mut text = Vec::new();
    let mut buffer = vec![0; 65_536];
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(Duration::from_secs(5), reader.read(&mut buffer)).await {
        text.extend_from_slice(&buffer[..read]);
    }
    flood.abort();
    let mut rest = text.as_slice();
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, after) = after.split_at_checked(length)?;
        if head[3] == 7 {
            return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = after;
    }
    None
}

#[test]
fn floods_are_refused_and_others_hardly_notice() {
    const IDLE: usize = 1500;
    const SLOW: usize = 300;
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let ((_server, _), door) = (machine.serve(&[]), Door::of(&machine));
    runtime().block_on(async {
        middle(&door).await;
        let quiet = middle(&door).await.max(middle(&door).await);

        let mut idle = Vec::new();
        for number in 0..IDLE {
            idle.push(door.open(&door.nobody, if number % 2 == 0 { "h2" } else { "http/1.1" }).await.unwrap());
        }
        unimpressed(&door, quiet, "idle connections").await;

        let since = Instant::now();
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let mut connection = door.open(&door.nobody, "http/1.1").await.unwrap();
            connection.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\nx: ").await.unwrap();
            slow.push(connection);
        }
        for _ in 0..3 {
            for connection in &mut slow {
                connection.write_all(b"x").await.unwrap();
            }
            unimpressed(&door, quiet, "slow heads").await;
        }
        drop(idle);

        // These may do what they ask for, and never come to the end of it.
        let mut bodies = Vec::new();
        for _ in 0..SLOW {
            let mut connection = door.open(&door.admin, "http/1.1").await.unwrap();
            let head =
                "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{";
            connection.write_all(head.as_bytes()).await.unwrap();
            bodies.push(connection);
        }
        for _ in 0..3 {
            for connection in &mut bodies {
                connection.write_all(b" ").await.unwrap();
            }
            unimpressed(&door, quiet, "slow bodies").await;
        }
        drop(bodies);

        let attack = tokio::spawn({
            let door = Door { port: door.port, nobody: Arc::clone(&door.nobody), admin: Arc::clone(&door.admin) };
            async move {
                let mut codes = Vec::new();
                for _ in 0..20 {
                    codes.push(reset_rapidly(&door).await);
                }
                codes
            }
        });
        unimpressed(&door, quiet, "streams that are taken back").await;
        let codes = attack.await.unwrap();
        assert!(codes.contains(&Some(ENHANCE_YOUR_CALM)), "{codes:?}");

        // Whoever does not come to the end of a head is sent away.
        let mut buffer = [0; 1024];
        for connection in &mut slow {
            let left = Duration::from_secs(45).saturating_sub(since.elapsed());
            let ended = tokio::time::timeout(left.max(Duration::from_millis(10)), async {
                while connection.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            });
            assert!(ended.await.is_ok(), "a slow connection is still there");
        }
    });
}
