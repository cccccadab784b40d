//! PATCH with `application/apply-patch+yaml`: server-side apply (KEP-555).

use super::{Call, shown};
use crate::answer::{Answer, Failure};
use crate::registry::versions::Others;
use crate::registry::write::{self, Change};
use crate::road::decoded;
use crate::server::Server;
use api::apply::{self, Manager, Operation};
use api::codec::{self, DecodeError, Decoded, Strictness};
use api::json::Value;
use api::kind::Gvk;
use api::schema::SchemaRef;
use api::status::Status;

/// The media type of an applied configuration.
pub const MEDIA: &str = "application/apply-patch+yaml";

/// Answers an apply.
///
/// # Errors
/// 422 without a field manager, 400 with managed fields in the body, 409 with one cause per conflicting field; those of
/// the write.
pub async fn answer(server: &Server, call: Call) -> Result<Answer, Failure> {
    let kind = call.target.kind;
    let query = call.write_query()?;
    let (strictness, force) = (query.strictness, query.force);
    let wanted = configuration(&call, kind.gvk(), kind.schema(), strictness).await?;
    let options = call.write_options()?;
    let (time, version) = (server.now_text(), kind.api_version());
    let others = Others::new(kind);
    let who = Manager {
        manager: &options.manager,
        operation: Operation::Apply,
        api_version: &version,
        time: &time,
        subresource: &options.subresource,
        versions: Some(&others),
    };
    let change = |old: Option<&Value>| {
        if old.is_none() && call.part.is_some() {
            return Err(Status::not_found(call.target.resource(), &call.target.name).into());
        }
        let reset = write::reset_fields(kind, &options.subresource);
        let applied = apply::apply_resetting(old, &wanted.object, kind.schema(), &who, force, &reset);
        let mut object = applied.map_err(|error| Failure::from(error.status()))?;
        wanted.judge(&call)?;
        call.target.is_named(&object)?;
        if call.target.kind.namespaced {
            api::value::set_default(&mut object, "metadata.namespace", call.target.namespace.clone());
        }
        Ok(Change { object, applied: true, rebased: true })
    };
    let permit = &call.authorized.permit;
    let written = loop {
        // Others own fields in a version that must be asked for before it can be said what they own now.
        match write::update(server, permit, &call.target, &options, change).await {
            Err(_) if others.found(&server.conversions).await => {}
            outcome => break outcome?,
        }
    };
    let code = if written.created { 201 } else { 200 };
    shown::object(call.received(), call.medium, kind, &written.entry, code, server.now())
}

/// What a client applies.
pub(super) struct Configuration {
    pub(super) object: Value,
    /// What is set twice, by its lines; empty where nobody wants to know.
    twice: Vec<String>,
    strict: bool,
}

impl Configuration {
    /// Says what is set twice, once all else is well.
    ///
    /// # Errors
    /// 400 for strict clients.
    pub(super) fn judge(&self, call: &Call) -> Result<(), Failure> {
        if self.strict && !self.twice.is_empty() {
            return Err(twice(&self.twice).into());
        }
        call.warn(self.twice.clone());
        Ok(())
    }
}

/// The configuration of a request, which is one of this kind.
///
/// # Errors
/// 400 for what cannot be read or says that it is something else, 500 for what is not of its type.
pub(super) async fn configuration(
    call: &Call,
    gvk: Gvk,
    schema: SchemaRef<'_>,
    strictness: Strictness,
) -> Result<Configuration, Failure> {
    let body = decoded::patch(call.received()).await?;
    // What a configuration leaves empty is said on purpose, so it is not dropped here as elsewhere.
    let Decoded { value: object, warnings: mut twice } = if schema.def().free {
        // Fields that its schema does not know are refused by the merge, whatever the client says of validation.
        free(&body, schema)?
    } else {
        native(&body, gvk, schema)?
    };
    expect_type(&object, gvk)?;
    if strictness == Strictness::Ignore {
        twice.clear();
    }
    Ok(Configuration { object, twice, strict: strictness == Strictness::Strict })
}

/// A configuration says what it is.
fn expect_type(value: &Value, gvk: Gvk) -> Result<(), Failure> {
    let says = |name: &str, wanted: &str| api::value::text(value, name) == wanted;
    if says("apiVersion", &gvk.api_version()) && says("kind", gvk.kind) {
        return Ok(());
    }
    Err(Status::bad_request(format!("invalid object type: {}", apply::type_of(value))).into())
}

/// A configuration of a native kind by its schema. What the schema does not declare is refused whatever the client says of validation:
/// who looks for it reads the configuration a second time.
fn native(body: &[u8], gvk: Gvk, schema: SchemaRef<'_>) -> Result<Decoded, Failure> {
    let unreadable = |error: DecodeError| Failure::from(Status::bad_request(format!("error decoding YAML: {error}")));
    let is_unknown = |warning: &String| warning.starts_with("unknown field");
    let mut decoded = match codec::yaml::decode_applied(body, schema, Strictness::Warn) {
        Ok(decoded) if !decoded.warnings.iter().any(is_unknown) => decoded,
        Err(error @ (DecodeError::Syntax(_) | DecodeError::Strict(_))) => return Err(unreadable(error)),
        _ => {
            let mut value = codec::yaml::parse(body).map_err(unreadable)?;
            if !value.is_object() {
                let found = api::patch::kind_word(&value);
                let why = format!(
                    "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
                );
                return Err(unreadable(DecodeError::Type(why)));
            }
            expect_type(&value, gvk)?;
            let failed =
                |before: &str, why: String| Failure::from(Status::foreign(500, "", format!("{before}: {why}")));
            let named = apply::named(&value);
            let refuse = |why| failed(&format!("failed to create typed patch object ({named})"), why);
            apply::check_declared(&value, schema).map_err(refuse)?;
            let before = format!("failed to convert new object ({named}) to proper version");
            let what = format!(
                "{before}: unable to convert unstructured object to {}/{}, Kind={}",
                gvk.group, gvk.version, gvk.kind
            );
            api::patch::convert::restore(&mut value, schema).map_err(|why| failed(&what, why))?;
            let text = codec::json::encode_any(&value);
            codec::json::decode_applied(&text, schema, Strictness::Warn).map_err(unreadable)?
        }
    };
    decoded.warnings.retain(|warning| !is_unknown(warning));
    Ok(decoded)
}

/// What is set twice in a configuration, by its lines.
fn twice(lines: &[String]) -> Status {
    let lines = lines.join("\n  ");
    Status::bad_request(format!(
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {lines}"
    ))
}

/// A configuration of a custom resource as it was written; of what decoding finds unknown fields do not count here.
fn free(body: &[u8], schema: SchemaRef<'_>) -> Result<Decoded, Failure> {
    let unreadable = |error: DecodeError| Failure::from(Status::bad_request(format!("error decoding YAML: {error}")));
    let value = codec::yaml::parse(body).map_err(unreadable)?;
    let mut warnings = codec::yaml::decode_applied(body, schema, Strictness::Warn).map_err(unreadable)?.warnings;
    warnings.retain(|warning| !warning.starts_with("unknown field"));
    Ok(Decoded { value, warnings })
}
