//! Reading a body: bytes within the limit, then a value by the kind's schema, with upstream's errors.
//!
//! Never defaults or validates.

use super::received::Received;
use crate::answer::Failure;
use actix_web::dev::Payload;
use api::codec::{self, Strictness};
use api::schema::SchemaRef;
use api::status::Status;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use serde_json::Value;

/// Largest body of a request (upstream's `MaxRequestBodyBytes`).
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

const OFFERED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// A decoded object and what the client should be warned of.
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// Unknown and duplicate fields, under `fieldValidation=Warn`.
    pub warnings: Vec<String>,
}

/// Reads the whole body.
///
/// # Errors
/// 413 over the limit; 400 when the client stops in the middle.
pub async fn body(payload: &mut Payload) -> Result<Bytes, Failure> {
    let mut out = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Status::bad_request(format!("the body could not be read: {error}")))?;
        if out.len() + chunk.len() > BODY_LIMIT {
            return Err(Status::too_large(format!("Request entity too large: limit is {BODY_LIMIT}")).into());
        }
        out.extend_from_slice(&chunk);
    }
    Ok(out.freeze())
}

/// How `fieldValidation` treats what the schema does not know; `Warn` unless the client says otherwise.
///
/// # Errors
/// 422-like 400 for another word.
pub fn strictness(received: &Received) -> Result<Strictness, Failure> {
    match received.query.get("fieldValidation") {
        None | Some("" | "Warn") => Ok(Strictness::Warn),
        Some("Strict") => Ok(Strictness::Strict),
        Some("Ignore") => Ok(Strictness::Ignore),
        Some(other) => Err(Status::bad_request(format!(
            "fieldValidation: Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        ))
        .into()),
    }
}

/// The media type of the body, without parameters; JSON when the client says nothing.
#[must_use]
pub fn content_type(received: &Received) -> String {
    let text = received.header("content-type").unwrap_or("application/json");
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media.is_empty() { "application/json".to_owned() } else { media }
}

/// Decodes an object in the encoding that the client names.
///
/// # Errors
/// 415 for an encoding we do not read, 400 for bytes that are not what they claim.
pub fn object(
    media: &str,
    bytes: &[u8],
    schema: SchemaRef<'_>,
    strictness: Strictness,
) -> Result<Decoded, Failure> {
    let decoded = match media {
        "application/json" => codec::json::decode(bytes, schema, strictness),
        "application/yaml" | "application/apply-patch+yaml" => codec::yaml::decode(bytes, schema, strictness),
        "application/vnd.kubernetes.protobuf" => codec::protobuf::decode(bytes, schema, strictness),
        _ => return Err(Status::unsupported_media_type(OFFERED).into()),
    };
    let decoded = decoded.map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(Decoded { value: decoded.value, warnings: decoded.warnings })
}

/// Checks `apiVersion` and `kind` of a body against what the path serves, and fills them when they are left out.
///
/// # Errors
/// 400 with upstream's sentence.
pub fn expect_kind(value: &mut Value, api_version: &str, kind: &str) -> Result<(), Failure> {
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    let found = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (found_version, found_kind) = (found(value, "apiVersion"), found(value, "kind"));
    if !found_version.is_empty() && found_version != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
        ))
        .into());
    }
    if !found_kind.is_empty() && found_kind != kind {
        return Err(Status::bad_request(format!(
            "{found_kind} in version {:?} cannot be handled as a {kind}: no kind {found_kind:?} is registered for the expected version",
            api_version
        ))
        .into());
    }
    api::value::set(value, "apiVersion", api_version);
    api::value::set(value, "kind", kind);
    Ok(())
}
