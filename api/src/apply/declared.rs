//! Whether a configuration has the fields and types that its schema declares: what upstream refuses before it merges anything.
//!
//! Never looks at live objects, and never at custom resources, whose own validation speaks of types. Sentences are those of upstream's
//! structured merge.

use super::path::{self, PathElement};
use super::typed::{Seen, Trail, Ty};
use crate::json::Value;
use crate::patch::strategic::printed;
use crate::quote::quoted;
use crate::schema::{ListKind, SchemaRef, Shape};
use crate::value;

/// All that is wrong with a configuration, in one sentence.
///
/// # Errors
/// Fields that the schema lacks, values of other types, list elements without identity or with that of another.
pub fn check(value: &Value, schema: SchemaRef<'_>) -> Result<(), String> {
    let mut found = Found(Vec::new());
    found.structure(value, schema, None);
    match found.0.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        all => Err(format!("errors:\n  {}", all.join("\n  "))),
    }
}

/// A configuration as upstream names it in its sentences.
#[must_use]
pub fn named(applied: &Value) -> String {
    let text = |path: &str| value::text(applied, path);
    let [namespace, name] = ["metadata.namespace", "metadata.name"].map(text);
    format!("{namespace}/{name}; {}", typed(applied))
}

/// The type that a configuration says it has, as Go prints it.
#[must_use]
pub fn typed(applied: &Value) -> String {
    let text = |path: &str| value::text(applied, path);
    let version = text("apiVersion");
    let group = if version.contains('/') { "" } else { "/" };
    format!("{group}{version}, Kind={}", text("kind"))
}

struct Found(Vec<String>);

impl Found {
    fn say(&mut self, trail: Option<&Trail<'_>>, why: &str) {
        self.0.push(match trail {
            Some(trail) => format!("{}: {why}", path::shown(&trail.path())),
            None => why.to_owned(),
        });
    }

    fn structure(&mut self, value: &Value, schema: SchemaRef<'_>, trail: Option<&Trail<'_>>) {
        let Value::Object(map) = value else {
            if !value.is_null() {
                self.say(trail, &format!("expected map, got {}", wrapped(value)));
            }
            return;
        };
        for (name, value) in map {
            let here = Trail { before: trail, step: PathElement::Field(name) };
            let position = schema.types.position(schema.id, name);
            let field = position.and_then(|at| Some((at, schema.def().fields.get(at)?)));
            match field {
                // The unions of schemas of definitions are of any type.
                Some((at, _)) if schema.types.wire(schema.id, at).is_some_and(|wire| wire.union.is_some()) => {}
                Some((_, field)) => self.one(value, &field.shape, schema, &here),
                None if schema.def().preserve_unknown => {}
                // Upstream looks at no other field then.
                None => return self.say(Some(&here), "field not declared in schema"),
            }
        }
    }

    fn one(&mut self, value: &Value, shape: &Shape, schema: SchemaRef<'_>, trail: &Trail<'_>) {
        if value.is_null() {
            return;
        }
        let why = match (shape, value) {
            (Shape::Struct(id), _) => return self.structure(value, schema.at(*id), Some(trail)),
            (Shape::Map { values, .. }, Value::Object(map)) => {
                for (name, value) in map {
                    self.one(value, values, schema, &Trail { before: Some(trail), step: PathElement::Field(name) });
                }
                return;
            }
            (Shape::List { items, kind: ListKind::Atomic }, Value::Array(list)) => {
                for (index, value) in (0..).zip(list) {
                    self.one(value, items, schema, &Trail { before: Some(trail), step: PathElement::Index(index) });
                }
                return;
            }
            (Shape::List { items, .. }, Value::Array(list)) => {
                return self.elements(list, items, Ty::of(schema, shape), schema, trail);
            }
            (Shape::Map { .. }, other) => format!("expected map, got {}", wrapped(other)),
            (Shape::List { .. }, other) => format!("expected list, got {}", wrapped(other)),
            (Shape::Any, _)
            | (Shape::Int32 | Shape::Int64 | Shape::Float64, Value::Number(_))
            | (Shape::String | Shape::Bytes | Shape::Duration, Value::String(_))
            | (Shape::Bool, Value::Bool(_)) => return,
            (Shape::Int32 | Shape::Int64 | Shape::Float64, other) => {
                format!("expected numeric (int or float), got {}", go_type(other))
            }
            (Shape::String | Shape::Bytes | Shape::Duration, other) => {
                format!("expected string, got &value.valueUnstructured{{Value:{}}}", syntax(other))
            }
            (Shape::Bool, other) => format!("expected boolean, got {}", wrapped(other)),
            (Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime, other) => match other {
                Value::Array(_) | Value::Object(_) => format!("expected any scalar, got {}", wrapped(other)),
                _ => return,
            },
        };
        self.say(Some(trail), &why);
    }

