//! The further nodes of `up --nodes`: each a child process in a network namespace of its own, joined by a bridge, with routes between the
//! pods of all. `join.rs` is what the child does.
//!
//! Never speaks to a container runtime.

use crate::cluster::ControlPlane;
use crate::flags::Up;
use crate::kubeconfig::{render, write_private};
use crate::pki::{Authority, Subject};
use crate::progress::Progress;
use anyhow::Context as _;
use apiserver::authn::User;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kubelet::network::{Names, PodCidr, space};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};

/// Length of the block out of which all nodes' pods and the nodes themselves have their addresses.
const CLUSTER_BITS: u8 = 16;
/// How long a node may take to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// The block of all nodes' pods: that of the first node where it is the only one.
pub(crate) fn cluster_block(flags: &Up) -> anyhow::Result<PodCidr> {
    let own = PodCidr::parse(&flags.pod_cidr).map_err(anyhow::Error::msg)?;
    if flags.nodes == 1 {
        return Ok(own);
    }
    let cluster = own.around(CLUSTER_BITS);
    // The nodes themselves have the last of its blocks.
    let room = own.length() > CLUSTER_BITS && own.around(24) != cluster.last(24);
    anyhow::ensure!(room, "--nodes needs a --pod-cidr that is part of a /{CLUSTER_BITS}, and not its last part: {own}");
    Ok(cluster)
}

/// Out of which blocks nodes that bring none get theirs.
pub(crate) fn node_blocks(flags: &Up) -> Vec<IpNet> {
    let block = PodCidr::parse(&flags.pod_cidr).ok().and_then(|own| own.around(CLUSTER_BITS).to_string().parse().ok());
    block.into_iter().collect()
}

/// Nodes that run.
pub(crate) struct Fleet {
    members: Vec<Member>,
}

struct Member {
    name: String,
    child: Child,
    /// Open as long as the starter lives. Kept apart: waiting for a child closes the pipe that it still has.
    line: Option<ChildStdin>,
}

/// Where a node, from 2 on, keeps its data.
fn directory(data: &Path, node: u8) -> PathBuf {
    data.join(format!("n{node}"))
}

/// The data directories of the further nodes that are there, by number.
pub(crate) fn directories(data: &Path) -> Vec<(u8, PathBuf)> {
    (2..=u8::MAX).map(|node| (node, directory(data, node))).filter(|(_, path)| path.exists()).collect()
}

/// This program's own file, run within a namespace.
fn own_command(namespace: &str) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("this program's file is not known")?;
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={namespace}")).arg("--").arg(own);
    Ok(command)
}

/// What the child needs to know who it is.
fn credentials(authority: &Authority, url: &str, node: &str, address: IpAddr, pki: &Path) -> anyhow::Result<()> {
    let file = |kind: &str| format!("{node}-{kind}");
    let user = format!("system:node:{node}");
    let issue =
        |kind: &str, name: &str, group, hosts| authority.issue(&Subject { file: &file(kind), name, group, hosts });
    let serving = issue("kubelet", &user, Some("system:nodes"), vec![node.to_owned(), address.to_string()])?;
    let kubelet = issue("kubelet-client", &user, Some("system:nodes"), Vec::new())?;
    let proxy = issue("proxy-client", "system:kube-proxy", None, Vec::new())?;
    let ca = authority.certificate();
    write_private(&pki.join("ca.crt"), ca)?;
    write_private(&pki.join("kubelet.crt"), &serving.certificate)?;
    write_private(&pki.join("kubelet.key"), &serving.key)?;
    write_private(&pki.join("kubelet.kubeconfig"), &render(url, ca, &kubelet.certificate, &kubelet.key)?)?;
    write_private(&pki.join("proxy.kubeconfig"), &render(url, ca, &proxy.certificate, &proxy.key)?)
}

