//! Other servers that are asked on behalf of a request: they are told where in a trace it is, and what they took has a span.
//!
//! Those are webhooks of admission and conversion and aggregated API servers, as upstream's; webhooks that authenticate or authorize are told
//! nothing there either. Never changes a question but by headers. Source: W3C Trace Context, W3C Baggage.

use super::export::{number, text};
use super::wire::{KeyValue, Span, Status};
use super::{CLIENT, ERROR, Parent};
use crate::road::received::Received;
use crate::road::timed;
use rand::Rng as _;
use std::sync::Arc;
use std::time::Instant;

/// Where in a trace a request is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) flags: u8,
    /// It has a span, and so has whoever is asked on its behalf.
    pub(super) recorded: bool,
    /// `tracestate` and `baggage` as they came.
    pub(super) state: String,
    pub(super) baggage: String,
}

/// Where nothing is recorded, what a request brings of its trace goes on as it is. Says whether there is anything.
pub(crate) fn passed_through(received: &Received) -> bool {
    let Some(header) = received.header("traceparent") else { return false };
    let Some(Parent { trace, span, sampled }) = Parent::read(header) else { return false };
    let said = |name: &str| received.header(name).unwrap_or_default().to_owned();
    let (state, baggage) = (said("tracestate"), said("baggage"));
    received.steps.place(Context { trace, span, flags: u8::from(sampled), recorded: false, state, baggage });
    true
}

/// A question to another server that was answered, or given up.
pub(crate) struct Asked {
    span: [u8; 8],
    name: String,
    attributes: Vec<KeyValue>,
    failed: bool,
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

impl Asked {
    /// Its span, by the names of OpenTelemetry's conventions for HTTP.
    pub(super) fn span(self, within: Span) -> Span {
        Span {
            span_id: self.span.to_vec(),
            name: self.name,
            kind: CLIENT,
            attributes: self.attributes,
            status: self.failed.then(|| Status { message: String::new(), code: ERROR }),
            ..within
        }
    }
}

/// A question to another server. It ends when it is dropped.
pub(crate) struct Asking(Option<Open>);

struct Open {
    context: Arc<Context>,
    span: [u8; 8],
    from: Instant,
    method: &'static str,
    url: String,
    host: String,
    code: Option<u16>,
}

impl Asking {
    /// One on behalf of the request that is worked on.
    pub(crate) fn begin(method: &str, host: &str, url: impl FnOnce() -> String) -> Asking {
        let open = || {
            let context = timed::current()?.context()?;
            let span = if context.recorded { rand::rng().random() } else { context.span };
            let url = if context.recorded { url() } else { String::new() };
            let method = METHODS.iter().find(|known| **known == method).copied().unwrap_or("_OTHER");
            Some(Open { context, span, from: Instant::now(), method, url, host: host.to_owned(), code: None })
        };
        Asking(open())
    }

    /// Headers that tell of the trace.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let Some(Open { context, span, .. }) = &self.0 else { return Vec::new() };
        let (trace, span) = (u128::from_be_bytes(context.trace), u64::from_be_bytes(*span));
        let parent = format!("00-{trace:032x}-{span:016x}-{:02x}", context.flags);
        let others = [("tracestate", &context.state), ("baggage", &context.baggage)];
        let others = others.into_iter().filter(|(_, said)| !said.is_empty());
        std::iter::once(("traceparent", parent)).chain(others.map(|(name, said)| (name, said.clone()))).collect()
    }

    /// The code of the answer.
    pub(crate) fn answered(&mut self, code: u16) {
        if let Some(open) = &mut self.0 {
            open.code = Some(code);
        }
    }
}

/// By others nobody can multiply names.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

