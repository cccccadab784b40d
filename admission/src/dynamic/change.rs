//! Mutating policies: how they change a write, one after the other.
//!
//! Never decides whether the result is valid: the write goes on as any other. Source: upstream's
//! `apiserver/pkg/admission/plugin/policy/mutating`.

use super::formula::{Asker, Scene, Sheet};
use super::matching::{self, Seen, Sight};
use super::mutate::{decoded, schema};
use super::policy::{self, Binding, Mutation, Policy};
use crate::plugin::{Lookup, Operation, Refusal, Request};
use api::apply::{self, FieldSet, Manager};
use api::cel::{Budget, Object as CelObject, Value as Cel};
use api::json::{Value, json};
use api::schema::{ListKind, MapKind, SchemaRef, Shape};
use api::{meta, patch, value};
use std::borrow::Cow;

/// Lets every mutating policy that is about the request change the object.
///
/// # Errors
/// What is wrong with policies, where that refuses.
pub async fn run(request: &Request<'_>, object: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
    let Some(dynamic) = lookup.dynamic().filter(|_| !policy::is_exempt(request.kind)) else { return Ok(()) };
    if request.operation == Operation::Delete {
        return Ok(());
    }
    let policies = dynamic.mutating_policies.get(lookup).await;
    if policies.is_empty() {
        return Ok(());
    }
    let bindings = dynamic.mutating_bindings.get(lookup).await;
    let invocations = policy::invocations(&policies, &bindings, request, object, lookup).await;
    if invocations.is_empty() {
        return Ok(());
    }
    let namespace = policy::namespace(request, lookup).await;
    let asker = Asker { request, lookup };
    let second = request.rounds(|rounds| {
        let second = rounds.is_second();
        rounds.policies.begin(second, object);
        second
    });
    let mut wrong = Vec::new();
    for invocation in invocations {
        let invocation = match invocation {
            Ok(invocation) => invocation,
            Err(misfit) => {
                if !misfit.policy.fails_open {
                    wrong.push((said(misfit.policy, misfit.binding, &misfit.why), false));
                }
                continue;
            }
        };
        let (policy, binding) = (invocation.policy, invocation.binding);
        for params in invocation.params {
            let id = format!("{}/{}/{}/{}", policy.name, binding.name, meta::namespace(&params), meta::name(&params));
            let sight = match Sight::of(request, invocation.seen, object, lookup).await {
                Ok(sight) => sight,
                Err(why) => {
                    if !policy.fails_open {
                        wrong.push((said(policy, Some(binding), &why), false));
                    }
                    continue;
                }
            };
            let mut scene = Scene::new(request, &sight, params, namespace.clone());
            match applies(policy, &scene, &asker) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    if !policy.fails_open {
                        wrong.push((said(policy, Some(binding), &why), true));
                    }
                    continue;
                }
            }
            if second && !request.rounds(|rounds| rounds.policies.calls_again(&id)) {
                continue;
            }
            let before = object.clone();
            for mutation in policy.mutations.iter().filter(|_| request.is_open()) {
                let changed = match change(policy, mutation, &scene, &asker, invocation.seen) {
                    Ok(new) => {
                        let taken = matching::taken(request, invocation.seen, new.clone(), lookup).await;
                        taken.map(|taken| (new, taken))
                    }
                    Err(why) => Err(why),
                };
                match changed {
                    Ok((new, taken)) => {
                        *object = taken;
                        scene.replace(new);
                    }
                    Err(why) => {
                        if !policy.fails_open {
                            wrong.push((said(policy, Some(binding), &why), true));
                        }
                    }
                }
            }
            request.rounds(|rounds| {
                if before != *object {
                    rounds.policies.changed();
                    rounds.want_second();
                }
                if policy.again {
                    rounds.policies.called(&id);
                }
            });
        }
    }
    request.rounds(|rounds| rounds.policies.end(object));
    refused(request, &wrong)
}

fn said(policy: &Policy, binding: Option<&Binding>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{}' with binding '{}' denied request: {why}", policy.name, binding.name),
        None => format!("policy {:?} denied request: {why}", policy.name),
    }
}

/// The refusal in the words of the first that is wrong; each with whether it is the policy's own fault.
fn refused(request: &Request<'_>, wrong: &[(String, bool)]) -> Result<(), Refusal> {
    let Some((first, invalid)) = wrong.first() else { return Ok(()) };
    let Refusal(mut status) = request.forbidden("admission request denied by policy");
    status.message.clone_from(first);
    if *invalid {
        status.reason = Cow::Borrowed("Invalid");
    }
    if let Some(details) = status.details.as_object_mut() {
        let causes: Vec<Value> = wrong.iter().map(|(message, _)| json!({"message": message})).collect();
        details.insert("causes".to_owned(), causes.into());
    }
    Err(Refusal(status))
}

fn applies(policy: &Policy, scene: &Scene, asker: &Asker<'_>) -> Result<bool, String> {
    if policy.conditions.is_empty() {
        return Ok(true);
    }
    let mut sheet = Sheet::new(scene, asker, &policy.variables, Budget::match_conditions());
    policy.conditions.hold(&mut sheet)
}

/// The object of the scene, changed, read as a body is.
fn change(policy: &Policy, mutation: &Mutation, scene: &Scene, asker: &Asker<'_>, seen: Seen) -> Result<Value, String> {
    let mut sheet = Sheet::new(scene, asker, &policy.variables, Budget::admission());
    let found = sheet.value(&mutation.formula).map_err(super::formula::Trouble::text)?;
    let new = if mutation.is_patch { patched(scene.object(), &found)? } else { applied(scene.object(), &found, seen)? };
    decoded(seen, &new).map_err(|status| status.message)
}

