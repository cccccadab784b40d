//! `scale` of any kind that has one: `autoscaling/v1 Scale` over the kind's own fields.

use super::{Call, part_schema, patch::Patch, shown};
use crate::answer::{Answer, Failure};
use crate::registry::admitted::{self, SCALE, Scaled};
use crate::registry::read::{self, served};
use crate::registry::write::{self, Change};
use crate::road::decoded;
use crate::server::Server;
use admission::Shape as _;
use api::field_path::{FieldError, Path};
use api::json::Value;
use api::status::Status;
use api::{meta, value};

/// Answers get, update and patch of a scale.
///
/// # Errors
/// 404, 409, 422; those of decoding and of the write.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let paths = admitted::shape(call.part).ok_or_else(Status::no_such_path)?;
    let schema = part_schema(SCALE)?;
    let kind = call.target.kind;
    if call.received().info.verb == "get" {
        let entry = read::get(server, &call.authorized.permit, &call.target).await?;
        let object = served(kind, &entry);
        if kind.custom.is_some() && value::int(&object, paths.replicas).is_none() {
            let field = format!(".{}", paths.replicas);
            return Err(Status::internal(format!("the spec replicas field {field:?} does not exist")).into());
        }
        return shown::value(call.medium, &paths.show(&object), schema, 200);
    }
    let strictness = call.write_query()?.strictness;
    let options = call.write_options()?;
    let wanted = if call.received().info.verb == "update" {
        Wanted::Object(call.part_object().await?)
    } else {
        let media = decoded::content_type(call.received());
        Wanted::Patch(Patch::read(&media, &decoded::patch(call.received()).await?, kind, strictness)?)
    };
    let written = write::update(server, &call.authorized.permit, &call.target, &options, |old| {
        let old = old.ok_or_else(|| Status::not_found(call.target.resource(), &call.target.name))?;
        let new = match &wanted {
            Wanted::Object(object) => {
                if meta::name(object).is_empty() {
                    return Err(nameless(&call.target.name));
                }
                object.clone()
            }
            Wanted::Patch(patch) => patch.apply(&paths.show(old), schema, SCALE)?.0,
        };
        rescaled(old, &new, paths, &call, matches!(wanted, Wanted::Patch(_)))
    })
    .await?;
    shown::value(call.medium, &paths.show(&served(kind, &written.entry)), schema, 200)
}

/// 400 for an object that does not say its name.
fn nameless(name: &str) -> Failure {
    let why = format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
    Status::bad_request(why).into()
}

enum Wanted {
    Object(Value),
    Patch(Patch),
}

fn rescaled(old: &Value, new: &Value, paths: Scaled, call: &Call, rebased: bool) -> Result<Change, Failure> {
    let count = value::int(new, "spec.replicas").unwrap_or(0);
    if count < 0 {
        let field = Path::new("spec").child("replicas");
        let error = FieldError::invalid(&field, count, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", &call.target.name, &vec![error]).into());
    }
    let mut object = old.clone();
    paths.take(&mut object, new);
    Ok(Change { object, applied: false, rebased })
}
