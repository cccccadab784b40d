//! Schemas of types: the facts from the table, the sentences from k8s-openapi.
//!
//! Never says which types are served; `document.rs` asks for those that paths reach.

use api::json::{Map, Value, json};
use api::schema::{Field, ListKind, MapKind, Marks, OneOf, SchemaRef, Shape, TypeDef, Types};
use schemars::SchemaGenerator;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Which OpenAPI is written; they differ in references and in a few scalar forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenAPI 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Form {
    /// Reference to a type.
    #[must_use]
    pub fn reference(self, name: &str) -> String {
        match self {
            Form::V2 => format!("#/definitions/{name}"),
            Form::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// The document that schemas are written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The one document of v2.
    V2,
    /// The v3 document of this group and version; both empty where it belongs to none.
    V3(&'a str, &'a str),
}

impl Scope<'_> {
    fn form(self) -> Form {
        if self == Scope::V2 { Form::V2 } else { Form::V3 }
    }

    /// A type that travels in every group names only what this document is about.
    fn names(self, group: &str, version: &str) -> bool {
        match self {
            Scope::V2 => !matches!(group, "meta.k8s.io" | "apidiscovery.k8s.io"),
            Scope::V3(own, at) => (group, version) == ("", "v1") || (group, version) == (own, at),
        }
    }
}

/// Sentences by type and field, as k8s-openapi carries them.
pub struct Sentences(BTreeMap<String, serde_json::Value>);

/// Types that paths name beside the kinds themselves: bodies of subresources, options, answers.
fn describe_shared(generator: &mut SchemaGenerator) {
    use api::kind::describe;
    use k8s_openapi::api::{authentication, autoscaling, core, policy};
    use k8s_openapi::apimachinery::pkg::{apis::meta, version};
    for describe in [
        describe::<authentication::v1::TokenRequest>,
        describe::<autoscaling::v1::Scale>,
        describe::<core::v1::Binding>,
        describe::<policy::v1::Eviction>,
        describe::<meta::v1::APIGroup>,
        describe::<meta::v1::APIGroupList>,
        describe::<meta::v1::APIResourceList>,
        describe::<meta::v1::APIVersions>,
        describe::<meta::v1::DeleteOptions>,
        describe::<meta::v1::ListMeta>,
        describe::<meta::v1::Patch>,
        describe::<meta::v1::Status>,
        describe::<meta::v1::WatchEvent<()>>,
        describe::<version::Info>,
    ] {
        describe(generator);
    }
}

impl Sentences {
    /// Collects the sentences of everything that the kinds reach.
    #[must_use]
    pub fn of(kinds: &[&'static api::kind::Kind]) -> Sentences {
        let mut generator = schemars::generate::SchemaSettings::draft07().into_generator();
        for kind in kinds {
            (kind.describe)(&mut generator);
        }
        describe_shared(&mut generator);
        let found = generator.take_definitions(true);
        Sentences(found.into_iter().collect())
    }

    /// Collects the sentences of what one kind holds, and of the metadata of all.
    #[must_use]
    pub fn of_kind(kind: &api::kind::Kind) -> Sentences {
        let mut generator = schemars::generate::SchemaSettings::draft07().into_generator();
        api::kind::describe::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>(&mut generator);
        (kind.describe)(&mut generator);
        Sentences(generator.take_definitions(true).into_iter().collect())
    }

    /// What a type is.
    #[must_use]
    pub fn of_type(&self, name: &str) -> Option<Cow<'_, str>> {
        if let Some(sentence) =
            self.0.get(name).and_then(|found| found.get("description")).and_then(|found| found.as_str())
        {
            return Some(sentence.into());
        }
        listed(name).map(|kind| format!("A list of objects of kind {kind}.").into())
    }

    /// What a field of a type means.
    #[must_use]
    pub fn of_field(&self, name: &str, field: &str) -> Option<Cow<'_, str>> {
        if let Some(sentence) = self.property(name, field).and_then(|found| found.get("description")) {
            return sentence.as_str().map(Cow::from);
        }
        // The one that k8s-openapi has is of Rust.
        if field == "object" && name.strip_prefix(META) == Some("WatchEvent") {
            return Some("The object as it is now, or as it was when it was deleted; of an error, the Status.".into());
        }
        // Lists have no type of their own in k8s-openapi.
        let kind = listed(name)?;
        match field {
            "items" => Some(format!("The objects of kind {kind}.").into()),
            "metadata" => self.of_type(&format!("{META}ListMeta")),
            _ => self.of_field(&format!("{META}Status"), field),
        }
    }

    fn property(&self, name: &str, field: &str) -> Option<&serde_json::Value> {
        self.0.get(name)?.get("properties")?.get(field)
    }

    /// The named type behind a field whose value is kept as it came.
    fn target(&self, name: &str, field: &str, shape: &Shape) -> Option<&str> {
        let property = self.property(name, field)?;
        let property = match shape {
            Shape::List { .. } => property.get("items")?,
            Shape::Map { .. } => property.get("additionalProperties")?,
            _ => property,
        };
        let inner = property.pointer("/allOf/0").unwrap_or(property);
        inner.get("$ref")?.as_str()?.strip_prefix("#/definitions/")
    }
}

