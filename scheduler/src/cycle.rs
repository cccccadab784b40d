//! From a snapshot and a pod to a node, or to the reasons why there is none. A pure function.

use crate::plugins::{Filter, PLUGINS, Score};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use std::collections::BTreeMap;
use std::fmt;

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node's name.
    pub node: String,
    /// How many nodes were looked at, for the next search to begin behind them.
    pub looked_at: usize,
}

/// Why a pod goes nowhere. Displayed as upstream's message for events and conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    /// How many nodes there are.
    pub nodes: usize,
    /// On how many nodes each reason holds.
    pub reasons: BTreeMap<String, usize>,
    /// Which plugins refused nodes, by their place in the table.
    pub refused_by: Vec<usize>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<String> = self.reasons.iter().map(|(reason, nodes)| format!("{nodes} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

/// What varies between searches, so that equal nodes share the load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Where the search begins, in nodes.
    pub start: usize,
    /// Any number; picks among the best.
    pub pick: usize,
}

/// How many fitting nodes are enough, so that large clusters are not searched whole: all of 100, half of 1000, 10 % of 5000,
/// never fewer than 100.
fn enough(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    if nodes < 100 { nodes } else { (nodes * percent / 100).max(100) }
}

/// The node for `pod`: among those that no plugin refuses, one of the best by the plugins' weighted scores.
///
/// # Errors
/// When every node is refused, with the first refusing plugin's reasons per node.
pub fn place(snapshot: &Snapshot, pod: &PodInfo, turn: Turn) -> Result<Placement, Unfit> {
    let filters: Vec<(usize, Box<dyn Filter + '_>)> =
        PLUGINS.iter().enumerate().filter_map(|(index, plugin)| Some((index, plugin.filter(pod, snapshot)?))).collect();
    let total = snapshot.len();
    let start = turn.start.checked_rem(total).unwrap_or_default();
    let mut unfit = Unfit { nodes: total, ..Unfit::default() };
    let mut candidates: Vec<&NodeInfo> = Vec::new();
    let mut looked_at = 0;
    for node in snapshot.nodes().skip(start).chain(snapshot.nodes().take(start)) {
        looked_at += 1;
        match filters.iter().find_map(|(index, filter)| Some((*index, filter.check(node).err()?))) {
            None => candidates.push(node),
            Some((index, reasons)) => {
                for reason in reasons {
                    *unfit.reasons.entry(reason).or_default() += 1;
                }
                if !unfit.refused_by.contains(&index) {
                    unfit.refused_by.push(index);
                }
            }
        }
        if candidates.len() >= enough(total) {
            break;
        }
    }
    let scores = match candidates.as_slice() {
        [] => return Err(unfit),
        [_] => vec![0],
        several => scores(snapshot, pod, several),
    };
    let best = scores.iter().copied().max().unwrap_or_default();
    let winners: Vec<&&NodeInfo> =
        candidates.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(node, _)| node).collect();
    let pick = turn.pick.checked_rem(winners.len()).unwrap_or_default();
    match winners.get(pick) {
        Some(node) => Ok(Placement { node: node.name().to_owned(), looked_at }),
        None => Err(unfit),
    }
}

/// The weighted sum of all plugins' scores, in the candidates' order.
#[must_use]
pub fn scores(snapshot: &Snapshot, pod: &PodInfo, candidates: &[&NodeInfo]) -> Vec<i64> {
    let mut sums = vec![0_i64; candidates.len()];
    for plugin in PLUGINS {
        let Some(score) = plugin.score(pod, snapshot, candidates) else { continue };
        let score: Box<dyn Score + '_> = score;
        let mut own: Vec<i64> = candidates.iter().map(|node| score.score(node)).collect();
        score.normalize(&mut own);
        for (sum, own) in sums.iter_mut().zip(own) {
            *sum = sum.saturating_add(own.saturating_mul(plugin.weight()));
        }
    }
    sums
}

#[cfg(test)]
mod tests;
