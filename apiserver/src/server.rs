//! The server as a whole: what it is configured with, how it starts and how it stops.
//!
//! Never handles a request; `road.rs` does.

use crate::aggregate::{self, Aggregates};
use crate::answer::Failure;
use crate::audit::{self, Audit, Counters};
use crate::authn::tokens::{self, TokenSigner, VerifyKey};
use crate::authn::{self, Authenticators, User};
use crate::authz::rbac::Rbac;
use crate::authz::{self, Authorizers};
use crate::cache::{Caches, Shown};
use crate::documents::Documents;
use crate::drain::Ends;
use crate::encryption::Encryption;
use crate::fairness::{Fairness, InFlight, Plain, Seats, keeper};
use crate::impersonation::Impersonation;
use crate::metrics::{self, Metrics};
use crate::offer::Offer;
use crate::peers::Peers;
use crate::profiling::Profiling;
use crate::registry::convert::Conversions;
use crate::registry::repair;
use crate::registry::turn::Turns;
use crate::reload::{self, Source};
use crate::road::authorized::Permit;
use crate::serving::{Rules, Serving};
use crate::spans::{self, Tracer};
use crate::state::State;
use crate::transport::{Connections, Identity, InProcess, TlsError, TlsOptions, Workers, accept, server_config};
use crate::trust::{self, Trust};
use crate::webhook::Webhooks;
use crate::{bootstrap, crd, legacy_tokens, plugins};
use admission::{Chain, Dynamic};
use api::features::Gates;
use api::served::Served;
use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use storage::clock::Clock;
use storage::store::{Retention, Store, StoreError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What flags and files say.
#[derive(Clone)]
pub struct Config {
    /// `--bind-address` and `--secure-port`.
    pub listen: SocketAddr,
    /// `--advertise-address`: where others reach this server.
    pub advertise: IpAddr,
    /// `--tls-cert-file`, `--tls-private-key-file`.
    pub identity: Identity,
    /// `--client-ca-file`, PEM.
    pub client_ca: Option<String>,
    /// Content of `--token-auth-file`.
    pub token_file: Option<String>,
    /// `--anonymous-auth`, where it is given.
    pub anonymous: Option<bool>,
    /// Other ways to recognise callers.
    pub authentication: Authentication,
    /// `--tls-min-version`, `--tls-cipher-suites`.
    pub tls: TlsOptions,
    /// Headers for browsers, timeouts, bounds.
    pub serving: Serving,
    /// Reads the files behind `identity`, `client_ca`, the front proxy's authority and the clients' certificates again; without it they never
    /// change.
    pub material: Option<Source>,
    /// `--authorization-mode`.
    pub authorization_modes: Vec<String>,
    /// Other authorizers.
    pub authorization: Authorization,
    /// `--service-account-issuer`, the first one signs.
    pub issuers: Vec<String>,
    /// `--api-audiences`; the issuers when empty.
    pub audiences: Vec<String>,
    /// `--service-account-signing-key-file`, PEM.
    pub signing_key: String,
    /// `--service-account-key-file`, further public keys, PEM.
    pub verify_keys: Vec<String>,
    /// `--service-cluster-ip-range`, at most one of each family.
    pub service_cidrs: Vec<IpNet>,
    /// `--service-node-port-range`, both ends included.
    pub node_ports: (u16, u16),
    /// `--event-ttl`.
    pub event_ttl: Duration,
    /// `--watch-cache-memory`: bytes that objects, latest events and indexes may take in memory; none for as many as it takes.
    pub cache_memory: Option<u64>,
    /// `--history-retention`: how long past states of objects can be read and watched from.
    pub history: Duration,
    /// `--max-requests-inflight`: of those that read.
    pub max_requests: usize,
    /// `--max-mutating-requests-inflight`: of those that write.
    pub max_mutating: usize,
    /// `--enable-priority-and-fairness`: both bounds together are divided among priority levels.
    pub fairness: bool,
    /// `--allow-privileged`: containers may have all of their machine.
    pub allow_privileged: bool,
    /// `--enable-admission-plugins`.
    pub enable_admission: Vec<String>,
    /// `--disable-admission-plugins`.
    pub disable_admission: Vec<String>,
    /// `--admission-control-config-file`.
    pub admission_config: Option<PathBuf>,
    /// `--kubelet-client-certificate` and its key.
    pub kubelet_client: Option<Identity>,
    /// `--kubelet-certificate-authority`, PEM; without it whatever certificates kubelets show are taken.
    pub kubelet_ca: Option<String>,
    /// `--kubelet-preferred-address-types`: which of a node's addresses leads to its kubelet, the first that it has.
    pub kubelet_addresses: Vec<String>,
    /// `proxy` reaches addresses of this machine and its links as well, for tests: whoever may use it could speak to what trusts the machine.
    pub local_backends: bool,
    /// `--proxy-client-cert-file`, its key and `--requestheader-client-ca-file`: who we are to aggregated API servers.
    pub proxy_client: Option<ProxyClient>,
    /// Roles of the controllers, bound to their service accounts in `kube-system`.
    pub controller_roles: Vec<authz::bootstrap::ControllerRole>,
    /// Threads that serve requests.
    pub workers: usize,
    /// `--encryption-provider-config`, as the store uses it.
    pub encryption: Arc<Encryption>,
    /// The gate `AllowUnsafeMalformedObjectDeletion`: an object that cannot be read may be deleted unread.
    pub unsafe_deletion: bool,
    /// `--feature-gates`.
    pub gates: Gates,
    /// `--runtime-config`: the kinds that are served.
    pub served: Served,
    /// `--audit-*`; none for no audit.
    pub audit: Option<audit::Settings>,
    /// `--tracing-config-file`; none for no spans.
    pub tracing: Option<spans::Settings>,
    /// Tokens of service accounts: what is given, and where their keys are said to be.
    pub tokens: TokenRules,
    /// `--default-not-ready-toleration-seconds` and `--default-unreachable-toleration-seconds`.
    pub toleration_seconds: [i64; 2],
    /// `--profiling`; none for a server that tells nothing of its process.
    pub profiling: Option<Arc<dyn Profiling>>,
    /// `gitVersion` of `/version`.
    pub version: String,
}

/// Which of a node's addresses leads to its kubelet where nobody says: names of nodes need not mean anything to the machine.
#[must_use]
pub fn kubelet_addresses() -> Vec<String> {
    ["InternalIP", "ExternalIP", "Hostname"].map(str::to_owned).into()
}

impl Config {
    /// What upstream's defaults come to, on a free port of the loopback address, with RBAC and nobody anonymous.
    #[must_use]
    pub fn new(identity: Identity, signing_key: String) -> Config {
        const HOUR: Duration = Duration::from_secs(3600);
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: IpAddr::V4(Ipv4Addr::LOCALHOST),
            identity,
            client_ca: None,
            token_file: None,
            anonymous: Some(false),
            authentication: Authentication::default(),
            tls: TlsOptions::default(),
            serving: Serving::default(),
            material: None,
            authorization_modes: vec!["RBAC".to_owned()],
            authorization: Authorization::default(),
            issuers: vec!["https://kubernetes.default.svc".to_owned()],
            audiences: Vec::new(),
            signing_key,
            verify_keys: Vec::new(),
            service_cidrs: Ipv4Net::new(Ipv4Addr::new(10, 96, 0, 0), 16).map(IpNet::V4).into_iter().collect(),
            node_ports: (30000, 32767),
            event_ttl: HOUR,
            cache_memory: None,
            history: HOUR,
            max_requests: 400,
            max_mutating: 200,
            fairness: true,
            allow_privileged: true,
            enable_admission: Vec::new(),
            disable_admission: Vec::new(),
            admission_config: None,
            kubelet_client: None,
            kubelet_ca: None,
            kubelet_addresses: kubelet_addresses(),
            local_backends: false,
            proxy_client: None,
            controller_roles: Vec::new(),
            workers: 1,
            encryption: Encryption::none(),
            unsafe_deletion: false,
            gates: Gates::default(),
            served: Served::default(),
            audit: None,
            tracing: None,
            tokens: TokenRules::default(),
            toleration_seconds: [300, 300],
            profiling: None,
            version: "v1.36.0".to_owned(),
        }
    }
}

