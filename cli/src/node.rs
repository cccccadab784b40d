//! The node of `up`: containerd, network, kubelet, service proxy and cluster DNS, put together from flags; `down`, `reset` and `image`.
//!
//! Never speaks CRI by itself; the kubelet crate does.

use crate::cluster::ControlPlane;
use crate::flags::{Cluster, Image, ImageCommand, Reset, Up};
use crate::pki::Subject;
use crate::progress::Progress;
use anyhow::Context as _;
use apiserver::authn::User;
use kubelet::containerd::{self, Containerd};
use kubelet::network::{self, PodCidr};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A node that runs.
pub(crate) struct Node {
    socket: PathBuf,
    runtime: Option<Containerd>,
    kubelet: JoinHandle<Result<(), kubelet::Error>>,
    proxy: JoinHandle<()>,
    dns: Option<JoinHandle<()>>,
    /// The proxy's table.
    table: String,
    pub(crate) name: String,
    /// Where pods ask for names.
    pub(crate) cluster_dns: Vec<IpAddr>,
}

/// What the machine lacks to be a node, one sentence each.
pub(crate) fn missing(flags: &Up) -> Vec<String> {
    if flags.containerd.is_some() { Vec::new() } else { containerd::missing() }
}

/// The node's name: the flag's, or the machine's.
pub(crate) fn name(flags: &Up) -> String {
    let machine = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = flags.node_name.clone().or_else(machine).unwrap_or_else(|| "localhost".to_owned());
    name.to_ascii_lowercase()
}

/// The pods' way to this machine where there is none out of it.
pub(crate) fn gateway(flags: &Up) -> anyhow::Result<IpAddr> {
    Ok(IpAddr::from(PodCidr::parse(&flags.pod_cidr).map_err(anyhow::Error::msg)?.gateway()))
}

/// The service proxy's nftables table for the cluster in `data`.
pub(crate) fn table(data: &Path) -> String {
    format!("{}_proxy", network::Names::of(&data.to_string_lossy()).table)
}

