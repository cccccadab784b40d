//! `scale` of any kind that has one: `autoscaling/v1 Scale` over the kind's own fields.

use super::{Call, part_schema, patch::Patch, shown};
use crate::answer::{Answer, Failure};
use crate::registry::read::{self, served};
use crate::registry::write::{self, Change};
use crate::road::decoded;
use crate::server::Server;
use api::field_path::{FieldError, Path};
use api::kind::{Gvk, Part};
use api::selector::LabelSelector;
use api::status::Status;
use api::{meta, value};
use serde_json::{Value, json};

const SCALE: Gvk = Gvk { group: "autoscaling", version: "v1", kind: "Scale" };

/// Paths of a kind's scale.
#[derive(Clone, Copy)]
struct Paths {
    replicas: &'static str,
    observed: &'static str,
    selector: &'static str,
}

/// Answers get, update and patch of a scale.
///
/// # Errors
/// 404, 409, 422; those of decoding and of the write.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let Some(Part::Scale { replicas, observed, selector }) = call.part.map(|part| part.part) else {
        return Err(Status::no_such_path().into());
    };
    let paths = Paths { replicas, observed, selector };
    let schema = part_schema(SCALE)?;
    let kind = call.target.kind;
    if call.received().info.verb == "get" {
        let entry = read::get(server, &call.authorized.permit, &call.target).await?;
        return shown::value(call.medium, &scale(&served(kind, &entry), paths), schema, 200);
    }
    let strictness = call.write_query()?.strictness;
    let options = call.write_options()?;
    let wanted = if call.received().info.verb == "update" {
        Wanted::Object(call.part_object().await?.value)
    } else {
        let media = decoded::content_type(call.received());
        Wanted::Patch(Patch::read(&media, decoded::body(&call.received().body).await?)?)
    };
    let written = write::update(server, &call.authorized.permit, &call.target, &options, |old| {
        let old = old.ok_or_else(|| Status::not_found(call.target.resource(), &call.target.name))?;
        let new = match &wanted {
            Wanted::Object(object) => object.clone(),
            Wanted::Patch(patch) => patch.apply(&scale(old, paths), schema, strictness)?.0,
        };
        rescaled(old, &new, paths, &call, matches!(wanted, Wanted::Patch(_)))
    })
    .await?;
    shown::value(call.medium, &scale(&served(kind, &written.entry), paths), schema, 200)
}

enum Wanted {
    Object(Value),
    Patch(Patch),
}

fn rescaled(old: &Value, new: &Value, paths: Paths, call: &Call, rebased: bool) -> Result<Change, Failure> {
    let count = value::int(new, "spec.replicas").unwrap_or(0);
    if count < 0 {
        let field = Path::new("spec").child("replicas");
        let error = FieldError::invalid(&field, count, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", &call.target.name, &vec![error]).into());
    }
    let mut object = old.clone();
    value::set(&mut object, paths.replicas, count);
    match meta::resource_version(new) {
        "" => drop(value::remove(&mut object, "metadata.resourceVersion")),
        version => value::set(&mut object, "metadata.resourceVersion", version),
    }
    Ok(Change { object, applied: false, rebased })
}

/// The scale of an object.
fn scale(object: &Value, paths: Paths) -> Value {
    let mut meta = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(found) = value::get(object, &format!("metadata.{field}")) {
            value::set(&mut meta, field, found.clone());
        }
    }
    let selector = value::get(object, paths.selector).and_then(|found| {
        let labels = found.get("matchLabels").is_some() || found.get("matchExpressions").is_some();
        let selector = if labels { found.clone() } else { json!({"matchLabels": found}) };
        LabelSelector::from_value(&selector).ok().map(|selector| selector.to_string())
    });
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": value::int(object, paths.replicas).unwrap_or(0)},
        "status": {
            "replicas": value::int(object, paths.observed).unwrap_or(0),
            "selector": selector.unwrap_or_default(),
        },
    })
}
