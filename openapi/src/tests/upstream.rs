//! The documents against those of Kubernetes v1.36, where the folder of its facts is at hand.
//!
//! What still differs is listed with its reason in `testdata/differences.txt`; `UPDATE=1` shrinks the list and never
//! adds to it.

use crate::schemas::Sentences;
use crate::{discovery, document};
use api::json::Value;
use api::kind::Kind;
use api::kinds::ALL;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The folder of upstream's facts: `IRONKEEL_ORACLE`, else beside the project. Says so when it is absent.
fn oracle() -> Option<PathBuf> {
    let root = std::env::var_os("IRONKEEL_ORACLE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle")), PathBuf::from);
    if !root.is_dir() {
        eprintln!("left out: no folder of upstream facts at {}", root.display());
        return None;
    }
    Some(root)
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    api::json::from_str(&text).unwrap()
}

/// Differences by class, each with one example.
#[derive(Default)]
struct Differences(BTreeMap<String, String>);

impl Differences {
    /// Compares two sets of facts; `class` makes the class of a difference out of a fact.
    fn compare(
        &mut self,
        form: &str,
        at: &str,
        (ours, theirs): (&BTreeSet<String>, &BTreeSet<String>),
        class: impl Fn(&str) -> String,
    ) {
        for (who, more, fewer) in [("ours", ours, theirs), ("theirs", theirs, ours)] {
            for fact in more.difference(fewer) {
                self.add(format!("{form} {who} {}", class(fact)), at);
            }
        }
    }

    fn add(&mut self, class: String, at: &str) {
        self.0.entry(class).or_insert_with(|| at.to_owned());
    }
}

/// What is comparable in a schema, one line for each fact.
fn schema_facts(schema: &Value) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let object = schema.as_object().unwrap();
    for (key, value) in object.iter().filter(|(key, _)| !matches!(key.as_str(), "description" | "properties")) {
        let value = if key == "required" { sorted(value) } else { value.clone() };
        match key.as_str() {
            "x-kubernetes-group-version-kind" => {
                for gvk in value.as_array().unwrap() {
                    let text = |key: &str| api::value::text(gvk, key).to_owned();
                    out.insert(format!("gvk {}/{} {}", text("group"), text("version"), text("kind")));
                }
            }
            _ => {
                out.insert(format!("{key}={value}"));
            }
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        out.insert(format!("property {name}"));
        for (key, value) in property.as_object().unwrap() {
            match key.as_str() {
                "description" => {}
                "enum" => {
                    out.insert("enum".to_owned());
                }
                "items" if value.get("enum").is_some() => {
                    let mut value = value.clone();
                    value.as_object_mut().unwrap().remove("enum");
                    out.insert("enum".to_owned());
                    out.insert(format!("{name}.{key}={value}"));
                }
                _ => {
                    out.insert(format!("{name}.{key}={value}"));
                }
            }
        }
    }
    out
}

fn sorted(list: &Value) -> Value {
    let mut items = list.as_array().unwrap().clone();
    items.sort_by_key(Value::to_string);
    items.into()
}

/// What is comparable in a path item, one line for each fact.
fn path_facts(document: &Value, item: &Value) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let resolve = |parameter: &Value| match parameter["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap().clone(),
        None => parameter.clone(),
    };
    let parameters = |out: &mut BTreeSet<String>, at: &str, list: &Value| {
        for parameter in list.as_array().into_iter().flatten().map(resolve) {
            let mut parameter = parameter;
            parameter.as_object_mut().unwrap().remove("description");
            let name = parameter.as_object_mut().unwrap().remove("name").unwrap();
            out.insert(format!("{at}|parameter {} {parameter}", name.as_str().unwrap()));
        }
    };
    for (method, operation) in item.as_object().unwrap() {
        if method == "parameters" {
            parameters(&mut out, "shared ", operation);
            continue;
        }
        out.insert(format!("{method} |method"));
        parameters(&mut out, &format!("{method} "), &operation["parameters"]);
        for key in ["operationId", "tags", "schemes", "x-kubernetes-action", "x-kubernetes-group-version-kind"] {
            out.insert(format!("{method} {key} {}", operation[key]));
        }
        for key in ["consumes", "produces"] {
            let media = operation[key].as_array().into_iter().flatten();
            out.extend(media.map(|media| format!("{method} |{key} {media}")));
        }
        let bodies = [("request", &operation["requestBody"])];
        let answers = operation["responses"].as_object().unwrap();
        for (name, body) in bodies.into_iter().chain(answers.iter().map(|(code, answer)| (code.as_str(), answer))) {
            out.insert(format!("{method} {name} schema {}", body["schema"]));
            out.insert(format!("{method} {name} required {}", body["required"]));
            for (media, content) in body["content"].as_object().into_iter().flatten() {
                out.insert(format!("{method} {name} |media {media}"));
                // Which type is asked once, so that a medium more is one difference.
                out.insert(format!("{method} {name} content {}", content["schema"]));
            }
        }
    }
    out
}

