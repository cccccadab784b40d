//! Between hyper's requests and responses and actix-web's: same bytes, other types.
//!
//! actix-web uses `http` 0.2, hyper `http` 1; both are spelled out here and nowhere else.

use super::connections::{Place, Session};
use super::going::Going;
use crate::authn::User;
use actix_http::header as old;
use actix_web::HttpMessage as _;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Payload, ServiceResponse};
use api::status::Status;
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use rustls_pki_types::CertificateDer;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Who is at the other end of the connection.
#[derive(Clone)]
pub struct Peer {
    /// Network address; `None` for calls from inside the process.
    pub address: Option<SocketAddr>,
    /// Certificates presented in the TLS handshake, leaf first, not yet verified for a user.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Identity of a caller inside the process, which needs no credentials.
#[derive(Clone)]
pub struct Trusted(pub User);

/// The connection after a `101 Switching Protocols`, to be taken once. Only requests that ask for it have one.
pub(crate) struct Upgrade {
    raw: RefCell<Option<hyper::upgrade::OnUpgrade>>,
    place: Arc<Place>,
}

impl Upgrade {
    /// The raw connection, once the answer is sent.
    pub(crate) fn take(&self) -> Option<hyper::upgrade::OnUpgrade> {
        self.raw.borrow_mut().take()
    }

    /// The place that the connection has while it is taken over.
    ///
    /// # Errors
    /// 429 where too many are.
    pub(crate) fn session(&self, user: &User) -> Result<Session, Status> {
        self.place.session(&user.name)
    }
}

/// Headers of a request, to be taken once: the request itself has none, so that they need not be copied out of it.
#[derive(Default)]
pub struct Headers(old::HeaderMap);

impl Headers {
    /// Those that a request came with.
    #[must_use]
    pub fn take(request: &actix_web::HttpRequest) -> old::HeaderMap {
        let own = request.extensions_mut().remove::<Headers>();
        own.map_or_else(|| request.headers().clone(), |own| own.0)
    }
}

fn head(request: &mut actix_http::Request, parts: &http::request::Parts) {
    let mut headers = old::HeaderMap::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        let name = old::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = old::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    request.extensions_mut().insert(Headers(headers));
    let head = request.head_mut();
    head.method = actix_http::Method::from_bytes(parts.method.as_str().as_bytes()).unwrap_or(actix_http::Method::GET);
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    head.uri = target.parse().unwrap_or_default();
    head.version =
        if parts.version == http::Version::HTTP_2 { actix_http::Version::HTTP_2 } else { actix_http::Version::HTTP_11 };
}

/// A request from the network; with the place of its connection, where that may be taken over.
pub(crate) fn from_hyper(
    mut request: hyper::Request<Incoming>,
    peer: &Rc<Peer>,
    place: Option<&Arc<Place>>,
    going: &Arc<Going>,
) -> actix_http::Request {
    let place = place.filter(|_| request.headers().contains_key("upgrade"));
    let upgrade = place.map(|place| (hyper::upgrade::on(&mut request), Arc::clone(place)));
    let (parts, body) = request.into_parts();
    let body: actix_http::BoxedPayloadStream = Box::pin(
        body.into_data_stream()
            .map(|chunk| chunk.map_err(|error| actix_http::error::PayloadError::Io(std::io::Error::other(error)))),
    );
    let mut out = actix_http::Request::with_payload(Payload::Stream { payload: body });
    head(&mut out, &parts);
    out.extensions_mut().insert(Rc::clone(peer));
    out.extensions_mut().insert(Arc::clone(going));
    if let Some((raw, place)) = upgrade {
        out.extensions_mut().insert(Upgrade { raw: RefCell::new(Some(raw)), place });
    }
    out
}

/// A request from inside the process.
pub(crate) fn from_local(request: http::Request<Bytes>, user: User) -> actix_http::Request {
    let (parts, body) = request.into_parts();
    let mut out = actix_http::Request::with_payload(Payload::from(body));
    head(&mut out, &parts);
    out.extensions_mut().insert(Rc::new(Peer { address: None, certificates: Vec::new() }));
    out.extensions_mut().insert(Trusted(user));
    out
}

/// Status and headers of an answer in hyper's types.
pub(crate) fn response_head<B>(response: &actix_web::HttpResponse<B>) -> http::response::Builder {
    let mut out = http::Response::builder().status(response.status().as_u16());
    for (name, value) in response.headers() {
        out = out.header(name.as_str(), value.as_bytes());
    }
    out
}

/// An answer on its way to the network.
pub(crate) fn to_hyper<B: MessageBody + 'static>(
    response: Result<ServiceResponse<B>, actix_web::Error>,
) -> Result<hyper::Response<WireBody>, std::io::Error> {
    let response = response.map_err(|error| std::io::Error::other(error.to_string()))?.into_parts().1;
    let head = response_head(&response);
    head.body(WireBody(response.into_body().boxed())).map_err(std::io::Error::other)
}

/// An actix-web body as hyper's.
pub(crate) struct WireBody(pub(crate) actix_web::body::BoxBody);

impl hyper::body::Body for WireBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.0).poll_next(cx).map(|chunk| {
            chunk.map(|chunk| chunk.map(Frame::data).map_err(|error| std::io::Error::other(error.to_string())))
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0.size(), BodySize::None | BodySize::Sized(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.size() {
            BodySize::None => SizeHint::with_exact(0),
            BodySize::Sized(length) => SizeHint::with_exact(length),
            BodySize::Stream => SizeHint::new(),
        }
    }
}