impl Drop for Asking {
    fn drop(&mut self) {
        let Some(open) = self.0.take().filter(|open| open.context.recorded) else { return };
        let Some(steps) = timed::current() else { return };
        let mut attributes = vec![
            text("http.request.method", open.method),
            text("url.full", &open.url),
            text("server.address", &open.host),
        ];
        attributes.extend(open.code.map(|code| number("http.response.status_code", i64::from(code))));
        steps.asked(Asked {
            span: open.span,
            name: format!("HTTP {}", open.method),
            attributes,
            failed: open.code.is_none_or(|code| code >= 400),
            from: open.from,
            until: Instant::now(),
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
pub(super) mod tests {
    use super::*;
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use crate::transport::{Identity, TlsOptions, TlsSettings, server_config};
    use api::json::{Value, json};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Bytes;
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;

    /// What a server was told of traces, by header.
    type Told = Arc<Mutex<Vec<[String; 3]>>>;

    /// A webhook that allows everything: its `clientConfig`, and what it is told.
    async fn webhook() -> (Value, Told) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let identity = Identity { certificates: certificate.pem(), key: key.serialize_pem() };
        let settings = TlsSettings { identity, client_ca: None, options: TlsOptions::default() };
        let mut config = server_config(&settings).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/review", listener.local_addr().unwrap().port());
        let told = Told::default();
        let log = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let serve = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                        let said = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
                        log.lock().push(["traceparent", "tracestate", "baggage"].map(|name| said(name).to_owned()));
                        async move {
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            let review: Value = api::json::from_slice(&body).unwrap();
                            let response = json!({"uid": review["request"]["uid"], "allowed": true});
                            let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
                            Ok::<_, hyper::Error>(hyper::Response::new(Full::new(Bytes::from(answer.to_string()))))
                        }
                    });
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        let authority = crate::authn::tokens::base64_encode(certificate.pem().as_bytes());
        (json!({"url": url, "caBundle": authority}), told)
    }

    /// Creates objects with these headers until the webhook has been asked; what it was told then.
    pub(in crate::spans) async fn told(world: &World, user: &User, headers: &[(&str, &str)]) -> [String; 3] {
        let (client, told) = webhook().await;
        let rules =
            json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
        let hook = json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": client, "rules": rules});
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let (code, answer) =
            world.ask(&root, "POST", path, &json!({"metadata": {"name": "hook"}, "webhooks": [hook]})).await;
        assert_eq!(code, 201, "{answer}");
        for number in 0..500 {
            let object = json!({"metadata": {"name": format!("m{number}")}}).to_string().into_bytes();
            let request = http::Request::post("/api/v1/namespaces/default/configmaps?dryRun=All");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let request =
                request.header("content-type", "application/json").body(kube::client::Body::from(object)).unwrap();
            let answer = world.running.client(user.clone(), "test").send(request).await.unwrap();
            assert_eq!(answer.status(), 201);
            let first = told.lock().first().cloned();
            if let Some(first) = first {
                assert_eq!(world.ask(&root, "DELETE", &format!("{path}/hook"), &Value::Null).await.0, 200);
                return first;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the webhook is not asked");
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test(flavor = "multi_thread")]
    async fn where_nothing_is_recorded_the_trace_goes_on_as_it_came() {
        let world = World::start(|_| {}).await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let brought = [("traceparent", PARENT), ("tracestate", "a=b"), ("baggage", "c=d")];
        assert_eq!(told(&world, &root, &brought).await, [PARENT, "a=b", "c=d"]);
        // What is no trace is nobody's.
        assert_eq!(told(&world, &root, &[("traceparent", "00-x"), ("tracestate", "a=b")]).await, ["", "", ""]);
    }

    #[tokio::test]
    async fn questions_end_as_they_were_answered() {
        let check = async |context: Option<Context>, code: Option<u16>, header: &str, want: Option<bool>| {
            let steps = timed::Steps::begin("verb");
            if let Some(context) = context {
                steps.place(context);
            }
            let asked = async {
                let mut asking = Asking::begin("POST", "a", || "https://a/b".to_owned());
                let told = asking.headers().into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(" ");
                assert!(told.starts_with(header) && told.is_empty() == header.is_empty(), "{told}, not {header}");
                if let Some(code) = code {
                    asking.answered(code);
                }
            };
            steps.watched(asked).await;
            let spans: Vec<Span> =
                steps.take_asked().into_iter().map(|(asked, _, _)| asked.span(Span::default())).collect();
            assert_eq!(spans.len(), usize::from(want.is_some()));
            for span in spans {
                assert_eq!((span.name.as_str(), span.kind, Some(span.status.is_some())), ("HTTP POST", CLIENT, want));
                assert_eq!(span.attributes.len(), 3 + usize::from(code.is_some()));
            }
        };
        let context = |recorded: bool| {
            let flags = u8::from(recorded);
            Context { trace: [1; 16], span: [2; 8], flags, recorded, state: String::new(), baggage: "x=y".to_owned() }
        };
        let trace = "00-01010101010101010101010101010101-";
        check(None, Some(200), "", None).await;
        check(Some(context(false)), Some(200), &format!("{trace}0202020202020202-00 x=y"), None).await;
        check(Some(context(true)), Some(200), trace, Some(false)).await;
        check(Some(context(true)), Some(500), trace, Some(true)).await;
        check(Some(context(true)), None, trace, Some(true)).await;
        // Outside of a request nobody is told anything.
        assert!(Asking::begin("GET", "a", String::new).headers().is_empty());
    }
}