/// What the flags say of tokens that are asked for.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// `--service-account-extend-token-expiration`: those of pods' volumes live for a year.
    pub extend: bool,
    /// `--service-account-max-token-expiration`, in seconds.
    pub longest: Option<i64>,
    /// `--service-account-jwks-uri`; none for this server's own address.
    pub jwks_uri: Option<String>,
}

impl Default for TokenRules {
    fn default() -> Self {
        TokenRules { extend: true, longest: None, jwks_uri: None }
    }
}

/// The certificate with which users are named to aggregated API servers, and the authority by which they know it.
#[derive(Clone)]
pub struct ProxyClient {
    /// Of common name `front-proxy-client`.
    pub identity: Identity,
    /// PEM.
    pub authority: String,
}

/// Certificates with which this server asks others.
#[derive(Clone, Default)]
pub struct Clients {
    /// Kubelets.
    pub kubelet: Option<Identity>,
    /// Aggregated API servers.
    pub proxy: Option<Identity>,
}

impl Clients {
    fn of(config: &Config) -> Clients {
        let proxy = config.proxy_client.as_ref().map(|client| client.identity.clone());
        Clients { kubelet: config.kubelet_client.clone(), proxy }
    }
}

/// Who is recognised beyond certificates, service accounts and the token file.
#[derive(Clone, Default)]
pub struct Authentication {
    /// `--authentication-config`; taken up again when it changes.
    pub config_file: Option<PathBuf>,
    /// The `--oidc-*` flags, where `--oidc-issuer-url` is given.
    pub oidc: Option<authn::oidc::Flags>,
    /// `--authentication-token-webhook-config-file`, `-version` and `-cache-ttl`.
    pub webhook: Option<authn::TokenWebhook>,
    /// The `--requestheader-*` flags, where `--requestheader-client-ca-file` is given.
    pub front_proxy: Option<authn::FrontProxy>,
    /// `--enable-bootstrap-token-auth`.
    pub bootstrap_tokens: bool,
}

