//! `OwnerReferencesPermissionEnforcement`: who makes an object another one's must be able to delete it, and who keeps the owner from
//! going must be able to set the owner's finalizers.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request, Right};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct OwnerReferencesPermissionEnforcement;

pub(crate) static PLUGIN: OwnerReferencesPermissionEnforcement = OwnerReferencesPermissionEnforcement;

const OWNERS: &str = "metadata.ownerReferences";

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn by_default(&self) -> bool {
        false
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        // A status cannot change owners.
        let status = request.kind.group.is_empty() && request.kind.plural == "pods" && request.subresource == "status";
        let (new, old) = (value::items(object, OWNERS), value::items(request.old, OWNERS));
        if !request.is_open() || status || new == old {
            return Ok(());
        }
        if request.operation != Operation::Create {
            let delete = Right {
                verb: "delete",
                group: request.kind.group,
                resource: request.kind.plural,
                subresource: request.subresource,
                namespace: request.namespace,
                name: request.name,
            };
            if !lookup.may(request, delete).await {
                return Err(request.forbidden("cannot set an ownerRef on a resource you can't delete: , <nil>"));
            }
        }
        let blocking = newly_blocking(new, old);
        let anything =
            Right { verb: "update", group: "*", resource: "*", subresource: "finalizers", namespace: "", name: "*" };
        if blocking.is_empty() || lookup.may(request, anything).await {
            return Ok(());
        }
        for owner in blocking {
            let (version, kind) = (value::text(owner, "apiVersion"), value::text(owner, "kind"));
            let (group, of_group) = version.split_once('/').unwrap_or(("", version));
            let Some(found) = lookup.kind(group, of_group, kind) else {
                return Err(request.forbidden(&format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {version} Kind {kind}: no matches for kind {kind:?} in version {version:?}"
                )));
            };
            let finalize = Right {
                verb: "update",
                group: found.group,
                resource: found.plural,
                subresource: "finalizers",
                namespace: if found.namespaced { request.namespace } else { "" },
                name: value::text(owner, "name"),
            };
            if !lookup.may(request, finalize).await {
                return Err(request.forbidden(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>",
                ));
            }
        }
        Ok(())
    }
}

/// References that keep an owner from going and did not before.
fn newly_blocking<'a>(new: &'a [Value], old: &[Value]) -> Vec<&'a Value> {
    let blocks = |owner: &&Value| value::flag(owner, "blockOwnerDeletion");
    let before: Vec<&str> = old.iter().filter(blocks).map(|owner| value::text(owner, "uid")).collect();
    new.iter().filter(blocks).filter(|owner| !before.contains(&value::text(owner, "uid"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn what_begins_to_block() {
        let owner = |uid: &str, blocks: bool| json!({"uid": uid, "blockOwnerDeletion": blocks});
        let new = [owner("a", true), owner("b", true), owner("c", false)];
        let old = [owner("a", true), owner("b", false)];
        assert_eq!(newly_blocking(&new, &old), [&new[1]]);
        assert_eq!(newly_blocking(&new, &[]).len(), 2);
    }

    #[test]
    fn whose_an_object_may_become() {
        use crate::testing::{Ask, Cluster};
        type Rights = &'static [(&'static str, &'static str, &'static str, &'static str)];
        let owned = |kind: &str, blocks: bool| {
            let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
            let owner =
                json!({"apiVersion": version, "kind": kind, "name": "o", "uid": "u", "blockOwnerDeletion": blocks});
            json!({"metadata": {"name": "a", "ownerReferences": [owner]}})
        };
        let bare = json!({"metadata": {"name": "a"}});
        let undeletable = "cannot set an ownerRef on a resource you can't delete: , <nil>";
        let unfinalizable = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>";
        let delete: Rights = &[("delete", "secrets", "shop", "a")];
        let finalize: Rights = &[("delete", "secrets", "shop", "a"), ("update", "deployments", "shop", "o")];
        let of_nodes: Rights = &[("update", "nodes", "", "o")];
        let anything: Rights = &[("update", "*", "", "*")];
        for (old, new, rights, why) in [
            (None, owned("Deployment", false), &[][..], None),
            (None, owned("Deployment", true), &[], Some(unfinalizable.to_owned())),
            (None, owned("Deployment", true), finalize, None),
            (None, owned("Deployment", true), anything, None),
            (None, owned("Node", true), of_nodes, None),
            (None, owned("Thing", true), &[], Some("cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion v1 Kind Thing: no matches for kind \"Thing\" in version \"v1\"".to_owned())),
            (Some(&bare), owned("Deployment", false), &[], Some(undeletable.to_owned())),
            (Some(&bare), owned("Deployment", false), delete, None),
            (Some(&bare), owned("Deployment", true), delete, Some(unfinalizable.to_owned())),
            (Some(&bare), owned("Deployment", true), finalize, None),
            // What stays as it is nobody is asked about.
            (Some(&owned("Deployment", true)), owned("Deployment", true), &[], None),
        ] {
            let right = move |_: &Request<'_>, right: Right<'_>| {
                rights.contains(&(right.verb, right.resource, right.namespace, right.name))
            };
            let cluster = Cluster { right: Box::new(right), ..Cluster::default() };
            let operation = if old.is_some() { Operation::Update } else { Operation::Create };
            let old = old.cloned().unwrap_or_default();
            let ask = Ask { operation, old, cluster, ..Ask::create("", "v1", "secrets") };
            let wanted = why.map(|why| (403, format!("secrets \"a\" is forbidden: {why}")));
            assert_eq!(ask.validated(&PLUGIN, &new).err(), wanted, "{new} {rights:?}");
        }
    }
}
