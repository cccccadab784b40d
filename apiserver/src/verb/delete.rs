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
use api::codec::{self, Strictness};
use api::field_path::{Errors, FieldError, Path};
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
    // Upstream's promise to clients that asked for dependents to go as well in its oldest words.
    let begun = !deleted.gone && options.said.get("orphanDependents") == Some(&Value::Bool(false));
    let code = if begun { 202 } else { 200 };
    shown::object(call.received(), call.medium, kind, &deleted.entry, code, server.now())
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
    let body = decoded::body(call.received()).await?;
    let query = &call.received().query;
    let mut given = if body.is_empty() {
        from_query(query)?
    } else {
        let schema = shown::meta_schema("DeleteOptions")?;
        // Upstream reads them leniently whatever is asked for.
        let read = decoded::object(&media, &body, schema, Strictness::Ignore);
        let options = read.map_err(|failure| unclaimed(failure, &media, &body))?.value;
        expect_options(&options)?;
        if let Some(slip) = &call.received().slip {
            // Clients need not say what it is.
            let mut typed = options.clone();
            value::set_default(&mut typed, "kind", "DeleteOptions");
            value::set_default(&mut typed, "apiVersion", "meta.k8s.io/v1");
            slip.object(&typed, schema);
        }
        options
    };
    if !unreadable::enabled(server) {
        value::remove(&mut given, unreadable::OPTION);
    }
    let errors = validate(&given);
    if !errors.is_empty() {
        return Err(refuse(&errors));
    }
    let mut options = parse(&given);
    // Who asks for a trial in the query beside a body means a trial.
    options.dry_run |= query.all("dryRun").any(|word| word == "All");
    Ok(options)
}

/// JSON that breaks off is not even known to be options.
fn unclaimed(failure: Failure, media: &str, body: &[u8]) -> Failure {
    match failure {
        Failure::Status(status) if media == "application/json" && codec::json::parse(body).is_err() => {
            let message = format!("couldn't get version/kind; json parse error: {}", status.message);
            Status { message, ..status }.into()
        }
        other => other,
    }
}

/// 400 for a body that says that it is something else.
fn expect_options(options: &Value) -> Result<(), Failure> {
    let said = |name: &str, or: &'static str| match value::text(options, name) {
        "" => or.to_owned(),
        said => said.to_owned(),
    };
    let (kind, version) = (said("kind", "DeleteOptions"), said("apiVersion", "meta.k8s.io/v1"));
    // Those of any group will do.
    if kind == "DeleteOptions" {
        return Ok(());
    }
    let why = decoded::unregistered(&kind, &version, "pkg/apis/meta/internalversion/scheme/register.go:27");
    Err(Status::bad_request(why).into())
}

/// The options of a query in the form of a body.
fn from_query(query: &Query) -> Result<Value, Failure> {
    let mut given = json!({});
    if let Some(seconds) = query.get("gracePeriodSeconds") {
        value::set(&mut given, "gracePeriodSeconds", options::number(seconds)?);
    }
    if let Some(policy) = query.get("propagationPolicy") {
        value::set(&mut given, "propagationPolicy", policy);
    }
    for name in ["orphanDependents", unreadable::OPTION] {
        if query.get(name).is_some() {
            value::set(&mut given, name, query.flag(name));
        }
    }
    let words: Vec<Value> = query.all("dryRun").map(Value::from).collect();
    if !words.is_empty() {
        value::set(&mut given, "dryRun", words);
    }
    Ok(given)
}

/// What is wrong with options in the form of a body.
pub(super) fn validate(given: &Value) -> Errors {
    let mut errors = Errors::new();
    let said = |name: &str| given.get(name).filter(|value| !value.is_null());
    if let Some(policy) = said("propagationPolicy") {
        let field = Path::new("propagationPolicy");
        if said("orphanDependents").is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&field, policy.clone(), why));
        }
        if policy.as_str().and_then(propagation).is_none() {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported_as_listed(&field, policy.clone(), &known));
        }
    }
    let words = value::items(given, "dryRun");
    if words.iter().any(|word| word != "All") {
        errors.push(FieldError::not_supported(&Path::new("dryRun"), words.to_vec(), &["All"]));
    }
    if said(unreadable::OPTION).and_then(Value::as_bool) == Some(true) {
        errors.extend(lonely(given));
    }
    errors
}

/// What does not go together with the deletion of an object that cannot be read.
fn lonely(given: &Value) -> impl Iterator<Item = FieldError> {
    ["dryRun", "propagationPolicy", "orphanDependents", "gracePeriodSeconds", "preconditions"]
        .into_iter()
        .filter(|name| match value::get(given, name) {
            Some(Value::Array(words)) => !words.is_empty(),
            Some(said) => !said.is_null(),
            None => false,
        })
        .map(|name| unreadable::wrong(&format!("cannot be set together with .{name}")))
}

