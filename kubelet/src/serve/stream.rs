//! `/exec`, `/attach`, `/portForward`: asks the runtime for its streaming address and passes the client's upgraded
//! connection through to it unread; `/run` runs a command and answers its output. SPDY/3.1 and the WebSocket protocols
//! up to version 4 pass; clients of later WebSocket protocols are refused so that they fall back.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Body, Server, answer, first, query, text};
use crate::cri::v1;
use crate::model;

const WS_PROTOCOL: &str = "sec-websocket-protocol";

fn asked(query: &[(String, String)], names: &[&str]) -> bool {
    first(query, names).is_some_and(|value| matches!(value, "1" | "true"))
}

/// Whether the runtime's streaming server speaks a WebSocket protocol.
fn spoken(protocol: &str) -> bool {
    matches!(
        protocol,
        "v4.channel.k8s.io" | "v4.base64.channel.k8s.io" | "channel.k8s.io" | "base64.channel.k8s.io" | ""
    )
}

/// Leaves only protocols that the runtime speaks, or says why the upgrade is refused.
fn negotiate(headers: &mut HeaderMap) -> Result<(), String> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    match upgrade.as_str() {
        "" => Err("Upgrade request required".to_owned()),
        "spdy/3.1" => Ok(()),
        "websocket" => {
            let offered: Vec<String> = headers
                .get_all(WS_PROTOCOL)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .map(|protocol| protocol.trim().to_owned())
                .collect();
            let kept: Vec<&str> = offered.iter().map(String::as_str).filter(|protocol| spoken(protocol)).collect();
            if kept.is_empty() && !offered.is_empty() {
                return Err(format!("unable to upgrade: WebSocket protocols {offered:?} are not supported"));
            }
            let value = HeaderValue::from_str(&kept.join(", ")).map_err(|error| error.to_string())?;
            headers.remove(WS_PROTOCOL);
            if !kept.is_empty() {
                headers.insert(WS_PROTOCOL, value);
            }
            Ok(())
        }
        other => Err(format!("unable to upgrade: unsupported protocol {other:?}")),
    }
}

fn failed(error: impl std::fmt::Display) -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("error: {error}"))
}

/// Runtime id of a container that runs.
async fn running(server: &Server, namespace: &str, pod: &str, container: &str) -> Result<String, Response<Body>> {
    let not_found = || text(StatusCode::NOT_FOUND, format!("container not found ({container:?})"));
    let found = server.pods.find(namespace, pod).ok_or_else(|| text(StatusCode::NOT_FOUND, "pod does not exist"))?;
    let observed = server.node.cri.observe(model::uid(&found)).await.map_err(failed)?;
    let run = observed.latest(container).filter(|run| run.alive()).ok_or_else(not_found)?;
    Ok(run.id.clone())
}

