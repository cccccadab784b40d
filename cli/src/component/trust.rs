//! By what the callers of a component's listener are known beside tokens: authorities of client certificates and of front proxies, from flags
//! or, where flags leave them out, from the ConfigMap `kube-system/extension-apiserver-authentication`, whose changes are followed.
//!
//! Never asks about rights. Source: upstream's delegated authentication.

use anyhow::Context as _;
use apiserver::authn::{Authenticators, Credentials, FrontProxy, Outcome, Settings};
use futures::StreamExt as _;
use http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube_runtime::{WatchStreamExt as _, watcher};
use kubelet::delegated::User;
use parking_lot::RwLock;
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::clock::{Clock as _, SystemClock};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// What is found out about a caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Somebody.
    User(User),
    /// Credentials that do not hold.
    Refused,
    /// No credentials of these kinds.
    Nobody,
}

/// What the flags say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Content of `--client-ca-file`.
    pub(crate) client_ca: Option<String>,
    /// `--requestheader-*`, if they name an authority.
    pub(crate) front: Option<FrontProxy>,
}

/// Knows callers. What is learnt later takes the place of what was there.
pub(crate) struct Trust {
    given: Given,
    front: RwLock<Arc<Authenticators>>,
    clients: RwLock<Arc<Authenticators>>,
}

fn front(proxy: Option<FrontProxy>) -> anyhow::Result<Arc<Authenticators>> {
    Ok(Arc::new(Authenticators::new(&Settings { front_proxy: proxy, ..Settings::default() })?))
}

fn clients(authority: Option<String>) -> anyhow::Result<Arc<Authenticators>> {
    Ok(Arc::new(Authenticators::new(&Settings { client_ca: authority, ..Settings::default() })?))
}

/// The front proxy as the ConfigMap describes it; none where it names no authority.
fn described(data: &BTreeMap<String, String>) -> anyhow::Result<Option<FrontProxy>> {
    let text = |key: &str| data.get(key).map(String::as_str).filter(|text| !text.is_empty());
    let Some(ca) = text("requestheader-client-ca-file") else { return Ok(None) };
    let list = |key: &str| -> anyhow::Result<Vec<String>> {
        let list = text(key).map(serde_json::from_str).transpose();
        Ok(list.with_context(|| format!("{NAME}: {key}"))?.unwrap_or_default())
    };
    Ok(Some(FrontProxy {
        ca: ca.to_owned(),
        allowed_names: list("requestheader-allowed-names")?,
        username_headers: list("requestheader-username-headers")?,
        uid_headers: list("requestheader-uid-headers")?,
        group_headers: list("requestheader-group-headers")?,
        extra_prefixes: list("requestheader-extra-headers-prefix")?,
    }))
}

impl Trust {
    /// What the flags say.
    ///
    /// # Errors
    /// When an authority is no PEM or a header has no name.
    pub(crate) fn new(given: Given) -> anyhow::Result<Trust> {
        let (front, clients) = (front(given.front.clone())?, clients(given.client_ca.clone())?);
        Ok(Trust { given, front: RwLock::new(front), clients: RwLock::new(clients) })
    }

    /// Takes up what the ConfigMap says of what the flags leave out. What cannot be used, or is not there, changes nothing.
    fn learn(&self, data: &BTreeMap<String, String>) {
        let told =
            |what: &str, error: &anyhow::Error| tracing::warn!(error = format!("{error:#}"), "{NAME}: {what} stays");
        if self.given.client_ca.is_none()
            && let Some(authority) = data.get("client-ca-file").filter(|text| !text.is_empty())
        {
            match clients(Some(authority.clone())) {
                Ok(learnt) => *self.clients.write() = learnt,
                Err(error) => told("the authority of clients", &error),
            }
        }
        if self.given.front.is_none() {
            match described(data).and_then(|proxy| proxy.map(|proxy| front(Some(proxy))).transpose()) {
                Ok(Some(learnt)) => *self.front.write() = learnt,
                Ok(None) => {}
                Err(error) => told("the front proxy", &error),
            }
        }
    }

    /// Whether the flags leave anything out.
    fn lacks(&self) -> bool {
        self.given.client_ca.is_none() || self.given.front.is_none()
    }

    /// Looks up what the flags leave out, and follows it until `stop`.
    ///
    /// # Errors
    /// When it cannot be read, and that is not tolerated. One that is not there is no error.
    pub(crate) async fn look_up(
        self: &Arc<Self>,
        client: kube::Client,
        tolerate: bool,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        if !self.lacks() {
            return Ok(());
        }
        let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
        match api.get_opt(NAME).await {
            Ok(found) => self.learn(&found.and_then(|found| found.data).unwrap_or_default()),
            Err(error) if tolerate => {
                tracing::warn!(%error, "Error looking up in-cluster authentication configuration");
                tracing::warn!(
                    "Continuing without authentication configuration. This may treat all requests as anonymous."
                );
                tracing::warn!(
                    "To require authentication configuration lookup to succeed, set --authentication-tolerate-lookup-failure=false"
                );
            }
            Err(error) => {
                return Err(error).context("unable to load configmap based request-header-client-ca-file");
            }
        }
        let trust = Arc::clone(self);
        let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let mut changes = watcher(api, only).default_backoff().applied_objects().boxed();
        tokio::spawn(async move {
            loop {
                let change = tokio::select! {
                    () = stop.cancelled() => return,
                    change = changes.next() => change,
                };
                match change {
                    Some(Ok(map)) => trust.learn(&map.data.unwrap_or_default()),
                    Some(Err(error)) => tracing::debug!(%error, "{NAME} is not followed"),
                    None => return,
                }
            }
        });
        Ok(())
    }