/// The object after a list of `JSONPatch`; as it was when a test of it fails.
fn patched(object: &Value, found: &Cel<'_>) -> Result<Value, String> {
    let Cel::List(list) = found else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let mut out = object.clone();
    for step in list.iter() {
        let step = match step.map_err(|fault| fault.to_string())? {
            Cel::Object(step) => operation(&step)?,
            _ => return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned()),
        };
        let is_test = value::text(&step, "op") == "test";
        match patch::json::apply(&out, json!([step]).to_string().as_bytes()) {
            Ok(new) => out = new,
            Err(_) if is_test => return Ok(object.clone()),
            Err(error) => return Err(format!("JSON Patch: {error}")),
        }
    }
    Ok(out)
}

fn operation(step: &CelObject<'_>) -> Result<Value, String> {
    let mut out = json!({});
    for (name, found) in step.fields().map_err(|fault| fault.to_string())? {
        if let Cel::Object(made) = &found {
            named(made)?;
        }
        let why = "JSONPath valueExpression evaluated to a type that could not marshal to JSON";
        value::set(&mut out, &name, found.to_json().map_err(|fault| format!("{why}: {fault}"))?);
    }
    Ok(out)
}

/// Objects that an expression makes say by their types where they stand: `Object.spec` is the field `spec`.
fn named(object: &CelObject<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    mismatches(object, object.type_name(), &mut wrong).map_err(|fault| fault.to_string())?;
    if wrong.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", wrong.join("\n"))) }
}

fn mismatches(object: &CelObject<'_>, at: &str, wrong: &mut Vec<String>) -> api::cel::Outcome<()> {
    if object.type_name() != at {
        let found = object.type_name();
        wrong.push(format!(
            "unexpected type name {found:?}, expected {at:?}, which matches field name path from root Object type"
        ));
    }
    for (name, value) in object.fields()? {
        inside(&value, &format!("{at}.{name}"), wrong)?;
    }
    Ok(())
}

fn inside(value: &Cel<'_>, at: &str, wrong: &mut Vec<String>) -> api::cel::Outcome<()> {
    match value {
        Cel::Object(object) => mismatches(object, at, wrong),
        Cel::List(list) => list.iter().try_for_each(|element| inside(&element?, at, wrong)),
        Cel::Map(map) => map.keys().iter().try_for_each(|key| match map.get(key)? {
            Some(value) => inside(&value, at, wrong),
            None => Ok(()),
        }),
        Cel::Optional(Some(value)) => inside(value, at, wrong),
        _ => Ok(()),
    }
}

/// The object with a configuration merged into it, as server-side apply merges, owned by nobody.
fn applied(object: &Value, found: &Cel<'_>, seen: Seen) -> Result<Value, String> {
    let Cel::Object(made) = found else {
        return Err(format!("unsupported return type from ApplyConfiguration expression: {}", found.type_name()));
    };
    named(made)?;
    let mut config = found.to_json().map_err(|fault| format!("invalid return type: {fault}"))?;
    let gvk = seen.gvk;
    let schema = schema(seen).ok_or_else(|| format!("no schema for {}", gvk.kind))?;
    let wrong = |why: String| format!("error applying patch: {why}");
    let mut atomic = Vec::new();
    atomics(&config, &Shape::Struct(schema.id), schema, false, "", &mut atomic);
    if !atomic.is_empty() {
        let why = format!("may not mutate atomic arrays, maps or structs: {}", atomic.join(", "));
        return Err(wrong(format!("invalid ApplyConfiguration: {why}")));
    }
    value::set(&mut config, "apiVersion", gvk.api_version());
    value::set(&mut config, "kind", gvk.kind);
    let owners = value::get(object, "metadata.managedFields").cloned();
    let version = gvk.api_version();
    let who = Manager {
        manager: "admission-policy",
        operation: apply::Operation::Apply,
        api_version: &version,
        time: "1970-01-01T00:00:00Z",
        subresource: "",
        versions: None,
    };
    let merged = apply::apply_resetting(Some(object), &config, schema, &who, true, &FieldSet::default());
    let mut merged = merged.map_err(|error| wrong(error.to_string()))?;
    match owners {
        Some(owners) => value::set(&mut merged, "metadata.managedFields", owners),
        None => drop(value::remove(&mut merged, "metadata.managedFields")),
    }
    Ok(merged)
}

/// Paths of what a configuration would replace as a whole.
fn atomics(value: &Value, shape: &Shape, schema: SchemaRef<'_>, atomic: bool, path: &str, found: &mut Vec<String>) {
    match (value, shape) {
        (Value::Object(map), Shape::Struct(id)) => {
            let def = schema.at(*id).def();
            if atomic || def.atomic {
                found.push(path.to_owned());
            }
            for (name, value) in map {
                if let Some(field) = def.field(name) {
                    atomics(value, &field.shape, schema, field.atomic, &format!("{path}.{name}"), found);
                }
            }
        }
        (Value::Object(map), Shape::Map { values, kind }) => {
            if atomic || *kind == MapKind::Atomic {
                found.push(path.to_owned());
            }
            for (name, value) in map {
                atomics(value, values, schema, false, &format!("{path}.{name}"), found);
            }
        }
        (Value::Array(list), Shape::List { items, kind }) => {
            if atomic || *kind == ListKind::Atomic {
                found.push(path.to_owned());
            }
            for (i, value) in list.iter().enumerate() {
                atomics(value, items, schema, false, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}
