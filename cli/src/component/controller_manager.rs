//! `ironkeel controller-manager`: the controllers from upstream's flags.

use super::accounts::Account;
use super::connection::{self, Connection};
use super::settings::Settings;
use super::table::Component;
use super::{identity_of_process, listen, secured};
use crate::{cluster, profile};
use anyhow::Context as _;
use api::features::Gates;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const COMPONENT: Component = Component {
    name: "controller-manager",
    upstream: "kube-controller-manager",
    table: include_str!("../../flags/controller-manager.txt"),
    document: None,
    file_alone: false,
};

const AGENT: &str = "kube-controller-manager/v1.36";

/// Upstream's controllers that are not here, under all their names: a list that names one is taken, and the absence is said.
const ABSENT: &[&str] = &[
    "attachdetach",
    "cloud-node-lifecycle",
    "cloud-node-lifecycle-controller",
    "clusterrole-aggregation",
    "clusterrole-aggregation-controller",
    "device-taint-eviction-controller",
    "ephemeral-volume",
    "ephemeral-volume-controller",
    "horizontal-pod-autoscaler-controller",
    "horizontalpodautoscaling",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    "node-route-controller",
    "persistentvolume-attach-detach-controller",
    "persistentvolume-expander",
    "persistentvolume-expander-controller",
    "podcertificaterequest-cleaner-controller",
    "resource-claim-controller",
    "resourceclaim-controller",
    "resourcepoolstatusrequest-controller",
    "route",
    "selinux-warning-controller",
    "service",
    "service-ca-cert-publisher",
    "service-ca-certificate-publisher-controller",
    "service-lb-controller",
    "storage-version-gc",
    "storage-version-migrator-controller",
    "storageversion-garbage-collector-controller",
    "svm",
    "ttl",
    "ttl-controller",
];

struct Wanted {
    kubeconfig: PathBuf,
    master: String,
    own_accounts: bool,
    listen: Option<SocketAddr>,
    profiling: bool,
    options: controllers::Options,
    root_ca: Option<PathBuf>,
    token_key: Option<PathBuf>,
    signing: Option<(PathBuf, PathBuf)>,
}

/// The controllers asked for that are here, and those that are not.
fn sorted(asked: Vec<String>) -> (Vec<String>, Vec<String>) {
    let here = |word: &str| {
        let name = word.strip_prefix('-').unwrap_or(word);
        controllers::CONTROLLERS.iter().any(|one| one.name == name || one.aliases.contains(&name))
    };
    let absent = |word: &String| !here(word) && ABSENT.contains(&word.strip_prefix('-').unwrap_or(word));
    let (away, here): (Vec<_>, Vec<_>) = asked.into_iter().partition(absent);
    (here, away.into_iter().filter(|word| !word.starts_with('-')).collect())
}

fn wanted(settings: &Settings) -> anyhow::Result<Wanted> {
    let (enabled, absent) = sorted(settings.list("controllers"));
    if !absent.is_empty() {
        tracing::warn!("--controllers names controllers that are not here: {}", absent.join(", "));
    }
    // A gate may be said to be of a component, and this one is `kube`.
    let own = |word: String| word.strip_prefix("kube:").map_or(word.clone(), str::to_owned);
    let gates: Vec<String> = settings.words("feature-gates").into_iter().map(own).collect();
    let gates = Gates::parse(&gates).context("--feature-gates")?;
    let enabled = controllers::controller::allowed(enabled, |gate| gates.enabled(gate));
    let signing = match (settings.path("cluster-signing-cert-file"), settings.path("cluster-signing-key-file")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => anyhow::bail!("--cluster-signing-cert-file and --cluster-signing-key-file go together"),
    };
    let port: u16 = settings.number("secure-port")?;
    let address = settings.ip("bind-address")?.context("--bind-address is missing")?;
    let clean_up = settings.duration("legacy-service-account-token-clean-up-period")?;
    anyhow::ensure!(!clean_up.is_zero(), "--legacy-service-account-token-clean-up-period must be positive");
    let (cluster_cidrs, [mask_v4, mask_v6]) = node_blocks(settings)?;
    Ok(Wanted {
        kubeconfig: settings.required("kubeconfig")?,
        master: settings.text("master"),
        own_accounts: settings.bool("use-service-account-credentials"),
        listen: (port > 0).then(|| SocketAddr::new(address, port)),
        profiling: settings.bool("profiling"),
        root_ca: settings.path("root-ca-file"),
        token_key: settings.path("service-account-private-key-file"),
        signing,
        options: controllers::Options {
            enabled,
            leader_elect: settings.bool("leader-elect"),
            identity: identity_of_process(),
            cluster_signing_duration: settings.duration("cluster-signing-duration")?,
            terminated_pod_gc_threshold: settings.number("terminated-pod-gc-threshold")?,
            node_monitor_grace_period: settings.duration("node-monitor-grace-period")?,
            node_startup_grace_period: settings.duration("node-startup-grace-period")?,
            node_monitor_period: settings.duration("node-monitor-period")?,
            legacy_token_clean_up_period: clean_up,
            cluster_cidrs,
            node_cidr_mask_size_ipv4: mask_v4,
            node_cidr_mask_size_ipv6: mask_v6,
            ..controllers::Options::default()
        },
    })
}

