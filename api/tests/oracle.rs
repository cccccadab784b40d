//! Compares schema and codecs with the facts of Kubernetes v1.36, where the folder that holds them is there.
#![allow(clippy::unwrap_used)] // Test helpers: a panic is the failure.

use api::codec::{Strictness, json, protobuf, yaml};
use api::json::{Text, Value};
use api::schema::{ListKind, MapKind, SchemaRef, Shape, native};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn oracle() -> Option<PathBuf> {
    let path = std::env::var_os("IRONKEEL_ORACLE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle")), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("left out: no oracle at {}; set IRONKEEL_ORACLE", path.display());
    None
}

/// Fixtures that do not round-trip, and why. May only shrink.
const DIFFERENT: &[(&str, &str)] = &[];

#[test]
fn every_wire_fixture_round_trips() {
    let Some(oracle) = oracle() else { return };
    let mut names: Vec<String> = std::fs::read_dir(oracle.join("wire"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    let mut wrong = BTreeSet::new();
    let mut report = String::new();
    let mut checked = 0;
    for name in &names {
        let read = |ending: &str| std::fs::read(oracle.join("wire").join(format!("{name}.{ending}"))).unwrap();
        let text = read("json");
        let free: Value = api::json::from_slice(&text).unwrap();
        let (version, kind) = (free["apiVersion"].as_str(), free["kind"].as_str());
        let fallback = name.rsplit('.').next().unwrap();
        let version = version.unwrap_or("v1");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let Some(schema) = native().of_gvk(group, version, kind.unwrap_or(fallback)) else {
            wrong.insert(name.as_str());
            report += &format!("{name}: no type\n");
            continue;
        };
        checked += 1;
        for problem in problems(&text, &read("yaml"), &read("pb"), schema) {
            wrong.insert(name.as_str());
            report += &format!("{name}: {problem}\n");
        }
    }
    let allowed: BTreeSet<&str> = DIFFERENT.iter().map(|(name, _)| *name).collect();
    assert_eq!(wrong, allowed, "{report}");
    assert!(checked > 180);
}

fn problems(text: &[u8], yaml_text: &[u8], pb: &[u8], schema: SchemaRef<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let mut same = |what: &str, got: &[u8], want: &[u8]| {
        if got != want {
            let at = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or(got.len().min(want.len()));
            let near = |bytes: &[u8]| {
                String::from_utf8_lossy(bytes).chars().skip(at.saturating_sub(40)).take(80).collect::<String>()
            };
            out.push(format!("{what} differs at {at}:\n  got  {:?}\n  want {:?}", near(got), near(want)));
        }
    };
    let value = match json::decode(text, schema, Strictness::Strict) {
        Ok(decoded) => decoded.value,
        Err(error) => return vec![format!("json: {error}")],
    };
    same("json", &json::encode(&value, schema), &compact(text));
    let mut settled = value.clone();
    json::settle(&mut settled, schema);
    let read_back: Value = api::json::from_slice(&json::encode(&value, schema)).unwrap();
    same("settled value", settled.to_string().as_bytes(), read_back.to_string().as_bytes());
    match yaml::decode(yaml_text, schema, Strictness::Strict) {
        Ok(decoded) => same("yaml value", decoded.value.to_string().as_bytes(), value.to_string().as_bytes()),
        Err(error) => same("yaml", error.to_string().as_bytes(), b""),
    }
    same("yaml", &yaml::encode(&value, schema), yaml_text);
    match protobuf::decode(pb, schema, Strictness::Strict) {
        Ok(decoded) => {
            let mut from_pb = decoded.value;
            // A type without TypeMeta has its kind in the envelope alone.
            if schema.def().field("kind").is_none() {
                from_pb.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
            }
            same("protobuf value", from_pb.to_string().as_bytes(), value.to_string().as_bytes());
        }
        Err(error) => same("protobuf", error.to_string().as_bytes(), b""),
    }
    same("protobuf", &protobuf::encode(&value, schema).unwrap_or_default(), pb);
    out
}

/// Takes the white space between tokens out.
fn compact(text: &[u8]) -> Vec<u8> {
    let (mut quoted, mut escaped) = (false, false);
    let keep = |byte: &u8| {
        if quoted {
            quoted = escaped || *byte != b'"';
            escaped = *byte == b'\\' && !escaped;
            return true;
        }
        quoted = *byte == b'"';
        !byte.is_ascii_whitespace()
    };
    let mut keep = keep;
    text.iter().copied().filter(|byte| keep(byte)).collect()
}

#[test]
fn facts_are_those_of_openapi() {
    let Some(oracle) = oracle() else { return };
    let swagger: Value = api::json::from_slice(&std::fs::read(oracle.join("openapi/swagger.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut types = 0;
    for (name, definition) in swagger["definitions"].as_object().unwrap() {
        let Some(schema) = native().schema(name) else {
            // Types that are scalars or free JSON here.
            if definition.get("properties").is_some() {
                wrong.push(format!("{name}: missing"));
            }
            continue;
        };
        types += 1;
        compare_type(name, definition, schema, &mut wrong);
    }
    assert!(types > 700, "{types}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn compare_type(name: &str, definition: &Value, schema: SchemaRef<'_>, wrong: &mut Vec<String>) {
    let def = schema.def();
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let mut check = |what: &str, got: &dyn std::fmt::Debug, want: &dyn std::fmt::Debug| {
        let (got, want) = (format!("{got:?}"), format!("{want:?}"));
        if got != want {
            wrong.push(format!("{name}: {what} is {got}, not {want}"));
        }
    };
    let empty = api::json::Map::new();
    let properties = definition["properties"].as_object().unwrap_or(&empty);
    check(
        "fields",
        &def.fields.iter().map(|f| f.name.as_str()).collect::<BTreeSet<_>>(),
        &properties.keys().map(Text::as_str).collect::<BTreeSet<_>>(),
    );
    let required: BTreeSet<String> = def.fields.iter().filter(|f| f.required).map(|f| f.name.to_string()).collect();
    check("required", &required, &names(&definition["required"]));
    check("atomic", &def.atomic, &(definition["x-kubernetes-map-type"] == "atomic"));
    for (key, property) in properties {
        let Some(field) = def.field(key) else { continue };
        let list = match &field.shape {
            Shape::List { kind: ListKind::Atomic, .. } => "atomic".to_owned(),
            Shape::List { kind: ListKind::Set, .. } => "set".to_owned(),
            Shape::List { kind: ListKind::Map(keys), .. } => format!("map {}", keys.join(",")),
            // Bytes are a list in Go.
            Shape::Bytes if field.atomic => "atomic".to_owned(),
            _ => String::new(),
        };
        let wanted_list = match (property["type"].as_str(), property["x-kubernetes-list-type"].as_str()) {
            (Some("array"), Some("map")) => {
                let keys = property["x-kubernetes-list-map-keys"].as_array().unwrap();
                format!("map {}", keys.iter().map(|k| k.as_str().unwrap()).collect::<Vec<_>>().join(","))
            }
            (Some("array"), kind) => kind.unwrap_or("atomic").to_owned(),
            (_, kind) => kind.unwrap_or_default().to_owned(),
        };
        check(&format!("{key} list type"), &list, &wanted_list);
        let atomic = field.atomic && field.shape != Shape::Bytes
            || matches!(field.shape, Shape::Map { kind: MapKind::Atomic, .. });
        check(&format!("{key} map type"), &atomic, &(property["x-kubernetes-map-type"] == "atomic"));
        let strategy = property["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
        check(&format!("{key} merge"), &field.patch.merge, &strategy.split(',').any(|s| s == "merge"));
        check(&format!("{key} retainKeys"), &field.patch.retain_keys, &strategy.split(',').any(|s| s == "retainKeys"));
        let merge_key = property["x-kubernetes-patch-merge-key"].as_str();
        check(&format!("{key} merge key"), &field.patch.merge_key.as_deref(), &merge_key);
    }
}

#[test]
fn constant_defaults_are_those_of_openapi() {
    let Some(oracle) = oracle() else { return };
    let mut wrong = Vec::new();
    let mut found = 0;
    for file in std::fs::read_dir(oracle.join("openapi/v3")).unwrap() {
        let document: Value = api::json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        for (name, definition) in document["components"]["schemas"].as_object().into_iter().flatten() {
            let Some(schema) = native().schema(name) else { continue };
            for (key, property) in definition["properties"].as_object().into_iter().flatten() {
                let ours = schema.def().field(key).and_then(|field| field.default.as_ref());
                let theirs = property.get("default");
                // OpenAPI states Go's zero values as defaults too.
                let zero = theirs.is_some_and(|v| matches!(v.to_string().as_str(), "{}" | "\"\"" | "0" | "false"));
                found += usize::from(ours.is_some());
                if ours != theirs && !(ours.is_none() && zero) {
                    wrong.push(format!("{name}.{key}: {ours:?}, not {theirs:?}"));
                }
            }
        }
    }
    assert!(found > 20, "{found}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
