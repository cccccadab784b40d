//! Small listeners beside a component, for health and numbers: plain on loopback, or over TLS behind a guard.
//!
//! Never serves objects, and nothing under `/debug` without a guard.

use super::delegated::Guard;
use anyhow::Context as _;
use apiserver::profiling::{Page, Profiling};
use apiserver::transport::{Identity, TlsOptions, TlsSettings, server_config};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use rustls::pki_types::CertificateDer;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// What a path answers: a status and a text, none when there is no such path.
type Texts = Arc<dyn Fn(&str) -> Option<(StatusCode, String)> + Send + Sync>;

/// What there is to be asked for.
#[derive(Clone)]
pub(crate) struct Routes {
    texts: Texts,
    profiling: Option<Arc<dyn Profiling>>,
}

impl Routes {
    /// Texts by their paths.
    pub(crate) fn new(texts: impl Fn(&str) -> Option<(StatusCode, String)> + Send + Sync + 'static) -> Routes {
        Routes { texts: Arc::new(texts), profiling: None }
    }

    /// And `/debug/pprof`, where a guard watches.
    pub(crate) fn profiled(self, profiling: Option<Arc<dyn Profiling>>) -> Routes {
        Routes { profiling, ..self }
    }
}

/// Longest that a handshake or the head of a request may take.
const SLOW: Duration = Duration::from_secs(10);

/// TLS and who may call.
#[derive(Clone)]
pub(crate) struct Secured {
    acceptor: TlsAcceptor,
    guard: Arc<Guard>,
}

impl Secured {
    /// With the listener's certificate and what is spoken. Clients are asked for theirs, and whom it names is the guard's question.
    ///
    /// # Errors
    /// When a text is malformed or the key does not fit.
    pub(crate) fn new(identity: &Identity, options: TlsOptions, guard: Guard) -> anyhow::Result<Secured> {
        let options = TlsOptions { without_http2: true, ..options };
        let config = server_config(&TlsSettings { identity: identity.clone(), client_ca: None, options })?;
        Ok(Secured { acceptor: TlsAcceptor::from(Arc::new(config)), guard: Arc::new(guard) })
    }
}

/// The paths that say that a process lives.
pub(crate) fn health() -> Routes {
    Routes::new(|path| {
        let known =
            ["/healthz", "/livez", "/readyz"].iter().any(|root| path == *root || path == format!("{root}/ping"));
        known.then(|| (StatusCode::OK, "ok".to_owned()))
    })
}

/// Those, and at `/metrics` what is counted here.
pub(crate) fn with_metrics(registry: &Registry) -> Routes {
    let (health, registry) = (health().texts, registry.clone());
    Routes::new(move |path| match path {
        "/metrics" => Some((StatusCode::OK, apiserver::metrics::text(&registry))),
        path => health(path),
    })
}

/// Listens, and serves until `stop`.
///
/// # Errors
/// When the address is taken or not the machine's.
pub(crate) async fn serve(
    tasks: &mut JoinSet<()>,
    address: SocketAddr,
    routes: Routes,
    secured: Option<Secured>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = accepted else {
                // No file is left for a connection: that passes.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (routes, secured) = (routes.clone(), secured.clone());
            connections.spawn(async move {
                let Some(secured) = secured else { return connection(stream, routes, None).await };
                let Ok(Ok(stream)) = tokio::time::timeout(SLOW, secured.acceptor.accept(stream)).await else { return };
                let peer = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let peer = peer.iter().map(|certificate| certificate.clone().into_owned()).collect();
                connection(stream, routes, Some((secured.guard, peer))).await;
            });
        }
    });
    Ok(())
}

/// Who watches over a connection, and the certificates of its other end.
type Watched = Option<(Arc<Guard>, Vec<CertificateDer<'static>>)>;

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, routes: Routes, watched: Watched) {
    let watched = Arc::new(watched);
    let service = hyper::service::service_fn(move |request| {
        let (routes, watched) = (routes.clone(), watched.clone());
        async move { Ok::<_, Infallible>(answer(&routes, &watched, &request).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(SLOW);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer(routes: &Routes, watched: &Watched, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let refused = match watched {
        Some((guard, peer)) => guard.check(peer, request.headers(), request.method(), path).await.err(),
        None => None,
    };
    let page = match refused {
        Some((status, why)) => plain(status, why),
        None if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned())
        }
        None => match ((routes.texts)(path), &routes.profiling) {
            (Some((status, text)), _) => plain(status, text),
            (None, Some(profiling)) if watched.is_some() => {
                let page =
                    Page::of(&**profiling, request.method().as_str(), path, request.uri().query().unwrap_or_default())
                        .await;
                page.unwrap_or_else(nothing)
            }
            (None, _) => nothing(),
        },
    };
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = StatusCode::from_u16(page.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = page.headers.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in headers.chain([("content-type", page.content_type)]) {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn plain(status: StatusCode, text: String) -> Page {
    let content_type = "text/plain; charset=utf-8";
    Page { code: status.as_u16(), content_type, headers: Vec::new(), body: text.into_bytes() }
}

fn nothing() -> Page {
    plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}
