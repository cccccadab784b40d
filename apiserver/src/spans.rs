//! Spans of requests: one for the whole way and one for each stage, for a collector that speaks OTLP.
//!
//! Costs nothing where there is no `--tracing-config-file`, and little for requests that are not sampled. Never changes an answer, and
//! never waits for the collector. Source: KEP-647; W3C Trace Context.

mod asking;
mod export;

pub(crate) use asking::{Asked, Asking, Context, passed_through};

use crate::answer::{Answer, Body};
use crate::authn::User;
use crate::road::received::{Received, RequestInfo};
use crate::road::timed::{Passage, Steps};
use crate::{configuration, sockets};
use export::{Exporter, number, text};
use jiff::Timestamp;
use rand::Rng as _;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use wire::{KeyValue, Link, Span, Status};

/// Messages and clients generated from `proto/trace.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications, dead_code)]
mod wire {
    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
}

/// Where OTLP is spoken by default.
const COLLECTOR: &str = "localhost:4317";
/// OTLP's numbers of kinds and states.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;
/// Whose word on sampling counts; for others it is a link, not a parent.
const TRUSTED: [&str; 2] = ["system:masters", "system:monitoring"];

/// What the file of `--tracing-config-file` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Host and port, or a Unix socket as gRPC names one.
    pub endpoint: String,
    /// Of a million requests without a parent that counts, so many are recorded.
    pub per_million: u32,
}

#[derive(serde::Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct File {
    endpoint: Option<String>,
    sampling_rate_per_million: Option<i32>,
}

impl Settings {
    /// Reads a `TracingConfiguration`.
    ///
    /// # Errors
    /// One sentence.
    pub fn parse(text: &[u8]) -> Result<Settings, String> {
        let versions = ["v1", "v1beta1", "v1alpha1"].map(|version| format!("apiserver.config.k8s.io/{version}"));
        let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
        let file: File = configuration::parse(text, "TracingConfiguration", &versions)?;
        let rate = file.sampling_rate_per_million.unwrap_or(0);
        let refused = |why: &str| Err(format!("tracing.samplingRatePerMillion: Invalid value: {rate}: {why}"));
        if rate < 0 {
            return refused("sampling rate must be positive");
        }
        if rate > 1_000_000 {
            return refused("sampling rate per million must be less than or equal to one million");
        }
        let endpoint = file.endpoint.unwrap_or_else(|| COLLECTOR.to_owned());
        if let Some((scheme, _)) = endpoint.split_once("://")
            && !["dns", "unix", "unix-abstract"].contains(&scheme)
        {
            return Err(format!(
                "tracing.endpoint: Invalid value: {endpoint:?}: unsupported scheme: {scheme}.  Options are none, dns, unix, or unix-abstract.  See https://github.com/grpc/grpc/blob/master/doc/naming.md"
            ));
        }
        Ok(Settings { endpoint, per_million: rate.unsigned_abs() })
    }
}

/// What a client says of the trace that its request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

impl Parent {
    /// From a `traceparent` header.
    fn read(header: &str) -> Option<Parent> {
        fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
            let plain = text.len() == 2 * N && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if !plain {
                return None;
            }
            let mut out = [0; N];
            for (byte, at) in out.iter_mut().zip((0..).step_by(2)) {
                *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
            }
            Some(out)
        }
        let mut parts = header.trim().split('-');
        let [version]: [u8; 1] = bytes(parts.next()?)?;
        let (trace, span) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags]: [u8; 1] = bytes(parts.next()?)?;
        let known = version != 0xff && (version != 0 || parts.next().is_none());
        (known && trace != [0; 16] && span != [0; 8]).then_some(Parent { trace, span, sampled: flags & 1 == 1 })
    }
}

/// What becomes of a request: whether it is recorded, and below or beside which span.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Unseen,
    Below(Parent),
    Alone(Option<Parent>),
}

/// `drawn` is a number below a million, the same for no two requests on purpose.
fn choose(parent: Option<Parent>, trusted: bool, per_million: u32, drawn: u32) -> Choice {
    match parent {
        Some(parent) if trusted && parent.sampled => Choice::Below(parent),
        Some(_) if trusted => Choice::Unseen,
        parent if drawn < per_million => Choice::Alone(parent),
        _ => Choice::Unseen,
    }
}

/// Makes spans and has them sent.
pub struct Tracer {
    per_million: u32,
    exporter: Exporter,
}

impl Tracer {
    /// Sends to the collector that the settings name, in the name of `instance`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// One sentence: the name of a collector that cannot be one.
    pub fn open(settings: &Settings, instance: &str) -> Result<Tracer, String> {
        let channel = sockets::channel(&settings.endpoint, export::PATIENCE)?;
        Ok(Tracer { per_million: settings.per_million, exporter: Exporter::open(channel, instance) })
    }

    /// Sends what waits.
    pub async fn close(&self) {
        self.exporter.close().await;
    }
}

