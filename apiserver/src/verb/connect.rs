//! `log`, `exec`, `attach`, `portforward` and `proxy`: a request handed on to a kubelet, a pod or a service.
//!
//! The connection is a tunnel: after an upgrade bytes pass untouched in both directions, but for WebSockets that a kubelet does not
//! speak, which `streams.rs` translates. Never interprets streams.

use super::backend::{Backend, Wire, cut, node, proxied, rooted};
use super::{Call, logs, page, spdy, streams, websocket};
use crate::answer::{Answer, Body, Failure, stream};
use crate::authn::User;
use crate::registry::admitted;
use crate::registry::write::Options;
use crate::road::authorized;
use crate::road::received::{Received, Records};
use crate::server::Server;
use crate::transport::{Session, Upgrade, client_config, keep_alive, unjudged_client_config};
use actix_web::HttpMessage as _;
use api::json::Value;
use api::kind::Part;
use api::status::Status;
use api::value;
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time to reach a backend.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// How long a backend may be silent before it is asked whether it is there; upstream's transport asks as often.
pub(crate) const ALIVE: Duration = Duration::from_secs(30);

/// Headers that belong to one hop.
pub(crate) const HOP: [&str; 7] =
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "host", "content-length"];

/// Answers a request that somebody else has to answer.
///
/// # Errors
/// 404 and 400 for what cannot be reached, 502-like 503 when the connection fails, the backend's own refusal.
pub async fn answer(server: &Server, call: Call) -> Result<Answer, Failure> {
    let proxy = matches!(call.part.map(|part| part.part), Some(Part::Proxy));
    if let Some(part) = call.part.filter(|part| part.name != "log") {
        let options = Options { subresource: part.name.to_owned(), ..Options::default() };
        let permit = &call.authorized.permit;
        admitted::connection(server, permit, &call.target, &options, part.gvk, &connect_options(&call)).await?;
    }
    let part = call.part.map_or("", |part| part.name);
    // A browser can only say `get` of a WebSocket, which must not be enough to run a command.
    let interactive = !proxy && part != "log";
    if interactive && server.config.gates.enabled("AuthorizePodWebsocketUpgradeCreatePermission") {
        authorized::also(server, &call.authorized, "create").await?;
    }
    // Before anybody else is asked: what finds no place costs nothing.
    let session = session(call.received(), call.authorized.permit.user())?;
    if part == "log" {
        let streams = server.config.gates.enabled("PodLogsQuerySplitStreams");
        logs::check(call.received(), &call.target.name, streams)?;
    }
    let backend = if proxy { Some(proxied(server, &call).await?) } else { node(server, &call).await? };
    // Nothing has run yet, and so there is nothing to tell.
    let Some(backend) = backend else { return Ok(Answer::bytes(204, "", Bytes::new())) };
    if streams::translated(part, call.received()) {
        return streams::answer(server, &call, &backend, session).await;
    }
    let tunnelled = streams::tunnelled(part, call.received());
    // Logs are a plain stream from the kubelet, whatever the client takes them over.
    let socket = part == "log" && websocket::wanted(call.received());
    let upgrading = !socket && call.received().header("upgrade").is_some();
    let reads = matches!(call.received().method.as_str(), "GET" | "HEAD");
    let (ours, theirs) = cut(&call.received().target, &call.received().info);
    if let Some(place) = rooted(ours, theirs).filter(|_| proxy && reads && !upgrading) {
        return Ok(Answer::bytes(301, "", Bytes::new()).with("location", place));
    }
    let method = if tunnelled.is_empty() { call.received().method.as_str() } else { "POST" };
    let mut request = http::Request::builder().method(method).uri(&backend.target);
    request = request.header("host", format!("{}:{}", backend.host, backend.port));
    if !tunnelled.is_empty() {
        request = request.header("upgrade", spdy::UPGRADE);
    }
    for protocol in &tunnelled {
        request = request.header("x-stream-protocol-version", *protocol);
    }
    for (name, value) in &call.received().headers {
        let unwrapped = socket || !tunnelled.is_empty();
        let own = unwrapped && (name == "upgrade" || name.as_str().starts_with("sec-websocket-"));
        let keep = !own && (!HOP.contains(&name.as_str()) || (upgrading && name == "connection"));
        if keep && !name.as_str().starts_with("impersonate-") {
            request = request.header(name.as_str(), value.as_bytes());
        }
    }
    let body = call.received().body.take();
    let frames = body.map(|chunk| chunk.map(Frame::data).map_err(|error| std::io::Error::other(error.to_string())));
    let request = request.body(StreamBody::new(frames)).map_err(Status::internal)?;
    let response = send(server, &backend, request).await?;
    let code = response.status().as_u16();

    if code == 101 && !tunnelled.is_empty() {
        return streams::tunnel(call.received(), response, session);
    }
    if code == 101 {
        return tunnel(call.received(), response, session);
    }
    // A kubelet's refusal is text; clients expect a Status.
    if code >= 400 && !proxy {
        let text = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(backend_status(code, text).into());
    }
    let headers = passed_on(&response, false);
    let body = pieces(response, call.received().records());
    if socket {
        let client = client(call.received())?;
        let (answer, protocol) = websocket::accepted(call.received())?;
        let records = call.received().records();
        tokio::task::spawn_local(async move {
            // Their end is that of the stream.
            let _held = (records, session);
            let Ok(client) = client.await else { return };
            // The client may hang up at any time.
            let _ = websocket::send(TokioIo::new(client), protocol, body).await;
        });
        return Ok(answer);
    }
    // Logs are text; what a proxied backend says of its answer goes on as it is, but for the links back to it.
    if !proxy {
        return Ok(Answer::of(code, "text/plain", Body::Stream(body)));
    }
    let plain = |name: &str| headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str());
    let media = plain("content-type").and_then(|media| media.split(';').next()).unwrap_or_default();
    let body =
        if media.trim() == "text/html" && plain("content-encoding").is_none() { rewritten(body, ours) } else { body };
    let mut headers = headers;
    for (_, place) in headers.iter_mut().filter(|(name, _)| name == "location") {
        if let Some(led) = page::led_back(place, ours) {
            *place = led;
        }
    }
    let answer = Answer::of(code, "", Body::Stream(body));
    Ok(answer.with_all(headers))
}

