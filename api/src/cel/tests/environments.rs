//! The environments of admission and of custom resources.

use crate::cel::lib::Authorization;
use crate::cel::lib::authorizer::{Authorizer, Decision, On, Question, ResourceQuestion};
use crate::cel::{Activation, Budget, Env, Extras, Lazy, Map, Outcome, Type, Value, openapi};
use crate::json::json;
use crate::kinds::shared::admission_expressions::{Environment, Gives};

#[test]
fn what_policies_see() {
    let plain = Environment::new(false, false);
    let mutating = Environment::new(true, true);
    let mut variables = plain.clone();
    variables.add("replicas", Type::Int);
    for (environment, source, wanted) in [
        (&plain, "object.spec.replicas > 1 && request.namespace == 'a' && request.kind.kind == 'Pod'", ""),
        (&plain, "namespaceObject.metadata.namespace == 'b' && oldObject == null", ""),
        (&plain, "request.userInfo.groups.exists(g, g == 'x') && 'y' in request.userInfo.extra", ""),
        (&plain, "authorizer.requestResource.check('get').allowed()", ""),
        (&plain, "authorizer.group('').resource('pods').check('list').allowed()", ""),
        (&mutating, "params.x == 1", ""),
        (&variables, "variables.replicas < 5", ""),
        (&plain, "1", "must evaluate to bool but got int"),
        (&plain, "request.time == ''", "undefined field 'time'"),
        (&plain, "params.x == 1", "undeclared reference to 'params'"),
        (&variables, "variables.other", "undefined field 'other'"),
        (&variables, "variables.replicas == 'a'", "no matching overload"),
        (&plain, "Object{} == null", "undeclared reference to 'Object'"),
    ] {
        let said = environment.compile(source, Gives::Bool).map_or_else(|said| said, |_| String::new());
        assert!(said.contains(wanted) && said.is_empty() == wanted.is_empty(), "{source}: {said}");
    }
    let patch = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]";
    assert!(mutating.compile(patch, Gives::Patch).is_ok());
    assert_eq!(
        mutating.compile("Object{spec: Object.spec{replicas: 1}}", Gives::Patch).unwrap_err(),
        "must evaluate to list(JSONPatch) but got Object"
    );
}

struct OnlyPods;

impl Authorizer for OnlyPods {
    fn decide(&self, question: &Question) -> Decision {
        let allowed = match &question.on {
            On::Resource(resource) => resource.resource == "pods" && question.verb == "get",
            On::Path(path) => path == "/healthz" && question.service_account.is_none(),
        };
        Decision { allowed, reason: "because".to_owned(), error: None }
    }
}

struct Doubled;

impl Lazy for Doubled {
    fn value(&self, name: &str) -> Option<Outcome<Value<'_>>> {
        (name == "doubled").then_some(Ok(Value::Int(14)))
    }
}

#[test]
fn what_callers_supply() {
    let mut environment = Environment::new(false, false);
    environment.add("doubled", Type::Int);
    let resource = ResourceQuestion { resource: "pods".to_owned(), ..ResourceQuestion::default() };
    let activation = Activation::default()
        .with("authorizer", Authorization::authorizer(&OnlyPods))
        .with("authorizer.requestResource", Authorization::resource(&OnlyPods, resource))
        .with("variables", Value::Map(Map::Lazy(&Doubled)));
    for (source, wanted) in [
        ("authorizer.requestResource.check('get').allowed()", true),
        ("authorizer.requestResource.check('delete').allowed()", false),
        ("authorizer.group('').resource('pods').namespace('n').name('x').check('get').reason() == 'because'", true),
        ("authorizer.path('/healthz').check('get').allowed()", true),
        ("authorizer.serviceAccount('n', 'a').path('/healthz').check('get').allowed()", false),
        ("authorizer.path('/healthz').check('get').errored()", false),
        ("variables.doubled == 14", true),
    ] {
        let program = environment.compile(source, Gives::Bool).unwrap();
        let value = program.evaluate(&activation, &mut Budget::admission()).unwrap();
        assert_eq!(value.to_json().unwrap(), json!(wanted), "{source}");
    }
    // Three questions are more than one expression may ask.
    let many = "authorizer.path('/a').check('get').allowed() ".repeat(3).trim().replace(") a", ") || a");
    let outcome = environment.compile(&many, Gives::Bool).unwrap().evaluate(&activation, &mut Budget::admission());
    assert_eq!(outcome.unwrap_err().to_string(), "operation cancelled: actual cost limit exceeded");
}

#[test]
fn custom_resources() {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {
        "type": "object",
        "properties": {
            "replicas": {"type": "integer"},
            "name": {"type": "string", "maxLength": 10},
            "kind": {"type": "string", "enum": ["a", "bcd"]},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}},
            "tags": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "port": {"x-kubernetes-int-or-string": true},
            "labels": {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "string"}},
            "until": {"type": "string", "format": "date-time"},
            "note": {"type": "string", "nullable": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
        }
    }}});
    let decl = openapi::of_schema(&schema, true, "selfType").unwrap();
    let env = Env::kubernetes(Extras::NONE).with("self", decl.clone()).with("oldSelf", decl.clone());
    let object = |ports: crate::json::Value, tags: crate::json::Value| {
        json!({"kind": "X", "apiVersion": "v1", "metadata": {"name": "n"}, "spec": {
            "replicas": 2, "name": "web", "ports": ports, "tags": tags, "port": "80", "labels": {"a": "b"},
            "until": "2030-01-01T00:00:00Z", "note": null}})
    };
    let new = object(json!([{"name": "b", "port": 2}, {"name": "a", "port": 1}]), json!(["x", "y"]));
    let old = object(json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]), json!(["y", "x"]));
    let activation = Activation::default()
        .with("self", Value::declared(&new, &decl).unwrap())
        .with("oldSelf", Value::declared(&old, &decl).unwrap());
    for source in [
        "self.spec.replicas > 1 && self.kind == 'X' && self.metadata.name == 'n'",
        "self.spec.ports == oldSelf.spec.ports && self.spec.tags == oldSelf.spec.tags",
        "(self.spec.tags + ['x', 'z']).size() == 3",
        "(self.spec.ports + oldSelf.spec.ports).size() == 2",
        "type(self.spec.port) == string && self.spec.until > timestamp('2029-01-01T00:00:00Z')",
        "self.spec.labels.all(k, self.spec.labels[k] == 'b') && !has(self.spec.kind)",
    ] {
        let program = env.compile(source).unwrap_or_else(|errors| panic!("{source}: {errors}"));
        assert!(program.uses("self"), "{source}");
        assert_eq!(program.uses("oldSelf"), source.contains("oldSelf"), "{source}");
        let value =
            program.evaluate(&activation, &mut Budget::admission()).unwrap_or_else(|fault| panic!("{source}: {fault}"));
        assert_eq!(value.to_json().unwrap(), json!(true), "{source}");
    }
    for (source, most) in [
        ("self.spec.replicas > 1", 4),
        ("self.spec.name == 'abc'", 4),
        ("self.spec.tags.all(t, t.size() > 1)", 2 + 1 + 3 * 6 + 1),
        ("self.spec.labels.exists(k, true)", 2 + 1 + 5 * 4 + 1),
    ] {
        assert_eq!(env.compile(source).unwrap().most(), most, "{source}");
    }
    let said = env.compile("self.spec.free.x == 1").unwrap_err().to_string();
    assert!(said.contains("undefined field 'x'"), "{said}");
    assert_eq!(openapi::cardinality(&json!({"type": "integer"}), false), 3 * 1024 * 1024 / 2);
}
