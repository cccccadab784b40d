//! Requests of ours to servers that a file or a flag names: webhooks of kubeconfig files and issuers of tokens.
//!
//! Never reads what is said. HTTP/1.1 over TLS (or without, where the URL says `http`); connections are kept for the next question.

use crate::transport::{Identity, TlsError, unjudged_client_config};
use crate::webhook::trust;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(90);
/// Connections that are kept.
const MOST_IDLE: usize = 25;
/// The largest answer.
const LARGEST: usize = 10 << 20;
/// How often an answer may send us elsewhere.
const MOST_REDIRECTS: usize = 10;

type Connection = SendRequest<Full<Bytes>>;

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    secure: bool,
    /// `Host`.
    authority: String,
    /// Without brackets.
    host: String,
    port: u16,
    /// Path and query.
    target: String,
}

impl Url {
    /// Takes an absolute URL apart.
    ///
    /// # Errors
    /// When it is none, or of another scheme than `http` and `https`.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let uri: http::Uri = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("{text:?} is no URL of http or https")),
        };
        let authority = uri.authority().ok_or_else(|| format!("{text:?} names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let shown = authority.as_str().rsplit('@').next().unwrap_or_default().to_owned();
        Ok(Url { secure, authority: shown, host, port, target })
    }
}

/// What proves to the other side who we are, beside a certificate.
#[derive(Clone, Default)]
pub(crate) enum Proof {
    /// Nothing.
    #[default]
    None,
    /// A bearer token.
    Token(String),
    /// A bearer token in a file, which may change.
    TokenFile(PathBuf),
    /// User name and password.
    Basic(String, String),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof(REDACTED)")
    }
}

impl Proof {
    fn header(&self) -> Result<Option<String>, String> {
        use base64::Engine as _;
        Ok(match self {
            Proof::None => None,
            Proof::Token(token) => Some(format!("Bearer {token}")),
            Proof::TokenFile(path) => {
                let token = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                Some(format!("Bearer {}", token.trim()))
            }
            Proof::Basic(user, password) => {
                let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                Some(format!("Basic {both}"))
            }
        })
    }
}

/// Whom we believe over there, and as whom we come.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// Authorities, PEM; empty for the machine's.
    pub(crate) authorities: String,
    /// Any certificate will do.
    pub(crate) insecure: bool,
    /// Our certificate.
    pub(crate) identity: Option<Identity>,
}

impl Trust {
    /// Settings for TLS.
    ///
    /// # Errors
    /// When a PEM text cannot be used.
    pub(crate) fn config(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        let said = |error: TlsError| error.to_string();
        let config = if self.insecure {
            unjudged_client_config(self.identity.as_ref()).map_err(said)?
        } else {
            trust::client_config(&self.authorities, self.identity.as_ref())?
        };
        Ok(Arc::new(config))
    }
}

/// A server that is asked again and again.
pub(crate) struct Remote {
    url: Url,
    tls: Arc<rustls::ClientConfig>,
    /// Whom the certificate must name, where that is not the URL's host.
    name: Option<String>,
    proof: Proof,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Remote {
    /// One that is found at a URL.
    pub(crate) fn new(url: Url, tls: Arc<rustls::ClientConfig>, name: Option<String>, proof: Proof) -> Remote {
        Remote { url, tls, name, proof, idle: Mutex::default() }
    }

    /// Posts JSON; status and body of the answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn post(&self, body: Vec<u8>, timeout: Duration) -> Result<(u16, Bytes), String> {
        let asked = tokio::time::timeout(timeout, self.exchange(body.into())).await;
        asked.map_err(|_| "context deadline exceeded".to_owned()).and_then(|done| done)
    }