pub(super) fn refuse(errors: &Errors) -> Failure {
    Status::invalid("meta.k8s.io", "DeleteOptions", "", errors).into()
}

/// Options from an object of kind `DeleteOptions`, whose words are known.
pub(super) fn parse(object: &Value) -> DeleteOptions {
    let text = |path: &str| value::get(object, path).and_then(Value::as_str);
    let orphans = |flag: bool| if flag { Propagation::Orphan } else { Propagation::Background };
    let orphan = value::get(object, "orphanDependents").and_then(Value::as_bool);
    DeleteOptions {
        grace: value::int(object, "gracePeriodSeconds"),
        propagation: text("propagationPolicy").and_then(propagation).or(orphan.map(orphans)),
        uid: text("preconditions.uid").map(str::to_owned),
        version: text("preconditions.resourceVersion").map(str::to_owned),
        dry_run: !value::items(object, "dryRun").is_empty(),
        said: object.clone(),
        unseen: false,
        ignore_read_error: value::get(object, unreadable::OPTION).and_then(Value::as_bool).unwrap_or(false),
    }
}

fn propagation(policy: &str) -> Option<Propagation> {
    match policy {
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_deletions_do_not_know() {
        let check = |given: Value, wanted: &[&str]| {
            let said: Vec<String> = validate(&given).iter().map(ToString::to_string).collect();
            assert_eq!(said, wanted, "{given}");
        };
        check(json!({}), &[]);
        check(json!({"dryRun": ["All", "All"], "propagationPolicy": "Orphan", "orphanDependents": null}), &[]);
        check(
            json!({"dryRun": ["all"], "propagationPolicy": "x"}),
            &[
                r#"propagationPolicy: Unsupported value: "x": supported values: "Foreground", "Background", "Orphan", "nil""#,
                r#"dryRun: Unsupported value: ["all"]: supported values: "All""#,
            ],
        );
        check(
            json!({"propagationPolicy": "Orphan", "orphanDependents": false}),
            &[
                r#"propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set"#,
            ],
        );
        let unread = |mut given: Value, names: &[&str]| {
            let field = unreadable::OPTION;
            value::set(&mut given, field, true);
            let wanted: Vec<String> = names
                .iter()
                .map(|name| format!("{field}: Invalid value: true: cannot be set together with .{name}"))
                .collect();
            check(given, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
        };
        unread(json!({}), &[]);
        unread(json!({"dryRun": []}), &[]);
        unread(json!({"dryRun": ["All"]}), &["dryRun"]);
        unread(
            json!({"propagationPolicy": "Orphan", "gracePeriodSeconds": 0}),
            &["propagationPolicy", "gracePeriodSeconds"],
        );
        unread(json!({"orphanDependents": false, "preconditions": {}}), &["orphanDependents", "preconditions"]);
    }

    #[test]
    fn queries_read_as_bodies_do() {
        let check =
            |query: &str, wanted: Value| assert_eq!(from_query(&Query::parse(query)).ok(), Some(wanted), "{query}");
        check("", json!({}));
        check(
            "gracePeriodSeconds=0&propagationPolicy=Orphan&dryRun=All",
            json!({"gracePeriodSeconds": 0, "propagationPolicy": "Orphan", "dryRun": ["All"]}),
        );
        check("orphanDependents=false&propagationPolicy=", json!({"orphanDependents": false, "propagationPolicy": ""}));
        check(&format!("{}=true", unreadable::OPTION), json!({(unreadable::OPTION): true}));
        for query in ["gracePeriodSeconds=x", "gracePeriodSeconds="] {
            assert!(from_query(&Query::parse(query)).is_err(), "{query}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_asks_in_unknown_words_deletes_nothing() {
        use crate::authn::{AUTHENTICATED, User};
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let world = crate::testing::World::start(|_| {}).await;
        let all = "/api/v1/namespaces/default/configmaps";
        let one = format!("{all}/a");
        let ask = async |method: &str, path: &str, body: Value| world.ask(&root, method, path, &body).await.0;
        assert_eq!(ask("POST", all, json!({"metadata": {"name": "a", "finalizers": ["example.com/a"]}})).await, 201);
        for path in [all, &one] {
            assert_eq!(ask("DELETE", path, json!({"dryRun": ["all"]})).await, 422, "{path}");
        }
        assert_eq!(ask("DELETE", &one, json!({"kind": "Pod"})).await, 400);
        assert_eq!(ask("DELETE", &one, json!({"preconditions": {"uid": ""}})).await, 409);
        assert_eq!(ask("DELETE", &one, json!({"dryRun": ["All"]})).await, 200);
        // It is only asked to go, with all that belongs to it.
        assert_eq!(ask("DELETE", &one, json!({"orphanDependents": false})).await, 202);
    }
}
