//! PATCH: JSON patch, merge patch, strategic merge patch; apply has its own file.
//!
//! The patch is applied to the object as it is served, and the result goes the way of an update.

use super::{Call, apply, shown};
use crate::answer::{Answer, Failure};
use crate::registry::write::{self, Change};
use crate::road::decoded;
use crate::server::Server;
use api::codec::{self, Strictness};
use api::patch::{self, PatchError};
use api::schema::SchemaRef;
use api::status::Status;
use serde_json::Value;

/// The media types in the sentence of a 415.
const OFFERED: &str = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml, \
                       application/strategic-merge-patch+json";

/// A patch, read but not applied.
pub enum Patch {
    /// RFC 6902, as bytes.
    Json(bytes::Bytes),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' own.
    Strategic(Value),
}

impl Patch {
    /// Reads a patch of this media type.
    ///
    /// # Errors
    /// 415 for another type, 400 for bytes that are not JSON.
    pub fn read(media: &str, body: bytes::Bytes) -> Result<Patch, Failure> {
        let parse = |body: &[u8]| -> Result<Value, Failure> {
            let value = codec::json::parse(body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            if !value.is_object() {
                return Err(Status::bad_request(
                    "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
                )
                .into());
            }
            Ok(value)
        };
        match media {
            "application/json-patch+json" => Ok(Patch::Json(body)),
            "application/merge-patch+json" => Ok(Patch::Merge(parse(&body)?)),
            "application/strategic-merge-patch+json" => Ok(Patch::Strategic(parse(&body)?)),
            _ => Err(Status::unsupported_media_type(OFFERED).into()),
        }
    }

    /// The patched object, decoded by the schema again: a patch cannot bring in what a body could not.
    ///
    /// # Errors
    /// 400 and 422 in upstream's words; warnings come beside the object.
    pub fn apply(
        &self,
        object: &Value,
        schema: SchemaRef<'_>,
        strictness: Strictness,
    ) -> Result<(Value, Vec<String>), Failure> {
        let patched = match self {
            Patch::Json(patch) => patch::json::apply(object, patch).map_err(refused)?,
            Patch::Merge(patch) => patch::merge::apply(object, patch),
            Patch::Strategic(patch) => patch::strategic::apply(object, patch, schema).map_err(refused)?,
        };
        let bytes = serde_json::to_vec(&patched).map_err(Status::internal)?;
        let decoded = decoded::object("application/json", &bytes, schema, strictness)?;
        Ok((decoded.value, decoded.warnings))
    }
}

/// A patch error as a failure.
#[must_use]
pub fn refused(error: PatchError) -> Failure {
    match error {
        PatchError::BadRequest(why) => Status::bad_request(why).into(),
        PatchError::Unprocessable(why) => {
            Status { code: 422, reason: "Invalid", message: why, details: serde_json::json!({}) }.into()
        }
    }
}

/// Answers a patch.
///
/// # Errors
/// Those of reading and applying the patch and of the write.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let media = decoded::content_type(call.received());
    if media == "application/apply-patch+yaml" {
        return apply::answer(server, call).await;
    }
    let kind = call.target.kind;
    let strictness = decoded::strictness(call.received())?;
    let patch = Patch::read(&media, decoded::body(&mut call.authorized.received.body).await?)?;
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let written = write::update(server, &call.authorized.permit, &call.target, &options, |old| {
        let old = old.ok_or_else(|| Status::not_found(call.target.resource(), &call.target.name))?;
        let (mut object, warned) = patch.apply(old, kind.schema(), strictness)?;
        decoded::expect_kind(&mut object, kind.gvk())?;
        warnings = warned;
        Ok(Change { object, applied: false, rebased: true })
    })
    .await?;
    let answer = shown::object(call.received(), call.medium, kind, &written.entry, 200, server.now())?;
    Ok(answer.warn(warnings).warn(written.warnings))
}
