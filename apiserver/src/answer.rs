//! Answers: bytes, headers, and the only place where an error becomes a `metav1.Status`.
//!
//! Never decides what to answer.

use crate::encoded::encode;
use crate::road::negotiated::Medium;
use crate::road::received::Trace;
use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WARNING};
use api::status::{ResourceName, Status};
use bytes::Bytes;
use futures::Stream;
use futures::stream::LocalBoxStream;
use std::io::Write as _;
use storage::store::StoreError;

/// The body of an answer.
pub enum Body {
    /// Whole.
    Bytes(Bytes),
    /// Whole, in pieces that are made as they are sent; the number is their total length.
    Pieces(Box<dyn Iterator<Item = Bytes>>, u64),
    /// As it comes.
    Stream(LocalBoxStream<'static, Result<Bytes, std::io::Error>>),
}

impl Body {
    /// Puts pieces together, for who must see all of it before it is sent.
    pub fn gather(&mut self) {
        if let Body::Pieces(pieces, length) = self {
            let mut whole = Vec::with_capacity(usize::try_from(*length).unwrap_or(0));
            pieces.by_ref().for_each(|piece| whole.extend_from_slice(&piece));
            *self = Body::Bytes(whole.into());
        }
    }
}

/// What a verb answers.
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// `Content-Type`; empty for none.
    pub content_type: &'static str,
    /// Body.
    pub body: Body,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// What the client is warned of, as it is said; each once.
    pub warnings: Vec<String>,
}

impl Answer {
    /// A whole body.
    #[must_use]
    pub fn bytes(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
        Answer::of(code, content_type, Body::Bytes(body.into()))
    }

    /// A whole body in pieces that are this long together.
    #[must_use]
    pub fn pieces(
        code: u16,
        content_type: &'static str,
        pieces: Box<dyn Iterator<Item = Bytes>>,
        length: usize,
    ) -> Answer {
        Answer::of(code, content_type, Body::Pieces(pieces, u64::try_from(length).unwrap_or(u64::MAX)))
    }

    /// An answer that says nothing beside its body.
    #[must_use]
    pub fn of(code: u16, content_type: &'static str, body: Body) -> Answer {
        Answer { code, content_type, body, headers: Vec::new(), warnings: Vec::new() }
    }

    /// For a path that nothing serves.
    #[must_use]
    pub fn no_such_page() -> Answer {
        Answer::bytes(404, "text/plain; charset=utf-8", "404 page not found\n")
            .with("x-content-type-options", "nosniff")
    }

    /// JSON as it is.
    ///
    /// Field order is the map's; objects with a schema are encoded by it instead.
    #[must_use]
    pub fn json(code: u16, value: &api::json::Value) -> Answer {
        Answer::bytes(code, "application/json", value.to_string())
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds headers.
    #[must_use]
    pub fn with_all(mut self, headers: Vec<(String, String)>) -> Answer {
        self.headers.extend(headers);
        self
    }

    /// Adds warnings behind those that are there.
    #[must_use]
    pub fn warn(mut self, warnings: impl IntoIterator<Item = String>) -> Answer {
        for warning in warnings {
            if !warning.is_empty() && !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        self
    }

    /// Adds a warning before all others.
    #[must_use]
    pub fn warn_first(mut self, warning: Option<String>) -> Answer {
        let others = std::mem::take(&mut self.warnings);
        self.warn(warning).warn(others)
    }
}

/// How many characters of warnings are sent whole.
const WARNED: usize = 4096;
/// How many of each are sent where there are more.
const WARNED_EACH: usize = 256;

/// `Warning` headers. Where they are too many together, all are cut, and those that come later left out.
fn warning_headers(warnings: &[String]) -> Vec<HeaderValue> {
    let length = |text: &str| text.chars().count();
    let sound = |text: &&String| !text.contains(char::is_control);
    let header = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()).ok()
    };
    let (mut all, mut over) = (0, warnings.len());
    for (at, warning) in warnings.iter().enumerate().filter(|(_, text)| sound(text)) {
        all += length(warning);
        if all > WARNED {
            over = at;
            break;
        }
    }
    if over == warnings.len() {
        return warnings.iter().filter(sound).filter_map(|text| header(text)).collect();
    }
    let (mut out, mut written) = (Vec::new(), 0);
    for (at, warning) in warnings.iter().enumerate().filter(|(_, text)| sound(text)) {
        if at > over && written >= WARNED {
            break;
        }
        let end = warning.char_indices().nth(WARNED_EACH).map_or(warning.len(), |(end, _)| end);
        written += length(warning).min(WARNED_EACH);
        out.extend(header(warning.get(..end).unwrap_or_default()));
    }
    out
}

