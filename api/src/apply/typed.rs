//! Values read with a schema: which fields a value sets, how list elements are identified, what apply refuses.
//!
//! Never changes how a value is decoded; unknown fields count as freely granular.

use super::path::{FieldSet, Node, PathElement, Scalar};
use crate::json::{Map, Text, Value};
use crate::schema::{Field, ListKind, MapKind, SchemaRef, Shape};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

/// How a value merges.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ty<'a> {
    /// One owner for the whole: scalars and whatever is atomic.
    Leaf,
    /// Owned field by field.
    Struct(SchemaRef<'a>),
    /// Owned entry by entry.
    Map(SchemaRef<'a>, &'a Shape),
    /// A list of scalars, each at most once.
    Set,
    /// A list of objects with keys.
    Keyed(SchemaRef<'a>, &'a Shape, &'a [String]),
    /// Without a schema: objects are granular, all else is a leaf.
    Deduced,
}

impl<'a> Ty<'a> {
    pub(super) fn of(schema: SchemaRef<'a>, shape: &'a Shape) -> Ty<'a> {
        match shape {
            Shape::Struct(id) if schema.types.get(*id).atomic => Ty::Leaf,
            Shape::Struct(id) => Ty::Struct(schema.at(*id)),
            Shape::Map { values, kind: MapKind::Granular } => Ty::Map(schema, values),
            Shape::List { kind: ListKind::Set, .. } => Ty::Set,
            Shape::List { items, kind: ListKind::Map(keys) } => Ty::Keyed(schema, items, keys),
            _ => Ty::Leaf,
        }
    }

    fn of_field(schema: SchemaRef<'a>, field: &'a Field) -> Ty<'a> {
        match &field.shape {
            _ if field.atomic => Ty::Leaf,
            // A field may say otherwise than its type.
            Shape::Struct(id) if schema.types.get(*id).atomic && schema.is_granular(&field.name) => {
                Ty::Struct(schema.at(*id))
            }
            shape => Ty::of(schema, shape),
        }
    }

    /// The type of a field or entry, and whether the schema names it.
    pub(super) fn child(self, name: &str) -> (Ty<'a>, Option<&'a Field>) {
        match self {
            Ty::Struct(schema) => match schema.field(name) {
                Some(field) => (Ty::of_field(schema, field), Some(field)),
                None => (Ty::Deduced, None),
            },
            Ty::Map(schema, values) => (Ty::of(schema, values), None),
            Ty::Leaf | Ty::Set | Ty::Keyed(..) | Ty::Deduced => (Ty::Deduced, None),
        }
    }

    /// The type of a list's elements.
    pub(super) fn element(self) -> Ty<'a> {
        match self {
            Ty::Keyed(schema, items, _) => Ty::of(schema, items),
            Ty::Leaf | Ty::Struct(_) | Ty::Map(..) | Ty::Set | Ty::Deduced => Ty::Leaf,
        }
    }

    /// The type of what is under a path element.
    pub(super) fn under(self, element: &PathElement<'_>) -> (Ty<'a>, bool) {
        match element {
            PathElement::Field(name) => {
                let (ty, field) = self.child(name);
                (ty, field.is_some())
            }
            PathElement::Key(_) | PathElement::Value(_) | PathElement::Index(_) => (self.element(), false),
        }
    }

    /// Whether what is under a path element is a list, a map or a struct with one owner for the whole.
    pub(super) fn is_whole(self, element: &PathElement<'_>) -> bool {
        let shape = match (self, element) {
            (Ty::Struct(schema), PathElement::Field(name)) => schema.field(name).map(|field| &field.shape),
            (Ty::Map(_, values), PathElement::Field(_)) => Some(values),
            (Ty::Keyed(_, items, _), _) => Some(items),
            _ => None,
        };
        matches!(shape, Some(Shape::Struct(_) | Shape::List { .. } | Shape::Map { .. }))
            && matches!(self.under(element).0, Ty::Leaf)
    }

    /// What identifies a list element.
    pub(super) fn identity<'x>(self, item: &'x Value) -> Result<PathElement<'x>, String>
    where
        'a: 'x,
    {
        match (self, item) {
            (Ty::Keyed(schema, items, keys), Value::Object(map)) => {
                let def = match items {
                    Shape::Struct(id) => Some(schema.types.get(*id)),
                    _ => None,
                };
                let value = |key: &'a String| {
                    let default = || def.and_then(|def| def.field(key)).and_then(key_default);
                    let value = map.get(key).or_else(default)?;
                    Some((Cow::Borrowed(key.as_str()), Scalar(Cow::Borrowed(value))))
                };
                // Most lists have one key.
                if let [key] = keys
                    && let Some(found) = value(key)
                {
                    return Ok(PathElement::Key(Arc::new([found])));
                }
                let mut found: Vec<(Cow<'x, str>, Scalar<'x>)> = keys.iter().filter_map(value).collect();
                if found.is_empty() {
                    let names: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
                    return Err(format!(
                        "associative list with keys has an element that omits all key fields [{}] (and doesn't have \
                         default values for any key fields)",
                        names.join(" ")
                    ));
                }
                found.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(PathElement::Key(found.into()))
            }
            (Ty::Keyed(..), Value::Null) => Err("associative list with keys may not have a null element".to_owned()),
            (Ty::Keyed(..), _) => Err("associative list with keys may not have non-map elements".to_owned()),
            (_, Value::Object(_)) => Err("associative list without keys has an element that's a map type".to_owned()),
            (_, Value::Array(_)) => Err("not supported: associative list with lists as elements".to_owned()),
            (_, Value::Null) => Err("associative list without keys has an element that's an explicit null".to_owned()),
            (_, scalar) => Ok(PathElement::Value(Scalar(Cow::Borrowed(scalar)))),
        }
    }

    /// Elements with their identities, in order; those without one are left out.
    pub(super) fn identified<'x>(self, list: &'x [Value]) -> Vec<(PathElement<'x>, &'x Value)>
    where
        'a: 'x,
    {
        list.iter().filter_map(|item| Some((self.identity(item).ok()?, item))).collect()
    }
}

