//! Server-side apply against a model that is slow and obvious: an object is a table from paths to values, a manager a set of paths.
//!
//! The model knows no schema and no empty containers; the order of lists is checked on its own.

use super::dice::Dice;
use crate::apply::testing::types;
use crate::apply::{ApplyError, FieldSet, Manager, Operation, PathElement, apply, decode_fields};
use crate::json::{Map, Value, json};
use crate::value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

static TYPES: LazyLock<crate::schema::Types> = LazyLock::new(types);

type Table = BTreeMap<String, Value>;

#[derive(Default)]
struct Model {
    values: Table,
    owners: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Model {
    /// How many fields conflict, or what is there now.
    fn apply(&mut self, manager: &'static str, new: &Table, force: bool) -> Result<(), usize> {
        let mut disputed = Vec::new();
        for (owner, paths) in self.owners.iter().filter(|(owner, _)| **owner != manager) {
            let theirs = paths.iter().filter(|path| new.get(*path).is_some_and(|value| self.values[*path] != *value));
            disputed.extend(theirs.map(|path| (*owner, path.clone())));
        }
        if !disputed.is_empty() && !force {
            return Err(disputed.len());
        }
        for (owner, path) in disputed {
            self.owners.entry(owner).or_default().remove(&path);
        }
        let before = self.owners.insert(manager, new.keys().cloned().collect()).unwrap_or_default();
        for path in before {
            if !self.owners.values().any(|paths| paths.contains(&path)) {
                // An element leaves with all that is below it.
                let below = format!("{path}.");
                self.values.retain(|there, _| *there != path && !there.starts_with(&below));
            }
        }
        self.values.extend(new.clone());
        self.owners.retain(|_, paths| !paths.is_empty());
        Ok(())
    }
}

/// A configuration without empty containers.
fn configuration(dice: &mut Dice<'_>) -> Value {
    let mut out = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}});
    let number = |dice: &mut Dice<'_>| Value::from(dice.roll(3));
    let texts = |dice: &mut Dice<'_>| dice.some(&["a", "b", "c"]);
    let map =
        |dice: &mut Dice<'_>| -> Map { texts(dice).into_iter().map(|key| (key, dice.roll(3).to_string())).collect() };
    let mut put = |name: &str, new: Value| {
        if !crate::codec::is_empty(&new) || new.is_number() {
            value::set(&mut out, name, new);
        }
    };
    for name in ["count", "rolling.max"] {
        if dice.one_in(2) {
            put(name, number(dice));
        }
    }
    for name in ["labels", "data", "metadata.annotations", "selector.matchLabels"] {
        if dice.one_in(2) {
            put(name, map(dice).into());
        }
    }
    for name in ["finalizers", "args", "metadata.finalizers"] {
        put(name, texts(dice).into());
    }
    let mut items = Vec::new();
    for name in texts(dice) {
        let mut item = json!({"name": name});
        for field in ["v", "w"] {
            if dice.one_in(2) {
                value::set(&mut item, field, number(dice));
            }
        }
        if dice.one_in(3) {
            value::set(&mut item, "args", json!([dice.roll(3).to_string()]));
        }
        items.push(item);
    }
    put("items", items.into());
    let mut ports = Vec::new();
    for (port, protocol) in dice.some(&[(1, "TCP"), (1, "UDP"), (2, "TCP")]) {
        let mut item = json!({"port": port});
        if protocol != "TCP" || dice.one_in(2) {
            value::set(&mut item, "protocol", protocol);
        }
        if dice.one_in(2) {
            value::set(&mut item, "name", dice.roll(3).to_string());
        }
        ports.push(item);
    }
    put("ports", ports.into());
    out
}

