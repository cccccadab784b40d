//! Objects that cannot be decrypted: what clients hear of them, and their deletion unread (KEP-3926).
//!
//! Behind upstream's gate `AllowUnsafeMalformedObjectDeletion`, which is off unless said otherwise: without it, errors are plain and the
//! option of a deletion is not seen. Never looks at the object: finalizers, preconditions and admission are passed over, as upstream
//! passes over them.

use super::{Target, allocate};
use crate::answer::Failure;
use crate::authz::{Attributes, Decision, ResourceAttributes};
use crate::road::authorized::Permit;
use crate::server::Server;
use api::field_path::{Errors, FieldError, Path};
use api::json::json;
use api::status::{ResourceName, Status};
use std::time::Duration;
use storage::store::{Claim, Commit, Expect, Key, Op, StoreError};

/// The option of a deletion.
pub const OPTION: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
/// What one must be allowed to do to an object, beside deleting it, to use the option.
const VERB: &str = "unsafe-delete-ignore-read-errors";
/// Objects that the answer to a list names.
const NAMED: usize = 100;
/// How long they are searched.
const SEARCH: Duration = Duration::from_secs(2);

/// Whether objects can be deleted unread.
#[must_use]
pub fn enabled(server: &Server) -> bool {
    server.config.unsafe_deletion
}

/// What the option says that its value is.
#[must_use]
pub fn wrong(why: &str) -> FieldError {
    FieldError::invalid(&Path::new(OPTION), true, why)
}

/// What a client hears of an object, or of a list with objects, that cannot be decrypted; other failures are as they were.
pub async fn explained(server: &Server, failure: Failure) -> Failure {
    let Failure::Store { error, resource: (group, plural), name } = &failure else { return failure };
    let StoreError::Transform { key, why } = error.as_ref() else { return failure };
    if !enabled(server) {
        return failure;
    }
    if !name.is_empty() {
        return Status::internal(corrupt("", key, why)).into();
    }
    match server.store.unreadable(&key.resource, NAMED, SEARCH).await {
        Ok((errors, more)) => of_list(ResourceName { group, plural }, error, &errors, more).into(),
        Err(_) => failure,
    }
}

/// One object that cannot be read, in upstream's words; its storage's error has the number 7.
fn corrupt(root: &str, key: &Key, why: &str) -> String {
    format!(
        "StorageError: corrupt object, Code: 7, Key: {root}/{key}, ResourceVersion: 0, AdditionalErrorMsg: data from the storage is not transformable revision=0: {why}"
    )
}

/// The status of a list; `first` is why it failed, if all can be read by now.
fn of_list(resource: ResourceName<'_>, first: &StoreError, errors: &[StoreError], more: bool) -> Status {
    let errors = if errors.is_empty() { std::slice::from_ref(first) } else { errors };
    let mut causes: Vec<_> = errors
        .iter()
        .filter_map(|error| match error {
            StoreError::Transform { key, why } => Some(json!({
                "reason": "UnexpectedServerResponse",
                "message": corrupt("/registry", key, why),
                "field": format!("/registry/{key}"),
            })),
            _ => None,
        })
        .collect();
    if more {
        causes.push(json!({"reason": "FieldValueTooMany", "message": "too many errors, the list is truncated"}));
    }
    let message = format!("failed to read one or more {resource} from the storage");
    Status {
        details: json!({"name": "list", "group": resource.group, "kind": resource.plural, "causes": causes}),
        ..Status::foreign(500, "StoreReadError", message)
    }
}

/// Whether the user may delete this object unread.
///
/// # Errors
/// 403.
pub async fn authorize(server: &Server, permit: &Permit, target: &Target) -> Result<(), Failure> {
    let kind = target.kind;
    let attributes = Attributes {
        user: permit.user().clone(),
        verb: VERB.to_owned(),
        resource: Some(ResourceAttributes {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            resource: kind.plural.to_owned(),
            subresource: String::new(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            ..ResourceAttributes::default()
        }),
        path: String::new(),
    };
    match server.authz.authorize(&attributes).await {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            let why = format!("not permitted to do {VERB:?}, reason: {reason}");
            Err(Status::forbidden(target.resource(), &target.name, &why).into())
        }
    }
}

/// Deletes an object that cannot be read, and gives back what it held.
///
/// # Errors
/// 422 when it can be read or is not there; those of the store.
pub async fn discard(server: &Server, permit: &Permit, target: &Target) -> Result<(), Failure> {
    let key = target.key();
    match server.store.get(&key).await {
        Err(StoreError::Transform { .. }) => {}
        Err(error) => return Err(target.failure(error)),
        Ok(_) => {
            let errors = Errors::from([wrong(
                "is exclusively used to delete corrupt object(s), try again by removing this option",
            )]);
            let kind = target.kind;
            return Err(Status::invalid(kind.group, kind.plural, &target.name, &errors).into());
        }
    }
    let failure = |error| target.failure(error);
    let Some(revision) = server.store.revision_of(&key).await.map_err(failure)? else { return Ok(()) };
    let (mut claims, mut ops) = (Vec::new(), Vec::new());
    for pool in allocate::pools() {
        let held = server.store.claims(&pool).await.map_err(failure)?;
        for (item, owner) in held.into_iter().filter(|(_, owner)| *owner == key) {
            ops.extend(allocate::object_of(&pool, &item));
            claims.push(Claim::Release { pool: pool.as_str().into(), item, owner });
        }
    }
    let user = permit.user().name.as_str();
    tracing::warn!(%key, user, "an object that cannot be read is deleted");
    ops.push(Op::Discard { key, expect: Expect::At(revision) });
    let write = Commit { who: user.into(), ops, checks: Vec::new(), claims };
    server.store.commit(write).await.map_err(failure)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_it_could_not_read() {
        let error = |name| StoreError::Transform { key: Key::new("secrets", "ns", name), why: "no".to_owned() };
        let resource = ResourceName { group: "", plural: "secrets" };
        let check = |errors: &[StoreError], more, names: &[&str]| {
            let status = of_list(resource, &error("first"), errors, more);
            assert_eq!((status.code, status.reason.as_ref()), (500, "StoreReadError"));
            assert_eq!(status.message, "failed to read one or more secrets from the storage");
            let causes = status.details["causes"].as_array().unwrap();
            let found: Vec<_> = causes.iter().map(|cause| cause["field"].as_str().unwrap_or_default()).collect();
            assert_eq!(found, names);
            assert_eq!(
                causes[0]["message"],
                format!(
                    "StorageError: corrupt object, Code: 7, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: data from the storage is not transformable revision=0: no",
                    names[0]
                )
            );
        };
        check(&[error("a"), error("b")], false, &["/registry/secrets/ns/a", "/registry/secrets/ns/b"]);
        check(&[error("a")], true, &["/registry/secrets/ns/a", ""]);
        check(&[], false, &["/registry/secrets/ns/first"]);
    }
}
