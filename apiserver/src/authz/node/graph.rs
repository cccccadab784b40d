//! Which nodes reach which objects, counted, so that a question is one look-up.
//!
//! What leads to a node holds what it refers to: a pod its secrets, a volume, through its claim, those of the pods that use the claim. Knows
//! places and nodes; never reads an object. Its size is that of what is held.

use std::collections::HashMap;
use std::sync::Arc;

/// What a node may have to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ResourceClaim,
    Attachment,
    ServiceAccount,
    Slice,
    Pod,
    CertificateRequest,
}

/// An object, there or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) what: What,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

/// Where that which holds others leads.
#[derive(Debug)]
pub(super) enum Leads {
    Node(Arc<str>),
    /// To the nodes that reach this claim.
    Claim(Place),
}

/// What is held, by whom it is reached.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) leads: Leads,
    /// Each once; a claim only where `leads` is a node.
    pub(super) holds: Vec<Place>,
}

/// See the file.
#[derive(Debug, Default)]
pub(super) struct Graph {
    holders: HashMap<Place, Holder>,
    /// The nodes that reach an object, in order, each with the number of its ways there.
    nodes: HashMap<Place, Vec<(Arc<str>, u32)>>,
    /// The volumes that are bound to a claim.
    volumes: HashMap<Place, Vec<Place>>,
}

impl Graph {
    /// The node reaches the object.
    pub(super) fn reaches(&self, node: &str, place: &Place) -> bool {
        let found = self.nodes.get(place).map(|nodes| find(nodes, node));
        matches!(found, Some(Ok(_)))
    }

    /// What is there holds this from now on, or nothing.
    pub(super) fn put(&mut self, place: &Place, holder: Option<Holder>) {
        self.remove(place);
        let Some(mut holder) = holder else { return };
        for held in &mut holder.holds {
            // A name that many refer to is there once.
            if let Some((own, _)) = self.nodes.get_key_value(held) {
                *held = own.clone();
            }
        }
        match &holder.leads {
            Leads::Node(node) => holder.holds.iter().for_each(|held| self.add(held, node)),
            Leads::Claim(claim) => {
                self.volumes.entry(claim.clone()).or_default().push(place.clone());
                for node in self.reaching(claim) {
                    holder.holds.iter().for_each(|held| self.add(held, &node));
                }
            }
        }
        self.holders.insert(place.clone(), holder);
    }

    fn remove(&mut self, place: &Place) {
        let Some(holder) = self.holders.remove(place) else { return };
        match &holder.leads {
            Leads::Node(node) => holder.holds.iter().for_each(|held| self.take(held, node)),
            Leads::Claim(claim) => {
                if let Some(volumes) = self.volumes.get_mut(claim) {
                    volumes.retain(|own| own != place);
                    if volumes.is_empty() {
                        self.volumes.remove(claim);
                    }
                }
                for node in self.reaching(claim) {
                    holder.holds.iter().for_each(|held| self.take(held, &node));
                }
            }
        }
    }

    fn reaching(&self, place: &Place) -> Vec<Arc<str>> {
        self.nodes.get(place).into_iter().flatten().map(|(node, _)| Arc::clone(node)).collect()
    }

    /// What the volumes of a claim hold; nothing for what is no claim.
    fn behind(&self, place: &Place) -> Vec<Place> {
        let volumes = self.volumes.get(place).into_iter().flatten();
        volumes.filter_map(|volume| self.holders.get(volume)).flat_map(|holder| holder.holds.iter().cloned()).collect()
    }

    /// One more way of the node to the object.
    fn add(&mut self, place: &Place, node: &Arc<str>) {
        let nodes = self.nodes.entry(place.clone()).or_default();
        match find(nodes, node) {
            Ok(at) => {
                if let Some((_, ways)) = nodes.get_mut(at) {
                    *ways += 1;
                }
            }
            Err(at) => {
                nodes.insert(at, (Arc::clone(node), 1));
                // No deeper than this: volumes hold no claims.
                self.behind(place).iter().for_each(|held| self.add(held, node));
            }
        }
    }

    /// One way less.
    fn take(&mut self, place: &Place, node: &Arc<str>) {
        let Some(nodes) = self.nodes.get_mut(place) else { return };
        let Ok(at) = find(nodes, node) else { return };
        if let Some((_, ways)) = nodes.get_mut(at).filter(|(_, ways)| *ways > 1) {
            *ways -= 1;
            return;
        }
        nodes.remove(at);
        if nodes.is_empty() {
            self.nodes.remove(place);
        }
        self.behind(place).iter().for_each(|held| self.take(held, node));
    }

    /// Nothing is left of what was.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.nodes.is_empty() && self.volumes.is_empty()
    }
}

fn find(nodes: &[(Arc<str>, u32)], node: &str) -> Result<usize, usize> {
    nodes.binary_search_by(|(own, _)| (**own).cmp(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    fn place(what: What, number: usize) -> Place {
        Place { what, namespace: "n".into(), name: format!("{number}").into() }
    }

    /// Who reaches what, by walking.
    fn walked(graph: &Graph, node: &str, wanted: &Place) -> bool {
        graph.holders.values().filter(|holder| holder.holds.contains(wanted)).any(|holder| match &holder.leads {
            Leads::Node(own) => **own == *node,
            Leads::Claim(claim) => walked(graph, node, claim),
        })
    }

    #[test]
    fn whatever_comes_and_goes_the_counts_are_what_walking_finds() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut graph = Graph::default();
        let some = |what: What, random: &mut StdRng| place(what, random.random_range(0..4));
        for step in 0..3000 {
            let (owner, holder) = if random.random_range(0..2) == 0 {
                let holds = [What::Secret, What::Claim, What::ConfigMap].map(|what| some(what, &mut random));
                let node = format!("node{}", random.random_range(0..3)).into();
                (some(What::Pod, &mut random), Holder { leads: Leads::Node(node), holds: holds.to_vec() })
            } else {
                let own = some(What::Volume, &mut random);
                let holds = vec![own.clone(), some(What::Secret, &mut random)];
                (own, Holder { leads: Leads::Claim(some(What::Claim, &mut random)), holds })
            };
            graph.put(&owner, (random.random_range(0..3) > 0).then_some(holder));
            for what in [What::Secret, What::Claim, What::ConfigMap, What::Volume] {
                for (number, node) in (0..4).flat_map(|number| (0..3).map(move |node| (number, format!("node{node}"))))
                {
                    let wanted = place(what, number);
                    let walked = walked(&graph, &node, &wanted);
                    assert_eq!(graph.reaches(&node, &wanted), walked, "seed {seed}, step {step}: {wanted:?} {node}");
                }
            }
        }
        for number in 0..4 {
            graph.put(&place(What::Pod, number), None);
            graph.put(&place(What::Volume, number), None);
        }
        assert!(graph.is_empty(), "seed {seed}: {graph:?}");
    }
}
