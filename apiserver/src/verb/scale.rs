//! `scale` of any kind that has one: `autoscaling/v1 Scale` over the kind's own fields.

use super::apply::{self, Configuration};
use super::patch::{self, Patch};
use super::{Call, part_schema, shown};
use crate::answer::{Answer, Failure};
use crate::registry::admitted::{self, SCALE, Scaled};
use crate::registry::read::{self, served};
use crate::registry::write::{self, Change};
use crate::road::decoded;
use crate::server::Server;
use admission::Shape as _;
use api::apply::{FieldSet, Manager, Operation, scale as owners};
use api::field_path::{Errors, FieldError, Path};
use api::json::Value;
use api::kind::Kind;
use api::meta_validation::Findings;
use api::status::{ResourceName, Status};
use api::{meta, value};

/// Answers get, update and patch of a scale.
///
/// # Errors
/// 404, 409, 422; those of decoding and of the write.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let paths = admitted::shape(call.part).ok_or_else(Status::no_such_path)?;
    let schema = part_schema(SCALE)?;
    let kind = call.target.kind;
    if call.received().info.verb == "get" {
        let entry = read::get(server, &call.authorized.permit, &call.target).await?;
        let object = served(kind, &entry);
        if kind.custom.is_some() && value::int(&object, paths.replicas).is_none() {
            let field = format!(".{}", paths.replicas);
            return Err(Status::internal(format!("the spec replicas field {field:?} does not exist")).into());
        }
        return shown::value(call.medium, &paths.show(&object), schema, 200);
    }
    if call.received().info.verb == "patch" {
        patch::offered(decoded::patch_type(call.received()), kind)?;
    }
    let query = call.write_query()?;
    let (strictness, force) = (query.strictness, query.force);
    let options = call.write_options()?;
    let wanted = if call.received().info.verb == "update" {
        Wanted::Object(call.part_object().await?)
    } else {
        match decoded::patch_type(call.received()) {
            apply::MEDIA => Wanted::Applied(apply::configuration(&call, SCALE, schema, strictness).await?, force),
            media => Wanted::Patch(Patch::read(media, &decoded::patch(call.received()).await?, strictness)?),
        }
    };
    let time = server.now_text();
    let who = |operation| Manager {
        manager: &options.manager,
        operation,
        api_version: "autoscaling/v1",
        time: &time,
        subresource: &options.subresource,
        versions: None,
    };
    let reset = FieldSet::default();
    let written = write::update(server, &call.authorized.permit, &call.target, &options, |old| {
        let old = old.ok_or_else(|| Status::not_found(call.target.resource(), &call.target.name))?;
        let mut shown = paths.show(old);
        value::set(&mut shown, OWNERS, owners::of_parent(old, paths.replicas).map_err(Status::internal)?);
        let update = |new| {
            let owned = api::apply::update(Some(&shown), new, schema, &who(Operation::Update), &reset);
            // There is but one version of it.
            owned.map_err(|_| Failure::from(Status::internal("scales have one version")))
        };
        let new = match &wanted {
            Wanted::Object(object) => update(object.clone())?,
            Wanted::Patch(patch) => update(patch::patched(&call, patch, &shown, SCALE, schema)?)?,
            Wanted::Applied(configuration, force) => {
                let who = who(Operation::Apply);
                let applied =
                    api::apply::apply_resetting(Some(&shown), &configuration.object, schema, &who, *force, &reset);
                let new = applied.map_err(|error| Failure::from(error.status()))?;
                unconverted(&call, &configuration.object).map_or(Ok(()), Err)?;
                configuration.judge(&call)?;
                new
            }
        };
        call.target.is_named(&new)?;
        rescaled(old, &new, paths, &call, !matches!(wanted, Wanted::Object(_)))
    })
    .await?;
    shown::value(call.medium, &paths.show(&served(kind, &written.entry)), schema, 200)
}

enum Wanted {
    Object(Value),
    Patch(Patch),
    /// Whether by force.
    Applied(Configuration, bool),
}

/// Where an object says who owns its fields.
const OWNERS: &str = "metadata.managedFields";

/// How a scale is judged.
static KIND: Kind = Kind { group: SCALE.group, version: SCALE.version, kind: SCALE.kind, ..Kind::BASE };

/// Upstream cannot apply the scale of a custom resource.
fn unconverted(call: &Call, configuration: &Value) -> Option<Failure> {
    call.target.kind.custom?;
    let named = api::apply::named(configuration);
    let why = format!(
        "failed to convert new object ({named}) to proper version: request to convert CR to an invalid group/version: {}",
        SCALE.api_version()
    );
    Some(Status::foreign(500, "", why).into())
}