/// The path is one of a served kind or of none.
fn served(path: &str, kinds: &[&'static Kind]) -> bool {
    let plain = ["/api/", "/apis/", "/version/", "/openid/v1/jwks/", "/.well-known/openid-configuration/"];
    let groups = discovery::groups(kinds);
    let of_group = groups.iter().any(|group| path == format!("/apis/{}/", group.name));
    let of_kind = kinds.iter().any(|kind| {
        let root =
            if kind.group.is_empty() { "/api/v1".into() } else { format!("/apis/{}/{}", kind.group, kind.version) };
        // `/apis/x/v1` is no prefix of `/apis/x/v1beta1/y`.
        let Some(rest) = path.strip_prefix(&root).filter(|rest| rest.starts_with('/')) else { return false };
        let rest = rest.strip_prefix("/watch").unwrap_or(rest);
        let rest = rest.strip_prefix("/namespaces/{namespace}").unwrap_or(rest);
        rest == "/" || rest.split('/').nth(1) == Some(kind.plural)
    });
    plain.contains(&path) || of_group || of_kind
}

fn compare(form: &str, ours: &Value, theirs: &Value, schemas: &str, out: &mut Differences) {
    let none = Value::Object(api::json::Map::new());
    let their_schemas = theirs.pointer(schemas).unwrap_or(&none);
    for (name, schema) in ours.pointer(schemas).unwrap_or(&none).as_object().unwrap() {
        let Some(other) = their_schemas.get(name) else {
            out.add(format!("{form} ours schema {name}"), form);
            continue;
        };
        let (ours, theirs) = (schema_facts(schema), schema_facts(other));
        out.compare(form, name, (&ours, &theirs), |fact| match fact.split_once('=') {
            _ if fact == "enum" => fact.to_owned(),
            Some((key, _)) if key == "x-kubernetes-unions" => key.to_owned(),
            _ => format!("{name} {fact}"),
        });
    }
    let (our_paths, their_paths) = (ours["paths"].as_object().unwrap(), theirs["paths"].as_object().unwrap());
    for (path, item) in our_paths {
        let Some(other) = their_paths.get(path) else {
            out.add(format!("{form} ours path {path}"), path);
            continue;
        };
        let (our_facts, their_facts) = (path_facts(ours, item), path_facts(theirs, other));
        // What stands after the bar is the same on many paths and is listed once.
        out.compare(form, path, (&our_facts, &their_facts), |fact| match fact.split_once('|') {
            Some((_, class)) => class.to_owned(),
            None => format!("{path} {fact}"),
        });
    }
    for path in their_paths.keys().filter(|path| served(path, ALL) && !our_paths.contains_key(path)) {
        out.add(format!("{form} theirs path {path}"), path);
    }
}

#[test]
fn documents_differ_from_upstreams_only_as_listed() {
    let Some(root) = oracle() else { return };
    let sentences = Sentences::of(ALL);
    let types = api::schema::native();
    let mut found = Differences::default();
    for (path, ours) in document::v3(ALL, types, &sentences, "v1.36.0") {
        let file = root.join(format!("openapi/v3/{}_openapi.json", path.replace('/', "__")));
        if file.is_file() {
            compare("v3", &ours, &read(&file), "/components/schemas", &mut found);
        } else {
            found.add(format!("v3 ours document {path}"), &path);
        }
    }
    let v2 = document::v2(ALL, types, &sentences, "v1.36.0");
    compare("v2", &v2, &read(&root.join("openapi/swagger.json")), "/definitions", &mut found);

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/differences.txt");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let known: BTreeSet<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let unlisted = found.0.iter().filter(|(class, _)| !known.contains(class.as_str()));
    let unlisted: Vec<String> = unlisted.map(|(class, at)| format!("{class}    e.g. at {at}")).collect();
    assert!(unlisted.is_empty(), "{} differences are not listed:\n{}", unlisted.len(), unlisted.join("\n"));
    if known.iter().any(|class| !found.0.contains_key(*class)) {
        assert!(std::env::var_os("UPDATE").is_some(), "{file} lists differences that are gone: UPDATE=1 removes them");
        let keep = |line: &&str| !known.contains(line) || found.0.contains_key(*line);
        let kept: Vec<&str> = text.lines().filter(keep).collect();
        std::fs::write(file, kept.join("\n") + "\n").unwrap();
    }
}

#[test]
fn aggregated_discovery_is_upstreams() {
    let Some(root) = oracle() else { return };
    let theirs = read(&root.join("discovery/aggregated_v2.json"));
    let find = |list: &Value, key: &str, name: &str| {
        list.as_array().unwrap().iter().find(|entry| api::value::text(entry, key) == name).cloned()
    };
    let ours = discovery::aggregated(&discovery::groups(ALL), false, "v2");
    assert_eq!((&ours["kind"], &ours["apiVersion"]), (&theirs["kind"], &theirs["apiVersion"]));
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|g| api::value::text(g, "metadata.name").to_owned()).collect()
    };
    let (served, all) = (names(&ours), names(&theirs));
    assert_eq!(served, all.into_iter().filter(|name| served.contains(name)).collect::<Vec<_>>(), "order of groups");
    for group in ours["items"].as_array().unwrap() {
        let name = api::value::text(group, "metadata.name");
        let other = find(&theirs["items"], "metadata.name", name).unwrap_or_else(|| panic!("no group {name}"));
        for version in group["versions"].as_array().unwrap() {
            let number = api::value::text(version, "version");
            let other = find(&other["versions"], "version", number).unwrap_or_else(|| panic!("no {name}/{number}"));
            assert_eq!(version["freshness"], other["freshness"]);
            for resource in version["resources"].as_array().unwrap() {
                let plural = api::value::text(resource, "resource");
                let other = find(&other["resources"], "resource", plural).unwrap_or_else(|| panic!("no {plural}"));
                assert_eq!(resource, &other, "{name}/{number} {plural}");
            }
        }
    }
}

#[test]
fn plain_discovery_is_upstreams() {
    let Some(root) = oracle() else { return };
    for group in discovery::groups(ALL) {
        for (version, kinds) in &group.versions {
            let root = root.join("discovery");
            let file = match group.name {
                "" => root.join(format!("api__{version}.json")),
                name => root.join(format!("apis__{name}__{version}.json")),
            };
            let (ours, theirs) = (discovery::resource_list(group.name, version, kinds), read(&file));
            for key in ["kind", "apiVersion", "groupVersion"] {
                assert_eq!(ours[key], theirs[key], "{key} of {}/{version}", group.name);
            }
            for resource in ours["resources"].as_array().unwrap() {
                let name = api::value::text(resource, "name");
                let other = theirs["resources"].as_array().unwrap().iter().find(|other| other["name"] == name);
                assert_eq!(Some(resource), other, "{}/{version}", group.name);
            }
        }
        if !group.name.is_empty() {
            let (ours, theirs) =
                (discovery::single_group(&group), read(&root.join(format!("discovery/apis__{}.json", group.name))));
            for key in ["kind", "apiVersion", "name", "preferredVersion"] {
                assert_eq!(ours[key], theirs[key], "{key} of {}", group.name);
            }
        }
    }
}
