//! The schema of a custom resource as an arena of types: what decoding, apply and encoding read.
//!
//! The object's metadata is upstream's own type; everything else is free: values of the wrong type are kept for validation to
//! speak about. Never validates.

use super::schema::{Additional, Node};
use crate::schema::{Field, ListKind, MapKind, PatchStrategy, SchemaRef, Shape, TypeDef, TypeId, Types, native};
use std::collections::HashMap;

/// Metadata of an object, and all that it holds.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The types of one version: the object under its group, version and kind, and its list.
#[must_use]
pub fn of(root: &Node, name: &str, (group, version, kind, list_kind): (&str, &str, &str, &str)) -> Types {
    let mut builder = Builder { types: Types::default(), copied: HashMap::new() };
    let id = builder.object(root, true);
    if let Some(def) = builder.types.get_mut(id) {
        name.clone_into(&mut def.name);
    }
    let list_meta = builder.native(LIST_META);
    let fields = vec![
        field("apiVersion", Shape::String, None),
        field("kind", Shape::String, None),
        field("metadata", list_meta, None),
        field("items", Shape::List { items: Box::new(Shape::Struct(id)), kind: ListKind::Atomic }, None),
    ];
    let list = builder.add(fields, false, false);
    builder.types.rename(id, name, (group, version, kind));
    builder.types.rename(list, &format!("{name}List"), (group, version, list_kind));
    builder.types.seal();
    builder.types
}

struct Builder {
    types: Types,
    copied: HashMap<u32, TypeId>,
}

fn field(name: &str, shape: Shape, node: Option<&Node>) -> Field {
    Field {
        name: name.into(),
        number: 0,
        shape,
        required: false,
        omit_empty: true,
        pointer: true,
        patch: PatchStrategy::default(),
        atomic: false,
        default: node.and_then(|node| node.default.clone()),
        allowed: Vec::new(),
    }
}

impl Builder {
    fn add(&mut self, fields: Vec<Field>, atomic: bool, preserve_unknown: bool) -> TypeId {
        let by_name = fields.iter().enumerate().map(|(i, field)| (field.name.clone(), i)).collect();
        let def =
            TypeDef { name: String::new(), gvks: Vec::new(), fields, atomic, preserve_unknown, free: true, by_name };
        self.types.add(def)
    }

    fn object(&mut self, node: &Node, resource: bool) -> TypeId {
        let mut fields = Vec::new();
        if resource || node.embedded {
            fields.push(field("apiVersion", Shape::String, None));
            fields.push(field("kind", Shape::String, None));
            let meta = self.native(META);
            fields.push(field("metadata", meta, None));
        }
        for (name, property) in &node.properties {
            if fields.iter().all(|field: &Field| field.name != *name) {
                let shape = self.shape(property);
                fields.push(field(name, shape, Some(property)));
            }
        }
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.add(fields, node.map_type.as_deref() == Some("atomic"), node.preserve)
    }

    fn shape(&mut self, node: &Node) -> Shape {
        let map_kind = if node.map_type.as_deref() == Some("atomic") { MapKind::Atomic } else { MapKind::Granular };
        match node.kind.as_str() {
            "object" | "" if !node.properties.is_empty() || node.embedded => Shape::Struct(self.object(node, false)),
            "object" if !node.preserve => match &node.additional {
                Some(Additional::Of(of)) => Shape::Map { values: Box::new(self.shape(of)), kind: map_kind },
                Some(Additional::Any(true)) => {
                    Shape::Map { values: Box::new(Shape::Struct(self.add(Vec::new(), false, false))), kind: map_kind }
                }
                _ => Shape::Struct(self.object(node, false)),
            },
            // Without any schema objects are owned field by field, and lists as a whole.
            "object" => Shape::Struct(self.object(node, false)),
            "array" => {
                let items = match &node.items {
                    Some(items) => self.shape(items),
                    None => Shape::Any,
                };
                let kind = match node.list_type.as_deref() {
                    Some("set") => ListKind::Set,
                    Some("map") => ListKind::Map(node.list_keys.clone()),
                    _ => ListKind::Atomic,
                };
                Shape::List { items: Box::new(items), kind }
            }
            "string" => Shape::String,
            "boolean" => Shape::Bool,
            "integer" => Shape::Int64,
            "number" => Shape::Float64,
            _ if node.int_or_string => Shape::IntOrString,
            _ if node.preserve => Shape::Struct(self.object(node, false)),
            _ => Shape::Any,
        }
    }

    /// A type of upstream, copied with all that it holds.
    fn native(&mut self, name: &str) -> Shape {
        native().schema(name).map_or(Shape::Any, |schema| Shape::Struct(self.copy(schema)))
    }

    fn copy(&mut self, schema: SchemaRef<'static>) -> TypeId {
        if let Some(id) = self.copied.get(&schema.id.0) {
            return *id;
        }
        let mut def = schema.def().clone();
        def.gvks.clear();
        let id = self.types.add(def);
        self.copied.insert(schema.id.0, id);
        let count = schema.def().fields.len();
        for index in 0..count {
            let Some(shape) = schema.def().fields.get(index).map(|field| field.shape.clone()) else { continue };
            let shape = self.copied_shape(schema, &shape);
            if let Some(field) = self.types.get_mut(id).and_then(|def| def.fields.get_mut(index)) {
                field.shape = shape;
            }
        }
        id
    }

    fn copied_shape(&mut self, schema: SchemaRef<'static>, shape: &Shape) -> Shape {
        match shape {
            Shape::Struct(id) => Shape::Struct(self.copy(schema.at(*id))),
            Shape::List { items, kind } => {
                Shape::List { items: Box::new(self.copied_shape(schema, items)), kind: kind.clone() }
            }
            Shape::Map { values, kind } => {
                Shape::Map { values: Box::new(self.copied_shape(schema, values)), kind: *kind }
            }
            other => other.clone(),
        }
    }
}
