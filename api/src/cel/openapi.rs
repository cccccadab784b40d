//! Declarations from OpenAPI schemas of custom resources, with the sizes that they allow.
//!
//! Rules for what expressions see of a schema, and how large it may be, are those of Kubernetes' `SchemaDeclType`. Expects
//! a structural schema; never checks whether it is one.

use super::decl::{Decl, DeclKind, FieldDecl, ObjectDecl, escape};
use crate::json::Value as Json;
use crate::schema::ListKind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of the largest request.
const LARGEST_REQUEST: u64 = 3 * 1024 * 1024;

/// A declaration, and the fewest bytes that a value of it takes.
type Sized = (Decl, u64);

/// What a schema declares under the name of a type; `None` when expressions do not see it. `root` for a resource, which
/// has its name and kind whatever the schema says.
#[must_use]
pub fn of_schema(schema: &Json, root: bool, name: &str) -> Option<Decl> {
    sized(schema, root, name).map(|(decl, _)| decl)
}

/// How often a rule at a schema may be evaluated for one request, when lists and maps around it have no bound.
#[must_use]
pub fn cardinality(schema: &Json, root: bool) -> u64 {
    sized(schema, root, "").map_or(u64::MAX, |(_, least)| LARGEST_REQUEST / (least + 1))
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or_default()
}

/// A bound; negative ones are 0.
fn bound(schema: &Json, name: &str) -> Option<u64> {
    let value = schema.get(name)?;
    value.as_u64().or_else(|| value.as_i64().map(|_| 0))
}

fn sized(schema: &Json, root: bool, name: &str) -> Option<Sized> {
    let nullable = flag(schema, "nullable");
    let made = |kind: DeclKind, most: Option<u64>, least: u64| Some((Decl { kind, nullable, most }, least));
    if flag(schema, "x-kubernetes-int-or-string") {
        let most = bound(schema, "maxLength").map_or(LARGEST_REQUEST - 2, |most| most.saturating_mul(4));
        return made(DeclKind::Dyn, Some(most), 1);
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("array") => {
            let items = schema.get("items").filter(|items| items.is_object())?;
            let (items, least) = sized(items, flag(items, "x-kubernetes-embedded-resource"), &format!("{name}.@elem"))?;
            let most = bound(schema, "maxItems").unwrap_or((LARGEST_REQUEST - 2) / (least + 1));
            made(DeclKind::List { items: Arc::new(items), kind: list_kind(schema) }, Some(most), 2)
        }
        Some("object") => object(schema, root, name, nullable),
        Some("string") => text(schema, nullable),
        Some("boolean") => made(DeclKind::Bool, None, 4),
        Some("number") => made(DeclKind::Double, None, 1),
        Some("integer") => made(DeclKind::Int, None, 1),
        _ => None,
    }
}

fn list_kind(schema: &Json) -> ListKind {
    match schema.get("x-kubernetes-list-type").and_then(Json::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
            ListKind::Map(keys.into_iter().flatten().filter_map(|key| key.as_str().map(str::to_owned)).collect())
        }
        _ => ListKind::Atomic,
    }
}

fn object(schema: &Json, root: bool, name: &str, nullable: bool) -> Option<Sized> {
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let embedded = flag(values, "x-kubernetes-embedded-resource");
        let (values, least) = sized(values, embedded, &format!("{name}.@elem"))?;
        let most = bound(schema, "maxProperties").unwrap_or((LARGEST_REQUEST - 2) / (least + 6));
        let kind = DeclKind::Map { keys: Arc::new(Decl::string()), values: Arc::new(values) };
        return Some((Decl { kind, nullable, most: Some(most) }, 2));
    }
    let required: Vec<&str> =
        schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
    let mut least = 2;
    let mut fields = BTreeMap::new();
    let empty = crate::json::Map::new();
    let mut properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty).clone();
    if root || flag(schema, "x-kubernetes-embedded-resource") {
        with_meta(&mut properties);
    }
    for (property, schema) in &properties {
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        let Some((decl, size)) = sized(schema, embedded, &format!("{name}.{property}")) else { continue };
        if required.contains(&property.as_str()) && schema.get("default").is_none() {
            least += property.len() as u64 + size + 4;
        }
        if let Some(escaped) = escape(property) {
            fields.insert(escaped, FieldDecl { name: property.into(), decl });
        }
    }
    let object = ObjectDecl { name: name.into(), fields, constructible: false };
    Some((Decl { kind: DeclKind::Object(Arc::new(object)), nullable, most: None }, least))
}

/// Name and kind of a resource are there in any case.
fn with_meta(properties: &mut crate::json::Map) {
    let text = crate::json::json!({"type": "string"});
    let is = |schema: Option<&Json>, t: &str| schema.and_then(|schema| schema.get("type")) == Some(&Json::from(t));
    let meta = properties.get("metadata").and_then(|meta| meta.get("properties"));
    let complete = is(properties.get("kind"), "string")
        && is(properties.get("apiVersion"), "string")
        && is(properties.get("metadata"), "object")
        && is(meta.and_then(|meta| meta.get("name")), "string")
        && is(meta.and_then(|meta| meta.get("generateName")), "string");
    if complete {
        return;
    }
    properties.insert("kind".to_owned(), text.clone());
    properties.insert("apiVersion".to_owned(), text.clone());
    let meta = crate::json::json!({"type": "object", "properties": {"name": text, "generateName": text}});
    properties.insert("metadata".to_owned(), meta);
}

fn text(schema: &Json, nullable: bool) -> Option<Sized> {
    let longest = bound(schema, "maxLength");
    let (kind, most, least) = match schema.get("format").and_then(Json::as_str) {
        Some("byte") => (DeclKind::Bytes, longest.unwrap_or(LARGEST_REQUEST - 2), 2),
        Some("duration") => (DeclKind::Duration, 32, 3),
        Some("date") => (DeclKind::Timestamp, 12, 12),
        Some("date-time") => (DeclKind::Timestamp, 32, 21),
        _ => {
            let listed = schema.get("enum").and_then(Json::as_array).filter(|listed| !listed.is_empty());
            let most = match (longest, listed) {
                (Some(longest), _) => longest.saturating_mul(4),
                (None, Some(listed)) => {
                    listed.iter().filter_map(Json::as_str).map(|text| text.len() as u64).max().unwrap_or(0)
                }
                (None, None) => LARGEST_REQUEST - 2,
            };
            (DeclKind::String, most, 2)
        }
    };
    Some((Decl { kind, nullable, most: Some(most) }, least))
}