/// Why a request fails, by what is known where it fails.
#[derive(Debug)]
pub enum Failure {
    /// Said already in the client's terms.
    Status(Status),
    /// The store refused.
    Store {
        /// Why.
        error: Box<StoreError>,
        /// Group and plural of what was touched.
        resource: (&'static str, &'static str),
        /// Its name.
        name: String,
    },
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Status(status)
    }
}

/// The sentence of a 410 for a watch or list from a compacted version.
fn too_old(oldest: u64) -> String {
    format!("too old resource version: the oldest kept is {oldest}")
}

/// The one place where an error becomes a `Status`.
#[must_use]
pub fn status(failure: Failure) -> Status {
    let (error, (group, plural), name) = match failure {
        Failure::Status(status) => return status,
        Failure::Store { error, resource, name } => (error, resource, name),
    };
    let resource = ResourceName { group, plural };
    match *error {
        StoreError::Expectation { found: None, .. } => Status::not_found(resource, &name),
        StoreError::Expectation { found: Some(_), .. } => Status::conflict(resource, &name, Status::STALE),
        StoreError::Claimed { item, .. } => {
            Status::conflict(resource, &name, &format!("{item} was allocated by another request"))
        }
        StoreError::Compacted { oldest } => Status::expired(too_old(oldest.0)),
        StoreError::Future { asked, latest } => {
            let why = format!("Timeout: Too large resource version: {asked}, current: {latest}");
            let mut status = Status::timeout(why, 1);
            status.details = api::json::json!({"retryAfterSeconds": 1, "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]});
            status
        }
        StoreError::TooLarge { size, limit, .. } => Status::too_large(format!(
            "Request entity too large: the object has {size} bytes, at most {limit} are stored"
        )),
        StoreError::Invalid(why) => Status::bad_request(why),
        StoreError::Unavailable(why) => {
            let mut status = Status::unavailable(why);
            status.details = api::json::json!({"retryAfterSeconds": 1});
            status
        }
        StoreError::Full(why) => Status::unavailable(format!("the store takes no writes: {why}")),
        StoreError::MaybeCommitted(why) => Status::timeout(format!("the write may or may not have happened: {why}"), 0),
        // Of one object people know which; a list says it.
        StoreError::Transform { why, .. } if !name.is_empty() => Status::internal(why),
        error @ (StoreError::Transform { .. } | StoreError::NotSealed { .. }) => Status::internal(error),
        error @ StoreError::Lost { .. } => Status::foreign(500, "StoreReadError", error.to_string()),
        error @ (StoreError::Corrupt(_) | StoreError::WrongFormat { .. } | StoreError::Locked(_)) => {
            tracing::error!(%error, "the store failed");
            Status::internal(error)
        }
    }
}

/// The code of what a request came to.
#[must_use]
pub fn code(outcome: &Result<Answer, Failure>) -> u16 {
    match outcome {
        Ok(answer) => answer.code,
        Err(Failure::Status(status)) => status.code,
        Err(Failure::Store { .. }) => 500,
    }
}

/// `Audit-ID`.
static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Answers below this size are not worth compressing (upstream's threshold).
const GZIP_FROM: usize = 128 * 1024;

/// The answer that a failure is, in the form that the client reads.
#[must_use]
pub fn refusal(failure: Failure, medium: Medium) -> Answer {
    let status = status(failure);
    let schema = api::schema::native().schema("io.k8s.apimachinery.pkg.apis.meta.v1.Status");
    let value = status.to_value();
    let body = schema.and_then(|schema| encode(medium, &value, schema).ok());
    let body = body.unwrap_or_else(|| value.to_string().into());
    let mut answer = Answer::bytes(status.code, medium.encoding.content_type(), body);
    // Only where waiting helps: clients try again by themselves, and a person waits for their last try.
    if let Some(seconds) = api::value::int(&status.details, "retryAfterSeconds").filter(|seconds| *seconds > 0) {
        answer = answer.with("retry-after", seconds.to_string());
    }
    if status.code == 401 {
        answer = answer.with("www-authenticate", "Bearer realm=\"kubernetes\"");
    }
    answer
}

/// Turns the outcome of a request into bytes and headers.
#[must_use]
pub fn render(outcome: Result<Answer, Failure>, trace: Option<&Trace>) -> HttpResponse {
    let answer = outcome.unwrap_or_else(|failure| refusal(failure, trace.map_or(Medium::JSON, |trace| trace.refused)));
    let code = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(code);
    // Names that are known need not be read.
    if !answer.content_type.is_empty() {
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static(answer.content_type)));
    }
    response.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache, private")));
    if let Some(id) = trace.and_then(|trace| HeaderValue::from_str(&trace.id).ok()) {
        response.insert_header((AUDIT_ID.clone(), id));
    }
    for (name, value) in &answer.headers {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) if name == "cache-control" || name == "content-type" => {
                response.insert_header((name, value));
            }
            (Ok(name), Ok(value)) => {
                response.append_header((name, value));
            }
            _ => tracing::warn!(name, "a header could not be sent"),
        }
    }
    if !answer.warnings.is_empty() {
        for value in warning_headers(&answer.warnings) {
            response.append_header((WARNING, value));
        }
    }
    match answer.body {
        Body::Bytes(bytes) if bytes.len() >= GZIP_FROM && trace.is_some_and(|trace| trace.gzip) => {
            gzip(&mut response, std::iter::once(bytes))
        }
        Body::Bytes(bytes) => response.body(bytes),
        Body::Pieces(pieces, length) if length >= GZIP_FROM as u64 && trace.is_some_and(|trace| trace.gzip) => {
            gzip(&mut response, pieces)
        }
        Body::Pieces(pieces, length) => {
            let pieces = futures::stream::iter(pieces.map(Ok::<_, std::io::Error>));
            response.body(SizedStream::new(length, pieces))
        }
        Body::Stream(stream) if code == StatusCode::SWITCHING_PROTOCOLS => {
            drop(stream);
            response.finish()
        }
        Body::Stream(stream) => response.streaming(stream),
    }
}

