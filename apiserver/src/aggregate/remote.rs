//! One APIService whose server is another, and how that is reached.
//!
//! A connection per request, over TLS with the front proxy's certificate. Never says who the user is: who sends a request does.

use super::{Described, Found, merge};
use crate::remote::Trust;
use crate::server::Server;
use crate::transport::{Identity, keep_alive};
use crate::verb::connect::ALIVE;
use crate::webhook::{self, Unresolved, trust};
use api::json::Value;
use api::kinds::apiregistration_v1::api_service::KIND;
use api::{meta, value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a question of our own may take.
const QUESTION: Duration = Duration::from_secs(5);
/// Time to reach a server.
const CONNECT: Duration = Duration::from_secs(10);
/// The largest answer to a question of our own.
const LARGEST: usize = 64 << 20;

/// What aggregated discovery is asked for as.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                         application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// See the file.
pub(crate) struct Remote {
    /// Of the APIService.
    pub(super) name: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) version_priority: i64,
    /// As its status says.
    pub(super) available: bool,
    spec: Value,
    /// With whose certificate it is asked.
    front: Option<Identity>,
    tls: Result<Arc<rustls::ClientConfig>, String>,
}

/// Why there is no connection.
pub(super) enum Unreachable {
    /// Nobody is behind the Service.
    Service(Unresolved),
    /// Who is there cannot be spoken to, in Go's words.
    Backend(String),
}

impl Remote {
    /// From an APIService; `None` for one that this server serves itself.
    pub(super) fn read(object: &Value, front: Option<&Identity>) -> Option<Remote> {
        let spec = object.get("spec")?;
        let service = value::get(spec, "service").filter(|service| service.is_object())?;
        // The registrations themselves are never given away: nobody could take them back.
        if value::text(spec, "group") == KIND.group {
            return None;
        }
        let text = |value: &Value, path: &str| value::text(value, path).to_owned();
        Some(Remote {
            name: meta::name(object).to_owned(),
            group: text(spec, "group"),
            version: text(spec, "version"),
            namespace: text(service, "namespace"),
            service: text(service, "name"),
            port: value::int(service, "port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            version_priority: value::int(spec, "versionPriority").unwrap_or_default(),
            available: is_available(object),
            spec: spec.clone(),
            front: front.cloned(),
            tls: tls(spec, front),
        })
    }

    /// It was made from the same.
    pub(super) fn is_of(&self, object: &Value, front: Option<&Identity>) -> bool {
        let same = object.get("spec") == Some(&self.spec) && is_available(object) == self.available;
        same && self.front.as_ref() == front
    }

    /// Whom its certificate must name.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// A connection, and the address that it goes to.
    pub(super) async fn connect(&self, server: &Server) -> Result<(TlsStream<TcpStream>, String), Unreachable> {
        let (host, port) = webhook::resolve(&server.caches, &self.namespace, &self.service, self.port)
            .map_err(Unreachable::Service)?;
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let stream = self.dial(&host, port).await.map_err(Unreachable::Backend)?;
        Ok((stream, authority))
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, String> {
        let tls = self.tls.clone()?;
        let slow = |what: &str| format!("{what} timeout");
        let tcp = tokio::time::timeout(CONNECT, TcpStream::connect((host, port))).await;
        let tcp = tcp.map_err(|_| slow("dial tcp: i/o"))?.map_err(|error| webhook::dialed(host, port, &error))?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        keep_alive(&tcp, ALIVE);
        let name = ServerName::try_from(self.host()).map_err(|error| error.to_string())?;
        let stream = tokio::time::timeout(CONNECT, TlsConnector::from(tls).connect(name, tcp)).await;
        stream.map_err(|_| slow("net/http: TLS handshake"))?.map_err(|error| trust::sentence(&error))
    }

    /// Asks a question of our own, as the aggregator with all rights: the URL, and the answer.
    pub(super) async fn get(&self, server: &Server, path: &str, accept: &str) -> (String, Result<Got, String>) {
        self.get_newer(server, path, accept, "").await
    }

    /// The same, of a document that is known already in the state of an `ETag`: then the answer may be 304.
    async fn get_newer(&self, server: &Server, path: &str, accept: &str, known: &str) -> (String, Result<Got, String>) {
        let address = webhook::resolve(&server.caches, &self.namespace, &self.service, self.port);
        let (host, port) = match address {
            Ok(found) => found,
            Err(unresolved) => return (String::new(), Err(unresolved.to_string())),
        };
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let url = format!("https://{authority}{path}");
        let failed = |why: String| format!("Get {url:?}: {why}");
        let done = tokio::time::timeout(QUESTION, async {
            let stream = self.dial(&host, port).await.map_err(failed)?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| failed(error.to_string()))?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to an aggregated API server ended");
                }
            });
            let request = http::Request::get(path)
                .header("host", &authority)
                .header("accept", accept)
                .header("user-agent", "kube-aggregator")
                .header("x-remote-user", "system:kube-aggregator")
                .header("x-remote-group", "system:masters");
            let request = if known.is_empty() { request } else { request.header("if-none-match", known) };
            let request = request.body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
            let code = response.status().as_u16();
            let header = |name: &str| {
                let value = response.headers().get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let (media, etag) = (header("content-type"), header("etag"));
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            Ok::<Got, String>(Got { code, media, etag, body })
        })
        .await;
        let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        let done = done.unwrap_or_else(|_| Err(failed(late.to_owned())));
        (url, done)
    }
}

