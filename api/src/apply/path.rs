//! Field sets: which fields of an object something is about, as a tree of path elements.
//!
//! One tree holds members and what is below them; names are shared, so copies are cheap. Knows no schema.

use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A scalar that identifies a list element. Numbers come before texts, texts before booleans, null last.
#[derive(Clone, Debug)]
pub struct Scalar(pub Value);

impl Scalar {
    fn rank(&self) -> u8 {
        match self.0 {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Scalar) -> Ordering {
        match (&self.0, &other.0) {
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
            },
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
                self.0.to_string().cmp(&other.0.to_string())
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Scalar) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scalar {}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field of a struct or an entry of a map.
    Field(Arc<str>),
    /// An element of a keyed list: its keys and their values, sorted by key.
    Key(Arc<[(String, Scalar)]>),
    /// An element of a set.
    Value(Scalar),
    /// An element by position.
    Index(i64),
}

impl PathElement {
    /// A field or map entry.
    #[must_use]
    pub fn field(name: &str) -> PathElement {
        PathElement::Field(name.into())
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(keys) => {
                f.write_str("[")?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            PathElement::Value(value) => write!(f, "[={value}]"),
            PathElement::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A path as upstream prints it: `.spec.containers[name="web"].image`.
#[must_use]
pub(super) fn shown(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// A node of a field set: whether the path to it is a member, and the members below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The path itself is a member.
    pub own: bool,
    /// Members below the path.
    pub below: FieldSet,
}

impl Node {
    /// Neither the path nor anything below it is a member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }
}

/// A set of paths. Holds no empty node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: BTreeMap<PathElement, Node>,
}

impl FieldSet {
    /// No path is a member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// First elements with what is under them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&PathElement, &Node)> {
        self.nodes.iter()
    }

    /// What is under a first element.
    #[must_use]
    pub fn get(&self, element: &PathElement) -> Option<&Node> {
        self.nodes.get(element)
    }

    /// Adds a path; the empty path is no member of any set.
    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => self.nodes.entry(last.clone()).or_default().own = true,
            [first, rest @ ..] => match self.nodes.get_mut(first) {
                Some(node) => node.below.insert(rest),
                None => self.nodes.entry(first.clone()).or_default().below.insert(rest),
            },
        }
    }

    /// Adds the path of these fields: as a filter it stands for all that is below too.
    pub fn insert_subtree(&mut self, fields: &[&str]) {
        let path: Vec<PathElement> = fields.iter().map(|name| PathElement::field(name)).collect();
        self.insert(&path);
    }

    /// Puts a node under a first element; an empty one is left out.
    pub fn put(&mut self, element: PathElement, node: Node) {
        if !node.is_empty() {
            self.nodes.insert(element, node);
        }
    }

    /// Whether this path is a member.
    #[must_use]
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.nodes.get(last).is_some_and(|node| node.own),
            [first, rest @ ..] => self.nodes.get(first).is_some_and(|node| node.below.has(rest)),
        }
    }

    /// Paths in either set.
    #[must_use]
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut out = self.clone();
        out.extend(other);
        out
    }

    /// Adds the paths of another set.
    pub fn extend(&mut self, other: &FieldSet) {
        for (element, node) in &other.nodes {
            match self.nodes.get_mut(element) {
                Some(there) => {
                    there.own |= node.own;
                    there.below.extend(&node.below);
                }
                None => {
                    self.nodes.insert(element.clone(), node.clone());
                }
            }
        }
    }

    /// Paths in both sets.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut out = FieldSet::default();
        for (element, node) in &self.nodes {
            if let Some(there) = other.nodes.get(element) {
                let both = Node { own: node.own && there.own, below: node.below.intersection(&there.below) };
                out.put(element.clone(), both);
            }
        }
        out
    }

    /// Whether the other set has all paths of this one.
    #[must_use]
    pub fn is_subset(&self, other: &FieldSet) -> bool {
        self.nodes.iter().all(|(element, node)| {
            other.nodes.get(element).is_some_and(|there| (there.own || !node.own) && node.below.is_subset(&there.below))
        })
    }

    /// Removes the paths of the other set.
    pub fn remove(&mut self, other: &FieldSet) {
        self.subtract(other, false);
    }

    /// Removes the paths of the other set and all that is below them.
    pub fn remove_recursively(&mut self, other: &FieldSet) {
        self.subtract(other, true);
    }

    /// Paths that the other set lacks.
    #[must_use]
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let mut out = self.clone();
        out.remove(other);
        out
    }

    /// Paths that the other set lacks and that are below none of its members.
    #[must_use]
    pub fn recursive_difference(&self, other: &FieldSet) -> FieldSet {
        let mut out = self.clone();
        out.remove_recursively(other);
        out
    }

    fn subtract(&mut self, other: &FieldSet, recursive: bool) {
        for (element, there) in &other.nodes {
            let Some(node) = self.nodes.get_mut(element) else { continue };
            if recursive && there.own {
                *node = Node::default();
            } else {
                node.own &= !there.own;
                node.below.subtract(&there.below, recursive);
            }
            if node.is_empty() {
                self.nodes.remove(element);
            }
        }
    }

    /// All members: those of one level before those below them.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, out: &mut Vec<Vec<PathElement>>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.own) {
            let mut path = prefix.clone();
            path.push(element.clone());
            out.push(path);
        }
        for (element, node) in &self.nodes {
            prefix.push(element.clone());
            node.below.collect(prefix, out);
            prefix.pop();
        }
    }
}
