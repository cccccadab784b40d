//! Certificates that a kubelet asks the cluster for: its client certificate, first with a bootstrap kubeconfig and then as itself, and
//! its serving certificate. Keys never leave the machine.
//!
//! Files are upstream's: `kubelet-client-current.pem` and `kubelet-server-current.pem` in `--cert-dir`, certificate and key in one.

use super::connection::Connection;
use crate::kubeconfig::write_private;
use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use serde_json::json;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// Between two looks whether a request was answered.
const LOOK: Duration = Duration::from_secs(1);
/// How long a request may stay unanswered before another is made.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Before a failed renewal is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client of the API server.
    Client,
    /// The kubelet's own API.
    Serving,
}

impl Purpose {
    fn signer(self) -> &'static str {
        match self {
            Purpose::Client => controllers::certificate::KUBELET_CLIENT,
            Purpose::Serving => controllers::certificate::KUBELET_SERVING,
        }
    }

    fn usages(self) -> Vec<String> {
        let auth = if self == Purpose::Client { "client auth" } else { "server auth" };
        vec!["digital signature".to_owned(), auth.to_owned()]
    }

    fn stem(self) -> &'static str {
        if self == Purpose::Client { "kubelet-client" } else { "kubelet-server" }
    }

    /// The file that always names the newest.
    pub(crate) fn current(self, directory: &Path) -> PathBuf {
        directory.join(format!("{}-current.pem", self.stem()))
    }
}

/// A kubelet, as it asks for certificates.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// Name of the Node.
    pub(crate) node: String,
    /// `--cert-dir`.
    pub(crate) directory: PathBuf,
    /// Names and addresses of its serving certificate.
    pub(crate) hosts: Vec<String>,
}

impl Asker {
    /// Asks for a certificate, waits until it is issued, and keeps it. The files that were current before stay.
    ///
    /// # Errors
    /// When the request is denied, failed or stays unanswered too long, or the API server does not answer.
    pub(crate) async fn ask(&self, client: kube::Client, purpose: Purpose) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", self.node));
        if purpose == Purpose::Serving {
            for host in &self.hosts {
                params.subject_alt_names.push(match host.parse::<IpAddr>() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName(host.as_str().try_into()?),
                });
            }
        }
        let request = params.serialize_request(&key)?.pem()?;
        let api: Api<CertificateSigningRequest> = Api::all(client);
        let object = CertificateSigningRequest {
            metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.into_bytes()),
                signer_name: purpose.signer().to_owned(),
                usages: Some(purpose.usages()),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let made =
            api.create(&PostParams::default(), &object).await.context("the certificate could not be asked for")?;
        let name = made.metadata.name.unwrap_or_default();
        tracing::info!(name, signer = purpose.signer(), "waiting for a certificate");
        let issued = tokio::time::timeout(PATIENCE, issued(&api, &name)).await;
        let certificate = issued.with_context(|| format!("nobody answered the CertificateSigningRequest {name}"))??;
        self.keep(purpose, &certificate, &key.serialize_pem())
    }

    /// Writes a certificate with its key and makes it the current one, in one step.
    fn keep(&self, purpose: Purpose, certificate: &str, key: &str) -> anyhow::Result<()> {
        let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let file = self.directory.join(format!("{}-{stamp}.pem", purpose.stem()));
        write_private(&file, &format!("{}\n{key}", certificate.trim_end()))?;
        let current = purpose.current(&self.directory);
        let scratch = current.with_extension("pem.new");
        let _ = std::fs::remove_file(&scratch);
        std::os::unix::fs::symlink(&file, &scratch)
            .and_then(|()| std::fs::rename(&scratch, &current))
            .with_context(|| format!("cannot write {}", current.display()))
    }

    /// Certificate and key that are current, PEM; none when they are missing or at their end.
    pub(crate) fn current(&self, purpose: Purpose) -> Option<String> {
        let text = std::fs::read_to_string(purpose.current(&self.directory)).ok()?;
        (left(&text)? > Duration::ZERO).then_some(text)
    }

    /// How long to wait before the current certificate is renewed: until it has used up seven to nine tenths of its life.
    fn until_renewal(&self, purpose: Purpose) -> Duration {
        let text = std::fs::read_to_string(purpose.current(&self.directory)).unwrap_or_default();
        let (Some(left), Some(life)) = (left(&text), life(&text)) else { return Duration::ZERO };
        // Nodes that were made together do not all come at once.
        let spread = 0.1 + 0.2 * f64::from(rand::random::<u8>()) / 255.0;
        left.saturating_sub(life.mul_f64(spread))
    }

    /// Renews the certificate whenever it grows old, until `stop`; `taken` takes up the new one.
    pub(crate) async fn renew(
        self,
        client: kube::Client,
        purpose: Purpose,
        stop: CancellationToken,
        taken: impl AsyncFn() -> anyhow::Result<()>,
    ) {
        let mut wait = self.until_renewal(purpose);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let renewed = async {
                self.ask(client.clone(), purpose).await?;
                taken().await
            };
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = renewed => outcome,
            };
            wait = match outcome {
                Ok(()) => self.until_renewal(purpose).max(LOOK),
                Err(error) => {
                    tracing::warn!("the {} certificate was not renewed: {error:#}", purpose.stem());
                    AGAIN
                }
            };
        }
    }
}

