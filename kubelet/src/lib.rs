//! The node agent: runs the pods that the API server binds to this node, through a container runtime that speaks CRI v1.
//!
//! Its core is [`plan`] and [`status`], pure functions of a pod, what the runtime holds and the time; around them one
//! small task per pod acts. It talks to the API server and the runtime only, keeps no files but the pods' own, and may
//! stop and start at any time without touching a running container.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub mod admit;
pub mod backoff;
pub mod cgroup;
pub mod config;
pub mod containerd;
pub mod cri;
pub mod delegated;
pub mod downward;
pub mod env;
pub mod events;
pub mod images;
pub mod logs;
pub mod machine;
pub mod model;
pub mod names;
pub mod network;
pub mod network_files;
pub mod node;
pub mod node_context;
pub mod objects;
pub mod plan;
mod pods;
pub mod probe;
pub mod quantity;
pub mod resize;
mod serve;
mod start;
pub mod static_pods;
pub mod status;
mod termination;
mod tls;
pub mod volume;
mod worker;

use cri::{Cri, CriError};
use k8s_openapi::api::core::v1::Taint;
pub use tls::{Serving, Spoken};

/// The resolver configuration of a machine.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Version that the node reports: the Kubernetes version whose behaviour it has.
pub const KUBELET_VERSION: &str = "v1.36.0";

/// Settings of a kubelet.
#[derive(Clone)]
pub struct Config {
    /// Name of the Node.
    pub node_name: String,
    /// Client of the API server as `system:node:<name>`.
    pub client: kube::Client,
    /// Socket of the container runtime.
    pub containerd: PathBuf,
    /// The kubelet's directory: volumes and logs of the pods.
    pub root: PathBuf,
    /// The node's address.
    pub node_ip: IpAddr,
    /// Range of the pods' addresses.
    pub pod_cidr: String,
    /// Where the kubelet's API listens (TLS).
    pub listen: SocketAddr,
    /// Certificate of the kubelet's API.
    pub serving: Serving,
    /// Suites and versions of TLS that it speaks.
    pub spoken: Spoken,
    /// CA of the clients that are known by certificate; empty when none are.
    pub client_ca_pem: String,
    /// Most pods on the node.
    pub max_pods: u32,
    /// Directory of static pods' manifests.
    pub static_pods: Option<PathBuf>,
    /// Labels of the Node beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints of a Node that registers for the first time.
    pub taints: Vec<Taint>,
    /// The resolver configuration on which that of the pods is based.
    pub resolv_conf: PathBuf,
    /// Addresses of the cluster's DNS service.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster.
    pub cluster_domain: String,
}

/// Why the kubelet cannot run, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubelet's directory cannot be used.
    #[error("kubelet directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The certificates do not fit.
    #[error("kubelet certificates: {0}")]
    Certificates(std::io::Error),
    /// The address is taken or not the machine's.
    #[error("kubelet cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] CriError),
}

