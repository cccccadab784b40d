//! Who owns whom among all objects of a cluster, by uid, and which objects a change makes worth a look. Pure: what is
//! true of an owner is asked of the API before anything is deleted.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::{discovery::Found, object};

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";
/// Uids of absent owners that are remembered; a uid never comes back.
const ABSENT: usize = 10_000;

/// An object to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Work {
    /// Its owners may be gone, or its dependents may be.
    Look(String),
    /// It ends and its dependents shall stay.
    Orphan(String),
}

/// What is kept of an object.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) resource: Arc<Found>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
    pub(super) foreground: bool,
    pub(super) orphan: bool,
}

impl Node {
    pub(super) fn new(resource: Arc<Found>, meta: &ObjectMeta) -> Self {
        let has = |name: &str| meta.finalizers.iter().flatten().any(|one| one == name);
        Self {
            resource,
            namespace: object::namespace(meta).to_owned(),
            name: object::name(meta).to_owned(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        }
    }

    /// Whether it ends and waits for its dependents to go first.
    pub(super) fn waits(&self) -> bool {
        self.deleting && self.foreground
    }

    fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|one| one.uid == owner && one.block_owner_deletion == Some(true))
    }
}

/// The graph.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
    absent: HashSet<String>,
    /// Until all kinds were listed an unknown owner means nothing.
    complete: bool,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<String> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Dependents that an owner which waits for them must outlive.
    pub(super) fn blocking(&self, uid: &str) -> Vec<String> {
        let mut all = self.dependents(uid);
        all.retain(|one| self.nodes.get(one).is_some_and(|node| node.blocks(uid)));
        all
    }

    pub(super) fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    pub(super) fn note_absent(&mut self, uid: &str) {
        if self.absent.len() >= ABSENT {
            self.absent.clear();
        }
        self.absent.insert(uid.to_owned());
    }

    fn waits(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(Node::waits)
    }

    /// Every kind was listed: objects with unknown owners are worth a look.
    pub(super) fn complete(&mut self) -> Vec<Work> {
        self.complete = true;
        let unknown = |node: &Node| node.owners.iter().any(|one| !self.nodes.contains_key(&one.uid));
        self.nodes.iter().filter(|(_, node)| unknown(node)).map(|(uid, _)| Work::Look(uid.clone())).collect()
    }

    /// An object was added or changed.
    pub(super) fn apply(&mut self, uid: &str, node: &Node) -> Vec<Work> {
        let mut work = BTreeSet::new();
        let owners: BTreeSet<_> = node.owners.iter().map(|one| one.uid.clone()).collect();
        let old = self.nodes.insert(uid.to_owned(), node.clone());
        for before in old.iter().flat_map(|old| &old.owners) {
            if !owners.contains(&before.uid) {
                self.unlink(&before.uid, uid);
            }
            let unblocked = before.block_owner_deletion == Some(true) && !node.blocks(&before.uid);
            if unblocked && self.waits(&before.uid) {
                work.insert(Work::Look(before.uid.clone()));
            }
        }
        for owner in &owners {
            let linked = !self.dependents.entry(owner.clone()).or_default().insert(uid.to_owned());
            let unknown = self.complete && !linked && !self.nodes.contains_key(owner);
            if unknown || (!linked && self.waits(owner)) {
                work.insert(Work::Look(uid.to_owned()));
            }
        }
        let was = |holds: fn(&Node) -> bool| old.as_ref().is_some_and(holds);
        if node.deleting && node.orphan && !was(|old| old.deleting && old.orphan) {
            work.insert(Work::Orphan(uid.to_owned()));
        }
        if node.waits() && !was(Node::waits) {
            work.extend(self.dependents(uid).into_iter().map(Work::Look));
            work.insert(Work::Look(uid.to_owned()));
        }
        work.into_iter().collect()
    }

    fn unlink(&mut self, owner: &str, uid: &str) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(uid);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        self.note_absent(uid);
        let mut work: Vec<_> = self.dependents(uid).into_iter().map(Work::Look).collect();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            if self.waits(&owner.uid) {
                work.push(Work::Look(owner.uid.clone()));
            }
        }
        work
    }
}

/// What the API says of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It exists and stays.
    Solid,
    /// It is gone, or its name is another's now.
    Absent,
    /// It ends and waits for its dependents.
    Waiting,
}

/// What to do about an object, given its owners.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// An owner remains: only the references to these owners go.
    Release(Vec<String>),
    /// Delete it, its dependents first.
    Foreground,
    /// Delete it; its finalizers choose what becomes of its dependents.
    Delete,
}

/// Judges an object by its owners. `dependents` are those of the object itself.
pub(super) fn judge(owners: &[(String, Owner)], dependents: usize) -> Verdict {
    let of = |state| owners.iter().filter(move |(_, held)| *held == state).map(|(uid, _)| uid.clone());
    let gone: Vec<_> = of(Owner::Absent).chain(of(Owner::Waiting)).collect();
    if gone.is_empty() {
        return Verdict::Keep;
    }
    if of(Owner::Solid).next().is_some() {
        return Verdict::Release(gone);
    }
    if of(Owner::Waiting).next().is_some() && dependents > 0 {
        return Verdict::Foreground;
    }
    Verdict::Delete
}

