//! Plain requests over the administrator's certificate, for what no tool would send: malformed bodies, odd headers.
//!
//! Never interprets an answer.

use crate::cluster::Cluster;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::sync::LazyLock;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made")
});

/// The runtime of the asynchronous clients in this test program.
pub fn runtime() -> &'static Runtime {
    &RUNTIME
}

/// A client for plain requests.
pub struct Http {
    client: kube::Client,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Texts of the `Warning` headers, in order, without code and agent.
    pub warnings: Vec<String>,
    /// The body; a string when it is not JSON.
    pub body: Value,
}

impl Http {
    pub(crate) fn new(cluster: &Cluster) -> Http {
        Http { client: RUNTIME.block_on(cluster.client()) }
    }

    pub(crate) fn anonymous(cluster: &Cluster) -> Http {
        let client = RUNTIME.block_on(async {
            let mut config = cluster.config().await;
            config.auth_info = kube::config::AuthInfo::default();
            kube::Client::try_from(config).expect("a client")
        });
        Http { client }
    }

    /// Sends one request; `content_type` is left out when empty.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.exchange((method, path), "application/json", content_type, body)
    }

    /// A GET that accepts this.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.exchange(("GET", path), accept, "", b"")
    }

    fn exchange(&self, (method, path): (&str, &str), accept: &str, content_type: &str, body: &[u8]) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("accept", accept);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let request = request.body(kube::client::Body::from(body.to_vec())).expect("a request");
        RUNTIME.block_on(async {
            let sent = tokio::time::timeout(std::time::Duration::from_secs(60), self.client.send(request)).await;
            let answer = sent.expect("an answer in time").expect("an answer");
            let status = answer.status().as_u16();
            let warnings = answer.headers().get_all("warning").iter();
            let warnings = warnings.filter_map(|value| warning(value.to_str().ok()?)).collect();
            let bytes = answer.into_body().collect().await.expect("the whole body").to_bytes();
            let text = String::from_utf8_lossy(&bytes);
            let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()));
            Answer { status, warnings, body }
        })
    }

    /// A GET.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    /// A POST of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, "application/json", body.to_string().as_bytes())
    }
}

/// `299 - "text"` to its text (RFC 9110).
fn warning(header: &str) -> Option<String> {
    let quoted = header.strip_prefix("299 - \"")?.strip_suffix('"')?;
    Some(quoted.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_lose_their_quotes() {
        assert_eq!(warning("299 - \"unknown field \\\"a\\\"\"").as_deref(), Some("unknown field \"a\""));
        assert_eq!(warning("nonsense"), None);
    }
}