/// What a key is that an element does not say: its constant default, or the zero of a field that always has a value.
fn key_default(field: &Field) -> Option<&Value> {
    static ZEROS: LazyLock<[Value; 3]> = LazyLock::new(|| ["".into(), 0.into(), false.into()]);
    if field.default.is_some() || field.pointer || field.omit_empty {
        return field.default.as_ref();
    }
    let [text, number, flag] = &*ZEROS;
    match field.shape {
        Shape::String => Some(text),
        Shape::Int32 | Shape::Int64 => Some(number),
        Shape::Bool => Some(flag),
        _ => None,
    }
}

/// Up to so many elements are compared with each other, more are put into a tree.
const FEW: usize = 16;

/// Whether two short lists have the same elements in the same order, each once.
pub(super) fn paired(left: &[(PathElement<'_>, &Value)], right: &[(PathElement<'_>, &Value)]) -> bool {
    left.len() <= FEW
        && left.len() == right.len()
        && left.iter().zip(right).all(|((left, _), (right, _))| same(left, right))
        && left.iter().enumerate().all(|(i, (this, _))| !left.iter().take(i).any(|(other, _)| this == other))
}

fn same<'x>(left: &PathElement<'x>, right: &PathElement<'x>) -> bool {
    left == right
}

/// The elements met so far, of which a list with identities has each once.
#[derive(Default)]
pub(super) struct Seen<'x> {
    few: Vec<PathElement<'x>>,
    many: BTreeSet<PathElement<'x>>,
}

impl<'x> Seen<'x> {
    pub(super) fn has(&self, element: &PathElement<'x>) -> bool {
        self.few.contains(element) || self.many.contains(element)
    }

    pub(super) fn add(&mut self, element: PathElement<'x>) {
        if self.few.len() < FEW {
            self.few.push(element);
        } else {
            self.many.insert(element);
        }
    }
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
static ZERO: LazyLock<Value> = LazyLock::new(|| Value::from(0));
static NO_TEXT: Value = Value::String(Text::of_static(""));
static NOTHING: Value = Value::Null;
static FALSE: Value = Value::Bool(false);

/// An object without any field.
pub(super) fn empty() -> &'static Value {
    &EMPTY
}

/// What Go's JSON has for a field that was never set; nothing where it leaves the field out. Ownership treats a field
/// that is there in this way as there before and after, so that setting something in it does not own the whole.
pub(super) fn unset(field: &Field) -> Option<&'static Value> {
    match (&field.shape, field.pointer, field.omit_empty) {
        (Shape::Struct(_), false, _) => Some(&EMPTY),
        (_, _, true) => None,
        (_, true, false) => Some(&NOTHING),
        (Shape::String, ..) => Some(&NO_TEXT),
        (Shape::Int32 | Shape::Int64 | Shape::Float64 | Shape::IntOrString, ..) => Some(&ZERO),
        (Shape::Bool, ..) => Some(&FALSE),
        _ => Some(&NOTHING),
    }
}