#[cfg(test)]
mod tests {
    use kube::core::ApiResource;
    use serde_json::json;

    use super::*;

    fn found() -> Arc<Found> {
        Arc::new(Found {
            resource: ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: "Thing".into(),
                plural: "things".into(),
            },
            namespaced: true,
            verbs: Vec::new(),
        })
    }

    /// Words: `owner=uid`, `block=uid`, `deleting`, `foreground`, `orphan`.
    fn node(words: &str) -> Node {
        let mut meta = ObjectMeta::default();
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                (kind @ ("owner" | "block"), uid) => meta.owner_references.get_or_insert_default().push(
                    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Thing", "name": uid, "uid": uid,
                        "blockOwnerDeletion": kind == "block"}))
                    .unwrap(),
                ),
                ("deleting", _) => meta.deletion_timestamp = Some(object::time(jiff::Timestamp::UNIX_EPOCH)),
                ("foreground", _) => meta.finalizers.get_or_insert_default().push(FOREGROUND.into()),
                ("orphan", _) => meta.finalizers.get_or_insert_default().push(ORPHAN.into()),
                (other, _) => panic!("{other}"),
            }
        }
        Node::new(found(), &meta)
    }

    fn words(work: &[Work]) -> String {
        let word = |one: &Work| match one {
            Work::Look(uid) => uid.clone(),
            Work::Orphan(uid) => format!("orphan:{uid}"),
        };
        let mut all: Vec<_> = work.iter().map(word).collect();
        all.sort();
        all.join(" ")
    }

    /// Runs steps `uid: words` (`-uid` removes, `!` completes) and checks the work of each.
    fn check(steps: &[(&str, &str, &str)]) {
        let mut graph = Graph::default();
        for (uid, state, expected) in steps {
            let work = match *uid {
                "!" => graph.complete(),
                uid if uid.starts_with('-') => graph.remove(&uid[1..]),
                uid => graph.apply(uid, &node(state)),
            };
            assert_eq!(words(&work), *expected, "at {uid}: {state}");
        }
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        check(&[
            ("!", "", ""),
            ("deploy", "", ""),
            ("set", "owner=deploy", ""),
            ("pod", "owner=set", ""),
            ("-deploy", "", "set"),
            ("-set", "", "pod"),
            ("-pod", "", ""),
        ]);
    }

    #[test]
    fn unknown_owners_are_looked_for_once_all_was_listed() {
        check(&[
            ("pod", "owner=set", ""),
            ("other", "owner=known", ""),
            ("known", "", ""),
            ("!", "", "pod"),
            ("late", "owner=nobody", "late"),
            ("late", "owner=nobody deleting", ""),
        ]);
    }

    #[test]
    fn a_waiting_owner_hears_of_its_dependents() {
        check(&[
            ("!", "", ""),
            ("set", "", ""),
            ("pod", "block=set", ""),
            ("set", "deleting foreground", "pod set"),
            ("set", "deleting foreground", ""),
            ("new", "block=set", "new"),
            ("new", "owner=set", "set"),
            ("-pod", "", "set"),
        ]);
    }

    #[test]
    fn an_orphaning_owner_is_noticed_once() {
        check(&[("set", "", ""), ("set", "deleting orphan", "orphan:set"), ("set", "deleting orphan", "")]);
    }

    #[test]
    fn only_dependents_that_block_are_waited_for() {
        let mut graph = Graph::default();
        graph.apply("set", &node("deleting foreground"));
        graph.apply("a", &node("block=set"));
        graph.apply("b", &node("owner=set"));
        assert_eq!(graph.blocking("set"), ["a"]);
        assert_eq!(graph.dependents("set"), ["a", "b"]);
    }

    #[test]
    fn owners_decide() {
        use Owner::{Absent, Solid, Waiting};
        for (owners, dependents, expected) in [
            (vec![Solid], 0, Verdict::Keep),
            (vec![], 0, Verdict::Keep),
            (vec![Absent], 0, Verdict::Delete),
            (vec![Absent, Solid], 0, Verdict::Release(vec!["0".into()])),
            (vec![Solid, Waiting], 3, Verdict::Release(vec!["1".into()])),
            (vec![Waiting], 0, Verdict::Delete),
            (vec![Waiting], 1, Verdict::Foreground),
            (vec![Absent, Waiting], 1, Verdict::Foreground),
        ] {
            let named: Vec<_> = owners.iter().enumerate().map(|(at, state)| (at.to_string(), *state)).collect();
            assert_eq!(judge(&named, dependents), expected, "{owners:?} {dependents}");
        }
    }
}
