//! What v1.36 says of an object with one field changed: the sentences of a real kube-apiserver, kept as data.
//!
//! `objects.jsonl` has one object of each kind, `cases.jsonl` a change and what is wrong then, field and sentence, in order. `REFUSED` names
//! another file of cases: all differences from it are printed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests: a panic is the finding")]

use api::codec::{Strictness, json as codec};
use api::features::Gates;
use api::json::{Value, json};
use api::{gated, judgement, kinds, schema, value};
use std::collections::BTreeMap;
use std::path::Path;

/// The gates of the server that was asked.
const GATES: &[&str] = &["GenericWorkload=true", "ClusterTrustBundle=true"];

/// What is wrong with an object that is about to be created, after all defaults.
fn wrong(text: &str) -> Vec<String> {
    let object: Value = text.parse().unwrap();
    let version = value::text(&object, "apiVersion").to_owned();
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = kinds::by_gvk(group, version, value::text(&object, "kind")).unwrap();
    let decoded = codec::decode(text.as_bytes(), kind.schema(), Strictness::Ignore);
    let mut object = match decoded {
        Ok(decoded) => decoded.value,
        Err(error) => return vec![error.to_string()],
    };
    if kind.namespaced {
        value::set(&mut object, "metadata.namespace", "default");
    }
    schema::defaults::apply(&mut object, kind.schema());
    kind.hooks.default(&mut object);
    let gates: Vec<String> = GATES.iter().map(|gate| (*gate).to_owned()).collect();
    gated::drop_disabled(kind.gated, &Gates::parse(&gates).unwrap(), &mut object, None);
    value::set(&mut object, "metadata.uid", "5b0c1f9e-2f5b-4c0e-9a55-0123456789ab");
    value::set(&mut object, "metadata.creationTimestamp", "2026-01-02T03:04:05Z");
    kind.hooks.prepare_create(&mut object);
    judgement::create(&object, kind).iter().map(ToString::to_string).collect()
}

/// The object with the value at a path put there, or what is there taken out.
fn changed(object: &Value, path: &[Value], new: Option<&Value>) -> Value {
    let mut out = object.clone();
    let Some((last, way)) = path.split_last() else { return out };
    let mut at = &mut out;
    for step in way {
        at = match step.as_str() {
            Some(name) => &mut at[name],
            None => &mut at[step.as_u64().unwrap() as usize],
        };
    }
    match (last.as_str(), new) {
        (Some(name), Some(new)) => at[name] = new.clone(),
        (Some(name), None) => drop(at.as_object_mut().unwrap().remove(name)),
        (None, Some(new)) => at[last.as_u64().unwrap() as usize] = new.clone(),
        (None, None) => drop(at.as_array_mut().unwrap().remove(last.as_u64().unwrap() as usize)),
    }
    out
}

#[test]
fn objects_are_refused_in_upstreams_words() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/refused");
    let objects = std::fs::read_to_string(folder.join("objects.jsonl")).unwrap();
    let objects: BTreeMap<String, Value> = objects
        .lines()
        .map(|line| line.parse().unwrap())
        .map(|object: Value| (value::text(&object, "kind").to_owned(), object))
        .collect();
    let all = std::env::var_os("REFUSED");
    let cases = std::fs::read_to_string(all.as_ref().map_or(folder.join("cases.jsonl"), Into::into)).unwrap();
    let (mut count, mut different) = (0, Vec::new());
    for line in cases.lines() {
        let case: Value = line.parse().unwrap();
        let base = value::text(&case, "base");
        let new = if value::flag(&case, "del") { None } else { Some(&case["value"]) };
        let object = changed(&objects[base], value::items(&case, "path"), new);
        let expected: Vec<String> =
            value::items(&case, "errors").iter().map(|error| error.as_str().unwrap().to_owned()).collect();
        let found = wrong(&object.to_string());
        count += 1;
        if found != expected {
            let told = json!({"base": base, "path": case["path"], "value": case["value"]});
            different.push(format!("{told}\n  UP {expected:#?}\n  IK {found:#?}"));
        }
    }
    assert!(different.is_empty(), "{} of {count}:\n{}", different.len(), different.join("\n"));
}
