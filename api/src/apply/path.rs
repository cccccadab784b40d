//! Field sets: which fields of an object something is about, as a tree of path elements.
//!
//! One tree holds members and what is below them. Names and keys are borrowed from the objects, the schema and the managed fields that a
//! set was made of. Knows no schema.

use crate::json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A scalar that identifies a list element. Numbers come before texts, texts before booleans, null last.
#[derive(Clone, Debug)]
pub struct Scalar<'a>(pub Cow<'a, Value>);

impl Scalar<'_> {
    fn rank(&self) -> u8 {
        match *self.0 {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
}

impl Ord for Scalar<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&*self.0, &*other.0) {
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

impl PartialOrd for Scalar<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scalar<'_> {}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement<'a> {
    /// A field of a struct or an entry of a map.
    Field(&'a str),
    /// An element of a keyed list: its keys and their values, sorted by key.
    Key(Arc<[(Cow<'a, str>, Scalar<'a>)]>),
    /// An element of a set.
    Value(Scalar<'a>),
    /// An element by position.
    Index(i64),
}

impl fmt::Display for PathElement<'_> {
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
pub(super) fn shown(path: &[PathElement<'_>]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// A node of a field set: whether the path to it is a member, and the members below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node<'a> {
    /// The path itself is a member.
    pub own: bool,
    /// Members below the path.
    pub below: FieldSet<'a>,
}

impl Node<'_> {
    /// Neither the path nor anything below it is a member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }
}

/// A set of paths. Holds no empty node.
///
/// First elements are sorted. What is made from objects, whose keys are sorted too, is added at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet<'a> {
    nodes: Vec<Named<'a>>,
}

type Named<'a> = (PathElement<'a>, Node<'a>);

/// The nodes of two sets side by side, by their common order.
fn side_by_side<'x, 'a>(
    a: &'x [Named<'a>],
    b: &'x [Named<'a>],
) -> impl Iterator<Item = (Option<&'x Named<'a>>, Option<&'x Named<'a>>)> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (a.peek(), b.peek()) {
            (Some((left, _)), Some((right, _))) => order(left, right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        Some((a.next_if(|_| order.is_le()), b.next_if(|_| order.is_ge())))
    })
}

/// The order of elements that live differently long.
fn order<'x>(a: &PathElement<'x>, b: &PathElement<'x>) -> Ordering {
    a.cmp(b)
}

