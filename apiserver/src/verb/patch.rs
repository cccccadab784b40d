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
use api::kind::{Gvk, Kind};
use api::patch::{self, PatchError, blame};
use api::schema::SchemaRef;
use api::status::Status;

/// The media types in the sentence of a 415 of custom resources, whose lists have no strategies.
const OFFERED_FOR_CUSTOM: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// A patch, read but not applied.
pub struct Patch {
    form: Form,
    strictness: Strictness,
    /// What strict clients do not want in the patch itself; empty for the others.
    found: Vec<String>,
}

enum Form {
    /// RFC 6902.
    Json(Vec<Value>),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' own.
    Strategic(Value),
}

/// Whether a kind takes patches of this media type.
///
/// # Errors
/// 415 for others.
pub fn offered(media: &str, kind: &Kind) -> Result<(), Failure> {
    match media {
        "application/json-patch+json" | "application/merge-patch+json" | apply::MEDIA => Ok(()),
        "application/strategic-merge-patch+json" if kind.custom.is_none() => Ok(()),
        _ if kind.custom.is_some() => Err(Status::unsupported_media_type(OFFERED_FOR_CUSTOM).into()),
        // Upstream's router has seen it before anybody else.
        _ => {
            let message = "415: Unsupported Media Type".to_owned();
            let details = json!({});
            Err(Status { message, details, ..Status::unsupported_media_type("") }.into())
        }
    }
}

impl Patch {
    /// Reads a patch of this media type, which is one that is offered.
    ///
    /// # Errors
    /// 400 for bytes that are no such patch.
    pub fn read(media: &str, text: &[u8], strictness: Strictness) -> Result<Patch, Failure> {
        let object = |before: &str| {
            let refuse = |why: String| Failure::from(Status::bad_request(format!("{before}{why}")));
            let (value, found) = codec::json::parse_noting(text).map_err(|error| refuse(error.to_string()))?;
            match value {
                Value::Object(_) | Value::Null => Ok((value, found)),
                other => {
                    let found = patch::kind_word(&other);
                    let wanted = "map[string]interface {}";
                    Err(refuse(format!("json: cannot unmarshal {found} into Go value of type {wanted}")))
                }
            }
        };
        let (form, found) = match media {
            "application/json-patch+json" => {
                let (operations, found) = patch::json::read(text).map_err(|error| Failure::from(error.status()))?;
                (Form::Json(operations), found)
            }
            "application/merge-patch+json" => match object("error decoding patch: ")? {
                (Value::Null, _) => return Err(Status::bad_request("Invalid JSON Patch").into()),
                (patch, found) => (Form::Merge(patch), found),
            },
            _ => match object("")? {
                (Value::Null, found) => (Form::Strategic(json!({})), found),
                (patch, found) => (Form::Strategic(patch), found),
            },
        };
        let found = if strictness == Strictness::Ignore { Vec::new() } else { found };
        Ok(Patch { form, strictness, found })
    }

    /// The patched object, decoded by the schema again: a patch cannot bring in what a body could not. Of a value of the wrong type the
    /// decoder of JSON speaks, after a strategic merge upstream's converter.
    ///
    /// # Errors
    /// 400, 422 and 500 in upstream's words; warnings come beside the object.
    pub fn apply(&self, object: &Value, gvk: Gvk, schema: SchemaRef<'_>) -> Result<(Value, Vec<String>), Failure> {
        let decode = |new| codec::json::decode_changed(new, object, schema, self.strictness);
        let patched = self.patched(object, schema)?;
        if let Some(why) = self.untyped(&patched, gvk, schema)? {
            return Err(self.blamed(object, schema, why)?);
        }
        let mut outcome = decode(patched);
        if let (Err(DecodeError::Type(_)), Form::Strategic(_)) = (&outcome, &self.form) {
            let mut patched = self.patched(object, schema)?;
            outcome = match patch::convert::restore(&mut patched, schema) {
                Ok(()) => decode(patched),
                Err(why) => Err(DecodeError::Type(why)),
            };
        }
        // Upstream's strategic merge knows the type and asks no text.
        if let (Ok(decoded), Form::Strategic(_)) = (&mut outcome, &self.form) {
            for (name, said) in [("apiVersion", gvk.api_version()), ("kind", gvk.kind.to_owned())] {
                api::value::set(&mut decoded.value, name, said);
            }
        }
        let strict = self.strictness == Strictness::Strict;
        let error = match outcome {
            Ok(decoded) if self.found.is_empty() => return Ok((decoded.value, self.in_order(decoded.warnings))),
            Ok(decoded) if !strict => {
                let found = self.found.iter().cloned().chain(self.in_order(decoded.warnings));
                return Ok((decoded.value, found.collect()));
            }
            Ok(_) => DecodeError::Strict(self.found.clone()),
            Err(DecodeError::Strict(found)) => {
                DecodeError::Strict(self.found.iter().cloned().chain(self.in_order(found)).collect())
            }
            Err(DecodeError::Syntax(why)) => return Err(Status::bad_request(why).into()),
            Err(error @ DecodeError::Type(_)) => error,
        };
        Err(self.blamed(object, schema, error.to_string())?)
    }

