//! Nobody lets a policy read for him what he may not read: who writes a policy or a binding must be able to get its parameters.
//!
//! Never reads them. Source: upstream's registry of `admissionregistration.k8s.io`.

use super::Target;
use crate::answer::Failure;
use crate::authz::{Attributes, MASTERS, ResourceAttributes};
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::Lookup as _;
use admission::dynamic::GROUP;
use api::field_path::{Errors, FieldError, Path};
use api::json::Value;
use api::status::Status;
use api::value;

/// Refuses a policy or binding whose parameters the writer may not read.
///
/// # Errors
/// 422 with what he may not.
pub async fn readable(
    server: &Server,
    permit: &Permit,
    target: &Target,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Failure> {
    let user = permit.user();
    let superuser = permit.is_internal() || user.groups.iter().any(|group| group == MASTERS);
    if target.kind.group != GROUP || superuser {
        return Ok(());
    }
    let same = |path: &str| old.is_some_and(|old| value::get(old, path) == value::get(object, path));
    let shown = || {
        let extra: Vec<String> =
            user.extra.iter().map(|(key, values)| format!("{key}:[{}]", values.join(" "))).collect();
        format!("&{{{} {} [{}] map[{}]}}", user.name, user.uid, user.groups.join(" "), extra.join(" "))
    };
    let (field, question, why) = if let Some(kind) = value::get(object, "spec.paramKind") {
        if same("spec.paramKind") {
            return Ok(());
        }
        let (version, name) = (value::text(kind, "apiVersion"), value::text(kind, "kind"));
        let resource = ResourceAttributes { name: "*".into(), namespace: "*".into(), ..of_kind(server, version, name) };
        let why = format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={name}, apiVersion={version})",
            shown()
        );
        ("paramKind", ("get", resource), why)
    } else if let Some(param) = value::get(object, "spec.paramRef") {
        if same("spec.paramRef") && same("spec.policyName") {
            return Ok(());
        }
        let verb = if value::text(param, "name").is_empty() { "list" } else { "get" };
        let policy = value::text(object, "spec.policyName");
        let of = if target.kind.plural.starts_with("mutating") { "mutating" } else { "validating" };
        let found = server.peek(GROUP, &format!("{of}admissionpolicies"), "", policy).await;
        let text = |path: &str| found.as_ref().map_or("", |found| value::text(found, path));
        let (version, name) = (text("spec.paramKind.apiVersion"), text("spec.paramKind.kind"));
        let resource = ResourceAttributes {
            name: value::text(param, "name").to_owned(),
            namespace: value::text(param, "namespace").to_owned(),
            ..of_kind(server, version, name)
        };
        let why = if found.is_none() {
            format!(
                "unable to get policy {policy} to determine minimum required permissions and user {} does not have \"{verb}\" \
                 permission for all groups, versions and resources",
                shown()
            )
        } else {
            format!("user {} does not have \"{verb}\" permission on the object referenced by paramRef", shown())
        };
        ("paramRef", (verb, resource), why)
    } else {
        return Ok(());
    };
    let (verb, resource) = question;
    let attributes =
        Attributes { user: user.clone(), verb: verb.to_owned(), resource: Some(resource), path: String::new() };
    if server.authz.authorize(&attributes).await.is_allowed() {
        return Ok(());
    }
    let errors = Errors::from([FieldError::forbidden(&Path::new("spec").child(field), why)]);
    Err(Status::invalid(target.kind.group, target.kind.kind, &target.name, &errors).into())
}

/// The resource of a kind; everything where nobody knows which.
fn of_kind(server: &Server, version: &str, kind: &str) -> ResourceAttributes {
    let any = || "*".to_owned();
    if version.is_empty() {
        return ResourceAttributes { group: any(), version: any(), resource: any(), ..ResourceAttributes::default() };
    }
    let (group, own) = version.split_once('/').unwrap_or(("", version));
    let resource = server.kind(group, own, kind).map_or_else(any, |kind| kind.plural.to_owned());
    ResourceAttributes { group: group.to_owned(), version: own.to_owned(), resource, ..ResourceAttributes::default() }
}