/// Starts containerd, the network, the service proxy and the kubelet; returns when the Node is ready or the kubelet has given up.
pub(crate) async fn start(
    flags: &Up,
    data: &Path,
    plane: &ControlPlane,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<Node> {
    let name = name(flags);
    let (socket, runtime) = match &flags.containerd {
        Some(socket) => (socket.clone(), None),
        None => {
            progress.doing("starting containerd");
            let cidr = PodCidr::parse(&flags.pod_cidr).map_err(anyhow::Error::msg)?;
            let network = network::Config::under(data, cidr).within(crate::fleet::cluster_block(flags)?);
            network::ensure(&network).await.context("the pod network cannot be made")?;
            let config = containerd::Config::under(data);
            let socket = config.socket();
            let runtime = Containerd::start(config).await.context("containerd cannot be started")?;
            progress.done("containerd answers");
            (socket, Some(runtime))
        }
    };
    let mut address = plane.advertise;
    if address.is_loopback() || address.is_unspecified() {
        // Without a way out the pods still reach this machine over their bridge.
        address = gateway(flags)?;
    }
    if flags.bind_address.is_loopback() {
        progress.note("the API server listens on loopback alone: pods do not reach it (--bind-address)");
    }
    let table = table(data);
    let bridge = runtime.is_some().then(|| network::Names::of(&data.to_string_lossy()).bridge);
    let proxy = proxy::Config {
        client: plane.api.client(User::new("system:kube-proxy", &[]), "kube-proxy/v1.36"),
        place: proxy::plan::Place { node: name.clone(), zone: String::new() },
        options: proxy::rules::Options {
            table: table.clone(),
            node_addresses: vec![address],
            pod_cidrs: vec![flags.pod_cidr.clone()],
            bridge,
            masquerade_all: false,
        },
        metrics: proxy::metrics::Metrics::default(),
    };
    let proxy = tokio::spawn(proxy::run(proxy, stop.clone()));
    // Without it pods ask whom this machine asks.
    let dns = match crate::dns::start(flags, plane, stop).await {
        Ok(dns) => Some(dns),
        Err(error) => {
            progress.note(&format!("no cluster DNS: {error:#}"));
            None
        }
    };
    let serving = plane.authority.issue(&Subject {
        file: "kubelet",
        name: &format!("system:node:{name}"),
        group: Some("system:nodes"),
        hosts: vec![name.clone(), address.to_string(), "127.0.0.1".to_owned()],
    })?;
    let user = User::new(format!("system:node:{name}"), &["system:nodes"]);
    let cluster_dns: Vec<IpAddr> = dns.iter().map(|dns| dns.address).collect();
    let config = kubelet::Config {
        node_name: name.clone(),
        client: plane.api.client(user, "kubelet/v1.36"),
        containerd: socket.clone(),
        root: data.join("kubelet"),
        node_ip: address,
        pod_cidr: flags.pod_cidr.clone(),
        listen: SocketAddr::new(address, flags.kubelet_port),
        serving: kubelet::Serving::new(&serving.certificate, &serving.key).context("the kubelet's certificate")?,
        spoken: kubelet::Spoken::default(),
        client_ca_pem: plane.authority.certificate().to_owned(),
        max_pods: flags.max_pods,
        static_pods: flags.pod_manifest_path.clone(),
        labels: std::collections::BTreeMap::new(),
        taints: Vec::new(),
        resolv_conf: kubelet::RESOLV_CONF.into(),
        cluster_dns: cluster_dns.clone(),
        cluster_domain: crate::dns::DOMAIN.to_owned(),
    };
    progress.doing("registering the node");
    let (tell, ready) = oneshot::channel();
    let stop = stop.clone();
    let mut kubelet = tokio::spawn(async move {
        kubelet::run(config, stop, move || {
            // Nobody waits any more when the start was interrupted.
            let _ = tell.send(());
        })
        .await
    });
    tokio::select! {
        _ = ready => {}
        ended = &mut kubelet => ended.context("the kubelet ended")?.context("the kubelet cannot run")?,
    }
    let dns = dns.and_then(|dns| dns.server);
    Ok(Node { socket, runtime, kubelet, proxy, dns, table, name, cluster_dns })
}

impl Node {
    /// Waits for the kubelet to end after `stop`, then stops the pods unless they are to stay.
    pub(crate) async fn end(self, keep_pods: bool, progress: &Progress) -> anyhow::Result<()> {
        self.kubelet.await.context("the kubelet ended badly")??;
        self.proxy.await.context("the service proxy ended badly")?;
        if let Some(dns) = self.dns {
            dns.await.context("cluster DNS ended badly")?;
        }
        if keep_pods {
            if let Some(runtime) = self.runtime {
                runtime.stop().await;
            }
            progress.note("the pods run on; the next `ironkeel up` finds them, `ironkeel down` removes them");
            return Ok(());
        }
        progress.doing("stopping the pods");
        kubelet::stop_all_pods(&self.socket).await.context("the pods could not be stopped")?;
        // Behind them nobody answers, and another cluster on this machine may use the same addresses.
        proxy::nft::remove(&self.table).await.context("the rules of Services could not be removed")?;
        if let Some(runtime) = self.runtime {
            runtime.stop().await;
        }
        Ok(())
    }
}

/// `ironkeel down`.
pub(crate) async fn down(cluster: &Cluster) -> anyhow::Result<()> {
    let data = cluster.data_dir()?;
    let progress = Progress::new();
    remove(&data, &progress).await?;
    progress.finish();
    Ok(())
}

/// Removes containers and network of the cluster in `data`.
async fn remove(data: &Path, progress: &Progress) -> anyhow::Result<()> {
    crate::fleet::remove(data).await?;
    let config = containerd::Config::under(data);
    if config.directory.exists() {
        let missing = containerd::missing();
        anyhow::ensure!(missing.is_empty(), "the containers cannot be removed: {}", missing.join("; "));
        progress.doing("removing the pods");
        let socket = config.socket();
        let runtime = Containerd::start(config).await.context("containerd cannot be started")?;
        kubelet::remove_all(&socket).await.context("the pods could not be removed")?;
        runtime.stop().await;
        containerd::end_shims(&socket).await;
        progress.done("the pods are gone");
    }
    if data.join("cni").exists() {
        // Any range will do: what is removed goes by the cluster's names.
        let cidr = PodCidr::parse("10.244.0.0/24").map_err(anyhow::Error::msg)?;
        proxy::nft::remove(&table(data)).await.context("the rules of Services could not be removed")?;
        network::remove(&network::Config::under(data, cidr)).await.context("the pod network could not be removed")?;
        progress.done("the network is gone");
    }
    let kubelet = data.join("kubelet");
    if kubelet.exists() {
        kubelet::unmount_root(&kubelet).await?;
    }
    Ok(())
}

/// `ironkeel reset`.
pub(crate) async fn reset(flags: &Reset) -> anyhow::Result<()> {
    let data = flags.cluster.data_dir()?;
    if !data.exists() {
        eprintln!("There is nothing in {}.", data.display());
        return Ok(());
    }
    anyhow::ensure!(
        data.join("pki").exists() || data.join("store").exists(),
        "{} does not look like a cluster's data directory; nothing was removed",
        data.display()
    );
    if !flags.yes {
        anyhow::ensure!(std::io::stdin().is_terminal(), "say --yes to remove {} without being asked", data.display());
        eprint!("Remove the cluster in {} with all its data? [y/N] ", data.display());
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        anyhow::ensure!(answer.trim().eq_ignore_ascii_case("y"), "nothing was removed");
    }
    // A server that still runs must not lose the ground under its feet: the store's lock says whether one does.
    let store = data.join("store");
    if store.exists() {
        drop(storage::engines::open(&format!("embedded:{}", store.display())).context("the cluster is in use")?);
    }
    let progress = Progress::new();
    remove(&data, &progress).await?;
    containerd::unmount_below(&data)?;
    std::fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
    progress.done("the data is gone");
    progress.finish();
    Ok(())
}

/// `ironkeel image`.
pub(crate) async fn image(flags: &Image) -> anyhow::Result<()> {
    match &flags.command {
        ImageCommand::Load { cluster, containerd: named, files } => {
            let mut sockets = vec![socket(cluster, named.as_ref())?];
            if named.is_none() {
                // Further nodes have image stores of their own.
                let others = crate::fleet::directories(&cluster.data_dir()?);
                sockets.extend(others.iter().map(|(_, data)| containerd::Config::under(data).socket()));
            }
            for file in files {
                anyhow::ensure!(file.exists(), "{} does not exist", file.display());
                for (index, socket) in sockets.iter().filter(|socket| socket.exists()).enumerate() {
                    for name in containerd::import_image(socket, file).await? {
                        if index == 0 {
                            eprintln!("{name}");
                        }
                    }
                }
            }
        }
        ImageCommand::List { cluster, containerd } => {
            let socket = socket(cluster, containerd.as_ref())?;
            let mut out = std::io::stdout().lock();
            for name in containerd::image_names(&socket).await? {
                writeln!(out, "{name}")?;
            }
        }
    }
    Ok(())
}

fn socket(cluster: &Cluster, named: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let socket = match named {
        Some(socket) => socket.clone(),
        None => containerd::Config::under(&cluster.data_dir()?).socket(),
    };
    anyhow::ensure!(
        socket.exists(),
        "no container runtime at {}: is the cluster up? (--data-dir and --containerd name another)",
        socket.display()
    );
    Ok(socket)
}
