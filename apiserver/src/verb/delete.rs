//! DELETE of one object or a collection.

use super::{Call, options, shown};
use crate::answer::{Answer, Failure};
use crate::registry::columns::ListMeta;
use crate::registry::finalize::Propagation;
use crate::registry::read::Filter;
use crate::registry::unreadable;
use crate::registry::write::{self, DeleteOptions};
use crate::road::decoded;
use crate::road::received::Query;
use crate::server::Server;
use api::field_path::Errors;
use api::json::{Value, json};
use api::status::Status;
use api::{meta, value};

/// Answers a delete.
///
/// # Errors
/// Those of decoding the options and of the deletion.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let options = delete_options(server, &mut call).await?;
    if options.ignore_read_error {
        return discard(server, &call).await;
    }
    let deleted = write::delete(server, &call.authorized.permit, &call.target, &options).await?;
    let kind = call.target.kind;
    if deleted.gone && !kind.returns_deleted {
        let object = deleted.entry.value();
        let status = Status::success(call.target.resource(), &call.target.name, meta::uid(&object));
        return shown::value(call.medium, &status.to_value(), shown::meta_schema("Status")?, 200);
    }
    shown::object(call.received(), call.medium, kind, &deleted.entry, 200, server.now())
}

/// Answers the deletion of an object that cannot be read.
async fn discard(server: &Server, call: &Call) -> Result<Answer, Failure> {
    let (target, permit) = (&call.target, &call.authorized.permit);
    if let Some(slip) = &call.received().slip {
        slip.note("apiserver.k8s.io/unsafe-delete-ignore-read-error", "");
    }
    unreadable::authorize(server, permit, target).await?;
    unreadable::discard(server, permit, target).await?;
    let details = json!({"name": target.name, "kind": target.kind.kind});
    let status = Status { details, ..Status::foreign(200, "", String::new()) };
    shown::value(call.medium, &status.to_value(), shown::meta_schema("Status")?, 200)
}

/// Answers a deletecollection.
///
/// # Errors
/// Those of selectors, options and of the first deletion that fails.
pub async fn collection(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let options = delete_options(server, &mut call).await?;
    if options.ignore_read_error {
        let why = "is not allowed with DELETECOLLECTION, try again after removing the option";
        return Err(refuse(&Errors::from([unreadable::wrong(why)])));
    }
    let query = &call.received().query;
    let filter = Filter::parse(&call.target, query.get("labelSelector"), query.get("fieldSelector"))?;
    let wanted = options::of_list(query)?;
    let permit = &call.authorized.permit;
    let page = write::delete_collection(server, permit, &call.target, &filter, &wanted, &options).await?;
    let meta = ListMeta { revision: page.revision.to_string(), ..ListMeta::default() };
    shown::list(call.received(), call.medium, call.target.kind, &meta, page.entries, server.now())
}

/// Options from the body, or from the query when there is none.
async fn delete_options(server: &Server, call: &mut Call) -> Result<DeleteOptions, Failure> {
    let media = decoded::content_type(call.received());
    let strictness = call.write_query()?.strictness;
    let body = decoded::body(call.received()).await?;
    let given = if body.is_empty() {
        from_query(&call.received().query)?
    } else {
        let schema = shown::meta_schema("DeleteOptions")?;
        let options = decoded::object(&media, &body, schema, strictness)?.value;
        if let Some(slip) = &call.received().slip {
            // Clients need not say what it is.
            let mut typed = options.clone();
            value::set_default(&mut typed, "kind", "DeleteOptions");
            value::set_default(&mut typed, "apiVersion", "meta.k8s.io/v1");
            slip.object(&typed, schema);
        }
        options
    };
    let mut options = parse(&given)?;
    options.ignore_read_error &= unreadable::enabled(server);
    let dry_run = call.write_options()?.dry_run;
    if options.ignore_read_error {
        let errors = lonely(&given, dry_run);
        if !errors.is_empty() {
            return Err(refuse(&errors));
        }
    }
    options.dry_run |= dry_run;
    Ok(options)
}

