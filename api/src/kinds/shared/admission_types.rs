//! Expressions of validating policies checked against the types that the policy is about: warnings for its status.
//!
//! Never decides what a policy does: it does it, right or wrong. Source: KEP-3488 and upstream's
//! `apiserver/pkg/admission/plugin/policy/validating`.

use super::admission_expressions::{Environment, Gives};
use crate::cel::{Decl, DeclKind, FieldDecl, ObjectDecl, Type};
use crate::field_path::Path;
use crate::json::Value;
use crate::kind::Kind;
use crate::kinds::{self};
use crate::schema::{SchemaRef, Shape};
use crate::{cel, value};
use std::sync::Arc;

/// The most types that a policy is checked against.
const MOST_TYPES: usize = 10;
/// How deep types are told; what lies deeper may be anything.
const DEEPEST: usize = 16;

/// A warning: the expression's field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// `spec.validations[0].expression`.
    pub field: String,
    /// One paragraph per type.
    pub text: String,
}

/// What is wrong with the validations of a policy for the types it names.
#[must_use]
pub fn warnings(policy: &Value) -> Vec<Warning> {
    let kinds = named(policy);
    let mut out = Vec::new();
    for (i, one) in value::items(policy, "spec.validations").iter().enumerate() {
        let field = Path::new("spec").child("validations").index(i);
        for name in ["expression", "messageExpression"] {
            let source = value::text(one, name);
            let found: Vec<String> = kinds.iter().filter_map(|kind| wrong(policy, kind, source)).collect();
            if !source.is_empty() && !found.is_empty() {
                out.push(Warning { field: field.child(name).to_string(), text: found.join("\n") });
            }
        }
    }
    out
}

/// The kinds that the policy names without wildcards, in order.
fn named(policy: &Value) -> Vec<&'static Kind> {
    let mut found: Vec<&'static Kind> = Vec::new();
    for rule in value::items(policy, "spec.matchConstraints.resourceRules") {
        let texts = |name: &str| -> Vec<&str> { value::items(rule, name).iter().filter_map(Value::as_str).collect() };
        let (groups, versions, resources) = (texts("apiGroups"), texts("apiVersions"), texts("resources"));
        if groups.iter().chain(&versions).any(|text| text.contains('*')) {
            continue;
        }
        let plain = resources.iter().filter(|resource| !resource.contains(['*', '/']));
        for plural in plain {
            for (group, version) in groups.iter().flat_map(|group| versions.iter().map(move |version| (group, version)))
            {
                if let Some(kind) = kinds::by_resource(group, version, plural)
                    && !found.iter().any(|known| std::ptr::eq(*known, kind))
                {
                    found.push(kind);
                }
            }
        }
    }
    found.truncate(MOST_TYPES);
    found.sort_by_key(|kind| (kind.group, kind.version, kind.kind));
    found
}

fn wrong(policy: &Value, kind: &Kind, source: &str) -> Option<String> {
    let params = value::get(policy, "spec.paramKind").is_some();
    let mut environment = Environment::new(params, false).of_objects(declared(kind.schema(), kind.kind, 0));
    for variable in value::items(policy, "spec.variables") {
        let program = environment.compile(value::text(variable, "expression"), Gives::Anything);
        environment.add(value::text(variable, "name"), program.map_or(Type::Dyn, |program| program.result().clone()));
    }
    let why = environment.compile(source, Gives::Anything).err()?;
    let version = if kind.group.is_empty() { format!("/{}", kind.version) } else { kind.api_version() };
    Some(format!("{version}, Kind={}: {why}\n", kind.kind))
}

/// What a struct is in expressions.
fn declared(schema: SchemaRef<'_>, name: &str, depth: usize) -> Decl {
    let def = schema.def();
    if depth > DEEPEST || def.preserve_unknown {
        return Decl::dynamic().clone();
    }
    let fields = def.fields.iter().filter_map(|field| {
        let decl = of_shape(&field.shape, schema, &format!("{name}.{}", field.name), depth + 1);
        Some((cel::escape(&field.name)?, FieldDecl { name: field.name.to_string(), decl }))
    });
    DeclKind::Object(Arc::new(ObjectDecl { name: name.into(), fields: fields.collect(), constructible: false })).into()
}

fn of_shape(shape: &Shape, schema: SchemaRef<'_>, name: &str, depth: usize) -> Decl {
    match shape {
        // Amounts and durations are text in the schema that upstream reads.
        Shape::String | Shape::Quantity | Shape::Duration => Decl::string(),
        Shape::Bytes => DeclKind::Bytes.into(),
        Shape::Int32 | Shape::Int64 => DeclKind::Int.into(),
        Shape::Float64 => DeclKind::Double.into(),
        Shape::Bool => DeclKind::Bool.into(),
        Shape::Time | Shape::MicroTime => DeclKind::Timestamp.into(),
        Shape::IntOrString | Shape::Any => Decl::dynamic().clone(),
        Shape::List { items, .. } => Decl::list(of_shape(items, schema, &format!("{name}.@idx"), depth + 1)),
        Shape::Map { values, .. } => Decl::map(of_shape(values, schema, &format!("{name}.@elem"), depth + 1)),
        Shape::Struct(id) => declared(schema.at(*id), name, depth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn expressions_meet_types() {
        let policy = |expression: &str, message: &str| {
            json!({"spec": {"matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                "resources": ["deployments", "deployments/scale"], "operations": ["*"]}]},
                "variables": [{"name": "n", "expression": "object.spec.replicas"}],
                "validations": [{"expression": expression, "messageExpression": message}]}})
        };
        assert_eq!(warnings(&policy("object.spec.replicas > 1 && variables.n < 9", "'a'")), []);
        let found = warnings(&policy("object.spec.replicas > '1'", "'a' + object.spec.replicas"));
        let check = |at: usize, field: &str, text: &str| {
            assert_eq!(found[at].field, field);
            assert!(found[at].text.starts_with("apps/v1, Kind=Deployment: compilation failed: ERROR: "), "{found:?}");
            assert!(found[at].text.contains(text), "{found:?}");
        };
        check(0, "spec.validations[0].expression", "found no matching overload for '_>_' applied to '(int, string)'");
        check(
            1,
            "spec.validations[0].messageExpression",
            "found no matching overload for '_+_' applied to '(string, int)'",
        );
        let found = warnings(&policy("object.spec.nothing == 1", ""));
        assert!(found.len() == 1 && found[0].text.contains("undefined field 'nothing'"), "{found:?}");
        assert_eq!(warnings(&policy("variables.n > 1", "")), []);
    }
}
