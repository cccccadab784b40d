//! OpenAPI of custom resources: their own schemas, with what every object has, in the paths of every kind.
//!
//! Source: upstream's publishing of custom resource definitions. Never says which are served.

use crate::operation::{Route, Writer};
use crate::paths;
use crate::schemas::{Form, META, Scope, Sentences, closure};
use api::json::{Map, Text, Value, json};
use api::kind::Kind;
use api::schema::native;
use std::collections::BTreeSet;

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object.";
const KIND: &str = "Kind is a string value representing the REST resource this object represents.";

/// The v3 document of a version of a group; `version` is the server's.
#[must_use]
pub fn v3(kinds: &[&'static Kind], version: &str) -> Value {
    let mut writer = Writer { form: Form::V3, reached: BTreeSet::new() };
    let (group, served) = kinds.first().map_or(("", ""), |kind| (kind.group, kind.version));
    let mut routes: Vec<Route> = vec![paths::of_version(group, served)];
    routes.extend(kinds.iter().flat_map(|kind| paths::of_kind(kind, native())));
    let paths: Map = routes.iter().map(|route| (route.path.clone(), writer.route(route))).collect();
    let sentences = Sentences::of(&[]);
    let reached = shared(writer.reached, kinds);
    let mut schemas = closure(native(), reached, &sentences, Scope::V3(group, served));
    for kind in kinds {
        schemas.extend(definitions(kind, Form::V3));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes CRD Swagger", "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// Adds kinds to the v2 document.
pub fn add_v2(document: &mut Value, kinds: &[&'static Kind]) {
    let mut writer = Writer { form: Form::V2, reached: BTreeSet::new() };
    let mut definitions = Map::new();
    let mut routes = Map::new();
    for kind in kinds {
        definitions.extend(self::definitions(kind, Form::V2));
        routes.extend(paths::of_kind(kind, native()).iter().map(|route| (route.path.clone(), writer.route(route))));
    }
    let reached = shared(writer.reached, kinds);
    let missing = closure(native(), reached, &Sentences::of(&[]), Scope::V2);
    for (name, more) in [("paths", routes), ("definitions", definitions), ("definitions", missing)] {
        let all = api::value::map_mut(document, name);
        for (key, value) in more {
            all.entry(key).or_insert(value);
        }
    }
}

/// The types that the paths reach beside the kinds' own.
fn shared(mut reached: BTreeSet<String>, kinds: &[&'static Kind]) -> BTreeSet<String> {
    for name in kinds.iter().filter_map(|kind| Some(kind.custom?.type_name())) {
        reached.remove(name);
        reached.remove(&format!("{name}List"));
    }
    reached.extend(["ObjectMeta", "ListMeta"].map(|name| format!("{META}{name}")));
    reached
}

fn reference(form: Form, name: &str, sentence: &str) -> Value {
    let reference = json!({"$ref": form.reference(&format!("{META}{name}"))});
    match form {
        Form::V2 => json!({"$ref": form.reference(&format!("{META}{name}")), "description": sentence}),
        // Siblings of a reference are ignored in OpenAPI 3.0.
        Form::V3 => json!({"allOf": [reference], "description": sentence}),
    }
}

/// The type of a kind and that of its lists.
fn definitions(kind: &Kind, form: Form) -> Vec<(String, Value)> {
    let Some(custom) = kind.custom else { return Vec::new() };
    let mut own = custom.schema();
    let keeps = api::value::flag(&own, "x-kubernetes-preserve-unknown-fields");
    if form == Form::V2 && keeps {
        own = json!({"type": "object"});
    } else {
        if form == Form::V2 {
            simplify(&mut own);
        }
        complete(&mut own, form, true);
    }
    let identity = |kind_name: &str| json!([{"group": kind.group, "version": kind.version, "kind": kind_name}]);
    let map = api::value::map_mut(&mut own, "");
    map.insert("x-kubernetes-group-version-kind", identity(kind.kind));
    if !custom.selectable().is_empty() {
        let fields: Vec<Value> = custom.selectable().iter().map(|path| json!({"fieldPath": path})).collect();
        map.insert("x-kubernetes-selectable-fields", fields.into());
    }
    let name = custom.type_name();
    let list = json!({
        "description": format!("{} is a list of {}", custom.list_kind(), kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": reference(form, "ListMeta", "Standard list metadata."),
            "items": {"type": "array", "description": format!("List of {}.", kind.plural),
                "items": {"$ref": form.reference(name)}},
        },
        "x-kubernetes-group-version-kind": identity(custom.list_kind()),
    });
    vec![(name.to_owned(), own), (format!("{name}List"), list)]
}

/// Says what every object has; objects within objects too.
fn complete(schema: &mut Value, form: Form, root: bool) {
    // In v2 the fields of every object would forbid all others.
    let keeps = form == Form::V2 && api::value::flag(schema, "x-kubernetes-preserve-unknown-fields");
    let embedded = api::value::flag(schema, "x-kubernetes-embedded-resource") && !keeps;
    if embedded {
        let mut required = api::value::items(schema, "required").to_vec();
        for name in ["kind", "apiVersion"] {
            if required.iter().all(|other| other != name) {
                required.push(name.into());
            }
        }
        api::value::set(schema, "required", required);
    }
    if root || embedded {
        let properties = api::value::map_mut(schema, "properties");
        properties.insert("apiVersion", json!({"type": "string", "description": API_VERSION}));
        properties.insert("kind", json!({"type": "string", "description": KIND}));
        properties.insert("metadata", reference(form, "ObjectMeta", "Standard object's metadata."));
    }
    children(schema, &mut |child| complete(child, form, false));
}

/// Every schema one level below that says what fields there are.
fn children(schema: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().filter(|child| child.get("$ref").is_none()).for_each(&mut *visit);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(child) = map.get_mut(name).filter(|child| child.is_object()) {
            visit(child);
        }
    }
}

/// Removes what OpenAPI v2, and the kubectl that reads it, cannot say.
fn simplify(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for name in ["oneOf", "anyOf", "not", "allOf"] {
        map.remove(name);
    }
    let flag = |map: &Map, name: &str| map.get(name).and_then(Value::as_bool).unwrap_or_default();
    if map.remove("nullable") == Some(Value::Bool(true)) {
        for name in ["type", "items", "properties"] {
            map.remove(name);
        }
    }
    let keeps = flag(map, "x-kubernetes-preserve-unknown-fields");
    if keeps {
        map.remove("items");
        map.remove("properties");
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    if (kind == "array" && !map.contains_key("items")) || (kind == "object" && keeps) {
        map.remove("type");
    }
    let nullable = |child: &Value| api::value::flag(child, "nullable");
    let properties = map.get("properties").and_then(Value::as_object);
    let may_be_null: Vec<Text> =
        properties.into_iter().flatten().filter(|(_, child)| nullable(child)).map(|(name, _)| name.clone()).collect();
    if map.get("additionalProperties").is_some_and(nullable) {
        map.remove("required");
    } else if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !may_be_null.iter().any(|other| *name == **other));
        if required.is_empty() {
            map.remove("required");
        }
    }
    children(schema, &mut simplify);
}
