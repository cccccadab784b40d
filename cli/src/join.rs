//! `ironkeel node`: containerd, pod network, kubelet and service proxy of a further node, as a process of its own in the network namespace
//! that it finds itself in. `fleet.rs` starts it.
//!
//! Never makes certificates; it finds them in `DATA-DIR/pki`.

use crate::flags::Cluster;
use crate::node::table;
use anyhow::Context as _;
use clap::Args;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kubelet::containerd::{self, Containerd};
use kubelet::network::{self, PodCidr};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a further node is told.
#[derive(Args)]
pub(crate) struct Join {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Name of the node
    #[arg(long)]
    pub(crate) node_name: String,
    /// Address of the node
    #[arg(long)]
    pub(crate) node_ip: IpAddr,
    /// Block of all nodes' pods
    #[arg(long)]
    pub(crate) cluster_cidr: Ipv4Net,
    /// Address of cluster DNS
    #[arg(long)]
    pub(crate) cluster_dns: Vec<IpAddr>,
    /// Port of the kubelet
    #[arg(long)]
    pub(crate) kubelet_port: u16,
    /// Most pods on the node
    #[arg(long)]
    pub(crate) max_pods: u32,
    /// What to log
    #[arg(long)]
    pub(crate) log: String,
}

async fn client(data: &Path, of: &str) -> anyhow::Result<kube::Client> {
    let file = data.join("pki").join(format!("{of}.kubeconfig"));
    let read = || -> anyhow::Result<kube::config::Kubeconfig> { Ok(kube::config::Kubeconfig::read_from(&file)?) };
    let kubeconfig = read().with_context(|| format!("the kubeconfig {} cannot be read", file.display()))?;
    let options = kube::config::KubeConfigOptions::default();
    Ok(kube::Client::try_from(kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?)?)
}

/// Waits until the cluster has given the node its block of pod addresses.
async fn own_block(client: kube::Client, node: &str) -> anyhow::Result<PodCidr> {
    let api: Api<Node> = Api::all(client);
    loop {
        let found = api.get_opt(node).await.ok().flatten();
        if let Some(text) = found.and_then(|node| node.spec?.pod_cidr) {
            return PodCidr::parse(&text).map_err(anyhow::Error::msg);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Runs a node until it is interrupted, and then stops its pods; where its starter is gone (standard input ends), it leaves them.
pub(crate) async fn run(flags: Join) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&flags.log).context("--log")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let data = flags.cluster.data_dir()?;
    let read = |name: &str| {
        let file = data.join("pki").join(name);
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let (kubelet_client, proxy_client) = (client(&data, "kubelet").await?, client(&data, "proxy").await?);
    let runtime = Containerd::start(containerd::Config::under(&data)).await.context("containerd cannot be started")?;
    let socket = runtime.socket();
    let config = kubelet::Config {
        node_name: flags.node_name.clone(),
        client: kubelet_client.clone(),
        containerd: socket.clone(),
        root: data.join("kubelet"),
        node_ip: flags.node_ip,
        pod_cidr: String::new(),
        listen: SocketAddr::new(flags.node_ip, flags.kubelet_port),
        serving: kubelet::Serving::new(&read("kubelet.crt")?, &read("kubelet.key")?)
            .context("the kubelet's certificate")?,
        spoken: kubelet::Spoken::default(),
        client_ca_pem: read("ca.crt")?,
        max_pods: flags.max_pods,
        static_pods: None,
        labels: std::collections::BTreeMap::new(),
        taints: Vec::new(),
        resolv_conf: kubelet::RESOLV_CONF.into(),
        cluster_dns: flags.cluster_dns.clone(),
        cluster_domain: crate::dns::DOMAIN.to_owned(),
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // It registers the node, which is ready once its network is there.
    let mut kubelet = tokio::spawn(kubelet::run(config, stopped, || {}));
    let block = tokio::select! {
        block = own_block(kubelet_client, &flags.node_name) => block?,
        ended = &mut kubelet => return Ok(ended.context("the kubelet ended")??),
        _ = interrupt.recv() => return Ok(()),
    };
    let pods = PodCidr::parse(&flags.cluster_cidr.to_string()).map_err(anyhow::Error::msg)?;
    let network = network::Config::under(&data, block).within(pods);
    network::ensure(&network).await.context("the pod network cannot be made")?;
    let proxy = proxy::Config {
        client: proxy_client,
        place: proxy::plan::Place { node: flags.node_name.clone(), zone: String::new() },
        options: proxy::rules::Options {
            table: table(&data),
            node_addresses: vec![flags.node_ip],
            pod_cidrs: vec![block.to_string()],
            bridge: Some(network.names().bridge),
            masquerade_all: false,
        },
        metrics: proxy::metrics::Metrics::default(),
    };
    let proxy = tokio::spawn(proxy::run(proxy, stop.clone()));
    let leave_pods = tokio::select! {
        _ = interrupt.recv() => false,
        () = starter_gone() => true,
        ended = &mut kubelet => return Ok(ended.context("the kubelet ended")??),
    };
    stop.cancel();
    kubelet.await.context("the kubelet ended badly")??;
    proxy.await.context("the service proxy ended badly")?;
    if !leave_pods {
        kubelet::stop_all_pods(&socket).await.context("the pods could not be stopped")?;
    }
    runtime.stop().await;
    Ok(())
}

/// Returns when standard input is a pipe whose other end nobody holds any more.
async fn starter_gone() {
    let input = std::io::stdin().as_fd().try_clone_to_owned().and_then(Receiver::from_owned_fd);
    match input {
        Ok(mut input) => {
            let mut bytes = [0_u8; 64];
            while input.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        }
        // Started by hand.
        Err(_) => std::future::pending().await,
    }
}