impl<'a> FieldSet<'a> {
    /// No path is a member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// First elements with what is under them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&PathElement<'a>, &Node<'a>)> {
        self.nodes.iter().map(|(element, node)| (element, node))
    }

    /// The set with these nodes under these first elements; empty nodes are left out, and of equal elements the last counts.
    pub(super) fn of(nodes: impl Iterator<Item = Named<'a>>) -> FieldSet<'a> {
        let mut nodes: Vec<_> = nodes.filter(|(_, node)| !node.is_empty()).collect();
        if !nodes.is_sorted_by(|(a, _), (b, _)| a < b) {
            nodes.reverse();
            nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
            nodes.dedup_by(|(a, _), (b, _)| a == b);
        }
        FieldSet { nodes }
    }

    /// The same of nodes in the order of their elements, each once.
    pub(super) fn sorted(nodes: impl Iterator<Item = Named<'a>>) -> FieldSet<'a> {
        let nodes: Vec<_> = nodes.filter(|(_, node)| !node.is_empty()).collect();
        debug_assert!(nodes.is_sorted_by(|(a, _), (b, _)| a < b), "{nodes:?}");
        FieldSet { nodes }
    }

    fn find(&self, element: &PathElement<'_>) -> Result<usize, usize> {
        match self.nodes.last() {
            Some((last, _)) if order(last, element).is_lt() => Err(self.nodes.len()),
            _ => self.nodes.binary_search_by(|(there, _)| order(there, element)),
        }
    }

    /// What is under a first element.
    #[must_use]
    pub fn get(&self, element: &PathElement<'_>) -> Option<&Node<'a>> {
        self.find(element).ok().and_then(|at| self.nodes.get(at)).map(|(_, node)| node)
    }

    /// Adds a path; the empty path is no member of any set.
    pub fn insert(&mut self, path: &[PathElement<'a>]) {
        let [first, rest @ ..] = path else { return };
        let at = self.find(first).unwrap_or_else(|at| {
            self.nodes.insert(at, (first.clone(), Node::default()));
            at
        });
        if let Some((_, node)) = self.nodes.get_mut(at) {
            node.own |= rest.is_empty();
            node.below.insert(rest);
        }
    }

    /// Adds the path of these fields: as a filter it stands for all that is below too.
    pub fn insert_subtree(&mut self, fields: &[&'a str]) {
        let path: Vec<PathElement<'a>> = fields.iter().map(|name| PathElement::Field(name)).collect();
        self.insert(&path);
    }

    /// Whether this path is a member.
    #[must_use]
    pub fn has(&self, path: &[PathElement<'_>]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|node| node.own),
            [first, rest @ ..] => self.get(first).is_some_and(|node| node.below.has(rest)),
        }
    }

    /// Paths in either set.
    #[must_use]
    pub fn union(&self, other: &FieldSet<'a>) -> FieldSet<'a> {
        let mut out = self.clone();
        out.extend(other);
        out
    }

    /// Adds the paths of another set.
    pub fn extend(&mut self, other: &FieldSet<'a>) {
        if other.is_subset(self) {
            return;
        }
        let nodes = side_by_side(&self.nodes, &other.nodes).filter_map(|pair| match pair {
            (Some((element, node)), Some((_, there))) => {
                let both = Node { own: node.own || there.own, below: node.below.union(&there.below) };
                Some((element.clone(), both))
            }
            (one, other) => one.or(other).cloned(),
        });
        self.nodes = nodes.collect();
    }

    /// Paths in both sets.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet<'_>) -> FieldSet<'a> {
        let nodes = self.iter().filter_map(|(element, node)| {
            let there = other.get(element)?;
            let both = Node { own: node.own && there.own, below: node.below.intersection(&there.below) };
            Some((element.clone(), both))
        });
        FieldSet::of(nodes)
    }

    /// Whether the other set has all paths of this one.
    #[must_use]
    pub fn is_subset(&self, other: &FieldSet<'_>) -> bool {
        self.iter().all(|(element, node)| {
            other.get(element).is_some_and(|there| (there.own || !node.own) && node.below.is_subset(&there.below))
        })
    }

    /// Whether no path is in both sets.
    #[must_use]
    pub fn is_disjoint(&self, other: &FieldSet<'_>) -> bool {
        let (few, many) = if self.nodes.len() < other.nodes.len() { (self, other) } else { (other, self) };
        few.nodes.iter().all(|(element, node)| {
            many.get(element).is_none_or(|there| !(node.own && there.own) && node.below.is_disjoint(&there.below))
        })
    }

    /// Removes the paths of the other set.
    pub fn remove(&mut self, other: &FieldSet<'_>) {
        self.subtract(other, false);
    }

    /// Removes the paths of the other set and all that is below them.
    pub fn remove_recursively(&mut self, other: &FieldSet<'_>) {
        self.subtract(other, true);
    }

    /// Paths that the other set lacks.
    #[must_use]
    pub fn difference(&self, other: &FieldSet<'_>) -> FieldSet<'a> {
        let mut out = self.clone();
        out.remove(other);
        out
    }

    /// Paths that the other set lacks and that are below none of its members.
    #[must_use]
    pub fn recursive_difference(&self, other: &FieldSet<'_>) -> FieldSet<'a> {
        let mut out = self.clone();
        out.remove_recursively(other);
        out
    }

    fn subtract(&mut self, other: &FieldSet<'_>, recursive: bool) {
        if other.is_empty() {
            return;
        }
        self.nodes.retain_mut(|(element, node)| {
            let Some(there) = other.get(element) else { return true };
            if recursive && there.own {
                return false;
            }
            node.own &= !there.own;
            node.below.subtract(&there.below, recursive);
            !node.is_empty()
        });
    }

    /// All members: those of one level before those below them.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<PathElement<'a>>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<PathElement<'a>>, out: &mut Vec<Vec<PathElement<'a>>>) {
        for (element, _) in self.iter().filter(|(_, node)| node.own) {
            let mut path = prefix.clone();
            path.push(element.clone());
            out.push(path);
        }
        for (element, node) in self.iter() {
            prefix.push(element.clone());
            node.below.collect(prefix, out);
            prefix.pop();
        }
    }
}