/// The place of a connection that a user asks to be taken over; none for one that cannot be.
///
/// # Errors
/// 429 where too many are.
pub(crate) fn session(received: &Received, user: &User) -> Result<Option<Session>, Failure> {
    let extensions = received.request.extensions();
    let session = extensions.get::<Upgrade>().map(|upgrade| upgrade.session(user)).transpose();
    session.map_err(Failure::Status)
}

/// The raw connection of a client, to be taken over once the answer is sent.
///
/// # Errors
/// 400 for one that cannot be.
pub(super) fn client(received: &Received) -> Result<hyper::upgrade::OnUpgrade, Status> {
    let upgrade = received.request.extensions().get::<Upgrade>().and_then(Upgrade::take);
    upgrade.ok_or_else(|| Status::bad_request("the connection cannot be upgraded"))
}

/// The answer to a request whose connection the backend has upgraded: bytes go both ways from now on.
///
/// # Errors
/// 400 when the client's connection cannot be.
pub(crate) fn tunnel(
    received: &Received,
    mut response: http::Response<hyper::body::Incoming>,
    session: Option<Session>,
) -> Result<Answer, Failure> {
    let client = client(received)?;
    let server_side = hyper::upgrade::on(&mut response);
    let records = received.records();
    tokio::task::spawn_local(async move {
        // Their end is that of the tunnel.
        let _held = (records, session);
        let (Ok(client), Ok(backend)) = (client.await, server_side.await) else {
            return;
        };
        // Either side may hang up at any time; that is how sessions end.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await;
    });
    let mut answer = stream("", futures::stream::empty());
    answer.code = 101;
    Ok(answer.with_all(passed_on(&response, true)))
}

/// The body of an answer as it comes. What records it is held until it has come.
pub(crate) fn pieces(response: http::Response<hyper::body::Incoming>, records: Records) -> Pieces {
    Box::pin(futures::stream::unfold((response, records), |(mut response, records)| async move {
        loop {
            match response.body_mut().frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some((Ok(data), (response, records))),
                    Err(_) => continue,
                },
                Err(error) => return Some((Err(std::io::Error::other(error)), (response, records))),
            }
        }
    }))
}