/// Makes the kubelet's directory a shared mount, so that containers' mounts can propagate.
fn prepare_root(root: &Path) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error::Directory { path: root.to_path_buf(), source };
    std::fs::create_dir_all(root.join("pods")).map_err(failed)?;
    let root_is_mounted = volume::mounts::is_mounted(root);
    let share = || -> nix::Result<()> {
        use nix::mount::{MsFlags, mount};
        if !root_is_mounted {
            mount(Some(root), root, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        }
        mount(None::<&str>, root, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
    };
    if let Err(error) = share() {
        tracing::warn!(%error, "the kubelet directory is not shared; mount propagation will not work");
    }
    Ok(())
}

/// Runs the kubelet until `stop`; then returns without touching running containers. `on_ready` is called once, when the
/// node is registered and ready.
///
/// # Errors
/// When the kubelet cannot start. An API server or runtime that is away is waited for, not an error.
pub async fn run(config: Config, stop: CancellationToken, on_ready: impl FnOnce() + Send) -> Result<(), Error> {
    prepare_root(&config.root)?;
    let tls = tls::server(&config.serving, &config.client_ca_pem, &config.spoken).map_err(Error::Certificates)?;
    let listener =
        TcpListener::bind(config.listen).await.map_err(|source| Error::Listen { address: config.listen, source })?;
    let client = config.client.clone();
    let cri = Cri::new(&config.containerd);
    let (events, send_events) = events::Recorder::new(client.clone(), config.node_name.clone());
    let sender = tokio::spawn(send_events);
    let (capacity, allocatable) = node::resources(&config);
    let shared = Arc::new(node_context::Node {
        cri: cri.clone(),
        events,
        images: images::Images::new(cri),
        objects: objects::Objects::new(client.clone()),
        cluster: network_files::Cluster {
            dns: config.cluster_dns.iter().map(IpAddr::to_string).collect(),
            domain: config.cluster_domain.clone(),
            resolv_conf: tokio::fs::read_to_string(&config.resolv_conf).await.unwrap_or_default(),
        },
        services: Mutex::default(),
        services_known: AtomicBool::new(false),
        memory: i64::try_from(machine::memory().total).unwrap_or(i64::MAX),
        allocatable,
        ledger: Mutex::default(),
        freed: tokio::sync::watch::Sender::new(()),
        config,
    });
    let pods = pods::Pods::new(shared.clone(), stop.clone());
    let server = Arc::new(serve::Server {
        node: shared.clone(),
        pods: pods.clone(),
        auth: serve::auth::Authorizer::new(&client, shared.config.node_name.clone()),
    });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve::serve(server, listener, TlsAcceptor::from(tls), stop.clone()));
    tasks.spawn(pods::follow_services(shared.clone(), stop.clone()));
    tasks.spawn(pods::rotate_logs(shared.clone(), stop.clone()));
    // Before anybody asks which of the runtime's pods nobody knows.
    pods.read_manifests();
    tasks.spawn(pods.clone().keep_manifests());
    tasks.spawn(pods.clone().follow());
    tasks.spawn(pods.clone().relist());

    let mut keeper = node::Keeper::new(shared.clone(), capacity);
    let about = events::about_node(&shared.config.node_name);
    shared.events.normal(about, "Starting", "Starting kubelet.");
    if !shared.config.pod_cidr.is_empty()
        && let Err(error) = shared.cri.set_pod_cidr(&shared.config.pod_cidr).await
    {
        tracing::debug!(%error, "runtime was not told the pod range");
    }
    let mut registered = None;
    let mut on_ready = Some(on_ready);
    while !stop.is_cancelled() {
        match keeper.register().await {
            Ok(node) => {
                if registered.is_none() {
                    registered = Some(());
                    tasks.spawn(node::keep_lease(client.clone(), Arc::new(node), stop.clone()));
                }
                if keeper.is_ready() {
                    break;
                }
            }
            Err(error) => tracing::debug!(%error, "node not registered yet"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
    if !stop.is_cancelled()
        && let Some(on_ready) = on_ready.take()
    {
        on_ready();
    }
    tasks.spawn(keeper.keep(stop.clone()));
    stop.cancelled().await;
    while tasks.join_next().await.is_some() {}
    pods.ended().await;
    sender.abort();
    Ok(())
}

/// Stops every container of every pod in the runtime behind `containerd`, then the sandboxes, and removes
/// the pods' cgroups, which a pod that starts again makes anew. Containers and their logs stay.
///
/// # Errors
/// When the runtime cannot be reached or a sandbox will not stop.
pub async fn stop_all_pods(containerd: &Path) -> Result<(), Error> {
    each_sandbox(containerd, false).await
}

/// Stops and removes every sandbox and container of every pod in the runtime behind `containerd`, and the pods' cgroups.
///
/// # Errors
/// When the runtime cannot be reached or a sandbox will not go.
pub async fn remove_all(containerd: &Path) -> Result<(), Error> {
    each_sandbox(containerd, true).await
}

/// Unmounts everything below a kubelet's directory, so that it can be removed.
///
/// # Errors
/// What the kernel said.
pub async fn unmount_root(root: &Path) -> Result<(), Error> {
    let path = root.to_path_buf();
    let result = tokio::task::spawn_blocking(move || volume::mounts::unmount_below(&path)).await;
    let result = result.map_err(std::io::Error::other).and_then(|result| result);
    result.map_err(|source| Error::Directory { path: root.to_path_buf(), source })
}

/// Longest time that a container gets to stop when all pods are stopped.
const STOP_GRACE: i64 = 10;

/// Longest wait for a runtime that was only just started.
const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until the runtime answers lists: for a moment after its start it refuses all calls.
async fn answers(cri: &Cri) -> Result<(), CriError> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match cri.list_sandboxes(None).await {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() >= until => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn each_sandbox(containerd: &Path, remove: bool) -> Result<(), Error> {
    let cri = Cri::new(containerd);
    answers(&cri).await?;
    let ours = |labels: &std::collections::HashMap<String, String>| labels.get(names::POD_UID).cloned();
    let containers = cri.list_containers(None).await?;
    let running = containers.into_iter().filter(|item| ours(&item.labels).is_some() && item.state == 1);
    futures::stream::iter(running)
        .for_each_concurrent(16, |container| {
            let cri = cri.clone();
            async move {
                let grace = container.annotations.get(names::POD_GRACE).and_then(|text| text.parse().ok());
                let grace = grace.unwrap_or(STOP_GRACE).min(STOP_GRACE);
                if let Err(error) = cri.stop_container(&container.id, grace).await {
                    tracing::warn!(%error, container = container.id, "container not stopped");
                }
            }
        })
        .await;
    let sandboxes = cri.list_sandboxes(None).await?;
    let results: Vec<Result<(), CriError>> = futures::stream::iter(sandboxes)
        .map(|sandbox| {
            let cri = cri.clone();
            async move {
                let Some(uid) = ours(&sandbox.labels) else { return Ok(()) };
                cri.stop_sandbox(&sandbox.id).await?;
                if remove {
                    cri.remove_sandbox(&sandbox.id).await?;
                }
                cgroup::remove(&uid);
                Ok(())
            }
        })
        .buffer_unordered(8)
        .collect()
        .await;
    results.into_iter().collect::<Result<Vec<()>, CriError>>()?;
    Ok(())
}
