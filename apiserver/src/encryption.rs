//! Encryption at rest: what `--encryption-provider-config` says, as the store's transform.
//!
//! The file is upstream's `EncryptionConfiguration`; what the store keeps begins with upstream's prefixes. With
//! `--encryption-provider-config-automatic-reload` a changed file takes effect while the server runs, and one that cannot be used leaves
//! the last good one in force. Never logs a key.

mod ciphers;
mod config;
mod envelope;
mod kms;
mod metrics;
mod provider;
mod resource;
pub mod rewrite;
mod validate;

#[cfg(test)]
#[path = "encryption/tests.rs"]
mod tests;

/// Messages and clients generated from `proto/kms.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications, dead_code)]
mod wire {
    tonic::include_proto!("v2");
}

use arc_swap::ArcSwap;
use bytes::Bytes;
pub(crate) use config::nanoseconds;
use futures::future::BoxFuture;
use kms::Kms;
use metrics::{Direction, LOCAL, Metrics, OK};
use provider::Provider;
use resource::Chosen;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use storage::store::Key;
use storage::transform::{OpenError, Opened, Transform};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a file that may change is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// The least time that key services of a changed file have to answer.
const GRACE: Duration = Duration::from_secs(10);

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("error reading encryption provider configuration file {path:?}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is empty.
    #[error("encryption provider configuration file {0:?} is empty")]
    Empty(PathBuf),
    /// It is no `EncryptionConfiguration`.
    #[error("error decoding encryption provider configuration file {path:?}: {why}")]
    Decode {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Its fields make no sense: upstream's sentences.
    #[error("{0}")]
    Invalid(String),
    /// A provider cannot be made from it.
    #[error("error while building transformers: {0}")]
    Build(String),
    /// Its key services do not answer.
    #[error("health check for new transformers failed: {0}")]
    Unhealthy(String),
}

/// One state of the file.
struct Table {
    chosen: Chosen<Arc<Provider>>,
    kms: Vec<Arc<Kms>>,
    /// Of the file's bytes.
    hash: [u8; 32],
    /// Ends what follows the key services.
    stop: CancellationToken,
}

/// See the file.
pub struct Encryption {
    table: ArcSwap<Table>,
    reload: bool,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryption").field("kms", &self.table.load().kms).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, [u8; 32]), LoadError> {
    let text = std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    if text.is_empty() {
        return Err(LoadError::Empty(path.to_owned()));
    }
    let hash = Sha256::digest(&text).into();
    Ok((text, hash))
}

impl Table {
    /// Reads the file and makes its providers. Key services are followed until `stop`, or until the table's own end.
    fn load(path: &Path, reload: bool, stop: &CancellationToken, metrics: &Arc<Metrics>) -> Result<Table, LoadError> {
        let (text, hash) = read(path)?;
        let configuration = config::parse(&text).map_err(|why| LoadError::Decode { path: path.to_owned(), why })?;
        let errors = validate::validate(&configuration, reload);
        if !errors.is_empty() {
            let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let said = if let [one] = &said[..] { one.clone() } else { format!("[{}]", said.join(", ")) };
            return Err(LoadError::Invalid(said));
        }
        let mut table = Table { chosen: Chosen::new(), kms: Vec::new(), hash, stop: stop.child_token() };
        for entry in &configuration.resources {
            let mut providers = Vec::with_capacity(entry.providers.len());
            for given in &entry.providers {
                let provider = match &given.kms {
                    Some(given) => {
                        let kms = service(given, metrics)?;
                        table.kms.push(Arc::clone(&kms));
                        Provider::Kms(kms)
                    }
                    None => Provider::local(given).map_err(LoadError::Build)?,
                };
                providers.push(Arc::new(provider));
            }
            for name in &entry.resources {
                table.chosen.add(name, &providers).map_err(LoadError::Build)?;
            }
        }
        Ok(table)
    }

    /// Keeps the keys of its services fresh.
    fn follow(&self) {
        for kms in &self.kms {
            tokio::spawn(Arc::clone(kms).follow(self.stop.clone()));
        }
    }

    async fn check(&self) -> Result<(), String> {
        let mut errors = Vec::new();
        for (index, kms) in self.kms.iter().enumerate() {
            errors.extend(kms.check().await.err().map(|error| format!("kms-provider-{index}: {error}")));
        }
        match &errors[..] {
            [] => Ok(()),
            [one] => Err(one.clone()),
            errors => Err(format!("[{}]", errors.join(", "))),
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Counters of this machine's API server.
fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&host()))
}

fn host() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().to_owned()
}

/// By what metrics tell this machine's API server from others.
pub(crate) fn server_hash() -> String {
    envelope::hash(&metrics::identity(&host()))
}

fn service(given: &config::Kms, metrics: &Arc<Metrics>) -> Result<Arc<Kms>, LoadError> {
    if given.api_version == "v1" {
        return Err(LoadError::Build(
            "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.".to_owned(),
        ));
    }
    let timeout = Duration::from_nanos(u64::try_from(given.timeout).unwrap_or(0));
    Kms::new(&given.name, &given.endpoint, timeout, Arc::clone(metrics)).map_err(|why| {
        LoadError::Build(format!("could not configure KMSv2-Plugin's probe {:?}, error: {why}", given.name))
    })
}

