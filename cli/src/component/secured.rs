//! The secure port of the controller manager and the scheduler: its flags, and the listener's TLS and guard made of them.

use super::access;
use super::connection::Connection;
use super::delegated::Guard;
use super::listen::Secured;
use super::settings::Settings;
use super::trust::{Given, Trust};
use crate::cluster;
use crate::pki::{Pair, self_signed};
use anyhow::Context as _;
use apiserver::authn::FrontProxy;
use apiserver::transport::TlsOptions;
use kubelet::delegated::Reviews;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the flags say.
pub(crate) struct Flags {
    files: Option<(PathBuf, PathBuf)>,
    client_ca: Option<PathBuf>,
    front_ca: Option<PathBuf>,
    front: FrontProxy,
    /// Who says whose tokens are, and by whom else callers are known.
    authentication: Option<PathBuf>,
    /// Who says what callers may.
    authorization: Option<PathBuf>,
    skip_lookup: bool,
    tolerate: bool,
    open: Vec<String>,
    tls: TlsOptions,
    name: String,
}

/// What the flags say is spoken.
pub(crate) fn tls(settings: &Settings) -> TlsOptions {
    TlsOptions {
        min_version: settings.text("tls-min-version"),
        cipher_suites: settings.list("tls-cipher-suites"),
        ..TlsOptions::default()
    }
}

/// Reads the flags.
///
/// # Errors
/// When a certificate comes without its key.
pub(crate) fn read(settings: &Settings) -> anyhow::Result<Flags> {
    let files = match (settings.path("tls-cert-file"), settings.path("tls-private-key-file")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => anyhow::bail!("--tls-cert-file and --tls-private-key-file go together"),
    };
    Ok(Flags {
        files,
        client_ca: settings.path("client-ca-file"),
        front_ca: settings.path("requestheader-client-ca-file"),
        front: access::front(settings),
        authentication: settings.path("authentication-kubeconfig"),
        authorization: settings.path("authorization-kubeconfig"),
        skip_lookup: settings.bool("authentication-skip-lookup"),
        tolerate: settings.bool("authentication-tolerate-lookup-failure"),
        open: settings.list("authorization-always-allow-paths"),
        tls: tls(settings),
        name: settings.text("bind-address"),
    })
}

/// As a kubeconfig says, or the component's own connection where there is none.
async fn connect(kubeconfig: Option<&Path>, own: &Connection, agent: &'static str) -> anyhow::Result<Connection> {
    match kubeconfig {
        Some(path) => Connection::open(path, "", agent).await,
        None => Ok(own.clone()),
    }
}

impl Flags {
    /// Opens the files, and looks up in the cluster what they leave out; it is followed until `stop`.
    ///
    /// # Errors
    /// When a file cannot be read or used, or what is to be looked up cannot be.
    pub(crate) async fn open(
        self,
        own: &Connection,
        agent: &'static str,
        stop: CancellationToken,
    ) -> anyhow::Result<Secured> {
        let pair = match &self.files {
            Some((certificate, key)) => Pair { certificate: cluster::read(certificate)?, key: cluster::read(key)? },
            None => self_signed("localhost", &["localhost".to_owned(), "127.0.0.1".to_owned(), self.name])?,
        };
        let front_ca =
            self.front_ca.as_ref().map(cluster::read).transpose().context("--requestheader-client-ca-file")?;
        let given = Given {
            client_ca: self.client_ca.as_ref().map(cluster::read).transpose().context("--client-ca-file")?,
            front: front_ca.map(|ca| FrontProxy { ca, ..self.front }),
        };
        let trust = Arc::new(Trust::new(given)?);
        let named = self.authentication.is_some();
        let authentication = connect(self.authentication.as_deref(), own, agent).await?;
        let authorization = connect(self.authorization.as_deref(), own, agent).await?;
        if !self.skip_lookup {
            // Nobody asked for a look-up over the component's own connection: it may fail.
            trust.look_up(authentication.client(), self.tolerate || !named, stop).await?;
        }
        let reviews = Reviews::new(authentication.client(), authorization.client());
        Secured::new(&cluster::identity(pair), self.tls, Guard::new(reviews, trust, self.open))
    }
}
