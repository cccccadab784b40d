//! Pod affinity and anti-affinity, required and preferred, of the pod and of those already placed.

use super::{Event, Filter, MAX_SCORE, Plugin, Reasons, Score};
use crate::matching::{affinity_matches, node_labels};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use k8s_openapi::api::core::v1::PodAffinityTerm;
use std::collections::{HashMap, HashSet};

pub(super) struct InterPodAffinity;
pub(super) static PLUGIN: InterPodAffinity = InterPodAffinity;

/// What a required affinity term of a placed pod adds to the nodes of its domain.
const HARD_WEIGHT: i64 = 1;

/// A topology domain: a label's key and value.
type Domain = (String, String);

struct Check<'a> {
    wanted: &'a [PodAffinityTerm],
    unwanted: &'a [PodAffinityTerm],
    /// Domains with pods that match all wanted terms.
    with: HashSet<Domain>,
    /// Domains with pods that match an unwanted term.
    without: HashSet<Domain>,
    /// Domains whose pods do not want this one.
    refused: HashSet<Domain>,
    /// The pod matches its own wanted terms, so that the first of its kind finds a place.
    itself: bool,
}

fn domain(key: &str, node: &NodeInfo) -> Option<Domain> {
    node_labels(&node.node).get(key).map(|value| (key.to_owned(), value.clone()))
}

impl Filter for Check<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Reasons> {
        let refuse = |why: &str| Err(vec![why.to_owned()]);
        let mut found = true;
        for term in self.wanted {
            match domain(&term.topology_key, node) {
                None => return refuse("node(s) didn't match pod affinity rules"),
                Some(domain) => found &= self.with.contains(&domain),
            }
        }
        let first = self.with.is_empty() && self.itself;
        if !(found || first) {
            return refuse("node(s) didn't match pod affinity rules");
        }
        let mut avoided = self.unwanted.iter().filter_map(|term| domain(&term.topology_key, node));
        if avoided.any(|domain| self.without.contains(&domain)) {
            return refuse("node(s) didn't match pod anti-affinity rules");
        }
        let labels = node_labels(&node.node);
        if self.refused.iter().any(|(key, value)| labels.get(key) == Some(value)) {
            return refuse("node(s) didn't satisfy existing pods anti-affinity rules");
        }
        Ok(())
    }
}

struct Likes(HashMap<String, HashMap<String, i64>>);

impl Score for Likes {
    fn score(&self, node: &NodeInfo) -> i64 {
        let labels = node_labels(&node.node);
        self.0.iter().filter_map(|(key, values)| values.get(labels.get(key)?)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let max = scores.iter().copied().max().unwrap_or_default();
        let min = scores.iter().copied().min().unwrap_or_default();
        for score in scores.iter_mut() {
            *score = if max > min { MAX_SCORE * (*score - min) / (max - min) } else { 0 };
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn filter<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<Box<dyn Filter + 'a>> {
        let (wanted, unwanted) = pod.required_terms();
        let matches = |term: &PodAffinityTerm, owner: &PodInfo, other: &PodInfo| {
            affinity_matches(term, &owner.pod, &other.pod, &snapshot.namespaces)
        };
        let own = !(wanted.is_empty() && unwanted.is_empty());
        let (mut with, mut without, mut refused) = (HashSet::new(), HashSet::new(), HashSet::new());
        for node in snapshot.nodes() {
            for other in node.pods.values().filter(|other| own || other.has_affinity()) {
                if !wanted.is_empty() && wanted.iter().all(|term| matches(term, pod, other)) {
                    with.extend(wanted.iter().filter_map(|term| domain(&term.topology_key, node)));
                }
                let hit = unwanted.iter().filter(|term| matches(term, pod, other));
                without.extend(hit.filter_map(|term| domain(&term.topology_key, node)));
                let theirs = other.required_terms().1.iter().filter(|term| matches(term, other, pod));
                refused.extend(theirs.filter_map(|term| domain(&term.topology_key, node)));
            }
        }
        if !own && refused.is_empty() {
            return None;
        }
        let itself = wanted.iter().all(|term| matches(term, pod, pod));
        Some(Box::new(Check { wanted, unwanted, with, without, refused, itself }))
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
        let mut likes: HashMap<String, HashMap<String, i64>> = HashMap::new();
        let (wanted, unwanted) = pod.preferred_terms();
        let own = !(wanted.is_empty() && unwanted.is_empty());
        for node in snapshot.nodes() {
            let mut add = |term: &PodAffinityTerm, owner: &PodInfo, other: &PodInfo, weight: i64| {
                if let Some((key, value)) = domain(&term.topology_key, node)
                    && affinity_matches(term, &owner.pod, &other.pod, &snapshot.namespaces)
                {
                    *likes.entry(key).or_default().entry(value).or_default() += weight;
                }
            };
            for other in node.pods.values().filter(|other| own || other.has_affinity()) {
                for term in wanted {
                    add(&term.pod_affinity_term, pod, other, term.weight.into());
                }
                for term in unwanted {
                    add(&term.pod_affinity_term, pod, other, -i64::from(term.weight));
                }
                for term in other.required_terms().0 {
                    add(term, other, pod, HARD_WEIGHT);
                }
                let (theirs, not_theirs) = other.preferred_terms();
                for term in theirs {
                    add(&term.pod_affinity_term, other, pod, term.weight.into());
                }
                for term in not_theirs {
                    add(&term.pod_affinity_term, other, pod, -i64::from(term.weight));
                }
            }
        }
        (!likes.is_empty()).then(|| Box::new(Likes(likes)) as Box<dyn Score>)
    }

    fn helps(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        let (wanted, unwanted) = pod.required_terms();
        match event {
            // A new pod can only satisfy affinity, a gone one only anti-affinity (this pod's or its own).
            Event::PodBound(_) => !wanted.is_empty(),
            Event::PodGone(gone) => {
                !unwanted.is_empty()
                    || gone.spec.as_ref().is_some_and(|spec| {
                        spec.affinity.as_ref().is_some_and(|affinity| affinity.pod_anti_affinity.is_some())
                    })
            }
            Event::NodeAdded(_) | Event::NodeChanged(..) | Event::PodChanged(_) | Event::NamespaceChanged => true,
        }
    }
}
