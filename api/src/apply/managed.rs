//! `metadata.managedFields`: who owns which fields, decoded and encoded.

use super::fields_v1;
use super::path::FieldSet;
use super::typed::{self, Ty};
use crate::json::{Text, Value};
use crate::value;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;

/// Updates of more managers than this are folded into one.
const MAX_UPDATERS: usize = 10;
/// The manager of folded updates.
const ANCIENT: &str = "ancient-changes";

/// How fields were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Create, update or patch.
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// What tells entries apart. An applier is the same through all versions, an updater is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// Empty for appliers.
    pub(super) version: String,
    pub(super) subresource: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.version),
        }
    }
}

/// What a manager owns.
#[derive(Debug, Default)]
pub(super) struct Owned<'a> {
    /// Read from the wire form when it is asked for.
    set: OnceCell<FieldSet<'a>>,
    /// The wire form of the set, where it is known: most managers own after a write what they owned before.
    wire: Option<&'a Value>,
    pub(super) version: String,
    /// RFC 3339; absent where it was never known.
    pub(super) time: Option<String>,
}

impl<'a> Owned<'a> {
    pub(super) fn new(set: FieldSet<'a>, version: String, time: Option<String>) -> Owned<'a> {
        Owned { set: OnceCell::from(set), wire: None, version, time }
    }

    pub(super) fn set(&self) -> &FieldSet<'a> {
        let read = || self.wire.and_then(|wire| fields_v1::decode(wire).ok());
        self.set.get_or_init(|| read().unwrap_or_default())
    }

    pub(super) fn is_empty(&self) -> bool {
        match (self.set.get(), self.wire.and_then(Value::as_object)) {
            (None, Some(wire)) => wire.is_empty(),
            _ => self.set().is_empty(),
        }
    }

    /// Those of the fields that it owns.
    pub(super) fn among(&self, fields: &FieldSet<'_>) -> FieldSet<'a> {
        if self.has_any(fields) { self.set().intersection(fields) } else { FieldSet::default() }
    }

    /// Whether it owns any of the fields. Few fields change: they are looked for in the wire form before that is read.
    fn has_any(&self, fields: &FieldSet<'_>) -> bool {
        match (self.set.get(), self.wire) {
            (None, Some(wire)) => fields_v1::has_any(wire, fields),
            _ => !self.set().is_disjoint(fields),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut FieldSet<'a>)) {
        self.set();
        self.wire = None;
        if let Some(set) = self.set.get_mut() {
            change(set);
        }
    }

    pub(super) fn add(&mut self, fields: &FieldSet<'a>) {
        if !fields.is_subset(self.set()) {
            self.change(|set| set.extend(fields));
        }
    }

    pub(super) fn remove(&mut self, fields: &FieldSet<'_>) {
        if self.has_any(fields) {
            self.change(|set| set.remove(fields));
        }
    }

    /// What the type says today to have one owner for the whole is owned as a whole.
    pub(super) fn fit(&mut self, ty: Ty<'_>) {
        let fits = match (self.set.get(), self.wire) {
            (None, Some(wire)) => fields_v1::fits(wire, ty),
            _ => typed::fits(self.set(), ty),
        };
        if !fits {
            self.change(|set| *set = typed::fitted(set, ty));
        }
    }

    /// Whether it owns what a configuration names, without `system` fields and those at and below `reset`; where it says no, that is to be
    /// found out from the set.
    pub(super) fn is_named_by(&self, named: &Value, ty: Ty<'_>, system: &FieldSet<'_>, reset: &FieldSet<'_>) -> bool {
        match (self.set.get(), self.wire) {
            (None, Some(wire)) => fields_v1::is_named_by(wire, named, ty, system, reset),
            _ => false,
        }
    }

    /// The same fields, written again.
    pub(super) fn again(&self, version: String) -> Owned<'a> {
        Owned { set: self.set.clone(), wire: self.wire, version, time: self.time.clone() }
    }

    /// Takes over the wire form of another state of the same manager, where it owned the same.
    pub(super) fn like(&mut self, before: &Owned<'a>) {
        self.wire = before.wire.filter(|_| self.set() == before.set());
    }
}

/// All managers of an object. Holds no manager without fields once a write is finished.
#[derive(Debug, Default)]
pub(super) struct Managed<'a> {
    pub(super) by_id: BTreeMap<Id, Owned<'a>>,
}

