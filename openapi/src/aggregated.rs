//! OpenAPI v2 of other servers' versions of groups, merged into our document.
//!
//! Paths that are there stay; types of one name that differ get names of their own (`_v2`, `_v3`, …), as upstream's aggregator has
//! it. Shared parameters are written out, as they are in ours. Never asks anybody.

use api::json::{Map, Text, Value};
use api::value;
use std::collections::{BTreeMap, BTreeSet};

const DEFINITION: &str = "#/definitions/";
const PARAMETER: &str = "#/parameters/";
const IDENTITIES: &str = "x-kubernetes-group-version-kind";

/// Adds what another server says of the paths below `prefix` (`/apis/<group>/<version>/`).
pub fn add_v2(document: &mut Value, theirs: &Value, prefix: &str) {
    let parameters = theirs.get("parameters").and_then(Value::as_object);
    let mut before = BTreeSet::new();
    theirs.get("paths").into_iter().for_each(|paths| references(paths, &mut before));
    let definitions = theirs.get("definitions").and_then(Value::as_object);
    definitions.into_iter().flat_map(Map::values).for_each(|one| references(one, &mut before));

    let known = |path: &str| document.get("paths").is_some_and(|paths| paths.get(path).is_some());
    let mut paths = Map::new();
    for (path, item) in theirs.get("paths").and_then(Value::as_object).into_iter().flatten() {
        if path.starts_with(prefix) && !known(path) {
            let mut item = item.clone();
            written_out(&mut item, parameters);
            paths.insert(path.clone(), item);
        }
    }
    if paths.is_empty() {
        return;
    }
    let mut definitions = kept(definitions, &paths, &before);

    let held = document.get("definitions").and_then(Value::as_object);
    let names: BTreeMap<String, String> = definitions
        .iter()
        .filter_map(|(name, theirs)| {
            let ours = held?.get(name)?;
            if same(ours, theirs) {
                return None;
            }
            Some((name.to_string(), free(name, theirs, held, &definitions)))
        })
        .collect();
    if !names.is_empty() {
        paths.iter_mut().for_each(|(_, item)| rename(item, &names));
        definitions = definitions
            .into_iter()
            .map(|(name, mut definition)| {
                rename(&mut definition, &names);
                (names.get(name.as_str()).map_or(name, Text::from), definition)
            })
            .collect();
    }
    let all = value::map_mut(document, "definitions");
    for (name, theirs) in definitions {
        match all.get_mut(&name) {
            Some(ours) => identities(ours, &theirs),
            None => drop(all.insert(name, theirs)),
        }
    }
    value::map_mut(document, "paths").extend(paths);
}

/// The definitions that the paths reach, and those that nothing ever reached.
fn kept(definitions: Option<&Map>, paths: &Map, before: &BTreeSet<String>) -> Map {
    let Some(definitions) = definitions else { return Map::new() };
    let mut reached = BTreeSet::new();
    paths.iter().for_each(|(_, item)| references(item, &mut reached));
    reached.extend(definitions.keys().filter(|name| !before.contains(name.as_str())).map(Text::to_string));
    let mut waiting: Vec<String> = reached.iter().cloned().collect();
    while let Some(name) = waiting.pop() {
        let mut next = BTreeSet::new();
        definitions.get(&name).into_iter().for_each(|one| references(one, &mut next));
        waiting.extend(next.into_iter().filter(|name| reached.insert(name.clone())));
    }
    definitions
        .iter()
        .filter(|(name, _)| reached.contains(name.as_str()))
        .map(|(name, definition)| (name.clone(), definition.clone()))
        .collect()
}