/// `GET /api/v1/namespaces/{:namespace}/pods/{:name}/log`: upstream's names, which no client can multiply.
fn name(method: &str, info: &RequestInfo) -> String {
    if !info.is_resource {
        return method.to_owned();
    }
    let mut out = format!("{method} /{}", if info.group.is_empty() { "api" } else { "apis" });
    for (part, shown) in [
        (&info.group, info.group.as_str()),
        (&info.version, info.version.as_str()),
        (&info.namespace, "namespaces/{:namespace}"),
        (&info.resource, info.resource.as_str()),
        (&info.name, "{:name}"),
        (&info.subresource, info.subresource.as_str()),
    ] {
        if !part.is_empty() {
            out.push('/');
            out.push_str(shown);
        }
    }
    out
}

/// What a request carries of its spans. They are sent when it is dropped: a request that is given up has spans as well.
pub(crate) struct Trip {
    tracer: Arc<Tracer>,
    came: Timestamp,
    steps: Steps,
    open: RefCell<Option<Open>>,
}

/// That of a request that is recorded.
struct Open {
    whole: Span,
    /// Fixed when the answer is known; what follows is the answer's.
    stages: Vec<(&'static str, Duration, Duration)>,
    /// Within the stages.
    parts: Vec<Passage>,
    /// The answer is whole: the time until it was written has a span as well.
    whole_answer: bool,
}

impl Trip {
    /// That of a request that has just come; nothing is recorded yet.
    #[must_use]
    pub(crate) fn new(tracer: &Arc<Tracer>, steps: &Steps) -> Rc<Trip> {
        let (tracer, steps) = (Arc::clone(tracer), steps.clone());
        Rc::new(Trip { tracer, came: Timestamp::now(), steps, open: RefCell::new(None) })
    }

    /// The author is known, and with it whether the request is recorded.
    pub(crate) fn begin(&self, received: &Received, user: &User) {
        let parent = received.header("traceparent").and_then(Parent::read);
        let trusted = user.groups.iter().any(|group| TRUSTED.contains(&group.as_str()));
        let mut random = rand::rng();
        let choice = choose(parent, trusted, self.tracer.per_million, random.random_range(0..1_000_000));
        let (trace, parent, link) = match choice {
            Choice::Unseen => (parent.filter(|_| trusted).map(|parent| parent.trace), None, None),
            Choice::Below(parent) => (Some(parent.trace), Some(parent.span), None),
            Choice::Alone(link) => (None, None, link),
        };
        let recorded = choice != Choice::Unseen;
        // Who begins a trace of its own is in no other system's any more.
        let said = |name: &str| received.header(name).unwrap_or_default().to_owned();
        let state = if trace.is_some() { said("tracestate") } else { String::new() };
        let (trace, span) = (trace.unwrap_or_else(|| random.random()), random.random::<[u8; 8]>());
        self.steps.place(Context { trace, span, flags: u8::from(recorded), recorded, state, baggage: said("baggage") });
        if !recorded {
            return;
        }
        let whole = Span {
            trace_id: trace.to_vec(),
            span_id: span.to_vec(),
            parent_span_id: parent.map(|parent| parent.to_vec()).unwrap_or_default(),
            name: name(received.method.as_str(), &received.info),
            kind: SERVER,
            start_time_unix_nano: nanos(self.came),
            attributes: attributes(received),
            links: link
                .map(|link| Link { trace_id: link.trace.to_vec(), span_id: link.span.to_vec() })
                .into_iter()
                .collect(),
            flags: 1,
            ..Span::default()
        };
        self.open.replace(Some(Open { whole, stages: Vec::new(), parts: Vec::new(), whole_answer: false }));
    }

    /// The request is recorded.
    pub(crate) fn is_open(&self) -> bool {
        self.open.borrow().is_some()
    }