/// The options of a query in the form of a body; what is empty is not there.
fn from_query(query: &Query) -> Result<Value, Failure> {
    let mut given = json!({});
    let text = |name: &str| query.get(name).filter(|text| !text.is_empty());
    if let Some(seconds) = text("gracePeriodSeconds") {
        let invalid =
            || Status::bad_request(format!("gracePeriodSeconds: Invalid value: {seconds:?}: must be an integer"));
        value::set(&mut given, "gracePeriodSeconds", seconds.parse::<i64>().map_err(|_| invalid())?);
    }
    if let Some(policy) = text("propagationPolicy") {
        value::set(&mut given, "propagationPolicy", policy);
    }
    for name in ["orphanDependents", unreadable::OPTION] {
        if text(name).is_some() {
            value::set(&mut given, name, query.flag(name));
        }
    }
    Ok(given)
}

/// What does not go together with the deletion of an object that cannot be read.
fn lonely(given: &Value, dry_run: bool) -> Errors {
    ["dryRun", "propagationPolicy", "orphanDependents", "gracePeriodSeconds", "preconditions"]
        .into_iter()
        .filter(|name| match value::get(given, name) {
            Some(Value::Array(words)) => !words.is_empty() || dry_run,
            Some(said) => !said.is_null(),
            None => dry_run && *name == "dryRun",
        })
        .map(|name| unreadable::wrong(&format!("cannot be set together with .{name}")))
        .collect()
}

fn refuse(errors: &Errors) -> Failure {
    Status::invalid("meta.k8s.io", "DeleteOptions", "", errors).into()
}

/// Options from an object of kind `DeleteOptions`.
pub(super) fn parse(object: &Value) -> Result<DeleteOptions, Failure> {
    let text = |path: &str| value::get(object, path).and_then(Value::as_str).filter(|t| !t.is_empty());
    let orphan = value::get(object, "orphanDependents").and_then(Value::as_bool).map(|flag| flag.to_string());
    Ok(DeleteOptions {
        grace: value::int(object, "gracePeriodSeconds"),
        propagation: propagation(text("propagationPolicy"), orphan.as_deref())?,
        uid: text("preconditions.uid").map(str::to_owned),
        version: text("preconditions.resourceVersion").map(str::to_owned),
        dry_run: value::items(object, "dryRun").iter().any(|word| word == "All"),
        said: object.clone(),
        unseen: false,
        ignore_read_error: value::get(object, unreadable::OPTION).and_then(Value::as_bool).unwrap_or(false),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_with_unread_deletion() {
        let check = |given: Value, dry_run: bool, names: &[&str]| {
            let said: Vec<String> = lonely(&given, dry_run).iter().map(ToString::to_string).collect();
            let field = unreadable::OPTION;
            let wanted: Vec<String> = names
                .iter()
                .map(|name| format!("{field}: Invalid value: true: cannot be set together with .{name}"))
                .collect();
            assert_eq!(said, wanted, "{given}");
        };
        check(json!({}), false, &[]);
        check(json!({"dryRun": []}), false, &[]);
        check(json!({"dryRun": ["All"]}), false, &["dryRun"]);
        check(json!({}), true, &["dryRun"]);
        check(
            json!({"propagationPolicy": "Orphan", "gracePeriodSeconds": 0}),
            false,
            &["propagationPolicy", "gracePeriodSeconds"],
        );
        check(json!({"orphanDependents": false, "preconditions": {}}), false, &["orphanDependents", "preconditions"]);
    }

    #[test]
    fn queries_read_as_bodies_do() {
        let check =
            |query: &str, wanted: Value| assert_eq!(from_query(&Query::parse(query)).ok(), Some(wanted), "{query}");
        check("", json!({}));
        check(
            "gracePeriodSeconds=0&propagationPolicy=Orphan",
            json!({"gracePeriodSeconds": 0, "propagationPolicy": "Orphan"}),
        );
        check("orphanDependents=false&propagationPolicy=", json!({"orphanDependents": false}));
        check(&format!("{}=true", unreadable::OPTION), json!({(unreadable::OPTION): true}));
        assert!(from_query(&Query::parse("gracePeriodSeconds=x")).is_err());
    }
}
