//! The client of webhooks: posts a question to a URL or to a Service, over TLS, and gives the answer.
//!
//! Never reads questions or answers. Connections are kept for the next question. A Service is reached at one of its ready endpoints,
//! so that no service proxy is needed. Source: upstream's `apiserver/pkg/util/webhook`.

mod endpoints;
pub(crate) mod trust;

use crate::cache::Caches;
use crate::metrics::policies::Policies;
use crate::road::timed::{Work, lately};
use crate::spans::Asking;
use admission::dynamic::{Asked, Caller, Client, Judged};
use api::json::Value;
use api::kinds::shared::webhooks::Address;
use api::value;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prometheus::{HistogramOpts, HistogramVec, Registry};
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

pub use endpoints::{Endpoint, Unresolved, ready, resolve};

/// How long a connection is kept that nobody uses; upstream's transport keeps it as long.
const IDLE: Duration = Duration::from_secs(90);
/// Connections of one webhook that are kept.
const MOST_IDLE: usize = 25;
/// Webhooks whose connections and authorities are kept.
const MOST_KNOWN: usize = 200;
/// The largest answer.
const LARGEST: usize = 16 << 20;

type Connection = SendRequest<Full<Bytes>>;

/// Speaks to webhooks.
pub struct Webhooks {
    caches: Caches,
    known: Mutex<HashMap<Client, Known>>,
    durations: HistogramVec,
    policies: Policies,
}

/// What is kept of one webhook.
struct Known {
    tls: Arc<rustls::ClientConfig>,
    idle: Vec<(Instant, Connection)>,
    used: Instant,
}

/// Where a question goes.
struct Place {
    /// As errors name it.
    url: String,
    /// `Host`.
    authority: String,
    /// Path and query.
    target: String,
    /// Whom the certificate must name.
    name: String,
    /// Of a URL.
    port: u16,
}

impl Webhooks {
    /// One that finds Services and their endpoints here, and shows how long webhooks take there.
    ///
    /// # Panics
    /// When the registry has a metric of that name: a mistake in this file.
    #[must_use]
    pub fn new(caches: Caches, registry: &Registry) -> Webhooks {
        let name = "apiserver_admission_webhook_admission_duration_seconds";
        let help = "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API \
                    resource and type (validate or admit).";
        let buckets = vec![0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
        let labels = ["name", "operation", "rejected", "type"];
        let durations = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &labels)
            .expect("a constant name is valid");
        registry.register(Box::new(durations.clone())).expect("names are distinct");
        Webhooks { caches, known: Mutex::new(HashMap::new()), durations, policies: Policies::new(registry) }
    }

    /// Posts JSON and gives the body of a good answer.
    ///
    /// # Errors
    /// Why there is none, in upstream's words.
    pub async fn post(&self, client: &Client, body: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, String> {
        let place = place(client, timeout)?;
        let mut asking = Asking::begin("POST", &place.name, || place.url.clone());
        let done = tokio::time::timeout(timeout, self.exchange(client, &place, body.into(), &asking)).await;
        if let Ok(Ok((code, _))) = &done {
            asking.answered(*code);
        }
        drop(asking);
        let failed = |why: String| format!("Post {:?}: {why}", place.url);
        match done {
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
            Ok(Err(why)) => Err(failed(why)),
            Ok(Ok((200..=206, body))) => Ok(body.to_vec()),
            Ok(Ok((code, body))) => Err(refused(code, &body)),
        }
    }

    async fn exchange(
        &self,
        client: &Client,
        place: &Place,
        body: Bytes,
        asking: &Asking,
    ) -> Result<(u16, Bytes), String> {
        let mut request = http::Request::post(&place.target)
            .header("host", &place.authority)
            .header("content-type", "application/json")
            .header("accept", "application/json, */*")
            .header("user-agent", "kube-apiserver-admission");
        for (name, value) in asking.headers() {
            request = request.header(name, value);
        }
        let mut request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        while let Some(mut connection) = self.idle(client) {
            match connection.try_send_request(request).await {
                Ok(response) => return self.read(client, connection, response).await,
                // The other side hung up while nobody looked: it has not seen the question.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(sentence(&error.into_error())),
                },
            }
        }
        let mut connection = self.connect(client, place).await?;
        let response = connection.send_request(request).await.map_err(|error| sentence(&error))?;
        self.read(client, connection, response).await
    }

    async fn read(
        &self,
        client: &Client,
        connection: Connection,
        response: http::Response<hyper::body::Incoming>,
    ) -> Result<(u16, Bytes), String> {
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?;
        self.keep(client, connection);
        Ok((code, body.to_bytes()))
    }

    /// A connection that is open, as far as we know.
    fn idle(&self, client: &Client) -> Option<Connection> {
        let mut known = self.known.lock();
        let idle = &mut known.get_mut(client)?.idle;
        idle.retain(|(since, connection)| since.elapsed() < IDLE && !connection.is_closed());
        idle.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, client: &Client, connection: Connection) {
        if let Some(known) = self.known.lock().get_mut(client)
            && known.idle.len() < MOST_IDLE
        {
            known.idle.push((Instant::now(), connection));
        }
    }