    /// Why the type of a patched object is not the one that it should be, where its text says its type.
    fn untyped(&self, patched: &Value, gvk: Gvk, schema: SchemaRef<'_>) -> Result<Option<String>, Failure> {
        if matches!(self.form, Form::Strategic(_)) || schema.def().free {
            return Ok(None);
        }
        for name in ["apiVersion", "kind"] {
            match patched.get(name) {
                None | Some(Value::Null | Value::String(_)) => {}
                Some(other) => {
                    let found = patch::kind_word(other);
                    let why = format!(
                        "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go struct field .{name} of type string"
                    );
                    return Ok(Some(why));
                }
            }
        }
        Ok(decoded::convertible(patched, gvk).err())
    }

    /// 422 for an object that cannot be read: upstream blames the patch, not the object, and names neither kind nor object.
    fn blamed(&self, object: &Value, schema: SchemaRef<'_>, why: String) -> Result<Failure, Failure> {
        // What a client is shown has all the fields that it always has.
        let mut shown = object.clone();
        codec::json::settle(&mut shown, schema);
        let object = &shown;
        let blamed = match &self.form {
            Form::Strategic(patch) => patch::strategic::printed(&patch::strategic::spent(object, patch, schema)),
            Form::Json(operations) => {
                let opened = blame::Opened::by_operations(operations);
                blame::text(&self.patched(object, schema)?, schema, &opened)
            }
            Form::Merge(patch) => {
                let opened = blame::Opened::by_merge(object, patch);
                blame::text(&self.patched(object, schema)?, schema, &opened)
            }
        };
        let error = FieldError::invalid(&Path::new("patch"), blamed, why);
        Ok(Status::invalid("", "", "", &vec![error]).into())
    }

    /// Unknown fields in the order in which they are told: upstream's converter sorts them.
    fn in_order(&self, mut found: Vec<String>) -> Vec<String> {
        if matches!(self.form, Form::Strategic(_)) {
            found.sort_unstable();
        }
        found
    }

