//! The objects of values: names with values, in the order of the names.
//!
//! A list in one allocation. Most objects have a handful of fields, which are faster looked through, by length and ends of the names, than
//! searched; whoever reads two objects side by side relies on the order. A name is there at most once.
//!
//! Validation asks for hundreds of names that are not there: a set of bits, one for each name, answers most of that without a look at the
//! entries.
//!
//! One insertion moves what comes after it. Who adds or removes as many entries as a client sent makes the object of all of them at once
//! (`collect`, `extend`, `retain`), which takes as long as sorting, and not the square of it.

use super::{Text, Value, Wanted};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Index, IndexMut};

/// Up to so many entries are looked through, more are searched.
const FEW: usize = 32;

/// An object.
#[derive(Clone, Default)]
pub struct Map {
    /// Sorted by name, each once.
    entries: Vec<(Text, Value)>,
    /// The bit of each name that is there (`bit`); it may have those of names that were taken out.
    names: u64,
}

/// One of 64 for a name, by what is read fastest of it: names of one type of Kubernetes share it once in a hundred pairs.
#[inline]
pub(crate) fn bit(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return 1 };
    let sum = usize::from(*first) * 7 + usize::from(*last) * 27 + bytes.len().wrapping_mul(19);
    1 << (sum & 63)
}

fn bits(entries: &[(Text, Value)]) -> u64 {
    entries.iter().fold(0, |all, (name, _)| all | bit(name))
}

impl PartialEq for Map {
    fn eq(&self, other: &Map) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Map {}

impl Hash for Map {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entries.hash(state);
    }
}

impl Map {
    /// Without entries, and without an allocation.
    #[must_use]
    pub const fn new() -> Map {
        Map { entries: Vec::new(), names: 0 }
    }

    /// Without entries, with room for so many.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Map {
        Map { entries: Vec::with_capacity(capacity), names: 0 }
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where an entry is, or where it belongs.
    fn find(&self, name: &str) -> Result<usize, usize> {
        match self.entries.last() {
            // What is made in order is made at the end.
            Some((last, _)) if last.as_str() < name => Err(self.entries.len()),
            None => Err(0),
            _ => match self.position(name) {
                Some(at) => Ok(at),
                None => Err(self.entries.partition_point(|(there, _)| there.as_str() < name)),
            },
        }
    }

    /// Whether no entry has this name, as far as that can be told at a glance.
    #[inline]
    fn lacks(&self, name: &str) -> bool {
        self.names & bit(name) == 0
    }

    #[inline]
    fn position(&self, name: &str) -> Option<usize> {
        if self.lacks(name) { None } else { self.search(name) }
    }

    fn search(&self, name: &str) -> Option<usize> {
        if self.entries.len() <= FEW {
            let wanted = Wanted::new(name);
            self.entries.iter().position(|(there, _)| wanted.is(there))
        } else {
            self.entries.binary_search_by(|(there, _)| there.as_str().cmp(name)).ok()
        }
    }

