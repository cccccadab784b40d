//! Prefers nodes on which the pod brings CPU and memory use closer together.

use super::{MAX_SCORE, Plugin, Score};
use crate::resources::Resources;
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

pub(super) struct NodeResourcesBalancedAllocation;
pub(super) static PLUGIN: NodeResourcesBalancedAllocation = NodeResourcesBalancedAllocation;

struct Balance<'a>(&'a Resources);

/// 100 where both shares are equal, 50 where one is full and the other empty.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "shares of 0..=1, scores of 0..=100")]
fn balance(used: [i64; 2], of: [i64; 2]) -> i64 {
    let share = |used: i64, of: i64| (of > 0).then(|| (used as f64 / of as f64).min(1.0));
    let [cpu, memory] = used;
    let [all_cpu, all_memory] = of;
    let deviation = match (share(cpu, all_cpu), share(memory, all_memory)) {
        (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

impl Score for Balance<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let of = [node.allocatable.cpu, node.allocatable.memory];
        let before = [node.requested.cpu, node.requested.memory];
        let after = [before[0].saturating_add(self.0.cpu), before[1].saturating_add(self.0.memory)];
        MAX_SCORE / 2 + (MAX_SCORE / 2 + balance(after, of) - balance(before, of)) / 2
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot, _: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        // A pod that asks for nothing balances nothing.
        let asks = pod.requests.cpu > 0 || pod.requests.memory > 0;
        asks.then(|| Box::new(Balance(&pod.requests)) as Box<dyn Score>)
    }
}
