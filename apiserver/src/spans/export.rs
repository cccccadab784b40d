//! Spans on their way to the collector: gathered, and sent several requests' together. What finds no room is lost, and the log says so.
//!
//! Never makes a request wait. Bounds are those of OpenTelemetry's batch processor.

use super::wire::trace_service_client::TraceServiceClient;
use super::wire::{
    AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span, any_value,
};
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Requests that may wait.
const ROOM: usize = 2048;
/// Spans sent together.
const MOST: usize = 512;
/// How long the first one waits for others.
const WAIT: Duration = Duration::from_secs(5);
/// How long a collector may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

pub(super) fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

/// The way to a collector.
pub(super) struct Exporter {
    sender: mpsc::Sender<Vec<Span>>,
    end: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    /// Connects when there is something to send.
    pub(super) fn open(channel: Channel, instance: &str) -> Exporter {
        let (sender, receiver) = mpsc::channel(ROOM);
        let end = CancellationToken::new();
        let resource =
            Resource { attributes: vec![text("service.name", "apiserver"), text("service.instance.id", instance)] };
        let task = tokio::spawn(send(receiver, TraceServiceClient::new(channel), resource, end.clone()));
        Exporter { sender, end, task: Mutex::new(Some(task)) }
    }

    /// The spans of one request.
    pub(super) fn give(&self, spans: Vec<Span>) {
        if self.sender.try_send(spans).is_err() {
            tracing::debug!("spans were lost: the collector is too slow");
        }
    }

    /// Sends what waits, as far as the collector takes it in time. What comes later is lost.
    pub(super) async fn close(&self) {
        self.end.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = tokio::time::timeout(PATIENCE, task).await;
        }
    }
}

