//! The way from a component to the API server, by a kubeconfig. Credentials may be exchanged under it while it is in use.
//!
//! Never decides who the component is.

use anyhow::Context as _;
use http::{Request, Response, StatusCode};
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use parking_lot::RwLock;
use prometheus::{IntCounterVec, Opts, Registry};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// What the process has asked API servers, and what came of it: one family, whoever asked.
static ASKED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Requests to the API server, by answer; `<error>` where there was none.";
    let options = Opts::new("rest_client_requests_total", help);
    IntCounterVec::new(options, &["code", "host", "method"]).expect("a constant name is valid")
});

/// Shows in this registry what the process has asked API servers.
pub(crate) fn show_requests(registry: &Registry) {
    if let Err(error) = registry.register(Box::new(ASKED.clone())) {
        tracing::error!(%error, "requests to the API server are not shown");
    }
}

/// A connection whose clones share their credentials.
#[derive(Clone)]
pub(crate) struct Connection {
    current: Arc<RwLock<kube::Client>>,
    agent: http::HeaderValue,
    /// Host and port of the API server.
    host: Arc<str>,
}

impl Connection {
    /// Connects as a kubeconfig says; `master` is a URL that stands over its own.
    ///
    /// # Errors
    /// When the file cannot be used. An API server that is away is no error.
    pub(crate) async fn open(kubeconfig: &Path, master: &str, agent: &'static str) -> anyhow::Result<Connection> {
        Connection::made(configuration(kubeconfig, master).await?, agent)
    }

    fn made(config: kube::Config, agent: &'static str) -> anyhow::Result<Connection> {
        let host = config.cluster_url.authority().map_or_else(String::new, ToString::to_string).into();
        let current = Arc::new(RwLock::new(connect(config)?));
        Ok(Connection { current, agent: http::HeaderValue::from_static(agent), host })
    }

    /// Connects to the same place with no credentials.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub(crate) async fn bare(kubeconfig: &Path, master: &str, agent: &'static str) -> anyhow::Result<Connection> {
        let mut config = configuration(kubeconfig, master).await?;
        config.auth_info = AuthInfo::default();
        Connection::made(config, agent)
    }

    /// Reads the kubeconfig again: its files hold other credentials now.
    pub(crate) async fn reopen(&self, kubeconfig: &Path, master: &str) -> anyhow::Result<()> {
        let client = connect(configuration(kubeconfig, master).await?)?;
        *self.current.write() = client;
        Ok(())
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let client = self.current.read().clone();
        let method = request.method().clone();
        let answer = client.send(request).await;
        let status = answer.as_ref().ok().map(Response::status);
        let code = status.as_ref().map_or("<error>", StatusCode::as_str);
        ASKED.with_label_values(&[code, &self.host, method.as_str()]).inc();
        answer
    }

    /// A client over it.
    pub(crate) fn client(&self) -> kube::Client {
        let connection = self.clone();
        let service = tower::service_fn(move |mut request: Request<Body>| {
            let connection = connection.clone();
            request.headers_mut().insert(http::header::USER_AGENT, connection.agent.clone());
            async move { connection.send(request).await }
        });
        kube::Client::new(service, "default")
    }
}

async fn configuration(kubeconfig: &Path, master: &str) -> anyhow::Result<kube::Config> {
    let shown = || format!("kubeconfig {}", kubeconfig.display());
    let text = Kubeconfig::read_from(kubeconfig).with_context(shown)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await.with_context(shown)?;
    if !master.is_empty() {
        config.cluster_url = master.parse().context("--master")?;
    }
    Ok(config)
}

fn connect(config: kube::Config) -> anyhow::Result<kube::Client> {
    kube::Client::try_from(config).context("the kubeconfig's credentials cannot be used")
}
