//! Stage 1: what is asked. Path and method become a `RequestInfo`; limits on the target are enforced.
//!
//! Never reads the body and never looks at who asks. Source: upstream's request info (`apiserver/pkg/endpoints/request`).

use crate::answer::Failure;
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
use api::status::Status;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The query string, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// From the text behind the `?`.
    #[must_use]
    pub fn parse(text: &str) -> Query {
        Query(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean parameter as upstream reads it: present and neither `0` nor `false`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false"))
    }
}

/// What a request asks for, from path, method and query alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The path below `/api` or `/apis` names a resource.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method otherwise.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace; empty for cluster-wide requests.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// `status`, `log`, ...
    pub subresource: String,
    /// Object; empty for collections.
    pub name: String,
    /// What follows the subresource, for `proxy`.
    pub rest: Vec<String>,
    /// The path without its percents: a slash is a slash however it is written.
    pub path: String,
    /// What a route names is empty, or there is a slash too many before all: nothing is there, whoever asks.
    pub gaps: bool,
    /// `fieldSelector` of a collection, as written.
    pub field_selector: Option<String>,
    /// `labelSelector` of a collection, as written.
    pub label_selector: Option<String>,
}

impl RequestInfo {
    /// Reads method, path and query as upstream does: slashes behind all do not count, those side by side hold an empty part, and `.` and `..`
    /// are names like others.
    #[must_use]
    pub fn parse(method: &str, path: &str, query: &Query) -> RequestInfo {
        let path = decoded(path);
        let parts: Vec<String> = match path.trim_matches('/') {
            "" => Vec::new(),
            parts => parts.split('/').map(str::to_owned).collect(),
        };
        let gaps = path.starts_with("//");
        let mut info = RequestInfo { verb: method.to_ascii_lowercase(), path, gaps, ..RequestInfo::default() };
        let mut rest = match parts.split_first() {
            Some((first, rest)) if first == "api" && rest.len() >= 2 => rest,
            Some((first, rest)) if first == "apis" && rest.len() >= 3 => {
                if let Some((group, rest)) = rest.split_first() {
                    info.group.clone_from(group);
                    rest
                } else {
                    return info;
                }
            }
            _ => return info,
        };
        info.is_resource = true;
        if let Some((version, tail)) = rest.split_first() {
            info.version.clone_from(version);
            rest = tail;
        }
        info.gaps |=
            info.version.is_empty() || info.group.is_empty() && parts.first().is_some_and(|part| part == "apis");
        let mut watching = false;
        if let (Some(first), true) = (rest.first(), rest.len() > 1)
            && first == "watch"
        {
            watching = true;
            rest = rest.get(1..).unwrap_or_default();
        }
        info.verb = match method {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        }
        .to_owned();
        let mut homeless = false;
        if let [first, namespace, tail @ ..] = rest
            && first == "namespaces"
        {
            info.namespace.clone_from(namespace);
            let own = tail.first().is_none_or(|part| part == "status" || part == "finalize");
            if !own {
                homeless = namespace.is_empty();
                rest = tail;
            }
        }
        let mut tail = rest.iter();
        info.resource = tail.next().cloned().unwrap_or_default();
        info.name = tail.next().cloned().unwrap_or_default();
        info.subresource = tail.next().cloned().unwrap_or_default();
        info.rest = tail.cloned().collect();
        info.gaps |= info.resource.is_empty()
            || info.name.is_empty() && !info.subresource.is_empty()
            || info.subresource.is_empty() && !info.rest.is_empty();
        if info.name.is_empty() {
            if info.verb == "get" {
                info.verb = if watching || query.flag("watch") { "watch" } else { "list" }.to_owned();
                // A collection narrowed to one name is authorized like that object.
                if let Some(selector) = query.get("fieldSelector")
                    && let Ok(selector) = api::selector::FieldSelector::parse(selector)
                    && let Some(name) = selector.required("metadata.name")
                    && !name.contains(['/', '%'])
                    && !matches!(name, "." | "..")
                {
                    info.name = name.to_owned();
                }
            } else if info.verb == "delete" {
                info.verb = "deletecollection".to_owned();
            }
        } else if info.verb == "get" && watching {
            info.verb = "watch".to_owned();
        }
        // A collection of no namespace is that of all.
        info.gaps |= homeless && !matches!(info.verb.as_str(), "list" | "watch");
        if !watching && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            let given = |name: &str| query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
            info.field_selector = given("fieldSelector");
            info.label_selector = given("labelSelector");
        }
        info
    }
}