    /// Who calls, by certificate or by a front proxy's word.
    pub(crate) async fn identify(&self, certificates: &[CertificateDer<'static>], headers: &HeaderMap) -> Found {
        let (front, clients) = (Arc::clone(&self.front.read()), Arc::clone(&self.clients.read()));
        let named: Vec<(String, String)> = headers
            .iter()
            .filter(|(name, _)| front.reads(name.as_str()))
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let now = i64::try_from(SystemClock.unix_seconds()).unwrap_or(i64::MAX);
        let mut refused = false;
        for known in [front, clients] {
            let credentials = Credentials { client_certs: certificates, headers: &named, ..Credentials::none(now) };
            match known.authenticate(&credentials).await {
                Outcome::User(user) => {
                    return Found::User(User {
                        name: user.name,
                        uid: user.uid,
                        groups: user.groups,
                        extra: user.extra,
                    });
                }
                Outcome::Rejected(why) => {
                    tracing::debug!(why, "a certificate is refused");
                    refused = true;
                }
                Outcome::None => {}
            }
        }
        if refused { Found::Refused } else { Found::Nobody }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    fn client(authority: &Authority, name: &str) -> Vec<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        vec![params.signed_by(&key, &authority.issuer).unwrap().der().clone()]
    }

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[tokio::test]
    async fn what_flags_leave_out_is_learnt_and_what_they_say_stays() {
        let (ours, fronts, others) = (authority("ours"), authority("front"), authority("others"));
        let whole = |clients: &str, proxy: &str| {
            map(&[
                ("client-ca-file", clients),
                ("requestheader-client-ca-file", proxy),
                ("requestheader-allowed-names", "[\"proxy\"]"),
                ("requestheader-username-headers", "[\"X-Remote-User\"]"),
                ("requestheader-group-headers", "[\"X-Remote-Group\"]"),
            ])
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", http::HeaderValue::from_static("jane"));
        headers.insert("x-remote-group", http::HeaderValue::from_static("dev"));
        let check = async |trust: &Trust, certificates: &[CertificateDer<'static>], headers: &HeaderMap, want: &str| {
            let found = match trust.identify(certificates, headers).await {
                Found::User(user) => format!("{} {}", user.name, user.groups.join(",")),
                other => format!("{other:?}"),
            };
            assert_eq!(found, want);
        };
        let none = HeaderMap::new();
        let (jack, proxy) = (client(&ours, "jack"), client(&fronts, "proxy"));

        let trust = Trust::new(Given::default()).unwrap();
        check(&trust, &[], &none, "Nobody").await;
        // Nobody is known yet, so that no certificate is a good or a bad one.
        check(&trust, &jack, &none, "Nobody").await;
        check(&trust, &proxy, &headers, "Nobody").await;
        trust.learn(&whole(&ours.pem, &fronts.pem));
        check(&trust, &jack, &none, "jack system:authenticated").await;
        check(&trust, &client(&others, "jack"), &none, "Refused").await;
        check(&trust, &proxy, &headers, "jane dev,system:authenticated").await;
        // Headers of anybody else say nothing.
        check(&trust, &jack, &headers, "jack system:authenticated").await;
        check(&trust, &[], &headers, "Nobody").await;
        check(&trust, &client(&fronts, "other"), &headers, "Refused").await;
        // What cannot be used, or is gone, changes nothing.
        for data in [
            map(&[]),
            whole("nonsense", "nonsense"),
            map(&[("requestheader-client-ca-file", &fronts.pem), ("requestheader-allowed-names", "proxy")]),
        ] {
            trust.learn(&data);
            check(&trust, &jack, &none, "jack system:authenticated").await;
            check(&trust, &proxy, &headers, "jane dev,system:authenticated").await;
        }
        // Another authority takes its place.
        trust.learn(&whole(&others.pem, &fronts.pem));
        check(&trust, &jack, &none, "Refused").await;
        check(&trust, &client(&others, "jim"), &none, "jim system:authenticated").await;

        // Flags stand over the cluster.
        let front = FrontProxy { ca: fronts.pem.clone(), ..FrontProxy::default() };
        let trust = Trust::new(Given { client_ca: Some(ours.pem.clone()), front: Some(front) }).unwrap();
        assert!(!trust.lacks());
        trust.learn(&whole(&others.pem, &others.pem));
        check(&trust, &jack, &none, "jack system:authenticated").await;
        check(&trust, &client(&fronts, "any"), &headers, "jane dev,system:authenticated").await;
        assert!(Trust::new(Given { client_ca: Some("nonsense".into()), front: None }).is_err());
    }
}
