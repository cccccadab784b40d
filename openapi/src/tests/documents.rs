//! Laws over the documents themselves, and their committed digests.

use crate::schemas::{Form, Sentences};
use crate::{discovery, document};
use api::json::{Text, Value};
use api::kinds::ALL;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// The value with sorted keys: digests do not depend on the order of a map.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let keys: BTreeSet<&str> = map.keys().map(Text::as_str).collect();
            let parts = keys.into_iter().map(|key| format!("{}:{}", Value::from(key), canonical(&map[key])));
            format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        _ => value.to_string(),
    }
}

fn documents() -> Vec<(String, Value)> {
    let (types, sentences) = (api::schema::native(), Sentences::of(ALL));
    let groups = discovery::groups(ALL);
    let mut out = vec![
        ("/api aggregated".to_owned(), discovery::aggregated(&groups, true, "v2")),
        ("/apis aggregated".to_owned(), discovery::aggregated(&groups, false, "v2")),
        ("/apis".to_owned(), discovery::group_list(&groups)),
        ("/openapi/v2".to_owned(), document::v2(ALL, types, &sentences, "v1.36.0")),
    ];
    let v3 = document::v3(ALL, types, &sentences, "v1.36.0");
    out.extend(v3.into_iter().map(|(path, value)| (format!("/openapi/v3/{path}"), value)));
    out
}

#[test]
fn digests_are_the_committed_ones() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/digests.txt");
    let mut lines = String::new();
    for (name, value) in documents() {
        let digest = Sha256::digest(canonical(&value));
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        lines.push_str(&format!("{digest} {name}\n"));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, &lines).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    let changed: Vec<&str> = lines.lines().filter(|line| !committed.lines().any(|other| other == *line)).collect();
    assert_eq!(lines, committed, "changed, UPDATE=1 accepts:\n{}", changed.join("\n"));
}

/// All references in a value.
fn references<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| references(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

#[test]
fn every_reference_is_defined_and_every_definition_is_referred_to() {
    for (name, value) in documents() {
        let (form, schemas) = match name.as_str() {
            "/openapi/v2" => (Form::V2, &value["definitions"]),
            _ if name.starts_with("/openapi/") => (Form::V3, &value["components"]["schemas"]),
            _ => continue,
        };
        let mut wanted = BTreeSet::new();
        references(&value, &mut wanted);
        let defined: BTreeSet<String> =
            schemas.as_object().into_iter().flatten().map(|(name, _)| form.reference(name)).collect();
        assert_eq!(defined.iter().map(String::as_str).collect::<BTreeSet<_>>(), wanted, "{name}");
    }
}

#[test]
fn names_of_operations_are_unique() {
    let documents = documents();
    let (_, v2) = documents.iter().find(|(name, _)| name == "/openapi/v2").unwrap();
    let mut seen = BTreeSet::new();
    for item in v2["paths"].as_object().unwrap().values() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters") {
            let id = operation["operationId"].as_str().unwrap();
            assert!(seen.insert(id), "{id} twice, at {method}");
        }
    }
    assert!(seen.len() > 10 * ALL.len());
}

#[test]
fn every_kind_has_sentences() {
    let sentences = Sentences::of(ALL);
    for kind in ALL {
        let def = kind.schema().def();
        assert!(sentences.of_type(&def.name).is_some(), "{kind:?}: no `describe`");
        // Of these upstream says nothing either.
        let silent = [("CertificateSigningRequest", "metadata")];
        let speaks = |field: &&api::schema::Field| !silent.contains(&(kind.kind, field.name.as_str()));
        for field in def.fields.iter().filter(speaks) {
            assert!(sentences.of_field(&def.name, &field.name).is_some(), "{kind:?}: nothing about {}", field.name);
        }
    }
}