/// The blocks out of which nodes get theirs, and how long those are; none unless they are to be handed out.
fn node_blocks(settings: &Settings) -> anyhow::Result<(Vec<IpNet>, [u8; 2])> {
    let block =
        |text: &str| text.trim().parse::<IpNet>().with_context(|| format!("--cluster-cidr: {text:?} is not a range"));
    let blocks = settings.text("cluster-cidr");
    let blocks: Vec<IpNet> =
        blocks.split(',').filter(|text| !text.is_empty()).map(block).collect::<anyhow::Result<_>>()?;
    let hand_out = settings.bool("allocate-node-cidrs");
    let size = |own: &str, otherwise: u8| -> anyhow::Result<u8> {
        let general: u8 = settings.number("node-cidr-mask-size")?;
        Ok(match (settings.number(own)?, general) {
            (0, 0) => otherwise,
            (0, general) => general,
            (own, _) => own,
        })
    };
    let sizes = [size("node-cidr-mask-size-ipv4", 24)?, size("node-cidr-mask-size-ipv6", 64)?];
    Ok((if hand_out { blocks } else { Vec::new() }, sizes))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Runs the controllers until `stop`.
///
/// # Errors
/// When the settings cannot be, an address is taken, or another process took the lease.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let secured = secured::read(&settings)?;
    let mut wanted = wanted(&settings)?;
    if let Some(path) = &wanted.root_ca {
        wanted.options.cluster_ca_pem = read(path)?;
    }
    if let Some(path) = &wanted.token_key {
        let signer = cluster::signer(&read(path)?).context("--service-account-private-key-file")?;
        wanted.options.sign = Some(signer);
    }
    if let Some((certificate, key)) = &wanted.signing {
        wanted.options.cluster_signing_cert_pem = read(certificate)?;
        wanted.options.cluster_ca_key_pem = read(key)?;
    }
    let connection = Connection::open(&wanted.kubeconfig, &wanted.master, AGENT).await?;
    let mut tasks = JoinSet::new();
    if let Some(address) = wanted.listen {
        let secured = secured.open(&connection, AGENT, stop.clone()).await?;
        let registry = wanted.options.metrics.registry();
        connection::show_requests(registry);
        let routes = listen::with_metrics(registry).profiled(profile::process(wanted.profiling));
        listen::serve(&mut tasks, address, routes, Some(secured), stop.clone()).await?;
    }
    let mut accounts = HashMap::new();
    if wanted.own_accounts {
        let bare = Connection::bare(&wanted.kubeconfig, &wanted.master, AGENT).await?;
        for name in controllers::accounts() {
            accounts.insert(name, Account::client(name, &connection, &bare, AGENT));
        }
    }
    let own = connection.client();
    let client_for = move |name: &str| accounts.get(name).unwrap_or(&own).clone();
    controllers::run(client_for, wanted.options, stop).await?;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
pub(crate) fn read_all(settings: &Settings) -> anyhow::Result<()> {
    secured::read(settings)?;
    wanted(settings).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_that_are_not_here_are_named_and_unknown_ones_stay_mistakes() {
        let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let (here, away) = sorted(words("* ttl -svm deployment nonsense"));
        assert_eq!((here, away), (words("* deployment nonsense"), words("ttl")));
        for name in ABSENT {
            let there = controllers::CONTROLLERS.iter().any(|one| one.name == *name || one.aliases.contains(name));
            assert!(!there, "{name} is here now: strike it from the list");
        }
    }
}