/// Who decides beyond the modes that need nothing more.
#[derive(Clone, Default)]
pub struct Authorization {
    /// `--authorization-config`, in the place of `--authorization-mode` and the webhook's flags; taken up again when it changes.
    pub config_file: Option<PathBuf>,
    /// The `--authorization-webhook-*` flags (`authz::configuration::webhook_by_flags`).
    pub webhook: Option<authz::WebhookEntry>,
    /// Content of `--authorization-policy-file`.
    pub policy: Option<String>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates.
    #[error("the TLS settings cannot be used")]
    Tls(#[from] TlsError),
    /// Credentials files.
    #[error("the authentication settings cannot be used")]
    Authentication(#[from] authn::SettingsError),
    /// Token keys.
    #[error("a service-account key cannot be used")]
    Key(#[from] tokens::KeyError),
    /// `--authorization-mode`.
    #[error("the authorization settings cannot be used")]
    Authorization(#[from] authz::ModeError),
    /// `--audit-*`.
    #[error("the audit cannot begin: {0}")]
    Audit(String),
    /// `--tracing-config-file`.
    #[error("spans cannot be sent: {0}")]
    Tracing(String),
    /// Admission flags.
    #[error("the admission settings cannot be used: {0}")]
    Admission(String),
    /// The store.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// Flags about how requests are served.
    #[error("the serving settings cannot be used: {0}")]
    Serving(String),
    /// Threads.
    #[error("the workers cannot be started")]
    Workers(#[source] std::io::Error),
    /// What every cluster has could not be created.
    #[error("the cluster could not be set up: {0}")]
    Bootstrap(api::status::Status),
}

/// Everything that stages and verbs use.
pub struct Server {
    /// Flags.
    pub config: Config,
    /// Where objects are.
    pub store: Store,
    /// Where they are fast.
    pub caches: Caches,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Stage 3; none when nothing is recorded.
    pub audit: Option<Arc<Audit>>,
    /// Records the ways of requests; none when nobody wants to know.
    pub tracer: Option<Arc<Tracer>>,
    /// Stage 2.
    pub authn: ArcSwap<Authenticators>,
    /// Whom it believes, for others to know.
    pub(crate) trust: ArcSwap<Trust>,
    /// The listener's settings.
    pub tls: ArcSwap<rustls::ServerConfig>,
    /// Who this server is to others.
    pub clients: ArcSwap<Clients>,
    /// Stage 4.
    pub(crate) impersonation: Impersonation,
    /// Stage 6.
    pub authz: Authorizers,
    /// Roles, for escalation checks.
    pub rbac: Arc<Rbac>,
    /// Admission.
    pub admission: Chain,
    /// What webhooks and policies there are.
    pub dynamic: Dynamic,
    /// Speaks to webhooks.
    pub webhooks: Arc<Webhooks>,
    /// Converts between versions that only webhooks know.
    pub conversions: Arc<Conversions>,
    /// One at a time in namespaces with quotas.
    pub turns: Turns,
    /// Tokens.
    pub signer: TokenSigner,
    /// Keys whose tokens are accepted.
    pub keys: Vec<VerifyKey>,
    /// Stage 5.
    pub(crate) seats: Seats,
    /// `/metrics`.
    pub metrics: Metrics,
    /// What is served now, and how it is described.
    pub offer: ArcSwap<Offer>,
    /// Who else serves something.
    pub aggregates: Aggregates,
    /// Read from `Config::serving`.
    pub(crate) rules: Rules,
    /// How it ends.
    pub(crate) ends: Ends,
    /// Bootstrap is done.
    pub ready: std::sync::atomic::AtomicBool,
}

impl Server {
    /// Unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        i64::try_from(self.clock.unix_seconds()).unwrap_or(i64::MAX)
    }

    /// Now, as `metav1.Time`.
    #[must_use]
    pub fn now_text(&self) -> String {
        api::meta::time(self.now())
    }

    /// What is served now. A request asks once and keeps the answer.
    #[must_use]
    pub fn offer(&self) -> Arc<Offer> {
        self.offer.load_full()
    }

    /// `--api-audiences`, or the issuers.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        if self.config.audiences.is_empty() { &self.config.issuers } else { &self.config.audiences }
    }
}

/// A server that serves.
pub struct Running {
    server: Arc<Server>,
    workers: Workers,
    address: SocketAddr,
    /// Takes the server's address out where others find it.
    leaving: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the end that was asked for has come: at once, or after `--shutdown-delay-duration`.
    pub async fn ended(&self) {
        self.server.ends.stop.cancelled().await;
    }

    /// Returns when, after the end, requests in progress have ended and what they left is on record.
    pub async fn closed(&self) {
        let leaving = self.leaving.lock().take();
        if let Some(leaving) = leaving
            && tokio::time::timeout(LEAVE, leaving).await.is_err()
        {
            tracing::warn!("the store did not answer: this server's address stays until others find it silent");
        }
        self.workers.ended().await;
        if let Some(audit) = &self.server.audit {
            audit.close().await;
        }
        if let Some(tracer) = &self.server.tracer {
            tracer.close().await;
        }
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Brings into being what every cluster has; the server is ready then. A key service without which that can be neither read nor
    /// written is waited for: meanwhile the server answers whom it can, and `/readyz` says what it waits for.
    ///
    /// # Errors
    /// `Bootstrap`, and the end of the server while it waited.
    pub(crate) async fn set_up(&self) -> Result<(), StartError> {
        let server = &self.server;
        let mut said = String::new();
        let mut again = false;
        // What is read by a cache is refused in the old words until the cache has read it again.
        let mut lagging = 0;
        loop {
            let failure = match bootstrap::run(server).await {
                Ok(()) => break,
                Err(failure) => failure,
            };
            let sealed = matches!(&failure, Failure::Store { error, .. }
                if matches!(**error, StoreError::Transform { .. } | StoreError::NotSealed { .. }));
            // Asking is also how its key gets here.
            match server.config.encryption.check().await {
                // Once it has been waited for, what a cache still refuses in the old words counts as well.
                Err(why) if sealed || lagging > 0 => {
                    if said != why {
                        let text = "the cluster cannot be set up before the key service of --encryption-provider-config answers; waiting for it";
                        tracing::warn!(why, "{text}");
                        said = why;
                    }
                    again = false;
                    lagging = LAGGING;
                }
                // It has come between the two questions, or something else is wrong with the object.
                Ok(()) if sealed && !again => {
                    again = true;
                    lagging = LAGGING;
                    continue;
                }
                Ok(()) if lagging > 0 && !sealed => lagging -= 1,
                _ => return Err(StartError::Bootstrap(crate::answer::status(failure))),
            }
            tokio::select! {
                () = server.ends.stop.cancelled() => return Err(StartError::Bootstrap(crate::answer::status(failure))),
                () = tokio::time::sleep(WAIT) => {}
            }
        }
        let permit = Permit::without_request("peers");
        // Boxed, because the future of the start is large as it is.
        let joined = Box::pin(Peers::join(server, &permit)).await;
        if let Some(peers) = joined.map_err(|failure| StartError::Bootstrap(crate::answer::status(failure)))? {
            *self.leaving.lock() = Some(tokio::spawn(peers.keep(Arc::clone(server))));
        }
        server.ready.store(true, std::sync::atomic::Ordering::Release);
        tokio::spawn(tidy(Arc::clone(server), server.ends.stop.clone()));
        tokio::spawn(trust::follow(Arc::clone(server), server.ends.end.clone()));
        tokio::spawn(repair::keep(Arc::clone(server), server.ends.stop.clone()));
        Ok(())
    }

    /// A client inside the process that acts as `user` and calls itself `agent` (`kubelet/v1.36`), which names the owner
    /// of the fields it writes. Must be called within a tokio runtime.
    #[must_use]
    pub fn client(&self, user: User, agent: &'static str) -> kube::Client {
        kube::Client::new(InProcess::new(self.workers.clone(), user.authenticated(), agent), "default")
    }
}

/// Starts the server over a store: serves, and sets up what every cluster has. Serves until `stop`.
///
/// # Errors
/// See `StartError`.
pub async fn start(
    config: Config,
    store: Store,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<Running, StartError> {
    let running = serve(config, store, clock, stop).await?;
    running.set_up().await?;
    Ok(running)
}

/// Fills the caches and listens. `/readyz` says no until `Running::set_up` is done.
///
/// # Errors
/// See `StartError`; nothing listens afterwards.
pub(crate) async fn serve(
    config: Config,
    store: Store,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<Running, StartError> {
    let rules = Rules::new(&config.serving).map_err(StartError::Serving)?;
    let tls = server_config(&reload::tls(&config, None))?;
    let (issuers, anonymous) = reload::issuers(&config)?;
    // First of all the port: a second server must fail before it touches anything.
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let address = listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;

    let ends = Ends::of(stop, &config.serving);
    let end = ends.end.clone();
    let caches = Caches::start(config.served.kept(), &store, config.cache_memory, &end).await?;
    let metrics = Metrics::new(&config.gates);
    let shown = Shown::new(caches.clone()).and_then(|shown| metrics.registry().register(Box::new(shown)));
    shown.map_err(|error| StartError::Serving(error.to_string()))?;
    metrics::stored::show(caches.clone(), store.clone(), metrics.registry());
    let (uses, used) = legacy_tokens::channel();
    let state = Arc::new(State::new(caches.clone(), uses));
    let issuer = config.issuers.first().cloned().unwrap_or_default();
    let signer = TokenSigner::from_pem(&config.signing_key, issuer)?;
    let mut keys = vec![signer.public().clone()];
    for pem in &config.verify_keys {
        keys.extend(VerifyKey::all_from_pem(pem)?);
    }
    let audiences = if config.audiences.is_empty() { config.issuers.clone() } else { config.audiences.clone() };
    let token_counters = authn::TokenCounters::new(metrics.registry());
    let token_counters = token_counters.map_err(|error| StartError::Serving(error.to_string()))?;
    let credentials = authn::Settings {
        client_ca: config.client_ca.clone(),
        token_file: config.token_file.clone(),
        service_accounts: Some(authn::ServiceAccounts {
            keys: keys.clone(),
            issuers: config.issuers.clone(),
            audiences: audiences.clone(),
        }),
        token_counters: Some(token_counters),
        bootstrap_tokens: config.authentication.bootstrap_tokens,
        issuers,
        webhook: config.authentication.webhook.clone(),
        front_proxy: config.authentication.front_proxy.clone(),
        anonymous,
        api_audiences: audiences,
        objects: Some(Arc::clone(&state) as _),
    };
    let authn = Authenticators::new(&credentials)?;
    let rbac = Arc::new(Rbac::default());
    rbac.follow(&caches);
    let relations = Arc::new(authz::Relations::default());
    relations.follow(&caches);
    let authorization = authz::Settings {
        rbac: Arc::clone(&rbac),
        gates: config.gates.clone(),
        relations,
        abac_policy: config.authorization.policy.clone(),
        clock: Arc::clone(&clock),
    };
    let authz = Authorizers::new(&reload::authorizers(&config)?, &authorization)?;
    let admission = plugins::chain(&config).map_err(StartError::Admission)?;
    let meter = metrics::admission::Admission::new(admission.names().collect(), metrics.registry());
    let admission = admission.metered(Arc::new(meter));
    let workers = config.workers.max(1);
    config.encryption.register(metrics.registry());
    let counted = Counters::new(metrics.registry()).map_err(|error| StartError::Audit(error.to_string()))?;
    let trust = Trust::of(&config);
    let audit = config.audit.as_ref().map(|settings| Audit::open(settings, counted)).transpose();
    let audit = audit.map_err(StartError::Audit)?.map(Arc::new);
    let instance = format!("apiserver-{}", uuid::Uuid::new_v4());
    let tracer = config.tracing.as_ref().map(|settings| Tracer::open(settings, &instance)).transpose();
    let tracer = tracer.map_err(StartError::Tracing)?.map(Arc::new);
    let webhooks = Arc::new(Webhooks::new(caches.clone(), metrics.registry()));
    let seats = seats(&config, &metrics)?;
    let constrained = config.gates.enabled("ConstrainedImpersonation");
    let impersonation = Impersonation::new(constrained, metrics.registry());
    let impersonation = impersonation.map_err(|error| StartError::Serving(error.to_string()))?;
    let documents = Documents::new(config.served.kinds(), &config.version);
    metrics.built(&documents.version);
    let server = Arc::new(Server {
        seats,
        impersonation,
        metrics,
        audit,
        tracer,
        offer: ArcSwap::from_pointee(Offer { served: config.served.clone(), documents }),
        ready: std::sync::atomic::AtomicBool::new(false),
        aggregates: Aggregates::default(),
        rules,
        ends,
        clients: ArcSwap::from_pointee(Clients::of(&config)),
        config,
        store,
        caches,
        clock,
        authn: ArcSwap::from_pointee(authn),
        trust: ArcSwap::from_pointee(trust),
        tls: ArcSwap::from_pointee(tls),
        authz,
        rbac,
        admission,
        dynamic: Dynamic::new(Arc::clone(&webhooks) as _),
        conversions: Arc::new(Conversions::new(Arc::clone(&webhooks))),
        webhooks,
        turns: Turns::default(),
        signer,
        keys,
    });
    crd::start(&server).await?;
    keeper::start(&server);
    aggregate::start(&server);
    let workers = Workers::start(workers, &server).map_err(StartError::Workers)?;
    tokio::spawn(reload::watch(Arc::clone(&server), credentials, authorization, end.clone()));
    tokio::spawn(legacy_tokens::follow(Arc::clone(&server), used, end.clone()));
    let connections = Connections::new(server.config.serving.max_connections, server.config.serving.max_sessions);
    tokio::spawn(accept(listener, workers.clone(), connections, server.ends.closing().clone()));
    let served = workers.clone();
    tokio::spawn(async move {
        served.ended().await;
        end.cancel();
    });
    Ok(Running { server, workers, address, leaving: Mutex::default() })
}

/// What bounds the requests in progress.
fn seats(config: &Config, metrics: &Metrics) -> Result<Seats, StartError> {
    let (reading, writing) = (config.max_requests, config.max_mutating);
    let in_flight = InFlight::new(metrics.registry());
    if !config.fairness {
        return Ok(Seats::Plain(Plain::new(reading, writing, in_flight)));
    }
    match u32::try_from(reading.saturating_add(writing)) {
        Ok(0) => Err(StartError::Serving(
            "--max-requests-inflight and --max-mutating-requests-inflight must add up to something positive".to_owned(),
        )),
        total => Ok(Seats::Fair(Fairness::new(total.unwrap_or(u32::MAX), metrics.registry(), in_flight))),
    }
}

/// How often a key service that the start waits for is asked.
const WAIT: Duration = Duration::from_secs(1);
/// How often the start is tried again after the key service has come.
const LAGGING: u32 = 10;

/// How long the end waits for the store to take this server's address out.
const LEAVE: Duration = Duration::from_secs(5);
/// How often due objects are removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);
/// How often the log is trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// How long the past of kinds that change without end is kept; nobody reads it.
const SHORT_HISTORY: Duration = Duration::from_secs(600);

/// How long the past of a kind is kept.
fn history(config: &Config, kind: &api::kind::Kind) -> Duration {
    if kind.short_history { SHORT_HISTORY.min(config.history) } else { config.history }
}

/// Removes what is due and trims the log, now and then.
async fn tidy(server: Arc<Server>, stop: CancellationToken) {
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    let mut trim = tokio::time::interval(TRIM_EVERY);
    expire.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    trim.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return,
            _ = expire.tick() => server.store.expire().await.map(drop),
            _ = trim.tick() => trim_all(&server).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the store could not be tidied");
        }
    }
}

async fn trim_all(server: &Server) -> Result<(), StoreError> {
    for kind in server.caches.kinds() {
        let keep = Retention { max_age: Some(history(&server.config, kind)), max_entries: None };
        server.store.compact(&kind.group_resource(), keep).await?;
    }
    Ok(())
}