    async fn exchange(&self, body: Bytes) -> Result<(u16, Bytes), String> {
        let mut request = http::Request::post(&self.url.target)
            .header("host", &self.url.authority)
            .header("content-type", "application/json")
            .header("accept", "application/json, */*")
            .header("user-agent", "kube-apiserver");
        if let Some(proof) = self.proof.header()? {
            request = request.header("authorization", proof);
        }
        let mut request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        while let Some(mut connection) = self.idle() {
            match connection.try_send_request(request).await {
                Ok(response) => return self.read(connection, response).await,
                // The other side hung up while nobody looked: it has not seen the question.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().to_string()),
                },
            }
        }
        let mut connection = connect(&self.url, &self.tls, self.name.as_deref()).await?;
        let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
        self.read(connection, response).await
    }

    async fn read(
        &self,
        connection: Connection,
        response: hyper::Response<hyper::body::Incoming>,
    ) -> Result<(u16, Bytes), String> {
        let code = response.status().as_u16();
        let body = whole(response).await?;
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push((Instant::now(), connection));
        }
        Ok((code, body))
    }

    fn idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain(|(since, connection)| since.elapsed() < IDLE && !connection.is_closed());
        idle.pop().map(|(_, connection)| connection)
    }
}

async fn whole(response: hyper::Response<hyper::body::Incoming>) -> Result<Bytes, String> {
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
}

async fn connect(url: &Url, tls: &Arc<rustls::ClientConfig>, name: Option<&str>) -> Result<Connection, String> {
    let tcp = TcpStream::connect((url.host.as_str(), url.port)).await;
    let tcp = tcp.map_err(|error| format!("dial tcp {}:{}: {error}", url.host, url.port))?;
    let _ = tcp.set_nodelay(true);
    if !url.secure {
        return speak(tcp).await;
    }
    let name = ServerName::try_from(name.unwrap_or(&url.host).to_owned()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
    speak(stream.map_err(|error| trust::sentence(&error))?).await
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection, String> {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of ours ended");
        }
    });
    Ok(sender)
}

/// Gets what is found at a URL, wherever that sends us: the body of a good answer. The token goes to the first host alone.
///
/// # Errors
/// Why there is none.
pub(crate) async fn fetch(
    url: &str,
    tls: &Arc<rustls::ClientConfig>,
    bearer: Option<&str>,
    timeout: Duration,
) -> Result<Bytes, String> {
    let fetched = async {
        let mut at = Url::parse(url)?;
        let first = at.authority.clone();
        for _ in 0..MOST_REDIRECTS {
            let mut request = http::Request::get(&at.target)
                .header("host", &at.authority)
                .header("accept", "application/json, */*")
                .header("user-agent", "kube-apiserver");
            if let Some(token) = bearer.filter(|_| at.authority == first) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let request = request.body(Full::default()).map_err(|error| error.to_string())?;
            let mut connection = connect(&at, tls, None).await?;
            let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
            let code = response.status().as_u16();
            let elsewhere = response.headers().get("location").and_then(|to| to.to_str().ok()).map(str::to_owned);
            match (code, elsewhere) {
                (301 | 302 | 303 | 307 | 308, Some(to)) => {
                    let next = match to.strip_prefix('/') {
                        Some(_) => Url { target: to, ..at.clone() },
                        None => Url::parse(&to)?,
                    };
                    if at.secure && !next.secure {
                        return Err("sent from https to http".to_owned());
                    }
                    at = next;
                }
                (200, _) => return whole(response).await,
                _ => {
                    let body = whole(response).await?;
                    return Err(format!("{code}: {}", String::from_utf8_lossy(body.get(..512).unwrap_or(&body))));
                }
            }
        }
        Err("stopped after 10 redirects".to_owned())
    };
    let done = tokio::time::timeout(timeout, fetched).await;
    done.map_err(|_| "context deadline exceeded".to_owned())
        .and_then(|done| done)
        .map_err(|why| format!("Get {url:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let check = |text: &str, want: (bool, &str, &str, u16, &str)| {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.secure, url.authority.as_str(), url.host.as_str(), url.port, url.target.as_str()), want);
        };
        check("https://a.b", (true, "a.b", "a.b", 443, "/"));
        check("http://a.b/c?d=e", (false, "a.b", "a.b", 80, "/c?d=e"));
        check("https://[::1]:8443/x", (true, "[::1]:8443", "::1", 8443, "/x"));
        check("https://u:p@h:1", (true, "h:1", "h", 1, "/"));
        for bad in ["", "/a", "ftp://a", "https://"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
