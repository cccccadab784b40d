//! What a write does to ownership: the rules of apply and of every other write.

use super::compare::{Comparison, compare};
use super::declared;
use super::managed::{self, Id, Managed, Operation, Owned};
use super::merge::merge;
use super::path::{FieldSet, PathElement, shown};
use super::typed::{self, Ty};
use super::versions::{self, Changes, Elsewhere, Unconverted};
use super::{ApplyError, Conflict, Later, Manager};
use crate::json::{Map, Value};
use crate::schema::SchemaRef;
use crate::value;
use std::sync::LazyLock;

/// What `kubectl apply` without `--server-side` keeps of its last configuration.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations of an object may not hold more bytes than this.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// Who owns the fields of an object that nobody tracked until it is applied for the first time.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields that belong to the system and to no manager.
static SYSTEM_FIELDS: LazyLock<FieldSet<'static>> = LazyLock::new(|| {
    let mut out = FieldSet::default();
    for name in ["apiVersion", "kind", "metadata"] {
        out.insert_subtree(&[name]);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        out.insert_subtree(&["metadata", name]);
    }
    out
});

impl Manager<'_> {
    fn id(&self, operation: Operation) -> Id {
        Id {
            manager: if self.manager.is_empty() { "unknown".to_owned() } else { self.manager.to_owned() },
            operation,
            version: if operation == Operation::Apply { String::new() } else { self.api_version.to_owned() },
            subresource: self.subresource.to_owned(),
        }
    }
}

/// The object after a create, update or patch with its managed fields kept: fields that changed go to the writer,
/// fields that are gone leave everybody, a write that changes nothing leaves entries and times alone.
///
/// `live` is absent for a create. `reset` holds fields that this write cannot own (`status` for the main resource,
/// `spec` for the status). `[]` or `[{}]` as managed fields of `new` stops tracking, and so does an owner whose version the object
/// cannot be converted to, and a change of a list whose elements lack their keys.
///
/// # Errors
/// `Later` with the object as it was given when a version must be asked for first.
pub fn update(
    live: Option<&Value>,
    mut new: Value,
    schema: SchemaRef<'_>,
    who: &Manager<'_>,
    reset: &FieldSet<'_>,
) -> Result<Value, Later> {
    let known = live.map(|live| Managed::decode(live, true).unwrap_or_default()).unwrap_or_default();
    let mut managed = match who.subresource {
        "" => sent_or(&new, known, schema.def().free),
        _ => known,
    };
    let tracked = live.is_none() || !managed.by_id.is_empty();
    if tracked {
        let id = who.id(Operation::Update);
        match record(&mut managed, live.unwrap_or(typed::empty()), &new, schema, &id, who, reset) {
            Ok(()) => managed.cap_updaters(),
            Err(Unconverted::Never(_)) => managed = Managed::default(),
            Err(Unconverted::Later) => return Err(Later(new)),
        }
    }
    let entries = managed.entries();
    managed::put(entries, &mut new);
    Ok(new)
}

/// The managed fields that a client sent, or those known when it sent none or nonsense. Of a custom resource an empty list is none.
fn sent_or<'a>(new: &'a Value, known: Managed<'a>, custom: bool) -> Managed<'a> {
    match value::get(new, "metadata.managedFields").and_then(Value::as_array).map(Vec::as_slice) {
        None => known,
        Some([]) if custom => known,
        Some([]) => Managed::default(),
        Some([Value::Object(only)]) if only.values().all(|value| value.is_null() || value == "") => Managed::default(),
        Some(_) => Managed::decode(new, false).ok().filter(|sent| !sent.by_id.is_empty()).unwrap_or(known),
    }
}

/// Gives the difference between two objects to an updater.
fn record<'a>(
    managed: &mut Managed<'a>,
    live: &'a Value,
    new: &'a Value,
    schema: SchemaRef<'a>,
    id: &Id,
    who: &Manager<'_>,
    reset: &FieldSet<'_>,
) -> Result<(), Unconverted> {
    versions::fit(managed, Ty::Struct(schema), who, live, new)?;
    let elsewhere = Elsewhere::all(managed, who, live, new)?;
    let elsewhere = Elsewhere::changes(&elsewhere, reset);
    let found = compare(Ty::Struct(schema), live, new);
    if found.anonymous {
        return Err(Unconverted::Never("elements of an associative list have no keys".to_owned()));
    }
    let here = Changes::of(found.without(reset));
    for owned in managed.by_id.values_mut() {
        let Changes { changed, removed } = elsewhere.get(&*owned.version).unwrap_or(&here);
        owned.remove(changed);
        owned.remove(removed);
    }
    let mut changed = here.changed;
    managed.drop_empty();
    changed.remove(&SYSTEM_FIELDS);
    if changed.is_empty() {
        return Ok(());
    }
    let owned = managed.by_id.entry(id.clone()).or_default();
    owned.add(&changed);
    owned.version = who.api_version.to_owned();
    owned.time = Some(who.time.to_owned());
    Ok(())
}

