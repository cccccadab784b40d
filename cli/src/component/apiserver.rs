//! `ironkeel apiserver`: the API server from upstream's flags.

use super::settings::Settings;
use super::table::Component;
use super::{access, audit, secured};
use crate::bounds;
use crate::cluster;
use crate::pki::{Pair, self_signed};
use crate::profile;
use ::apiserver::encryption::Encryption;
use ::apiserver::serving::Serving;
use ::apiserver::transport::{Identity, Named, TlsOptions};
use ::apiserver::{Config, Material, ProxyClient, Source, TokenRules};
use anyhow::Context as _;
use api::features::Gates;
use api::served::Served;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(crate) const COMPONENT: Component = Component {
    name: "apiserver",
    upstream: "kube-apiserver",
    table: include_str!("../../flags/apiserver.txt"),
    document: None,
    file_alone: false,
};

/// Where the flags' certificates are, before they are read.
struct Files {
    serving: Option<(PathBuf, PathBuf)>,
    named: Vec<NamedFiles>,
    cert_dir: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    tokens: Option<PathBuf>,
    signing_key: PathBuf,
    verify_keys: Vec<String>,
    kubelet_client: Option<(PathBuf, PathBuf)>,
    kubelet_ca: Option<PathBuf>,
    proxy_client: Option<(PathBuf, PathBuf)>,
    admission: Option<PathBuf>,
    encryption: Option<PathBuf>,
    encryption_reload: bool,
    tracing: Option<PathBuf>,
}

struct Wanted {
    files: Files,
    listen: SocketAddr,
    advertise: IpAddr,
    anonymous: Option<bool>,
    access: access::Flags,
    tls: TlsOptions,
    requests: Serving,
    modes: Vec<String>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    cidrs: Vec<IpNet>,
    node_ports: (u16, u16),
    event_ttl: std::time::Duration,
    cache_memory: Option<u64>,
    history: std::time::Duration,
    max_requests: usize,
    max_mutating: usize,
    fairness: bool,
    profiling: bool,
    tokens: TokenRules,
    toleration_seconds: [i64; 2],
    enable_admission: Vec<String>,
    disable_admission: Vec<String>,
    allow_privileged: bool,
    kubelet_addresses: Vec<String>,
    gates: Gates,
    served: Served,
    audit: audit::Flags,
    storage: String,
    storage_options: Vec<String>,
}

/// `--tls-sni-cert-key`: `CERTIFICATE,KEY`, and behind a colon the names for which it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedFiles {
    certificate: PathBuf,
    key: PathBuf,
    names: Vec<String>,
}

impl NamedFiles {
    fn parse(text: &str) -> anyhow::Result<NamedFiles> {
        let (files, names) = text.split_once(':').map_or((text, None), |(files, names)| (files, Some(names)));
        let words = |text: &str| -> Vec<String> { text.split(',').map(|word| word.trim().to_owned()).collect() };
        let names = match names.map(str::trim) {
            Some("") => anyhow::bail!("--tls-sni-cert-key {text:?}: empty names list is not allowed"),
            names => names.map(words).unwrap_or_default(),
        };
        let [certificate, key] = words(files).try_into().map_err(|_| {
            anyhow::anyhow!("--tls-sni-cert-key {text:?}: expected comma separated certificate and key file paths")
        })?;
        Ok(NamedFiles { certificate: certificate.into(), key: key.into(), names })
    }

    fn read(&self) -> anyhow::Result<Named> {
        let pair = Pair { certificate: cluster::read(&self.certificate)?, key: cluster::read(&self.key)? };
        Ok(Named { identity: cluster::identity(pair), names: self.names.clone() })
    }
}

/// Two flags of which none or both are given.
fn pair(settings: &Settings, first: &str, second: &str) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    match (settings.path(first), settings.path(second)) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        _ => anyhow::bail!("--{first} and --{second} go together"),
    }
}