/// The kind whose list this type is.
fn listed(name: &str) -> Option<&str> {
    name.rsplit('.').next()?.strip_suffix("List").filter(|kind| !kind.is_empty())
}

/// Prefix of the types of meta/v1.
pub(crate) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Scalars that upstream names as types of their own: the name and its schema.
fn named_scalar(shape: &Shape, form: Form) -> Option<(String, Value)> {
    let number_or_string = || match form {
        Form::V2 => json!({"type": "string"}),
        Form::V3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
    };
    Some(match shape {
        Shape::Quantity => ("io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(), number_or_string()),
        Shape::IntOrString => (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(),
            match form {
                Form::V2 => json!({"type": "string", "format": "int-or-string"}),
                Form::V3 => json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
            },
        ),
        Shape::Time => (format!("{META}Time"), json!({"type": "string", "format": "date-time"})),
        Shape::MicroTime => (format!("{META}MicroTime"), json!({"type": "string", "format": "date-time"})),
        Shape::Duration => (format!("{META}Duration"), json!({"type": "string"})),
        _ => return None,
    })
}

/// The schema of a value of this shape; types that it refers to are added to `reached`.
fn shape(types: &Types, shape: &Shape, form: Form, reached: &mut BTreeSet<String>) -> Value {
    if let Some((name, _)) = named_scalar(shape, form) {
        let reference = form.reference(&name);
        reached.insert(name);
        return json!({"$ref": reference});
    }
    match shape {
        Shape::String => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Float64 => json!({"type": "number", "format": "double"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::List { items, .. } => json!({"type": "array", "items": self::shape(types, items, form, reached)}),
        Shape::Map { values, .. } => {
            json!({"type": "object", "additionalProperties": self::shape(types, values, form, reached)})
        }
        Shape::Struct(id) => {
            let name = &types.get(*id).name;
            reached.insert(name.clone());
            json!({"$ref": form.reference(name)})
        }
        Shape::Any | Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime | Shape::Duration => {
            json!({"type": "object"})
        }
    }
}

/// The default that v3 states: the constant one, else the zero that a field held by value decodes to.
fn default(field: &Field) -> Option<Value> {
    if field.default.is_some() || field.pointer {
        return field.default.clone();
    }
    match &field.shape {
        Shape::Struct(_) => Some(json!({})),
        _ if field.omit_empty => None,
        Shape::String => Some(json!("")),
        Shape::Int32 | Shape::Int64 => Some(json!(0)),
        Shape::Bool => Some(json!(false)),
        _ => None,
    }
}

fn property(
    schema: SchemaRef<'_>,
    (index, field): (usize, &Field),
    sentences: &Sentences,
    form: Form,
    reached: &mut BTreeSet<String>,
) -> Value {
    let owner = &schema.def().name;
    let mut out = shape(schema.types, &field.shape, form, reached);
    let kept = match &field.shape {
        Shape::List { items: inner, .. } | Shape::Map { values: inner, .. } => inner.as_ref(),
        own => own,
    };
    if let (Shape::Any, Some(name)) = (kept, sentences.target(owner, &field.name, &field.shape)) {
        reached.insert(name.to_owned());
        let reference = json!({"$ref": form.reference(name)});
        match &field.shape {
            Shape::List { .. } => api::value::set(&mut out, "items", reference),
            Shape::Map { .. } => api::value::set(&mut out, "additionalProperties", reference),
            _ => out = reference,
        }
    }
    let sentence = sentences.of_field(owner, &field.name);
    let default = default(field).filter(|_| form == Form::V3);
    if form == Form::V3 && (sentence.is_some() || default.is_some()) {
        // Siblings of a reference are ignored in OpenAPI 3.0.
        if let Some(reference) = out.get("$ref").cloned() {
            out = json!({"allOf": [{"$ref": reference}]});
        }
    }
    if !field.allowed.is_empty() {
        let at = if out.get("items").is_some() { "items.enum" } else { "enum" };
        api::value::set(&mut out, at, field.allowed.clone());
    }
    let Some(map) = out.as_object_mut() else { return out };
    if let Some(sentence) = sentence {
        map.insert("description", sentence.into());
    }
    if let Some(default) = default {
        map.insert("default", default);
    }
    add_merging(map, owner, field, schema.types.marks(schema.id, index));
    out
}

/// How apply and strategic merge patch treat the field.
fn add_merging(map: &mut Map, owner: &str, field: &Field, marks: Marks) {
    match &field.shape {
        _ if marks.granular => {
            map.insert("x-kubernetes-map-type", "granular".into());
        }
        Shape::List { .. } if marks.unlisted => {}
        Shape::List { kind, .. } => {
            let name = match kind {
                ListKind::Set => Some("set"),
                ListKind::Map(keys) => {
                    map.insert("x-kubernetes-list-map-keys", keys.clone().into());
                    Some("map")
                }
                // Lists of objects are never applied.
                ListKind::Atomic => (field.name != "items" || listed(owner).is_none()).then_some("atomic"),
            };
            if let Some(name) = name {
                map.insert("x-kubernetes-list-type", name.into());
            }
        }
        Shape::Bytes if field.atomic => {
            map.insert("x-kubernetes-list-type", "atomic".into());
        }
        Shape::Map { kind: MapKind::Atomic, .. } => {
            map.insert("x-kubernetes-map-type", "atomic".into());
        }
        Shape::Struct(_) if field.atomic => {
            map.insert("x-kubernetes-map-type", "atomic".into());
        }
        _ => {}
    }
    let patch = &field.patch;
    let strategies = [(patch.merge, "merge"), (patch.replace, "replace"), (patch.retain_keys, "retainKeys")];
    let strategies: Vec<&str> = strategies.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
    if !strategies.is_empty() {
        map.insert("x-kubernetes-patch-strategy", strategies.join(",").into());
    }
    if let Some(key) = &field.patch.merge_key {
        map.insert("x-kubernetes-patch-merge-key", key.clone().into());
    }
}

/// The schema of a type; types that it refers to are added to `reached`.
#[must_use]
pub fn definition(
    schema: SchemaRef<'_>,
    sentences: &Sentences,
    scope: Scope<'_>,
    reached: &mut BTreeSet<String>,
) -> Value {
    let form = scope.form();
    let def: &TypeDef = schema.def();
    let mut out = Map::new();
    if let Some(sentence) = sentences.of_type(&def.name) {
        out.insert("description", sentence.into());
    }
    out.insert("type", "object".into());
    let mut required: Vec<String> = Vec::new();
    let mut properties = Map::new();
    for (index, field) in def.fields.iter().enumerate() {
        properties.insert(field.name.clone(), property(schema, (index, field), sentences, form, reached));
        if field.required {
            required.push(field.name.to_string());
        }
    }
    if !properties.is_empty() {
        out.insert("properties", properties.into());
    }
    if !required.is_empty() {
        out.insert("required", required.into());
    }
    let gvks: Vec<Value> = def
        .gvks
        .iter()
        .filter(|(group, version, _)| def.gvks.len() == 1 || scope.names(group, version))
        .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}))
        .collect();
    if !gvks.is_empty() {
        out.insert("x-kubernetes-group-version-kind", gvks.into());
    }
    if def.atomic {
        out.insert("x-kubernetes-map-type", "atomic".into());
    }
    if let Some(union) = schema.types.union(schema.id) {
        out.insert("x-kubernetes-unions", json!([one_of(union)]));
    }
    Value::Object(out)
}