    /// The answer is known. The span ends when nobody holds it any more.
    pub(crate) fn answered(&self, answer: Answer) -> Answer {
        if let Some(open) = &mut *self.open.borrow_mut() {
            open.whole_answer = !matches!(answer.body, Body::Stream(_));
            (open.stages, open.parts) = (self.steps.lasted(), self.steps.parts());
            open.whole.attributes.push(number("http.response.status_code", i64::from(answer.code)));
            // A refusal is the client's failure, as OpenTelemetry sees it.
            open.whole.status = (answer.code >= 500).then(|| Status { message: String::new(), code: ERROR });
        }
        answer
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        let Some(Open { mut whole, mut stages, mut parts, whole_answer }) = self.open.get_mut().take() else { return };
        if stages.is_empty() {
            (stages, parts) = (self.steps.lasted(), self.steps.parts());
        }
        if let Some((_, _, left)) = stages.last().copied().filter(|_| whole_answer) {
            stages.push(("response-write", left, self.steps.elapsed()));
        }
        let mut asked = self.steps.take_asked();
        let at = |after: Duration| nanos(self.came).saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let inner = |name: &str, parent: &[u8], from: Duration, until: Duration| Span {
            trace_id: whole.trace_id.clone(),
            span_id: rand::rng().random::<[u8; 8]>().to_vec(),
            parent_span_id: parent.to_vec(),
            name: name.to_owned(),
            kind: INTERNAL,
            start_time_unix_nano: at(from),
            end_time_unix_nano: at(until),
            flags: 1,
            ..Span::default()
        };
        let mut spans: Vec<Span> = Vec::with_capacity(stages.len() + parts.len() + 1);
        let mut within = Vec::with_capacity(parts.len());
        for (stage, entered, left) in stages {
            let span = inner(stage, &whole.span_id, entered, left);
            let own = parts.extract_if(.., |(_, from, _)| *from < left);
            within.extend(own.map(|(part, from, until)| inner(part.names().1, &span.span_id, from, until.min(left))));
            let own = asked.extract_if(.., |(_, from, _)| *from < left);
            within.extend(own.map(|(asked, from, until)| asked.span(inner("", &span.span_id, from, until.min(left)))));
            spans.push(span);
        }
        spans.append(&mut within);
        let last = spans.iter().map(|span| span.end_time_unix_nano).max().unwrap_or_default();
        whole.end_time_unix_nano = nanos(Timestamp::now()).max(last);
        // Whole requests come behind their parts, as they end.
        spans.push(whole);
        self.tracer.exporter.give(spans);
    }
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

/// By the names of OpenTelemetry's conventions for HTTP, and upstream's two more.
fn attributes(received: &Received) -> Vec<KeyValue> {
    let said = |name: &str| received.header(name).unwrap_or_default();
    let host = received.request.connection_info().host().to_owned();
    let peer = received.peer.address.map(|address| address.ip().to_string()).unwrap_or_default();
    let forwarded = said("x-forwarded-for").split(',').next().unwrap_or_default().trim();
    let client = if forwarded.is_empty() { peer.as_str() } else { forwarded };
    let named = [
        ("server.address", host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host)),
        ("http.request.method", received.method.as_str()),
        ("url.scheme", "https"),
        ("url.path", received.info.path.as_str()),
        ("network.peer.address", peer.as_str()),
        ("client.address", client),
        ("user_agent.original", said("user-agent")),
        ("http.target", received.target.as_str()),
        ("audit-id", received.id().get(..64).unwrap_or(received.id())),
    ];
    named.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| text(key, value)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::road::received::Query;

    #[test]
    fn files_are_read_as_upstream_reads_them() {
        let check = |body: &str, want: Result<(&str, u32), &str>| {
            let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n{body}");
            match (Settings::parse(text.as_bytes()), want) {
                (Ok(got), Ok((endpoint, per_million))) => {
                    assert_eq!(got, Settings { endpoint: endpoint.to_owned(), per_million }, "{body}");
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{body}: {got}"),
                (got, want) => panic!("{body}: {got:?}, not {want:?}"),
            }
        };
        check("", Ok(("localhost:4317", 0)));
        check("endpoint: collector:1\nsamplingRatePerMillion: 100", Ok(("collector:1", 100)));
        check("endpoint: dns:///collector:1", Ok(("dns:///collector:1", 0)));
        check("endpoint: unix:///run/otlp.sock", Ok(("unix:///run/otlp.sock", 0)));
        check("samplingRatePerMillion: -1", Err("sampling rate must be positive"));
        check("samplingRatePerMillion: 1000001", Err("less than or equal to one million"));
        check("endpoint: http://a", Err("unsupported scheme: http"));
        check("rate: 1", Err("unknown field `rate`"));
        assert!(Settings::parse(b"apiVersion: v1\nkind: Pod").is_err());
    }

    #[test]
    fn parents_count_where_their_sender_is_trusted() {
        let header = |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let sampled = Parent::read(&header("01")).unwrap();
        assert_eq!((sampled.trace[0], sampled.span[7], sampled.sampled), (0x0a, 0x31, true));
        let quiet = Parent::read(&header("00")).unwrap();
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            &header("1"),
            &header("01-x"),
            &header("0G"),
        ] {
            assert_eq!(Parent::read(bad), None, "{bad}");
        }
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        assert_eq!(Parent::read(zero), None);
        let all = 1_000_000;
        for (parent, trusted, per_million, drawn, want) in [
            (None, true, 0, 0, Choice::Unseen),
            (None, false, 10, 9, Choice::Alone(None)),
            (None, false, 10, 10, Choice::Unseen),
            (Some(sampled), true, 0, 0, Choice::Below(sampled)),
            (Some(quiet), true, all, 0, Choice::Unseen),
            (Some(sampled), false, 0, 0, Choice::Unseen),
            (Some(sampled), false, all, 0, Choice::Alone(Some(sampled))),
        ] {
            assert_eq!(choose(parent, trusted, per_million, drawn), want, "{parent:?} {trusted} {per_million} {drawn}");
        }
    }

    #[test]
    fn names_tell_the_route_and_not_the_object() {
        for (path, want) in [
            ("/api/v1/namespaces/a/pods/p/log", "GET /api/v1/namespaces/{:namespace}/pods/{:name}/log"),
            ("/apis/apps/v1/deployments", "GET /apis/apps/v1/deployments"),
            ("/healthz/x", "GET"),
        ] {
            assert_eq!(name("GET", &RequestInfo::parse("GET", path, &Query::parse(""))), want);
        }
    }
}
