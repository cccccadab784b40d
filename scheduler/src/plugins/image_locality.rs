//! Prefers nodes that have the pod's images already, less so the fewer nodes have them: one node must not draw everything.

use super::{MAX_SCORE, Plugin, Score};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use std::collections::HashMap;

pub(super) struct ImageLocality;
pub(super) static PLUGIN: ImageLocality = ImageLocality;

const MIB: i64 = 1024 * 1024;
/// Sums below count as nothing.
const FLOOR: i64 = 23 * MIB;
/// Bytes per container above which more does not count.
const CEILING: i64 = 1000 * MIB;

struct Images {
    /// Wanted images by normalized name: on how many nodes they are, and how often the pod names them.
    wanted: HashMap<String, (i64, i64)>,
    nodes: i64,
    containers: i64,
}

/// With a tag, as the node reports names.
fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

/// Name and size of each image on the node.
fn images(node: &NodeInfo) -> impl Iterator<Item = (&str, i64)> {
    let images = node.node.status.iter().flat_map(|status| status.images.iter().flatten());
    images.flat_map(|image| {
        image.names.iter().flatten().map(|name| (name.as_str(), image.size_bytes.unwrap_or_default()))
    })
}

impl Score for Images {
    fn score(&self, node: &NodeInfo) -> i64 {
        let mut sum: i64 = 0;
        for (name, size) in images(node) {
            if let Some((spread, times)) = self.wanted.get(name) {
                let share = i128::from(size) * i128::from(*spread) / i128::from(self.nodes.max(1));
                sum = sum.saturating_add(i64::try_from(share * i128::from(*times)).unwrap_or(i64::MAX));
            }
        }
        let ceiling = CEILING.saturating_mul(self.containers.max(1));
        MAX_SCORE * (sum.clamp(FLOOR, ceiling) - FLOOR) / (ceiling - FLOOR)
    }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        candidates: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        if candidates.len() < 2 {
            return None;
        }
        let spec = pod.pod.spec.as_ref()?;
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let mut wanted: HashMap<String, (i64, i64)> = HashMap::new();
        for image in containers().filter_map(|container| container.image.as_deref()) {
            wanted.entry(normalized(image)).or_default().1 += 1;
        }
        for node in snapshot.nodes() {
            for (name, _) in images(node) {
                if let Some((spread, _)) = wanted.get_mut(name) {
                    *spread += 1;
                }
            }
        }
        let nodes = i64::try_from(snapshot.len()).unwrap_or(i64::MAX);
        Some(Box::new(Images { wanted, nodes, containers: i64::try_from(containers().count()).unwrap_or(i64::MAX) }))
    }
}