impl Encryption {
    /// No configuration: objects are kept as they are, and sealed ones are refused.
    #[must_use]
    pub fn none() -> Arc<Encryption> {
        let table = Table { chosen: Chosen::new(), kms: Vec::new(), hash: [0; 32], stop: CancellationToken::new() };
        Arc::new(Encryption { table: ArcSwap::from_pointee(table), reload: false, metrics: metrics() })
    }

    /// Shows in a registry what encryption counts.
    pub fn register(&self, registry: &prometheus::Registry) {
        self.metrics.register(registry);
    }

    /// What a file says. Asks its key services once; one that does not answer may come later, and what it guards waits for it.
    /// With `reload` the file is looked at again until `stop`.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load(path: &Path, reload: bool, stop: &CancellationToken) -> Result<Arc<Encryption>, LoadError> {
        let metrics = metrics();
        let table = Table::load(path, reload, stop, &metrics)?;
        if let Err(error) = table.check().await {
            tracing::warn!(error, "a key service does not answer yet");
        }
        table.follow();
        metrics.in_force(&table.hash);
        let encryption = Arc::new(Encryption { table: ArcSwap::from_pointee(table), reload, metrics });
        if reload {
            tokio::spawn(Arc::clone(&encryption).watch(path.to_owned(), stop.clone()));
        }
        Ok(encryption)
    }

    /// Takes up changes of the file.
    async fn watch(self: Arc<Self>, path: PathBuf, stop: CancellationToken) {
        let mut said = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            match self.look(&path, &stop).await {
                Ok(false) => {}
                Ok(true) => {
                    said = None;
                    self.metrics.reloaded(true);
                    self.metrics.in_force(&self.table.load().hash);
                    tracing::info!(path = %path.display(), "a new encryption configuration is in force");
                }
                Err(error) => {
                    self.metrics.reloaded(false);
                    let text = error.to_string();
                    if said.as_ref() != Some(&text) {
                        let path = path.display();
                        tracing::error!(%path, error = text, "the encryption configuration in force stays");
                        said = Some(text);
                    }
                }
            }
        }
    }

    /// Takes up the file if it changed and its key services answer.
    async fn look(&self, path: &Path, stop: &CancellationToken) -> Result<bool, LoadError> {
        let (_, hash) = read(path)?;
        if hash == self.table.load().hash {
            return Ok(false);
        }
        let table = Table::load(path, true, stop, &self.metrics)?;
        let patience = GRACE.max(table.kms.iter().map(|kms| kms.timeout()).sum::<Duration>() * 2);
        let mut last = String::new();
        let healthy = tokio::time::timeout(patience, async {
            while let Err(error) = table.check().await {
                last = error;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        healthy.await.map_err(|_| LoadError::Unhealthy(last))?;
        table.follow();
        self.table.store(Arc::new(table));
        Ok(true)
    }

    /// Whether there is a health check `kms-providers`.
    #[must_use]
    pub fn has_check(&self) -> bool {
        self.reload || !self.table.load().kms.is_empty()
    }

    /// The health check `kms-providers`: all key services answer and their keys can be used.
    ///
    /// # Errors
    /// Which do not, and why.
    pub async fn check(&self) -> Result<(), String> {
        self.table.load_full().check().await
    }

    /// Whether the configuration speaks about a stored resource, such as `deployments.apps`.
    #[must_use]
    pub fn selects(&self, resource: &str) -> bool {
        self.table.load().chosen.of(resource).is_some()
    }
}

/// Where an object lies, in upstream's form: what a moved row is found out by.
fn context(key: &Key) -> Vec<u8> {
    format!("/registry/{key}").into_bytes()
}

impl Transform for Encryption {
    fn applies(&self, resource: &str) -> bool {
        self.selects(resource)
    }

    fn seal(&self, key: &Key, plain: &Bytes) -> Result<Bytes, String> {
        match self.table.load().chosen.of(&key.resource) {
            None => Ok(plain.clone()),
            Some(providers) => {
                let begun = Instant::now();
                let sealed = provider::seal(providers, &context(key), plain);
                let prefix = providers.first().map_or("", |first| first.prefix());
                let status = if sealed.is_ok() { OK } else { LOCAL };
                self.metrics.transformed(&key.resource, Direction::ToStorage, prefix, begun.elapsed(), status);
                sealed
            }
        }
    }

    fn open(&self, key: &Key, stored: &Bytes) -> Result<Opened, OpenError> {
        match self.table.load().chosen.of(&key.resource) {
            None => provider::open_plain(stored),
            Some(providers) => {
                let begun = Instant::now();
                provider::open(providers, &context(key), stored, |prefix, well| {
                    let status = if well { OK } else { LOCAL };
                    self.metrics.transformed(&key.resource, Direction::FromStorage, prefix, begun.elapsed(), status);
                })
            }
        }
    }

    fn unlock<'a>(&'a self, key: &'a Key, stored: &'a Bytes) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let table = self.table.load_full();
            let found = table.chosen.of(&key.resource).and_then(|providers| provider::kms_of(providers, stored));
            match found {
                Some((kms, rest)) => {
                    let begun = Instant::now();
                    kms.unlock(&rest).await.map_err(|refusal| {
                        let (prefix, elapsed) = (kms.prefix(), begun.elapsed());
                        let direction = Direction::FromStorage;
                        self.metrics.transformed(&key.resource, direction, prefix, elapsed, refusal.status);
                        refusal.why
                    })
                }
                // The configuration has changed: nothing to fetch any more.
                None => Ok(()),
            }
        })
    }
}