async fn issued(api: &Api<CertificateSigningRequest>, name: &str) -> anyhow::Result<String> {
    loop {
        match api.get(name).await {
            Ok(request) => {
                for bad in ["Denied", "Failed"] {
                    let condition = controllers::certificate::conditions(&request, bad).next();
                    if let Some(condition) = condition {
                        let why = condition.message.clone().unwrap_or_default();
                        anyhow::bail!("the CertificateSigningRequest {name} is {}: {why}", bad.to_lowercase());
                    }
                }
                let certificate = controllers::certificate::issued(&request);
                if !certificate.is_empty() {
                    return Ok(String::from_utf8(certificate.to_vec())?);
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                anyhow::bail!("the CertificateSigningRequest {name} was deleted")
            }
            // Nobody may read requests for a moment after a start, or the API server is away.
            Err(error) => tracing::debug!(%error, name, "the request was not read"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How long the first certificate of a text is good for from now; zero when it is over.
fn left(pem: &str) -> Option<Duration> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    let left = validity.time_to_expiration().and_then(|left| left.try_into().ok());
    Some(left.unwrap_or_default())
}

/// How long it is good for in all.
fn life(pem: &str) -> Option<Duration> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    let seconds = validity.not_after.timestamp().checked_sub(validity.not_before.timestamp())?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Whether a kubeconfig lacks credentials that hold: it is not there, or its client certificate is gone or over.
pub(crate) fn lacks_credentials(kubeconfig: &Path) -> bool {
    let Ok(config) = Kubeconfig::read_from(kubeconfig) else { return true };
    let users = config.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
    let certificates: Vec<_> = users.filter_map(|user| user.client_certificate.clone()).collect();
    // Tokens, plugins and certificates within the file are somebody else's to renew.
    !certificates.is_empty()
        && !certificates
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .any(|text| left(&text).is_some_and(|left| left > Duration::ZERO))
}

/// Gets the first client certificate with the credentials of `bootstrap` and writes the kubeconfig that uses it.
///
/// # Errors
/// When the bootstrap kubeconfig cannot be used or nobody issues a certificate.
pub(crate) async fn bootstrap(asker: &Asker, bootstrap: &Path, kubeconfig: &Path) -> anyhow::Result<()> {
    let connection = Connection::open(bootstrap, "", "kubelet/v1.36").await.context("--bootstrap-kubeconfig")?;
    asker.ask(connection.client(), Purpose::Client).await?;
    let given = Kubeconfig::read_from(bootstrap).context("--bootstrap-kubeconfig")?;
    let context = given.current_context.clone().unwrap_or_default();
    let cluster = given.contexts.iter().find(|other| other.name == context).and_then(|other| other.context.as_ref());
    let cluster = cluster.map(|context| context.cluster.clone()).unwrap_or_default();
    let cluster = given.clusters.iter().find(|other| other.name == cluster).and_then(|other| other.cluster.clone());
    let current = Purpose::Client.current(&asker.directory);
    let text = serde_yaml_ng::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": {"client-certificate": current, "client-key": current}}],
        "contexts": [{"name": "default-context", "context": {
            "cluster": "default-cluster", "namespace": "default", "user": "default-auth"}}],
        "current-context": "default-context",
    }))?;
    write_private(kubeconfig, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: i64, to: i64) -> String {
        let mut params = CertificateParams::default();
        let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now + seconds).unwrap());
        (params.not_before, params.not_after) = (at(from).into(), at(to).into());
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_certificate_is_renewed_late_in_its_life_and_not_used_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let asker = Asker { node: "a".into(), directory: directory.path().to_owned(), hosts: Vec::new() };
        assert!(asker.current(Purpose::Client).is_none());
        assert_eq!(asker.until_renewal(Purpose::Client), Duration::ZERO);
        asker.keep(Purpose::Client, &certificate(0, 1000), "key").unwrap();
        assert!(asker.current(Purpose::Client).unwrap().ends_with("key"));
        let wait = asker.until_renewal(Purpose::Client).as_secs();
        assert!((690..=900).contains(&wait), "{wait}");
        asker.keep(Purpose::Client, &certificate(-1000, -10), "key").unwrap();
        assert!(asker.current(Purpose::Client).is_none());
        assert_eq!(asker.until_renewal(Purpose::Client), Duration::ZERO);
    }

    #[test]
    fn only_a_kubeconfig_with_a_certificate_that_holds_needs_no_bootstrap() {
        let directory = tempfile::tempdir().unwrap();
        let (config, file) = (directory.path().join("config"), directory.path().join("c.pem"));
        assert!(lacks_credentials(&config));
        let write = |user: serde_json::Value| {
            let text = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": "u", "user": user}]});
            std::fs::write(&config, text.to_string()).unwrap();
            lacks_credentials(&config)
        };
        assert!(!write(json!({"token": "t"})));
        assert!(write(json!({"client-certificate": file})));
        std::fs::write(&file, certificate(0, 1000)).unwrap();
        assert!(!write(json!({"client-certificate": file})));
        std::fs::write(&file, certificate(-1000, -10)).unwrap();
        assert!(write(json!({"client-certificate": file})));
    }
}
