//! The server that is driven: where it is, how it is trusted, who we are. Never opens a connection but to ask for the version.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use http::{HeaderValue, Request, Uri};
use kube::Config;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;

use crate::client::{Connection, Http};

/// A server and the right to ask it.
#[derive(Clone)]
pub(crate) struct Target {
    address: String,
    server_name: ServerName<'static>,
    tls: rustls::ClientConfig,
    token: Option<HeaderValue>,
}

impl Target {
    /// The current context of a kubeconfig with a client certificate or a token.
    pub(crate) async fn from_kubeconfig(file: &Path) -> Result<Self> {
        let read = || format!("cannot use the kubeconfig {}", file.display());
        let kubeconfig = Kubeconfig::read_from(file).with_context(read)?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.with_context(read)?;
        Self::new(&config).with_context(read)
    }

    fn new(config: &Config) -> Result<Self> {
        let uri: &Uri = &config.cluster_url;
        ensure!(uri.scheme_str() == Some("https"), "the server {uri} is not one of https");
        let host = uri.host().context("the server has no host")?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(443);
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let name = config.tls_server_name.as_deref().unwrap_or(host).to_owned();
        // Written out, because the type that hides it in memory is not ours to open.
        let user = serde_json::to_value(&config.auth_info)?;
        let bearer = |token: &str| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            Ok::<_, anyhow::Error>(value)
        };
        let token = user.get("token").and_then(|token| token.as_str()).map(bearer).transpose()?;
        Ok(Self { address, server_name: ServerName::try_from(name)?, tls: config.rustls_client_config()?, token })
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// How to speak TLS for a protocol.
    pub(crate) fn tls(&self, http: Http) -> Arc<rustls::ClientConfig> {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = vec![http.alpn().to_vec()];
        Arc::new(tls)
    }

    /// A request for `path`, with who we are.
    pub(crate) fn request(&self, method: http::Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(format!("https://{}{path}", self.address));
        let request =
            request.header(http::header::HOST, &self.address).header(http::header::USER_AGENT, "ironkeel-bench");
        match &self.token {
            Some(token) => request.header(http::header::AUTHORIZATION, token),
            None => request,
        }
    }

    /// The `gitVersion` of the server.
    pub(crate) async fn version(&self, http: Http) -> Result<String> {
        let mut connection = Connection::open(self, http).await?;
        let answer = connection.send(self.request(http::Method::GET, "/version").body(Default::default())?).await?;
        let version: serde_json::Value = serde_json::from_slice(&answer.into_ok().await?)?;
        Ok(version.get("gitVersion").and_then(|v| v.as_str()).unwrap_or("unknown").to_owned())
    }
}