fn wanted(settings: &Settings) -> anyhow::Result<Wanted> {
    let bind = settings.ip("bind-address")?.context("--bind-address is missing")?;
    let advertise = match settings.ip("advertise-address")? {
        Some(address) if !address.is_unspecified() => address,
        _ if !bind.is_unspecified() => bind,
        _ => cluster::outward_address(),
    };
    let access = access::read(settings)?;
    let mut modes = settings.list("authorization-mode");
    if modes.is_empty() && !access.decides() {
        tracing::warn!("--authorization-mode is missing: every authenticated request is allowed, as upstream");
        modes.push("AlwaysAllow".to_owned());
    }
    // Who may do everything should at least have a name.
    let nameless = !modes.iter().any(|mode| mode == "AlwaysAllow");
    let anonymous = if settings.is_given("anonymous-auth") {
        Some(settings.bool("anonymous-auth"))
    } else {
        (!nameless).then_some(false)
    };
    let issuers = settings.list("service-account-issuer");
    anyhow::ensure!(!issuers.is_empty(), "--service-account-issuer is missing");
    let cidrs = match settings.text("service-cluster-ip-range").as_str() {
        "" => "10.0.0.0/24".to_owned(),
        given => given.to_owned(),
    };
    let cidr = |text: &str| {
        text.trim().parse::<IpNet>().with_context(|| format!("--service-cluster-ip-range: {text:?} is not a range"))
    };
    // A gate may be said to be of a component, and this one is `kube`.
    let own = |word: String| word.strip_prefix("kube:").map_or(word.clone(), str::to_owned);
    let gates: Vec<String> = settings.words("feature-gates").into_iter().map(own).collect();
    let gates = Gates::parse(&gates).context("--feature-gates")?;
    for name in gates.unknown() {
        tracing::warn!("unrecognized feature gate: {name}");
    }
    let served = Served::by_flags(&settings.words("runtime-config"), &gates).context("--runtime-config")?;
    Ok(Wanted {
        files: Files {
            serving: pair(settings, "tls-cert-file", "tls-private-key-file")?,
            named: settings
                .list("tls-sni-cert-key")
                .iter()
                .map(|text| NamedFiles::parse(text))
                .collect::<Result<_, _>>()?,
            cert_dir: settings.path("cert-dir"),
            client_ca: settings.path("client-ca-file"),
            tokens: settings.path("token-auth-file"),
            signing_key: settings.required("service-account-signing-key-file")?,
            verify_keys: settings.list("service-account-key-file"),
            kubelet_client: pair(settings, "kubelet-client-certificate", "kubelet-client-key")?,
            kubelet_ca: settings.path("kubelet-certificate-authority"),
            proxy_client: pair(settings, "proxy-client-cert-file", "proxy-client-key-file")?,
            admission: settings.path("admission-control-config-file"),
            encryption: settings.path("encryption-provider-config"),
            encryption_reload: settings.bool("encryption-provider-config-automatic-reload"),
            tracing: settings.path("tracing-config-file"),
        },
        listen: SocketAddr::new(bind, settings.number("secure-port")?),
        advertise,
        anonymous,
        access,
        tls: TlsOptions { without_http2: settings.bool("disable-http2-serving"), ..secured::tls(settings) },
        requests: Serving {
            hsts: settings.list("strict-transport-security-directives"),
            cors: settings.list("cors-allowed-origins"),
            goaway_chance: settings.raw("goaway-chance").as_f64().unwrap_or_default(),
            request_timeout: settings.duration("request-timeout")?,
            shutdown_delay: settings.duration("shutdown-delay-duration")?,
            shutdown_send_retry_after: settings.bool("shutdown-send-retry-after"),
            shutdown_watch_grace: settings.duration("shutdown-watch-termination-grace-period")?,
            streams: match settings.number("http2-max-streams-per-connection")? {
                0 => Serving::default().streams,
                streams => streams,
            },
            max_connections: bounds::connections(),
            max_sessions: bounds::sessions(),
        },
        modes,
        issuers,
        audiences: settings.list("api-audiences"),
        cidrs: cidrs.split(',').map(cidr).collect::<anyhow::Result<_>>()?,
        node_ports: cluster::ports(&settings.text("service-node-port-range"))?,
        event_ttl: settings.duration("event-ttl")?,
        cache_memory: bounds::cache_memory(&settings.text("watch-cache-memory"))?,
        history: settings.duration("history-retention")?,
        max_requests: settings.number("max-requests-inflight")?,
        max_mutating: settings.number("max-mutating-requests-inflight")?,
        fairness: settings.bool("enable-priority-and-fairness"),
        profiling: settings.bool("profiling"),
        tokens: tokens(settings)?,
        toleration_seconds: [
            settings.number("default-not-ready-toleration-seconds")?,
            settings.number("default-unreachable-toleration-seconds")?,
        ],
        enable_admission: settings.list("enable-admission-plugins"),
        disable_admission: settings.list("disable-admission-plugins"),
        allow_privileged: settings.bool("allow-privileged"),
        kubelet_addresses: settings.list("kubelet-preferred-address-types"),
        gates,
        served,
        audit: audit::read(settings)?,
        storage: settings.text("storage"),
        storage_options: settings.list("storage-option"),
    })
}

