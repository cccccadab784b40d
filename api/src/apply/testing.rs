//! A small schema with every way to merge, for tests.

use crate::json::json;
use crate::schema::{Field, ListKind, MapKind, PatchStrategy, Shape, TypeDef, Types};

fn field(name: &str, shape: Shape) -> Field {
    Field {
        name: name.into(),
        number: 0,
        shape,
        required: false,
        omit_empty: true,
        pointer: false,
        patch: PatchStrategy::default(),
        atomic: false,
        default: None,
        allowed: Vec::new(),
    }
}

fn def(name: &str, fields: Vec<Field>) -> TypeDef {
    let by_name = fields.iter().enumerate().map(|(i, field)| (field.name.clone(), i)).collect();
    TypeDef {
        name: name.to_owned(),
        gvks: Vec::new(),
        fields,
        atomic: false,
        preserve_unknown: false,
        free: false,
        by_name,
    }
}

fn list(items: Shape, kind: ListKind) -> Shape {
    Shape::List { items: Box::new(items), kind }
}

fn map(values: Shape, kind: MapKind) -> Shape {
    Shape::Map { values: Box::new(values), kind }
}

/// The type `Thing`: metadata, scalars, maps, structs, sets, keyed and atomic lists.
pub(crate) fn types() -> Types {
    let mut types = Types::default();
    let keyed = |keys: &[&str]| ListKind::Map(keys.iter().map(|key| (*key).to_owned()).collect());
    let merge = |mut field: Field, key: Option<&str>| {
        field.patch = PatchStrategy { merge: true, merge_key: key.map(str::to_owned), ..PatchStrategy::default() };
        field
    };
    let metadata = types.add(def(
        "Metadata",
        vec![
            field("name", Shape::String),
            field("namespace", Shape::String),
            field("uid", Shape::String),
            field("resourceVersion", Shape::String),
            field("generation", Shape::Int64),
            field("labels", map(Shape::String, MapKind::Granular)),
            field("annotations", map(Shape::String, MapKind::Granular)),
            merge(field("finalizers", list(Shape::String, ListKind::Set)), None),
            field("managedFields", list(Shape::Any, ListKind::Atomic)),
        ],
    ));
    let item = types.add(def(
        "Item",
        vec![
            field("name", Shape::String),
            field("v", Shape::Int32),
            field("w", Shape::Int32),
            field("args", list(Shape::String, ListKind::Atomic)),
        ],
    ));
    let mut protocol = field("protocol", Shape::String);
    protocol.default = Some(json!("TCP"));
    let port = types.add(def("Port", vec![field("port", Shape::Int32), protocol, field("name", Shape::String)]));
    let rolling = types.add(def("Rolling", vec![field("max", Shape::Int32)]));
    let pointer = |mut field: Field| {
        field.pointer = true;
        field
    };
    let strategy = types
        .add(def("Strategy", vec![field("kind", Shape::String), pointer(field("rolling", Shape::Struct(rolling)))]));
    let mut selector = def("Selector", vec![field("matchLabels", map(Shape::String, MapKind::Granular))]);
    selector.atomic = true;
    let selector = types.add(selector);
    let mut shut = field("shut", map(Shape::String, MapKind::Granular));
    shut.atomic = true;
    let mut wanted = field("wanted", list(Shape::Struct(port), keyed(&["port"])));
    wanted.omit_empty = false;
    types.add(def(
        "Thing",
        vec![
            field("apiVersion", Shape::String),
            field("kind", Shape::String),
            field("metadata", Shape::Struct(metadata)),
            field("name", Shape::String),
            field("count", Shape::Int32),
            field("labels", map(Shape::String, MapKind::Granular)),
            field("data", map(Shape::String, MapKind::Atomic)),
            shut,
            merge(field("finalizers", list(Shape::String, ListKind::Set)), None),
            field("args", list(Shape::String, ListKind::Atomic)),
            merge(field("items", list(Shape::Struct(item), keyed(&["name"]))), Some("name")),
            field("ports", list(Shape::Struct(port), keyed(&["port", "protocol"]))),
            wanted,
            field("strategy", Shape::Struct(strategy)),
            pointer(field("rolling", Shape::Struct(rolling))),
            pointer(field("selector", Shape::Struct(selector))),
            field("raw", Shape::Any),
        ],
    ));
    types
}