/// Fields of which one is set, each with the word that says so: its name with a large letter.
fn one_of(union: &OneOf) -> Value {
    let mut fields = Map::new();
    for field in &union.fields {
        let mut letters = field.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        fields.insert(field.as_str(), first.chain(letters).collect::<String>().into());
    }
    let mut out = json!({ "fields-to-discriminateBy": fields });
    if let Some(discriminator) = &union.discriminator {
        api::value::set(&mut out, "discriminator", discriminator.clone());
    }
    out
}

/// The schemas of these types and of all that they reach, by name.
#[must_use]
pub fn closure(types: &Types, roots: BTreeSet<String>, sentences: &Sentences, scope: Scope<'_>) -> Map {
    let form = scope.form();
    let scalars: BTreeMap<String, Value> =
        [Shape::Quantity, Shape::IntOrString, Shape::Time, Shape::MicroTime, Shape::Duration]
            .iter()
            .filter_map(|shape| named_scalar(shape, form))
            .collect();
    let mut out = Map::new();
    let mut open: Vec<String> = roots.into_iter().collect();
    while let Some(name) = open.pop() {
        if out.contains_key(&name) {
            continue;
        }
        let mut reached = BTreeSet::new();
        let mut value = match (scalars.get(&name), types.schema(&name)) {
            (Some(scalar), _) => scalar.clone(),
            (None, Some(schema)) => definition(schema, sentences, scope, &mut reached),
            // JSON is of any type, also as one side of a union.
            (None, None) if name.contains(".apiextensions.v1.JSON") => json!({}),
            // Patches have no fields of their own.
            (None, None) => json!({"type": "object"}),
        };
        if let (Some(sentence), Some(map)) = (sentences.of_type(&name), value.as_object_mut()) {
            map.entry("description").or_insert_with(|| sentence.into());
        }
        out.insert(name, value);
        open.extend(reached);
    }
    out
}