fn tokens(settings: &Settings) -> anyhow::Result<TokenRules> {
    const SHORTEST: u64 = 3600;
    let longest = settings.duration("service-account-max-token-expiration")?.as_secs();
    anyhow::ensure!(
        longest == 0 || (SHORTEST..=1 << 32).contains(&longest),
        "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds"
    );
    let uri = settings.text("service-account-jwks-uri");
    anyhow::ensure!(
        uri.is_empty() || uri.starts_with("https://"),
        "service-account-jwks-uri requires https scheme, parsed as: {uri}"
    );
    let host = settings.text("external-hostname");
    let port: u16 = settings.number("secure-port")?;
    let elsewhere = (!host.is_empty()).then(|| format!("https://{host}:{port}/openid/v1/jwks"));
    Ok(TokenRules {
        extend: settings.bool("service-account-extend-token-expiration"),
        longest: i64::try_from(longest).ok().filter(|seconds| *seconds > 0),
        jwks_uri: Some(uri).filter(|uri| !uri.is_empty()).or(elsewhere),
    })
}

fn tracing_settings(path: &Path) -> anyhow::Result<::apiserver::spans::Settings> {
    let text = cluster::read(path)?;
    let read = ::apiserver::spans::Settings::parse(text.as_bytes());
    read.map_err(|why| anyhow::anyhow!("--tracing-config-file {}: {why}", path.display()))
}

/// The files of a certificate and its key.
type CertificateFiles = (PathBuf, PathBuf);

fn identity((certificate, key): &CertificateFiles) -> anyhow::Result<Identity> {
    Ok(cluster::identity(Pair { certificate: cluster::read(certificate)?, key: cluster::read(key)? }))
}