/// The fields that a value sets.
pub(super) fn field_set<'x>(value: &'x Value, ty: Ty<'x>) -> FieldSet<'x> {
    node(value, ty, true).below
}

/// Whether a value that is set is a member itself, beside what is below it; `named` where the schema names its field.
pub(super) fn is_member(value: &Value, ty: Ty<'_>, named: bool) -> bool {
    match (ty, value) {
        (Ty::Leaf, _) => true,
        (Ty::Struct(_) | Ty::Map(..) | Ty::Deduced, Value::Object(map)) => map.is_empty() || !named,
        (Ty::Set | Ty::Keyed(..), Value::Array(_)) => !named,
        (_, value) => value.is_null() || !named || matches!(ty, Ty::Deduced),
    }
}

fn node<'x>(value: &'x Value, ty: Ty<'x>, named: bool) -> Node<'x> {
    let own = is_member(value, ty, named);
    match (ty, value) {
        (Ty::Struct(_) | Ty::Map(..) | Ty::Deduced, Value::Object(map)) => {
            let below = map.iter().map(|(name, value)| {
                let (ty, field) = ty.child(name);
                (PathElement::Field(name), node(value, ty, field.is_some()))
            });
            Node { own, below: FieldSet::sorted(below) }
        }
        (Ty::Set | Ty::Keyed(..), Value::Array(list)) => {
            let mut items = ty.identified(list);
            items.sort_by(|(a, _), (b, _)| a.cmp(b));
            let below = items.chunk_by(|(a, _), (b, _)| a == b).filter_map(|same| {
                let (element, item) = same.first()?;
                // Duplicates are owned as a whole.
                let inner = if same.len() == 1 { node(item, ty.element(), true).below } else { FieldSet::default() };
                Some((element.clone(), Node { own: true, below: inner }))
            });
            Node { own, below: FieldSet::sorted(below) }
        }
        _ => Node { own, below: FieldSet::default() },
    }
}

/// Every field that the schema names and below which something is a member becomes a member.
pub(super) fn with_named_fields<'x>(set: &FieldSet<'x>, ty: Ty<'_>) -> FieldSet<'x> {
    let nodes = set.iter().map(|(element, node)| {
        let (ty, named) = ty.under(element);
        let own = node.own || (named && !node.below.is_empty());
        (element.clone(), Node { own, below: with_named_fields(&node.below, ty) })
    });
    FieldSet::of(nodes)
}

/// Whether nothing is a member below what has one owner for the whole.
pub(super) fn fits(set: &FieldSet<'_>, ty: Ty<'_>) -> bool {
    set.iter().all(|(element, node)| {
        node.below.is_empty() || (!ty.is_whole(element) && fits(&node.below, ty.under(element).0))
    })
}

/// The set with members in place of those below them, where there is one owner for the whole.
pub(super) fn fitted<'x>(set: &FieldSet<'x>, ty: Ty<'_>) -> FieldSet<'x> {
    let nodes = set.iter().map(|(element, node)| {
        let node = match node.below.is_empty() {
            true => node.clone(),
            false if ty.is_whole(element) => Node { own: true, below: FieldSet::default() },
            false => Node { own: node.own, below: fitted(&node.below, ty.under(element).0) },
        };
        (element.clone(), node)
    });
    FieldSet::of(nodes)
}

/// Takes away what the members of `set` lead to. What is left empty stays as an empty object or list.
pub(super) fn remove_items(value: &mut Value, ty: Ty<'_>, set: &FieldSet<'_>) {
    if set.is_empty() {
        return;
    }
    match (ty, value) {
        (Ty::Struct(_) | Ty::Map(..) | Ty::Deduced, Value::Object(map)) => {
            map.retain(|name, value| match set.get(&PathElement::Field(name)) {
                Some(node) if node.own => false,
                Some(node) => {
                    remove_items(value, ty.child(name).0, &node.below);
                    true
                }
                None => true,
            });
        }
        (Ty::Set | Ty::Keyed(..), Value::Array(list)) => {
            list.retain_mut(|item| {
                let node = ty.identity(item).ok().and_then(|element| set.get(&element));
                match node {
                    Some(node) if node.own => false,
                    Some(node) => {
                        remove_items(item, ty.element(), &node.below);
                        true
                    }
                    None => true,
                }
            });
        }
        _ => {}
    }
}

/// Removes nulls that stand for unset fields of structs; elements of lists that are null become their zero values.
pub(super) fn drop_nulls(value: &mut Value, schema: SchemaRef<'_>) {
    // There are none in what most people apply, which is told without a look at the schema.
    if has_null(value) {
        drop_nulls_in(value, Ty::Struct(schema));
        fill_elements(value, &Shape::Struct(schema.id), schema);
    }
}

