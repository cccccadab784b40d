//! PATCH: JSON patch, merge patch, strategic merge patch; apply has its own file.
//!
//! The patch is applied to the object as it is served, and the result goes the way of an update.

use super::{Call, apply, shown};
use crate::answer::{Answer, Failure};
use crate::registry::write::{self, Change};
use crate::road::decoded;
use crate::server::Server;
use api::codec::{self, DecodeError, Strictness};
use api::field_path::{FieldError, Path};
use api::json::Value;
use api::kind::Kind;
use api::patch::{self, PatchError};
use api::schema::SchemaRef;
use api::status::Status;

/// The media types in the sentence of a 415.
const OFFERED: &str = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml, \
                       application/strategic-merge-patch+json";

/// The same of custom resources, whose lists have no strategies.
const OFFERED_FOR_CUSTOM: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// A patch, read but not applied.
pub struct Patch {
    /// As the client sent it.
    text: bytes::Bytes,
    form: Form,
}

enum Form {
    /// RFC 6902; read where it is applied.
    Json,
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
    pub fn read(media: &str, text: bytes::Bytes, kind: &Kind) -> Result<Patch, Failure> {
        let parse = |text: &[u8]| -> Result<Value, Failure> {
            let value = codec::json::parse(text)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            if !value.is_object() {
                return Err(Status::bad_request(
                    "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
                )
                .into());
            }
            Ok(value)
        };
        let form = match media {
            "application/json-patch+json" => Form::Json,
            "application/merge-patch+json" => Form::Merge(parse(&text)?),
            "application/strategic-merge-patch+json" if kind.custom.is_none() => Form::Strategic(parse(&text)?),
            _ if kind.custom.is_some() => return Err(Status::unsupported_media_type(OFFERED_FOR_CUSTOM).into()),
            _ => return Err(Status::unsupported_media_type(OFFERED).into()),
        };
        Ok(Patch { text, form })
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
        let refused = |error: PatchError| error.status();
        let patched = match &self.form {
            Form::Json => patch::json::apply(object, &self.text).map_err(refused)?,
            Form::Merge(patch) => patch::merge::apply(object, patch),
            Form::Strategic(patch) => patch::strategic::apply(object, patch, schema).map_err(refused)?,
        };
        match codec::json::decode_changed(patched, object, schema, strictness) {
            Ok(decoded) => Ok((decoded.value, decoded.warnings)),
            // Upstream blames the patch, not the object, and names neither kind nor object.
            Err(error @ DecodeError::Strict(_)) => {
                let text = String::from_utf8_lossy(&self.text).into_owned();
                let error = FieldError::invalid(&Path::new("patch"), text, error.to_string());
                Err(Status::invalid("", "", "", &vec![error]).into())
            }
            Err(error) => Err(Status::bad_request(error.to_string()).into()),
        }
    }
}

/// Answers a patch.
///
/// # Errors
/// Those of reading and applying the patch and of the write.
pub async fn answer(server: &Server, call: Call) -> Result<Answer, Failure> {
    let media = decoded::content_type(call.received());
    if media == apply::MEDIA {
        return apply::answer(server, call).await;
    }
    let kind = call.target.kind;
    let strictness = call.write_query()?.strictness;
    let patch = Patch::read(&media, decoded::patch(call.received()).await?, kind)?;
    let options = call.write_options()?;
    let mut warnings = Vec::new();
    let written = write::update(server, &call.authorized.permit, &call.target, &options, |old| {
        let old = old.ok_or_else(|| Status::not_found(call.target.resource(), &call.target.name))?;
        let (mut object, warned) = patch.apply(old, kind.schema(), strictness)?;
        decoded::expect_kind(&mut object, kind.gvk(), kind.custom.is_some())?;
        warnings = warned;
        Ok(Change { object, applied: false, rebased: true })
    })
    .await?;
    let answer = shown::object(call.received(), call.medium, kind, &written.entry, 200, server.now())?;
    Ok(answer.warn(warnings).warn(written.warnings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn unknown_fields_of_a_patch_are_the_patchs_fault() {
        let kind = api::kinds::by_gvk("apps", "v1", "Deployment").unwrap();
        let schema = kind.schema();
        let text = r#"{"spec":{"replicaz":2}}"#;
        let patch = Patch::read("application/merge-patch+json", text.into(), kind).unwrap();
        let object = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a"}});
        let Err(Failure::Status(status)) = patch.apply(&object, schema, Strictness::Strict) else {
            panic!("the patch was taken");
        };
        assert_eq!(status.code, 422);
        assert_eq!(
            status.message,
            r#" "" is invalid: patch: Invalid value: "{\"spec\":{\"replicaz\":2}}": strict decoding error: unknown field "spec.replicaz""#
        );
        let (_, warnings) = patch.apply(&object, schema, Strictness::Warn).unwrap();
        assert_eq!(warnings, [r#"unknown field "spec.replicaz""#]);
    }
}
