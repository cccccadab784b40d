//! The secure port of the controller manager and the scheduler: its flags, and the listener's TLS and guard made of them.

use super::connection::Connection;
use super::delegated::Guard;
use super::listen::Secured;
use super::settings::Settings;
use crate::pki::{Pair, self_signed};
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// What the flags say.
pub(crate) struct Flags {
    files: Option<(PathBuf, PathBuf)>,
    client_ca: Option<PathBuf>,
    /// Who asks the API server about callers; the component's own connection where none is named.
    authorization: Option<PathBuf>,
    open: Vec<String>,
    name: String,
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
    // Both ask the same API server; the one for reviews of access is used for both.
    let authentication = settings.path("authentication-kubeconfig");
    Ok(Flags {
        files,
        client_ca: settings.path("client-ca-file"),
        authorization: settings.path("authorization-kubeconfig").or(authentication),
        open: settings.list("authorization-always-allow-paths"),
        name: settings.text("bind-address"),
    })
}

impl Flags {
    /// Opens the files.
    ///
    /// # Errors
    /// When one cannot be read or used.
    pub(crate) async fn open(self, own: &Connection, agent: &'static str) -> anyhow::Result<Secured> {
        let text =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let pair = match &self.files {
            Some((certificate, key)) => Pair { certificate: text(certificate)?, key: text(key)? },
            None => self_signed("localhost", &["localhost".to_owned(), "127.0.0.1".to_owned(), self.name])?,
        };
        let client_ca = self.client_ca.as_deref().map(text).transpose()?.unwrap_or_default();
        let connection = match &self.authorization {
            Some(path) => Connection::open(path, "", agent).await?,
            None => own.clone(),
        };
        Secured::new(&pair.certificate, &pair.key, &client_ca, Guard::new(connection, self.open))
    }
}