fn fill_elements(value: &mut Value, shape: &Shape, schema: SchemaRef<'_>) {
    match (shape, value) {
        (Shape::Struct(id), Value::Object(map)) => {
            let schema = schema.at(*id);
            for (name, value) in &mut *map {
                if let Some(field) = schema.field(name) {
                    fill_elements(value, &field.shape, schema);
                }
            }
        }
        (Shape::Map { values, .. }, Value::Object(map)) => {
            map.values_mut().for_each(|value| fill_elements(value, values, schema));
        }
        (Shape::List { items, .. }, Value::Array(list)) => {
            for item in list {
                if item.is_null() {
                    *item = crate::codec::zero(items);
                }
                fill_elements(item, items, schema);
            }
        }
        _ => {}
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
    }
}

fn drop_nulls_in(value: &mut Value, ty: Ty<'_>) {
    match (ty, value) {
        (Ty::Struct(_) | Ty::Map(..), Value::Object(map)) => {
            let mut nulls = false;
            for (name, value) in &mut *map {
                match value {
                    Value::Null => nulls = true,
                    Value::Array(_) | Value::Object(_) => drop_nulls_in(value, ty.child(name).0),
                    Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
                }
            }
            if nulls {
                let named = |name: &str| matches!(ty, Ty::Map(..)) || ty.child(name).1.is_some();
                map.retain(|name, value| !(value.is_null() && named(name)));
            }
        }
        (Ty::Keyed(..), Value::Array(list)) => {
            for item in list {
                drop_nulls_in(item, ty.element());
            }
        }
        _ => {}
    }
}

/// What is wrong with an applied configuration: duplicates, elements without identity, mismatched types.
pub(super) fn check(value: &Value, ty: Ty<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    check_at(value, ty, None, &mut wrong);
    match wrong.len() {
        0 => Ok(()),
        1 => Err(wrong.concat()),
        _ => Err(format!("errors:\n  {}", wrong.join("\n  "))),
    }
}

/// The way to a value, kept on the stack: nearly always nobody asks for it.
pub(super) struct Trail<'a> {
    pub(super) before: Option<&'a Trail<'a>>,
    pub(super) step: PathElement<'a>,
}

impl<'a> Trail<'a> {
    pub(super) fn path(&self) -> Vec<PathElement<'a>> {
        let mut out = self.before.map(Trail::path).unwrap_or_default();
        out.push(self.step.clone());
        out
    }
}

fn check_at(value: &Value, ty: Ty<'_>, trail: Option<&Trail<'_>>, wrong: &mut Vec<String>) {
    let at = |trail: Option<&Trail<'_>>, why: String| match trail {
        Some(trail) => format!("{}: {why}", super::path::shown(&trail.path())),
        None => why,
    };
    match (ty, value) {
        (Ty::Struct(_) | Ty::Map(..), Value::Object(map)) => {
            for (name, value) in map {
                let (child, field) = ty.child(name);
                let here = Trail { before: trail, step: PathElement::Field(name) };
                if let (Ty::Struct(schema), None) = (ty, field) {
                    if !schema.def().preserve_unknown {
                        wrong.push(at(Some(&here), "field not declared in schema".to_owned()));
                    }
                } else {
                    check_at(value, child, Some(&here), wrong);
                }
            }
        }
        (Ty::Set | Ty::Keyed(..), Value::Array(list)) => {
            let mut seen = Seen::default();
            for (i, item) in list.iter().enumerate() {
                match ty.identity(item) {
                    Err(why) => wrong.push(at(trail, format!("element {i}: {why}"))),
                    Ok(element) => {
                        if seen.has(&element) {
                            wrong.push(at(trail, format!("duplicate entries for key {element}")));
                        }
                        let here = Trail { before: trail, step: element.clone() };
                        check_at(item, ty.element(), Some(&here), wrong);
                        seen.add(element);
                    }
                }
            }
        }
        (Ty::Struct(_) | Ty::Map(..), other) if !other.is_null() => {
            wrong.push(at(trail, format!("expected map, got {}", shown(other))));
        }
        (Ty::Set | Ty::Keyed(..), other) if !other.is_null() => {
            wrong.push(at(trail, format!("expected list, got {}", shown(other))));
        }
        _ => {}
    }
}

/// A value as upstream prints it in the middle of a sentence.
fn shown(value: &Value) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    };
    format!("&{{{kind} {value}}}")
}
