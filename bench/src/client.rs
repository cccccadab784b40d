//! Connections to a server: one request at a time over HTTP/1.1, as many as the server takes over HTTP/2. Never retries and never
//! reads a body further than it is asked to: what a scenario measures is what happened.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::ValueEnum;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::target::Target;

/// Streams that a connection carries at most: what upstream's server allows at once over HTTP/2.
pub(crate) const STREAMS: usize = 100;

/// The window of a stream and of a connection over HTTP/2, in bytes: large, so that the link and not the window bounds a list.
const WINDOW: u32 = 16 << 20;

/// The protocol of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Http {
    /// HTTP/1.1: every worker has a connection of its own.
    #[value(name = "1")]
    H1,
    /// HTTP/2: workers share connections.
    #[value(name = "2")]
    H2,
}

impl Http {
    /// The protocol's name in TLS.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }

    /// Requests that one connection carries at a time.
    pub(crate) fn streams(self) -> usize {
        match self {
            Self::H1 => 1,
            Self::H2 => STREAMS,
        }
    }
}

/// The form of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Encoding {
    /// `application/json`.
    Json,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Encoding {
    /// The media type of one object or list.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// A request without who asks: what scenarios make.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    accept: HeaderValue,
    body: Option<(HeaderValue, Bytes)>,
}

impl Ask {
    /// A request without a body whose answer is JSON.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), accept: HeaderValue::from_static("application/json"), body: None }
    }

    /// Reads `path`.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Creates by `body`, JSON.
    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, path).body("application/json", body)
    }

    /// Changes by a patch of a media type.
    pub(crate) fn patch(path: impl Into<String>, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(Method::PATCH, path).body(media_type, body)
    }

    /// Says what is sent.
    pub(crate) fn body(mut self, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = Some((HeaderValue::from_static(media_type), body.into()));
        self
    }

    /// Says what is wanted.
    pub(crate) fn accept(mut self, media_type: &'static str) -> Self {
        self.accept = HeaderValue::from_static(media_type);
        self
    }

    fn build(&self, target: &Target) -> Result<Request<Full<Bytes>>> {
        let mut request = target.request(self.method.clone(), &self.path).header(ACCEPT, &self.accept);
        if let Some((media_type, _)) = &self.body {
            request = request.header(CONTENT_TYPE, media_type);
        }
        Ok(request.body(self.body.as_ref().map(|(_, bytes)| bytes.clone()).unwrap_or_default().into())?)
    }
}

/// A TLS stream to the target over which nothing was said.
pub(crate) async fn shake_hands(target: &Target, http: Http) -> Result<TlsStream<TcpStream>> {
    let address = target.address();
    let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(target.tls(http)).connect(target.server_name(), tcp);
    tls.await.with_context(|| format!("{address} did not agree on TLS"))
}

/// A connection, or over HTTP/2 a handle to a shared one.
pub(crate) struct Connection {
    target: Target,
    http: Http,
    sender: Sender,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects and shakes hands.
    pub(crate) async fn open(target: &Target, http: Http) -> Result<Self> {
        let tls = TokioIo::new(shake_hands(target, http).await?);
        let sender = match http {
            Http::H1 => {
                let (sender, connection) = http1::handshake(tls).await?;
                tokio::spawn(connection);
                Sender::H1(sender)
            }
            Http::H2 => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
                let (sender, connection) = builder.handshake(tls).await?;
                tokio::spawn(connection);
                Sender::H2(sender)
            }
        };
        Ok(Self { target: target.clone(), http, sender })
    }

    /// Connections for `workers`: over HTTP/2 they are shared by as many as one carries.
    pub(crate) async fn open_for(target: &Target, http: Http, workers: usize) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::with_capacity(workers);
        for at in 0..workers {
            let shared = match all.last() {
                Some(last) if !at.is_multiple_of(http.streams()) => last.share(),
                _ => None,
            };
            all.push(match shared {
                Some(shared) => shared,
                None => Self::open(target, http).await?,
            });
        }
        Ok(all)
    }

    fn share(&self) -> Option<Self> {
        let Sender::H2(sender) = &self.sender else { return None };
        Some(Self { target: self.target.clone(), http: self.http, sender: Sender::H2(sender.clone()) })
    }

    /// Sends and waits for the head of the answer. An answer over HTTP/1.1 must be read to its end before the next request.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        let request = ask.build(&self.target)?;
        self.send(request).await.with_context(|| format!("{} {}", ask.method, ask.path))
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let answer = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        Ok(Answer(answer))
    }
}

/// An answer whose body is still to come.
pub(crate) struct Answer(Response<Incoming>);

impl Answer {
    /// Reads the body of an answer that must be a success.
    pub(crate) async fn into_ok(self) -> Result<Bytes> {
        let status = self.0.status();
        let body = self.0.into_body().collect().await?.to_bytes();
        succeeded(status, &body)?;
        Ok(body)
    }

    /// Reads the body of a success without keeping it, and says how long it was.
    pub(crate) async fn into_length(self) -> Result<u64> {
        let (head, mut body) = self.0.into_parts();
        if !head.status.is_success() {
            succeeded(head.status, &body.collect().await?.to_bytes())?;
            return Ok(0);
        }
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                length += data.len() as u64;
            }
        }
        Ok(length)
    }

    /// The body of a success, to be read as it comes.
    pub(crate) async fn into_stream(self) -> Result<Incoming> {
        let (head, body) = self.0.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        succeeded(head.status, &body.collect().await?.to_bytes())?;
        bail!("unreachable: {} is no success", head.status)
    }
}

fn succeeded(status: StatusCode, body: &[u8]) -> Result<()> {
    if status.is_success() {
        return Ok(());
    }
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = said.as_ref().and_then(|s| s.get("message")?.as_str());
    bail!("{status}: {}", message.map_or_else(|| String::from_utf8_lossy(body), Into::into))
}
