//! `ironkeel kubelet`: the node agent from upstream's flags and a KubeletConfiguration.
//!
//! Brings no container runtime and no pod network; those are the machine's, as upstream.

use super::connection::Connection;
use super::identity::{Asker, Purpose, bootstrap, lacks_credentials};
use super::settings::Settings;
use super::table::Component;
use super::{host_name, listen, secured};
use crate::cluster::outward_address;
use crate::pki::self_signed;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Taint;
use kubelet::{Serving, Spoken};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const COMPONENT: Component = Component {
    name: "kubelet",
    upstream: "kubelet",
    table: include_str!("../../flags/kubelet.txt"),
    document: Some((&["kubelet.config.k8s.io/v1beta1"], "KubeletConfiguration")),
    file_alone: false,
};

/// Who the kubelet says it is.
const AGENT: &str = "kubelet/v1.36";

/// What the settings say, before anything is opened.
struct Wanted {
    node: String,
    node_ip: IpAddr,
    kubeconfig: PathBuf,
    bootstrap: Option<PathBuf>,
    asker: Asker,
    rotate: bool,
    ask_serving: bool,
    serving_files: Option<(PathBuf, PathBuf)>,
    healthz: Option<SocketAddr>,
    spoken: Spoken,
    client_ca: Option<PathBuf>,
    runtime: PathBuf,
    root: PathBuf,
    listen: SocketAddr,
    pod_cidr: String,
    max_pods: u32,
    static_pods: Option<PathBuf>,
    labels: std::collections::BTreeMap<String, String>,
    taints: Vec<Taint>,
    resolv_conf: PathBuf,
    cluster_dns: Vec<IpAddr>,
    cluster_domain: String,
}

fn wanted(settings: &Settings) -> anyhow::Result<Wanted> {
    let kubeconfig = settings
        .path("kubeconfig")
        .context("--kubeconfig is missing: there is no standalone mode, a kubelet needs its API server")?;
    let node = host_name(&settings.text("hostname-override"));
    let node_ip = match settings.text("node-ip").split(',').next().unwrap_or_default() {
        "" => outward_address(),
        text => text.trim().parse().with_context(|| format!("--node-ip: {text:?} is not an IP address"))?,
    };
    let endpoint = settings.text("container-runtime-endpoint");
    let runtime = match endpoint.split_once("://") {
        Some(("unix", path)) => PathBuf::from(path),
        None if endpoint.starts_with('/') => PathBuf::from(&endpoint),
        _ => anyhow::bail!("--container-runtime-endpoint: {endpoint:?} is not unix:///path/to.sock"),
    };
    let address = settings.ip("address")?.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let port: u16 = settings.number("healthz-port")?;
    let healthz = settings.ip("healthz-bind-address")?.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let serving_files = match (settings.path("tls-cert-file"), settings.path("tls-private-key-file")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => anyhow::bail!("--tls-cert-file and --tls-private-key-file go together"),
    };
    let (provider, versions) = secured::tls(settings).spoken()?;
    let spoken = Spoken { provider: Arc::new(provider), versions };
    let dns = settings.list("cluster-dns");
    let dns =
        dns.iter().map(|text| text.parse().with_context(|| format!("--cluster-dns: {text:?} is not an IP address")));
    Ok(Wanted {
        asker: Asker {
            node: node.clone(),
            directory: settings.required("cert-dir")?,
            hosts: vec![node.clone(), node_ip.to_string()],
        },
        node,
        node_ip,
        kubeconfig,
        bootstrap: settings.path("bootstrap-kubeconfig"),
        rotate: settings.bool("rotate-certificates"),
        ask_serving: settings.bool("rotate-server-certificates"),
        serving_files,
        healthz: (port > 0).then(|| SocketAddr::new(healthz, port)),
        spoken,
        client_ca: settings.path("client-ca-file"),
        runtime,
        root: settings.required("root-dir")?,
        listen: SocketAddr::new(address, settings.number("port")?),
        pod_cidr: settings.text("pod-cidr"),
        max_pods: settings.number("max-pods")?,
        static_pods: settings.path("pod-manifest-path"),
        labels: settings.map("node-labels"),
        taints: taints(settings)?,
        resolv_conf: settings.path("resolv-conf").unwrap_or_else(|| PathBuf::from("/dev/null")),
        cluster_dns: dns.collect::<anyhow::Result<_>>()?,
        cluster_domain: settings.text("cluster-domain"),
    })
}