async fn send(
    mut receiver: mpsc::Receiver<Vec<Span>>,
    mut client: TraceServiceClient<Channel>,
    resource: Resource,
    end: CancellationToken,
) {
    let mut ending = false;
    while !ending {
        let mut spans: Vec<Span> = Vec::new();
        let mut until: Option<Instant> = None;
        while spans.len() < MOST {
            let patience = until.map_or(WAIT, |until| until.saturating_duration_since(Instant::now()));
            let given = tokio::select! {
                // What was given before the end is sent.
                biased;
                given = receiver.recv() => given,
                () = tokio::time::sleep(patience), if until.is_some() => break,
                () = end.cancelled() => None,
            };
            let Some(given) = given else {
                ending = true;
                break;
            };
            until.get_or_insert_with(|| Instant::now() + WAIT);
            spans.extend(given);
        }
        if spans.is_empty() {
            continue;
        }
        let number = spans.len();
        let scope = Scope { name: "ironkeel/apiserver".to_owned(), version: String::new() };
        let resource_spans = vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        }];
        let sent = client.export(ExportTraceServiceRequest { resource_spans });
        let failed = match tokio::time::timeout(PATIENCE, sent).await {
            Ok(Ok(_)) => continue,
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "the collector does not answer".to_owned(),
        };
        tracing::warn!(error = failed, spans = number, "spans were lost");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::super::wire::ExportTraceServiceResponse;
    use super::super::wire::trace_service_server::{TraceService, TraceServiceServer};
    use super::super::{SERVER, Settings};
    use super::*;
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::service::TowerToHyperService;
    use kube::client::Body;
    use std::sync::Arc;
    use tonic::{Request, Response};

    #[derive(Clone, Default)]
    struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: Request<ExportTraceServiceRequest>,
        ) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
            self.0.lock().push(request.into_inner());
            Ok(Response::new(ExportTraceServiceResponse {}))
        }
    }

    impl Collector {
        async fn serve(&self) -> String {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = listener.local_addr().unwrap().to_string();
            let service = TowerToHyperService::new(TraceServiceServer::new(self.clone()));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let service = service.clone();
                    tokio::spawn(async move {
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(builder.serve_connection(TokioIo::new(stream), service).await);
                    });
                }
            });
            endpoint
        }
    }

    /// A server, what it was asked, and the spans of that.
    async fn spans(per_million: u32, ask: impl AsyncFnOnce(&World)) -> Vec<Span> {
        let collector = Collector::default();
        let endpoint = collector.serve().await;
        let settings = Settings { endpoint, per_million };
        let world = World::start(|config| config.tracing = Some(settings)).await;
        ask(&world).await;
        world.close().await;
        let sent = std::mem::take(&mut *collector.0.lock());
        let of_us = |request: &ExportTraceServiceRequest| {
            let resource = request.resource_spans[0].resource.clone().unwrap();
            assert_eq!(resource.attributes[0], text("service.name", "apiserver"));
        };
        sent.iter().for_each(of_us);
        sent.into_iter().flat_map(|mut request| request.resource_spans.remove(0).scope_spans.remove(0).spans).collect()
    }

    async fn get(world: &World, user: User, path: &str, parent: Option<&str>) -> u16 {
        let request =
            parent.iter().fold(http::Request::get(path), |request, parent| request.header("traceparent", *parent));
        let answer = world.running.client(user, "test").send(request.body(Body::empty()).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
        code
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_is_a_span_with_one_for_each_stage() {
        let root = || User::new("root", &["system:masters", AUTHENTICATED]);
        let watch = "/api/v1/namespaces/default/pods?watch=1&timeoutSeconds=1";
        let all = spans(1_000_000, async |world| {
            assert_eq!(get(world, root(), "/api/v1/namespaces/default", None).await, 200);
            assert_eq!(get(world, User::new("nobody", &[]), "/api/v1/secrets", None).await, 403);
            assert_eq!(get(world, root(), watch, None).await, 200);
        })
        .await;
        let whole = |name: &str| all.iter().find(|span| span.name == name).unwrap();
        let stages = |whole: &Span| -> Vec<&str> {
            let own = all.iter().filter(|span| span.trace_id == whole.trace_id && span.parent_span_id == whole.span_id);
            own.inspect(|span| {
                assert!(span.start_time_unix_nano >= whole.start_time_unix_nano, "{span:?} of {whole:?}");
                assert!(span.end_time_unix_nano <= whole.end_time_unix_nano, "{span:?} of {whole:?}");
            })
            .map(|span| span.name.as_str())
            .collect()
        };
        let got = whole("GET /api/v1/namespaces/{:namespace}/namespaces/{:name}");
        assert_eq!(
            stages(got),
            ["identified", "audited", "impersonated", "seated", "authorized", "verb", "response-write"]
        );
        let verb = all.iter().find(|span| span.name == "verb" && span.parent_span_id == got.span_id).unwrap();
        let part = all.iter().find(|span| span.parent_span_id == verb.span_id).unwrap();
        assert_eq!((part.name.as_str(), &part.trace_id), ("store", &got.trace_id));
        assert!(part.start_time_unix_nano >= verb.start_time_unix_nano, "{part:?} of {verb:?}");
        assert!(part.end_time_unix_nano <= verb.end_time_unix_nano, "{part:?} of {verb:?}");
        let code = |code| number("http.response.status_code", code);
        assert!(got.attributes.contains(&code(200)) && got.kind == SERVER && got.parent_span_id.is_empty(), "{got:?}");
        let target = text("http.target", "/api/v1/namespaces/default");
        assert!(got.attributes.contains(&target), "{got:?}");
        let refused = whole("GET /api/v1/secrets");
        assert_eq!(
            stages(refused),
            ["identified", "audited", "impersonated", "seated", "authorized", "response-write"]
        );
        assert!(refused.attributes.contains(&code(403)) && refused.status.is_none(), "{refused:?}");
        let watched = whole("GET /api/v1/namespaces/{:namespace}/pods");
        let lasted = Duration::from_nanos(watched.end_time_unix_nano - watched.start_time_unix_nano);
        assert!(lasted >= Duration::from_secs(1), "a watch lasts as long as its stream: {lasted:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn webhooks_are_told_of_the_span_that_they_are_in() {
        let mut told = String::new();
        let all = spans(1_000_000, async |world| {
            [told, _, _] = super::super::asking::tests::told(world, &User::new("root", &["system:masters"]), &[]).await;
        })
        .await;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let question = all.iter().find(|span| span.kind == super::super::CLIENT).unwrap();
        assert_eq!(told, format!("00-{}-{}-01", hex(&question.trace_id), hex(&question.span_id)));
        let verb = all.iter().find(|span| span.span_id == question.parent_span_id).unwrap();
        assert_eq!((verb.name.as_str(), &verb.trace_id), ("verb", &question.trace_id));
        assert!(question.attributes.contains(&number("http.response.status_code", 200)), "{question:?}");
        assert!(question.start_time_unix_nano >= verb.start_time_unix_nano, "{question:?} of {verb:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_a_rate_those_are_recorded_whose_trusted_sender_asks_for_it() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let all = spans(0, async |world| {
            let root = || User::new("root", &["system:masters", AUTHENTICATED]);
            get(world, root(), "/api/v1/secrets", None).await;
            get(world, User::new("nobody", &[]), "/api/v1/secrets", Some(parent)).await;
            get(world, root(), "/version", Some(parent)).await;
        })
        .await;
        assert!(all.iter().all(|span| span.trace_id.first() == Some(&0x0a)), "{all:?}");
        let whole = all.iter().find(|span| span.kind == SERVER).unwrap();
        assert_eq!((whole.name.as_str(), whole.parent_span_id.last(), all.len()), ("GET", Some(&0x31), 8));
    }
}