/// The certificate that is named, or that of `--cert-dir`, which is made where there is none.
fn serving(wanted: &Wanted) -> anyhow::Result<CertificateFiles> {
    if let Some(files) = &wanted.files.serving {
        return Ok(files.clone());
    }
    let directory = wanted.files.cert_dir.as_deref().context("--tls-cert-file is missing, and so is --cert-dir")?;
    let (certificate, key) = (directory.join("apiserver.crt"), directory.join("apiserver.key"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    let own = self_signed("ironkeel", &cluster::hosts(wanted.advertise, &wanted.cidrs, &super::host_name("")))?;
    crate::kubeconfig::write_private(&key, &own.key)?;
    crate::kubeconfig::write_private(&certificate, &own.certificate)?;
    Ok((certificate, key))
}

/// Reads again what was read of files, the certificate of `serving` among it.
fn material(serving: CertificateFiles, files: &Files, front_ca: Option<PathBuf>) -> Source {
    let (client_ca, sni) = (files.client_ca.clone(), files.named.clone());
    let (kubelet, proxy) = (files.kubelet_client.clone(), files.proxy_client.clone());
    let read = move || -> anyhow::Result<Material> {
        let text = |path: &Option<PathBuf>| path.as_deref().map(cluster::read).transpose();
        Ok(Material {
            identity: identity(&serving)?,
            named: sni.iter().map(NamedFiles::read).collect::<anyhow::Result<_>>()?,
            client_ca: text(&client_ca)?,
            front_proxy_ca: text(&front_ca)?,
            kubelet_client: kubelet.as_ref().map(identity).transpose()?,
            proxy_client: proxy.as_ref().map(identity).transpose()?,
        })
    };
    Arc::new(move || read().map_err(|error| format!("{error:#}")))
}

/// Runs an API server until `stop`.
///
/// # Errors
/// When the settings cannot be, or the server cannot start.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    bounds::raise_descriptors();
    let wanted = wanted(&settings)?;
    let serving = serving(&wanted)?;
    let files = wanted.files;
    let encryption = match &files.encryption {
        None => Encryption::none(),
        Some(path) => {
            let loaded = Encryption::load(path, files.encryption_reload, &stop).await;
            loaded.context("--encryption-provider-config")?
        }
    };
    let kubelet_client = files.kubelet_client.as_ref().map(identity).transpose()?;
    let text = |path: &Option<PathBuf>| path.as_deref().map(cluster::read).transpose();
    let proxy_client = match (&files.proxy_client, text(&wanted.access.front_ca)?) {
        (Some(pair), Some(authority)) => Some(ProxyClient { identity: identity(pair)?, authority }),
        _ => None,
    };
    let own = identity(&serving)?;
    let material = material(serving, &files, wanted.access.front_ca.clone());
    let (authentication, authorization) = wanted.access.open()?;
    let config = Config {
        listen: wanted.listen,
        advertise: wanted.advertise,
        identity: own,
        client_ca: text(&files.client_ca)?,
        token_file: text(&files.tokens)?,
        anonymous: wanted.anonymous,
        authentication,
        tls: TlsOptions {
            named: files
                .named
                .iter()
                .map(NamedFiles::read)
                .collect::<anyhow::Result<_>>()
                .context("--tls-sni-cert-key")?,
            ..wanted.tls
        },
        serving: wanted.requests,
        material: Some(material),
        authorization,
        admission_config: files.admission.clone(),
        proxy_client,
        authorization_modes: wanted.modes,
        issuers: wanted.issuers,
        audiences: wanted.audiences,
        signing_key: cluster::read(&files.signing_key)?,
        verify_keys: files.verify_keys.iter().map(cluster::read).collect::<anyhow::Result<_>>()?,
        service_cidrs: wanted.cidrs,
        node_ports: wanted.node_ports,
        event_ttl: wanted.event_ttl,
        cache_memory: wanted.cache_memory,
        history: wanted.history,
        max_requests: wanted.max_requests,
        max_mutating: wanted.max_mutating,
        fairness: wanted.fairness,
        enable_admission: wanted.enable_admission,
        disable_admission: wanted.disable_admission,
        allow_privileged: wanted.allow_privileged,
        kubelet_client,
        kubelet_ca: text(&files.kubelet_ca)?,
        kubelet_addresses: wanted.kubelet_addresses,
        local_backends: false,
        controller_roles: cluster::controller_roles(&wanted.gates),
        workers: std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get).min(8),
        encryption,
        audit: wanted.audit.open()?,
        tracing: files.tracing.as_deref().map(tracing_settings).transpose()?,
        unsafe_deletion: wanted.gates.enabled("AllowUnsafeMalformedObjectDeletion"),
        gates: wanted.gates,
        served: wanted.served,
        tokens: wanted.tokens,
        toleration_seconds: wanted.toleration_seconds,
        profiling: profile::process(wanted.profiling),
        version: cluster::VERSION.to_owned(),
    };
    let serving = cluster::serve(config, &wanted.storage, &wanted.storage_options, &stop);
    let running = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        running = serving => running?,
    };
    tracing::info!(address = %running.address(), "serving");
    stop.cancelled().await;
    running.ended().await;
    running.closed().await;
    Ok(())
}

#[cfg(test)]
pub(crate) fn read_all(settings: &Settings) -> anyhow::Result<()> {
    wanted(settings).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_for_names_are_read_as_upstream_reads_them() {
        let check = |text: &str, want: Result<(&str, &str, &[&str]), &str>| match (NamedFiles::parse(text), want) {
            (Ok(got), Ok((certificate, key, names))) => {
                assert_eq!((got.certificate, got.key), (certificate.into(), key.into()), "{text}");
                assert_eq!(got.names, names, "{text}");
            }
            (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{text}: {got}"),
            (got, want) => panic!("{text}: {got:?}, not {want:?}"),
        };
        check("a.crt,a.key", Ok(("a.crt", "a.key", &[])));
        check("foo.crt, foo.key: *.foo.com, foo.com", Ok(("foo.crt", "foo.key", &["*.foo.com", "foo.com"])));
        check("a.crt,a.key:", Err("empty names list is not allowed"));
        check("a.crt", Err("expected comma separated certificate and key file paths"));
        check("a,b,c:d", Err("expected comma separated certificate and key file paths"));
    }
}