    /// The value of this name.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        if self.lacks(name) { None } else { self.found(name) }
    }

    fn found(&self, name: &str) -> Option<&Value> {
        if self.entries.len() <= FEW {
            let wanted = Wanted::new(name);
            return self.entries.iter().find(|(there, _)| wanted.is(there)).map(|(_, value)| value);
        }
        self.search(name).and_then(|at| self.entries.get(at)).map(|(_, value)| value)
    }

    /// The value of the entry at this place in the order of names.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> Option<&Value> {
        self.entries.get(place).map(|(_, value)| value)
    }

    /// The value of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let at = self.position(name)?;
        self.entries.get_mut(at).map(|(_, value)| value)
    }

    /// The entry of this name.
    #[must_use]
    pub fn get_key_value(&self, name: &str) -> Option<(&Text, &Value)> {
        let at = self.position(name)?;
        self.entries.get(at).map(|(name, value)| (name, value))
    }

    /// Whether there is an entry of this name.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Sets the value of a name and returns the one before.
    pub fn insert(&mut self, name: impl Into<Text>, value: Value) -> Option<Value> {
        self.put(name.into(), value)
    }

    fn put(&mut self, name: Text, value: Value) -> Option<Value> {
        match self.find(&name) {
            Ok(at) => self.entries.get_mut(at).map(|(_, there)| std::mem::replace(there, value)),
            Err(at) => {
                self.place(at, name, value);
                None
            }
        }
    }

    fn place(&mut self, at: usize, name: Text, value: Value) {
        if self.entries.len() == self.entries.capacity() {
            // Objects are many and small: doubling would leave a quarter of the memory empty.
            self.entries.reserve_exact((self.entries.len() / 2).max(2));
        }
        self.names |= bit(&name);
        self.entries.insert(at, (name, value));
    }

    /// Takes an entry out and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.remove_entry(name).map(|(_, value)| value)
    }

    /// Takes an entry out.
    pub fn remove_entry(&mut self, name: &str) -> Option<(Text, Value)> {
        let at = self.position(name)?;
        Some(self.entries.remove(at))
    }

    /// Takes all entries out.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.names = 0;
    }

    /// The place of a name, there or not.
    pub fn entry(&mut self, name: impl Into<Text>) -> Entry<'_> {
        let name = name.into();
        let place = self.find(&name);
        Entry { map: self, name, place }
    }

    /// Keeps the entries that this is true of.
    pub fn retain(&mut self, mut keep: impl FnMut(&Text, &mut Value) -> bool) {
        self.entries.retain_mut(|(name, value)| keep(name, value));
    }

    /// Moves all entries of another object into this one.
    pub fn append(&mut self, other: &mut Map) {
        self.extend(std::mem::take(other));
    }

    /// Entries in the order of their names.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.entries.iter())
    }

    /// Entries in the order of their names, values to be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_> {
        IterMut(self.entries.iter_mut())
    }

    /// Names in their order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Text> + ExactSizeIterator + Clone {
        self.entries.iter().map(|(name, _)| name)
    }

    /// Values in the order of their names.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator + Clone {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Values in the order of their names, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Value> + ExactSizeIterator {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// Values in the order of their names.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = Value> + ExactSizeIterator {
        self.entries.into_iter().map(|(_, value)| value)
    }

    /// Adds an entry at the end; whether it belongs there. If not, nothing but more of this may happen before `sort`.
    pub(crate) fn push(&mut self, name: Text, value: Value) -> bool {
        let sorted = self.entries.last().is_none_or(|(last, _)| last.as_str() < name.as_str());
        if self.entries.is_empty() {
            self.entries.reserve_exact(1);
        }
        self.names |= bit(&name);
        self.entries.push((name, value));
        sorted
    }

    /// Puts entries that came in any order in theirs; of equal names the last counts.
    pub(crate) fn sort(&mut self) {
        *self = Map::of(std::mem::take(&mut self.entries));
    }

    /// Of entries that are in order, each name once.
    pub(crate) fn sorted(entries: Vec<(Text, Value)>) -> Map {
        debug_assert!(entries.is_sorted_by(|(a, _), (b, _)| a.as_str() < b.as_str()), "{entries:?}");
        let names = bits(&entries);
        Map { entries, names }
    }

    /// Of entries in any order; of equal names the last counts.
    #[must_use]
    pub fn of(mut entries: Vec<(Text, Value)>) -> Map {
        if !entries.is_sorted_by(|(a, _), (b, _)| a.as_str() < b.as_str()) {
            entries.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
            // What comes later takes the place of what it equals.
            entries.dedup_by(|later, earlier| {
                let equal = later.0 == earlier.0;
                if equal {
                    std::mem::swap(later, earlier);
                }
                equal
            });
        }
        let names = bits(&entries);
        Map { entries, names }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl Index<&str> for Map {
    type Output = Value;

    /// Null where nothing is there.
    fn index(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&Value::Null)
    }
}

impl IndexMut<&str> for Map {
    /// Made as null where nothing is there.
    fn index_mut(&mut self, name: &str) -> &mut Value {
        self.entry(name).or_insert(Value::Null)
    }
}

impl<N: Into<Text>> Extend<(N, Value)> for Map {
    fn extend<I: IntoIterator<Item = (N, Value)>>(&mut self, entries: I) {
        let mut all = std::mem::take(&mut self.entries);
        all.extend(entries.into_iter().map(|(name, value)| (name.into(), value)));
        // Two sorted runs, mostly: sorting them is merging.
        *self = Map::of(all);
    }
}

impl<N: Into<Text>, V: Into<Value>> FromIterator<(N, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Map {
        Map::of(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Entries in the order of their names.
#[derive(Clone, Debug)]
pub struct Iter<'a>(std::slice::Iter<'a, (Text, Value)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Text, &'a Value);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(name, value)| (name, value))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Entries in the order of their names, values to be changed.
#[derive(Debug)]
pub struct IterMut<'a>(std::slice::IterMut<'a, (Text, Value)>);

impl<'a> Iterator for IterMut<'a> {
    type Item = (&'a Text, &'a mut Value);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (&*name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for IterMut<'_> {}

impl IntoIterator for Map {
    type Item = (Text, Value);
    type IntoIter = std::vec::IntoIter<(Text, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a Text, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Map {
    type Item = (&'a Text, &'a mut Value);
    type IntoIter = IterMut<'a>;

    fn into_iter(self) -> IterMut<'a> {
        self.iter_mut()
    }
}

/// The place of a name in an object.
#[derive(Debug)]
pub struct Entry<'a> {
    map: &'a mut Map,
    name: Text,
    /// Where it is, or where it belongs.
    place: Result<usize, usize>,
}

impl<'a> Entry<'a> {
    /// The value that is there, or the one that this makes.
    ///
    /// # Panics
    /// Never.
    pub fn or_insert_with(self, make: impl FnOnce() -> Value) -> &'a mut Value {
        let at = self.place.unwrap_or_else(|at| {
            self.map.place(at, self.name, make());
            at
        });
        let entry = self.map.entries.get_mut(at);
        entry.map(|(_, value)| value).expect("the entry is there, or was put there")
    }

    /// The value that is there, or this one.
    pub fn or_insert(self, value: Value) -> &'a mut Value {
        self.or_insert_with(|| value)
    }

    /// The value that is there, or null.
    pub fn or_default(self) -> &'a mut Value {
        self.or_insert(Value::Null)
    }

    /// Changes the value that is there.
    #[must_use]
    pub fn and_modify(self, change: impl FnOnce(&mut Value)) -> Entry<'a> {
        if let Some((_, value)) = self.place.ok().and_then(|at| self.map.entries.get_mut(at)) {
            change(value);
        }
        self
    }
}
