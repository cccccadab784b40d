//! OpenAPI documents: the paths of the kinds, with the schemas that they reach.
//!
//! One document per group and version in v3, one for everything in v2. Derived from the table of kinds alone.

use crate::discovery::groups;
use crate::operation::{Route, Writer};
use crate::paths;
use crate::schemas::{Form, Scope, Sentences, closure};
use api::json::{Map, Value, json};
use api::kind::Kind;
use api::schema::Types;
use std::collections::{BTreeMap, BTreeSet};

/// Routes by the path of their v3 document below `/openapi/v3/`: `api/v1`, `apis/apps`, `version`.
fn routes(kinds: &[&'static Kind], types: &Types) -> BTreeMap<String, Vec<Route>> {
    let mut out: BTreeMap<String, Vec<Route>> = BTreeMap::new();
    let mut add = |path: &str, routes: Vec<Route>| {
        out.entry(path.trim_matches('/').to_owned()).or_default().extend(routes);
    };
    for (path, route) in paths::others() {
        add(path, vec![route]);
    }
    for group in groups(kinds) {
        let route = paths::of_group(group.name);
        add(&route.path.clone(), vec![route]);
        for (version, members) in &group.versions {
            let path = paths::root(group.name, version);
            add(&path, vec![paths::of_version(group.name, version)]);
            for kind in members.iter().copied() {
                add(&path, paths::of_kind(kind, types));
            }
        }
    }
    out
}

/// What a bearer of a token sends.
fn bearer() -> Value {
    json!({"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header",
        "description": "Bearer Token authentication"}})
}

/// The v3 documents by their path below `/openapi/v3/`: `api/v1`, `apis/apps/v1`. `version` is the server's.
#[must_use]
pub fn v3(kinds: &[&'static Kind], types: &Types, sentences: &Sentences, version: &str) -> Vec<(String, Value)> {
    let document = |path: &str, routes: Vec<Route>| {
        let mut writer = Writer { form: Form::V3, reached: BTreeSet::new() };
        let paths: Map = routes.iter().map(|route| (route.path.clone(), writer.route(route))).collect();
        let mut names = path.split('/').skip(1);
        let (group, served) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        let schemas = closure(types, writer.reached, sentences, Scope::V3(group, served));
        let mut out = json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": version},
            "paths": paths,
            "components": {"securitySchemes": bearer()},
        });
        if !schemas.is_empty() {
            api::value::set(&mut out, "components.schemas", schemas);
        }
        out
    };
    routes(kinds, types)
        .into_iter()
        .map(|(path, routes)| {
            let value = document(&path, routes);
            (path, value)
        })
        .collect()
}

/// The v2 document. `version` is the server's.
#[must_use]
pub fn v2(kinds: &[&'static Kind], types: &Types, sentences: &Sentences, version: &str) -> Value {
    let mut writer = Writer { form: Form::V2, reached: BTreeSet::new() };
    let routes = routes(kinds, types);
    let paths: Map = routes.values().flatten().map(|route| (route.path.clone(), writer.route(route))).collect();
    let definitions = closure(types, writer.reached, sentences, Scope::V2);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": bearer(),
        "security": [{"BearerToken": []}],
    })
}
