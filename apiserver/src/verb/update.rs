//! PUT of an object or of a subresource that shows the whole object.

use super::{Call, shown};
use crate::answer::{Answer, Failure};
use crate::registry::write::{self, Change};
use crate::server::Server;
use api::status::Status;

/// Answers an update.
///
/// # Errors
/// Those of decoding and of the write.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let kind = call.target.kind;
    let object = call.own_object().await?;
    let options = call.write_options()?;
    call.target.is_named(&object)?;
    let may_create = kind.create_on_update && call.part.is_none();
    let written = write::update(server, &call.authorized.permit, &call.target, &options, |old| match old {
        None if !may_create => Err(Status::not_found(call.target.resource(), &call.target.name).into()),
        _ => Ok(Change { object: object.clone(), applied: false, rebased: false }),
    })
    .await?;
    let code = if written.created { 201 } else { 200 };
    shown::object(call.received(), call.medium, kind, &written.entry, code, server.now())
}