/// Applies a configuration without fields to reset; see `apply_resetting`.
///
/// # Errors
/// As `apply_resetting`.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    schema: SchemaRef<'_>,
    who: &Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    apply_resetting(live, applied, schema, who, force, &FieldSet::default())
}

/// Merges a configuration into the live object (absent: a new one) and returns it with its managed fields: what the
/// manager applied before and nobody owns any longer is gone.
///
/// # Errors
/// `Conflicts` when others own fields with other values and `force` is false; `Invalid` for a configuration that has
/// managed fields, another version, duplicates in sets or keyed lists; `Unconverted` when fields are owned in a version that the object
/// cannot be converted to, and `Later` when it must be asked for first.
pub fn apply_resetting(
    live: Option<&Value>,
    applied: &Value,
    schema: SchemaRef<'_>,
    who: &Manager<'_>,
    force: bool,
    reset: &FieldSet<'_>,
) -> Result<Value, ApplyError> {
    let ty = Ty::Struct(schema);
    check(applied, ty, who)?;
    let empty = typed::empty();
    let object = live.unwrap_or(empty);
    let managed = || -> Result<Managed<'_>, ApplyError> {
        let mut managed =
            Managed::decode(object, true).map_err(|why| invalid(format!("failed to decode managed fields: {why}")))?;
        if managed.by_id.is_empty() {
            let id = Id { manager: BEFORE_FIRST_APPLY.to_owned(), ..who.id(Operation::Update) };
            record(&mut managed, empty, object, schema, &id, who, reset)?;
        }
        versions::fit(&mut managed, ty, who, object, applied)?;
        Ok(managed)
    };
    let attempt = Attempt { object, applied, ty, who, reset };
    let by_kubectl = who.manager == "kubectl";
    let (mut out, entries) = match attempt.run(managed()?, force) {
        Err(Stopped::By(conflicts)) if by_kubectl && !force => {
            let last = last_applied(object, ty, who);
            let allowed = last.as_ref().map(|last| unchanged(last, object, ty)).unwrap_or_default();
            let left: Vec<_> = conflicts.into_iter().filter(|(_, path)| !allowed.has(path)).collect();
            if left.is_empty() { attempt.run(managed()?, true) } else { Err(Stopped::By(left)) }
        }
        other => other,
    }
    .map_err(|stopped| match stopped {
        Stopped::By(conflicts) => ApplyError::Conflicts(
            conflicts
                .into_iter()
                .map(|(owner, path)| Conflict { manager: owner.to_string(), path: shown(&path) })
                .collect(),
        ),
        Stopped::Unconverted(why) => why.into(),
    })?;
    if by_kubectl {
        keep_last_applied(&mut out, applied);
    }
    managed::put(entries, &mut out);
    Ok(out)
}

fn invalid(why: impl Into<String>) -> ApplyError {
    ApplyError::Invalid(why.into())
}

fn check(applied: &Value, ty: Ty<'_>, who: &Manager<'_>) -> Result<(), ApplyError> {
    let version = value::text(applied, "apiVersion");
    if version != who.api_version {
        return Err(invalid(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            who.api_version
        )));
    }
    if value::get(applied, "metadata.managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(invalid("metadata.managedFields must be nil"));
    }
    let outcome = match ty {
        Ty::Struct(schema) => declared::check(applied, schema),
        _ => typed::check(applied, ty),
    };
    outcome.map_err(|why| {
        ApplyError::Mistyped(format!("failed to create typed patch object ({}): {why}", declared::named(applied)))
    })
}

/// Why a configuration is not merged.
enum Stopped<'a> {
    /// Conflicting fields, each with its owner.
    By(Vec<(Id, Vec<PathElement<'a>>)>),
    /// A version of others is not there.
    Unconverted(Unconverted),
}

impl From<Unconverted> for Stopped<'_> {
    fn from(why: Unconverted) -> Self {
        Stopped::Unconverted(why)
    }
}

struct Attempt<'a> {
    object: &'a Value,
    applied: &'a Value,
    ty: Ty<'a>,
    who: &'a Manager<'a>,
    reset: &'a FieldSet<'a>,
}

