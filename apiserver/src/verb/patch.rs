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
use api::json::{Value, json};
use api::kind::Kind;
use api::patch::{self, PatchError};
use api::schema::SchemaRef;
use api::status::Status;

/// The media types in the sentence of a 415 of custom resources, whose lists have no strategies.
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
            // Upstream's router has seen it before anybody else.
            _ => {
                let message = "415: Unsupported Media Type".to_owned();
                let details = json!({});
                return Err(Status { message, details, ..Status::unsupported_media_type("") }.into());
            }
        };
        Ok(Patch { text, form })
    }

    /// The patched object, decoded by the schema again: a patch cannot bring in what a body could not. Of a value of the wrong type the
    /// decoder of JSON speaks; after a strategic merge upstream has another, with words of its own.
    ///
    /// # Errors
    /// 400 and 422 in upstream's words; warnings come beside the object.
    pub fn apply(
        &self,
        object: &Value,
        schema: SchemaRef<'_>,
        strictness: Strictness,
    ) -> Result<(Value, Vec<String>), Failure> {
        let error = match codec::json::decode_changed(self.patched(object, schema)?, object, schema, strictness) {
            Ok(decoded) => return Ok((decoded.value, decoded.warnings)),
            Err(error) => error,
        };
        let blamed = match (&error, &self.form) {
            (DecodeError::Strict(_), _) => String::from_utf8_lossy(&self.text).into_owned(),
            (DecodeError::Type(_), Form::Strategic(patch)) => patch::strategic::printed(patch),
            (DecodeError::Type(_), Form::Json | Form::Merge(_)) => self.patched(object, schema)?.to_string(),
            (DecodeError::Syntax(_), _) => return Err(Status::bad_request(error.to_string()).into()),
        };
        // Upstream blames the patch, not the object, and names neither kind nor object.
        let error = FieldError::invalid(&Path::new("patch"), blamed, error.to_string());
        Err(Status::invalid("", "", "", &vec![error]).into())
    }

    /// The patched object, whatever is in it.
    fn patched(&self, object: &Value, schema: SchemaRef<'_>) -> Result<Value, Failure> {
        let patched = match &self.form {
            Form::Json => patch::json::apply(object, &self.text),
            Form::Merge(patch) => Ok(patch::merge::apply(object, patch)),
            Form::Strategic(patch) => patch::strategic::apply(object, patch, schema),
        };
        patched.map_err(|error: PatchError| error.status().into())
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
        for (media, text, blamed) in [
            ("application/strategic-merge-patch+json", r#"{"spec":{"replicas":"a"}}"#, "map[spec:map[replicas:a]]"),
            (
                "application/merge-patch+json",
                r#"{"spec":{"replicas":"a"}}"#,
                r#"{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"replicas\":\"a\"}}"#,
            ),
        ] {
            let patch = Patch::read(media, text.into(), kind).unwrap();
            let Err(Failure::Status(status)) = patch.apply(&object, schema, Strictness::Warn) else {
                panic!("the patch was taken");
            };
            let why = "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
            assert_eq!(status.code, 422);
            assert_eq!(status.message, format!(r#" "" is invalid: patch: Invalid value: "{blamed}": {why}"#));
        }
        let (_, warnings) = patch.apply(&object, schema, Strictness::Warn).unwrap();
        assert_eq!(warnings, [r#"unknown field "spec.replicaz""#]);
    }
}
