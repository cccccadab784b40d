//! Stage 1: what is asked. Path and method become a `RequestInfo`; a target that cannot be read is refused.
//!
//! Never reads the body and never looks at who asks.

use crate::answer::{Answer, Failure};
use crate::audit::Slip;
use crate::authn::User;
use crate::metrics::{self, lasting::Running};
use crate::road::negotiated::{self, Medium};
use crate::road::seated::Matched;
use crate::road::timed::Steps;
use crate::spans::Trip;
use crate::transport::{Peer, Trusted};
use crate::verb::apply;
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, web};
use api::request::broken_escape;
use api::status::Status;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use api::request::{Query, RequestInfo};

/// For the log line and the metrics of one request.
#[derive(Clone, Debug)]
pub struct Trace {
    /// `Audit-ID`.
    pub id: String,
    /// See `RequestInfo`.
    pub info: Arc<RequestInfo>,
    /// When the request arrived.
    pub start: Instant,
    /// `gzip` is acceptable to the client.
    pub gzip: bool,
    /// In what form a refusal is read.
    pub refused: Medium,
    /// The verb as which it is counted.
    pub counted: &'static str,
    /// What it is counted as beside that: see `metrics::dry_run` and `metrics::system_client`.
    pub dry_run: &'static str,
    /// Of the same.
    pub client: &'static str,
}

/// What records and counts a request.
pub(crate) type Records = (Option<Rc<Slip>>, Option<Rc<Trip>>, Option<Rc<Running>>);

/// A request whose meaning is known, and nothing else. It goes from stage to stage in a box: it is large.
pub struct Received {
    /// HTTP method.
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Decoded query.
    pub query: Query,
    /// What is asked.
    pub info: Arc<RequestInfo>,
    /// The body, unread.
    pub body: Body,
    /// Other end.
    pub peer: Rc<Peer>,
    /// For taking over the connection.
    pub request: HttpRequest,
    /// For the audit, where there is one.
    pub slip: Option<Rc<Slip>>,
    /// For spans, where there are any.
    pub(crate) trip: Option<Rc<Trip>>,
    /// Counts it among those that last.
    pub(crate) lasting: Option<Rc<Running>>,
    pub(super) trusted: Option<User>,
    pub(super) matched: Matched,
    /// What the client is told of its credentials.
    pub(super) warned: Rc<OnceCell<&'static str>>,
    pub(crate) steps: Steps,
    id: String,
}

/// A body that may still be unread. Clones share it.
#[derive(Clone)]
pub struct Body(Rc<RefCell<Payload>>);

/// How much of a body that nobody wanted is still read, and for how long.
const DRAINED: (usize, Duration) = (64 * 1024, Duration::from_millis(200));

impl Body {
    /// The body, to be read by the caller; empty the second time.
    #[must_use]
    pub fn take(&self) -> Payload {
        std::mem::replace(&mut *self.0.borrow_mut(), Payload::None)
    }

    /// Reads a small body that nobody has taken to its end: over HTTP/2 a stream that is answered before it is read ends with
    /// a reset, and some clients then lose the answer.
    pub async fn drain(&self) {
        use futures::StreamExt as _;
        let mut payload = self.take();
        let (most, time) = DRAINED;
        let read = async {
            let mut read = 0;
            while read < most
                && let Some(Ok(chunk)) = payload.next().await
            {
                read += chunk.len();
            }
        };
        let _ = tokio::time::timeout(time, read).await;
    }
}

impl Received {
    /// The answer to a request of which the path does not say what it is about, before anybody asks who sends it.
    #[must_use]
    pub fn unclear(&self) -> Option<Answer> {
        if !self.info.unclear {
            return None;
        }
        let target = self.target.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let why = "failed to create RequestInfo: unable to determine kind and namespace from url";
        let text = format!("Internal Server Error: {target:?}: {why}, {}\n", self.info.path);
        Some(Answer::bytes(500, "text/plain; charset=utf-8", text).with("x-content-type-options", "nosniff"))
    }

    /// What the log needs after the request is gone.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace {
            id: self.id.clone(),
            info: Arc::clone(&self.info),
            start: Instant::now(),
            counted: metrics::verb(self.method.as_str(), &self.info, self.header("content-type") == Some(apply::MEDIA)),
            dry_run: metrics::dry_run(&self.query),
            client: metrics::system_client(self.header("user-agent").unwrap_or_default()),
            gzip: self.header("accept-encoding").is_some_and(|value| value.contains("gzip")),
            refused: self.refused(),
        }
    }

    /// In what form a refusal is read: the one that the client asks for, without what it makes of objects.
    #[must_use]
    pub fn refused(&self) -> Medium {
        negotiated::of_refusals(self.header("accept"), self.pretty())
    }

    /// Whether JSON is to be indented: the client says so, or seems to be a person.
    #[must_use]
    pub fn pretty(&self) -> bool {
        match self.query.get("pretty") {
            // Go's notion of a boolean, which is not that of other parameters.
            Some(said) if !said.is_empty() => matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True"),
            _ => {
                let agent = self.header("user-agent").unwrap_or_default();
                ["curl", "Wget", "Mozilla/5.0"].iter().any(|person| agent.starts_with(person))
            }
        }
    }

    /// `Audit-ID`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What records and counts the request, for work that goes on when its answer is gone.
    pub(crate) fn records(&self) -> Records {
        (self.slip.clone(), self.trip.clone(), self.lasting.clone())
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        // A header holds no control characters: ASCII is all that has to be looked for, which is quick even for a token.
        self.headers
            .get(name)
            .map(HeaderValue::as_bytes)
            .filter(|value| value.is_ascii())
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// Stage 1.
///
/// # Errors
/// 400 for a target that cannot be read.
pub fn receive(request: &HttpRequest, headers: HeaderMap, body: web::Payload) -> Result<Box<Received>, Failure> {
    let peer = request.extensions().get::<Rc<Peer>>().map(Rc::clone);
    let Some(peer) = peer else {
        return Err(Failure::Status(Status::internal("a request came without a connection")));
    };
    if let Some(broken) = broken_escape(request.uri().path()) {
        return Err(Status::bad_request(format!("invalid URL escape {broken:?}")).into());
    }
    let query = Query::parse(request.query_string());
    let id = headers.get("audit-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let id = id.map_or_else(crate::uid::random, str::to_owned);
    Ok(Box::new(Received {
        method: request.method().clone(),
        target: target(request),
        headers,
        info: Arc::new(RequestInfo::parse(request.method().as_str(), request.uri().path(), &query)),
        id,
        trusted: request.extensions().get::<Trusted>().map(|trusted| trusted.0.clone()),
        request: request.clone(),
        matched: Matched::default(),
        warned: Rc::default(),
        steps: Steps::begin("identified"),
        trip: None,
        lasting: None,
        query,
        body: Body(Rc::new(RefCell::new(body.into_inner()))),
        slip: None,
        peer,
    }))
}

/// Path and query as sent.
fn target(request: &HttpRequest) -> String {
    let uri = request.uri();
    match uri.path_and_query().filter(|_| uri.authority().is_none()) {
        Some(target) => target.as_str().to_owned(),
        None => uri.to_string(),
    }
}