impl<'a> Attempt<'a> {
    /// The object without managed fields, and these.
    fn run(&self, mut managed: Managed<'a>, force: bool) -> Result<(Value, Vec<Value>), Stopped<'a>> {
        let id = self.who.id(Operation::Apply);
        let mut merged = merge(self.ty, self.object, self.applied);
        let named = || {
            let mut set = typed::field_set(self.applied, self.ty);
            set.remove_recursively(self.reset);
            set
        };
        let before = managed.by_id.remove(&id).unwrap_or_default();
        // What is the system's is named in a configuration and owned by nobody.
        // What was applied in another version is never what it was.
        let moved = self.who.versions.is_some() && !before.is_empty() && before.version != self.who.api_version;
        let as_before = !moved && before.is_named_by(self.applied, self.ty, &SYSTEM_FIELDS, self.reset);
        let set = if as_before { FieldSet::default() } else { named() };
        let let_go = moved || (!as_before && !before.set().is_subset(&set));
        let version = self.who.api_version.to_owned();
        let owned = if as_before { before.again(version) } else { Owned::new(set, version, before.time.clone()) };
        managed.by_id.insert(id.clone(), owned);
        if let_go {
            match versions::prune(&merged, self.who, &before, &managed)? {
                Some(pruned) => merged = pruned,
                None => prune(&mut merged, self.ty, before.set(), &managed),
            }
        }
        let elsewhere = Elsewhere::all(&managed, self.who, self.object, &merged)?;
        let elsewhere = Elsewhere::changes(&elsewhere, self.reset);
        let found = compare(self.ty, self.object, &merged);
        let noop = found.is_empty();
        let here = Changes::of(found.without(self.reset));
        let mut conflicts = Vec::new();
        for (owner, owned) in managed.by_id.iter_mut().filter(|(owner, _)| **owner != id) {
            let Changes { changed, removed } = elsewhere.get(&*owned.version).unwrap_or(&here);
            let disputed = owned.among(changed);
            if !disputed.is_empty() {
                conflicts.extend(disputed.paths().into_iter().map(|path| (owner.clone(), path)));
                owned.remove(&disputed);
            }
            owned.remove(removed);
        }
        if !force && !conflicts.is_empty() {
            return Err(Stopped::By(conflicts));
        }
        if let Some(own) = managed.by_id.get_mut(&id) {
            if !as_before {
                own.remove(&SYSTEM_FIELDS);
                own.like(&before);
            }
            // Who applies what is there already has done so at no time.
            if !noop {
                own.time = Some(self.who.time.to_owned());
            }
        }
        managed.drop_empty();
        // A custom resource keeps them, for its schema to judge.
        if let Ty::Struct(schema) = self.ty
            && !schema.def().free
        {
            typed::drop_nulls(&mut merged, schema);
        }
        Ok((merged, managed.entries()))
    }
}

/// Takes away what the manager applied before and nobody owns now, but nothing that nobody ever owned.
fn prune(merged: &mut Value, ty: Ty<'_>, before: &FieldSet<'_>, managed: &Managed<'_>) {
    let before = typed::with_named_fields(before, ty);
    let mut owned = FieldSet::default();
    for manager in managed.by_id.values() {
        owned.extend(manager.set());
    }
    let owned = typed::with_named_fields(&owned, ty);
    let gone = {
        let all = typed::with_named_fields(&typed::field_set(merged, ty), ty);
        // Items leave with all that is below them.
        let mut kept = all.recursive_difference(&before);
        kept.extend(&owned);
        let kept = all.recursive_difference(&all.difference(&kept));
        before.intersection(&all.difference(&kept))
    };
    typed::remove_items(merged, ty, &gone);
}

/// The configuration of the last client-side apply.
fn last_applied(live: &Value, ty: Ty<'_>, who: &Manager<'_>) -> Option<Value> {
    let text = live.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    let last: Value = crate::json::from_str(text).ok()?;
    (value::text(&last, "apiVersion") == who.api_version && typed::check(&last, ty).is_ok()).then_some(last)
}

/// The fields of a configuration that have the value it gave them: kubectl may take these over.
fn unchanged<'x>(last: &'x Value, live: &'x Value, ty: Ty<'x>) -> FieldSet<'x> {
    let Comparison { added, removed, modified, .. } = compare(ty, last, live);
    let mut out = typed::field_set(last, ty);
    for changed in [added, removed, modified] {
        out.remove(&changed);
    }
    out
}

/// Keeps the annotation of client-side apply true where an object has it.
fn keep_last_applied(object: &mut Value, applied: &Value) {
    let annotations = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    let Some(Value::Object(annotations)) = annotations else { return };
    if annotations.get(LAST_APPLIED).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut configuration = applied.clone();
    if let Some(Value::Object(own)) = value::get_mut(&mut configuration, "metadata.annotations") {
        own.remove(LAST_APPLIED);
    }
    let text = format!("{}\n", super::fields_v1::escape_html(&configuration.to_string()));
    annotations.insert(LAST_APPLIED.to_owned(), text.into());
    let size = |annotations: &Map| {
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum::<usize>()
    };
    if size(annotations) > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