/// A path without its percents.
fn decoded(path: &str) -> String {
    if !path.as_bytes().contains(&b'%') {
        return path.to_owned();
    }
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// A percent without its two digits, as the path has it.
fn broken_escape(path: &str) -> Option<&str> {
    let digits =
        |at: usize| path.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let (at, _) = path.match_indices('%').find(|(at, _)| !digits(*at))?;
    let end = path.char_indices().map(|(at, _)| at).find(|end| *end >= at + 3).unwrap_or(path.len());
    path.get(at..end)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, expected: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let info = RequestInfo::parse(method, path, &Query::parse(query));
        let shown = format!(
            "{} {}/{} ns={} {}/{} name={} rest={}",
            info.verb,
            info.group,
            info.version,
            info.namespace,
            info.resource,
            info.subresource,
            info.name,
            info.rest.join("/")
        );
        assert_eq!(shown, expected, "{method} {target}");
    }

    #[test]
    fn paths_become_what_they_ask_for() {
        check("GET", "/api/v1/namespaces", "list /v1 ns= namespaces/ name= rest=");
        check("GET", "/api/v1/namespaces/a", "get /v1 ns=a namespaces/ name=a rest=");
        check("PUT", "/api/v1/namespaces/a/finalize", "update /v1 ns=a namespaces/finalize name=a rest=");
        check("GET", "/api/v1/namespaces/a/pods?watch=true", "watch /v1 ns=a pods/ name= rest=");
        check("GET", "/api/v1/watch/namespaces/a/pods", "watch /v1 ns=a pods/ name= rest=");
        check("GET", "/api/v1/namespaces/a/pods/p/log", "get /v1 ns=a pods/log name=p rest=");
        check("POST", "/apis/apps/v1/namespaces/a/deployments", "create apps/v1 ns=a deployments/ name= rest=");
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection apps/v1 ns=a deployments/ name= rest=",
        );
        check("GET", "/api/v1/nodes/n/proxy/stats/summary", "get /v1 ns= nodes/proxy name=n rest=stats/summary");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list /v1 ns= pods/ name=x rest=");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Da%2Fb", "list /v1 ns= pods/ name= rest=");
        check("GET", "/version", "get / ns= / name= rest=");
        check("GET", "/apis/apps/v1", "get / ns= / name= rest=");
    }

    #[test]
    fn slashes_and_dots_mean_what_they_mean_upstream() {
        let gaps = |target: &str, expected: &str, gaps: bool| {
            check("GET", target, expected);
            assert_eq!(RequestInfo::parse("GET", target, &Query::default()).gaps, gaps, "{target}");
        };
        gaps("/api/v1/pods/", "list /v1 ns= pods/ name= rest=", false);
        gaps("/api/v1/pods//", "list /v1 ns= pods/ name= rest=", false);
        gaps("//api/v1/pods", "list /v1 ns= pods/ name= rest=", true);
        gaps("/api/v1//pods", "get /v1 ns= / name=pods rest=", true);
        gaps("/api//v1/pods", "get / ns= v1/ name=pods rest=", true);
        gaps("/apis//v1/pods", "list /v1 ns= pods/ name= rest=", true);
        gaps("/api/v1/namespaces//pods", "list /v1 ns= pods/ name= rest=", false);
        gaps("/api/v1/namespaces//pods/p", "get /v1 ns= pods/ name=p rest=", true);
        gaps("/api/v1/namespaces/a//p", "get /v1 ns=a / name=p rest=", true);
        gaps("/api/v1/namespaces/a/pods//log", "list /v1 ns=a pods/log name= rest=", true);
        gaps("/api/v1/namespaces/a/pods/p//x", "get /v1 ns=a pods/ name=p rest=x", true);
        gaps("/api/v1/namespaces/a/pods/p/proxy//x", "get /v1 ns=a pods/proxy name=p rest=/x", false);
        gaps("/api/v1/namespaces/a%2fpods%2Fp", "get /v1 ns=a pods/ name=p rest=", false);
        gaps("/api/v1/namespaces/a%252fpods", "get /v1 ns=a%2fpods namespaces/ name=a%2fpods rest=", false);
        gaps("/api/v1/namespaces/a/../b/secrets", "get /v1 ns=a ../secrets name=b rest=", false);
        gaps("/%61pi/v1/pods", "list /v1 ns= pods/ name= rest=", false);
        gaps("//version", "get / ns= / name= rest=", true);
        for (path, broken) in
            [("/a%2fb", None), ("/a%2", Some("%2")), ("/%zz/a", Some("%zz")), ("/%", Some("%")), ("/%2é", Some("%2é"))]
        {
            assert_eq!(broken_escape(path), broken, "{path}");
        }
    }

    /// A path that this is read from, in its plainest form.
    fn written(info: &RequestInfo) -> String {
        let encoded =
            |part: &String| percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string();
        let mut parts =
            if info.group.is_empty() { vec!["api".to_owned()] } else { vec!["apis".to_owned(), encoded(&info.group)] };
        parts.push(encoded(&info.version));
        if !info.namespace.is_empty() && info.resource != "namespaces" {
            parts.extend(["namespaces".to_owned(), encoded(&info.namespace)]);
        }
        parts.extend(
            [&info.resource, &info.name, &info.subresource].into_iter().filter(|part| !part.is_empty()).map(encoded),
        );
        parts.extend(info.rest.iter().map(encoded));
        format!("/{}", parts.join("/"))
    }

    #[test]
    fn whatever_is_sent_has_one_meaning() {
        use rand::{Rng as _, SeedableRng as _};
        const PIECES: [&str; 34] = [
            "api",
            "apis",
            "v1",
            "apps",
            "namespaces",
            "default",
            "pods",
            "p",
            "status",
            "finalize",
            "log",
            "proxy",
            "watch",
            "exec",
            "..",
            ".",
            "",
            "%2f",
            "%2F..",
            "%2e%2e",
            "%00",
            "%",
            "%zz",
            "%ff",
            "%25%32%66",
            "a%2fb",
            "\u{e9}",
            "*",
            ";",
            "a b",
            "\\",
            "?",
            "#",
            "~",
        ];
        const QUERIES: [&str; 6] = [
            "",
            "watch=true",
            "watch=0",
            "fieldSelector=metadata.name%3Dx",
            "fieldSelector=%",
            "labelSelector=a&labelSelector=b",
        ];
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        for _ in 0..50_000 {
            let mut path = String::new();
            for _ in 0..random.random_range(0..9) {
                path.push_str(if random.random_range(0..8) > 0 { "/" } else { "" });
                path.push_str(PIECES[random.random_range(0..PIECES.len())]);
            }
            let method = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "TRACE", ""][random.random_range(0..8)];
            let query = Query::parse(QUERIES[random.random_range(0..QUERIES.len())]);
            let info = RequestInfo::parse(method, &path, &query);
            let shown = format!("seed {seed}: {method} {path}: {info:?}");
            // No resource is none at all: who may see a path may see nothing that has a name.
            let named = [&info.group, &info.version, &info.namespace, &info.resource, &info.name, &info.subresource];
            if !info.is_resource {
                // A group may have been read before the path turned out to be too short.
                assert!(named[2..].iter().all(|part| part.is_empty()), "{shown}");
                continue;
            }
            assert!(named.iter().all(|part| !part.contains("%2f") || path.contains("%25")), "{shown}");
            if info.gaps {
                continue;
            }
            assert!(!info.subresource.is_empty() || info.rest.is_empty(), "{shown}");
            // What was understood, written plainly, is understood the same way: nothing hides in how it is written.
            let own = ["", "status", "finalize"].contains(&info.subresource.as_str());
            let itself = info.resource != "namespaces" || (info.namespace == info.name && own);
            let verbatim = info.verb != "watch" && itself;
            let selected = query.get("fieldSelector").is_some()
                && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection" | "get");
            if verbatim && !selected && info.resource != "watch" && !info.version.is_empty() {
                let again =
                    RequestInfo { path: info.path.clone(), ..RequestInfo::parse(method, &written(&info), &query) };
                assert_eq!(again, info, "{shown}\n{}", written(&info));
            }
        }
    }
}