fn rescaled(old: &Value, new: &Value, paths: Scaled, call: &Call, rebased: bool) -> Result<Change, Failure> {
    let target = &call.target;
    let count = value::int(new, "spec.replicas").unwrap_or(0);
    let mut errors = Errors::new();
    if target.kind.custom.is_none() {
        Findings::of(new, None, &KIND).whole(&mut errors);
    }
    if count < 0 {
        let field = Path::new("spec").child("replicas");
        errors.push(FieldError::invalid(&field, count, "must be greater than or equal to 0"));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("autoscaling", "Scale", &target.name, &errors).into());
    }
    let (said, uid) = (meta::uid(new), meta::uid(old));
    if rebased && !said.is_empty() && said != uid && target.kind.custom.is_none() {
        let resource = ResourceName { plural: &format!("{}/scale", target.kind.plural), ..target.resource() };
        let why = format!("Precondition failed: UID in precondition: {said}, UID in object meta: {uid}");
        return Err(Status::conflict(resource, &target.name, &why).into());
    }
    let mut object = old.clone();
    paths.take(&mut object, new);
    let entries = owners::to_parent(old, new, paths.replicas, &target.kind.api_version()).map_err(Status::internal)?;
    value::set(&mut object, OWNERS, entries);
    Ok(Change { object, applied: true, rebased })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use api::json::{Value, json};

    /// Who owns the replicas, in the order of the entries: by whom, how, and whether it is known when.
    fn owners(object: &Value) -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
        let own = entries.filter(|entry| entry["fieldsV1"]["f:spec"].get("f:replicas").is_some());
        let said = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        own.map(|entry| {
            format!("{} {} {}", said(entry, "manager"), said(entry, "operation"), entry.get("time").is_some())
        })
        .collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn replicas_are_applied_and_owned_through_the_scale() {
        let (world, root) = (World::start(|_| {}).await, User::new("root", &["system:masters", AUTHENTICATED]));
        let sets = "/apis/apps/v1/namespaces/default/replicasets";
        let template =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template});
        let object = json!({"metadata": {"name": "r"}, "spec": spec});
        assert_eq!(world.ask(&root, "POST", &format!("{sets}?fieldManager=u"), &object).await.0, 201);
        let scale = |replicas: Value| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "r"}, "spec": {"replicas": replicas}});
        let conflict = "Apply failed with 1 conflict: conflict with \"u\" using autoscaling/v1: .spec.replicas";
        let invalid =
            "Scale.autoscaling \"r\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0";
        let mistyped = "failed to create typed patch object (/r; autoscaling/v1, Kind=Scale): .spec.replicas: expected numeric (int or float), got string";
        let apply = "application/apply-patch+yaml";
        let cases = [
            (apply, "fieldManager=a", scale(json!(3)), 409, conflict, vec!["u Update true"]),
            (apply, "fieldManager=a&force=true", scale(json!("x")), 500, mistyped, vec!["u Update true"]),
            (apply, "fieldManager=a&force=true", scale(json!(-1)), 422, invalid, vec!["u Update true"]),
            // Upstream forgets when.
            (apply, "fieldManager=a&force=true", scale(json!(3)), 200, "", vec!["a Apply false"]),
            (apply, "fieldManager=b", scale(json!(3)), 200, "", vec!["a Apply false", "b Apply false"]),
            (
                "application/merge-patch+json",
                "fieldManager=m",
                json!({"spec": {"replicas": 4}}),
                200,
                "",
                vec!["m Update false"],
            ),
            (
                "application/merge-patch+json",
                "fieldManager=m",
                json!({"metadata": null}),
                400,
                "the name of the object",
                vec!["m Update false"],
            ),
            (
                "application/json",
                "fieldManager=m",
                json!({}),
                415,
                "415: Unsupported Media Type",
                vec!["m Update false"],
            ),
        ];
        for (media, query, body, code, sentence, wanted) in cases {
            let path = format!("{sets}/r/scale?{query}");
            let (found, answer) = world.send(&root, "PATCH", &path, media, &body).await;
            let message = answer["message"].as_str().unwrap_or_default();
            assert!(found == code && message.starts_with(sentence), "{query} {body}: {found} {answer}");
            let (_, object) = world.ask(&root, "GET", &format!("{sets}/r"), &Value::Null).await;
            assert_eq!(owners(&object), wanted, "{query} {body}");
        }
    }
}