/// The options of a connection as an object of their kind.
fn connect_options(call: &Call) -> Value {
    let (Some(part), given) = (call.part, &call.received().query) else { return Value::Null };
    let mut out = api::json::json!({"kind": part.gvk.kind, "apiVersion": part.gvk.api_version()});
    if matches!(part.part, Part::Proxy) {
        let info = &call.received().info;
        let mut path: String = info.rest.iter().flat_map(|part| ["/", part]).collect();
        if info.path.ends_with('/') && !path.ends_with('/') {
            path.push('/');
        }
        value::set(&mut out, "path", path);
        return out;
    }
    for name in ["stdin", "stdout", "stderr", "tty"] {
        if given.flag(name) {
            value::set(&mut out, name, true);
        }
    }
    if let Some(container) = given.get("container").filter(|name| !name.is_empty()) {
        value::set(&mut out, "container", container);
    }
    let command: Vec<&str> = given.all("command").collect();
    if !command.is_empty() {
        value::set(&mut out, "command", command);
    }
    let ports: Vec<i64> = given.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        value::set(&mut out, "ports", ports);
    }
    out
}

/// What a stream of bytes is to an answer.
pub(crate) type Pieces = futures::stream::LocalBoxStream<'static, Result<Bytes, std::io::Error>>;

/// The page with its links led back through the proxy.
fn rewritten(body: Pieces, prefix: &str) -> Pieces {
    let state = (body, page::Page::new(prefix), false);
    Box::pin(futures::stream::unfold(state, |(mut body, mut page, ended)| async move {
        if ended {
            return None;
        }
        match body.next().await {
            Some(Ok(bytes)) => {
                let piece = page.piece(&bytes);
                Some((Ok(piece), (body, page, false)))
            }
            Some(Err(error)) => Some((Err(error), (body, page, true))),
            None => {
                let rest = page.rest();
                Some((Ok(rest), (body, page, true)))
            }
        }
    }))
}

fn backend_status(code: u16, message: String) -> Status {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        _ => "InternalError",
    };
    Status::foreign(code, reason, message)
}

/// The backend's headers, without those of the hop.
pub(crate) fn passed_on<B>(response: &http::Response<B>, upgraded: bool) -> Vec<(String, String)> {
    response
        .headers()
        .iter()
        .filter(|(name, _)| !HOP.contains(&name.as_str()) || (upgraded && *name == "connection"))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

pub(super) async fn send<B>(
    server: &Server,
    backend: &Backend,
    request: http::Request<B>,
) -> Result<http::Response<hyper::body::Incoming>, Failure>
where
    B: hyper::body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let unreachable = |why: String| Status::internal(format!("error dialing backend: {why}"));
    let tcp = tokio::time::timeout(CONNECT, connected(backend))
        .await
        .map_err(|_| unreachable(format!("dial tcp {}:{}: i/o timeout", backend.host, backend.port)))?
        .map_err(|error| unreachable(format!("dial tcp {}:{}: {error}", backend.host, backend.port)))?;
    tcp.set_nodelay(true).map_err(Status::internal)?;
    keep_alive(&tcp, ALIVE);
    let clients = server.clients.load();
    let (client, authority) = (clients.kubelet.as_ref(), server.config.kubelet_ca.as_deref());
    let config = match backend.wire {
        Wire::Plain => {
            return exchange(TokioIo::new(tcp), request).await.map_err(|error| unreachable(error.to_string()).into());
        }
        Wire::Kubelet => client_config(client, authority),
        Wire::AnyKubelet => unjudged_client_config(client),
        Wire::Unjudged => unjudged_client_config(None),
    };
    drop(clients);
    let config = config.map_err(|error| unreachable(error.to_string()))?;
    let name = rustls_pki_types::ServerName::try_from(backend.host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| unreachable(error.to_string()))?;
    let tls = tokio::time::timeout(CONNECT, TlsConnector::from(Arc::new(config)).connect(name, tcp))
        .await
        .map_err(|_| unreachable("TLS handshake timeout".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    exchange(TokioIo::new(tls), request).await.map_err(|error| unreachable(error.to_string()).into())
}

async fn connected(backend: &Backend) -> std::io::Result<TcpStream> {
    let port = backend.port;
    if backend.addresses.is_empty() {
        return TcpStream::connect((backend.host.trim_matches(['[', ']']), port)).await;
    }
    let checked: Vec<SocketAddr> = backend.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    TcpStream::connect(checked.as_slice()).await
}

pub(crate) async fn exchange<I, B>(
    io: I,
    request: http::Request<B>,
) -> Result<http::Response<hyper::body::Incoming>, hyper::Error>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: hyper::body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a backend connection ended");
        }
    });
    sender.send_request(request).await
}
