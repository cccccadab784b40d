//! Loads the generated table of facts. What its tokens mean is said in `hack/facts/README.md`.
//!
//! Never interprets a fact: a malformed line is a defect of the generator and shows in the tests.

use super::types::{Field, ListKind, MapKind, Marks, OneOf, PatchStrategy, Shape, TypeDef, TypeId, Types, Union, Wire};
use crate::json::Text;
use std::collections::HashMap;
use std::sync::LazyLock;

static NATIVE: LazyLock<Types> = LazyLock::new(|| parse(include_str!("facts.txt")));

/// All types of Kubernetes v1.36, alpha and beta groups included.
#[must_use]
pub fn native() -> &'static Types {
    &NATIVE
}

fn parse(text: &'static str) -> Types {
    let mut types = Types::default();
    let mut ids = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        let mut tokens = line.split(' ');
        let name = tokens.next().unwrap_or_default();
        let mut def = TypeDef {
            name: name.to_owned(),
            gvks: Vec::new(),
            fields: Vec::new(),
            atomic: false,
            preserve_unknown: false,
            free: false,
            by_name: HashMap::new(),
        };
        let mut union = None;
        for token in tokens {
            match token.split_once('=') {
                Some(("gvk", list)) => def.gvks = list.split(',').filter_map(gvk).collect(),
                Some(("oneof", fields)) => union = one_of(fields),
                _ => def.atomic |= token == "atomic",
            }
        }
        let id = types.add(def);
        if let Some(union) = union {
            types.set_union(id, union);
        }
        ids.insert(name, id);
    }
    let mut package = "";
    let mut current = None;
    for line in text.lines() {
        let Some(line) = line.strip_prefix(' ') else {
            let name = line.split(' ').next().unwrap_or_default();
            package = name.rsplit_once('.').map_or("", |(package, _)| package);
            current = ids.get(name).copied();
            continue;
        };
        let Some(id) = current else { continue };
        let (field, wire, marks) = parse_field(line, package, &ids);
        let Some(def) = types.get_mut(id) else { continue };
        let index = def.fields.len();
        def.by_name.insert(field.name.clone(), index);
        def.fields.push(field);
        if wire != Wire::default() {
            types.set_wire(id, index, wire);
        }
        if marks != Marks::default() {
            types.set_marks(id, index, marks);
        }
    }
    types.seal();
    types
}

fn gvk(text: &str) -> Option<(String, String, String)> {
    let mut parts = text.split('/').map(str::to_owned);
    Some((parts.next()?, parts.next()?, parts.next()?))
}

/// `discriminator:a,b`; nothing before the colon where no field tells.
fn one_of(text: &str) -> Option<OneOf> {
    let (discriminator, fields) = text.split_once(':')?;
    let discriminator = (!discriminator.is_empty()).then(|| discriminator.to_owned());
    Some(OneOf { discriminator, fields: fields.split(',').map(str::to_owned).collect() })
}

fn parse_field(line: &'static str, package: &str, ids: &HashMap<&str, TypeId>) -> (Field, Wire, Marks) {
    let (line, default) = match line.split_once(" def=") {
        Some((line, json)) => (line, crate::json::from_str(json).ok()),
        None => (line, None),
    };
    let mut tokens = line.split(' ');
    let mut next = || tokens.next().unwrap_or_default();
    let (name, numbers, shape, flags) = (next(), next(), next(), next());
    let mut path: Vec<u32> = numbers.split('.').filter_map(|n| n.parse().ok()).collect();
    let number = path.pop().unwrap_or_default();
    let mut wire = Wire { outer: path, ..Wire::default() };
    let mut list = ListKind::Atomic;
    let mut marks = Marks { granular: flags.contains('g'), unlisted: false };
    let mut patch = PatchStrategy::default();
    let mut allowed = Vec::new();
    for token in tokens {
        let Some((key, value)) = token.split_once('=') else { continue };
        match key {
            "list" if value == "none" => marks.unlisted = true,
            "list" => {
                list = value
                    .strip_prefix("map:")
                    .map_or(ListKind::Set, |keys| ListKind::Map(keys.split(',').map(str::to_owned).collect()));
            }
            "patch" => {
                patch.merge = value.split(',').any(|s| s == "merge");
                patch.replace = value.split(',').any(|s| s == "replace");
                patch.retain_keys = value.split(',').any(|s| s == "retainKeys");
            }
            "key" => patch.merge_key = Some(value.to_owned()),
            "enum" => allowed = value.split('|').map(|one| one.replace("%20", " ")).collect(),
            "wrapped" => wire.wrapped = true,
            "union" => {
                wire.union = Some(match value {
                    "bool" => Union::Bool,
                    "array" => Union::Array,
                    _ => Union::Strings,
                });
            }
            "in" => wire.within = Some(value),
            "go" => wire.go_type = Some(value),
            _ => {}
        }
    }
    let has = |flag| flags.contains(flag);
    let map = if has('x') { MapKind::Atomic } else { MapKind::Granular };
    let field = Field {
        name: Text::of_static(name),
        number,
        shape: parse_shape(shape, package, ids, list, map),
        required: has('r'),
        omit_empty: has('o'),
        pointer: has('p'),
        patch,
        atomic: has('x'),
        default,
        allowed,
    };
    (field, wire, marks)
}

fn parse_shape(text: &str, package: &str, ids: &HashMap<&str, TypeId>, list: ListKind, map: MapKind) -> Shape {
    let inner = |text| Box::new(parse_shape(text, package, ids, ListKind::Atomic, MapKind::Granular));
    if let Some(items) = text.strip_prefix('[') {
        return Shape::List { items: inner(items), kind: list };
    }
    if let Some(values) = text.strip_prefix('{') {
        return Shape::Map { values: inner(values), kind: map };
    }
    if let Some(name) = text.strip_prefix('#') {
        let id = if name.contains('.') { ids.get(name) } else { ids.get(format!("{package}.{name}").as_str()) };
        return id.map_or(Shape::Any, |id| Shape::Struct(*id));
    }
    match text {
        "s" => Shape::String,
        "b" => Shape::Bytes,
        "i" => Shape::Int32,
        "l" => Shape::Int64,
        "d" => Shape::Float64,
        "t" => Shape::Bool,
        "Q" => Shape::Quantity,
        "I" => Shape::IntOrString,
        "T" => Shape::Time,
        "M" => Shape::MicroTime,
        "D" => Shape::Duration,
        _ => Shape::Any,
    }
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