pub(crate) async fn exec(
    server: &Server,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Response<Body> {
    let query = query(&request);
    let id = match running(server, namespace, pod, container).await {
        Ok(id) => id,
        Err(refused) => return refused,
    };
    let tty = asked(&query, &["tty"]);
    let wanted = v1::ExecRequest {
        container_id: id,
        cmd: query.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect(),
        tty,
        stdin: asked(&query, &["input", "stdin"]),
        stdout: asked(&query, &["output", "stdout"]),
        stderr: asked(&query, &["error", "stderr"]) && !tty,
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    match server.node.cri.exec_url(wanted).await {
        Ok(url) => tunnel(request, &url).await,
        Err(error) => failed(error),
    }
}

pub(crate) async fn attach(
    server: &Server,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Response<Body> {
    let query = query(&request);
    let id = match running(server, namespace, pod, container).await {
        Ok(id) => id,
        Err(refused) => return refused,
    };
    let defined = server.pods.find(namespace, pod).and_then(|pod| model::find_container(&pod, container));
    let tty = defined.is_some_and(|item| item.tty == Some(true));
    let wanted = v1::AttachRequest {
        container_id: id,
        stdin: asked(&query, &["input", "stdin"]),
        tty,
        stdout: asked(&query, &["output", "stdout"]),
        stderr: asked(&query, &["error", "stderr"]) && !tty,
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    match server.node.cri.attach_url(wanted).await {
        Ok(url) => tunnel(request, &url).await,
        Err(error) => failed(error),
    }
}

pub(crate) async fn port_forward(
    server: &Server,
    request: Request<Incoming>,
    namespace: &str,
    pod: &str,
) -> Response<Body> {
    let query = query(&request);
    let Some(found) = server.pods.find(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist");
    };
    let observed = match server.node.cri.observe(model::uid(&found)).await {
        Ok(observed) => observed,
        Err(error) => return failed(error),
    };
    let Some(sandbox) = observed.sandboxes.first().filter(|sandbox| sandbox.ready) else {
        return text(StatusCode::NOT_FOUND, format!("not found (\"{pod}_{namespace}\")"));
    };
    let ports = query.iter().filter(|(key, _)| key == "port").filter_map(|(_, value)| value.parse().ok()).collect();
    let wanted = v1::PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), port: ports };
    match server.node.cri.port_forward_url(wanted).await {
        Ok(url) => tunnel(request, &url).await,
        Err(error) => failed(error),
    }
}

pub(crate) async fn run(
    server: &Server,
    request: &Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Response<Body> {
    let query = query(request);
    let id = match running(server, namespace, pod, container).await {
        Ok(id) => id,
        Err(refused) => return refused,
    };
    let command: Vec<String> = first(&query, &["cmd"]).unwrap_or_default().split(' ').map(str::to_owned).collect();
    match server.node.cri.exec_sync(&id, &command, Duration::ZERO).await {
        Ok(result) => answer(StatusCode::OK, "text/plain", Bytes::from(result.output)),
        Err(error) => failed(error),
    }
}

/// Repeats the client's upgrade at `url` and, when it is granted, joins the two connections.
async fn tunnel(mut request: Request<Incoming>, url: &str) -> Response<Body> {
    let mut headers = request.headers().clone();
    if let Err(message) = negotiate(&mut headers) {
        return text(StatusCode::BAD_REQUEST, message);
    }
    match upstream(&request, headers, url).await {
        Ok((head, backend)) => {
            if head.status() != StatusCode::SWITCHING_PROTOCOLS {
                return head.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
            }
            let client = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (Ok(client), Ok(backend)) = (client.await, backend.await) else { return };
                let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
                    tracing::debug!(%error, "stream ended");
                }
            });
            let (parts, _) = head.into_parts();
            let body = Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync();
            let mut response = Response::new(body);
            *response.status_mut() = parts.status;
            *response.headers_mut() = parts.headers;
            response
        }
        Err(message) => failed(message),
    }
}

async fn upstream(
    request: &Request<Incoming>,
    mut headers: HeaderMap,
    url: &str,
) -> Result<(Response<Incoming>, hyper::upgrade::OnUpgrade), String> {
    let url: http::Uri = url.parse().map_err(|error| format!("bad streaming address {url:?}: {error}"))?;
    let authority = url.authority().ok_or("streaming address names no host")?.to_string();
    let stream =
        TcpStream::connect(&authority).await.map_err(|error| format!("runtime's streaming server: {error}"))?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection.with_upgrades());
    headers.remove(http::header::AUTHORIZATION);
    headers.insert(HOST, HeaderValue::from_str(&authority).map_err(|error| error.to_string())?);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut repeated = Request::builder()
        .method(request.method().clone())
        .uri(path)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    *repeated.headers_mut() = headers;
    let mut response = sender.send_request(repeated).await.map_err(|error| error.to_string())?;
    let upgrade = hyper::upgrade::on(&mut response);
    Ok((response, upgrade))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_protocols_that_the_runtime_speaks_pass() {
        let cases = [
            (Some("SPDY/3.1"), None, Ok(None)),
            (Some("websocket"), Some("v5.channel.k8s.io"), Err(())),
            (Some("websocket"), Some("v5.channel.k8s.io, v4.channel.k8s.io"), Ok(Some("v4.channel.k8s.io"))),
            (Some("websocket"), Some("SPDY/3.1+portforward.k8s.io"), Err(())),
            (Some("h2c"), None, Err(())),
            (None, None, Err(())),
        ];
        for (upgrade, protocol, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(value) = upgrade {
                headers.insert(UPGRADE, HeaderValue::from_static(value));
            }
            if let Some(value) = protocol {
                headers.insert(WS_PROTOCOL, HeaderValue::from_static(value));
            }
            let found = negotiate(&mut headers).map_err(|_| ());
            let found = found.map(|()| headers.get(WS_PROTOCOL).and_then(|value| value.to_str().ok()));
            assert_eq!(found, expected, "{upgrade:?} {protocol:?}");
        }
    }
}
