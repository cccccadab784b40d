//! Owners who wrote in other versions than that of the write.
//!
//! What they own is said in their version, so that a change is looked at there too: the object before and after it is converted, and the
//! difference taken from what they own. What a manager let go is taken out in the version in which it was owned. Converts nothing
//! itself: `Versions` does, or says that it must be asked again later.

use super::Manager;
use super::compare::{Comparison, compare};
use super::managed::{Managed, Owned};
use super::path::FieldSet;
use super::typed::{self, Ty};
use crate::json::{Value, json};
use crate::schema::SchemaRef;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why an object is not there in another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unconverted {
    /// Somebody else must be asked; the write is to be tried again when the answer is known.
    Later,
    /// It cannot be converted, for this reason.
    Never(String),
}

/// What the objects of a kind are in its versions.
pub trait Versions: fmt::Debug + Sync {
    /// The object in a version, which may be its own, and the type that it has there; `None` when there is no such version, in which
    /// nobody owns anything.
    ///
    /// # Errors
    /// When it cannot be converted, or not yet.
    fn convert(&self, object: &Value, version: &str) -> Result<Option<(Value, SchemaRef<'_>)>, Unconverted>;

    /// Whether what a write cannot own is passed over in other versions too.
    fn resets(&self) -> bool;
}

/// An object in a version, by the type that it has there.
type Typed<'v> = (Value, Ty<'v>);

fn convert<'v>(versions: &'v dyn Versions, object: &Value, version: &str) -> Result<Option<Typed<'v>>, Unconverted> {
    let Some((object, schema)) = versions.convert(object, version)? else { return Ok(None) };
    let ty = Ty::Struct(schema);
    typed::check(&object, ty).map_err(Unconverted::Never)?;
    Ok(Some((object, ty)))
}

fn because(why: Unconverted, what: &str) -> Unconverted {
    match why {
        Unconverted::Never(why) => Unconverted::Never(format!("{what}: {why}")),
        Unconverted::Later => Unconverted::Later,
    }
}

/// The versions in which others own fields, beside that of the write; none where owners of all versions are taken for ones of it.
fn others(managed: &Managed<'_>, who: &Manager<'_>) -> BTreeSet<String> {
    let all = managed.by_id.values().map(|owned| &owned.version);
    let others = all.filter(|version| who.versions.is_some() && *version != who.api_version);
    others.cloned().collect()
}

/// Fits what is owned to what the schema says today, of each owner in its version: a list, map or struct that has become one of a
/// single owner is owned as a whole. Owners of versions that are gone go.
pub(super) fn fit(
    managed: &mut Managed<'_>,
    ty: Ty<'_>,
    who: &Manager<'_>,
    live: &Value,
    new: &Value,
) -> Result<(), Unconverted> {
    let others = others(managed, who);
    for owned in managed.by_id.values_mut().filter(|owned| !others.contains(&owned.version)) {
        owned.fit(ty);
    }
    let Some(versions) = who.versions.filter(|_| !others.is_empty()) else { return Ok(()) };
    let live = named(live, new);
    for version in others {
        match convert(versions, &live, &version)? {
            Some((_, ty)) => {
                let theirs = managed.by_id.values_mut().filter(|owned| owned.version == version);
                theirs.for_each(|owned| owned.fit(ty));
            }
            None => managed.by_id.retain(|_, owned| owned.version != version),
        }
    }
    Ok(())
}

/// An object that is not there yet is one without fields.
fn named(live: &Value, new: &Value) -> Value {
    match live.get("apiVersion") {
        Some(_) => live.clone(),
        None => json!({"apiVersion": new["apiVersion"], "kind": new["kind"]}),
    }
}

/// An object before and after a write, in a version in which others own fields.
pub(super) struct Elsewhere<'v> {
    version: String,
    ty: Ty<'v>,
    old: Value,
    new: Value,
    resets: bool,
}

