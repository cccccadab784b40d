//! Reading a body: bytes within the limit, then a value by the kind's schema, with upstream's errors.
//!
//! Never defaults or validates.

use super::received::Received;
use crate::answer::Failure;
use api::codec::{self, DecodeError, Strictness};
use api::field_path::{FieldError, Path};
use api::json::Value;
use api::kind::Gvk;
use api::schema::{SchemaRef, native};
use api::status::Status;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

/// Largest body of a request (upstream's `MaxRequestBodyBytes`).
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// How much of a body that is too large is still read: a client that is cut off while it writes never sees the answer.
const DRAINED: usize = 32 * 1024 * 1024;

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
pub async fn body(received: &Received) -> Result<Bytes, Failure> {
    let mut payload = received.body.take();
    let mut out = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Status::bad_request(format!("the body could not be read: {error}")))?;
        if out.len() + chunk.len() > BODY_LIMIT {
            let mut drained = chunk.len();
            while drained < DRAINED
                && let Some(Ok(chunk)) = payload.next().await
            {
                drained += chunk.len();
            }
            return Err(Status::too_large(format!("Request entity too large: limit is {BODY_LIMIT}")).into());
        }
        out.extend_from_slice(&chunk);
    }
    Ok(out.freeze())
}

/// Reads the whole body of a patch.
///
/// # Errors
/// As for `body`.
pub async fn patch(received: &Received) -> Result<Bytes, Failure> {
    let body = body(received).await?;
    if let Some(slip) = &received.slip {
        slip.patch(&content_type(received), &body);
    }
    Ok(body)
}

/// The media type of the body, without parameters; JSON when the client says nothing.
#[must_use]
pub fn content_type(received: &Received) -> String {
    let text = received.header("content-type").unwrap_or("application/json");
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media.is_empty() { "application/json".to_owned() } else { media }
}

/// The media type of a patch, which upstream compares letter by letter.
#[must_use]
pub fn patch_type(received: &Received) -> &str {
    let text = received.header("content-type").unwrap_or_default();
    text.split_once(';').map_or(text, |(media, _)| media)
}

/// Decodes an object in the encoding that the client names.
///
/// # Errors
/// 415 for an encoding we do not read, 400 for bytes that are not what they claim.
pub fn object(media: &str, bytes: &[u8], schema: SchemaRef<'_>, strictness: Strictness) -> Result<Decoded, Failure> {
    let decoded = match media {
        "application/json" => codec::json::decode(bytes, schema, strictness),
        "application/yaml" | "application/apply-patch+yaml" => codec::yaml::decode(bytes, schema, strictness),
        "application/vnd.kubernetes.protobuf" => codec::protobuf::decode(bytes, schema, strictness),
        _ => return Err(Status::unsupported_media_type(OFFERED).into()),
    };
    let decoded = decoded.map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(Decoded { value: decoded.value, warnings: decoded.warnings })
}

/// Decodes an object of one type; what is wrong with it is told as upstream tells it, with the type that the body claims.
///
/// # Errors
/// 415 for an encoding we do not read, 400 for everything else.
pub fn typed(
    media: &str,
    bytes: &[u8],
    schema: SchemaRef<'_>,
    strictness: Strictness,
    gvk: Gvk,
) -> Result<Decoded, Failure> {
    let decoded = match media {
        "application/json" => codec::json::decode(bytes, schema, strictness),
        "application/yaml" => codec::yaml::decode(bytes, schema, strictness),
        "application/vnd.kubernetes.protobuf" if !bytes.starts_with(&codec::protobuf::MAGIC) => {
            let prefix = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
            let why = if bytes.is_empty() { "empty data" } else { prefix };
            return Err(unrecognized(gvk, why, bytes));
        }
        _ => return object(media, bytes, schema, strictness),
    };
    let error = match decoded {
        Ok(decoded) => return Ok(Decoded { value: decoded.value, warnings: decoded.warnings }),
        Err(error) => error,
    };
    if let DecodeError::Syntax(why) = error {
        let prefix = if media == "application/json" { "couldn't get version/kind; json parse error: " } else { "" };
        return Err(unrecognized(gvk, &format!("{prefix}{why}"), bytes));
    }
    let value = if media == "application/json" { codec::json::parse(bytes) } else { codec::yaml::parse(bytes) };
    let value = value.unwrap_or_default();
    if let Some(why) = unclaimed(&value) {
        let why = format!("couldn't get version/kind; json parse error: json: cannot unmarshal {why}");
        return Err(unrecognized(gvk, &why, bytes));
    }
    let claim = Claim::of(&value);
    // A body of another type has fields of its own: that it is another type is the better answer.
    claim.check(gvk, schema.def().free)?;
    let (version, kind) = claim.or(gvk);
    Err(Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {error}", gvk.kind))
        .into())
}

/// 400 for a body of which nobody can say what it is.
fn unrecognized(expected: Gvk, why: &str, bytes: &[u8]) -> Failure {
    let (kind, summary) = (expected.kind, summary(bytes));
    let why = format!("the object provided is unrecognized (must be of type {kind}): {why} ({summary})");
    Status::bad_request(why).into()
}

/// Why a body cannot say what it is: it is no object, or says so in something else than texts.
fn unclaimed(value: &Value) -> Option<String> {
    const CLAIM: &str =
        r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    if !value.is_object() && !value.is_null() {
        return Some(format!("{} into Go value of type {CLAIM}", api::patch::kind_word(value)));
    }
    let told = |name: &&str| value.get(name).is_some_and(|said| !said.is_string() && !said.is_null());
    let name = ["apiVersion", "kind"].iter().find(|name| told(name))?;
    let word = value.get(name).map(api::patch::kind_word)?;
    Some(format!("{word} into Go struct field .{name} of type string"))
}