/// The names of the definitions that a piece of a document refers to.
fn references(piece: &Value, out: &mut BTreeSet<String>) {
    let mut waiting = vec![piece];
    while let Some(piece) = waiting.pop() {
        match piece {
            Value::Object(map) => {
                let name = map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(DEFINITION));
                out.extend(name.map(str::to_owned));
                waiting.extend(map.iter().map(|(_, value)| value));
            }
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
}

fn rename(piece: &mut Value, names: &BTreeMap<String, String>) {
    match piece {
        Value::Object(map) => {
            let new = map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(DEFINITION));
            let new = new.and_then(|name| names.get(name)).map(|name| format!("{DEFINITION}{name}"));
            if let Some(new) = new {
                map.insert("$ref", new.into());
            }
            map.iter_mut().for_each(|(_, value)| rename(value, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        _ => {}
    }
}

/// Replaces what refers to a shared parameter by the parameter, in a path and in its operations.
fn written_out(item: &mut Value, shared: Option<&Map>) {
    let Some(map) = item.as_object_mut() else { return };
    for (key, part) in map.iter_mut() {
        let list = if key == "parameters" { Some(part) } else { part.get_mut("parameters") };
        for parameter in list.and_then(Value::as_array_mut).into_iter().flatten() {
            let name = parameter.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(PARAMETER));
            if let Some(whole) = name.and_then(|name| shared?.get(name)) {
                *parameter = whole.clone();
            }
        }
    }
}

/// Two definitions say the same, whatever kinds they are of.
fn same(ours: &Value, theirs: &Value) -> bool {
    let without = |value: &Value| {
        let mut value = value.clone();
        value::remove(&mut value, IDENTITIES);
        value
    };
    without(ours) == without(theirs)
}

/// A name for a definition that differs from ours of the same name: that of one of ours which does not, or one that nobody has.
fn free(name: &str, theirs: &Value, held: Option<&Map>, own: &Map) -> String {
    let held = |name: &str| held.and_then(|held| held.get(name));
    let candidates = || (2_u32..).map(|number| format!("{name}_v{number}"));
    let mut taken = candidates().take_while(|name| held(name).is_some());
    if let Some(equal) = taken.find(|name| held(name).is_some_and(|ours| same(ours, theirs))) {
        return equal;
    }
    let mut names = candidates().filter(|name| held(name).is_none() && own.get(name).is_none());
    names.next().unwrap_or_else(|| name.to_owned())
}

/// Adds the kinds that another definition is of.
fn identities(ours: &mut Value, theirs: &Value) {
    let identity = |value: &Value| {
        let text = |field: &str| value::text(value, field).to_owned();
        format!("{}/{}.{}", text("group"), text("version"), text("kind"))
    };
    let mut all = value::items(ours, IDENTITIES).to_vec();
    let new: Vec<Value> = value::items(theirs, IDENTITIES)
        .iter()
        .filter(|one| all.iter().all(|known| identity(known) != identity(one)))
        .cloned()
        .collect();
    if new.is_empty() {
        return;
    }
    all.extend(new);
    all.sort_by_key(identity);
    value::set(ours, IDENTITIES, all);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

    use super::*;
    use api::json::json;

    fn refers(name: &str) -> Value {
        json!({"get": {"responses": {"200": {"schema": {"$ref": format!("{DEFINITION}{name}")}}}}})
    }

    fn kinds(names: &[&str]) -> Value {
        names.iter().map(|name| json!({"group": "g", "version": "v1", "kind": name})).collect()
    }

    #[test]
    fn what_others_serve_is_added() {
        let mut document = json!({
            "swagger": "2.0",
            "paths": {"/apis/g/v1/ours": refers("Same")},
            "definitions": {
                "Same": {"type": "object", IDENTITIES: kinds(&["C"])},
                "Meta": {"description": "ours"},
                "Meta_v2": {"description": "a third one's"},
                "Options": {"description": "ours"},
            },
        });
        let ours = document.clone();
        let mut item = refers("Thing");
        item["parameters"] = json!([{"$ref": "#/parameters/pretty-1"}, {"name": "own", "in": "query"}]);
        item["get"]["parameters"] = json!([{"$ref": "#/parameters/pretty-1"}, {"$ref": "#/parameters/none"}]);
        let pretty = json!({"name": "pretty", "in": "query"});
        let theirs = json!({
            "swagger": "2.0",
            "parameters": {"pretty-1": pretty},
            "paths": {
                "/apis/g/v1/things": item,
                "/apis/g/v1/ours": refers("Lost"),
                "/apis/g/v10/things": refers("Lost"),
                "/apis/g/v2/things": refers("Lost"),
                "/version": refers("Lost"),
            },
            "definitions": {
                "Thing": {"properties": {"metadata": {"$ref": "#/definitions/Meta"}, "same": {"$ref": "#/definitions/Same"},
                    "$ref": {"type": "string"}}},
                "Meta": {"description": "theirs", "properties": {"options": {"$ref": "#/definitions/Options"}}},
                "Meta_v3": {"description": "never referred to"},
                "Options": {"description": "ours"},
                "Same": {"type": "object", IDENTITIES: kinds(&["A", "C"])},
                "Lost": {"properties": {"more": {"$ref": "#/definitions/LostToo"}}},
                "LostToo": {},
            },
        });
        add_v2(&mut document, &theirs, "/apis/g/v1/");
        let paths: Vec<&str> = document["paths"].as_object().unwrap().iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/apis/g/v1/ours", "/apis/g/v1/things"]);
        assert_eq!(document["paths"]["/apis/g/v1/ours"], ours["paths"]["/apis/g/v1/ours"]);
        let things = &document["paths"]["/apis/g/v1/things"];
        assert_eq!(things["parameters"], json!([pretty, {"name": "own", "in": "query"}]));
        assert_eq!(things["get"]["parameters"], json!([pretty, {"$ref": "#/parameters/none"}]));
        let definitions = document["definitions"].as_object().unwrap();
        let names: BTreeSet<&str> = definitions.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["Meta", "Meta_v2", "Meta_v3", "Meta_v4", "Options", "Same", "Thing"];
        assert_eq!(names, BTreeSet::from(expected));
        assert_eq!(document["definitions"]["Thing"]["properties"]["metadata"]["$ref"], "#/definitions/Meta_v4");
        assert_eq!(document["definitions"]["Meta_v4"]["description"], "theirs");
        assert_eq!(document["definitions"]["Same"][IDENTITIES], kinds(&["A", "C"]));
        // Once more changes nothing, and another server with the same type shares it.
        let merged = document.clone();
        add_v2(&mut document, &theirs, "/apis/g/v1/");
        assert_eq!(document, merged);
        add_v2(&mut document, &theirs, "/apis/g/v10/");
        assert!(document["definitions"].get("LostToo").is_some());
        let other = json!({"paths": {"/apis/h/v1/x": refers("Meta")}, "definitions": {"Meta": {"description": "a third one's"}}});
        add_v2(&mut document, &other, "/apis/h/v1/");
        assert_eq!(document["paths"]["/apis/h/v1/x"], refers("Meta_v2"));
    }
}
