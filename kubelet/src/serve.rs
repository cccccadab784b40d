//! The kubelet's HTTPS server: routes, after a client was identified and authorized. Never decides about pods.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::node_context::SharedNode;
use crate::pods::Pods;

pub(crate) mod auth;
pub(crate) mod container_logs;
pub(crate) mod stats;
pub(crate) mod stream;

/// Body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What the routes need.
pub(crate) struct Server {
    pub(crate) node: SharedNode,
    pub(crate) pods: Arc<Pods>,
    pub(crate) auth: auth::Authorizer,
}

/// An answer of plain text.
pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", Bytes::from(message.into()))
}

/// An answer of one piece.
pub(crate) fn answer(status: StatusCode, kind: &'static str, bytes: Bytes) -> Response<Body> {
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// Query parameters in order.
pub(crate) fn query(request: &Request<Incoming>) -> Vec<(String, String)> {
    let text = request.uri().query().unwrap_or_default();
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// The parts of a path between slashes, each decoded; a plus sign is one there.
fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(|part| decode(&part.replace('+', "%2B"))).collect()
}

/// Undoes percent-encoding and `+`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.clone().take(2).collect();
                match std::str::from_utf8(&digits)
                    .ok()
                    .filter(|d| d.len() == 2)
                    .and_then(|d| u8::from_str_radix(d, 16).ok())
                {
                    Some(value) => {
                        bytes.push(value);
                        rest.next();
                        rest.next();
                    }
                    None => bytes.push(b'%'),
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first value of a parameter under any of its names.
pub(crate) fn first<'a>(query: &'a [(String, String)], names: &[&str]) -> Option<&'a str> {
    query.iter().find(|(key, _)| names.contains(&key.as_str())).map(|(_, value)| value.as_str())
}

impl Server {
    async fn route(self: Arc<Self>, request: Request<Incoming>, peer: auth::Peer) -> Response<Body> {
        let parts = segments(request.uri().path());
        if let Err(refused) = self.auth.check(&request, &peer).await {
            return refused;
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let method = request.method().clone();
        match (method, parts.as_slice()) {
            (Method::GET, ["healthz"]) => text(StatusCode::OK, "ok"),
            (Method::GET, ["pods"]) => self.list(),
            (Method::GET, ["containerLogs", namespace, pod, container]) => {
                container_logs::serve(&self, &request, namespace, pod, container).await
            }
            (
                Method::GET | Method::POST,
                ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container],
            ) => stream::exec(&self, request, namespace, pod, container).await,
            (
                Method::GET | Method::POST,
                ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container],
            ) => stream::attach(&self, request, namespace, pod, container).await,
            (Method::GET | Method::POST, ["portForward", namespace, pod] | ["portForward", namespace, pod, _]) => {
                stream::port_forward(&self, request, namespace, pod).await
            }
            (Method::POST, ["run", namespace, pod, container] | ["run", namespace, pod, _, container]) => {
                stream::run(&self, &request, namespace, pod, container).await
            }
            (Method::GET, ["stats", "summary"]) => stats::summary(&self).await,
            (Method::GET, ["metrics"]) => stats::metrics(&self).await,
            (Method::GET, ["metrics", "resource" | "cadvisor"]) => stats::resource_metrics(&self).await,
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn list(&self) -> Response<Body> {
        let items: Vec<serde_json::Value> =
            self.pods.all().iter().filter_map(|pod| serde_json::to_value(pod.as_ref()).ok()).collect();
        let list = serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
        answer(StatusCode::OK, "application/json", Bytes::from(list.to_string()))
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, acceptor: TlsAcceptor) {
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream));
        let Ok(Ok(stream)) = handshake.await else { return };
        let peer = auth::Peer::of(stream.get_ref().1.peer_certificates());
        let service = hyper::service::service_fn(move |request| {
            let (server, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, std::convert::Infallible>(server.route(request, peer).await) }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "kubelet connection ended");
        }
    }
}

/// Serves until stopped.
pub(crate) async fn serve(server: Arc<Server>, listener: TcpListener, acceptor: TlsAcceptor, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = server.clone().connection(stream, acceptor.clone());
                let stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, segments};

    #[test]
    fn percent_encoding() {
        let cases = [("a%20b+c", "a b c"), ("%zz", "%zz"), ("%4", "%4"), ("%c3%bc", "ü"), ("", "")];
        for (text, expected) in cases {
            assert_eq!(decode(text), expected, "{text}");
        }
    }

    #[test]
    fn a_path_is_cut_before_it_is_decoded() {
        assert_eq!(segments("/containerLogs//ns/pod/my%2Dc"), ["containerLogs", "ns", "pod", "my-c"]);
        assert_eq!(segments("/exec/ns/pod/a%2fb+c"), ["exec", "ns", "pod", "a/b+c"]);
    }
}
