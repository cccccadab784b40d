//! Network namespaces in which further nodes of one machine live: each has an address on a bridge of the machine, and the machine
//! routes between their pods. Idempotent, as the network of a node is. Never looks into a namespace's own pods.

use std::net::Ipv4Addr;

use super::{Names, PodCidr, exists};
use crate::containerd::{Error, run};

/// Where namespaces are kept by name, as `ip netns` does.
const DIRECTORY: &str = "/run/netns";

/// The namespace of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its name.
    pub name: String,
    /// The node's address.
    pub address: Ipv4Addr,
}

impl Space {
    /// The file by which a program enters it: `nsenter --net=FILE`.
    pub fn file(&self) -> String {
        format!("{DIRECTORY}/{}", self.name)
    }
}

/// The bridge between the machine and its further nodes. Its name does not begin as those of pods' bridges do.
fn backbone(names: &Names) -> String {
    names.bridge.replacen("ik-", "ikn-", 1)
}

/// The machine's end of the way to a node.
fn link(names: &Names, node: u8) -> String {
    format!("{}-{node}", names.bridge.replacen("ik-", "ikv-", 1))
}

fn space_name(names: &Names, node: u8) -> String {
    format!("{}-{node}", names.bridge)
}

/// Makes the bridge on which the nodes have their addresses, or puts right what differs. Returns the machine's own address there.
///
/// # Errors
/// As for [`super::ensure`].
pub async fn ensure_backbone(names: &Names, block: PodCidr) -> Result<Ipv4Addr, Error> {
    let bridge = backbone(names);
    if !exists(&bridge).await {
        run("ip", &["link", "add", "name", &bridge, "type", "bridge"], None).await?;
    }
    run("ip", &["link", "set", "dev", &bridge, "up"], None).await?;
    let address = format!("{}/{}", block.gateway(), block.length());
    run("ip", &["address", "replace", &address, "dev", &bridge], None).await?;
    Ok(block.gateway())
}

/// Makes the namespace of a node, from 2 on, and its way out.
///
/// # Errors
/// As for [`super::ensure`].
pub async fn ensure(names: &Names, block: PodCidr, node: u8) -> Result<Space, Error> {
    let gateway = block.gateway();
    let address = Ipv4Addr::from(u32::from(gateway).saturating_add(u32::from(node).saturating_sub(1)));
    let space = Space { name: space_name(names, node), address };
    if !std::path::Path::new(&space.file()).exists() {
        run("ip", &["netns", "add", &space.name], None).await?;
    }
    let link = link(names, node);
    if !exists(&link).await {
        let peer = ["link", "add", link.as_str(), "type", "veth", "peer", "name", "eth0", "netns", space.name.as_str()];
        run("ip", &peer, None).await?;
    }
    run("ip", &["link", "set", "dev", &link, "master", &backbone(names), "up"], None).await?;
    // What a node's pod sends to a port of this machine may end at a pod of the same node: rewritten by the proxy, it leaves where it came in.
    run("ip", &["link", "set", "dev", &link, "type", "bridge_slave", "hairpin", "on"], None).await?;
    let within = ["-n", space.name.as_str()];
    let whole = format!("{address}/{}", block.length());
    let gateway = gateway.to_string();
    for words in [
        &["link", "set", "dev", "lo", "up"][..],
        &["link", "set", "dev", "eth0", "up"][..],
        &["address", "replace", whole.as_str(), "dev", "eth0"][..],
        &["route", "replace", "default", "via", gateway.as_str()][..],
    ] {
        let words: Vec<&str> = within.iter().chain(words).copied().collect();
        run("ip", &words, None).await?;
    }
    Ok(space)
}

/// Leads what goes to a node's pods to the node.
///
/// # Errors
/// As for [`super::ensure`].
pub async fn route(pods: PodCidr, space: &Space) -> Result<(), Error> {
    run("ip", &["route", "replace", &pods.to_string(), "via", &space.address.to_string()], None).await.map(|_| ())
}

/// The nodes whose namespaces are there, by the names of `/run/netns`.
pub fn present(names: &Names) -> Vec<u8> {
    let entries = std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let prefix = format!("{}-", names.bridge);
    let mut nodes: Vec<u8> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()).collect();
    nodes.sort_unstable();
    nodes
}

/// The namespace of a node that is there.
pub fn file(names: &Names, node: u8) -> String {
    format!("{DIRECTORY}/{}", space_name(names, node))
}

/// Takes all namespaces and the bridge away; the routes go with it.
///
/// # Errors
/// As for [`super::ensure`].
pub async fn remove(names: &Names) -> Result<(), Error> {
    for node in present(names) {
        let link = link(names, node);
        if exists(&link).await {
            run("ip", &["link", "delete", &link], None).await?;
        }
        run("ip", &["netns", "delete", &space_name(names, node)], None).await?;
    }
    let bridge = backbone(names);
    if exists(&bridge).await {
        run("ip", &["link", "delete", &bridge, "type", "bridge"], None).await?;
    }
    Ok(())
}