/// Waits until a node is ready; returns its block of pod addresses.
async fn ready(nodes: &Api<Node>, name: &str, child: &mut Child) -> anyhow::Result<PodCidr> {
    let look = async {
        loop {
            if let Ok(Some(node)) = nodes.get_opt(name).await {
                let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
                let is_ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
                if let Some(block) = node.spec.and_then(|spec| spec.pod_cidr).filter(|_| is_ready) {
                    return PodCidr::parse(&block).map_err(anyhow::Error::msg);
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        block = look => block,
        ended = child.wait() => anyhow::bail!("node {name} ended: {}", ended?),
        () = tokio::time::sleep(PATIENCE) => anyhow::bail!("node {name} is not ready within {} s", PATIENCE.as_secs()),
    }
}

/// Starts the nodes from the second on; the first, named `first`, runs.
pub(crate) async fn start(
    flags: &Up,
    data: &Path,
    plane: &ControlPlane,
    first: &str,
    dns: &[IpAddr],
    progress: &Progress,
) -> anyhow::Result<Fleet> {
    let mut fleet = Fleet { members: Vec::new() };
    let names = Names::of(&data.to_string_lossy());
    let cluster = cluster_block(flags)?;
    let backbone = cluster.last(24);
    if flags.nodes > 1 {
        space::ensure_backbone(&names, backbone).await.context("the nodes' network cannot be made")?;
    }
    let admin = plane.api.client(User::new("kubernetes-admin", &["system:masters"]), "ironkeel");
    let nodes: Api<Node> = Api::all(admin);
    let url = format!("https://{}", SocketAddr::new(plane.advertise, plane.api.address().port()));
    for number in 2..=flags.nodes {
        let name = format!("{first}-{number}");
        progress.doing(&format!("starting node {name}"));
        let own = directory(data, number);
        let space = space::ensure(&names, backbone, number).await.context("the nodes' network cannot be made")?;
        let address = IpAddr::from(space.address);
        credentials(&plane.authority, &url, &name, address, &own.join("pki"))?;
        let mut command = own_command(&space.file())?;
        command.arg("node").arg("--data-dir").arg(&own).args(["--node-name", &name]);
        command.args(["--node-ip", &address.to_string(), "--cluster-cidr", &cluster.to_string()]);
        for server in dns {
            command.args(["--cluster-dns", &server.to_string()]);
        }
        command.args(["--kubelet-port", &flags.kubelet_port.to_string(), "--max-pods", &flags.max_pods.to_string()]);
        command.args(["--log", &flags.log]);
        // A group of its own: an interrupt on the terminal is for the starter, which then ends its nodes. When the starter dies, the pipe
        // to the child's standard input says so.
        command.process_group(0).stdin(Stdio::piped());
        let mut child = command.spawn().context("nsenter cannot be run")?;
        let line = child.stdin.take();
        let block = ready(&nodes, &name, &mut child).await;
        fleet.members.push(Member { name: name.clone(), child, line });
        match block {
            Ok(block) => {
                space::route(block, &space).await.context("the nodes' network cannot be made")?;
                progress.done(&format!("node {name} ready"));
            }
            Err(error) => {
                fleet.end(false).await?;
                return Err(error);
            }
        }
    }
    Ok(fleet)
}

impl Fleet {
    /// Ends the nodes, with their pods unless they are to stay.
    pub(crate) async fn end(self, keep_pods: bool) -> anyhow::Result<()> {
        let mut members = self.members;
        for member in &mut members {
            if keep_pods {
                drop(member.line.take());
            } else if let Some(id) = member.child.id().and_then(|id| i32::try_from(id).ok()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGINT);
            }
        }
        for mut member in members {
            let ended = member.child.wait().await?;
            anyhow::ensure!(ended.success(), "node {} ended badly: {ended}", member.name);
        }
        Ok(())
    }
}

/// Removes containers, networks and namespaces of the further nodes of the cluster in `data`.
pub(crate) async fn remove(data: &Path) -> anyhow::Result<()> {
    let names = Names::of(&data.to_string_lossy());
    let present = space::present(&names);
    for (number, own) in directories(data) {
        let mut command = if present.contains(&number) {
            own_command(&space::file(&names, number))?
        } else {
            // After a restart of the machine the namespace is gone, and what was in it.
            Command::new(std::env::current_exe()?)
        };
        let done = command.arg("down").arg("--data-dir").arg(&own).stdin(Stdio::null()).status().await?;
        anyhow::ensure!(done.success(), "the node in {} could not be removed", own.display());
    }
    space::remove(&names).await.context("the nodes' network could not be removed")
}
