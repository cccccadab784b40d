//! Who owns the replicas of an object, said of its scale, and what a write of the scale says of the object.
//!
//! Only the one field is known to a scale: whoever owns it owns `spec.replicas` there, and who loses it there loses it here. Never reads
//! or writes the count itself.

use super::managed::{Id, Managed, Owned};
use super::path::{FieldSet, PathElement};
use crate::json::Value;

/// The version of a scale.
const VERSION: &str = "autoscaling/v1";
/// The field of a scale.
const REPLICAS: &[PathElement<'static>] = &[PathElement::Field("spec"), PathElement::Field("replicas")];

/// The managed fields of the scale of an object, whose replicas are at this dotted path.
///
/// # Errors
/// When those of the object cannot be read.
pub fn of_parent(parent: &Value, replicas: &str) -> Result<Vec<Value>, String> {
    let path = path(replicas);
    let managed = Managed::decode(parent, true)?;
    let mut out = Managed::default();
    for (id, owned) in managed.by_id.iter().filter(|(_, owned)| owned.set().has(&path)) {
        let field = Owned::new(field(REPLICAS), VERSION.to_owned(), owned.time.clone());
        out.by_id.insert(id.clone(), field);
    }
    Ok(out.entries())
}

/// The managed fields of an object after a write of its scale that left these; who writes, writes in this version of the object.
///
/// # Errors
/// When either cannot be read.
pub fn to_parent(parent: &Value, scale: &Value, replicas: &str, version: &str) -> Result<Vec<Value>, String> {
    let path = path(replicas);
    let managed = Managed::decode(parent, true)?;
    let mut of_scale = Managed::decode(scale, false)?.by_id;
    let mut out = Managed::default();
    let mut times = Vec::new();
    for (id, mut owned) in managed.by_id {
        times.push((id.clone(), owned.time.clone()));
        // Upstream takes an updater of the object for another than one of its scale.
        if owned.set().has(&path) && of_scale.remove(&id).is_none() {
            owned.remove(&field(&path));
        }
        if !owned.is_empty() {
            out.by_id.insert(id, owned);
        }
    }
    let time = |id: &Id| times.iter().find(|(known, _)| known == id).and_then(|(_, time)| time.clone());
    for (id, owned) in of_scale {
        if owned.set().has(REPLICAS) {
            let owned = Owned::new(field(&path), version.to_owned(), time(&id));
            out.by_id.insert(id, owned);
        }
    }
    Ok(out.entries())
}

fn path(dotted: &str) -> Vec<PathElement<'_>> {
    dotted.split('.').map(PathElement::Field).collect()
}

fn field<'a>(path: &[PathElement<'a>]) -> FieldSet<'a> {
    let mut out = FieldSet::default();
    out.insert(path);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    fn owned_by(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    #[test]
    fn replicas_go_from_one_owner_to_another() {
        let entry = |manager: &str, operation: &str, version: &str, fields: Value| {
            json!({
                "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields, "manager": manager,
                "operation": operation, "time": "2026-01-01T00:00:00Z",
            })
        };
        let own = json!({"f:spec": {"f:replicas": {}}});
        let more = json!({"f:spec": {"f:paused": {}, "f:replicas": {}}});
        let rest = json!({"f:spec": {"f:paused": {}}});
        let parent =
            owned_by(&[entry("a", "Apply", "apps/v1", more.clone()), entry("u", "Update", "apps/v1", rest.clone())]);
        let shown = of_parent(&parent, "spec.replicas").unwrap();
        assert_eq!(shown, [entry("a", "Apply", VERSION, own.clone())]);
        // Nobody took anything.
        let same = to_parent(&parent, &owned_by(&shown), "spec.replicas", "apps/v1").unwrap();
        assert_eq!(json!(same), parent["metadata"]["managedFields"]);
        // Another takes it; upstream forgets when.
        let taken = owned_by(&[entry("b", "Apply", VERSION, own.clone())]);
        let mut new = entry("b", "Apply", "apps/v1", own);
        new.as_object_mut().unwrap().remove("time");
        assert_eq!(
            to_parent(&parent, &taken, "spec.replicas", "apps/v1").unwrap(),
            [new, entry("a", "Apply", "apps/v1", rest.clone()), entry("u", "Update", "apps/v1", rest)]
        );
    }
}