/// Every leaf by its path; elements of lists have one of their own. Written out field by field, so that it shares nothing with what it
/// judges.
fn table(object: &Value) -> Table {
    let mut out = Table::new();
    for name in ["count", "rolling.max", "data", "args", "selector"] {
        if let Some(value) = value::get(object, name) {
            out.insert(format!(".{name}"), value.clone());
        }
    }
    for name in ["labels", "metadata.annotations"] {
        for (key, value) in value::get(object, name).and_then(Value::as_object).into_iter().flatten() {
            out.insert(format!(".{name}.{key}"), value.clone());
        }
    }
    for name in ["finalizers", "metadata.finalizers"] {
        for value in value::items(object, name) {
            out.insert(format!(".{name}[={value}]"), Value::Null);
        }
    }
    for item in value::items(object, "items") {
        let path = format!(".items[name={}]", item["name"]);
        for field in ["name", "v", "w", "args"] {
            if let Some(value) = item.get(field) {
                out.insert(format!("{path}.{field}"), value.clone());
            }
        }
        out.insert(path, Value::Null);
    }
    for port in value::items(object, "ports") {
        let protocol = port.get("protocol").cloned().unwrap_or_else(|| "TCP".into());
        let path = format!(".ports[port={},protocol={protocol}]", port["port"]);
        for field in ["port", "protocol", "name"] {
            if let Some(value) = port.get(field) {
                out.insert(format!("{path}.{field}"), value.clone());
            }
        }
        out.insert(path, Value::Null);
    }
    out
}

/// What each manager owns, as paths.
fn owners(object: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = |set: &FieldSet<'_>| set.paths().iter().map(|path| shown(path)).collect();
    value::items(object, "metadata.managedFields")
        .iter()
        .map(|entry| (value::text(entry, "manager").to_owned(), paths(&decode_fields(&entry["fieldsV1"]).unwrap())))
        .collect()
}

fn shown(path: &[PathElement<'_>]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// The elements that a configuration names come in its order.
fn check_order(object: &Value, configuration: &Value) {
    let names = |object: &Value, list: &str| -> Vec<String> {
        let name = |item: &Value| match item {
            Value::Object(item) => format!("{:?}{:?}", item.get("name"), item.get("port")),
            other => other.to_string(),
        };
        value::items(object, list).iter().map(name).collect()
    };
    for list in ["finalizers", "items"] {
        let (there, wanted) = (names(object, list), names(configuration, list));
        let found: Vec<_> = there.into_iter().filter(|name| wanted.contains(name)).collect();
        assert_eq!(found, wanted, "order of {list}");
    }
}

/// A few managers apply one after the other; after each step object and ownership are what the model says.
pub(super) fn model(bytes: &[u8]) {
    let schema = TYPES.schema("Thing").unwrap();
    let mut dice = Dice(bytes);
    let mut model = Model::default();
    let mut live: Option<Value> = None;
    for _ in 0..8 {
        let manager = ["a", "b", "c"][usize::from(dice.roll(3))];
        let force = dice.one_in(3);
        let configuration = configuration(&mut dice);
        let who = Manager {
            manager,
            operation: Operation::Apply,
            api_version: "v1",
            time: "2026-01-01T00:00:01Z",
            subresource: "",
            versions: None,
        };
        let got = apply(live.as_ref(), &configuration, schema, &who, force);
        match (got, model.apply(manager, &table(&configuration), force)) {
            (Ok(object), Ok(())) => {
                assert_eq!(table(&object), model.values, "after {configuration} by {manager}");
                let wanted = model.owners.iter().map(|(owner, paths)| ((*owner).to_owned(), paths.clone())).collect();
                assert_eq!(owners(&object), wanted, "after {configuration} by {manager}");
                check_order(&object, &configuration);
                let again = apply(Some(&object), &configuration, schema, &who, false);
                assert_eq!(again.as_ref(), Ok(&object), "applied twice: {configuration}");
                live = Some(object);
            }
            (Err(ApplyError::Conflicts(conflicts)), Err(count)) => assert_eq!(conflicts.len(), count, "{conflicts:?}"),
            (got, wanted) => panic!("{got:?} and not {wanted:?} after {configuration} by {manager}"),
        }
    }
}
