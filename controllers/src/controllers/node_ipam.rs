//! Gives every node without one its block of pod addresses, out of the cluster's blocks. It never changes a block that a node
//! has, and gives none while the cluster has no blocks (`--allocate-node-cidrs` is off).

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule, is_conflict, is_not_found},
    events::Note,
    informer::Change,
    object,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "node-ipam-controller",
    aliases: &["nodeipam"],
    service_account: "node-controller",
    reporter: "cidrAllocator",
    watches: &["v1.Node"],
    // As upstream: one account and one rule for all controllers of nodes.
    rules: &[Rule::new(&[""], &["nodes"], &["delete", "get", "list", "patch", "update", "watch"]), EVENTS],
    start,
};

/// Blocks that were given and that the cache may not show yet, by node.
type Given = Arc<Mutex<HashMap<String, Vec<IpNet>>>>;

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        if context.options.cluster_cidrs.is_empty() {
            return;
        }
        let nodes = context.informers.of::<Node>();
        let queue: Arc<Queue<String>> = Arc::default();
        let given: Given = Arc::default();
        nodes.subscribe({
            let (queue, given) = (queue.clone(), given.clone());
            move |change| {
                let node = change.object();
                let name = object::name(&node.metadata);
                if matches!(change, Change::Deleted(_)) {
                    given.lock().remove(name);
                } else if blocks(node).is_empty() {
                    queue.add(name.to_owned());
                }
            }
        });
        if nodes.synced(&context.stop).await {
            // One at a time: two nodes must not be given the same block.
            context.work(CONTROLLER.name, queue, 1, move |context, name| give(context, name, given.clone())).await;
        }
    }
    .boxed()
}

/// The blocks that a node has.
fn blocks(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let all = spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(spec.pod_cidr.iter()));
    all.filter_map(|text| text.parse().ok()).collect()
}

/// The length of the block that each node gets out of a cluster's block, by upstream's defaults for the two families.
fn length(cluster: &IpNet, of_v4: u8, of_v6: u8) -> u8 {
    match cluster {
        IpNet::V4(_) => of_v4,
        IpNet::V6(_) => of_v6,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The first block of `length` bits within the cluster's that no taken one overlaps.
fn free(cluster: &IpNet, length: u8, taken: &[IpNet]) -> Option<IpNet> {
    let mut taken: Vec<(u128, u128)> = taken
        .iter()
        .filter(|net| net.max_prefix_len() == cluster.max_prefix_len())
        .map(|net| (number(net.network()), number(net.broadcast())))
        .collect();
    taken.sort_unstable();
    let last = number(cluster.broadcast());
    let size = 1_u128.checked_shl(u32::from(cluster.max_prefix_len().checked_sub(length)?))?;
    let mut at = number(cluster.network());
    let mut taken = taken.into_iter().peekable();
    loop {
        let end = at.checked_add(size - 1)?;
        if length < cluster.prefix_len() || end > last {
            return None;
        }
        while taken.next_if(|(_, to)| *to < at).is_some() {}
        match taken.peek() {
            Some((from, to)) if *from <= end => {
                // The first boundary behind it: blocks lie on multiples of their size.
                at = to.checked_add(1)?.checked_next_multiple_of(size)?;
            }
            _ => break,
        }
    }
    let address = match cluster {
        IpNet::V4(_) => IpAddr::from(u32::try_from(at).ok()?.to_be_bytes()),
        IpNet::V6(_) => IpAddr::from(at.to_be_bytes()),
    };
    IpNet::new(address, length).ok()
}

async fn give(context: Context, name: String, given: Given) -> Result<Next, Error> {
    let nodes = context.informers.of::<Node>().all();
    let Some(node) = nodes.iter().find(|node| object::name(&node.metadata) == name) else { return Ok(Next::Done) };
    if !blocks(node).is_empty() || given.lock().contains_key(&name) {
        return Ok(Next::Done);
    }
    let mut taken: Vec<IpNet> = nodes.iter().flat_map(|node| blocks(node)).collect();
    taken.extend(given.lock().values().flatten());
    let options = &context.options;
    let lengths = (options.node_cidr_mask_size_ipv4, options.node_cidr_mask_size_ipv6);
    let found: Option<Vec<IpNet>> = options
        .cluster_cidrs
        .iter()
        .map(|cluster| free(cluster, length(cluster, lengths.0, lengths.1), &taken))
        .collect();
    let Some(found) = found else {
        let text = format!("Node {name} status is now: CIDRNotAvailable");
        context.events.record(&**node, Note::normal("CIDRNotAvailable", text));
        return Err(Error::NotYet(format!("no block of pod addresses is left for node {name}")));
    };
    let texts: Vec<String> = found.iter().map(IpNet::to_string).collect();
    let patch = json!({"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": texts.first(), "podCIDRs": texts}});
    match context.cluster_api::<Node>().patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => {
            given.lock().insert(name, found);
            Ok(Next::Done)
        }
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Next::Done),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_block_is_given() {
        let check = |cluster: &str, length: u8, taken: &[&str], want: Option<&str>| {
            let taken: Vec<IpNet> = taken.iter().map(|text| text.parse().unwrap()).collect();
            let got = free(&cluster.parse().unwrap(), length, &taken).map(|net| net.to_string());
            assert_eq!(got.as_deref(), want, "{cluster} {length} {taken:?}");
        };
        check("10.244.0.0/16", 24, &[], Some("10.244.0.0/24"));
        check("10.244.0.0/16", 24, &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"));
        check("10.244.0.0/16", 24, &["10.244.1.0/24", "10.244.0.0/24"], Some("10.244.2.0/24"));
        check("10.244.0.0/16", 24, &["10.244.0.128/25"], Some("10.244.1.0/24"));
        check("10.244.0.0/16", 24, &["10.244.0.0/15"], None);
        check("10.244.0.0/24", 25, &["10.244.0.0/25", "10.244.0.128/25"], None);
        check("10.244.0.0/24", 23, &[], None);
        check("10.244.0.0/16", 24, &["10.1.0.0/24", "fd00::/64"], Some("10.244.0.0/24"));
        check("255.255.255.0/24", 25, &["255.255.255.0/25", "255.255.255.128/25"], None);
        check("fd00::/48", 64, &["fd00::/64"], Some("fd00:0:0:1::/64"));
    }
}
