//! The control plane of `up`: API server, controllers and scheduler, put together from flags.
//!
//! Never touches containers; `node.rs` does.

use crate::bounds;
use crate::flags::Up;
use crate::node;
use crate::pki::{Authority, Pair, Subject, token_key};
use crate::place;
use crate::profile;
use anyhow::Context as _;
use api::features::Gates;
use api::served::Served;
use apiserver::ProxyClient;
use apiserver::authn::User;
use apiserver::authn::tokens::{self, TokenSigner};
use apiserver::authz::bootstrap::ControllerRole;
use apiserver::encryption::Encryption;
use apiserver::transport::Identity;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::clock::SystemClock;
use storage::store::Store;
use tokio_util::sync::CancellationToken;

/// The Kubernetes version whose API is served.
pub(crate) const VERSION: &str = concat!("v1.36.0+ironkeel.", env!("CARGO_PKG_VERSION"));

/// What the controllers call themselves.
const MANAGER: &str = "kube-controller-manager/v1.36";

/// A control plane that serves.
pub(crate) struct ControlPlane {
    pub(crate) api: apiserver::Running,
    pub(crate) authority: Authority,
    pub(crate) advertise: IpAddr,
    /// URL for clients on this machine.
    pub(crate) url: String,
}

/// Starts the API server over the store in the data directory.
pub(crate) async fn start(
    flags: &Up,
    data: &Path,
    node: &str,
    stop: &CancellationToken,
) -> anyhow::Result<ControlPlane> {
    let pki = data.join("pki");
    let authority = Authority::open(&pki)?;
    let advertise = match flags.advertise_address.unwrap_or_else(outward_address) {
        // Without a way out the pods still reach this machine over their bridge.
        address if address.is_loopback() && flags.advertise_address.is_none() && !flags.no_node => {
            node::gateway(flags)?
        }
        address => address,
    };
    let cidrs = flags
        .service_cluster_ip_range
        .iter()
        .map(|text| {
            text.parse::<IpNet>().with_context(|| format!("--service-cluster-ip-range: {text:?} is not a range"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let serving = match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(certificate), Some(key)) => Pair { certificate: read(certificate)?, key: read(key)? },
        _ => authority.issue(&Subject {
            file: "apiserver",
            name: "kube-apiserver",
            group: None,
            hosts: hosts(advertise, &cidrs, node),
        })?,
    };
    let kubelet_client = authority.issue(&Subject {
        file: "apiserver-kubelet-client",
        name: "kube-apiserver-kubelet-client",
        group: Some("system:masters"),
        hosts: Vec::new(),
    })?;
    let mut client_ca = authority.certificate().to_owned();
    if let Some(path) = &flags.client_ca_file {
        client_ca.push('\n');
        client_ca.push_str(&read(path)?);
    }
    let signing_key = match &flags.service_account_signing_key_file {
        Some(path) => read(path)?,
        None => token_key(&pki)?,
    };
    let encryption = match &flags.encryption_provider_config {
        None => Encryption::none(),
        Some(path) => Encryption::load(path, flags.encryption_provider_config_automatic_reload, stop)
            .await
            .context("--encryption-provider-config")?,
    };
    let gates = Gates::parse(&flags.feature_gates).context("--feature-gates")?;
    for name in gates.unknown() {
        tracing::warn!("unrecognized feature gate: {name}");
    }
    let served = Served::by_flags(&flags.runtime_config, &gates).context("--runtime-config")?;
    let config = apiserver::Config {
        listen: SocketAddr::new(flags.bind_address, flags.secure_port),
        advertise,
        identity: identity(serving),
        client_ca: Some(client_ca),
        token_file: flags.token_auth_file.as_deref().map(read).transpose()?,
        // The flag's default is no wish: a file may say otherwise.
        anonymous: (!flags.anonymous_auth).then_some(false),
        authentication: apiserver::Authentication {
            bootstrap_tokens: true,
            config_file: flags.authentication_config.clone(),
            ..apiserver::Authentication::default()
        },
        tls: apiserver::transport::TlsOptions::default(),
        material: None,
        serving: apiserver::serving::Serving {
            max_connections: bounds::connections(),
            max_sessions: bounds::sessions(),
            ..apiserver::serving::Serving::default()
        },
        authorization_modes: flags.authorization_mode.clone(),
        authorization: apiserver::Authorization {
            config_file: flags.authorization_config.clone(),
            ..apiserver::Authorization::default()
        },
        issuers: flags.service_account_issuer.clone(),
        audiences: flags.api_audiences.clone(),
        signing_key,
        verify_keys: flags.service_account_key_file.iter().map(read).collect::<anyhow::Result<_>>()?,
        service_cidrs: cidrs,
        node_ports: ports(&flags.service_node_port_range)?,
        event_ttl: duration("--event-ttl", &flags.event_ttl)?,
        cache_memory: bounds::cache_memory(flags.watch_cache_memory.as_deref().unwrap_or_default())?,
        history: duration("--history-retention", &flags.history_retention)?,
        max_requests: flags.max_requests_inflight,
        max_mutating: flags.max_mutating_requests_inflight,
        fairness: flags.enable_priority_and_fairness,
        enable_admission: admission_plugins(flags),
        disable_admission: flags.disable_admission_plugins.clone(),
        allow_privileged: true,
        admission_config: flags.admission_control_config_file.clone(),
        kubelet_client: Some(identity(kubelet_client)),
        kubelet_ca: Some(authority.certificate().to_owned()),
        kubelet_addresses: apiserver::server::kubelet_addresses(),
        local_backends: false,
        proxy_client: Some(proxy_client(&pki)?),
        controller_roles: controller_roles(&gates),
        workers: std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get).min(8),
        encryption,
        audit: None,
        tracing: None,
        tokens: apiserver::TokenRules::default(),
        toleration_seconds: [300, 300],
        profiling: profile::process(true),
        unsafe_deletion: gates.enabled("AllowUnsafeMalformedObjectDeletion"),
        gates,
        served,
        version: VERSION.to_owned(),
    };
    let storage = match &flags.storage {
        Some(storage) => storage.clone(),
        None => place::embedded(data),
    };
    let api = Box::pin(serve(config, &storage, &flags.storage_option, stop)).await?;
    let host = if flags.bind_address.is_unspecified() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { flags.bind_address };
    let url = format!("https://{}", SocketAddr::new(host, api.address().port()));
    Ok(ControlPlane { api, authority, advertise, url })
}

/// Who the API server is to aggregated ones; an authority of its own vouches for it, so that no other certificate is taken for it.
fn proxy_client(pki: &Path) -> anyhow::Result<ProxyClient> {
    let authority = Authority::front_proxy(pki)?;
    let subject = Subject { file: "front-proxy-client", name: "front-proxy-client", group: None, hosts: Vec::new() };
    let client = authority.issue(&subject)?;
    Ok(ProxyClient { identity: identity(client), authority: authority.certificate().to_owned() })
}

/// Opens the store and starts an API server over it.
pub(crate) async fn serve(
    config: apiserver::Config,
    storage: &str,
    options: &[String],
    stop: &CancellationToken,
) -> anyhow::Result<apiserver::Running> {
    let options = options
        .iter()
        .map(|text| text.split_once('=').with_context(|| format!("--storage-option: {text:?} is not NAME=VALUE")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let kv = storage::engines::open_with(storage, &options)
        .with_context(|| format!("the store {storage} cannot be opened"))?;
    let clock = Arc::new(SystemClock);
    let encryption = Arc::clone(&config.encryption);
    let store =
        Store::open_sealed(kv, Arc::clone(&clock) as _, encryption).await.context("the store cannot be read")?;
    Ok(apiserver::start(config, store, clock, stop.clone()).await?)
}

/// What is on beside the defaults: a cluster with nodes keeps them to their own.
fn admission_plugins(flags: &Up) -> Vec<String> {
    const NODES: &str = "NodeRestriction";
    let mut enabled = flags.enable_admission_plugins.clone();
    let named = |list: &[String]| list.iter().any(|name| name == NODES);
    if !named(&enabled) && !named(&flags.disable_admission_plugins) {
        enabled.push(NODES.to_owned());
    }
    enabled
}

pub(crate) fn identity(pair: Pair) -> Identity {
    Identity { certificates: pair.certificate, key: pair.key }
}

/// Signs tokens that go into secrets with this key, PEM.
pub(crate) fn signer(pem: &str) -> anyhow::Result<controllers::Signer> {
    let key = TokenSigner::from_pem(pem, tokens::LEGACY_ISSUER).context("no key that signs tokens")?;
    Ok(controllers::Signer::new(move |of| {
        let account = tokens::ObjectRef { name: of.account.to_owned(), uid: of.account_uid.to_owned() };
        let claims = key.legacy_claims(of.namespace, account, of.secret);
        key.sign(&claims).map_err(|error| error.to_string())
    }))
}

/// Runs the controllers and the scheduler until `stop`.
pub(crate) fn converge(flags: &Up, plane: &ControlPlane, stop: &CancellationToken) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    let clients = Arc::new(Clients::new(plane));
    // Over one database there may be several processes, and their controllers take turns.
    let shared = flags.storage.as_ref().is_some_and(|storage| storage.starts_with("foundationdb:"));
    let leader_elect = flags.leader_elect.unwrap_or(shared);
    // They were read before, when the API server was started with them.
    let gates = Gates::parse(&flags.feature_gates).unwrap_or_default();
    let options = controllers::Options {
        enabled: controllers::controller::allowed(flags.controllers.clone(), |gate| gates.enabled(gate)),
        leader_elect,
        cluster_ca_pem: plane.authority.certificate().to_owned(),
        cluster_ca_key_pem: plane.authority.key().to_owned(),
        cluster_cidrs: crate::fleet::node_blocks(flags),
        // The API server signs with it, so that it can be read.
        sign: signer(&plane.api.server().config.signing_key).ok(),
        ..controllers::Options::default()
    };
    let (own, stopped) = (Arc::clone(&clients), stop.clone());
    tasks.spawn(async move {
        let client_for = move |account: &str| own.service_account(account);
        if let Err(error) = controllers::run(client_for, options, stopped).await {
            tracing::error!(%error, "the controllers ended");
        }
    });
    let (client, stopped) = (clients.scheduler.clone(), stop.clone());
    tasks.spawn(async move {
        let options = scheduler::Options { leader_elect, ..scheduler::Options::default() };
        if let Err(error) = scheduler::run(client, options, stopped).await {
            tracing::error!(%error, "the scheduler ended");
        }
    });
    tasks
}

/// Clients inside the process, made ahead: `client_for` is called from anywhere.
struct Clients {
    accounts: std::collections::HashMap<String, kube::Client>,
    scheduler: kube::Client,
    manager: kube::Client,
}

impl Clients {
    fn new(plane: &ControlPlane) -> Clients {
        let client = |name: &str| plane.api.client(User::service_account("kube-system", name, ""), MANAGER);
        let accounts = controllers::accounts().map(|name| (name.to_owned(), client(name))).collect();
        Clients {
            accounts,
            scheduler: plane.api.client(User::new("system:kube-scheduler", &[]), "kube-scheduler/v1.36"),
            manager: plane.api.client(User::new("system:kube-controller-manager", &[]), MANAGER),
        }
    }

    /// The client of a controller; what has no account of its own acts as the controller manager.
    fn service_account(&self, name: &str) -> kube::Client {
        self.accounts.get(name).unwrap_or(&self.manager).clone()
    }
}

/// Those of controllers whose gate is off are left out.
pub(crate) fn controller_roles(gates: &Gates) -> Vec<ControllerRole> {
    let is_off = |account: &str| {
        controllers::GATED.iter().any(|(one, gate)| one.service_account == account && !gates.enabled(gate))
    };
    let role = |(service_account, rules): (&'static str, Vec<controllers::Rule>)| ControllerRole {
        service_account,
        rules: rules.iter().map(controllers::rbac::policy).collect(),
    };
    controllers::rbac::rules().into_iter().filter(|(account, _)| !is_off(account)).map(role).collect()
}

/// Names and addresses under which clients reach the API server.
pub(crate) fn hosts(advertise: IpAddr, cidrs: &[IpNet], node: &str) -> Vec<String> {
    let mut hosts: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "::1",
    ]
    .map(str::to_owned)
    .to_vec();
    hosts.push(advertise.to_string());
    if let Ok(IpAddr::V4(_) | IpAddr::V6(_)) = node.parse::<IpAddr>() {
        hosts.push(node.to_owned());
    } else {
        hosts.push(node.to_ascii_lowercase());
    }
    for net in cidrs {
        hosts.push(match net.network() {
            IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).wrapping_add(1)).to_string(),
            IpAddr::V6(address) => std::net::Ipv6Addr::from(u128::from(address).wrapping_add(1)).to_string(),
        });
    }
    hosts.dedup();
    hosts
}