    /// The TLS settings of a webhook, which take long to make.
    fn tls(&self, client: &Client) -> Result<Arc<rustls::ClientConfig>, String> {
        let now = Instant::now();
        if let Some(known) = self.known.lock().get_mut(client) {
            known.used = now;
            return Ok(Arc::clone(&known.tls));
        }
        let tls = Arc::new(trust::client_config(&client.authorities, None)?);
        let mut known = self.known.lock();
        if known.len() >= MOST_KNOWN
            && let Some(oldest) = known.iter().min_by_key(|(_, known)| known.used).map(|(client, _)| client.clone())
        {
            known.remove(&oldest);
        }
        known.insert(client.clone(), Known { tls: Arc::clone(&tls), idle: Vec::new(), used: now });
        Ok(tls)
    }

    async fn connect(&self, client: &Client, place: &Place) -> Result<Connection, String> {
        let tls = self.tls(client)?;
        let (host, port) = if client.url.is_empty() {
            let found = resolve(&self.caches, &client.namespace, &client.service, client.port);
            found.map_err(|unresolved| unresolved.to_string())?
        } else {
            (place.name.clone(), place.port)
        };
        let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|error| dialed(&host, port, &error))?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(place.name.clone()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| trust::sentence(&error))?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| sentence(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook ended");
            }
        });
        Ok(sender)
    }
}

#[async_trait]
impl Caller for Webhooks {
    async fn call(&self, client: &Client, review: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, String> {
        self.post(client, review, timeout).await
    }

    fn observe(&self, asked: &Asked<'_>) {
        let rejected = if asked.rejected { "true" } else { "false" };
        let labels = [asked.name, asked.operation, rejected, asked.step];
        self.durations.with_label_values(&labels).observe(asked.took.as_secs_f64());
        lately(if asked.step == "admit" { Work::Mutating } else { Work::Validating }, asked.took);
    }

    fn judged(&self, judged: &Judged<'_>) {
        self.policies.tell(judged);
    }
}

fn place(client: &Client, timeout: Duration) -> Result<Place, String> {
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    let rooted = |path: &str| format!("/{}?timeout={seconds}s", path.trim_start_matches('/'));
    if client.url.is_empty() {
        let name = format!("{}.{}.svc", client.service, client.namespace);
        let (authority, target) = (format!("{name}:{}", client.port), rooted(&client.path));
        return Ok(Place { url: format!("https://{authority}{target}"), authority, target, name, port: client.port });
    }
    let address = Address::parse(&client.url);
    let (host, port) = split(address.host);
    let port = match port {
        None => 443,
        Some(text) => text.parse().map_err(|_| format!("invalid port {text:?} after host"))?,
    };
    let (authority, target) = (address.host.to_owned(), rooted(address.path));
    Ok(Place { url: format!("https://{authority}{target}"), authority, target, name: host.to_owned(), port })
}

/// Host and port; an IPv6 address without its brackets.
fn split(authority: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
}

/// A failed connection in Go's words.
pub(crate) fn dialed(host: &str, port: u16, error: &std::io::Error) -> String {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let why = match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {shown}: {why}")
}

/// A broken exchange in Go's words.
fn sentence(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() { "EOF".to_owned() } else { error.to_string() }
}

/// What upstream's client says of an answer that is no good one.
fn refused(code: u16, body: &[u8]) -> String {
    let status: Option<Value> = api::json::from_slice(body).ok();
    if let Some(status) = status.filter(|status| value::text(status, "kind") == "Status") {
        return value::text(&status, "message").to_owned();
    }
    let text = String::from_utf8_lossy(body.get(..body.len().min(2048)).unwrap_or(body)).trim().to_owned();
    match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => text,
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        409 => "the server reported a conflict".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned()
        }
        500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let check = |client: &Client, url: &str, name: &str, port: u16| {
            let place = place(client, Duration::from_millis(1500)).unwrap();
            assert_eq!((place.url.as_str(), place.name.as_str(), place.port), (url, name, port));
        };
        let url = |url: &str| Client { url: url.to_owned(), ..Client::default() };
        check(&url("https://a.b"), "https://a.b/?timeout=2s", "a.b", 443);
        check(&url("https://a.b:1/c/d"), "https://a.b:1/c/d?timeout=2s", "a.b", 1);
        check(&url("https://[::1]:1/c"), "https://[::1]:1/c?timeout=2s", "::1", 1);
        check(&url("https://[::1]"), "https://[::1]/?timeout=2s", "::1", 443);
        let service =
            Client { namespace: "n".into(), service: "s".into(), port: 9, path: "/p".into(), ..Client::default() };
        check(&service, "https://s.n.svc:9/p?timeout=2s", "s.n.svc", 9);
        assert!(place(&url("https://a:x"), Duration::ZERO).is_err());
    }

    #[test]
    fn refusals_in_upstreams_words() {
        assert_eq!(refused(500, b"oh\n"), "an error on the server (\"oh\") has prevented the request from succeeding");
        assert_eq!(refused(404, b""), "the server could not find the requested resource");
        assert_eq!(refused(418, br#"{"kind": "Status", "message": "no"}"#), "no");
    }
}
