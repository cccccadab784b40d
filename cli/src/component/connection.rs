//! The way from a component to the API server, by a kubeconfig. Credentials may be exchanged under it while it is in use.
//!
//! Never decides who the component is.

use anyhow::Context as _;
use http::{Request, Response};
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;

/// A connection whose clones share their credentials.
#[derive(Clone)]
pub(crate) struct Connection {
    current: Arc<RwLock<kube::Client>>,
    agent: http::HeaderValue,
}

impl Connection {
    /// Connects as a kubeconfig says; `master` is a URL that stands over its own.
    ///
    /// # Errors
    /// When the file cannot be used. An API server that is away is no error.
    pub(crate) async fn open(kubeconfig: &Path, master: &str, agent: &'static str) -> anyhow::Result<Connection> {
        let client = connect(configuration(kubeconfig, master).await?)?;
        Ok(Connection { current: Arc::new(RwLock::new(client)), agent: http::HeaderValue::from_static(agent) })
    }

    /// Connects to the same place with no credentials.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub(crate) async fn bare(kubeconfig: &Path, master: &str, agent: &'static str) -> anyhow::Result<Connection> {
        let mut config = configuration(kubeconfig, master).await?;
        config.auth_info = AuthInfo::default();
        let client = connect(config)?;
        Ok(Connection { current: Arc::new(RwLock::new(client)), agent: http::HeaderValue::from_static(agent) })
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
        client.send(request).await
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
