//! Expressions with their values or mistakes, as tables.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

mod compiles;
mod costs;
mod environments;
mod laws;
mod values;

use super::{Activation, Budget, Decl, DeclKind, Env, Extras, FieldDecl, ObjectDecl, Value, escape};
use crate::json::{Value as Json, json};

/// The environment of most tests: variables of all shapes.
fn env() -> Env {
    let fields = [
        ("replicas", Decl::from(DeclKind::Int)),
        ("name", Decl::string()),
        ("ratio", DeclKind::Double.into()),
        ("a-b", Decl::string()),
        ("namespace", Decl::string()),
        ("tags", Decl::list(Decl::string())),
        ("labels", Decl::map(Decl::string())),
        ("since", DeclKind::Timestamp.into()),
        ("wait", DeclKind::Duration.into()),
        ("any", Decl::dynamic().clone()),
    ]
    .map(|(name, decl)| (escape(name).unwrap(), FieldDecl { name: name.to_owned(), decl }));
    let spec = ObjectDecl { name: "Spec".into(), fields: fields.into(), constructible: false };
    let spec = Decl::from(DeclKind::Object(spec.into()));
    Env::kubernetes(Extras::NONE.with_mutation().with_bind())
        .with("object", Decl::dynamic().clone())
        .with("spec", spec)
        .with("n", DeclKind::Int.into())
        .with("text", Decl::string())
        .with("list", Decl::list(DeclKind::Int.into()))
        .with("strings", Decl::list(Decl::string()))
        .with("map", Decl::map(DeclKind::Int.into()))
}

fn input() -> Json {
    json!({
        "object": {"metadata": {"name": "a", "labels": {"x": "1"}}, "list": [1, 2.5, "c", null, {"k": [true]}]},
        "spec": {
            "replicas": 3, "name": "web", "ratio": 1, "a-b": "ab", "namespace": "ns", "tags": ["a", "b"],
            "labels": {"l": "v"}, "since": "2024-02-29T12:30:45.5Z", "wait": "1h30m", "any": {"x": [1]}
        },
        "n": 7,
        "text": "h\u{e9}llo",
        "list": [3, 1, 2],
        "strings": ["b", "a"],
        "map": {"one": 1, "two": 2}
    })
}

const NAMES: [&str; 7] = ["object", "spec", "n", "text", "list", "strings", "map"];

fn activation<'a>(env: &'a Env, input: &'a Json) -> Activation<'a> {
    NAMES.iter().fold(Activation::default(), |activation, name| {
        let value = Value::declared(&input[*name], env.variable(name).unwrap()).unwrap();
        activation.with(name, value)
    })
}

/// The value as JSON text, or the sentence that there is none; and the cost.
fn evaluated(source: &str) -> (String, u64) {
    let (env, input) = (env(), input());
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(errors) => return (format!("does not compile: {errors}"), 0),
    };
    let activation = activation(&env, &input);
    let mut budget = Budget::admission();
    let before = budget.left;
    let shown = match program.evaluate(&activation, &mut budget) {
        Ok(value) => shown(&value),
        Err(fault) => format!("fault: {fault}"),
    };
    (shown, before - budget.left)
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Optional(None) => "none".to_owned(),
        Value::Optional(Some(value)) => format!("some {}", shown(value)),
        Value::Type(t) => t.name().to_owned(),
        Value::Uint(value) => format!("{value}u"),
        Value::Opaque(opaque) => format!("{} {}", opaque.type_name(), opaque.text().unwrap_or_default()),
        value => value.to_json().map_or_else(|fault| fault.to_string(), |json| json.to_string()),
    }
}

#[test]
fn programs_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<super::Program>();
    shared::<Env>();
    shared::<Value<'static>>();
}