/// Taints as the flag writes them, `key=value:Effect`, or as objects in the file.
fn taints(settings: &Settings) -> anyhow::Result<Vec<Taint>> {
    let items = settings.raw("register-with-taints");
    let one = |item: &serde_json::Value| match item.as_str() {
        Some(text) => {
            let (rest, effect) = text.rsplit_once(':').with_context(|| format!("invalid taint spec: {text}"))?;
            let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
            anyhow::ensure!(
                ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect),
                "invalid taint spec: {text}, {effect:?} is no effect"
            );
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
        }
        None => serde_json::from_value(item.clone()).context("registerWithTaints"),
    };
    items.as_array().into_iter().flatten().map(one).collect()
}

/// The certificate of the kubelet's API: the files named, the cluster's, or one of its own that nobody can check.
fn serving(wanted: &Wanted) -> anyhow::Result<Serving> {
    if let Some((certificate, key)) = &wanted.serving_files {
        return Ok(Serving::new(&read(certificate)?, &read(key)?)?);
    }
    if wanted.ask_serving
        && let Some(text) = wanted.asker.current(Purpose::Serving)
    {
        return Ok(Serving::new(&text, &text)?);
    }
    // Until the cluster issues one, and where nobody asks it.
    let own = self_signed(&wanted.node, &wanted.asker.hosts)?;
    Ok(Serving::new(&own.certificate, &own.key)?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Runs a kubelet until `stop`.
///
/// # Errors
/// When the settings cannot be, or the kubelet cannot start.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let wanted = wanted(&settings)?;
    if let Some(file) = &wanted.bootstrap
        && lacks_credentials(&wanted.kubeconfig)
    {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            done = bootstrap(&wanted.asker, file, &wanted.kubeconfig) => done?,
        }
    }
    let connection = Connection::open(&wanted.kubeconfig, "", AGENT).await?;
    let serving = serving(&wanted)?;
    let mut tasks = JoinSet::new();
    if let Some(address) = wanted.healthz {
        listen::serve(&mut tasks, address, listen::health(), None, stop.clone()).await?;
    }
    // A certificate that somebody else put there is somebody else's to renew.
    if wanted.rotate && wanted.asker.current(Purpose::Client).is_some() {
        let (asker, client, path, stop) =
            (wanted.asker.clone(), connection.client(), wanted.kubeconfig.clone(), stop.clone());
        let connection = connection.clone();
        tasks.spawn(asker.renew(client, Purpose::Client, stop, async move || connection.reopen(&path, "").await));
    }
    if wanted.ask_serving && wanted.serving_files.is_none() {
        let (asker, held) = (wanted.asker.clone(), serving.clone());
        let taken = async move || {
            let text = asker.current(Purpose::Serving).context("the new certificate is gone")?;
            Ok(held.exchange(&text, &text)?)
        };
        tasks.spawn(wanted.asker.clone().renew(connection.client(), Purpose::Serving, stop.clone(), taken));
    }
    let config = kubelet::Config {
        node_name: wanted.node,
        client: connection.client(),
        containerd: wanted.runtime,
        root: wanted.root,
        node_ip: wanted.node_ip,
        pod_cidr: wanted.pod_cidr,
        listen: wanted.listen,
        serving,
        spoken: wanted.spoken,
        client_ca_pem: wanted.client_ca.as_deref().map(read).transpose()?.unwrap_or_default(),
        max_pods: wanted.max_pods,
        static_pods: wanted.static_pods,
        labels: wanted.labels,
        taints: wanted.taints,
        resolv_conf: wanted.resolv_conf,
        cluster_dns: wanted.cluster_dns,
        cluster_domain: wanted.cluster_domain,
    };
    let ready = config.node_name.clone();
    kubelet::run(config, stop, move || tracing::info!(node = ready, "the node is ready")).await?;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
pub(crate) fn read_all(settings: &Settings) -> anyhow::Result<()> {
    wanted(settings).map(|_| ())
}
