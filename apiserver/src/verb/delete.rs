//! DELETE of one object or a collection, and eviction.

use super::{Call, options, shown};
use crate::answer::{Answer, Failure};
use crate::registry::columns::ListMeta;
use crate::registry::finalize::Propagation;
use crate::registry::read::Filter;
use crate::registry::write::{self, DeleteOptions};
use crate::road::decoded;
use crate::server::Server;
use api::status::Status;
use api::{meta, value};
use serde_json::Value;

/// Answers a delete.
///
/// # Errors
/// Those of decoding the options and of the deletion.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let options = delete_options(&mut call).await?;
    let deleted = write::delete(server, &call.authorized.permit, &call.target, &options).await?;
    let kind = call.target.kind;
    if deleted.gone && !kind.returns_deleted {
        let object = deleted.entry.value();
        let status = Status::success(call.target.resource(), &call.target.name, meta::uid(&object));
        return shown::value(call.medium, &status.to_value(), shown::meta_schema("Status")?, 200);
    }
    shown::object(call.received(), call.medium, kind, &deleted.entry, 200, server.now())
}

/// Answers a deletecollection.
///
/// # Errors
/// Those of selectors, options and of the first deletion that fails.
pub async fn collection(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let options = delete_options(&mut call).await?;
    let query = &call.received().query;
    let filter = Filter::parse(&call.target, query.get("labelSelector"), query.get("fieldSelector"))?;
    let wanted = options::of_list(query)?;
    let permit = &call.authorized.permit;
    let page = write::delete_collection(server, permit, &call.target, &filter, &wanted, &options).await?;
    let meta = ListMeta { revision: page.revision.to_string(), ..ListMeta::default() };
    shown::list(call.received(), call.medium, call.target.kind, &meta, &page.entries, server.now())
}

/// `pods/eviction`. Disruption budgets would be asked here; nothing counts healthy pods yet, so nothing forbids.
///
/// # Errors
/// Those of decoding and of the deletion.
pub async fn evict(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let eviction = call.part_object().await?.value;
    let name = meta::name(&eviction);
    if !name.is_empty() && name != call.target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object").into());
    }
    let mut options = parse(value::get(&eviction, "deleteOptions").unwrap_or(&Value::Null))?;
    options.dry_run |= call.write_options()?.dry_run;
    write::delete(server, &call.authorized.permit, &call.target, &options).await?;
    let done = Status::created();
    shown::value(call.medium, &done.to_value(), shown::meta_schema("Status")?, 201)
}

/// Options from the body, or from the query when there is none.
async fn delete_options(call: &mut Call) -> Result<DeleteOptions, Failure> {
    let media = decoded::content_type(call.received());
    let strictness = call.write_query()?.strictness;
    let body = decoded::body(&call.received().body).await?;
    let mut options = if body.is_empty() {
        DeleteOptions::default()
    } else {
        let decoded = decoded::object(&media, &body, shown::meta_schema("DeleteOptions")?, strictness)?;
        parse(&decoded.value)?
    };
    let query = &call.received().query;
    if body.is_empty() {
        if let Some(seconds) = query.get("gracePeriodSeconds").filter(|text| !text.is_empty()) {
            let invalid =
                || Status::bad_request(format!("gracePeriodSeconds: Invalid value: {seconds:?}: must be an integer"));
            options.grace = Some(seconds.parse().map_err(|_| invalid())?);
        }
        options.propagation = propagation(query.get("propagationPolicy"), query.get("orphanDependents"))?;
    }
    options.dry_run |= call.write_options()?.dry_run;
    Ok(options)
}

fn parse(object: &Value) -> Result<DeleteOptions, Failure> {
    let text = |path: &str| value::get(object, path).and_then(Value::as_str).filter(|t| !t.is_empty());
    let orphan = value::get(object, "orphanDependents").and_then(Value::as_bool).map(|flag| flag.to_string());
    Ok(DeleteOptions {
        grace: value::int(object, "gracePeriodSeconds"),
        propagation: propagation(text("propagationPolicy"), orphan.as_deref())?,
        uid: text("preconditions.uid").map(str::to_owned),
        version: text("preconditions.resourceVersion").map(str::to_owned),
        dry_run: value::items(object, "dryRun").iter().any(|word| word == "All"),
    })
}

fn propagation(policy: Option<&str>, orphan: Option<&str>) -> Result<Option<Propagation>, Failure> {
    match (policy, orphan) {
        (None | Some(""), None | Some("")) => Ok(None),
        (None | Some(""), Some("true")) => Ok(Some(Propagation::Orphan)),
        (None | Some(""), Some(_)) => Ok(Some(Propagation::Background)),
        (Some("Orphan"), None) => Ok(Some(Propagation::Orphan)),
        (Some("Background"), None) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some(_), Some(_)) => Err(invalid(
            "propagationPolicy: Invalid value: orphanDependents and deletionPropagation cannot be both set",
        )),
        (Some(other), None) => Err(invalid(&format!(
            "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
        ))),
    }
}

fn invalid(why: &str) -> Failure {
    Status::unprocessable(format!("DeleteOptions.meta.k8s.io \"\" is invalid: {why}")).into()
}