/// What type a body says it has; empty where it says nothing.
struct Claim {
    api_version: String,
    kind: String,
    name: String,
}

impl Claim {
    fn of(value: &Value) -> Claim {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Claim { api_version: text("apiVersion"), kind: text("kind"), name: api::meta::name(value).to_owned() }
    }

    /// Version without its group, and kind, as far as they are said.
    fn or(&self, expected: Gvk) -> (&str, &str) {
        let version = self.api_version.rsplit('/').next().filter(|version| !version.is_empty());
        let kind = Some(self.kind.as_str()).filter(|kind| !kind.is_empty());
        (version.unwrap_or(expected.version), kind.unwrap_or(expected.kind))
    }

    /// 400 for a type that is not the expected one.
    fn check(&self, expected: Gvk, custom: bool) -> Result<(), Failure> {
        let name = &self.name;
        let (version, kind) = self.or(expected);
        let expected_version = expected.api_version();
        let api_version = if self.api_version.is_empty() { expected_version.as_str() } else { &self.api_version };
        if kind == expected.kind && api_version == expected_version {
            return Ok(());
        }
        if custom && api_version != expected_version {
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected_version})"
            ))
            .into());
        }
        if custom {
            let error = FieldError::invalid(&Path::new("kind"), kind, format!("must be {}", expected.kind));
            return Err(Status::invalid(expected.group, expected.kind, name, &vec![error]).into());
        }
        let (group, _) = api_version.rsplit_once('/').unwrap_or_default();
        let known = native().of_gvk(group, version, kind).is_some();
        if known && kind == expected.kind {
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected_version})"
            ))
            .into());
        }
        let why = unconvertible(kind, api_version, expected);
        Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {why}",
            expected.kind
        ))
        .into())
    }
}

/// Whether what a patch made can be read as this type; otherwise why not.
pub fn convertible(value: &Value, expected: Gvk) -> Result<(), String> {
    let Claim { api_version, kind, .. } = Claim::of(value);
    let expected_version = expected.api_version();
    let api_version = if api_version.is_empty() { &expected_version } else { &api_version };
    let kind = if kind.is_empty() { expected.kind } else { &kind };
    if kind == expected.kind && *api_version == expected_version {
        return Ok(());
    }
    Err(unconvertible(kind, api_version, expected))
}

/// Why an object of this type is none of the expected one: upstream tells one that it does not know from one that it cannot convert.
fn unconvertible(kind: &str, api_version: &str, expected: Gvk) -> String {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if native().of_gvk(group, version, kind).is_none() {
        return unregistered(kind, api_version, "pkg/api/legacyscheme/scheme.go:30");
    }
    format!("converting ({version}.{kind}) to ({}.{}): unknown conversion", expected.go_package(), expected.kind)
}

/// What is wrong with a body of a type that nobody knows.
pub fn unregistered(kind: &str, api_version: &str, scheme: &str) -> String {
    format!("no kind {kind:?} is registered for version {api_version:?} in scheme {scheme:?}")
}

/// The beginning of a body, for a sentence: text when it looks like JSON, hexadecimal otherwise.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    if bytes.is_empty() {
        return "<empty>".to_owned();
    }
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    let text = if bytes.starts_with(b"{") {
        String::from_utf8_lossy(shown).into_owned()
    } else {
        shown.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    if bytes.len() > SHOWN { format!("{text} ...") } else { text }
}

/// Checks `apiVersion` and `kind` of a body against what the path serves, and fills them when they are left out. `custom`: of a
/// custom resource, which upstream tells in other words.
///
/// # Errors
/// 400 with upstream's sentence.
pub fn expect_kind(value: &mut Value, gvk: Gvk, custom: bool) -> Result<(), Failure> {
    if !value.is_object() {
        *value = Value::Object(api::json::Map::new());
    }
    Claim::of(value).check(gvk, custom)?;
    api::value::set(value, "apiVersion", gvk.api_version());
    api::value::set(value, "kind", gvk.kind);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_the_expected_type_is_told_as_upstream_does() {
        let gvk = Gvk { group: "", version: "v1", kind: "ConfigMap" };
        let schema = native().of_gvk("", "v1", "ConfigMap").unwrap();
        let check = |body: &str, want: &str| {
            let decoded = typed("application/json", body.as_bytes(), schema, Strictness::Strict, gvk);
            let outcome = decoded.and_then(|mut decoded| expect_kind(&mut decoded.value, gvk, false));
            let Err(Failure::Status(status)) = outcome else { panic!("{body} was taken") };
            assert_eq!((status.code, status.message.as_str()), (400, want), "{body}");
        };
        check(
            "",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
        );
        check(
            r#"{"kind":"ConfigMap","apiVersion":"v1""#,
            r#"the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({"kind":"ConfigMap","apiVersio ...)"#,
        );
        check(
            r#"{"kind":"Secret","apiVersion":"v1"}"#,
            r#"Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"#,
        );
        check(
            r#"{"kind":"ConfigMapList","apiVersion":"v1"}"#,
            r#"ConfigMapList in version "v1" cannot be handled as a ConfigMap: converting (v1.ConfigMapList) to (core.ConfigMap): unknown conversion"#,
        );
        check(
            r#"{"kind":"Nothing"}"#,
            r#"Nothing in version "v1" cannot be handled as a ConfigMap: no kind "Nothing" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        );
        check(
            r#"{"nothing":1}"#,
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "nothing""#,
        );
        assert_eq!(summary(b"[1]"), "5b315d");
    }
}