/// What came back from a question of our own.
pub(super) struct Got {
    pub(super) code: u16,
    media: String,
    etag: String,
    body: Bytes,
}

fn is_available(object: &Value) -> bool {
    let mut conditions = value::items(object, "status.conditions").iter();
    conditions
        .any(|condition| value::text(condition, "type") == "Available" && value::text(condition, "status") == "True")
}

/// The settings of its connections: the front proxy's certificate, and the authorities that the APIService names.
fn tls(spec: &Value, front: Option<&Identity>) -> Result<Arc<rustls::ClientConfig>, String> {
    let bundle = STANDARD.decode(value::text(spec, "caBundle")).unwrap_or_default();
    let trust = Trust {
        authorities: String::from_utf8(bundle).unwrap_or_default(),
        insecure: value::flag(spec, "insecureSkipTLSVerify"),
        identity: front.cloned(),
    };
    trust.config()
}

/// What a server has of the version that an APIService gives to it; `known` is what it said of it in OpenAPI v2 before.
pub(super) async fn ask(server: &Server, remote: &Remote, known: Option<Arc<Described>>) -> Found {
    let key = format!("apis/{}/{}", remote.group, remote.version);
    let version = match resources(server, remote).await {
        Some(version) => version,
        None => {
            let mut nothing = merge::nothing(&remote.version);
            value::set(&mut nothing, "freshness", "Stale");
            nothing
        }
    };
    let (_, index) = remote.get(server, "/openapi/v3", "application/json").await;
    let index: Option<Value> =
        index.ok().filter(|got| got.code == 200).and_then(|got| api::json::from_slice(&got.body).ok());
    let openapi = index.and_then(|index| index.get("paths")?.get(&key).cloned());
    Found { version, openapi, v2: described(server, remote, known).await }
}

/// Its document of OpenAPI v2. One that cannot be had now is what it was; 404 says that there is none.
async fn described(server: &Server, remote: &Remote, known: Option<Arc<Described>>) -> Option<Arc<Described>> {
    let etag = known.as_ref().map_or("", |known| &known.etag);
    let (_, got) = remote.get_newer(server, "/openapi/v2", "application/json", etag).await;
    match got {
        Ok(Got { code: 404, .. }) => None,
        Ok(Got { code: 200, etag, body, .. }) => match api::json::from_slice(&body) {
            Ok(document) => Some(Arc::new(Described { etag, document })),
            Err(_) => known,
        },
        _ => known,
    }
}

async fn resources(server: &Server, remote: &Remote) -> Option<Value> {
    let (_, all) = remote.get(server, "/apis", DISCOVERY).await;
    if let Some(got) = all.ok().filter(|got| got.code == 200 && got.media.contains("as=APIGroupDiscoveryList")) {
        let list: Value = api::json::from_slice(&got.body).ok()?;
        return Some(merge::version_of(&list, &remote.group, &remote.version));
    }
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let (_, list) = remote.get(server, &path, "application/json").await;
    let got = list.ok().filter(|got| got.code == 200)?;
    Some(merge::from_list(&api::json::from_slice(&got.body).ok()?, &remote.version))
}