    /// The patched object, whatever is in it.
    fn patched(&self, object: &Value, schema: SchemaRef<'_>) -> Result<Value, Failure> {
        let patched = match &self.form {
            Form::Json(operations) => patch::json::apply_all(object, operations),
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
    let kind = call.target.kind;
    offered(decoded::patch_type(call.received()), kind)?;
    if decoded::patch_type(call.received()) == apply::MEDIA {
        return apply::answer(server, call).await;
    }
    let strictness = call.write_query()?.strictness;
    let text = decoded::patch(call.received()).await?;
    let patch = Patch::read(decoded::patch_type(call.received()), &text, strictness)?;
    let options = call.write_options()?;
    let written = write::update(server, &call.authorized.permit, &call.target, &options, |old| {
        let old = old.ok_or_else(|| Status::not_found(call.target.resource(), &call.target.name))?;
        let object = patched(&call, &patch, old, kind.gvk(), kind.schema())?;
        Ok(Change { object, applied: false, rebased: true })
    })
    .await?;
    shown::object(call.received(), call.medium, kind, &written.entry, 200, server.now())
}

/// An object after a patch: one of this kind, by the name of the path.
///
/// # Errors
/// Those of `Patch::apply`, 400 for another object.
pub(super) fn patched(
    call: &Call,
    patch: &Patch,
    old: &Value,
    gvk: Gvk,
    schema: SchemaRef<'_>,
) -> Result<Value, Failure> {
    let (mut object, warned) = patch.apply(old, gvk, schema)?;
    let custom = schema.def().free;
    // Without a version upstream reads an object of its own, which has no fields.
    if !custom && api::value::text(&object, "apiVersion").is_empty() {
        call.target.is_named(&Value::Null)?;
    }
    decoded::expect_kind(&mut object, gvk, custom)?;
    call.target.is_named(&object)?;
    call.warn(warned);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_patch_is_the_patchs_fault() {
        let kind = api::kinds::by_gvk("apps", "v1", "Deployment").unwrap();
        let object = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a"}});
        let applied = |media: &str, text: &str, strictness| {
            let patch = Patch::read(&format!("application/{media}+json"), text.as_bytes(), strictness);
            patch.and_then(|patch| patch.apply(&object, kind.gvk(), kind.schema()))
        };
        let refused = |media: &str, text: &str, strictness, code: u16, said: &str| {
            let Err(Failure::Status(status)) = applied(media, text, strictness) else { panic!("{text} was taken") };
            assert_eq!((status.code, status.message.as_str()), (code, said), "{text}");
        };
        let invalid = |blamed: &str, why: &str| format!(r#" "" is invalid: patch: Invalid value: "{blamed}": {why}"#);
        let patched = |spec: &str| {
            format!(
                r#"{{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{{\"name\":\"a\"}},\"spec\":{spec},\"status\":{{}}}}"#
            )
        };
        let twice = r#"{"spec":{"replicas":1,"replicas":2,"zoo":1}}"#;
        let strict = r#"strict decoding error: duplicate field "spec.replicas", unknown field "spec.zoo""#;
        // Fields that there always are come with those that were sent.
        let with = |replicas: &str, more: &str| {
            let always =
                r#"\"selector\":null,\"strategy\":{},\"template\":{\"metadata\":{},\"spec\":{\"containers\":null}}"#;
            patched(&format!(r#"{{\"replicas\":{replicas},{always}{more}}}"#))
        };
        let merged = with("2", r#",\"zoo\":1"#);
        refused("merge-patch", twice, Strictness::Strict, 422, &invalid(&merged, strict));
        let strategic = "map[spec:map[replicas:2 zoo:1]]";
        refused("strategic-merge-patch", twice, Strictness::Strict, 422, &invalid(strategic, strict));
        let add = r#"[{"op":"add","path":"/spec","value":{},"op":"add","x":1}]"#;
        let said = [r#"json patch unknown field "[0].x""#, r#"json patch duplicate field "[0].op""#];
        let strict = format!("strict decoding error: {}", said.join(", "));
        refused("json-patch", add, Strictness::Strict, 422, &invalid(&patched("{}"), &strict));
        assert_eq!(applied("json-patch", add, Strictness::Warn).unwrap().1, said);
        assert_eq!(applied("json-patch", add, Strictness::Ignore).unwrap().1, Vec::<String>::new());

        let wrong = r#"{"spec":{"replicas":"a"}}"#;
        let why = "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
        refused("merge-patch", wrong, Strictness::Warn, 422, &invalid(&with(r#"\"a\""#, ""), why));
        let why = "unrecognized type: int32";
        refused("strategic-merge-patch", wrong, Strictness::Warn, 422, &invalid("map[spec:map[replicas:a]]", why));
        let (whole, _) =
            applied("strategic-merge-patch", r#"{"spec":{"replicas":4294967298.0}}"#, Strictness::Warn).unwrap();
        assert_eq!(whole["spec"]["replicas"], 2);

        let typed = r#"{"kind":"Pod","apiVersion":"v1"}"#;
        let (whole, _) = applied("strategic-merge-patch", typed, Strictness::Warn).unwrap();
        assert_eq!((&whole["kind"], &whole["apiVersion"]), (&json!("Deployment"), &json!("apps/v1")));
        let pod = r#"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"selector\":null,\"template\":{\"metadata\":{},\"spec\":{\"containers\":null}},\"strategy\":{}},\"status\":{}}"#;
        let why = "converting (v1.Pod) to (apps.Deployment): unknown conversion";
        refused("merge-patch", typed, Strictness::Warn, 422, &invalid(pod, why));

        let list = "json: cannot unmarshal array into Go value of type map[string]interface {}";
        refused("strategic-merge-patch", "[]", Strictness::Warn, 400, list);
        refused("merge-patch", "[]", Strictness::Warn, 400, &format!("error decoding patch: {list}"));
        refused("merge-patch", "null", Strictness::Warn, 400, "Invalid JSON Patch");
        assert!(applied("strategic-merge-patch", "null", Strictness::Warn).is_ok());
        let op =
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string";
        refused("json-patch", r#"[{"op":1}]"#, Strictness::Warn, 400, op);
        let unknown = "unknown patch type: %!s(int64=1) in map: map[$patch:1]";
        refused("strategic-merge-patch", r#"{"metadata":{"$patch":1}}"#, Strictness::Warn, 500, unknown);
    }
}