    /// Elements that have identities.
    fn elements(&mut self, list: &[Value], items: &Shape, ty: Ty<'_>, schema: SchemaRef<'_>, trail: &Trail<'_>) {
        let mut seen = Seen::default();
        for (index, item) in list.iter().enumerate() {
            let element = match ty.identity(item) {
                Ok(element) => element,
                // Those behind it are not looked at.
                Err(why) => return self.say(Some(trail), &format!("element {index}: {why}")),
            };
            if seen.has(&element) {
                self.say(Some(trail), &format!("duplicate entries for key {element}"));
            }
            self.one(item, items, schema, &Trail { before: Some(trail), step: element.clone() });
            seen.add(element);
        }
    }
}

/// A value as Go's `%v` prints it behind a pointer.
fn wrapped(value: &Value) -> String {
    format!("&{{{}}}", printed(value))
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Number(_) | Value::Null => "int64",
    }
}

/// A value in Go's own syntax.
pub(crate) fn syntax(value: &Value) -> String {
    let all = |entries: Vec<String>| entries.join(", ");
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => quoted(text),
        Value::Array(list) => format!("[]interface {{}}{{{}}}", all(list.iter().map(syntax).collect())),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{}:{}", quoted(key), syntax(value)));
            format!("map[string]interface {{}}{{{}}}", all(entries.collect()))
        }
        plain @ (Value::Bool(_) | Value::Number(_)) => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn what_is_not_declared_is_refused_in_upstreams_words() {
        let schema = crate::schema::native().of_gvk("apps", "v1", "Deployment").unwrap();
        let told = |object: Value, want: &str| {
            let said = check(&object, schema).err().unwrap_or_default();
            assert_eq!(said, want, "{object}");
        };
        let containers = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
        told(json!({"spec": {"replicas": 1.5, "paused": null}, "metadata": {"creationTimestamp": 5}}), "");
        told(containers(json!([{"name": "c", "resources": {"limits": {"cpu": true}}}])), "");
        told(json!({"spec": {"replicaz": 1, "zoo": 2}}), ".spec.replicaz: field not declared in schema");
        told(
            json!({"spec": {"paused": "x", "replicas": "y"}}),
            "errors:\n  .spec.paused: expected boolean, got &{x}\n  .spec.replicas: expected numeric (int or float), got string",
        );
        told(
            json!({"metadata": {"labels": {"a": 1}, "annotations": ["x"]}}),
            "errors:\n  .metadata.annotations: expected map, got &{[x]}\n  .metadata.labels.a: expected string, got &value.valueUnstructured{Value:1}",
        );
        told(json!({"metadata": []}), ".metadata: expected map, got &{[]}");
        told(
            containers(json!([{"name": "x", "args": [1]}, {"name": "x"}])),
            "errors:\n  .spec.template.spec.containers[name=\"x\"].args[0]: expected string, got &value.valueUnstructured{Value:1}\n  .spec.template.spec.containers: duplicate entries for key [name=\"x\"]",
        );
    }
}