fn gzip(response: &mut actix_web::HttpResponseBuilder, mut pieces: impl Iterator<Item = Bytes>) -> HttpResponse {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = pieces.try_for_each(|piece| encoder.write_all(&piece)).and_then(|()| encoder.finish());
    match packed {
        Ok(packed) => {
            response.insert_header(("content-encoding", "gzip")).insert_header(("vary", "Accept-Encoding"));
            response.body(packed)
        }
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

/// A stream as a body.
#[must_use]
pub fn stream(
    content_type: &'static str,
    stream: impl Stream<Item = Result<Bytes, std::io::Error>> + 'static,
) -> Answer {
    Answer::of(200, content_type, Body::Stream(Box::pin(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::store::{Key, Revision};

    #[test]
    fn store_errors_become_upstreams_statuses() {
        let key = Key::new("pods", "ns", "a");
        let store = |error| status(Failure::Store { error: Box::new(error), resource: ("", "pods"), name: "a".into() });
        let found = storage::store::Versioned { revision: Revision(3), bytes: Bytes::new() };
        for (error, code, reason) in [
            (StoreError::Expectation { key: key.clone(), found: None }, 404, "NotFound"),
            (StoreError::Expectation { key: key.clone(), found: Some(found) }, 409, "Conflict"),
            (StoreError::Compacted { oldest: Revision(9) }, 410, "Expired"),
            (StoreError::Unavailable("x".into()), 503, "ServiceUnavailable"),
            (StoreError::MaybeCommitted("x".into()), 504, "Timeout"),
        ] {
            let status = store(error);
            assert_eq!((status.code, status.reason.as_ref()), (code, reason));
        }
        // A full disk does not empty itself within seconds.
        let retry = |error| render(Err(Failure::Status(store(error))), None).headers().contains_key("retry-after");
        assert!(retry(StoreError::Unavailable("x".into())) && !retry(StoreError::Full("x".into())));
    }

    #[test]
    fn warnings_are_said_once_and_in_bounds() {
        let check = |warnings: &[String], want: &[String]| {
            let answer = Answer::bytes(200, "", "").warn(warnings.iter().cloned());
            let got = render(Ok(answer), None);
            let got =
                got.headers().get_all("warning").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            assert_eq!(got.collect::<Vec<_>>(), want);
        };
        let said = |text: &str| format!("299 - \"{text}\"");
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        check(
            &texts(&["a", "", "a", "gr\u{f6}\u{df}er \"\\", "b\nc"]),
            &[said("a"), said("gr\u{f6}\u{df}er \\\"\\\\")],
        );
        let long = "\u{e9}".repeat(4097);
        check(std::slice::from_ref(&long), &[said(&"\u{e9}".repeat(256))]);
        check(&["\u{e9}".repeat(4096)], &[said(&"\u{e9}".repeat(4096))]);
        let many: Vec<String> = (10..40).map(|number| format!("{number}{}", "x".repeat(298))).collect();
        let cut: Vec<String> = many.iter().take(16).map(|text| said(&text[..256])).collect();
        check(&many, &cut);
    }
}