impl<'a> Managed<'a> {
    /// Reads `metadata.managedFields` of an object. What is `kept` was written here, so that its wire form is good as it is.
    pub(super) fn decode(object: &'a Value, kept: bool) -> Result<Managed<'a>, String> {
        let mut out = Managed::default();
        for (i, entry) in value::items(object, "metadata.managedFields").iter().enumerate() {
            let text = |name: &str| value::text(entry, name).to_owned();
            let operation = match value::text(entry, "operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let version = text("apiVersion");
            if version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match value::text(entry, "fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
                other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {i}")),
            }
            let wire = entry.get("fieldsV1").filter(|wire| !wire.is_null());
            let set = match wire {
                None => OnceCell::from(FieldSet::default()),
                Some(_) if kept => OnceCell::new(),
                Some(wire) => {
                    OnceCell::from(fields_v1::decode(wire).map_err(|why| format!("error decoding set: {why}"))?)
                }
            };
            let id = Id {
                manager: text("manager"),
                operation,
                version: if operation == Operation::Apply { String::new() } else { version.clone() },
                subresource: text("subresource"),
            };
            let time = Some(text("time")).filter(|time| !time.is_empty());
            let wire = wire.filter(|_| kept);
            out.by_id.insert(id, Owned { set, wire, version, time });
        }
        Ok(out)
    }

    /// The entries of `metadata.managedFields`.
    pub(super) fn entries(&self) -> Vec<Value> {
        let mut entries: Vec<(&Id, &Owned<'_>)> = self.by_id.iter().collect();
        entries.sort_by_key(|(id, owned)| (id.operation, seconds(owned), &id.manager, &owned.version, &id.subresource));
        entries.into_iter().map(|(id, owned)| entry(id, owned)).collect()
    }

    /// Removes managers that own nothing.
    pub(super) fn drop_empty(&mut self) {
        self.by_id.retain(|_, owned| !owned.is_empty());
    }

    /// Folds the oldest updates into one manager per version once there are too many.
    pub(super) fn cap_updaters(&mut self) {
        let mut updaters: Vec<Id> = self.by_id.keys().filter(|id| id.operation == Operation::Update).cloned().collect();
        updaters.sort_by_cached_key(|id| (self.by_id.get(id).map_or(0, seconds), id.clone()));
        let mut left = updaters.len();
        let mut first_of: BTreeMap<String, Id> = BTreeMap::new();
        for id in updaters {
            if left <= MAX_UPDATERS {
                return;
            }
            let Some(first) = first_of.get(&id.version).cloned() else {
                first_of.insert(id.version.clone(), id);
                continue;
            };
            let Some(owned) = self.by_id.remove(&id) else { continue };
            let bucket = Id {
                manager: ANCIENT.to_owned(),
                operation: Operation::Update,
                version: id.version.clone(),
                subresource: String::new(),
            };
            if !self.by_id.contains_key(&bucket) {
                let taken = self.by_id.remove(&first).unwrap_or_default();
                self.by_id.insert(bucket.clone(), taken);
            }
            if let Some(into) = self.by_id.get_mut(&bucket) {
                into.add(owned.set());
                into.version = owned.version;
                into.time = owned.time;
            }
            left -= 1;
        }
    }
}

/// Writes `metadata.managedFields`, or removes it when nobody owns anything.
pub(super) fn put(entries: Vec<Value>, object: &mut Value) {
    if entries.is_empty() {
        value::remove(object, "metadata.managedFields");
    } else {
        value::set(object, "metadata.managedFields", entries);
    }
}

fn seconds(owned: &Owned<'_>) -> i64 {
    owned.time.as_deref().and_then(crate::meta::seconds).unwrap_or_default()
}

fn entry(id: &Id, owned: &Owned<'_>) -> Value {
    let fields = owned.wire.cloned().unwrap_or_else(|| fields_v1::encode(owned.set()));
    let text = |name: &'static str, text: &str| (!text.is_empty()).then(|| (Text::of_static(name), Value::from(text)));
    let entries = [
        text("apiVersion", &owned.version),
        text("fieldsType", "FieldsV1"),
        Some((Text::of_static("fieldsV1"), fields)),
        text("manager", &id.manager),
        text("operation", id.operation.text()),
        text("subresource", &id.subresource),
        text("time", owned.time.as_deref().unwrap_or_default()),
    ];
    entries.into_iter().flatten().collect()
}