impl<'v> Elsewhere<'v> {
    /// One for each version of others that is there.
    pub(super) fn all(
        managed: &Managed<'_>,
        who: &Manager<'v>,
        old: &Value,
        new: &Value,
    ) -> Result<Vec<Elsewhere<'v>>, Unconverted> {
        let mut out = Vec::new();
        let others = others(managed, who);
        let Some(versions) = who.versions.filter(|_| !others.is_empty()) else { return Ok(out) };
        let old = named(old, new);
        for version in others {
            let of = |object, what| convert(versions, object, &version).map_err(|why| because(why, what));
            let old = of(&old, "failed to convert old object")?;
            let new = of(new, "failed to convert new object")?;
            if let (Some((old, ty)), Some((new, _))) = (old, new) {
                out.push(Elsewhere { version, ty, old, new, resets: versions.resets() });
            }
        }
        Ok(out)
    }

    /// What the write changes there, and what it takes away, by version.
    pub(super) fn changes<'a>(all: &'a [Elsewhere<'v>], reset: &FieldSet<'_>) -> BTreeMap<&'a str, Changes<'a>> {
        let changes = |it: &'a Elsewhere<'v>| {
            let found = compare(it.ty, &it.old, &it.new);
            let found = if it.resets { found.without(reset) } else { found };
            (it.version.as_str(), Changes::of(found))
        };
        all.iter().map(changes).collect()
    }
}

/// What a write does to fields.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// New, or with another value.
    pub(super) changed: FieldSet<'a>,
    /// Gone.
    pub(super) removed: FieldSet<'a>,
}

impl<'a> Changes<'a> {
    pub(super) fn of(Comparison { added, removed, modified: mut changed, .. }: Comparison<'a>) -> Changes<'a> {
        changed.extend(&added);
        Changes { changed, removed }
    }
}

/// Takes away what the manager applied before, in another version or where others own fields in other versions, and what nobody owns
/// now, but nothing that nobody ever owned. `None` when nothing of that concerns another version.
pub(super) fn prune(
    merged: &Value,
    who: &Manager<'_>,
    before: &Owned<'_>,
    managed: &Managed<'_>,
) -> Result<Option<Value>, Unconverted> {
    let others = others(managed, who);
    let Some(versions) = who.versions.filter(|_| before.version != who.api_version || !others.is_empty()) else {
        return Ok(None);
    };
    let to = |object: &Value, version: &str, what: &str| {
        let said = || format!("failed to prune fields: {what}");
        convert(versions, object, version).map_err(|why| because(why, &said()))
    };
    let last = "failed to convert merged object to last applied version";
    let Some((whole, ty)) = to(merged, &before.version, last)? else { return Ok(Some(merged.clone())) };
    let was = typed::with_named_fields(before.set(), ty);
    let mut pruned = whole.clone();
    typed::remove_items(&mut pruned, ty, &was);
    // First in that version: what is missing there may be what a conversion needs.
    let mut owned: BTreeMap<&str, FieldSet<'_>> = BTreeMap::new();
    for manager in managed.by_id.values() {
        owned.entry(&manager.version).or_default().extend(manager.set());
    }
    let first = owned.remove_entry(before.version.as_str());
    for (version, owned) in first.into_iter().chain(owned) {
        let what =
            |of: &str| format!("failed add back owned items: failed to convert {of} object at version {version}");
        let Some((all, ty)) = to(&whole, version, &what("merged"))? else { continue };
        let Some((left, _)) = to(&pruned, version, &what("pruned"))? else { continue };
        let mut kept = fields(&left, ty);
        kept.extend(&typed::with_named_fields(&owned, ty));
        let gone = fields(&all, ty).difference(&kept);
        let mut back = all.clone();
        typed::remove_items(&mut back, ty, &gone);
        pruned = back;
    }
    let what = "failed add back dangling items: failed to convert pruned object to last applied version";
    let Some((left, _)) = to(&pruned, &before.version, what)? else { return Ok(Some(whole)) };
    let gone = fields(&whole, ty).difference(&fields(&left, ty)).intersection(&was);
    let mut out = whole.clone();
    typed::remove_items(&mut out, ty, &gone);
    let back = to(&out, who.api_version, "failed to convert pruned object")?;
    Ok(Some(back.map_or(out, |(object, _)| object)))
}

fn fields<'x>(object: &'x Value, ty: Ty<'x>) -> FieldSet<'x> {
    typed::with_named_fields(&typed::field_set(object, ty), ty)
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