/// The address from which this machine would speak to the outside; loopback when it has no way there. Sends nothing.
pub(crate) fn outward_address() -> IpAddr {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        // A documentation address: connecting a datagram socket only asks for the route.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    probe.map_or(IpAddr::from(Ipv4Addr::LOCALHOST), |address| address.ip())
}

pub(crate) fn read(path: impl AsRef<Path>) -> anyhow::Result<String> {
    let path = path.as_ref();
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(crate) fn ports(text: &str) -> anyhow::Result<(u16, u16)> {
    let parse = || {
        let (low, high) = text.split_once('-')?;
        let (low, high) = (low.parse().ok()?, high.parse().ok()?);
        (0 < low && low <= high).then_some((low, high))
    };
    parse().with_context(|| format!("--service-node-port-range: {text:?} is not a range such as 30000-32767"))
}

fn duration(flag: &str, text: &str) -> anyhow::Result<Duration> {
    crate::component::duration(text).with_context(|| format!("{flag}: {text:?} is not a duration such as 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_upstream_reads_them() {
        assert_eq!(duration("", "1h30m").unwrap(), Duration::from_secs(5400));
        assert!(["soon", "5", ""].iter().all(|text| duration("", text).is_err()));
        assert_eq!(ports("30000-32767").unwrap(), (30000, 32767));
        assert!(ports("7-3").is_err() && ports("x").is_err());
    }
}
